//! How Nimbuses are asked over the simulated network, by Supervisors, workers and users.
//!
//! Not here: what they answer (`nimbus`). Invariant: as the real client does, it asks one address after another until one answers, and waits for
//! none of them longer than a bounded time.

use std::sync::Arc;

use nimbus_api::machine::{MachineAnswer, MachineReport};
use tokio::io::DuplexStream;
use worker_api::answer::Answer;
use worker_api::ids::BlobHash;
use worker_api::report::Report;

use crate::network::MachineId;
use crate::world::World;

/// The Nimbuses of a run.
pub struct Nimbuses {}

impl Nimbuses {
    pub fn new(_world: &World) -> Self {
        Nimbuses {}
    }

    pub async fn report_machine(&self, from: MachineId, report: Arc<MachineReport>) -> Result<MachineAnswer, String> {
        Err("none".into())
    }

    pub async fn report_worker(&self, from: MachineId, seeds: &[String], report: Report) -> Result<Answer, String> {
        Err("none".into())
    }

    pub async fn download(
        &self,
        from: MachineId,
        hash: &BlobHash,
        at: u64,
        to: &mut DuplexStream,
    ) -> Result<(), String> {
        Err("none".into())
    }
}
