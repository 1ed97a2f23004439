//! How long Nimbus takes to plan a large cluster: 10,000 workers with 100,000 executors on 1,000 machines.
//!
//! Not here: planning (`nimbus::scheduling`). Invariant: there is no hand-written program to compare with; each round's
//! plans are counted, so that none is fast by doing nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use baseline::measure::now;
use nimbus::scheduling::{Component, Machine, Round, TopologyDetails, schedule};
use storm::ids::TaskId;
use worker_api::ids::{Port, SupervisorId, TopologyId};

use crate::outcome::{Outcome, figures, median};

const MACHINES: u32 = 1_000;
const DEAD_MACHINES: u32 = 50;
const SLOTS: u16 = 12;
const TOPOLOGIES: u32 = 100;
const WORKERS: u16 = 100;
const EXECUTORS: u32 = 1_000;

/// Runs the rounds.
pub(crate) fn run(case: &str, rounds: u32) -> Result<Outcome> {
    let (machines, submitted) = cluster()?;
    let alive: BTreeMap<SupervisorId, Machine> =
        machines.iter().skip(DEAD_MACHINES as usize).map(|(id, machine)| (id.clone(), machine.clone())).collect();
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        let mut topologies = submitted.clone();
        let (first, first_ms) = timed(|| schedule(&machines, &topologies));
        ensure!(workers(&first) == TOPOLOGIES * u32::from(WORKERS), "the first plans have {} workers", workers(&first));
        for topology in &mut topologies {
            topology.plan = first.plans.get(&topology.id).cloned();
        }
        let (again, again_ms) = timed(|| schedule(&machines, &topologies));
        ensure!(again.plans.is_empty(), "{} plans changed without a cause", again.plans.len());
        let (moved, moved_ms) = timed(|| schedule(&alive, &topologies));
        ensure!(!moved.plans.is_empty(), "no plan has left the dead machines");
        let (records, records_ms) =
            timed(|| first.plans.values().map(|plan| plan.records()).collect::<Result<Vec<_>, _>>());
        ensure!(records?.len() == TOPOLOGIES as usize, "a plan has no records");
        times.iter_mut().zip([first_ms, again_ms, moved_ms, records_ms]).for_each(|(times, ms)| times.push(ms));
    }
    let [first, again, moved, records] = times.map(median);
    let figures = figures([
        ("workers", f64::from(TOPOLOGIES * u32::from(WORKERS))),
        ("executors", f64::from(TOPOLOGIES * EXECUTORS)),
        ("machines", f64::from(MACHINES)),
        ("first_plans_ms", first),
        ("unchanged_ms", again),
        ("dead_machines_ms", moved),
        ("records_ms", records),
    ]);
    Ok(Outcome::new(case, rounds, Vec::new(), figures))
}

/// What a step gives, and how many milliseconds it took.
fn timed<T>(step: impl FnOnce() -> T) -> (T, f64) {
    let begun = now();
    let given = step();
    (given, begun.elapsed().as_secs_f64() * 1000.0)
}

/// Machines with more slots than workers, and topologies of one component.
fn cluster() -> Result<(BTreeMap<SupervisorId, Machine>, Vec<TopologyDetails>)> {
    let slots: BTreeSet<Port> = (6700..6700 + SLOTS).map(Port).collect();
    let machine = |number: u32| {
        let host = format!("machine-{number}.example");
        let platform = "x86_64-linux".to_owned();
        Ok((SupervisorId::new(host.clone())?, Machine::Available { host, platform, slots: slots.clone() }))
    };
    let topology = |number: u32| {
        Ok(TopologyDetails {
            id: TopologyId::new(format!("topology-{number}"))?,
            submitted_ms: u64::from(number),
            platform: "x86_64-linux".to_owned(),
            workers: WORKERS,
            components: vec![Component { first_task: TaskId(1), tasks: EXECUTORS, executors: EXECUTORS }],
            leaving: false,
            ended: false,
            anew: false,
            plan: None,
            failing: BTreeMap::new(),
        })
    };
    Ok(((0..MACHINES).map(machine).collect::<Result<_>>()?, (0..TOPOLOGIES).map(topology).collect::<Result<_>>()?))
}

fn workers(round: &Round) -> u32 {
    round.plans.values().map(|plan| plan.workers.len() as u32).sum()
}
