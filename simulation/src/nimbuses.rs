//! How Nimbuses are asked over the simulated network, by Supervisors, workers, users and each other.
//!
//! Not here: what they answer (`nimbus`). Invariant: as the real client does, it asks one address after another until one
//! answers that does not send it to another, and waits for none of them longer than a bounded time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cluster_state::records;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use nimbus::{Api, Command, Extent, Peers, Refused};
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::machine::{MachineAnswer, MachineReport};
use nimbus_api::submission::{Submission, Submitted};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout};
use worker_api::answer::{Answer, Slot};
use worker_api::ids::BlobHash;
use worker_api::report::Report;

use crate::network::{MachineId, Network};
use crate::oracle::Observation;
use crate::world::World;

/// The port that a Nimbus listens at.
pub const PORT: u16 = 6628;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long one may be silent before the next one is asked what may be asked again.
const SILENT: Duration = Duration::from_secs(5);
/// Bytes that go in one piece of an upload.
const UPLOAD_BYTES: usize = 1 << 10;

/// The Nimbuses of a run; a cheap clone.
#[derive(Clone)]
pub struct Nimbuses {
    network: Network,
    running: Arc<Mutex<BTreeMap<MachineId, Running>>>,
}

struct Running {
    /// Its process's number.
    process: u64,
    api: Api,
}

impl Nimbuses {
    /// None yet.
    pub fn new(network: &Network) -> Self {
        Nimbuses { network: network.clone(), running: Arc::default() }
    }

    /// A Nimbus process answers by this from now on.
    pub fn runs(&self, on: MachineId, process: u64, api: Api) {
        lock(&self.running).insert(on, Running { process, api });
    }

    /// It has ended.
    pub fn ended(&self, on: MachineId, process: u64) {
        let mut running = lock(&self.running);
        if running.get(&on).is_some_and(|running| running.process == process) {
            running.remove(&on);
        }
    }

    /// Asks one of them.
    async fn ask<T, W>(
        &self,
        from: MachineId,
        to: MachineId,
        work: impl FnOnce(Api) -> W + Send + 'static,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        let running = self.running.clone();
        let call = self.network.call(from, (to, PORT), move |server: crate::process::Process| async move {
            let found = lock(&running)
                .get(&to)
                .filter(|running| running.process == server.number())
                .map(|running| running.api.clone());
            match found {
                Some(api) => Ok(work(api).await),
                // It has its port, and does not answer yet.
                None => Err("it has just started".to_owned()),
            }
        });
        match timeout(ANSWER, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        }
    }

