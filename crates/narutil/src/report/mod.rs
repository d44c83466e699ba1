//! What the commands print about their results: as text for people, or as JSON.
//!
//! One file for each command whose results take more than a few lines. A report decides nothing
//! but the wording, and the exit status that follows from the result.

pub(crate) mod audit;
pub(crate) mod closure;
pub(crate) mod diff;
pub(crate) mod gc;
pub(crate) mod ls;
pub(crate) mod narinfo;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod queue;
pub(crate) mod roots;
pub(crate) mod sign;
pub(crate) mod verify;
pub(crate) mod why;

use indicatif::HumanBytes;
use nixcache::store_path::{StoreDir, StorePath};

use crate::cli::Common;
use crate::failure::Result;
use crate::json;
use crate::output::{print, print_lines};
use crate::text::agreeing;

/// A store path with its directory.
fn full(store_dir: &StoreDir, path: &StorePath) -> String {
    store_dir.display(path.as_ref()).to_string()
}

/// Prints the paths that a dry run of a push or a pull would transfer.
fn print_missing(common: &Common, paths: &[String], nar_size: u64) -> Result<()> {
    if common.json {
        return print(json::line(&json::DryRun { missing: paths, nar_size }));
    }
    print_lines(paths)
}

/// The sizes of the paths that were transferred, in parentheses. Empty if there are none.
fn amount(paths: usize, nar_size: u64, file_size: u64) -> String {
    if paths == 0 {
        return String::new();
    }
    format!(" ({}, as files {})", HumanBytes(nar_size), HumanBytes(file_size))
}

/// The end of a summary: how many paths were there, and how many failed.
fn rest(present: usize, failed: usize) -> String {
    let were = agreeing(present, "was", "were");
    let failed = if failed == 0 { String::new() } else { format!(", {failed} could not be") };
    format!(", {present} {were} there{failed}")
}

/// The notes of a result, as the reason at the end of a message. Empty if there are none.
fn because(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) }
}
