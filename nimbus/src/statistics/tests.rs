//! Literal counts, and that nothing is lost or counted twice.

use nimbus_api::machine::WorkerEnd;
use proptest::prelude::*;
use topology_api::fail::FailKind;
use worker_api::answer::Spouts;
use worker_api::report::{Distribution, Input, Output, REPORT_FORMAT, ReportedError, Stage};

use super::*;

/// The wall clock is so far ahead of the monotonic one.
const EPOCH_MS: u64 = 1_000_000_000;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

fn topology() -> TopologyId {
    TopologyId::new("t").unwrap()
}

fn life(plan: u64, incarnation: u64) -> Life {
    Life { plan: PlanVersion(plan), incarnation: Incarnation(incarnation) }
}

/// The `number`-th report of worker 0, a second each, with task 5 of `count` that executed so many tuples.
fn report(life: Life, number: u64, executed: u64) -> Report {
    let executor = ExecutorReport {
        component: "count".to_owned(),
        tasks: vec![TaskId(5), TaskId(6)],
        doing: Doing::Idle,
        doing_since_us: 0,
        inbox: Waiting::default(),
        counts: Counts { executed, ..Counts::default() },
        errors: Vec::new(),
    };
    Report {
        format: REPORT_FORMAT,
        topology: topology(),
        worker: WorkerIndex(0),
        port: Port(6700),
        life,
        number,
        pid: 1,
        placement: life.plan,
        stage: Stage::Ready,
        spouts: Spouts::Active,
        drained: false,
        revision: Default::default(),
        fatal: None,
        uptime_us: number * 1_000_000,
        cpu_us: 0,
        memory_bytes: 0,
        inbox_bytes: 0,
        executors: vec![executor],
        links: BTreeMap::new(),
        metrics: BTreeMap::new(),
    }
}

fn heard(now_ms: u64) -> Heard<'static> {
    Heard { host: "box", port: Port(6700), now_ms, epoch_ms: EPOCH_MS + now_ms }
}

/// A slot whose worker reported this, after lives with these last reports.
fn slot(report: Report, ended: &[Report]) -> SlotWorker {
    let end = |last: &Report| WorkerEnd {
        incarnation: last.life.incarnation,
        ended_ms: EPOCH_MS,
        lived_ms: last.uptime_us / 1000,
        cause: "killed by SIGKILL".to_owned(),
        planned: false,
        last_lines: Vec::new(),
        last_report: Some(last.clone()),
    };
    SlotWorker {
        revision: Default::default(),
        topology: topology(),
        worker: WorkerIndex(0),
        life: report.life,
        placement: report.placement,
        report_age_ms: Some(0),
        ends: ended.iter().map(end).collect(),
        restarts: ended.len() as u64,
        report: Some(report),
    }
}

fn executor(statistics: &Statistics, now_ms: u64) -> Executor {
    statistics.executor(&topology(), "count", &[TaskId(5), TaskId(6)], WorkerIndex(0), now_ms)
}

/// Executed in 10 minutes, 3 hours, a day, all time.
fn executed(statistics: &Statistics, now_ms: u64) -> [u64; 4] {
    let executor = executor(statistics, now_ms);
    Window::ALL.map(|window| executor.windows[&window].executed)
}

fn total(statistics: &Statistics) -> u64 {
    executed(statistics, 0)[3]
}

#[test]
fn totals_stay_when_executors_are_dealt_anew() {
    let mut statistics = Statistics::default();
    let executor = |tasks: [u32; 2], executed: u64| {
        let like = report(life(1, 1), 1, executed).executors.remove(0);
        ExecutorReport { tasks: (tasks[0]..=tasks[1]).map(TaskId).collect(), ..like }
    };
    let mut told = |life: Life, executors: Vec<ExecutorReport>| {
        statistics.heard_slot(&slot(Report { executors, ..report(life, 1, 0) }, &[]), heard(0));
        statistics.clone()
    };
    let all_time = |statistics: &Statistics, tasks: [u32; 2]| {
        let tasks: Vec<TaskId> = (tasks[0]..=tasks[1]).map(TaskId).collect();
        let executor = statistics.executor(&topology(), "count", &tasks, WorkerIndex(0), 0);
        (executor.windows[&Window::TenMinutes].executed, executor.windows[&Window::AllTime].executed)
    };
    let two = told(life(1, 1), vec![executor([5, 6], 10), executor([7, 8], 5)]);
    assert_eq!([[5, 6], [7, 8]].map(|tasks| all_time(&two, tasks)), [(10, 10), (5, 5)]);
    // Both become one, then four.
    let one = told(life(2, 2), vec![executor([5, 8], 100)]);
    assert_eq!(all_time(&one, [5, 8]), (115, 115));
    let four = told(life(3, 3), vec![executor([6, 6], 1000)]);
    assert_eq!([[5, 5], [6, 6], [7, 7], [8, 8]].map(|tasks| all_time(&four, tasks).1), [110, 1000, 5, 0]);
}

