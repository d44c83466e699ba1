//! Parses the arguments of the process into a command, or into what is printed instead.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::Parser;
use clap::error::{Error, ErrorKind};
use nixcache_client::cache::CacheUrl;
use nixcache_client::source::Source;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Status};

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
