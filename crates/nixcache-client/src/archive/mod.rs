//! One path of a cache, without fetching all of it: what it contains, and single files.
//!
//! What is in a path is in its listing (`.ls`), if the cache has one; else the NAR is read. A file
//! is read by byte ranges where that is possible: in a NAR that is not compressed, and in zstd that
//! has a seek table ([`seekable`](nixcache::compression::seekable)). Of others everything before
//! the file is decompressed, and nothing after it.
//!
//! No signature is checked here, and no hash: only a whole NAR has one. What is returned is what
//! the cache says. That the listing fits the NAR is checked by the length that stands before each
//! file there, and each frame has to hold what the seek table says.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::io::{self, BufReader, Write};
use std::ops::Range;

use nixcache::ErrorKind;
use nixcache::compression::seekable::{Frame, SeekTable, Tail};
use nixcache::compression::{self, Compression, DecodeOptions, Decompressor};
use nixcache::nar::{self, Event, Limits, Listing, NodeKind, ReadError, Reader};
use nixcache::narinfo::NarInfoBuf;
use nixcache::store_path::HashPart;

use crate::cache::{self, Cache, ObjectReader, blocking, layout};

/// Bytes of a NAR that are read at once, decompressed or not.
const PIECE: u64 = 4 << 20;

/// Bytes of the end of a file in which its seek table is looked for: enough for 5,000 frames.
const TAIL: u64 = 64 << 10;

/// Compressed bytes of frames that are fetched together.
const FRAMES: u64 = 4 << 20;

/// The same, decompressed, unless a single frame has more.
const CONTENT: u64 = 16 << 20;

/// The largest frame, decompressed, that is worth less than reading a file from its beginning.
const LARGEST_FRAME: u64 = 64 << 20;

/// The bytes that say how long a file in a NAR is.
const LENGTH: usize = 8;

/// Why a path could not be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cache could not be read, or its narinfo not be understood.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The NAR is not where its narinfo says.
    #[error("{object}: there is no such object")]
    Absent {
        /// The NAR.
        object: String,
    },
    /// The NAR is not as its listing says.
    #[error("{object}: at byte {offset} of the NAR: {reason}")]
    Mismatch {
        /// The NAR.
        object: String,
        /// Where, in bytes from the beginning of the NAR.
        offset: u64,
        /// What is there.
        reason: &'static str,
    },
    /// It is no NAR.
    #[error("{object}: {error}")]
    Nar {
        /// What should be one.
        object: String,
        /// What is wrong.
        #[source]
        error: nar::Error,
    },
    /// It cannot be decompressed, or the compression is not known.
    #[error("{object}: {error}")]
    Compression {
        /// The NAR.
        object: String,
        /// What is wrong.
        #[source]
        error: compression::Error,
    },
    /// There is no such entry.
    #[error("has no entry \"{}\"", path.escape_ascii())]
    NoEntry {
        /// What was asked for.
        path: Vec<u8>,
    },
    /// It is a directory.
    #[error("\"{}\" is a directory, not a file", path.escape_ascii())]
    Directory {
        /// What was asked for.
        path: Vec<u8>,
    },
    /// It is a symlink, which is not followed.
    #[error("\"{}\" is a symlink to \"{}\", not a file", path.escape_ascii(), target.escape_ascii())]
    Symlink {
        /// What was asked for.
        path: Vec<u8>,
        /// Where it points.
        target: Vec<u8>,
    },
    /// What was read could not be written.
    #[error("{0}")]
    Write(#[source] io::Error),
    /// A file could not be read.
    #[error("{object}: {error}")]
    Read {
        /// The file.
        object: String,
        /// The failure.
        #[source]
        error: io::Error,
    },
}

impl Error {
    /// The kind of this error: [`ErrorKind::Content`] if the NAR or its narinfo is wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache(error) => error.kind(),
            Self::NoEntry { .. } => ErrorKind::NotFound,
            Self::Directory { .. } | Self::Symlink { .. } => ErrorKind::Usage,
            Self::Write(error) | Self::Read { error, .. } => crate::file::access_kind(error),
            Self::Absent { .. } | Self::Mismatch { .. } | Self::Nar { .. } | Self::Compression { .. } => {
                ErrorKind::Content
            }
        }
    }
}

