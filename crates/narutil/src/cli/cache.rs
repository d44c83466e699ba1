//! Arguments of the commands on caches.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use nixcache::compression::EncodeOptions;
use nixcache_client::gc::Unrooted;
use nixcache_client::roots::RootName;

use super::closure::{From, Selection};
use super::common::DepthArgs;
use super::examples;
use super::reach::Reach;
use super::value::{KeyArgs, SIGNATURE_OPTIONS, age, cache, key_file, label, size, unrooted};

/// Headings of groups of options in help texts.
const ROOT_OPTIONS: &str = "Root options";
const REPAIR_OPTIONS: &str = "Repair options";

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct PushArgs {
    /// Store paths, base names, hash parts, or links into the store such as ./result.
    ///
    /// `-` reads paths from standard input, one per line.
    #[arg(value_name = "PATH", required_unless_present_any = ["add", "queue", "all"])]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Publish in CACHE, a directory or a URL. It is created if necessary.
    #[arg(long, value_name = "CACHE", value_parser = cache())]
    pub(crate) to: OsString,
    #[command(flatten)]
    pub(crate) from: From,
    /// Keep the closure in the cache under the root NAME [default: `default`; with --queue none].
    ///
    /// The push creates a generation of the root. The closure stays in the cache as long as the
    /// policy of `gc` selects that generation.
    #[arg(long, value_name = "NAME", env = "NARUTIL_ROOT", help_heading = ROOT_OPTIONS)]
    pub(crate) root: Option<RootName>,
    /// Create no root.
    ///
    /// `gc` may then remove the paths after its grace period, unless another root keeps them.
    #[arg(long, help_heading = ROOT_OPTIONS)]
    pub(crate) no_root: bool,
    /// Attach a label to the root, such as a commit or a pipeline. May be repeated.
    #[arg(long = "label", value_name = "NAME=TEXT", value_parser = label, help_heading = ROOT_OPTIONS)]
    pub(crate) labels: Vec<(String, String)>,
    /// Ask the cache for all paths, including those that the last root of this name lists.
    #[arg(long, help_heading = ROOT_OPTIONS)]
    pub(crate) verify_present: bool,
    /// Publish a plain tree, under NAME or its own name. May be repeated.
    ///
    /// The tree becomes the content-addressed path that `nix store add` makes of it.
    #[arg(long, value_name = "[NAME=]PATH")]
    pub(crate) add: Vec<OsString>,
    /// Publish the store paths listed in the files of DIR, and remove finished files.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["paths", "all", "keep_going", "add", "no_closure", "dry_run"])]
    pub(crate) queue: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Compress NARs with zstd, xz, none, ... [default: as the URL says, otherwise zstd].
    #[arg(long, value_name = "ALGO[:LEVEL]")]
    pub(crate) compression: Option<EncodeOptions>,
    /// Publish only the given paths. Their references must be in the cache.
    #[arg(long, alias = "no-recursive")]
    pub(crate) no_closure: bool,
    /// Skip paths that CACHE has with a signature by a --trusted key. May be repeated.
    #[arg(long, value_name = "CACHE", requires = "trusted", value_parser = cache(), help_heading = SIGNATURE_OPTIONS)]
    pub(crate) skip: Vec<OsString>,
    /// Trust the public key KEY for --skip. May be repeated.
    ///
    /// KEY is `name:base64` (several separated by blanks), a file with keys or lines of nix.conf,
    /// or the word `nix.conf` for the keys that Nix on this machine trusts.
    #[arg(long, alias = "trusted-public-keys", value_name = "KEY", help_heading = SIGNATURE_OPTIONS)]
    pub(crate) trusted: Vec<OsString>,
    /// Print the paths that would be published, one per line, and publish nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write no listings (`.ls`).
    #[arg(long)]
    pub(crate) no_listing: bool,
    /// Index debug information by build ID.
    #[arg(long)]
    pub(crate) debug_info: bool,
    /// Publish the build logs of all paths, including those that the cache has.
    ///
    /// DIR is `…/log/nix` or the `drvs` in it [default: NIX_LOG_DIR, otherwise the log directory of
    /// the store].
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    #[allow(clippy::doc_markdown, reason = "the help shows it as it is")]
    #[allow(clippy::option_option, reason = "clap: not given, given without a value, given with one")]
    pub(crate) logs: Option<Option<PathBuf>>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("signing").args(["key", "key_env"]).multiple(true).requires("sources"))]
