//! The slots that are free, in Storm's order: machines by how many they have, most first, then one slot of each in turn.
//!
//! Not here: who gets one. Invariant: a slot is handed out once, until it is given back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use worker_api::ids::{Port, SupervisorId};

use super::{Machine, WorkerSlot};

/// What is free. Each step costs the logarithm of the number of machines.
pub(super) struct FreeSlots<'a> {
    machines: Vec<Free<'a>>,
    /// Where a machine stands in `machines`, which is in the order of ids.
    places: BTreeMap<&'a SupervisorId, usize>,
    /// Of each platform, the machines that have free slots: most first, then by id.
    order: BTreeMap<&'a str, BTreeSet<(Reverse<usize>, usize)>>,
    /// What workers hold already, on machines of any kind.
    claimed: BTreeSet<(&'a SupervisorId, Port)>,
    /// Whether there are machines that may get no work since somebody drained them.
    drained: bool,
}

struct Free<'a> {
    id: &'a SupervisorId,
    host: &'a str,
    platform: &'a str,
    ports: BTreeSet<Port>,
}

impl<'a> FreeSlots<'a> {
    /// All slots of the machines that may get work.
    pub(super) fn new(machines: &'a BTreeMap<SupervisorId, Machine>) -> Self {
        let free = |(id, machine): (&'a SupervisorId, &'a Machine)| match machine {
            Machine::Available { host, platform, slots } => Some(Free { id, host, platform, ports: slots.clone() }),
            Machine::Unavailable | Machine::Drained => None,
        };
        let drained = machines.values().any(|machine| matches!(machine, Machine::Drained));
        let machines: Vec<Free<'a>> = machines.iter().filter_map(free).collect();
        let places = machines.iter().enumerate().map(|(place, machine)| (machine.id, place)).collect();
        let mut slots = FreeSlots { machines, places, order: BTreeMap::new(), claimed: BTreeSet::new(), drained };
        (0..slots.machines.len()).for_each(|place| slots.enter(place));
        slots
    }

    /// Takes out a slot that a worker has already; `false` if another has it.
    pub(super) fn claim(&mut self, supervisor: &'a SupervisorId, port: Port) -> bool {
        if !self.claimed.insert((supervisor, port)) {
            return false;
        }
        self.change(supervisor, |ports| {
            ports.remove(&port);
        });
        true
    }

    /// So many slots, or as many as there are.
    pub(super) fn take(&mut self, platform: &str, count: usize) -> Vec<WorkerSlot> {
        let first = self.order.get(platform).into_iter().flatten().take(count);
        let mut turn: Vec<usize> = first.map(|(_, place)| *place).collect();
        turn.iter().for_each(|place| self.leave(*place));
        let all = turn.clone();
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && !turn.is_empty() {
            turn.retain(|place| {
                let machine = &mut self.machines[*place];
                if taken.len() < count
                    && let Some(port) = machine.ports.pop_first()
                {
                    taken.push(machine.slot(port));
                }
                !machine.ports.is_empty()
            });
        }
        all.into_iter().for_each(|place| self.enter(place));
        taken
    }

