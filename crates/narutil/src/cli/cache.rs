//! Arguments of the commands on caches.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use nixcache::compression::EncodeOptions;
use nixcache_client::gc::Unrooted;
use nixcache_client::roots::Name;

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
    pub(crate) store: Option<PathBuf>,
    /// Keep the closure in the cache under this name, until `gc` finds that it is not wanted any more [default: `default`, and none with
    /// --queue].
    #[arg(long, value_name = "NAME", env = "NARUTIL_ROOT")]
    pub(crate) root: Option<Name>,
    /// Keep nothing: what is published is safe from `gc` only while it is young, or another root lists it.
    #[arg(long)]
    pub(crate) no_root: bool,
    /// Say something beside the root: a commit, a pipeline; may be given again.
    #[arg(long = "label", value_name = "NAME=TEXT", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Ask the cache about all paths, also about those that its last root of this name lists.
    #[arg(long)]
    pub(crate) verify_present: bool,
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
    pub(crate) store: Option<PathBuf>,
    /// Sign what is published again with the secret key in this file; may be given again.
    #[arg(long = "key", value_name = "FILE", requires = "sources")]
    pub(crate) keys: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (name, label) = text.split_once('=').ok_or("expected NAME=TEXT")?;
    if name.is_empty() { Err("expected a name before =") } else { Ok((name.to_owned(), label.to_owned())) }
}

/// A number of bytes: K, M, G and T, also with B or iB, are powers of 1024.
fn size(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "expected a number of bytes, or one with K, M, G or T, as in 50G, 50GB or 50GiB";
    let (number, unit) = number_and_unit(text).ok_or(WRONG)?;
    let unit = unit.to_ascii_uppercase();
    let power = match unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit) {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(WRONG),
    };
    number.checked_mul(1 << (10 * power)).ok_or("that is too much")
}

fn unrooted(text: &str) -> Result<Unrooted, &'static str> {
    match text {
        "keep" => Ok(Unrooted::Keep),
        "remove" => Ok(Unrooted::Remove),
        text => age(text).map(Unrooted::OlderThan).map_err(|_| "expected keep, remove, or an age, as in 30d"),
    }
}

#[derive(Args, Debug)]
pub(crate) struct RootsArgs {
    /// The cache: a directory, or a URL.
    pub(crate) cache: OsString,
    /// Only the generations of this name.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<Name>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RootCommand {
    /// Never collect a root, whatever the policy of `gc`.
    Pin(RootArgs),
    /// Leave it to the policy of `gc` again.
    Unpin(RootArgs),
    /// Remove a root: all generations of the name, or one. What it alone keeps goes with the next `gc`.
    Remove(RootArgs),
    /// Say something beside it: a commit, a pipeline.
    Label(LabelArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RootArgs {
    /// The cache: a directory, or a URL.
    pub(crate) cache: OsString,
    /// The root: its name, perhaps with a generation as `roots` prints it. Without one, `remove` takes all generations, and `pin`,
    /// `unpin` and `label` the newest.
    #[arg(value_name = "NAME[/GENERATION]")]
    pub(crate) root: String,
    /// The generation.
    #[arg(long, value_name = "GENERATION")]
    pub(crate) generation: Option<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    pub(crate) root: RootArgs,
    /// What to say. A label without text is taken away.
    #[arg(value_name = "NAME=TEXT", required = true, value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// The cache: a directory, or the URL of what can be listed.
    pub(crate) cache: OsString,
    /// Keep the N most recently used generations of each root. Generations of equal closures count once.
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<usize>,
    /// Keep roots that were used within this time: 30d, 2w, 12h.
    #[arg(long, value_name = "AGE", value_parser = age, alias = "delete-older-than")]
    pub(crate) keep_within: Option<Duration>,
    /// Drop the least recently used roots until what the others list has no more bytes than this: 50G.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// What to do with paths that no root has ever listed, such as those of `nix copy` and of `push --no-root`: keep them, remove
    /// them, or remove those older than AGE.
    #[arg(long, value_name = "keep|remove|AGE", default_value = "keep", value_parser = unrooted)]
    pub(crate) unrooted: Unrooted,
    /// Keep these paths with their closures, or those in these files, one a line: for what was published without roots.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) root_path: Vec<OsString>,
    /// Keep what is younger, with all that it refers to.
    #[arg(long, value_name = "AGE", default_value = "1d", value_parser = age)]
    pub(crate) grace: Duration,
    /// Remove NARs together with their narinfos, rather than in the next run: a client that has just read a narinfo does not find its NAR.
    #[arg(long)]
    pub(crate) now: bool,
    /// How long to wait for pushes that are under way before NARs are removed; then those stay until the next run.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = age)]
    pub(crate) patience: Duration,
    /// Remove at most N objects a second.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<NonZeroUsize>,
    /// Go on even if no root, lease or named path keeps anything.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Only print what would go, and why.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    Some((digits.parse().ok()?, &text[digits.len()..]))
}

/// A time: seconds, minutes, hours, days, weeks, months of 30 days or years of 365.
fn age(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "expected a number and s, m, h, d, w, mo or y, as in 12h or 30days";
    let (number, unit) = number_and_unit(text).ok_or(WRONG)?;
    let seconds: u64 = match unit.trim_start() {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 60 * 60,
        "d" | "day" | "days" => 24 * 60 * 60,
        "w" | "week" | "weeks" => 7 * 24 * 60 * 60,
        "mo" | "month" | "months" => 30 * 24 * 60 * 60,
        "y" | "year" | "years" => 365 * 24 * 60 * 60,
        "" if number == 0 => 1,
        _ => return Err(WRONG),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or("that is too long")
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
    #[arg(value_name = "PATH", required_unless_present = "root")]
    pub(crate) paths: Vec<OsString>,
    /// Fetch what this root of the first cache that has it keeps, in the place of PATH; all narinfos come at once.
    #[arg(long, value_name = "NAME", conflicts_with = "paths")]
    pub(crate) root: Option<Name>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_are_read_as_people_write_them() {
        const DAY: u64 = 24 * 60 * 60;
        for (text, seconds) in
            [("30days", 30 * DAY), ("2w", 14 * DAY), ("1mo", 30 * DAY), ("30d", 30 * DAY), ("12h", DAY / 2), ("0", 0)]
        {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, bytes) in [("60MB", 60 << 20), ("50G", 50 << 30), ("50GiB", 50 << 30), ("500m", 500 << 20), ("7", 7)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "d", "1", "1x", "-1d", "99999999999999999999d", "18446744073709551615y"] {
            assert!(age(text).is_err(), "{text}");
        }
        for text in ["", "G", "1X", "1iBB", "18446744073709551615T"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(unrooted("2w"), Ok(Unrooted::OlderThan(Duration::from_secs(14 * DAY))));
        assert!(unrooted("removed").is_err());
    }
}
