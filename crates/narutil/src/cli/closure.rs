//! Arguments of the commands on closures and references.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nixcache::path_info::JsonVersion;

use super::reach::Reach;
use super::value::cache;

/// Where information about store paths comes from.
#[derive(Args, Debug)]
pub(crate) struct From {
    /// Read information about paths from SOURCE [default: Nix's database].
    ///
    /// SOURCE is db:FILE, registration:FILE, json:FILE, export:FILE, a file of one of these kinds
    /// (recognized by its content), `-` for JSON on standard input, or a cache. May be repeated.
    #[arg(long = "from", value_name = "SOURCE", value_parser = cache())]
    pub(crate) sources: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct ClosureArgs {
    /// Store paths, base names, hash parts, or symbolic links into the store such as ./result.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) from: From,
    /// List the paths that refer to the given ones, directly or indirectly, instead.
    #[arg(long)]
    pub(crate) referrers: bool,
    /// Print `PATH  NAR-SIZE  CLOSURE-SIZE`, sizes in bytes.
    #[arg(long)]
    pub(crate) size: bool,
    /// Order: references first, by path, or the largest first.
    #[arg(long, value_name = "ORDER", default_value = "references")]
    pub(crate) sort: Sort,
    /// Print a graph for Graphviz.
    #[arg(long, conflicts_with_all = ["json", "size", "sort"])]
    pub(crate) dot: bool,
    /// Write a web page to FILE instead, with a treemap and a table to sort and search.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "dot", "size", "sort"])]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    References,
    Path,
    NarSize,
    ClosureSize,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// Store paths, base names, hash parts, or symbolic links into the store such as ./result.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) from: From,
    /// Cache to look in. May be repeated.
    ///
    /// CACHE can also be any SOURCE, or sorted:FILE with hash parts in ascending order, one per
    /// line.
    #[arg(long = "to", value_name = "CACHE", required = true, value_parser = cache())]
    pub(crate) caches: Vec<OsString>,
    /// Exit with 1 if paths are missing.
    #[arg(long)]
    pub(crate) exit_code: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// The path that depends on the other.
    pub(crate) path: OsString,
    /// The path that it depends on.
    #[arg(value_name = "DEP")]
    pub(crate) dependency: OsString,
    #[command(flatten)]
    pub(crate) from: From,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// Convert only these paths and their closures [default: everything in the source].
    ///
    /// PATH is a store path, base name, hash part, or symbolic link into the store.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Read from SOURCE [default: Nix's database].
    ///
    /// SOURCE is db:FILE, registration:FILE, json:FILE, export:FILE, a file of one of these kinds
    /// (recognized by its content), or a cache.
    #[arg(long, value_name = "SOURCE", value_parser = cache())]
    pub(crate) from: Option<OsString>,
    /// Write to TARGET: registration:FILE or json:FILE.
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: OsString,
    /// Form of the JSON: list, map, 1, 2 or 3.
    ///
    /// list is the form of Nix 2.8, map that of Nix 2.19, and 1, 2 and 3 are those of `nix
    /// path-info --json-format`.
    #[arg(long, value_name = "FORM", default_value = "1", value_parser = json_version)]
    pub(crate) json_format: JsonVersion,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

fn json_version(name: &str) -> Result<JsonVersion, &'static str> {
    Ok(match name {
        "list" => JsonVersion::List,
        "map" => JsonVersion::Map,
        "1" => JsonVersion::V1,
        "2" => JsonVersion::V2,
        "3" => JsonVersion::V3,
        _ => return Err("expected list, map, 1, 2 or 3"),
    })
}
