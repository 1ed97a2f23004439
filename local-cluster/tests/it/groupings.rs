//! Which task gets a tuple, end to end; and what a task knows of itself.

use std::collections::{BTreeMap, BTreeSet};

use storm::grouping::CustomGrouping;
use storm::local_cluster::run_paused;
use storm::local_cluster::testing::Feed;
use storm::prelude::*;

use crate::stage::*;

#[tuple]
struct Visit {
    user: Text,
    page: u64,
}

struct Modulo;

impl CustomGrouping<Item> for Modulo {
    fn choose(&mut self, item: &Item, tasks: &[TaskId], chosen: &mut Vec<TaskId>) {
        match item.n % 10 {
            0 => {}
            9 => chosen.push(TaskId(77)),
            n => chosen.extend(tasks.iter().take(n as usize)),
        }
    }
}

/// What each task of `sink` saw of the items, under a subscription of one's own.
fn spread(
    workers: u16,
    count: u64,
    wire: impl Fn(&mut TopologyBuilder, &Stream<Item>, Log<(u32, u64)>) + 'static,
) -> (BTreeMap<u32, Vec<u64>>, Feed<Item>) {
    run_paused(async |seam| {
        let feed = Feed::of(items(0..count));
        let mut topology = Topology::builder("spread");
        let source = feed.clone();
        let numbers = topology.spout("numbers", move || source.spout()).add();
        let log = Log::new();
        wire(&mut topology, &numbers, log.clone());
        run(topology, workers, &seam).await;
        let mut by_task: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (task, n) in log.all() {
            by_task.entry(task).or_default().push(n);
        }
        (by_task, feed)
    })
}

fn noting(log: Log<(u32, u64)>) -> impl FnMut(&Context, Item, &mut Emitter<()>) -> Result + Clone + Send + Sync {
    move |context, item, _| {
        log.add((context.task().0, item.n));
        Ok(())
    }
}

fn all_acked(feed: &Feed<Item>, count: u64) {
    let mut acked = feed.acked();
    acked.sort_unstable();
    assert_eq!(acked, (0..count).collect::<Vec<_>>());
    assert_eq!(feed.failed(), []);
}

#[test]
fn shuffle_and_none_give_each_tuple_to_one_task_evenly() {
    for workers in [1, 3] {
        for none in [false, true] {
            let (by_task, feed) = spread(workers, 30_000, move |topology, numbers, log| {
                let sink = topology.bolt("sink", does(noting(log))).parallelism(3);
                if none { sink.none(numbers).add() } else { sink.shuffle(numbers).add() }
            });
            let mut all: Vec<u64> = by_task.values().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..30_000).collect::<Vec<_>>());
            for (task, seen) in &by_task {
                assert!((9_000..=11_000).contains(&seen.len()), "task {task} saw {} with {workers}", seen.len());
            }
            assert_eq!(by_task.keys().copied().collect::<Vec<_>>(), [2, 3, 4]);
            all_acked(&feed, 30_000);
        }
    }
}

#[test]
fn local_or_shuffle_stays_in_the_worker_of_the_emitter() {
    // Executors go to workers in turn: `numbers` (task 1) to the first, `sink` (2 ..= 7) to 1 2 0 1 2 0.
    let (by_task, feed) = spread(3, 1000, |topology, numbers, log| {
        topology.bolt("sink", does(noting(log))).parallelism(6).local_or_shuffle(numbers).add()
    });
    assert_eq!(by_task.keys().copied().collect::<Vec<_>>(), [4, 7]);
    all_acked(&feed, 1000);
    // Without a task in its worker it is a shuffle.
    let (by_task, feed) = spread(3, 1000, |topology, numbers, log| {
        topology.bolt("sink", does(noting(log))).parallelism(2).local_or_shuffle(numbers).add()
    });
    assert_eq!(by_task.keys().copied().collect::<Vec<_>>(), [2, 3]);
    all_acked(&feed, 1000);
}

#[test]
fn all_gives_each_task_each_tuple_once() {
    for workers in [1, 3] {
        let (by_task, feed) = spread(workers, 500, |topology, numbers, log| {
            topology.bolt("sink", does(noting(log))).parallelism(5).all(numbers).add()
        });
        let expected: Vec<u64> = (0..500).collect();
        for task in 2..=6 {
            assert_eq!(by_task[&task], expected, "task {task} with {workers} workers");
        }
        all_acked(&feed, 500);
    }
}

#[test]
fn global_gives_all_to_the_lowest_task() {
    for workers in [1, 3] {
        let (by_task, feed) = spread(workers, 500, |topology, numbers, log| {
            topology.bolt("sink", does(noting(log))).parallelism(5).global(numbers).add()
        });
        assert_eq!(by_task, BTreeMap::from([(2, (0..500).collect())]));
        all_acked(&feed, 500);
    }
}

