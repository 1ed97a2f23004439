//! What goes into an edge of the graph comes out of it: emitted × fan-out = executed + in flight + lost, over all lives.
//!
//! Judged at the end, from the last report of each life that ended and of those that live.
//!
//! Exact, of each life that lives: a spout's emits are acked, failed or pending; inputs of a bolt are acked, failed or, as
//! nothing is pending, none; what a stream carried is what was emitted times its fan-out (not with custom groupings, where
//! the rule is the user's).
//! Exact, if no worker ended: an edge's tuples are executed, every one of them, once.
//! A bound, if workers ended: an edge has lost at most what the roots that failed, or were lost with their spouts, had on it; and executed at most
//! 1,024 more for each executor that ended, which a killed one had sent and not counted yet.
//!
//! Of topologies that tell nothing of their tuples, workers' counts alone are judged.
//!
//! Not here: whether roots end (`at_least_once`). Invariant: no report, no judgement.

use std::collections::BTreeMap;
use std::time::Duration;

use topology_api::grouping::Grouping;
use topology_api::topology::ComponentGraph;
use worker::process::WorkerReport;
use worker_api::ids::{Life, TopologyId, TopologyName, WorkerIndex};
use worker_api::report::ExecutorReport;

use super::{Invariant, Observation, Settled, Violation, name_of};
use crate::workload::Shape;

/// Tuples of one turn of an executor: four batches of 256.
const UNCOUNTED: u64 = 1024;

type OneLife = (WorkerIndex, Life);

/// See the module.
pub struct Conservation {
    shapes: BTreeMap<String, Shape>,
    topologies: BTreeMap<TopologyId, Counted>,
}

/// What was heard of one topology.
#[derive(Default)]
struct Counted {
    /// Roots, by the life that emitted them.
    emitted: BTreeMap<OneLife, u64>,
    acked: u64,
    ended: Vec<(OneLife, Box<WorkerReport>)>,
}

/// Sums over all lives, for each component.
#[derive(Default)]
struct Sums {
    /// By component and stream.
    emitted: BTreeMap<(String, String), u64>,
    /// By the component that executes, the component and the stream that it takes.
    executed: BTreeMap<(String, String, String), u64>,
    /// Executors that ended, by component.
    ended: BTreeMap<String, u64>,
}

impl Sums {
    fn add(&mut self, executor: &ExecutorReport) {
        let component = &executor.component;
        for (stream, output) in &executor.counts.outputs {
            *self.emitted.entry((component.clone(), stream.clone())).or_default() += output.emitted;
        }
        for input in &executor.counts.inputs {
            let edge = (component.clone(), input.component.clone(), input.stream.clone());
            *self.executed.entry(edge).or_default() += input.executed;
        }
    }
}

fn bad<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new("conservation", what))
}

/// To how many tasks of the subscriber each tuple goes; `None` where the grouping is the user's, or the workload's, own rule.
fn fan_out(grouping: &Grouping, subscriber: &ComponentGraph) -> Option<u64> {
    match grouping {
        Grouping::All => Some(subscriber.tasks as u64),
        Grouping::Custom(_) => None,
        _ => Some(1),
    }
}

impl Conservation {
    /// For topologies of these shapes.
    pub fn new(shapes: &BTreeMap<TopologyName, Shape>) -> Self {
        let shapes = shapes.iter().map(|(name, shape)| (name.to_string(), shape.clone())).collect();
        Conservation { shapes, topologies: BTreeMap::new() }
    }

    fn counted(&mut self, topology: &TopologyId) -> &mut Counted {
        if !self.topologies.contains_key(topology) {
            self.topologies.insert(topology.clone(), Counted::default());
        }
        self.topologies.get_mut(topology).expect("it is there, or was just put there")
    }
}

/// What a living life has counted fits together.
fn one_life(
    id: &TopologyId,
    shape: &Shape,
    worker: WorkerIndex,
    emitted: u64,
    report: &WorkerReport,
) -> Result<(), Violation> {
    let mut roots = 0;
    let mut has_spouts = false;
    for executor in &report.executors {
        let (component, counts) = (&executor.component, &executor.counts);
        let Some(graph) = shape.graph.components.iter().find(|graph| graph.name == *component) else { continue };
        if graph.kind == "spout" {
            has_spouts = true;
            roots += counts.acked + counts.failed + counts.pending;
        }
        for input in &counts.inputs {
            let (executed, settled) = (input.executed, input.acked + input.failed);
            if executed != settled {
                let from = format!("{}/{}", input.component, input.stream);
                return bad(format!(
                    "{id}: {component} in worker {worker} has executed {executed} tuples of {from}, and settled {settled}"
                ));
            }
        }
        for (stream, output) in &counts.outputs {
            let takers =
                shape.graph.components.iter().flat_map(|taker| taker.inputs.iter().map(move |input| (taker, input)));
            let takers = takers.filter(|(_, input)| input.component == *component && input.stream == *stream);
            let fan_out: Option<u64> = takers.map(|(taker, input)| fan_out(&input.grouping, taker)).sum();
            if let Some(fan_out) = fan_out.filter(|fan_out| output.emitted * fan_out != output.transferred) {
                let (emitted, sent) = (output.emitted, output.transferred);
                return bad(format!(
                    "{id}: {component}/{stream} in worker {worker} has emitted {emitted} tuples, each to {fan_out} tasks, and sent {sent}"
                ));
            }
        }
    }
    if has_spouts && shape.effects.is_some() && roots != emitted {
        return bad(format!("{id}: spouts in worker {worker} have emitted {emitted} roots, and count {roots}"));
    }
    Ok(())
}

