//! The cases in which tuples come at a rate of their own, whatever becomes of them: how long each takes, and what rate can
//! be kept.
//!
//! A thread says how many tuples are due (`baseline::metronome`), and a tuple's time begins when it is due: a runtime that
//! is held up has all that came due meanwhile against it (no coordinated omission). Where the hand-written chain stands
//! beside it, times since a tuple was emitted are told as well, since what wakes a source would else be most of both.
//!
//! Not here: how fast a topology can be (`cases`). Invariant: the generator's CPU time is nobody's but its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use baseline::cases::Text;
use baseline::chain::{self, histogram};
use baseline::measure::{Latency, cpu_time, now};
use baseline::metronome::Offer;
use baseline::microsecond::work;
use hdrhistogram::Histogram;
use storm::output::{Output, Port};
use storm::prelude::{Bolt, Context, Emitter, FailReason, Next, Roots, Spout, Stream, Topology, TopologyBuilder};
use storm::tuple::Tuple;
use word_count::{Count, Line, Split, Word};

use crate::cases::Bench;
use crate::memory::resident_mib;
use crate::outcome::{Bound, Check, Outcome, figures, median};
use crate::shape::{Runtimes, Shape, Words};
use crate::topologies::{Arrivals, Identity, Null, Number, Numbers, Rarely, Sum, Times, Totals};

/// Emits what is due.
struct Due<F> {
    offer: Arc<Offer>,
    next: u64,
    make: F,
    /// Earlier tuples are not in the times.
    first: u64,
    /// Whether it ends when nothing more comes due, with what it has not emitted.
    leaves_backlog: bool,
    heard: Heard,
    all: Arc<Mutex<Option<Heard>>>,
}

/// What a spout heard of its tuples.
struct Heard {
    since_due: Histogram<u64>,
    since_sent: Histogram<u64>,
    emitted: u64,
    failed: u64,
    acked: Numbered,
}

/// A set of numbers below a bound.
struct Numbered {
    bits: Vec<u64>,
    count: u64,
}

impl Numbered {
    fn below(bound: u64) -> Self {
        Numbered { bits: vec![0; bound.div_ceil(64) as usize], count: 0 }
    }

    fn add(&mut self, number: u64) {
        let (word, bit) = (&mut self.bits[(number / 64) as usize], 1 << (number % 64));
        self.count += u64::from(*word & bit == 0);
        *word |= bit;
    }

    /// Whether all of these are in `other`.
    fn is_in(&self, other: &Numbered) -> bool {
        self.bits.iter().zip(&other.bits).all(|(these, others)| these & !others == 0)
    }
}

impl<T, F> Spout for Due<F>
where
    T: Tuple + Output<Ports = Port<T>>,
    F: FnMut(u64) -> T + Send + 'static,
{
    type Output = T;
    type MessageId = (u64, Instant);

    fn open(&mut self, context: &Context) -> storm::prelude::Result {
        let wake = context.wake();
        self.offer.begin(move || wake.wake());
        Ok(())
    }

    fn next(&mut self, out: &mut Roots<'_, T, (u64, Instant)>) -> storm::prelude::Result<Next> {
        let (all, due) = (self.offer.tuples(), self.offer.due());
        if self.next == all || (self.leaves_backlog && due == all) {
            return Ok(Next::Done);
        }
        if self.next >= due {
            return Ok(Next::Idle(Duration::from_secs(1)));
        }
        out.emit((self.make)(self.next), (self.next, now()));
        self.next += 1;
        Ok(Next::Emitted)
    }

    fn ack(&mut self, (tuple, sent): (u64, Instant)) {
        self.heard.acked.add(tuple);
        if tuple >= self.first {
            self.heard.since_due.saturating_record(self.offer.overdue(tuple).as_nanos() as u64);
            self.heard.since_sent.saturating_record(sent.elapsed().as_nanos() as u64);
        }
    }

    fn fail(&mut self, _: (u64, Instant), _: &FailReason) {
        self.heard.failed += 1;
    }

    fn close(&mut self) {
        let heard = Heard::new(0);
        let heard = Heard { emitted: self.next, ..std::mem::replace(&mut self.heard, heard) };
        *self.all.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }
}

