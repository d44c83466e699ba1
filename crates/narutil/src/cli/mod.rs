//! The command line.

mod cache;
mod closure;
mod narinfo;
mod reach;
mod value;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use nixcache::compression::{Compression, EncodeOptions};
use nixcache::hash::{Algorithm, Format};
use nixcache::nar::Limits;
use nixcache::store_path::StoreDir;

pub(crate) use self::cache::{
    AuditArgs, GcArgs, InfoArgs, LabelArgs, PullArgs, PushArgs, RootArgs, RootCommand, RootsArgs,
};
pub(crate) use self::closure::{ClosureArgs, ConvertArgs, DiffArgs, Sort, WhyArgs};
pub(crate) use self::narinfo::{
    CheckNarinfoArgs, FingerprintArgs, GenerateKeyArgs, KeyCommand, NarinfoCommand, PublicKeyArgs, ShowArgs, SignArgs,
    VerifyArgs,
};
pub(crate) use self::reach::Reach;
pub(crate) use self::value::KeyArgs;
use crate::failure::{Failure, Result};

/// Where the store is unless something else is said.
const DEFAULT_STORE_DIR: &str = "/nix/store";

/// Pack, inspect, hash, check and restore Nix archives (NARs); look at, check, sign and verify
/// narinfos.
///
/// `-` is standard input or output. Results go to standard output, everything else to standard
/// error.
///
/// Exit status: 0 done, and the answer is yes; 1 the data is bad or the answer is no; 2 wrong
/// usage; 3 it could not be done.
#[derive(Debug, Parser)]
#[command(name = "narutil", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Print results as JSON: one document, or with several targets one a line.
    ///
    /// Names that are not UTF-8 have their other bytes replaced by U+FFFD, but in a listing, where
    /// they are an error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show no progress, no summary and no warnings.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Explain what is done; twice for more.
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How many threads to use [default: the processors].
    #[arg(long, short = 'j', global = true, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// How many directories may stand around a node of an archive [default: 63, as in Nix].
    #[arg(long, global = true, value_name = "N")]
    max_depth: Option<usize>,
    /// The store directory, in which store paths must be.
    #[arg(long, global = true, value_name = "DIR", env = "NIX_STORE_DIR", default_value = DEFAULT_STORE_DIR)]
    store_dir: String,
}

impl Common {
    pub(crate) fn threads(&self) -> NonZeroUsize {
        /// More than this only costs memory, and systems refuse to start very many.
        const THREADS_MAX: usize = 256;
        let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(processors).min(NonZeroUsize::new(THREADS_MAX).unwrap_or(NonZeroUsize::MIN))
    }

    /// The same, as codecs take it.
    pub(crate) fn codec_threads(&self) -> u32 {
        u32::try_from(self.threads().get()).unwrap_or(u32::MAX)
    }

    /// The store directory. A slash at its end has no meaning.
    pub(crate) fn store_dir(&self) -> Result<StoreDir> {
        // An empty variable counts as none, as in Nix.
        let directory =
            if self.store_dir.is_empty() { DEFAULT_STORE_DIR } else { self.store_dir.trim_end_matches('/') };
        StoreDir::new(directory).map_err(|error| Failure::usage(format_args!("--store-dir or NIX_STORE_DIR: {error}")))
    }

