//! What the words that are daemons share: a start that tells what it reads, parts that are made of settings, and an end in order.
//!
//! Not here: the daemons themselves (`nimbus`, `supervisor`, `ui`). Invariants: a daemon that cannot start says why and leaves nothing
//! running; without its cluster state it lives, and says so; ending one never ends workers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster_state::store::{Store, StoreError};
use cluster_state::zookeeper::{self, ZooKeeperConfig};
use daemon::configuration::Configuration;
use daemon::logs;
use daemon::settings::{Settings, host_name, zookeeper_auth};
use daemon::signals::{Signals, Told};
use nimbus::{Nimbus, NimbusConfig};
use supervisor::{Supervisor, SupervisorConfig};
use ui::{Ui, UiConfig};
use worker_api::ids::Port;

use crate::arguments::ConfigFlags;
use crate::exit::{Exit, Refusal};
use crate::output::data;

/// Threads of a daemon: what it does is mostly waiting.
const THREADS: usize = 2;
/// How long the cluster state may take before it is worth a word, and until the next.
const AWAY: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(30)];
/// Size at which a worker's log is rotated, and how many are kept: as Storm's `worker.xml` has it.
const WORKER_LOG_BYTES: u64 = 100 << 20;
const WORKER_LOG_FILES: u32 = 9;

/// What a daemon is made of.
pub(crate) struct Setup {
    pub(crate) configuration: Configuration,
    pub(crate) settings: Settings,
}

