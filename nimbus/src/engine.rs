//! A whole Nimbus but for its sockets: what production serves by HTTP, and a simulation runs under a seed.
//!
//! Not here: HTTP (`server`), the folder's lock and the id in it (`folder`). Invariant: tasks, time, randomness, files and the
//! other Nimbuses are reached by [`Parts`] alone, so under a seeded seam all of it runs in one thread, the same each time.

use std::sync::Arc;

use cluster_state::board::Board;
use cluster_state::records;
use cluster_state::store::Store;
use seam::disk::Disk;
use seam::{Seam, Task};
use tokio::sync::{mpsc, oneshot, watch};
use worker_api::ids::{BlobHash, NimbusId};

use crate::api::Api;
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::peers::Peers;
use crate::process::{Process, WAITING_REQUESTS, Ways};
use crate::views::hidden;
use crate::{NimbusConfig, NimbusError};

/// What an [`Engine`] is made of.
pub struct Parts {
    /// Its settings: blobs lie in `blobs` below its `folder`, others are told the port of its `bind`.
    pub config: NimbusConfig,
    /// Which Nimbus it is; no other that runs has this id.
    pub id: NimbusId,
    /// The cluster state, by a session of its own.
    pub store: Arc<dyn Store>,
    /// Tasks, time and randomness.
    pub seam: Seam,
    /// Where its blobs lie.
    pub disk: Arc<dyn Disk>,
    /// The way to the other Nimbuses.
    pub peers: Arc<dyn Peers>,
}

/// A running Nimbus without sockets; dropping it ends it at once, as a crash does: its lead goes with its session.
pub struct Engine {
    api: Api,
    /// Dropped, it tells the loop to end.
    stop: oneshot::Sender<()>,
    /// Its other end is dropped with the loop.
    ended: watch::Receiver<()>,
    _tasks: Tasks,
}

/// All that runs; ends when this is dropped.
struct Tasks {
    blobs: Arc<Blobs>,
    _process: Task<()>,
    _verifying: Task<()>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.blobs.stop();
    }
}

impl Engine {
    /// Starts it: it answers when this returns, and leads as soon as the cluster state lets it.
    ///
    /// # Errors
    /// If its folder cannot be used.
    pub async fn start(parts: Parts) -> Result<Engine, NimbusError> {
        let Parts { config, id, store, seam, disk, peers } = parts;
        let clock = Clock::start(seam.clone());
        let (folder, expiration) = (config.folder.join("blobs"), config.upload_expiration);
        let blobs = Arc::new(Blobs::open(folder, expiration, clock.clone(), seam.clone(), disk).await?);
        // What no other life of this Nimbus has.
        let life = BlobHash::of(seam.random_key());
        let board = Board::new(store, format!("{id}/{}", &life.as_str()[..16]));
        let me = records::Nimbus {
            id,
            host: config.host.clone(),
            port: config.bind.port(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: clock.started_ms(),
        };
        let configuration = Arc::new(hidden(&config.configuration));
        let (requests, received_requests) = mpsc::channel(WAITING_REQUESTS);
        let (stop, stops) = oneshot::channel();
        let (ends, ended) = watch::channel(());
        let (followed, leader) = watch::channel(None);
        let ways = Ways { seam: seam.clone(), peers, followed };
        let process = Process::new(config, me, Arc::new(board), Arc::clone(&blobs), clock, ways);
        let api = Api::new(requests, Arc::clone(&blobs), configuration, leader);
        let process = seam.spawn(async move {
            process.run(received_requests, stops).await;
            drop(ends);
        });
        // Damage is found before anybody asks for what is damaged.
        let verifying = seam.spawn({
            let blobs = Arc::clone(&blobs);
            async move {
                blobs.finish_parts().await;
                for hash in blobs.unverified() {
                    let _ = blobs.verify(&hash).await;
                }
            }
        });
        Ok(Engine { api, stop, ended, _tasks: Tasks { blobs, _process: process, _verifying: verifying } })
    }

    /// What it is asked by.
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// Waits until it has ended without being told to, which is a fault of ours. Cancel-safe.
    pub async fn failed(&mut self) {
        // Nothing is ever sent: the sender goes with the loop, also by a panic.
        let _ = self.ended.changed().await;
    }

    /// Gives the lead back, which may take two seconds, and ends.
    pub async fn stop(self) {
        let Engine { stop, mut ended, _tasks, .. } = self;
        drop(stop);
        let _ = ended.changed().await;
    }
}