#[test]
fn totals_outlive_workers_and_count_nothing_twice() {
    let mut statistics = Statistics::default();
    let (first, second) = (life(1, 1), life(1, 2));
    let mut told = |what: SlotWorker| {
        statistics.heard_slot(&what, heard(0));
        total(&statistics)
    };
    assert_eq!(told(slot(report(first, 1, 10), &[])), 10);
    assert_eq!(told(slot(report(first, 2, 25), &[])), 25);
    assert_eq!(told(slot(report(first, 2, 25), &[])), 25, "repeated");
    assert_eq!(told(slot(report(first, 1, 10), &[])), 25, "older");
    let last = report(first, 3, 30);
    assert_eq!(told(slot(report(second, 1, 5), std::slice::from_ref(&last))), 35, "the end tells of 5 more");
    assert_eq!(told(slot(report(second, 2, 8), std::slice::from_ref(&last))), 38);
    assert_eq!(told(slot(report(first, 9, 99), &[])), 38, "a life that is settled");
    assert_eq!(told(slot(report(life(2, 1), 1, 2), &[])), 40, "in another slot");
}

#[test]
fn the_newest_of_a_workers_own_and_its_supervisors_word_counts() {
    let mut statistics = Statistics::default();
    let first = life(1, 1);
    statistics.heard_slot(&slot(report(first, 1, 10), &[]), heard(0));
    statistics.heard_worker(&report(first, 3, 30), heard(0));
    assert_eq!(total(&statistics), 30);
    statistics.heard_slot(&slot(report(first, 2, 20), &[]), heard(0));
    assert_eq!(total(&statistics), 30);
    statistics.heard_slot(&slot(report(life(1, 2), 1, 1), &[report(first, 2, 20)]), heard(0));
    assert_eq!(total(&statistics), 31);
}

#[test]
fn a_report_that_is_not_of_the_slots_worker_is_dropped() {
    let mut statistics = Statistics::default();
    let foreign = Report { worker: WorkerIndex(1), ..report(life(1, 1), 1, 10) };
    statistics.heard_slot(&slot(foreign.clone(), &[]), heard(0));
    statistics.heard_slot(&slot(report(life(1, 2), 1, 3), &[foreign]), heard(0));
    assert_eq!(total(&statistics), 3);
    statistics.forget(&topology());
    assert_eq!(total(&statistics), 0);
}

#[test]
fn a_new_nimbus_rebuilds_totals_and_only_those_windows_that_it_knows() {
    let mut statistics = Statistics::default();
    // A life of five hours, after two others.
    let long = Report { uptime_us: 5 * HOUR * 1000, ..report(life(1, 3), 7, 500) };
    let ended = [report(life(1, 1), 4, 1_000), report(life(1, 2), 4, 2_000)];
    statistics.heard_slot(&slot(long.clone(), &ended), heard(MINUTE));
    assert_eq!(executed(&statistics, MINUTE), [0, 0, 500, 3_500]);
    let next = Report { number: 8, ..long.clone() };
    let next = Report { executors: report(life(1, 3), 8, 501).executors, ..next };
    statistics.heard_slot(&slot(next, &ended), heard(MINUTE + SECOND));
    assert_eq!(executed(&statistics, MINUTE + SECOND), [1, 1, 501, 3_501]);
    // From now on lives are followed, those that end before they are heard too.
    let unheard = report(life(1, 4), 1, 10);
    let ended = [long, unheard];
    statistics.heard_slot(&slot(report(life(1, 5), 1, 100), &ended), heard(MINUTE + SECOND));
    assert_eq!(executed(&statistics, MINUTE + SECOND), [111, 111, 611, 3_611]);
}