    /// Asks these in turn, until one answers that does not send us to another; who does not have it is no answer either.
    async fn ask_all<T, W>(
        &self,
        from: MachineId,
        all: &[MachineId],
        work: impl Fn(MachineId, Api) -> W + Clone + Send + 'static,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let mut tried = Vec::new();
        for nimbus in all.iter().copied() {
            let work = work.clone();
            let asked = timeout(SILENT, self.ask(from, nimbus, move |api| work(nimbus, api))).await;
            match asked.unwrap_or_else(|_| Err(format!("no answer within {} s", SILENT.as_secs()))) {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) if ![404, 503].contains(&failure.kind.status()) => return Err(failure.to_string()),
                Ok(Err(failure)) => tried.push(failure.to_string()),
                Err(why) => tried.push(why),
            }
        }
        Err(tried.join("; "))
    }

    /// A Supervisor reports; the world hears who has heard it.
    ///
    /// # Errors
    /// Why none answered.
    pub async fn report_machine(
        &self,
        world: &World,
        from: MachineId,
        all: &[MachineId],
        report: Arc<MachineReport>,
    ) -> Result<MachineAnswer, String> {
        let world = world.clone();
        let report = move |nimbus, api: Api| {
            let (world, report, came) = (world.clone(), (*report).clone(), Instant::now());
            async move {
                let answer = api.report_machine(report).await?;
                heard(&world, nimbus, from, came);
                Ok(answer)
            }
        };
        self.ask_all(from, all, report).await
    }

    /// A worker reports; the world hears who has heard it, if it is one of a plan.
    ///
    /// # Errors
    /// Why none answered.
    pub async fn report_worker(
        &self,
        world: &World,
        from: MachineId,
        all: &[MachineId],
        report: Report,
    ) -> Result<Answer, String> {
        let world = world.clone();
        let report = move |nimbus, api: Api| {
            let (world, report, came) = (world.clone(), report.clone(), Instant::now());
            async move {
                let answer = api.report_worker(report).await?;
                if answer.slot == Slot::Kept {
                    heard(&world, nimbus, from, came);
                }
                Ok(answer)
            }
        };
        self.ask_all(from, all, report).await
    }

    /// Fetches a blob from byte `at` on.
    ///
    /// # Errors
    /// Why it was not to be had.
    pub async fn download(
        &self,
        from: MachineId,
        all: &[MachineId],
        hash: &BlobHash,
        at: u64,
        to: &mut DuplexStream,
    ) -> Result<(), String> {
        let mut at = at;
        loop {
            let hash = hash.clone();
            let piece = move |_, api: Api| {
                let hash = hash.clone();
                async move { api.piece(&hash, at).await }
            };
            let (bytes, length) = self.ask_all(from, all, piece).await?;
            to.write_all(&bytes).await.map_err(|error| error.to_string())?;
            at += bytes.len() as u64;
            if bytes.is_empty() || at >= length {
                return Ok(());
            }
        }
    }

    /// Gives the leader a piece of a blob, as [`Host::offer`](supervisor::host::Host::offer) does.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn offer(
        &self,
        from: MachineId,
        all: &[MachineId],
        hash: BlobHash,
        length: u64,
        offset: u64,
        piece: Bytes,
    ) -> Result<Option<u64>, String> {
        let give = move |_, api: Api| {
            let (hash, piece) = (hash.clone(), piece.clone());
            async move {
                if let Some(leader) = api.leader() {
                    return Err(FailureKind::NotLeader.with(format!("{} leads", leader.nimbus)));
                }
                let has = if piece.is_empty() && offset < length {
                    api.blob_state(&hash).await.map_err(Refused::Failure)
                } else {
                    api.append(&hash, offset, length, stream::iter([Ok::<_, Infallible>(piece)])).await
                };
                match has {
                    Ok(Extent::Complete(_)) => Ok(None),
                    Ok(Extent::Partial(next)) | Err(Refused::Offset { right: next }) => Ok(Some(next)),
                    Err(Refused::Failure(failure)) if failure.kind == FailureKind::NotFound => Ok(Some(0)),
                    Err(Refused::Failure(failure)) => Err(failure),
                }
            }
        };
        self.ask_all(from, all, give).await
    }

    fn process_on(&self, nimbus: MachineId) -> Option<u64> {
        lock(&self.running).get(&nimbus).map(|running| running.process)
    }

    /// A user submits a topology: its blobs first, all to the same Nimbus, and after a pause the submission.
    ///
    /// # Errors
    /// Why it was refused, or that nobody answered; it may have happened nevertheless.
    pub async fn submit(
        &self,
        from: MachineId,
        all: &[MachineId],
        blobs: &[Vec<u8>],
        submission: &Submission,
        pause: Duration,
    ) -> Result<Submitted, NotSubmitted> {
        let mut tried = Vec::new();
        for nimbus in all {
            match self.submit_to(from, *nimbus, blobs, submission.clone(), pause).await {
                Ok(Ok(submitted)) => return Ok(submitted),
                Ok(Err(failure)) if failure.kind.status() != 503 => {
                    let is_missing = failure.kind == FailureKind::NotFound;
                    return Err(NotSubmitted { why: failure.to_string(), missing_at: is_missing.then_some(*nimbus) });
                }
                Ok(Err(failure)) => tried.push(failure.to_string()),
                Err(why) => tried.push(why),
            }
        }
        Err(NotSubmitted { why: tried.join("; "), missing_at: None })
    }

    async fn submit_to(
        &self,
        from: MachineId,
        to: MachineId,
        blobs: &[Vec<u8>],
        submission: Submission,
        pause: Duration,
    ) -> Result<Result<Submitted, Failure>, String> {
        let process = self.process_on(to);
        for blob in blobs {
            let hash = hash_of(blob);
            let (asked, length) = (hash.clone(), blob.len() as u64);
            let state = self.ask(from, to, move |api| async move { api.blob_state(&asked).await }).await?;
            let mut at = match state {
                Ok(Extent::Complete(_)) => continue,
                Ok(Extent::Partial(bytes)) => bytes,
                Err(failure) if failure.kind == FailureKind::NotFound => 0,
                Err(failure) => return Ok(Err(failure)),
            };
            while at < length {
                let rest = &blob[usize::try_from(at).unwrap_or(usize::MAX).min(blob.len())..];
                let piece = Bytes::copy_from_slice(&rest[..rest.len().min(UPLOAD_BYTES)]);
                let hash = hash.clone();
                let append = move |api: Api| async move {
                    api.append(&hash, at, length, stream::iter([Ok::<_, Infallible>(piece)])).await
                };
                at = match self.ask(from, to, append).await? {
                    Ok(Extent::Complete(bytes) | Extent::Partial(bytes)) => bytes,
                    Err(Refused::Offset { right }) => right,
                    Err(Refused::Failure(failure)) => return Ok(Err(failure)),
                };
            }
        }
        sleep(pause).await;
        let answer = self.ask(from, to, move |api| async move { api.submit(submission).await }).await?;
        match answer {
            // Another life of it has begun meanwhile, perhaps with another disk.
            Err(failure) if failure.kind == FailureKind::NotFound && self.process_on(to) != process => {
                Err(failure.to_string())
            }
            answer => Ok(answer),
        }
    }

    /// A user has a topology changed; or is told that its state does not allow it.
    ///
    /// # Errors
    /// Why it was refused otherwise, or that nobody answered; it may have happened nevertheless.
    pub async fn command(
        &self,
        from: MachineId,
        all: &[MachineId],
        name_or_id: &str,
        command: Command,
    ) -> Result<Result<(), WrongState>, String> {
        let name = name_or_id.to_owned();
        let command = move |_, api: Api| {
            let (name, command) = (name.clone(), command.clone());
            async move {
                match api.command(&name, command).await {
                    Err(failure) if failure.kind == FailureKind::WrongState => Ok(Err(WrongState(failure.message))),
                    answer => answer.map(|_| Ok(())),
                }
            }
        };
        self.ask_all(from, all, command).await
    }

    /// A user drains a machine, or has it take work again.
    ///
    /// # Errors
    /// As [`Nimbuses::command`].
    pub async fn drain(&self, from: MachineId, all: &[MachineId], host: &str, is_drained: bool) -> Result<(), String> {
        let host = host.to_owned();
        let drain = move |_, api: Api| {
            let host = host.clone();
            async move { api.drain(&host, is_drained).await }
        };
        self.ask_all(from, all, drain).await.map(drop)
    }

    /// The way from one Nimbus to the others.
    pub fn peers_of(&self, from: MachineId, hosts: BTreeMap<String, MachineId>) -> Arc<dyn Peers> {
        Arc::new(SimulatedPeers { nimbuses: self.clone(), from, hosts })
    }
}

