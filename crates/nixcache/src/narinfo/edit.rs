//! Editing narinfos in place.

use std::borrow::Cow;

use crate::compression::Compression;
use crate::hash::{Format, Hash, HashText};
use crate::signature::SignatureRef;
use crate::store_path::StoreDir;

use super::signatures::order;
use super::{Error, ErrorReason, Field, NarInfo, NarInfoBuf};

/// Changes to a narinfo that leave all other bytes as they are: unknown fields, odd spellings, the
/// order of lines, even a missing newline at the end.
///
/// ```
/// # #[cfg(feature = "signature")] {
/// # use nixcache::{narinfo::NarInfo, signature::{KeyName, SecretKey}, store_path::StoreDir};
/// # let text = "StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a\nURL: nar/a.nar\n\
/// #     Compression: none\nNarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6\n\
/// #     NarSize: 464152\nReferences: \n";
/// let info = NarInfo::parse(text.as_bytes(), &StoreDir::default())?;
/// let key = SecretKey::generate(KeyName::new("cache.example.org-1")?)?;
/// let signature = key.sign(&info.fingerprint().to_vec());
/// let signed = info.edit().sign(signature.as_ref()).finish()?;
/// assert!(signed.as_str().starts_with(text));
/// assert_eq!(signed.as_ref().edit().unsign("cache.example.org-1").finish()?.as_str(), text);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "`finish` makes the changes"]
pub struct Edit<'a> {
    original: NarInfo<'a>,
    lines: Vec<Line<'a>>,
    error: Option<Error>,
}

#[derive(Clone, Debug)]
struct Line<'a> {
    field: Option<Field>,
    text: Cow<'a, str>,
}

impl Line<'_> {
    /// The text of a signature.
    fn signature(&self) -> Option<&str> {
        self.text.strip_prefix("Sig: ").filter(|_| self.field == Some(Field::Sig))
    }

    /// The key name of a signature.
    fn key_name(&self) -> Option<&str> {
        self.signature()?.split_once(':').map(|(name, _)| name)
    }
}

impl<'a> Edit<'a> {
    pub(super) fn new(original: &NarInfo<'a>) -> Self {
        let lines = original.text.lines();
        let lines = lines.map(|text| Line { field: Field::leading(text.as_bytes()), text: text.into() });
        Self { original: *original, lines: lines.collect(), error: None }
    }

    /// Adds a signature. It replaces others by the same key name, which are stale. Otherwise it is
    /// inserted in Nix's order, before the first greater one.
    pub fn sign(mut self, signature: SignatureRef<'_>) -> Self {
        let new = signature.to_text();
        let line = Line { field: Some(Field::Sig), text: format!("Sig: {new}").into() };
        let is_stale = |other: &Line<'_>| other.key_name() == Some(signature.name());
        let already = self.lines.iter().position(|other| other.text == line.text);
        if let Some(place) = already.or_else(|| self.lines.iter().position(is_stale)) {
            self.lines[place] = line;
            let mut index = 0..;
            self.lines.retain(|other| index.next() == Some(place) || !is_stale(other));
            return self;
        }
        let others = || self.lines.iter().filter_map(Line::signature);
        // The order of Nix 2.8 stays if the signatures are in it.
        let is_by_line = others().is_sorted() && !others().is_sorted_by(|a, b| order(a, b).is_le());
        let is_greater = |other: &str| if is_by_line { *other > *new } else { order(other, &new).is_gt() };
        let greater = self.lines.iter().position(|other| other.signature().is_some_and(is_greater));
        let after_last = || self.lines.iter().rposition(|other| other.signature().is_some()).map(|last| last + 1);
        let place = greater.or_else(after_last).unwrap_or_else(|| self.place_of(Field::Sig));
        self.lines.insert(place, line);
        self
    }

    /// Removes all signatures by a key name.
    pub fn unsign(mut self, key_name: &str) -> Self {
        self.lines.retain(|line| line.key_name() != Some(key_name));
        self
    }

    /// Sets the URL of the NAR.
    pub fn url(self, url: &str) -> Self {
        self.set(Field::Url, Some(url))
    }

    /// Sets the compression of the NAR.
    pub fn compression(self, compression: Compression) -> Self {
        self.set(Field::Compression, Some(compression.name()))
    }

    /// Sets the hash of the compressed NAR. `None` removes it.
    pub fn file_hash(self, hash: Option<Hash>) -> Self {
        let text = hash.map(|hash| hash.display(Format::Nix32));
        self.set(Field::FileHash, text.as_ref().map(HashText::as_str))
    }

    /// Sets the size of the compressed NAR in bytes. `None` and 0 remove it.
    pub fn file_size(self, size: Option<u64>) -> Self {
        let size = size.filter(|size| *size != 0).map(|size| size.to_string());
        self.set(Field::FileSize, size.as_deref())
    }

    /// Sets or removes the value of a field that occurs at most once.
    fn set(mut self, field: Field, value: Option<&str>) -> Self {
        if value.is_some_and(|value| value.chars().any(char::is_control)) {
            self.error.get_or_insert(Error::of(field, ErrorReason::Control));
            return self;
        }
        let place = self.lines.iter().position(|line| line.field == Some(field));
        let line = value.map(|value| Line { field: Some(field), text: format!("{field}: {value}").into() });
        match (place, line) {
            (Some(place), Some(line)) => self.lines[place] = line,
            (Some(place), None) => drop(self.lines.remove(place)),
            (None, Some(line)) => self.lines.insert(self.place_of(field), line),
            (None, None) => {}
        }
        self
    }

    /// The place of a missing field: after the last one that Nix writes before it.
    fn place_of(&self, field: Field) -> usize {
        let before = Field::ALL.into_iter().take_while(|other| *other < field);
        let places = before.filter_map(|other| self.lines.iter().rposition(|line| line.field == Some(other)));
        places.last().map_or(self.lines.len(), |place| place + 1)
    }

    /// Makes the changed narinfo. An error if it could not be parsed, for an empty URL for
    /// instance.
    pub fn finish(self) -> Result<NarInfoBuf, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut text = String::with_capacity(self.original.text.len() + 256);
        for line in &self.lines {
            text.push_str(&line.text);
            text.push('\n');
        }
        if !self.original.text.ends_with('\n') {
            text.pop();
        }
        let store_dir = StoreDir::new(self.original.store_dir()).map_err(|error| Error::of(Field::StorePath, error))?;
        let (_, fields) = super::parse::read(text.as_bytes(), &store_dir, usize::MAX, &mut |_| {})?;
        Ok(NarInfoBuf { text: text.into(), fields })
    }
}
