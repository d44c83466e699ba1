//! Arguments of the commands on closures and references.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nixcache::path_info::JsonVersion;
use nixcache_client::source::{self, Source};

use super::reach::Reach;
use super::value::cache;
use crate::failure::{Failure, Result};

/// Where information about store paths comes from.
#[derive(Args, Debug)]
pub(crate) struct From {
    /// Read information about paths from SOURCE [default: Nix's database].
    ///
    /// SOURCE is db:FILE, registration:FILE, json:FILE, export:FILE, a file of one of these kinds
    /// (recognized by its content), `-` for JSON on standard input, or a cache. May be repeated.
    #[arg(long = "from", value_name = "SOURCE", value_parser = cache())]
    pub(crate) sources: Vec<OsString>,
    /// Read the database of this store: a directory DIR with DIR/nix/store [default: NIX_REMOTE,
    /// otherwise /].
    #[arg(long, value_name = "STORE")]
    #[allow(clippy::doc_markdown, reason = "the help shows it as it is")]
    pub(crate) store: Option<OsString>,
}

/// The database of the store that an argument names, or else `NIX_REMOTE`.
pub(crate) fn source_of_store(store: Option<&OsStr>) -> Result<Source> {
    store.map_or_else(Source::of_environment, Source::of_store).map_err(|error| Failure::source(&error))
}

impl From {
    /// These sources.
    pub(crate) fn of(sources: &[OsString]) -> Self {
        Self { sources: sources.to_vec(), store: None }
    }

    /// The sources that the arguments name.
    pub(crate) fn sources(&self) -> Result<Vec<Source>> {
        let failed = |error: source::Error| Failure::source(&error);
        if !self.sources.is_empty() {
            return self.sources.iter().map(|source| Source::parse(source).map_err(failed)).collect();
        }
        Ok(vec![source_of_store(self.store.as_deref())?])
    }

    /// The root of the store that --store names.
    pub(crate) fn store_root(&self) -> Result<Option<PathBuf>> {
        let Some(store) = &self.store else { return Ok(None) };
        Ok(Some(source_of_store(Some(store))?.store_root()))
    }
}

/// Which paths a command is about, beside those that it names.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Selection {
    /// Take all paths of the source.
    #[arg(long, conflicts_with = "paths")]
    pub(crate) all: bool,
    /// Do what can be done if some paths are not found, and exit with 1.
    #[arg(long, short = 'k')]
    pub(crate) keep_going: bool,
    #[command(flatten)]
    recursive: Recursive,
}

/// The word of Nix for what these commands do anyway.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Recursive {
    /// Include the closures of the paths, which is the default.
    #[arg(long, short = 'r', hide = true)]
    recursive: bool,
}

/// The options of Nix that name what commands on several targets do anyway.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct EachTarget {
    /// Continue after a failure, which is the default.
    #[arg(long, short = 'k', hide = true)]
    keep_going: bool,
    /// Take everything in a cache, which is the default.
    #[arg(long, hide = true)]
    all: bool,
}

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct ClosureArgs {
    /// Store paths, base names, hash parts, or links into the store such as ./result.
    ///
    /// `-` reads paths from standard input, one per line.
    #[arg(required_unless_present = "all", value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    #[command(flatten)]
    pub(crate) from: From,
    /// List the paths that refer to the given ones, directly or indirectly, instead.
    #[arg(long)]
    pub(crate) referrers: bool,
    /// Print the closure as a tree, as `nix-store --query --tree` does.
    #[arg(long, conflicts_with_all = ["json", "dot", "html", "sort", "referrers"])]
    pub(crate) tree: bool,
    /// Print `PATH  NAR-SIZE  CLOSURE-SIZE`.
    #[arg(long)]
    pub(crate) size: bool,
    /// Print `PATH  NAR-SIZE  CLOSURE-SIZE  ADDED-SIZE`.
    ///
    /// The added size is what the closure would lose without the path: the path itself, and the
    /// paths that only it keeps there.
    #[arg(long, conflicts_with = "referrers")]
    pub(crate) added_size: bool,
    /// Print sizes in bytes.
    #[arg(long)]
    pub(crate) bytes: bool,
    /// Order: references first, by path, or the largest first.
    #[arg(long, value_name = "ORDER", default_value = "references")]
    pub(crate) sort: Sort,
    /// Print a graph for Graphviz.
    #[arg(long, conflicts_with_all = ["json", "size", "added_size", "sort"])]
    pub(crate) dot: bool,
    /// Write a web page to FILE instead, with a treemap and a table to sort and search.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "dot", "size", "added_size", "sort"])]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

impl ClosureArgs {
    /// Whether lines have sizes.
    pub(crate) fn has_sizes(&self) -> bool {
        self.size || self.added_size
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    References,
    Path,
    NarSize,
    ClosureSize,
    AddedSize,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// Store paths, base names, hash parts, or links into the store such as ./result.
    ///
    /// `-` reads paths from standard input, one per line.
    #[arg(required_unless_present = "all", value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) selection: Selection,
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
    /// The path that it depends on, or a name: `gcc`, or with the version `gcc-13.2.0`.
    #[arg(value_name = "DEP")]
    pub(crate) dependency: OsString,
    /// Print all chains as a tree, to all paths of this name.
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) from: From,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Args, Debug)]
pub(crate) struct ConvertArgs {
    /// Convert only these paths and their closures [default: everything in the source].
    ///
    /// PATH is a store path, base name, hash part, or link into the store. `-` reads paths from
    /// standard input, one per line.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Read from SOURCE [default: Nix's database].
    ///
    /// SOURCE is db:FILE, registration:FILE, json:FILE, export:FILE, a file of one of these kinds
    /// (recognized by its content), or a cache.
    #[arg(long, value_name = "SOURCE", value_parser = cache())]
    pub(crate) from: Option<OsString>,
    /// Read the database of this store: a directory DIR with DIR/nix/store [default: NIX_REMOTE,
    /// otherwise /].
    #[arg(long, value_name = "STORE", conflicts_with = "from")]
    #[allow(clippy::doc_markdown, reason = "the help shows it as it is")]
    pub(crate) store: Option<OsString>,
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

fn json_version(name: &str) -> std::result::Result<JsonVersion, &'static str> {
    Ok(match name {
        "list" => JsonVersion::List,
        "map" => JsonVersion::Map,
        "1" => JsonVersion::V1,
        "2" => JsonVersion::V2,
        "3" => JsonVersion::V3,
        _ => return Err("expected list, map, 1, 2 or 3"),
    })
}
