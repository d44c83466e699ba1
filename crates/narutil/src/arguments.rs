//! Parses the arguments of the process into a command, or into what is printed instead.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Parser;
use clap::error::{Error, ErrorKind};
use nixcache_client::cache::CacheUrl;
use nixcache_client::source::Source;

use crate::cache::is_cache;
use crate::cli::{CheckNarinfoArgs, Cli, Command, NarinfoCommand, ShowArgs, SignArgs, VerifyArgs};
use crate::failure::{Failure, Status};
use crate::output::is_standard;

/// What is printed instead of running a command: an error, help, or the version.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The message, for standard error; help is for standard output.
    pub(crate) message: String,
    error: Error,
}

/// Reads the arguments, the name of the program first.
pub(crate) fn read(arguments: &[OsString]) -> Result<Cli, Refusal> {
    Cli::try_parse_from(arguments).map(Cli::settled).map_err(|error| {
        let message = error.render().to_string();
        // Errors of clap get the form of all others.
        let message = match message.strip_prefix("error: ") {
            Some(rest) => format!("narutil: {rest}"),
            None => message,
        };
        Refusal { message: message.trim_end().to_owned(), error }
    })
}

impl Refusal {
    /// Prints the message, and returns the exit status.
    pub(crate) fn report(self) -> Status {
        match self.error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let printed = self.error.print().and_then(|()| io::stdout().flush());
                match printed {
                    Ok(()) => Status::Ok,
                    Err(error) => Failure::writing(Path::new("-"), &error).report(),
                }
            }
            _ => {
                eprintln!("{}", self.message);
                Status::Usage
            }
        }
    }
}

/// Replaces `-` among the store paths of a command by the paths on standard input, one per line.
///
/// For commands on narinfos, `-` alone is a narinfo. After the name of a cache, it is paths.
pub(crate) fn read_standard_input(command: &mut Command) -> Result<(), Failure> {
    let (paths, others): (_, Vec<&OsStr>) = match command {
        Command::Push(args) => (
            &mut args.paths,
            args.from
                .sources
                .iter()
                .map(OsString::as_os_str)
                .chain(args.keys.files.iter().map(|file| file.as_os_str()))
                .collect(),
        ),
        Command::Pull(args) => (&mut args.paths, Vec::new()),
        Command::Closure(args) => (&mut args.paths, args.from.sources.iter().map(OsString::as_os_str).collect()),
        Command::Diff(args) => (&mut args.paths, args.from.sources.iter().map(OsString::as_os_str).collect()),
        Command::Convert(args) => (&mut args.paths, args.from.iter().map(OsString::as_os_str).collect()),
        Command::Verify(VerifyArgs { targets, .. })
        | Command::Sign(SignArgs { targets, .. })
        | Command::Narinfo(NarinfoCommand::Show(ShowArgs { targets, .. }))
        | Command::PathInfo(ShowArgs { targets, .. })
        | Command::Narinfo(NarinfoCommand::Check(CheckNarinfoArgs { targets, .. }))
            if targets.first().is_some_and(|first| is_cache(Path::new(first))) =>
        {
            (targets, Vec::new())
        }
        _ => return Ok(()),
    };
    let is_input = |argument: &OsStr| is_standard(Path::new(argument));
    let Some(place) = paths.iter().position(|path| is_input(path)) else { return Ok(()) };
    let is_read_elsewhere = others.into_iter().any(|other| is_input(other) || other.as_bytes().ends_with(b":-"));
    if is_read_elsewhere || paths.iter().filter(|path| is_input(path)).count() > 1 {
        return Err(Failure::usage("-: standard input can be read only once"));
    }
    let lines = crate::input::lines(Path::new("-"))?;
    let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).map(OsString::from);
    paths.splice(place..=place, lines);
    Ok(())
}

/// The errors in arguments that clap does not parse: names of caches, sources and keys.
pub(crate) fn check(cli: &Cli) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut note = |result: Result<(), Failure>| failures.extend(result.err());
    note(cli.common.store_dir().map(drop));
    let mut cache = |argument: &OsString| note(CacheUrl::parse(argument).map(drop).map_err(Failure::usage));
    match &cli.command {
        Command::Push(args) => {
            cache(&args.to);
            args.skip.iter().for_each(&mut cache);
        }
        Command::Pull(args) => args.from.iter().chain(&args.to).for_each(cache),
        Command::Audit(args) => cache(&args.cache),
        Command::Info(args) => cache(&args.cache),
        Command::Roots(args) => cache(&args.cache),
        Command::Gc(args) => cache(&args.cache),
        Command::Diff(args) => args.caches.iter().for_each(cache),
        _ => {}
    }
    let mut source =
        |argument: &OsString| note(Source::parse(argument).map(drop).map_err(|error| Failure::source(&error)));
    match &cli.command {
        Command::Push(args) => args.from.sources.iter().for_each(source),
        Command::Audit(args) => args.sources.iter().for_each(source),
        Command::Closure(args) => args.from.sources.iter().for_each(source),
        Command::Diff(args) => args.from.sources.iter().for_each(source),
        Command::Why(args) => args.from.sources.iter().for_each(source),
        Command::Convert(args) => args.from.iter().for_each(&mut source),
        _ => {}
    }
    let keys = match &cli.command {
        Command::Push(args) => args.trusted.as_slice(),
        Command::Pull(args) => &args.trusted,
        Command::Audit(args) => &args.trusted,
        Command::Verify(args) => &args.trusted,
        _ => &[],
    };
    for argument in keys {
        note(nixcache::trust::TrustedKeys::parse(&argument.to_string_lossy()).map(drop).map_err(Failure::usage));
    }
    failures
}
