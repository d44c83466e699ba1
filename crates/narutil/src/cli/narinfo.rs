//! Arguments of the commands on narinfos and keys.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::closure::EachTarget;
use super::common::DepthArgs;
use super::examples;
use super::reach::Reach;
use super::value::KeyArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum NarinfoCommand {
    /// Print the fields of narinfos.
    ///
    /// With --json, prints the object that `nix path-info --json --json-format 1` of Nix 2.34
    /// prints for a path of a cache, with the additional keys `path` and `deviations`.
    #[command(after_help = examples::SHOW)]
    Show(ShowArgs),
    /// Check that narinfos are well formed, and report deviations from what Nix writes.
    ///
    /// Prints `ok`, the error, or each deviation as `FILE:LINE: name: explanation`. Deviations fail
    /// the check only with --strict.
    #[command(after_help = examples::CHECK_NARINFO)]
    Check(CheckNarinfoArgs),
    /// Print the fingerprint of a narinfo: the exact bytes that signatures sign.
    ///
    /// No newline is added.
    #[command(after_help = examples::FINGERPRINT)]
    Fingerprint(FingerprintArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// narinfo files, directories of narinfos, caches, or `-`.
    ///
    /// Store paths or hash parts after a directory or cache select from it.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    each: EachTarget,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct CheckNarinfoArgs {
    /// narinfo files, directories of narinfos, caches, or `-`.
    ///
    /// Store paths or hash parts after a directory or cache select from it.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) targets: Vec<OsString>,
    /// Fail if there are deviations.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    each: EachTarget,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct FingerprintArgs {
    /// The narinfo, or `-`.
    #[arg(value_name = "FILE")]
    pub(crate) target: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Generate a new secret key.
    ///
    /// With --json, prints both keys, but not the secret key if it goes to a file.
    #[command(after_help = examples::GENERATE_KEY)]
    Generate(GenerateKeyArgs),
    /// Print the public key of a secret key.
    #[command(after_help = examples::PUBLIC_KEY)]
    Public(PublicKeyArgs),
}

#[derive(Args, Debug)]
pub(crate) struct GenerateKeyArgs {
    /// Name of the key. By convention, the host name of the cache, a dash and a number.
    pub(crate) name: String,
    /// Write the secret key to FILE, readable only by its owner. Never overwrites a file.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
    /// Write the public key to FILE. Never overwrites a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) public: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PublicKeyArgs {
    /// File that holds the secret key.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("change").args(["key", "key_env", "remove"]).multiple(true).required(true))]
pub(crate) struct SignArgs {
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Remove the signatures by the key NAME. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) remove: Vec<String>,
    /// Print what would change, and change nothing.
    ///
    /// The lines are `sign  PATH  key-name...` and `drop  PATH  key-name...`.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// narinfo files, directories of narinfos, caches, or `-`.
    ///
    /// Store paths or hash parts after a directory or cache select from it. `-` filters one narinfo
    /// from standard input to standard output.
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    each: EachTarget,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Trust the public key KEY. May be repeated.
    ///
    /// KEY is `name:base64` (several separated by blanks), a file with keys or lines of nix.conf,
    /// or the word `nix.conf` for the keys that Nix on this machine trusts.
    #[arg(long = "trusted", alias = "trusted-public-keys", value_name = "KEY", required = true)]
    pub(crate) trusted: Vec<OsString>,
    /// Require signatures by N different trusted keys.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) require: NonZeroUsize,
    /// Accept signatures over the references in the order of the file.
    ///
    /// Very old versions of Nix made them; current versions refuse them.
    #[arg(long)]
    pub(crate) as_written: bool,
    /// Check the NARs too: hash and size of the file, validity, hash and size of the NAR.
    ///
    /// References in a NAR that its narinfo does not declare are reported, but are not a failure.
    /// narutil looks for the NARs where the narinfos are.
    #[arg(long)]
    pub(crate) contents: bool,
    /// narinfo files, directories of narinfos, caches, or `-`.
    ///
    /// Store paths or hash parts after a directory or cache select from it.
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    each: EachTarget,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}
