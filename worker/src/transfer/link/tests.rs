//! Two links and a bad network between them.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use topology_api::anchor::{Generation, LedgerId, Slot};
use topology_api::fail::FailKind;

use super::super::frame::{self, Grant};
use super::*;

const TASK: TaskId = TaskId(7);
const WINDOW: Amount = Amount { tuples: 4, bytes: 4096 };
const GONE: WorkerIndex = WorkerIndex(9);

fn life(incarnation: u64) -> Life {
    Life { plan: PlanVersion(1), incarnation: Incarnation(incarnation) }
}

fn new_link() -> Link {
    Link::new(PlanVersion(1), Windows::new(WINDOW, [TASK]))
}

fn agreed(incarnation: u64, received: u64) -> Agreed {
    Agreed { peer: WorkerIndex(1), life: life(incarnation), received }
}

fn data(number: u64) -> Data {
    let payload = Bytes::copy_from_slice(&number.to_le_bytes());
    Data { source: TaskId(1), stream: 0, targets: vec![TASK], tuples: 1, payload }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn connected(incarnation: u64) -> (Link, ConnectionId) {
    let mut link = new_link();
    let mut effects = Vec::new();
    let id = link.connected(agreed(incarnation, 0), ms(0), &mut effects).unwrap();
    assert_eq!(effects, [Effect::Connected(life(incarnation))]);
    (link, id)
}

fn receive(link: &mut Link, id: ConnectionId, frame: Frame, now: Duration) -> (Result<bool, LinkError>, Vec<Effect>) {
    let mut effects = Vec::new();
    (link.receive(id, frame, 100, now, &mut effects), effects)
}

fn frame_of(sequence: u64, confirms: u64, record: Record) -> Frame {
    Frame { sequence, confirms, records: vec![record] }
}

fn written(turn: Turn) -> (Vec<u64>, u64) {
    match turn {
        Turn::Write { frames, confirms } => (frames.iter().map(|frame| frame.sequence).collect(), confirms),
        turn => panic!("{turn:?}"),
    }
}

#[track_caller]
fn check_waits(turn: Turn, until: Duration) {
    assert!(matches!(turn, Turn::Wait(at) if at == until), "{turn:?}, expected to wait until {until:?}");
}

#[test]
fn a_connection_begins_with_grants() {
    let (mut link, id) = connected(1);
    let Turn::Write { frames, confirms: 0 } = link.turn(id, 1000, ms(0)) else { panic!("nothing to write") };
    assert_eq!(*frames[0].records, [Record::Grants(vec![Grant { task: TASK, tuples: 4, bytes: 4096 }])]);
}

#[test]
fn nothing_can_be_sent_before_the_peer_grants() {
    let (mut link, id) = connected(1);
    assert!(!link.has_room(TASK));
    let grants = Record::Grants(vec![Grant { task: TASK, tuples: 1, bytes: 100 }]);
    assert_eq!(receive(&mut link, id, frame_of(1, 0, grants), ms(0)), (Ok(true), vec![Effect::Room(TASK)]));
    assert!(link.has_room(TASK));
    link.data(data(1)).unwrap();
    assert!(!link.has_room(TASK));
}

#[test]
fn a_confirm_waits_a_millisecond_for_a_frame_to_ride_on() {
    let (mut link, id) = connected(1);
    written(link.turn(id, 1000, ms(0)));
    let (wake, _) = receive(&mut link, id, frame_of(1, 1, Record::Data(data(1))), ms(5));
    assert_eq!(wake, Ok(true), "the writer has to look at its clock anew");
    check_waits(link.turn(id, 1000, ms(5)), ms(6));
    let (wake, _) = receive(&mut link, id, frame_of(2, 1, Record::Data(data(2))), ms(5));
    assert_eq!(wake, Ok(false));
    assert_eq!(written(link.turn(id, 1000, ms(6))), (vec![], 2));
    check_waits(link.turn(id, 1000, ms(6)), ms(2006));
}

#[test]
fn a_confirm_rides_on_a_frame() {
    let (mut link, id) = connected(1);
    receive(&mut link, id, frame_of(1, 0, Record::Data(data(1))), ms(5)).0.unwrap();
    link.lost(GONE, Incarnation(1));
    assert_eq!(written(link.turn(id, 1000, ms(5))), (vec![1], 1));
    check_waits(link.turn(id, 1000, ms(5)), ms(2005));
}

#[test]
fn many_frames_are_confirmed_at_once() {
    let (mut link, id) = connected(1);
    written(link.turn(id, 1000, ms(0)));
    for number in 1..16 {
        receive(&mut link, id, frame_of(number, 1, Record::Data(data(number))), ms(0)).0.unwrap();
    }
    check_waits(link.turn(id, 1000, ms(0)), ms(1));
    assert_eq!(receive(&mut link, id, frame_of(16, 1, Record::Data(data(16))), ms(0)).0, Ok(true));
    assert_eq!(written(link.turn(id, 1000, ms(0))), (vec![], 16));
}

#[test]
fn doubles_are_dropped_and_gaps_close_the_connection() {
    let (mut link, id) = connected(1);
    let first = frame_of(1, 0, Record::Data(data(1)));
    assert_eq!(receive(&mut link, id, first.clone(), ms(0)).1, [Effect::Deliver(Record::Data(data(1)))]);
    assert_eq!(receive(&mut link, id, first, ms(0)), (Ok(false), vec![]));
    assert_eq!(link.report().doubles_dropped, 1);
    let gap = receive(&mut link, id, frame_of(3, 0, Record::Data(data(3))), ms(0));
    assert_eq!(gap, (Err(LinkError::Gap { expected: 2, found: 3 }), vec![]));
    let confirm = receive(&mut link, id, Frame { sequence: 0, confirms: 1, records: vec![] }, ms(0));
    assert_eq!(confirm, (Err(LinkError::Confirm { found: 1, sent: 0 }), vec![]));
}

#[test]
fn an_older_life_and_another_plan_are_refused() {
    let (link, _) = connected(5);
    let check = |plan, incarnation, expected| {
        let life = Life { plan: PlanVersion(plan), incarnation: Incarnation(incarnation) };
        assert_eq!(link.received_from(life), expected, "{life}");
    };
    check(1, 5, Ok(0));
    check(1, 6, Ok(0));
    check(1, 4, Err(Refusal::OlderIncarnation));
    check(0, 6, Err(Refusal::OlderPlan));
    check(2, 1, Err(Refusal::PeerIsNewer));
}

#[test]
fn a_later_plan_gives_up_the_life_of_the_earlier_one() {
    let (mut link, id) = connected(5);
    let mut effects = Vec::new();
    link.plan(PlanVersion(1), &mut effects);
    assert_eq!(effects, []);
    link.plan(PlanVersion(2), &mut effects);
    assert_eq!(effects, [Effect::PeerLost(Incarnation(5))]);
    assert!(!link.is_current(id));
    assert_eq!(link.received_from(life(6)), Err(Refusal::OlderPlan));
    let moved = Life { plan: PlanVersion(2), incarnation: Incarnation(1) };
    assert_eq!(link.received_from(moved), Ok(0));
}

#[test]
fn a_life_is_given_up_once_and_does_not_come_back() {
    let (mut link, id) = connected(5);
    let mut effects = Vec::new();
    link.data(data(1)).unwrap();
    link.give_up(life(4), &mut effects);
    assert_eq!(effects, [], "an older one was meant");
    link.give_up(life(5), &mut effects);
    link.give_up(life(5), &mut effects);
    assert_eq!(effects, [Effect::PeerLost(Incarnation(5))]);
    assert!(link.is_settled(), "what was for it is dropped");
    assert_eq!(
        receive(&mut link, id, frame_of(1, 0, Record::Data(data(1))), ms(0)),
        (Err(LinkError::Replaced), vec![])
    );
    assert_eq!(link.received_from(life(5)), Err(Refusal::OlderIncarnation));
    effects.clear();
    link.connected(agreed(6, 0), ms(0), &mut effects).unwrap();
    assert_eq!(effects, [Effect::Connected(life(6))]);
}

#[test]
fn a_peer_that_claims_what_was_never_sent_is_not_connected() {
    let mut link = new_link();
    let mut effects = Vec::new();
    let claimed = link.connected(agreed(1, 3), ms(0), &mut effects);
    assert_eq!(claimed, Err(LinkError::Confirm { found: 3, sent: 0 }));
    assert_eq!(effects, []);
    assert_eq!(link.life(), None);
}

#[test]
fn each_life_is_told_which_sources_have_ended() {
    let (mut link, id) = connected(1);
    let end = End { source: TaskId(1), stream: 0, targets: vec![TASK] };
    link.end(end.clone()).unwrap();
    written(link.turn(id, 1000, ms(0)));
    link.connected(agreed(2, 0), ms(0), &mut Vec::new()).unwrap();
    let Turn::Write { frames, .. } = link.turn(ConnectionId(2), 1000, ms(0)) else { panic!("nothing to write") };
    assert_eq!(frames[0].records[1], Record::End(end));
}

#[test]
fn what_was_said_of_roots_goes_to_the_next_life() {
    let (mut link, id) = connected(5);
    let ack = |number, edge| AckRecord { root: root(number), edge, mask: 0 };
    let failed = (root(4), FailReason::new(FailKind::Failed, "bolt", "no"));
    let lost = Record::Lost { worker: GONE, incarnation: Incarnation(3) };
    link.acks([ack(0, 1)]);
    written(link.turn(id, 1000, ms(0)));
    receive(&mut link, id, Frame { sequence: 0, confirms: 1, records: vec![] }, ms(0)).0.unwrap();
    link.acks([ack(0, 2), ack(2, 4)]);
    link.lost(GONE, Incarnation(3));
    written(link.turn(id, 1000, ms(0)));
    // Sent and not confirmed until here, waiting from here. The next life may have asked for all of it by way of another worker.
    link.acks([ack(0, 8)]);
    link.fail(failed.0, failed.1.clone());
    link.held([root(6)]);
    link.data(data(1)).unwrap();
    link.connected(agreed(6, 0), ms(0), &mut Vec::new()).unwrap();
    let Turn::Write { frames, .. } = link.turn(ConnectionId(2), 1000, ms(0)) else { panic!("nothing to write") };
    let said: Vec<&Record> = frames[0].records.iter().filter(|record| !matches!(record, Record::Grants(_))).collect();
    let acks = Record::Acks(vec![ack(0, 10), ack(2, 4)]);
    let (fails, held) = (Record::Fails(vec![failed]), Record::Held(vec![root(6)]));
    assert_eq!(said, [&acks, &fails, &held, &lost]);
}

#[test]
fn silence_closes_and_a_keep_alive_prevents_it() {
    let (mut link, id) = connected(1);
    written(link.turn(id, 1000, ms(0)));
    check_waits(link.turn(id, 1000, ms(0)), ms(2000));
    assert_eq!(written(link.turn(id, 1000, ms(2000))), (vec![], 0));
    assert_eq!(link.check(id, ms(9_999)), Ok(ms(10_000)));
    receive(&mut link, id, Frame { sequence: 0, confirms: 0, records: vec![] }, ms(9_999)).0.unwrap();
    assert_eq!(link.check(id, ms(10_000)), Ok(ms(19_999)));
    assert_eq!(link.check(id, ms(19_999)), Err(LinkError::Silence));
}

#[test]
fn dialling_again_backs_off_to_a_second() {
    let mut backoff = Backoff::default();
    let longest: Vec<u128> = (0..9).map(|_| backoff.delay(0).as_millis()).collect();
    assert_eq!(longest, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    assert_eq!(backoff.delay(u64::MAX).as_millis(), 500);
}

/// One worker of the bad network: what it sent since it last gave up a life of the peer, and what it saw.
struct Side {
    link: Link,
    incarnation: u64,
    connection: Option<(ConnectionId, usize)>,
    received: BytesMut,
    sent: Vec<Sent>,
    seen: Seen,
    unconsumed: u64,
    /// What was seen of the connected life, which is still to be compared.
    ended: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Data(u64),
    End(u64),
    Lost(u64),
    Ack(u32, u64),
}

#[derive(Default)]
struct Seen {
    /// The life of the peer that what follows is from.
    life: Option<u64>,
    records: Vec<Sent>,
    edges: BTreeMap<u32, u64>,
    lost: Vec<u64>,
}

/// The two wires of a connection, from side 0 and from side 1, and the lives that it joins.
struct Wires {
    bytes: [Vec<u8>; 2],
    lives: [u64; 2],
}

struct World {
    sides: [Side; 2],
    wires: Vec<Wires>,
    /// A handshake whose end the two sides have not heard yet: its wires, and what each side agreed.
    shaking: Option<(usize, [Option<Agreed>; 2])>,
    number: u64,
    now: Duration,
}

#[derive(Clone, Debug)]
enum Step {
    Data(usize, bool),
    End(usize),
    Lost(usize),
    Ack(usize, u32),
    Consume(usize),
    Shake,
    Connect(usize),
    Write(usize),
    Carry(usize, usize),
    Break(usize),
    Restart(usize),
    GiveUp(usize),
    Later,
}

fn any_step() -> impl Strategy<Value = Step> {
    let side = 0usize..2;
    prop_oneof![
        8 => (side.clone(), any::<bool>()).prop_map(|(side, asks)| Step::Data(side, asks)),
        1 => side.clone().prop_map(Step::End),
        2 => side.clone().prop_map(Step::Lost),
        6 => (side.clone(), 0u32..4).prop_map(|(side, root)| Step::Ack(side, root)),
        4 => side.clone().prop_map(Step::Consume),
        4 => Just(Step::Shake),
        6 => side.clone().prop_map(Step::Connect),
        8 => side.clone().prop_map(Step::Write),
        10 => (side.clone(), 1usize..400).prop_map(|(side, bytes)| Step::Carry(side, bytes)),
        2 => side.clone().prop_map(Step::Break),
        1 => side.clone().prop_map(Step::Restart),
        1 => side.prop_map(Step::GiveUp),
        2 => Just(Step::Later),
    ]
}

/// Two generations of each slot have roots.
fn root(number: u32) -> Root {
    Root::new(LedgerId(0), Slot(number / 2), Generation(number % 2))
}

fn number_of(root: Root) -> u32 {
    2 * root.slot().0 + root.generation().0
}

impl Side {
    fn new(incarnation: u64) -> Self {
        Side {
            link: new_link(),
            incarnation,
            connection: None,
            received: BytesMut::new(),
            sent: Vec::new(),
            seen: Seen::default(),
            unconsumed: 0,
            ended: Vec::new(),
        }
    }

    /// Notes what the link wants done.
    fn act(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Connected(Life { incarnation: Incarnation(new), .. }) => {
                    assert_eq!(self.seen.life, None, "a life begins before the last one was given up");
                    assert!(self.seen.lost.last().is_none_or(|lost| *lost < new), "a life came back");
                    self.seen.life = Some(new);
                }
                Effect::PeerLost(Incarnation(old)) => {
                    assert_eq!(self.seen.life.take(), Some(old), "a life is given up that was not connected");
                    self.seen.lost.push(old);
                    self.seen.records.clear();
                    self.seen.edges.clear();
                    // Batches that waited for that life are dropped. What goes to the next one is tried by itself
                    // (`what_was_said_of_roots_goes_to_the_next_life`); here it has to arrive there once.
                    let (acks, ordered) = self.link.outbox.waiting();
                    let acks = acks.iter().map(|ack| Sent::Ack(number_of(ack.root), ack.edge));
                    self.sent = acks.collect();
                    self.sent.extend(ordered.map(|record| match record {
                        Record::Lost { incarnation, .. } => Sent::Lost(incarnation.0),
                        Record::End(end) => Sent::End(u64::from(end.source.0)),
                        record => panic!("{record:?} was for the life that is gone"),
                    }));
                    let ends = self.sent.iter().filter(|sent| matches!(sent, Sent::End(_))).count();
                    assert_eq!(ends, self.ended.len());
                }
                Effect::Deliver(Record::Data(data)) => {
                    self.unconsumed += 1;
                    self.seen.records.push(Sent::Data(u64::from_le_bytes(data.payload[..].try_into().unwrap())));
                }
                Effect::Deliver(Record::End(end)) => self.seen.records.push(Sent::End(u64::from(end.source.0))),
                Effect::Deliver(Record::Lost { incarnation, .. }) => {
                    self.seen.records.push(Sent::Lost(incarnation.0));
                }
                Effect::Deliver(Record::Acks(acks)) => {
                    for ack in acks {
                        *self.seen.edges.entry(number_of(ack.root)).or_default() ^= ack.edge;
                    }
                }
                Effect::Room(task) => assert!(self.link.has_room(task)),
                effect => panic!("{effect:?}"),
            }
        }
    }
}

