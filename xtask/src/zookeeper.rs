//! `cargo xtask zookeeper`: a throw-away Apache ZooKeeper on loopback, to try the daemons with.
//!
//! Not here: installing and starting it (`zookeeper-server`). Invariant: only the process that was started here is ended.

use std::path::PathBuf;

use anyhow::{Context, Result};
use zookeeper_server::Server;

use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
    /// Where its data, its log and its pid lie [default: `zookeeper` in cargo's target folder]
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Install it if it is not there, start it, wait until it answers, print `HOST:PORT`, and leave it running
    Start {
        /// Port on 127.0.0.1
        #[arg(long, default_value_t = 2181)]
        port: u16,
    },
    /// End it; its data stays
    Stop,
    /// Print `HOST:PORT` if it runs, else `stopped` and fail
    Status,
}

/// Does what `options` say; false if the status is `stopped`.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let folder = options.folder.clone().unwrap_or_else(|| workspace.target.join("zookeeper"));
    let folder = std::path::absolute(&folder).with_context(|| format!("finding the folder {}", folder.display()))?;
    let last = Server::in_folder(folder.clone());
    match options.verb {
        Verb::Start { port } => {
            let server = Server::new(folder, port);
            server.start()?;
            println!("{}", server.address());
            Ok(true)
        }
        Verb::Stop => {
            last.as_ref().map_or(Ok(()), Server::stop)?;
            println!("stopped");
            Ok(true)
        }
        Verb::Status => {
            let running = last.filter(Server::answers);
            println!("{}", running.as_ref().map_or_else(|| "stopped".to_owned(), Server::address));
            Ok(running.is_some())
        }
    }
}
