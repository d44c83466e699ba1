//! `narutil`.
fn main() {}
