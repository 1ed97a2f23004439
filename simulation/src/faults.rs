//! What goes wrong, by the seed, and what users do meanwhile.
//!
//! Each seed has some of the [`Kind`]s, and a pace of its own: many small faults of one kind find other bugs than a few of all kinds.
//!
//! Not here: what bolts do amiss (`workload`). Invariants: what is broken is mended by [`heal`](Faults::heal); no fault takes the last copy of a
//! blob that a topology needs, or the cluster state's records: who loses these has lost the topology.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nimbus::Command;
use nimbus_api::submission::{Kill, Rebalance};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use worker_api::ids::TopologyId;

use crate::machine::Machine;
use crate::oracle::Observation;
use crate::process::Process;
use crate::run::{SESSION, USER};
use crate::store::Trouble;
use crate::users::Users;
use crate::world::World;

/// A kind of fault, or of what users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Nimbus is killed at some await.
    NimbusKilled,
    /// The leading one is.
    LeaderKilled,
    /// A Supervisor is.
    SupervisorKilled,
    /// A worker is.
    WorkerKilled,
    /// A worker's keeper is, and then the worker.
    KeeperKilled,
    /// A machine falls, and comes back with what was synced.
    MachineFell,
    /// It comes back with an empty disk.
    DiskLost,
    /// Any process stands still.
    Paused,
    /// Two machines do not reach each other.
    Partition,
    /// One does not reach the other.
    OneWayPartition,
    /// A machine reaches nobody.
    Isolated,
    /// Two machines are far from each other.
    Slow,
    /// All connections between two machines break.
    ConnectionsCut,
    /// They break for one side, and the other hears of it later.
    HalfCut,
    /// Answers to calls are lost.
    AnswersLost,
    /// A clock on the wall is set.
    ClockJumped,
    /// A disk is full.
    DiskFull,
    /// A daemon does not reach the cluster state.
    StateAway,
    /// No daemon does.
    StateAwayForAll,
    /// A daemon's session is lost.
    SessionLost,
    /// The leader's session is lost in the middle of what it writes for a user.
    LeadLost,
    /// The cluster state is slow, loses answers, and its watches are odd.
    StateTrouble,
    /// A user deactivates a topology, and activates it again.
    Deactivated,
    /// A user rebalances one.
    Rebalanced,
    /// A user kills one, and may submit it again.
    TopologyKilled,
    /// A user drains a machine, and has it take work again.
    Drained,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 26] = [
        Kind::NimbusKilled,
        Kind::LeaderKilled,
        Kind::SupervisorKilled,
        Kind::WorkerKilled,
        Kind::KeeperKilled,
        Kind::MachineFell,
        Kind::DiskLost,
        Kind::Paused,
        Kind::Partition,
        Kind::OneWayPartition,
        Kind::Isolated,
        Kind::Slow,
        Kind::ConnectionsCut,
        Kind::HalfCut,
        Kind::AnswersLost,
        Kind::ClockJumped,
        Kind::DiskFull,
        Kind::StateAway,
        Kind::StateAwayForAll,
        Kind::SessionLost,
        Kind::LeadLost,
        Kind::StateTrouble,
        Kind::Deactivated,
        Kind::Rebalanced,
        Kind::TopologyKilled,
        Kind::Drained,
    ];
}

/// How often each kind of fault happened.
pub type Tally = BTreeMap<Kind, u64>;

/// The faults of one run; a cheap clone.
#[derive(Clone)]
pub struct Faults {
    world: World,
    nimbuses: Vec<Machine>,
    machines: Vec<Machine>,
    users: Users,
    tally: Arc<Mutex<Tally>>,
}

impl Faults {
    /// None yet.
    pub fn new(world: &World, nimbuses: &[Machine], machines: &[Machine], users: Users) -> Self {
        Faults {
            world: world.clone(),
            nimbuses: nimbuses.to_vec(),
            machines: machines.to_vec(),
            users,
            tally: Arc::default(),
        }
    }

