//! One link to one peer, as a machine: (state, event, now, random) to (state, effects).
//!
//! ```text
//!            connected                     connected: same life, frames are sent again
//!   strange ───────────▶ connected ◀──────────────────────────────── broken
//!      ▲                  │  │  ▲ └───────────────────────────────────▶  │
//!      │                  │  └──┘ connected: later life, peer lost       │
//!      └──────────────────┴──────────────────────────────────────────────┘
//!                           given up: peer lost
//! ```
//!
//! A link is `strange` while it is with no life of the peer: before the first one, and after one was given up and before
//! the next. What is queued then waits for the next life. With a new life everything begins anew: numbers, permits,
//! what waited for the old one is dropped; only ends of sources are told to each life again.
//!
//! Times are durations since the worker began. Not here: sockets, locks, tasks, wakers (`connection`). Invariant: each
//! record that is queued for a life which is not given up is delivered to it once, in order; a life that was connected
//! and is replaced or given up makes exactly one [`Effect::PeerLost`].

use std::time::Duration;

use mutations::Mutation;
use topology_api::anchor::Root;
use topology_api::fail::FailReason;
use topology_api::ids::TaskId;

use super::frame::{AckRecord, Data, End, Frame, HEADER_BYTES, Record, RecordError};
use super::handshake::{Agreed, Refusal};
use super::outbox::{Numbered, Outbox};
use super::permits::{Amount, Permits, Windows};
use worker_api::ids::{Incarnation, Life, PlanVersion, WorkerIndex};
use worker_api::report::LinkReport;

/// Frames received after which a confirm is due at once.
const CONFIRM_FRAMES: u64 = 16;
/// Bytes received after which a confirm is due at once.
const CONFIRM_BYTES: usize = 1 << 20;
/// How long a confirm may wait for a frame to ride on.
const CONFIRM_AFTER: Duration = Duration::from_millis(1);
/// A connection on which nothing was sent for this long gets a confirm, so that the peer knows it is whole.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A connection on which nothing came for this long is closed.
const SILENCE: Duration = Duration::from_secs(10);
/// The first delay before dialling again.
const DIAL_FIRST: Duration = Duration::from_millis(10);
/// The longest delay before dialling again.
const DIAL_LAST: Duration = Duration::from_secs(1);

/// Which connection of a link an event belongs to; events of earlier ones are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What the outside is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A record has arrived for this worker.
    Deliver(Record),
    /// The link is with this life of the peer for the first time.
    Connected(Life),
    /// This life of the peer was given up.
    PeerLost(Incarnation),
    /// There may be room for this task again.
    Room(TaskId),
}

/// What the writer of a connection is to do.
#[derive(Debug)]
pub enum Turn {
    /// Write these frames, each with `confirms`; if there are none, a frame that only confirms.
    Write {
        /// Numbered frames, in order.
        frames: Vec<Numbered>,
        /// The highest sequence received.
        confirms: u64,
    },
    /// Nothing to write before this time, unless something is queued or arrives.
    Wait(Duration),
    /// Close the connection.
    Close(LinkError),
}

/// Why a connection is to be closed. The link itself goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A frame is missing.
    #[error("receive frame {expected}: found frame {found}; is the peer of this version?")]
    Gap {
        /// The number that is due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The peer confirms what was never sent.
    #[error("take a confirm: found {found}, sent only {sent}; does another worker run as this incarnation?")]
    Confirm {
        /// The number that it confirms.
        found: u64,
        /// The highest number that was sent.
        sent: u64,
    },
    /// Nothing came for too long.
    #[error("wait for the peer: nothing came for {} s; it hangs or the network is cut", SILENCE.as_secs())]
    Silence,
    /// Another connection or another life took its place.
    #[error("use a connection: another one has taken its place")]
    Replaced,
    /// A life was met that is no longer wanted.
    #[error("connect: {0}")]
    Refused(Refusal),
}

/// The delays between attempts to dial: doubled from 10 ms up to 1 s, each cut by up to half at random.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: DIAL_FIRST }
    }
}

