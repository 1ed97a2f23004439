//! Who may ask: the rules about foreign pages, and the headers that tell a browser of them.
//!
//! A page of another origin can have a browser send requests to this machine, with no login in the way. So:
//! - `Host` must be a name of ours where only this machine can connect: else a foreign name that resolves to loopback (DNS
//!   rebinding) would be of our origin. An IP address, which no foreign page can be reached by, is always fine.
//! - What changes something is refused from foreign pages, by `Sec-Fetch-Site` or, without it, by `Origin`. Scripts send neither.
//! - Storm lets every page read every answer (`Access-Control-Allow-Origin: *`). Here nothing may: the header is not sent, and
//!   `Cross-Origin-Resource-Policy` keeps answers in JSONP from foreign pages too. Who shows them elsewhere fetches them on the server.
//!
//! Not here: who the user is. Invariant: pure; a rule that cannot be judged refuses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, HOST, HeaderName, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::rest::answer::Refusal;

/// Most bytes of a body: that of a rebalance names components.
const BODY_BYTES: u64 = 64 << 10;

/// Headers of every answer.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// Which names the machine goes by.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    only_this_machine: bool,
    names: Vec<String>,
}

impl Guard {
    /// For a UI that listens here, and goes by these names beside `localhost`.
    pub(crate) fn new(listens: SocketAddr, names: Vec<String>) -> Guard {
        Guard { only_this_machine: listens.ip().is_loopback(), names }
    }

    /// # Errors
    /// The sentence that refuses it.
    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
        if let Some(host) = headers.get(HOST) {
            self.check_host(host.to_str().unwrap_or_default()).map_err(|why| (StatusCode::FORBIDDEN, why))?;
        }
        if *method != Method::GET && *method != Method::HEAD {
            check_origin(headers).map_err(|why| (StatusCode::FORBIDDEN, why))?;
        }
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|bytes| bytes > BODY_BYTES) {
            let why = format!("the request's body is longer than {BODY_BYTES} bytes; no request here needs that");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Ok(())
    }

    fn check_host(&self, host: &str) -> Result<(), String> {
        let name = name_of(host);
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let is_ours = !self.only_this_machine
            || name.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok()
            || self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        if is_ours {
            return Ok(());
        }
        Err(format!(
            "this UI does not go by the name `{}`: open it as localhost, or set `ui.host` to that name",
            name.chars().take(100).flat_map(char::escape_default).collect::<String>()
        ))
    }
}

/// The name in `NAME:PORT`.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a request that changes something comes from a page of ours, or from no page.
fn check_origin(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let foreign = |origin: &str| {
        let shown: String = origin.chars().take(100).flat_map(char::escape_default).collect();
        Err(format!("a page of another origin ({shown}) may not change anything here"))
    };
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some("same-origin" | "none") => return Ok(()),
        Some(site) => return foreign(text(ORIGIN).unwrap_or(site)),
        None => {}
    }
    match text(ORIGIN) {
        None => Ok(()),
        Some(origin) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            let own = text(HOST);
            if host.is_some() && host == own { Ok(()) } else { foreign(origin) }
        }
    }
}

/// Lets through what may ask, and adds the headers.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, why)) => Refusal::new(status, why).into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, method: Method, headers: &[(&'static str, &'static str)]) -> Result<(), String> {
        let headers = headers.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)));
        guard.check(&method, &headers.collect()).map_err(|(status, why)| format!("{} {why}", status.as_u16()))
    }

    #[test]
    fn on_loopback_names_must_be_ours() {
        let guard = Guard::new("127.0.0.1:8080".parse().unwrap(), vec!["ui.example".into()]);
        for host in
            ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "LOCALHOST", "192.0.2.1:80", "ui.example"]
        {
            assert_eq!(check(&guard, Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(check(&guard, Method::GET, &[]), Ok(()));
        for host in ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:8080", ""] {
            let refused = check(&guard, Method::GET, &[("host", host)]).unwrap_err();
            assert!(refused.starts_with("403 this UI does not go by the name `"), "{host}: {refused}");
        }
        let open = Guard::new("0.0.0.0:8080".parse().unwrap(), Vec::new());
        assert_eq!(check(&open, Method::GET, &[("host", "storm.example:8080")]), Ok(()));
    }

    #[test]
    fn foreign_pages_change_nothing() {
        let guard = Guard::new("127.0.0.1:8080".parse().unwrap(), Vec::new());
        let own = ("host", "127.0.0.1:8080");
        for good in [
            &[own][..],
            &[own, ("origin", "http://127.0.0.1:8080")],
            &[own, ("sec-fetch-site", "same-origin"), ("origin", "https://proxy.example")],
            &[own, ("sec-fetch-site", "none")],
        ] {
            assert_eq!(check(&guard, Method::POST, good), Ok(()), "{good:?}");
        }
        for (bad, said) in [
            (&[own, ("origin", "http://evil.example")][..], "http://evil.example"),
            (&[own, ("origin", "http://127.0.0.1:8081")], "http://127.0.0.1:8081"),
            (&[own, ("origin", "null")], "null"),
            (&[("origin", "http://127.0.0.1:8080")], "http://127.0.0.1:8080"),
            (&[own, ("sec-fetch-site", "cross-site")], "cross-site"),
            (&[own, ("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:8081")], "http://127.0.0.1:8081"),
        ] {
            let why = format!("403 a page of another origin ({said}) may not change anything here");
            assert_eq!(check(&guard, Method::POST, bad), Err(why), "{bad:?}");
            assert!(check(&guard, Method::DELETE, bad).is_err());
            assert_eq!(check(&guard, Method::GET, bad), Ok(()), "reading is the browser's to forbid");
        }
    }

    #[test]
    fn long_bodies_are_refused() {
        let guard = Guard::new("127.0.0.1:8080".parse().unwrap(), Vec::new());
        assert_eq!(check(&guard, Method::POST, &[("content-length", "65536")]), Ok(()));
        assert!(
            check(&guard, Method::POST, &[("content-length", "65537")]).unwrap_err().starts_with("413 the request's")
        );
    }
}
