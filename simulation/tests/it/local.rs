//! The workload on a local cluster, whose workers are killed and separated by a seed, under the oracle's eyes.
//!
//! Not here: the invariants' own tests, beside each. Invariant: a run depends on its seed alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use local_cluster::{LocalCluster, run_seeded};
use seam::Seam;
use simulation::oracle::{Invariant, Observation, Running, Settled, Violation, between_workers};
use simulation::workload::{SubmittedTopology, Workload};
use tokio::time::Instant;
use worker_api::ids::{Incarnation, Life, PlanVersion, TopologyId, WorkerIndex};

/// What a run came to.
#[derive(Default)]
struct Outcome {
    violations: Vec<(Duration, Violation)>,
    emitted: u64,
    acked: u64,
    failed: u64,
    /// All that was heard, as text.
    log: String,
}

/// What has come so far, and who judges it.
#[derive(Default)]
struct Heard {
    outcome: Outcome,
    invariants: Vec<Box<dyn Invariant + Send>>,
}

impl Heard {
    fn hear(&mut self, at: Duration, observation: &Observation) {
        let Outcome { violations, emitted, acked, failed, log } = &mut self.outcome;
        match observation {
            Observation::Emitted { .. } => *emitted += 1,
            Observation::Acked { .. } => *acked += 1,
            Observation::Failed { .. } => *failed += 1,
            _ => {}
        }
        if !matches!(observation, Observation::WorkerEnded { .. }) {
            *log += &format!("{at:?} {observation:?}\n");
        }
        let judged = self.invariants.iter_mut().filter_map(|invariant| invariant.observe(at, observation).err());
        violations.extend(judged.map(|violation| (at, violation)));
    }
}

/// One topology in a cluster of its own.
struct Stage {
    cluster: LocalCluster,
    id: TopologyId,
    lives: Vec<Life>,
}

impl Stage {
    async fn start(topology: &SubmittedTopology, seam: &Seam) -> Stage {
        let id = TopologyId::of(topology.name(), 1, 1);
        let cluster = LocalCluster::builder(topology.build(&id)).seam(seam.clone()).start().await.unwrap();
        let life = Life { plan: PlanVersion(1), incarnation: Incarnation(1) };
        let lives = vec![life; cluster.reports().len()];
        Stage { cluster, id, lives }
    }

    async fn disturb(&mut self, seam: &Seam, hear: &dyn Fn(Observation)) {
        let workers = self.lives.len() as u64;
        if workers < 2 {
            return;
        }
        let (one, other) = (seam.random() % workers, seam.random() % (workers - 1));
        let (one, other) = (one as u16, if other >= one { other + 1 } else { other } as u16);
        match seam.random() % 3 {
            0 => self.cluster.break_connection(one, other),
            1 => {
                self.cluster.separate(one, other);
                seam.sleep(Duration::from_millis(seam.random() % 3000)).await;
                self.cluster.rejoin(one, other);
            }
            _ => {
                let report = Box::new(self.cluster.reports().swap_remove(usize::from(one)));
                let (topology, worker, life) = (self.id.clone(), WorkerIndex(one), self.lives[usize::from(one)]);
                self.cluster.kill_worker(one);
                hear(Observation::WorkerEnded { topology, worker, life, in_order: false, report });
                seam.sleep(Duration::from_millis(seam.random() % 2000)).await;
                self.lives[usize::from(one)].incarnation.0 += 1;
                self.cluster.restart_worker(one).await.unwrap();
            }
        }
    }

    fn queued(&self) -> u64 {
        let reports = self.cluster.reports();
        reports.iter().flat_map(|report| &report.executors).map(|executor| executor.inbox.tuples).sum()
    }

    fn running(&self) -> Running {
        let reports = self.cluster.reports().into_iter().zip(&self.lives).enumerate();
        Running {
            plan: PlanVersion(1),
            workers_planned: self.lives.len(),
            workers_wanted: self.lives.len(),
            workers: reports
                .map(|(worker, (report, life))| (WorkerIndex(worker as u16), (*life, Some(Box::new(report)))))
                .collect(),
            pending: self.cluster.pending(),
            queued: self.queued(),
        }
    }
}

