//! `narutil sign`

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::StreamExt;
use nixcache::compression::Compression;
use nixcache::narinfo::{self, NarInfo, NarInfoBuf};
use nixcache::signature::SecretKey;
use nixcache::store_path::StoreDir;
use nixcache_client::lock_directory;
use serde_json::json;

use super::key::read_keys;
use crate::cli::{Common, SignArgs};
use crate::failure::{Failure, Result, Status, for_each};
use crate::input::once_from_standard_input;
use crate::output::{self, Output, behind_links, is_standard, shown};
use crate::target::{self, Group, Remote, Report, absent, name_of, report_on};

/// narinfos that a thread takes at once: few, since each waits for the disk.
const CHUNK: usize = 16;

/// The same in a cache on another machine: many, since they are asked for at the same time.
const TOGETHER: usize = 256;

pub(crate) fn run(common: &Common, args: &SignArgs) -> Result {
    let inputs =
        args.keys.files.iter().map(|file| file.as_os_str()).chain(args.targets.iter().map(OsString::as_os_str));
    once_from_standard_input(inputs)?;
    let change = Change {
        keys: read_keys(&args.keys)?.into(),
        remove: args.remove.clone().into(),
        store_dir: common.store_dir()?,
    };
    let signing = Signing {
        change,
        dry_run: args.dry_run,
        json: common.json,
        seen: AtomicUsize::new(0),
        changed: AtomicUsize::new(0),
    };
    let status = for_each(&Group::all(common, &args.reach, &args.targets)?, |group| {
        let Some(directory) = &group.directory else { return signing.filter() };
        let asked_for = group.files()?;
        let files = rightly_named(group, &asked_for, &signing.change.store_dir);
        let misnamed = if files.len() < asked_for.len() { Status::Bad } else { Status::Ok };
        if let Some(remote) = &group.remote {
            let status = report_on(common, "signing", &files, TOGETHER, || {
                |files: &[PathBuf]| signing.sign_remote(remote, files)
            })?;
            return Ok(status.max(misnamed));
        }
        let directories = if args.dry_run { Vec::new() } else { written(directory, &files)? };
        // The narinfos are read under the locks, so that what another run has added is seen.
        let locks = directories.iter().map(|directory| lock(common, directory)).collect::<Result<Vec<_>>>()?;
        let status = report_on(common, "signing", &files, CHUNK, || |files: &[PathBuf]| signing.sign(files))?;
        for directory in &directories {
            let flushed = File::open(directory).and_then(|directory| directory.sync_all());
            flushed.map_err(|error| Failure::failed(directory, error))?;
        }
        drop(locks);
        Ok(status.max(misnamed))
    });
    let (seen, changed) = (signing.seen.into_inner(), signing.changed.into_inner());
    if !common.quiet && !args.targets.iter().all(|target| is_standard(Path::new(target))) {
        let would = if args.dry_run { "would be " } else { "" };
        eprintln!("{changed} of {seen} narinfos {would}changed");
    }
    Ok(status)
}

/// The files without those whose path has another name than was asked for, which are told.
fn rightly_named<'a>(group: &Group, files: &'a [PathBuf], store_dir: &StoreDir) -> Cow<'a, [PathBuf]> {
    if !group.has_names() {
        return files.into();
    }
    let is_right = |file: &PathBuf| {
        let text = group.read(std::slice::from_ref(file)).into_iter().next().and_then(Result::ok);
        // What cannot be read is told when it is signed.
        let info = text.as_deref().and_then(|text| NarInfo::parse(text, store_dir).ok());
        match info.and_then(|info| group.misnamed(file, &info)) {
            Some(misnamed) => {
                Failure::bad(file, misnamed).report();
                false
            }
            None => true,
        }
    };
    files.iter().filter(|file| is_right(file)).cloned().collect::<Vec<_>>().into()
}

/// What is done to each narinfo.
#[derive(Clone)]
struct Change {
    keys: Arc<[SecretKey]>,
    remove: Arc<[String]>,
    store_dir: StoreDir,
}

/// What is done to all.
struct Signing {
    change: Change,
    dry_run: bool,
    json: bool,
    seen: AtomicUsize,
    changed: AtomicUsize,
}

/// What was done to one narinfo.
struct Changed {
    info: NarInfoBuf,
    added: Vec<String>,
    removed: Vec<String>,
}

type ChangeResult = std::result::Result<(Changed, bool), narinfo::Error>;

impl Change {
    /// What a narinfo becomes, and whether that is something else.
    fn of(&self, text: &[u8]) -> ChangeResult {
        let info = NarInfo::parse(text, &self.store_dir)?;
        let is_by = |signature: &str, name: &str| signature.split_once(':').is_some_and(|(by, _)| by == name);
        let mut edit = info.edit();
        let mut removed = Vec::new();
        for name in self.remove.iter() {
            if info.signatures().any(|signature| is_by(signature, name)) {
                removed.push(name.clone());
                edit = edit.unsign(name);
            }
        }
        let mut added = Vec::new();
        let fingerprint = info.fingerprint().to_vec();
        for key in self.keys.iter() {
            let signature = key.sign(&fingerprint);
            let text = signature.to_string();
            if !info.signatures().any(|other| other == text) {
                added.push(key.name().as_str().to_owned());
            }
            edit = edit.sign(signature.as_ref());
        }
        let info = edit.finish()?;
        let differs = info.as_str().as_bytes() != text;
        Ok((Changed { info, added, removed }, differs))
    }
}

