//! Arguments of the commands on caches.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use nixcache::compression::EncodeOptions;
use nixcache_client::gc::Unrooted;
use nixcache_client::roots::RootName;

use super::closure::From;
use super::reach::Reach;
use super::value::{KeyArgs, age, cache, label, size, unrooted};

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct PushArgs {
    /// Store paths, their base names or hash parts, or links into the store.
    #[arg(value_name = "PATH", required_unless_present_any = ["add", "queue"])]
    pub(crate) paths: Vec<OsString>,
    /// The cache: a directory, or a URL. A directory or bucket that is none yet becomes one.
    #[arg(long, value_name = "CACHE", value_parser = cache())]
    pub(crate) to: OsString,
    #[command(flatten)]
    pub(crate) from: From,
    /// Where the store is whose paths these are: below DIR, as DIR/nix/store [default: where the
    /// database is; else /].
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Keep the closure in the cache under this name, until `gc` finds that it is not wanted any
    /// more [default: `default`, and none with --queue].
    #[arg(long, value_name = "NAME", env = "NARUTIL_ROOT")]
    pub(crate) root: Option<RootName>,
    /// Keep nothing: what is published is safe from `gc` only while it is young, or another root
    /// lists it.
    #[arg(long)]
    pub(crate) no_root: bool,
    /// Say something beside the root: a commit, a pipeline; may be given again.
    #[arg(long = "label", value_name = "NAME=TEXT", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Ask the cache about all paths, also about those that its last root of this name lists.
    #[arg(long)]
    pub(crate) verify_present: bool,
    /// Publish plain trees: each becomes the path that `nix store add` makes of it, under the name
    /// that it has or is given.
    #[arg(long, value_name = "[NAME=]PATH")]
    pub(crate) add: Vec<OsString>,
    /// Publish the paths whose names lie in the files of this directory, and remove each file once
    /// its paths are published.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["paths", "add", "no_closure", "dry_run"])]
    pub(crate) queue: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// How to compress: zstd, xz, none and so on, and a level [default: what the URL says, else
    /// zstd].
    #[arg(long, value_name = "ALGO[:LEVEL]")]
    pub(crate) compression: Option<EncodeOptions>,
    /// Publish the paths only, and not what they refer to, which has to be in the cache.
    #[arg(long)]
    pub(crate) no_closure: bool,
    /// Leave out what this cache has, under a signature that verifies by --trusted; may be given
    /// again.
    #[arg(long, value_name = "CACHE", requires = "trusted", value_parser = cache())]
    pub(crate) skip: Vec<OsString>,
    /// Trust this public key: `name:base64`, several of them, a file that holds keys or lines of
    /// nix.conf, or the word `nix.conf` for the keys that this machine's Nix trusts. Its signatures
    /// count for --skip. May be repeated.
    #[arg(long, alias = "trusted-public-keys", value_name = "KEY")]
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
    /// Publish the build logs of all the paths, also of those that the cache has: from this
    /// directory, `…/log/nix` or the `drvs` in it [default: that of the store; NIX_LOG_DIR].
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    #[allow(clippy::doc_markdown, reason = "the help shows it as it is")]
    #[allow(clippy::option_option, reason = "clap: not given, given without a value, given with one")]
    pub(crate) logs: Option<Option<PathBuf>>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("signing").args(["key", "key_env"]).multiple(true).requires("sources"))]