    pub(crate) fn limits(&self) -> Limits {
        let limits = Limits::default();
        Limits { depth: self.max_depth.unwrap_or(limits.depth), ..limits }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a file, link or directory tree as an archive.
    ///
    /// Prints `HASH  SIZE  PATH` of the archive on standard error; with --json, what `hash` prints.
    /// Standard output gets nothing if packing fails within the first 16 MiB, or if metadata shows
    /// beforehand that it would.
    Pack(PackArgs),
    /// Restore an archive.
    ///
    /// Prints `HASH  SIZE  PATH` of the archive on standard error; with --json, what `hash` prints.
    /// When it fails, nothing is left behind.
    Unpack(UnpackArgs),
    /// List what an archive contains, or a path of a cache.
    ///
    /// Of a cache, its listing (`.ls`) is shown if it has one; otherwise the NAR is read.
    /// Signatures are not checked.
    ///
    /// Control characters in names are escaped, as `\n`. With --json, the listing of all that is
    /// below PATH, as in the `.ls` files of a binary cache.
    Ls(LsArgs),
    /// Print the contents of a file in an archive, or in a path of a cache.
    ///
    /// Of a NAR in a cache that is not compressed, or is zstd with a seek table, only the part is
    /// fetched that holds the file; of others, all that precedes it. Neither signatures nor hashes
    /// are checked: only whole NARs have them.
    Cat(CatArgs),
    /// Print `HASH  SIZE  PATH` of the archives of trees, or with --flat of the contents of files.
    ///
    /// With --json: `{"path": STRING, "hash": STRING, "size": NUMBER}`.
    Hash(HashArgs),
    /// Check that files are valid archives, with nothing after them: print `ok` or the error, a
    /// line each.
    ///
    /// With --json: `{"path": STRING, "ok": BOOLEAN, "error": STRING or null}`.
    Check(CheckArgs),
    /// Print which store paths are referred to in a tree.
    ///
    /// With --json: `{"path": STRING, "references": [STRING, ...]}`.
    Scan(ScanArgs),
    /// Look at narinfos: show, check, fingerprint.
    #[command(subcommand)]
    Narinfo(NarinfoCommand),
    /// Make a key to sign with, or derive the public key of one.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Add signatures to narinfos, in place, or take some away.
    ///
    /// A signature by each key is added to each narinfo, in the place of a stale one by the same
    /// key name; all other bytes stay as they are. Each file is replaced at once, and keeps its
    /// mode, and its owner where that may be given. Links are followed. Runs on one directory wait
    /// for each other, so that none undoes another's work; in buckets and on servers a narinfo is
    /// only replaced if it is still the one that was read, where that can be asked for.
    ///
    /// With --json: `{"path": STRING, "file": STRING, "added": [STRING, ...], "removed": [STRING,
    /// ...]}` a line, where names are those of keys, and a signature that was there already is not
    /// added.
    Sign(SignArgs),
    /// Verify the signatures of narinfos.
    ///
    /// Prints `ok  PATH  key-name...` or `bad  PATH  reason`, a line each. A path that is made by
    /// its content address needs no signature: if it has none, the address is printed instead, as
    /// `ca:fixed:r:sha256:...`.
    ///
    /// With --json: `{"path": STRING or null, "file": STRING, "ok": BOOLEAN, "reason": STRING or
    /// null, "contentAddressed": BOOLEAN, "signatures": [{"keyName": STRING, "standing": STRING},
    /// ...]}`, where the standing is `holds`, `holds-as-written`, `fails`, `unknown-key` or
    /// `malformed`; with --contents also `"undeclaredReferences": [STRING, ...]`.
    Verify(VerifyArgs),
    /// List the closure of store paths: they, what they refer to, and so on; references first.
    ///
    /// What is only referred to, but not known to the source, is listed like the rest; then the
    /// closure has holes, and the exit status is 1. So it is when references run in a circle.
    ///
    /// A cache is asked about each path of the closure, and need not list what it has, but for
    /// --referrers.
    ///
    /// With --json: `[{"path": STRING, "narSize": NUMBER, "closureSize": NUMBER, "references":
    /// [STRING, ...], "known": BOOLEAN}, ...]`.
    Closure(ClosureArgs),
    /// List what of a closure no cache has, references first.
    ///
    /// How much is missing, and how much each cache has that those before it have not, is said on
    /// standard error.
    ///
    /// With --json: `{"missing": [{"path": STRING, "narSize": NUMBER, "reason": STRING}, ...],
    /// "paths": NUMBER, "narSize": NUMBER, "caches": [{"cache": STRING, "paths": NUMBER, "narSize":
    /// NUMBER}, ...]}`. The reason is `absent`, or `dangling` if a cache has a path that refers to
    /// it (with `"referrer"` and `"cache"`), or `unknown` if the source knows it only as a
    /// reference.
    Diff(DiffArgs),
    /// Print a shortest chain of references from a path to another, a path a line. Exits with 1 if
    /// there is none.
    ///
    /// With --json: `[STRING, ...]`, or `null`.
    Why(WhyArgs),
    /// Rewrite what is known of store paths in another form.
    ///
    /// With PATHs, only of these and of all that they refer to; a cache is asked about each of them
    /// then, and need not list what it has.
    ///
    /// What that form has no place for is said on standard error.
    ///
    /// With --json: `{"paths": NUMBER, "lost": {STRING: NUMBER, ...}}`, by kind the number of paths
    /// of which it was lost.
    Convert(ConvertArgs),
    /// Publish store paths in a cache: their closures, as far as they are not there.
    ///
    /// Each tree is compared with what is registered, compressed, signed and uploaded in one pass;
    /// what differs is not published. A path becomes visible after all that it refers to, at every
    /// instant and whatever is killed. Any number of pushes may run at the same time.
    ///
    /// --compression, --key and --debug-info may also be parameters of the URL, spelt as for Nix:
    /// compression, compression-level, secret-key, secret-keys, index-debug-info. A cache that is
    /// made gets its priority and want-mass-query, too.
    ///
    /// The closure is kept under the name --root, see `roots` and `gc`. What the last root of that
    /// name lists is taken for present, so that pushing the same again takes a handful of requests.
    ///
    /// With --queue, DIR holds files with store paths, as a hook of Nix's writes them under another
    /// name (that begins with a dot, or ends with `.tmp`) and renames. A file whose paths cannot be
    /// published is moved to DIR/failed, with the reason beside, and the exit status is 1; if the
    /// cache cannot be reached, all stay for the next time, and it is 3. What another push has in
    /// hand is left to it.
    ///
    /// Realisations of content-addressed derivations, which Nix's database has, are published with
    /// their paths and signed with --key, and so are build logs with --logs: also for paths that
    /// the cache has already. Without --key, paths that have no signature are counted on standard
    /// error, since Nix does not accept them.
    ///
    /// A path that cannot be published is named, and so is what refers to it; the others are
    /// published, and the exit status is 1.
    ///
    /// The store paths of what is added are printed, a line each. With --json: `{"paths": NUMBER,
    /// "published": [{"path": STRING, "narSize": NUMBER, "fileSize": NUMBER, "uploaded": BOOLEAN},
    /// ...], "added": [STRING, ...], "failed": [{"path": STRING, "error": STRING}, ...],
    /// "heldBack": [STRING, ...], "undeclaredReferences": [{"path": STRING, "hashParts": [STRING,
    /// ...]}, ...], "unsigned": NUMBER, "realisations": NUMBER, "logs": NUMBER, "unattached":
    /// [STRING, ...], "root": STRING or null, "seconds": NUMBER}`; with --queue also `"queue":
    /// {"published": NUMBER, "failed": [{"entry": STRING, "error": STRING}, ...], "kept":
    /// [{"entry": STRING, "error": STRING}, ...]}`; with --dry-run `{"missing": [STRING, ...],
    /// "narSize": NUMBER}`.
    Push(PushArgs),
    /// Fetch the closures of store paths from caches, verified.
    ///
    /// Each path comes from the first cache that has it under a narinfo whose signature --trusted
    /// accepts, or whose content address makes the path. Size and hash of each file and of each NAR
    /// are checked before a path gets its name, which it gets after all that it refers to. What is
    /// there under its name already is not fetched again.
    ///
    /// With --json: `{"paths": [{"path": STRING, "cache": STRING, "narSize": NUMBER, "fetched":
    /// BOOLEAN}, ...], "fetched": NUMBER, "narSize": NUMBER, "present": NUMBER, "failed": [{"path":
    /// STRING, "error": STRING}, ...], "heldBack": [STRING, ...], "seconds": NUMBER}`, where the
    /// sum of NAR sizes is that of what was fetched, and paths are held back if something that they
    /// refer to failed; with --dry-run `{"missing": [STRING, ...], "narSize": NUMBER}`.
    Pull(PullArgs),
    /// Look a whole cache over: what in it could not be served, and what would make it good.
    ///
    /// Every narinfo is read, and every listing; that NARs are there, and as large as is said; that
    /// references are. NARs are read with --contents only. A finding is printed as `OBJECT: kind:
    /// explanation; what would repair it`. What does no harm is only printed with -v. Kinds do not
    /// change: missing-cache-info, bad-cache-info, unparsable-narinfo, other-store,
    /// refused-narinfo, odd-narinfo, misnamed-narinfo, swapped-narinfos, bad-signature,
    /// no-valid-signature, bad-url, url-outside, url-compression, url-hash, missing-nar,
    /// wrong-file-size, wrong-address, missing-reference, left-out-reference, orphan-nar,
    /// orphan-listing, temporary, unknown-object, bad-listing, listing-disagrees; with --contents
    /// corrupt-nar, wrong-file-hash, wrong-nar-size, wrong-nar-hash, undeclared-references, and
    /// wrong-address of contents, too.
    ///
    /// With --repair, the plan is shown on standard error and then done: what loses nothing is
    /// written anew, narinfos that cannot be served are withdrawn with all that refer to them,
    /// referrers first, and what nothing refers to is removed. With --from, what was withdrawn is
    /// published again. What remains is told by the next audit.
    ///
    /// Exit status: 1 if a finding was printed, 0 if none was, 3 if the cache could not be read.
    ///
    /// With --json: `{"object": STRING, "path": STRING or null, "kind": STRING, "message": STRING,
    /// "repair": STRING or null}` a line.
    Audit(AuditArgs),
    /// Count what is in a cache: paths, bytes, compressions, and whose signatures there are,
    /// without verifying any.
    ///
    /// With --json: `{"cache": STRING, "storeDir": STRING, "priority": NUMBER or null,
    /// "wantMassQuery": BOOLEAN, "paths": NUMBER, "narSize": NUMBER, "files": NUMBER, "fileSize":
    /// NUMBER, "compressions": {NAME: NUMBER, ...}, "keys": {NAME: NUMBER, ...}, "unsigned":
    /// NUMBER, "unreadable": NUMBER}`, where sizes are in bytes and other numbers but the priority
    /// count paths.
    Info(InfoArgs),
    /// List the roots of a cache: which closures it is to keep. Those used last come first.
    ///
    /// With --json: `{"name": STRING, "generation": STRING, "targets": [STRING, ...], "paths":
    /// NUMBER, "fileSize": NUMBER, "used": NUMBER or null, "created": NUMBER, "pinned": BOOLEAN,
    /// "labels": {NAME: STRING, ...}}` a line, where times are seconds since 1970.
    Roots(RootsArgs),
    /// Change a root: pin, unpin, remove, label.
    #[command(subcommand)]
    Root(RootCommand),
    /// Remove what no root keeps.
    ///
    /// What the roots list that --keep-last, --keep-within and --max-size keep is alive, and so is
    /// what pushes under way have claimed, what is pinned, what --root-path names, and what is
    /// younger than --grace, with all that it refers to. If --keep-last and --keep-within are both
    /// given, a root stays that either wants. Without any of the three, all roots stay.
    ///
    /// What refers to others goes before these, so that every closure is whole at every instant.
    /// NARs go one run after their narinfos. Pushes may go on meanwhile; they wait where a
    /// collection touches what they need. Two collections do not run at once.
    ///
    /// With --dry-run `WHY  OBJECT` a line, in order; with --json, also while it removes,
    /// `{"object": STRING, "size": NUMBER, "why": STRING}`. Why is `root`, `path`, `listing`,
    /// `nar`, `snapshot`, `log`, `debug-info`, `realisation` or `temporary`.
    Gc(GcArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Write the manual pages to a directory.
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub(crate) struct PackArgs {
    /// What to pack. A link is packed itself, not what it points to.
    pub(crate) path: PathBuf,
    /// Where to write the archive.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
    /// Compress it: none, zstd, xz, bzip2, gzip, br or lz4, and a level [default: what the name of
    /// the output ends in, as `.zst`; else none].
    #[arg(long, value_name = "ALGO[:LEVEL]")]
    pub(crate) compression: Option<EncodeOptions>,
    /// Also write what it contains and where, as the `.ls` file of a binary cache.
    #[arg(long, value_name = "FILE")]
    pub(crate) listing: Option<PathBuf>,
}

/// Where archives are read from.
#[derive(Args, Debug)]
pub(crate) struct Source {
    /// How archives are compressed [default: told by their first bytes; br must be named].
    #[arg(long, value_name = "ALGO")]
    pub(crate) compression: Option<Compression>,
}

#[derive(Args, Debug)]
pub(crate) struct UnpackArgs {
    /// The archive.
    pub(crate) nar: PathBuf,
    /// What to make of it; must not exist.
    pub(crate) dest: PathBuf,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Set modes to 0444 or 0555 and times to 1 second after the epoch, as in a Nix store.
    #[arg(long)]
    pub(crate) canonical: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// The archive; or a cache: a directory, or a URL.
    #[arg(value_name = "NAR or CACHE")]
    pub(crate) nar: PathBuf,
    /// What in the archive to list [default: its root]; in a cache a store path, its base name or
    /// hash part, and what in it.
    #[arg(value_parser = self::value::path_or_empty())]
    pub(crate) path: Option<PathBuf>,
    /// List everything below, too.
    #[arg(long, short = 'R')]
    pub(crate) recursive: bool,
    /// Show type and x bit, size, name and link target.
    #[arg(long, short)]
    pub(crate) long: bool,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct CatArgs {
    /// The archive; or a cache: a directory, or a URL.
    #[arg(value_name = "NAR or CACHE")]
    pub(crate) nar: PathBuf,
    /// The file in the archive; in a cache a store path, its base name or hash part, and the file
    /// in it.
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct HashArgs {
    /// What to hash: trees; archives with `--nar`; files with `--flat`.
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// The paths are archives already; compressed ones are decompressed first.
    #[arg(long)]
    pub(crate) nar: bool,
    /// Hash the contents of files alone, as `nix hash file` and `nix-hash --flat` do. Links are
    /// followed.
    #[arg(long, conflicts_with_all = ["nar", "compression"])]
    pub(crate) flat: bool,
    /// How to write hashes: sri, nix32, base16 or base64.
    #[arg(long, value_name = "FORMAT", default_value = "sri")]
    pub(crate) format: Format,
    /// How to hash: sha256, sha512, sha1, md5 or blake3.
    #[arg(long, value_name = "ALGO", default_value = "sha256")]
    pub(crate) algo: Algorithm,
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// The archives.
    #[arg(required = true)]
    pub(crate) nars: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Args, Debug)]
pub(crate) struct ScanArgs {
    /// The tree in which to look.
    pub(crate) path: PathBuf,
    /// What to look for: store paths or their hash parts, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) candidates: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// For which shell.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Where to write them.
    pub(crate) directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
