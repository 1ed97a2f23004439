//! One slot: what is wanted in it, who lives in it, what happens next.
//!
//! ```text
//!          wanted           files here          started             heard
//!   Empty ───────▶ Fetching ─────────▶ Launching ──────▶ Starting ──────▶ Running
//!     ▲               ▲  ▲                  │ not started    │ ended          │ ended, at once
//!     │ not wanted    │  └── BackingOff ◀───┴────────────────┴────────────────┤ or after a pause
//!     └───────────────┴───── Stopping ◀───────────────────────── not wanted, silent
//! ```
//!
//! Not here: doing any of it (`machine`). Invariants: a start is ordered only when the last look at the slot's lock found it free, with an
//! incarnation that was never given out before; who lives here and is wanted is never stopped but for silence; times are of one
//! clock that begins with the Supervisor.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use worker_api::ids::{Incarnation, Life, PlanVersion, TopologyId, WorkerIndex};

use crate::host::{End, NotLaunched};

/// The pause before the second restart in a row; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A worker that lived for so long has not failed at once.
const LONG_LIFE: Duration = Duration::from_secs(60);
/// How often it is looked whether a port or a slot of somebody else has become free.
const BLOCKED_LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether a worker that should end, or may have, did.
const CLOSE_LOOK: Duration = Duration::from_millis(10);
/// How often it is looked whether one that was started, and is not heard yet, lives.
const STARTING_LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether one that is connected lives: its connection tells sooner.
const RUNNING_LOOK: Duration = Duration::from_secs(1);
/// After SIGKILL: when it is sent again.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// What a plan wants of a slot. Another `plan` is another worker, even if all else is the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// The submission.
    pub(crate) topology: TopologyId,
    /// Which worker of its plan.
    pub(crate) worker: WorkerIndex,
    /// The version at which the slot or its tasks last changed.
    pub(crate) plan: PlanVersion,
}

/// One life in a slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Resident {
    /// What it was started for.
    pub(crate) of: Assignment,
    /// Which start.
    pub(crate) incarnation: Incarnation,
}

impl Resident {
    /// As its peers know it.
    pub(crate) fn life(&self) -> Life {
        Life { plan: self.of.plan, incarnation: self.incarnation }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the start to the first report.
    pub(crate) start: Duration,
    /// Between two reports.
    pub(crate) silence: Duration,
    /// From SIGTERM to SIGKILL.
    pub(crate) grace: Duration,
}

/// What happens to a slot.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The plans want this of it now.
    Wanted(Option<Assignment>),
    /// Executable and files of what is being fetched are here.
    FilesReady,
    /// What was ordered by [`Effect::Launch`] runs.
    Launched,
    /// What was ordered by [`Effect::Launch`] does not run: why.
    NotLaunched(NotLaunched),
    /// A worker reported. [`Slot::knows`] tells whose reports count.
    Heard(Resident),
    /// Its connection closed.
    Disconnected,
    /// The answer to [`Effect::Look`]: somebody has the slot.
    Held,
    /// The answer to [`Effect::Look`]: nobody has the slot; how its last worker ended, if its keeper wrote that.
    Free(Option<End>),
    /// Time passed.
    Tick,
}

/// What shall be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Have the files of this assignment here, then say [`Event::FilesReady`].
    Fetch(Assignment),
    /// Write this life down, start it, then say [`Event::Launched`] or [`Event::NotLaunched`].
    Launch(Resident),
    /// Look at the lock, and say [`Event::Held`] or [`Event::Free`].
    Look,
    /// Tell the worker that its slot is gone, and send it SIGTERM.
    Terminate(&'static str),
    /// Send the worker SIGKILL.
    Kill(String),
    /// This life is over.
    Ended(Ended),
    /// Nothing of this assignment is needed in the slot any more: its folder and launch file go.
    Vacate(Assignment),
}

/// A life that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whose.
    pub(crate) resident: Resident,
    /// Why, where the Supervisor knows better than the keeper.
    pub(crate) verdict: Option<String>,
    /// Whether it was stopped as the plans want another one in the slot, or none: no failure.
    pub(crate) planned: bool,
    /// What the keeper wrote.
    pub(crate) end: Option<End>,
    /// For how long it was known to live.
    pub(crate) lived: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody lives here, nothing is wanted.
    Empty,
    /// Its files are on their way.
    Fetching(Assignment),
    /// A start was ordered.
    Launching(Resident),
    /// It runs, or did when the Supervisor ended, and has not reported.
    Starting { resident: Resident, since: Duration, until: Duration, look: Duration },
    /// It reports.
    Running { resident: Resident, since: Duration, heard: Duration, connected: bool, look: Duration },
    /// It was told to end.
    Stopping { resident: Resident, since: Duration, verdict: String, planned: bool, kill: Duration, look: Duration },
    /// It ended again and again.
    BackingOff { of: Assignment, until: Duration },
    /// Its port is taken.
    PortTaken { of: Assignment, until: Duration },
    /// Its lock is held by somebody unknown, who is killed if he says nothing.
    Held { of: Assignment, kill: Duration, look: Duration },
}

