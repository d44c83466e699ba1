//! Finds the narinfos that arguments name: files, directories, caches, standard input.
//!
//! This is the one place that knows where narinfos come from. A [`Group`] is what one argument
//! names, together with the store paths that select from it. [`report_on`] runs the work of a
//! command over its narinfos.

mod remote;
mod report;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nixcache::narinfo::{NarInfo, file_name, hash_part_of_file_name};
use nixcache::store_path::{HashPart, StoreDir};
use nixcache_client::sign::read_narinfo;
use nixcache_client::source::PathQuery;

pub(crate) use self::remote::Remote;
pub(crate) use self::report::{Report, report_on};
use crate::cache::{is_cache, is_url, url};
use crate::cli::{Common, Reach};
use crate::failure::{Failure, Result};
use crate::output::{directory, is_standard};

/// The approximate size of narinfos in memory at the same time. Only hostile ones are so large that
/// this limits a chunk.
const TEXTS_MAX_BYTES: usize = 16 << 20;

/// The narinfos of one directory or cache, or the one on standard input.
#[derive(Debug)]
pub(crate) struct Group {
    /// The directory of the narinfos and their NARs. None for standard input.
    pub(crate) directory: Option<PathBuf>,
    /// The cache, if it is on another machine. The directory is then its URL.
    pub(crate) remote: Option<Remote>,
    /// The files. None means everything in the directory.
    selected: Option<Vec<PathBuf>>,
    /// The names that were given together with hash parts, by file.
    names: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Whether the files were selected by path, so that each must be about the path in its file
    /// name.
    pub(crate) by_path: bool,
}

/// The name of a narinfo in its cache, from its URL.
pub(crate) fn name_of(file: &Path) -> &str {
    file.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

impl Group {
    /// The groups that arguments name: narinfos, directories of narinfos and caches, optionally
    /// followed by hash parts or store paths that select from them, and `-`. Missing files are
    /// reported when they are read, except for caches on other machines.
    pub(crate) fn all(common: &Common, reach: &Reach, arguments: &[OsString]) -> Result<Vec<Self>> {
        let store_dir = common.store_dir()?;
        crate::input::once_from_standard_input(arguments)?;
        let mut groups: Vec<Self> = Vec::new();
        let mut arguments = arguments.iter().map(Path::new).peekable();
        while let Some(argument) = arguments.next() {
            if is_standard(argument) {
                let selected = Some(vec![argument.to_owned()]);
                groups.push(Self { directory: None, remote: None, selected, names: BTreeMap::new(), by_path: false });
                continue;
            }
            let mut remote = None;
            let mut argument = Cow::Borrowed(argument);
            if is_url(&argument) && !argument.exists() {
                if let Some((cache, name)) = of_one_narinfo(&argument) {
                    let remote = Remote::open_briefly(common, reach, &cache)?;
                    let selected = Some(vec![remote.file(&name)]);
                    let by_path = hash_part_of_file_name(&name).is_some();
                    let names = BTreeMap::new();
                    groups.push(Self { directory: Some(cache), remote: Some(remote), selected, names, by_path });
                    continue;
                }
                match url(argument.as_os_str())?.directory() {
                    Some(directory) => argument = Cow::Owned(directory.to_owned()),
                    None => remote = Some(Remote::open(common, reach, &argument)?),
                }
            }
            let argument = &*argument;
            if remote.is_none() && !argument.is_dir() {
                let parent = directory(argument).to_owned();
                match groups.last_mut() {
                    Some(Self {
                        directory: Some(last), remote: None, selected: Some(files), by_path: false, ..
                    }) if *last == parent => {
                        files.push(argument.to_owned());
                    }
                    _ => {
                        let selected = Some(vec![argument.to_owned()]);
                        let names = BTreeMap::new();
                        groups.push(Self { directory: Some(parent), remote: None, selected, names, by_path: false });
                    }
                }
                continue;
            }
            let mut selected = Vec::new();
            let mut names: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
            while let Some(query) = arguments.peek().and_then(|next| selection(&store_dir, next)) {
                let part = query.hash_part();
                let file = file_name(part);
                let file = remote.as_ref().map_or_else(|| argument.join(&file), |remote: &Remote| remote.file(&file));
                if let Some(path) = query.path() {
                    names.entry(file.clone()).or_default().insert(path.name().to_owned());
                }
                selected.push(file);
                arguments.next();
            }
            let by_path = !selected.is_empty();
            let selected = by_path.then_some(selected);
            groups.push(Self { directory: Some(argument.to_owned()), remote, selected, names, by_path });
        }
        Ok(groups)
    }

    /// The error if a narinfo has another name than the selected path.
    pub(crate) fn misnamed(&self, file: &Path, info: &NarInfo<'_>) -> Option<String> {
        let name = info.store_path().name();
        let other = self.names.get(file)?.iter().find(|asked_for| *asked_for != name)?;
        Some(misnamed(name, other))
    }

    /// The files without those about a path with another name than the selected one, which are
    /// reported.
    pub(crate) fn rightly_named<'a>(&self, files: &'a [PathBuf], store_dir: &StoreDir) -> Cow<'a, [PathBuf]> {
        if self.names.is_empty() {
            return files.into();
        }
        let is_right = |file: &PathBuf| {
            let text = self.read(std::slice::from_ref(file)).into_iter().next().and_then(Result::ok);
            // A file that cannot be read or parsed is reported later.
            let info = text.as_deref().and_then(|text| NarInfo::parse(text, store_dir).ok());
            let misnamed = info.and_then(|info| self.misnamed(file, &info));
            misnamed.map(|misnamed| Failure::bad(file, misnamed).report()).is_none()
        };
        files.iter().filter(|file| is_right(file)).cloned().collect::<Vec<_>>().into()
    }

    /// The files, in a stable order.
    pub(crate) fn files(&self) -> Result<Cow<'_, [PathBuf]>> {
        if let (None, Some(remote)) = (&self.selected, &self.remote) {
            let parts = remote.hash_parts()?;
            return Ok(parts.into_iter().map(|part| remote.file(&file_name(part))).collect::<Vec<_>>().into());
        }
        match (&self.selected, &self.directory) {
            (None, Some(directory)) => Ok(list(directory)?.into()),
            (selected, _) => Ok(selected.as_deref().unwrap_or_default().into()),
        }
    }

    /// Whether this is a cache, rather than a directory with narinfos of any names.
    pub(crate) fn is_cache(&self) -> bool {
        let is_cache = |directory: &PathBuf| directory.join("nix-cache-info").exists();
        self.selected.is_none() && (self.remote.is_some() || self.directory.as_ref().is_some_and(is_cache))
    }

    /// The hash parts of all paths in the directory. For a cache on another machine, those that
    /// were selected, if any, because it may not support listing.
    pub(crate) fn hash_parts(&self) -> Result<Vec<HashPart>> {
        if let Some(remote) = &self.remote {
            let Some(selected) = &self.selected else { return remote.hash_parts() };
            return Ok(selected.iter().filter_map(|file| hash_part_of_file_name(name_of(file))).collect());
        }
        let Some(directory) = &self.directory else { return Ok(Vec::new()) };
        let names = names(directory)?;
        Ok(names.iter().filter_map(|name| hash_part_of_file_name(name.to_str()?)).collect())
    }

    /// Reads the files, and calls `each` with some of them and their texts at a time.
    pub(crate) fn for_each_text(&self, mut files: &[PathBuf], mut each: impl FnMut(&[PathBuf], &[Result<Vec<u8>>])) {
        while !files.is_empty() {
            let texts = self.read(files);
            let (read, rest) = files.split_at(texts.len());
            each(read, &texts);
            files = rest;
        }
    }

    /// The texts of the first files, at least one, up to [`TEXTS_MAX_BYTES`] in total.
    fn read(&self, files: &[PathBuf]) -> Vec<Result<Vec<u8>>> {
        if let Some(remote) = &self.remote {
            return remote.read(files);
        }
        let mut size = 0;
        let few = files.iter().map_while(|file| {
            let text = (size < TEXTS_MAX_BYTES).then(|| read(file))?;
            size += text.as_ref().map_or(0, Vec::len);
            Some(text.map_err(|error| Failure::failed(file, error)))
        });
        few.collect()
    }
}

