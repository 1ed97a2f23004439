//! Answers and refusals, as Storm words them, and what a query may ask of every answer.
//!
//! Not here: the JSON inside. Invariant: a refusal is never wrapped in a callback.

use std::collections::BTreeMap;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Query};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nimbus_api::client::ClientError;
use serde_json::{Value, json};

use crate::views::window::Chosen;

/// Longest callback.
const CALLBACK_CHARS: usize = 128;

/// The query of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Query(query) = Query::try_from_uri(&parts.uri)
            .map_err(|error: QueryRejection| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.body_text()))?;
        Ok(Asked(query))
    }
}

impl Asked {
    /// A parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether the runtime's own components and streams are asked for.
    pub(crate) fn sys(&self) -> bool {
        self.get("sys").is_some_and(|sys| sys == "1" || sys.eq_ignore_ascii_case("true"))
    }

    /// The window that is asked for.
    ///
    /// # Errors
    /// If it is no integer.
    pub(crate) fn window(&self) -> Result<Chosen, Refusal> {
        Chosen::parse(self.get("window")).map_err(|why| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why))
    }

    /// The answer, as JSON, or as a call of the callback that is asked for.
    pub(crate) fn answer(&self, answer: &Value) -> Response {
        match self.get("callback").filter(|callback| is_callback(callback)) {
            Some(callback) => {
                body(StatusCode::OK, "application/javascript;charset=utf-8", format!("{callback}({answer});"))
            }
            None => json_body(StatusCode::OK, answer),
        }
    }
}

/// Whether this is a chain of JavaScript's names.
fn is_callback(callback: &str) -> bool {
    let is_name = |name: &str| {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$';
        name.bytes().next().is_some_and(|first| !first.is_ascii_digit()) && name.bytes().all(rest)
    };
    callback.len() <= CALLBACK_CHARS && callback.split('.').all(is_name)
}

fn json_body(status: StatusCode, json: &Value) -> Response {
    body(status, "application/json;charset=utf-8", json.to_string())
}

fn body(status: StatusCode, content_type: &'static str, text: String) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store")),
    ];
    (status, headers, text).into_response()
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into() }
    }

    /// With words before its own.
    pub(crate) fn because(self, what: &str) -> Refusal {
        Refusal { message: format!("{what}: {}", self.message), ..self }
    }

    /// Whether what was asked for is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }
}

/// Storm knows 500 for nearly everything. What its clients can do something about has a status of its own.
impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        let status = match &error {
            ClientError::Refused(failure) => failure.kind.status(),
            ClientError::Unreachable(_) | ClientError::Garbled { .. } | ClientError::File(_) => 500,
        };
        let status = match status {
            404 => StatusCode::NOT_FOUND,
            409 => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error.to_string())
    }
}

impl From<PathRejection> for Refusal {
    fn from(error: PathRejection) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let reason = match self.status {
            StatusCode::INTERNAL_SERVER_ERROR => "Server Error",
            status => status.canonical_reason().unwrap_or_default(),
        };
        let error = format!("{} {reason}", self.status.as_u16());
        json_body(self.status, &json!({ "error": error, "errorMessage": self.message }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_are_names() {
        for good in ["f", "a.b.$c_1", "_", &"f".repeat(128)] {
            assert!(is_callback(good), "{good}");
        }
        for bad in ["", "1f", "a..b", "a.", "alert(1)", "a b", "ä", "a.1", &"f".repeat(129)] {
            assert!(!is_callback(bad), "{bad}");
        }
    }
}
