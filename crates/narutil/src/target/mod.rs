//! Finds the narinfos that arguments name: files, directories, caches, standard input.
//!
//! This is the one place that knows where narinfos come from.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::narinfo::{NarInfo, file_name, hash_part_of_file_name};
use nixcache::store_path::{HashPart, StoreDir, StorePathRef};
use nixcache_client::cache::Cache;
use nixcache_client::sign::read_narinfo;
use tokio::runtime::Runtime;

use crate::cache::{is_url, runtime, url};
use crate::cli::{Common, Reach};
use crate::failure::{Failure, Result, Status};
use crate::output::{directory, is_standard};
use crate::progress::Progress;

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

/// A cache on another machine, and the runtime for its requests.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) cache: Cache,
    /// The number of concurrent requests of each thread, so that all threads together stay within
    /// --concurrency.
    pub(crate) at_once: usize,
    runtime: Runtime,
}

impl Remote {
    fn open(common: &Common, reach: &Reach, argument: &Path) -> Result<Self> {
        let runtime = runtime(common)?;
        let cache = runtime.block_on(reach.open(argument.as_os_str()))?;
        let at_once = (cache.options().concurrency / common.threads()).max(1);
        Ok(Self { cache, at_once, runtime })
    }

    /// Opens a cache without a request for its `nix-cache-info`.
    fn open_briefly(common: &Common, reach: &Reach, argument: &Path) -> Result<Self> {
        let runtime = runtime(common)?;
        let cache = runtime.block_on(reach.open_briefly(common, argument.as_os_str()))?;
        let at_once = (cache.options().concurrency / common.threads()).max(1);
        Ok(Self { cache, at_once, runtime })
    }

    /// Waits for a request, on a thread that has nothing else to do.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The path of a narinfo for messages.
    fn file(&self, name: &str) -> PathBuf {
        self.cache.display_name(name).into()
    }

    /// The hash parts of all narinfos, in ascending order.
    fn hash_parts(&self) -> Result<Vec<HashPart>> {
        let listed = self.cache.list().try_filter_map(async |(name, _)| Ok(hash_part_of_file_name(&name)));
        let listed: std::result::Result<Vec<_>, _> = self.wait(listed.try_collect());
        let mut parts = listed.map_err(|error| Failure::cache(&error))?;
        parts.sort_unstable();
        Ok(parts)
    }

    /// The result of [`Group::read`].
    fn read(&self, files: &[PathBuf]) -> Vec<Result<Vec<u8>>> {
        let text = async |file: &PathBuf| {
            let read = self.cache.read(name_of(file)).await.map_err(|error| Failure::cache(&error))?;
            read.map(Vec::from).ok_or_else(|| absent(file))
        };
        let mut size = 0;
        let few = futures_util::stream::iter(files).map(text).buffered(self.at_once).take_while(|text| {
            let is_wanted = size < TEXTS_MAX_BYTES;
            size += text.as_ref().map_or(0, Vec::len);
            std::future::ready(is_wanted)
        });
        self.wait(few.collect())
    }
}

/// The error for a narinfo that a cache on another machine does not have.
pub(crate) fn absent(file: &Path) -> Failure {
    Failure::failed(file, "not in the cache")
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
            while let Some((part, name)) = arguments.peek().and_then(|next| selected_part(&store_dir, next.as_os_str()))
            {
                let file = file_name(part);
                let file = remote.as_ref().map_or_else(|| argument.join(&file), |remote: &Remote| remote.file(&file));
                if let Some(name) = name {
                    names.entry(file.clone()).or_default().insert(name.to_owned());
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

    /// Whether files were selected by full names too.
    pub(crate) fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// The error if a narinfo has another name than the selected path.
    pub(crate) fn misnamed(&self, file: &Path, info: &NarInfo<'_>) -> Option<String> {
        let name = info.store_path().name();
        let other = self.names.get(file)?.iter().find(|asked_for| *asked_for != name)?;
        Some(misnamed(name, other))
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

    /// The texts of the first files, at least one, up to [`TEXTS_MAX_BYTES`] in total.
    pub(crate) fn read(&self, files: &[PathBuf]) -> Vec<Result<Vec<u8>>> {
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

/// The hash part that an argument after a directory selects, and the name if it has one.
fn selected_part<'a>(store_dir: &StoreDir, argument: &'a OsStr) -> Option<(HashPart, Option<&'a str>)> {
    let text = argument.to_str()?;
    if let Ok(part) = HashPart::parse(text) {
        return Some((part, None));
    }
    let path = store_dir.parse(text).or_else(|_| StorePathRef::parse(text)).ok()?;
    Some((path.hash_part(), Some(path.name())))
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

/// The results for some narinfos.
#[derive(Debug)]
pub(crate) struct Report {
    /// Lines for standard output.
    pub(crate) lines: Vec<u8>,
    /// Messages for standard error, without `narutil: `.
    pub(crate) messages: Vec<String>,
    pub(crate) status: Status,
}

impl Report {
    pub(crate) const fn new() -> Self {
        Self { lines: Vec::new(), messages: Vec::new(), status: Status::Ok }
    }

    /// Adds a line of results.
    pub(crate) fn line(&mut self, line: impl AsRef<[u8]>, status: Status) {
        self.lines.extend_from_slice(line.as_ref());
        self.lines.push(b'\n');
        self.status = self.status.max(status);
    }

    /// Adds a failure.
    pub(crate) fn failure(&mut self, failure: Failure) {
        self.messages.extend(failure.message);
        self.status = self.status.max(failure.status);
    }
}

/// Gives the files to worker threads, `chunk` at a time, and prints their reports in the order of
/// the files.
///
/// Few reports wait for earlier ones, so memory does not depend on the number of files.
pub(crate) fn report_on<W>(
    common: &Common,
    what: &str,
    files: &[PathBuf],
    chunk: usize,
    worker: impl Fn() -> W + Sync,
) -> Result
where
    W: FnMut(&[PathBuf]) -> Report,
{
    const WAITING: usize = 16;
    let threads = common.threads().min(NonZeroUsize::new(files.len().div_ceil(chunk)).unwrap_or(NonZeroUsize::MIN));
    let progress = Progress::items(common, what, Some(files.len()));
    let mut status = Status::Ok;
    let mut print = |count: usize, report: Report| {
        progress.advance(count);
        status = status.max(report.status);
        progress.suspend(|| {
            report.messages.iter().for_each(|message| eprintln!("narutil: {message}"));
            let mut stdout = io::stdout().lock();
            stdout.write_all(&report.lines).and_then(|()| stdout.flush())
        })
    };
    let printed = if threads == NonZeroUsize::MIN {
        let mut work = worker();
        files.chunks(chunk).try_for_each(|files| print(files.len(), work(files)))
    } else {
        thread::scope(|scope| {
            let start = |thread| {
                let (sender, receiver) = mpsc::sync_channel(WAITING);
                let worker = &worker;
                scope.spawn(move || {
                    let mut work = worker();
                    for files in files.chunks(chunk).skip(thread).step_by(threads.get()) {
                        // Stop after a line could not be printed.
                        if sender.send(work(files)).is_err() {
                            break;
                        }
                    }
                });
                receiver
            };
            let receivers: Vec<_> = (0..threads.get()).map(start).collect();
            files.chunks(chunk).zip(receivers.iter().cycle()).try_for_each(|(files, receiver)| {
                // The scope reports a thread that has panicked.
                receiver.recv().map_or(Ok(()), |report| print(files.len(), report))
            })
        })
    };
    progress.finish();
    printed.map_err(|error| Failure::writing(Path::new("-"), &error))?;
    Ok(status)
}
