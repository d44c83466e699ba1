//! Fuzzes the promise `nixcache_fuzz::store_path`.

#![cfg_attr(fuzzing, no_main)]
#![allow(missing_docs)]

nixcache_fuzz::fuzz_target!(store_path);
