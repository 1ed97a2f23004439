//! What a worker says of itself, each second and whenever its stage changes.
//!
//! Not here: counting (`worker::stats`), rates and windows (`nimbus`). Invariant: counts are exact and cumulative for one
//! life of the worker; times are microseconds since that life began, so no two clocks are compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use topology_api::fail::FailKind;
use topology_api::ids::TaskId;

use crate::answer::Spouts;
use crate::ids::{Life, PlanVersion, Port, Revision, TopologyId, WorkerIndex};

/// The number of this format. Another one is refused, and the worker is told to stop.
pub const REPORT_FORMAT: u32 = 1;

/// A worker's report: to its Supervisor's socket (one JSON text a line), or to Nimbus when that is silent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: u32,
    /// The submission.
    pub topology: TopologyId,
    /// Which worker of the plan.
    pub worker: WorkerIndex,
    /// Its slot.
    pub port: Port,
    /// Which life of it.
    pub life: Life,
    /// Counts the reports of this life, from 1; a lower number is older.
    pub number: u64,
    /// Its process.
    pub pid: u32,
    /// The plan that it knows; an answer brings a newer one.
    pub placement: PlanVersion,
    /// How far it is.
    pub stage: Stage,
    /// What its spouts do now.
    pub spouts: Spouts,
    /// Whether its spouts are not asked and none of their roots is pending.
    pub drained: bool,
    /// The last record of the topology that it has heard of: `drained` says nothing of what later ones ask.
    #[serde(default)]
    pub revision: Revision,
    /// The error that ended an executor for good, if one did: component and text.
    pub fatal: Option<Fatal>,
    /// Since when it lives.
    pub uptime_us: u64,
    /// Processor time that it used, user and system.
    pub cpu_us: u64,
    /// Memory that it has (resident set).
    pub memory_bytes: u64,
    /// What waits in its inboxes.
    pub inbox_bytes: u64,
    /// Its executors.
    pub executors: Vec<ExecutorReport>,
    /// Its links, by peer.
    pub links: BTreeMap<WorkerIndex, LinkReport>,
    /// Counters and gauges that user code registered, by task and name.
    pub metrics: BTreeMap<TaskId, BTreeMap<String, i64>>,
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Its components are not all prepared, or its peers not all connected.
    Starting,
    /// It may be active.
    Ready,
    /// The input of all its executors has ended.
    Ended,
    /// It was told to stop: it settles what is pending.
    Draining,
}

/// Why an executor ended for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fatal {
    /// The component.
    pub component: String,
    /// What it said.
    pub error: String,
}

/// One executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutorReport {
    /// The component's name.
    pub component: String,
    /// The tasks it runs, ascending.
    pub tasks: Vec<TaskId>,
    /// What it is doing.
    pub doing: Doing,
    /// Since when.
    pub doing_since_us: u64,
    /// What waits for it.
    pub inbox: Waiting,
    /// What it counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// Its last errors that were reported, oldest first.
    pub errors: Vec<ReportedError>,
}

/// What waits in an inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// How many tuples.
    pub tuples: u64,
    /// How many bytes they take.
    pub bytes: u64,
}

/// What an executor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "task")]
pub enum Doing {
    /// Not prepared yet.
    Starting,
    /// Nothing waits for it.
    Idle,
    /// In the component's code.
    Executing,
    /// Waiting until this task has room.
    WaitingForRoom(TaskId),
    /// Waiting for calls in flight.
    WaitingForCalls,
    /// A spout with as many roots pending as it may have.
    WaitingForPending,
    /// A spout of a deactivated topology.
    Inactive,
    /// Pausing after a panic or an error.
    Restarting,
    /// Its input has ended.
    Ended,
    /// Stopped, by a fatal error or with the topology.
    Stopped,
}

/// What an executor counted since its worker started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Tuples given to `execute`.
    pub executed: u64,
    /// Bolts: inputs acked. Spouts: roots acked.
    pub acked: u64,
    /// Bolts: inputs failed. Spouts: roots failed.
    pub failed: u64,
    /// Spouts: roots failed, by kind.
    pub failed_by_kind: BTreeMap<FailKind, u64>,
    /// By stream that it emits.
    pub outputs: BTreeMap<String, Output>,
    /// By component and stream that it takes.
    pub inputs: Vec<Input>,
    /// Spouts: roots pending now, held ones among them.
    pub pending: u64,
    /// Spouts: those of them that a bolt says it holds.
    pub held: u64,
    /// Spouts: most roots that may be pending, not counting held ones.
    pub window: u64,
    /// Times that an instance was replaced after a panic.
    pub restarts: u64,
    /// Batches that could not be read.
    pub malformed: u64,
    /// Errors of user code, those that were not reported among them.
    pub error_count: u64,
    /// Bolts: time in `execute`, for each tuple; a batch's tuples share its mean.
    pub execute: Distribution,
    /// Bolts: time from the beginning of `execute` to ack or fail.
    pub process: Distribution,
    /// Spouts: time from emit to the last ack of a root.
    pub complete: Distribution,
}

