//! Tests of caches: a simulated store that delays and fails as a seed says.

pub(crate) mod gate;
mod random;
pub(crate) mod simulated_store;