#[test]
fn windows_forget_what_is_older_than_they_are() {
    let mut statistics = Statistics::default();
    let mut at = |now_ms: u64, number: u64, count: u64| {
        statistics.heard_worker(&report(life(1, 1), number, count), heard(now_ms));
        executed(&statistics, now_ms)
    };
    assert_eq!(at(0, 1, 1), [1, 1, 1, 1]);
    assert_eq!(at(5 * MINUTE, 2, 11), [11, 11, 11, 11]);
    assert_eq!(at(9 * MINUTE + 59 * SECOND, 3, 111), [111, 111, 111, 111]);
    assert_eq!(at(10 * MINUTE, 4, 111), [110, 111, 111, 111], "nothing new is told, but time goes on");
    assert_eq!(at(15 * MINUTE + 19 * SECOND, 5, 1_111), [1_100, 1_111, 1_111, 1_111]);
    assert_eq!(at(15 * MINUTE + 20 * SECOND, 6, 1_111), [1_100, 1_111, 1_111, 1_111]);
    assert_eq!(at(3 * HOUR, 7, 11_111), [10_000, 11_100, 11_111, 11_111]);
    let now = 24 * HOUR;
    assert_eq!(executed(&statistics, now - 1), [0, 0, 11_111, 11_111]);
    assert_eq!(executed(&statistics, now), [0, 0, 10_000, 11_111]);
    assert_eq!(executed(&statistics, 2 * now), [0, 0, 0, 11_111]);
}

/// Counts of which each number is another.
fn all_counts(times: u64) -> Counts {
    let mut execute = Distribution::default();
    execute.record(100, 3 * times);
    execute.record(110, times);
    Counts {
        executed: times,
        acked: 2 * times,
        failed: 3 * times,
        failed_by_kind: [(FailKind::TimedOut, 4 * times), (FailKind::Failed, 5 * times)].into(),
        outputs: [("default".to_owned(), Output { emitted: 6 * times, transferred: 7 * times })].into(),
        inputs: vec![Input {
            component: "split".to_owned(),
            stream: "default".to_owned(),
            executed: 8 * times,
            acked: 9 * times,
            failed: 10 * times,
            execute_us: 11 * times,
            process_us: 12 * times,
        }],
        pending: 13,
        held: 14,
        window: 15,
        restarts: 16 * times,
        malformed: 17 * times,
        error_count: 18 * times,
        execute,
        process: Distribution { sum_us: 19 * times, buckets: vec![(3, 20 * times)] },
        complete: Distribution { sum_us: 21 * times, buckets: vec![(5, 22 * times)] },
    }
}

#[test]
fn every_count_is_kept_in_totals_and_windows() {
    let mut statistics = Statistics::default();
    let full = |number: u64, life: Life, times: u64| {
        let mut report = report(life, number, 0);
        report.executors[0].counts = all_counts(times);
        report
    };
    statistics.heard_worker(&full(1, life(1, 1), 2), heard(0));
    statistics.heard_worker(&full(2, life(1, 1), 3), heard(11 * MINUTE));
    statistics.heard_worker(&full(1, life(1, 2), 4), heard(11 * MINUTE));
    let windows = executor(&statistics, 11 * MINUTE).windows;
    assert_eq!(windows[&Window::AllTime], all_counts(7));
    // In windows times stand in buckets a quarter wide: 103 and 111 are both below 111.
    let coarse = |times: u64| {
        let execute = Distribution { sum_us: 410 * times, buckets: vec![(111, 4 * times)] };
        Counts { execute, ..all_counts(times) }
    };
    assert_eq!(windows[&Window::Day], coarse(7));
    assert_eq!(windows[&Window::TenMinutes], coarse(5));
    assert_eq!(executor(&statistics, 22 * MINUTE).windows[&Window::TenMinutes], Counts::default());
}