pub(crate) struct AuditArgs {
    /// The cache: a directory, or a URL.
    pub(crate) cache: OsString,
    /// Trust this public key: `name:base64`, several of them, a file that holds keys or lines of
    /// nix.conf, or the word `nix.conf` for the keys that this machine's Nix trusts. May be
    /// repeated. Without any, signatures are not verified.
    #[arg(long = "trusted", alias = "trusted-public-keys", value_name = "KEY")]
    pub(crate) trusted: Vec<OsString>,
    /// Also read all NARs: hashes and sizes of files and NARs, that they are NARs, and that
    /// listings are theirs.
    #[arg(long)]
    pub(crate) contents: bool,
    /// Do what is safe: show the plan, then remove what is left over, and withdraw what cannot be
    /// served with all that refer to it.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Only show the plan.
    #[arg(long, requires = "repair")]
    pub(crate) dry_run: bool,
    /// How old leftovers must be to be removed, since younger ones may be of a push that is under
    /// way: 1d, 12h, 30m, 90s.
    #[arg(long, value_name = "AGE", requires = "repair", default_value = "1d", value_parser = age)]
    pub(crate) older_than: Duration,
    /// Publish what was withdrawn again, with its closure, from here: db:FILE, registration:FILE or
    /// json:FILE; may be given again.
    #[arg(long = "from", value_name = "SOURCE", requires = "repair", value_parser = cache())]
    pub(crate) sources: Vec<OsString>,
    /// Where the store is whose paths are published again: below DIR, as DIR/nix/store [default:
    /// where the database is; else /].
    #[arg(long, value_name = "DIR", requires = "sources")]
    pub(crate) store: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct RootsArgs {
    /// The cache: a directory, or a URL.
    pub(crate) cache: OsString,
    /// Only the generations of this name.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<RootName>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RootCommand {
    /// Never collect a root, whatever the policy of `gc`.
    Pin(RootArgs),
    /// Leave it to the policy of `gc` again.
    Unpin(RootArgs),
    /// Remove a root: all generations of the name, or one. What it alone keeps goes with the next
    /// `gc`.
    Remove(RootArgs),
    /// Say something beside it: a commit, a pipeline.
    Label(LabelArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RootArgs {
    /// The cache: a directory, or a URL.
    pub(crate) cache: OsString,
    /// The root: its name, perhaps with a generation as `roots` prints it. Without one, `remove`
    /// takes all generations, and `pin`, `unpin` and `label` the newest.
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

#[derive(Args, Clone, Debug)]
pub(crate) struct GcArgs {
    /// The cache: a directory, or the URL of what can be listed.
    pub(crate) cache: OsString,
    /// Keep the N most recently used generations of each root. Generations of equal closures count
    /// once.
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<usize>,
    /// Keep roots that were used within this time: 30d, 2w, 12h.
    #[arg(long, value_name = "AGE", value_parser = age, alias = "delete-older-than")]
    pub(crate) keep_within: Option<Duration>,
    /// Drop the least recently used roots until what the others list has no more bytes than this:
    /// 50G.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// What to do with paths that no root has ever listed, such as those of `nix copy` and of `push
    /// --no-root`: keep them, remove them, or remove those older than AGE.
    #[arg(long, value_name = "keep|remove|AGE", default_value = "keep", value_parser = unrooted)]
    pub(crate) unrooted: Unrooted,
    /// Keep this path with its closure, or the paths in this file, one a line: for what was
    /// published without roots. May be repeated.
    #[arg(long, value_name = "PATH")]
    pub(crate) root_path: Vec<OsString>,
    /// Keep what is younger, with all that it refers to.
    #[arg(long, value_name = "AGE", default_value = "1d", value_parser = age)]
    pub(crate) grace: Duration,
    /// Remove NARs together with their narinfos, rather than in the next run: a client that has
    /// just read a narinfo does not find its NAR.
    #[arg(long)]
    pub(crate) now: bool,
    /// How long to wait for pushes that are under way before NARs are removed; then those stay
    /// until the next run.
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
    #[arg(value_name = "PATH", required_unless_present_any = ["root", "roots"])]
    pub(crate) paths: Vec<OsString>,
    /// Without PATH: fetch the closure of this root of the first cache that has it; with --to,
    /// leave the same root there. With PATH and --to: leave a root of this name there.
    #[arg(long, value_name = "NAME")]
    pub(crate) root: Option<RootName>,
    /// Fetch the closures of all roots; with --to, leave the same roots there, with their labels
    /// and pins.
    #[arg(long, conflicts_with_all = ["paths", "root", "no_closure"])]
    pub(crate) roots: bool,
    /// Refresh the roots that are fetched, so that `gc` counts them as used now. That this is not
    /// permitted is only told.
    #[arg(long)]
    pub(crate) touch: bool,
    /// Fetch what can be had where some paths cannot, and exit 1.
    #[arg(short = 'k', long)]
    pub(crate) keep_going: bool,
    /// A cache: a directory, or a URL. May be repeated. Caches are asked in the order of their
    /// priorities, and among equals in this one.
    #[arg(long, value_name = "CACHE", required = true, value_parser = cache())]
    pub(crate) from: Vec<OsString>,
    /// Unpack the paths into the store below DIR, as DIR/nix/store/..., with the modes and times of
    /// a store.
    #[arg(long, value_name = "DIR", group = "target")]
    pub(crate) into: Option<PathBuf>,
    /// Copy the paths to this cache, NARs and narinfos as they are. A directory or bucket that is
    /// none yet becomes one.
    #[arg(long, value_name = "CACHE", group = "target")]
    pub(crate) to: Option<OsString>,
    /// Put the NARs of the paths into this directory, decompressed, as DIR/<base name>.nar.
    #[arg(long, value_name = "DIR", group = "target")]
    pub(crate) nar: Option<PathBuf>,
    /// Trust this public key: `name:base64`, several of them, a file that holds keys or lines of
    /// nix.conf, or the word `nix.conf` for the keys that this machine's Nix trusts. May be
    /// repeated. Without any, only content-addressed paths are fetched, which need no signature.
    #[arg(long, alias = "trusted-public-keys", value_name = "KEY")]
    pub(crate) trusted: Vec<OsString>,
    /// Accept every narinfo, signed or not.
    #[arg(long, conflicts_with = "trusted")]
    pub(crate) no_check_sigs: bool,
    /// Also write what `nix-store --load-db` reads, of the whole closure.
    #[arg(long, value_name = "FILE")]
    pub(crate) registration: Option<PathBuf>,
    /// Fetch the paths only, and not what they refer to. A cache that is written to has to have
    /// that.
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
