//! Where caches are: directories, buckets, web servers.

pub(crate) mod answer;
pub(crate) mod bucket;
mod clients;
pub(crate) mod directory;
mod tls;
pub(crate) mod traffic;
pub(crate) mod web;

use bytes::Bytes;
use object_store::UpdateVersion;

use crate::cache::error::Result;
use crate::cache::{Cache, Place};

/// An object of which no condition holds: it is never there, unless a server that knows no
/// conditions has written it.
const PROBE: &str = "nixcache/v1/conditions";
const PROBE_TEXT: &[u8] = b"This store replaces objects whatever the condition.\n";

/// Which version of an object was read: each write makes another one, if it changes something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    #[default]
    Unknown,
    Bucket(UpdateVersion),
    Web(Option<http::HeaderValue>),
}

impl Cache {
    /// Writes an object if it is still this version of it, and says whether it was. `None` where
    /// that cannot be done in one step.
    ///
    /// Some servers know no conditions and write it in any case: see [`Cache::keeps_conditions`].
    pub(crate) async fn replace(&self, name: &str, contents: Bytes, version: &Version) -> Result<Option<bool>> {
        match (&self.0.place, version) {
            (Place::Bucket(bucket), Version::Bucket(version)) if version.e_tag.is_some() => {
                bucket.replace(name, &contents, version).await
            }
            _ => Ok(None),
        }
    }

    /// Whether [`Cache::replace`] can be relied upon. A bucket is asked, once: it has to refuse to
    /// replace what is not there. If it does not answer, that is an error: pushes and collectors
    /// have to be of one opinion.
    pub(crate) async fn keeps_conditions(&self) -> Result<bool> {
        let Place::Bucket(bucket) = &self.0.place else { return Ok(false) };
        let none = UpdateVersion { e_tag: Some("\"none\"".to_owned()), version: Some("1".to_owned()) };
        let refuses = async || Ok(bucket.replace(PROBE, &Bytes::from_static(PROBE_TEXT), &none).await? == Some(false));
        self.0.keeps_conditions.get_or_try_init(refuses).await.copied()
    }

    /// Whether this is a store that may keep conditions.
    pub(crate) fn has_versions(&self) -> bool {
        matches!(self.0.place, Place::Bucket(_))
    }
}
