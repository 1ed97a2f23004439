//! The role `local`: runs a topology in this process, tells how it gets on, and ends it when its input has ended or a signal
//! says so.
//!
//! Not here: the workers (`local_cluster`), the words (`progress`, `report`). Invariant: every wait after a signal is
//! bounded, and a second signal ends it.

use std::time::Duration;

use local_cluster::{LocalCluster, LocalClusterBuilder, LocalError};
use seam::Seam;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use topology_api::topology::Topology;

use crate::arguments::Local;
use crate::console::Console;
use crate::progress::Progress;
use crate::refusal::{Exit, Refusal};
use crate::report::{Report, roots, span};
use crate::signals::Signals;

/// How often the workers are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often progress is told where nobody sees a line change.
const TELL: Duration = Duration::from_secs(5);
/// How long pending roots get to finish if there is no message time-out.
const DRAIN: Duration = Duration::from_secs(30);
/// How long components get to close.
const CLOSE: Duration = Duration::from_secs(10);

/// Runs the topology: data on all cores, control on the thread that calls this.
pub(crate) fn run(topology: Topology, options: &Local, console: &Console) -> Result<Exit, Refusal> {
    if let Some(path) = &options.report {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(Refusal::ReportFolder { path: path.clone() });
        }
    }
    let data = Builder::new_multi_thread().thread_name("data").enable_all().build().map_err(Refusal::Runtime)?;
    let control = Builder::new_current_thread().enable_all().build().map_err(Refusal::Runtime)?;
    let seam = |runtime: &Runtime| {
        let _context = runtime.enter();
        Seam::system()
    };
    let (data_seam, control_seam) = (seam(&data), seam(&control));
    let exit = control.block_on(async {
        let signals = Signals::new().map_err(Refusal::Runtime)?;
        Ok(Run { console, options, signals }.run(topology, data_seam, control_seam).await)
    });
    // A call of user code that never returns would keep it from ending in order.
    data.shutdown_background();
    exit
}

struct Run<'a> {
    console: &'a Console,
    options: &'a Local,
    signals: Signals,
}

/// How the running of a topology came to its end.
enum End {
    InputFinished,
    Signal(Exit),
    Error(LocalError),
}

impl Run<'_> {
    async fn run(mut self, topology: Topology, data: Seam, control: Seam) -> Exit {
        let name = topology.name().to_owned();
        let spouts = topology.components().iter().filter(|component| component.is_spout());
        let spouts: Vec<String> = spouts.map(|component| component.name().to_owned()).collect();
        let drain = topology.settings().message_timeout.unwrap_or(DRAIN);
        let mut progress = Progress::new(&topology);

        let mut builder = LocalCluster::builder(topology).seam(data).control(control);
        if let Some(workers) = self.options.workers {
            builder = builder.workers(workers);
        }
        let began = Instant::now();
        let cluster = match self.start(&name, builder).await {
            Ok(cluster) => cluster,
            Err(exit) => return exit,
        };
        let end = self.watch(&cluster, &mut progress, began).await;
        if let End::Signal(exit) = end
            && !self.drain(&cluster, &mut progress, began, drain).await
        {
            self.console.show(String::new());
            self.console.say(&format!("`{name}` has ended at once, with {} pending", roots(cluster.pending())));
            return exit;
        }
        self.console.show(String::new());
        let unfinished = cluster.pending();
        let report = Report::new(&name, &spouts, began.elapsed(), cluster.summary());
        let closed = tokio::select! {
            biased;
            _ = self.signals.next() => false,
            closed = tokio::time::timeout(CLOSE, cluster.stop(Duration::ZERO)) => closed.is_ok(),
        };
        if !closed {
            self.console.say(&format!("warning: not all components of `{name}` have closed in time"));
        }
        self.tell_end(&name, end, &report, unfinished)
    }

    /// Starts it, and waits until all of its components are prepared.
    async fn start(&mut self, name: &str, builder: LocalClusterBuilder) -> Result<LocalCluster, Exit> {
        let mut starting = std::pin::pin!(builder.start());
        loop {
            tokio::select! {
                biased;
                exit = self.signals.next() => {
                    self.console.say(&format!("`{name}` was told to stop before all of its components were ready"));
                    return Err(exit);
                }
                started = &mut starting => return started.map_err(|error| {
                    self.console.say(&format!("error: cannot start `{name}`: {error}"));
                    Exit::Failed
                }),
                () = tokio::time::sleep(TELL) => {
                    self.console.say(&format!("`{name}` waits until all of its components are prepared"));
                }
            }
        }
    }

    /// Tells how it gets on, until it ends or a signal comes.
    async fn watch(&mut self, cluster: &LocalCluster, progress: &mut Progress, began: Instant) -> End {
        let mut ended = std::pin::pin!(cluster.ended());
        let mut told_at = began;
        loop {
            tokio::select! {
                biased;
                exit = self.signals.next() => return End::Signal(exit),
                ended = &mut ended => return ended.map_or_else(End::Error, |()| End::InputFinished),
                () = tokio::time::sleep(LOOK) => self.tell(cluster, progress, began, &mut told_at),
            }
        }
    }

    /// Stops the spouts and waits for what is pending; false if a second signal came meanwhile.
    async fn drain(&mut self, cluster: &LocalCluster, progress: &mut Progress, began: Instant, wait: Duration) -> bool {
        cluster.deactivate();
        let deadline = Instant::now() + wait;
        if cluster.pending() > 0 {
            let (pending, wait) = (roots(cluster.pending()), span(wait));
            self.console.say(&format!("stopping: {wait} to finish {pending}; a second Ctrl-C ends it at once"));
        }
        let mut told_at = Instant::now();
        let mut look_at = told_at + LOOK;
        while !cluster.is_drained() && Instant::now() < deadline && cluster.check().is_ok() {
            tokio::select! {
                biased;
                _ = self.signals.next() => return false,
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            if Instant::now() >= look_at {
                look_at += LOOK;
                self.tell(cluster, progress, began, &mut told_at);
            }
        }
        true
    }

    fn tell(&self, cluster: &LocalCluster, progress: &mut Progress, began: Instant, told_at: &mut Instant) {
        let look = progress.look(began.elapsed(), &cluster.reports());
        if let Some(stuck) = look.stuck {
            self.console.say(&stuck);
        }
        if self.options.quiet {
            return;
        }
        if self.console.is_terminal() {
            self.console.show(look.line);
        } else if told_at.elapsed() >= TELL {
            *told_at = Instant::now();
            self.console.say(&look.line);
        }
    }

    fn tell_end(&self, name: &str, end: End, report: &Report, unfinished: u64) -> Exit {
        let (how, mut exit) = match &end {
            End::InputFinished => ("its input has ended", Exit::Done),
            End::Signal(exit) => ("it was told to stop", *exit),
            End::Error(_) => ("it failed", Exit::Failed),
        };
        if !self.options.quiet {
            self.console.say(&format!("`{name}` has run: {how}\n{report}"));
        }
        if unfinished > 0 {
            self.console.say(&format!("warning: {} had not finished and failed", roots(unfinished)));
        }
        if let End::Error(error) = end {
            self.console.say(&format!("error: `{name}` could not go on: {error}"));
        }
        if let Some(path) = &self.options.report
            && let Err(error) = report.write(path)
        {
            self.console.say(&format!("error: cannot write the report to `{}`: {error}", path.display()));
            if exit == Exit::Done {
                exit = Exit::Failed;
            }
        }
        exit
    }
}