/// One path of a cache.
///
/// ```
/// use nixcache::store_path::HashPart;
/// use nixcache_client::archive::{Archive, Error};
/// use nixcache_client::cache::Cache;
///
/// # #[allow(dead_code)]
/// async fn print(cache: &Cache, hash_part: HashPart) -> Result<(), Error> {
///     let Some(archive) = Archive::find(cache, hash_part).await? else { return Ok(()) };
///     archive.copy_file(b"share/doc/README", std::io::stdout()).await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Archive {
    cache: Cache,
    info: NarInfoBuf,
    nar: String,
    compression: Compression,
    limits: Limits,
}

impl Archive {
    /// Looks a path up.
    pub async fn find(cache: &Cache, hash_part: HashPart) -> Result<Option<Self>, Error> {
        let Some(info) = cache.narinfo(hash_part).await? else { return Ok(None) };
        let object = || cache.display_name(&layout::narinfo(hash_part));
        let compression =
            info.as_ref().compression().map_err(|error| Error::Compression { object: object(), error })?;
        let nar = cache.nar(&info.as_ref())?;
        Ok(Some(Self { cache: cache.clone(), info, nar, compression, limits: Limits::default() }))
    }

    /// Allows archives beyond Nix's limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What the cache says of the path.
    pub fn info(&self) -> &NarInfoBuf {
        &self.info
    }

    /// What the path contains: by its listing, or else by reading the NAR.
    pub async fn listing(&self) -> Result<Listing, Error> {
        if let Some(listing) = self.listing_object().await? {
            return Ok(listing);
        }
        let archive = self.clone();
        let object = self.open().await?;
        blocking(move || {
            let mut reader = archive.reader(object)?;
            let listed = Listing::read(&mut reader).and_then(|listing| reader.expect_end().map(|()| listing));
            listed.map_err(|error| archive.broken(error, reader.into_inner()))
        })
        .await
    }

    /// Copies the contents of a file to `out`.
    ///
    /// After an error, `out` may have got a part of them.
    pub async fn copy_file(&self, path: &[u8], mut out: impl Write + Send) -> Result<(), Error> {
        if let Some(listing) = self.listing_object().await? {
            let node = listing.root().get(path).ok_or_else(|| Error::NoEntry { path: path.to_owned() })?;
            let (size, offset) = match node.kind() {
                NodeKind::File { size, offset, .. } => (size, offset),
                NodeKind::Symlink { target } => {
                    return Err(Error::Symlink { path: path.to_owned(), target: target.to_owned() });
                }
                _ => return Err(Error::Directory { path: path.to_owned() }),
            };
            if let Some(offset) = offset.filter(|offset| *offset >= LENGTH as u64)
                && let Some(ranges) = self.ranges().await?
            {
                let end = offset.checked_add(size).filter(|end| *end <= self.info.as_ref().nar_size());
                let end =
                    end.ok_or_else(|| self.mismatch(offset, "the archive ends before the file that is listed here"))?;
                if self.copy_range(&ranges, offset, end, &mut out).await? {
                    return Ok(());
                }
            }
        }
        self.stream_file(path, out).await
    }