/// A slot.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    limits: Limits,
    wanted: Option<Assignment>,
    /// The last one that was given out.
    incarnation: Incarnation,
    phase: Phase,
    /// What lies in the slot's folder is of this assignment.
    furnished: Option<Assignment>,
    /// Lives in a row that were short.
    short_lives: u32,
    /// What keeps it from running.
    trouble: Option<String>,
}

impl Slot {
    /// A slot as it was left: the last incarnation that was given out, and who lived in it then.
    pub(crate) fn new(limits: Limits, incarnation: Incarnation, resident: Option<Resident>, now: Duration) -> Self {
        let furnished = resident.as_ref().map(|resident| resident.of.clone());
        // It may be alive and report, or have ended meanwhile: the first look tells.
        let starting = |resident| Phase::Starting { resident, since: now, until: now + limits.silence, look: now };
        let phase = resident.map_or(Phase::Empty, starting);
        // Until it is known what is wanted, it is what was.
        Slot { limits, wanted: furnished.clone(), incarnation, phase, furnished, short_lives: 0, trouble: None }
    }

    /// What it is doing.
    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What is wanted in it.
    pub(crate) fn wanted(&self) -> Option<&Assignment> {
        self.wanted.as_ref()
    }

    /// What keeps it from running, in a sentence.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Who lives here, as far as is known.
    pub(crate) fn resident(&self) -> Option<&Resident> {
        match &self.phase {
            Phase::Launching(resident)
            | Phase::Starting { resident, .. }
            | Phase::Running { resident, .. }
            | Phase::Stopping { resident, .. } => Some(resident),
            Phase::Empty
            | Phase::Fetching(_)
            | Phase::BackingOff { .. }
            | Phase::PortTaken { .. }
            | Phase::Held { .. } => None,
        }
    }

    /// Whether this is the life that lives here; any other one has no slot.
    pub(crate) fn knows(&self, resident: &Resident) -> bool {
        match &self.phase {
            // Its start was given up, and happened.
            Phase::Held { of, .. } => resident.of == *of && resident.incarnation == self.incarnation,
            _ => self.resident() == Some(resident),
        }
    }

    /// Whether who lives here keeps the slot.
    pub(crate) fn keeps(&self) -> bool {
        let stays = !matches!(self.phase, Phase::Stopping { .. });
        stays && self.resident().is_some_and(|resident| Some(&resident.of) == self.wanted.as_ref())
    }

    /// Whether anything of a topology is left in it.
    pub(crate) fn has_of(&self, topology: &TopologyId) -> bool {
        let is = |of: &Assignment| of.topology == *topology;
        self.wanted.as_ref().is_some_and(is)
            || self.furnished.as_ref().is_some_and(is)
            || self.resident().is_some_and(|resident| is(&resident.of))
    }

    /// When the next [`Event::Tick`] has something to do.
    pub(crate) fn wakes(&self) -> Option<Duration> {
        match self.phase {
            Phase::Empty | Phase::Fetching(_) | Phase::Launching(_) => None,
            Phase::Starting { until, look, .. } => Some(until.min(look)),
            Phase::Running { heard, look, .. } => Some(look.min(heard + self.limits.silence)),
            Phase::Stopping { kill, look, .. } | Phase::Held { kill, look, .. } => Some(kill.min(look)),
            Phase::BackingOff { until, .. } | Phase::PortTaken { until, .. } => Some(until),
        }
    }

    /// The Supervisor itself stood still for so long: nobody is silent for that.
    pub(crate) fn excuse(&mut self, gap: Duration) {
        match &mut self.phase {
            Phase::Starting { until, .. } => *until += gap,
            Phase::Running { heard, .. } => *heard += gap,
            Phase::Stopping { kill, .. } | Phase::Held { kill, .. } => *kill += gap,
            Phase::Empty
            | Phase::Fetching(_)
            | Phase::Launching(_)
            | Phase::BackingOff { .. }
            | Phase::PortTaken { .. } => {}
        }
    }

    /// What follows. `random` spreads pauses.
    pub(crate) fn step(&mut self, event: Event, now: Duration, random: u32) -> Vec<Effect> {
        match event {
            Event::Wanted(wanted) => self.want(wanted, now),
            Event::FilesReady => self.files_ready(),
            Event::Launched => self.launched(now),
            Event::NotLaunched(why) => self.not_launched(why, now, random),
            Event::Heard(resident) => self.heard(&resident, now),
            Event::Disconnected => self.disconnected(now),
            Event::Held => self.held(now),
            Event::Free(end) => self.free(end, now, random),
            Event::Tick => self.tick(now),
        }
    }

