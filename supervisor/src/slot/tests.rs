//! The machine against a world that does anything: files late, starts that fail, workers that die, hang, do not end, and a Supervisor
//! that is killed between any two steps.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits =
    Limits { start: Duration::from_secs(120), silence: Duration::from_secs(30), grace: Duration::from_secs(3) };

fn assignment(plan: u64) -> Assignment {
    Assignment { topology: "words-1-1".parse().unwrap(), worker: WorkerIndex(0), plan: PlanVersion(plan) }
}

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

/// A worker's process.
#[derive(Clone, Debug)]
struct Process {
    /// `None` is a stranger.
    resident: Option<Resident>,
    since: Duration,
    stubborn: bool,
}

/// What is around a slot.
struct World {
    slot: Slot,
    now: Duration,
    fetching: bool,
    launching: Option<Resident>,
    process: Option<Process>,
    /// As on disk.
    incarnation: Incarnation,
    resident: Option<Resident>,
    /// The last report of the process.
    heard: Option<Duration>,
    /// Who was told to end, and is killed if it does not, also if its slot is wanted for it again.
    condemned: Option<Resident>,
    lives: Vec<Ended>,
}

impl World {
    fn new() -> Self {
        World {
            slot: Slot::new(LIMITS, Incarnation(0), None, Duration::ZERO),
            now: Duration::ZERO,
            fetching: false,
            launching: None,
            process: None,
            incarnation: Incarnation(0),
            resident: None,
            heard: None,
            condemned: None,
            lives: Vec::new(),
        }
    }

    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.slot.step(event, self.now, u32::MAX) {
                events.extend(self.perform(effect));
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Fetch(of) => {
                assert_eq!(Some(&of), self.slot.wanted());
                self.fetching = true;
            }
            Effect::Launch(resident) => {
                let own = self.process.as_ref().is_some_and(|process| process.resident.is_some());
                assert!(!own, "started into a held slot");
                assert!(resident.incarnation > self.incarnation, "a life was given out twice");
                assert_eq!(Some(&resident.of), self.slot.wanted());
                self.incarnation = resident.incarnation;
                self.resident = Some(resident.clone());
                self.launching = Some(resident);
            }
            Effect::Look => return Some(self.look()),
            Effect::Terminate(_) => {
                let process = self.process.as_ref().and_then(|process| process.resident.as_ref());
                self.condemned = process.cloned();
                assert!(
                    process.is_none_or(|resident| Some(&resident.of) != self.slot.wanted()),
                    "who is wanted was stopped"
                );
                if self.process.as_ref().is_some_and(|process| process.resident.is_some() && !process.stubborn) {
                    self.process = None;
                }
            }
            Effect::Kill(why) => {
                if let Some(Process { resident: Some(resident), since, .. }) = &self.process {
                    let silent = self.heard.map_or(self.now - *since, |heard| self.now - heard);
                    let condemned = self.condemned.as_ref() == Some(resident);
                    let wanted = Some(&resident.of) == self.slot.wanted() && !condemned;
                    assert!(!wanted || silent >= LIMITS.silence, "who is wanted and reports was killed: {why}");
                }
                self.process = None;
            }
            Effect::Ended(ended) => {
                assert!(self.process.is_none(), "over while it lives");
                self.resident = None;
                self.lives.push(ended);
            }
            Effect::Vacate(of) => {
                let inside = self.process.as_ref().and_then(|process| process.resident.as_ref());
                assert!(inside.is_none_or(|resident| resident.of != of), "its folder went while it lives");
            }
        }
        None
    }

    fn look(&self) -> Event {
        match self.process {
            Some(_) => Event::Held,
            None => Event::Free(None),
        }
    }

    fn files(&mut self) {
        if std::mem::take(&mut self.fetching) {
            self.step(Event::FilesReady);
        }
    }

    fn launch(&mut self, how: u8) {
        let Some(resident) = self.launching.take() else { return };
        let event = match (how, &self.process) {
            (_, Some(_)) => Event::NotLaunched(NotLaunched::Held("held".to_owned())),
            (0, None) => Event::NotLaunched(NotLaunched::Failed("failed".to_owned())),
            (1, None) => Event::NotLaunched(NotLaunched::PortTaken("taken".to_owned())),
            (_, None) => {
                let stubborn = how == 2;
                self.heard = None;
                self.process = Some(Process { resident: Some(resident), since: self.now, stubborn });
                match how {
                    // The start happened, and was given up before its answer came.
                    3 => Event::NotLaunched(NotLaunched::Held("no answer".to_owned())),
                    _ => Event::Launched,
                }
            }
        };
        self.step(event);
    }

    fn report(&mut self) {
        if let Some(Process { resident: Some(resident), .. }) = self.process.clone()
            && self.slot.knows(&resident)
        {
            self.heard = Some(self.now);
            self.step(Event::Heard(resident));
        }
    }

    fn dies(&mut self, told: bool) {
        self.process = None;
        if told {
            self.step(Event::Disconnected);
        }
    }

    /// To `until`, with a tick whenever one is due.
    fn advance(&mut self, until: Duration) {
        while let Some(wakes) = self.slot.wakes().filter(|wakes| *wakes <= until) {
            self.now = self.now.max(wakes);
            self.step(Event::Tick);
            assert!(self.slot.wakes().is_none_or(|next| next > self.now || next > wakes), "it spins");
        }
        self.now = until;
    }

    fn restart(&mut self) {
        let wanted = self.slot.wanted().cloned();
        // A start that was under way goes on, or never began.
        if self.launching.is_some() {
            let launching = self.launching.take().unwrap();
            if self.process.is_none() && launching.incarnation.0.is_multiple_of(2) {
                self.heard = None;
                self.process = Some(Process { resident: Some(launching), since: self.now, stubborn: false });
            }
        }
        self.fetching = false;
        // Nobody heard it meanwhile: its silence begins anew.
        if let Some(process) = &mut self.process {
            process.since = self.now;
        }
        self.heard = None;
        self.slot = Slot::new(LIMITS, self.incarnation, self.resident.clone(), self.now);
        self.step(Event::Wanted(wanted));
    }

    /// From now on all goes well.
    fn calm(&mut self) {
        for _ in 0..400 {
            self.files();
            self.launch(9);
            self.report();
            let next = self.now + secs(0.5);
            self.advance(next);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Want(Option<u64>),
    Files,
    Launch(u8),
    Report,
    Dies(bool),
    Disconnected,
    Stranger,
    Advance(f64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop::option::weighted(0.8, 1..4u64).prop_map(Step::Want),
        4 => Just(Step::Files),
        4 => (0..6u8).prop_map(Step::Launch),
        4 => Just(Step::Report),
        1 => any::<bool>().prop_map(Step::Dies),
        1 => Just(Step::Disconnected),
        1 => Just(Step::Stranger),
        4 => prop_oneof![Just(0.01), Just(0.5), Just(3.0), Just(40.0), Just(130.0)].prop_map(Step::Advance),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happened: nothing was started twice, who was wanted and reported was let alone, and once all goes well the slot
    /// has what is wanted of it.
    #[test]
    fn a_slot_gets_what_is_wanted(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Want(plan) => world.step(Event::Wanted(plan.map(assignment))),
                Step::Files => world.files(),
                Step::Launch(how) => world.launch(how),
                Step::Report => world.report(),
                Step::Dies(told) => world.dies(told),
                Step::Disconnected => world.step(Event::Disconnected),
                Step::Stranger => {
                    if world.process.is_none() {
                        world.process = Some(Process { resident: None, since: world.now, stubborn: true });
                    }
                }
                Step::Advance(by) => {
                    let until = world.now + secs(by);
                    world.advance(until);
                }
                Step::Restart => world.restart(),
            }
        }
        world.calm();
        let inside = world.process.as_ref().and_then(|process| process.resident.as_ref()).map(|resident| &resident.of);
        match world.slot.wanted().cloned() {
            Some(wanted) => {
                prop_assert!(matches!(world.slot.phase(), Phase::Running { .. }), "{:?}", world.slot);
                prop_assert_eq!(inside, Some(&wanted));
            }
            None => {
                prop_assert_eq!(world.slot.phase(), &Phase::Empty);
                prop_assert_eq!(inside, None);
            }
        }
        let lives: Vec<_> = world.lives.iter().map(|ended| ended.resident.incarnation).collect();
        prop_assert!(lives.is_sorted_by(|a, b| a < b), "{:?}", lives);
    }
}