impl Backoff {
    /// The delay before the next attempt; all bits of `random` are taken to be random.
    pub fn delay(&mut self, random: u64) -> Duration {
        let whole = self.next;
        self.next = DIAL_LAST.min(2 * whole);
        let share = random >> 32;
        whole - whole.mul_f64(share as f64 / (2.0 * f64::from(u32::MAX)))
    }
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    /// When something was last received on it.
    heard: Duration,
    /// When something was last written on it.
    spoke: Duration,
}

/// The machine.
#[derive(Debug)]
pub struct Link {
    /// The plan at which the peer's slot last changed, as far as this worker knows.
    plan: PlanVersion,
    /// The life that the stream is with.
    life: Option<Life>,
    /// The latest life that was given up; it and all before it are refused.
    gone: Option<Life>,
    connection: Option<Connection>,
    connections: u64,
    outbox: Outbox,
    /// Sources that have ended: each life of the peer is told.
    ended: Vec<End>,
    permits: Permits,
    windows: Windows,
    /// The highest number received.
    received: u64,
    /// Frames and bytes received since the last confirm, and since when.
    owed_frames: u64,
    owed_bytes: usize,
    owed_since: Option<Duration>,
    /// Highest number ever written, to count what is sent again.
    written: u64,
    backoff: Backoff,
    statistics: LinkReport,
}

impl Link {
    /// A link to a peer whose slot last changed at `plan`, with `windows` for the tasks of this worker.
    pub fn new(plan: PlanVersion, windows: Windows) -> Self {
        Link {
            plan,
            life: None,
            gone: None,
            connection: None,
            connections: 0,
            outbox: Outbox::default(),
            ended: Vec::new(),
            permits: Permits::default(),
            windows,
            received: 0,
            owed_frames: 0,
            owed_bytes: 0,
            owed_since: None,
            written: 0,
            backoff: Backoff::default(),
            statistics: LinkReport::default(),
        }
    }

    /// A plan names the version at which the peer's slot last changed. A life of an earlier one is given up.
    pub fn plan(&mut self, plan: PlanVersion, effects: &mut Vec<Effect>) {
        self.plan = self.plan.max(plan);
        if let Some(life) = self.life.filter(|life| life.plan < plan) {
            self.give_up(life, effects);
        }
    }

    /// Whether this life of the peer, which has proved itself, is welcome; then the highest number received from it.
    ///
    /// # Errors
    /// Why it is not.
    pub fn received_from(&self, life: Life) -> Result<u64, Refusal> {
        if life.plan < self.plan {
            return Err(Refusal::OlderPlan);
        }
        if life.plan > self.plan {
            return Err(Refusal::PeerIsNewer);
        }
        if self.gone.is_some_and(|gone| life <= gone) || self.life.is_some_and(|known| life < known) {
            return Err(Refusal::OlderIncarnation);
        }
        Ok(if self.life == Some(life) { self.received } else { 0 })
    }

