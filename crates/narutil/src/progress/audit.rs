//! The progress of an audit.

use std::path::Path;

use nixcache_client::audit::AuditEvent;

use super::Progress;
use crate::cli::Common;
use crate::text::counted;

/// The progress of an audit: in bytes of NARs if it reads them, otherwise in objects.
#[derive(Clone, Debug)]
pub(crate) struct AuditBar {
    bar: Progress,
    contents: bool,
}

impl AuditBar {
    /// Shows a bar. `contents` says whether the audit reads NARs.
    pub(crate) fn new(common: &Common, contents: bool) -> Self {
        let bar = if contents {
            Progress::new(common, Path::new("reading narinfos"), Some(0))
        } else {
            Progress::items(common, "reading narinfos", None)
        };
        Self { bar, contents }
    }

    /// The callback for the audit.
    pub(crate) fn progress(&self) -> nixcache_client::Progress<AuditEvent> {
        let (bar, contents) = (self.bar.clone(), self.contents);
        nixcache_client::Progress::new(move |event| match event {
            AuditEvent::Listed { objects } if !contents => bar.set_total(objects as u64),
            AuditEvent::Read { objects } if !contents => bar.advance(objects),
            AuditEvent::Contents { files, bytes } => {
                bar.set_total(bytes);
                bar.set_message(format!("reading {}", counted(files, "NAR")));
            }
            AuditEvent::ContentsRead { bytes } => bar.advance_bytes(bytes),
            _ => {}
        })
    }

    pub(crate) fn finish(&self) {
        self.bar.finish();
    }
}