#[test]
fn counts_beyond_all_bounds_harm_nobody() {
    let mut statistics = Statistics::default();
    for incarnation in 1..4 {
        let mut report = report(life(1, incarnation), 1, u64::MAX);
        report.uptime_us = u64::MAX;
        report.executors[0].counts.outputs =
            [("s".to_owned(), Output { emitted: u64::MAX, transferred: u64::MAX })].into();
        report.executors[0].counts.execute = Distribution { sum_us: 0, buckets: vec![(u64::MAX, 1)] };
        statistics.heard_slot(&SlotWorker { report_age_ms: Some(u64::MAX), ..slot(report, &[]) }, heard(0));
    }
    assert_eq!(total(&statistics), u64::MAX);
}

#[test]
fn memory_is_bounded() {
    let mut statistics = Statistics::default();
    // Two days of reports each ten seconds, a new life each hour, whose end is never told.
    for second in (0..48 * 3600).step_by(10) {
        let report = report(life(1, second / 3600), second % 3600 + 1, second % 3600);
        statistics.heard_worker(&report, heard(second * SECOND));
    }
    assert_eq!(total(&statistics), 48 * 3590);
    let topology = &statistics.topologies[&topology()];
    assert_eq!(topology.workers[&WorkerIndex(0)].open.len(), OPEN_LIVES);
    assert_eq!(topology.executors[&TaskId(5)].windows.full_buckets(), [29, 29, 29]);
    // A new plan for each life.
    for plan in 2..100 {
        statistics.heard_slot(&slot(report(life(plan, 2), 1, 1), &[report(life(plan, 1), 1, 1)]), heard(0));
    }
    let topology = &statistics.topologies[&self::topology()];
    assert_eq!(topology.workers[&WorkerIndex(0)].settled.len(), SETTLED_PLANS);
    let before = total(&statistics);
    statistics.heard_worker(&report(life(3, 2), 9, 9), heard(0));
    assert_eq!(total(&statistics), before, "a plan of long ago");
}

#[test]
fn an_open_life_of_a_plan_that_is_forgotten_makes_room_too() {
    let mut lives = Lives::default();
    lives.open.entry(life(1, 1)).or_default();
    for plan in 0..SETTLED_PLANS as u64 {
        lives.settle(life(2 + plan, 1));
    }
    assert!(lives.is_settled(life(1, 1)));
    lives.settle(life(1, 1));
    assert!(lives.open.is_empty());
}

#[test]
fn an_executor_shows_how_it_is_now() {
    let mut statistics = Statistics::default();
    let nothing = executor(&statistics, 0);
    assert_eq!((nothing.uptime_ms, nothing.doing, nothing.windows.len()), (None, None, 4));
    let mut first = report(life(1, 1), 9, 1);
    first.executors[0].doing = Doing::WaitingForRoom(TaskId(7));
    first.executors[0].doing_since_us = 7_500_000;
    first.executors[0].inbox = Waiting { tuples: 3, bytes: 40 };
    first.executors[0].counts.pending = 12;
    let told = SlotWorker { report_age_ms: Some(2_000), ..slot(first.clone(), &[]) };
    statistics.heard_slot(&told, heard(10_000));

    let shown = executor(&statistics, 11_000);
    assert_eq!(
        (shown.component.as_str(), shown.tasks, shown.worker),
        ("count", (TaskId(5), TaskId(6)), WorkerIndex(0))
    );
    // Nine seconds old when it reported, which is three seconds ago.
    assert_eq!(shown.uptime_ms, Some(12_000));
    assert_eq!(shown.doing, Some((Doing::WaitingForRoom(TaskId(7)), 4_500)));
    assert_eq!(shown.inbox, Waiting { tuples: 3, bytes: 40 });
    assert_eq!(Window::ALL.map(|window| shown.windows[&window].pending), [12; 4]);

    assert!(executor(&statistics, 37_999).doing.is_some());
    let silent = executor(&statistics, 38_000);
    assert_eq!((silent.doing, silent.uptime_ms, silent.inbox), (None, None, Waiting::default()));
    assert_eq!(silent.windows[&Window::AllTime].pending, 0);

    // Its worker has ended, and the next one has not reported.
    let mut statistics = Statistics::default();
    statistics.heard_slot(&told, heard(10_000));
    statistics.heard_slot(&SlotWorker { report: None, ..slot(first.clone(), &[first]) }, heard(10_000));
    assert_eq!((executor(&statistics, 10_000).doing, total(&statistics)), (None, 1));
}