    /// A handshake has ended well. An earlier connection, if there still is one, is replaced.
    ///
    /// # Errors
    /// If what was agreed does not hold any more; then nothing has changed.
    pub fn connected(
        &mut self,
        agreed: Agreed,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> Result<ConnectionId, LinkError> {
        self.received_from(agreed.life).map_err(LinkError::Refused)?;
        let sent = if self.life == Some(agreed.life) { self.outbox.highest() } else { 0 };
        if agreed.received > sent {
            return Err(LinkError::Confirm { found: agreed.received, sent });
        }
        if self.life != Some(agreed.life) {
            if let Some(old) = self.life {
                self.give_up(old, effects);
            }
            self.life = Some(agreed.life);
            for grant in self.windows.renew() {
                self.outbox.grant(grant);
            }
            effects.push(Effect::Connected(agreed.life));
        }
        self.outbox.confirm(agreed.received);
        self.outbox.rewind();
        self.statistics.reconnects += u64::from(self.connections > 0);
        self.connections += 1;
        let id = ConnectionId(self.connections);
        self.connection = Some(Connection { id, heard: now, spoke: now });
        Ok(id)
    }

    /// A connection has broken; whether it was the current one.
    pub fn disconnected(&mut self, id: ConnectionId) -> bool {
        let current = self.is_current(id);
        if current {
            self.connection = None;
        }
        current
    }

    /// How long to wait before dialling again.
    pub fn dial_after(&mut self, random: u64) -> Duration {
        self.backoff.delay(random)
    }

    /// `life` and all before it will never come back. If the link is with one of these, it is given up.
    pub fn give_up(&mut self, life: Life, effects: &mut Vec<Effect>) {
        self.gone = self.gone.max(Some(life));
        let Some(old) = self.life.take_if(|known| *known <= life) else { return };
        self.connection = None;
        self.outbox.renew();
        for end in &self.ended {
            self.outbox.push(Record::End(end.clone()));
        }
        self.permits.renew();
        self.received = 0;
        self.forget_owed();
        self.written = 0;
        effects.push(Effect::PeerLost(old.incarnation));
    }

    /// A frame of `bytes` on the wire has arrived; whether the writer is to be woken.
    ///
    /// # Errors
    /// If the connection is to be closed.
    pub fn receive(
        &mut self,
        id: ConnectionId,
        frame: Frame,
        bytes: usize,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, LinkError> {
        let stale = !self.is_current(id);
        if stale && !mutations::on(Mutation::StaleConnectionKept) {
            return Err(LinkError::Replaced);
        }
        let (sent, expected) = (self.outbox.highest(), self.received + 1);
        if frame.confirms > sent {
            return Err(LinkError::Confirm { found: frame.confirms, sent });
        }
        if frame.sequence > expected && !stale {
            return Err(LinkError::Gap { expected, found: frame.sequence });
        }
        if let Some(connection) = &mut self.connection {
            connection.heard = now;
        }
        self.backoff = Backoff::default();
        self.statistics.bytes_received += bytes as u64;
        let had_work = self.outbox.has_work();
        self.outbox.confirm(frame.confirms);
        let mut wake = !had_work && self.outbox.has_work();
        if frame.sequence == 0 {
            return Ok(wake);
        }
        self.statistics.frames_received += 1;
        wake |= self.owe(bytes, now);
        if frame.sequence < expected && !stale {
            self.statistics.doubles_dropped += 1;
            return Ok(wake);
        }
        if !stale {
            self.received = frame.sequence;
        }
        for record in frame.records {
            match record {
                Record::Grants(grants) => {
                    effects.extend(
                        grants
                            .into_iter()
                            .filter(|grant| self.permits.grant(*grant))
                            .map(|grant| Effect::Room(grant.task)),
                    );
                }
                Record::Data(data) => {
                    let amount = amount(&data);
                    data.targets.iter().for_each(|target| self.windows.receive(*target, amount));
                    effects.push(Effect::Deliver(Record::Data(data)));
                }
                record => effects.push(Effect::Deliver(record)),
            }
        }
        Ok(wake)
    }

    /// Whether connection `id` is in use and whole; then the time at which to ask again.
    ///
    /// # Errors
    /// If it is to be closed.
    pub fn check(&self, id: ConnectionId, now: Duration) -> Result<Duration, LinkError> {
        let connection = self.connection.as_ref().filter(|connection| connection.id == id);
        let silent_at = connection.ok_or(LinkError::Replaced)?.heard + SILENCE;
        if now >= silent_at { Err(LinkError::Silence) } else { Ok(silent_at) }
    }

    /// What the writer of connection `id` is to do now. `bytes`: about how much to write at once.
    pub fn turn(&mut self, id: ConnectionId, bytes: usize, now: Duration) -> Turn {
        let confirm_due = self.confirm_due();
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.id == id) else {
            return Turn::Close(LinkError::Replaced);
        };
        let mut frames = Vec::new();
        let mut taken_bytes = 0;
        while taken_bytes < bytes
            && let Some(frame) = self.outbox.next_frame()
        {
            taken_bytes += frame.bytes;
            self.statistics.frames_sent += 1;
            self.statistics.frames_resent += u64::from(frame.sequence <= self.written);
            self.written = self.written.max(frame.sequence);
            frames.push(frame);
        }
        if frames.is_empty() {
            let due = confirm_due.unwrap_or(Duration::MAX).min(connection.spoke + KEEP_ALIVE);
            if due > now {
                return Turn::Wait(due);
            }
            taken_bytes = HEADER_BYTES;
        }
        connection.spoke = now;
        self.statistics.bytes_sent += taken_bytes as u64;
        self.forget_owed();
        Turn::Write { frames, confirms: self.received }
    }

    /// Queues acks; those about one root that wait together are merged.
    pub fn acks(&mut self, acks: impl IntoIterator<Item = AckRecord>) {
        for ack in acks {
            // For data it is the executor that waits for room. Nobody does so for an ack: one that finds none never goes.
            if !mutations::on(Mutation::AckWaitsForCredit) || self.permits.take_for_ack() {
                self.outbox.ack(ack);
            }
        }
    }

    /// Queues a fail.
    pub fn fail(&mut self, root: Root, reason: FailReason) {
        self.outbox.fail(root, reason);
    }

    /// Queues the word that roots are held.
    pub fn held(&mut self, roots: impl IntoIterator<Item = Root>) {
        roots.into_iter().for_each(|root| self.outbox.held(root));
    }

    /// Queues the word that an incarnation is gone, behind all that was queued before.
    pub fn lost(&mut self, worker: WorkerIndex, incarnation: Incarnation) {
        self.outbox.push(Record::Lost { worker, incarnation });
    }

    /// Queues a batch and takes its permits, which the caller has asked for ([`Link::has_room`]) for each target.
    ///
    /// # Errors
    /// If it does not fit the wire format; then nothing was taken.
    pub fn data(&mut self, data: Data) -> Result<(), RecordError> {
        data.check()?;
        let amount = amount(&data);
        data.targets.iter().for_each(|target| self.permits.send(*target, amount));
        self.outbox.push(Record::Data(data));
        Ok(())
    }

    /// Queues the end of a source, behind its data; later lives of the peer are told as well.
    ///
    /// # Errors
    /// If it does not fit the wire format.
    pub fn end(&mut self, end: End) -> Result<(), RecordError> {
        end.check()?;
        self.ended.push(end.clone());
        self.outbox.push(Record::End(end));
        Ok(())
    }

    /// Whether a batch may be sent to `task`.
    pub fn has_room(&self, task: TaskId) -> bool {
        self.permits.has_room(task)
    }

    /// A task of this worker has consumed what came over this link; whether the writer has something to send now.
    pub fn consumed(&mut self, task: TaskId, amount: Amount) -> bool {
        let grant = self.windows.consume(task, amount);
        // Without a life there is nobody to grant to: the next one's first grants say it all.
        let Some(grant) = grant.filter(|_| self.life.is_some()) else { return false };
        self.outbox.grant(grant);
        true
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether `id` is the connection in use.
    pub fn is_current(&self, id: ConnectionId) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.id == id)
    }

