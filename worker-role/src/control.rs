//! What a worker does about what it sees of itself and hears from its Supervisor, as a machine: (state, event, now) to
//! (state, effects).
//!
//! ```text
//!   starting ──all are prepared, all peers connected──▶ ready ──all input has ended──▶ ended
//!       └──────────────┬───────────────────────────────────┴─────────────────────────────┘
//!        a signal, or the slot is gone
//!                      ▼
//!   draining ──drained, or `DRAIN` is over──▶ end 0
//! ```
//!
//! After a fatal error its spouts are asked no more, whatever it hears, and it stays: a restart would only meet the same
//! error again. Nimbus makes the topology inactive for that reason.
//!
//! Times are durations since the worker began. Not here: sockets, executors, the report's counts. Invariant: silence
//! changes nothing, and hearing an answer twice changes nothing either.

use std::time::Duration;

use mutations::Mutation;
use worker_api::answer::{Answer, GoneLife, Slot, Spouts};
use worker_api::ids::{PlanVersion, Revision, WorkerIndex};
use worker_api::plan::{Placement, Plan};
use worker_api::report::{Fatal, Stage};

use crate::surroundings::Event;

/// How often it reports at least.
const REPORT: Duration = Duration::from_secs(1);
/// How long a Supervisor may be silent before Nimbus is told as well.
const SILENCE: Duration = Duration::from_secs(3);
/// How often Nimbus is told then.
const NIMBUS: Duration = Duration::from_secs(2);
/// How long what is pending gets to finish before a stop.
const DRAIN: Duration = Duration::from_secs(2);
/// How often it looks at what nothing tells it of: connections while it starts, pending roots while it drains.
const LOOK: Duration = Duration::from_millis(10);

/// What it sees of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// All executors are prepared and all peers connected.
    pub(crate) ready: bool,
    /// The input of all executors has ended.
    pub(crate) ended: bool,
    /// No spout is asked and nothing is pending.
    pub(crate) drained: bool,
    /// The first fatal error.
    pub(crate) fatal: Option<Fatal>,
    /// The latest plan that a peer has proved to run by and that is not known here.
    pub(crate) newer_plan: Option<PlanVersion>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Have the spouts asked.
    Activate,
    /// Have them asked no more.
    Deactivate,
    /// Tell the links where the peers are now, and at which plan their slots changed.
    Placed(Placement),
    /// A life of a peer is gone for good.
    Gone(GoneLife),
    /// A component cannot go on.
    Failed(Fatal),
    /// It begins to drain, for this reason.
    Drain(&'static str),
    /// Report this to the Supervisor, and to Nimbus as well if `to_nimbus`.
    Report { head: Head, to_nimbus: bool },
    /// Stop in order, and end.
    Stop,
    /// End at once.
    End,
}

/// What a report says of the worker beside what it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) placement: PlanVersion,
    pub(crate) stage: Stage,
    pub(crate) spouts: Spouts,
    pub(crate) drained: bool,
    pub(crate) revision: Revision,
    pub(crate) fatal: Option<Fatal>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Control {
    me: WorkerIndex,
    /// The plan that the worker was built by.
    plan: Plan,
    placement: PlanVersion,
    /// What its spouts shall do.
    wanted: Spouts,
    /// The record that says so.
    revision: Revision,
    /// What they do.
    spouts: Spouts,
    was_ready: bool,
    /// It drains until then at the latest.
    draining: Option<Duration>,
    /// A signal has told it to stop.
    signalled: bool,
    /// A component cannot go on.
    failed: bool,
    /// The last report, and when it was made.
    reported: Option<(Head, Duration)>,
    /// The latest plan that was asked for.
    asked_for: Option<PlanVersion>,
    supervisor_heard: Duration,
    nimbus_told: Option<Duration>,
}

impl Control {
    /// A worker that begins now. `spouts` is what they shall do as far as is known.
    pub(crate) fn new(me: WorkerIndex, placement: &Placement, spouts: Spouts, revision: Revision) -> Self {
        Control {
            me,
            plan: placement.plan.clone(),
            placement: placement.version,
            wanted: spouts,
            revision,
            spouts: Spouts::Inactive,
            was_ready: false,
            draining: None,
            signalled: false,
            failed: false,
            reported: None,
            asked_for: None,
            supervisor_heard: Duration::ZERO,
            nimbus_told: None,
        }
    }

