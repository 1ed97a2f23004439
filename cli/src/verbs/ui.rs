//! `storm ui`: the daemon with pages and Storm's REST paths.
//!
//! Not here: what it shows (`ui`).

use crate::arguments::ConfigFlags;
use crate::daemons;
use crate::exit::{Exit, Refusal};

const EXAMPLE: &str = "\
Example:
  storm ui -c ui.port=8081";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct UiVerb {
    #[command(flatten)]
    config: ConfigFlags,
}

impl UiVerb {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        daemons::run(
            &self.config,
            async |setup| {
                setup.check_mode()?;
                let ui = setup.start_ui(setup.settings.nimbuses.clone()).await?;
                let nimbuses = setup.settings.nimbuses.join(" ");
                daemons::tell_ready(&format!(
                    "UI ready at http://{}, Nimbus {nimbuses}\n",
                    daemons::from_here(ui.address())
                ));
                Ok(ui)
            },
            async |_: &mut _| std::future::pending().await,
            async |ui| ui.stop().await,
        )
    }
}
