//! The progress of a push or a pull: paths, bytes, and the largest NARs in progress.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nixcache_client::pull::PullEvent;
use nixcache_client::push::PushEvent;

use super::Progress;
use crate::cli::Common;
use crate::text::counted;

/// The progress of a push or pull of many paths.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    bar: Progress,
    state: Arc<Mutex<TransferState>>,
}

#[derive(Debug, Default)]
struct TransferState {
    paths: usize,
    done: usize,
    /// The NARs in progress, by size.
    nars: Vec<(u64, String)>,
}

impl Transfer {
    /// Shows a bar for the work `what`.
    pub(crate) fn new(common: &Common, what: &str) -> Self {
        Self { bar: Progress::new(common, Path::new(what), Some(0)), state: Arc::default() }
    }

    /// The callback for a push.
    pub(crate) fn of_push(&self) -> nixcache_client::Progress<PushEvent> {
        let transfer = self.clone();
        nixcache_client::Progress::new(move |event| match event {
            PushEvent::Planned { paths, nar_size } => transfer.plan(paths, nar_size),
            PushEvent::Started { name, nar_size } => transfer.start(name, nar_size),
            PushEvent::Packed { bytes } => transfer.advance(bytes),
            PushEvent::Uploaded { name, .. } => transfer.end(&name),
            PushEvent::Published { .. } => transfer.done(),
            _ => {}
        })
    }

    /// The callback for a pull.
    pub(crate) fn of_pull(&self) -> nixcache_client::Progress<PullEvent> {
        let transfer = self.clone();
        nixcache_client::Progress::new(move |event| match event {
            PullEvent::Planned { paths, nar_size } => transfer.plan(paths, nar_size),
            PullEvent::Started { name, nar_size } => transfer.start(name, nar_size),
            PullEvent::Received { bytes } => transfer.advance(bytes),
            PullEvent::Fetched { name } => transfer.end(&name),
            PullEvent::Published { .. } => transfer.done(),
            _ => {}
        })
    }

    /// Sets the number of paths and their total size.
    fn plan(&self, paths: usize, bytes: u64) {
        self.bar.set_total(bytes);
        self.change(|state| state.paths = paths);
    }

    /// Records that work on the NAR of a path begins.
    fn start(&self, name: String, bytes: u64) {
        self.change(|state| {
            state.nars.push((bytes, name));
            state.nars.sort_unstable_by(|a, b| b.cmp(a));
        });
    }

    /// Counts bytes of NARs.
    fn advance(&self, bytes: u64) {
        self.bar.advance_bytes(bytes);
    }

    /// Records that a NAR is complete.
    fn end(&self, name: &str) {
        self.change(|state| {
            if let Some(place) = state.nars.iter().position(|(_, other)| other == name) {
                state.nars.remove(place);
            }
        });
    }

    /// Records that a path is complete.
    fn done(&self) {
        self.change(|state| state.done += 1);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish();
    }

    fn change(&self, change: impl FnOnce(&mut TransferState)) {
        if !self.bar.is_shown() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let large: Vec<&str> = state.nars.iter().take(2).map(|(_, name)| name.as_str()).collect();
        self.bar.set_message(format!("{} / {}  {}", state.done, counted(state.paths, "path"), large.join(", ")));
    }
}