/// Reads the configuration, starts a daemon with `start`, waits for a signal, and ends it with `stop`. If `failed` returns
/// before, the process ends too, so that another daemon can take its place.
///
/// # Errors
/// If it cannot start, or has failed.
pub(crate) fn run<D>(
    flags: &ConfigFlags,
    start: impl AsyncFnOnce(Setup) -> Result<D, Refusal>,
    failed: impl AsyncFnOnce(&mut D),
    stop: impl AsyncFnOnce(D),
) -> Result<Exit, Refusal> {
    let configuration = flags.read()?;
    let settings = Settings::of(&configuration, &host_name())?;
    logs::to_stderr();
    match &configuration.file {
        Some(file) => tracing::info!("configuration: {}", file.display()),
        None => tracing::info!("configuration: no storm.yaml was found, the defaults hold"),
    }
    for notice in configuration.config.notices() {
        tracing::warn!("{notice}");
    }
    let no_runtime = |error: std::io::Error| Refusal::new(Exit::Failed, format!("cannot start a runtime: {error}"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().map_err(no_runtime)?;
    let exit = runtime.block_on(async {
        let mut signals = Signals::new().map_err(no_runtime)?;
        let mut daemon = tokio::select! {
            biased;
            _ = signals.next() => return Ok(Exit::Done),
            daemon = start(Setup { configuration, settings }) => daemon?,
        };
        tokio::select! {
            biased;
            _ = signals.next() => {}
            () = failed(&mut daemon) => {
                let why = "it has ended by a fault of its own, which its log names; start it again, its workers keep running";
                return Err(Refusal::new(Exit::Failed, why.to_owned()));
            }
        }
        tracing::info!("ending; once more ends at once");
        Ok(tokio::select! {
            biased;
            told = signals.next() => match told {
                Told::Interrupted => Exit::Interrupted,
                Told::Terminated => Exit::Terminated,
            },
            () = stop(daemon) => Exit::Done,
        })
    });
    runtime.shutdown_background();
    exit
}

/// Says on standard output that it is ready.
pub(crate) fn tell_ready(line: &str) {
    if let Err(refusal) = data(line) {
        tracing::warn!("{refusal}; it runs all the same");
    }
}

impl Setup {
    /// A cluster's daemons are for several machines.
    ///
    /// # Errors
    /// If `storm.cluster.mode` is `local`.
    pub(crate) fn check_mode(&self) -> Result<(), Refusal> {
        if self.settings.is_distributed {
            return Ok(());
        }
        let why = "`storm.cluster.mode` is `local`, and this is a daemon of a distributed cluster; remove the key, or run \
                   `storm standalone`";
        Err(Refusal::new(Exit::Usage, why))
    }

    /// What the cluster state is called in messages.
    pub(crate) fn zookeeper_name(&self) -> String {
        format!("ZooKeeper {}{}", self.settings.zookeeper_servers.join(","), self.settings.zookeeper_root)
    }

    /// Opens the cluster state in ZooKeeper, and says from then on when it is away and when it is back.
    ///
    /// # Errors
    /// If its configuration makes no sense.
    pub(crate) fn open_zookeeper(&self) -> Result<Arc<dyn Store>, Refusal> {
        let config = ZooKeeperConfig {
            servers: self.settings.zookeeper_servers.clone(),
            root: self.settings.zookeeper_root.clone(),
            session_timeout: self.settings.zookeeper_session,
            auth: zookeeper_auth(&self.configuration.config)?,
        };
        let store = zookeeper::open(config).map_err(store_failed)?;
        tokio::spawn(tell_when_away(Arc::clone(&store), self.zookeeper_name()));
        Ok(store)
    }

    /// Starts Nimbus.
    ///
    /// # Errors
    /// If it cannot start.
    pub(crate) async fn start_nimbus(&self, store: Arc<dyn Store>) -> Result<Nimbus, Refusal> {
        let settings = &self.settings;
        let config = NimbusConfig {
            folder: settings.local_dir.join("nimbus"),
            bind: SocketAddr::new(settings.bind, settings.nimbus_port),
            host: settings.host.clone(),
            configuration: self.configuration.values(),
            machine_timeout: settings.machine_timeout,
            most_workers: settings.most_workers,
            most_executors: settings.most_executors,
            upload_expiration: settings.upload_expiration,
        };
        Nimbus::start(config, store).await.map_err(|error| Refusal::new(Exit::Failed, error.to_string()))
    }

    /// Starts the Supervisor, which asks these Nimbuses.
    ///
    /// # Errors
    /// If it cannot start.
    pub(crate) async fn start_supervisor(
        &self,
        store: Arc<dyn Store>,
        nimbuses: Vec<String>,
    ) -> Result<Supervisor, Refusal> {
        let settings = &self.settings;
        let keeper = std::env::current_exe().map_err(|error| {
            Refusal::new(Exit::Failed, format!("cannot find the own executable, which keeps workers: {error}"))
        })?;
        let config = SupervisorConfig {
            folder: settings.local_dir.join("supervisor"),
            workers_folder: settings.local_dir.join("workers"),
            logs_folder: settings.log_dir.join("workers-artifacts"),
            host: settings.host.clone(),
            bind: settings.bind,
            slots: settings.slots.iter().copied().map(Port).collect(),
            nimbuses,
            configuration: self.configuration.values(),
            keeper,
            start_timeout: settings.worker_start_timeout,
            worker_timeout: settings.worker_timeout,
            shutdown_grace: settings.shutdown_grace,
            logs_kept: settings.logs_kept,
            log_bytes: WORKER_LOG_BYTES,
            log_files: WORKER_LOG_FILES,
        };
        Supervisor::start(config, store).await.map_err(|error| Refusal::new(Exit::Failed, error.to_string()))
    }

    /// Starts the UI, which asks these Nimbuses.
    ///
    /// # Errors
    /// If it cannot start.
    pub(crate) async fn start_ui(&self, nimbuses: Vec<String>) -> Result<Ui, Refusal> {
        let config = UiConfig { bind: self.settings.ui, nimbuses, configuration: self.configuration.values() };
        Ui::start(config).await.map_err(|error| Refusal::new(Exit::Failed, error.to_string()))
    }
}

/// The cluster state refuses.
pub(crate) fn store_failed(error: StoreError) -> Refusal {
    Refusal::new(Exit::Failed, format!("cannot open the cluster state: {error}"))
}

/// Makes a folder and those above it.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn make_folder(folder: &Path, key: &str) -> Result<(), Refusal> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let why = format!("cannot make the folder {}: {error}; see `{key}`", folder.display());
        Refusal::new(Exit::Failed, why)
    })
}

/// An address for who is on the same machine.
pub(crate) fn from_here(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("127.0.0.1:{}", v4.port()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("[::1]:{}", v6.port()),
        address => address.to_string(),
    }
}

async fn tell_when_away(store: Arc<dyn Store>, name: String) {
    let mut told = false;
    loop {
        let session = store.session();
        if session.connected {
            if std::mem::take(&mut told) {
                tracing::info!("{name} answers again");
            }
            store.session_changed(session).await;
            continue;
        }
        let patience = AWAY[usize::from(told)];
        if tokio::time::timeout(patience, store.session_changed(session)).await.is_err() {
            tracing::warn!("{name} does not answer; workers go on, and so does this process as soon as it is back");
            told = true;
        }
    }
}
