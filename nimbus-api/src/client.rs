//! Asks Nimbus: one HTTP request on a connection of its own, at the first of the seeds that answers for the leader, or at
//! the leader that a seed names. The seed that answered last is asked first, so that one that hangs costs its wait once.
//!
//! Not here: what is asked (the other modules). Invariants: every wait is bounded; what goes wrong says which addresses were
//! tried and what each of them did; a submission that somebody may have taken is not sent again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use worker_api::answer::Answer;
use worker_api::ids::{BlobHash, SupervisorId};
use worker_api::report::Report;

use crate::API_FORMAT;
use crate::cluster::{Cluster, MachineSummary};
use crate::failure::{Failure, FailureKind};
use crate::machine::{MachineAnswer, MachineReport};
use crate::submission::{Blob, Kill, Rebalance, Submission, Submitted};
use crate::topology::{Topology, TopologySummary};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a reply may take to begin while somebody else can be asked: a process that was stopped takes connections, and is silent.
const SILENT: Duration = Duration::from_secs(5);
/// How long the reply of the only one that can be asked may take to begin, and each piece of a long one to come. Where several are
/// asked, the last one gets what the others have left of it, and no less than [`SILENT`].
const ANSWER: Duration = Duration::from_secs(30);
/// How long the reply to a submission may take to begin: Nimbus may wait for copies of its blobs.
pub const SUBMITTED: Duration = Duration::from_secs(600);
/// Longest JSON reply.
const REPLY_BYTES: usize = 256 << 20;
/// Bytes of a blob that go in one request.
pub const UPLOAD_BYTES: usize = 4 << 20;
/// Header with the number of [`API_FORMAT`].
pub const API_HEADER: &str = "storm-api";
/// Header of a request that one Nimbus passes on to another: it is not passed on again.
pub const PASSED_ON: &str = "storm-passed-on";
/// Header of a refusal that says where the leader is: `host:port`.
pub const LEADER: &str = "storm-leader";
/// Header with the position that an upload goes on at.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// Header with the length of the whole blob.
pub const UPLOAD_LENGTH: &str = "upload-length";

/// Asks the Nimbuses at these addresses; a cheap clone, which knows what the others learn of the seeds.
#[derive(Clone, Debug)]
pub struct Client {
    /// `host:port`.
    seeds: Arc<[String]>,
    /// Which seed is asked first: the one that answered last, or the one behind one that did not.
    first: Arc<AtomicUsize>,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered.
    #[error("cannot reach Nimbus at {}; start one by `storm nimbus`, or name where it is by `-c nimbus.seeds='[\"HOST\"]'`", told(.0))]
    Unreachable(Vec<(String, String)>),
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// What answered is no Nimbus of this version.
    #[error("what listens at {address} does not answer as Nimbus does: {why}")]
    Garbled {
        /// Which address.
        address: String,
        /// What is odd.
        why: String,
    },
    /// A file of ours.
    #[error("{0}")]
    File(String),
}

fn told(addresses: &[(String, String)]) -> String {
    let tried: Vec<String> = addresses.iter().map(|(address, why)| format!("{address} ({why})")).collect();
    tried.join(", ")
}

/// How much of a blob Nimbus has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobState {
    /// So many bytes of it, verified.
    Complete(u64),
    /// So many bytes; an upload goes on there.
    Partial(u64),
}

impl Client {
    /// For Nimbuses at these addresses, `host:port`.
    pub fn new(seeds: Vec<String>) -> Self {
        Client { seeds: seeds.into(), first: Arc::default() }
    }

    /// `GET /v1/cluster`.
    ///
    /// # Errors
    /// Any.
    pub async fn cluster(&self) -> Result<Cluster, ClientError> {
        self.get("/v1/cluster").await
    }

    /// `GET /v1/configuration`.
    ///
    /// # Errors
    /// Any.
    pub async fn configuration(&self) -> Result<BTreeMap<String, Value>, ClientError> {
        self.get("/v1/configuration").await
    }

    /// `GET /v1/topologies/ID`: by name or id.
    ///
    /// # Errors
    /// Any.
    pub async fn topology(&self, name_or_id: &str) -> Result<Topology, ClientError> {
        self.get(&format!("/v1/topologies/{}", segment("topology", name_or_id)?)).await
    }

