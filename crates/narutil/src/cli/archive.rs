//! Arguments of the commands on NARs and trees.

use std::path::PathBuf;

use clap::Args;
use nixcache::compression::{Compression, EncodeOptions};
use nixcache::hash::{Algorithm, Format};

use super::closure::EachTarget;
use super::common::DepthArgs;
use super::reach::Reach;
use super::value::path_or_empty;

#[derive(Args, Debug)]
pub(crate) struct PackArgs {
    /// What to pack. A symbolic link is packed as a link.
    pub(crate) path: PathBuf,
    /// Write the NAR to FILE.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
    /// Compress the NAR with zstd, xz, ... [default: by the extension of the file, otherwise none].
    ///
    /// ALGO is none, zstd, xz, bzip2, gzip, br or lz4.
    #[arg(long, value_name = "ALGO[:LEVEL]")]
    pub(crate) compression: Option<EncodeOptions>,
    /// Write a listing of the contents to FILE, as the `.ls` files of a binary cache.
    #[arg(long, value_name = "FILE")]
    pub(crate) listing: Option<PathBuf>,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

/// How NARs are read.
#[derive(Args, Debug)]
pub(crate) struct Source {
    /// How the NAR is compressed [default: detected by its first bytes; br must be named].
    #[arg(long, value_name = "ALGO")]
    pub(crate) compression: Option<Compression>,
}

#[derive(Args, Debug)]
pub(crate) struct UnpackArgs {
    /// The NAR.
    pub(crate) nar: PathBuf,
    /// The path to create. It must not exist.
    pub(crate) dest: PathBuf,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Set modes to 0444 or 0555 and modification times to 1, as in a Nix store.
    #[arg(long)]
    pub(crate) canonical: bool,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// A NAR, or a cache: a directory or a URL.
    #[arg(value_name = "NAR or CACHE")]
    pub(crate) nar: PathBuf,
    /// What to list: a path in the NAR, or a store path of the cache [default: everything].
    ///
    /// The store path is a full path, base name or hash part, and a path in it may follow.
    #[arg(value_parser = path_or_empty())]
    pub(crate) path: Option<PathBuf>,
    /// List subdirectories recursively.
    #[arg(long, short = 'R')]
    pub(crate) recursive: bool,
    /// Show type and executable bit, size, name and link target. Of the paths of a cache: NAR size,
    /// file size, date of the narinfo, path and signers.
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Print sizes of store paths in bytes.
    #[arg(long)]
    pub(crate) bytes: bool,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

#[derive(Args, Debug)]
pub(crate) struct CatArgs {
    /// A NAR, or a cache: a directory or a URL.
    #[arg(value_name = "NAR or CACHE")]
    pub(crate) nar: PathBuf,
    /// The file: a path in the NAR, or in a store path in the cache.
    ///
    /// The store path in a cache is a full path, base name or hash part.
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

#[derive(Args, Debug)]
pub(crate) struct HashArgs {
    /// What to hash: trees; NARs with --nar; files with --flat.
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Hash files that are NARs already. Compressed ones are decompressed first.
    #[arg(long)]
    pub(crate) nar: bool,
    /// Hash only the contents of files, as `nix hash file` and `nix-hash --flat` do. Symbolic links
    /// are followed.
    #[arg(long, conflicts_with_all = ["nar", "compression"])]
    pub(crate) flat: bool,
    /// How to print hashes: sri, nix32, base16 or base64.
    #[arg(long, value_name = "FORMAT", default_value = "sri")]
    pub(crate) format: Format,
    /// Hash algorithm: sha256, sha512, sha1, md5 or blake3.
    #[arg(long, value_name = "ALGO", default_value = "sha256")]
    pub(crate) algo: Algorithm,
    #[command(flatten)]
    each: EachTarget,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// The NARs.
    #[arg(required = true)]
    pub(crate) nars: Vec<PathBuf>,
    #[command(flatten)]
    each: EachTarget,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ScanArgs {
    /// The tree to search.
    pub(crate) path: PathBuf,
    /// File with the store paths or hash parts to search for, one per line.
    #[arg(long, value_name = "FILE")]
    pub(crate) candidates: PathBuf,
    #[command(flatten)]
    pub(super) depth: DepthArgs,
}