/// XOR of the acks that were sent.
fn edges<'a>(sent: impl IntoIterator<Item = &'a Sent>) -> BTreeMap<u32, u64> {
    let mut edges = BTreeMap::new();
    for sent in sent {
        if let Sent::Ack(root, edge) = sent {
            *edges.entry(*root).or_default() ^= edge;
        }
    }
    edges
}

fn without_acks(sent: &[Sent]) -> Vec<Sent> {
    sent.iter().filter(|sent| !matches!(sent, Sent::Ack(..))).copied().collect()
}

impl World {
    fn new() -> Self {
        World { sides: [Side::new(1), Side::new(1)], wires: Vec::new(), shaking: None, number: 0, now: Duration::ZERO }
    }

    fn step(&mut self, step: &Step) {
        self.number += 1;
        let number = self.number;
        match *step {
            Step::Data(side, asks) => {
                let side = &mut self.sides[side];
                if !asks || side.link.has_room(TASK) {
                    side.link.data(data(number)).unwrap();
                    side.sent.push(Sent::Data(number));
                }
            }
            Step::End(side) => {
                let side = &mut self.sides[side];
                let source = TaskId(u32::try_from(number).unwrap());
                side.link.end(End { source, stream: 0, targets: vec![TASK] }).unwrap();
                side.sent.push(Sent::End(number));
                side.ended.push(number);
            }
            Step::Lost(side) => {
                self.sides[side].link.lost(GONE, Incarnation(number));
                self.sides[side].sent.push(Sent::Lost(number));
            }
            Step::Ack(side, about) => {
                // Each ack has a bit of its own, so that none can hide another.
                let edge = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                self.sides[side].link.acks([AckRecord { root: root(about), edge, mask: 0 }]);
                self.sides[side].sent.push(Sent::Ack(about, edge));
            }
            Step::Consume(side) => self.consume(side),
            Step::Shake => self.shake(),
            Step::Connect(side) => self.connect(side),
            Step::Write(side) => self.write(side),
            Step::Carry(from, bytes) => self.carry(from, bytes),
            Step::Break(side) => self.break_connection(side),
            Step::Restart(side) => {
                let incarnation = self.sides[side].incarnation + 1;
                self.sides[side] = Side::new(incarnation);
                if let Some((_, agreed)) = &mut self.shaking {
                    agreed[side] = None;
                }
            }
            Step::GiveUp(side) => {
                // Only what is known to be dead is given up.
                let alive = self.sides[1 - side].incarnation;
                if self.sides[side].link.life().is_some_and(|known| known.incarnation.0 < alive) {
                    let mut effects = Vec::new();
                    self.sides[side].link.give_up(life(alive - 1), &mut effects);
                    self.sides[side].act(effects);
                }
            }
            Step::Later => self.now += ms(1),
        }
        self.check();
    }

