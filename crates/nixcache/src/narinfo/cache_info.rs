use std::fmt;

use crate::store_path::{self, StoreDir};
use crate::text::excerpt;

/// What a cache says of itself, in the file `nix-cache-info` at its root.
///
/// Nix reads it leniently, and so does this: unknown keys and lines that say nothing are passed
/// over, blanks around keys and values have no meaning, and of two lines with one key the later
/// counts. Only what would be taken for something else is an error: two different store
/// directories, and a priority that is no number.
///
/// ```
/// use nixcache::narinfo::CacheInfo;
///
/// let info = CacheInfo::parse(b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n")?;
/// assert_eq!(info, CacheInfo { want_mass_query: true, priority: Some(40), ..CacheInfo::default() });
/// assert_eq!(info.to_string(), "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n");
/// # Ok::<(), nixcache::narinfo::CacheInfoError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheInfo {
    /// `StoreDir`: the store directory of all its paths; `/nix/store` if it does not say. Nix
    /// refuses a cache whose store directory is not its own.
    pub store_dir: StoreDir,
    /// `WantMassQuery`: whether clients may ask for many paths at once, to find out which of them
    /// it has.
    pub want_mass_query: bool,
    /// `Priority`: caches are asked in ascending order. 0 if it does not say; cache.nixos.org has
    /// 40.
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
    #[error("line {line}: `{value}` is no priority: expected an integer")]
    Priority {
        /// The line, counted from 1.
        line: usize,
        /// The beginning of the value.
        value: String,
    },
    /// The store directory cannot be one.
    #[error("line {line}: {source}")]
    StoreDir {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: store_path::Error,
    },
    /// A second store directory differs from the first.
    #[error("line {line}: a second store directory, which differs from the first")]
    TwoStoreDirs {
        /// The line, counted from 1.
        line: usize,
    },
}

impl CacheInfo {
    /// Reads a `nix-cache-info`. One that says nothing is valid: every value has a default.
    pub fn parse(text: &[u8]) -> Result<Self, CacheInfoError> {
        let text = std::str::from_utf8(text).map_err(|_| CacheInfoError::NotUtf8)?;
        let mut info = Self::default();
        let mut store_dir = None;
        for (line, text) in (1..).zip(text.lines()) {
            let Some((key, value)) = text.split_once(':') else { continue };
            let value = value.trim_ascii();
            match key.trim_ascii() {
                "StoreDir" => {
                    // Nix compares paths, for which a slash at the end has no meaning; a blank
                    // before it would be lost when this is written and read again.
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

/// As Nix writes it.
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