/// A worker that runs, and reported at 0 s.
fn running() -> World {
    let mut world = World::new();
    world.step(Event::Wanted(Some(assignment(1))));
    world.files();
    world.launch(9);
    world.report();
    world
}

#[test]
fn restarts_wait_longer_and_longer_until_a_life_was_long() {
    let mut world = running();
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let died = world.now;
        world.dies(true);
        while !world.fetching {
            let wakes = world.slot.wakes().unwrap();
            world.advance(wakes);
        }
        pauses.push((world.now - died).as_secs_f64());
        world.files();
        world.launch(9);
        world.report();
    }
    assert_eq!(pauses, [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
    for _ in 0..120 {
        let next = world.now + secs(0.5);
        world.advance(next);
        world.report();
    }
    world.dies(true);
    assert!(world.fetching);
}

#[test]
fn chance_shortens_a_pause_to_half_at_most() {
    for (random, pause) in [(0, 0.25), (u32::MAX / 2, 0.375), (u32::MAX, 0.5)] {
        let mut slot = running().slot;
        slot.short_lives = 1;
        slot.step(Event::Free(None), secs(1.0), random);
        let Phase::BackingOff { until, .. } = slot.phase else { panic!("{:?}", slot.phase) };
        assert!((until.as_secs_f64() - 1.0 - pause).abs() < 1e-6, "{until:?}");
    }
}

#[test]
fn a_silent_worker_is_killed_and_its_end_says_why() {
    let mut world = running();
    world.advance(secs(29.9));
    assert_eq!(world.lives, []);
    world.advance(secs(30.1));
    let verdict = Some("silent for 30 s, killed by its Supervisor".to_owned());
    assert_eq!(world.lives.iter().map(|ended| ended.verdict.clone()).collect::<Vec<_>>(), [verdict]);
    assert!(world.fetching);
}

#[test]
fn nobody_is_blamed_for_the_time_in_which_the_supervisor_stood_still() {
    let mut world = running();
    world.now = secs(100.0);
    world.slot.excuse(secs(100.0));
    world.step(Event::Tick);
    assert!(matches!(world.slot.phase(), Phase::Running { .. }));
}

#[test]
fn a_plan_that_leaves_the_slot_alone_has_no_effect() {
    let mut world = running();
    assert_eq!(world.slot.step(Event::Wanted(Some(assignment(1))), secs(1.0), 0), []);
    let effects = world.slot.step(Event::Wanted(Some(assignment(2))), secs(1.0), 0);
    assert_eq!(effects, [Effect::Terminate("its plan changed")]);
    assert!(!world.slot.keeps());
}

#[test]
fn a_new_plan_is_followed_at_once_and_blames_nobody() {
    let mut world = running();
    // It has crashed before, so that the next restart would wait.
    for _ in 0..2 {
        world.process = None;
        world.step(Event::Disconnected);
        world.advance(world.now + secs(40.0));
        world.files();
        world.launch(4);
        world.report();
    }
    let crashed = world.lives.len();
    world.step(Event::Wanted(Some(assignment(2))));
    world.advance(world.now + CLOSE_LOOK);
    let verdict = Some("stopped by its Supervisor: its plan changed".to_owned());
    let told: Vec<_> = world.lives.iter().map(|ended| (ended.verdict.clone(), ended.planned)).collect();
    assert_eq!((crashed, told), (2, vec![(None, false), (None, false), (verdict, true)]));
    assert_eq!(world.slot.phase(), &Phase::Fetching(assignment(2)));
}

#[test]
fn a_start_that_was_given_up_and_happened_is_adopted() {
    let mut world = World::new();
    world.step(Event::Wanted(Some(assignment(1))));
    world.files();
    world.launch(3);
    assert_eq!(world.slot.trouble(), Some("no answer"));
    world.report();
    assert!(matches!(world.slot.phase(), Phase::Running { .. }));
    assert_eq!((world.slot.trouble(), world.slot.keeps()), (None, true));
}

#[test]
fn a_stranger_in_the_slot_is_waited_for_and_then_killed() {
    let mut world = World::new();
    world.process = Some(Process { resident: None, since: Duration::ZERO, stubborn: true });
    world.step(Event::Wanted(Some(assignment(1))));
    world.files();
    world.launch(9);
    assert!(matches!(world.slot.phase(), Phase::Held { .. }));
    assert_eq!(world.slot.trouble(), Some("held"));
    world.advance(secs(29.9));
    assert!(world.process.is_some());
    world.advance(secs(31.0));
    assert!(world.process.is_none() && world.fetching);
}
