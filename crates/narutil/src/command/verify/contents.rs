//! The NARs of a local cache.

use std::io;
use std::path::PathBuf;

use nixcache::nar::Limits;
use nixcache::nar::scan::Candidates;
use nixcache::narinfo::{NarInfo, NarUrl};
use nixcache_client::nar_file::{self, Inspection};
use nixcache_client::open_regular;

use crate::cli::Common;
use crate::failure::{Failure, Result};
use crate::target::{Group, Remote};

/// Checks NARs against their narinfos.
pub(super) struct Contents<'a> {
    directory: PathBuf,
    remote: Option<&'a Remote>,
    limits: Limits,
    /// The hash parts of all paths of the cache, and how to find them in a NAR.
    known: Vec<String>,
    candidates: Candidates,
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

impl<'a> Contents<'a> {
    pub(super) fn new(common: &Common, group: &'a Group) -> Result<Self> {
        // What comes from standard input has none, and is refused before.
        let directory = group.directory.clone().unwrap_or_default();
        let mut known: Vec<String> = group.hash_parts()?.iter().map(ToString::to_string).collect();
        // A directory has no order of its own.
        known.sort_unstable();
        let candidates = Candidates::new(&known).map_err(|error| Failure::failed(&directory, error))?;
        Ok(Self { directory, remote: group.remote.as_ref(), limits: common.limits(), known, candidates })
    }

    /// Checks a NAR, and returns the hash parts of paths of this cache that it refers to without its narinfo saying so.
    pub(super) fn check(&self, info: &NarInfo<'_>) -> std::result::Result<Vec<String>, Fault> {
        let url = NarUrl::parse(info.url()).map_err(|error| format!("URL: {error}"))?;
        if url.is_absolute {
            return Err(format!("URL: {} is not in this cache", info.url().escape_debug()).into());
        }
        let path = self.directory.join(url.path);
        let failed = |error: &io::Error| Fault::Failed(Failure::failed(&path, error));
        let bad = |fault: &nar_file::Fault| {
            Fault::Bad(match fault {
                nar_file::Fault::FileSize { .. } | nar_file::Fault::FileHash { .. } => format!("{} {fault}", url.path),
                fault => fault.to_string(),
            })
        };
        let absent = || Fault::Bad(format!("there is no {}", url.path));
        let inspection = Inspection::of(info).map_err(|error| error.to_string())?;
        let inspection = inspection.limits(self.limits).references(self.candidates.clone());
        let read = if let Some(remote) = self.remote {
            let unreachable = |error| Fault::Failed(Failure::cache(&error));
            let meta = remote.wait(remote.cache.meta(url.path)).map_err(unreachable)?.ok_or_else(absent)?;
            // What has another size need not be read.
            if let (Some(expected), Some(found)) = (info.file_size(), meta.size)
                && expected != found
            {
                return Err(bad(&nar_file::Fault::FileSize { expected, found }));
            }
            let reader = remote.wait(remote.cache.open_object(url.path)).map_err(unreachable)?;
            let mut reader = reader.ok_or_else(absent)?;
            let read = inspection.read(&mut reader);
            if let Some(error) = reader.failure() {
                return Err(unreachable(error));
            }
            read
        } else {
            let file = open_regular(&path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => absent(),
                _ => failed(&error),
            })?;
            // What has another size need not be read.
            let size = file.metadata().map_err(|error| failed(&error))?.len();
            if let Some(expected) = info.file_size().filter(|expected| *expected != size) {
                return Err(bad(&nar_file::Fault::FileSize { expected, found: size }));
            }
            inspection.read(file)
        };
        let read = read.map_err(|error| match error {
            nar_file::Error::Io(error) => failed(&error),
            error if error.is_about_content() => Fault::Bad(format!("{}: {error}", url.path)),
            error => Fault::Failed(Failure::failed(&path, error)),
        })?;
        if let Some(fault) = read.faults(info).first() {
            return Err(bad(fault));
        }
        let declared: Vec<&str> = info.references().iter().map(|reference| reference.hash_text()).collect();
        let found = read.references.iter().map(|&index| &self.known[index]);
        Ok(found.filter(|part| !declared.contains(&part.as_str())).cloned().collect())
    }
}
