//! What becomes of a topology: active, inactive, killed, gone.
//!
//! | state | commands | what happens by itself |
//! |---|---|---|
//! | active | deactivate, kill | input finished or a fatal error: inactive |
//! | inactive | activate (if it was deactivated), kill | a fatal error: inactive for that reason |
//! | killed, draining | kill: a new wait | nothing is pending, or the deadline: removing |
//! | killed, removing | kill: no change | no machine names it any more: its records go |
//!
//! A fatal error makes the topology inactive and does not restart the worker: every other error and every panic is retried
//! by the runtime, and only user code's own word makes one fatal. A restart would fail the same way and replay for ever; an
//! inactive topology keeps its workers, logs and counts for who looks at it.
//!
//! Not here: writing the records, stopping workers. Invariant: nothing leads back from killed; deadlines are wall-clock
//! times in the record, so a new leader goes on where the last one was.

use cluster_state::records::{EpochMs, KillStep, Status, Topology};
use mutations::Mutation;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::topology::StatusWord;
use worker_api::answer::Spouts;
use worker_api::report::Fatal;

/// The reason of a topology that was deactivated.
pub const DEACTIVATED: &str = "deactivated";

/// What happens to a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Command: its spouts shall be asked.
    Activate,
    /// Command: its spouts shall not be asked.
    Deactivate,
    /// Command: it shall go, after it had so long to drain.
    Kill {
        /// How long, in milliseconds.
        wait_ms: u64,
    },
    /// All workers of its plan are ready.
    AllReady,
    /// All of its workers say that they are drained, or it has none.
    Drained,
    /// The input of all its executors has ended.
    AllEnded,
    /// An executor ended for good.
    Fatal(Fatal),
    /// Time went on.
    Tick,
    /// No machine that is not dead has anything of it.
    Unnamed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Its record becomes this one.
    Store(Topology),
    /// Its record becomes this one, and its plan goes, both or neither.
    RemovePlan(Topology),
    /// All of its records go.
    RemoveRecords,
}

/// What follows from an event at this wall-clock time. What happens by itself is never refused.
///
/// # Errors
/// A command that its state does not allow: [`FailureKind::WrongState`].
pub fn next(topology: &Topology, event: &Event, now_ms: EpochMs) -> Result<Change, Failure> {
    use KillStep::{Draining, Removing};
    let status = |status: Status| Change::Store(Topology { status, ..topology.clone() });
    let inactive = |reason: String| status(Status::Inactive { reason });
    let refused = |why: String| Err(FailureKind::WrongState.with(why));
    let name = &topology.name;
    Ok(match (event, &topology.status) {
        (Event::Activate, Status::Active) => Change::Nothing,
        (Event::Activate, Status::Inactive { reason }) if reason == DEACTIVATED => status(Status::Active),
        (Event::Activate, Status::Inactive { reason }) => {
            return refused(format!(
                "cannot activate `{name}`: it has ended ({reason}); kill it and submit it again to run it again"
            ));
        }
        (Event::Deactivate, Status::Active) => inactive(DEACTIVATED.to_owned()),
        (Event::Deactivate, Status::Inactive { .. }) => Change::Nothing,
        (Event::Kill { wait_ms }, Status::Rebalancing { .. }) => {
            status(Status::Killed { step: Draining, wait_ms: *wait_ms, deadline_ms: now_ms.saturating_add(*wait_ms) })
        }
        (_, Status::Rebalancing { .. }) => Change::Nothing,
        (Event::Activate, Status::Killed { .. }) => {
            return refused(format!("cannot activate `{name}`: it is being killed"));
        }
        (Event::Deactivate, Status::Killed { .. }) => {
            return refused(format!("cannot deactivate `{name}`: it is being killed"));
        }
        (Event::Kill { .. }, Status::Killed { step: Removing, .. }) => Change::Nothing,
        (Event::Kill { wait_ms }, _) => {
            status(Status::Killed { step: Draining, wait_ms: *wait_ms, deadline_ms: now_ms.saturating_add(*wait_ms) })
        }

        (Event::AllReady, Status::Active | Status::Inactive { .. }) if !topology.started => {
            Change::Store(Topology { started: true, ..topology.clone() })
        }
        (Event::AllEnded, Status::Active) => inactive(Status::INPUT_FINISHED.to_owned()),
        (Event::AllEnded, Status::Inactive { reason }) if reason == DEACTIVATED => {
            inactive(Status::INPUT_FINISHED.to_owned())
        }
        (Event::Fatal(fatal), Status::Active) => inactive(fatal_reason(fatal)),
        (Event::Fatal(fatal), Status::Inactive { reason }) if reason == DEACTIVATED => inactive(fatal_reason(fatal)),
        (Event::Drained, Status::Killed { step: Draining, wait_ms, deadline_ms }) => {
            remove_plan(topology, *wait_ms, *deadline_ms)
        }
        (Event::Tick, Status::Killed { step: Draining, wait_ms, deadline_ms })
            if *deadline_ms <= now_ms || mutations::on(Mutation::DrainCutShort) =>
        {
            remove_plan(topology, *wait_ms, *deadline_ms)
        }
        // The clock was set back, or is another leader's: it waits no longer than it was told to.
        (Event::Tick, Status::Killed { step: Draining, wait_ms, deadline_ms }) if deadline_ms - now_ms > *wait_ms => {
            status(Status::Killed { step: Draining, wait_ms: *wait_ms, deadline_ms: now_ms.saturating_add(*wait_ms) })
        }
        (Event::Unnamed, Status::Killed { step: Removing, .. }) => Change::RemoveRecords,
        (
            Event::AllReady | Event::AllEnded | Event::Fatal(_) | Event::Drained | Event::Tick | Event::Unnamed,
            Status::Active | Status::Inactive { .. } | Status::Killed { .. },
        ) => Change::Nothing,
    })
}

