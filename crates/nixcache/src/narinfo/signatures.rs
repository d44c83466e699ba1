//! Signatures of narinfos, and their order.

use std::cmp::Ordering;

use memchr::memchr;

use crate::signature::SignatureRef;

/// Iterates over the texts of a narinfo's signatures, in its order.
#[derive(Clone, Debug)]
pub struct Signatures<'a> {
    /// Begins with the line of a signature while any is left. Other lines may be between them.
    lines: &'a str,
    left: u32,
}

impl<'a> Signatures<'a> {
    pub(super) const fn new(lines: &'a str, count: u32) -> Self {
        Self { lines, left: count }
    }
}

impl<'a> Iterator for Signatures<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let end = memchr(b'\n', self.lines.as_bytes()).unwrap_or(self.lines.len());
            let (line, rest) = self.lines.split_at(end);
            self.lines = rest.get(1..).unwrap_or_default();
            if let Some(signature) = line.strip_prefix("Sig: ") {
                return Some(signature);
            }
            if rest.is_empty() {
                return None;
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Signatures<'_> {}

/// The order in which Nix writes signatures: since 2.3x by the name of the key and then by the
/// bytes of the signature, where 2.8 compared whole lines. The two differ if one name begins with
/// the other, and for two signatures by one name.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    let name = |text: &str| text.find(':').unwrap_or(text.len());
    let names = a[..name(a)].cmp(&b[..name(b)]);
    let bytes = |text| SignatureRef::parse(text).ok().map(|signature| *signature.bytes());
    names.then_with(|| bytes(a).cmp(&bytes(b))).then_with(|| a.cmp(b))
}