/// What went out on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Tuples emitted.
    pub emitted: u64,
    /// Tuples sent to tasks: more than emitted if a tuple goes to several, fewer if nobody subscribes.
    pub transferred: u64,
}

/// What came in on a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The component that emits it.
    pub component: String,
    /// The stream.
    pub stream: String,
    /// Tuples given to `execute`.
    pub executed: u64,
    /// Inputs acked.
    pub acked: u64,
    /// Inputs failed.
    pub failed: u64,
    /// Sum of the time in `execute`.
    pub execute_us: u64,
    /// Sum of the time from the beginning of `execute` to ack or fail.
    pub process_us: u64,
}

/// An error of user code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedError {
    /// When.
    pub at_us: u64,
    /// What it said.
    pub message: String,
}

/// One link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// Whether there is a connection now.
    pub connected: bool,
    /// Numbered frames sent, those sent again included.
    pub frames_sent: u64,
    /// Bytes sent in frames of either kind.
    pub bytes_sent: u64,
    /// Numbered frames received, doubles included.
    pub frames_received: u64,
    /// Bytes received in frames of either kind.
    pub bytes_received: u64,
    /// Frames sent again after a reconnect.
    pub frames_resent: u64,
    /// Frames dropped because they had been received before.
    pub doubles_dropped: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Tuples that all tasks of the peer's present life have granted together since the link began with it; 0 without one.
    #[serde(default)]
    pub tuple_permits_received: u64,
    /// Bytes, likewise.
    #[serde(default)]
    pub byte_permits_received: u64,
    /// Tuples that all tasks of this worker have granted together since the link began with the peer's last life. Once
    /// nothing is under way, the peer has received the same.
    #[serde(default)]
    pub tuple_permits_granted: u64,
    /// Bytes, likewise.
    #[serde(default)]
    pub byte_permits_granted: u64,
}

/// Times in microseconds, counted in buckets at most 1/16 wide: exact below 16, else told by the bucket's upper bound.
/// Two of them add up, and the difference of two cumulative ones is that of the time between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// Sum of the times, exact.
    pub sum_us: u64,
    /// (upper bound in microseconds, how many), ascending, without empty buckets.
    pub buckets: Vec<(u64, u64)>,
}

impl Distribution {
    /// The upper bound of the bucket that a time falls into.
    pub fn bucket(us: u64) -> u64 {
        let octave = us.max(1).ilog2();
        let width = 1u64 << octave.saturating_sub(4);
        us / width * width + (width - 1)
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Their mean in milliseconds; 0 for none.
    pub fn mean_ms(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum_us as f64 / count as f64 / 1000.0,
        }
    }

    /// The time in microseconds below or at which this part of them is, 0.0 ..= 1.0; 0 for none.
    pub fn quantile_us(&self, part: f64) -> u64 {
        let rank = ((self.count() as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |(_, count): &&(u64, u64)| {
            seen += count;
            seen >= rank
        };
        self.buckets.iter().find(reaches).map_or(0, |(upper, _)| *upper)
    }

    /// Counts `count` times of `us`.
    pub fn record(&mut self, us: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.sum_us += us * count;
        let upper = Self::bucket(us);
        match self.buckets.binary_search_by_key(&upper, |(upper, _)| *upper) {
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (upper, count)),
        }
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Distribution) {
        self.sum_us += other.sum_us;
        for (upper, count) in &other.buckets {
            match self.buckets.binary_search_by_key(upper, |(upper, _)| *upper) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (*upper, *count)),
            }
        }
    }

    /// What was counted since `earlier`, which this one continues.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let before = |upper: u64| {
            let at = earlier.buckets.binary_search_by_key(&upper, |(upper, _)| *upper);
            at.map_or(0, |at| earlier.buckets[at].1)
        };
        let left = self.buckets.iter().map(|(upper, count)| (*upper, count.saturating_sub(before(*upper))));
        Distribution {
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            buckets: left.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_counts_adds_and_subtracts() {
        let mut times = Distribution::default();
        times.record(3, 2);
        times.record(100, 1);
        assert_eq!(times, Distribution { sum_us: 106, buckets: vec![(3, 2), (103, 1)] });
        assert_eq!((times.count(), times.quantile_us(0.5), times.quantile_us(0.99)), (3, 3, 103));
        assert_eq!(times.mean_ms(), 106.0 / 3.0 / 1000.0);
        let earlier = times.clone();
        times.record(3, 1);
        times.record(5000, 4);
        assert_eq!(times.since(&earlier), Distribution { sum_us: 20_003, buckets: vec![(3, 1), (5119, 4)] });
        let mut sum = earlier.clone();
        sum.add(&times.since(&earlier));
        assert_eq!(sum, times);
        assert_eq!((Distribution::default().quantile_us(0.5), Distribution::default().mean_ms()), (0, 0.0));
    }

    #[test]
    fn buckets_are_at_most_a_sixteenth_wide() {
        for us in (0..5000).chain([1 << 20, u64::from(u32::MAX)]) {
            let upper = Distribution::bucket(us);
            assert!(upper >= us && upper - us <= us / 16, "{us} {upper}");
            assert_eq!(Distribution::bucket(upper), upper);
        }
    }
}
