//! Closures: a store path with everything that it refers to, directly or not.

pub mod page;
