//! The owner's side of a ledger: which slots are free, which roots are pending, and how each of them ends.
//!
//! Not here: message ids (the spout's executor keeps them by slot), time (it is passed in, in microseconds of any origin),
//! what other threads do to a slot (`ledger`). Invariant: each slot in use is either free or holds one pending root, and
//! every root that was opened is reported in one [`Ended`] once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mutations::Mutation;
use topology_api::anchor::{Anchor, Edge, EdgeIds, Root, Slot};
use topology_api::fail::{FailKind, FailReason};

use super::ledger::{Ledger, Outcomes, worker_of_bit};
use super::word::Ending;

/// A root that was acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Its slot, which is free again.
    pub slot: Slot,
    /// Microseconds from opening to here, modulo 2³² (some 71 minutes).
    pub latency_us: u32,
}

/// A root that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The root; its slot is free again.
    pub root: Root,
    /// Why.
    pub reason: FailReason,
}

/// Roots that ended, for the spout. Who reads it empties it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Those that were acked.
    pub acked: Vec<Acked>,
    /// Those that failed.
    pub failed: Vec<Failed>,
}

/// What happened to the roots of a ledger since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingCounts {
    /// Roots opened.
    pub emitted: u64,
    /// Roots acked.
    pub acked: u64,
    /// Roots failed, by kind.
    pub failed: BTreeMap<FailKind, u64>,
    /// Outcomes dropped because the root had ended by another.
    pub stale: u64,
}

/// The pending roots of one spout task. A ledger has one owner.
pub struct Pending {
    ledger: Arc<Ledger>,
    /// Slots below this number have been used.
    used: u32,
    /// Ended slots, oldest first.
    free: VecDeque<u32>,
    held: usize,
    counts: PendingCounts,
    audit: Option<Audit>,
    /// Edges that are not in their root's word yet; none without `Mutation::EdgeByEdge`.
    late: Vec<(Root, Edge)>,
}

impl Pending {
    /// The owner of a new ledger. A root whose word stands still for `stall_us` microseconds fails in [`Pending::audit`];
    /// `None`: never.
    pub fn new(ledger: Arc<Ledger>, stall_us: Option<u64>) -> Self {
        let audit = stall_us.map(|period| Audit::new(period, ledger.slots()));
        Pending {
            ledger,
            used: 0,
            free: VecDeque::new(),
            held: 0,
            counts: PendingCounts::default(),
            audit,
            late: Vec::new(),
        }
    }

    /// The ledger.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Opens up to `count` roots of one tuple each: gives each a fresh edge, the whole of its word, and appends its anchor.
    /// Returns how many; fewer when slots run out. Nobody may see an anchor before this returns.
    pub fn open(&mut self, count: usize, now: u64, edges: &mut EdgeIds, anchors: &mut Vec<Anchor>) -> usize {
        let again = count.min(self.free.len());
        let fresh = (count - again).min((self.ledger.slots() - self.used) as usize) as u32;
        let slots = self.free.drain(..again).chain(self.used..self.used + fresh);
        let crosses = self.ledger.crosses();
        anchors.extend(slots.map(|slot| {
            let edge = edges.draw();
            Anchor { root: open(&self.ledger, slot, edge, now, crosses), edge }
        }));
        self.used += fresh;
        let opened = again + fresh as usize;
        self.counts.emitted += opened as u64;
        opened
    }

    /// Opens a root that begins with several tuples, or with none; `None` when slots run out. [`Pending::set_word`] follows.
    pub fn open_one(&mut self, now: u64) -> Option<Root> {
        let slot = self.free.pop_front().or_else(|| (self.used < self.ledger.slots()).then_some(self.used))?;
        self.used = self.used.max(slot + 1);
        self.counts.emitted += 1;
        Some(open(&self.ledger, slot, Edge(OPENING), now, self.ledger.crosses()))
    }

