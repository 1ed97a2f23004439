//! What a worker has granted a peer over their link, the peer has received: all of it, and no more.
//!
//! Exact at the end, when all that was sent has been consumed and no grant is under way. Permits that a sender lacks slow it
//! down until it stands still for ever; with those that it has too many it fills inboxes beyond their bound.
//!
//! Judged from what both workers of a link report of it, so of those that live at the end.
//!
//! Not here: whether anything waits (`liveness`). Invariant: no two reports with a connection between them, no judgement.

use std::time::Duration;

use super::{Invariant, Observation, Settled, Violation};

/// See the module.
pub struct Permits;

impl Invariant for Permits {
    fn observe(&mut self, _: Duration, _: &Observation) -> Result<(), Violation> {
        Ok(())
    }

    fn finish(&mut self, settled: &Settled) -> Result<(), Violation> {
        for (id, running) in &settled.running {
            let link = |of, to| running.workers.get(of)?.1.as_ref()?.links.get(to).filter(|link| link.connected);
            let workers = || running.workers.keys();
            for (granter, sender) in workers().flat_map(|granter| workers().map(move |sender| (granter, sender))) {
                let (Some(given), Some(taken)) = (link(granter, sender), link(sender, granter)) else { continue };
                let granted = (given.tuple_permits_granted, given.byte_permits_granted);
                let received = (taken.tuple_permits_received, taken.byte_permits_received);
                if granted != received {
                    let what = format!(
                        "{id}: worker {granter} has granted worker {sender} {} tuples and {} bytes, which has received permits for {} tuples and {} bytes",
                        granted.0, granted.1, received.0, received.1
                    );
                    return Err(Violation::new("permits", what));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use worker_api::ids::WorkerIndex;
    use worker_api::report::LinkReport;

    use super::super::stage::*;
    use super::*;

    /// Worker 1 has granted worker 0 sixteen tuples and a thousand bytes, and worker 0 received these.
    fn seen(tuples: u64, bytes: u64, connected: bool) -> Vec<String> {
        let report = |peer: u16, link: LinkReport| {
            let mut report = counts(0, 0, 0);
            report.links = [(WorkerIndex(peer), LinkReport { connected, ..link })].into();
            (life(1, 1), Some(Box::new(report)))
        };
        let sender =
            LinkReport { tuple_permits_received: tuples, byte_permits_received: bytes, ..LinkReport::default() };
        let granter = LinkReport { tuple_permits_granted: 16, byte_permits_granted: 1000, ..LinkReport::default() };
        let mut settled = running();
        for running in settled.running.values_mut() {
            running.workers = [(WorkerIndex(0), report(1, sender)), (WorkerIndex(1), report(0, granter))].into();
        }
        heard(&mut Permits, &[], &settled)
    }

    #[test]
    fn what_was_granted_was_received() {
        assert_eq!(seen(16, 1000, true), [] as [String; 0]);
        let said = |tuples, bytes| {
            format!(
                "words-1-1: worker 1 has granted worker 0 16 tuples and 1000 bytes, which has received permits for {tuples} tuples and {bytes} bytes"
            )
        };
        assert_eq!(seen(8, 1000, true), [said(8, 1000)], "one was lost");
        assert_eq!(seen(16, 1500, true), [said(16, 1500)], "one counted twice");
        assert_eq!(seen(8, 1000, false), [] as [String; 0], "it is still under way");
    }
}
