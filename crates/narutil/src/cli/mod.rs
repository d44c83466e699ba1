//! The command line: its commands, options and help texts.
//!
//! `common` and `reach` hold the options that many commands share, `archive`, `narinfo`, `closure`
//! and `cache` the arguments of the commands on these, `value` the parsers of option values, and
//! `examples` the examples of every help text.

mod archive;
mod cache;
mod closure;
mod common;
mod examples;
mod narinfo;
mod reach;
mod value;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::archive::{CatArgs, CheckArgs, HashArgs, LsArgs, PackArgs, ScanArgs, Source, UnpackArgs};
pub(crate) use self::cache::{
    AuditArgs, DoctorArgs, GcArgs, InfoArgs, LabelArgs, PullArgs, PushArgs, RootArgs, RootCommand, RootsArgs,
};
pub(crate) use self::closure::{ClosureArgs, ConvertArgs, DiffArgs, From, Selection, Sort, WhyArgs, source_of_store};
pub(crate) use self::common::Common;
use self::common::DepthArgs;
pub(crate) use self::narinfo::{
    CheckNarinfoArgs, FingerprintArgs, GenerateKeyArgs, KeyCommand, NarinfoCommand, PublicKeyArgs, ShowArgs, SignArgs,
    VerifyArgs,
};
pub(crate) use self::reach::Reach;
pub(crate) use self::value::KeyArgs;

