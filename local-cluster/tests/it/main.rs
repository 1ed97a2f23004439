//! Topologies in a local cluster: what flows, what is acked, what fails, and why.

mod flow;
