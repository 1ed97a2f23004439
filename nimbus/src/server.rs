//! The HTTP API: the routes of `nimbus_api`, and nothing else.
//!
//! A Nimbus that does not lead passes requests on to the leader as they come, bodies streamed, so that the leader's bounds hold;
//! reads too, as what machines report is known to the leader alone. It answers by itself what it has itself: the configuration,
//! blobs, and, if the leader does not answer, reads by the records.
//!
//! Not here: deciding anything (`process`). Invariants: a request is passed on once; each request names the number of this API's format, so a page in a
//! browser cannot send one unnoticed; bodies are bounded; whatever goes wrong is a [`Failure`] as JSON.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::header::{
    ACCEPT_RANGES, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE, TRANSFER_ENCODING,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cluster_state::records::Leader;
use futures_util::stream;
use nimbus_api::API_FORMAT;
use nimbus_api::client::{self, API_HEADER, LEADER, PASSED_ON, SUBMITTED, UPLOAD_LENGTH, UPLOAD_OFFSET, Unsent};
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::machine::MachineReport;
use nimbus_api::object::Object;
use nimbus_api::submission::{Kill, Rebalance, SUBMISSION_BYTES, Submission};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker_api::check_format;
use worker_api::ids::{BlobHash, SupervisorId};
use worker_api::report::Report;

use crate::api::Api;
use crate::blobs::{Extent, Refused};
use crate::process::Command;

/// Longest report of a machine or a worker in bytes: 100,000 executors with some hundred bytes each.
const REPORT_BYTES: usize = 64 << 20;
/// Longest body of a command.
const COMMAND_BYTES: usize = 64 << 10;

/// How long the leader may take to begin its reply to a read or a report, which it has in memory: who asked waits longer than that.
const PASSED_ON_READ: Duration = Duration::from_secs(3);
/// The same for commands and pieces of uploads.
const PASSED_ON_WRITE: Duration = Duration::from_secs(20);

/// A failure as a reply.
struct Refusal(Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal(failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, json(&self.0)).into_response()
    }
}

/// Any reply.
type Answer = Result<Response, Refusal>;

/// The routes.
pub(crate) fn routes(api: Api) -> Router {
    Router::new()
        .route("/v1/cluster", get(cluster))
        .route("/v1/configuration", get(configuration))
        .route("/v1/topologies", post(submit))
        .route("/v1/topologies/{id}", get(topology))
        .route("/v1/topologies/{id}/activate", post(activate))
        .route("/v1/topologies/{id}/deactivate", post(deactivate))
        .route("/v1/topologies/{id}/rebalance", post(rebalance))
        .route("/v1/topologies/{id}/kill", post(kill))
        .route("/v1/blobs", get(blobs))
        .route("/v1/blobs/held", post(held))
        .route("/v1/blobs/{hash}", get(download).head(blob_state).put(upload))
        .route("/v1/supervisors/{id}/drain", post(drain))
        .route("/v1/supervisors/{id}/undrain", post(undrain))
        .route("/v1/supervisors/{id}/report", post(report_machine))
        .route("/v1/workers/report", post(report_worker))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(api.clone(), lead))
        .layer(from_fn(formats))
        .with_state(api)
}

/// Refuses requests of another format, and writes ours into each reply.
async fn formats(request: HttpRequest, next: Next) -> Response {
    let found = request.headers().get(API_HEADER).map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
    let fits = match found {
        Some(Some(found)) => check_format("request", API_FORMAT, found).map_err(|wrong| wrong.to_string()),
        Some(None) => Err(format!("the header `{API_HEADER}` is no number")),
        None => Err(format!("the header `{API_HEADER}: {API_FORMAT}` is missing")),
    };
    let mut response = match fits {
        Ok(()) => next.run(request).await,
        Err(why) => Refusal(FailureKind::BadRequest.with(why)).into_response(),
    };
    response.headers_mut().insert(API_HEADER, API_FORMAT.into());
    response
}

/// Passes on what the leader has to answer.
async fn lead(State(api): State<Api>, request: HttpRequest, next: Next) -> Response {
    let is_here = match (request.method(), request.uri().path()) {
        (_, "/v1/configuration" | "/v1/blobs/held") => true,
        (&Method::GET, path) => {
            let hash = path.strip_prefix("/v1/blobs/").and_then(|hash| hash.parse().ok());
            hash.is_some_and(|hash| !api.held(&[hash]).is_empty())
        }
        _ => false,
    };
    let leader = api.leader().filter(|_| !is_here);
    if let Some(leader) = leader.filter(|_| !request.headers().contains_key(PASSED_ON)) {
        return pass_on(&api, &leader, request).await;
    }
    told_leader(&api, next.run(request).await)
}

/// Who is refused is told where the leader is.
fn told_leader(api: &Api, mut response: Response) -> Response {
    if response.status() == StatusCode::SERVICE_UNAVAILABLE
        && let Some(leader) = api.leader()
    {
        response.headers_mut().extend(text(HeaderName::from_static(LEADER), address(&leader)));
    }
    response
}

