//! One NAR: from the bytes of its file to what becomes of it, checked on the way.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nixcache::compression::{self, Compression, DecodeOptions, Decompressor};
use nixcache::hash::{Algorithm, Hash, Hasher};
use nixcache::nar::{Listing, Observation, Observer, ReadError, UnpackError, Unpacker};
use nixcache::narinfo::{NarInfo, NarInfoBuf};

use super::{FetchFault, PullEvent, PullOptions};
use crate::cache::{ObjectReader, Staging};
use crate::progress::Progress;
use crate::verify::content_address::{Claim, Measure, Measuring};
use crate::verify::{NarFile, NarFileMismatch};

/// From this many bytes on, a NAR is worth several threads for itself.
const PARALLEL_DECODE_MIN_BYTES: u64 = 32 << 20;

const READ_BUFFER_BYTES: usize = 256 << 10;

/// Receives the NARs of a pull.
#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) options: Arc<PullOptions>,
    pub(super) stopped: Arc<AtomicBool>,
}

/// What becomes of a NAR.
#[derive(Clone, Debug)]
pub(super) enum Sink {
    /// A tree, as in a store.
    Tree(PathBuf),
    /// A file with the NAR, decompressed.
    Archive(PathBuf),
    /// Nothing: its file is copied as it is.
    Nothing {
        /// Whether to list what is in the NAR.
        listing: bool,
    },
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) file_size: u64,
    /// The copy, and the sha256 of the file.
    pub(super) copy: Option<(Staging, Hash)>,
    pub(super) listing: Option<Listing>,
}

/// Why nothing did.
#[derive(Debug)]
pub(super) enum Failure {
    /// The NAR is at fault, or the way to it.
    Nar(FetchFault),
    /// Where it is put.
    Sink(io::Error),
    /// Where its tree is put.
    Tree(UnpackError),
}

impl From<FetchFault> for Failure {
    fn from(fault: FetchFault) -> Self {
        Self::Nar(fault)
    }
}

impl Receiver {
    /// Reads a NAR to its end. What is in the sink, or the copy, is worth something only if this
    /// succeeds.
    pub(super) fn receive(
        &self,
        info: &NarInfoBuf,
        object: ObjectReader,
        copy: Option<Staging>,
        sink: &Sink,
    ) -> Result<Received, Failure> {
        let info = info.as_ref();
        let compression = info.compression().map_err(FetchFault::Compression)?;
        if let Some(mismatch) = Claim::contradiction(&info, &self.options.store_dir) {
            return Err(FetchFault::Mismatch(Box::new(NarFileMismatch::ContentAddress(mismatch))).into());
        }
        let measure = Claim::of(&info).and_then(|claim| claim.measure());
        let measuring = measure.map(Measure::start).transpose().map_err(FetchFault::Hash)?;
        let source = Source::new(&info, compression, object, copy, &self.stopped)?;
        let threads =
            if info.nar_size() >= PARALLEL_DECODE_MIN_BYTES { self.options.threads } else { NonZeroUsize::MIN };
        let options = DecodeOptions::default().with(|options| {
            options.max_size = info.nar_size();
            options.threads = threads;
        });
        let decoder = Decompressor::new(source, compression, &options).map_err(FetchFault::Compression)?;
        let mut archive = Archive { decoder, measuring, progress: &self.options.progress };
        let observer = Observer::new().hash(Algorithm::Sha256).map_err(FetchFault::Hash)?;
        let seen = match sink {
            Sink::Tree(path) => {
                let unpacker = Unpacker::new().limits(self.options.limits).threads(threads).canonical(true);
                unpacker.unpack(&mut archive, path, observer).map_err(Broken::from)
            }
            Sink::Archive(path) => write(&mut archive, observer.check(self.options.limits), path),
            Sink::Nothing { listing } => {
                let observer = observer.check(self.options.limits);
                let observer = if *listing { observer.listing() } else { observer };
                observer.read(&mut archive).map_err(Broken::from)
            }
        };
        let Archive { decoder, measuring, .. } = archive;
        let mut source = decoder.into_inner();
        let seen = seen.map_err(|broken| source.failure(broken))?;
        if let Some(error) = source.failed.take() {
            return Err(Failure::Sink(error));
        }
        let Source { hashers, size: file_size, copy, .. } = source;
        let nar_hash = seen.hashes[0];
        let mut hashes: Vec<Hash> = hashers.into_iter().map(Hasher::finish).collect();
        let file_hash = hashes.iter().find(|hash| hash.algorithm() == Algorithm::Sha256).copied();
        // Of a file that is not compressed, the sha256 is that of the NAR.
        let file_hash = file_hash.unwrap_or_else(|| {
            if compression == Compression::None {
                hashes.push(nar_hash);
            }
            nar_hash
        });
        let file = NarFile {
            size: file_size,
            hashes,
            nar_size: seen.size,
            nar_hash,
            listing: seen.listing,
            references: Vec::new(),
            measured: measuring.map(Measuring::finish).into_iter().collect(),
        };
        let (of_file, of_nar): (Vec<_>, Vec<_>) =
            file.mismatches(&info).into_iter().partition(NarFileMismatch::is_of_file);
        if let Some(mismatch) = of_nar.into_iter().next() {
            return Err(FetchFault::Mismatch(Box::new(mismatch)).into());
        }
        // Readers need no FileSize or FileHash, and no signature covers them.
        for mismatch in of_file {
            tracing::warn!("{}: {mismatch}; its NAR is right", info.store_path());
        }
        Ok(Received { file_size, copy: copy.map(|staging| (staging, file_hash)), listing: file.listing })
    }
}