#[test]
fn a_custom_grouping_chooses_none_some_or_a_foreign_task() {
    for workers in [1, 3] {
        let (by_task, feed) = spread(workers, 20, |topology, numbers, log| {
            topology.bolt("sink", does(noting(log))).parallelism(3).custom(numbers, || Modulo).add()
        });
        assert_eq!(by_task[&2], [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18]);
        assert_eq!(by_task[&3], [2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17, 18]);
        assert_eq!(by_task[&4], [3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 17, 18]);
        let mut acked = feed.acked();
        acked.sort_unstable();
        assert_eq!(acked, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
        let said = "sink failed it: its custom grouping chose [TaskId(77)], not all of them its tasks [TaskId(2), TaskId(3), TaskId(4)]";
        let mut failed = told(feed.failed());
        failed.sort();
        assert_eq!(failed, [(9, said.to_owned()), (19, said.to_owned())]);
    }
}

/// Typed, by closure, by name and dynamic: one key, one task, wherever the bolts run.
#[test]
fn a_key_goes_to_one_task_however_it_is_wired() {
    for workers in [1, 3] {
        run_paused(async |seam| {
            let visits: Vec<Visit> =
                (0..600).map(|n| Visit { user: format!("user-{}", n % 40).into(), page: n }).collect();
            let feed = Feed::of(visits);
            let mut topology = Topology::builder("keys");
            let source = feed.clone();
            let visits = topology.spout("visits", move || source.spout()).add();
            let seen: Log<(String, String, usize)> = Log::new();
            let log = seen.clone();
            let typed = move |context: &Context, visit: Visit, _: &mut Emitter<()>| {
                log.add((context.component().to_owned(), visit.user.to_string(), context.task_index()));
                Ok(())
            };
            let log = seen.clone();
            let dynamic = move |context: &Context, visit: DynamicTuple, _: &mut Emitter<()>| {
                let user = visit.text("user").expect("the field is there").to_string();
                log.add((context.component().to_owned(), user, context.task_index()));
                Ok(())
            };
            topology.bolt("a-token", does(typed.clone())).parallelism(4).fields(&visits, Visit::USER).add();
            topology.bolt("b-closure", does(typed.clone())).parallelism(4).fields_by(&visits, |v| &v.user).add();
            topology
                .bolt("c-computed", does(typed.clone()))
                .parallelism(4)
                .fields_with(&visits, |v| v.user.clone())
                .add();
            topology
                .bolt("d-names", does(dynamic))
                .parallelism(4)
                .subscribe("visits", Grouping::fields(["user"]))
                .add();
            topology.bolt("e-partial", does(typed)).parallelism(4).partial_key(&visits, Visit::USER).add();
            run(topology, workers, &seam).await;
            let mut tasks: BTreeMap<(String, String), BTreeSet<usize>> = BTreeMap::new();
            for (component, user, task) in seen.all() {
                tasks.entry((component, user)).or_default().insert(task);
            }
            assert_eq!(seen.len(), 5 * 600);
            for user in (0..40).map(|n| format!("user-{n}")) {
                let of = |component: &str| tasks[&(component.to_owned(), user.clone())].clone();
                let token = of("a-token");
                assert_eq!(token.len(), 1, "{user}");
                for component in ["b-closure", "c-computed", "d-names"] {
                    assert_eq!(of(component), token, "{user} in {component}");
                }
                assert!(of("e-partial").len() <= 2, "{user}");
            }
            assert_eq!((feed.acked().len(), feed.failed()), (600, vec![]));
        });
    }
}

#[derive(Output)]
struct Dealt {
    cards: Direct<Item>,
}

#[test]
fn direct_grouping_reaches_the_named_task_and_refuses_others() {
    for workers in [1, 3] {
        run_paused(async |seam| {
            let feed = Feed::of(items(0..9));
            let mut topology = Topology::builder("direct");
            let source = feed.clone();
            let numbers = topology.spout("numbers", move || source.spout()).add();
            let deal = |_: &Context, item: Item, out: &mut Emitter<Dealt>| {
                let receivers = out.cards.receivers().to_vec();
                assert_eq!(receivers, [TaskId(3), TaskId(4), TaskId(5), TaskId(6)]);
                match item.n {
                    8 => out.cards.emit_to(TaskId(1), item),
                    n => out.cards.emit_to(receivers[n as usize % 4], item),
                }
            };
            let dealt = topology.bolt("dealer", does(deal)).shuffle(&numbers).add();
            let log = Log::new();
            topology.bolt("player", does(noting(log.clone()))).parallelism(3).direct(&dealt.cards).add();
            topology.bolt("onlooker", does(noting(log.clone()))).direct(&dealt.cards).add();
            run(topology, workers, &seam).await;
            // By name: dealer 1, numbers 2, onlooker 3, player 4 to 6.
            assert_eq!(log.sorted(), [(3, 0), (3, 4), (4, 1), (4, 5), (5, 2), (5, 6), (6, 3), (6, 7)]);
            let mut acked = feed.acked();
            acked.sort_unstable();
            assert_eq!(acked, [0, 1, 2, 3, 4, 5, 6, 7]);
            let said = "dealer failed it: emitted to task 1, which does not subscribe to this direct stream; its subscribers are [3, 4, 5, 6]";
            assert_eq!(told(feed.failed()), [(8, said.to_owned())]);
        });
    }
}

struct Introduces(Log<String>);

impl Bolt for Introduces {
    type Input = Item;
    type Output = ();

    fn prepare(&mut self, context: &Context) -> Result {
        let peers: Vec<u32> = context.peers().iter().map(|task| task.0).collect();
        let conf = context.conf("my.greeting").and_then(|value| value.as_str()).unwrap_or("-").to_owned();
        let token = context.fencing_token();
        context.metrics().counter("prepared").add(u64::from(context.task().0));
        context.metrics().gauge("index").set(context.task_index() as i64);
        let spouts: Vec<u32> = context.tasks_of("zeta").iter().map(|task| task.0).collect();
        self.0.add(format!(
            "{} task {} ({} of {peers:?}) in worker {} says {conf}, {}/{}, zeta {spouts:?}",
            context.component(),
            context.task(),
            context.task_index(),
            context.worker(),
            token.plan_version,
            token.incarnation,
        ));
        Ok(())
    }

    fn execute(&mut self, _: Item, _: &mut Emitter<()>) -> Result {
        Ok(())
    }
}

/// Task ids count from 1 over the components by name; executors run contiguous tasks, the larger ones first.
#[test]
fn tasks_are_numbered_as_in_storm_and_know_their_place() {
    for (workers, of_mid) in [(1, [0, 0, 0, 0, 0]), (2, [1, 1, 1, 0, 0])] {
        run_paused(async |seam| {
            let log = Log::new();
            let said = log.clone();
            let mut topology = Topology::builder("places");
            topology.config("my.greeting", "hello");
            let feed = Feed::of(items(0..1));
            let zeta = topology.spout("zeta", move || feed.spout()).add();
            let (one, two) = (said.clone(), said.clone());
            topology.bolt("mid", move || Introduces(one.clone())).parallelism(2).tasks(5).shuffle(&zeta).add();
            topology.bolt("alpha", move || Introduces(two.clone())).config("my.greeting", "hi").shuffle(&zeta).add();
            let cluster = start(topology, workers, &seam).await;
            ended(&cluster, &seam).await;
            let mut expected = vec!["alpha task 1 (0 of [1]) in worker 0 says hi, 1/1, zeta [7]".to_owned()];
            for (index, worker) in of_mid.into_iter().enumerate() {
                let task = 2 + index;
                expected.push(format!(
                    "mid task {task} ({index} of [2, 3, 4, 5, 6]) in worker {worker} says hello, 1/1, zeta [7]"
                ));
            }
            assert_eq!(log.sorted(), expected);
            let mid: Vec<Vec<u32>> = executors(&cluster)
                .into_iter()
                .filter(|executor| executor.component == "mid")
                .map(|executor| executor.tasks.iter().map(|task| task.0).collect())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            assert_eq!(mid, [vec![2, 3, 4], vec![5, 6]]);
            let metrics: BTreeMap<u32, (i64, i64)> = cluster
                .reports()
                .into_iter()
                .flat_map(|report| report.metrics)
                .map(|(task, metrics)| (task.0, (metrics["prepared"], metrics["index"])))
                .collect();
            let expected = [(1, (1, 0)), (2, (2, 0)), (3, (3, 1)), (4, (4, 2)), (5, (5, 3)), (6, (6, 4))];
            assert_eq!(metrics, BTreeMap::from(expected));
            cluster.stop(std::time::Duration::ZERO).await;
        });
    }
}

struct Touchy;

impl CustomGrouping<Item> for Touchy {
    fn choose(&mut self, item: &Item, tasks: &[TaskId], chosen: &mut Vec<TaskId>) {
        assert!(item.n != 3, "three is not for me");
        chosen.push(tasks[0]);
    }
}

/// The author's code runs in groupings too: what it panics over fails, the rest goes on.
#[test]
fn a_panic_in_a_grouping_fails_what_it_was_to_route() {
    for workers in [1, 2] {
        let (by_task, feed) = spread(workers, 6, |topology, numbers, log| {
            topology.bolt("sink", does(noting(log))).custom(numbers, || Touchy).add()
        });
        assert_eq!(by_task, BTreeMap::from([(2, vec![0, 1, 2, 4, 5])]));
        assert_eq!(feed.acked().len(), 5);
        assert_eq!(told(feed.failed()), [(3, "sink panicked: in its custom grouping: three is not for me".to_owned())]);

        let (by_task, feed) = spread(workers, 6, |topology, numbers, log| {
            let key = |item: &Item| {
                assert!(item.n != 3, "three has no key");
                item.n
            };
            topology.bolt("sink", does(noting(log))).parallelism(2).fields_with(numbers, key).add()
        });
        // A key is asked for a batch at a time.
        assert!(by_task.values().flatten().all(|n| *n != 3));
        let failed = told(feed.failed());
        assert!(
            failed.contains(&(3, "sink panicked: in the key of its grouping: three has no key".to_owned())),
            "{failed:?}"
        );
        assert_eq!(feed.acked().len() + failed.len(), 6);
    }
}
