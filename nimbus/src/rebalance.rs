//! Rebalancing: what is checked of a command before anything of it is stored, and what is done without being asked for.
//!
//! Not here: whether the topology's state allows it (`lifecycle`), dealing executors (`scheduling`). Invariant: what was
//! stored can be dealt: each component has at least one executor and at most as many as it has tasks.

use std::collections::BTreeMap;

use cluster_state::records::Rebalanced;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::submission::{Rebalance, check_wait};
use topology_api::topology::Graph;
use worker_api::ids::{NAME_BYTES, TopologyId, TopologyName};

use crate::scheduling::Wish;
use crate::submission::Limits;

/// Checks what is wanted of a topology. `before` is what earlier rebalances have changed.
///
/// # Errors
/// The first thing that cannot be had, in a sentence.
pub(crate) fn check(
    name: &TopologyName,
    rebalance: &Rebalance,
    graph: &Graph,
    before: &Rebalanced,
    limits: &Limits,
) -> Result<Rebalanced, Failure> {
    let refused = |kind: FailureKind, why: String| kind.with(format!("cannot rebalance `{name}`: {why}"));
    let bad = |why: String| refused(FailureKind::BadRequest, why);
    check_wait(rebalance.wait_secs).map_err(bad)?;
    for (component, executors) in &rebalance.executors {
        let Some(found) = graph.components.iter().find(|found| found.name == *component) else {
            let shown: String = component.chars().take(NAME_BYTES).flat_map(char::escape_default).collect();
            let there: Vec<&str> = graph.components.iter().map(|found| found.name.as_str()).collect();
            let why = format!("it has no component `{shown}`; there are {}", there.join(", "));
            return Err(refused(FailureKind::NotFound, why));
        };
        if *executors == 0 || *executors as usize > found.tasks {
            return Err(bad(format!(
                "component `{component}` cannot have {executors} executors: it has {} tasks, and each executor runs one \
                 at least; 1 to {} are possible",
                found.tasks, found.tasks
            )));
        }
    }
    if rebalance.workers == Some(0) {
        return Err(bad(
            "it cannot have 0 workers; 1 at least, or `storm deactivate`, if nothing shall be done".to_owned()
        ));
    }
    if let (Some(workers), Some(most)) = (rebalance.workers, limits.most_workers)
        && u32::from(workers) > most
    {
        return Err(bad(format!("{workers} workers are more than nimbus.slots.perTopology allows, which is {most}")));
    }
    let to = Rebalanced { workers: rebalance.workers, executors: rebalance.executors.clone() };
    if let Some(most) = limits.most_executors.filter(|_| !to.executors.is_empty()) {
        let executors = |name: &str| to.executors.get(name).or_else(|| before.executors.get(name)).copied();
        let all = graph.components.iter().map(|component| match executors(&component.name) {
            Some(executors) => u64::from(executors),
            None => component.executors as u64,
        });
        let all: u64 = all.sum();
        if all > u64::from(most) {
            return Err(bad(format!(
                "{all} executors are more than nimbus.executors.perTopology allows, which is {most}"
            )));
        }
    }
    Ok(to)
}

/// How long slots must have been free before a topology that has too few workers is dealt anew for them.
const FREE_MS: u64 = 10_000;
/// How long a topology does not grow after it was rebalanced without being asked for, or a machine of it died; and how long one that
/// could not be rebalanced is left alone.
const REST_MS: u64 = 60_000;

/// What is to be rebalanced without being asked for, and when. Times are milliseconds of one monotonic clock. Kept in the
/// leader's memory alone: a new one begins anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// Since when what is wished for could be had.
    since: BTreeMap<TopologyId, (Wish, u64)>,
    /// When a wish was last followed.
    followed: BTreeMap<TopologyId, u64>,
    /// When a wish was found to be one that cannot be followed.
    refused: BTreeMap<TopologyId, u64>,
    /// When a machine died that had workers of it.
    died: BTreeMap<TopologyId, u64>,
}

impl Wishes {
    /// These are the wishes now.
    pub(crate) fn are(&mut self, wishes: BTreeMap<TopologyId, Wish>, now_ms: u64) {
        let before = std::mem::take(&mut self.since);
        let since = |(id, wish): (TopologyId, Wish)| {
            let since_ms =
                before.get(&id).filter(|(before, _)| *before == wish).map_or(now_ms, |(_, since_ms)| *since_ms);
            (id, (wish, since_ms))
        };
        self.since = wishes.into_iter().map(since).collect();
    }