    fn consume(&mut self, side: usize) {
        let side = &mut self.sides[side];
        if side.unconsumed > 0 {
            side.unconsumed -= 1;
            side.link.consumed(TASK, Amount { tuples: 1, bytes: 8 });
        }
    }

    /// Both sides say what they have received; neither knows yet that the other has heard it.
    fn shake(&mut self) {
        let lives = [self.sides[0].incarnation, self.sides[1].incarnation];
        let received = [0, 1].map(|side: usize| self.sides[side].link.received_from(life(lives[1 - side])));
        if let [Ok(zero), Ok(one)] = received {
            self.wires.push(Wires { bytes: [Vec::new(), Vec::new()], lives });
            let agreed = [Some(agreed(lives[1], one)), Some(agreed(lives[0], zero))];
            self.shaking = Some((self.wires.len() - 1, agreed));
        }
    }

    fn connect(&mut self, side: usize) {
        let Some((wires, agreed)) = &mut self.shaking else { return };
        let Some(agreed) = agreed[side].take() else { return };
        let mut effects = Vec::new();
        if let Ok(id) = self.sides[side].link.connected(agreed, self.now, &mut effects) {
            self.sides[side].connection = Some((id, *wires));
            self.sides[side].received.clear();
            self.sides[side].act(effects);
        }
    }

