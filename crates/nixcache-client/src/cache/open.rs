//! Opening and creating caches.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use futures_util::stream::StreamExt;
use nixcache::narinfo::CacheInfo;
use nixcache::store_path::{StoreDir, StorePathRef};
use tokio::sync::OnceCell;

use super::backend::requests::RequestCounter;
use super::backend::{self, Backend};
use super::error::{Error, Lookup, Result};
use super::url::Location;
use super::{Cache, CacheOptions, CacheUrl, Inner, Use, layout};
use crate::lock;

/// Options for opening a cache.
///
/// Most programs only need [`Cache::open`] and [`Cache::create`].
///
/// ```
/// use nixcache::narinfo::CacheInfo;
/// use nixcache_client::cache::{CacheUrl, InfoSource, OpenOptions};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// // Saves the request for `nix-cache-info`.
/// let info = InfoSource::Assume(CacheInfo::default());
/// let options = OpenOptions::default().with(|options| options.info = info);
/// let cache = options.open(&"https://cache.nixos.org".parse()?).await?;
/// assert_eq!(cache.store_dir().as_str(), "/nix/store");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The options of the connection.
    pub connection: CacheOptions,
    /// Whether the cache is opened for writing, and created if it does not exist. Directories
    /// within a store are then refused. Default: no.
    pub create: bool,
    /// The store directory that the cache must be for. Default: any. A new cache is then for
    /// `/nix/store`.
    pub store_dir: Option<StoreDir>,
    /// Where to get the description of the cache. Default: from its `nix-cache-info`.
    pub info: InfoSource,
    /// Whether to open an empty cache in memory for a directory that is absent or not a cache.
    /// Default: no, such a directory is an error.
    pub absent_is_empty: bool,
}

/// Where to get the description of a cache.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum InfoSource {
    /// From its `nix-cache-info`.
    #[default]
    Cache,
    /// From its `nix-cache-info`, or this description if that file cannot be parsed. For repairs.
    CacheOr(CacheInfo),
    /// This description, without a request.
    Assume(CacheInfo),
}

/// What existed before a cache was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Cache,
    /// The directory or bucket, but no cache in it.
    Place,
    /// Nothing, not even the directory.
    Nothing,
}

impl OpenOptions {
    /// Changes some of the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Opens a cache.
    ///
    /// [`Error::NoCache`] if a directory on this machine is not a cache, [`UrlError::Parameter`] if
    /// a parameter of the URL has no effect ([`Use`]), [`Error::StoreDir`] if the cache is for
    /// another store directory.
    ///
    /// [`UrlError::Parameter`]: super::UrlError::Parameter
    pub async fn open(&self, url: &CacheUrl) -> Result<Cache> {
        if self.create {
            return self.create(url).await;
        }
        let opened = match self.open_to_read(url).await {
            Err(Error::CacheInfo { .. }) if matches!(self.info, InfoSource::CacheOr(_)) => {
                let InfoSource::CacheOr(info) = &self.info else { unreachable!() };
                let assume = InfoSource::Assume(info.clone());
                self.clone().with(|options| options.info = assume).open_to_read(url).await
            }
            opened => opened,
        };
        let is_absent = match &opened {
            Err(Error::NoCache { .. }) => true,
            Err(Error::Io { error, .. }) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        };
        if is_absent && self.absent_is_empty {
            return self.create(&CacheUrl::memory()).await;
        }
        opened
    }

    async fn open_to_read(&self, url: &CacheUrl) -> Result<Cache> {
        url.check(Use::Read)?;
        let mut inner = Inner::connect(url, &self.connection).await?;
        if let InfoSource::Assume(info) = &self.info {
            inner.info = info.clone();
            inner.apply_parameters(true)?;
        } else if let Some(info) = inner.read_info().await? {
            inner.info = info;
            inner.apply_parameters(true)?;
        } else {
            inner.apply_parameters(false)?;
            if !inner.backend.may_be_cache().await? {
                return Err(Error::NoCache { cache: url.to_string() });
            }
        }
        if let Some(ours) = self.store_dir.as_ref().filter(|ours| **ours != inner.info.store_dir) {
            let (theirs, ours) = (inner.info.store_dir, ours.clone());
            return Err(Error::StoreDir { cache: url.to_string(), theirs, ours });
        }
        Ok(Cache(Arc::new(inner)))
    }

