//! The cases that compare two runs of the same work, in turn: the runtime's, and that of a hand-written program or of
//! another topology.
//!
//! Not here: how long single tuples take (`offered`), what is measured from outside (`start`). Invariant: a round runs both
//! sides one after the other, and each round in the other order, so that a machine that changes its speed changes it for
//! both.

use anyhow::{Result, ensure};
use baseline::cases::{Case as Limit, Load, Text};
use baseline::measure::{Handled, Measurement};
use baseline::probe;

use crate::outcome::{Bound, Check, Outcome, figures, median};
use crate::shape::{Ran, Shape, Words};
use crate::start::Executables;
use crate::topologies::PAYLOAD_BYTES;

/// A topology and what it is compared with.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    against: Vec<Against>,
}

/// What a topology is compared with.
struct Against {
    /// What is put behind the case's name, if there are several.
    suffix: &'static str,
    other: Other,
    compare: Compare,
    goal: f64,
}

#[derive(Clone, Copy)]
enum Other {
    Baseline(Limit, u64),
    Topology(&'static str, Shape),
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    /// Tuples a second, times the other's: at least the goal.
    Rate,
    /// CPU time for a tuple, times the other's: at most the goal.
    CpuForTuple,
    /// CPU time for a tuple and hop, times the other's: at most the goal.
    CpuForHop,
}

/// What all cases are run with.
pub(crate) struct Bench {
    pub(crate) text: Option<Text>,
    /// What comes out of the text.
    pub(crate) words: Option<Handled>,
    /// Whether it only has to be shown that all works.
    pub(crate) short: bool,
    /// Whether overload lasts for two minutes.
    pub(crate) long: bool,
    pub(crate) executables: Option<Executables>,
}

impl Bench {
    /// How long a case takes that usually takes so many seconds.
    pub(crate) fn seconds(&self, usual: f64) -> f64 {
        if self.short { usual / 20.0 } else { usual }
    }
}

/// The rounds of a case so far.
pub(crate) struct Rounds<'a> {
    case: &'a Case,
    ours: Vec<Ran>,
    /// By what it is compared with.
    others: Vec<Vec<Measurement>>,
    probes_ns: Vec<f64>,
}

fn against(limit: Limit, tuples: u64, goal: f64) -> Vec<Against> {
    vec![Against { suffix: "", other: Other::Baseline(limit, tuples), compare: Compare::Rate, goal }]
}