    /// Why a topology is to be rebalanced now, if it is.
    pub(crate) fn due(&self, id: &TopologyId, now_ms: u64) -> Option<String> {
        let (wish, since_ms) = self.since.get(id)?;
        let rests = |times: &BTreeMap<TopologyId, u64>| times.get(id).is_some_and(|at| now_ms < at + REST_MS);
        match wish {
            _ if rests(&self.refused) => None,
            Wish::MoreWorkers => {
                let is_due = now_ms >= since_ms + FREE_MS && !rests(&self.followed) && !rests(&self.died);
                is_due.then(|| "slots have come free".to_owned())
            }
            // Somebody commanded the drain, and waits.
            Wish::Leave { host } => Some(format!("{host} is being drained")),
        }
    }

    /// A topology rebalances without being asked for.
    pub(crate) fn followed(&mut self, id: &TopologyId, now_ms: u64) {
        self.followed.insert(id.clone(), now_ms);
    }

    /// A topology stays as it is, as its new plan could not be stored.
    pub(crate) fn refused(&mut self, id: &TopologyId, now_ms: u64) {
        self.refused.insert(id.clone(), now_ms);
    }

    /// A machine died that had workers of a topology.
    pub(crate) fn machine_died(&mut self, id: &TopologyId, now_ms: u64) {
        self.died.insert(id.clone(), now_ms);
    }

