//! How tools talk to Nimbus: HTTP and JSON on `nimbus.api.port` (6628).
//!
//! | route | request → reply | asked by |
//! |---|---|---|
//! | `GET /v1/cluster` | → [`Cluster`](cluster::Cluster) | CLI, UI |
//! | `GET /v1/configuration` | → a JSON map, secrets hidden | CLI, UI |
//! | `GET /v1/topologies/ID` | → [`Topology`](topology::Topology) | CLI, UI |
//! | `POST /v1/topologies` | [`Submission`](submission::Submission) → [`Submitted`](submission::Submitted) | CLI |
//! | `POST /v1/topologies/ID/activate`, `/deactivate` | → [`Topology`](topology::TopologySummary) | CLI, UI |
//! | `POST /v1/topologies/ID/kill` | [`Kill`](submission::Kill) → [`Topology`](topology::TopologySummary) | CLI, UI |
//! | `POST /v1/topologies/ID/rebalance` | [`Rebalance`](submission::Rebalance) → [`Topology`](topology::TopologySummary) | CLI, UI |
//! | `POST /v1/supervisors/HOST/drain`, `/undrain` | → list of [`Machine`](cluster::MachineSummary) of that host or id | CLI |
//! | `GET /v1/blobs` | → list of [`Blob`](submission::Blob) | CLI |
//! | `HEAD /v1/blobs/HASH` | → length in `content-length`; `upload-offset` if it is not complete | CLI, Supervisors |
//! | `POST /v1/blobs/held` | list of hashes → those that this Nimbus itself has | Nimbuses |
//! | `PUT /v1/blobs/HASH` with `upload-offset` and `upload-length` | bytes from there on → 201 when complete and verified | CLI, Supervisors of which it is wanted |
//! | `GET /v1/blobs/HASH`, with `range: bytes=N-` | → bytes | Supervisors, CLI |
//! | `POST /v1/supervisors/ID/report` | [`MachineReport`](machine::MachineReport) → [`MachineAnswer`](machine::MachineAnswer) | Supervisors, each second |
//! | `POST /v1/workers/report` | [`Report`](worker_api::report::Report) → [`Answer`](worker_api::answer::Answer) | workers whose Supervisor is silent |
//!
//! `ID` is a topology's id or, where it is unambiguous, its name. Any failure is a [`Failure`](failure::Failure) with a status
//! of 4xx or 5xx. Bodies of submissions and commands are JSON objects.
//!
//! Any Nimbus answers. One that does not lead passes what it is asked on to the leader, once (header `storm-passed-on`), and
//! serves blobs itself; if the leader does not answer, it shows what the records say, and refuses all else with the reason and
//! the leader's address (header `storm-leader`).
//!
//! Not here: answering (`nimbus`). Invariant: a route is spelled in [`client`] and in Nimbus's server, and nowhere else.

#![forbid(unsafe_code)]

pub mod client;
pub mod cluster;
pub mod failure;
pub mod machine;
pub mod object;
pub mod submission;
pub mod topology;

/// The number of this API's format, in each request and reply as header `storm-api`. Another one is refused.
pub const API_FORMAT: u32 = 1;