impl Heard {
    fn new(tuples: u64) -> Self {
        let (since_due, since_sent) = (histogram(), histogram());
        Heard { since_due, since_sent, emitted: 0, failed: 0, acked: Numbered::below(tuples) }
    }
}

/// Works for some microseconds, and knows what it has got.
struct Slow {
    got: Numbered,
    all: Arc<Mutex<Option<Numbered>>>,
}

/// Microseconds of work for a tuple that a slow sink takes.
const SLOW_US: u32 = 10;

impl Bolt for Slow {
    type Input = Number;
    type Output = ();

    fn execute(&mut self, number: Number, _: &mut Emitter<()>) -> storm::prelude::Result {
        std::hint::black_box((0..SLOW_US).fold(number.value, |value, _| work(value)));
        self.got.add(number.value);
        Ok(())
    }

    fn finish(&mut self, _: &mut Emitter<()>) -> storm::prelude::Result {
        let got = std::mem::replace(&mut self.got, Numbered::below(0));
        *self.all.lock().unwrap_or_else(PoisonError::into_inner) = Some(got);
        Ok(())
    }
}

/// What is offered to a topology.
struct Offering {
    per_second: f64,
    tuples: u64,
    workers: u16,
    leaves_backlog: bool,
}

/// What became of it.
struct Served {
    since_due: Latency,
    since_sent: Latency,
    emitted: u64,
    acked: Numbered,
    wall: Duration,
    /// Without the generator.
    cpu: Duration,
    /// The highest window of the spout, and what memory there was after a fifth of the time and at most later: looked at
    /// under overload only.
    window: u64,
    early_mib: f64,
    most_mib: f64,
}

/// Between two looks at memory and windows.
const LOOK: Duration = Duration::from_millis(100);

impl Offering {
    fn at(per_second: f64, seconds: f64) -> Self {
        let tuples = (per_second * seconds).max(20.0) as u64;
        Offering { per_second, tuples, workers: 1, leaves_backlog: false }
    }

    /// Offers it to a topology of a spout that makes tuples by `make`, and of what `build` puts behind it.
    fn serve<T, F>(
        &self,
        make: impl Fn() -> F + Send + Sync + 'static,
        build: impl FnOnce(&mut TopologyBuilder, Stream<T>),
    ) -> Result<Served>
    where
        T: Tuple + Output<Ports = Port<T>, Streams = Stream<T>>,
        F: FnMut(u64) -> T + Send + 'static,
    {
        let Offering { tuples, leaves_backlog, .. } = *self;
        let offer = Offer::new(self.per_second, tuples);
        let all = Arc::new(Mutex::new(None));
        let mut topology = Topology::builder("offered");
        let (spout_offer, spout_all) = (offer.clone(), all.clone());
        let spout = move || Due {
            offer: spout_offer.clone(),
            next: 0,
            make: make(),
            first: tuples / 5,
            leaves_backlog,
            heard: Heard::new(tuples),
            all: spout_all.clone(),
        };
        let stream = topology.spout("due", spout).add();
        build(&mut topology, stream);
        let topology = topology.build()?;
        let runtimes = Runtimes::new()?;
        let (began, cpu) = (now(), cpu_time());
        let (mut window, mut early_mib, mut most_mib) = (0, 0.0, 0.0_f64);
        let early = Duration::from_secs_f64(tuples as f64 / self.per_second / 5.0);
        let failed = runtimes.with(topology, self.workers, async |cluster| {
            let mut ended = std::pin::pin!(cluster.ended());
            loop {
                if let Ok(ended) = tokio::time::timeout(LOOK, &mut ended).await {
                    ended?;
                    return Ok(cluster.summary().failed);
                }
                if leaves_backlog {
                    let executors = cluster.reports().into_iter().flat_map(|report| report.executors);
                    window = executors.map(|executor| executor.counts.window).max().unwrap_or(0).max(window);
                    let mib = resident_mib()?;
                    if early_mib == 0.0 && began.elapsed() >= early {
                        early_mib = mib;
                    }
                    most_mib = most_mib.max(mib);
                }
            }
        })?;
        let wall = began.elapsed();
        let cpu = cpu_time() - cpu - offer.end();
        ensure!(failed == 0, "{failed} roots failed, none should");
        let heard = all.lock().unwrap_or_else(PoisonError::into_inner).take().context("the spout was not closed")?;
        ensure!(heard.failed == 0, "the spout heard of {} fails, there should be none", heard.failed);
        ensure!(heard.acked.count == heard.emitted, "{} were emitted, {} acked", heard.emitted, heard.acked.count);
        ensure!(leaves_backlog || heard.emitted == tuples, "{tuples} were offered, {} emitted", heard.emitted);
        Ok(Served {
            since_due: Latency::of(&heard.since_due),
            since_sent: Latency::of(&heard.since_sent),
            emitted: heard.emitted,
            acked: heard.acked,
            wall,
            cpu,
            window,
            early_mib,
            most_mib,
        })
    }
}

