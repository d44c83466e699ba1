//! Fuzzes the promise `nixcache_fuzz::arguments`.

#![cfg_attr(fuzzing, no_main)]
#![allow(missing_docs)]

nixcache_fuzz::fuzz_target!(arguments);