    /// One step: something has happened, or may have.
    pub(crate) fn step(&mut self, now: Duration, seen: &Seen, event: Option<Event>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.was_ready |= seen.ready;
        match event {
            None => {}
            Some(Event::Supervisor(answer)) => {
                self.supervisor_heard = now;
                self.answer(answer, now, &mut effects);
            }
            // It may be older than what the Supervisor has said since.
            Some(Event::Nimbus(answer)) if self.is_silent(now) => self.answer(answer, now, &mut effects),
            Some(Event::Nimbus(_)) => {}
            Some(Event::Signal) => {
                if self.is_signalled_again() {
                    effects.push(Effect::End);
                    return effects;
                }
                self.drain("it was told to stop", now, &mut effects);
            }
        }
        if let Some(fatal) = seen.fatal.clone().filter(|_| !std::mem::replace(&mut self.failed, seen.fatal.is_some())) {
            effects.push(Effect::Failed(fatal));
        }
        let goes_on = self.draining.is_none() && !self.failed;
        let ready = self.was_ready || mutations::on(Mutation::SpoutsActivatedTooEarly);
        let active = self.wanted == Spouts::Active && ready && goes_on;
        match self.spouts {
            Spouts::Inactive if active => effects.push(Effect::Activate),
            Spouts::Active if !active => effects.push(Effect::Deactivate),
            _ => {}
        }
        self.spouts = if active { Spouts::Active } else { Spouts::Inactive };
        self.report(now, seen, &mut effects);
        let cut = mutations::on(Mutation::DrainCutShort);
        if self.draining.is_some_and(|until| seen.drained || now >= until || cut) {
            effects.push(Effect::Stop);
        }
        effects
    }

    /// A signal has come: whether it is not the first one. A worker that drains as its slot is another's has not been signalled:
    /// the signal by which its Supervisor stops it for that comes at the same time, and must not keep it from closing.
    pub(crate) fn is_signalled_again(&mut self) -> bool {
        std::mem::replace(&mut self.signalled, true)
    }

    /// When the next step is due, if nothing happens before.
    pub(crate) fn next_step(&self, now: Duration, seen: &Seen) -> Duration {
        let due = self.reported.as_ref().map_or(now, |(_, at)| *at + REPORT);
        let settled = self.was_ready && (self.spouts == Spouts::Active || seen.drained);
        match self.draining {
            Some(until) => until.min(now + LOOK),
            None if !settled => due.min(now + LOOK),
            None => due,
        }
    }

    fn is_silent(&self, now: Duration) -> bool {
        now >= self.supervisor_heard + SILENCE
    }

    fn answer(&mut self, answer: Answer, now: Duration, effects: &mut Vec<Effect>) {
        let Answer { slot, spouts, revision, placement, gone, .. } = answer;
        // Supervisor and Nimbus need not know the same record.
        if revision >= self.revision {
            (self.wanted, self.revision) = (spouts, revision);
        }
        effects.extend(gone.into_iter().map(Effect::Gone));
        let later = |version| {
            version > self.placement || (mutations::on(Mutation::OldPlanAccepted) && version < self.placement)
        };
        if let Some(placement) = placement.filter(|placement| later(placement.version)) {
            self.placement = placement.version;
            let own = |plan: &Plan| plan.slot(self.me).cloned();
            let tasks = |plan: &Plan| plan.workers.iter().map(|slot| slot.executors.clone()).collect::<Vec<_>>();
            if own(&placement.plan) != own(&self.plan) {
                self.drain("a later plan has changed its slot", now, effects);
            } else if tasks(&placement.plan) != tasks(&self.plan) {
                self.drain(
                    "a later plan has moved tasks of its peers, which it must be started anew for",
                    now,
                    effects,
                );
            } else {
                effects.push(Effect::Placed(placement));
            }
        }
        if slot == Slot::Gone {
            self.drain("its slot is another's", now, effects);
        }
    }