    fn write(&mut self, side: usize) {
        let Some((id, wires)) = self.sides[side].connection else { return };
        match self.sides[side].link.turn(id, 300, self.now) {
            Turn::Write { frames, confirms } => {
                let wire = &mut self.wires[wires].bytes[side];
                if frames.is_empty() {
                    frame::encode(0, confirms, &[], wire);
                }
                for frame in frames {
                    frame::encode(frame.sequence, confirms, &frame.records, wire);
                }
            }
            Turn::Wait(_) => {}
            Turn::Close(_) => self.break_connection(side),
        }
    }

    /// Takes some bytes off the wire that leads to the other side's current connection.
    fn carry(&mut self, from: usize, bytes: usize) {
        let to = &mut self.sides[1 - from];
        let Some((id, wires)) = to.connection else { return };
        assert_eq!(self.wires[wires].lives[1 - from], to.incarnation);
        let wire = &mut self.wires[wires].bytes[from];
        to.received.extend(wire.drain(..bytes.min(wire.len())));
        while let Some(next) = frame::split(&mut to.received).expect("a frame") {
            let mut effects = Vec::new();
            let length = 4 + next.len();
            let received = to.link.receive(id, frame::decode(next).expect("a frame"), length, self.now, &mut effects);
            to.act(effects);
            match received {
                Ok(_) => {}
                Err(LinkError::Replaced) => {
                    to.connection = None;
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// One side finds its connection broken; what is on the wires to it is lost.
    fn break_connection(&mut self, side: usize) {
        if let Some((id, wires)) = self.sides[side].connection.take() {
            self.sides[side].link.disconnected(id);
            self.wires[wires].bytes[1 - side].clear();
        }
    }

    /// What each side saw of the other's present life is a beginning of what that life sent to it.
    fn check(&self) {
        for side in 0..2 {
            let (from, to) = (&self.sides[side], &self.sides[1 - side]);
            let joined = to.seen.life == Some(from.incarnation)
                && from.link.life().is_some_and(|life| life.incarnation.0 == to.incarnation);
            if !joined {
                continue;
            }
            let sent = without_acks(&from.sent);
            let seen = &to.seen.records;
            assert!(sent.starts_with(seen), "sent {sent:?}, seen {seen:?}");
            // All acks that were queued before the last `lost` that was seen were seen before it; later ones may be too.
            let Some(lost) = seen.iter().rev().find(|seen| matches!(seen, Sent::Lost(_))) else { continue };
            let at = from.sent.iter().position(|sent| sent == lost).expect("it was sent");
            let possible = (at..=from.sent.len()).any(|end| edges(&from.sent[..end]) == to.seen.edges);
            assert!(possible, "acks before {lost:?} are missing: sent {:?}", from.sent);
        }
    }

    /// A good network again: everything arrives.
    fn heal(&mut self) {
        for side in 0..2 {
            self.break_connection(side);
        }
        self.shake();
        self.connect(0);
        self.connect(1);
        for _ in 0..2000 {
            for side in 0..2 {
                self.write(side);
                self.carry(side, usize::MAX);
                self.consume(side);
                self.check();
            }
            self.now += ms(1);
            if self.sides.iter().all(|side| side.link.is_settled() && side.unconsumed == 0) {
                break;
            }
        }
        for side in 0..2 {
            let (from, to) = (&self.sides[side], &self.sides[1 - side]);
            assert_eq!(to.seen.life, Some(from.incarnation));
            assert_eq!(to.seen.records, without_acks(&from.sent));
            let sent: BTreeMap<u32, u64> = edges(&from.sent).into_iter().filter(|(_, edge)| *edge != 0).collect();
            let seen: BTreeMap<u32, u64> = to.seen.edges.clone().into_iter().filter(|(_, edge)| *edge != 0).collect();
            assert_eq!(seen, sent);
            assert!(from.link.is_settled());
            assert!(from.link.has_room(TASK), "all is consumed, but nothing may be sent");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_living_incarnation_gets_everything_once_and_in_order(steps in prop::collection::vec(any_step(), 0..250)) {
        run(&steps);
    }
}

fn run(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    world.heal();
}

/// The model sees when a link is broken: each of these is found within four hundred runs.
#[test]
fn bugs_of_the_link_are_found() {
    use Mutation::*;
    let runs = prop::collection::vec(any_step(), 0..250);
    for mutation in [MergedBySlotAlone, GrantAsIncrement, AckWaitsForCredit, FramesNotResent] {
        let mut runner = TestRunner::deterministic();
        mutations::switch(Some(mutation));
        let found = (0..400).any(|_| {
            let steps = runs.new_tree(&mut runner).unwrap().current();
            std::panic::catch_unwind(|| run(&steps)).is_err()
        });
        mutations::switch(None);
        assert!(found, "{mutation:?} is not found");
    }
}

#[test]
fn a_connection_that_was_replaced_is_closed_unless_that_is_the_bug() {
    let told = |mutation| {
        let (mut link, old) = connected(1);
        link.connected(agreed(1, 0), ms(0), &mut Vec::new()).unwrap();
        mutations::switch(mutation);
        let told = receive(&mut link, old, frame_of(1, 0, Record::Data(data(1))), ms(0));
        mutations::switch(None);
        told
    };
    assert_eq!(told(None), (Err(LinkError::Replaced), vec![]));
    let taken = vec![Effect::Deliver(Record::Data(data(1)))];
    assert_eq!(told(Some(Mutation::StaleConnectionKept)), (Ok(true), taken));
}
