//! Copies of blobs on several Nimbuses: what is fetched next and from whom, who has what, and how long a submission waits.
//!
//! Not here: fetching and asking (`process`), files (`blobs`). Invariants: at most [`FETCHES_AT_ONCE`] are under way; where nobody has
//! a blob it is asked for ever more rarely, and never less often than each [`LONGEST_PAUSE_MS`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_state::records::Nimbus;
use serde_json::Value;
use topology_api::config::{Config, Origin};
use worker_api::ids::{BlobHash, NimbusId};

/// Blobs that are fetched at once.
const FETCHES_AT_ONCE: usize = 4;
/// The pause after all other Nimbuses were asked for a blob in vain; it doubles …
const FIRST_PAUSE_MS: u64 = 250;
/// … up to this.
const LONGEST_PAUSE_MS: u64 = 30_000;

/// The blobs that this Nimbus should have and has not. Times are milliseconds of one monotonic clock.
#[derive(Default)]
pub(crate) struct Fetching {
    lacks: BTreeMap<BlobHash, Lack>,
    under_way: BTreeSet<BlobHash>,
}

#[derive(Default)]
struct Lack {
    bytes: u64,
    /// How often it was asked for.
    tries: u32,
    not_before_ms: u64,
    /// Why the last try failed.
    trouble: Option<String>,
}

impl Fetching {
    /// These are lacking, with their lengths, and no others.
    pub(crate) fn want(&mut self, lacking: &BTreeMap<BlobHash, u64>) {
        self.lacks.retain(|hash, _| lacking.contains_key(hash));
        for (hash, bytes) in lacking {
            self.lacks.entry(hash.clone()).or_default().bytes = *bytes;
        }
    }

    /// Other Nimbuses came or went: all are asked again.
    pub(crate) fn others_changed(&mut self) {
        for lack in self.lacks.values_mut() {
            (lack.tries, lack.not_before_ms) = (0, 0);
        }
    }

    /// What to fetch now: a blob, its length, and which one of the `others` has to be asked for it.
    pub(crate) fn next<'a>(&mut self, others: &'a [Nimbus], now_ms: u64) -> Option<(BlobHash, u64, &'a Nimbus)> {
        if self.under_way.len() >= FETCHES_AT_ONCE || others.is_empty() {
            return None;
        }
        let is_due = |hash: &BlobHash, lack: &Lack| lack.not_before_ms <= now_ms && !self.under_way.contains(hash);
        let (hash, lack) = self.lacks.iter().find(|(hash, lack)| is_due(hash, lack))?;
        self.under_way.insert(hash.clone());
        Some((hash.clone(), lack.bytes, &others[lack.tries as usize % others.len()]))
    }

    /// A fetch has ended: the next one of so many others is asked, at once or, when all were, after a pause.
    pub(crate) fn ended(&mut self, hash: &BlobHash, result: Result<(), String>, others: usize, now_ms: u64) {
        self.under_way.remove(hash);
        let Err(trouble) = result else {
            self.lacks.remove(hash);
            return;
        };
        if let Some(lack) = self.lacks.get_mut(hash) {
            lack.tries = lack.tries.saturating_add(1);
            lack.trouble = Some(trouble);
            let (rounds, rest) = (lack.tries / others.max(1) as u32, lack.tries % others.max(1) as u32);
            let pause_ms = FIRST_PAUSE_MS.saturating_mul(1 << rounds.saturating_sub(1).min(16)).min(LONGEST_PAUSE_MS);
            lack.not_before_ms = if rest == 0 { now_ms + pause_ms } else { now_ms };
        }
    }

    /// When the next one is due.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let waiting = self.lacks.iter().filter(|(hash, _)| !self.under_way.contains(*hash));
        waiting.map(|(_, lack)| lack.not_before_ms).min().filter(|_| self.under_way.len() < FETCHES_AT_ONCE)
    }

    /// Why a blob did not come yet, if it was asked for in vain.
    pub(crate) fn trouble(&self, hash: &BlobHash) -> Option<&str> {
        self.lacks.get(hash)?.trouble.as_deref()
    }
}

