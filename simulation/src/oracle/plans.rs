//! Plans never go back: a topology's heads count up by one, and the parts that a head names are there as long as it holds.
//!
//! Exact, from the records in the order of their writing.
//!
//! Not here: who may write them (`leads`). Invariant: ids are never given twice, so a head that is gone comes no more.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_state::paths;
use cluster_state::records::PlanHead;
use worker_api::ids::{PlanVersion, TopologyId};

use super::noticeboard::{Noticeboard, read, topology_at};
use super::{Invariant, Observation, Settled, Violation};

/// See the module.
#[derive(Default)]
pub struct Plans {
    noticeboard: Noticeboard,
    /// The last version of each topology, also when its plan is gone.
    versions: BTreeMap<TopologyId, (PlanVersion, bool)>,
}

impl Invariant for Plans {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        self.noticeboard.observe(observation);
        let Observation::Recorded { path, value, .. } = observation else { return Ok(()) };
        let Some((id, rest)) = topology_at(path, "plans") else { return Ok(()) };
        let bad = |what| Err(Violation::new("plans", what));
        let head = match (rest, value) {
            ("head", Some(value)) => match read::<PlanHead>(value) {
                Some(head) => head,
                None => return bad(format!("{id}: its plan's head cannot be read")),
            },
            ("head", None) => {
                if let Some((_, gone)) = self.versions.get_mut(&id) {
                    *gone = true;
                }
                return Ok(());
            }
            (_, Some(_)) => return Ok(()),
            (_, None) => {
                let named = self.noticeboard.head(&id).is_some_and(|head| {
                    let mut parts = head.parts.values().chain(&head.waiting);
                    parts.any(|part| paths::plan_part(&id, part).as_str() == path)
                });
                return if named {
                    bad(format!("{id}: a part was removed that the head names: {path}"))
                } else {
                    Ok(())
                };
            }
        };
        let found = head.version;
        let (before, gone) = self.versions.insert(id.clone(), (found, false)).unwrap_or((PlanVersion(0), false));
        if gone {
            return bad(format!("{id}: plan {found} was written after its plan {before} was removed"));
        }
        if found.0 != before.0 + 1 {
            return bad(format!("{id}: plan {found} was written after plan {before}"));
        }
        let missing = |part: &&_| !self.noticeboard.contains(paths::plan_part(&id, part).as_str());
        if let Some(part) = head.parts.values().chain(&head.waiting).find(missing) {
            return bad(format!("{id}: plan {found} names part {part}, which is not there"));
        }
        Ok(())
    }

    fn finish(&mut self, _: &Settled) -> Result<(), Violation> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    #[test]
    fn a_plan_that_goes_on_is_right_and_one_that_goes_back_or_jumps_is_not() {
        let good = [
            plan_part('a', 6700, 1),
            plan_head(1, &['a']),
            plan_part('b', 6701, 2),
            plan_head(2, &['b']),
            gone(&part_path('a')),
            gone("plans/words-1-1/head"),
            gone(&part_path('b')),
        ];
        assert_eq!(heard(&mut Plans::default(), &good, &running()), [] as [String; 0]);
        let back = [plan_part('a', 6700, 1), plan_head(1, &['a']), plan_head(2, &['a']), plan_head(2, &['a'])];
        assert_eq!(heard(&mut Plans::default(), &back, &running()), ["words-1-1: plan 2 was written after plan 2"]);
        let jump = [plan_part('a', 6700, 1), plan_head(2, &['a'])];
        assert_eq!(heard(&mut Plans::default(), &jump, &running()), ["words-1-1: plan 2 was written after plan 0"]);
        let again = [plan_part('a', 6700, 1), plan_head(1, &['a']), gone("plans/words-1-1/head"), plan_head(2, &['a'])];
        let what = "words-1-1: plan 2 was written after its plan 1 was removed";
        assert_eq!(heard(&mut Plans::default(), &again, &running()), [what]);
    }

    #[test]
    fn parts_are_there_as_long_as_a_head_names_them() {
        let what = format!("words-1-1: plan 1 names part {}, which is not there", hash('a'));
        assert_eq!(heard(&mut Plans::default(), &[plan_head(1, &['a'])], &running()), [what]);
        let removed = [plan_part('a', 6700, 1), plan_head(1, &['a']), gone(&part_path('a'))];
        let what = format!("words-1-1: a part was removed that the head names: {}", part_path('a'));
        assert_eq!(heard(&mut Plans::default(), &removed, &running()), [what]);
    }
}
