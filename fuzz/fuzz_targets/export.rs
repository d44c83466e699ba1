//! Fuzzes the promise `nixcache_fuzz::export`.

#![cfg_attr(fuzzing, no_main)]
#![allow(missing_docs)]

nixcache_fuzz::fuzz_target!(export);
