//! What the conformance tests share.
//!
//! A test here asks two independent authorities what is right: the real programs, in every version
//! of Nix that the machine has ([`nixes`]), and a naive writer of NARs ([`TreeNode::to_nar`]) that
//! is short enough to be checked by eye. `tests/oracle.rs` proves the second against the first over
//! random trees ([`any_tree`]), so that other tests can afford many trees without starting a
//! process for each.
//!
//! Pages are asked of a third, a real [`Browser`]. What other [`programs`] a test needs, it says
//! aloud that it wants.
//!
//! `tests/run` sets up the Nix versions and names them in `NIXCACHE_NIX`; see its head.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

mod browser;
mod closure;
mod mount;
mod nix;
mod program;
mod proxy;
mod random;
mod s3;
mod server;
mod tree;
mod web;

pub use browser::{Browser, key};
pub use mount::Mounts;
pub use nix::{Failure, Nix, nixes};
pub use program::{programs, skip, skip_part};
pub use proxy::{Fault, Proxy};
pub use random::Random;
pub use s3::{Action, Conditions, FakeS3, OpenUpload, Rule};
pub use server::{ACCESS_KEY, SECRET_KEY, Server, is_signed_for};
pub use tree::{TreeNode, any_forest, any_tree, read_tree, write_tree};
pub use web::{Answer, Request, WebServer};

/// Checks a property for `cases` random values, and shows the smallest one that breaks it.
///
/// This is `proptest!` with a closure, which can borrow what costs much to set up.
pub fn for_all<S: Strategy>(cases: u32, values: S, property: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { failure_persistence: None, ..Config::with_cases(cases) };
    if let Err(error) = TestRunner::new(config).run(&values, property) {
        panic!("{error}");
    }
}