/// The cases, with so many tuples that a round takes a second or so, divided by `divisor`.
pub(crate) fn all(divisor: u64) -> Vec<Case> {
    let few = |tuples: u64| (tuples / divisor).max(1_000);
    let hops = |hops, tracked, tuples| Shape::Hops { hops, tracked, tuples: few(tuples) };
    let words = Words::USUAL;
    let threads = |goal| against(Limit::Threads, 0, goal);
    let case = |name, shape, against| Case { name, shape, against };
    let topology =
        |name, shape, compare, goal| Against { suffix: "", other: Other::Topology(name, shape), compare, goal };
    let usual = || Other::Topology("word-count", Shape::Words(words));
    // More of everything costs no more for each word; the margin is for what a round differs from the next.
    let grown = |name, parallelism, times| Case {
        name,
        shape: Shape::Words(Words { parallelism, times, ..words }),
        against: vec![Against { suffix: "", other: usual(), compare: Compare::CpuForTuple, goal: 1.25 }],
    };
    // By default within a tenth of what any setting by hand reaches.
    let setting = |name, key, value| Case {
        name,
        shape: Shape::Words(words),
        against: vec![Against {
            suffix: "",
            other: Other::Topology(name, Shape::Words(Words { setting: Some((key, value)), ..words })),
            compare: Compare::Rate,
            goal: 0.9,
        }],
    };
    let (pending, buffer) = ("topology.max.spout.pending", "topology.executor.receive.buffer.size");
    vec![
        case("hop-unacked", hops(1, false, 200_000_000), against(Limit::Hop, few(200_000_000), 0.5)),
        case("hop-acked", hops(1, true, 50_000_000), against(Limit::HopAcked, few(50_000_000), 0.5)),
        case("three-hops-acked", hops(3, true, 30_000_000), against(Limit::ThreeHopsAcked, few(30_000_000), 0.5)),
        case(
            "word-count",
            Shape::Words(words),
            vec![
                Against { suffix: "", other: Other::Baseline(Limit::Threads, 0), compare: Compare::Rate, goal: 0.8 },
                Against {
                    suffix: "-timely",
                    other: Other::Baseline(Limit::Timely2, 0),
                    compare: Compare::Rate,
                    goal: 1.0,
                },
            ],
        ),
        case("word-count-values", Shape::Words(Words { dynamic: true, ..words }), threads(0.45)),
        case("word-count-two-workers", Shape::Words(Words { workers: 2, ..words }), threads(0.35)),
        case(
            "hop-two-workers",
            Shape::Crossing { tuples: few(20_000_000) },
            against(Limit::Tcp, few(20_000_000), 0.35),
        ),
        case(
            "two-bolts",
            Shape::Work { microseconds: &[1, 1], tuples: few(500_000) },
            vec![topology("one-bolt", Shape::Work { microseconds: &[2], tuples: few(500_000) }, Compare::Rate, 1.8)],
        ),
        case(
            "wide",
            Shape::Wide { executors: 500, tuples: few(30_000_000) },
            vec![topology("5x5", Shape::Wide { executors: 5, tuples: few(30_000_000) }, Compare::Rate, 0.5)],
        ),
        case(
            "deep",
            hops(50, true, 2_000_000),
            vec![topology("three-hops-acked", hops(3, true, 30_000_000), Compare::CpuForHop, 4.0 / 3.0)],
        ),
        case("all-grouping", Shape::All { workers: 1, tuples: few(1_000_000) }, Vec::new()),
        case("all-grouping-two-workers", Shape::All { workers: 2, tuples: few(500_000) }, Vec::new()),
        grown("scaling-4x-executors", 8, 1),
        grown("scaling-16x-executors", 32, 1),
        grown("scaling-10x-text", 2, 10),
        setting("setting-pending-1024", pending, 1_024),
        setting("setting-pending-8192", pending, 8_192),
        setting("setting-pending-65536", pending, 65_536),
        setting("setting-buffer-1024", buffer, 1_024),
        setting("setting-buffer-16384", buffer, 16_384),
    ]
}

impl Other {
    fn name(self) -> &'static str {
        match self {
            Other::Baseline(limit, _) => limit.name(),
            Other::Topology(name, _) => name,
        }
    }

    fn hops(self) -> u64 {
        match self {
            Other::Baseline(..) => 1,
            Other::Topology(_, shape) => shape.hops(),
        }
    }

    fn run(self, bench: &Bench) -> Result<Measurement> {
        match self {
            Other::Baseline(limit, tuples) => Ok(limit.run(&Load { text: bench.text, tuples: Some(tuples) })?),
            Other::Topology(_, shape) => Ok(shape.run(bench.text, bench.words)?.measurement),
        }
    }
}

impl<'a> Rounds<'a> {
    /// No rounds yet.
    pub(crate) fn of(case: &'a Case) -> Self {
        let others = case.against.iter().map(|_| Vec::new()).collect();
        Rounds { case, ours: Vec::new(), others, probes_ns: Vec::new() }
    }

