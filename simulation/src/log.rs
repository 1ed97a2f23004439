//! What happened, line by line: virtual time, who, what. The daemons' own words are in it too.
//!
//! Not here: what is checked (`oracle`). Invariant: the same seed writes the same bytes, whatever else the machine does.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Most bytes that are kept; what comes later is counted, and not written.
pub const LOG_BYTES: usize = 256 << 20;

/// The log of a run; a cheap clone.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    began: Instant,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    text: String,
    /// Lines that found no room.
    dropped: u64,
}

impl Log {
    /// An empty one, of a run that begins now.
    pub fn new() -> Self {
        Log(Arc::new(Inner { began: Instant::now(), kept: Mutex::default() }))
    }

    /// Time since the run began.
    pub fn at(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// When the run began.
    pub fn began(&self) -> Instant {
        self.0.began
    }

    /// Writes a line.
    pub fn line(&self, who: &str, what: fmt::Arguments<'_>) {
        let at = self.at();
        let mut kept = lock(&self.0.kept);
        if kept.text.len() >= LOG_BYTES {
            kept.dropped += 1;
            return;
        }
        let (seconds, micros) = (at.as_secs(), at.subsec_micros());
        // A String takes everything.
        let _ = writeln!(kept.text, "{seconds:5}.{micros:06} {who}: {what}");
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        let kept = lock(&self.0.kept);
        match kept.dropped {
            0 => kept.text.clone(),
            dropped => format!("{}… and {dropped} lines more\n", kept.text),
        }
    }

    /// Its last `lines`.
    pub fn tail(&self, lines: usize) -> String {
        let kept = lock(&self.0.kept);
        let from = kept.text.rmatch_indices('\n').nth(lines).map_or(0, |(at, _)| at + 1);
        kept.text[from..].to_owned()
    }
}

impl Default for Log {
    fn default() -> Self {
        Log::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// Whose task was let through its gate last: who speaks.
    static SPEAKER: RefCell<Arc<str>> = RefCell::new(Arc::from("world"));
    /// Panics of the run in this thread; `None` outside a run.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on this one speaks in this thread.
pub(crate) fn speaks(who: &Arc<str>) {
    SPEAKER.with(|speaker| {
        let mut speaker = speaker.borrow_mut();
        if !Arc::ptr_eq(&speaker, who) {
            *speaker = who.clone();
        }
    });
}

/// Has panics in this thread noted instead of printed, until [`panics`].
pub(crate) fn note_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let noted = PANICS.with(|panics| match panics.try_borrow_mut().as_deref_mut() {
                Ok(Some(panics)) => {
                    let who = SPEAKER.with(|speaker| speaker.borrow().clone());
                    panics.push(format!("{who}: {info}"));
                    true
                }
                _ => false,
            });
            if !noted {
                before(info);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

/// Panics so far, which are forgotten then. Those that components are ordered to are none: they go round the hook.
pub(crate) fn take_panics() -> Vec<String> {
    PANICS.with(|panics| panics.borrow_mut().as_mut().map(std::mem::take)).unwrap_or_default()
}

/// Has panics in this thread printed again.
pub(crate) fn panics_end() {
    PANICS.set(None);
}

/// Writes what the daemons say into a log.
pub(crate) struct Words {
    pub(crate) log: Log,
    pub(crate) most: Level,
}

impl Subscriber for Words {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most && metadata.is_event()
    }

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        let who = SPEAKER.with(|speaker| speaker.borrow().clone());
        self.log.line(&who, format_args!("{} {}{}", event.metadata().level(), said.message, said.fields));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A String takes everything.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