/// Where in between it broke.
enum Broken {
    Archive(nixcache::nar::Error),
    Read(io::Error),
    Sink(io::Error),
    Tree(UnpackError),
}

impl From<ReadError> for Broken {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Nar(error) => Self::Archive(error),
            ReadError::Io { source, .. } => Self::Read(source),
            // There are no others yet.
            error => Self::Read(io::Error::other(error)),
        }
    }
}

impl From<UnpackError> for Broken {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Nar(error) => Self::Archive(error),
            UnpackError::Read { source, .. } => Self::Read(source),
            error => Self::Tree(error),
        }
    }
}

/// Writes a NAR to a file, and to the disk.
fn write(archive: &mut impl Read, mut observer: Observer, path: &Path) -> Result<Observation, Broken> {
    let mut file = File::options().write(true).create_new(true).open(path).map_err(Broken::Sink)?;
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        let len = match archive.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Read(error)),
        };
        observer.update(&buffer[..len]).map_err(Broken::Archive)?;
        file.write_all(&buffer[..len]).map_err(Broken::Sink)?;
    }
    file.sync_all().map_err(Broken::Sink)?;
    observer.finish().map_err(Broken::Archive)
}

/// A NAR, decompressed.
struct Archive<'a> {
    decoder: Decompressor<Source<'a>>,
    measuring: Option<Measuring>,
    progress: &'a Progress<PullEvent>,
}

impl Read for Archive<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.decoder.read(buffer)?;
        if let Some(measuring) = &mut self.measuring {
            measuring.update(&buffer[..len]);
        }
        self.progress.report(PullEvent::Received { bytes: len as u64 });
        Ok(len)
    }
}

/// The file of a NAR: counted, hashed and copied as it is read.
struct Source<'a> {
    object: BufReader<ObjectReader>,
    size: u64,
    /// More bytes than this are too many.
    limit: u64,
    is_too_large: bool,
    hashers: Vec<Hasher>,
    copy: Option<Staging>,
    /// Why the copy could not be written.
    failed: Option<io::Error>,
    stopped: &'a AtomicBool,
}

impl<'a> Source<'a> {
    fn new(
        info: &NarInfo<'_>,
        compression: Compression,
        object: ObjectReader,
        copy: Option<Staging>,
        stopped: &'a AtomicBool,
    ) -> Result<Self, FetchFault> {
        let mut algorithms: Vec<Algorithm> = info.file_hash().map(|hash| hash.algorithm()).into_iter().collect();
        if copy.is_some() && !algorithms.contains(&Algorithm::Sha256) {
            algorithms.push(Algorithm::Sha256);
        }
        // The NAR itself, which is hashed already.
        algorithms.retain(|algorithm| compression != Compression::None || *algorithm != Algorithm::Sha256);
        let hashers = algorithms.into_iter().map(Hasher::new).collect::<Result<_, _>>().map_err(FetchFault::Hash)?;
        // No compression makes a NAR so much larger, nor does a seek table.
        let most = info.nar_size().saturating_mul(2).saturating_add(1 << 20);
        Ok(Self {
            object: BufReader::with_capacity(READ_BUFFER_BYTES, object),
            size: 0,
            // FileSize is not signed, and may be that of another compression.
            limit: info.file_size().unwrap_or(0).max(most),
            is_too_large: false,
            hashers,
            copy,
            failed: None,
            stopped,
        })
    }

    /// Whose fault it is that something broke.
    fn failure(&mut self, broken: Broken) -> Failure {
        match broken {
            Broken::Archive(error) => FetchFault::Nar(error).into(),
            Broken::Sink(error) => Failure::Sink(error),
            Broken::Tree(error @ UnpackError::CaseHack { .. }) => FetchFault::Unpack(Box::new(error)).into(),
            Broken::Tree(error) => Failure::Tree(error),
            Broken::Read(_) if self.is_too_large => FetchFault::TooLong { limit: self.limit }.into(),
            Broken::Read(error) => {
                if let Some(error) = self.failed.take() {
                    return Failure::Sink(error);
                }
                if let Some(error) = self.object.get_mut().failure() {
                    return FetchFault::Cache(error).into();
                }
                match error.downcast::<compression::Error>() {
                    Ok(compression::Error::Io(error)) | Err(error) => FetchFault::Read(error).into(),
                    Ok(error) => FetchFault::Compression(error).into(),
                }
            }
        }
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.failed.is_some() || self.stopped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Other.into());
        }
        let buffer = self.object.fill_buf()?;
        if self.limit - self.size < buffer.len() as u64 {
            self.is_too_large = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(buffer)
    }

    fn consume(&mut self, len: usize) {
        let bytes = &self.object.buffer()[..len];
        self.hashers.iter_mut().for_each(|hasher| hasher.update(bytes));
        if let Some(copy) = &mut self.copy
            && let Err(error) = copy.write_all(bytes)
        {
            self.failed = Some(error);
        }
        self.size += len as u64;
        self.object.consume(len);
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buffer)?;
        self.consume(len);
        Ok(len)
    }
}
