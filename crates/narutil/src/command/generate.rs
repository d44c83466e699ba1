//! `narutil completions` and `narutil man`

use std::io;

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::failure::{Failure, Result, Status};
use crate::output::print;

pub(crate) fn completions(args: &CompletionsArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "narutil", &mut script);
    print(script.trim_ascii_end())?;
    Ok(Status::Ok)
}

pub(crate) fn man(args: &ManArgs) -> Result {
    let fail = |error: io::Error| Failure::failed(&args.directory, error);
    std::fs::create_dir_all(&args.directory).map_err(fail)?;
    clap_mangen::generate_to(Cli::command(), &args.directory).map_err(fail)?;
    Ok(Status::Ok)
}
