//! What users do: submit topologies, change them, kill them, drain machines.
//!
//! Not here: when (`faults`). Invariant: a user who was not answered asks again, and tells the oracle only what was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nimbus::Command;
use nimbus_api::submission::{Kill, Submission};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use tokio::time::sleep;
use worker_api::describe::{Build, Described};
use worker_api::ids::{TopologyId, TopologyName};

use crate::network::MachineId;
use crate::nimbuses::{NotSubmitted, WrongState, hash_of};
use crate::oracle::Observation;
use crate::run::USER;
use crate::workload::SubmittedTopology;
use crate::world::{World, executable_of};

/// The users of a run; a cheap clone.
#[derive(Clone)]
pub struct Users {
    world: World,
    nimbuses: Vec<MachineId>,
    state: Arc<Mutex<State>>,
    /// Held by who submits something again: nobody else does then.
    submitting_again: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    submitted: BTreeMap<TopologyId, SubmittedTopology>,
    /// Those that are to go, or have gone.
    killed: BTreeSet<TopologyId>,
    /// Those that were killed, and are to be submitted again under the same name.
    again: BTreeMap<TopologyName, SubmittedTopology>,
}

impl Users {
    /// Users of these Nimbuses.
    pub fn new(world: &World, nimbuses: Vec<MachineId>) -> Self {
        Users { world: world.clone(), nimbuses, state: Arc::default(), submitting_again: Arc::default() }
    }

    /// Topologies that were submitted, and not killed.
    pub fn topologies(&self) -> Vec<TopologyId> {
        let state = self.lock();
        state.submitted.keys().filter(|id| !state.killed.contains(*id)).cloned().collect()
    }

    /// One of these.
    pub fn any_topology(&self, random: &mut ChaCha8Rng) -> Option<TopologyId> {
        let all = self.topologies();
        (!all.is_empty()).then(|| all[random.random_range(0..all.len())].clone())
    }

    /// One of these that is to be killed, and `again` whether it is to be submitted again then; if it is not, others are left.
    pub fn topology_to_kill(&self, random: &mut ChaCha8Rng, again: bool) -> Option<TopologyId> {
        if !again && self.topologies().len() < 2 {
            return None;
        }
        let id = self.any_topology(random)?;
        let mut state = self.lock();
        state.killed.insert(id.clone());
        if let Some(topology) = state.submitted.get(&id).filter(|_| again).cloned() {
            state.again.insert(topology.name().clone(), topology);
        }
        Some(id)
    }

    /// Other executors for some of a topology's components: up to as many as there are tasks, or one more, which is refused.
    pub fn other_executors(&self, id: &TopologyId, random: &mut ChaCha8Rng) -> BTreeMap<String, u32> {
        let Some(topology) = self.lock().submitted.get(id).cloned() else { return BTreeMap::new() };
        let mut executors = BTreeMap::new();
        for component in topology.shape().graph.components {
            if random.random_bool(0.3) {
                executors.insert(component.name, random.random_range(1..=component.tasks as u32 + 1));
            }
        }
        executors
    }

    /// Submits what was killed, and is to run again.
    pub async fn submit_again(&self) {
        let _alone = self.submitting_again.lock().await;
        loop {
            let next = self.lock().again.values().next().cloned();
            let Some(topology) = next else { return };
            self.submit(topology).await;
        }
    }

    /// Submits a topology until that is answered well.
    pub async fn submit(&self, topology: SubmittedTopology) {
        sleep(self.world.random_ms(500..5000)).await;
        let executable = executable_of(&topology);
        let graph = topology.shape().graph;
        let submission = Submission {
            name: topology.name().clone(),
            owner: Some("ada".to_owned()),
            described: Described { build: Build::own(), graph },
            executable: hash_of(&executable),
            files: BTreeMap::new(),
            arguments: Vec::new(),
        };
        let blobs = std::slice::from_ref(&executable);
        loop {
            // Who compiles for long, or goes for a coffee.
            let pause = self.world.random_ms(0..5000);
            let leader = self.world.leader();
            match self.world.nimbuses().submit(USER, &self.nimbuses, blobs, &submission, pause).await {
                Ok(submitted) => {
                    self.has(submitted.id, topology);
                    return;
                }
                Err(NotSubmitted { why, missing_at }) => {
                    self.world.note(format_args!("{} is not taken: {why}", topology.name()));
                    // Another one would have had to fetch it, or the leader from it.
                    if missing_at.is_some() && missing_at == leader && leader == self.world.leader() {
                        let what = format!("{} was refused after its upload to the leader: {why}", topology.name());
                        self.world.violated("users", what);
                    }
                }
            }
            // An answer may have been lost: then it runs.
            let running = self.world.topology_called(topology.name());
            if let Some(id) = running.filter(|id| !self.lock().killed.contains(id)) {
                self.has(id, topology);
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    fn has(&self, id: TopologyId, topology: SubmittedTopology) {
        let effects = topology.effects();
        {
            let mut state = self.lock();
            state.again.remove(topology.name());
            state.submitted.insert(id.clone(), topology);
        }
        self.world.hear(Observation::Submitted { topology: id, effects });
    }

    /// Has a topology changed, once; whether that was answered well.
    pub async fn command(&self, id: &TopologyId, command: Command) -> bool {
        self.ask(id, command).await.is_some_and(|done| done.is_ok())
    }

    /// Has a topology activated, until that is answered. One that has ended by itself stays as it is.
    pub async fn activate(&self, id: &TopologyId) {
        while self.ask(id, Command::Activate).await.is_none() {
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// What was answered; `None` if it was refused for another reason than the topology's state, or nobody answered.
    async fn ask(&self, id: &TopologyId, command: Command) -> Option<Result<(), WrongState>> {
        let done = self.world.nimbuses().command(USER, &self.nimbuses, id.as_str(), command).await;
        self.world.note(format_args!("{id}: {done:?}"));
        done.ok()
    }

    /// Kills a topology, until it is answered, or the topology is gone.
    pub async fn kill(&self, id: TopologyId, kill: Kill) {
        while !self.command(&id, Command::Kill(kill)).await {
            if !self.world.is_recorded(&id) {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        self.lock().submitted.remove(&id);
        self.world.hear(Observation::Killed { topology: id });
    }

    /// Kills what was to be killed and is not.
    pub async fn finish_kills(&self) {
        let begun: Vec<TopologyId> = {
            let state = self.lock();
            state.killed.iter().filter(|id| state.submitted.contains_key(*id)).cloned().collect()
        };
        for id in begun {
            self.kill(id, Kill { wait_secs: Some(1) }).await;
        }
    }

    /// Has a machine give up its work, or take work again; whether that was answered well.
    pub async fn drain(&self, host: &str, is_drained: bool) -> bool {
        let done = self.world.nimbuses().drain(USER, &self.nimbuses, host, is_drained).await;
        self.world.note(format_args!("{host} drained {is_drained}: {done:?}"));
        done.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
