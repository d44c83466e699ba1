//! Caches that are made: where none may be, what they say of themselves, and how one that came to
//! nothing goes again.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use futures_util::stream::StreamExt;
use nixcache::narinfo::CacheInfo;
use nixcache::store_path::{StoreDir, StorePathRef};

use super::error::{Error, Result};
use super::url::Location;
use super::{Cache, CacheUrl, Inner, layout};
use crate::lock;

/// What there was before a cache was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Cache,
    /// A place for one, but no cache.
    Place,
    /// Not even the directory.
    Nothing,
}

impl Inner {
    /// What the parameters of the URL say of the cache goes before what the cache says. `is_said`
    /// is whether it says something.
    pub(crate) fn apply_parameters(&mut self, is_said: bool) -> Result<()> {
        let Self { url, info, .. } = self;
        info.priority = url.priority().or(info.priority);
        info.want_mass_query = url.want_mass_query().unwrap_or(info.want_mass_query);
        if let Some(ours) = url.parameter("store") {
            let failed = |reason: String| Error::Configuration { cache: url.to_string(), reason };
            let ours = StoreDir::new(ours).map_err(|error| failed(format!("parameter `store`: {error}")))?;
            if !is_said {
                info.store_dir = ours;
            } else if info.store_dir != ours {
                return Err(Error::StoreDir { cache: url.to_string(), theirs: info.store_dir.clone(), ours });
            }
        }
        Ok(())
    }
}

/// What a new cache says of itself: as Nix does for directories and buckets, which bear many
/// questions.
pub(crate) fn new_info(store_dir: &StoreDir) -> CacheInfo {
    CacheInfo::default().with(|info| {
        info.store_dir = store_dir.clone();
        info.want_mass_query = true;
        info.priority = Some(50);
    })
}

/// Refuses a directory that is, or is in, a Nix store: that is a store, or a slip.
pub(crate) fn check_place(url: &CacheUrl, store_dir: &StoreDir) -> Result<()> {
    let Location::Directory(directory) = &url.location else { return Ok(()) };
    let place = resolved(directory).map_err(|error| Error::io(url, error))?;
    let store = resolved(Path::new(store_dir.as_str())).unwrap_or_else(|_| store_dir.as_str().into());
    let usual = Path::new("/nix/store");
    let of_store =
        [store.as_path(), Path::new(store_dir.as_str()), usual].into_iter().find(|store| place.starts_with(store));
    let found = of_store.map(Path::to_owned).or_else(|| {
        let above = place.ancestors().filter(|above| above.ends_with("nix/store"));
        above.map(Path::to_owned).find(|above| holds_store_paths(above))
    });
    match found {
        None => Ok(()),
        Some(store) => {
            let reason = format!("is in the store {}: keep a cache in a directory of its own", store.display());
            Err(Error::Configuration { cache: url.to_string(), reason })
        }
    }
}

/// A path without links and dots, whose end need not be there.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let (mut above, mut below) = (path.as_path(), Vec::new());
    let mut resolved = loop {
        match fs::canonicalize(above) {
            Ok(resolved) => break resolved,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let Some(parent) = above.parent() else { break PathBuf::from("/") };
        below.extend(above.components().next_back());
        above = parent;
    };
    let mut is_bent = false;
    for component in below.into_iter().rev() {
        match component {
            Component::ParentDir => is_bent = resolved.pop(),
            Component::Normal(name) => resolved.push(name),
            _ => {}
        }
    }
    // What comes after the dots may be there.
    if is_bent { self::resolved(&resolved) } else { Ok(resolved) }
}

fn holds_store_paths(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.any(|name| name == ".links" || StorePathRef::parse(&name).is_ok())
}

impl Cache {
    /// Whether [`create`](Self::create) has made this cache.
    pub fn is_new(&self) -> bool {
        self.0.before != Before::Cache
    }

    /// Removes a cache again that [`create`](Self::create) has made through this handle, if nothing
    /// was written to it since. A push that failed need not leave an empty cache. Returns whether
    /// it was removed.
    pub async fn remove_if_new_and_empty(&self) -> Result<bool> {
        if !self.is_new() {
            return Ok(false);
        }
        let mut listed = self.list();
        while let Some(listed) = listed.next().await {
            if listed?.0 != layout::CACHE_INFO {
                return Ok(false);
            }
        }
        self.delete(layout::CACHE_INFO).await?;
        if let (Some(directory), Before::Nothing) = (self.directory(), self.0.before) {
            // What is in use by then stays.
            remove_empty(directory);
        }
        Ok(true)
    }
}

/// Removes a directory that holds nothing but directories like it.
fn remove_empty(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let lock = directory.join(lock::FILE);
    if fs::read_dir(directory)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.path() == lock)))
    {
        let _ = fs::remove_file(lock);
    }
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::CacheOptions;
    use super::*;

    fn checked(place: &Path, store: &str) -> bool {
        check_place(&CacheUrl::from_directory(place), &StoreDir::new(store).unwrap()).is_ok()
    }

    #[test]
    fn no_cache_is_made_in_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["real/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-x", "own/store", "empty/nix/store"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        std::os::unix::fs::symlink(path("real/nix"), path("link")).unwrap();
        let own = path("own/store");
        let own = own.to_str().unwrap();
        for place in
            ["real/nix/store", "real/nix/store/c", "link/store", "link/store/a/b", "new/../link/store", "own/store/c"]
        {
            assert!(!checked(&path(place), own), "{place}");
        }
        assert!(!checked(Path::new("/nix/store"), own) && !checked(Path::new("/nix/store/c"), own));
        for place in ["", "own", "own/storeroom", "empty/nix/store", "new/deep", "real/nix"] {
            assert!(checked(&path(place), own), "{place}");
        }
    }

    #[tokio::test]
    async fn a_new_cache_that_came_to_nothing_goes_again_and_no_other_does() {
        let folder = tempfile::tempdir().unwrap();
        let create = async |name: &str| {
            let url = CacheUrl::from_directory(folder.path().join(name));
            Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap()
        };
        let cache = create("new/deep").await;
        drop(cache.stage().unwrap());
        assert!(cache.remove_if_new_and_empty().await.unwrap());
        assert!(!folder.path().join("new/deep").exists());
        let cache = create("written").await;
        cache.write("log/x.drv", "x").await.unwrap();
        assert!(!cache.remove_if_new_and_empty().await.unwrap());
        assert!(!create("written").await.remove_if_new_and_empty().await.unwrap());
        fs::create_dir(folder.path().join("place")).unwrap();
        assert!(create("place").await.remove_if_new_and_empty().await.unwrap());
        assert!(fs::read_dir(folder.path().join("place")).unwrap().next().is_none());
    }
}