/// Share Nix store paths through binary caches; work with NARs, narinfos and signatures.
///
/// narutil publishes store paths in binary caches and fetches them, verified. It audits, repairs
/// and garbage-collects caches. It also packs, lists, hashes and checks NARs, and signs and
/// verifies narinfos. A cache is a directory, a bucket (s3://, gs://, az://) or a web server
/// (https://).
///
/// `-` means standard input or output. Results go to standard output, everything else to standard
/// error.
///
/// Exit status: 0 success, and the answer is yes; 1 the data is bad, or the answer is no; 2 wrong
/// usage; 3 the command could not do its work (I/O, network, permissions).
#[derive(Debug, Parser)]
#[command(name = "narutil", version, max_term_width = 100, after_help = examples::NARUTIL)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Hands options of the command that many functions need to [`Common`].
    pub(crate) fn settled(mut self) -> Self {
        if let Some(depth) = self.command.depth() {
            self.common.set_max_depth(depth);
        }
        self
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a file, symbolic link or directory tree as a NAR.
    ///
    /// Prints `HASH  SIZE  PATH` of the NAR on standard error. If packing fails, no output file is
    /// left behind. Standard output gets nothing if packing fails within the first 16 MiB, or if
    /// metadata shows beforehand that it would fail.
    #[command(after_help = examples::PACK)]
    Pack(PackArgs),
    /// Restore the tree that a NAR holds.
    ///
    /// Prints `HASH  SIZE  PATH` of the NAR on standard error. If unpacking fails, nothing is left
    /// behind.
    #[command(after_help = examples::UNPACK)]
    Unpack(UnpackArgs),
    /// List the contents of a NAR or of a store path in a cache, or the paths of a cache.
    ///
    /// `ls CACHE` lists the store paths of a cache. For one of them, narutil shows its listing
    /// (`.ls`) if the cache has one, and reads the NAR otherwise. It does not check signatures.
    ///
    /// Control characters in names are escaped, as `\n`. With --json, the output is the listing of
    /// everything below PATH, in the form of the `.ls` files of a binary cache.
    #[command(after_help = examples::LS)]
    Ls(LsArgs),
    /// Print a file from a NAR, or from a store path in a cache.
    ///
    /// If the NAR in the cache is uncompressed, or zstd with a seek table, narutil fetches only the
    /// part that holds the file. Otherwise it fetches everything up to the end of the file.
    /// Signatures and hashes are not checked, because they cover whole NARs.
    #[command(after_help = examples::CAT)]
    Cat(CatArgs),
    /// Print the NAR hash and size of trees, or the hash of files with --flat.
    ///
    /// Prints one line `HASH  SIZE  PATH` for each path.
    #[command(after_help = examples::HASH)]
    Hash(HashArgs),
    /// Check that files are valid NARs, with nothing after the end.
    ///
    /// Prints `ok` or the error, one line for each file.
    #[command(after_help = examples::CHECK)]
    Check(CheckArgs),
    /// Print which store paths a tree refers to.
    ///
    /// Searches the NAR of the tree for the hash parts of the candidates, as Nix does.
    #[command(after_help = examples::SCAN)]
    Scan(ScanArgs),
    /// Show or check narinfos, or print what their signatures sign.
    #[command(subcommand)]
    Narinfo(NarinfoCommand),
    /// Generate a signing key, or derive the public key of a secret key.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Add signatures to narinfos in place, or remove them.
    ///
    /// Each key signs each narinfo. A stale signature by a key of the same name is replaced; all
    /// other bytes stay as they are. Files are replaced atomically and keep their mode, and their
    /// owner where permissions allow. Symbolic links are followed.
    ///
    /// Concurrent runs on one directory wait for each other, so that no signature is lost. In
    /// buckets and on servers, a narinfo is replaced only if it is unchanged since it was read,
    /// where the server supports such conditions.
    #[command(after_help = examples::SIGN)]
    Sign(SignArgs),
    /// Verify the signatures of narinfos.
    ///
    /// Prints `ok  PATH  key-name...` or `bad  PATH  reason`, one line for each narinfo. A
    /// content-addressed path needs no signature. If it has none, its content address is printed
    /// instead of a key name, as `ca:fixed:r:sha256:...`.
    #[command(after_help = examples::VERIFY)]
    Verify(VerifyArgs),
    /// List the closure of store paths, references first.
    ///
    /// The closure of a path is the path, its references, their references, and so on. References
    /// that the source does not know are listed like the others. In that case, and if references
    /// form a cycle, the exit status is 1.
    ///
    /// narutil asks a cache for each path of the closure. The cache needs to list its contents only
    /// for --referrers.
    #[command(after_help = examples::CLOSURE)]
    Closure(ClosureArgs),
    /// List the paths of a closure that no cache has, references first.
    ///
    /// A summary on standard error says how much is missing, and how much each cache has that the
    /// caches before it do not have.
    #[command(after_help = examples::DIFF)]
    Diff(DiffArgs),
    /// Print why a path depends on another: a chain of references.
    ///
    /// Prints a shortest chain, one path per line. If a name fits several paths, the chain leads to
    /// the closest one. Exits with 1 if there is no chain.
    #[command(after_help = examples::WHY, alias = "why-depends")]
    Why(WhyArgs),
    /// Convert information about store paths to another form.
    ///
    /// With PATHs, only these paths and their closures are converted; narutil then asks a cache for
    /// each path, and the cache does not need to list its contents. Standard error says what the
    /// target form has no place for.
    #[command(after_help = examples::CONVERT)]
    Convert(ConvertArgs),
    /// Publish store paths and their closures in a cache.
    ///
    /// Paths that the cache already has are skipped. Each tree is compressed, signed and uploaded
    /// in one pass, and compared with the hash that is registered for it; a path that differs is
    /// not published. A path becomes visible after all its references, even if a push is killed.
    /// Any number of pushes can run at the same time.
    ///
    /// --compression, --key and --debug-info can also be parameters of the cache URL, spelled as
    /// for Nix: compression, compression-level, secret-key, secret-keys, index-debug-info. The
    /// parameters priority and want-mass-query apply to a cache that the push creates.
    ///
    /// The root --root keeps the closure in the cache, see `roots` and `gc`. Paths that the last
    /// root of that name lists are taken as present, so a repeated push needs only a handful of
    /// requests.
    ///
    /// With --queue, DIR holds files with store paths. A Nix hook writes each file under a
    /// temporary name (one that begins with a dot or ends in `.tmp`) and renames it. If the paths
    /// of a file cannot be published, the file is moved to DIR/failed with the reason beside it,
    /// and the exit status is 1. If the cache cannot be reached, all files stay for the next run,
    /// and the exit status is 3. Files that another push is working on are left to it.
    ///
    /// Realisations of content-addressed derivations in Nix's database are published with their
    /// paths and signed with --key. Build logs are published with --logs. Both include paths that
    /// the cache already has. Without --key, the number of paths without a signature is reported,
    /// because Nix does not accept them.
    ///
    /// A path that cannot be published is reported, and so are the paths that refer to it. The
    /// others are published, and the exit status is 1. The store paths of trees given with --add
    /// are printed, one per line.
    #[command(after_help = examples::PUSH)]
    Push(PushArgs),
    /// Fetch store paths and their closures from caches, verified.
    ///
    /// Each path comes from the first cache that has a narinfo for it with a signature by a
    /// --trusted key, or whose content address determines the path. The sizes and hashes of each
    /// file and each NAR are checked before a path gets its final name, and it gets that name after
    /// all its references. Paths that are present under their names are not fetched again.
    #[command(after_help = examples::PULL)]
    Pull(PullArgs),
    /// Check a whole cache, and optionally repair it.
    ///
    /// Reads every narinfo and every listing, and checks that NARs exist with the stated size and
    /// that references are present. NARs are read only with --contents. Each finding is one line,
    /// `OBJECT: kind: explanation; repair`. Harmless findings are printed only with -v.
    ///
    /// The kinds are stable names: missing-cache-info, bad-cache-info, unparsable-narinfo,
    /// other-store, refused-narinfo, odd-narinfo, encoded-narinfo, misnamed-narinfo,
    /// swapped-narinfos, bad-signature, no-valid-signature, bad-url, url-outside, url-compression,
    /// url-hash, missing-nar, wrong-file-size, wrong-address, missing-reference,
    /// left-out-reference, orphan-nar, orphan-listing, temporary, unknown-object, bad-listing,
    /// listing-disagrees; with --contents also corrupt-nar, wrong-file-hash, wrong-nar-size,
    /// wrong-nar-hash, undeclared-references.
    ///
    /// --repair shows its plan on standard error and then carries it out. It rewrites what can be
    /// rewritten without loss, withdraws narinfos that cannot be served together with everything
    /// that refers to them, referrers first, and removes what nothing refers to. With --from, it
    /// publishes the withdrawn paths again. Run audit again to see what remains.
    ///
    /// Exit status: 0 no findings; 1 findings were printed; 3 the cache could not be read.
    #[command(after_help = examples::AUDIT)]
    Audit(AuditArgs),
    /// Count the paths, bytes, compressions and signing keys in a cache.
    ///
    /// Signatures are counted by key name and not verified.
    #[command(after_help = examples::INFO)]
    Info(InfoArgs),
    /// List the roots of a cache, most recently used first.
    ///
    /// A root keeps the closure of its paths in the cache. Each push creates a generation of the
    /// root that it names.
    #[command(after_help = examples::ROOTS)]
    Roots(RootsArgs),
    /// Pin, unpin, label or remove a root of a cache.
    #[command(subcommand)]
    Root(RootCommand),
    /// Remove from a cache what no root keeps (garbage collection).
    ///
    /// These are kept, with their closures: the roots that --keep-last, --keep-within and
    /// --max-size select, pinned roots, paths that running pushes have claimed, --root-path, and
    /// everything younger than --grace. With both --keep-last and --keep-within, a root that either
    /// selects is kept. Without any of the three, all roots are kept.
    ///
    /// Referrers are removed before their references, so every remaining closure is complete at
    /// every instant. NARs are removed one run after their narinfos. Pushes can run during a
    /// collection, and wait where it touches what they need. Two collections cannot run at the same
    /// time.
    ///
    /// With --dry-run, prints `WHY  OBJECT` for each object, in the order of removal.
    #[command(after_help = examples::GC)]
    Gc(GcArgs),
    /// Check a set-up: Nix's settings, keys and a cache; say what to change.
    ///
    /// Prints `ok`, `warning` or `problem`, a subject and what was found, one line for each check,
    /// and advice below it. Changes nothing, except with --write. The output contains no secrets.
    ///
    /// Exit status: 0 no problems; 1 problems were printed.
    #[command(after_help = examples::DOCTOR)]
    Doctor(DoctorArgs),
    /// Print the fields of narinfos, as `narinfo show`.
    #[command(hide = true, after_help = examples::SHOW)]
    PathInfo(ShowArgs),
    /// Generate a new secret key, as `key generate`.
    #[command(hide = true, after_help = examples::GENERATE_KEY)]
    GenerateKey(GenerateKeyArgs),
    /// Print a completion script for a shell.
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Write the manual pages to a directory.
    #[command(after_help = examples::MAN)]
    Man(ManArgs),
}

impl Command {
    /// The nesting limit, if the command has one.
    fn depth(&self) -> Option<DepthArgs> {
        match self {
            Self::Pack(args) => Some(args.depth),
            Self::Unpack(args) => Some(args.depth),
            Self::Ls(args) => Some(args.depth),
            Self::Cat(args) => Some(args.depth),
            Self::Hash(args) => Some(args.depth),
            Self::Check(args) => Some(args.depth),
            Self::Scan(args) => Some(args.depth),
            Self::Verify(args) => Some(args.depth),
            Self::Push(args) => Some(args.depth),
            Self::Pull(args) => Some(args.depth),
            Self::Audit(args) => Some(args.depth),
            _ => None,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The directory, which is created if necessary.
    pub(crate) directory: PathBuf,
}

#[cfg(test)]
mod tests;
