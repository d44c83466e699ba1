//! Fuzzes the promise `nixcache_fuzz::seek_table`.

#![cfg_attr(fuzzing, no_main)]
#![allow(missing_docs)]

nixcache_fuzz::fuzz_target!(seek_table);
