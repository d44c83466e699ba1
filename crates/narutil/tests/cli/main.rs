//! The command line keeps its promises, run from end to end as scripts run it.
//!
//! These tests stand here and not beside the other conformance tests because cargo builds a program for, and tells its
//! path to, the tests of its own package only.

#![allow(clippy::unwrap_used, reason = "here a panic is the report")]

mod compression;
mod kill;
mod memory;
mod messages;
mod narutil;
mod nix;
mod output;
mod scan;
mod terminal;
mod tour;
