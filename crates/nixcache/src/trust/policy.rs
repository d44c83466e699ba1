use std::collections::HashMap;
use std::num::NonZeroUsize;

use smallvec::SmallVec;

use crate::narinfo::NarInfo;
use crate::store_path::StoreDir;

use super::{Batch, Error, Kind, PublicKey, SignatureRef};

/// The public keys that one trusts, by name. Of two keys with one name, the first counts, as in
/// Nix.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    keys: Vec<PublicKey>,
    by_name: HashMap<Box<str>, usize>,
}

impl TrustedKeys {
    /// Reads public keys: one or several, separated by blanks or line ends. After a `#`, the rest
    /// of a line is a comment.
    ///
    /// Lines of nix.conf are understood, too: `trusted-public-keys = …` and
    /// `extra-trusted-public-keys = …` give keys, and other settings are passed over. A text
    /// without any key is an error.
    ///
    /// ```
    /// use nixcache::signature::TrustedKeys;
    ///
    /// let keys = TrustedKeys::parse(
    ///     "# the team's cache\n\
    ///      extra-trusted-public-keys = cache.example.org-1:eGVygzLgOmO2RCtC75jusdS+/R6cUDK4PXD2Tl9VGlA=\n",
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
        if keys.keys.is_empty() { Err(Error::Empty { kind: Kind::PublicKey }) } else { Ok(keys) }
    }

    /// Adds the keys in a line.
    fn add_line(&mut self, line: &str) -> Result<(), Error> {
        /// The names of Nix's setting, the old one among them.
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
                // Another setting; what has no blank before the sign is the end of a key that lost
                // its name.
                let is_setting = !name.is_empty() && line.split_whitespace().nth(1) == Some("=");
                return if is_setting { Ok(()) } else { PublicKey::parse(line).map(|key| self.insert(key)) };
            }
            list = value;
        } else if matches!(line.split_whitespace().next(), Some("include" | "!include")) {
            return Ok(());
        } else if let Ok(key) = PublicKey::parse(line) {
            // Its name may have blanks.
            self.insert(key);
            return Ok(());
        }
        let words = list.split(|character: char| character.is_whitespace() || matches!(character, '"' | '\''));
        for word in words.filter(|word| !word.is_empty()).take_while(|word| !word.starts_with('#')) {
            self.insert(PublicKey::parse(word)?);
        }
        Ok(())
    }

    /// The key of a name.
    pub fn get(&self, name: &str) -> Option<&PublicKey> {
        // One key is what most have, and quicker compared than hashed.
        match &*self.keys {
            [key] => (key.name().as_str() == name).then_some(key),
            keys => self.by_name.get(name).map(|&index| &keys[index]),
        }
    }

    /// A signature, and the key that it says made it; without one, what its text has for a name,
    /// and how it stands.
    fn claimed_by<'a>(&self, text: &'a str) -> Result<(&PublicKey, SignatureRef<'a>), (&'a str, Standing)> {
        let signature = SignatureRef::parse(text).map_err(|_| (text, Standing::Malformed))?;
        let key = self.get(signature.name()).ok_or((signature.name(), Standing::Unknown))?;
        Ok((key, signature))
    }

    /// All keys, in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, PublicKey> {
        self.keys.iter()
    }

    /// Adds a key, unless there is one of its name.
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

/// What makes a narinfo valid.
///
/// By default, one trusted key must have signed it, or its path must be the one that its contents
/// make.
#[derive(Clone, Debug)]
pub struct Policy {
    keys: TrustedKeys,
    required: usize,
    as_written: bool,
}

impl Policy {
    /// The default policy for these keys.
    pub fn new(keys: TrustedKeys) -> Self {
        Self { keys, required: 1, as_written: false }
    }

    /// How many different trusted keys must have signed.
    #[must_use]
    pub fn require(mut self, keys: usize) -> Self {
        self.required = keys;
        self
    }

    /// Whether a signature counts that holds only over references in the order of the narinfo. Very
    /// old versions of Nix made such; current ones refuse them.
    #[must_use]
    pub fn as_written(mut self, counts: bool) -> Self {
        self.as_written = counts;
        self
    }

    /// The trusted keys.
    pub fn keys(&self) -> &TrustedKeys {
        &self.keys
    }

    /// How many different ones must have signed.
    pub const fn required(&self) -> usize {
        self.required
    }
}

/// What became of one signature of a narinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// A trusted key made it.
    Holds,
    /// A trusted key made it, but over references in the order in which they stand, which is not
    /// the sorted one.
    HoldsAsWritten,
    /// It says that a trusted key made it, and that is not so.
    Fails,
    /// No key of its name is trusted.
    Unknown,
    /// It is no signature.
    Malformed,
}

/// Signatures in the order of the narinfo: the key name, or the whole text of one that is
/// malformed.
type Standings<'a> = SmallVec<[(&'a str, Standing); 2]>;

/// What was found about a narinfo's signatures.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    signatures: Standings<'a>,
    counts_as_written: bool,
    is_content_addressed: bool,
    is_valid: bool,
}

impl<'a> Verdict<'a> {
    /// Whether the policy is satisfied.
    pub const fn is_valid(&self) -> bool {
        self.is_valid
    }

    /// Whether the path is the one that its contents make, so that no signature is needed.
    pub const fn is_content_addressed(&self) -> bool {
        self.is_content_addressed
    }