/// Three hops, as they are in the hand-written chain.
fn three_hops(topology: &mut TopologyBuilder, numbers: Stream<Number>) {
    let first = topology.bolt("id-1", || Identity).shuffle(&numbers).add();
    let second = topology.bolt("id-2", || Identity).shuffle(&first).add();
    let sum = Sum::default();
    topology.bolt("null", move || Null::new(&sum)).shuffle(&second).add();
}

fn number() -> impl FnMut(u64) -> Number + Send + 'static {
    |value| Number { value }
}

/// A thousand tuples a second over three hops, beside a chain of tokio tasks; over two workers by itself.
pub(crate) fn latency(bench: &Bench, case: &str, rounds: u32, workers: u16) -> Result<Outcome> {
    let seconds = bench.seconds(4.0);
    let (mut ours, mut chains) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let offering = Offering { workers, ..Offering::at(chain::PER_SECOND, seconds) };
        ours.push(offering.serve(number, three_hops)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let times = runtime.block_on(chain::times(Offer::new(chain::PER_SECOND, offering.tuples), offering.tuples / 5));
        chains.push(times.latencies());
    }
    let our = |which: fn(&Served) -> Latency, at: fn(Latency) -> f64| median(ours.iter().map(|it| at(which(it))));
    let due = |it: &Served| it.since_due;
    let sent = |it: &Served| it.since_sent;
    let (p50, p99, p999) = (|it: Latency| it.p50_us, |it: Latency| it.p99_us, |it: Latency| it.p999_us);
    let chain_due = |at: fn(Latency) -> f64| median(chains.iter().map(|(due, _)| at(*due)));
    let chain_sent = |at: fn(Latency) -> f64| median(chains.iter().map(|(_, sent)| at(*sent)));
    let core = median(ours.iter().map(|it| 100.0 * it.cpu.as_secs_f64() / it.wall.as_secs_f64()));
    let checks = if workers == 1 {
        let times = |what, ours: f64, chain: f64, goal| Check::new(what, ours / chain, Bound::AtMost, goal);
        vec![
            times("p50 since emitted, × the chain's", our(sent, p50), chain_sent(p50), 4.0),
            times("p99 since emitted, × the chain's", our(sent, p99), chain_sent(p99), 6.0),
            times("p50 since due, × the chain's", our(due, p50), chain_due(p50), 4.0),
            times("p99 since due, × the chain's", our(due, p99), chain_due(p99), 6.0),
            Check::new("% of a core", core, Bound::AtMost, 5.0),
        ]
    } else {
        vec![
            Check::new("p50 since due, µs", our(due, p50), Bound::AtMost, 100.0),
            Check::new("p99 since due, µs", our(due, p99), Bound::AtMost, 500.0),
        ]
    };
    let mut outcome = Outcome::new(
        case,
        rounds,
        checks,
        figures([
            ("since_due_p50_us", our(due, p50)),
            ("since_due_p99_us", our(due, p99)),
            ("since_due_p999_us", our(due, p999)),
            ("since_sent_p50_us", our(sent, p50)),
            ("since_sent_p99_us", our(sent, p99)),
            ("since_sent_p999_us", our(sent, p999)),
            ("limit_since_due_p50_us", chain_due(p50)),
            ("limit_since_due_p99_us", chain_due(p99)),
            ("limit_since_sent_p50_us", chain_sent(p50)),
            ("limit_since_sent_p99_us", chain_sent(p99)),
            ("core_percent", core),
        ]),
    );
    outcome.limit = Some("chain".to_owned());
    (outcome.per_second, outcome.limit_per_second) = (Some(chain::PER_SECOND), Some(chain::PER_SECOND));
    Ok(outcome)
}