async fn pass_on(api: &Api, leader: &Leader, mut request: HttpRequest) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let is_submission = method == Method::POST && uri.path() == "/v1/topologies";
    let most = match method {
        _ if is_submission => SUBMITTED,
        Method::GET => PASSED_ON_READ,
        _ if uri.path().ends_with("/report") => PASSED_ON_READ,
        _ => PASSED_ON_WRITE,
    };
    for of_one_hop in [CONNECTION, TRANSFER_ENCODING] {
        request.headers_mut().remove(of_one_hop);
    }
    let lost = match client::pass_on(&address(leader), request, most).await {
        Ok(response) => {
            let mut response = response.map(Body::new);
            response.headers_mut().remove(CONNECTION);
            response.headers_mut().remove(TRANSFER_ENCODING);
            return response;
        }
        Err(lost) => lost,
    };
    let (whom, at) = (&leader.nimbus, address(leader));
    let why = format!("Nimbus {whom} at {at} leads, and does not answer this one: {lost}");
    match lost {
        Unsent::Lost(_) if is_submission => {
            let said = format!("{why}; whether the submission was stored is shown by `storm list`");
            Refusal(FailureKind::Unanswered.with(said)).into_response()
        }
        _ => match by_records(api, &method, uri.path(), &why).await {
            Some(answer) => answer.into_response(),
            None => told_leader(api, Refusal(FailureKind::NotLeader.with(why)).into_response()),
        },
    }
}

/// The reply to a read that the leader does not answer, if the records tell anything.
async fn by_records(api: &Api, method: &Method, path: &str, why: &str) -> Option<Answer> {
    if method != Method::GET {
        return None;
    }
    if path == "/v1/cluster" {
        let why = format!("{why}; shown is what the records say, without what machines report");
        return Some(Ok(json(&api.cluster_by_records(why).await.ok()?)));
    }
    let id = path.strip_prefix("/v1/topologies/")?;
    match api.topology_by_records(id).await {
        Err(failure) if failure.kind != FailureKind::NotAlive => None,
        answer => Some(answer.map(|topology| json(&topology)).map_err(Refusal)),
    }
}

fn address(leader: &Leader) -> String {
    format!("{}:{}", leader.host, leader.port)
}

async fn no_route(method: Method, uri: Uri) -> Refusal {
    FailureKind::NotFound.with(format!("there is no route {method} {}", shown(uri.path()))).into()
}

async fn no_method(method: Method, uri: Uri) -> Response {
    let failure = FailureKind::BadRequest.with(format!("{} does not take {method}", shown(uri.path())));
    (StatusCode::METHOD_NOT_ALLOWED, json(&failure)).into_response()
}

async fn cluster(State(api): State<Api>) -> Answer {
    Ok(json(&api.cluster().await?))
}

async fn configuration(State(api): State<Api>) -> Answer {
    Ok(json(api.configuration()))
}

async fn topology(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    Ok(json(&api.topology(&id).await?))
}

async fn submit(State(api): State<Api>, body: Body) -> Answer {
    let Object::<Submission>(submission) = parse("submission", body, SUBMISSION_BYTES).await?;
    Ok((StatusCode::CREATED, json(&api.submit(submission).await?)).into_response())
}

async fn activate(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    Ok(json(&api.command(&id, Command::Activate).await?))
}

async fn deactivate(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    Ok(json(&api.command(&id, Command::Deactivate).await?))
}

async fn kill(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    let Object::<Kill>(kill) = parse("kill", body, COMMAND_BYTES).await?;
    Ok(json(&api.command(&id, Command::Kill(kill)).await?))
}

async fn rebalance(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    let Object::<Rebalance>(rebalance) = parse("rebalance", body, COMMAND_BYTES).await?;
    Ok(json(&api.command(&id, Command::Rebalance(rebalance)).await?))
}

async fn drain(State(api): State<Api>, Path(host_or_id): Path<String>) -> Answer {
    Ok(json(&api.drain(&host_or_id, true).await?))
}

async fn undrain(State(api): State<Api>, Path(host_or_id): Path<String>) -> Answer {
    Ok(json(&api.drain(&host_or_id, false).await?))
}

async fn report_machine(State(api): State<Api>, Path(id): Path<String>, body: Body) -> Answer {
    let id: SupervisorId = id.parse().map_err(|bad| bad_request(&bad))?;
    let report: MachineReport = parse("machine's report", body, REPORT_BYTES).await?;
    if report.id != id {
        return Err(bad_request(&format!("the report is that of {}, not of {id}", report.id)));
    }
    Ok(json(&api.report_machine(report).await?))
}

async fn report_worker(State(api): State<Api>, body: Body) -> Answer {
    let report: Report = parse("worker's report", body, REPORT_BYTES).await?;
    Ok(json(&api.report_worker(report).await?))
}

async fn blobs(State(api): State<Api>) -> Answer {
    Ok(json(&api.blobs().await))
}

async fn held(State(api): State<Api>, body: Body) -> Answer {
    let hashes: Vec<BlobHash> = parse("list of blobs", body, REPORT_BYTES).await?;
    Ok(json(&api.held(&hashes)))
}

