//! Which machines the leading Nimbus has heard, and which it may therefore believe dead.
//!
//! A bound: what it has decided is written a little later, so a silence counts for [`DECIDED`] after its end.
//!
//! Not here: judging what it does about it. Invariants: silence counts from the lead on, at the earliest; what another Nimbus has heard is
//! no word to the one that leads.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster_state::records::Leader;
use worker_api::ids::SupervisorId;

use super::Observation;
use super::noticeboard::read;
use crate::run::MACHINE_TIMEOUT;

/// How long after a silence has ended what was decided during it may be written: a slow cluster state takes two seconds for each of a
/// plan's parts.
const DECIDED: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub(super) struct Hearing {
    /// The machine of the Nimbus that leads, by its record, and since when.
    leader: (String, Duration),
    /// By machine: when it was heard last, and when its last silence of a time-out ended.
    heard: BTreeMap<String, (Duration, Option<Duration>)>,
}

impl Hearing {
    /// Hears of a lead, or that somebody was heard.
    pub(super) fn observe(&mut self, at: Duration, observation: &Observation) {
        match observation {
            Observation::Recorded { path, value: Some(value), .. } if path == "leader" => {
                // What it heard in an earlier lead is older than this one.
                let host = read::<Leader>(value).map(|leader| leader.host).unwrap_or_default();
                *self = Hearing { leader: (host, at), heard: BTreeMap::new() };
            }
            Observation::Heard { nimbus, machine, took } if *nimbus == self.leader.0 => {
                let since = self.leader.1;
                let (last, silent_until) = self.heard.entry(machine.clone()).or_insert((since, None));
                // It was heard no sooner than it came.
                let now = at.saturating_sub(*took).max(*last);
                if now - *last >= MACHINE_TIMEOUT {
                    *silent_until = Some(at);
                }
                *last = now;
            }
            _ => {}
        }
    }

    /// Whether a machine was silent for a full time-out, so that what is written now may treat it as dead.
    pub(super) fn may_be_dead(&self, at: Duration, machine: &SupervisorId) -> bool {
        // A machine's id is its name and the number of its disk.
        let name = machine.as_str().rsplit_once('-').map_or(machine.as_str(), |(name, _)| name);
        let (last, silent_until) = self.heard.get(name).copied().unwrap_or((self.leader.1, None));
        at.saturating_sub(last) >= MACHINE_TIMEOUT || silent_until.is_some_and(|until| at <= until + DECIDED)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    #[test]
    fn a_machine_may_be_dead_after_a_full_time_out_of_the_lead_that_did_not_hear_it() {
        let mut hearing = Hearing::default();
        let may_be_dead = |hearing: &Hearing, at: u64| hearing.may_be_dead(Duration::from_secs(at), &machine());
        hearing.observe(Duration::from_secs(100), &leads("n1"));
        assert_eq!([109, 110].map(|at| may_be_dead(&hearing, at)), [false, true]);
        hearing.observe(Duration::from_secs(108), &heard_by("n2", 0));
        assert!(may_be_dead(&hearing, 110), "another one heard it");
        hearing.observe(Duration::from_secs(108), &heard_by("n1", 3));
        assert_eq!([114, 115].map(|at| may_be_dead(&hearing, at)), [false, true]);
        hearing.observe(Duration::from_secs(120), &heard_by("n1", 0));
        assert_eq!([120, 130, 129].map(|at| may_be_dead(&hearing, at)), [true, true, true], "it was silent just now");
        hearing.observe(Duration::from_secs(129), &heard_by("n1", 0));
        assert_eq!([131, 138, 139].map(|at| may_be_dead(&hearing, at)), [false, false, true]);
        hearing.observe(Duration::from_secs(139), &leads("n2"));
        assert_eq!([139, 148, 149].map(|at| may_be_dead(&hearing, at)), [false, false, true], "a lead begins anew");
    }
}