    /// `POST /v1/topologies`.
    ///
    /// # Errors
    /// Any.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, ClientError> {
        let body = serde_json::to_vec(submission).map_err(|error| ClientError::File(error.to_string()))?;
        let request = request(Method::POST, "/v1/topologies", body.into());
        let (address, response) = self.ask(request, Ask::Once).await?;
        parse(address.clone(), &whole(address, response).await?)
    }

    /// `POST /v1/topologies/ID/activate`.
    ///
    /// # Errors
    /// Any.
    pub async fn activate(&self, name_or_id: &str) -> Result<TopologySummary, ClientError> {
        self.post(&format!("/v1/topologies/{}/activate", segment("topology", name_or_id)?), &()).await
    }

    /// `POST /v1/topologies/ID/deactivate`.
    ///
    /// # Errors
    /// Any.
    pub async fn deactivate(&self, name_or_id: &str) -> Result<TopologySummary, ClientError> {
        self.post(&format!("/v1/topologies/{}/deactivate", segment("topology", name_or_id)?), &()).await
    }

    /// `POST /v1/topologies/ID/kill`.
    ///
    /// # Errors
    /// Any.
    pub async fn kill(&self, name_or_id: &str, kill: Kill) -> Result<TopologySummary, ClientError> {
        self.post(&format!("/v1/topologies/{}/kill", segment("topology", name_or_id)?), &kill).await
    }

    /// `POST /v1/topologies/ID/rebalance`.
    ///
    /// # Errors
    /// Any.
    pub async fn rebalance(&self, name_or_id: &str, rebalance: &Rebalance) -> Result<TopologySummary, ClientError> {
        self.post(&format!("/v1/topologies/{}/rebalance", segment("topology", name_or_id)?), rebalance).await
    }

    /// `POST /v1/supervisors/HOST/drain`: the machines of this host name, or with this id, shall have no work.
    ///
    /// # Errors
    /// Any.
    pub async fn drain(&self, host_or_id: &str) -> Result<Vec<MachineSummary>, ClientError> {
        self.post(&format!("/v1/supervisors/{}/drain", segment("machine", host_or_id)?), &()).await
    }

    /// `POST /v1/supervisors/HOST/undrain`: they may have work again.
    ///
    /// # Errors
    /// Any.
    pub async fn undrain(&self, host_or_id: &str) -> Result<Vec<MachineSummary>, ClientError> {
        self.post(&format!("/v1/supervisors/{}/undrain", segment("machine", host_or_id)?), &()).await
    }

    /// `POST /v1/supervisors/ID/report`.
    ///
    /// # Errors
    /// Any.
    pub async fn report_machine(
        &self,
        id: &SupervisorId,
        report: &MachineReport,
    ) -> Result<MachineAnswer, ClientError> {
        self.post(&format!("/v1/supervisors/{id}/report"), report).await
    }

    /// `POST /v1/workers/report`.
    ///
    /// # Errors
    /// Any.
    pub async fn report_worker(&self, report: &Report) -> Result<Answer, ClientError> {
        self.post("/v1/workers/report", report).await
    }

    /// `GET /v1/blobs`.
    ///
    /// # Errors
    /// Any.
    pub async fn blobs(&self) -> Result<Vec<Blob>, ClientError> {
        self.get("/v1/blobs").await
    }

    /// `HEAD /v1/blobs/HASH`; `None` if there is nothing of it.
    ///
    /// # Errors
    /// Any.
    pub async fn blob_state(&self, hash: &BlobHash) -> Result<Option<BlobState>, ClientError> {
        let request = request(Method::HEAD, &format!("/v1/blobs/{hash}"), Bytes::new());
        let (address, response) = self.ask(request, Ask::Leader).await?;
        let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse().ok();
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => match (number(UPLOAD_OFFSET), number(CONTENT_LENGTH.as_str())) {
                (Some(offset), _) => Ok(Some(BlobState::Partial(offset))),
                (None, Some(bytes)) => Ok(Some(BlobState::Complete(bytes))),
                (None, None) => Err(garbled(address, "no length of the blob")),
            },
            // A reply to HEAD has no body to say why; 503 is told by its header.
            status => Err(garbled(address, format!("status {status}"))),
        }
    }

    /// `PUT /v1/blobs/HASH`: one piece, at most [`UPLOAD_BYTES`], at `offset` of `length` bytes.
    ///
    /// # Errors
    /// Any.
    pub async fn upload(&self, hash: &BlobHash, offset: u64, length: u64, piece: Bytes) -> Result<(), ClientError> {
        let mut request = request(Method::PUT, &format!("/v1/blobs/{hash}"), piece);
        request.headers_mut().insert(UPLOAD_OFFSET, offset.into());
        request.headers_mut().insert(UPLOAD_LENGTH, length.into());
        let (address, response) = self.ask(request, Ask::Leader).await?;
        whole(address, response).await.map(drop)
    }

    /// `GET /v1/blobs/HASH` from `offset` on; what comes is written to `to`. Gives how many bytes came. The caller checks
    /// the hash.
    ///
    /// # Errors
    /// Any; what was written before it stays.
    pub async fn download(
        &self,
        hash: &BlobHash,
        offset: u64,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, ClientError> {
        let mut request = request(Method::GET, &format!("/v1/blobs/{hash}"), Bytes::new());
        if offset > 0 {
            request.headers_mut().insert(RANGE, range(offset)?);
        }
        let (address, response) = self.ask(request, Ask::WhoHasIt).await?;
        if !response.status().is_success() {
            return whole(address, response).await.map(|_| 0);
        }
        let mut body = response.into_body();
        let mut written = 0;
        while let Some(data) = next(&address, &mut body).await? {
            to.write_all(&data).await.map_err(|error| ClientError::File(format!("cannot keep a blob: {error}")))?;
            written += data.len() as u64;
        }
        Ok(written)
    }

    /// A piece of a blob that the Nimbus which is asked has itself: at most [`UPLOAD_BYTES`] from `from` on, and the length of the whole. The caller checks the hash.
    ///
    /// # Errors
    /// Any; also if the blob has no byte at `from`.
    pub async fn piece(&self, hash: &BlobHash, from: u64) -> Result<(Bytes, u64), ClientError> {
        let mut request = request(Method::GET, &format!("/v1/blobs/{hash}"), Bytes::new());
        request.headers_mut().insert(RANGE, range(from)?);
        request.headers_mut().insert(PASSED_ON, 1.into());
        let (address, response) = self.ask(request, Ask::WhoHasIt).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return whole(address.clone(), response)
                .await
                .and(Err(garbled(address, "the whole blob instead of a piece")));
        }
        let rest = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let length = rest.and_then(|rest| rest.checked_add(from));
        let Some(length) = length else { return Err(garbled(address, "no length of the blob")) };
        let mut body = response.into_body();
        let mut piece = Vec::new();
        while piece.len() < UPLOAD_BYTES {
            let Some(data) = next(&address, &mut body).await? else { break };
            piece.extend_from_slice(&data);
        }
        piece.truncate(UPLOAD_BYTES);
        Ok((piece.into(), length))
    }

    /// `POST /v1/blobs/held`: which of these blobs the Nimbus that is asked has itself; nothing is pinned by asking.
    ///
    /// # Errors
    /// Any.
    pub async fn held(&self, hashes: &[BlobHash]) -> Result<Vec<BlobHash>, ClientError> {
        self.post("/v1/blobs/held", &hashes).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (address, response) = self.ask(request(Method::GET, path, Bytes::new()), Ask::Leader).await?;
        parse(address.clone(), &whole(address, response).await?)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::File(error.to_string()))?;
        let (address, response) = self.ask(request(Method::POST, path, body.into()), Ask::Leader).await?;
        parse(address.clone(), &whole(address, response).await?)
    }

    /// One that answers is asked first from now on; one that does not, only after the others.
    fn learn(&self, address: &str, answers: bool) {
        let Some(at) = self.seeds.iter().position(|seed| seed == address) else { return };
        if answers {
            self.first.store(at, Ordering::Relaxed);
        } else {
            let behind = (at + 1) % self.seeds.len();
            // Another clone may have learned better meanwhile.
            let _ = self.first.compare_exchange(at, behind, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Asks the seeds in turn, and whom they name as the leader, until one answers that does not send us on.
    async fn ask(&self, request: Request<Full<Bytes>>, ask: Ask) -> Result<(String, Response<Incoming>), ClientError> {
        let began = Instant::now();
        let mut tried: Vec<(String, String)> = Vec::new();
        let mut refused = None;
        let mut missing = None;
        let mut next: VecDeque<String> = self.seeds.iter().cloned().collect();
        next.rotate_left(self.first.load(Ordering::Relaxed).min(next.len()));
        while let Some(address) = next.pop_front() {
            let is_new = |address: &String| tried.iter().all(|(before, _)| before != address);
            if !is_new(&address) {
                continue;
            }
            let is_last = !next.iter().any(|later| *later != address && is_new(later));
            let most = match ask {
                Ask::Once => SUBMITTED,
                // A piece of a blob may be long on its way. Where others refuse since they cannot reach the leader, it is waited
                // for as they wait for it.
                _ if is_last && refused.is_none() || request.method() == Method::PUT => {
                    ANSWER.saturating_sub(began.elapsed()).max(SILENT)
                }
                _ => SILENT,
            };
            let sent = send(&address, request.clone(), most).await;
            self.learn(&address, sent.is_ok());
            let why = match sent {
                Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                    // The one that leads is asked before the seeds that are left.
                    let leader = response.headers().get(LEADER).and_then(|leader| leader.to_str().ok());
                    leader.into_iter().for_each(|leader| next.push_front(leader.to_owned()));
                    let without_body = no_leader(&address, leader);
                    let reply = match *request.method() {
                        Method::HEAD => Err(without_body.into()),
                        _ => whole(address.clone(), response).await,
                    };
                    match reply {
                        Err(ClientError::Refused(failure)) => {
                            let why = failure.message.clone();
                            refused = Some(failure);
                            why
                        }
                        Err(error) => error.to_string(),
                        Ok(_) => "status 503".to_owned(),
                    }
                }
                Ok(response) if ask == Ask::WhoHasIt && response.status() == StatusCode::NOT_FOUND => {
                    missing = Some((address.clone(), response));
                    "it does not have it".to_owned()
                }
                Ok(response) => return Ok((address, response)),
                Err(Unsent::Lost(why)) if ask == Ask::Once => {
                    return Err(FailureKind::Unanswered
                        .with(format!(
                            "Nimbus at {address} was sent the submission and did not answer ({why}): whether it was \
                             stored is shown by `storm list`"
                        ))
                        .into());
                }
                Err(Unsent::NotSent(why) | Unsent::Lost(why)) => why,
            };
            tried.push((address, why));
        }
        match (missing, refused) {
            (Some(missing), _) => Ok(missing),
            (None, None) => Err(ClientError::Unreachable(tried)),
            (None, Some(failure)) if tried.len() == 1 => Err(failure.into()),
            (None, Some(failure)) => {
                let message = format!("no Nimbus could do it; asked were {}", told(&tried));
                Err(Failure { message, ..failure }.into())
            }
        }
    }
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// The leader, by whichever seed; what is lost on the way is sent again.
    Leader,
    /// The leader; what may have been taken is not sent again.
    Once,
    /// Any that has it: where it is not found, the next one is asked.
    WhoHasIt,
}

/// Sends a request on to the Nimbus at `address`, `host:port`, marked so that it is not passed on again; its reply, as it comes. A
/// reply may take `most` to begin.
///
/// # Errors
/// Why there is none.
pub async fn pass_on<B>(address: &str, mut request: Request<B>, most: Duration) -> Result<Response<Incoming>, Unsent>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    request.headers_mut().insert(PASSED_ON, 1.into());
    send(address, request, most).await
}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// There was no connection: nobody has seen it.
    #[error("{0}")]
    NotSent(String),
    /// It may have been taken.
    #[error("{0}")]
    Lost(String),
}

