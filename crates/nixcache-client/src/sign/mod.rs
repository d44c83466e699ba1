//! Signing narinfos: adding signatures and removing them, in caches and in files.
//!
//! [`sign`] signs the narinfos of a cache, [`sign_file`] those in files that lie anywhere. Each
//! narinfo is replaced at once, and only its signatures change. Signatures are added in the place
//! of stale ones by the same key name.
//!
//! ```
//! use nixcache::signature::{KeyName, SecretKey};
//! use nixcache::store_path::StoreDir;
//! use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
//! use nixcache_client::sign::{SignOptions, sign};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let (url, store_dir) = (CacheUrl::memory(), StoreDir::default());
//! let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
//! let key = SecretKey::generate(KeyName::new("cache.example-1")?)?;
//! let options = SignOptions::default().with(|options| options.keys = vec![key]);
//! let signed = sign(&cache, None, &options).await?;
//! assert_eq!((signed.narinfos, signed.changed), (0, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod file;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::StreamExt;
use nixcache::narinfo::{self, NarInfo, NarInfoBuf};
use nixcache::signature::SecretKey;
use nixcache::store_path::{HashPart, StoreDir};

use crate::cache::{self, Cache, layout};
use crate::progress::Progress;

pub use self::error::Error;
pub use self::file::{DirectoryLocks, read_narinfo, sign_file};

/// How narinfos are signed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SignOptions {
    /// The keys that sign.
    pub keys: Vec<SecretKey>,
    /// The names of keys whose signatures are removed.
    pub remove: Vec<String>,
    /// The store directory of the paths.
    pub store_dir: StoreDir,
    /// Find out what would change, and change nothing.
    pub dry_run: bool,
    /// Progress callback.
    pub progress: Progress<SignEvent>,
}

/// Progress of [`sign`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SignEvent {
    /// The narinfos are listed.
    Listed {
        /// Their number.
        narinfos: usize,
    },
    /// A narinfo is done.
    Signed(SignedNarInfo),
}

/// What became of a narinfo.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedNarInfo {
    /// The narinfo with its new signatures.
    pub info: NarInfoBuf,
    /// The names of the keys whose signatures were added. A signature that was there already does
    /// not count.
    pub added: Vec<String>,
    /// The names of the keys whose signatures were removed.
    pub removed: Vec<String>,
    /// Whether the narinfo is not the same as before.
    pub is_changed: bool,
}

/// What [`sign`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Signed {
    /// How many narinfos were signed, or had these signatures.
    pub narinfos: usize,
    /// How many of them were changed.
    pub changed: usize,
    /// The narinfos that could not be signed, and why.
    pub failed: Vec<(String, Error)>,
}

impl SignOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Signs the text of a narinfo.
///
/// # Errors
///
/// If it is not a narinfo of this store.
pub fn sign_text(text: &[u8], options: &SignOptions) -> Result<SignedNarInfo, narinfo::Error> {
    let info = NarInfo::parse(text, &options.store_dir)?;
    let is_by = |signature: &str, name: &str| signature.split_once(':').is_some_and(|(by, _)| by == name);
    let mut edit = info.edit();
    let mut removed = Vec::new();
    for name in &options.remove {
        if info.signatures().any(|signature| is_by(signature, name)) {
            removed.push(name.clone());
            edit = edit.unsign(name);
        }
    }
    let mut added = Vec::new();
    let fingerprint = info.fingerprint().to_vec();
    for key in &options.keys {
        let signature = key.sign(&fingerprint);
        let text = signature.to_string();
        if !info.signatures().any(|other| other == text) {
            added.push(key.name().as_str().to_owned());
        }
        edit = edit.sign(signature.as_ref());
    }
    let info = edit.finish()?;
    let is_changed = info.as_str().as_bytes() != text;
    Ok(SignedNarInfo { info, added, removed, is_changed })
}

/// Signs the narinfos of a cache: of these paths, or all that it lists.
///
/// In buckets and on web servers, a narinfo is only replaced if it is still the one that was read,
/// where the server supports such conditions.
///
/// # Errors
///
/// If the cache cannot be listed. A narinfo that cannot be signed is in [`Signed::failed`], and the
/// others are signed.
pub async fn sign(cache: &Cache, paths: Option<Vec<HashPart>>, options: &SignOptions) -> Result<Signed, Error> {
    let parts: Vec<HashPart> = match paths {
        Some(parts) => parts,
        None => cache.list_narinfos().await?.into_keys().collect(),
    };
    let names: Vec<String> = parts.into_iter().map(layout::narinfo).collect();
    options.progress.report(SignEvent::Listed { narinfos: names.len() });
    let mut signed = Signed::default();
    let mut done = futures_util::stream::iter(names)
        .map(|name| async move {
            let outcome = sign_object(cache, &name, options).await;
            (name, outcome)
        })
        .buffered(cache.options().concurrency)
        .boxed();
    while let Some((name, outcome)) = done.next().await {
        match outcome {
            Ok(narinfo) => {
                signed.narinfos += 1;
                signed.changed += usize::from(narinfo.is_changed);
                options.progress.report(SignEvent::Signed(narinfo));
            }
            Err(error) => signed.failed.push((name, error)),
        }
    }
    Ok(signed)
}

/// Signs one narinfo of a cache, by its name there. The outcome is that of what was written, not of
/// what was there before another writer changed it.
///
/// # Errors
///
/// If the cache does not have it, or it cannot be read, parsed or written.
pub async fn sign_object(cache: &Cache, name: &str, options: &SignOptions) -> Result<SignedNarInfo, Error> {
    let last: Arc<Mutex<Option<Result<SignedNarInfo, narinfo::Error>>>> = Arc::default();
    let edit = {
        let (options, last) = (options.clone(), Arc::clone(&last));
        move |text: Option<&[u8]>| {
            let signed = text.map(|text| sign_text(text, &options));
            let written = match &signed {
                Some(Ok(signed)) if signed.is_changed && !options.dry_run => {
                    Some(signed.info.as_str().as_bytes().to_vec())
                }
                _ => None,
            };
            *last.lock().unwrap_or_else(PoisonError::into_inner) = signed;
            written
        }
    };
    cache.edit(name, edit).await?;
    let signed = last.lock().unwrap_or_else(PoisonError::into_inner).take();
    let object = || cache.display_name(name);
    let signed = signed.ok_or_else(|| Error::Absent { object: object() })?;
    signed.map_err(|error| Error::NarInfo { object: object(), error })
}

impl From<cache::Error> for Error {
    fn from(error: cache::Error) -> Self {
        Self::Cache(error)
    }
}