/// Which blobs the other Nimbuses have, as they last said.
#[derive(Default)]
pub(crate) struct Copies {
    held: BTreeMap<NimbusId, BTreeSet<BlobHash>>,
}

impl Copies {
    /// A Nimbus said what it has.
    pub(crate) fn heard(&mut self, nimbus: NimbusId, held: Vec<BlobHash>) {
        self.held.insert(nimbus, held.into_iter().collect());
    }

    /// These are there, and no others.
    pub(crate) fn retain(&mut self, others: &[Nimbus]) {
        self.held.retain(|id, _| others.iter().any(|other| other.id == *id));
    }

    /// How many of the others have all of these.
    pub(crate) fn of(&self, blobs: &[BlobHash]) -> usize {
        self.held.values().filter(|held| blobs.iter().all(|hash| held.contains(hash))).count()
    }
}

/// How many copies a topology's user wants, and for how long a submission waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `topology.min.replication.count`: Nimbuses, the leader among them.
    pub(crate) count: usize,
    /// `topology.max.replication.wait.time.sec`; `None` for ever.
    pub(crate) wait: Option<Duration>,
}

impl Wanted {
    /// What the topology says, else the cluster.
    pub(crate) fn of(topology: &BTreeMap<String, Value>, cluster: &BTreeMap<String, Value>) -> Self {
        const COUNT: &str = "topology.min.replication.count";
        const WAIT: &str = "topology.max.replication.wait.time.sec";
        let mut config = Config::new();
        for (origin, values) in [(Origin::Environment(String::new()), cluster), (Origin::Code, topology)] {
            for key in [COUNT, WAIT] {
                if let Some(value) = values.get(key).filter(|value| !value.is_null()) {
                    config.put(origin.clone(), key, value.clone());
                }
            }
        }
        let secs = config.usable(WAIT).and_then(Value::as_f64).unwrap_or_default();
        Wanted {
            count: config.whole(COUNT).unwrap_or(1),
            // What is longer than any clock can tell is for ever too.
            wait: Duration::try_from_secs_f64(secs).ok(),
        }
    }

