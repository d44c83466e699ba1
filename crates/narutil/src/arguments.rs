//! Parses the arguments of the process into a command, or into what is printed instead.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
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
        let message = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if arguments.len() < 2 => FIRST_COMMANDS.to_owned(),
            _ => in_our_form(&error),
        };
        Refusal { message: message.trim_end().to_owned(), error }
    })
}

/// What the program prints without arguments: the commands that people need first.
const FIRST_COMMANDS: &str = "\
narutil shares Nix store paths through binary caches, and checks them.

  narutil push ./result --to CACHE --key FILE     publish store paths with their closures
  narutil pull PATH --from CACHE --into DIR       fetch closures, verified
  narutil ls CACHE                                list the store paths of a cache
  narutil roots CACHE                             list what a cache keeps
  narutil gc CACHE --keep-last 3                  remove what no root keeps
  narutil audit CACHE                             check a whole cache; --repair mends it
  narutil verify --trusted KEY CACHE              verify signatures
  narutil closure ./result --tree                 show what a path depends on; why says why
  narutil key generate NAME -o FILE               make a signing key
  narutil doctor CACHE                            check a set-up, and say what to change

CACHE is a directory, s3://BUCKET, gs://BUCKET, az://CONTAINER or https://HOST.
`narutil --help` lists all commands, `narutil COMMAND --help` explains one.";

/// An error of clap in the form of all other messages.
fn in_our_form(error: &Error) -> String {
    let message = error.render().to_string();
    let Some(rest) = message.strip_prefix("error: ") else { return message };
    // No argument of this program is meant to begin with a dash.
    let mut lines: Vec<&str> = rest.lines().filter(|line| !line.starts_with("  tip: to pass '")).collect();
    lines.dedup_by(|line, before| line.is_empty() && before.is_empty());
    let hint = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => word_of_nix(word),
        _ => None,
    };
    let hint = hint.map(|hint| format!("  tip: {hint}\n")).unwrap_or_default();
    let mut text = format!("narutil: {}", lines.join("\n"));
    if let Some(end) = text.find("\n\n").filter(|_| !hint.is_empty()) {
        text.insert_str(end + 2, &(hint + "\n"));
    }
    text
}

/// What to type for a command that Nix or another tool has.
fn word_of_nix(word: &str) -> Option<&'static str> {
    Some(match word {
        "copy" | "upload" => "`push` publishes store paths, `pull` fetches them, and `pull --to` copies between caches",
        "download" | "fetch" | "realise" | "substitute" => "`pull` fetches store paths from caches",
        "collect-garbage" | "delete" | "prune" | "clean" => "`gc` removes what no root keeps",
        "path" | "store" | "query" => "`ls CACHE` lists the paths of a cache, `closure` what a path depends on",
        "log" => "logs are published by `push --logs`; `nix log --store CACHE` shows them",
        "pin" | "unpin" => "`root pin` and `root unpin` change a root",
        "dump-path" | "dump" | "nar" => "`pack` writes a NAR, `unpack` restores one",
        _ => return None,
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
    fn words(arguments: &[OsString]) -> Vec<&OsStr> {
        arguments.iter().map(OsString::as_os_str).collect()
    }
    let (paths, others, without) = match command {
        Command::Push(args) => {
            let keys = args.keys.files.iter().map(|file| file.as_os_str());
            (&mut args.paths, words(&args.from.sources).into_iter().chain(keys).collect(), Without::Nothing)
        }
        Command::Closure(args) => (&mut args.paths, words(&args.from.sources), Without::Nothing),
        Command::Diff(args) => (&mut args.paths, words(&args.from.sources), Without::Nothing),
        Command::Pull(args) => (&mut args.paths, Vec::new(), Without::Others),
        Command::Convert(args) => (&mut args.paths, words(args.from.as_slice()), Without::Others),
        Command::Verify(VerifyArgs { targets, .. })
        | Command::Sign(SignArgs { targets, .. })
        | Command::PathInfo(ShowArgs { targets, .. })
        | Command::Narinfo(
            NarinfoCommand::Show(ShowArgs { targets, .. }) | NarinfoCommand::Check(CheckNarinfoArgs { targets, .. }),
        ) if targets.first().is_some_and(|first| is_cache(Path::new(first))) => {
            (targets, Vec::new(), Without::Everything)
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
    let lines = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<OsString> = lines.map(OsString::from).collect();
    let is_misread = lines.is_empty()
        && match without {
            Without::Nothing => false,
            Without::Others => paths.len() == 1,
            Without::Everything => true,
        };
    if is_misread {
        return Err(Failure::usage("-: there are no paths on standard input"));
    }
    paths.splice(place..=place, lines);
    Ok(())
}

/// What a command does if no paths come from standard input.
enum Without {
    /// Nothing, unless it has other paths.
    Nothing,
    /// Something that was not meant, such as to fetch a root, unless it has other paths.
    Others,
    /// It would work on the whole cache.
    Everything,
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
