//! The NARs of a local cache.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use nixcache::compression::{DecodeOptions, Decoder};
use nixcache::hash::{Algorithm, Hash, Hasher};
use nixcache::nar::scan::Candidates;
use nixcache::nar::{Limits, Observer};
use nixcache::narinfo::{NarInfo, NarUrl};
use nixcache::store_path::{ContentAddress, Method, StoreDir};

use crate::cli::Common;
use crate::failure::{Failure, Result};
use crate::input::BUFFER;
use crate::target::Group;

/// Checks NARs against their narinfos.
pub(super) struct Contents {
    directory: PathBuf,
    limits: Limits,
    /// The hash parts of all paths of the cache, and how to find them in a NAR.
    known: Vec<String>,
    candidates: Candidates,
}

/// Why a NAR is not as its narinfo says.
pub(super) enum Fault {
    /// It is not.
    Bad(String),
    /// That could not be found out.
    Failed(Failure),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Bad(reason)
    }
}

impl Contents {
    pub(super) fn new(common: &Common, group: &Group) -> Result<Self> {
        // What comes from standard input has none, and is refused before.
        let directory = group.directory.clone().unwrap_or_default();
        let mut known: Vec<String> = group.hash_parts()?.iter().map(ToString::to_string).collect();
        // A directory has no order of its own.
        known.sort_unstable();
        let candidates = Candidates::new(&known).map_err(|error| Failure::failed(&directory, error))?;
        Ok(Self { directory, limits: common.limits(), known, candidates })
    }

    /// Checks a NAR, and returns the hash parts of paths of this cache that it refers to without its narinfo saying so.
    pub(super) fn check(&self, info: &NarInfo<'_>) -> std::result::Result<Vec<String>, Fault> {
        let url = NarUrl::parse(info.url()).map_err(|error| format!("URL: {error}"))?;
        if url.is_absolute {
            return Err(format!("URL: {} is not in this cache", info.url().escape_debug()).into());
        }
        let compression = info.compression().map_err(|error| error.to_string())?;
        let path = self.directory.join(url.path);
        let failed = |error: &io::Error| Fault::Failed(Failure::failed(&path, error));
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::Bad(format!("there is no {}", url.path)),
            _ => failed(&error),
        })?;
        let size = file.metadata().map_err(|error| failed(&error))?.len();
        if info.file_size().is_some_and(|expected| expected != size) {
            return Err(format!("{} has {size} bytes, not the FileSize", url.path).into());
        }
        let algorithm = info.file_hash().map_or(Algorithm::Sha256, |hash| hash.algorithm());
        let hasher = Hasher::new(algorithm).map_err(|error| error.to_string())?;
        let mut reader = Hashing { inner: BufReader::with_capacity(BUFFER, file), hasher };

        let proving = proving_address(info).map(|address| address.hash());
        let options = DecodeOptions { max_size: info.nar_size(), ..DecodeOptions::default() };
        let decoding = |error: &io::Error| match nixcache::compression::Error::of(error) {
            Some(nixcache::compression::Error::Io(error)) => failed(error),
            Some(error) => Fault::Bad(format!("{}: {error}", url.path)),
            None => failed(error),
        };
        let seen = {
            let decoder = Decoder::new(&mut reader, compression, &options);
            let decoder = decoder.map_err(|error| Fault::Bad(format!("{}: {error}", url.path)))?;
            let mut observer = Observer::new().hash(Algorithm::Sha256).map_err(|error| error.to_string())?;
            if let Some(hash) = proving {
                observer = observer.hash(hash.algorithm()).map_err(|error| error.to_string())?;
            }
            let observer = observer.check(self.limits).references(&self.candidates);
            observer.read(decoder).map_err(|error| match &error {
                nixcache::nar::ReadError::Io { source, .. } => decoding(source),
                error => Fault::Bad(format!("{}: {error}", url.path)),
            })?
        };
        let file_hash = reader.finish().map_err(|error| failed(&error))?;
        if let Some(expected) = info.file_hash().filter(|expected| *expected != file_hash) {
            return Err(format!("{} has the hash {file_hash}, not the FileHash {expected}", url.path).into());
        }
        if seen.size != info.nar_size() {
            return Err(format!("the NAR has {} bytes, not the NarSize {}", seen.size, info.nar_size()).into());
        }
        if let Some(found) = seen.hashes.first().filter(|found| **found != info.nar_hash()) {
            return Err(format!("the NAR has the hash {found}, not the NarHash {}", info.nar_hash()).into());
        }
        // Nobody signs this but the path itself.
        if let (Some(expected), [_, found]) = (proving, &seen.hashes[..])
            && expected != *found
        {
            return Err(format!("the NAR has the hash {found}, not that of the content address, {expected}").into());
        }
        let declared: Vec<&str> = info.references().iter().map(|reference| reference.hash_text()).collect();
        let found = seen.references.iter().map(|&index| &self.known[index]);
        Ok(found.filter(|part| !declared.contains(&part.as_str())).cloned().collect())
    }
}

/// The content address that makes the path, where it is the hash of the NAR as it is: not of a file by itself, and not of a NAR
/// without the references to its own path.
fn proving_address(info: &NarInfo<'_>) -> Option<ContentAddress> {
    let store_dir = StoreDir::new(info.store_dir()).ok()?;
    let refers_to_itself = info.references().iter().any(|reference| reference == info.store_path());
    let address = info.content_address()?;
    (address.method() == Method::Nar && !refers_to_itself && info.is_content_addressed(&store_dir)).then_some(address)
}

/// A reader that hashes what is read.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: BufRead> Hashing<R> {
    /// The hash of everything, also of what nobody asked for.
    fn finish(mut self) -> io::Result<Hash> {
        io::copy(&mut self.inner, &mut self.hasher)?;
        Ok(self.hasher.finish())
    }
}

impl<R: BufRead> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buffer)?;
        self.consume(len);
        Ok(len)
    }
}

impl<R: BufRead> BufRead for Hashing<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, len: usize) {
        if let Ok(bytes) = self.inner.fill_buf() {
            self.hasher.update(&bytes[..len.min(bytes.len())]);
        }
        self.inner.consume(len);
    }
}
