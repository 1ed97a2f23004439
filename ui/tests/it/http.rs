//! One HTTP request, byte by byte, so that a test sends exactly the headers it means to.
//!
//! Not here: what is asked. Invariant: one connection for one request.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// (status, `error`, `errorMessage`), after a look at the keys.
    pub(crate) fn refusal(&self) -> (u16, String, String) {
        let json = self.json();
        let keys: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["error", "errorMessage"], "{json}");
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        (self.status, text("error"), text("errorMessage"))
    }
}

/// `ask(address, "POST /path", &["origin: http://x"])`.
pub(crate) async fn ask(address: SocketAddr, what: &str, headers: &[&str]) -> Reply {
    tell(address, what, headers, "").await
}

/// As [`ask`], with a body whose length is told.
pub(crate) async fn tell(address: SocketAddr, what: &str, headers: &[&str], body: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut lines = vec![format!("{what} HTTP/1.1"), "connection: close".to_owned()];
    if !headers.iter().any(|header| header.starts_with("host:")) {
        lines.push(format!("host: {address}"));
    }
    if !body.is_empty() {
        lines.push(format!("content-length: {}", body.len()));
    }
    lines.extend(headers.iter().map(|header| (*header).to_owned()));
    stream.write_all(format!("{}\r\n\r\n{body}", lines.join("\r\n")).as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, &format!("GET {path}"), &[]).await
}
