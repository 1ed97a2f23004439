//! Where a daemon's log lines go: standard error, which systemd, a container or a shell keep.
//!
//! Not here: logs of workers (files, see `worker` and `supervisor`). Invariants: a panic is a log line with its place; a line
//! that cannot be written, as on a full disk, is lost and ends nothing.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Sends log lines to standard error: level `info`, or as the environment variable `RUST_LOG` says.
pub fn to_stderr() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = filter.try_from_env();
    let unreadable =
        filter.as_ref().err().filter(|_| std::env::var_os(EnvFilter::DEFAULT_ENV).is_some()).map(ToString::to_string);
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // They would go to standard error too, by what panics if that cannot be written; and a panic in the hook below aborts.
    let logs = logs.log_internal_errors(false);
    // Whoever has set up its own before keeps it.
    let _ = logs.try_init();
    if let Some(error) = unreadable {
        tracing::warn!("cannot read `RUST_LOG`: {error}; `info` holds instead");
    }
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("without a message");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, "panic: {text}");
    }));
}