pub(crate) struct AuditArgs {
    /// The cache: a directory or a URL.
    pub(crate) cache: OsString,
    /// Trust the public key KEY. May be repeated. Without any, signatures are not verified.
    ///
    /// KEY is `name:base64` (several separated by blanks), a file with keys or lines of nix.conf,
    /// or the word `nix.conf` for the keys that Nix on this machine trusts.
    #[arg(long = "trusted", alias = "trusted-public-keys", value_name = "KEY")]
    pub(crate) trusted: Vec<OsString>,
    /// Read all NARs, and check their hashes, sizes, validity and listings.
    #[arg(long)]
    pub(crate) contents: bool,
    /// Repair what can be repaired safely, after showing the plan.
    ///
    /// Removes leftovers, and withdraws what cannot be served together with its referrers.
    #[arg(long, help_heading = REPAIR_OPTIONS)]
    pub(crate) repair: bool,
    /// Show the plan, and change nothing.
    #[arg(long, requires = "repair", help_heading = REPAIR_OPTIONS)]
    pub(crate) dry_run: bool,
    /// Remove leftovers older than AGE, such as 1d, 12h, 30m or 90s.
    ///
    /// Younger ones may belong to a running push.
    #[arg(long, value_name = "AGE", requires = "repair", default_value = "1d", value_parser = age, help_heading = REPAIR_OPTIONS)]
    pub(crate) older_than: Duration,
    /// Publish withdrawn paths and their closures again from SOURCE. May be repeated.
    ///
    /// SOURCE is db:FILE, registration:FILE or json:FILE.
    #[arg(long = "from", value_name = "SOURCE", requires = "repair", value_parser = cache(), help_heading = REPAIR_OPTIONS)]
    pub(crate) sources: Vec<OsString>,
    /// Read these paths from DIR/nix/store [default: the store of the database, otherwise /].
    #[arg(long, value_name = "DIR", requires = "sources", help_heading = REPAIR_OPTIONS)]
    pub(crate) store: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RootsArgs {
    /// The cache: a directory or a URL.
    pub(crate) cache: OsString,
    /// List only the generations of this root.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<RootName>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RootCommand {
    /// Pin a root, so that `gc` always keeps it.
    #[command(after_help = examples::PIN)]
    Pin(RootArgs),
    /// Unpin a root, so that the policy of `gc` applies to it again.
    #[command(after_help = examples::UNPIN)]
    Unpin(RootArgs),
    /// Remove a root: one generation, or all generations of the name.
    ///
    /// The next `gc` removes the paths that only this root kept.
    #[command(after_help = examples::REMOVE)]
    Remove(RootArgs),
    /// Attach labels to a root, such as a commit or a pipeline.
    #[command(after_help = examples::LABEL)]
    Label(LabelArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RootArgs {
    /// The cache: a directory or a URL.
    pub(crate) cache: OsString,
    /// Name of the root, with an optional generation as `roots` prints it.
    ///
    /// Without a generation, `remove` removes all of them, and `pin`, `unpin` and `label` change
    /// the newest.
    #[arg(value_name = "NAME[/GENERATION]")]
    pub(crate) root: String,
    /// Generation of the root.
    #[arg(long, value_name = "GENERATION")]
    pub(crate) generation: Option<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct LabelArgs {
    #[command(flatten)]
    pub(crate) root: RootArgs,
    /// Label to attach. A label without text is removed.
    #[arg(value_name = "NAME=TEXT", required = true, value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct GcArgs {
    /// The cache: a directory, or the URL of a cache that can be listed.
    pub(crate) cache: OsString,
    /// Keep the N most recently used generations of each root.
    ///
    /// Generations with equal closures count once.
    #[arg(long, value_name = "N")]
    pub(crate) keep_last: Option<usize>,
    /// Keep roots that were used within AGE, such as 30d, 2w or 12h.
    #[arg(long, value_name = "AGE", value_parser = age, alias = "delete-older-than")]
    pub(crate) keep_within: Option<Duration>,
    /// Drop the least recently used roots until the others fit into SIZE, such as 50G.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// Keep or remove paths that no root has ever listed, or remove those older than AGE.
    ///
    /// Paths from `nix copy` and `push --no-root` are such paths.
    #[arg(long, value_name = "keep|remove|AGE", default_value = "keep", value_parser = unrooted)]
    pub(crate) unrooted: Unrooted,
    /// Keep PATH and its closure, although no root lists it. May be repeated.
    ///
    /// PATH can also be a file of paths, one per line.
    #[arg(long, value_name = "PATH")]
    pub(crate) root_path: Vec<OsString>,
    /// Grace period: keep everything younger than AGE, with its closure.
    #[arg(long, value_name = "AGE", default_value = "1d", value_parser = age)]
    pub(crate) grace: Duration,
    /// Remove NARs together with their narinfos instead of in the next run.
    ///
    /// A client that has just read a narinfo may then miss its NAR.
    #[arg(long)]
    pub(crate) now: bool,
    /// Wait up to TIME for running pushes before removing NARs.
    ///
    /// If they run longer, the NARs stay until the next run.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = age)]
    pub(crate) patience: Duration,
    /// Remove at most N objects per second.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<NonZeroUsize>,
    /// Continue even if no root, lease or named path keeps anything.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Print what would be removed and why, and remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// The cache: a directory or a URL.
    pub(crate) cache: Option<OsString>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Trust the public key KEY [default: the keys of nix.conf]. May be repeated.
    ///
    /// KEY is `name:base64` (several separated by blanks), a file with keys or lines of nix.conf,
    /// or the word `nix.conf` for the keys that Nix on this machine trusts.
    #[arg(long, alias = "trusted-public-keys", value_name = "KEY", help_heading = SIGNATURE_OPTIONS)]
    pub(crate) trusted: Vec<OsString>,
    /// Write a small object into the cache and remove it again, to check the rights of a push.
    #[arg(long, requires = "cache")]
    pub(crate) write: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    /// The cache: a directory or a URL.
    pub(crate) cache: OsString,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Secret keys to sign a root with that a pull creates.
#[derive(Args, Clone, Debug)]
pub(crate) struct RootKeyArgs {
    /// Sign the root that --root creates with the secret key in FILE, or `-`. May be repeated.
    #[arg(id = "key", long = "key", value_name = "FILE", value_parser = key_file(), requires = "root", help_heading = ROOT_OPTIONS)]
    files: Vec<PathBuf>,
    /// Sign that root with the secret key in the environment variable NAME. May be repeated.
    #[arg(id = "key_env", long = "key-env", value_name = "NAME", requires = "root", help_heading = ROOT_OPTIONS)]
    variables: Vec<String>,
}

impl RootKeyArgs {
    pub(crate) fn to_key_args(&self) -> KeyArgs {
        KeyArgs { files: self.files.clone(), variables: self.variables.clone() }
    }
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("target").required(true))]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct PullArgs {
    /// Store paths, base names, hash parts, or links into the store such as ./result.
    ///
    /// `-` reads paths from standard input, one per line.
    #[arg(value_name = "PATH", required_unless_present_any = ["root", "roots", "all"])]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Fetch the closure of the root NAME. With PATH and --to: create this root in CACHE.
    ///
    /// The closure comes from the first cache that has the root. With --to, the same root is
    /// created there.
    #[arg(long, value_name = "NAME", help_heading = ROOT_OPTIONS)]
    pub(crate) root: Option<RootName>,
    /// Fetch the closures of all roots.
    ///
    /// With --to, the same roots are created there, with their labels and pins.
    #[arg(long, conflicts_with_all = ["paths", "root", "all", "no_closure"], help_heading = ROOT_OPTIONS)]
    pub(crate) roots: bool,
    /// Mark the fetched roots as used now, for the policy of `gc`.
    ///
    /// If this is not permitted, narutil warns and continues.
    #[arg(long, help_heading = ROOT_OPTIONS)]
    pub(crate) touch: bool,
    /// Attach a label to the root that --root creates. May be repeated.
    #[arg(long = "label", value_name = "NAME=TEXT", value_parser = label, requires = "root", help_heading = ROOT_OPTIONS)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) root_keys: RootKeyArgs,
    /// Fetch from CACHE, a directory or a URL. May be repeated.
    ///
    /// Caches are asked in the order of their priorities. Caches of equal priority are asked in the
    /// order given.
    #[arg(long, value_name = "CACHE", required = true, value_parser = cache())]
    pub(crate) from: Vec<OsString>,
    /// Unpack the paths into the store at DIR/nix/store, with the modes and times of a Nix store.
    #[arg(long, value_name = "DIR", group = "target")]
    pub(crate) into: Option<PathBuf>,
    /// Copy the NARs and narinfos unchanged to CACHE. It is created if necessary.
    #[arg(long, value_name = "CACHE", group = "target")]
    pub(crate) to: Option<OsString>,
    /// Write the decompressed NARs to DIR/<base name>.nar.
    #[arg(long, value_name = "DIR", group = "target")]
    pub(crate) nar: Option<PathBuf>,
    /// Trust the public key KEY. May be repeated.
    ///
    /// KEY is `name:base64` (several separated by blanks), a file with keys or lines of nix.conf,
    /// or the word `nix.conf` for the keys that Nix on this machine trusts. Without trusted keys,
    /// only content-addressed paths are fetched, which need no signature.
    #[arg(long, alias = "trusted-public-keys", value_name = "KEY", help_heading = SIGNATURE_OPTIONS)]
    pub(crate) trusted: Vec<OsString>,
    /// Accept all narinfos, signed or not.
    #[arg(long, conflicts_with = "trusted", help_heading = SIGNATURE_OPTIONS)]
    pub(crate) no_check_sigs: bool,
    /// Write the registration of the whole closure to FILE, for `nix-store --load-db`.
    #[arg(long, value_name = "FILE")]
    pub(crate) registration: Option<PathBuf>,
    /// Fetch only the given paths. With --to, their references must be in that cache.
    #[arg(long, alias = "no-recursive")]
    pub(crate) no_closure: bool,
    /// Check the hashes of paths that are present, instead of relying on their names.
    #[arg(long, conflicts_with = "to")]
    pub(crate) check: bool,
    /// Print the paths that would be fetched, one per line, and fetch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write no listings (`.ls`) to the cache.
    #[arg(long, requires = "to")]
    pub(crate) no_listing: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}
