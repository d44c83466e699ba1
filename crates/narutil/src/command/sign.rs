//! `narutil sign`: adds signatures to narinfos, or removes them.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use futures_util::stream::StreamExt;
use nixcache_client::sign::{DirectoryLocks, SignOptions, sign_file, sign_object, sign_text};

use crate::cli::{Common, SignArgs};
use crate::failure::{Failure, Result, Status, for_each};
use crate::input::once_from_standard_input;
use crate::keys::read_keys;
use crate::output::{Output, is_standard};
use crate::report::sign::{SignTally, failure};
use crate::target::{self, Group, Remote, Report, check_selections, name_of, report_on};
use crate::text::shown;

/// Narinfos that a thread takes at once: few, since each waits for the disk.
const CHUNK_FILES: usize = 16;

/// Narinfos that a thread takes at once in a cache on another machine: many, since they are
/// requested at the same time.
const REMOTE_CHUNK_FILES: usize = 256;

pub(crate) fn run(common: &Common, args: &SignArgs) -> Result {
    let inputs =
        args.keys.files.iter().map(|file| file.as_os_str()).chain(args.targets.iter().map(OsString::as_os_str));
    once_from_standard_input(inputs)?;
    let options = SignOptions::default().with(|options| {
        options.remove.clone_from(&args.remove);
        options.dry_run = args.dry_run;
    });
    let (keys, store_dir) = (read_keys(&args.keys)?, common.store_dir()?);
    let signing = Signing {
        tally: SignTally::new(common, args.dry_run),
        options: options.with(|options| (options.keys, options.store_dir) = (keys, store_dir)),
    };
    check_selections(common, &args.targets)?;
    let status = for_each(&Group::all(common, &args.reach, &args.targets)?, |group| {
        let Some(directory) = &group.directory else { return signing.filter() };
        let asked_for = group.files()?;
        let files = group.rightly_named(&asked_for, &signing.options.store_dir);
        let misnamed = if files.len() < asked_for.len() { Status::Bad } else { Status::Ok };
        if let Some(remote) = &group.remote {
            let status = report_on(common, "signing", &files, REMOTE_CHUNK_FILES, || {
                |files: &[PathBuf]| signing.sign_remote(remote, files)
            })?;
            return Ok(status.max(misnamed));
        }
        // The narinfos are read under the locks, so that what another run has added is seen.
        let waiting = |directory: &Path| {
            if !common.quiet {
                eprintln!("narutil: {}: waiting for another run to end", shown(directory));
            }
        };
        let locks = if args.dry_run { None } else { Some(DirectoryLocks::acquire(directory, &files, waiting)) };
        let locks = locks.transpose().map_err(|error| failure(&error))?;
        let status = report_on(common, "signing", &files, CHUNK_FILES, || |files: &[PathBuf]| signing.sign(files))?;
        if let Some(locks) = &locks {
            locks.flush().map_err(|error| failure(&error))?;
        }
        drop(locks);
        Ok(status.max(misnamed))
    });
    if !args.targets.iter().all(|target| is_standard(Path::new(target))) {
        signing.tally.tell();
    }
    Ok(status)
}

/// Signs narinfos, and reports on each.
struct Signing<'a> {
    options: SignOptions,
    tally: SignTally<'a>,
}

impl Signing<'_> {
    /// Signs the narinfos in files, and reports.
    fn sign(&self, files: &[PathBuf]) -> Report {
        let mut report = Report::new();
        for file in files {
            self.tally.add(&mut report, file, sign_file(file, &self.options));
        }
        report
    }

    /// Signs narinfos in a cache on another machine, several at the same time, and reports.
    fn sign_remote(&self, remote: &Remote, files: &[PathBuf]) -> Report {
        let mut report = Report::new();
        let sign = async |file: &PathBuf| sign_object(&remote.cache, name_of(file), &self.options).await;
        let signed = futures_util::stream::iter(files).map(sign).buffered(remote.at_once);
        for (file, signed) in files.iter().zip(remote.wait(signed.collect::<Vec<_>>())) {
            self.tally.add(&mut report, file, signed);
        }
        report
    }

    /// Changes the narinfo on standard input, and writes it to standard output.
    fn filter(&self) -> Result {
        let standard = Path::new("-");
        let text = target::read(standard).map_err(|error| Failure::failed(standard, error))?;
        let signed = sign_text(&text, &self.options).map_err(|error| Failure::bad(standard, error))?;
        if self.options.dry_run {
            let mut report = Report::new();
            self.tally.report(&mut report, standard, &signed);
            let printed = io::stdout().lock().write_all(&report.lines);
            printed.map_err(|error| Failure::writing(standard, &error))?;
            return Ok(Status::Ok);
        }
        let mut output = Output::create(standard)?;
        let written = output.write_all(signed.info.as_str().as_bytes());
        written.map_err(|error| Failure::writing(standard, &error))?;
        output.commit()?;
        Ok(Status::Ok)
    }
}
