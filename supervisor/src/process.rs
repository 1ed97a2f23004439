//! A process that others started, held so that a signal reaches it or nobody.
//!
//! Not here: starting one (`launcher`), what its end means (`slot`). Invariant: a [`Process`] is one process for ever: when it
//! has ended and its number was given to another one, that one is never touched. Needs Linux 5.3.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

pub use rustix::process::Signal;

use crate::keeper::Record;

/// A process that runs, or has run.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Who is at the other end of a Unix socket: who connected it, or listens there.
    ///
    /// # Errors
    /// If that process has closed its end already, is in another pid namespace, or no descriptor is left.
    ///
    /// # Panics
    /// Outside a tokio runtime, as [`of_keeper_record`](Process::of_keeper_record) does.
    pub fn of_peer(stream: &UnixStream) -> io::Result<Process> {
        let unseen = || io::Error::other("the process that connected is not visible from here: another pid namespace");
        let pid = stream.peer_cred()?.pid().and_then(Pid::from_raw).ok_or_else(unseen)?;
        let process = Process::open(pid)?;
        // While its end is open, the process that the kernel noted lives (workers hand no socket on): so the number was not given
        // to another one before it was opened here.
        let mut end = [PollFd::new(stream, PollFlags::RDHUP)];
        poll(&mut end, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if end[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the process that connected has closed its end"));
        }
        Ok(process)
    }

    /// The worker that the slot's keeper last started, if it still runs. It is compared with when that process began, so a
    /// process that has its number today is not taken for it.
    ///
    /// # Errors
    /// If the record or `/proc` cannot be read, or no descriptor is left. A record that is not there is no error.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn of_keeper_record(slot_folder: &Path) -> io::Result<Option<Process>> {
        Ok(match Record::read(slot_folder)? {
            Some(record) => Process::same(record.worker, &record.boot)?,
            None => None,
        })
    }

    /// The keeper of the slot's last worker, if it still runs: when it has ended, an end of its worker is written or never
    /// will be.
    ///
    /// # Errors
    /// As [`of_keeper_record`](Process::of_keeper_record).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn keeper_of(slot_folder: &Path) -> io::Result<Option<Process>> {
        Ok(match Record::read(slot_folder)? {
            Some(record) => Process::same(record.keeper, &record.boot)?,
            None => None,
        })
    }

    /// Sends a signal. To one that has ended already it does nothing.
    ///
    /// # Errors
    /// If this user may not.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when it has ended.
    pub async fn ended(&self) {
        if self.pidfd.readable().await.is_err() {
            // The runtime is shutting down: nothing is known of the process.
            std::future::pending().await
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, for types whose descriptor may change; an OwnedFd's does not"
    )]
    fn open(pid: Pid) -> io::Result<Process> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Process { pid, pidfd: AsyncFd::with_interest(pidfd, Interest::READABLE)? })
    }

    /// That process, if it is still the one with this beginning.
    fn same(seen: Seen, boot: &str) -> io::Result<Option<Process>> {
        if boot_id()? != boot {
            return Ok(None);
        }
        let Some(pid) = i32::try_from(seen.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let process = match Process::open(pid) {
            Ok(process) => process,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Looked at after it is held: were it another one, this beginning would be gone from the machine.
        Ok((Seen::at(seen.pid)? == Some(seen) && !process.has_ended()?).then_some(process))
    }

    /// Whether it has: it may be on the process table still, if nobody asked yet how it ended.
    fn has_ended(&self) -> io::Result<bool> {
        let mut end = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        Ok(poll(&mut end, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
    }
}

/// A process as it is written down: its number alone would say nothing once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    /// When it began, in clock ticks since the machine's start: field 22 of `/proc/PID/stat`.
    pub(crate) began_ticks: u64,
}

impl Seen {
    /// What has this number now.
    pub(crate) fn at(pid: u32) -> io::Result<Option<Seen>> {
        let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // What `/proc` says of a process that ended between open and read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => return Ok(None),
            Err(error) => return Err(error),
        };
        let began_ticks = began_ticks(&stat).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat has no field 22: `{}`", stat.trim_end()),
            )
        })?;
        Ok(Some(Seen { pid, began_ticks }))
    }
}

/// Field 22. The second one, the name in brackets, may hold anything, so fields are counted from its last bracket.
fn began_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Which start of the machine this is.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_found_behind_any_name() {
        let stat = "4711 (a ) S 1 (b) S 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1";
        assert_eq!(began_ticks(stat), Some(987_654));
        assert_eq!(began_ticks("4711 (a"), None);
    }
}
