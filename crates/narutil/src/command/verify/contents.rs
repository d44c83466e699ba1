//! The NARs beside the narinfos.

use std::path::Path;

use nixcache::nar::Limits;
use nixcache::nar::references::Candidates;
use nixcache::narinfo::{CacheInfo, NarInfo};
use nixcache_client::cache::{Cache, CacheUrl, InfoSource, NarPlace, ObjectInfo, OpenOptions};
use nixcache_client::verify::{Inspection, Mismatch, NarFileError, RawFile};
use tokio::runtime::Runtime;

use crate::cache::runtime;
use crate::cli::Common;
use crate::failure::{Failure, Result};
use crate::target::Group;

/// Checks NARs against their narinfos.
pub(super) struct Contents<'a> {
    place: Place<'a>,
    limits: Limits,
    /// The hash parts of all paths of the cache, and how to find them in a NAR.
    known: Vec<String>,
    candidates: Candidates,
}

/// Characters of a URL that a reason has room for.
const URL_SHOWN: usize = 200;

/// Why an object could not be looked at: it is not what it should be, or the way to it fails.
fn unreachable(error: &nixcache_client::cache::Error) -> Fault {
    if error.is_about_content() { Fault::Bad(error.to_string()) } else { Fault::Failed(Failure::cache(error)) }
}

/// Where NARs are looked for.
enum Place<'a> {
    /// In the directory that the narinfos are in.
    Directory { cache: Cache, runtime: Runtime },
    /// In the cache that the narinfos are in.
    Remote(&'a crate::target::Remote),
}

/// Why a NAR is not as its narinfo says.
pub(super) enum Fault {
    /// It is not.
    Bad(String),
    /// That could not be found out.
    Failed(Failure),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Bad(reason)
    }
}

impl Place<'_> {
    fn cache(&self) -> &Cache {
        match self {
            Self::Directory { cache, .. } => cache,
            Self::Remote(remote) => &remote.cache,
        }
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        match self {
            Self::Directory { runtime, .. } => runtime.block_on(work),
            Self::Remote(remote) => remote.wait(work),
        }
    }
}

impl<'a> Contents<'a> {
    pub(super) fn new(common: &Common, group: &'a Group) -> Result<Self> {
        // What comes from standard input has none, and is refused before.
        let directory = group.directory.clone().unwrap_or_default();
        let mut known: Vec<String> = group.hash_parts()?.iter().map(ToString::to_string).collect();
        // A directory has no order of its own.
        known.sort_unstable();
        let candidates = Candidates::new(&known).map_err(|error| Failure::failed(&directory, error))?;
        let place = match &group.remote {
            Some(remote) => Place::Remote(remote),
            None => Self::directory(common, &directory)?,
        };
        Ok(Self { place, limits: common.limits(), known, candidates })
    }

    fn directory(common: &Common, directory: &Path) -> Result<Place<'a>> {
        let absolute = std::path::absolute(directory).map_err(|error| Failure::failed(directory, error))?;
        let url = CacheUrl::parse(absolute.as_os_str()).map_err(Failure::usage)?;
        let mut info = CacheInfo::default();
        info.store_dir = common.store_dir()?;
        let runtime = runtime(common)?;
        let options = OpenOptions::default().with(|options| options.info = InfoSource::Assume(info));
        let cache = runtime.block_on(options.open(&url));
        Ok(Place::Directory { cache: cache.map_err(|error| Failure::cache(&error))?, runtime })
    }

    /// Checks a NAR, and returns the hash parts of paths of this cache that it refers to without
    /// its narinfo saying so.
    pub(super) fn check(&self, info: &NarInfo<'_>) -> std::result::Result<Vec<String>, Fault> {
        let cache = self.place.cache();
        // A directory is looked at without a network.
        if let (Place::Directory { .. }, NarPlace::Elsewhere(url)) = (&self.place, cache.nar_place(info.url())) {
            let shown: String = url.escape_debug().take(URL_SHOWN).collect();
            return Err(format!("URL: {shown} is not in this cache").into());
        }
        let object = cache.nar(info).map_err(|error| match error {
            nixcache_client::cache::Error::NarUrl { reason, .. } => Fault::Bad(format!("URL: {reason}")),
            error => Fault::Bad(error.to_string()),
        })?;
        let shown = object.split('?').next().unwrap_or_default();
        let absent = || Fault::Bad(format!("there is no {shown}"));
        let describe = |fault: &Mismatch| {
            if fault.is_of_file() { format!("{shown} {fault}") } else { fault.to_string() }
        };
        let meta = self.place.wait(cache.head(&object)).map_err(|error| unreachable(&error))?.ok_or_else(absent)?;
        let inspection = match Inspection::new(info) {
            Ok(inspection) => inspection.limits(self.limits).references(self.candidates.clone()),
            Err(unknown) => {
                let mut reasons = vec![unknown.to_string()];
                let read = self.read(&object, |reader| RawFile::read(&[*info], reader))?.ok_or_else(absent)?;
                match read {
                    Ok(read) => reasons.extend(read.mismatches(info).iter().map(describe)),
                    Err(error) => return Err(self.failed(&object, &error)),
                }
                return Err(reasons.join("; ").into());
            }
        };
        let read = self.read(&object, |reader| inspection.read(reader))?.ok_or_else(absent)?;
        let read = read.map_err(|error| {
            if !error.is_about_content() {
                return self.failed(&object, &error);
            }
            let size = wrong_size(info, meta).map(|fault| describe(&fault) + "; ").unwrap_or_default();
            Fault::Bad(format!("{size}{shown}: {error}"))
        })?;
        let faults = read.mismatches(info);
        if let Some(fault) = faults.first() {
            let mut reason = describe(fault);
            if faults.iter().all(Mismatch::is_of_file) {
                reason.push_str("; the contents are right (narutil audit --repair corrects the narinfo)");
            }
            return Err(reason.into());
        }
        let declared: Vec<&str> = info.references().iter().map(|reference| reference.hash_text()).collect();
        let found = read.references.iter().map(|&index| &self.known[index]);
        Ok(found.filter(|part| !declared.contains(&part.as_str())).cloned().collect())
    }

    /// Reads an object; `None` if it is not there.
    fn read<T>(
        &self,
        object: &str,
        read: impl FnOnce(&mut nixcache_client::cache::ObjectReader) -> std::result::Result<T, NarFileError>,
    ) -> std::result::Result<Option<std::result::Result<T, NarFileError>>, Fault> {
        let opened = self.place.wait(self.place.cache().open_object(object)).map_err(|error| unreachable(&error))?;
        let Some(mut reader) = opened else { return Ok(None) };
        let done = read(&mut reader);
        match reader.failure() {
            Some(error) => Err(unreachable(&error)),
            None => Ok(Some(done)),
        }
    }

    fn failed(&self, object: &str, error: &NarFileError) -> Fault {
        Fault::Failed(Failure::failed(Path::new(&self.place.cache().display_name(object)), error))
    }
}

/// What is wrong with the size of a file, as it was listed.
fn wrong_size(info: &NarInfo<'_>, meta: ObjectInfo) -> Option<Mismatch> {
    let (expected, found) = info.file_size().zip(meta.size)?;
    (expected != found).then_some(Mismatch::FileSize { expected, found })
}
