//! Where reports go and answers come from: the Supervisor's socket, and Nimbus.
//!
//! | task | how many | ends with | waits for |
//! |---|---|---|---|
//! | Supervisor | one | the worker | the socket, the next report; after an error a pause of at most [`PAUSE`]'s second |
//! | Nimbus | at most one | its answer | that, for as long as the client does |
//!
//! Not here: when to report (`control`). Invariant: the last report alone waits to be sent; nothing that comes from outside
//! is longer than [`ANSWER_BYTES`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use nimbus_api::client::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_util::codec::{FramedRead, LinesCodec};
use worker_api::answer::{ANSWER_FORMAT, Answer};
use worker_api::report::Report;
use worker_api::{Unreadable, check_format, read_json};

use super::control::Event;

/// Longest answer in bytes: a plan of 100,000 executors takes some 2 MiB.
const ANSWER_BYTES: usize = 16 << 20;
/// First and longest pause between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// Events that may wait to be heard.
const EVENTS: usize = 16;

/// A report as a line of JSON, with its number.
type Line = Option<(u64, Arc<[u8]>)>;

/// The way to the Supervisor and to Nimbus.
pub(super) struct Reporting {
    line: watch::Sender<Line>,
    events: mpsc::Receiver<Event>,
    told: mpsc::Sender<Event>,
    nimbus: Client,
    asking: Option<tokio::task::JoinHandle<()>>,
    supervisor: tokio::task::JoinHandle<()>,
}

impl Reporting {
    /// Connects to the Supervisor, now and for ever.
    pub(super) fn start(socket: PathBuf, nimbuses: Vec<String>) -> Self {
        let (line, lines) = watch::channel(None);
        let (told, events) = mpsc::channel(EVENTS);
        let supervisor = tokio::spawn(supervisor(socket, lines, told.clone()));
        Reporting { line, events, told, nimbus: Client::new(nimbuses), asking: None, supervisor }
    }

    /// Sends a report; one that has not gone out yet is dropped for it.
    pub(super) fn report(&mut self, report: Report, to_nimbus: bool) {
        match serde_json::to_vec(&report) {
            Ok(mut json) => {
                json.push(b'\n');
                self.line.send_replace(Some((report.number, json.into())));
            }
            Err(error) => tracing::error!(%error, "cannot write a report: this is a fault of the runtime"),
        }
        if to_nimbus && self.asking.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let (nimbus, told) = (self.nimbus.clone(), self.told.clone());
            self.asking = Some(tokio::spawn(async move {
                match nimbus.report_worker(&report).await {
                    Ok(answer) => match check_format("answer of Nimbus", ANSWER_FORMAT, answer.format) {
                        Ok(()) => drop(told.send(Event::Nimbus(answer)).await),
                        Err(error) => tracing::warn!("ignored an answer: {error}"),
                    },
                    Err(error) => tracing::warn!("the Supervisor is silent, and Nimbus: {error}"),
                }
            }));
        }
    }

    /// The next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.supervisor.abort();
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

/// Keeps a connection to the Supervisor up.
async fn supervisor(socket: PathBuf, mut lines: watch::Receiver<Line>, told: mpsc::Sender<Event>) {
    let mut pause = PAUSE.0;
    let mut away = false;
    let mut ignored = None;
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

/// Talks until the connection ends; says why it did.
async fn talk(
    stream: UnixStream,
    lines: &mut watch::Receiver<Line>,
    told: &mpsc::Sender<Event>,
    ignored: &mut Option<String>,
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
                    Err(error) => ignore(&error, ignored),
                },
            },
            changed = lines.changed() => {
                let line = lines.borrow_and_update().clone();
                let (Ok(()), Some((number, line))) = (changed, line) else { continue };
                if let Err(error) = writer.write_all(&line).await {
                    return error.to_string();
                }
                drop(told.send(Event::Sent(number)).await);
            }
        }
    }
}

/// Says once that answers cannot be read.
fn ignore(error: &Unreadable, ignored: &mut Option<String>) {
    let error = error.to_string();
    if ignored.as_ref() != Some(&error) {
        tracing::warn!("ignored what the Supervisor said: {error}");
        *ignored = Some(error);
    }
}
