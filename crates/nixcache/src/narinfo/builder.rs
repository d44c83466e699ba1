use crate::compression::Compression;
use crate::hash::Hash;
use crate::signature::SignatureRef;
use crate::store_path::{ContentAddress, StoreDir, StorePathRef};

use super::write::Parts;
use super::{Error, Field, NarInfo, NarInfoBuf, Reason};

/// Makes a narinfo of its parts, as Nix would write it. What could not be read back cannot be
/// built.
///
/// ```
/// # use nixcache::{hash::Hash, narinfo::Builder, store_path::{StoreDir, StorePathRef}};
/// let store_dir = StoreDir::default();
/// let path = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-hello")?;
/// let nar_hash = Hash::sha256(b"the NAR");
/// let info = Builder::new(&store_dir, path, "nar/hello.nar", nar_hash, 7).references([path]).build()?;
/// assert!(info.as_ref().is_canonical());
/// assert!(Builder::new(&store_dir, path, "nar/hello.nar\nSig: forged", nar_hash, 7).build().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is made before `build`"]
pub struct Builder<'a> {
    store_dir: &'a StoreDir,
    parts: Parts<'a>,
    references: Vec<StorePathRef<'a>>,
    signatures: Vec<String>,
}

impl<'a> Builder<'a> {
    /// The narinfo of a path whose NAR, uncompressed, is at `url`. The hash must be a sha256, the
    /// size in bytes not 0.
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
        };
        Self { store_dir, parts, references: Vec::new(), signatures: Vec::new() }
    }

    /// Says how what is at the URL is compressed.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.parts.compression = compression.name();
        self
    }

    /// The same for a compression that may have no codec here.
    pub(crate) fn compression_name(mut self, name: &'a str) -> Self {
        self.parts.compression = name;
        self
    }

    /// The hash of what is at the URL.
    pub fn file_hash(mut self, hash: Hash) -> Self {
        self.parts.file_hash = Some(hash);
        self
    }

    /// The size of what is at the URL, in bytes; 0 says that it is not known.
    pub fn file_size(mut self, size: u64) -> Self {
        self.parts.file_size = Some(size).filter(|size| *size != 0);
        self
    }

    /// Adds paths that the contents refer to, in any order.
    pub fn references(mut self, references: impl IntoIterator<Item = StorePathRef<'a>>) -> Self {
        self.references.extend(references);
        self
    }

    /// The derivation that made the path.
    pub fn deriver(mut self, deriver: StorePathRef<'a>) -> Self {
        self.parts.deriver = Some(deriver);
        self
    }

    /// Adds a signature.
    pub fn signature(mut self, signature: SignatureRef<'_>) -> Self {
        self.signatures.push(signature.to_string());
        self
    }

    /// The same for one that may be malformed, as it was found elsewhere.
    pub(crate) fn signature_text(mut self, signature: &str) -> Self {
        self.signatures.push(signature.to_owned());
        self
    }

    /// The content address. Whether it makes the path is not checked.
    pub fn content_address(mut self, address: ContentAddress) -> Self {
        self.parts.content_address = Some(address);
        self
    }

    /// The narinfo; an error if it could not be read back.
    pub fn build(mut self) -> Result<NarInfoBuf, Error> {
        // Else the value would go on as another field.
        let signatures = self.signatures.iter().map(|text| (Field::Sig, text.as_str()));
        let texts = [(Field::Url, self.parts.url), (Field::Compression, self.parts.compression)];
        for (field, text) in texts.into_iter().chain(signatures) {
            if text.chars().any(char::is_control) {
                return Err(Error::of(field, Reason::Control));
            }
        }
        self.references.sort_unstable();
        self.references.dedup();
        let parts = Parts {
            references: &self.references,
            signatures: self.signatures.iter().map(String::as_str).collect(),
            ..self.parts
        };
        let mut text = Vec::with_capacity(1024);
        parts.write(&mut text);
        NarInfo::parse_limited(&text, self.store_dir, usize::MAX).map(|info| info.to_owned())
    }
}
