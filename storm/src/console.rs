//! Standard error: messages, log lines, and on a terminal one line at the bottom that is refreshed.
//!
//! Not here: what is said. Invariants: no two writers tear each other's lines, the refreshed line is always the last,
//! and what cannot be written, as on a full disk, is lost and ends nothing.

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Standard error; a cheap clone.
#[derive(Clone)]
pub(crate) struct Console(Arc<Mutex<Bottom>>);

/// The line that is refreshed; empty if there is none.
struct Bottom {
    line: String,
    terminal: bool,
}

const ERASE: &str = "\r\x1b[2K";

impl Console {
    pub(crate) fn new() -> Self {
        Console(Arc::new(Mutex::new(Bottom { line: String::new(), terminal: io::stderr().is_terminal() })))
    }

    /// Whether somebody may be looking.
    pub(crate) fn is_terminal(&self) -> bool {
        self.lock().terminal
    }

    /// Prints a message of one or more lines.
    pub(crate) fn say(&self, message: &str) {
        // Nobody is left to be told that standard error is closed.
        let _ = self.lock().print(format!("{message}\n").as_bytes());
    }

    /// Shows this line at the bottom of a terminal, in place of the one before; an empty one takes it away.
    pub(crate) fn show(&self, line: String) {
        let mut bottom = self.lock();
        bottom.line = line;
        let _ = bottom.print(&[]);
    }

    /// Has log lines go here: of this level, or as the environment variable `RUST_LOG` says. Panics become such lines.
    pub(crate) fn take_logs(&self, level: LevelFilter) {
        let filter = EnvFilter::builder().with_default_directive(level.into());
        let filter = filter.try_from_env().unwrap_or_else(|error| {
            if std::env::var_os(EnvFilter::DEFAULT_ENV).is_some() {
                self.say(&format!("warning: cannot read `RUST_LOG`: {error}; `{level}` holds instead"));
            }
            EnvFilter::new(level.to_string())
        });
        let colours = self.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(self.clone());
        // They would go to standard error too, by what panics if that cannot be written; and a panic in `log_panic` aborts.
        let logs = logs.log_internal_errors(false);
        // A program that has set up its own keeps it.
        let _ = logs.try_init();
        std::panic::set_hook(Box::new(log_panic));
    }

    fn lock(&self) -> MutexGuard<'_, Bottom> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line for a panic: the runtime catches those of components, and says what becomes of them itself.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic_text_of(panic);
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => tracing::error!(at, %backtrace, "panic: {text}"),
        _ => tracing::error!(at, "panic: {text}"),
    }
}

fn panic_text_of(panic: &PanicHookInfo<'_>) -> String {
    panic.payload_as_str().map_or_else(|| "without a message".to_owned(), str::to_owned)
}

impl Bottom {
    /// Prints above the refreshed line.
    fn print(&self, text: &[u8]) -> io::Result<()> {
        let mut err = io::stderr().lock();
        if !self.terminal {
            return err.write_all(text);
        }
        let mut all = ERASE.as_bytes().to_vec();
        all.extend_from_slice(text);
        if !self.line.is_empty() {
            // Without wrapping; and back to its begin, so that what others print does not come behind it.
            all.extend_from_slice(format!("\x1b[?7l{}\x1b[?7h\r", self.line).as_bytes());
        }
        err.write_all(&all)?;
        err.flush()
    }
}

impl Write for Console {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.lock().print(text)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Console;

    fn make_writer(&'a self) -> Console {
        self.clone()
    }
}