#[test]
fn the_last_ten_errors_of_a_component_are_kept_by_time() {
    let mut statistics = Statistics::default();
    let failing = |life: Life, number: u64, errors: &[(u64, &str)]| {
        let mut report = report(life, number, 0);
        let error =
            |(second, text): &(u64, &str)| ReportedError { at_us: second * 1_000_000, message: text.to_string() };
        report.executors[0].errors = errors.iter().map(error).collect();
        report
    };
    let told = |statistics: &Statistics| -> Vec<(u64, String)> {
        let errors = statistics.errors(&topology()).remove("count").unwrap_or_default();
        errors.into_iter().map(|error| (error.at_ms - EPOCH_MS, error.message)).collect()
    };
    // The worker began at second 90.
    statistics.heard_worker(&failing(life(1, 1), 10, &[(1, "a"), (2, "b")]), heard(100_000));
    statistics.heard_worker(&failing(life(1, 1), 11, &[(1, "a"), (2, "b"), (10, "c")]), heard(101_000));
    let expected = [(91_000, "a".to_owned()), (92_000, "b".to_owned()), (100_000, "c".to_owned())];
    assert_eq!(told(&statistics), expected);
    let first = statistics.errors(&topology())["count"][0].clone();
    assert_eq!((first.host.as_str(), first.port), ("box", Port(6700)));

    // What comes with its end is dated back from there, and told once.
    let mut ended = slot(report(life(1, 2), 1, 0), &[failing(life(1, 1), 12, &[(10, "c"), (11, "d")])]);
    ended.ends[0].ended_ms = EPOCH_MS + 103_000;
    statistics.heard_slot(&ended, heard(110_000));
    statistics.heard_slot(&ended, heard(111_000));
    assert_eq!(told(&statistics)[3..], [(102_000, "d".to_owned())]);

    for number in 2..10 {
        let text = number.to_string();
        statistics.heard_worker(&failing(life(1, 2), number, &[(number, &text)]), heard(120_000 + number));
    }
    let texts: Vec<String> = told(&statistics).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["c", "d", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

/// Something that is told of lives 1, 2, … of a worker, in any order and again and again.
#[derive(Clone, Debug)]
enum Word {
    /// A life reports by itself.
    Direct { life: usize, number: u64 },
    /// The Supervisor tells of a life, and of the ends of all before it.
    Slot { life: usize, number: u64 },
}

fn word() -> impl Strategy<Value = Word> {
    (any::<bool>(), 0..OPEN_LIVES, 1..5u64).prop_map(|(direct, life, number)| match direct {
        true => Word::Direct { life, number },
        false => Word::Slot { life, number },
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn whatever_the_order_nothing_is_lost_or_counted_twice(
        steps in prop::collection::vec(prop::collection::vec(0..100u64, 5), OPEN_LIVES),
        words in prop::collection::vec(word(), 0..30),
    ) {
        // What each life had executed at each of its reports.
        let counts: Vec<Vec<u64>> = steps.iter().map(|steps| steps.iter().scan(0, |sum, step| { *sum += step; Some(*sum) }).collect()).collect();
        let of = |at: usize, number: u64| report(life(1, at as u64 + 1), number, counts[at][number as usize]);
        let ended = |before: usize| -> Vec<Report> { (0..before).map(|at| of(at, 4)).collect() };
        let mut statistics = Statistics::default();
        let mut before = 0;
        for word in &words {
            match word {
                Word::Direct { life, number } => statistics.heard_worker(&of(*life, *number), heard(0)),
                Word::Slot { life, number } => statistics.heard_slot(&slot(of(*life, *number), &ended(*life)), heard(0)),
            }
            prop_assert!(total(&statistics) >= before, "totals only grow");
            before = total(&statistics);
        }
        statistics.heard_slot(&slot(of(OPEN_LIVES - 1, 4), &ended(OPEN_LIVES - 1)), heard(0));
        prop_assert_eq!(total(&statistics), counts.iter().map(|counts| counts[4]).sum::<u64>());
    }
}