/// How long a tuple may take at a rate that counts as kept.
const KEPT_US: f64 = 10_000.0;
/// Halvings of the rates that are looked at for the highest that is kept.
const HALVINGS: u32 = 5;

/// The highest rate of lines at which 99 % of them take at most ten milliseconds, and how long they take at half of it.
pub(crate) fn sustainable(bench: &Bench, case: &str, rounds: u32) -> Result<Outcome> {
    let text = bench.text.context("no text")?;
    let lines = text.content.lines().count();
    let mut peaks = Vec::new();
    for _ in 0..rounds {
        let peak = Shape::Words(Words::USUAL).run(Some(text), bench.words)?.measurement;
        peaks.push((lines * text.passes) as f64 / peak.wall.as_secs_f64());
    }
    let peak = median(peaks);
    let p99s = |part: f64, rounds: u32| -> Result<Vec<Served>> {
        let offering = Offering::at(part * peak, bench.seconds(2.0));
        (0..rounds).map(|_| offering.serve(move || made_lines(text), counted)).collect()
    };
    let p99 = |served: &[Served]| median(served.iter().map(|it| it.since_due.p99_us));
    let (mut kept, mut missed) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let part = f64::midpoint(kept, missed);
        if p99(&p99s(part, 1)?) <= KEPT_US {
            kept = part;
        } else {
            missed = part;
        }
    }
    // Once is chance: the rate that is told is kept in most of the rounds.
    let mut at_kept = p99s(kept.max(0.01), rounds)?;
    while p99(&at_kept) > KEPT_US && kept > 0.01 {
        kept *= 0.9;
        at_kept = p99s(kept.max(0.01), rounds)?;
    }
    let at_half = p99s((kept / 2.0).max(0.005), rounds)?;
    let p999 = |served: &[Served]| median(served.iter().map(|it| it.since_due.p999_us));
    let checks = vec![
        Check::new("highest rate kept, × the peak", kept, Bound::AtLeast, 0.6),
        Check::new("p99 at half of it, µs", p99(&at_half), Bound::AtMost, 1_000.0),
    ];
    let mut outcome = Outcome::new(
        case,
        rounds,
        checks,
        figures([
            ("p50_us", median(at_kept.iter().map(|it| it.since_due.p50_us))),
            ("p99_us", p99(&at_kept)),
            ("p999_us", p999(&at_kept)),
            ("half_p50_us", median(at_half.iter().map(|it| it.since_due.p50_us))),
            ("half_p999_us", p999(&at_half)),
            (
                "cpu_seconds_per_million",
                median(at_kept.iter().map(|it| it.cpu.as_secs_f64() * 1e6 / it.emitted as f64)),
            ),
        ]),
    );
    outcome.limit = Some("peak, lines".to_owned());
    (outcome.per_second, outcome.limit_per_second) = (Some((kept * peak).round()), Some(peak.round()));
    Ok(outcome)
}

fn made_lines(text: Text) -> impl FnMut(u64) -> Line + Send + 'static {
    let mut lines = text.content.lines().cycle();
    move |_| Line { text: lines.next().unwrap_or_default().into() }
}

/// The word count of the example behind lines.
fn counted(topology: &mut TopologyBuilder, lines: Stream<Line>) {
    let words = topology.bolt("split", || Split).parallelism(2).shuffle(&lines).add();
    let totals = topology.bolt("count", || Count::new(false)).parallelism(2).fields(&words, Word::WORD).add();
    let all = Sum::default();
    topology.bolt("totals", move || Totals { all: all.clone() }).global(&totals).add();
}

