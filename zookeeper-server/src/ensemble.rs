//! Three servers that agree: what is left of them goes on while two run.
//!
//! Not here: one server (`server`). Invariant: each has its own folder and keeps its ports over restarts.

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::ZooKeeper;
use crate::server::{Seat, Server, free_port};

/// Servers of an ensemble.
const SERVERS: usize = 3;

/// A test's own ensemble; ended with SIGKILL when it is dropped. All calls block.
pub struct Ensemble {
    servers: Vec<ZooKeeper>,
}

impl Ensemble {
    /// Installs ZooKeeper if it is not there yet, starts three servers, and waits until all of them answer.
    ///
    /// # Errors
    /// As [`ZooKeeper::start`].
    pub fn start() -> Result<Self> {
        let ports = (0..SERVERS).map(|_| Ok([free_port()?, free_port()?])).collect::<Result<Vec<_>>>()?;
        let server = |id| {
            let folder = TempDir::with_prefix("zookeeper-").context("making a folder for ZooKeeper")?;
            let seat = Seat { id, ports: ports.clone() };
            Ok(ZooKeeper::of(Server::in_ensemble(folder.path().to_owned(), seat)?, folder))
        };
        let mut ensemble = Ensemble { servers: (1..=SERVERS).map(server).collect::<Result<_>>()? };
        ensemble.restart_all()?;
        Ok(ensemble)
    }

    /// `127.0.0.1:PORT` of each; restarts keep them.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(ZooKeeper::address).collect()
    }

    /// The servers.
    pub fn servers(&mut self) -> &mut [ZooKeeper] {
        &mut self.servers
    }

    /// The place of the one that leads in [`servers`](Self::servers).
    ///
    /// # Errors
    /// If none does.
    pub fn leader(&self) -> Result<usize> {
        let leads = |server: &ZooKeeper| server.mode().is_ok_and(|mode| mode == "leader");
        match self.servers.iter().position(leads) {
            Some(at) => Ok(at),
            None => bail!("no server of the ensemble leads"),
        }
    }

    /// Kills all of them.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill_all(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(ZooKeeper::kill)
    }

    /// Starts all of them on their data, and waits until all answer: none does before a second one is there.
    ///
    /// # Errors
    /// If one does not start.
    pub fn restart_all(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(ZooKeeper::spawn)?;
        self.servers.iter_mut().try_for_each(ZooKeeper::wait_until_it_answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_without_its_leader_and_comes_back() {
        let mut ensemble = Ensemble::start().unwrap();
        let addresses = ensemble.addresses();
        let leader = ensemble.leader().unwrap();
        ensemble.servers()[leader].kill().unwrap();
        let other = loop {
            if let Ok(other) = ensemble.leader() {
                break other;
            }
        };
        assert_ne!(other, leader);
        ensemble.servers()[leader].restart().unwrap();
        assert_eq!(ensemble.servers()[leader].mode().unwrap(), "follower");
        ensemble.kill_all().unwrap();
        ensemble.leader().unwrap_err();
        ensemble.restart_all().unwrap();
        assert_eq!(ensemble.addresses(), addresses);
        ensemble.leader().unwrap();
    }
}
