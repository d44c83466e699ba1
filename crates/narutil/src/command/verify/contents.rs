//! The NARs beside the narinfos.

use nixcache::narinfo::{CacheInfo, NarInfo};
use nixcache_client::cache::{CacheUrl, InfoSource, OpenOptions};
use nixcache_client::verify::{NarCheckError, NarChecker};
use tokio::runtime::Runtime;

use crate::cache::runtime;
use crate::cli::Common;
use crate::failure::{Failure, Result, Status};
use crate::target::{Group, Remote};

/// Checks NARs against their narinfos.
pub(super) struct Contents<'a> {
    checker: NarChecker,
    place: Place<'a>,
}

/// What reaches the NARs.
enum Place<'a> {
    /// A runtime for the directory that the narinfos are in.
    Directory(Runtime),
    /// The cache that the narinfos are in.
    Remote(&'a Remote),
}

/// Why a NAR is not as its narinfo says.
pub(super) enum Fault {
    /// It is not.
    Bad(String),
    /// That could not be found out.
    Failed(Failure),
}

impl<'a> Contents<'a> {
    pub(super) fn new(common: &Common, group: &'a Group) -> Result<Self> {
        let known = group.hash_parts()?;
        let (cache, place) = if let Some(remote) = &group.remote {
            (remote.cache.clone(), Place::Remote(remote))
        } else {
            // A narinfo from standard input has no directory, and is refused before.
            let directory = group.directory.clone().unwrap_or_default();
            let absolute = std::path::absolute(&directory).map_err(|error| Failure::failed(&directory, error))?;
            let url = CacheUrl::parse(absolute.as_os_str()).map_err(Failure::usage)?;
            let store_dir = common.store_dir()?;
            let info = CacheInfo::default().with(|info| info.store_dir = store_dir);
            let runtime = runtime(common)?;
            let options = OpenOptions::default().with(|options| options.info = InfoSource::Assume(info));
            let cache = runtime.block_on(options.open(&url));
            (cache.map_err(|error| Failure::cache(&error))?, Place::Directory(runtime))
        };
        Ok(Self { checker: NarChecker::new(cache, known, common.limits()), place })
    }

    /// Checks a NAR, and returns the hash parts of paths of this cache that it refers to without
    /// its narinfo saying so.
    pub(super) fn check(&self, info: &NarInfo<'_>) -> std::result::Result<Vec<String>, Fault> {
        let info = info.to_owned();
        let check = self.checker.check(&info);
        let checked = match &self.place {
            Place::Directory(runtime) => runtime.block_on(check),
            Place::Remote(remote) => remote.wait(check),
        };
        checked.map_err(|error| match error {
            NarCheckError::Bad(reason) => Fault::Bad(reason),
            NarCheckError::Cache(error) => Fault::Failed(Failure::cache(&error)),
            error => Fault::Failed(Failure { status: Status::Failed, message: Some(error.to_string()) }),
        })
    }
}
