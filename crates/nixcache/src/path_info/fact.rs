//! Facts that some forms of path infos have no place for, and what is lost in writing.

use std::fmt;
use std::ops::AddAssign;

use super::PathInfo;

/// A kind of fact that some forms of path infos have no place for.
///
/// Path, NAR hash and size, references and deriver are in every form. They are never lost, and not
/// among these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fact {
    /// [`PathInfo::signatures`]
    Signatures,
    /// [`PathInfo::ca`]
    ContentAddress,
    /// [`PathInfo::ultimate`]
    Ultimate,
    /// [`PathInfo::registration_time`]
    RegistrationTime,
    /// [`PathInfo::closure_size`]
    ClosureSize,
    /// [`PathInfo::download`], except the facts of their own.
    Download,
    /// [`Download::compression`](super::Download::compression)
    Compression,
}

impl Fact {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Signatures,
        Self::ContentAddress,
        Self::Ultimate,
        Self::RegistrationTime,
        Self::ClosureSize,
        Self::Download,
        Self::Compression,
    ];

    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signatures => "signatures",
            Self::ContentAddress => "content addresses",
            Self::Ultimate => "trust in what was built here",
            Self::RegistrationTime => "registration times",
            Self::ClosureSize => "closure sizes",
            Self::Download => "places in a cache",
            Self::Compression => "compressions",
        }
    }

    /// Whether `info` has a fact of this kind.
    pub fn is_known(self, info: &PathInfo) -> bool {
        match self {
            Self::Signatures => !info.signatures.is_empty(),
            Self::ContentAddress => info.ca.is_some(),
            Self::Ultimate => info.ultimate,
            Self::RegistrationTime => info.registration_time.is_some(),
            Self::ClosureSize => info.closure_size.is_some(),
            Self::Download => info.download.is_some(),
            Self::Compression => info.download.as_ref().is_some_and(|download| download.compression.is_some()),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The facts that a form had no place for: the number of paths by kind of fact.
///
/// ```
/// # use nixcache::{hash::Hash, path_info::{Fact, Lost, PathInfo}, store_path::StorePath};
/// let path = StorePath::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")?;
/// let mut info = PathInfo::new(path, Hash::sha256(b"a NAR"), 120);
/// info.ultimate = true;
/// let lost = Lost::of(&info, |fact| fact == Fact::Signatures);
/// assert_eq!(lost.to_string(), "trust in what was built here of 1 path");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "lost facts should be reported"]
pub struct Lost([u64; Fact::ALL.len()]);

impl Lost {
    /// The facts of `info` that are lost in a form that `holds` only some kinds.
    pub fn of(info: &PathInfo, holds: impl Fn(Fact) -> bool) -> Self {
        Self(Fact::ALL.map(|fact| u64::from(fact.is_known(info) && !holds(fact))))
    }

    /// Whether nothing was lost.
    pub fn is_nothing(&self) -> bool {
        self.0 == Self::default().0
    }

    /// The number of paths that lost facts of this kind.
    pub const fn count(&self, fact: Fact) -> u64 {
        self.0[fact as usize]
    }

    /// The kinds of lost facts, each with the number of paths.
    pub fn iter(&self) -> impl Iterator<Item = (Fact, u64)> {
        Fact::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }
}

/// Writes `signatures of 5 paths, content addresses of 1 path`. Empty if nothing was lost.
impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (fact, count)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{fact} of {count} path{}", if count == 1 { "" } else { "s" })?;
        }
        Ok(())
    }
}