/// Refuses a name after a cache that is neither a store path nor a file. It was meant to select
/// from the cache, and without it a command would change the whole cache.
pub(crate) fn check_selections(common: &Common, arguments: &[OsString]) -> Result<()> {
    let store_dir = common.store_dir()?;
    let mut is_after_cache = false;
    for argument in arguments.iter().map(Path::new) {
        if is_cache(argument) {
            is_after_cache = true;
        } else if is_after_cache && !argument.exists() {
            let resolved = PathQuery::resolve(argument.as_os_str(), &store_dir);
            resolved.map_err(|error| Failure::of(error.kind(), &error))?;
        }
    }
    Ok(())
}

/// The store path that an argument after a cache selects. None for another target.
fn selection(store_dir: &StoreDir, argument: &Path) -> Option<PathQuery> {
    let is_narinfo = argument.extension().is_some_and(|extension| extension == "narinfo");
    if is_narinfo { None } else { PathQuery::resolve(argument.as_os_str(), store_dir).ok() }
}

/// The error for a path with another name than the given one.
pub(crate) fn misnamed(name: &str, asked_for: &str) -> String {
    format!("is {name}, not {asked_for}: the hash part is right, the name is not")
}

/// The cache and the name of a narinfo, from a URL that names one narinfo.
fn of_one_narinfo(argument: &Path) -> Option<(PathBuf, String)> {
    let text = argument.to_str()?;
    let (place, query) = text.find('?').map_or((text, ""), |at| text.split_at(at));
    let (cache, name) = place.rsplit_once('/')?;
    let is_remote = cache.contains("://") && !cache.starts_with("file:") && !cache.ends_with(":/");
    let is_narinfo = name.strip_suffix(".narinfo").is_some_and(|stem| !stem.is_empty());
    (is_remote && is_narinfo).then(|| (format!("{cache}{query}").into(), name.to_owned()))
}

/// The narinfos in a directory, ordered by name.
fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut names = names(directory)?;
    if names.is_empty() && !directory.join("nix-cache-info").exists() {
        return Err(Failure::failed(directory, "holds neither narinfos nor a nix-cache-info: is it a cache?"));
    }
    names.sort_unstable();
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

fn names(directory: &Path) -> Result<Vec<OsString>> {
    let fail = |error: io::Error| Failure::failed(directory, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        if name.as_bytes().ends_with(b".narinfo") && !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    Ok(names)
}

/// The text of a narinfo. Reads at most one byte more than a narinfo may have.
pub(crate) fn read(file: &Path) -> io::Result<Vec<u8>> {
    if !is_standard(file) {
        return read_narinfo(file);
    }
    let mut text = Vec::new();
    io::stdin().lock().take(NarInfo::MAX_LEN as u64 + 1).read_to_end(&mut text)?;
    let decoded = nixcache_client::cache::decode_narinfo(&file.display().to_string(), &text);
    let decoded = decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(decoded.map_or(text, Vec::from))
}
