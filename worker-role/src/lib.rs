//! The role `worker`: runs one worker of a cluster's topology by what its launch file says, and tells its Supervisor how it gets on.
//!
//! Not here: sockets, signals, logs (the `storm` crate), executors and links (`worker`). Invariant: nobody's silence ends it.
#![forbid(unsafe_code)]
