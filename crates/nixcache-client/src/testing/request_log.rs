//! A log of the requests to simulated stores: to compare two runs of one seed, and to see what a
//! failing seed did.

use std::cell::RefCell;

use nixcache::hash::Hash;

use super::gate::Kind;
use crate::cache::Error;

thread_local! {
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

#[cfg_attr(not(test), allow(dead_code))]
struct Log {
    /// When the clock of the simulation began. Time before that is real, and is not logged.
    started: Option<tokio::time::Instant>,
    lines: Vec<String>,
}

/// Logs the requests of this thread while a function runs, whether it succeeds or panics. The log
/// has a line when a request begins, and one when it ends, with the simulated time and the outcome.
#[cfg(test)]
pub(crate) fn record<T>(run: impl FnOnce() -> T) -> (std::thread::Result<T>, Vec<String>) {
    LOG.set(Some(Log { started: None, lines: Vec::new() }));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    (done, LOG.take().map(|log| log.lines).unwrap_or_default())
}

/// Panics if two logs of one seed differ, and shows where.
#[cfg(test)]
pub(crate) fn assert_equal(seed: u64, first: &[String], second: &[String]) {
    const LINES_BEFORE: usize = 12;
    let mut places = 0..first.len().max(second.len());
    let Some(place) = places.find(|place| first.get(*place) != second.get(*place)) else { return };
    let around = |log: &[String]| {
        let lines = &log[place.saturating_sub(LINES_BEFORE).min(log.len())..log.len().min(place + 3)];
        lines.join("\n")
    };
    panic!("SEED={seed} differs at {place}:\n{}\n\n{}", around(first), around(second));
}

/// Lets the time of the log begin now, when the clock of a simulation begins.
pub(crate) fn restart_clock() {
    LOG.with_borrow_mut(|log| log.as_mut().map(|log| log.started = Some(tokio::time::Instant::now())));
}

fn write(line: impl FnOnce() -> String) {
    LOG.with_borrow_mut(|log| {
        if let Some(Log { started, lines }) = log {
            let passed = started.map_or(0.0, |started| started.elapsed().as_secs_f64());
            lines.push(format!("{passed:.3} {}", line()));
        }
    });
}

/// Performs a request, and logs its beginning and its end. What is written is logged as a hash.
pub(crate) async fn logged<T>(
    kind: Kind,
    name: &str,
    written: Option<&[u8]>,
    request: impl Future<Output = Result<T, Error>>,
    outcome: impl FnOnce(&T) -> String,
) -> Result<T, Error> {
    write(|| match written {
        Some(bytes) => format!("{kind:?} {name} {}", Hash::sha256(bytes)),
        None => format!("{kind:?} {name}"),
    });
    let done = request.await;
    write(|| match &done {
        Ok(done) => format!("{kind:?} {name}: {}", outcome(done)),
        Err(error) => format!("{kind:?} {name}: {error}"),
    });
    done
}