    fn drain(&mut self, why: &'static str, now: Duration, effects: &mut Vec<Effect>) {
        if self.draining.is_none() {
            self.draining = Some(now + DRAIN);
            effects.push(Effect::Drain(why));
        }
    }

    fn stage(&self, seen: &Seen) -> Stage {
        match self.draining {
            Some(_) => Stage::Draining,
            _ if seen.ended => Stage::Ended,
            _ if self.was_ready => Stage::Ready,
            _ => Stage::Starting,
        }
    }

    /// Reports if it is time, or if something has changed that others wait for.
    fn report(&mut self, now: Duration, seen: &Seen, effects: &mut Vec<Effect>) {
        let number = self.reported.as_ref().map_or(0, |(head, _)| head.number) + 1;
        let head = Head {
            number,
            placement: self.placement,
            stage: self.stage(seen),
            spouts: self.spouts,
            drained: self.spouts == Spouts::Inactive && seen.drained,
            revision: self.revision,
            fatal: seen.fatal.clone(),
        };
        let due = self.reported.as_ref().is_none_or(|(last, at)| {
            let same = Head { number: last.number, ..head.clone() } == *last;
            !same || now >= *at + REPORT
        });
        let asks = seen.newer_plan > self.asked_for;
        if !due && !asks {
            return;
        }
        self.asked_for = self.asked_for.max(seen.newer_plan);
        let to_nimbus = self.is_silent(now) && self.nimbus_told.is_none_or(|told| now >= told + NIMBUS);
        if to_nimbus {
            self.nimbus_told = Some(now);
        }
        self.reported = Some((head.clone(), now));
        effects.push(Effect::Report { head, to_nimbus });
    }
}

#[cfg(test)]
mod tests {
    use worker_api::answer::ANSWER_FORMAT;
    use worker_api::ids::{Incarnation, Life};
    use worker_api::plan::SlotPlan;

    use super::*;

    const ME: WorkerIndex = WorkerIndex(1);

    fn placement(version: u64, slots: [u64; 2], tasks: [u32; 2]) -> Placement {
        let slot = |(version, task)| SlotPlan {
            version: PlanVersion(version),
            executors: vec![vec![topology_api::ids::TaskId(task)]],
        };
        Placement {
            version: PlanVersion(version),
            plan: Plan { workers: slots.into_iter().zip(tasks).map(slot).collect() },
            addresses: vec![None, None],
        }
    }

