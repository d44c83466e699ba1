//! Building narinfos from their parts.

use std::borrow::Cow;

use crate::compression::Compression;
use crate::hash::{Algorithm, Hash};
use crate::signature::SignatureRef;
#[cfg(feature = "signature")]
use crate::signature::{SecretKey, Signature};
use crate::store_path::{ContentAddress, StoreDir, StorePathRef};

use super::parse::has_control;
use super::write::Parts;
use super::{Error, ErrorReason, Field, NarInfoBuf};

/// Builds a narinfo from its parts, in the bytes of Nix.
///
/// [`build`](Self::build) refuses parts that [`NarInfo::parse`](super::NarInfo::parse) would refuse
/// in a text. [`sign`](Self::sign) signs the narinfo while it is built.
///
/// ```
/// # use nixcache::{hash::Hash, narinfo::Builder, store_path::{StoreDir, StorePathRef}};
/// let store_dir = StoreDir::default();
/// let path = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-hello")?;
/// let nar_hash = Hash::sha256(b"the NAR");
/// let builder = |url| Builder::new(&store_dir, path, url, nar_hash, 7).references([path]);
/// let info = builder("nar/hello.nar").build()?;
/// assert!(info.is_canonical());
/// assert!(builder("nar/hello.nar\nSig: forged").build().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "`build` makes the narinfo"]
pub struct Builder<'a> {
    #[cfg(feature = "signature")]
    store_dir: &'a StoreDir,
    parts: Parts<'a>,
    references: Vec<StorePathRef<'a>>,
    signatures: Vec<Cow<'a, str>>,
    extra: Vec<(&'a str, &'a str)>,
    #[cfg(feature = "signature")]
    signers: Vec<(&'a SecretKey, Signer)>,
}

/// Signs a narinfo that is being built. The fingerprint is known above this module.
#[cfg(feature = "signature")]
pub(crate) type Signer = fn(&SecretKey, &Unsigned<'_>) -> Signature;

/// The signed parts of a narinfo that is being built.
#[cfg(feature = "signature")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsigned<'a> {
    pub(crate) store_dir: &'a StoreDir,
    pub(crate) store_path: StorePathRef<'a>,
    pub(crate) nar_hash: Hash,
    pub(crate) nar_size: u64,
    pub(crate) references: &'a [StorePathRef<'a>],
}

impl<'a> Builder<'a> {
    /// The narinfo of a path whose NAR is at `url`, not compressed. The hash must be a sha256, and
    /// the size in bytes must not be 0.
    pub fn new(
        store_dir: &'a StoreDir,
        store_path: StorePathRef<'a>,
        url: &'a str,
        nar_hash: Hash,
        nar_size: u64,
    ) -> Self {
        let parts = Parts {
            store_dir: store_dir.as_str(),
            store_path,
            url,
            compression: Compression::None.name(),
            file_hash: None,
            file_size: None,
            nar_hash,
            nar_size,
            references: &[],
            deriver: None,
            signatures: Vec::new(),
            content_address: None,
            extra: &[],
        };
        Self {
            #[cfg(feature = "signature")]
            store_dir,
            parts,
            references: Vec::new(),
            signatures: Vec::new(),
            extra: Vec::new(),
            #[cfg(feature = "signature")]
            signers: Vec::new(),
        }
    }

