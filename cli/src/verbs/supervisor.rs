//! `storm supervisor`: the daemon that keeps one machine's workers running.
//!
//! Not here: what it does (`supervisor`). Invariant: its end leaves workers running; the next one adopts them.

use crate::arguments::ConfigFlags;
use crate::daemons;
use crate::exit::{Exit, Refusal};

const EXAMPLE: &str = "\
Example:
  storm supervisor -c nimbus.seeds='[\"nimbus1\"]' -c supervisor.slots.ports='[6700,6701]'";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct SupervisorVerb {
    #[command(flatten)]
    config: ConfigFlags,
}

impl SupervisorVerb {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        daemons::run(
            &self.config,
            async |setup| {
                setup.check_mode()?;
                let store = setup.open_zookeeper()?;
                let supervisor = setup.start_supervisor(store, setup.settings.nimbuses.clone()).await?;
                let slots: Vec<String> = setup.settings.slots.iter().map(u16::to_string).collect();
                daemons::tell_ready(&format!(
                    "Supervisor ready on {}, slots {}, Nimbus {}, cluster state: {}\n",
                    setup.settings.host,
                    slots.join(" "),
                    setup.settings.nimbuses.join(" "),
                    setup.zookeeper_name()
                ));
                Ok(supervisor)
            },
            async |supervisor: &mut supervisor::Supervisor| supervisor.failed().await,
            async |supervisor| supervisor.stop().await,
        )
    }
}