impl Invariant for Conservation {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        match observation {
            Observation::Emitted { topology, by, .. } => *self.counted(topology).emitted.entry(*by).or_default() += 1,
            Observation::Acked { topology, .. } => self.counted(topology).acked += 1,
            Observation::WorkerEnded { topology, worker, life, report, .. } => {
                self.counted(topology).ended.push(((*worker, *life), report.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, settled: &Settled) -> Result<(), Violation> {
        for (id, running) in &settled.running {
            let Some(shape) = self.shapes.get(name_of(id)).cloned() else { continue };
            let mut living = Vec::new();
            for (worker, (life, report)) in &running.workers {
                let Some(report) = report else { return Ok(()) };
                living.push((*worker, *life, report));
            }
            let counted = self.counted(id);
            let mut sums = Sums::default();
            for (worker, life, report) in living {
                let emitted = counted.emitted.get(&(worker, life)).copied().unwrap_or(0);
                one_life(id, &shape, worker, emitted, report)?;
                report.executors.iter().for_each(|executor| sums.add(executor));
            }
            for executor in counted.ended.iter().flat_map(|(_, report)| &report.executors) {
                sums.add(executor);
                *sums.ended.entry(executor.component.clone()).or_default() += 1;
            }
            // Roots that failed or were lost, and what each of them may have had on an edge.
            let lost = counted.emitted.values().sum::<u64>().saturating_sub(counted.acked);
            let loss = match (counted.ended.is_empty(), shape.effects) {
                (true, _) => 0,
                (false, Some(effects)) => lost * u64::from(effects),
                (false, None) => u64::MAX,
            };
            edges(id, &shape, &sums, loss)?;
        }
        Ok(())
    }
}

/// What goes into each edge comes out of it, but for at most this loss.
fn edges(id: &TopologyId, shape: &Shape, sums: &Sums, loss: u64) -> Result<(), Violation> {
    for taker in &shape.graph.components {
        for input in &taker.inputs {
            let Some(fan_out) = fan_out(&input.grouping, taker) else { continue };
            let from = (input.component.clone(), input.stream.clone());
            let sent = fan_out * sums.emitted.get(&from).copied().unwrap_or(0);
            let edge = (taker.name.clone(), from.0, from.1);
            let executed = sums.executed.get(&edge).copied().unwrap_or(0);
            let more = UNCOUNTED * sums.ended.get(&input.component).copied().unwrap_or(0);
            if executed.saturating_add(loss) < sent || executed > sent + more {
                let (to, from, stream) = edge;
                return bad(format!(
                    "{id}: {from}/{stream} sent {sent} tuples to {to}, which executed {executed}; at most {loss} may be lost, and {more} uncounted"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    fn seen(emits: u64, dead: Option<WorkerReport>, living: WorkerReport) -> Vec<String> {
        let mut all: Vec<Observation> = (0..emits).map(|offset| emitted_by(offset, 1, life(1, 2))).collect();
        all.extend(dead.map(|report| ended(report.executors)));
        let mut settled = running();
        for running in settled.running.values_mut() {
            running.workers = [(WorkerIndex(0), (life(1, 2), Some(Box::new(living.clone()))))].into();
        }
        heard(&mut Conservation::new(&shapes()), &all, &settled)
    }

    #[test]
    fn without_deaths_all_that_was_sent_was_executed() {
        assert_eq!(seen(5, None, counts(5, 5, 5)), [] as [String; 0]);
        let what =
            "words-1-1: source/default sent 5 tuples to sink, which executed 4; at most 0 may be lost, and 0 uncounted";
        assert_eq!(seen(5, None, counts(5, 4, 4)), [what]);
        let what =
            "words-1-1: source/default sent 5 tuples to sink, which executed 6; at most 0 may be lost, and 0 uncounted";
        assert_eq!(seen(5, None, counts(5, 6, 6)), [what]);
    }

    #[test]
    fn what_a_living_worker_counts_fits_together() {
        let what = "words-1-1: sink in worker 0 has executed 5 tuples of source/default, and settled 4";
        assert_eq!(seen(5, None, counts(5, 5, 4)), [what]);
        let what = "words-1-1: spouts in worker 0 have emitted 6 roots, and count 5";
        assert_eq!(seen(6, None, counts(5, 5, 5)), [what]);
        let mut sent = counts(5, 5, 5);
        sent.executors[0].counts.outputs.values_mut().for_each(|output| output.transferred = 4);
        let what = "words-1-1: source/default in worker 0 has emitted 5 tuples, each to 1 tasks, and sent 4";
        assert_eq!(seen(5, None, sent), [what]);
    }

    #[test]
    fn with_deaths_no_more_is_lost_than_roots_were() {
        // Five of the living, none of them acked: so many may be lost.
        assert_eq!(seen(5, Some(counts(3, 0, 0)), counts(5, 5, 5)), [] as [String; 0]);
        let what = "words-1-1: source/default sent 11 tuples to sink, which executed 5; at most 5 may be lost, and 1024 uncounted";
        assert_eq!(seen(5, Some(counts(6, 0, 0)), counts(5, 5, 5)), [what]);
    }
}
