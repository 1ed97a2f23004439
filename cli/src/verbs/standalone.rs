//! `storm standalone`: a whole cluster in one process, with the cluster state in a file.
//!
//! Not here: the parts (`daemons`). Invariant: its end leaves workers running; the next one adopts them.

use cluster_state::file;
use nimbus::Nimbus;
use supervisor::Supervisor;
use ui::Ui;

use crate::arguments::ConfigFlags;
use crate::daemons;
use crate::exit::{Exit, Refusal};

const EXAMPLE: &str = "\
Examples:
  storm standalone
      then, in another shell: storm submit target/release/word-count -- …
  storm standalone -c ui.port=8081 -c storm.local.dir=/var/lib/storm

When it ends, by Ctrl-C too, workers keep running, and the next `storm standalone` with the same `storm.local.dir` adopts
them. `storm kill NAME` ends a topology.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Standalone {
    #[command(flatten)]
    config: ConfigFlags,
}

/// All that runs.
struct Parts {
    nimbus: Nimbus,
    supervisor: Supervisor,
    ui: Ui,
}

impl Standalone {
    pub(crate) fn run(self) -> Result<Exit, Refusal> {
        daemons::run(
            &self.config,
            async |setup| {
                let folder = &setup.settings.local_dir;
                daemons::make_folder(folder, "storm.local.dir")?;
                let state = folder.join("state.redb");
                let store = file::open(&state).map_err(daemons::store_failed)?;
                let nimbus = setup.start_nimbus(store.clone()).await?;
                let nimbuses = vec![daemons::from_here(nimbus.address())];
                let ui = setup.start_ui(nimbuses.clone()).await?;
                let supervisor = setup.start_supervisor(store, nimbuses).await?;
                daemons::tell_ready(&format!(
                    "Standalone ready: Nimbus at {}, UI at http://{}, {} slots, cluster state: {}\n",
                    nimbus.address(),
                    daemons::from_here(ui.address()),
                    setup.settings.slots.len(),
                    state.display()
                ));
                Ok(Parts { nimbus, supervisor, ui })
            },
            async |parts: &mut Parts| {
                tokio::select! {
                    biased;
                    () = parts.nimbus.failed() => {}
                    () = parts.supervisor.failed() => {}
                }
            },
            async |Parts { nimbus, supervisor, ui }| {
                ui.stop().await;
                supervisor.stop().await;
                nimbus.stop().await;
                tracing::info!("workers keep running, and the next `storm standalone` adopts them");
            },
        )
    }
}
