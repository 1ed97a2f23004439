//! What becomes of a topology: active, inactive, rebalancing, killed, gone.
//!
//! | state | commands | what happens by itself |
//! |---|---|---|
//! | active | deactivate, rebalance, kill | input finished or a fatal error: inactive |
//! | inactive | activate, rebalance (if it was deactivated), kill | a fatal error: inactive for that reason |
//! | rebalancing, draining | activate, deactivate: what it is afterwards; rebalance: new wishes, a new wait; kill | nothing is pending, or the deadline: switching; input finished or a fatal error: inactive |
//! | rebalancing, switching | activate, deactivate: what it is afterwards; kill | a new plan holds, or dealing anew has changed nothing: as it was before |
//! | killed, draining | kill: a new wait | nothing is pending, or the deadline: removing |
//! | killed, removing | kill: no change | no machine names it any more: its records go |
//!
//! A fatal error makes the topology inactive and does not restart the worker: every other error and every panic is retried
//! by the runtime, and only user code's own word makes one fatal. A restart would fail the same way and replay for ever; an
//! inactive topology keeps its workers, logs and counts for who looks at it.
//!
//! Not here: writing the records, dealing executors (`scheduling`), stopping workers. Invariant: nothing leads back from
//! killed; deadlines are wall-clock times in the record, so a new leader goes on where the last one was.

use cluster_state::records::{EpochMs, KillStep, RebalanceStep, Rebalanced, Status, Topology};
use mutations::Mutation;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::topology::StatusWord;
use worker_api::answer::Spouts;
use worker_api::ids::PlanVersion;
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
    /// Its executors shall be dealt anew, after it had so long to drain.
    Rebalance {
        /// How long, in milliseconds.
        wait_ms: u64,
        /// What it shall have; what is not said stays as it is.
        to: Rebalanced,
        /// Why, if it is no command: then it is not refused, and nothing happens where a command would be.
        by_itself: Option<String>,
    },
    /// All workers of its plan are ready.
    AllReady,
    /// All of its workers say that they are drained, or it has none.
    Drained,
    /// The input of all its executors has ended.
    AllEnded,
    /// An executor ended for good.
    Fatal(Fatal),
    /// Dealing it anew gives the plan that holds.
    Unmoved,
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

/// What follows from an event at this wall-clock time, while this version of its plan holds (0 without one). What happens by
/// itself is never refused.
///
/// # Errors
/// A command that its state does not allow: [`FailureKind::WrongState`].
pub fn next(topology: &Topology, holds: PlanVersion, event: &Event, now_ms: EpochMs) -> Result<Change, Failure> {
    use KillStep::{Draining, Removing};
    let status = |status: Status| Change::Store(Topology { status, ..topology.clone() });
    let inactive = |reason: String| status(Status::Inactive { reason });
    let refused = |why: String| Err(FailureKind::WrongState.with(why));
    let killed = |what: &str| refused(format!("cannot {what} `{}`: it is being killed", topology.name));
    Ok(match (event, &topology.status) {
        (Event::Kill { .. }, Status::Killed { step: Removing, .. }) => Change::Nothing,
        (Event::Kill { wait_ms }, _) => {
            status(Status::Killed { step: Draining, wait_ms: *wait_ms, deadline_ms: now_ms.saturating_add(*wait_ms) })
        }
        (_, Status::Rebalancing { .. }) => return next_of_rebalance(topology, holds, event, now_ms),
        (Event::Activate, Status::Active) => Change::Nothing,
        (Event::Activate, Status::Inactive { reason }) if reason == DEACTIVATED => status(Status::Active),
        (Event::Activate, Status::Inactive { reason }) => return refused(ended("activate", topology, reason)),
        (Event::Deactivate, Status::Active) => inactive(DEACTIVATED.to_owned()),
        (Event::Deactivate, Status::Inactive { .. }) => Change::Nothing,
        (Event::Activate, Status::Killed { .. }) => return killed("activate"),
        (Event::Deactivate, Status::Killed { .. }) => return killed("deactivate"),
        (Event::Rebalance { wait_ms, to, by_itself }, Status::Active) => {
            status(draining(*wait_ms, now_ms, holds, to.clone(), None, by_itself.clone()))
        }
        (Event::Rebalance { wait_ms, to, by_itself }, Status::Inactive { reason }) if reason == DEACTIVATED => {
            status(draining(*wait_ms, now_ms, holds, to.clone(), Some(reason.clone()), by_itself.clone()))
        }
        (Event::Rebalance { by_itself: Some(_), .. }, _) => Change::Nothing,
        (Event::Rebalance { .. }, Status::Inactive { reason }) => return refused(ended("rebalance", topology, reason)),
        (Event::Rebalance { .. }, _) => return killed("rebalance"),
        (Event::AllReady, Status::Active | Status::Inactive { .. }) if !topology.started => {
            Change::Store(Topology { started: true, ..topology.clone() })
        }
        (Event::AllEnded, Status::Active | Status::Inactive { .. }) if !has_ended(&topology.status) => {
            inactive(Status::INPUT_FINISHED.to_owned())
        }
        (Event::Fatal(fatal), Status::Active | Status::Inactive { .. }) if !has_ended(&topology.status) => {
            inactive(fatal_reason(fatal))
        }
        (Event::Drained, Status::Killed { step: Draining, wait_ms, deadline_ms }) => {
            remove_plan(topology, *wait_ms, *deadline_ms)
        }
        (Event::Tick, Status::Killed { step: Draining, wait_ms, deadline_ms })
            if *deadline_ms <= now_ms || mutations::on(Mutation::DrainCutShort) =>
        {
            remove_plan(topology, *wait_ms, *deadline_ms)
        }
        (Event::Tick, Status::Killed { step: Draining, wait_ms, deadline_ms })
            if is_too_far(*deadline_ms, *wait_ms, now_ms) =>
        {
            status(Status::Killed { step: Draining, wait_ms: *wait_ms, deadline_ms: now_ms.saturating_add(*wait_ms) })
        }
        (Event::Unnamed, Status::Killed { step: Removing, .. }) => Change::RemoveRecords,
        (
            Event::AllReady
            | Event::AllEnded
            | Event::Fatal(_)
            | Event::Drained
            | Event::Unmoved
            | Event::Tick
            | Event::Unnamed,
            _,
        ) => Change::Nothing,
    })
}

