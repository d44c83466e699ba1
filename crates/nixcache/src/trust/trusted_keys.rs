//! The public keys that a user trusts.

use std::collections::HashMap;

use super::Standing;
use crate::signature::{Error, PublicKey, SignatureRef, TextKind};

/// Trusted public keys, by name. Of two keys with the same name, the first counts, as in Nix.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    keys: Vec<PublicKey>,
    by_name: HashMap<Box<str>, usize>,
}

impl TrustedKeys {
    /// Parses one or several public keys, separated by blanks or line ends. After a `#`, the rest
    /// of a line is a comment.
    ///
    /// Also parses lines of nix.conf: `trusted-public-keys = …` and `extra-trusted-public-keys = …`
    /// give keys, and other settings are ignored. A text without any key is an error.
    ///
    /// ```
    /// use nixcache::trust::TrustedKeys;
    ///
    /// let keys = TrustedKeys::parse(
    ///     "# the team's cache\n\
    ///      extra-trusted-public-keys = \
    ///      cache.example.org-1:eGVygzLgOmO2RCtC75jusdS+/R6cUDK4PXD2Tl9VGlA=\n",
    /// )?;
    /// assert!(keys.get("cache.example.org-1").is_some());
    /// # Ok::<(), nixcache::signature::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut keys = Self::default();
        let is_single = text.trim().lines().count() <= 1;
        for (number, line) in (1..).zip(text.lines()) {
            let in_line =
                |error: Error| if is_single { error } else { Error::Line { line: number, error: error.into() } };
            keys.add_line(line.trim_start_matches('\u{feff}')).map_err(in_line)?;
        }
        if keys.keys.is_empty() { Err(Error::Empty { kind: TextKind::PublicKey }) } else { Ok(keys) }
    }

    /// Adds the keys in a line.
    fn add_line(&mut self, line: &str) -> Result<(), Error> {
        /// The name of Nix's setting, and its old name.
        const SETTINGS: [&str; 2] = ["trusted-public-keys", "binary-cache-public-keys"];
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let mut list = line;
        if let Some((name, value)) = line.split_once('=')
            && !name.contains(':')
        {
            let name = name.trim();
            let name = name.strip_prefix("extra-").unwrap_or(name);
            if !SETTINGS.contains(&name) {
                // Another setting. A text without a blank before the `=` is the end of a key that
                // lost its name.
                let is_setting = !name.is_empty() && line.split_whitespace().nth(1) == Some("=");
                return if is_setting { Ok(()) } else { PublicKey::parse(line).map(|key| self.insert(key)) };
            }
            list = value;
        } else if matches!(line.split_whitespace().next(), Some("include" | "!include")) {
            return Ok(());
        } else if let Ok(key) = PublicKey::parse(line) {
            // The name of a key may have blanks.
            self.insert(key);
            return Ok(());
        }
        let words = list.split(|character: char| character.is_whitespace() || matches!(character, '"' | '\''));
        for word in words.filter(|word| !word.is_empty()).take_while(|word| !word.starts_with('#')) {
            self.insert(PublicKey::parse(word)?);
        }
        Ok(())
    }

    /// The key with a name.
    pub fn get(&self, name: &str) -> Option<&PublicKey> {
        // Most users have one key, and comparing its name is faster than hashing.
        match &*self.keys {
            [key] => (key.name().as_str() == name).then_some(key),
            keys => self.by_name.get(name).map(|&index| &keys[index]),
        }
    }

    /// A parsed signature, and the trusted key that it names. If there is no such key, the name in
    /// the signature (or the text, if it is malformed) and its standing.
    pub(super) fn claimed_by<'a>(&self, text: &'a str) -> Result<(&PublicKey, SignatureRef<'a>), (&'a str, Standing)> {
        let signature = SignatureRef::parse(text).map_err(|_| (text, Standing::Malformed))?;
        let key = self.get(signature.name()).ok_or((signature.name(), Standing::Unknown))?;
        Ok((key, signature))
    }

    /// All keys, in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, PublicKey> {
        self.keys.iter()
    }

    /// Adds a key, unless there is one with its name.
    pub fn insert(&mut self, key: PublicKey) {
        let name: Box<str> = key.name().as_str().into();
        if let std::collections::hash_map::Entry::Vacant(entry) = self.by_name.entry(name) {
            entry.insert(self.keys.len());
            self.keys.push(key);
        }
    }
}

impl<'a> IntoIterator for &'a TrustedKeys {
    type Item = &'a PublicKey;
    type IntoIter = std::slice::Iter<'a, PublicKey>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut trusted = Self::default();
        keys.into_iter().for_each(|key| trusted.insert(key));
        trusted
    }
}
