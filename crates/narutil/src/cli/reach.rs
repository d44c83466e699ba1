//! Options of all commands that read or write caches.

use clap::Args;

/// How caches on other machines are reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reach {
    /// Send at most N requests at the same time.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(1..),
        help_heading = CACHE_OPTIONS
    )]
    pub(crate) concurrency: u16,
    /// Repeat a request up to N times if it failed for a reason that may pass.
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = CACHE_OPTIONS)]
    pub(crate) retries: u16,
    /// Wait for a silent server for this many seconds.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = CACHE_OPTIONS
    )]
    pub(crate) timeout: u64,
}

/// The heading of these options in help texts.
const CACHE_OPTIONS: &str = "Cache options";