    async fn create(&self, url: &CacheUrl) -> Result<Cache> {
        let store_dir = &self.store_dir.clone().unwrap_or_default();
        url.check(Use::Write)?;
        check_place(url, store_dir)?;
        let mut inner = Inner::connect(url, &self.connection).await?;
        let mut denied = None;
        let known = match inner.read_info().await {
            // Without permission to list, this may be the answer for an absent object.
            Err(error @ Error::Denied { .. }) if inner.backend.may_deny_absent() => {
                denied = Some(error);
                None
            }
            known => known?,
        };
        if let Some(info) = known {
            if info.store_dir != *store_dir {
                let (theirs, ours) = (info.store_dir, store_dir.clone());
                return Err(Error::StoreDir { cache: url.to_string(), theirs, ours });
            }
            inner.info = info;
            inner.apply_parameters(true)?;
            return Ok(Cache(Arc::new(inner)));
        }
        inner.info = new_info(store_dir);
        inner.apply_parameters(true)?;
        inner.before = if inner.backend.make_place().await? { Before::Place } else { Before::Nothing };
        let cache = Cache(Arc::new(inner));
        let text = cache.info().to_string();
        let is_made = if let Some(denied) = denied {
            // Only a conditional write tells whether an unreadable one exists.
            let is_made = cache.keeps_conditions().await? && cache.create_object(layout::CACHE_INFO, text).await?;
            if !is_made {
                return Err(denied);
            }
            is_made
        } else {
            // A writer that creates it at the same time writes the same contents. If not, the next
            // push fails with an error.
            cache.create_object(layout::CACHE_INFO, text).await?
        };
        if is_made && url.is_outside_memory() {
            tracing::warn!("{url}: made a new cache here");
        }
        Ok(cache)
    }
}

impl Cache {
    /// Opens a cache for reading.
    ///
    /// [`Error::NoCache`] if a directory on this machine is not a cache, [`UrlError::Parameter`] if
    /// a parameter of the URL has no effect on a reader.
    ///
    /// [`UrlError::Parameter`]: super::UrlError::Parameter
    pub async fn open(url: &CacheUrl, options: CacheOptions) -> Result<Self> {
        OpenOptions { connection: options, ..OpenOptions::default() }.open(url).await
    }

    /// Opens a cache for writing. If it does not exist, creates it and logs a warning.
    ///
    /// Refuses directories within a store, and parameters of the URL that have no effect on a
    /// writer ([`Use`]).
    pub async fn create(url: &CacheUrl, store_dir: &StoreDir, options: CacheOptions) -> Result<Self> {
        let store_dir = Some(store_dir.clone());
        OpenOptions { connection: options, create: true, store_dir, ..OpenOptions::default() }.open(url).await
    }
}

impl Inner {
    async fn connect(url: &CacheUrl, options: &CacheOptions) -> Result<Self> {
        let requests = Arc::new(RequestCounter::new(url));
        let backend: Arc<dyn Backend> = backend::connect(url, options, &requests).await?;
        Ok(Self {
            url: url.clone(),
            info: CacheInfo::default(),
            backend,
            options: options.clone(),
            requests,
            keeps_conditions: OnceCell::new(),
            before: Before::Cache,
            elsewhere: OnceLock::new(),
        })
    }

    async fn read_info(&self) -> Lookup<CacheInfo> {
        let name = layout::CACHE_INFO;
        let read = match self.backend.read(name, layout::limit(name)).await {
            // If the directory is absent, the caller reports that it is not a cache.
            Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
            read => read?,
        };
        let parse = |(text, _)| {
            let object = || format!("{}/{name}", self.url.to_string().trim_end_matches('/'));
            let text: bytes::Bytes = text;
            CacheInfo::parse(&text).map_err(|error| Error::CacheInfo { object: object(), error })
        };
        read.map(parse).transpose()
    }

    /// Applies the parameters of the URL, which override `nix-cache-info`. `is_said` is whether
    /// there is such a description.
    fn apply_parameters(&mut self, is_said: bool) -> Result<()> {
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

/// The description of a new cache, with the values of Nix for directories and buckets, which can
/// answer many lookups.
pub(crate) fn new_info(store_dir: &StoreDir) -> CacheInfo {
    CacheInfo::default().with(|info| {
        info.store_dir = store_dir.clone();
        info.want_mass_query = true;
        info.priority = Some(50);
    })
}

/// Refuses a directory that is a Nix store or is within one: a cache there is a mistake.
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

/// A path without links and dots. Its last components need not exist.
pub(crate) fn resolved(path: &Path) -> io::Result<PathBuf> {
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
    // After `..`, the rest of the path may exist.
    if is_bent { self::resolved(&resolved) } else { Ok(resolved) }
}

fn holds_store_paths(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.any(|name| name == ".links" || StorePathRef::parse(&name).is_ok())
}

impl Cache {
    /// Whether [`create`](Self::create) has created this cache.
    pub fn is_new(&self) -> bool {
        self.0.before != Before::Cache
    }

    /// Removes a cache that [`create`](Self::create) has created through this handle, if nothing
    /// was written to it since. So a failed push leaves no empty cache behind. Returns whether the
    /// cache was removed.
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
            // Directories that are in use by now stay.
            remove_empty(directory);
        }
        Ok(true)
    }
}

/// Removes a directory if it holds nothing but a lock file and directories of this kind.
fn remove_empty(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let lock = directory.join(lock::LOCK_FILE);
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
