//! The file of a NAR in a cache: read once, and held against all that narinfos say of it.
//!
//! An [`Inspection`] is what some narinfos need to have found out about one file;
//! [`Inspection::read`] finds it out in one pass that never decompresses more than they say there
//! is. [`NarFile::mismatches`] then says for each narinfo in what the file is not what it says.

use std::io::{self, BufRead, BufReader, Read};

use nixcache::ErrorKind;
use nixcache::compression::{self, Compression, DecodeOptions, Decompressor};
use nixcache::hash::{self, Algorithm, Hash, Hasher};
use nixcache::nar::references::Candidates;
use nixcache::nar::{Limits, Listing, Observer, ReadError};
use nixcache::narinfo::NarInfo;
use nixcache::store_path::StoreDir;

use crate::verify::content_address::{AddressMismatch, Claim, Measure, Measured, Measuring};

/// How much is read at once.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// What is to be found out about a file.
#[derive(Clone, Debug)]
pub struct Inspection {
    compression: Compression,
    nar_size: u64,
    file: Vec<Algorithm>,
    measures: Vec<Measure>,
    limits: Limits,
    listing: bool,
    candidates: Option<Candidates>,
}

/// What a file turned out to be, of which the compression is not known.
#[derive(Debug)]
#[non_exhaustive]
pub struct RawFile {
    /// Its size in bytes.
    pub size: u64,
    /// Its hashes, by the algorithms that were asked for.
    pub hashes: Vec<Hash>,
}

/// What a file turned out to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct NarFile {
    /// Its size in bytes.
    pub size: u64,
    /// Its hashes, by the algorithms that were asked for.
    pub hashes: Vec<Hash>,
    /// Bytes of the NAR.
    pub nar_size: u64,
    /// The sha256 of the NAR.
    pub nar_hash: Hash,
    /// What is in the NAR, if that was asked for.
    pub listing: Option<Listing>,
    /// Which candidates occur in it, as their positions among the candidates.
    pub references: Vec<usize>,
    /// What content addresses are of.
    pub(crate) measured: Vec<Measured>,
}

/// Why a file could not be read to its end as a NAR.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NarFileError {
    /// It could not be read.
    #[error(transparent)]
    Io(io::Error),
    /// It is not what its narinfo says it is compressed as, or decompresses to more than there
    /// should be.
    #[error(transparent)]
    Compression(compression::Error),
    /// It is no NAR.
    #[error(transparent)]
    Nar(nixcache::nar::Error),
    /// A hash that cannot be computed.
    #[error(transparent)]
    Hash(#[from] hash::Error),
}

