//! Options that every command takes, and what follows from them.

use std::num::NonZeroUsize;

use clap::{ArgAction, Args};
use nixcache::nar::Limits;
use nixcache::store_path::StoreDir;

use crate::failure::{Failure, Result};

/// The heading of these options in help texts.
const GLOBAL_OPTIONS: &str = "Global options";

/// Where the store is by default.
const DEFAULT_STORE_DIR: &str = "/nix/store";

#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Print results as JSON.
    ///
    /// One document, or with several targets one per line. The keys of each command are listed in
    /// the reference, `docs/reference/json.md`. Bytes of names that are not UTF-8 become U+FFFD; in
    /// a listing they are an error.
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS)]
    pub(crate) json: bool,
    /// Show no progress, no summary and no warnings.
    #[arg(long, short, global = true, help_heading = GLOBAL_OPTIONS)]
    pub(crate) quiet: bool,
    /// Explain what the command does. Give it twice for more detail.
    #[arg(long, short, global = true, action = ArgAction::Count, help_heading = GLOBAL_OPTIONS)]
    pub(crate) verbose: u8,
    /// Use N threads [default: the number of processors].
    #[arg(long, short = 'j', global = true, value_name = "N", help_heading = GLOBAL_OPTIONS)]
    threads: Option<NonZeroUsize>,
    /// Directory that store paths are in.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "NIX_STORE_DIR",
        default_value = DEFAULT_STORE_DIR,
        help_heading = GLOBAL_OPTIONS
    )]
    store_dir: String,
    /// Before the command, where it is accepted for all of them.
    #[command(flatten)]
    depth: HiddenDepthArgs,
}

/// The nesting limit, as an option of the commands that read or write NARs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DepthArgs {
    /// Accept NARs with up to N nested directories [default: 63, as Nix].
    #[arg(long, value_name = "N", help_heading = GLOBAL_OPTIONS)]
    pub(super) max_depth: Option<usize>,
}

/// The nesting limit before the name of the command.
#[derive(Args, Clone, Copy, Debug)]
struct HiddenDepthArgs {
    #[arg(long, value_name = "N", hide = true)]
    max_depth: Option<usize>,
}

impl Common {
    /// Takes the nesting limit that was given after the name of the command.
    pub(super) fn set_max_depth(&mut self, depth: DepthArgs) {
        self.depth.max_depth = depth.max_depth.or(self.depth.max_depth);
    }

    pub(crate) fn threads(&self) -> NonZeroUsize {
        /// More threads only cost memory, and systems refuse to start very many.
        const THREADS_MAX: usize = 256;
        let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(processors).min(NonZeroUsize::new(THREADS_MAX).unwrap_or(NonZeroUsize::MIN))
    }

    /// The store directory. A slash at its end has no meaning.
    pub(crate) fn store_dir(&self) -> Result<StoreDir> {
        // An empty variable counts as none, as in Nix.
        let directory =
            if self.store_dir.is_empty() { DEFAULT_STORE_DIR } else { self.store_dir.trim_end_matches('/') };
        StoreDir::new(directory).map_err(|error| Failure::usage(format_args!("--store-dir or NIX_STORE_DIR: {error}")))
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::default().with(|limits| limits.depth = self.depth.max_depth.unwrap_or(limits.depth))
    }
}