async fn blob_state(State(api): State<Api>, Path(hash): Path<String>) -> Answer {
    let hash = blob_hash(&hash)?;
    match api.blob_state(&hash).await? {
        Extent::Complete(bytes) => Ok(with(Body::empty(), StatusCode::OK, CONTENT_LENGTH.as_str(), bytes)),
        Extent::Partial(bytes) => Ok(with(Body::empty(), StatusCode::OK, UPLOAD_OFFSET, bytes)),
    }
}

async fn upload(State(api): State<Api>, Path(hash): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let hash = blob_hash(&hash)?;
    let (offset, length) = (number(&headers, UPLOAD_OFFSET)?, number(&headers, UPLOAD_LENGTH)?);
    match api.append(&hash, offset, length, body.into_data_stream()).await {
        Ok(Extent::Complete(_)) => Ok(StatusCode::CREATED.into_response()),
        Ok(Extent::Partial(bytes)) => Ok(with(Body::empty(), StatusCode::OK, UPLOAD_OFFSET, bytes)),
        Err(Refused::Failure(failure)) => Err(failure.into()),
        Err(Refused::Offset { right }) => {
            let said =
                format!("{right} bytes of blob {hash} are here, so its upload goes on at {right}, not at {offset}");
            let mut response = Refusal(FailureKind::WrongState.with(said)).into_response();
            response.headers_mut().insert(UPLOAD_OFFSET, right.into());
            Ok(response)
        }
    }
}

async fn download(State(api): State<Api>, Path(hash): Path<String>, headers: HeaderMap) -> Answer {
    let hash = blob_hash(&hash)?;
    let from = headers.get(RANGE).map(first_byte).transpose()?;
    let first = from.unwrap_or(0);
    let (piece, bytes) = api.piece(&hash, first).await?;
    if let Some(from) = from.filter(|from| *from >= bytes) {
        let failure = FailureKind::BadRequest.with(format!("blob {hash} has {bytes} bytes, none from {from} on"));
        let mut response = (StatusCode::RANGE_NOT_SATISFIABLE, json(&failure)).into_response();
        response.headers_mut().extend(text(CONTENT_RANGE, format!("bytes */{bytes}")));
        return Ok(response);
    }
    // The first piece is there; the next ones are read as they are sent.
    let after = first + piece.len() as u64;
    let pieces = stream::try_unfold((piece, after), move |(piece, after)| {
        let (api, hash) = (api.clone(), hash.clone());
        async move {
            if piece.is_empty() {
                return Ok(None);
            }
            let (next, _) = api.piece(&hash, after).await?;
            let end = after + next.len() as u64;
            Ok::<_, Failure>(Some((piece, (next, end))))
        }
    });
    let status = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = with(Body::from_stream(pieces), status, CONTENT_LENGTH.as_str(), bytes - first);
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if from.is_some() {
        headers.extend(text(CONTENT_RANGE, format!("bytes {first}-{}/{bytes}", bytes - 1)));
    }
    Ok(response)
}

/// A JSON reply.
fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(mut json) => {
            json.push(b'\n');
            ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("no JSON: {error}")).into_response(),
    }
}

/// A reply with a number in a header.
fn with(body: Body, status: StatusCode, header: &'static str, number: u64) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header, number.into());
    response
}

fn text(name: axum::http::HeaderName, value: String) -> Option<(axum::http::HeaderName, HeaderValue)> {
    Some((name, value.try_into().ok()?))
}

fn bad_request(why: &impl std::fmt::Display) -> Refusal {
    FailureKind::BadRequest.with(why.to_string()).into()
}

fn blob_hash(text: &str) -> Result<BlobHash, Refusal> {
    text.parse().map_err(|bad| bad_request(&bad))
}

/// Reads a body of at most `most` bytes.
async fn parse<T: DeserializeOwned>(what: &str, body: Body, most: usize) -> Result<T, Refusal> {
    let body = match to_bytes(body, most).await {
        Ok(body) => body,
        Err(error) if is_too_long(&error) => {
            return Err(FailureKind::TooLarge.with(format!("the {what} is longer than {most} bytes")).into());
        }
        Err(error) => return Err(bad_request(&format!("the {what} did not come whole: {error}"))),
    };
    serde_json::from_slice(&body).map_err(|error| bad_request(&format!("the {what} cannot be read: {error}")))
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

fn number(headers: &HeaderMap, name: &str) -> Result<u64, Refusal> {
    let number = headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
    number.ok_or_else(|| bad_request(&format!("an upload needs the header `{name}` with a number of bytes")))
}

/// `bytes=N-`.
fn first_byte(range: &HeaderValue) -> Result<u64, Refusal> {
    let first = range.to_str().ok().and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    first.ok_or_else(|| bad_request(&"of ranges only `bytes=N-` is understood"))
}

/// A path that may be anything, for a message.
fn shown(path: &str) -> String {
    path.chars().take(200).flat_map(char::escape_default).collect()
}
