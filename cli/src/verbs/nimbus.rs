//! `storm nimbus`: the daemon that decides.
//!
//! Not here: what it does (`nimbus`).

use crate::arguments::ConfigFlags;
use crate::daemons;
use crate::exit::{Exit, Refusal};

const EXAMPLE: &str = "\
Example:
  storm nimbus -c storm.zookeeper.servers='[\"zk1\",\"zk2\",\"zk3\"]'";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct NimbusVerb {
    #[command(flatten)]
    config: ConfigFlags,
}

impl NimbusVerb {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        daemons::run(
            &self.config,
            async |setup| {
                setup.check_mode()?;
                let nimbus = setup.start_nimbus(setup.open_zookeeper()?).await?;
                let (address, state) = (nimbus.address(), setup.zookeeper_name());
                daemons::tell_ready(&format!("Nimbus ready at {address}, cluster state: {state}\n"));
                Ok(nimbus)
            },
            async |nimbus: &mut nimbus::Nimbus| nimbus.failed().await,
            async |nimbus| nimbus.stop().await,
        )
    }
}
