//! What the fault topology wrote down, and what must be true of it.
//!
//! Not here: writing it (`fault_topology`). Invariant: doubles are dropped by (offset, index), and nothing else is forgiven.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::fault_topology::{SOURCES, words};

/// What lies in a folder of evidence.
#[derive(Debug, Default)]
pub struct Evidence {
    /// (offset, index) → word, and how often it was written.
    pub written: BTreeMap<(u64, u64), BTreeMap<String, u64>>,
    /// Offset → tasks that handled it: of `split`, then of `write`.
    pub tasks: BTreeMap<u64, BTreeSet<u32>>,
    /// Roots that failed: offset, kind, the whole reason, and the index of the spout task.
    pub fails: Vec<Fail>,
    /// Lines that were not even of the right form.
    pub malformed: Vec<String>,
    /// Sum over the spout tasks of offsets below which all is acked, by the index of the task.
    pub frontiers: BTreeMap<u64, u64>,
    /// Times that each spout task was opened.
    pub starts: BTreeMap<u64, usize>,
}

/// A root that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// Its offset.
    pub offset: u64,
    /// The kind of end.
    pub kind: String,
    /// The reason as text.
    pub reason: String,
    /// Index of the spout's task.
    pub source: u64,
}

impl Evidence {
    /// Reads a folder.
    ///
    /// # Errors
    /// If the folder or a file in it cannot be read.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut evidence = Evidence::default();
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some((kind, number)) = name.split_once('-') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            let text = fs::read_to_string(&path)?;
            for line in text.lines() {
                if evidence.take(kind, number, line).is_none() {
                    evidence.malformed.push(format!("{name}: {line}"));
                }
            }
        }
        Ok(evidence)
    }

    fn take(&mut self, kind: &str, number: u64, line: &str) -> Option<()> {
        let mut parts = line.split(' ');
        match kind {
            "out" => {
                let (offset, index, word) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
                if parts.next().is_some() {
                    return None;
                }
                *self.written.entry((offset, index)).or_default().entry(word.to_owned()).or_default() += 1;
                self.tasks.entry(offset).or_default().insert(number as u32);
            }
            "split" => {
                self.tasks.entry(line.parse().ok()?).or_default().insert(number as u32);
            }
            "fails" => {
                let (offset, rest) = line.split_once(' ')?;
                let (kind, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                let offset = offset.parse().ok()?;
                self.fails.push(Fail { offset, kind: kind.to_owned(), reason: reason.to_owned(), source: number });
            }
            "frontier" => {
                self.frontiers.insert(number, line.parse().ok()?);
            }
            "starts" => *self.starts.entry(number).or_default() += 1,
            _ => {}
        }
        Some(())
    }

    /// Whether every spout task knows that all below `lines` is acked.
    pub fn is_complete(&self, lines: u64) -> bool {
        self.frontiers.len() == SOURCES && self.frontiers.values().all(|frontier| *frontier >= lines)
    }

    /// Offsets below which all is acked, added up over the spout tasks of a folder; 0 if there is nothing yet.
    pub fn progress(folder: &Path) -> u64 {
        let of =
            |source: usize| fs::read_to_string(folder.join(format!("frontier-{source}"))).ok()?.parse::<u64>().ok();
        (0..SOURCES).filter_map(of).sum()
    }

    /// Below it every offset is acked, whichever spout task has it.
    pub fn settled(&self) -> u64 {
        let all = (0..SOURCES as u64).map(|source| self.frontiers.get(&source).copied().unwrap_or(0));
        all.min().unwrap_or(0)
    }

    /// What is wrong, a line each; empty if nothing is. `lines` were emitted and acked.
    pub fn problems(&self, lines: u64) -> Vec<String> {
        self.problems_within(lines, lines)
    }

    /// As [`problems`](Self::problems) in mid-stream: what is not [settled](Self::settled) may be there or not.
    pub fn problems_so_far(&self) -> Vec<String> {
        self.problems_within(self.settled(), u64::MAX)
    }

    fn problems_within(&self, acked: u64, emitted: u64) -> Vec<String> {
        let mut problems: Vec<String> = self.malformed.iter().map(|line| format!("malformed: {line}")).collect();
        for offset in 0..acked {
            for (index, word) in words(offset).enumerate() {
                if !self.written.contains_key(&(offset, index as u64)) {
                    problems.push(format!("missing: line {offset}, word {index}, `{word}`"));
                }
            }
        }
        for ((offset, index), found) in &self.written {
            match words(*offset).nth(*index as usize).filter(|_| *offset < emitted) {
                None => problems.push(format!("foreign: line {offset}, word {index}")),
                Some(word) if found.len() != 1 || !found.contains_key(&word) => {
                    problems.push(format!("wrong: line {offset}, word {index} is `{word}`, and {found:?} was written"));
                }
                Some(_) => {}
            }
        }
        problems
    }

    /// Words that were written more than once: replays.
    pub fn doubles(&self) -> u64 {
        self.written.values().flat_map(|words| words.values()).map(|times| times - 1).sum()
    }

    /// Checks a whole stream that nothing has disturbed.
    ///
    /// # Errors
    /// If something is missing or foreign, a root has failed, or a word was written twice.
    pub fn check_exact(&self, lines: u64) -> Result<()> {
        let problems = self.problems(lines);
        ensure!(problems.is_empty(), "{} problems, the first: {:?}", problems.len(), problems.first());
        ensure!(self.fails.is_empty(), "{} roots failed, the first: {:?}", self.fails.len(), self.fails.first());
        ensure!(self.doubles() == 0, "{} words were written twice", self.doubles());
        Ok(())
    }

    /// Roots that failed although none of their tasks was on a worker that died. `worker_of` knows tasks; spout tasks by
    /// their index.
    pub fn needless_fails(
        &self,
        dead: &BTreeSet<u16>,
        worker_of: impl Fn(u32) -> u16,
        worker_of_source: impl Fn(u64) -> u16,
    ) -> Vec<Fail> {
        let touched = |fail: &&Fail| {
            let tasks = self.tasks.get(&fail.offset).into_iter().flatten();
            let mut workers = tasks.map(|task| worker_of(*task)).chain([worker_of_source(fail.source)]);
            workers.any(|worker| dead.contains(&worker))
        };
        self.fails.iter().filter(|fail| !touched(fail)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_foreign_wrong_or_torn_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for offset in 0..20 {
            for (index, word) in words(offset).enumerate() {
                text += &format!("{offset} {index} {word}\n");
            }
        }
        let out = folder.path().join("out-3");
        std::fs::write(&out, &text).unwrap();
        assert_eq!(Evidence::read(folder.path()).unwrap().problems(20), Vec::<String>::new());

        let first = text.lines().next().unwrap();
        let torn = format!("{text}{first}\n99 0 w1\n4 0 w400\n12 1");
        std::fs::write(&out, torn).unwrap();
        let evidence = Evidence::read(folder.path()).unwrap();
        let problems = evidence.problems(20);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(problems[0], "malformed: out-3: 12 1");
        assert!(problems[1].starts_with("wrong: line 4, word 0 is"), "{problems:?}");
        assert_eq!(problems[2], "foreign: line 99, word 0");
        assert_eq!(evidence.doubles(), 1);
        assert_eq!(evidence.settled(), 0);
        let so_far = evidence.problems_so_far();
        assert_eq!(so_far.len(), 3, "{so_far:?}");
        assert!(so_far[2].starts_with("wrong: line 99, word 0"), "{so_far:?}");
        let problems = evidence.problems(21);
        assert!(problems.iter().any(|problem| problem.starts_with("missing: line 20, word 0")), "{problems:?}");
    }

    #[test]
    fn a_fail_is_needless_if_the_dead_worker_had_nothing_of_it() {
        let evidence = Evidence {
            tasks: [(1, [5, 6].into()), (2, [7].into())].into(),
            fails: [1, 2]
                .map(|offset| Fail { offset, kind: "WorkerLost".into(), reason: String::new(), source: 0 })
                .to_vec(),
            ..Evidence::default()
        };
        let worker_of = |task: u32| (task % 2) as u16;
        let needless = evidence.needless_fails(&[0].into(), worker_of, |_| 1);
        assert_eq!(needless.iter().map(|fail| fail.offset).collect::<Vec<_>>(), [2]);
    }
}
