//! How the objects of a path come into a cache: first all that a narinfo refers to, then the
//! narinfo.
//!
//! A path is prepared: its NAR and its attachments are written, and its narinfo up to its name.
//! Then narinfos are published, many at a time. In a directory all of them are flushed together, in
//! an order in which a loss of power leaves no narinfo without its NAR.

use bytes::Bytes;
use nixcache::narinfo::NarInfoBuf;

use super::backend::directory::{Complete, Unsynced};
use super::error::Result;
use super::staged::Staging;
use super::{Cache, layout};

/// All objects that a cache is to have of a path.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) narinfo: NarInfoBuf,
    /// The file of the NAR, unless the cache has it; its name is in the narinfo.
    pub(crate) nar: Option<Staging>,
    /// Other objects, by name: a listing, debug information, a log.
    pub(crate) attachments: Vec<(String, Bytes)>,
}

impl Objects {
    /// Those of a path whose NAR the cache has, without attachments.
    pub(crate) fn new(narinfo: NarInfoBuf) -> Self {
        Self { narinfo, nar: None, attachments: Vec::new() }
    }
}

/// Objects of a directory that are written up to their names, which [`Cache::publish`] gives them.
///
/// Elsewhere objects have their names once they are written, and nothing is pending.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(super) named: Vec<Complete>,
    pub(super) narinfo: Option<Unsynced>,
}

/// A narinfo that is written up to its name, and waits until those that it refers to have theirs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) name: String,
    pub(super) text: Bytes,
    /// The file, in a directory.
    pub(super) complete: Option<Complete>,
    pub(super) uploaded: bool,
}

impl Prepared {
    /// A narinfo that is not written yet, and the URL of its NAR.
    pub(super) fn new(narinfo: &NarInfoBuf) -> (Self, String) {
        let info = narinfo.as_ref();
        let name = layout::narinfo(info.store_path().hash_part());
        let text = Bytes::copy_from_slice(narinfo.as_str().as_bytes());
        (Self { name, text, complete: None, uploaded: false }, info.url().to_owned())
    }

    /// Whether the NAR was uploaded, rather than there already.
    pub(crate) fn is_uploaded(&self) -> bool {
        self.uploaded
    }
}

impl Cache {
    /// Takes contents whose name is known last: [`prepare`](Self::prepare) gives it.
    pub(crate) fn stage(&self) -> Result<Staging> {
        self.0.backend.stage()
    }

    /// Gives a staged NAR its name, unless a recent object has the same name and size. Returns
    /// whether it was written.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn upload(&self, staging: Staging, name: &str) -> Result<bool> {
        self.0.backend.upload(staging, name).await
    }

    /// Writes all that the cache is to have of a path, the narinfo only up to its name:
    /// [`publish`](Self::publish) gives it that.
    ///
    /// A NAR of the same name and size is not uploaded again, unless it is old: perhaps no narinfo
    /// refers to it, and a collection is about to delete it.
    pub(crate) async fn prepare(&self, objects: Objects) -> Result<(Prepared, Pending)> {
        self.0.backend.prepare(objects).await
    }

    /// Publishes narinfos of which none refers to another one, and that only refer to published
    /// ones. Returns for each whether there was none of its name.
    ///
    /// What came with each of them from [`prepare`](Self::prepare) has to be among what is
    /// `pending`, now or before: it gets its name first. Everything outlasts a loss of power before
    /// what depends on it has its name.
    pub(crate) async fn publish(&self, pending: Vec<Pending>, prepared: Vec<Prepared>) -> Result<Vec<bool>> {
        self.0.backend.publish(pending, prepared, self.0.options.concurrency).await
    }
}
