//! Objects that are replaced only if no other writer has changed them since they were read.

use bytes::Bytes;

use super::Cache;
use super::backend::Version;
use super::error::Result;

/// The object of the probe for conditional writes. It never exists, unless a server that does not
/// support conditions has written it.
const CONDITIONS_PROBE: &str = "nixcache/v1/conditions";
const CONDITIONS_PROBE_TEXT: &[u8] = b"This store replaces objects despite their conditions.\n";

impl Cache {
    /// Writes an object if it still has this version, and returns whether it was written. `None` if
    /// the store cannot do that in one step.
    ///
    /// Some servers do not support conditions, and always write the object: see
    /// [`Cache::keeps_conditions`].
    pub(crate) async fn replace(&self, name: &str, contents: Bytes, version: &Version) -> Result<Option<bool>> {
        self.0.backend.replace(name, contents, version).await
    }

    /// Whether [`Cache::replace`] is reliable. The first call probes a bucket, which has to refuse
    /// to replace an absent object. If the bucket does not answer, that is an error, because pushes
    /// and collections must get the same answer.
    pub(crate) async fn keeps_conditions(&self) -> Result<bool> {
        if !self.has_versions() {
            return Ok(false);
        }
        let never = Version { e_tag: Some("\"none\"".to_owned()), number: Some("1".to_owned()) };
        let text = Bytes::from_static(CONDITIONS_PROBE_TEXT);
        let refuses = async { Ok(self.replace(CONDITIONS_PROBE, text, &never).await? == Some(false)) };
        self.0.keeps_conditions.get_or_try_init(|| refuses).await.copied()
    }

    /// Whether this kind of store can honour conditions.
    pub(crate) fn has_versions(&self) -> bool {
        self.0.backend.has_versions()
    }
}
