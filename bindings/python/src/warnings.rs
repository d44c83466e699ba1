//! Warnings of the libraries, as records of the Python logger `nixcache`.
//!
//! They arise on any thread, even one that holds a lock. They wait in a queue until a call is about
//! to return to Python.

use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Warnings that are not logged yet.
static WAITING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// More warnings than this are not kept: a call that never returns must not fill the memory.
const WAITING_MAX: usize = 10_000;

/// Collects warnings from now on.
pub(crate) fn collect() {
    // Fails if the module is initialized a second time. The first collector stays in place.
    let _ = tracing::subscriber::set_global_default(Collector);
}

/// Logs the collected warnings. An exception of a handler is reported, and fails no call.
pub(crate) fn log(py: Python<'_>) {
    let waiting = std::mem::take(&mut *WAITING.lock().unwrap_or_else(PoisonError::into_inner));
    if waiting.is_empty() {
        return;
    }
    let logged = || -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("nixcache",))?;
        for message in waiting {
            logger.call_method1("warning", ("%s", message))?;
        }
        Ok(())
    };
    if let Err(error) = logged() {
        error.write_unraisable(py, None);
    }
}

struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN && metadata.target().starts_with("nixcache")
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.push(message.0);
        }
    }

    // There are no spans: none is enabled.

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string does not fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}