    fn answer(spouts: Spouts, placement: Option<Placement>) -> Answer {
        Answer { format: ANSWER_FORMAT, slot: Slot::Kept, spouts, revision: Revision(1), placement, gone: Vec::new() }
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn ready() -> Seen {
        Seen { ready: true, drained: true, ..Seen::default() }
    }

    /// A report in short.
    fn report(number: u64, stage: Stage, spouts: Spouts, drained: bool) -> Effect {
        let head =
            Head { number, placement: PlanVersion(1), stage, spouts, drained, revision: Revision(1), fatal: None };
        Effect::Report { head, to_nimbus: false }
    }

    fn control(spouts: Spouts) -> Control {
        Control::new(ME, &placement(1, [1, 1], [1, 2]), spouts, Revision(1))
    }

    /// One that has reported at 0 that it is ready and inactive, and again that it is active.
    fn active() -> Control {
        let mut control = control(Spouts::Active);
        let effects = control.step(ms(0), &ready(), None);
        assert_eq!(effects, [Effect::Activate, report(1, Stage::Ready, Spouts::Active, false)]);
        control
    }

    /// What it sees while its spouts are asked.
    fn busy() -> Seen {
        Seen { ready: true, ..Seen::default() }
    }

    #[test]
    fn spouts_are_asked_once_all_are_ready_and_go_on_when_a_peer_is_away() {
        let mut control = control(Spouts::Inactive);
        let waits = Seen { drained: true, ..Seen::default() };
        assert_eq!(control.step(ms(0), &waits, None), [report(1, Stage::Starting, Spouts::Inactive, true)]);
        let activate = || Some(Event::Supervisor(answer(Spouts::Active, None)));
        assert_eq!(control.step(ms(10), &waits, activate()), []);
        let starts = [Effect::Activate, report(2, Stage::Ready, Spouts::Active, false)];
        assert_eq!(control.step(ms(20), &ready(), None), starts);
        // To hear it again, or a peer that has gone, changes nothing.
        assert_eq!(control.step(ms(30), &Seen::default(), activate()), []);
        let stops = [Effect::Deactivate, report(3, Stage::Ready, Spouts::Inactive, false)];
        let deactivate = Event::Supervisor(answer(Spouts::Inactive, None));
        assert_eq!(control.step(ms(40), &busy(), Some(deactivate)), stops);
        assert_eq!(control.next_step(ms(40), &busy()), ms(50));
        assert_eq!(control.step(ms(50), &ready(), None), [report(4, Stage::Ready, Spouts::Inactive, true)]);
        assert_eq!(control.next_step(ms(50), &ready()), ms(1050));
    }

    #[test]
    fn it_reports_each_second_at_least_and_for_a_newer_plan_at_once() {
        let mut control = active();
        assert_eq!(control.next_step(ms(0), &busy()), ms(1000));
        assert_eq!(control.step(ms(999), &busy(), None), []);
        assert_eq!(control.step(ms(1000), &busy(), None), [report(2, Stage::Ready, Spouts::Active, false)]);
        let newer = Seen { newer_plan: Some(PlanVersion(3)), ..busy() };
        assert_eq!(control.step(ms(1100), &newer, None), [report(3, Stage::Ready, Spouts::Active, false)]);
        assert_eq!(control.step(ms(1200), &newer, None), []);
        let ended = Seen { ended: true, ..newer };
        assert_eq!(control.step(ms(1300), &ended, None), [report(4, Stage::Ended, Spouts::Active, false)]);
    }

    #[test]
    fn nimbus_hears_it_every_two_seconds_while_the_supervisor_is_silent() {
        let mut control = active();
        let mut told = Vec::new();
        for second in 1..=8 {
            for effect in control.step(ms(1000 * second), &busy(), None) {
                if matches!(effect, Effect::Report { to_nimbus: true, .. }) {
                    told.push(second);
                }
            }
        }
        assert_eq!(told, [3, 5, 7]);
        // Its answer counts, until the Supervisor speaks.
        let inactive = || answer(Spouts::Inactive, None);
        let effects = control.step(ms(8100), &busy(), Some(Event::Nimbus(inactive())));
        assert_eq!(effects, [Effect::Deactivate, report(10, Stage::Ready, Spouts::Inactive, false)]);
        let effects = control.step(ms(8200), &busy(), Some(Event::Supervisor(answer(Spouts::Active, None))));
        assert_eq!(effects, [Effect::Activate, report(11, Stage::Ready, Spouts::Active, false)]);
        assert_eq!(control.step(ms(8300), &busy(), Some(Event::Nimbus(inactive()))), []);
    }

    #[test]
    fn it_drains_for_a_signal_until_nothing_is_pending_or_the_time_is_over() {
        for (seen, stops_at) in [(busy(), ms(2000)), (ready(), ms(500))] {
            let mut control = active();
            let effects = control.step(ms(0), &busy(), Some(Event::Signal));
            let draining = report(2, Stage::Draining, Spouts::Inactive, false);
            assert_eq!(effects, [Effect::Drain("it was told to stop"), Effect::Deactivate, draining]);
            assert_eq!(control.next_step(ms(0), &busy()), ms(10));
            let effects = control.step(stops_at - ms(1), &busy(), None);
            assert!(!effects.contains(&Effect::Stop), "{effects:?}");
            // Whatever it is told then.
            let effects = control.step(stops_at, &seen, Some(Event::Supervisor(answer(Spouts::Active, None))));
            assert_eq!(effects.last(), Some(&Effect::Stop));
        }
    }

    #[test]
    fn a_second_signal_ends_it() {
        let mut control = active();
        control.step(ms(0), &busy(), Some(Event::Signal));
        assert_eq!(control.step(ms(1), &busy(), Some(Event::Signal)), [Effect::End]);
    }

    #[test]
    fn the_first_signal_to_one_whose_slot_is_gone_does_not_end_it() {
        let mut control = active();
        control.step(
            ms(0),
            &busy(),
            Some(Event::Supervisor(Answer { slot: Slot::Gone, ..answer(Spouts::Active, None) })),
        );
        let effects = control.step(ms(1), &busy(), Some(Event::Signal));
        assert!(!effects.contains(&Effect::End), "{effects:?}");
        assert_eq!(control.step(ms(2), &busy(), Some(Event::Signal)), [Effect::End]);
    }

    #[test]
    fn after_a_fatal_error_it_stays_and_its_spouts_are_asked_no_more() {
        let fatal = Fatal { component: "count".to_owned(), error: "no disk".to_owned() };
        let seen = Seen { fatal: Some(fatal.clone()), ..busy() };
        let mut control = active();
        let head = Head {
            number: 2,
            placement: PlanVersion(1),
            stage: Stage::Ready,
            spouts: Spouts::Inactive,
            drained: false,
            revision: Revision(1),
            fatal: Some(fatal.clone()),
        };
        let report = Effect::Report { head, to_nimbus: false };
        assert_eq!(control.step(ms(100), &seen, None), [Effect::Failed(fatal), Effect::Deactivate, report]);
        let told = control.step(ms(200), &seen, Some(Event::Supervisor(answer(Spouts::Active, None))));
        assert_eq!(told, []);
    }

    #[test]
    fn a_later_plan_is_followed_unless_it_needs_another_worker() {
        let told = |placement: Placement| {
            let mut control = active();
            let effects =
                control.step(ms(1), &busy(), Some(Event::Supervisor(answer(Spouts::Active, Some(placement)))));
            effects.into_iter().next()
        };
        // The peer's slot is elsewhere.
        let moved = placement(2, [2, 1], [1, 2]);
        assert_eq!(told(moved.clone()), Some(Effect::Placed(moved)));
        assert_eq!(told(placement(1, [2, 1], [1, 2])), None);
        let own = Effect::Drain("a later plan has changed its slot");
        assert_eq!(told(placement(2, [1, 2], [1, 2])), Some(own.clone()));
        assert_eq!(told(placement(2, [1, 1], [1, 3])), Some(own));
        let others = Effect::Drain("a later plan has moved tasks of its peers, which it must be started anew for");
        assert_eq!(told(placement(2, [2, 1], [3, 2])), Some(others.clone()));
        let mut more = placement(2, [1, 1], [1, 2]);
        more.plan.workers.push(SlotPlan { version: PlanVersion(2), executors: Vec::new() });
        assert_eq!(told(more), Some(others));
    }

    #[test]
    fn it_says_which_record_it_has_heard_of_and_obeys_no_older_one() {
        let mut control = active();
        let newer = Answer { revision: Revision(3), ..answer(Spouts::Inactive, None) };
        let effects = control.step(ms(1), &busy(), Some(Event::Supervisor(newer)));
        let head = match &effects[..] {
            [Effect::Deactivate, Effect::Report { head, .. }] => head,
            other => panic!("{other:?}"),
        };
        assert_eq!((head.spouts, head.drained, head.revision), (Spouts::Inactive, false, Revision(3)));
        let older = Answer { revision: Revision(2), ..answer(Spouts::Active, None) };
        assert_eq!(control.step(ms(2), &busy(), Some(Event::Supervisor(older))), []);
    }

    #[test]
    fn lives_that_are_gone_are_passed_on_and_a_lost_slot_is_left() {
        let mut control = active();
        let life = Life { plan: PlanVersion(1), incarnation: Incarnation(4) };
        let gone = GoneLife { worker: WorkerIndex(0), life };
        let answer = Answer { slot: Slot::Gone, gone: vec![gone], ..answer(Spouts::Active, None) };
        let effects = control.step(ms(1), &busy(), Some(Event::Supervisor(answer)));
        assert_eq!(effects[..2], [Effect::Gone(gone), Effect::Drain("its slot is another's")]);
    }
}
