//! Arguments of the commands on references.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nixcache::path_info::JsonVersion;

use super::reach::Reach;
use super::value::cache;

/// Where facts about store paths come from.
#[derive(Args, Debug)]
pub(crate) struct From {
    /// Where to look things up: db:FILE, registration:FILE, json:FILE, export:FILE, a file of these
    /// kinds that is recognised by its content, `-` for JSON on standard input, or a cache; may be
    /// given again [default: the database of Nix].
    #[arg(long = "from", value_name = "SOURCE", value_parser = cache())]
    pub(crate) sources: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct ClosureArgs {
    /// Store paths, their base names or hash parts, or links into the store.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) from: From,
    /// List what refers to the paths, directly or not, instead of what they refer to.
    #[arg(long)]
    pub(crate) referrers: bool,
    /// Add the NAR size and the closure size of each path, in bytes: `PATH  NAR-SIZE
    /// CLOSURE-SIZE`.
    #[arg(long)]
    pub(crate) size: bool,
    /// In which order: references first, by path, or the largest first.
    #[arg(long, value_name = "ORDER", default_value = "references")]
    pub(crate) sort: Sort,
    /// Print a graph for Graphviz.
    #[arg(long, conflicts_with_all = ["json", "size", "sort"])]
    pub(crate) dot: bool,
    /// Instead of printing, write a page to look at in a browser: a treemap, and a table to sort
    /// and search.
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
    /// Store paths, their base names or hash parts, or links into the store.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) from: From,
    /// A cache that may have some of them, or any other source, or sorted:FILE with hash parts in
    /// ascending order, one a line; may be given again.
    #[arg(long = "to", value_name = "CACHE", required = true, value_parser = cache())]
    pub(crate) caches: Vec<OsString>,
    /// Exit with 1 if anything is missing.
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
    /// Only these paths and all that they refer to: store paths, their base names or hash parts, or
    /// links into the store [default: all that the source has].
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Where to read: db:FILE, registration:FILE, json:FILE, export:FILE, a file that is recognised
    /// by its content, or a cache [default: the database of Nix].
    #[arg(long, value_name = "SOURCE", value_parser = cache())]
    pub(crate) from: Option<OsString>,
    /// Where to write: registration:FILE or json:FILE.
    #[arg(long, value_name = "TARGET")]
    pub(crate) to: OsString,
    /// The form of JSON: list (Nix 2.8), map (2.19), or what `nix path-info --json-format` calls 1,
    /// 2 and 3.
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