/// A topology's state does not allow a command: what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongState(pub String);

/// A submission was not taken.
pub struct NotSubmitted {
    /// Why.
    pub why: String,
    /// Who said that there is no blob, although it had just taken all of them, and has lived since.
    pub missing_at: Option<MachineId>,
}

struct SimulatedPeers {
    nimbuses: Nimbuses,
    from: MachineId,
    hosts: BTreeMap<String, MachineId>,
}

impl SimulatedPeers {
    fn place(&self, nimbus: &records::Nimbus) -> Result<MachineId, String> {
        self.hosts.get(&nimbus.host).copied().ok_or_else(|| format!("there is no machine `{}`", nimbus.host))
    }
}

impl Peers for SimulatedPeers {
    fn piece<'a>(
        &'a self,
        nimbus: &'a records::Nimbus,
        hash: &'a BlobHash,
        from: u64,
    ) -> BoxFuture<'a, Result<(Bytes, u64), String>> {
        async move {
            let hash = hash.clone();
            let piece = move |api: Api| async move { api.piece(&hash, from).await };
            let answer = self.nimbuses.ask(self.from, self.place(nimbus)?, piece).await?;
            answer.map_err(|failure| failure.to_string())
        }
        .boxed()
    }

    fn held<'a>(
        &'a self,
        nimbus: &'a records::Nimbus,
        hashes: &'a [BlobHash],
    ) -> BoxFuture<'a, Result<Vec<BlobHash>, String>> {
        async move {
            let hashes = hashes.to_vec();
            let held = move |api: Api| async move { api.held(&hashes) };
            self.nimbuses.ask(self.from, self.place(nimbus)?, held).await
        }
        .boxed()
    }
}

/// A Nimbus has heard of a machine, by what came then.
fn heard(world: &World, nimbus: MachineId, machine: MachineId, came: Instant) {
    let (nimbus, machine) = (world.name_of(nimbus), world.name_of(machine));
    world.hear(Observation::Heard { nimbus, machine, took: came.elapsed() });
}

/// The name of a blob.
pub fn hash_of(bytes: &[u8]) -> BlobHash {
    BlobHash::of(Sha256::digest(bytes).into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
