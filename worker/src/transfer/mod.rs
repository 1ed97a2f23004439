//! Between workers: an ordered, numbered stream of records that survives its connections.
//!
//! Read in this order: `frame` is the wire format, `handshake` how two workers prove themselves to each other, `permits`
//! how much may be under way, `outbox` what waits to be sent or confirmed, `link` the machine made of these. They are
//! pure; `connection` runs links over a `network`, which is `tcp` or, inside one process, `pipe`.
//!
//! Not here: what a record means to ledgers and executors. Invariant: what is sent to an incarnation that lives on
//! reaches it exactly once and in order, however often connections break.

pub mod connection;
pub mod frame;
pub mod handshake;
pub mod link;
pub mod network;
pub mod outbox;
pub mod permits;
pub mod pipe;
// Under loom tokio has no sockets.
#[cfg(not(loom))]
pub mod tcp;
