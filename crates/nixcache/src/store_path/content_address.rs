//! Content addresses, and the paths that they make.

use std::fmt;
use std::str::FromStr;

use crate::hash::{Algorithm, Format, Hash, Hasher};
use crate::text::excerpt;

use super::{Error, HashPart, StoreDir, StorePath, StorePathRef};

/// How contents are turned into the bytes that a [`ContentAddress`] hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Method {
    /// The bytes of one file that may refer to other paths, as `builtins.toFile` makes it. Always
    /// sha256.
    Text,
    /// The bytes of one file that is not executable.
    Flat,
    /// The NAR of a tree.
    Nar,
    /// The git object of a tree. Experimental in Nix 2.34.
    Git,
}

impl Method {
    const ALL: [Self; 4] = [Self::Text, Self::Nar, Self::Git, Self::Flat];

    /// The beginning of a content address.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Text => "text:",
            Self::Flat => "fixed:",
            Self::Nar => "fixed:r:",
            Self::Git => "fixed:git:",
        }
    }
}

/// The name that Nix uses: `text`, `flat`, `nar` or `git`.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Text => "text",
            Self::Flat => "flat",
            Self::Nar => "nar",
            Self::Git => "git",
        })
    }
}

/// What fixes the name of a content-addressed store path: `fixed:r:sha256:…` in the `CA` field of a
/// narinfo.
///
/// The contents of such a path prove its name, so Nix trusts it without a signature.
///
/// ```
/// use nixcache::store_path::{ContentAddress, Method};
///
/// let text = "fixed:r:sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";
/// let address = ContentAddress::parse(text)?;
/// assert_eq!(address.method(), Method::Nar);
/// # Ok::<(), nixcache::store_path::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentAddress {
    method: Method,
    hash: Hash,
}

impl ContentAddress {
    /// Makes an address from a known hash. [`Error::TextAlgorithm`] for text with another hash than
    /// a sha256.
    pub fn new(method: Method, hash: Hash) -> Result<Self, Error> {
        if method == Method::Text && hash.algorithm() != Algorithm::Sha256 {
            return Err(Error::TextAlgorithm { algorithm: hash.algorithm() });
        }
        Ok(Self { method, hash })
    }

    /// Parses the text that [`Display`](fmt::Display) writes, also with the digest in base16 or
    /// base64.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let known = Method::ALL.into_iter().find_map(|method| Some((method, text.strip_prefix(method.prefix())?)));
        // `Hash::parse` accepts SRI, which has no colon.
        let Some((method, hash)) = known.filter(|(_, hash)| hash.contains(':')) else {
            return Err(Error::AddressMethod { text: excerpt(text) });
        };
        Self::new(method, Hash::parse(hash)?)
    }

    /// How the contents were serialised.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The hash of the serialised contents. If they refer to their own path, it is the hash modulo
    /// self-references.
    pub const fn hash(&self) -> Hash {
        self.hash
    }
}

impl FromStr for ContentAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// Writes the form of a narinfo's `CA`, with the digest in nixbase32.
impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.method.prefix(), self.hash)
    }
}

impl fmt::Debug for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentAddress({self})")
    }
}

impl StoreDir {
    /// Makes the path that contents with this address and these references have in this store.
    ///
    /// `references` are those to other paths, in any order. `to_itself` says whether the contents
    /// refer to the path that is made. Only [`Method::Text`] (to others) and [`Method::Nar`] with
    /// sha256 can have references. (See "Store path specification" in the manual of Nix 2.34.)
    pub fn make_path(
        &self,
        name: &str,
        address: &ContentAddress,
        references: &[StorePathRef<'_>],
        to_itself: bool,
    ) -> Result<StorePath, Error> {
        let ContentAddress { method, hash } = *address;
        let algorithm = hash.algorithm();
        let named = method == Method::Text || (method == Method::Nar && algorithm == Algorithm::Sha256);
        if (!named && !references.is_empty()) || (to_itself && (!named || method == Method::Text)) {
            return Err(Error::References { method, algorithm, to_itself: named || references.is_empty() });
        }
        let mut hasher = Hasher::sha256();
        let inner = if named {
            hasher.update(if method == Method::Text { b"text" } else { b"source" });
            let mut references = references.to_vec();
            references.sort_unstable();
            references.dedup();
            for reference in references {
                for piece in [":", self.as_str(), "/", reference.as_str()] {
                    hasher.update(piece.as_bytes());
                }
            }
            hasher.update(if to_itself { b":self" } else { b"" });
            hash
        } else {
            hasher.update(b"output:out");
            let ingestion = method.prefix().trim_start_matches("fixed:");
            let description = format!("fixed:out:{ingestion}{}:", hash.display(Format::Base16));
            Hash::sha256(description.as_bytes())
        };
        for piece in [":", inner.display(Format::Base16).as_str(), ":", self.as_str(), ":", name] {
            hasher.update(piece.as_bytes());
        }
        StorePath::new(fold(&hasher.finish()), name)
    }

    /// Whether `path` is the path that `address` makes. `references` are all its references, itself
    /// included if it refers to itself.
    ///
    /// Nix trusts such a path without a signature.
    pub fn is_content_addressed<'a>(
        &self,
        path: StorePathRef<'_>,
        address: &ContentAddress,
        references: impl IntoIterator<Item = StorePathRef<'a>>,
    ) -> bool {
        let mut others: Vec<StorePathRef<'a>> = references.into_iter().collect();
        let all = others.len();
        others.retain(|reference| *reference != path);
        let made = self.make_path(path.name(), address, &others, others.len() < all);
        made.is_ok_and(|made| made == path)
    }
}

/// Folds 32 bytes into 20, by exclusive or.
fn fold(hash: &Hash) -> HashPart {
    let mut bytes = [0; HashPart::LEN];
    for (index, byte) in hash.digest().iter().enumerate() {
        bytes[index % HashPart::LEN] ^= byte;
    }
    HashPart::new(bytes)
}