    async fn listing_object(&self) -> Result<Option<Listing>, Error> {
        let name = layout::listing(self.info.as_ref().store_path().hash_part());
        // The NAR says the same, so a listing that cannot be used costs time only.
        let unusable = match self.cache.read(&name).await {
            Ok(None) => return Ok(None),
            Ok(Some(text)) => match Listing::parse(&text, self.limits) {
                Ok(listing) => return Ok(Some(listing)),
                Err(error) => format!("{}: {error}", self.cache.display_name(&name)),
            },
            // Each of these names the object.
            Err(
                error @ (cache::Error::Denied { .. } | cache::Error::Encoding { .. } | cache::Error::TooLarge { .. }),
            ) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        tracing::warn!("{unusable}; the NAR is read instead");
        Ok(None)
    }

    /// In which way parts of the NAR can be read, if that is possible.
    async fn ranges(&self) -> Result<Option<Ranges>, Error> {
        match self.compression {
            Compression::None => Ok(Some(Ranges::Plain)),
            Compression::Zstd => Ok(self.seek_table().await?.map(Ranges::Frames)),
            _ => Ok(None),
        }
    }

    /// The seek table at the end of the NAR's file.
    async fn seek_table(&self) -> Result<Option<SeekTable>, Error> {
        let info = self.info.as_ref();
        let size = match info.file_size() {
            Some(size) => Some(size),
            None => self.cache.head(&self.nar).await?.ok_or_else(|| self.absent())?.size,
        };
        // A file without a length cannot be read from its end, and a small one need not be.
        let Some(size) = size.filter(|size| *size > TAIL / 2) else { return Ok(None) };
        let mut len = TAIL.min(size);
        loop {
            let range = size - len..size;
            let tail = match self.cache.read_range(&self.nar, range).await {
                Ok(tail) => tail.ok_or_else(|| self.absent())?,
                // There are servers that give no parts of files.
                Err(error @ cache::Error::NoRanges { .. }) => {
                    tracing::info!("{error}: read from its beginning");
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            match SeekTable::parse(&tail, size) {
                Ok(Tail::Table(table)) if is_usable(&table, info.nar_size()) => return Ok(Some(table)),
                Ok(Tail::Needs(more)) if more > len && more <= size => len = more,
                Ok(_) => return Ok(None),
                Err(error) => {
                    tracing::warn!("{}: {error}: read from its beginning", self.cache.display_name(&self.nar));
                    return Ok(None);
                }
            }
        }
    }

    /// Copies the bytes of a file, after a look at the length that stands before them. Does nothing
    /// and returns false where there are no parts of files to be had.
    async fn copy_range(
        &self,
        ranges: &Ranges,
        start: u64,
        end: u64,
        out: &mut (impl Write + Send),
    ) -> Result<bool, Error> {
        let mut length = Vec::with_capacity(LENGTH);
        let mut at = start - LENGTH as u64;
        while at < end {
            let read = match ranges {
                Ranges::Plain => self.read(at..end.min(at + PIECE)).await,
                Ranges::Frames(table) => self.read_frames(table, at..end).await,
            };
            let mut piece = match read {
                Err(Error::Cache(error @ cache::Error::NoRanges { .. })) if length.is_empty() => {
                    tracing::info!("{error}: read from its beginning");
                    return Ok(false);
                }
                read => read?,
            };
            if piece.is_empty() {
                return Err(self.mismatch(at, "the archive ends before the file that is listed here"));
            }
            at += piece.len() as u64;
            if length.len() < LENGTH {
                let rest = piece.split_off(piece.len().min(LENGTH - length.len()));
                length.extend(std::mem::replace(&mut piece, rest));
                if length.len() == LENGTH && length != (end - start).to_le_bytes() {
                    return Err(self.mismatch(start - LENGTH as u64, "no file of the length that is listed"));
                }
            }
            out.write_all(&piece).map_err(Error::Write)?;
        }
        Ok(true)
    }

    async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let bytes = self.cache.read_range(&self.nar, range).await?;
        Ok(bytes.ok_or_else(|| self.absent())?.into())
    }

    /// The beginning of a range: as many frames as are fetched together.
    async fn read_frames(&self, table: &SeekTable, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let mut frames: Vec<Frame> = Vec::new();
        for frame in table.frames_of(range.clone()) {
            if let Some(first) = frames.first()
                && (frame.compressed.end - first.compressed.start > FRAMES
                    || frame.decompressed.end - first.decompressed.start > CONTENT)
            {
                break;
            }
            frames.push(frame);
        }
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Ok(Vec::new()) };
        let begin = first.decompressed.start;
        let file = first.compressed.start..last.compressed.end;
        let bytes = self.cache.read_range(&self.nar, file.clone()).await?.ok_or_else(|| self.absent())?;
        let object = self.cache.display_name(&self.nar);
        blocking(move || {
            let mut content = Vec::new();
            for frame in frames {
                let part = frame.compressed.start - file.start..frame.compressed.end - file.start;
                let part = usize::try_from(part.start).ok().zip(usize::try_from(part.end).ok());
                // A file that is cut short is noticed by the frame.
                let part = part.and_then(|(start, end)| bytes.get(start..end)).unwrap_or_default();
                let frame = frame.decompress(part, &DecodeOptions::default());
                content.extend(frame.map_err(|error| Error::Compression { object: object.clone(), error })?);
            }
            let offset = |at: u64| usize::try_from(at.saturating_sub(begin)).unwrap_or(usize::MAX).min(content.len());
            let (start, end) = (offset(range.start), offset(range.end));
            content.truncate(end);
            content.drain(..start);
            Ok(content)
        })
        .await
    }

    /// Reads the NAR up to the end of the file.
    async fn stream_file(&self, path: &[u8], mut out: impl Write + Send) -> Result<(), Error> {
        let object = self.open().await?;
        let (sender, mut pieces) = tokio::sync::mpsc::channel(4);
        let (archive, path) = (self.clone(), path.to_owned());
        let reading = blocking(move || {
            let mut reader = archive.reader(object)?;
            send_file(&mut reader, &path, &sender).map_err(|error| match error {
                Stopped::Read(error) => archive.broken(error, reader.into_inner()),
                Stopped::Error(error) => error,
            })
        });
        let writing = async {
            while let Some(piece) = pieces.recv().await {
                let piece: Vec<u8> = piece;
                out.write_all(&piece).map_err(Error::Write)?;
            }
            Ok(())
        };
        let (read, written) = futures_util::future::join(reading, writing).await;
        written.and(read)
    }

    async fn open(&self) -> Result<ObjectReader, Error> {
        self.cache.open_object(&self.nar).await?.ok_or_else(|| self.absent())
    }

    fn reader(&self, object: ObjectReader) -> Result<Reader<ArchiveReader>, Error> {
        let options = DecodeOptions::default().with(|options| options.max_size = self.info.as_ref().nar_size());
        let object = BufReader::with_capacity(BUFFER, object);
        let decoder = Decompressor::new(object, self.compression, &options);
        let decoder =
            decoder.map_err(|error| Error::Compression { object: self.cache.display_name(&self.nar), error })?;
        Ok(Reader::with_limits(BufReader::with_capacity(BUFFER, decoder), self.limits))
    }

    /// Whose fault it is that a NAR could not be read.
    fn broken(&self, error: ReadError, reader: ArchiveReader) -> Error {
        let object = self.cache.display_name(&self.nar);
        let error = match error {
            ReadError::Nar(error) => return Error::Nar { object, error },
            ReadError::Io { source, .. } => source,
            error => io::Error::other(error),
        };
        if let Some(error) = reader.into_inner().into_inner().into_inner().failure() {
            return error.into();
        }
        match error.downcast() {
            Ok(compression::Error::Io(error)) | Err(error) => Error::Read { object, error },
            Ok(error) => Error::Compression { object, error },
        }
    }

    fn absent(&self) -> Error {
        Error::Absent { object: self.cache.display_name(&self.nar) }
    }

    fn mismatch(&self, offset: u64, reason: &'static str) -> Error {
        Error::Mismatch { object: self.cache.display_name(&self.nar), offset, reason }
    }
}

const BUFFER: usize = 256 << 10;

type ArchiveReader = BufReader<Decompressor<BufReader<ObjectReader>>>;

/// Whether a seek table is that of the NAR, and of frames that can be held in memory.
fn is_usable(table: &SeekTable, nar_size: u64) -> bool {
    let is_small = |frame: Frame| frame.decompressed.end - frame.decompressed.start <= LARGEST_FRAME;
    table.decompressed_size() == nar_size && table.frames().all(is_small)
}

/// Finds a file by the names of the directories around it, and sends its contents.
fn send_file(
    reader: &mut Reader<ArchiveReader>,
    path: &[u8],
    sender: &tokio::sync::mpsc::Sender<Vec<u8>>,
) -> Result<(), Stopped> {
    let wanted: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
    // How many directories are open, and how many of the outer ones lie on the way to the file.
    let (mut open, mut on_the_way) = (0, 0);
    while let Some(event) = reader.next()? {
        let (name, found) = match event {
            Event::Contents(_) => continue,
            Event::End => {
                open -= 1;
                // What comes after is no part of what was asked for.
                if on_the_way > open {
                    break;
                }
                continue;
            }
            Event::File { name, .. } => (name, Ok(())),
            Event::Directory { name } => (name, Err(Error::Directory { path: path.to_owned() })),
            Event::Symlink { name, target } => {
                (name, Err(Error::Symlink { path: path.to_owned(), target: target.to_owned() }))
            }
        };
        let here = on_the_way == open && (open == 0 || wanted.get(open - 1) == Some(&name));
        let is_directory = matches!(event, Event::Directory { .. });
        if here && open == wanted.len() {
            found?;
            while reader.remaining() > 0 {
                if let Some(Event::Contents(contents)) = reader.next()?
                    && sender.blocking_send(contents.to_owned()).is_err()
                {
                    break; // writing has failed, which is reported
                }
            }
            return Ok(());
        }
        if is_directory {
            on_the_way += usize::from(here);
            open += 1;
        }
    }
    Err(Error::NoEntry { path: path.to_owned() }.into())
}

/// How parts of a NAR are read.
enum Ranges {
    Plain,
    Frames(SeekTable),
}

enum Stopped {
    Read(ReadError),
    Error(Error),
}

impl From<ReadError> for Stopped {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