    /// Whether all that was queued has been confirmed.
    pub fn is_settled(&self) -> bool {
        self.outbox.is_settled()
    }

    /// The life of the peer that the link is with.
    pub fn life(&self) -> Option<Life> {
        self.life
    }

    /// Whether it is connected, and counts since it was made.
    pub fn report(&self) -> LinkReport {
        let (received, granted) = (self.permits.granted(), self.windows.granted());
        LinkReport {
            connected: self.is_connected(),
            tuple_permits_received: received.tuples,
            byte_permits_received: received.bytes,
            tuple_permits_granted: granted.tuples,
            byte_permits_granted: granted.bytes,
            ..self.statistics
        }
    }

    /// Notes a frame that is to be confirmed; whether the writer must look at its clock anew.
    fn owe(&mut self, bytes: usize, now: Duration) -> bool {
        self.owed_frames += 1;
        self.owed_bytes += bytes;
        let first = self.owed_since.is_none();
        self.owed_since.get_or_insert(now);
        first || self.is_confirm_due_at_once()
    }

    fn is_confirm_due_at_once(&self) -> bool {
        self.owed_frames >= CONFIRM_FRAMES || self.owed_bytes >= CONFIRM_BYTES
    }

    fn confirm_due(&self) -> Option<Duration> {
        let since = self.owed_since?;
        Some(if self.is_confirm_due_at_once() { since } else { since + CONFIRM_AFTER })
    }

    fn forget_owed(&mut self) {
        self.owed_frames = 0;
        self.owed_bytes = 0;
        self.owed_since = None;
    }
}

fn amount(data: &Data) -> Amount {
    Amount { tuples: u64::from(data.tuples), bytes: data.payload.len() as u64 }
}

#[cfg(test)]
mod tests;
