//! Why a graph cannot be built, or a listing of hash parts cannot be used.

use std::fmt;
use std::io;

use crate::ErrorKind;
use crate::store_path::{HashPart, StorePath};

/// Why a graph cannot be built, or has no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path was given twice, and the records disagree. One of the sources is wrong, or describes
    /// another store.
    #[error("{path} was given twice, with different {disagreement}")]
    Disagreement {
        /// The path.
        path: StorePath,
        /// What differs.
        disagreement: Disagreement,
    },
    /// Two paths have one hash part, by which a cache keeps only one of them.
    #[error("{first} and {second} have the same hash part: at most one of them is a path of this store")]
    SameHashPart {
        /// The path that was given, or referred to, first.
        first: StorePath,
        /// The other one.
        second: StorePath,
    },
    /// There is no room for one more path; paths that are only referred to count.
    #[error("a graph holds at most {} paths", u32::MAX)]
    TooManyPaths,
    /// Paths refer to one another in a circle, so that none of them can come first.
    #[error("{count} paths refer to one another in a circle: {}", List(.members, *.count))]
    Cycle {
        /// Those that refer to one another, in ascending order: the first [`Error::MAX_MEMBERS`] of
        /// them.
        members: Vec<StorePath>,
        /// How many they are.
        count: usize,
    },
    /// A path has to be uploaded, but is known by a reference only.
    #[error(
        "{path} is neither in a cache nor known here but as a reference: add its record, or drop what refers to it"
    )]
    Unknown {
        /// The path.
        path: StorePath,
    },
}

impl Error {
    /// What kind of failure this is: [`ErrorKind::Content`], or [`ErrorKind::Usage`] for more paths
    /// than a graph can hold.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooManyPaths => ErrorKind::Usage,
            _ => ErrorKind::Content,
        }
    }

    /// How many members of a cycle an error names.
    pub const MAX_MEMBERS: usize = 16;
}

/// In what two records of one path differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disagreement {
    /// The size of the NAR in bytes.
    NarSize {
        /// That of the record that came first.
        first: u64,
        /// That of the other one.
        second: u64,
    },
    /// The paths referred to.
    References {
        /// The first, in ascending order, that only the first record has.
        only_first: Option<StorePath>,
        /// The first, in ascending order, that only the other one has.
        only_second: Option<StorePath>,
    },
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NarSize { first, second } => write!(f, "NAR sizes: {first} and {second} bytes"),
            Self::References { only_first, only_second } => {
                f.write_str("references: ")?;
                match (only_first, only_second) {
                    (Some(first), Some(second)) => write!(f, "only one names {first}, only the other {second}"),
                    (Some(path), None) | (None, Some(path)) => write!(f, "only one names {path}"),
                    (None, None) => f.write_str("not the same"),
                }
            }
        }
    }
}

/// The first of some paths, and how many there are.
struct List<'a>(&'a [StorePath], usize);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(paths, count) = self;
        for (place, path) in paths.iter().enumerate() {
            write!(f, "{}{path}", if place == 0 { "" } else { ", " })?;
        }
        if *count > paths.len() { f.write_str(", …") } else { Ok(()) }
    }
}

/// Why a sorted listing of hash parts cannot be used. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashPartsError {
    /// A line is not a hash part.
    #[error("line {line}: `{text}` is no hash part: expected 32 characters of nixbase32, and nothing else on the line")]
    NotAHashPart {
        /// The line.
        line: u64,
        /// Its beginning.
        text: String,
    },
    /// A hash part comes after a greater one, so that one pass over the listing finds nothing for
    /// sure.
    #[error("line {line}: {hash_part} comes after {previous}: sort the listing by bytes, as with `LC_ALL=C sort`")]
    OutOfOrder {
        /// The line, or the number of the hash part where there are no lines.
        line: u64,
        /// What stands there.
        hash_part: HashPart,
        /// What stands before it.
        previous: HashPart,
    },
    /// The listing cannot be read.
    #[error("line {line}: {source}")]
    Read {
        /// The line at which reading failed.
        line: u64,
        /// Why.
        source: io::Error,
    },
}

impl HashPartsError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAHashPart { .. } | Self::OutOfOrder { .. } => ErrorKind::Content,
            Self::Read { source, .. } => ErrorKind::of_io(source),
        }
    }
}
