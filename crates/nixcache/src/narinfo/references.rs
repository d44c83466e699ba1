//! References of narinfos.

use crate::store_path::{HashPart, StorePathRef, leading_base_name};

/// The references of a narinfo, in its order.
///
/// They were validated when the narinfo was parsed. Iterating over them allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct References<'a> {
    pub(super) value: &'a str,
    pub(super) order: ReferenceOrder,
}

/// What parsing found out about references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReferenceOrder {
    pub(super) count: u32,
    /// Ascending, without duplicates.
    pub(super) is_sorted: bool,
}

impl ReferenceOrder {
    pub(super) const NONE: Self = Self { count: 0, is_sorted: true };
}

impl Default for ReferenceOrder {
    fn default() -> Self {
        Self::NONE
    }
}

impl<'a> References<'a> {
    /// The number of references, duplicates included.
    pub const fn len(&self) -> usize {
        self.order.count as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.order.count == 0
    }

    /// The number of bytes of the text that they stand in.
    pub(crate) const fn text_len(&self) -> usize {
        self.value.len()
    }

    /// Whether they are in ascending order, without duplicates: the order in which they are signed.
    pub const fn is_sorted(&self) -> bool {
        self.order.is_sorted
    }

    /// Iterates over the references.
    pub const fn iter(&self) -> ReferencesIter<'a> {
        ReferencesIter { rest: self.value, left: self.order.count }
    }

    /// All references in ascending order and without duplicates, as Nix takes them.
    pub fn sorted(&self) -> Vec<StorePathRef<'a>> {
        let mut sorted: Vec<_> = self.iter().collect();
        if !self.is_sorted() {
            sorted.sort_unstable();
            sorted.dedup();
        }
        sorted
    }
}

impl<'a> IntoIterator for References<'a> {
    type Item = StorePathRef<'a>;
    type IntoIter = ReferencesIter<'a>;

    fn into_iter(self) -> ReferencesIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &References<'a> {
    type Item = StorePathRef<'a>;
    type IntoIter = ReferencesIter<'a>;

    fn into_iter(self) -> ReferencesIter<'a> {
        self.iter()
    }
}

/// Iterates over [`References`].
#[derive(Clone, Debug)]
pub struct ReferencesIter<'a> {
    rest: &'a str,
    left: u32,
}

/// The length of the shortest base name.
const BASE_NAME_LEN_MIN: usize = HashPart::TEXT_LEN + 2;

impl<'a> Iterator for ReferencesIter<'a> {
    type Item = StorePathRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<StorePathRef<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut rest = self.rest;
        while let Some(after) = rest.strip_prefix(' ') {
            rest = after;
        }
        let end = rest.as_bytes()[BASE_NAME_LEN_MIN..]
            .iter()
            .position(|&byte| byte == b' ')
            .map_or(rest.len(), |p| BASE_NAME_LEN_MIN + p);
        let (name, rest) = rest.split_at(end);
        self.rest = rest;
        Some(StorePathRef::of_checked(name))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for ReferencesIter<'_> {}

/// Scans references from `start` to `end` of a text. `None` unless they are as Nix writes them:
/// valid, with one space between each two. A slower parser finds the reason then.
#[inline]
pub(super) fn scan(text: &[u8], start: usize, end: usize) -> Option<ReferenceOrder> {
    let mut rest = &text[start..];
    let mut left = end - start;
    let mut order = ReferenceOrder::NONE;
    let mut previous: &[u8] = b"";
    while left > 0 {
        let length = leading_base_name(rest, left)?;
        let name = &rest[..length];
        order.is_sorted &= is_before(previous, name);
        previous = name;
        order.count += 1;
        if length == left {
            return Some(order);
        }
        rest = &rest[length + 1..];
        left -= length + 1;
    }
    // Nothing, or a space at the end.
    (order.count == 0).then_some(order)
}

/// Whether one base name sorts before another. Most differ in the first bytes.
#[inline]
fn is_before(a: &[u8], b: &[u8]) -> bool {
    match (a.first_chunk::<8>(), b.first_chunk::<8>()) {
        (Some(x), Some(y)) if x != y => u64::from_be_bytes(*x) < u64::from_be_bytes(*y),
        _ => a < b,
    }
}
