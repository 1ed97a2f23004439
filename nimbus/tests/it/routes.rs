//! What is asked wrongly gets a status, and a sentence as JSON.

use nimbus_api::failure::{Failure, FailureKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::*;

/// Sends a request as it is written here; gives status and body.
async fn ask(fixture: &Fixture, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(fixture.nimbus.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("storm-api: 1\r\n") || head.ends_with("storm-api: 1"), "{head}");
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn wrong_requests_are_refused_as_json() {
    let fixture = Fixture::start().await;
    let none = "0".repeat(64);
    for (line, headers, body, status, kind, told) in [
        (
            "GET /v1/nothing",
            "storm-api: 1\r\n",
            "",
            "404 Not Found",
            FailureKind::NotFound,
            "there is no route GET /v1/nothing",
        ),
        ("GET /", "storm-api: 1\r\n", "", "404 Not Found", FailureKind::NotFound, "there is no route GET /"),
        (
            "DELETE /v1/cluster",
            "storm-api: 1\r\n",
            "",
            "405 Method Not Allowed",
            FailureKind::BadRequest,
            "/v1/cluster does not take DELETE",
        ),
        ("GET /v1/cluster", "", "", "400 Bad Request", FailureKind::BadRequest, "the header `storm-api: 1` is missing"),
        (
            "GET /v1/cluster",
            "storm-api: x\r\n",
            "",
            "400 Bad Request",
            FailureKind::BadRequest,
            "the header `storm-api` is no number",
        ),
        (
            "GET /v1/cluster",
            "storm-api: 2\r\n",
            "",
            "400 Bad Request",
            FailureKind::BadRequest,
            "the request has format 2, and this is built for format 1; build the topology and the daemons with the same version",
        ),
        (
            "POST /v1/topologies",
            "storm-api: 1\r\n",
            "{",
            "400 Bad Request",
            FailureKind::BadRequest,
            "the submission cannot be read: EOF while parsing an object at line 1 column 1",
        ),
        (
            "POST /v1/topologies",
            "storm-api: 1\r\n",
            "{\"name\": \"..\"}",
            "400 Bad Request",
            FailureKind::BadRequest,
            "the submission cannot be read: the topology name `..` is not allowed: it must begin with a letter, a digit or `_` at line 1 column 14",
        ),
        (
            "POST /v1/topologies/no/kill",
            "storm-api: 1\r\n",
            "{\"wait_secs\":null}",
            "404 Not Found",
            FailureKind::NotAlive,
            "no topology has the name or id `no`; `storm list` shows those that run",
        ),
        (
            "POST /v1/topologies/no/kill",
            "storm-api: 1\r\n",
            "{\"wait_secs\":-1}",
            "400 Bad Request",
            FailureKind::BadRequest,
            "the kill cannot be read: invalid value: integer `-1`, expected u64 at line 1 column 15",
        ),
        (
            "GET /v1/topologies/%3Cb%3E",
            "storm-api: 1\r\n",
            "",
            "404 Not Found",
            FailureKind::NotAlive,
            "no topology has the name or id `<b>`; `storm list` shows those that run",
        ),
        (
            "PUT /v1/blobs/ABC",
            "storm-api: 1\r\nupload-offset: 0\r\nupload-length: 1\r\n",
            "x",
            "400 Bad Request",
            FailureKind::BadRequest,
            "the blob hash `ABC` is not allowed: a SHA-256 has 64 lower-case hexadecimal digits",
        ),
        (
            &format!("PUT /v1/blobs/{none}"),
            "storm-api: 1\r\n",
            "x",
            "400 Bad Request",
            FailureKind::BadRequest,
            "an upload needs the header `upload-offset` with a number of bytes",
        ),
        (
            &format!("GET /v1/blobs/{none}"),
            "storm-api: 1\r\nrange: bytes=1-2\r\n",
            "",
            "400 Bad Request",
            FailureKind::BadRequest,
            "of ranges only `bytes=N-` is understood",
        ),
        (
            "POST /v1/supervisors/a%2Fb/report",
            "storm-api: 1\r\n",
            "{}",
            "400 Bad Request",
            FailureKind::BadRequest,
            "the Supervisor id `a/b` is not allowed: it may have letters, digits, `_`, `.` and `-` only",
        ),
    ] {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: nimbus\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (found, json) = ask(&fixture, &request).await;
        let failure: Failure = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{line}: {error}: {json}"));
        assert_eq!((found, failure), (format!("HTTP/1.1 {status}"), kind.with(told)), "{line}");
    }
    // What is no HTTP at all closes its own connection, and nothing else.
    let mut stream = TcpStream::connect(fixture.nimbus.address()).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03garbage\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    fixture.client.cluster().await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let fixture = Fixture::start().await;
    let executable = upload(&fixture.client, EXECUTABLE).await;
    let mut long = submission("t", executable);
    long.arguments = vec!["x".repeat(17 << 20)];
    let refused = fixture.client.submit(&long).await;
    // A reply that comes while the body is still sent may be lost with the connection.
    if let Err(nimbus_api::client::ClientError::Refused(failure)) = refused {
        assert_eq!(failure, FailureKind::TooLarge.with("the submission is longer than 16777216 bytes"));
    }
    assert_eq!(fixture.client.cluster().await.unwrap().topologies, []);
}

#[tokio::test]
async fn an_upload_that_is_cut_short_goes_on_where_it_broke() {
    let fixture = Fixture::start().await;
    let (hash, length) = (hash_of(b"0123456789"), 10);
    let mut stream = TcpStream::connect(fixture.nimbus.address()).await.unwrap();
    let head = format!(
        "PUT /v1/blobs/{hash} HTTP/1.1\r\nhost: nimbus\r\nstorm-api: 1\r\nupload-offset: 0\r\nupload-length: {length}\r\ncontent-length: {length}\r\n\r\n0123"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let state = || fixture.client.blob_state(&hash);
    let partial = nimbus_api::client::BlobState::Partial(4);
    eventually(|| async { fixture.blob_files().contains(&format!("{hash}.part")).then_some(()) }).await;
    drop(stream);
    eventually(|| async { (state().await.unwrap() == Some(partial)).then_some(()) }).await;
    assert_eq!(refusal(fixture.client.submit(&submission("t", hash.clone())).await).0, FailureKind::NotFound);
    fixture.client.upload(&hash, 4, length, bytes::Bytes::from_static(b"456789")).await.unwrap();
}
