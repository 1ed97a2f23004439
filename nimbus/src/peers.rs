//! The way to the other Nimbuses.
//!
//! Not here: which blobs are fetched. Invariant: every wait is bounded.

use bytes::Bytes;
use cluster_state::records::Nimbus;
use futures_util::future::BoxFuture;
use nimbus_api::client::Client;
use worker_api::ids::BlobHash;

/// Asks other Nimbuses about blobs: by HTTP in production, by a simulation's network there. Each answer comes, or fails, within
/// half a minute.
pub trait Peers: Send + Sync + 'static {
    /// What [`Api::piece`](crate::Api::piece) answers there: a piece of a blob from `from` on, at least a byte if the blob is
    /// longer, and its whole length. The bytes are not trusted.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    fn piece<'a>(
        &'a self,
        nimbus: &'a Nimbus,
        hash: &'a BlobHash,
        from: u64,
    ) -> BoxFuture<'a, Result<(Bytes, u64), String>>;

    /// What [`Api::held`](crate::Api::held) answers there: which of these blobs it has.
    ///
    /// # Errors
    /// Why there is no answer, in a sentence.
    fn held<'a>(&'a self, nimbus: &'a Nimbus, hashes: &'a [BlobHash]) -> BoxFuture<'a, Result<Vec<BlobHash>, String>>;
}

/// The other Nimbuses by their HTTP APIs.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpPeers;

impl HttpPeers {
    fn client(nimbus: &Nimbus) -> Client {
        Client::new(vec![format!("{}:{}", nimbus.host, nimbus.port)])
    }
}

impl Peers for HttpPeers {
    fn piece<'a>(
        &'a self,
        nimbus: &'a Nimbus,
        hash: &'a BlobHash,
        from: u64,
    ) -> BoxFuture<'a, Result<(Bytes, u64), String>> {
        Box::pin(async move { Self::client(nimbus).piece(hash, from).await.map_err(|error| error.to_string()) })
    }

    fn held<'a>(&'a self, nimbus: &'a Nimbus, hashes: &'a [BlobHash]) -> BoxFuture<'a, Result<Vec<BlobHash>, String>> {
        Box::pin(async move { Self::client(nimbus).held(hashes).await.map_err(|error| error.to_string()) })
    }
}
