//! A root is acked only after all its effects have reached the sink; what a source gave is acked in the end.
//!
//! Exact: effects carry their attempt, so those of an earlier attempt hide nothing; within an attempt none comes twice. At
//! the end each tuple that was ever given is acked, by some attempt, and no living worker has a root that is pending.
//!
//! Not here: whether an attempt ends once (`one_outcome`). Invariant: of topologies whose effects nobody knows, only ends are judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use worker_api::ids::{TopologyId, TopologyName};

use super::roots::Roots;
use super::{Invariant, Observation, Settled, SourceTuple, Violation, name_of};
use crate::workload::Shape;

/// See the module.
pub struct AtLeastOnce {
    /// How many effects a tuple has, by the topology's name.
    effects: BTreeMap<String, u32>,
    /// With the effects that came.
    roots: Roots<BTreeSet<u32>>,
    tuples: BTreeMap<TopologyId, Tuples>,
}

#[derive(Default)]
struct Tuples {
    acked: BTreeSet<SourceTuple>,
    /// Given, and not acked yet.
    open: BTreeSet<SourceTuple>,
}

const NAME: &str = "at-least-once";

impl AtLeastOnce {
    /// For topologies of these shapes.
    pub fn new(shapes: &BTreeMap<TopologyName, Shape>) -> Self {
        let effects = shapes.iter().filter_map(|(name, shape)| Some((name.to_string(), shape.effects?))).collect();
        AtLeastOnce { effects, roots: Roots::default(), tuples: BTreeMap::new() }
    }

    fn tuples(&mut self, topology: &TopologyId) -> &mut Tuples {
        if !self.tuples.contains_key(topology) {
            self.tuples.insert(topology.clone(), Tuples::default());
        }
        self.tuples.get_mut(topology).expect("it is there, or was just put there")
    }
}

impl Invariant for AtLeastOnce {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        let bad = |what| Err(Violation::new(NAME, what));
        match observation {
            Observation::Submitted { topology, effects } => {
                self.effects.entry(name_of(topology).to_owned()).or_insert(*effects);
            }
            Observation::Emitted { topology, tuple, .. } => {
                let tuples = self.tuples(topology);
                if !tuples.acked.contains(tuple) {
                    tuples.open.insert(*tuple);
                }
            }
            Observation::Effect { topology, tuple, attempt, index } => {
                let known = self.effects.get(name_of(topology)).copied();
                if let Some(effects) = known.filter(|effects| index >= effects) {
                    return bad(format!("{topology}: effect {index} of {tuple:?}, which has {effects}"));
                }
                // What comes after its attempt has ended is no news.
                if let Some(pending) = self.roots.of(topology).get_mut(&(*tuple, *attempt))
                    && !pending.note.insert(*index)
                {
                    return bad(format!("{topology}: effect {index} of {tuple:?} came twice within attempt {attempt}"));
                }
            }
            _ => {}
        }
        let ended = self.roots.observe(observation);
        if let Observation::Acked { topology, tuple, attempt } = observation {
            let effects = self.effects.get(name_of(topology)).copied();
            let tuples = self.tuples(topology);
            tuples.open.remove(tuple);
            tuples.acked.insert(*tuple);
            if let (Some(ended), Some(effects)) = (ended, effects)
                && ended.note.len() < effects as usize
            {
                let came = ended.note;
                return bad(format!(
                    "{topology}: attempt {attempt} at {tuple:?} is acked with {} of its {effects} effects: {came:?}",
                    came.len()
                ));
            }
        }
        Ok(())
    }

    fn finish(&mut self, settled: &Settled) -> Result<(), Violation> {
        for topology in settled.running.keys() {
            let open = &self.tuples(topology).open;
            if let Some(tuple) = open.first() {
                let what = format!("{topology}: {} tuples were given and never acked, {tuple:?} first", open.len());
                return Err(Violation::new(NAME, what));
            }
            let pending = self.roots.of(topology);
            if let Some(((tuple, attempt), root)) = pending.first_key_value() {
                let (worker, life) = root.by;
                let what = format!(
                    "{topology}: {} attempts have not ended, attempt {attempt} at {tuple:?} first, in worker {worker} ({life})",
                    pending.len()
                );
                return Err(Violation::new(NAME, what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    fn of_two_effects() -> AtLeastOnce {
        let mut invariant = AtLeastOnce::new(&BTreeMap::new());
        let submitted = Observation::Submitted { topology: topology(), effects: 2 };
        assert_eq!(invariant.observe(Duration::ZERO, &submitted), Ok(()));
        invariant
    }

    #[test]
    fn an_ack_after_all_effects_is_right_and_one_before_is_not() {
        let good = [emitted(0, 1), effect(0, 1, 0), effect(0, 1, 1), acked(0, 1)];
        assert_eq!(heard(&mut of_two_effects(), &good, &running()), [] as [String; 0]);

        let early = [emitted(0, 1), effect(0, 1, 0), acked(0, 1), effect(0, 1, 1)];
        let what = "words-1-1: attempt 1 at SourceTuple { source: 1, offset: 0 } is acked with 1 of its 2 effects: {0}";
        assert_eq!(heard(&mut of_two_effects(), &early, &running()), [what]);
    }

    #[test]
    fn effects_of_an_earlier_attempt_hide_nothing() {
        let seen = [emitted(0, 1), effect(0, 1, 0), effect(0, 1, 1), failed(0, 1), emitted(0, 2), acked(0, 2)];
        let what = "words-1-1: attempt 2 at SourceTuple { source: 1, offset: 0 } is acked with 0 of its 2 effects: {}";
        assert_eq!(heard(&mut of_two_effects(), &seen, &running()), [what]);
    }

    #[test]
    fn an_effect_that_comes_twice_within_an_attempt_is_seen() {
        let seen = [emitted(0, 1), effect(0, 1, 0), effect(0, 1, 0), effect(0, 1, 1), acked(0, 1)];
        let what = "words-1-1: effect 0 of SourceTuple { source: 1, offset: 0 } came twice within attempt 1";
        assert_eq!(heard(&mut of_two_effects(), &seen, &running()), [what]);
        // Late ones of an attempt that failed are no news.
        let late = [emitted(0, 1), effect(0, 1, 0), failed(0, 1), effect(0, 1, 0), emitted(0, 2)];
        let rest = [effect(0, 2, 0), effect(0, 2, 1), acked(0, 2)];
        assert_eq!(heard(&mut of_two_effects(), &[&late[..], &rest[..]].concat(), &running()), [] as [String; 0]);
    }

    #[test]
    fn what_was_given_and_never_acked_is_forgotten() {
        let lost = [emitted(0, 1), ended(Vec::new())];
        let what = "words-1-1: 1 tuples were given and never acked, SourceTuple { source: 1, offset: 0 } first";
        assert_eq!(heard(&mut of_two_effects(), &lost, &running()), [what]);
        assert_eq!(heard(&mut of_two_effects(), &lost, &Settled::default()), [] as [String; 0]);
    }
}
