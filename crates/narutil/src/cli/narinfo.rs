//! Arguments of the commands on narinfos and keys.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::reach::Reach;
use super::value::KeyArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum NarinfoCommand {
    /// Print the fields of narinfos.
    ///
    /// With --json, the object that `nix path-info --json --json-format 1` of Nix 2.34 prints for a
    /// path of a cache, with `path` and `deviations`, a list of `{"line": NUMBER, "name": STRING,
    /// "field": STRING, "explanation": STRING, "nixAccepts": "yes", "only-older" or "no"}`.
    Show(ShowArgs),
    /// Check narinfos: print `ok`, the error, or each deviation from what Nix writes.
    ///
    /// A deviation is printed as `FILE:LINE: name: explanation`. Deviations alone are no failure,
    /// unless with --strict.
    ///
    /// With --json: `{"file": STRING, "ok": BOOLEAN, "error": STRING or null, "deviations":
    /// [...]}`, with deviations as in `show`.
    Check(CheckNarinfoArgs),
    /// Print the bytes that are signed, with no newline added.
    Fingerprint(FingerprintArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// narinfos, directories of narinfos, caches, or `-`; hash parts or store paths after a
    /// directory or cache select from it.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct CheckNarinfoArgs {
    /// narinfos, directories of narinfos, caches, or `-`; hash parts or store paths after a
    /// directory or cache select from it.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) targets: Vec<OsString>,
    /// Fail if there are deviations.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct FingerprintArgs {
    /// The narinfo.
    #[arg(value_name = "FILE")]
    pub(crate) target: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new secret key.
    ///
    /// With --json: `{"secretKey": STRING, "publicKey": STRING}`, without the secret key if it goes
    /// to a file.
    Generate(GenerateKeyArgs),
    /// Print the public key of a secret key.
    ///
    /// With --json: `{"publicKey": STRING}`.
    Public(PublicKeyArgs),
}

#[derive(Args, Debug)]
pub(crate) struct GenerateKeyArgs {
    /// The name of the key: by custom, the host name of the cache, a dash and a number.
    pub(crate) name: String,
    /// Where to write the secret key, readable by its owner only. Never overwrites.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
    /// Where to write the public key. Never overwrites.
    #[arg(long, value_name = "FILE")]
    pub(crate) public: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PublicKeyArgs {
    /// The file of the secret key.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("change").args(["key", "key_env", "remove"]).multiple(true).required(true))]
pub(crate) struct SignArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// The name of a key whose signatures to drop; may be given again.
    #[arg(long, value_name = "NAME")]
    pub(crate) remove: Vec<String>,
    /// Only print what would be changed: `sign  PATH  key-name...` and `drop  PATH  key-name...`.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// narinfos, directories of narinfos, caches, or `-` to filter one from standard input to
    /// standard output; hash parts or store paths after a directory or cache select from it.
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Trust this public key: `name:base64`, several of them, a file that holds keys or lines of
    /// nix.conf, or the word `nix.conf` for the keys that this machine's Nix trusts. May be
    /// repeated.
    #[arg(long = "trusted", alias = "trusted-public-keys", value_name = "KEY", required = true)]
    pub(crate) trusted: Vec<OsString>,
    /// How many different trusted keys must have signed.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) require: NonZeroUsize,
    /// Also accept a signature that holds only over references in the order of the file, as very
    /// old versions of Nix made them. Current ones refuse it.
    #[arg(long)]
    pub(crate) as_written: bool,
    /// Also check the NAR: its file's hash and size, that it is a NAR, its own hash and size.
    ///
    /// References in it that the narinfo does not declare are reported, but are no failure. NARs
    /// are looked for where the narinfos are.
    #[arg(long)]
    pub(crate) contents: bool,
    /// narinfos, directories of narinfos, caches, or `-`; hash parts or store paths after a
    /// directory or cache select from it.
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