    /// So many slots, or as many as there are, as even over machines as can be: free ones, and those in `own`, which are on
    /// machines that may get work. Where machines have the same claim, those go first that keep more of `own`, then those
    /// with more to give.
    pub(super) fn spread(&mut self, platform: &str, count: usize, own: Vec<WorkerSlot>) -> Vec<WorkerSlot> {
        let mut owned: BTreeMap<usize, BTreeSet<Port>> = BTreeMap::new();
        for slot in &own {
            if let Some(place) = self.places.get(&slot.supervisor).copied() {
                owned.entry(place).or_default().insert(slot.port);
            }
        }
        let free = self.order.get(platform).into_iter().flatten().map(|(_, place)| *place);
        let places: BTreeSet<usize> = free.chain(owned.keys().copied()).collect();
        let kept = |place: &usize| owned.get(place).map_or(0, BTreeSet::len);
        let room = |place: &usize| self.machines[*place].ports.len() + kept(place);
        let mut shares: BTreeMap<usize, usize> = places.iter().map(|place| (*place, 0)).collect();
        let mut left = count;
        while left > 0 {
            let mut turn: Vec<(bool, Reverse<usize>, usize)> = shares
                .iter()
                .filter(|(place, share)| **share < room(place))
                .map(|(place, share)| (kept(place) <= *share, Reverse(room(place)), *place))
                .collect();
            if turn.is_empty() {
                break;
            }
            turn.sort_unstable();
            for (_, _, place) in turn.into_iter().take(left) {
                *shares.entry(place).or_default() += 1;
                left -= 1;
            }
        }
        let mut taken = Vec::new();
        for (place, share) in shares {
            let kept = owned.remove(&place).unwrap_or_default();
            self.leave(place);
            let machine = &mut self.machines[place];
            let ports: Vec<Port> = kept.into_iter().chain(machine.ports.iter().copied()).take(share).collect();
            for port in ports {
                machine.ports.remove(&port);
                taken.push(machine.slot(port));
            }
            self.enter(place);
        }
        taken
    }

    /// How many are free of each platform.
    pub(super) fn counts(&self) -> BTreeMap<&'a str, usize> {
        let mut counts = BTreeMap::new();
        for machine in &self.machines {
            *counts.entry(machine.platform).or_default() += machine.ports.len();
        }
        counts
    }

    /// A slot of another machine, else another one of this.
    pub(super) fn take_elsewhere(&mut self, platform: &str, supervisor: &SupervisorId) -> Option<WorkerSlot> {
        let here = self.places.get(supervisor).copied();
        let order = self.order.get(platform)?;
        let mut places = order.iter().map(|(_, place)| *place);
        let place = places.find(|place| Some(*place) != here).or_else(|| order.first().map(|(_, place)| *place))?;
        self.leave(place);
        let machine = &mut self.machines[place];
        let slot = machine.ports.pop_first().map(|port| machine.slot(port));
        self.enter(place);
        slot
    }

    /// A slot that its worker left.
    pub(super) fn give_back(&mut self, supervisor: &SupervisorId, port: Port) {
        self.change(supervisor, |ports| {
            ports.insert(port);
        });
    }

    /// Why there is no slot for a topology of this platform, and what to do.
    pub(super) fn why_none(&self, platform: &str) -> String {
        match self.machines.iter().any(|machine| machine.platform == platform) {
            true => "no slot is free; add a machine or more supervisor.slots.ports".to_owned(),
            false => match self.machines.is_empty() {
                true if self.drained => {
                    "no machine is available that is not drained; start one by `storm supervisor`, or give one \
                                         work again by `storm admin undrain`"
                        .to_owned()
                }
                true => "no machine is available; start one by `storm supervisor`".to_owned(),
                false => format!(
                    "no machine for {platform} is available; add one, or build the executable for what is there"
                ),
            },
        }
    }

    /// Changes what is free on a machine, if it may get work.
    fn change(&mut self, supervisor: &SupervisorId, change: impl FnOnce(&mut BTreeSet<Port>)) {
        let Some(place) = self.places.get(supervisor).copied() else { return };
        self.leave(place);
        change(&mut self.machines[place].ports);
        self.enter(place);
    }

    fn leave(&mut self, place: usize) {
        let machine = &self.machines[place];
        if let Some(order) = self.order.get_mut(machine.platform) {
            order.remove(&(Reverse(machine.ports.len()), place));
        }
    }

    fn enter(&mut self, place: usize) {
        let machine = &self.machines[place];
        if !machine.ports.is_empty() {
            self.order.entry(machine.platform).or_default().insert((Reverse(machine.ports.len()), place));
        }
    }
}

impl Free<'_> {
    fn slot(&self, port: Port) -> WorkerSlot {
        WorkerSlot { supervisor: self.id.clone(), host: self.host.to_owned(), port }
    }
}