    fn want(&mut self, wanted: Option<Assignment>, now: Duration) -> Vec<Effect> {
        if wanted == self.wanted {
            return Vec::new();
        }
        self.wanted = wanted;
        self.short_lives = 0;
        self.trouble = None;
        match &self.phase {
            Phase::Empty | Phase::Fetching(_) | Phase::BackingOff { .. } | Phase::PortTaken { .. } => self.next(),
            // The end of the start is waited for.
            Phase::Launching(_) | Phase::Stopping { .. } | Phase::Held { .. } => Vec::new(),
            Phase::Starting { .. } | Phase::Running { .. } => self.stop_unwanted(now),
        }
    }

    /// Nobody lives here: on to what is wanted.
    fn next(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.furnished != self.wanted
            && let Some(before) = self.furnished.take()
        {
            effects.push(Effect::Vacate(before));
        }
        self.phase = match &self.wanted {
            Some(of) => {
                effects.push(Effect::Fetch(of.clone()));
                Phase::Fetching(of.clone())
            }
            None => Phase::Empty,
        };
        effects
    }

    fn files_ready(&mut self) -> Vec<Effect> {
        let Phase::Fetching(of) = &self.phase else { return Vec::new() };
        self.incarnation = Incarnation(self.incarnation.0 + 1);
        let resident = Resident { of: of.clone(), incarnation: self.incarnation };
        self.furnished = Some(of.clone());
        self.phase = Phase::Launching(resident.clone());
        vec![Effect::Launch(resident)]
    }

    fn launched(&mut self, now: Duration) -> Vec<Effect> {
        // It may have reported before.
        if let Phase::Launching(resident) = &self.phase {
            let (until, look) = (now + self.limits.start, now + STARTING_LOOK);
            self.phase = Phase::Starting { resident: resident.clone(), since: now, until, look };
        }
        self.stop_unwanted(now)
    }

    fn not_launched(&mut self, why: NotLaunched, now: Duration, random: u32) -> Vec<Effect> {
        let Phase::Launching(resident) = &self.phase else { return Vec::new() };
        let of = resident.of.clone();
        if self.wanted.as_ref() != Some(&of) && !matches!(why, NotLaunched::Held(_)) {
            return self.next();
        }
        match why {
            NotLaunched::PortTaken(why) => {
                self.trouble = Some(why);
                self.phase = Phase::PortTaken { of, until: now + BLOCKED_LOOK };
            }
            NotLaunched::Held(why) => {
                self.trouble = Some(why);
                self.phase = Phase::Held { of, kill: now + self.limits.silence, look: now + CLOSE_LOOK };
            }
            NotLaunched::Failed(why) => {
                self.trouble = Some(why);
                self.short_lives = self.short_lives.max(1);
                return self.pause(of, now, random);
            }
        }
        Vec::new()
    }

    fn heard(&mut self, from: &Resident, now: Duration) -> Vec<Effect> {
        if !self.knows(from) {
            return Vec::new();
        }
        match &mut self.phase {
            Phase::Launching(_) | Phase::Starting { .. } | Phase::Held { .. } => {
                let look = now + RUNNING_LOOK;
                self.phase = Phase::Running { resident: from.clone(), since: now, heard: now, connected: true, look };
                self.trouble = None;
                self.stop_unwanted(now)
            }
            Phase::Running { heard, connected, .. } => {
                *heard = now;
                *connected = true;
                Vec::new()
            }
            Phase::Stopping { .. }
            | Phase::Empty
            | Phase::Fetching(_)
            | Phase::BackingOff { .. }
            | Phase::PortTaken { .. } => Vec::new(),
        }
    }

