//! What a leader writes, it writes while its own lead's record is there; and there is one lead at a time.
//!
//! Exact: each record names who wrote it, a lead's record too. A removal names nobody: it is known by the session that did it, once
//! that session has written something.
//!
//! Not here: what is written (`plans`). Invariant: a writer is one life of a Nimbus.

use std::collections::BTreeMap;
use std::time::Duration;

use super::noticeboard::writer_of;
use super::{Invariant, Observation, Settled, Violation};

/// See the module.
#[derive(Default)]
pub struct Leads {
    /// Those that are there, by path, with who wrote them.
    leads: BTreeMap<String, String>,
    /// The writer by session.
    writers: BTreeMap<String, String>,
}

/// Folders and records that only a leader writes.
const GUARDED: [&str; 6] = ["topologies", "plans", "secrets", "names", "submissions", "drained"];

impl Leads {
    fn lead(&mut self, path: &str, value: Option<&[u8]>) -> Result<(), Violation> {
        match value.map(writer_of) {
            None => self.leads.remove(path),
            Some(writer) => self.leads.insert(path.to_owned(), writer.unwrap_or_default()),
        };
        if self.leads.len() > 1 {
            let all: Vec<&str> = self.leads.values().map(String::as_str).collect();
            return Err(Violation::new(
                "leads",
                format!("there are {} leads at a time: of {}", all.len(), all.join(", ")),
            ));
        }
        Ok(())
    }
}

impl Invariant for Leads {
    fn observe(&mut self, _: Duration, observation: &Observation) -> Result<(), Violation> {
        let Observation::Recorded { writer: session, path, value } = observation else { return Ok(()) };
        let written_by = value.as_deref().and_then(writer_of);
        if let Some(writer) = &written_by {
            self.writers.insert(session.clone(), writer.clone());
        }
        if path.starts_with("leads/") {
            return self.lead(path, value.as_deref());
        }
        let folder = path.split('/').next().unwrap_or(path);
        if !GUARDED.contains(&folder) {
            return Ok(());
        }
        let Some(writer) = written_by.as_ref().or_else(|| self.writers.get(session)) else { return Ok(()) };
        if self.leads.values().any(|lead| lead == writer) {
            return Ok(());
        }
        let done = if value.is_some() { "writes" } else { "removes" };
        let leads: Vec<&str> = self.leads.values().map(String::as_str).collect();
        let leads = if leads.is_empty() { "nobody leads".to_owned() } else { format!("{} leads", leads.join(", ")) };
        Err(Violation::new("leads", format!("{writer} {done} {path} while {leads}")))
    }

    fn finish(&mut self, _: &Settled) -> Result<(), Violation> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::*;
    use super::*;

    fn by(session: &str, writer: &str, path: &str) -> Observation {
        let value = format!(r#"{{"format":1,"writer":"{writer}","number":1}}"#).into_bytes();
        Observation::Recorded { writer: session.to_owned(), path: path.to_owned(), value: Some(value) }
    }

    fn removed(session: &str, path: &str) -> Observation {
        Observation::Recorded { writer: session.to_owned(), path: path.to_owned(), value: None }
    }

    #[test]
    fn who_leads_writes_and_nobody_else() {
        let good = [
            by("s1", "a", "leads/1"),
            by("s1", "a", "topologies/t"),
            by("s2", "supervisor", "supervisors/x"),
            removed("s1", "topologies/t"),
            removed("", "leads/1"),
            by("s3", "b", "leads/2"),
            by("s3", "b", "plans/t/head"),
        ];
        assert_eq!(heard(&mut Leads::default(), &good, &running()), [] as [String; 0]);
        let late =
            [by("s1", "a", "leads/1"), removed("", "leads/1"), by("s3", "b", "leads/2"), by("s1", "a", "plans/t/head")];
        assert_eq!(heard(&mut Leads::default(), &late, &running()), ["a writes plans/t/head while b leads"]);
        let nobody = [by("s1", "a", "leads/1"), removed("", "leads/1"), removed("s1", "names/t")];
        assert_eq!(heard(&mut Leads::default(), &nobody, &running()), ["a removes names/t while nobody leads"]);
    }

    #[test]
    fn there_is_one_lead_at_a_time() {
        let two = [by("s1", "a", "leads/1"), by("s2", "b", "leads/2")];
        assert_eq!(heard(&mut Leads::default(), &two, &running()), ["there are 2 leads at a time: of a, b"]);
    }
}
