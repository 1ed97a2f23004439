//! How much may be under way to each task: permits in tuples and bytes, as totals since the link began.
//!
//! A receiver grants a window for each of its tasks and counts on as the task consumes; a sender counts what it sent.
//! Totals, not differences: a grant that is seen twice or late does no harm. A sender that has room in both units may
//! send one batch of any size, so a batch larger than the window passes once everything before it was consumed.
//!
//! Not here: who waits for room (`connection`). Invariant: the sender of a batch had sent less than it was granted, and
//! once everything sent is consumed there is room again.

use std::collections::BTreeMap;

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

    /// Takes a grant; whether it made room where there was none.
    pub fn grant(&mut self, grant: Grant) -> bool {
        let permit = self.tasks.entry(grant.task).or_default();
        let had_room = permit.has_room();
        permit.granted.tuples = permit.granted.tuples.max(grant.tuples);
        permit.granted.bytes = permit.granted.bytes.max(grant.bytes);
        !had_room && permit.has_room()
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
        self.granted = self.grantable(window);
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
