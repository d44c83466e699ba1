//! Objects that are replaced only if no other writer has changed them since they were read.

use bytes::Bytes;

use super::Cache;
use super::backend::Version;
use super::error::Result;

/// An object that no condition ever holds for: it never exists, unless a server that knows no
/// conditions has written it.
const CONDITIONS_PROBE: &str = "nixcache/v1/conditions";
const CONDITIONS_PROBE_TEXT: &[u8] = b"This store replaces objects whatever the condition.\n";

impl Cache {
    /// Writes an object if it still has this version, and returns whether it was written. `None`
    /// where that cannot be done in one step.
    ///
    /// Some servers know no conditions and write it in any case: see [`Cache::keeps_conditions`].
    pub(crate) async fn replace(&self, name: &str, contents: Bytes, version: &Version) -> Result<Option<bool>> {
        self.0.backend.replace(name, contents, version).await
    }

    /// Whether [`Cache::replace`] can be relied upon. A bucket is tried, once: it has to refuse to
    /// replace an absent object. If it does not answer, that is an error: pushes and collections
    /// have to agree.
    pub(crate) async fn keeps_conditions(&self) -> Result<bool> {
        if !self.has_versions() {
            return Ok(false);
        }
        let never = Version { e_tag: Some("\"none\"".to_owned()), number: Some("1".to_owned()) };
        let text = Bytes::from_static(CONDITIONS_PROBE_TEXT);
        let refuses = async { Ok(self.replace(CONDITIONS_PROBE, text, &never).await? == Some(false)) };
        self.0.keeps_conditions.get_or_try_init(|| refuses).await.copied()
    }

    /// Whether this is a store that may honour conditions.
    pub(crate) fn has_versions(&self) -> bool {
        self.0.backend.has_versions()
    }
}