    /// The signatures in the order of the narinfo: the key name, or the whole text of one that is
    /// malformed.
    pub fn signatures(&self) -> &[(&'a str, Standing)] {
        &self.signatures
    }

    /// The names of the keys that count by the policy, each once, in the order of the narinfo.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + '_ {
        let counting = self.signatures.iter().enumerate().filter(|(_, (_, standing))| self.counts(*standing));
        counting.map(|(index, (name, _))| (index, *name)).filter_map(|(index, name)| {
            let is_new = |(other, standing): &(&str, Standing)| *other != name || !self.counts(*standing);
            self.signatures[..index].iter().all(is_new).then_some(name)
        })
    }

    /// Whether a signature of this standing counts by the policy.
    pub fn counts(&self, standing: Standing) -> bool {
        standing == Standing::Holds || (self.counts_as_written && standing == Standing::HoldsAsWritten)
    }
}

/// Verifies narinfos by a [`Policy`], one by one or many together.
///
/// It keeps the buffers that it needs: after a few narinfos, it allocates no more for those that
/// have up to two signatures, of which none is malformed, sorted references, and no content
/// address.
#[derive(Debug)]
pub struct Verifier<'p> {
    policy: &'p Policy,
    batch: Batch,
    fingerprint: Vec<u8>,
}

impl<'p> Verifier<'p> {
    /// A verifier by this policy.
    pub fn new(policy: &'p Policy) -> Self {
        Self { policy, batch: Batch::new(), fingerprint: Vec::new() }
    }

    /// Verifies one narinfo.
    pub fn verify<'a>(&mut self, info: &NarInfo<'a>) -> Verdict<'a> {
        let found = self.standings(info, |_, key, fingerprint, signature| {
            if key.verify(fingerprint, signature.bytes()) { Standing::Holds } else { Standing::Fails }
        });
        self.judge(info, found)
    }

    /// Verifies many narinfos together, several times as fast, with the verdicts that
    /// [`verify`](Self::verify) gives. ([`Batch`] says why they are the same.)
    pub fn verify_all<'a>(&mut self, infos: &[NarInfo<'a>]) -> Vec<Verdict<'a>> {
        let mut found: Vec<Standings<'a>> = Vec::with_capacity(infos.len());
        for info in infos {
            found.push(self.standings(info, |batch, key, fingerprint, signature| {
                batch.push(key, fingerprint, signature.bytes());
                Standing::Fails
            }));
        }
        // In the order in which they were pushed: each signature that waits for its verdict has
        // one.
        let mut holds = self.batch.verify();
        for (_, standing) in found.iter_mut().flatten().filter(|(_, standing)| *standing == Standing::Fails) {
            if holds.next() == Some(true) {
                *standing = Standing::Holds;
            }
        }
        drop(holds);
        infos.iter().zip(found).map(|(info, signatures)| self.judge(info, signatures)).collect()
    }

    /// How the signatures of a narinfo stand. Those by a trusted key, `check` looks at, or has the
    /// batch look at them.
    fn standings<'a>(
        &mut self,
        info: &NarInfo<'a>,
        mut check: impl FnMut(&mut Batch, &PublicKey, &[u8], SignatureRef<'a>) -> Standing,
    ) -> Standings<'a> {
        self.fingerprint.clear();
        info.fingerprint().append_to(&mut self.fingerprint);
        let standing = |text| match self.policy.keys.claimed_by(text) {
            Ok((key, signature)) => (signature.name(), check(&mut self.batch, key, &self.fingerprint, signature)),
            Err(without_key) => without_key,
        };
        info.signatures().map(standing).collect()
    }

    fn judge<'a>(&mut self, info: &NarInfo<'a>, mut signatures: Standings<'a>) -> Verdict<'a> {
        let Policy { keys, required, .. } = self.policy;
        if !info.references().is_sorted() && signatures.iter().any(|(_, standing)| *standing == Standing::Fails) {
            self.fingerprint.clear();
            info.fingerprint().as_written().append_to(&mut self.fingerprint);
            for ((_, standing), text) in signatures.iter_mut().zip(info.signatures()) {
                if *standing == Standing::Fails
                    && let Ok((key, signature)) = keys.claimed_by(text)
                    && key.verify(&self.fingerprint, signature.bytes())
                {
                    *standing = Standing::HoldsAsWritten;
                }
            }
        }
        let is_content_addressed = info.content_address().is_some()
            && StoreDir::new(info.store_dir()).is_ok_and(|store_dir| info.is_content_addressed(&store_dir));
        let mut verdict = Verdict {
            signatures,
            counts_as_written: self.policy.as_written,
            is_content_addressed,
            is_valid: is_content_addressed,
        };
        verdict.is_valid |= verdict.keys().count() >= *required;
        verdict
    }
}

impl Policy {
    /// Verifies many narinfos on several threads, with the verdicts that [`Verifier::verify`]
    /// gives, in the order of the narinfos.
    pub fn verify_many<'a>(&self, infos: &[NarInfo<'a>], threads: NonZeroUsize) -> Vec<Verdict<'a>> {
        super::parallel::map_chunks(infos, threads, || {
            let mut verifier = Verifier::new(self);
            move |chunk: &[NarInfo<'a>]| verifier.verify_all(chunk)
        })
    }
}