    /// How often each kind happened.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has them happen, by this seed, until it is dropped.
    pub async fn run(self, seed: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let share = [0.1, 0.25, 0.5, 0.9][random.random_range(0..4usize)];
        let mut kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|_| random.random_bool(share)).collect();
        if kinds.is_empty() {
            kinds.push(Kind::ALL[random.random_range(0..Kind::ALL.len())]);
        }
        let gap_ms: u64 = [1_000, 3_000, 6_000, 15_000][random.random_range(0..4usize)];
        self.world.note(format_args!("every {gap_ms} ms one of {kinds:?}"));
        // They end with this: their undoing is `heal`'s then.
        let mut happening = JoinSet::new();
        sleep(Duration::from_millis(random.random_range(1_000..10_000))).await;
        loop {
            sleep(Duration::from_millis(random.random_range(1..2 * gap_ms))).await;
            while happening.try_join_next().is_some() {}
            let kind = kinds[random.random_range(0..kinds.len())];
            happening.spawn(self.clone().happen(kind, ChaCha8Rng::seed_from_u64(random.random())));
        }
    }

    fn all_machines(&self) -> impl Iterator<Item = &Machine> {
        self.nimbuses.iter().chain(&self.machines)
    }

    fn tell(&self, kind: Kind, what: std::fmt::Arguments<'_>) {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
        self.world.log().line("FAULT", format_args!("{kind:?} {what}"));
    }

    /// For so long this is not as it should be on these machines; on all, if none is named.
    fn disturb(&self, machines: &[&Machine], span: Duration) {
        let machines: Vec<&Machine> =
            if machines.is_empty() { self.machines.iter().collect() } else { machines.to_vec() };
        for machine in machines {
            self.world.hear(Observation::Disturbed { machine: machine.host().to_owned(), span });
        }
    }

    async fn happen(self, kind: Kind, mut random: ChaCha8Rng) {
        let random = &mut random;
        match kind {
            Kind::NimbusKilled => self.kill_daemon(kind, pick(random, &self.nimbuses), random),
            Kind::LeaderKilled => {
                let leader = self.nimbuses.iter().find(|nimbus| self.world.leads(nimbus.nimbus_id().as_str()));
                if let Some(leader) = leader {
                    self.kill_daemon(kind, leader, random);
                }
            }
            Kind::SupervisorKilled => self.kill_daemon(kind, pick(random, &self.machines), random),
            Kind::WorkerKilled | Kind::KeeperKilled => {
                let Some((machine, port, process)) = self.any_worker(random) else { return };
                let steps = steps(random);
                self.tell(kind, format_args!("{process:?} after {steps} steps"));
                if kind == Kind::KeeperKilled {
                    machine.kill_keeper(port);
                }
                process.kill_after(steps);
            }
            Kind::MachineFell | Kind::DiskLost => self.fall(kind, random).await,
            Kind::Paused => {
                let Some(process) = self.any_process(random) else { return };
                let pause = span(random);
                self.tell(kind, format_args!("{process:?} for {pause:?}"));
                self.disturb(&[], pause);
                process.pause();
                sleep(pause.min(SESSION)).await;
                if pause > SESSION {
                    self.world.cluster_state().lose(process.number());
                    sleep(pause - SESSION).await;
                }
                process.resume();
            }
            Kind::Partition | Kind::OneWayPartition => {
                let (one, other) = self.two(random);
                let span = span(random);
                self.tell(kind, format_args!("{} → {} for {span:?}", one.host(), other.host()));
                self.disturb(&[&one, &other], span);
                let network = self.world.network();
                network.block(one.id(), other.id(), true);
                if kind == Kind::Partition {
                    network.block(other.id(), one.id(), true);
                }
                sleep(span).await;
                network.block(one.id(), other.id(), false);
                network.block(other.id(), one.id(), false);
            }
            Kind::Isolated => {
                let all: Vec<Machine> = self.all_machines().cloned().collect();
                let (machine, span) = (pick(random, &all).clone(), span(random));
                self.tell(kind, format_args!("{} for {span:?}", machine.host()));
                self.disturb(&[&machine], span);
                let block = |is_blocked| {
                    let others = all.iter().map(Machine::id).chain([USER]).filter(|other| *other != machine.id());
                    for other in others {
                        self.world.network().block(machine.id(), other, is_blocked);
                        self.world.network().block(other, machine.id(), is_blocked);
                    }
                };
                block(true);
                self.state_away(machine.daemon(), span).await;
                block(false);
            }
            Kind::Slow => {
                let (one, other) = self.two(random);
                let by = Duration::from_millis(random.random_range(5..500));
                let span = span(random);
                self.tell(kind, format_args!("{} – {} by {by:?} for {span:?}", one.host(), other.host()));
                self.disturb(&[&one, &other], span);
                self.world.network().slow(one.id(), other.id(), by);
                sleep(span).await;
                self.world.network().slow(one.id(), other.id(), Duration::ZERO);
            }
            Kind::ConnectionsCut => {
                let (one, other) = self.two(random);
                self.tell(kind, format_args!("{} – {}", one.host(), other.host()));
                self.world.network().cut(one.id(), other.id());
            }
            Kind::HalfCut => {
                let (one, other) = self.two(random);
                let late = Duration::from_millis(random.random_range(50..3_000));
                self.tell(kind, format_args!("{} – {}, heard {late:?} later", one.host(), other.host()));
                self.world.network().cut_half(one.id(), other.id(), late);
            }
            Kind::AnswersLost => {
                let (percent, span) = (random.random_range(1..50), span(random));
                self.tell(kind, format_args!("{percent} % for {span:?}"));
                self.disturb(&[], span);
                self.world.network().lose_answers(percent);
                sleep(span).await;
                self.world.network().lose_answers(0);
            }
            Kind::ClockJumped => {
                let all: Vec<Machine> = self.all_machines().cloned().collect();
                let machine = pick(random, &all);
                let ahead_ms = match random.random_bool(0.2) {
                    true => random.random_range(-3_600_000..3_600_000),
                    false => random.random_range(-20_000..20_000),
                };
                self.tell(kind, format_args!("{} is {ahead_ms} ms ahead", machine.host()));
                self.disturb(&[machine], Duration::ZERO);
                machine.clock().set(ahead_ms);
                self.world.hear(Observation::ClockJumped { machine: machine.host().to_owned() });
            }
            Kind::DiskFull => {
                let all: Vec<Machine> = self.all_machines().cloned().collect();
                let (machine, span) = (pick(random, &all), span(random));
                self.tell(kind, format_args!("{} for {span:?}", machine.host()));
                self.disturb(&[machine], span);
                machine.disk().fill(true);
                sleep(span).await;
                machine.disk().fill(false);
            }
            Kind::StateAway => {
                let all: Vec<Machine> = self.all_machines().cloned().collect();
                let (machine, span) = (pick(random, &all), span(random));
                self.tell(kind, format_args!("for {} for {span:?}", machine.host()));
                self.disturb(&[machine], span);
                self.state_away(machine.daemon(), span).await;
            }
            Kind::StateAwayForAll => {
                let span = span(random);
                self.tell(kind, format_args!("for {span:?}"));
                self.disturb(&[], span);
                let daemons: Vec<Process> = self.all_machines().filter_map(Machine::daemon).collect();
                daemons.iter().for_each(|daemon| self.world.cluster_state().away(daemon.number(), true));
                // Nobody counts while no server is there: sessions live on, or are over when it is back.
                sleep(span).await;
                for daemon in daemons {
                    if random.random_bool(0.3) {
                        self.world.cluster_state().lose(daemon.number());
                    }
                    self.world.cluster_state().away(daemon.number(), false);
                }
            }
            Kind::SessionLost => {
                let all: Vec<Machine> = self.all_machines().cloned().collect();
                let machine = pick(random, &all);
                let Some(daemon) = machine.daemon() else { return };
                self.tell(kind, format_args!("{daemon:?}"));
                self.disturb(&[machine], Duration::ZERO);
                self.world.cluster_state().lose(daemon.number());
            }
            Kind::LeadLost => {
                let leader = self.nimbuses.iter().find(|nimbus| self.world.leads(nimbus.nimbus_id().as_str()));
                let (Some(daemon), Some(id)) = (leader.and_then(Machine::daemon), self.users.any_topology(random))
                else {
                    return;
                };
                let writes = random.random_range(0..6);
                self.tell(kind, format_args!("by {daemon:?} after {writes} writes"));
                self.world.cluster_state().lose_before_write(daemon.number(), writes);
                self.users.command(&id, Command::Rebalance(self.rebalance(&id, random))).await;
            }
            Kind::StateTrouble => {
                let span = span(random);
                let trouble = Trouble {
                    lost_answers_permille: random.random_range(0..300),
                    slow_permille: random.random_range(0..500),
                    odd_watches_permille: random.random_range(0..500),
                    behind_ms: random.random_range(0..3_000),
                };
                self.tell(kind, format_args!("{trouble:?} for {span:?}"));
                self.disturb(&[], span);
                self.world.cluster_state().trouble(trouble);
                sleep(span).await;
                self.world.cluster_state().trouble(Trouble::default());
            }
            Kind::Deactivated => {
                let Some(id) = self.users.any_topology(random) else { return };
                let span = span(random);
                self.tell(kind, format_args!("{id} for {span:?}"));
                self.users.command(&id, Command::Deactivate).await;
                sleep(span).await;
                self.users.command(&id, Command::Activate).await;
            }
            Kind::Rebalanced => {
                let Some(id) = self.users.any_topology(random) else { return };
                let rebalance = self.rebalance(&id, random);
                self.tell(kind, format_args!("{id} {rebalance:?}"));
                self.users.command(&id, Command::Rebalance(rebalance)).await;
            }
            Kind::TopologyKilled => {
                let again = random.random_bool(0.5);
                let Some(id) = self.users.topology_to_kill(random, again) else { return };
                let kill = Kill { wait_secs: random.random_bool(0.7).then(|| random.random_range(0..10)) };
                self.tell(kind, format_args!("{id} {kill:?}{}", if again { ", and submitted again" } else { "" }));
                self.users.kill(id, kill).await;
                self.users.submit_again().await;
            }
            Kind::Drained => {
                let machine = pick(random, &self.machines);
                let span = span(random);
                self.tell(kind, format_args!("{} for {span:?}", machine.host()));
                self.users.drain(machine.host(), true).await;
                sleep(span).await;
                self.users.drain(machine.host(), false).await;
            }
        }
    }

    fn kill_daemon(&self, kind: Kind, machine: &Machine, random: &mut ChaCha8Rng) {
        let Some(process) = machine.daemon() else { return };
        let (steps, pause) = (steps(random), span(random));
        self.tell(kind, format_args!("{process:?} after {steps} steps, back after {pause:?}"));
        self.disturb(&[machine], pause);
        let (of, faults) = (machine.clone(), self.clone());
        process.at_end(move || {
            of.hold_daemon(pause);
            faults.disturb(&[&of], pause);
        });
        process.kill_after(steps);
    }

    async fn fall(&self, kind: Kind, random: &mut ChaCha8Rng) {
        let all: Vec<Machine> = self.all_machines().cloned().collect();
        let (machine, span) = (pick(random, &all), span(random));
        if machine.is_down() || (kind == Kind::DiskLost && !self.is_spare(machine)) {
            return;
        }
        self.tell(kind, format_args!("{} for {span:?}", machine.host()));
        self.disturb(&[machine], span);
        machine.fall(kind == Kind::DiskLost);
        sleep(span).await;
        self.world.note(format_args!("{} is back", machine.host()));
        machine.come_back();
    }

    /// Whether every blob of this machine is on the disk of another Nimbus that is up.
    fn is_spare(&self, machine: &Machine) -> bool {
        let others = self.nimbuses.iter().filter(|other| other.id() != machine.id() && !other.is_down());
        let elsewhere: Vec<_> = others.map(|other| other.blobs("nimbus")).collect();
        machine.blobs("nimbus").iter().all(|blob| elsewhere.iter().any(|blobs| blobs.contains(blob)))
    }

    /// What a user may ask of this topology's rebalance.
    fn rebalance(&self, id: &TopologyId, random: &mut ChaCha8Rng) -> Rebalance {
        let executors = random.random_bool(0.5).then(|| self.users.other_executors(id, random));
        Rebalance {
            wait_secs: random.random_bool(0.7).then(|| random.random_range(0..10)),
            workers: random.random_bool(0.5).then(|| random.random_range(1..5)),
            executors: executors.unwrap_or_default(),
        }
    }

    /// A daemon does not reach the cluster state; after a while its session is over.
    async fn state_away(&self, daemon: Option<Process>, span: Duration) {
        let Some(daemon) = daemon else { return sleep(span).await };
        let state = self.world.cluster_state();
        state.away(daemon.number(), true);
        sleep(span.min(SESSION)).await;
        if span > SESSION {
            state.lose(daemon.number());
            sleep(span - SESSION).await;
        }
        state.away(daemon.number(), false);
    }

    fn two(&self, random: &mut ChaCha8Rng) -> (Machine, Machine) {
        let all: Vec<Machine> = self.all_machines().cloned().collect();
        let one = random.random_range(0..all.len());
        let other = (one + random.random_range(1..all.len().max(2))) % all.len();
        (all[one].clone(), all[other].clone())
    }

    fn any_worker(&self, random: &mut ChaCha8Rng) -> Option<(Machine, worker_api::ids::Port, Process)> {
        let workers = |machine: &Machine| {
            let machine = machine.clone();
            machine.workers().into_iter().map(move |(port, holder)| (machine.clone(), port, holder.process))
        };
        let all: Vec<_> = self.machines.iter().flat_map(workers).collect();
        (!all.is_empty()).then(|| pick(random, &all).clone())
    }

    fn any_process(&self, random: &mut ChaCha8Rng) -> Option<Process> {
        match random.random_bool(0.5) {
            true => self.any_worker(random).map(|(_, _, process)| process),
            false => {
                let daemons: Vec<Process> = self.all_machines().filter_map(Machine::daemon).collect();
                (!daemons.is_empty()).then(|| pick(random, &daemons).clone())
            }
        }
    }

    /// Brings everything back. The faults must not run any more.
    pub fn heal(&self) {
        self.world.network().heal();
        self.world.cluster_state().trouble(Trouble::default());
        for machine in self.all_machines() {
            machine.disk().fill(false);
            machine.clock().set(0);
            self.world.hear(Observation::ClockJumped { machine: machine.host().to_owned() });
            if let Some(daemon) = machine.daemon() {
                daemon.spare();
                daemon.resume();
                self.world.cluster_state().away(daemon.number(), false);
            }
            for holder in machine.workers().values() {
                holder.process.spare();
                holder.process.resume();
            }
            machine.hold_daemon(Duration::ZERO);
            if machine.is_down() {
                machine.come_back();
            }
        }
    }

    /// Users want everything to run again, and are not refused for long.
    pub async fn users_settle(&self, within: Duration) {
        let until = Instant::now() + within;
        let hosts: Vec<String> = self.machines.iter().map(|machine| machine.host().to_owned()).collect();
        let wish = async {
            self.users.finish_kills().await;
            self.users.submit_again().await;
            for id in self.users.topologies() {
                self.users.activate(&id).await;
            }
            for host in &hosts {
                while !self.users.drain(host, false).await {
                    sleep(Duration::from_secs(1)).await;
                }
            }
        };
        if timeout(within, wish).await.is_err() {
            let after = Instant::now() - until + within;
            self.world.violated("users", format!("users are still refused {after:?} after all faults stopped"));
        }
    }
}

fn pick<'a, T>(random: &mut ChaCha8Rng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}

/// How many steps a process makes until it dies: mostly few, so that all awaits after something has begun are met.
fn steps(random: &mut ChaCha8Rng) -> u64 {
    let most = 1_u64 << random.random_range(0..11u32);
    random.random_range(0..most)
}

/// How long a fault lasts.
fn span(random: &mut ChaCha8Rng) -> Duration {
    let ms = match random.random_range(0..10u32) {
        0..=5 => random.random_range(50..3_000),
        6..=8 => random.random_range(3_000..15_000),
        _ => random.random_range(15_000..40_000),
    };
    Duration::from_millis(ms)
}