fn remove_plan(topology: &Topology, wait_ms: u64, deadline_ms: EpochMs) -> Change {
    let status = Status::Killed { step: KillStep::Removing, wait_ms, deadline_ms };
    Change::RemovePlan(Topology { status, ..topology.clone() })
}

/// Longest text of an error in a record, in characters: a record has a bound, and the whole text stands among the errors.
const REASON_CHARS: usize = 1000;

fn fatal_reason(fatal: &Fatal) -> String {
    let error: String = fatal.error.chars().take(REASON_CHARS).collect();
    format!("fatal error in `{}`: {error}", fatal.component)
}

/// What its spouts shall do: be asked once all workers of the first plan were ready, while it is active.
pub fn spouts(topology: &Topology) -> Spouts {
    match (&topology.status, topology.started) {
        (Status::Active, true) => Spouts::Active,
        (Status::Active, false) if mutations::on(Mutation::SpoutsActivatedTooEarly) => Spouts::Active,
        _ => Spouts::Inactive,
    }
}

/// Storm's word for its state.
pub fn word(status: &Status) -> StatusWord {
    match status {
        Status::Active => StatusWord::Active,
        Status::Inactive { .. } => StatusWord::Inactive,
        Status::Rebalancing { .. } => StatusWord::Rebalancing,
        Status::Killed { .. } => StatusWord::Killed,
    }
}