/// Runs what the seed draws for so many seconds, disturbed, and then until all is settled, or for ten minutes.
fn run(seed: u64, seconds: u64, disturbed: bool) -> Outcome {
    run_seeded(seed, async |seam| {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let start = Instant::now();
        let hear = {
            let heard = heard.clone();
            move |observation: Observation| heard.lock().unwrap().hear(start.elapsed(), &observation)
        };
        let workload = Workload::of(seed, Arc::new(hear.clone()));
        heard.lock().unwrap().invariants = between_workers(&workload.shapes());
        let mut stages = Vec::new();
        for topology in workload.topologies() {
            let stage = Stage::start(topology, &seam).await;
            hear(Observation::Submitted { topology: stage.id.clone(), effects: topology.effects() });
            stages.push(stage);
        }
        if !disturbed {
            workload.faults_on(false);
        }
        while start.elapsed() < Duration::from_secs(seconds) {
            seam.sleep(Duration::from_millis(seam.random() % 4000)).await;
            if disturbed {
                let which = seam.random() as usize % stages.len();
                stages[which].disturb(&seam, &hear).await;
            }
        }
        workload.faults_on(false);
        hear(Observation::FaultsStop);
        seam.sleep(Duration::from_secs(5)).await;
        workload.close_sources();
        let deadline = Instant::now() + Duration::from_secs(600);
        let is_settled = |stage: &Stage| stage.cluster.pending() == 0 && stage.queued() == 0;
        while Instant::now() < deadline && !stages.iter().all(is_settled) {
            seam.sleep(Duration::from_millis(500)).await;
        }
        // What a spout has replayed at last is settled too.
        seam.sleep(Duration::from_secs(30)).await;
        let running: BTreeMap<_, _> = stages.iter().map(|stage| (stage.id.clone(), stage.running())).collect();
        let Heard { mut outcome, invariants } = std::mem::take(&mut *heard.lock().unwrap());
        let settled = Settled { running, ..Settled::default() };
        let judged = invariants.into_iter().filter_map(|mut invariant| invariant.finish(&settled).err());
        outcome.violations.extend(judged.map(|violation| (start.elapsed(), violation)));
        for stage in stages {
            stage.cluster.stop(Duration::ZERO).await;
        }
        outcome
    })
}

#[test]
fn nothing_is_lost_doubled_or_forgotten_whatever_happens_to_workers() {
    for seed in 0..20 {
        let Outcome { violations, emitted, acked, failed, .. } = run(seed, 60, true);
        assert_eq!(violations, [], "seed {seed}");
        assert!(
            acked > 200 && emitted >= acked + failed,
            "seed {seed}: {emitted} emitted, {acked} acked, {failed} failed"
        );
    }
}

#[test]
fn undisturbed_each_tuple_is_acked_at_its_first_attempt() {
    for seed in 0..5 {
        let Outcome { violations, emitted, acked, failed, .. } = run(seed, 60, false);
        assert_eq!(violations, [], "seed {seed}");
        assert_eq!((emitted, failed), (acked, 0), "seed {seed}");
    }
}

#[test]
fn a_run_depends_on_its_seed_alone() {
    let (one, other) = (run(3, 20, true), run(3, 20, true));
    assert!(one.log == other.log, "two runs of one seed differ");
    assert!(run(4, 20, true).log != one.log);
}

/// Bugs between workers, switched on.
#[cfg(feature = "mutations")]
mod mutated {
    use mutations::Mutation;

    use super::*;

    /// Within how many seeds each is found: three times as many as were needed when this was measured.
    const WITHIN: [(Mutation, u64); 9] = [
        (Mutation::CompletionByIndexAlone, 3),
        (Mutation::OneEdgeForBothParents, 45),
        (Mutation::EdgeByEdge, 12),
        (Mutation::MergedBySlotAlone, 3),
        (Mutation::FailAsXor, 3),
        (Mutation::DoubleXor, 3),
        (Mutation::LostFail, 3),
        (Mutation::GrantAsIncrement, 3),
        (Mutation::AckWaitsForCredit, 3),
    ];

    /// The first seed that finds the bug, and what it says.
    fn found(mutation: Mutation, seeds: u64) -> Option<(u64, String)> {
        (0..seeds).find_map(|seed| {
            mutations::switch(Some(mutation));
            let outcome = run(seed, 60, true);
            mutations::switch(None);
            let (at, violation) = outcome.violations.into_iter().next()?;
            Some((seed, format!("{at:?} {violation}")))
        })
    }

    #[test]
    fn each_bug_between_workers_is_found_within_its_seeds() {
        for (mutation, seeds) in WITHIN {
            let found = found(mutation, seeds);
            println!("{mutation:?}: {found:?}");
            assert!(found.is_some(), "{mutation:?} was not found within {seeds} seeds");
        }
    }
}