/// What follows while a topology rebalances.
fn next_of_rebalance(
    topology: &Topology,
    holds: PlanVersion,
    event: &Event,
    now_ms: EpochMs,
) -> Result<Change, Failure> {
    use RebalanceStep::{Draining, Switching};
    let Status::Rebalancing { step, wait_ms, deadline_ms, from, to, inactive, by_itself } = &topology.status else {
        return Ok(Change::Nothing);
    };
    let status = |status: Status| Change::Store(Topology { status, ..topology.clone() });
    let afterwards = |inactive: Option<String>| {
        status(Status::Rebalancing {
            step: *step,
            wait_ms: *wait_ms,
            deadline_ms: *deadline_ms,
            from: *from,
            to: to.clone(),
            inactive,
            by_itself: by_itself.clone(),
        })
    };
    let before = || match inactive.clone() {
        None => Status::Active,
        Some(reason) => Status::Inactive { reason },
    };
    let switching = || {
        let status = Status::Rebalancing {
            step: Switching,
            wait_ms: *wait_ms,
            deadline_ms: *deadline_ms,
            from: holds,
            to: Rebalanced::default(),
            inactive: inactive.clone(),
            by_itself: by_itself.clone(),
        };
        Change::Store(Topology { rebalanced: merged(&topology.rebalanced, to), status, ..topology.clone() })
    };
    let goes_on = inactive.as_ref().is_none_or(|reason| reason == DEACTIVATED);
    let refused = |why: String| Err(FailureKind::WrongState.with(why));
    Ok(match (event, step) {
        (Event::Activate, _) => match inactive {
            None => Change::Nothing,
            Some(_) if goes_on => afterwards(None),
            Some(reason) => return refused(ended("activate", topology, reason)),
        },
        (Event::Deactivate, _) if inactive.is_none() => afterwards(Some(DEACTIVATED.to_owned())),
        (Event::Rebalance { by_itself: Some(_), .. }, _) => Change::Nothing,
        (Event::Rebalance { wait_ms, to: more, .. }, Draining) => {
            status(draining(*wait_ms, now_ms, holds, merged(to, more), inactive.clone(), None))
        }
        (Event::Rebalance { .. }, Switching) => {
            return refused(format!(
                "cannot rebalance `{}` now: its workers are being placed anew already; try again in a moment",
                topology.name
            ));
        }
        // What has ended is not dealt anew.
        (Event::AllEnded, Draining) => status(Status::Inactive { reason: Status::INPUT_FINISHED.to_owned() }),
        (Event::Fatal(fatal), Draining) => status(Status::Inactive { reason: fatal_reason(fatal) }),
        (Event::AllEnded, Switching) if goes_on => afterwards(Some(Status::INPUT_FINISHED.to_owned())),
        (Event::Fatal(fatal), Switching) if goes_on => afterwards(Some(fatal_reason(fatal))),
        (Event::Drained, Draining) => switching(),
        (Event::Tick, Draining) if *deadline_ms <= now_ms || mutations::on(Mutation::DrainCutShort) => switching(),
        (Event::Tick, Draining) if is_too_far(*deadline_ms, *wait_ms, now_ms) => {
            status(draining(*wait_ms, now_ms, holds, to.clone(), inactive.clone(), by_itself.clone()))
        }
        // All of its new workers are waited for before its spouts are asked again.
        (Event::Tick, Switching) if holds > *from => {
            Change::Store(Topology { started: false, status: before(), ..topology.clone() })
        }
        (Event::Unmoved, Switching) => status(before()),
        (
            Event::Deactivate
            | Event::Kill { .. }
            | Event::AllReady
            | Event::AllEnded
            | Event::Fatal(_)
            | Event::Drained
            | Event::Unmoved
            | Event::Tick
            | Event::Unnamed,
            _,
        ) => Change::Nothing,
    })
}

