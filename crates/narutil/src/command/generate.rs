//! `narutil completions` and `narutil man`

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

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
    fs::create_dir_all(&args.directory).map_err(fail)?;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    write_pages(&root, &args.directory).map_err(fail)?;
    Ok(Status::Ok)
}

/// Writes the page of a command and those of its subcommands.
fn write_pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_pages(inner, directory)?;
    }
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        page.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    if let Some(examples) = command.get_after_help() {
        write_examples(&mut text, &examples.to_string())?;
    }
    text.write_all(STATUS_AND_ENVIRONMENT.as_bytes())?;
    if command.get_version().is_some() {
        page.render_version_section(&mut text)?;
    }
    fs::write(directory.join(page.get_filename()), text)
}

/// Writes the examples of a help text, each line as it is.
fn write_examples(page: &mut Vec<u8>, help: &str) -> io::Result<()> {
    writeln!(page, ".SH EXAMPLES\n.nf")?;
    for line in help.lines().skip(1) {
        let line = line.strip_prefix("  ").unwrap_or(line);
        writeln!(page, "{}", line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq"))?;
    }
    writeln!(page, ".fi")
}

/// The sections on the exit status and the environment, which all commands share.
const STATUS_AND_ENVIRONMENT: &str = "\
.SH EXIT STATUS
.TP
\\fB0\\fR
Success, and the answer is yes.
.TP
\\fB1\\fR
The data is bad, or the answer is no: malformed input, a hash mismatch, no valid signature, something missing.
.TP
\\fB2\\fR
Wrong usage.
.TP
\\fB3\\fR
The command could not do its work: I/O, network, permissions, no such file.
.TP
\\fB141\\fR
The program that reads standard output has closed it.
.SH ENVIRONMENT
.TP
\\fBNARUTIL_ROOT\\fR
The root that \\fBpush\\fR creates, as \\fB\\-\\-root\\fR.
.TP
\\fBNIX_STORE_DIR\\fR
The store directory, as \\fB\\-\\-store\\-dir\\fR.
.TP
\\fBNIX_STATE_DIR\\fR, \\fBNIX_LOG_DIR\\fR
Where Nix keeps its database and its build logs.
.TP
\\fBNIX_CONFIG\\fR, \\fBNIX_CONF_DIR\\fR, \\fBNIX_USER_CONF_FILES\\fR, \\fBXDG_CONFIG_HOME\\fR, \\fBXDG_CONFIG_DIRS\\fR
Settings of Nix: trusted keys, netrc file, certificates.
.TP
\\fBAWS_*\\fR, \\fBGOOGLE_*\\fR, \\fBAZURE_*\\fR
Credentials and endpoints of buckets, as the tools of their providers read them.
.TP
\\fBNIXCACHE_BEARER_TOKEN\\fR, \\fBNETRC\\fR
Credentials for web servers: \\fIHOST=TOKEN\\fR, several separated by blanks; a netrc file.
.TP
\\fBNIX_SSL_CERT_FILE\\fR, \\fBSSL_CERT_FILE\\fR, \\fBSSL_CERT_DIR\\fR
Certificates that are trusted in addition to, or instead of, those of the system.
.TP
\\fBNO_COLOR\\fR
If set and not empty, messages have no colors.
";