    /// Whether a submission is answered when so many of the Nimbuses that are there have its blobs, `waited` after it was
    /// stored: with a warning, if that is less than was wanted.
    pub(crate) fn verdict(&self, have: usize, there: usize, waited: Duration) -> Option<Option<String>> {
        if have >= self.count {
            return Some(None);
        }
        let few = format!("topology.min.replication.count is {}, and", self.count);
        if have >= there {
            return Some(Some(format!("{few} {there} Nimbuses are there: each of them has its blobs")));
        }
        self.wait.filter(|wait| waited >= *wait).map(|wait| {
            let secs = wait.as_secs_f64();
            Some(format!(
                "{few} {have} of {there} Nimbuses have its blobs after {secs} s (topology.max.replication.wait.time.sec): it \
                 runs, and the others go on fetching them"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nimbus(id: &str) -> Nimbus {
        let host = format!("{id}.local");
        Nimbus { id: NimbusId::new(id).unwrap(), host, port: 6628, version: String::new(), started_ms: 1 }
    }

    fn hash(number: u8) -> BlobHash {
        BlobHash::of([number; 32])
    }

    fn lacking(numbers: std::ops::Range<u8>) -> BTreeMap<BlobHash, u64> {
        numbers.map(|number| (hash(number), u64::from(number))).collect()
    }

    #[test]
    fn four_are_fetched_at_once_and_each_other_nimbus_is_asked_in_turn() {
        let others = [nimbus("a"), nimbus("b")];
        let mut fetching = Fetching::default();
        fetching.want(&lacking(1..7));
        assert_eq!(fetching.next(&[], 0), None);
        for number in 1..5 {
            assert_eq!(fetching.next(&others, 0), Some((hash(number), u64::from(number), &others[0])));
        }
        assert_eq!((fetching.next(&others, 0), fetching.due_ms()), (None, None));
        fetching.ended(&hash(1), Ok(()), 2, 0);
        assert_eq!(fetching.next(&others, 0).unwrap().0, hash(5));
        for number in 2..6 {
            fetching.ended(&hash(number), Ok(()), 2, 0);
        }

        // The other one has what the first one has not; after both there is a pause, which doubles.
        let asked = |fetching: &mut Fetching, now| fetching.next(&others, now).map(|(.., of)| of.id.to_string());
        assert_eq!(asked(&mut fetching, 10).as_deref(), Some("a"));
        fetching.ended(&hash(6), Err("no".to_owned()), 2, 10);
        assert_eq!(fetching.trouble(&hash(6)), Some("no"));
        assert_eq!(asked(&mut fetching, 10).as_deref(), Some("b"));
        fetching.ended(&hash(6), Err("no".to_owned()), 2, 10);
        assert_eq!((asked(&mut fetching, 259), fetching.due_ms()), (None, Some(260)));
        assert_eq!(asked(&mut fetching, 260).as_deref(), Some("a"));
        fetching.ended(&hash(6), Err("no".to_owned()), 2, 300);
        assert_eq!(asked(&mut fetching, 300).as_deref(), Some("b"));
        fetching.ended(&hash(6), Err("no".to_owned()), 2, 300);
        assert_eq!(fetching.due_ms(), Some(800));
        for _ in 0..100 {
            assert!(asked(&mut fetching, 1_000_000).is_some());
            fetching.ended(&hash(6), Err("no".to_owned()), 2, 1_000_000 - 30_000);
        }
        assert!(fetching.due_ms().unwrap() <= 1_000_000, "it never waits for longer than half a minute");
        fetching.others_changed();
        assert_eq!(fetching.due_ms(), Some(0));
        // Nobody needs it any more.
        fetching.want(&BTreeMap::new());
        assert_eq!((fetching.next(&others, 0), fetching.due_ms()), (None, None));
    }

    #[test]
    fn a_copy_counts_if_all_blobs_are_there() {
        let mut copies = Copies::default();
        copies.heard(NimbusId::new("a").unwrap(), vec![hash(1), hash(2)]);
        copies.heard(NimbusId::new("b").unwrap(), vec![hash(1)]);
        assert_eq!((copies.of(&[hash(1)]), copies.of(&[hash(1), hash(2)])), (2, 1));
        copies.retain(&[nimbus("b")]);
        assert_eq!((copies.of(&[hash(1)]), copies.of(&[hash(1), hash(2)])), (1, 0));
    }

    #[test]
    fn the_topology_says_how_many_copies_else_the_cluster() {
        let of = |topology: Value, cluster: Value| {
            let map = |value| serde_json::from_value::<BTreeMap<String, Value>>(value).unwrap();
            let wanted = Wanted::of(&map(topology), &map(cluster));
            (wanted.count, wanted.wait)
        };
        let (count, wait) = ("topology.min.replication.count", "topology.max.replication.wait.time.sec");
        assert_eq!(of(json!({}), json!({})), (1, Some(Duration::from_secs(60))));
        assert_eq!(of(json!({}), json!({count: 2, wait: 5})), (2, Some(Duration::from_secs(5))));
        assert_eq!(of(json!({count: 3, wait: -1}), json!({count: 2, wait: 5})), (3, None));
    }

    #[test]
    fn a_submission_waits_for_copies_or_for_all_that_are_there_or_its_time() {
        let wanted = Wanted { count: 2, wait: Some(Duration::from_secs(60)) };
        let verdict = |have, there, secs| wanted.verdict(have, there, Duration::from_secs(secs));
        assert_eq!(verdict(2, 3, 0), Some(None));
        assert_eq!(verdict(1, 3, 59), None);
        let few = "topology.min.replication.count is 2, and 1 Nimbuses are there: each of them has its blobs";
        assert_eq!(verdict(1, 1, 0), Some(Some(few.to_owned())));
        let late = "topology.min.replication.count is 2, and 1 of 3 Nimbuses have its blobs after 60 s \
                    (topology.max.replication.wait.time.sec): it runs, and the others go on fetching them";
        assert_eq!(verdict(1, 3, 60), Some(Some(late.to_owned())));
        let for_ever = Wanted { wait: None, ..wanted };
        assert_eq!(for_ever.verdict(1, 3, Duration::MAX), None);
    }
}