fn draining(
    wait_ms: u64,
    now_ms: EpochMs,
    from: PlanVersion,
    to: Rebalanced,
    inactive: Option<String>,
    by_itself: Option<String>,
) -> Status {
    let deadline_ms = now_ms.saturating_add(wait_ms);
    Status::Rebalancing { step: RebalanceStep::Draining, wait_ms, deadline_ms, from, to, inactive, by_itself }
}

/// Whether the clock was set back, or is another leader's: nobody waits longer than was said.
fn is_too_far(deadline_ms: EpochMs, wait_ms: u64, now_ms: EpochMs) -> bool {
    deadline_ms.saturating_sub(now_ms) > wait_ms
}

/// What rebalances have changed, with the later word on each.
pub fn merged(before: &Rebalanced, later: &Rebalanced) -> Rebalanced {
    let mut executors = before.executors.clone();
    executors.extend(later.executors.clone());
    Rebalanced { workers: later.workers.or(before.workers), executors }
}

/// The refusal of a command for a topology that has ended for this reason.
fn ended(what: &str, topology: &Topology, reason: &str) -> String {
    let name = &topology.name;
    format!("cannot {what} `{name}`: it has ended ({reason}); kill it and submit it again to run it again")
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

/// Whether it has ended, by a fatal error or its input: it can only be killed.
pub fn has_ended(status: &Status) -> bool {
    matches!(status, Status::Inactive { reason } if reason != DEACTIVATED)
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
        Status::Killed { step: KillStep::Draining, deadline_ms, .. }
        | Status::Rebalancing { step: RebalanceStep::Draining, deadline_ms, .. } => Some(*deadline_ms),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cluster_state::records::FileBlob;
    use worker_api::describe::Build;
    use worker_api::ids::{BlobHash, TopologyId, TopologyName};

    use super::*;

    /// The wall clock of these tests.
    const NOW: EpochMs = 1_000_000;
    /// The plan that holds.
    const HOLDS: PlanVersion = PlanVersion(3);

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
            revision: Default::default(),
            status,
        }
    }

    fn inactive(reason: &str) -> Status {
        Status::Inactive { reason: reason.to_owned() }
    }

    fn killed(step: KillStep, wait_ms: u64, deadline_ms: EpochMs) -> Status {
        Status::Killed { step, wait_ms, deadline_ms }
    }

    /// One of a topology that had this plan when its step began.
    fn rebalancing(step: RebalanceStep, deadline_ms: EpochMs, from: u64, inactive: Option<&str>) -> Status {
        let inactive = inactive.map(str::to_owned);
        let to = Rebalanced { workers: Some(4), executors: BTreeMap::new() };
        let from = PlanVersion(from);
        Status::Rebalancing { step, wait_ms: 9_000, deadline_ms, from, to, inactive, by_itself: None }
    }

    fn rebalance(by_itself: Option<&str>) -> Event {
        let to = Rebalanced { workers: None, executors: [("count".to_owned(), 2)].into() };
        Event::Rebalance { wait_ms: 5_000, to, by_itself: by_itself.map(str::to_owned) }
    }

    fn fatal() -> Event {
        Event::Fatal(Fatal { component: "count".to_owned(), error: "no such table".to_owned() })
    }

    /// What an event leads to: nothing, a state, `removing` (the plan goes), `gone`, or a refusal.
    fn after(status: &Status, event: &Event) -> String {
        match next(&topology(status.clone()), HOLDS, event, NOW) {
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
            Status::Rebalancing { step, wait_ms, deadline_ms, from, inactive, .. } => {
                let then = inactive.as_deref().unwrap_or("active");
                format!("{step:?} {wait_ms} {deadline_ms} from {from}, then {then}")
            }
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
        assert_eq!(table(&Event::Unmoved), ["-"; 7]);
        let refused = "cannot rebalance `wc`: it is being killed";
        let (no, fatally) = (finished.replace("activate", "rebalance"), ended.replace("activate", "rebalance"));
        let (then_active, then_inactive) =
            ("Draining 5000 1005000 from 3, then active", "Draining 5000 1005000 from 3, then deactivated");
        assert_eq!(table(&rebalance(None)), [then_active, then_inactive, &no, &fatally, refused, refused, refused]);
        assert_eq!(table(&rebalance(Some("why"))), [then_active, then_inactive, "-", "-", "-", "-", "-"]);
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
    fn every_event_in_every_state_of_a_rebalance() {
        use RebalanceStep::{Draining, Switching};
        let states = [
            rebalancing(Draining, NOW + 1, 2, None),
            rebalancing(Draining, NOW, 2, Some(DEACTIVATED)),
            rebalancing(Switching, NOW - 1, 3, None),
            rebalancing(Switching, NOW - 1, 3, Some(DEACTIVATED)),
            rebalancing(Switching, NOW - 1, 3, Some(Status::INPUT_FINISHED)),
            // The new plan holds.
            rebalancing(Switching, NOW - 1, 2, None),
            rebalancing(Switching, NOW - 1, 2, Some(Status::INPUT_FINISHED)),
        ];
        let table = |event: &Event| states.each_ref().map(|status| after(status, event));
        let finished =
            "cannot activate `wc`: it has ended (input finished); kill it and submit it again to run it again";
        let to_active = |number: usize| short(&states[number]).replace(DEACTIVATED, "active");
        let to_inactive = |number: usize| short(&states[number]).replace("then active", "then deactivated");
        assert_eq!(
            table(&Event::Activate),
            ["-", &to_active(1), "-", &to_active(3), finished, "-", finished].map(str::to_owned)
        );
        assert_eq!(
            table(&Event::Deactivate),
            [&to_inactive(0), "-", &to_inactive(2), "-", "-", &to_inactive(5), "-"].map(str::to_owned)
        );
        let kill = Event::Kill { wait_ms: 5_000 };
        assert_eq!(table(&kill), ["Draining 5000 1005000"; 7]);
        let placed = "cannot rebalance `wc` now: its workers are being placed anew already; try again in a moment";
        let anew = |then: &str| format!("Draining 5000 1005000 from 3, then {then}");
        assert_eq!(
            table(&rebalance(None)),
            [&anew("active"), &anew(DEACTIVATED), placed, placed, placed, placed, placed].map(str::to_owned)
        );
        assert_eq!(table(&rebalance(Some("why"))), ["-"; 7]);
        assert_eq!(table(&Event::AllReady), ["-"; 7]);
        assert_eq!(table(&Event::Unnamed), ["-"; 7]);
        let switching = |deadline_ms: u64, then: &str| format!("Switching 9000 {deadline_ms} from 3, then {then}");
        let (first, second) = (switching(NOW + 1, "active"), switching(NOW, DEACTIVATED));
        assert_eq!(table(&Event::Drained), [&first, &second, "-", "-", "-", "-", "-"].map(str::to_owned));
        assert_eq!(
            table(&Event::Tick),
            ["-", &second, "-", "-", "-", "active", Status::INPUT_FINISHED].map(str::to_owned)
        );
        assert_eq!(
            table(&Event::Unmoved),
            ["-", "-", "active", DEACTIVATED, Status::INPUT_FINISHED, "active", Status::INPUT_FINISHED]
        );
        // It has ended: that is not lost, and while it drains there is nothing left to deal.
        let error = "fatal error in `count`: no such table";
        for (event, how) in [(Event::AllEnded, Status::INPUT_FINISHED), (fatal(), error)] {
            let later = |number: usize| {
                short(&states[number]).replace("then active", &format!("then {how}")).replace(DEACTIVATED, how)
            };
            assert_eq!(table(&event), [how, how, &later(2), &later(3), "-", &later(5), "-"].map(str::to_owned));
        }
    }

    #[test]
    fn what_a_rebalance_wants_is_in_the_record_when_it_switches() {
        let draining = topology(rebalancing(RebalanceStep::Draining, NOW, 2, None));
        let stored =
            |topology: &Topology, holds: u64, event: &Event| match next(topology, PlanVersion(holds), event, NOW) {
                Ok(Change::Store(next)) => next,
                other => panic!("{other:?}"),
            };
        // A second one while it drains: its own word on what it names, the first one's on the rest.
        let again = stored(&draining, 2, &rebalance(None));
        assert!(again.rebalanced.is_nothing());
        let switching = stored(&again, 3, &Event::Drained);
        let both = Rebalanced { workers: Some(4), executors: [("count".to_owned(), 2)].into() };
        assert_eq!(switching.rebalanced, both);
        assert!(switching.started);
        // Without a change of its plan it goes on as it was; with one it starts when all workers are ready.
        let as_before = stored(&switching, 3, &Event::Unmoved);
        assert_eq!((as_before.status, as_before.started), (Status::Active, true));
        let dealt = stored(&switching, 4, &Event::Tick);
        assert_eq!((dealt.status, dealt.started, dealt.rebalanced), (Status::Active, false, both));
        assert_eq!(spouts(&switching), Spouts::Inactive);
    }

    #[test]
    fn spouts_are_asked_once_all_workers_were_ready() {
        let submitted = Topology { started: false, ..topology(Status::Active) };
        assert_eq!(spouts(&submitted), Spouts::Inactive);
        let started = match next(&submitted, HOLDS, &Event::AllReady, NOW) {
            Ok(Change::Store(started)) => started,
            other => panic!("{other:?}"),
        };
        assert_eq!(started, topology(Status::Active));
        assert_eq!(spouts(&started), Spouts::Active);
        assert_eq!(next(&started, HOLDS, &Event::AllReady, NOW), Ok(Change::Nothing));

        // Deactivated before it started, it starts when it is activated.
        let early = Topology { started: false, ..topology(inactive(DEACTIVATED)) };
        assert_eq!(next(&early, HOLDS, &Event::AllReady, NOW), Ok(Change::Store(topology(inactive(DEACTIVATED)))));
        assert_eq!(spouts(&topology(inactive(DEACTIVATED))), Spouts::Inactive);
        assert_eq!(spouts(&topology(killed(KillStep::Draining, 1, NOW))), Spouts::Inactive);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_lengthen_the_wait() {
        let far = killed(KillStep::Draining, 9_000, NOW + 86_400_000);
        assert_eq!(after(&far, &Event::Tick), "Draining 9000 1009000");
        let far = rebalancing(RebalanceStep::Draining, NOW + 86_400_000, 3, None);
        assert_eq!(after(&far, &Event::Tick), "Draining 9000 1009000 from 3, then active");
        let topology = topology(Status::Active);
        let endless = next(&topology, HOLDS, &Event::Kill { wait_ms: u64::MAX }, NOW);
        let status = killed(KillStep::Draining, u64::MAX, u64::MAX);
        assert_eq!(endless, Ok(Change::Store(Topology { status, ..topology })));
    }

    #[test]
    fn words_and_deadlines_are_those_of_the_state() {
        let draining = killed(KillStep::Draining, 1, 7);
        let removing = killed(KillStep::Removing, 1, 7);
        let rebalances = [RebalanceStep::Draining, RebalanceStep::Switching].map(|step| rebalancing(step, 8, 1, None));
        let [drains, switches] = rebalances;
        let states = [Status::Active, inactive("x"), draining, removing, drains, switches];
        use StatusWord::{Active, Inactive, Killed, Rebalancing};
        assert_eq!(states.each_ref().map(word), [Active, Inactive, Killed, Killed, Rebalancing, Rebalancing]);
        assert_eq!(states.each_ref().map(deadline), [None, None, Some(7), None, Some(8), None]);
    }
}
