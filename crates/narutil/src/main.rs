//! `narutil`: pack, inspect, hash, check and restore Nix archives.
//!
//! The work is done by the library `nixcache`; here are arguments, files, progress and printing.

mod address_space;
mod cache;
mod cli;
mod command;
mod failure;
mod graph;
mod input;
mod output;
mod progress;
mod signals;
mod target;

use std::process::ExitCode;

use clap::Parser;

use self::cli::{Cli, Command, KeyCommand, NarinfoCommand};

fn main() -> ExitCode {
    address_space::economise();
    let cli = Cli::parse();
    explain(cli.common.verbose);
    raise_open_files_limit();
    let done = match &cli.command {
        Command::Pack(args) => command::pack::run(&cli.common, args),
        Command::Unpack(args) => command::unpack::run(&cli.common, args),
        Command::Ls(args) => command::ls::run(&cli.common, args),
        Command::Cat(args) => command::cat::run(&cli.common, args),
        Command::Hash(args) => Ok(command::hash::run(&cli.common, args)),
        Command::Check(args) => Ok(command::check::run(&cli.common, args)),
        Command::Scan(args) => command::scan::run(&cli.common, args),
        Command::Narinfo(NarinfoCommand::Show(args)) => command::narinfo::show(&cli.common, args),
        Command::Narinfo(NarinfoCommand::Check(args)) => command::narinfo::check(&cli.common, args),
        Command::Narinfo(NarinfoCommand::Fingerprint(args)) => command::narinfo::fingerprint(&cli.common, args),
        Command::Key(KeyCommand::Generate(args)) => command::key::generate(&cli.common, args),
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
        Command::Completions(args) => command::generate::completions(args),
        Command::Man(args) => command::generate::man(args),
    };
    match done {
        Ok(status) => status.into(),
        Err(failure) => failure.report().into(),
    }
}

/// Sends what the program explains about itself to stderr: nothing by default.
fn explain(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    // As no-color.org says: set, and not empty.
    let colored = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .with_ansi(colored && std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

/// A tree takes one open descriptor for each level of nesting, which `--max-depth` may raise far above the usual limit.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        tracing::debug!(?current, ?maximum, ?raised, "limit of open files");
    }
}
