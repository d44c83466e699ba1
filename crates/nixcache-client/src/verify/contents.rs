//! Checking the NARs of a cache against single narinfos.

use nixcache::ErrorKind;
use nixcache::nar::Limits;
use nixcache::nar::references::Candidates;
use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::store_path::HashPart;

use super::{Inspection, NarFileError, NarFileMismatch, RawFile};
use crate::cache::{self, Cache, NarPlace, ObjectInfo, ObjectReader, blocking};

/// Characters of a URL in a message.
const URL_SHOWN_MAX: usize = 200;

/// Checks NARs against narinfos, one at a time.
#[derive(Clone, Debug)]
pub struct NarChecker {
    cache: Cache,
    limits: Limits,
    /// The hash parts that are looked for in NARs.
    known: Vec<String>,
    candidates: Option<Candidates>,
}

/// Why a NAR does not pass a check.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NarCheckError {
    /// The NAR is missing, or is not what the narinfo says.
    #[error("{0}")]
    Bad(String),
    /// The cache cannot be read, so the NAR could not be checked.
    #[error(transparent)]
    Cache(cache::Error),
    /// The NAR cannot be read, so it could not be checked.
    #[error("{object}: {error}")]
    Read {
        /// The NAR.
        object: String,
        /// The failure.
        #[source]
        error: NarFileError,
    },
}

impl NarCheckError {
    /// The kind of this error: [`ErrorKind::Content`] if the NAR is wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Bad(_) => ErrorKind::Content,
            Self::Cache(error) => error.kind(),
            Self::Read { error, .. } => error.kind(),
        }
    }

    /// What is wrong with an object that cannot be opened, or why it cannot be.
    fn of_access(error: cache::Error) -> Self {
        if error.kind() == ErrorKind::Content { Self::Bad(error.to_string()) } else { Self::Cache(error) }
    }
}

impl NarChecker {
    /// Checks NARs of this cache. References to `known` paths that a NAR has and its narinfo does
    /// not declare are found.
    pub fn new(cache: Cache, known: impl IntoIterator<Item = HashPart>, limits: Limits) -> Self {
        let mut known: Vec<String> = known.into_iter().map(|part| part.to_string()).collect();
        known.sort_unstable();
        // Hash parts are candidates; if they were not, nothing would be looked for.
        let candidates = Candidates::new(&known).ok();
        Self { cache, limits, known, candidates }
    }

    /// Reads the NAR of a narinfo, and compares it with all that the narinfo says. Returns the hash
    /// parts of known paths to which the NAR refers without the narinfo declaring it.
    ///
    /// # Errors
    ///
    /// If the NAR is not what the narinfo says, or cannot be read.
    pub async fn check(&self, info: &NarInfoBuf) -> Result<Vec<String>, NarCheckError> {
        let cache = &self.cache;
        // A directory is checked without a network.
        if let (Some(_), NarPlace::Elsewhere(url)) = (cache.directory(), cache.nar_place(info.as_ref().url())) {
            let shown: String = url.escape_debug().take(URL_SHOWN_MAX).collect();
            return Err(NarCheckError::Bad(format!("URL: {shown} is not in this cache")));
        }
        let object = cache.nar(&info.as_ref()).map_err(|error| match error {
            cache::Error::NarUrl { reason, .. } => NarCheckError::Bad(format!("URL: {reason}")),
            error => NarCheckError::Bad(error.to_string()),
        })?;
        let shown = object.split('?').next().unwrap_or_default();
        let absent = || NarCheckError::Bad(format!("there is no {shown}"));
        let describe = |mismatch: &NarFileMismatch| {
            if mismatch.is_of_file() { format!("{shown} {mismatch}") } else { mismatch.to_string() }
        };
        let listed = cache.head(&object).await.map_err(NarCheckError::of_access)?.ok_or_else(absent)?;
        let inspection = match Inspection::new(&info.as_ref()) {
            Ok(inspection) => inspection.limits(self.limits),
            Err(unknown) => {
                let mut reasons = vec![unknown.to_string()];
                let raw = info.clone();
                let read = self.read(&object, move |reader| RawFile::read(&[raw.as_ref()], reader)).await?;
                match read.ok_or_else(absent)? {
                    Ok(read) => reasons.extend(read.mismatches(&info.as_ref()).iter().map(describe)),
                    Err(error) => return Err(self.unread(&object, error)),
                }
                return Err(NarCheckError::Bad(reasons.join("; ")));
            }
        };
        let inspection = match &self.candidates {
            Some(candidates) => inspection.references(candidates.clone()),
            None => inspection,
        };
        let read = self.read(&object, move |reader| inspection.read(reader)).await?.ok_or_else(absent)?;
        let read = read.map_err(|error| {
            if error.kind() != ErrorKind::Content {
                return self.unread(&object, error);
            }
            let size = wrong_size(&info.as_ref(), listed).map(|mismatch| describe(&mismatch) + "; ");
            NarCheckError::Bad(format!("{}{shown}: {error}", size.unwrap_or_default()))
        })?;
        let mismatches = read.mismatches(&info.as_ref());
        if let Some(mismatch) = mismatches.first() {
            let mut reason = describe(mismatch);
            if mismatches.iter().all(NarFileMismatch::is_of_file) {
                reason.push_str("; the contents are right (narutil audit --repair corrects the narinfo)");
            }
            return Err(NarCheckError::Bad(reason));
        }
        let info = info.as_ref();
        let declared: Vec<&str> = info.references().iter().map(|reference| reference.hash_text()).collect();
        let found = read.references.iter().map(|&index| &self.known[index]);
        Ok(found.filter(|part| !declared.contains(&part.as_str())).cloned().collect())
    }

    /// Reads an object; `None` if the cache does not have it.
    async fn read<T: Send + 'static>(
        &self,
        object: &str,
        read: impl FnOnce(&mut ObjectReader) -> Result<T, NarFileError> + Send + 'static,
    ) -> Result<Option<Result<T, NarFileError>>, NarCheckError> {
        let opened = self.cache.open_object(object).await.map_err(NarCheckError::of_access)?;
        let Some(mut reader) = opened else { return Ok(None) };
        match blocking(move || (read(&mut reader), reader.failure())).await {
            (_, Some(error)) => Err(NarCheckError::of_access(error)),
            (done, None) => Ok(Some(done)),
        }
    }

    fn unread(&self, object: &str, error: NarFileError) -> NarCheckError {
        NarCheckError::Read { object: self.cache.display_name(object), error }
    }
}

/// The mismatch of the size of a file, as it is listed.
fn wrong_size(info: &NarInfo<'_>, listed: ObjectInfo) -> Option<NarFileMismatch> {
    let (expected, found) = info.file_size().zip(listed.size)?;
    (expected != found).then_some(NarFileMismatch::FileSize { expected, found })
}