/// In what a file is not as a narinfo says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NarMismatch {
    /// It has another size.
    #[error("has {found} bytes, not the FileSize {expected}")]
    FileSize {
        /// What the narinfo says.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// It has another hash.
    #[error("has the hash {found}, not the FileHash {expected}")]
    FileHash {
        /// What the narinfo says.
        expected: Hash,
        /// What it is.
        found: Hash,
    },
    /// The NAR has another size.
    #[error("the NAR has {found} bytes, not the NarSize {expected}")]
    NarSize {
        /// What the narinfo says.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The NAR has another hash.
    #[error("the NAR has the hash {found}, not the NarHash {expected}")]
    NarHash {
        /// What the narinfo says.
        expected: Hash,
        /// What it is.
        found: Hash,
    },
    /// The content address is not true.
    #[error(transparent)]
    ContentAddress(AddressMismatch),
}

impl Inspection {
    /// All that this narinfo says. An error if its compression is not known.
    pub fn new(info: &NarInfo<'_>) -> Result<Self, compression::Error> {
        let mut inspection = Self {
            compression: info.compression()?,
            nar_size: 0,
            file: Vec::new(),
            measures: Vec::new(),
            limits: Limits::default(),
            listing: false,
            candidates: None,
        };
        inspection.add_narinfo(info);
        Ok(inspection)
    }

    /// Also what another narinfo says of the same file.
    pub fn add_narinfo(&mut self, info: &NarInfo<'_>) {
        self.nar_size = self.nar_size.max(info.nar_size());
        let algorithm = info.file_hash().map(|hash| hash.algorithm());
        self.file.extend(algorithm.filter(|new| !self.file.contains(new)));
        let measure = Claim::of(info).and_then(|claim| claim.measure());
        self.measures.extend(measure.filter(|new| !self.measures.contains(new)));
    }

    /// Allows archives beyond Nix's limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Also lists the contents.
    #[must_use]
    pub fn listing(self) -> Self {
        Self { listing: true, ..self }
    }

    /// Also looks for references to these.
    #[must_use]
    pub fn references(self, candidates: Candidates) -> Self {
        Self { candidates: Some(candidates), ..self }
    }

    /// Reads a file to its end.
    pub fn read(&self, file: impl Read) -> Result<NarFile, NarFileError> {
        let hashers = self.file.iter().map(|algorithm| Hasher::new(*algorithm)).collect::<Result<_, _>>()?;
        let mut file = Hashing { inner: BufReader::with_capacity(READ_BUFFER_BYTES, file), hashers, size: 0 };
        let options = DecodeOptions::default().with(|options| options.max_size = self.nar_size);
        let decoder = Decompressor::new(&mut file, self.compression, &options).map_err(NarFileError::from_codec)?;
        let mut observer = Observer::new().check(self.limits).hash(Algorithm::Sha256)?;
        if self.listing {
            observer = observer.listing();
        }
        if let Some(candidates) = &self.candidates {
            observer = observer.references(candidates);
        }
        let measuring = self.measures.iter().map(|measure| measure.start()).collect::<Result<_, _>>()?;
        let mut archive = Archive { decoder, measuring };
        let seen = observer.read(&mut archive).map_err(|error| match error {
            ReadError::Nar(error) => NarFileError::Nar(error),
            ReadError::Io { source, .. } => NarFileError::from_io(source),
            error => NarFileError::Io(io::Error::other(error)),
        })?;
        let measured = archive.measuring.into_iter().map(Measuring::finish).collect();
        let (size, found) = file.finish().map_err(NarFileError::Io)?;
        let nar_hash = seen.hashes[0];
        let (nar_size, listing, references) = (seen.size, seen.listing, seen.references);
        Ok(NarFile { size, hashes: found, nar_size, nar_hash, listing, references, measured })
    }
}

impl RawFile {
    /// Reads a file to its end without decompressing it, for narinfos whose compression is not
    /// known.
    pub fn read(infos: &[NarInfo<'_>], file: impl Read) -> Result<Self, NarFileError> {
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for algorithm in infos.iter().filter_map(NarInfo::file_hash).map(|hash| hash.algorithm()) {
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
            }
        }
        let hashers = algorithms.into_iter().map(Hasher::new).collect::<Result<_, _>>()?;
        let reader = Hashing { inner: BufReader::with_capacity(READ_BUFFER_BYTES, file), hashers, size: 0 };
        let (size, found) = reader.finish().map_err(NarFileError::Io)?;
        Ok(Self { size, hashes: found })
    }

    /// In what it is not as a narinfo says that it was read for.
    pub fn mismatches(&self, info: &NarInfo<'_>) -> Vec<NarMismatch> {
        file_mismatches(self.size, &self.hashes, info)
    }
}

/// In what a file is not as a narinfo says, whatever is in it.
fn file_mismatches(size: u64, hashes: &[Hash], info: &NarInfo<'_>) -> Vec<NarMismatch> {
    let mut mismatches = Vec::new();
    if let Some(expected) = info.file_size().filter(|expected| *expected != size) {
        mismatches.push(NarMismatch::FileSize { expected, found: size });
    }
    if let Some(expected) = info.file_hash()
        && let Some(&found) = hashes.iter().find(|hash| hash.algorithm() == expected.algorithm())
        && found != expected
    {
        mismatches.push(NarMismatch::FileHash { expected, found });
    }
    mismatches
}

impl NarMismatch {
    /// Whether it is about the file alone. The signed NAR may be right all the same.
    pub fn is_of_file(&self) -> bool {
        matches!(self, Self::FileSize { .. } | Self::FileHash { .. })
    }
}

impl NarFile {
    /// In what it is not as the narinfo says, which must be one that the [`Inspection`] was made
    /// for: what matters to the file first.
    pub fn mismatches(&self, info: &NarInfo<'_>) -> Vec<NarMismatch> {
        let mut mismatches = file_mismatches(self.size, &self.hashes, info);
        if self.nar_size != info.nar_size() {
            mismatches.push(NarMismatch::NarSize { expected: info.nar_size(), found: self.nar_size });
        }
        if self.nar_hash != info.nar_hash() {
            mismatches.push(NarMismatch::NarHash { expected: info.nar_hash(), found: self.nar_hash });
        }
        let store_dir = StoreDir::new(info.store_dir());
        let contradiction = store_dir.ok().and_then(|store_dir| Claim::contradiction(info, &store_dir));
        let refutation = || Claim::of(info).and_then(|claim| claim.refutation(self.nar_hash, &self.measured));
        mismatches.extend(contradiction.or_else(refutation).map(NarMismatch::ContentAddress));
        mismatches
    }
}

impl NarFileError {
    fn from_codec(error: compression::Error) -> Self {
        match error {
            compression::Error::Io(error) => Self::from_io(error),
            error => Self::Compression(error),
        }
    }

    /// What a decoder says inside an error of reading, apart from what the file system says.
    fn from_io(error: io::Error) -> Self {
        match error.downcast() {
            Ok(error) => Self::from_codec(error),
            Err(error) => Self::Io(error),
        }
    }

    /// Whether the compression is known, and this build cannot read it.
    pub(crate) fn is_unknown_compression(&self) -> bool {
        matches!(self, Self::Compression(compression::Error::NotCompiledIn { .. }))
    }

    /// The kind of this error: [`ErrorKind::Content`] if the file is wrong, and not the way to it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => crate::file::access_kind(error),
            Self::Compression(compression::Error::Setup { .. } | compression::Error::NotCompiledIn { .. }) => {
                ErrorKind::Internal
            }
            _ => ErrorKind::Content,
        }
    }
}

/// A NAR, decompressed, that is measured as it is read.
struct Archive<R> {
    decoder: R,
    measuring: Vec<Measuring>,
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.decoder.read(buffer)?;
        self.measuring.iter_mut().for_each(|measuring| measuring.update(&buffer[..len]));
        Ok(len)
    }
}

/// A reader that hashes and counts what is read.
struct Hashing<R> {
    inner: R,
    hashers: Vec<Hasher>,
    size: u64,
}

impl<R: BufRead> Hashing<R> {
    /// Size and hashes of everything, also of what nobody asked for.
    fn finish(mut self) -> io::Result<(u64, Vec<Hash>)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.size, self.hashers.into_iter().map(Hasher::finish).collect()))
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
            let bytes = &bytes[..len.min(bytes.len())];
            self.hashers.iter_mut().for_each(|hasher| hasher.update(bytes));
            self.size += bytes.len() as u64;
        }
        self.inner.consume(len);
    }
}
