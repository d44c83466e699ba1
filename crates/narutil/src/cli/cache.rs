//! Arguments of the commands on caches.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use nixcache::compression::EncodeOptions;

use super::closure::From;
use crate::cache::Reach;

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct PushArgs {
    /// Store paths, their base names or hash parts, or links into the store.
    #[arg(value_name = "PATH", required_unless_present_any = ["add", "queue"])]
    pub(crate) paths: Vec<OsString>,
    /// The cache: a directory, or a URL. A directory or bucket that is none yet becomes one.
    #[arg(long, value_name = "CACHE")]
    pub(crate) to: OsString,
    #[command(flatten)]
    pub(crate) from: From,
    /// Where the store is whose paths these are: below DIR, as DIR/nix/store [default: where the database is; else /].
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Publish plain trees: each becomes the path that `nix store add` makes of it, under the name that it has or is given.
    #[arg(long, value_name = "[NAME=]PATH", num_args = 1..)]
    pub(crate) add: Vec<OsString>,
    /// Publish the paths whose names lie in the files of this directory, and remove each file once its paths are published.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["paths", "add", "no_closure", "dry_run"])]
    pub(crate) queue: Option<PathBuf>,
    /// Sign with the secret key in this file; may be given again.
    #[arg(long = "key", value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,
    /// How to compress: zstd, xz, none and so on, and a level [default: what the URL says, else zstd].
    #[arg(long, value_name = "ALGO[:LEVEL]")]
    pub(crate) compression: Option<EncodeOptions>,
    /// Publish the paths only, and not what they refer to, which has to be in the cache.
    #[arg(long)]
    pub(crate) no_closure: bool,
    /// Leave out what this cache has, under a signature that verifies by --trusted; may be given again.
    #[arg(long, value_name = "CACHE", requires = "trusted")]
    pub(crate) skip: Vec<OsString>,
    /// A public key, `name:base64`, or a file of them: whose signatures count for --skip.
    #[arg(long, value_name = "KEY", num_args = 1..)]
    pub(crate) trusted: Vec<OsString>,
    /// Only print what would be published, a path a line.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write no listings (`.ls`).
    #[arg(long)]
    pub(crate) no_listing: bool,
    /// Index debug information by build ids.
    #[arg(long)]
    pub(crate) debug_info: bool,
    /// Publish the logs of the builds, too, from this directory [default: that of Nix].
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "/nix/var/log/nix/drvs")]
    pub(crate) logs: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    /// The cache: a directory, or a URL.
    pub(crate) cache: OsString,
    /// A public key to trust, `name:base64`, or a file of them, one a line; may be given again. Without any, signatures are not verified.
    #[arg(long = "trusted", value_name = "KEY")]
    pub(crate) trusted: Vec<OsString>,
    /// Also read all NARs: hashes and sizes of files and NARs, that they are NARs, and that listings are theirs.
    #[arg(long)]
    pub(crate) contents: bool,
    /// Do what is safe: show the plan, then remove what is left over, and withdraw what cannot be served with all that refer to it.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Only show the plan.
    #[arg(long, requires = "repair")]
    pub(crate) dry_run: bool,
    /// How old leftovers must be to be removed, since younger ones may be of a push that is under way: 1d, 12h, 30m, 90s.
    #[arg(long, value_name = "AGE", requires = "repair", default_value = "1d", value_parser = age)]
    pub(crate) older_than: Duration,
    /// Publish what was withdrawn again, with its closure, from here: db:FILE, registration:FILE or json:FILE; may be given again.
    #[arg(long = "from", value_name = "SOURCE", requires = "repair")]
    pub(crate) sources: Vec<OsString>,
    /// Where the store is whose paths are published again: below DIR, as DIR/nix/store [default: where the database is; else /].
    #[arg(long, value_name = "DIR", requires = "sources")]
    pub(crate) root: Option<PathBuf>,
    /// Sign what is published again with the secret key in this file; may be given again.
    #[arg(long = "key", value_name = "FILE", requires = "sources")]
    pub(crate) keys: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// A number and a unit.
fn age(text: &str) -> Result<Duration, &'static str> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "expected a number and d, h, m or s, as in 12h")?;
    let seconds = match &text[digits.len()..] {
        "d" => 24 * 60 * 60,
        "h" => 60 * 60,
        "m" => 60,
        "s" => 1,
        "" if number == 0 => 1,
        _ => return Err("expected d, h, m or s after the number, as in 12h"),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    /// The cache: a directory, or a URL.
    pub(crate) cache: OsString,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("target").required(true))]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct PullArgs {
    /// Store paths, their base names or hash parts.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,
    /// The caches: directories, or URLs. They are asked in the order of their priorities, and among equals in this one.
    #[arg(long, value_name = "CACHE", required = true, num_args = 1..)]
    pub(crate) from: Vec<OsString>,
    /// Unpack the paths into the store below DIR, as DIR/nix/store/..., with the modes and times of a store.
    #[arg(long, value_name = "DIR", group = "target")]
    pub(crate) into: Option<PathBuf>,
    /// Copy the paths to this cache, NARs and narinfos as they are. A directory or bucket that is none yet becomes one.
    #[arg(long, value_name = "CACHE", group = "target")]
    pub(crate) to: Option<OsString>,
    /// Put the NARs of the paths into this directory, decompressed, as DIR/<base name>.nar.
    #[arg(long, value_name = "DIR", group = "target")]
    pub(crate) nar: Option<PathBuf>,
    /// A public key, `name:base64`, or a file of them: whose signatures count.
    #[arg(long, value_name = "KEY", num_args = 1.., required_unless_present = "no_check_sigs")]
    pub(crate) trusted: Vec<OsString>,
    /// Believe every narinfo, signed or not.
    #[arg(long, conflicts_with = "trusted")]
    pub(crate) no_check_sigs: bool,
    /// Also write what `nix-store --load-db` reads, of the whole closure.
    #[arg(long, value_name = "FILE")]
    pub(crate) registration: Option<PathBuf>,
    /// Fetch the paths only, and not what they refer to. A cache that is written to has to have that.
    #[arg(long)]
    pub(crate) no_closure: bool,
    /// Hash what is there already, instead of relying on its name.
    #[arg(long, conflicts_with = "to")]
    pub(crate) check: bool,
    /// Only print what would be fetched, a path a line.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write no listings (`.ls`) to the cache.
    #[arg(long, requires = "to")]
    pub(crate) no_listing: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