    /// Sets the compression of the file at the URL.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.parts.compression = compression.name();
        self
    }

    /// Sets the name of a compression that may have no codec here.
    pub(crate) fn compression_name(mut self, name: &'a str) -> Self {
        self.parts.compression = name;
        self
    }

    /// Sets the hash of the file at the URL.
    pub fn file_hash(mut self, hash: Hash) -> Self {
        self.parts.file_hash = Some(hash);
        self
    }

    /// Sets the size in bytes of the file at the URL. 0 means that it is not known.
    pub fn file_size(mut self, size: u64) -> Self {
        self.parts.file_size = Some(size).filter(|size| *size != 0);
        self
    }

    /// Adds paths that the contents refer to, in any order.
    pub fn references(mut self, references: impl IntoIterator<Item = StorePathRef<'a>>) -> Self {
        self.references.extend(references);
        self
    }

    /// Sets the derivation that built the path.
    pub fn deriver(mut self, deriver: StorePathRef<'a>) -> Self {
        self.parts.deriver = Some(deriver);
        self
    }

    /// Adds a signature that was made elsewhere.
    pub fn signature(mut self, signature: SignatureRef<'_>) -> Self {
        self.signatures.push(signature.to_text().into());
        self
    }

    /// Adds a signature that may be malformed.
    pub(crate) fn signature_text(mut self, signature: &'a str) -> Self {
        self.signatures.push(signature.into());
        self
    }

    /// Signs with a key when the narinfo is built.
    #[cfg(feature = "signature")]
    pub(crate) fn sign_by(mut self, key: &'a SecretKey, signer: Signer) -> Self {
        self.signers.push((key, signer));
        self
    }

    /// Sets the content address. Does not check whether it makes the path.
    pub fn content_address(mut self, address: ContentAddress) -> Self {
        self.parts.content_address = Some(address);
        self
    }

    /// Adds a field that Nix does not know, after all others. [`NarInfo::fields`] reads it.
    ///
    /// The name must not be empty or that of a known field, and must not contain a colon. Neither
    /// name nor value may have control characters.
    ///
    /// ```
    /// # use nixcache::{hash::Hash, narinfo::Builder, store_path::{StoreDir, StorePathRef}};
    /// # let store_dir = StoreDir::default();
    /// # let path = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-hello")?;
    /// # let nar_hash = Hash::sha256(b"the NAR");
    /// # let builder = Builder::new(&store_dir, path, "nar/hello.nar", nar_hash, 7);
    /// let info = builder.extra_field("System", "x86_64-linux").build()?;
    /// assert_eq!(info.as_ref().fields().last(), Some(("System", "x86_64-linux")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`NarInfo::fields`]: super::NarInfo::fields
    pub fn extra_field(mut self, name: &'a str, value: &'a str) -> Self {
        self.extra.push((name, value));
        self
    }

    /// Builds the narinfo. An error if it could not be parsed.
    pub fn build(mut self) -> Result<NarInfoBuf, Error> {
        self.check()?;
        if !self.references.is_sorted_by(|a, b| a < b) {
            self.references.sort_unstable();
            self.references.dedup();
        }
        #[cfg(feature = "signature")]
        for (key, signer) in std::mem::take(&mut self.signers) {
            let Parts { store_path, nar_hash, nar_size, .. } = self.parts;
            let (store_dir, references) = (self.store_dir, &*self.references);
            let signature = signer(key, &Unsigned { store_dir, store_path, nar_hash, nar_size, references });
            self.signatures.push(signature.as_ref().to_text().into());
        }
        let parts = Parts {
            references: &self.references,
            signatures: self.signatures.iter().map(|text| &**text).collect(),
            extra: &self.extra,
            ..self.parts
        };
        let (text, fields) = parts.write();
        // Places in the text are `u32`s.
        let limit = u32::MAX as usize;
        if text.len() > limit {
            return Err(Error::of(None, ErrorReason::TooLong { limit }));
        }
        Ok(NarInfoBuf { text: text.into(), fields })
    }

    /// Checks that the text could be parsed, and means what was set.
    fn check(&self) -> Result<(), Error> {
        let signatures = self.signatures.iter().map(|text| (Field::Sig, &**text));
        let texts = [(Field::Url, self.parts.url), (Field::Compression, self.parts.compression)];
        for (field, text) in texts.into_iter().chain(signatures) {
            if has_control(text) {
                return Err(Error::of(field, ErrorReason::Control));
            }
        }
        if self.parts.url.is_empty() {
            return Err(Error::of(Field::Url, ErrorReason::Empty));
        }
        let algorithm = self.parts.nar_hash.algorithm();
        if algorithm != Algorithm::Sha256 {
            return Err(Error::of(Field::NarHash, ErrorReason::NarHashAlgorithm(algorithm)));
        }
        if self.parts.nar_size == 0 {
            return Err(Error::of(Field::NarSize, ErrorReason::NoSize));
        }
        for (name, value) in &self.extra {
            let is_known = Field::ALL.iter().any(|field| field.name() == *name);
            if name.is_empty() || is_known || name.contains(':') || has_control(name) || has_control(value) {
                return Err(Error::of(None, ErrorReason::ExtraField { name: crate::text::excerpt(name) }));
            }
        }
        Ok(())
    }
}
