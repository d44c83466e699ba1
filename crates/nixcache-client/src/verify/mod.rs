//! Verifying what a cache holds: signatures of narinfos, and NARs against their narinfos.
//!
//! [`verify`] verifies the narinfos of a cache, and with [`VerifyOptions::contents`] their NARs.
//! [`NarChecker`] and [`Inspection`] are its parts, for programs that read NARs themselves.
//!
//! ```
//! use nixcache::store_path::StoreDir;
//! use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
//! use nixcache_client::verify::{VerifyOptions, verify};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let (url, store_dir) = (CacheUrl::memory(), StoreDir::default());
//! let cache = Cache::create(&url, &store_dir, CacheOptions::default()).await?;
//! let verified = verify(&cache, None, &VerifyOptions::default()).await?;
//! assert!(verified.bad().next().is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod content_address;
mod contents;
mod nar_file;
mod signatures;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::num::NonZeroUsize;

use bytes::Bytes;
use futures_util::stream::StreamExt;
use nixcache::ErrorKind;
use nixcache::nar::Limits;
use nixcache::narinfo::{NarInfoBuf, hash_part_of_file_name};
use nixcache::store_path::{HashPart, StorePath};
use nixcache::trust::{TrustPolicy, TrustedKeys};

use crate::cache::{self, Cache, blocking, layout};
use crate::progress::Progress;

pub use self::content_address::AddressMismatch;
pub use self::contents::{NarCheckError, NarChecker};
pub use self::nar_file::{Inspection, NarFile, NarFileError, NarFileMismatch, RawFile};
pub use self::signatures::explain;

/// Narinfos that are verified as a batch.
const BATCH_NARINFOS: usize = 1024;

/// How a cache is verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Which signatures are required. By default no key is trusted, and only content-addressed
    /// paths are valid.
    pub policy: TrustPolicy,
    /// Whether to read the NARs. By default no.
    pub contents: bool,
    /// How many threads work. By default one for each processor.
    pub threads: NonZeroUsize,
    /// Limits of archives. By default those of Nix.
    pub limits: Limits,
    /// Progress callback.
    pub progress: Progress<VerifyEvent>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            policy: TrustPolicy::new(TrustedKeys::default()),
            contents: false,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            progress: Progress::default(),
        }
    }
}

impl VerifyOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Progress of [`verify`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum VerifyEvent {
    /// The narinfos are listed.
    Listed {
        /// Their number.
        narinfos: usize,
    },
    /// A narinfo is verified, with its NAR if that is read.
    Verified {
        /// The narinfo.
        object: String,
    },
}

/// What [`verify`] found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Each narinfo, in the order of the objects.
    pub narinfos: Vec<VerifiedNarInfo>,
}

/// What is known of a narinfo.
#[derive(Debug)]
#[non_exhaustive]
pub struct VerifiedNarInfo {
    /// The narinfo, by its name in the cache.
    pub object: String,
    /// The path that it is about, if it could be parsed.
    pub path: Option<StorePath>,
    /// The names of the keys whose signatures count.
    pub keys: Vec<String>,
    /// Whether its content address makes the path, so that it needs no signature.
    pub is_content_addressed: bool,
    /// What is wrong with it; none if it is valid.
    pub problem: Option<String>,
    /// The kind of that problem: [`ErrorKind::Content`] if the narinfo or NAR is wrong, and
    /// another if it could not be read.
    pub kind: Option<ErrorKind>,
    /// The hash parts of paths to which the NAR refers without the narinfo declaring it. This is no
    /// problem for Nix.
    pub undeclared: Vec<String>,
}

impl Verified {
    /// The narinfos that are wrong.
    pub fn bad(&self) -> impl Iterator<Item = &VerifiedNarInfo> {
        self.narinfos.iter().filter(|narinfo| narinfo.kind == Some(ErrorKind::Content))
    }

    /// The narinfos that could not be verified, because they or their NARs could not be read.
    pub fn unread(&self) -> impl Iterator<Item = &VerifiedNarInfo> {
        self.narinfos.iter().filter(|narinfo| narinfo.kind.is_some_and(|kind| kind != ErrorKind::Content))
    }
}