    /// Sets the word of a root from [`Pending::open_one`] before anybody sees one of its tuples: the XOR of all their edges.
    /// Zero, as there are no tuples: the root is complete, and the next outcomes say so.
    pub fn set_word(&mut self, root: Root, word: Edge) {
        if word.0 == 0 {
            self.ledger.hand_over(&mut vec![root]);
        } else if let Some((slot, _)) = self.ledger.find(root) {
            if mutations::on(Mutation::EdgeByEdge) && slot.look().is_some_and(|(_, word)| word != OPENING) {
                return self.late.push((root, word));
            }
            slot.set(word.0);
        }
    }

    /// Adds the edges that `Mutation::EdgeByEdge` has kept back.
    pub fn add_late(&mut self) {
        let mut completed = Vec::new();
        for (root, edge) in self.late.drain(..) {
            self.ledger.settle_one(root, edge.0, &mut completed);
        }
        self.ledger.hand_over(&mut completed);
    }

    /// Ends the roots that `outcomes` tells of, for good and for the first time, and empties it.
    pub fn take(&mut self, outcomes: &mut Outcomes, now: u64, ended: &mut Ended) {
        // Of a fail and an ack that came since the last time the fail counts: a replay is better than a loss.
        for (root, reason) in outcomes.failed.drain(..) {
            self.fail(root, reason, ended);
        }
        for mut root in outcomes.completed.drain(..) {
            if mutations::on(Mutation::CompletionByIndexAlone) {
                root = self.pending_root(root.slot().0).unwrap_or(root);
            }
            match self.end(root) {
                Some(Ending { stamp, .. }) => {
                    ended.acked.push(Acked { slot: root.slot(), latency_us: (now as u32).wrapping_sub(stamp) });
                    self.counts.acked += 1;
                }
                None => self.counts.stale += 1,
            }
        }
        for root in outcomes.held.drain(..) {
            let counted = self.ledger.find(root).is_some_and(|(slot, generation)| slot.count_held(generation));
            self.held += usize::from(counted);
        }
        let lost = std::mem::take(&mut outcomes.lost);
        if lost != 0 {
            self.fail_lost(lost, ended);
        }
    }

    /// Fails every pending root, as when the topology is stopped.
    pub fn fail_all(&mut self, reason: &FailReason, ended: &mut Ended) {
        for slot in 0..self.used {
            if let Some(root) = self.pending_root(slot) {
                self.fail(root, reason.clone(), ended);
            }
        }
    }

    /// The last net: fails as [`FailKind::Stalled`] the roots whose words have stood still for the period given to
    /// [`Pending::new`]; those that a bolt holds on purpose are left alone as long as it says so once a period. Looks at a part of the slots, by the time since
    /// the last call; to be called at least sixteen times a period. After a longer pause (the process slept) it begins
    /// anew, as nothing could move meanwhile.
    pub fn audit(&mut self, now: u64, ended: &mut Ended) {
        let Some(audit) = &mut self.audit else { return };
        let mut stalled = Vec::new();
        audit.advance(now, self.used, |slot, before| {
            let (generation, word) = self.ledger.slot(slot).look()?;
            if !self.ledger.doubt_hold(slot, generation) && before == Some(word) {
                stalled.push(self.ledger.root(slot, generation));
            }
            Some(word)
        });
        for root in stalled {
            self.fail(root, FailReason::new(FailKind::Stalled, "", format!("root {root}")), ended);
        }
    }