    /// The case's.
    pub(crate) fn name(&self) -> &'static str {
        self.case.name
    }

    /// Runs one more.
    ///
    /// # Errors
    /// If a side cannot run, or the two do not give the same.
    pub(crate) fn run(&mut self, bench: &Bench) -> Result<()> {
        self.probes_ns.push(probe::round_trip_ns());
        let ours_first = self.ours.len().is_multiple_of(2);
        if ours_first {
            self.run_ours(bench)?;
        }
        for (against, others) in self.case.against.iter().zip(&mut self.others) {
            others.push(against.other.run(bench)?);
        }
        if !ours_first {
            self.run_ours(bench)?;
        }
        let Some(ours) = self.ours.last().map(|ran| ran.measurement.handled) else { return Ok(()) };
        for other in self.others.iter().filter_map(|others| others.last()).map(|other| other.handled) {
            ensure!(
                other.tuples != ours.tuples || other.checksum == ours.checksum || self.splits_differently(),
                "{}: {ours:?} came out, and {other:?} of what it is compared with",
                self.case.name
            );
        }
        Ok(())
    }

    /// As many tuples over other numbers of spouts are other numbers; what each must be is checked where it runs.
    fn splits_differently(&self) -> bool {
        matches!(self.case.shape, Shape::Wide { .. })
    }

    fn run_ours(&mut self, bench: &Bench) -> Result<()> {
        self.ours.push(self.case.shape.run(bench.text, bench.words)?);
        Ok(())
    }

    /// What they come to.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let (name, rounds) = (self.case.name, self.ours.len() as u32);
        if self.others.is_empty() {
            let mut outcome = Outcome::new(name, rounds, self.sharing(), figures([]));
            self.complete(&mut outcome);
            return vec![outcome];
        }
        let outcome = |(against, others): (&Against, &Vec<Measurement>)| {
            let hops = self.case.shape.hops();
            let pairs = self.ours.iter().zip(others);
            let pairs: Vec<f64> = pairs.map(|(ours, other)| against.ratio(hops, &ours.measurement, other)).collect();
            let (what, bound) = match against.compare {
                Compare::Rate => ("rate, × that of", Bound::AtLeast),
                Compare::CpuForTuple => ("CPU for a tuple, × that of", Bound::AtMost),
                Compare::CpuForHop => ("CPU for a hop, × that of", Bound::AtMost),
            };
            let limit = against.other.name();
            let check = Check::new(format!("{what} {limit}"), median(pairs.iter().copied()), bound, against.goal);
            let case = format!("{name}{}", against.suffix);
            let mut outcome = Outcome::new(&case, rounds, vec![check], figures([]));
            self.complete(&mut outcome);
            outcome.limit = Some(limit.to_owned());
            outcome.limit_per_second = Some(median(others.iter().map(Measurement::per_second)).round());
            let (least, most) = extremes(others.iter().map(Measurement::per_second));
            let (least_ratio, most_ratio) = extremes(pairs.iter().copied());
            outcome.figures.extend(figures([
                ("limit_least_per_second", least.round()),
                ("limit_most_per_second", most.round()),
                ("least_ratio", least_ratio),
                ("most_ratio", most_ratio),
                ("limit_cpu_seconds_per_million", median(others.iter().map(cpu_seconds_per_million))),
            ]));
            outcome
        };
        self.case.against.iter().zip(&self.others).map(outcome).collect()
    }

    /// Adds what is known of our side.
    fn complete(&self, outcome: &mut Outcome) {
        let ours = || self.ours.iter().map(|ran| &ran.measurement);
        outcome.per_second = Some(median(ours().map(Measurement::per_second)).round());
        let (least, most) = extremes(ours().map(Measurement::per_second));
        let (fast, slow) = extremes(self.probes_ns.iter().copied());
        outcome.figures.extend(figures([
            ("least_per_second", least.round()),
            ("most_per_second", most.round()),
            ("cpu_seconds_per_million", median(ours().map(cpu_seconds_per_million))),
            ("probe_least_ns", fast.round()),
            ("probe_most_ns", slow.round()),
        ]));
    }

    /// Whether a payload that goes to all tasks is shared by them: at the same place in its own worker, and once on the
    /// wire to another.
    fn sharing(&self) -> Vec<Check> {
        let Shape::All { workers, tuples } = self.case.shape else { return Vec::new() };
        if workers == 1 {
            let copies = self.ours.iter().map(|ran| ran.copied as f64 / tuples as f64);
            return vec![Check::new("copies of a payload", median(copies), Bound::AtMost, 0.0)];
        }
        let payloads = self.ours.iter().map(|ran| {
            let links = ran.reports.iter().flat_map(|report| report.links.values());
            let bytes: u64 = links.map(|link| link.bytes_sent).sum();
            bytes as f64 / PAYLOAD_BYTES as f64 / tuples as f64
        });
        // The rest is for other fields, acks and frames.
        vec![Check::new("payloads on the wire for a tuple", median(payloads), Bound::AtMost, 1.25)]
    }
}

impl Against {
    fn ratio(&self, our_hops: u64, ours: &Measurement, other: &Measurement) -> f64 {
        let cpu = |run: &Measurement| run.cpu.as_secs_f64() / run.handled.tuples as f64;
        match self.compare {
            Compare::Rate => ours.per_second() / other.per_second(),
            Compare::CpuForTuple => cpu(ours) / cpu(other),
            Compare::CpuForHop => cpu(ours) / our_hops as f64 / (cpu(other) / self.other.hops() as f64),
        }
    }
}

fn cpu_seconds_per_million(run: &Measurement) -> f64 {
    run.cpu.as_secs_f64() / run.handled.tuples as f64 * 1e6
}

fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(least, most), value| (f64::min(least, value), f64::max(most, value)))
}
