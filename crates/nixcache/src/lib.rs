//! The formats of Nix binary caches, exact to the byte: NARs, narinfos, store paths, hashes,
//! signatures, path infos and realisations, and the graph of their references.
//!
//! The crate is for the tools around caches: it parses and writes what Nix writes, packs and
//! unpacks trees, signs and verifies. It has no async runtime and no network; `nixcache-client` has
//! both. It has no `unsafe` code, and allocates nothing by a length that an input merely claims.
//!
//! # Quick start
//!
//! ```
//! # #[cfg(feature = "signature")] {
//! use nixcache::hash::Hash;
//! use nixcache::narinfo::{Builder, NarInfo};
//! use nixcache::signature::{KeyName, SecretKey};
//! use nixcache::store_path::StoreDir;
//! use nixcache::trust::{TrustPolicy, TrustedKeys, Verifier};
//!
//! // Make a NAR and the narinfo of its store path, and sign it.
//! let mut nar = nixcache::nar::Writer::new(Vec::new());
//! nar.file(b"", false, b"Hello, world!\n")?;
//! let nar = nar.finish()?;
//! let store = StoreDir::default();
//! let path = store.parse("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-hello-2.12.1")?;
//! let key = SecretKey::generate(KeyName::new("cache.example.org-1")?)?;
//! let info = Builder::new(&store, path, "nar/hello.nar", Hash::sha256(&nar), nar.len() as u64)
//!     .sign(&key)
//!     .build()?;
//!
//! // Elsewhere: parse the narinfo, verify it, and check the NAR against it.
//! let info = NarInfo::parse(info.as_str().as_bytes(), &store)?;
//! let policy = TrustPolicy::new(TrustedKeys::from_iter([key.public_key().clone()]));
//! assert!(Verifier::new(&policy).verify(&info).is_valid());
//! assert_eq!(info.store_path().split_version(), ("hello", Some("2.12.1")));
//! assert_eq!(info.nar_hash(), Hash::sha256(&nar));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! | module | holds |
//! |---|---|
//! | [`hash`] | hash algorithms, their texts, nixbase32, streaming hashers |
//! | [`store_path`] | store directories, store paths, content addresses |
//! | [`nar`] | decoding, encoding, packing, unpacking, listings, reference scans |
//! | [`compression`] | the codecs that a cache can name, as `Read` and `Write` adaptors |
//! | [`signature`] | key names, keys, signatures, verification one by one and in batches |
//! | [`narinfo`] | narinfos: parsing, deviations, building, editing in place; `nix-cache-info` |
//! | [`trust`] | fingerprints, trusted keys and policies, verification of narinfos |
//! | [`path_info`] | the metadata of a store path; as JSON in all versions, registrations, export streams |
//! | [`closure`] | the graph of references: closures, referrers, order, sizes, upload plans |
//! | `realisation` | the outputs of content-addressed derivations: build traces and the older form |
//! | `json` | errors of JSON documents, with their place |
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `fs` | packing, measuring and unpacking of trees on a file system | yes |
//! | `json` | `.ls` listings, path infos and realisations as JSON | yes |
//! | `signature` | keys and verification: [`signature`], [`trust`] | yes |
//! | `page` | a closure as an HTML page | no |
//! | `xz`, `zstd` | codecs; `xz` includes lzip and lzma | yes |
//! | `brotli`, `bzip2`, `gzip`, `lz4` | more codecs | no |
//! | `blake3`, `md5`, `sha1` | computing these hashes; their texts are always available | no |
//! | `serde` | `Serialize` and `Deserialize`, as text, for hashes, store paths, keys and signatures | no |
//! | `stream` | NARs as streams of `Bytes`: decoding, decompressing and, with `fs`, packing | no |
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod closure;
pub mod compression;
mod error_kind;
pub mod hash;
#[cfg(feature = "json")]
pub mod json;
pub mod nar;
pub mod narinfo;
pub mod path_info;
#[cfg(feature = "json")]
pub mod realisation;
#[cfg(feature = "serde")]
mod serde;
pub mod signature;
pub mod store_path;
mod text;
mod threads;
pub mod trust;

pub use self::error_kind::ErrorKind;

/// Compiles the README's example.
#[cfg(all(doctest, feature = "fs"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles and runs the examples of the book.
#[cfg(all(doctest, feature = "fs"))]
#[doc = include_str!("../../../docs/reference/rust.md")]
struct Book;
