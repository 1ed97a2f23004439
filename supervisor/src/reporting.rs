//! Tells Nimbus what is on this machine, and hears what it knows.
//!
//! Not here: what is told (`machine`). Invariants: only the newest report is sent; a Nimbus that is silent, slow or gone holds up
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use nimbus_api::machine::{MachineAnswer, MachineReport};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::host::Host;

/// How long one of the Nimbuses may take to answer: time to find that some are silent, and to ask those behind them.
const ANSWER: Duration = Duration::from_secs(20);

/// How long nobody may answer before it is worth a word: a start and a change of the lead take a while.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sends each newest report until nobody makes one any more.
pub(crate) async fn run(
    host: Arc<dyn Host>,
    mut reports: watch::Receiver<Option<Arc<MachineReport>>>,
    answers: mpsc::Sender<MachineAnswer>,
) {
    let mut silent_since = None;
    let mut told = false;
    while reports.changed().await.is_ok() {
        let Some(report) = reports.borrow_and_update().clone() else { continue };
        let asked = Instant::now();
        let answer = match timeout(ANSWER, host.report(report)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("Nimbus did not answer within {} s", ANSWER.as_secs())),
        };
        match answer {
            Ok(answer) => {
                silent_since = None;
                if std::mem::take(&mut told) {
                    tracing::info!("Nimbus {} answers again", answer.nimbus);
                }
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
            Err(why) => {
                let since = *silent_since.get_or_insert(asked);
                if !told && since.elapsed() >= PATIENCE {
                    tracing::warn!("{why}; workers go on as they are");
                    told = true;
                }
            }
        }
    }
}