/// Twice as much as a sink can take, for ten seconds, or as long as it is said.
pub(crate) fn overload(bench: &Bench, case: &str, seconds: f64) -> Result<Outcome> {
    let serve = |offering: &Offering| {
        let all = Arc::new(Mutex::new(None));
        let (got, tuples) = (all.clone(), offering.tuples);
        let served = offering.serve(number, move |topology, numbers| {
            let slow = move || Slow { got: Numbered::below(tuples), all: got.clone() };
            topology.bolt("slow", slow).shuffle(&numbers).add();
        })?;
        let got = all.lock().unwrap_or_else(PoisonError::into_inner).take().context("the sink did not finish")?;
        ensure!(served.acked.is_in(&got), "a tuple was acked that the sink had not got");
        anyhow::Ok(served)
    };
    // What it can take: all is due at once.
    let tuples = (100_000.0 * bench.seconds(1.0)).max(1_000.0) as u64;
    let probe = serve(&Offering { per_second: f64::INFINITY, tuples, workers: 1, leaves_backlog: false })?;
    let taken = probe.emitted as f64 / probe.wall.as_secs_f64();
    let offering = Offering { leaves_backlog: true, ..Offering::at(2.0 * taken, bench.seconds(seconds)) };
    let served = serve(&offering)?;
    let per_second = served.emitted as f64 / served.wall.as_secs_f64();
    let window_us = served.window as f64 / per_second * 1e6;
    let checks = vec![
        Check::new("p99 since emitted, × window / rate", served.since_sent.p99_us / window_us, Bound::AtMost, 2.0),
        Check::new("memory that it grew by, MiB", served.most_mib - served.early_mib, Bound::AtMost, 16.0),
        Check::new("tuples a second, × without overload", per_second / taken, Bound::AtLeast, 0.9),
        // A fail would have ended the case.
        Check::new("time-outs, fails and replays", 0.0, Bound::AtMost, 0.0),
    ];
    let mut outcome = Outcome::new(
        case,
        1,
        checks,
        figures([
            ("seconds", served.wall.as_secs_f64()),
            ("window", served.window as f64),
            ("p50_us", served.since_sent.p50_us),
            ("p99_us", served.since_sent.p99_us),
            ("p999_us", served.since_sent.p999_us),
            ("resident_mib", served.most_mib),
        ]),
    );
    outcome.limit = Some("offered".to_owned());
    (outcome.per_second, outcome.limit_per_second) = (Some(per_second.round()), Some((2.0 * taken).round()));
    Ok(outcome)
}

/// Of so many tuples of a busy bolt one has an output.
const RARELY: u64 = 10_000;

/// How long a rare output of a busy bolt is on its way.
pub(crate) fn rare_output(bench: &Bench, case: &str, rounds: u32) -> Result<Outcome> {
    let end = ((1_000_000.0 * bench.seconds(2.0)) as u64).max(3 * RARELY);
    let (mut p50s, mut p99s, mut mosts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (began, times) = (now(), Times::new(Mutex::new(histogram())));
        let mut topology = Topology::builder("rare-output");
        let numbers = topology.spout("numbers", move || Numbers { next: 0, end, tracked: true }).add();
        let stamps = topology.bolt("busy", move || Rarely { began, every: RARELY }).shuffle(&numbers).add();
        let arrivals = times.clone();
        topology.bolt("arrivals", move || Arrivals { began, times: arrivals.clone() }).shuffle(&stamps).add();
        let (summary, _) = Runtimes::new()?.run(topology.build()?, 1)?;
        ensure!(
            summary.acked == end && summary.failed == 0,
            "{} of {end} acked, {} failed",
            summary.acked,
            summary.failed
        );
        let times = times.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(times.len() == end / RARELY, "{} of {} outputs came", times.len(), end / RARELY);
        let us = |ns: u64| ns as f64 / 1000.0;
        p50s.push(us(times.value_at_quantile(0.5)));
        p99s.push(us(times.value_at_quantile(0.99)));
        mosts.push(us(times.max()));
    }
    let most = median(mosts);
    let checks = vec![Check::new("p99 until it arrives, µs", median(p99s), Bound::AtMost, 2_000.0)];
    Ok(Outcome::new(case, rounds, checks, figures([("p50_us", median(p50s)), ("most_us", most)])))
}
