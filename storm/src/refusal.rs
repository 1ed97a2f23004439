//! Why an executable ends without having run its topology, and the numbers that processes end with.
//!
//! Not here: what goes wrong while it runs (`local`). Invariant: each is told in words of what was attempted, what was
//! found and what to do; never as the text of a panic.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use topology_api::config::ConfigErrors;
use topology_api::error::Error;
use topology_api::topology::BuildError;

use crate::worker_role::shown;

/// The number that a process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All went well.
    Done = 0,
    /// The run failed.
    Failed = 1,
    /// A mistake in arguments, configuration or graph (`EX_USAGE` of BSD's sysexits).
    Usage = 64,
    /// An input is missing or cannot be read (`EX_NOINPUT`).
    NoInput = 66,
    /// Ended by Ctrl-C: 128 + SIGINT.
    Interrupted = 130,
    /// Ended by SIGTERM: 128 + SIGTERM.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The command line is wrong, or asks for help: clap has the words.
    #[error("{0}")]
    Arguments(clap::Error),
    /// No role was given.
    #[error(
        "`{executable}` was started without a role; say `{executable} local` to run the topology here, `{executable} describe` to see its graph, or `{executable} --help`"
    )]
    NoRole {
        /// The executable's file name.
        executable: String,
    },
    /// The launch file cannot be read.
    #[error(
        "cannot read the launch file `{}`: {error}; a Supervisor writes it before it starts a worker (to run the topology by hand, say `local`)",
        shown(path)
    )]
    LaunchFile {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The launch file, or what belongs to it, does not hold what it should.
    #[error("cannot start by `{}`: {why}", shown(path))]
    Launch {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The graph as it was submitted cannot be read.
    #[error("cannot read the submitted graph `{}`: {error}; the Supervisor puts it there", shown(path))]
    GraphFile {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The executable builds another topology than the one that was submitted.
    #[error(
        "the executable builds another topology here than was submitted as `{topology}`: {difference}; submit it again, and put what it reads from the environment into `topology.environment`"
    )]
    OtherGraph {
        /// The submission.
        topology: String,
        /// The first difference.
        difference: String,
    },
    /// What shall be listened at is no address.
    #[error("cannot listen at `{found}`, which is no IP address; set `storm.bind` on this machine to one")]
    Bind {
        /// What was given.
        found: String,
    },
    /// Nothing can listen at the slot's port.
    #[error(
        "cannot listen at port {} of {} for the other workers: {error}; end what listens there, or take port {} out of `supervisor.slots.ports`",
        address.port(), address.ip(), address.port()
    )]
    Port {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The author's arguments take names of the runtime's.
    #[error("the topology's own arguments have {arguments}, which the runtime needs for itself; give them other names")]
    Clash {
        /// The names, as on the command line.
        arguments: String,
    },
    /// A file of `--config` cannot be read.
    #[error("cannot read the configuration file `{}` of `--config`: {error}; check the path", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The author's function returned an error.
    #[error("cannot build topology `{topology}`: {error}")]
    Code {
        /// The topology's name.
        topology: String,
        /// What the function said.
        error: Error,
    },
    /// The author's function panicked.
    #[error("cannot build topology `{topology}`, as its function panicked: {text}; the line above says where")]
    Panicked {
        /// The topology's name.
        topology: String,
        /// What it panicked with.
        text: String,
    },
    /// The configuration has mistakes, and the graph could not be looked at.
    #[error("{0}")]
    Config(ConfigErrors),
    /// The graph has mistakes, or its configuration.
    #[error("{0}")]
    Graph(BuildError),
    /// The report's folder is not there.
    #[error("cannot write the report to `{}`, as there is no folder `{}`; make it, or name another file", path.display(), path.parent().unwrap_or(path).display())]
    ReportFolder {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refuses something that a run needs.
    #[error("cannot start the runtime: {0}; the machine may be out of threads or open files")]
    Runtime(io::Error),
    /// The graph could not be printed.
    #[error("cannot print the graph: {0}")]
    Print(io::Error),
}

impl Refusal {
    /// What the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Refusal::Arguments(error) if error.exit_code() == 0 => Exit::Done,
            Refusal::ConfigFile { .. } | Refusal::LaunchFile { .. } | Refusal::GraphFile { .. } => Exit::NoInput,
            Refusal::Code { error, .. } if is_missing_input(error) => Exit::NoInput,
            Refusal::Runtime(_) | Refusal::Print(_) | Refusal::Port { .. } => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}

/// Whether an error of the author's function came from a file that is not there, or may not be read.
fn is_missing_input(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
        }
        cause = error.source();
    }
    false
}