/// What a refusal with 503 says, which has no body as the reply to a HEAD has none.
fn no_leader(address: &str, leader: Option<&str>) -> Failure {
    FailureKind::NotLeader.with(match leader {
        Some(leader) => format!("Nimbus at {address} cannot do it now, and says that the one at {leader} leads"),
        None => format!("Nimbus at {address} cannot do it now, and knows of none that leads; try again"),
    })
}

fn garbled(address: String, why: impl Into<String>) -> ClientError {
    ClientError::Garbled { address, why: why.into() }
}

/// `bytes=N-`.
fn range(from: u64) -> Result<HeaderValue, ClientError> {
    HeaderValue::try_from(format!("bytes={from}-")).map_err(|error| ClientError::File(error.to_string()))
}

/// What comes next of a blob; `None` at its end.
async fn next(address: &str, body: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
    loop {
        match timeout(ANSWER, body.frame()).await {
            Ok(None) => return Ok(None),
            // Anything but data is none of ours.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => {
                return Err(garbled(address.to_owned(), format!("the blob was cut short: {error}")));
            }
            Err(_) => return Err(garbled(address.to_owned(), "the blob stopped coming")),
        }
    }
}

/// What may stand in a path; names and ids are within it, and so are hosts: an address of IPv6 has colons.
fn segment<'a>(what: &str, name_or_id: &'a str) -> Result<&'a str, ClientError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:".contains(&byte);
    if !name_or_id.is_empty() && name_or_id.bytes().all(fits) && !name_or_id.contains("..") {
        return Ok(name_or_id);
    }
    let shown: String = name_or_id.chars().flat_map(char::escape_default).take(200).collect();
    Err(FailureKind::NotAlive.with(format!("there is no {what} `{shown}`: no name or id is like that")).into())
}

fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    // Paths are made of checked names.
    *request.uri_mut() = path.parse().unwrap_or_default();
    request.headers_mut().insert(API_HEADER, API_FORMAT.into());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// Sends a request on a connection of its own; its reply may take `most` to begin.
async fn send<B>(address: &str, mut request: Request<B>, most: Duration) -> Result<Response<Incoming>, Unsent>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let not_sent = |why: &dyn std::fmt::Display| Unsent::NotSent(why.to_string());
    let host = address.parse().map_err(|_| not_sent(&"no host and port"))?;
    request.headers_mut().insert(HOST, host);
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(not_sent(&error)),
        Err(_) => return Err(not_sent(&format!("no connection within {} s", CONNECT.as_secs()))),
    };
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_sent(&error))?;
    // Drives the exchange; ends with it, or when its halves are dropped.
    tokio::spawn(connection);
    match timeout(most, sender.send_request(request)).await {
        Ok(answer) => answer.map_err(|error| Unsent::Lost(error.to_string())),
        Err(_) => Err(Unsent::Lost(format!("no answer within {} s", most.as_secs()))),
    }
}

/// The body of a success, or the failure that it tells of.
async fn whole(address: String, response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let status = response.status();
    let body = match timeout(ANSWER, Limited::new(response.into_body(), REPLY_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return Err(garbled(address, error.to_string())),
        Err(_) => return Err(garbled(address, "the reply stopped coming")),
    };
    if status.is_success() {
        return Ok(body);
    }
    match serde_json::from_slice::<Failure>(&body) {
        Ok(failure) => Err(failure.into()),
        Err(_) => Err(garbled(address, format!("status {status}"))),
    }
}

fn parse<T: DeserializeOwned>(address: String, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| garbled(address, error.to_string()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    /// Takes connections, and answers each with this status line and JSON, or never; tells of each one. Gives its address.
    async fn seed(
        name: &'static str,
        answer: Option<(&'static str, String)>,
        asked: &mpsc::Sender<&'static str>,
    ) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap().to_string(), asked.clone());
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                asked.send(name).await.unwrap();
                let Some((head, answer)) = &answer else {
                    open.push(stream);
                    continue;
                };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let reply = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
                stream.write_all(reply.as_bytes()).await.unwrap();
                // A body that nobody reads would reset a connection that is closed.
                open.push(stream);
            }
        });
        address
    }

    fn told_so_far(asked: &mut mpsc::Receiver<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| asked.try_recv().ok()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_seed_that_takes_connections_and_is_silent_is_waited_for_once() {
        let (asked, mut heard) = mpsc::channel(16);
        let stopped = seed("stopped", None, &asked).await;
        let answers = seed("answers", Some(("200 OK", r#"{"asked": true}"#.to_owned())), &asked).await;
        let client = Client::new(vec![stopped.clone(), answers]);
        let found = || async { client.clone().configuration().await.unwrap() };
        let began = Instant::now();
        assert_eq!(found().await, BTreeMap::from([("asked".to_owned(), Value::Bool(true))]));
        assert_eq!(told_so_far(&mut heard), ["stopped", "answers"]);
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        for _ in 0..2 {
            found().await;
            assert_eq!(told_so_far(&mut heard), ["answers"]);
        }

        // The only one there is gets more time, and is said what it did.
        let began = Instant::now();
        match Client::new(vec![stopped.clone()]).configuration().await {
            Err(ClientError::Unreachable(tried)) => {
                assert_eq!(tried, [(stopped.clone(), "no answer within 30 s".to_owned())]);
            }
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() >= Duration::from_secs(30));

        // What it may have taken is not sent to another one.
        told_so_far(&mut heard);
        let client = Client::new(vec![stopped, seed("other", Some(("200 OK", "{}".to_owned())), &asked).await]);
        let request = request(Method::POST, "/v1/topologies", Bytes::new());
        match client.ask(request, Ask::Once).await {
            Err(ClientError::Refused(failure)) => assert_eq!(failure.kind, FailureKind::Unanswered),
            other => panic!("{other:?}"),
        }
        assert_eq!(told_so_far(&mut heard), ["stopped"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_leader_that_others_cannot_reach_does_not_cost_half_a_minute() {
        let (asked, mut heard) = mpsc::channel(16);
        let stopped = seed("stopped", None, &asked).await;
        let refusal = Failure { kind: FailureKind::NotLeader, message: format!("{stopped} leads, and is silent") };
        let refuses = || Some(("503 Service Unavailable", serde_json::to_string(&refusal).unwrap()));
        let (one, other) = (seed("one", refuses(), &asked).await, seed("other", refuses(), &asked).await);
        let began = Instant::now();
        let client = Client::new(vec![one.clone(), other.clone(), stopped.clone()]);
        let said = format!(
            "no Nimbus could do it; asked were {one} ({stopped} leads, and is silent), {other} ({stopped} leads, and is \
             silent), {stopped} (no answer within 5 s)"
        );
        match client.activate("t").await {
            Err(ClientError::Refused(failure)) => {
                assert_eq!(failure, Failure { kind: FailureKind::NotLeader, message: said });
            }
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert_eq!(told_so_far(&mut heard), ["one", "other", "stopped"]);

        // Nor do several that are silent take longer together than the only one.
        let silent = [stopped, seed("second", None, &asked).await, seed("third", None, &asked).await];
        let began = Instant::now();
        match Client::new(silent.to_vec()).activate("t").await {
            Err(ClientError::Unreachable(tried)) => {
                let why = ["no answer within 5 s", "no answer within 5 s", "no answer within 20 s"].map(str::to_owned);
                assert_eq!(tried, silent.into_iter().zip(why).collect::<Vec<_>>());
            }
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(31), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_a_head_cannot_say_is_told_by_its_header() {
        let (asked, mut heard) = mpsc::channel(16);
        let gone = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().to_string();
        let hash = BlobHash::of([7; 32]);
        let head = format!("503 Service Unavailable\r\nstorm-leader: {gone}").leak();
        let follows = seed("follows", Some((head, String::new())), &asked).await;
        let refused = match Client::new(vec![follows.clone()]).blob_state(&hash).await {
            Err(ClientError::Refused(failure)) => failure,
            other => panic!("{other:?}"),
        };
        let said = format!(
            "no Nimbus could do it; asked were {follows} (Nimbus at {follows} cannot do it now, and says that the one at \
             {gone} leads), {gone} (Connection refused (os error 111))"
        );
        assert_eq!(refused, Failure { kind: FailureKind::NotLeader, message: said });
        let elects = seed("elects", Some(("503 Service Unavailable", String::new())), &asked).await;
        match Client::new(vec![elects.clone()]).blob_state(&hash).await {
            Err(ClientError::Refused(failure)) => assert_eq!(
                failure,
                Failure {
                    kind: FailureKind::NotLeader,
                    message: format!("Nimbus at {elects} cannot do it now, and knows of none that leads; try again"),
                }
            ),
            other => panic!("{other:?}"),
        }
        assert_eq!(told_so_far(&mut heard), ["follows", "elects"]);
    }
}
