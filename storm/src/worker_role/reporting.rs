//! Where reports go and answers come from: the Supervisor's socket, and Nimbus.
//!
//! | task | how many | ends with | waits for |
//! |---|---|---|---|
//! | Supervisor | one | the worker | the socket, the next report; after an error a pause of at most [`PAUSE`]'s second |
//! | Nimbus | one | the worker | a report for it, then its answer for as long as the client does |
//!
//! Not here: when to report (`worker_role`). Invariant: one report at most waits to be sent to each; nothing that comes from the
//! socket is longer than [`ANSWER_BYTES`]; what goes wrong again and again is said once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use nimbus_api::client::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec};
use worker_api::answer::{ANSWER_FORMAT, Answer};
use worker_api::report::Report;
use worker_api::{check_format, read_json};
use worker_role::Event;

/// Longest answer in bytes: a plan of 100,000 executors takes some 2 MiB.
const ANSWER_BYTES: usize = 16 << 20;
/// First and longest pause between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// Events that may wait to be heard.
const EVENTS: usize = 16;

/// A report as a line of JSON.
type Line = Option<Arc<[u8]>>;

/// The way to the Supervisor and to Nimbus.
pub(super) struct Reporting {
    line: watch::Sender<Line>,
    for_nimbus: mpsc::Sender<Report>,
    events: mpsc::Receiver<Event>,
    tasks: [JoinHandle<()>; 2],
}

impl Reporting {
    /// Connects to the Supervisor, now and for ever.
    pub(super) fn start(socket: PathBuf, nimbuses: Vec<String>) -> Self {
        let (line, lines) = watch::channel(None);
        let (for_nimbus, reports) = mpsc::channel(1);
        let (told, events) = mpsc::channel(EVENTS);
        let tasks = [
            tokio::spawn(supervisor(socket, lines, told.clone())),
            tokio::spawn(nimbus(Client::new(nimbuses), reports, told)),
        ];
        Reporting { line, for_nimbus, events, tasks }
    }

    /// Sends a report; one that the Supervisor has not got yet is dropped for it. Nimbus gets none while it is asked.
    pub(super) fn report(&mut self, report: Report, to_nimbus: bool) {
        match serde_json::to_vec(&report) {
            Ok(mut json) => {
                json.push(b'\n');
                self.line.send_replace(Some(json.into()));
            }
            Err(error) => tracing::error!(%error, "cannot write a report: this is a fault of the runtime"),
        }
        if to_nimbus {
            let _ = self.for_nimbus.try_send(report);
        }
    }

    /// The next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // Both tasks have ended, so nobody will say anything any more.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Keeps a connection to the Supervisor up.
async fn supervisor(socket: PathBuf, mut lines: watch::Receiver<Line>, told: mpsc::Sender<Event>) {
    let mut pause = PAUSE.0;
    let mut away = false;
    let mut ignored = Said::default();
    loop {
        let ended = match UnixStream::connect(&socket).await {
            Ok(stream) => {
                (pause, away) = (PAUSE.0, false);
                tracing::debug!("connected with the Supervisor");
                // Who has just come knows nothing yet.
                lines.mark_changed();
                talk(stream, &mut lines, &told, &mut ignored).await
            }
            Err(error) => error.to_string(),
        };
        if !away {
            away = true;
            let socket = socket.display();
            tracing::warn!(
                "no connection with the Supervisor at `{socket}`: {ended}; the worker goes on, and tries again"
            );
        }
        tokio::time::sleep(pause).await;
        pause = PAUSE.1.min(2 * pause);
    }
}

/// Tells Nimbus what it is given to tell.
async fn nimbus(client: Client, mut reports: mpsc::Receiver<Report>, told: mpsc::Sender<Event>) {
    let mut said = Said::default();
    while let Some(report) = reports.recv().await {
        match client.report_worker(&report).await {
            Ok(answer) => match check_format("answer of Nimbus", ANSWER_FORMAT, answer.format) {
                Ok(()) => {
                    said = Said::default();
                    drop(told.send(Event::Nimbus(answer)).await);
                }
                Err(error) => said.once(format!("ignored what Nimbus said: {error}")),
            },
            Err(error) => said.once(format!("the Supervisor is silent, and Nimbus has not answered: {error}")),
        }
    }
}

/// What was said last, which is not said again.
#[derive(Default)]
struct Said(String);

impl Said {
    fn once(&mut self, what: String) {
        if self.0 != what {
            tracing::warn!("{what}");
            self.0 = what;
        }
    }
}

/// Talks until the connection ends; says why it did.
async fn talk(
    stream: UnixStream,
    lines: &mut watch::Receiver<Line>,
    told: &mpsc::Sender<Event>,
    ignored: &mut Said,
) -> String {
    let (reader, mut writer) = stream.into_split();
    let mut answers = FramedRead::new(reader, LinesCodec::new_with_max_length(ANSWER_BYTES));
    loop {
        tokio::select! {
            biased;
            answer = answers.next() => match answer {
                None => return "it has closed it".to_owned(),
                Some(Err(error)) => return error.to_string(),
                Some(Ok(line)) => match read_json::<Answer>("answer", ANSWER_FORMAT, line.as_bytes()) {
                    Ok(answer) => drop(told.send(Event::Supervisor(answer)).await),
                    Err(error) => ignored.once(format!("ignored what the Supervisor said: {error}")),
                },
            },
            changed = lines.changed() => {
                let line = lines.borrow_and_update().clone();
                let (Ok(()), Some(line)) = (changed, line) else { continue };
                if let Err(error) = writer.write_all(&line).await {
                    return error.to_string();
                }
            }
        }
    }
}