    /// Roots that have not ended.
    pub fn pending(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// Those of them that a bolt holds on purpose: they do not count against the window.
    pub fn held(&self) -> usize {
        self.held
    }

    /// What happened since the ledger began.
    pub fn counts(&self) -> &PendingCounts {
        &self.counts
    }

    fn fail_lost(&mut self, lost: u64, ended: &mut Ended) {
        if !self.ledger.crosses() {
            return;
        }
        for slot in 0..self.used {
            let bit = (self.ledger.mask(slot) & lost).trailing_zeros();
            if bit < u64::BITS
                && let Some(root) = self.pending_root(slot)
            {
                self.fail(root, FailReason::new(FailKind::WorkerLost, worker_of_bit(bit).to_string(), ""), ended);
            }
        }
    }

    fn pending_root(&self, slot: u32) -> Option<Root> {
        let (generation, _) = self.ledger.slot(slot).look()?;
        Some(self.ledger.root(slot, generation))
    }

    fn fail(&mut self, root: Root, reason: FailReason, ended: &mut Ended) {
        if self.end(root).is_none() {
            self.counts.stale += 1;
            return;
        }
        *self.counts.failed.entry(reason.kind).or_default() += 1;
        ended.failed.push(Failed { root, reason });
    }

    /// The only place where a root ends.
    #[inline]
    fn end(&mut self, root: Root) -> Option<Ending> {
        let (slot, generation) = self.ledger.find(root)?;
        let ending = slot.end(generation)?;
        self.free.push_back(root.slot().0);
        self.held -= usize::from(ending.held);
        Some(ending)
    }
}

/// The word of a root between [`Pending::open_one`] and [`Pending::set_word`]; nobody else knows the root yet.
const OPENING: u64 = u64::MAX;

#[inline]
fn open(ledger: &Ledger, slot: u32, word: Edge, now: u64, crosses: bool) -> Root {
    if crosses {
        ledger.forget_mask(slot);
    }
    let generation = ledger.slot(slot).open(word.0, now as u32);
    ledger.root(slot, generation)
}

/// A slow round over all slots that remembers each word for the next round.
struct Audit {
    period: u64,
    slots: u64,
    /// When the round in progress began, and the visits since then: the cursor is at `visits`, modulo `slots`.
    since: Option<u64>,
    visits: u64,
    /// By slot: the word of the last round; zero where the slot was free.
    words: Vec<u64>,
}

impl Audit {
    /// A period is cut in so many parts: a longer pause than one part begins the audit anew.
    const PARTS: u64 = 16;

    fn new(period: u64, slots: u32) -> Self {
        Audit { period: period.max(Self::PARTS), slots: u64::from(slots), since: None, visits: 0, words: Vec::new() }
    }