/// Verifies the narinfos of a cache: of these paths, or all that it lists.
///
/// # Errors
///
/// If the cache cannot be listed.
pub async fn verify(
    cache: &Cache,
    paths: Option<Vec<HashPart>>,
    options: &VerifyOptions,
) -> Result<Verified, cache::Error> {
    let parts: Vec<HashPart> = match paths {
        Some(parts) => parts,
        None => cache.list_narinfos().await?.into_keys().collect(),
    };
    options.progress.report(VerifyEvent::Listed { narinfos: parts.len() });
    let checker = options.contents.then(|| NarChecker::new(cache.clone(), parts.iter().copied(), options.limits));
    let mut verified = Verified::default();
    for batch in parts.chunks(BATCH_NARINFOS) {
        let names = batch.iter().map(|part| layout::narinfo(*part)).collect();
        let texts: Vec<_> = cache.read_many(names).collect().await;
        let (judge, policy) = (cache.clone(), options.policy.clone());
        let judged = blocking(move || judge_batch(&judge, &policy, texts)).await;
        let mut results = futures_util::stream::iter(judged)
            .map(|(mut narinfo, info)| {
                let checker = checker.as_ref();
                async move {
                    if let (Some(checker), Some(info), None) = (checker, info, &narinfo.problem) {
                        match checker.check(&info).await {
                            Ok(undeclared) => narinfo.undeclared = undeclared,
                            Err(error) => {
                                (narinfo.problem, narinfo.kind) = (Some(error.to_string()), Some(error.kind()));
                            }
                        }
                    }
                    narinfo
                }
            })
            .buffer_unordered(options.threads.get())
            .boxed();
        while let Some(narinfo) = results.next().await {
            options.progress.report(VerifyEvent::Verified { object: narinfo.object.clone() });
            verified.narinfos.push(narinfo);
        }
    }
    verified.narinfos.sort_by(|one, other| one.object.cmp(&other.object));
    Ok(verified)
}

type NamedText = (String, Result<Option<Bytes>, cache::Error>);

/// Judges the texts of narinfos by their signatures.
fn judge_batch(
    cache: &Cache,
    policy: &TrustPolicy,
    texts: Vec<NamedText>,
) -> Vec<(VerifiedNarInfo, Option<NarInfoBuf>)> {
    let mut judged = Vec::with_capacity(texts.len());
    for (object, text) in texts {
        let part = hash_part_of_file_name(&object);
        let mut narinfo = VerifiedNarInfo {
            object,
            path: None,
            keys: Vec::new(),
            is_content_addressed: false,
            problem: None,
            kind: None,
            undeclared: Vec::new(),
        };
        let info = match (text, part) {
            (Ok(Some(text)), Some(part)) => cache.parse_narinfo(part, &text).map(Some),
            (Ok(_), _) => Ok(None),
            (Err(error), _) => Err(error),
        };
        match info {
            Ok(Some(info)) => {
                narinfo.path = Some(info.as_ref().store_path().to_owned());
                judged.push((narinfo, Some(info)));
            }
            Ok(None) => {
                let problem = format!("{}: not in the cache", cache.display_name(&narinfo.object));
                (narinfo.problem, narinfo.kind) = (Some(problem), Some(ErrorKind::NotFound));
                judged.push((narinfo, None));
            }
            Err(error) => {
                (narinfo.problem, narinfo.kind) = (Some(error.to_string()), Some(error.kind()));
                judged.push((narinfo, None));
            }
        }
    }
    let infos: Vec<_> = judged.iter().filter_map(|(_, info)| info.clone()).collect();
    let borrowed: Vec<_> = infos.iter().map(NarInfoBuf::as_ref).collect();
    let mut verdicts = policy.verify_many(&borrowed, NonZeroUsize::MIN).into_iter();
    for (narinfo, info) in &mut judged {
        let Some(info) = info.as_ref().map(NarInfoBuf::as_ref) else { continue };
        let Some(verdict) = verdicts.next() else { continue };
        narinfo.keys = verdict.keys().map(str::to_owned).collect();
        narinfo.is_content_addressed = verdict.is_content_addressed();
        narinfo.problem = explain(&info, &verdict, policy.required);
        narinfo.kind = narinfo.problem.as_ref().map(|_| ErrorKind::Content);
    }
    judged
}