/// When it goes on at the latest, if time moves it.
pub fn deadline(status: &Status) -> Option<EpochMs> {
    match status {
        Status::Killed { step: KillStep::Draining, deadline_ms, .. } => Some(*deadline_ms),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cluster_state::records::{FileBlob, Rebalanced};
    use worker_api::describe::Build;
    use worker_api::ids::{BlobHash, TopologyId, TopologyName};

    use super::*;

    /// The wall clock of these tests.
    const NOW: EpochMs = 1_000_000;

    fn topology(status: Status) -> Topology {
        let blob = || FileBlob { hash: BlobHash::of([0; 32]), bytes: 1 };
        Topology {
            id: TopologyId::new("wc-1-1").unwrap(),
            name: TopologyName::new("wc").unwrap(),
            owner: None,
            submitted_ms: 1,
            build: Build::own(),
            executable: blob(),
            graph: blob(),
            files: BTreeMap::new(),
            arguments: Vec::new(),
            started: true,
            rebalanced: Rebalanced::default(),
            status,
        }
    }

    fn inactive(reason: &str) -> Status {
        Status::Inactive { reason: reason.to_owned() }
    }

    fn killed(step: KillStep, wait_ms: u64, deadline_ms: EpochMs) -> Status {
        Status::Killed { step, wait_ms, deadline_ms }
    }

    fn fatal() -> Event {
        Event::Fatal(Fatal { component: "count".to_owned(), error: "no such table".to_owned() })
    }

    /// What an event leads to: nothing, a state, `removing` (the plan goes), `gone`, or a refusal.
    fn after(status: &Status, event: &Event) -> String {
        match next(&topology(status.clone()), event, NOW) {
            Ok(Change::Nothing) => "-".to_owned(),
            Ok(Change::Store(next)) => short(&next.status),
            Ok(Change::RemovePlan(next)) => format!("no plan, {}", short(&next.status)),
            Ok(Change::RemoveRecords) => "gone".to_owned(),
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::WrongState);
                failure.message
            }
        }
    }

    fn short(status: &Status) -> String {
        match status {
            Status::Active => "active".to_owned(),
            Status::Inactive { reason } => reason.clone(),
            Status::Rebalancing { step, wait_ms, deadline_ms, .. } => format!("{step:?} {wait_ms} {deadline_ms}"),
            Status::Killed { step, wait_ms, deadline_ms } => format!("{step:?} {wait_ms} {deadline_ms}"),
        }
    }

    #[test]
    fn every_event_in_every_state() {
        let error = "fatal error in `count`: no such table";
        let states = [
            Status::Active,
            inactive(DEACTIVATED),
            inactive(Status::INPUT_FINISHED),
            inactive(error),
            killed(KillStep::Draining, 9_000, NOW + 1),
            killed(KillStep::Draining, 9_000, NOW),
            killed(KillStep::Removing, 9_000, NOW - 1),
        ];
        let table = |event: &Event| states.each_ref().map(|status| after(status, event));
        let again = |how: &str| {
            format!("cannot activate `wc`: it has ended ({how}); kill it and submit it again to run it again")
        };
        let (activate, deactivate) =
            ("cannot activate `wc`: it is being killed", "cannot deactivate `wc`: it is being killed");
        let removing = "no plan, Removing 9000 1000001";
        let due = "no plan, Removing 9000 1000000";
        let new_wait = "Draining 5000 1005000";
        let (finished, ended) = (again(Status::INPUT_FINISHED), again(error));
        assert_eq!(table(&Event::Activate), ["-", "active", &finished, &ended, activate, activate, activate]);
        assert_eq!(table(&Event::Deactivate), [DEACTIVATED, "-", "-", "-", deactivate, deactivate, deactivate]);
        let kill = Event::Kill { wait_ms: 5_000 };
        assert_eq!(table(&kill), [new_wait, new_wait, new_wait, new_wait, new_wait, new_wait, "-"]);
        assert_eq!(table(&Event::AllReady), ["-"; 7]);
        assert_eq!(table(&Event::Drained), ["-", "-", "-", "-", removing, due, "-"]);
        assert_eq!(table(&Event::AllEnded), [Status::INPUT_FINISHED, Status::INPUT_FINISHED, "-", "-", "-", "-", "-"]);
        assert_eq!(table(&fatal()), [error, error, "-", "-", "-", "-", "-"]);
        assert_eq!(table(&Event::Tick), ["-", "-", "-", "-", "-", due, "-"]);
        assert_eq!(table(&Event::Unnamed), ["-", "-", "-", "-", "-", "-", "gone"]);
    }

    #[test]
    fn spouts_are_asked_once_all_workers_were_ready() {
        let submitted = Topology { started: false, ..topology(Status::Active) };
        assert_eq!(spouts(&submitted), Spouts::Inactive);
        let started = match next(&submitted, &Event::AllReady, NOW) {
            Ok(Change::Store(started)) => started,
            other => panic!("{other:?}"),
        };
        assert_eq!(started, topology(Status::Active));
        assert_eq!(spouts(&started), Spouts::Active);
        assert_eq!(next(&started, &Event::AllReady, NOW), Ok(Change::Nothing));

        // Deactivated before it started, it starts when it is activated.
        let early = Topology { started: false, ..topology(inactive(DEACTIVATED)) };
        assert_eq!(next(&early, &Event::AllReady, NOW), Ok(Change::Store(topology(inactive(DEACTIVATED)))));
        assert_eq!(spouts(&topology(inactive(DEACTIVATED))), Spouts::Inactive);
        assert_eq!(spouts(&topology(killed(KillStep::Draining, 1, NOW))), Spouts::Inactive);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_lengthen_the_wait() {
        let far = killed(KillStep::Draining, 9_000, NOW + 86_400_000);
        assert_eq!(after(&far, &Event::Tick), "Draining 9000 1009000");
        let topology = topology(Status::Active);
        let endless = next(&topology, &Event::Kill { wait_ms: u64::MAX }, NOW);
        let status = killed(KillStep::Draining, u64::MAX, u64::MAX);
        assert_eq!(endless, Ok(Change::Store(Topology { status, ..topology })));
    }

    #[test]
    fn words_and_deadlines_are_those_of_the_state() {
        let draining = killed(KillStep::Draining, 1, 7);
        let states = [Status::Active, inactive("x"), draining, killed(KillStep::Removing, 1, 7)];
        use StatusWord::{Active, Inactive, Killed};
        assert_eq!(states.each_ref().map(word), [Active, Inactive, Killed, Killed]);
        assert_eq!(states.each_ref().map(deadline), [None, None, Some(7), None]);
    }
}