    /// Visits the slots that are due at `now`: `look` is given the slot and its word of one period ago, and returns the
    /// word of now.
    fn advance(&mut self, now: u64, used: u32, mut look: impl FnMut(u32, Option<u64>) -> Option<u64>) {
        let since = *self.since.get_or_insert(now);
        let due = u128::from(now.saturating_sub(since)) * u128::from(self.slots) / u128::from(self.period);
        // The round is over all slots a ledger may have, so that each is seen at its own time of a period however many are
        // in use.
        let due = due as u64;
        if due - self.visits > self.slots / Self::PARTS + 1 {
            self.since = Some(now);
            self.visits = 0;
            self.words.clear();
            return;
        }
        while self.visits < due {
            let slot = self.visits % self.slots;
            if slot >= u64::from(used) {
                // None is in use up to the end of the round.
                self.visits = due.min(self.visits - slot + self.slots);
                continue;
            }
            let at = slot as usize;
            if self.words.len() <= at {
                self.words.resize(at + 1, 0);
            }
            let before = Some(self.words[at]).filter(|word| *word != 0);
            self.words[at] = look(slot as u32, before).unwrap_or(0);
            self.visits += 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use topology_api::anchor::{Generation, LedgerId};

    use super::*;
    use crate::acking::{AckRecord, StaleCounts};

    const ID: LedgerId = LedgerId(7);
    const FIRST: Generation = Generation(Root::GENERATIONS - 2);

    struct Spout {
        pending: Pending,
        edges: EdgeIds,
        outcomes: Outcomes,
    }

    fn spout(slots: u32, stall_us: Option<u64>) -> Spout {
        let ledger = Arc::new(Ledger::new(ID, slots, FIRST));
        Spout {
            pending: Pending::new(ledger, stall_us),
            edges: EdgeIds::from_key([1; 32]),
            outcomes: Outcomes::default(),
        }
    }

    impl Spout {
        fn open(&mut self, count: usize, now: u64) -> Vec<Anchor> {
            let mut anchors = Vec::new();
            assert_eq!(self.pending.open(count, now, &mut self.edges, &mut anchors), anchors.len());
            anchors
        }

        fn ack(&self, anchors: &[Anchor]) {
            let mut completed = Vec::new();
            self.pending.ledger().settle(anchors, &mut completed);
            self.pending.ledger().hand_over(&mut completed);
            assert_eq!(completed, []);
        }

        fn fail(&self, root: Root, kind: FailKind) {
            self.pending.ledger().fail(root, FailReason::new(kind, "bolt", ""));
        }

        fn take(&mut self, now: u64) -> Ended {
            let mut ended = Ended::default();
            let mut context = Context::from_waker(Waker::noop());
            if self.pending.ledger().clone().poll_outcomes(&mut context, &mut self.outcomes).is_ready() {
                self.pending.take(&mut self.outcomes, now, &mut ended);
            }
            ended
        }

        fn audit(&mut self, now: u64) -> Ended {
            let mut ended = Ended::default();
            self.pending.audit(now, &mut ended);
            ended
        }
    }

    fn slots(anchors: &[Anchor]) -> Vec<u32> {
        anchors.iter().map(|anchor| anchor.root.slot().0).collect()
    }

    fn acked(ended: &Ended) -> Vec<(u32, u32)> {
        assert_eq!(ended.failed, []);
        ended.acked.iter().map(|acked| (acked.slot.0, acked.latency_us)).collect()
    }

    fn failed(ended: &Ended) -> Vec<(Root, FailKind)> {
        assert_eq!(ended.acked, []);
        ended.failed.iter().map(|failed| (failed.root, failed.reason.kind)).collect()
    }

    #[test]
    fn a_single_tuple_is_acked_with_its_latency() {
        let mut spout = spout(4, None);
        let anchors = spout.open(2, u64::from(u32::MAX) - 10);
        assert_eq!((slots(&anchors), spout.pending.pending()), (vec![0, 1], 2));
        spout.ack(&anchors[1..]);
        assert_eq!(acked(&spout.take(u64::from(u32::MAX) + 90)), [(1, 100)]);
        assert_eq!(spout.pending.pending(), 1);
        assert_eq!((spout.pending.counts().emitted, spout.pending.counts().acked), (2, 1));
    }

    #[test]
    fn freed_slots_are_used_again_oldest_first_and_before_new_ones() {
        let mut spout = spout(5, None);
        let anchors = spout.open(4, 0);
        spout.ack(&[anchors[2], anchors[0], anchors[3]]);
        assert_eq!(acked(&spout.take(0)), [(2, 0), (0, 0), (3, 0)]);
        assert_eq!(slots(&spout.open(1, 0)), [2]);
        assert_eq!(slots(&spout.open(9, 0)), [0, 3, 4]);
        assert_eq!(spout.pending.open_one(0), None);
    }

    #[test]
    fn the_generation_rises_at_each_end_and_wraps() {
        let mut spout = spout(1, None);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let anchors = spout.open(1, 0);
            seen.push(anchors[0].root.generation().0);
            spout.ack(&anchors);
            assert_eq!(acked(&spout.take(0)), [(0, 0)]);
        }
        assert_eq!(seen, [Root::GENERATIONS - 2, Root::GENERATIONS - 1, 0, 1]);
    }

    #[test]
    fn a_root_of_several_tuples_waits_for_all_of_them() {
        let mut spout = spout(4, None);
        let root = spout.pending.open_one(5).unwrap();
        let edges = [Edge(0b0110), Edge(0b0011), Edge(0b1000)];
        spout.pending.set_word(root, Edge(0b1101));
        for edge in edges {
            assert_eq!(spout.take(9), Ended::default());
            spout.ack(&[Anchor { root, edge }]);
        }
        assert_eq!(acked(&spout.take(9)), [(0, 4)]);
    }

    #[test]
    fn an_emit_that_reaches_nobody_is_complete_at_once() {
        let mut spout = spout(4, None);
        let root = spout.pending.open_one(5).unwrap();
        spout.pending.set_word(root, Edge(0));
        assert_eq!(acked(&spout.take(5)), [(0, 0)]);
    }

    #[test]
    fn the_first_outcome_wins_and_later_ones_are_stale() {
        let mut spout = spout(4, None);
        let anchors = spout.open(2, 0);
        spout.fail(anchors[0].root, FailKind::TimedOut);
        spout.fail(anchors[0].root, FailKind::Failed);
        spout.ack(&anchors[1..]);
        let ended = spout.take(0);
        assert_eq!(ended.acked, [Acked { slot: Slot(1), latency_us: 0 }]);
        assert_eq!(
            ended.failed,
            [Failed { root: anchors[0].root, reason: FailReason::new(FailKind::TimedOut, "bolt", "") }]
        );
        spout.ack(&anchors);
        spout.fail(anchors[1].root, FailKind::Failed);
        assert_eq!(spout.take(0), Ended::default());
        assert_eq!(spout.pending.counts().failed, BTreeMap::from([(FailKind::TimedOut, 1)]));
        assert_eq!(spout.pending.ledger().stale(), StaleCounts { acks: 2, fails: 2 });
    }

    #[test]
    fn a_fail_wins_over_an_ack_in_the_same_turn() {
        let mut spout = spout(4, None);
        let anchors = spout.open(1, 0);
        spout.ack(&anchors);
        spout.fail(anchors[0].root, FailKind::TimedOut);
        assert_eq!(failed(&spout.take(0)), [(anchors[0].root, FailKind::TimedOut)]);
        assert_eq!(spout.pending.counts().stale, 1);
    }

    #[test]
    fn what_belongs_to_no_slot_of_this_ledger_is_stale() {
        let mut spout = spout(4, None);
        let anchors = spout.open(1, 0);
        let foreign = Root::new(LedgerId(8), anchors[0].root.slot(), anchors[0].root.generation());
        let unused = Root::new(ID, Slot(1), FIRST);
        let outside = Root::new(ID, Slot(4), FIRST);
        for root in [foreign, unused, outside, Root::NONE, Anchor::many(0).root] {
            spout.ack(&[Anchor { root, edge: anchors[0].edge }]);
            spout.fail(root, FailKind::Failed);
            spout.pending.ledger().held(&[root]);
            spout.pending.ledger().settle_remote(&[AckRecord { root, edge: 0, mask: 1 }]);
        }
        assert_eq!(spout.take(0), Ended::default());
        assert_eq!(spout.pending.ledger().stale(), StaleCounts { acks: 10, fails: 5 });
    }

    #[test]
    fn a_lost_worker_fails_exactly_the_roots_that_touched_it() {
        let mut spout = spout(8, None);
        let ledger = spout.pending.ledger().clone();
        let anchors = spout.open(4, 0);
        ledger.touch(anchors[0].root, 0b010);
        ledger.touch(anchors[1].root, 0b100);
        ledger.settle_remote(&[AckRecord { root: anchors[2].root, edge: 0, mask: 0b110 }]);
        ledger.lost(0b010);
        let ended = spout.take(0);
        assert_eq!(failed(&ended), [(anchors[0].root, FailKind::WorkerLost), (anchors[2].root, FailKind::WorkerLost)]);
        assert_eq!(ended.failed[0].reason.to_string(), "worker 0 is gone");
        // The next roots of the same slots have been nowhere yet.
        let again = spout.open(2, 0);
        assert_eq!(slots(&again), [0, 2]);
        ledger.touch(anchors[0].root, 0b010);
        ledger.lost(0b010);
        assert_eq!(spout.take(0), Ended::default());
        ledger.lost(0b100);
        assert_eq!(failed(&spout.take(0)), [(anchors[1].root, FailKind::WorkerLost)]);
    }

    #[test]
    fn held_roots_count_apart_until_they_end() {
        let mut spout = spout(8, None);
        let anchors = spout.open(3, 0);
        let roots = [anchors[0].root, anchors[1].root];
        spout.pending.ledger().held(&roots);
        spout.pending.ledger().held(&roots);
        spout.take(0);
        assert_eq!((spout.pending.pending(), spout.pending.held()), (3, 2));
        spout.ack(&anchors[1..]);
        spout.fail(anchors[0].root, FailKind::Failed);
        spout.take(0);
        assert_eq!((spout.pending.pending(), spout.pending.held()), (0, 0));
        spout.open(3, 0);
        assert_eq!(spout.pending.held(), 0);
    }

    #[test]
    fn a_hold_that_is_told_after_the_end_counts_nothing() {
        let mut spout = spout(1, None);
        let anchors = spout.open(1, 0);
        spout.pending.ledger().held(&[anchors[0].root]);
        spout.ack(&anchors);
        spout.take(0);
        assert_eq!(spout.pending.held(), 0);
    }

    #[test]
    fn everything_pending_fails_when_the_topology_stops() {
        let mut spout = spout(8, None);
        let anchors = spout.open(3, 0);
        spout.ack(&anchors[1..2]);
        spout.take(0);
        let mut ended = Ended::default();
        spout.pending.fail_all(&FailReason::new(FailKind::Stopped, "", ""), &mut ended);
        assert_eq!(failed(&ended), [(anchors[0].root, FailKind::Stopped), (anchors[2].root, FailKind::Stopped)]);
        assert_eq!(spout.pending.pending(), 0);
    }

    #[test]
    fn only_a_word_that_stood_still_for_a_period_stalls() {
        let mut spout = spout(8, Some(1600));
        let old = spout.open(3, 0);
        spout.pending.ledger().held(&[old[2].root]);
        spout.take(0);
        let moving = spout.pending.open_one(0).unwrap();
        spout.pending.set_word(moving, Edge(0b111));
        for now in (0..=1800).step_by(100) {
            assert_eq!(spout.audit(now), Ended::default(), "at {now}");
            if now == 1500 {
                // Slot 0 gets another root, slot 3 moves on.
                spout.ack(&old[..1]);
                spout.take(now);
                assert_eq!(slots(&spout.open(1, now)), [0]);
                spout.ack(&[Anchor { root: moving, edge: Edge(0b001) }]);
                // The bolt still holds the one in slot 2.
                spout.pending.ledger().held(&[old[2].root]);
                spout.take(now);
                assert_eq!(spout.pending.held(), 1);
            }
        }
        // Each slot has its own time in a period: slot 1 was first seen at 400, so one period later is 2000.
        assert_eq!(spout.audit(1900), Ended::default());
        let ended = spout.audit(2000);
        assert_eq!(failed(&ended), [(old[1].root, FailKind::Stalled)]);
        assert!(ended.failed[0].reason.to_string().ends_with("root 7/1/268435454"), "{}", ended.failed[0].reason);
        for now in (2100..3100).step_by(100) {
            assert_eq!(spout.audit(now), Ended::default(), "at {now}");
        }
        let rest: Vec<_> = (3100..=4000).step_by(100).flat_map(|now| failed(&spout.audit(now))).collect();
        assert_eq!(rest.iter().map(|(root, _)| root.slot().0).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(spout.pending.held(), 0);
    }

    #[test]
    fn an_audit_begins_anew_after_a_pause() {
        let mut spout = spout(8, Some(1600));
        let anchors = spout.open(1, 0);
        for now in (0..1600).step_by(100).chain((50_000..51_800).step_by(100)) {
            assert_eq!(spout.audit(now), Ended::default(), "at {now}");
        }
        assert_eq!(failed(&spout.audit(51_800)), [(anchors[0].root, FailKind::Stalled)]);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_owner_is_woken_once_until_it_looks_again() {
        let mut spout = spout(8, None);
        let ledger = spout.pending.ledger().clone();
        let anchors = spout.open(3, 0);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        assert_eq!(ledger.poll_outcomes(&mut context, &mut spout.outcomes), Poll::Pending);
        spout.ack(&anchors[..2]);
        spout.fail(anchors[2].root, FailKind::Failed);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(ledger.poll_outcomes(&mut context, &mut spout.outcomes), Poll::Ready(()));
        assert_eq!(spout.outcomes.completed, [anchors[0].root, anchors[1].root]);
        assert_eq!(spout.outcomes.failed.len(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn slots_that_were_never_used_take_no_memory() {
        let resident_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident_kib();
        let ledgers: Vec<_> = (0..40).map(|id| Ledger::new(LedgerId(id), Root::SLOTS, FIRST)).collect();
        let grown = resident_kib().saturating_sub(before);
        // 40 × 28 MiB of address space.
        assert!(grown < 200 << 10, "{grown} KiB for {} ledgers", ledgers.len());
    }
}