impl Signing {
    /// Changes the narinfos in files, and reports.
    fn sign(&self, files: &[PathBuf]) -> Report {
        let mut report = Report::new();
        for file in files {
            match self.sign_file(file) {
                Ok(changed) => self.report(&mut report, file, &changed),
                Err(failure) => report.failure(failure),
            }
        }
        report
    }

    fn sign_file(&self, file: &Path) -> Result<Changed> {
        let text = target::read(file).map_err(|error| Failure::failed(file, error))?;
        let (changed, differs) = self.change.of(&text).map_err(|error| not_signed(file, &text, &error))?;
        if differs && !self.dry_run {
            let mut output = Output::create(file)?;
            let written = output.write_all(changed.info.as_str().as_bytes());
            written.map_err(|error| Failure::writing(file, &error))?;
            output.commit_durably()?;
        }
        self.count(differs);
        Ok(changed)
    }

    /// Changes narinfos in a cache on another machine, several at the same time, and reports.
    fn sign_remote(&self, remote: &Remote, files: &[PathBuf]) -> Report {
        let mut report = Report::new();
        let sign = async |file: &PathBuf| self.sign_object(remote, file).await;
        let signed = futures_util::stream::iter(files).map(sign).buffered(remote.at_once);
        for (file, changed) in files.iter().zip(remote.wait(signed.collect::<Vec<_>>())) {
            match changed {
                Ok(changed) => self.report(&mut report, file, &changed),
                Err(failure) => report.failure(failure),
            }
        }
        report
    }

    /// Changes a narinfo in a cache on another machine. What is said of it is what was written, not
    /// what was there before another writer changed it.
    async fn sign_object(&self, remote: &Remote, file: &Path) -> Result<Changed> {
        let last = Arc::new(Mutex::new(None));
        let edit = {
            let (change, dry_run, last) = (self.change.clone(), self.dry_run, Arc::clone(&last));
            move |text: Option<&[u8]>| {
                let changed = text.map(|text| change.of(text));
                let written = match &changed {
                    Some(Ok((changed, true))) if !dry_run => Some(changed.info.as_str().as_bytes().to_vec()),
                    _ => None,
                };
                *last.lock().unwrap_or_else(PoisonError::into_inner) = changed;
                written
            }
        };
        remote.cache.edit(name_of(file), edit).await.map_err(|error| Failure::cache(&error))?;
        let changed = last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let changed = changed.ok_or_else(|| absent(file))?;
        let (changed, differs) = changed.map_err(|error| Failure::bad(file, error))?;
        self.count(differs);
        Ok(changed)
    }

    /// Counts a narinfo after what is to be done to it was done.
    fn count(&self, differs: bool) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.changed.fetch_add(usize::from(differs), Ordering::Relaxed);
    }

    fn report(&self, report: &mut Report, file: &Path, changed: &Changed) {
        let path = || format!("{}/{}", self.change.store_dir, changed.info.as_ref().store_path());
        if self.json {
            let file = file.to_string_lossy();
            let line = json!({ "path": path(), "file": file, "added": changed.added, "removed": changed.removed });
            report.line(line.to_string(), Status::Ok);
        } else if self.dry_run {
            for (what, names) in [("drop", &changed.removed), ("sign", &changed.added)] {
                if !names.is_empty() {
                    report.line(format!("{what}  {}  {}", path(), names.join("  ")), Status::Ok);
                }
            }
        }
    }

    /// Changes the narinfo on standard input, and writes it to standard output.
    fn filter(&self) -> Result {
        let standard = Path::new("-");
        let text = target::read(standard).map_err(|error| Failure::failed(standard, error))?;
        let (changed, _) = self.change.of(&text).map_err(|error| Failure::bad(standard, error))?;
        if self.dry_run {
            let mut report = Report::new();
            self.report(&mut report, standard, &changed);
            let printed = io::stdout().lock().write_all(&report.lines);
            printed.map_err(|error| Failure::writing(standard, &error))?;
            return Ok(Status::Ok);
        }
        let mut output = Output::create(standard)?;
        let written = output.write_all(changed.info.as_str().as_bytes());
        written.map_err(|error| Failure::writing(standard, &error))?;
        output.commit()?;
        Ok(Status::Ok)
    }
}

/// Why a narinfo stays as it is: it cannot be understood.
fn not_signed(file: &Path, text: &[u8], error: &narinfo::Error) -> Failure {
    match Compression::detect(text) {
        Some(compression) => {
            Failure::bad(file, format_args!("{error}: it is compressed with {compression}, and was not changed"))
        }
        None if text.is_empty() => Failure::bad(file, "the file is empty"),
        None => Failure::bad(file, error),
    }
}

/// The directories that are written to when files in one are: it, and those that links in it lead
/// to.
///
/// All runs have them in the same order, so that no two of them wait for each other.
fn written(directory: &Path, files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = BTreeMap::new();
    let metadata = directory.metadata().map_err(|error| Failure::failed(directory, error))?;
    found.insert((metadata.dev(), metadata.ino()), directory.to_owned());
    for file in files.iter().filter(|file| file.is_symlink()) {
        let target = behind_links(file);
        let parent = output::directory(&target);
        // What a link leads to in vain is told when it is read.
        if let Ok(metadata) = parent.metadata() {
            found.entry((metadata.dev(), metadata.ino())).or_insert_with(|| parent.to_owned());
        }
    }
    Ok(found.into_values().collect())
}

/// Waits until no other run changes narinfos in a directory.
fn lock(common: &Common, directory: &Path) -> Result<File> {
    let waiting = || {
        if !common.quiet {
            eprintln!("narutil: {}: waiting for another run to end", shown(directory));
        }
    };
    lock_directory(directory, waiting)
        .map_err(|error| Failure::failed(directory, format_args!("cannot be locked: {error}")))
}
