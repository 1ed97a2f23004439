//! A process that was started before, perhaps by another: named by its pid and the time at which it started.
//!
//! Not here: starting one. Invariant: a pid that another process has by now is never taken for the one meant.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
    /// In the kernel's ticks since boot.
    started: u64,
}

impl Process {
    /// The process that has this pid now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let started = started(pid).with_context(|| format!("process {pid} is not there"))?;
        Ok(Process { pid, started })
    }

    /// The one that [`write`](Self::write) noted, if it still runs.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        let noted = fs::read_to_string(file).ok()?;
        let (pid, started) = noted.trim().split_once(' ')?;
        let process = Process { pid: pid.parse().ok()?, started: started.parse().ok()? };
        process.runs().then_some(process)
    }

    pub(crate) fn write(self, file: &Path) -> Result<()> {
        let noted = format!("{} {}\n", self.pid, self.started);
        fs::write(file, noted).with_context(|| format!("writing {}", file.display()))
    }

    pub(crate) fn runs(self) -> bool {
        started(self.pid) == Some(self.started)
    }

    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} is no pid", self.pid))?;
        kill_process(pid, signal).with_context(|| format!("sending a signal to process {}", self.pid))
    }
}

/// When a process started; `None` if it is gone or only waits to be collected.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_pid_and_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let me = Process::of(std::process::id()).unwrap();
        me.write(&file).unwrap();
        assert_eq!(Process::read(&file), Some(me));
        Process { started: me.started + 1, ..me }.write(&file).unwrap();
        assert_eq!(Process::read(&file), None);
    }
}