    /// A topology is gone.
    pub(crate) fn forget(&mut self, id: &TopologyId) {
        self.since.remove(id);
        self.followed.remove(id);
        self.refused.remove(id);
        self.died.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use cluster_state::records::EpochMs;
    use serde_json::json;
    use topology_api::ids::TaskId;
    use worker_api::ids::{Port, SupervisorId};

    use super::*;
    use crate::scheduling::{Component, Machine, TopologyDetails, schedule};

    fn refusal(rebalance: &Rebalance, before: &Rebalanced, limits: &Limits) -> (FailureKind, String) {
        let graph: Graph = serde_json::from_value(json!({
            "format": 1, "name": "wc", "config": {},
            "components": [
                {"name": "count", "kind": "bolt", "executors": 3, "first_task": 1, "tasks": 4, "streams": [],
                 "inputs": [], "config": {}},
                {"name": "lines", "kind": "spout", "executors": 1, "first_task": 5, "tasks": 1, "streams": [],
                 "inputs": [], "config": {}},
            ],
        }))
        .unwrap();
        match check(&TopologyName::new("wc").unwrap(), rebalance, &graph, before, limits) {
            Ok(to) => panic!("not refused: {to:?}"),
            Err(failure) => (failure.kind, failure.message),
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused_in_a_sentence() {
        let limits = Limits { most_workers: Some(8), most_executors: Some(4) };
        let none = Rebalanced::default();
        let executors =
            |name: &str, count| Rebalance { executors: [(name.to_owned(), count)].into(), ..Rebalance::default() };
        let workers = |count| Rebalance { workers: Some(count), ..Rebalance::default() };
        let bad = |why: &str| (FailureKind::BadRequest, format!("cannot rebalance `wc`: {why}"));
        assert_eq!(
            refusal(&executors("cuont", 1), &none, &limits),
            (
                FailureKind::NotFound,
                "cannot rebalance `wc`: it has no component `cuont`; there are count, lines".to_owned()
            )
        );
        for count in [0, 5] {
            let why = format!(
                "component `count` cannot have {count} executors: it has 4 tasks, and each executor runs one at least; \
                 1 to 4 are possible"
            );
            assert_eq!(refusal(&executors("count", count), &none, &limits), bad(&why));
        }
        let wait = Rebalance { wait_secs: Some(604_801), ..Rebalance::default() };
        let long = "a wait of 604801 s is longer than seven days: 0 to 604800 s are possible";
        assert_eq!(refusal(&wait, &none, &limits), bad(long));
        let zero = "it cannot have 0 workers; 1 at least, or `storm deactivate`, if nothing shall be done";
        assert_eq!(refusal(&workers(0), &none, &limits), bad(zero));
        let many = "9 workers are more than nimbus.slots.perTopology allows, which is 8";
        assert_eq!(refusal(&workers(9), &none, &limits), bad(many));
        let all = "5 executors are more than nimbus.executors.perTopology allows, which is 4";
        assert_eq!(refusal(&executors("count", 4), &none, &limits), bad(all));
        // What an earlier one said counts.
        let before = Rebalanced { workers: None, executors: [("count".to_owned(), 4)].into() };
        assert_eq!(refusal(&executors("lines", 1), &before, &limits), bad(all));
    }

    fn id() -> TopologyId {
        TopologyId::new("wc").unwrap()
    }

    #[test]
    fn slots_must_have_been_free_for_ten_seconds_and_a_topology_is_left_alone_for_a_minute() {
        let mut wishes = Wishes::default();
        let more = || BTreeMap::from([(id(), Wish::MoreWorkers)]);
        let leave = || BTreeMap::from([(id(), Wish::Leave { host: "m1.local".to_owned() })]);
        let (free, drained) = (Some("slots have come free".to_owned()), Some("m1.local is being drained".to_owned()));
        wishes.are(more(), 1_000);
        wishes.are(more(), 9_000);
        assert_eq!((wishes.due(&id(), 10_999), wishes.due(&id(), 11_000)), (None, free.clone()));
        // They were taken for a moment.
        wishes.are(BTreeMap::new(), 11_000);
        wishes.are(more(), 12_000);
        assert_eq!((wishes.due(&id(), 21_999), wishes.due(&id(), 22_000)), (None, free.clone()));
        wishes.followed(&id(), 22_000);
        assert_eq!((wishes.due(&id(), 81_999), wishes.due(&id(), 82_000)), (None, free.clone()));
        wishes.machine_died(&id(), 90_000);
        assert_eq!((wishes.due(&id(), 149_999), wishes.due(&id(), 150_000)), (None, free));
        // A drained machine is left at once, also right after the topology grew or left another one.
        wishes.machine_died(&id(), 150_000);
        wishes.are(leave(), 150_000);
        assert_eq!(wishes.due(&id(), 150_000), drained);
        wishes.followed(&id(), 150_000);
        assert_eq!(wishes.due(&id(), 150_001), drained);
        // What does not fit is not tried again each second.
        wishes.refused(&id(), 150_001);
        assert_eq!((wishes.due(&id(), 210_000), wishes.due(&id(), 210_001)), (None, drained));
        wishes.forget(&id());
        assert_eq!(wishes.due(&id(), 1_000_000), None);
    }

    /// Ten minutes, second by second, of a topology that wants four workers on a machine with two slots, while another one with
    /// two comes and goes: there while `is_there` says so, and dead when it is not. Gives when it was rebalanced.
    fn rebalanced_at(is_there: impl Fn(u64) -> bool) -> Vec<u64> {
        let machine = || Machine::Available {
            host: "host".to_owned(),
            platform: "linux".to_owned(),
            slots: [Port(1), Port(2)].into(),
        };
        let name = |name: &str| SupervisorId::new(name).unwrap();
        let mut topology = TopologyDetails {
            id: id(),
            submitted_ms: EpochMs::default(),
            platform: "linux".to_owned(),
            workers: 4,
            components: vec![Component { first_task: TaskId(1), tasks: 8, executors: 8 }],
            leaving: false,
            ended: false,
            anew: false,
            plan: None,
            failing: BTreeMap::new(),
        };
        let (mut wishes, mut times, mut was_there) = (Wishes::default(), Vec::new(), false);
        for second in 0..600 {
            let now_ms = second * 1000;
            let mut machines = BTreeMap::from([(name("stays"), machine())]);
            if is_there(second) {
                machines.insert(name("comes"), machine());
            }
            let on_it = |topology: &TopologyDetails| {
                let workers = topology.plan.iter().flat_map(|plan| &plan.workers);
                workers.filter_map(|worker| worker.slot.as_ref()).any(|slot| slot.supervisor == name("comes"))
            };
            if was_there && !is_there(second) && on_it(&topology) {
                wishes.machine_died(&id(), now_ms);
            }
            was_there = is_there(second);
            let round = schedule(&machines, std::slice::from_ref(&topology));
            topology.plan = round.plans.get(&id()).cloned().or(topology.plan);
            topology.anew = false;
            wishes.are(round.wishes, now_ms);
            if wishes.due(&id(), now_ms).is_some() {
                wishes.followed(&id(), now_ms);
                times.push(second);
                topology.anew = true;
            }
        }
        times
    }

    #[test]
    fn a_machine_that_comes_and_goes_does_not_have_a_topology_rebalanced_again_and_again() {
        assert_eq!(rebalanced_at(|second| second >= 5), [15]);
        // Never there for long enough.
        assert_eq!(rebalanced_at(|second| second % 15 >= 6), Vec::<u64>::new());
        // It grows once; then its workers wait when the machine goes, and have their slots again when it is back.
        assert_eq!(rebalanced_at(|second| second % 60 >= 30), [40]);
    }
}
