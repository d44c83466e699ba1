//! The command line of `narutil`: arguments, files, progress and printing. The libraries `nixcache`
//! and `nixcache-client` do the work.
//!
//! This is a library so that the program is one function, and so that its parser of arguments can
//! be fuzzed. Programs should depend on `nixcache` and `nixcache-client` instead.

#[macro_use]
mod say;
mod address_space;
mod arguments;
mod cache;
mod cli;
mod command;
mod failure;
mod graph;
mod input;
mod json;
mod keys;
mod output;
mod progress;
mod report;
mod secret;
mod signals;
mod target;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use self::cli::{Cli, Command, KeyCommand, NarinfoCommand};
use self::failure::{Failure, Result};

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    address_space::economise();
    signals::install();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    secret::remember(&arguments);
    say::install_panic_hook();
    let status = match arguments::read(&arguments) {
        Ok(cli) => run(cli),
        Err(refusal) => refusal.report(),
    };
    status.into()
}

/// Parses arguments, the name of the program first, without access to files or the network.
///
/// An error is the message that the program would print, or the requested help. It shows no secret
/// from the arguments.
pub fn parse(arguments: &[OsString]) -> std::result::Result<(), String> {
    let secrets = secret::Secrets::of(arguments);
    let read = arguments::read(arguments).map_err(|refusal| refusal.message);
    let checked = read.and_then(|cli| {
        let failures: Vec<String> = arguments::check(&cli).into_iter().filter_map(|failure| failure.message).collect();
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    });
    checked.map_err(|message| secrets.redact(&secret::redacted(&message)).into_owned())
}

fn run(mut cli: Cli) -> failure::Status {
    say::install(cli.common.verbose, cli.common.quiet);
    raise_open_files_limit();
    let read = arguments::read_standard_input(&mut cli.command);
    read.and_then(|()| dispatch(&cli)).unwrap_or_else(Failure::report)
}

fn dispatch(cli: &Cli) -> Result {
    match &cli.command {
        Command::Pack(args) => command::pack::run(&cli.common, args),
        Command::Unpack(args) => command::unpack::run(&cli.common, args),
        Command::Ls(args) => command::ls::run(&cli.common, args),
        Command::Cat(args) => command::cat::run(&cli.common, args),
        Command::Hash(args) => command::hash::run(&cli.common, args),
        Command::Check(args) => command::check::run(&cli.common, args),
        Command::Scan(args) => command::scan::run(&cli.common, args),
        Command::Narinfo(NarinfoCommand::Show(args)) | Command::PathInfo(args) => {
            command::narinfo::show(&cli.common, args)
        }
        Command::Narinfo(NarinfoCommand::Check(args)) => command::narinfo::check(&cli.common, args),
        Command::Narinfo(NarinfoCommand::Fingerprint(args)) => command::narinfo::fingerprint(&cli.common, args),
        Command::Key(KeyCommand::Generate(args)) | Command::GenerateKey(args) => {
            command::key::generate(&cli.common, args)
        }
        Command::Key(KeyCommand::Public(args)) => command::key::public(&cli.common, args),
        Command::Sign(args) => command::sign::run(&cli.common, args),
        Command::Verify(args) => command::verify::run(&cli.common, args),
        Command::Closure(args) => command::closure::run(&cli.common, args),
        Command::Diff(args) => command::diff::run(&cli.common, args),
        Command::Why(args) => command::why::run(&cli.common, args),
        Command::Convert(args) => command::convert::run(&cli.common, args),
        Command::Push(args) => command::push::run(&cli.common, args),
        Command::Pull(args) => command::pull::run(&cli.common, args),
        Command::Audit(args) => command::audit::run(&cli.common, args),
        Command::Info(args) => command::info::run(&cli.common, args),
        Command::Roots(args) => command::roots::list(&cli.common, args),
        Command::Root(command) => command::roots::run(&cli.common, command),
        Command::Gc(args) => command::gc::run(&cli.common, args),
        Command::Doctor(args) => command::doctor::run(&cli.common, args),
        Command::Completions(args) => command::generate::completions(args),
        Command::Man(args) => command::generate::man(args),
    }
}

/// Raises the limit of open files: a tree takes one descriptor for each level of nesting, and
/// `--max-depth` may raise that far above the usual limit.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        tracing::debug!(?current, ?maximum, ?raised, "limit of open files");
    }
}