    fn disconnected(&mut self, now: Duration) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Running { connected, look, .. } => {
                *connected = false;
                *look = now + CLOSE_LOOK;
                vec![Effect::Look]
            }
            Phase::Stopping { .. } => vec![Effect::Look],
            _ => Vec::new(),
        }
    }

    fn held(&mut self, now: Duration) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Starting { look, .. } => *look = now + STARTING_LOOK,
            Phase::Running { look, connected, .. } => {
                *look = now + if *connected { RUNNING_LOOK } else { CLOSE_LOOK };
            }
            Phase::Stopping { look, .. } => *look = now + CLOSE_LOOK,
            Phase::Held { look, .. } => *look = now + BLOCKED_LOOK,
            Phase::Empty
            | Phase::Fetching(_)
            | Phase::Launching(_)
            | Phase::BackingOff { .. }
            | Phase::PortTaken { .. } => {}
        }
        Vec::new()
    }

    fn free(&mut self, end: Option<End>, now: Duration, random: u32) -> Vec<Effect> {
        let (resident, since, verdict, planned) = match &self.phase {
            Phase::Starting { resident, since, .. } | Phase::Running { resident, since, .. } => {
                (resident.clone(), *since, None, false)
            }
            Phase::Stopping { resident, since, verdict, planned, .. } => {
                (resident.clone(), *since, Some(verdict.clone()), *planned)
            }
            Phase::Held { .. } => return self.next(),
            // A start that was ordered holds no lock yet.
            Phase::Launching(_) => return Vec::new(),
            Phase::Empty | Phase::Fetching(_) | Phase::BackingOff { .. } | Phase::PortTaken { .. } => {
                return Vec::new();
            }
        };
        let end = end.filter(|end| end.incarnation == resident.incarnation);
        let lived = match &end {
            Some(end) => Duration::from_millis(end.lived_ms),
            None => now.saturating_sub(since),
        };
        let of = resident.of.clone();
        let mut effects = vec![Effect::Ended(Ended { resident, verdict, planned, end, lived })];
        effects.extend(if self.wanted.as_ref() == Some(&of) {
            if lived >= LONG_LIFE {
                self.short_lives = 0;
            }
            self.pause(of, now, random)
        } else {
            self.next()
        });
        effects
    }

    /// Starts it again: the first time at once, then after longer and longer pauses.
    fn pause(&mut self, of: Assignment, now: Duration, random: u32) -> Vec<Effect> {
        let before = self.short_lives;
        self.short_lives = before.saturating_add(1);
        let Some(doublings) = before.checked_sub(1) else { return self.next() };
        let whole = FIRST_PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE);
        // Between half and all of it.
        let pause = whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0);
        self.phase = Phase::BackingOff { of, until: now + pause };
        Vec::new()
    }

    fn stop_unwanted(&mut self, now: Duration) -> Vec<Effect> {
        let (resident, since) = match &self.phase {
            Phase::Starting { resident, since, .. } | Phase::Running { resident, since, .. } => (resident, *since),
            _ => return Vec::new(),
        };
        let why = match &self.wanted {
            Some(wanted) if *wanted == resident.of => return Vec::new(),
            Some(wanted) if wanted.topology == resident.of.topology => "its plan changed",
            Some(_) => "its slot is another topology's by a newer plan",
            None => "its topology has nothing in this slot any more",
        };
        self.phase = Phase::Stopping {
            resident: resident.clone(),
            since,
            verdict: format!("stopped by its Supervisor: {why}"),
            planned: true,
            kill: now + self.limits.grace,
            look: now + CLOSE_LOOK,
        };
        vec![Effect::Terminate(why)]
    }

    fn kill(&mut self, why: String, now: Duration) -> Vec<Effect> {
        let (Phase::Starting { resident, since, .. } | Phase::Running { resident, since, .. }) = &self.phase else {
            return Vec::new();
        };
        self.phase = Phase::Stopping {
            resident: resident.clone(),
            since: *since,
            verdict: why.clone(),
            planned: false,
            kill: now + KILL_AGAIN,
            look: now + CLOSE_LOOK,
        };
        vec![Effect::Kill(why)]
    }

    fn tick(&mut self, now: Duration) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Empty | Phase::Fetching(_) | Phase::Launching(_) => Vec::new(),
            Phase::Starting { since, until, .. } if *until <= now => {
                let secs = until.saturating_sub(*since).as_secs_f64();
                self.kill(format!("did not report within {secs} s, killed by its Supervisor"), now)
            }
            Phase::Running { heard, .. } if *heard + self.limits.silence <= now => {
                let secs = self.limits.silence.as_secs_f64();
                self.kill(format!("silent for {secs} s, killed by its Supervisor"), now)
            }
            Phase::Stopping { verdict, kill, .. } if *kill <= now => {
                *kill = now + KILL_AGAIN;
                vec![Effect::Kill(verdict.clone()), Effect::Look]
            }
            Phase::Held { kill, .. } if *kill <= now => {
                *kill = now + KILL_AGAIN;
                vec![Effect::Kill("it holds a slot, and did not say who it is".to_owned()), Effect::Look]
            }
            Phase::Starting { look, .. }
            | Phase::Running { look, .. }
            | Phase::Stopping { look, .. }
            | Phase::Held { look, .. } => {
                if *look > now {
                    return Vec::new();
                }
                vec![Effect::Look]
            }
            Phase::BackingOff { until, .. } | Phase::PortTaken { until, .. } => {
                if *until > now {
                    return Vec::new();
                }
                self.next()
            }
        }
    }
}

#[cfg(test)]
mod tests;
