//! Why Nimbus did not do it.
//!
//! Not here: why it could not be asked (`client`). Invariant: one clear sentence for a person, one word for a program.

use serde::{Deserialize, Serialize};

/// The body of a reply with a status of 4xx or 5xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// What was attempted, what was found, what to do.
    pub message: String,
}

/// Kinds of failures, with their HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// 400: the request makes no sense.
    BadRequest,
    /// 404: no topology of that name or id.
    NotAlive,
    /// 404: no such blob, route, component.
    NotFound,
    /// 409: the name is taken.
    AlreadyAlive,
    /// 409: the topology's state does not allow it.
    WrongState,
    /// 413: longer than allowed.
    TooLarge,
    /// 422: the graph, its configuration, its executable or its format is not one that this cluster runs.
    InvalidTopology,
    /// 422: the bytes are not what their hash says.
    CorruptBlob,
    /// 503: another Nimbus leads, or none yet.
    NotLeader,
    /// 503: the cluster state is away.
    NoClusterState,
    /// 504: it was sent on, or was being stored, and no answer came: whether it was done is not known.
    Unanswered,
    /// 507: the disk is full.
    NoSpace,
    /// 500: a fault of ours.
    Internal,
}

impl FailureKind {
    /// Its HTTP status.
    pub fn status(self) -> u16 {
        use FailureKind::*;
        match self {
            BadRequest => 400,
            NotAlive | NotFound => 404,
            AlreadyAlive | WrongState => 409,
            TooLarge => 413,
            InvalidTopology | CorruptBlob => 422,
            NotLeader | NoClusterState => 503,
            Unanswered => 504,
            NoSpace => 507,
            Internal => 500,
        }
    }

    /// A failure of this kind.
    pub fn with(self, message: impl Into<String>) -> Failure {
        Failure { kind: self, message: message.into() }
    }
}
