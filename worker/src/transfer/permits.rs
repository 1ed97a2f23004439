//! How much may be under way to each task: permits in tuples and bytes, as totals since the link began.
//!
//! A receiver grants a window for each of its tasks and counts on as the task consumes; a sender counts what it sent.
//! Totals, not differences: a grant that is seen twice or late does no harm. A sender that has room in both units may
//! send one batch of any size, so a batch larger than the window passes once everything before it was consumed.
//!
//! Not here: who waits for room (`connection`). Invariant: the sender of a batch had sent less than it was granted, and
//! once everything sent is consumed there is room again.

use std::collections::BTreeMap;

use mutations::Mutation;
use topology_api::ids::TaskId;

use super::frame::Grant;

/// An amount in both units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Tuples.
    pub tuples: u64,
    /// Bytes of encoded tuples.
    pub bytes: u64,
}

impl Amount {
    fn plus(self, other: Amount) -> Amount {
        Amount { tuples: self.tuples.saturating_add(other.tuples), bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn minus(self, other: Amount) -> Amount {
        Amount { tuples: self.tuples.saturating_sub(other.tuples), bytes: self.bytes.saturating_sub(other.bytes) }
    }

    fn least(self, other: Amount) -> Amount {
        Amount { tuples: self.tuples.min(other.tuples), bytes: self.bytes.min(other.bytes) }
    }
}

/// The sender's side, for all tasks of one peer.
#[derive(Debug, Default)]
pub struct Permits {
    tasks: BTreeMap<TaskId, Permit>,
}

#[derive(Debug, Default)]
struct Permit {
    granted: Amount,
    sent: Amount,
}

impl Permit {
    fn has_room(&self) -> bool {
        self.sent.tuples < self.granted.tuples && self.sent.bytes < self.granted.bytes
    }
}

impl Permits {
    /// Whether a batch may be sent to `task`; never before the first grant for it.
    pub fn has_room(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(Permit::has_room)
    }

    /// Counts a batch that is sent to `task`. A sender that did not ask for room first overdraws, and waits longer later.
    pub fn send(&mut self, task: TaskId, amount: Amount) {
        let permit = self.tasks.entry(task).or_default();
        permit.sent = permit.sent.plus(amount);
    }

    /// Takes a permit for an ack, as `Mutation::AckWaitsForCredit` has it; whether there was one. No executor consumes an
    /// ack, so none is granted in its place.
    pub fn take_for_ack(&mut self) -> bool {
        let permit = self.tasks.values_mut().next().filter(|permit| permit.has_room());
        permit.map(|permit| permit.sent.tuples += 1).is_some()
    }

    /// Takes a grant; whether it made room where there was none.
    pub fn grant(&mut self, grant: Grant) -> bool {
        let permit = self.tasks.entry(grant.task).or_default();
        let had_room = permit.has_room();
        if mutations::on(Mutation::GrantAsIncrement) {
            permit.granted = permit.granted.plus(Amount { tuples: grant.tuples, bytes: grant.bytes });
            return !had_room && permit.has_room();
        }
        permit.granted.tuples = permit.granted.tuples.max(grant.tuples);
        permit.granted.bytes = permit.granted.bytes.max(grant.bytes);
        !had_room && permit.has_room()
    }

    /// What all tasks have granted together since the link began.
    pub fn granted(&self) -> Amount {
        self.tasks.values().fold(Amount::default(), |sum, permit| sum.plus(permit.granted))
    }

    /// The link begins anew: nothing is granted and nothing sent.
    pub fn renew(&mut self) {
        self.tasks.clear();
    }
}

/// The receiver's side, for all tasks of this worker that the peer may send to.
#[derive(Debug)]
pub struct Windows {
    window: Amount,
    tasks: BTreeMap<TaskId, Window>,
}

#[derive(Debug, Default)]
struct Window {
    received: Amount,
    consumed: Amount,
    granted: Amount,
    /// Received before the link began anew and not consumed yet: it still takes its place in the inbox.
    stale: Amount,
}

impl Window {
    fn grantable(&self, window: Amount) -> Amount {
        self.consumed.plus(window.minus(self.stale))
    }

    fn grant(&mut self, task: TaskId, window: Amount) -> Grant {
        let grantable = self.grantable(window);
        let before = std::mem::replace(&mut self.granted, grantable);
        if mutations::on(Mutation::GrantAsIncrement) {
            let more = self.granted.minus(before);
            return Grant { task, tuples: more.tuples, bytes: more.bytes };
        }
        Grant { task, tuples: self.granted.tuples, bytes: self.granted.bytes }
    }
}

impl Windows {
    /// Windows of this size, at least 1 in each unit, for each of `tasks`.
    pub fn new(window: Amount, tasks: impl IntoIterator<Item = TaskId>) -> Self {
        let window = Amount { tuples: window.tuples.max(1), bytes: window.bytes.max(1) };
        Windows { window, tasks: tasks.into_iter().map(|task| (task, Window::default())).collect() }
    }

    /// Counts what has arrived for `task`.
    pub fn receive(&mut self, task: TaskId, amount: Amount) {
        if let Some(window) = self.tasks.get_mut(&task) {
            window.received = window.received.plus(amount);
        }
    }

    /// Counts what `task` has consumed; the grant that is due, once half a window was consumed since the last one.
    pub fn consume(&mut self, task: TaskId, amount: Amount) -> Option<Grant> {
        let size = self.window;
        let window = self.tasks.get_mut(&task)?;
        let stale = window.stale.least(amount);
        window.stale = window.stale.minus(stale);
        window.consumed = window.consumed.plus(amount.minus(stale));
        let more = window.grantable(size).minus(window.granted);
        let due = more.tuples >= size.tuples.div_ceil(2) || more.bytes >= size.bytes.div_ceil(2);
        due.then(|| window.grant(task, size))
    }

    /// What was granted for all tasks together since the link began.
    pub fn granted(&self) -> Amount {
        self.tasks.values().fold(Amount::default(), |sum, window| sum.plus(window.granted))
    }

    /// The link begins anew: the first grants, one for each task.
    pub fn renew(&mut self) -> Vec<Grant> {
        let size = self.window;
        let renew = |(task, window): (&TaskId, &mut Window)| {
            let stale = window.stale.plus(window.received.minus(window.consumed));
            *window = Window { stale, ..Window::default() };
            window.grant(*task, size)
        };
        self.tasks.iter_mut().map(renew).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const TASK: TaskId = TaskId(4);

    fn amount(tuples: u64, bytes: u64) -> Amount {
        Amount { tuples, bytes }
    }

    fn grant(tuples: u64, bytes: u64) -> Grant {
        Grant { task: TASK, tuples, bytes }
    }

    #[test]
    fn there_is_no_room_before_the_first_grant() {
        let mut permits = Permits::default();
        assert!(!permits.has_room(TASK));
        assert!(permits.grant(grant(2, 100)), "room where there was none");
        assert!(!permits.grant(grant(4, 200)), "there was room already");
        assert!(permits.has_room(TASK));
        assert!(!permits.has_room(TaskId(5)));
    }

    #[test]
    fn room_ends_in_either_unit() {
        let check = |sent: Amount, expected: bool| {
            let mut permits = Permits::default();
            permits.grant(grant(10, 100));
            permits.send(TASK, sent);
            assert_eq!(permits.has_room(TASK), expected, "{sent:?}");
        };
        check(amount(9, 99), true);
        check(amount(10, 1), false);
        check(amount(1, 100), false);
        check(amount(1, 1000), false);
    }

    #[test]
    fn an_older_grant_takes_nothing_back() {
        let mut permits = Permits::default();
        permits.grant(grant(10, 100));
        permits.grant(grant(5, 50));
        assert_eq!(permits.granted(), amount(10, 100));
        permits.send(TASK, amount(5, 50));
        assert!(permits.has_room(TASK));
    }

    #[test]
    fn a_grant_is_due_when_half_a_window_was_consumed() {
        let mut windows = Windows::new(amount(10, 1000), [TASK]);
        assert_eq!(windows.renew(), [grant(10, 1000)]);
        windows.receive(TASK, amount(10, 100));
        assert_eq!(windows.consume(TASK, amount(4, 40)), None);
        assert_eq!(windows.consume(TASK, amount(1, 10)), Some(grant(15, 1050)));
        assert_eq!(windows.granted(), amount(15, 1050));
        assert_eq!(windows.consume(TASK, amount(4, 40)), None);
        windows.receive(TASK, amount(1, 500));
        assert_eq!(windows.consume(TASK, amount(0, 500)), Some(grant(19, 1590)));
        assert_eq!(windows.consume(TaskId(5), amount(10, 100)), None, "no task of this worker");
    }

    #[test]
    fn what_an_earlier_life_left_in_the_inbox_takes_its_place_in_the_window() {
        let mut windows = Windows::new(amount(10, 1000), [TASK]);
        windows.renew();
        windows.receive(TASK, amount(8, 800));
        assert_eq!(windows.renew(), [grant(2, 200)]);
        windows.receive(TASK, amount(2, 200));
        // The eight are not the new life's: they are consumed before its own.
        assert_eq!(windows.consume(TASK, amount(8, 800)), Some(grant(10, 1000)));
        assert_eq!(windows.consume(TASK, amount(2, 200)), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send(Amount),
        Arrive,
        Consume,
        Hear,
        HearAgain,
        Renew,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u64..40, 0u64..4000).prop_map(|(tuples, bytes)| Step::Send(amount(tuples, bytes))),
            3 => Just(Step::Arrive),
            3 => Just(Step::Consume),
            2 => Just(Step::Hear),
            1 => Just(Step::HearAgain),
            1 => Just(Step::Renew),
        ]
    }

    proptest! {
        #[test]
        fn what_is_under_way_is_bounded_and_nothing_stalls(
            window in (1u64..30, 1u64..3000).prop_map(|(tuples, bytes)| amount(tuples, bytes)),
            steps in prop::collection::vec(any_step(), 0..200),
        ) {
            let mut windows = Windows::new(window, [TASK]);
            let mut permits = Permits::default();
            // On the wire, in the inbox, and on the wire back.
            let (mut wire, mut inbox) = (VecDeque::new(), VecDeque::<Amount>::new());
            let mut grants: VecDeque<Grant> = windows.renew().into();
            let mut heard = Vec::new();
            let largest = amount(39, 3999);
            for step in steps {
                match step {
                    Step::Send(amount) if permits.has_room(TASK) => {
                        permits.send(TASK, amount);
                        wire.push_back(amount);
                    }
                    Step::Send(_) => {}
                    Step::Arrive => if let Some(amount) = wire.pop_front() {
                        windows.receive(TASK, amount);
                        inbox.push_back(amount);
                    },
                    Step::Consume => if let Some(amount) = inbox.pop_front() {
                        grants.extend(windows.consume(TASK, amount));
                    },
                    Step::Hear => if let Some(grant) = grants.pop_front() {
                        heard.push(grant);
                        permits.grant(grant);
                    },
                    Step::HearAgain => heard.iter().for_each(|grant| { permits.grant(*grant); }),
                    Step::Renew => {
                        wire.clear();
                        heard.clear();
                        permits.renew();
                        grants = windows.renew().into();
                    }
                }
                // A window, and the last batch that went over it: also while two lives' batches lie in the inbox.
                let under_way = wire.iter().chain(&inbox).fold(Amount::default(), |sum, next| sum.plus(*next));
                prop_assert!(under_way.tuples < window.tuples + 2 * largest.tuples, "{under_way:?}");
                prop_assert!(under_way.bytes < window.bytes + 2 * largest.bytes, "{under_way:?}");
            }
            for amount in wire {
                windows.receive(TASK, amount);
                inbox.push_back(amount);
            }
            for amount in inbox {
                grants.extend(windows.consume(TASK, amount));
            }
            for grant in grants {
                permits.grant(grant);
            }
            prop_assert!(permits.has_room(TASK), "all is consumed, but nothing may be sent");
            prop_assert_eq!(permits.granted(), windows.granted());
        }
    }
}
