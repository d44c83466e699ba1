//! The command line keeps its promises, run from end to end as scripts run it.
//!
//! These tests are here and not beside the other conformance tests because cargo builds a program
//! for the tests of its own package only.

#![allow(clippy::unwrap_used, reason = "here a panic is the report")]

mod access;
mod answers;
mod audit;
mod audit_answers;
mod cache;
mod closure;
mod collection;
mod compression;
mod concurrency;
mod contents;
mod full_disk;
mod gc;
mod hashes;
mod hidden;
mod json_schemas;
mod key;
mod kill;
mod kills;
mod limits;
mod memory;
mod messages;
mod narinfo;
mod narutil;
mod nix;
mod nix_words;
mod options;
mod order;
mod output;
mod publishing;
mod pull;
mod push;
mod queue;
mod realisations;
mod recipes;
mod references;
mod remote;
mod replaced;
mod rights;
mod scan;
mod secrets;
mod servers;
mod sessions;
mod shared_directory;
mod sign;
mod signals;
mod streams;
mod substitution;
mod terminal;
mod tour;
mod verify;
