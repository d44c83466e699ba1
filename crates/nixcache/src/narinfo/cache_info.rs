//! `nix-cache-info`.

use std::fmt;

use crate::ErrorKind;
use crate::store_path::{self, StoreDir};
use crate::text::excerpt;

/// The description of a cache, in the file `nix-cache-info` at its root.
///
/// Parsing is lenient, as in Nix: unknown keys and lines without a key are ignored, blanks around
/// keys and values have no meaning, and of two lines with one key the later counts. Only what could
/// be misunderstood is an error: two different store directories, and a priority that is not a
/// number.
///
/// ```
/// use nixcache::narinfo::CacheInfo;
///
/// let info = CacheInfo::parse(b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n")?;
/// assert_eq!(info.priority, Some(40));
/// let same = CacheInfo::default().with(|info| {
///     info.want_mass_query = true;
///     info.priority = Some(40);
/// });
/// assert_eq!(info, same);
/// assert_eq!(info.to_string(), "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n");
/// # Ok::<(), nixcache::narinfo::CacheInfoError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheInfo {
    /// `StoreDir`: the store directory of all paths in the cache, `/nix/store` by default. Nix
    /// refuses a cache whose store directory is not its own.
    pub store_dir: StoreDir,
    /// `WantMassQuery`: whether clients may query many paths at once.
    pub want_mass_query: bool,
    /// `Priority`: Nix queries caches in ascending order. 0 by default; cache.nixos.org has 40.
    pub priority: Option<i32>,
}

/// Why a text is not a `nix-cache-info`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheInfoError {
    /// The text is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The priority is not an integer of 32 bits.
    #[error("line {line}: `{value}` is not a priority: expected an integer")]
    Priority {
        /// The line, counted from 1.
        line: usize,
        /// The beginning of the value.
        value: String,
    },
    /// The store directory is malformed.
    #[error("line {line}: {source}")]
    StoreDir {
        /// The line, counted from 1.
        line: usize,
        /// Why.
        source: store_path::Error,
    },
    /// A second store directory differs from the first.
    #[error("line {line}: a second store directory, which differs from the first")]
    TwoStoreDirs {
        /// The line, counted from 1.
        line: usize,
    },
}

impl CacheInfoError {
    /// What kind of failure this is.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

crate::error_kind::into_io_error!(CacheInfoError);

impl CacheInfo {
    /// Changes the values in place, for use in an expression.
    #[must_use]
    pub fn with(mut self, f: impl FnOnce(&mut Self)) -> Self {
        f(&mut self);
        self
    }

    /// Parses a `nix-cache-info`. An empty one is valid: every value has a default.
    pub fn parse(text: &[u8]) -> Result<Self, CacheInfoError> {
        let text = std::str::from_utf8(text).map_err(|_| CacheInfoError::NotUtf8)?;
        let mut info = Self::default();
        let mut store_dir = None;
        for (line, text) in (1..).zip(text.lines()) {
            let Some((key, value)) = text.split_once(':') else { continue };
            let value = value.trim_ascii();
            match key.trim_ascii() {
                "StoreDir" => {
                    // Nix compares paths, for which a slash at the end has no meaning. A blank
                    // before it would be lost in writing and parsing again.
                    let path = value.trim_end_matches(|end: char| end == '/' || end.is_ascii_whitespace());
                    let said = StoreDir::new(path).map_err(|source| CacheInfoError::StoreDir { line, source })?;
                    if store_dir.get_or_insert_with(|| said.clone()) != &said {
                        return Err(CacheInfoError::TwoStoreDirs { line });
                    }
                }
                "WantMassQuery" => info.want_mass_query = value == "1",
                "Priority" => {
                    let priority = value.parse();
                    let error = |_| CacheInfoError::Priority { line, value: excerpt(value) };
                    info.priority = Some(priority.map_err(error)?);
                }
                _ => {}
            }
        }
        info.store_dir = store_dir.unwrap_or_default();
        Ok(info)
    }
}

/// Writes the text of Nix.
impl fmt::Display for CacheInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StoreDir: {}", self.store_dir)?;
        if self.want_mass_query {
            f.write_str("WantMassQuery: 1\n")?;
        }
        match self.priority {
            Some(priority) => writeln!(f, "Priority: {priority}"),
            None => Ok(()),
        }
    }
}
