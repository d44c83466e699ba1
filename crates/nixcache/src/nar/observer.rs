//! Everything that one pass over an archive can tell.

use std::io::{self, Read};
#[cfg(feature = "fs")]
use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread::{Builder, Scope, ScopedJoinHandle},
};

#[cfg(feature = "fs")]
use bytes::Bytes;

use super::decoder::Decoder;
use super::error::Error;
use super::grammar::Limits;
use super::listing::{Listing, ListingBuilder};
use super::reader::ReadError;
use super::references::{Candidates, Scanner};
use crate::hash::{self, Algorithm, Hash, Hasher};

/// Watches the bytes of an archive go by, wherever they come from or go to: hashes them, lists what
/// they contain, finds references in them. Nothing needs a second pass.
///
/// [`update`](Self::update) computes and does not block: about a millisecond for a MiB, most of it
/// for the hash. Chunks as networks deliver them can be shown to it on the thread of an async
/// runtime; show it larger ones on a thread where computing does no harm.
///
/// ```
/// # use nixcache::{hash::Hash, nar::{Observer, Writer}};
/// # let mut writer = Writer::new(Vec::new());
/// # writer.file(b"", false, b"contents")?;
/// # let nar = writer.finish()?;
/// let mut observer = Observer::new().sha256().listing();
/// for chunk in nar.chunks(100) {
///     observer.update(chunk)?;
/// }
/// let seen = observer.finish()?;
/// assert_eq!(seen.size, nar.len() as u64);
/// assert_eq!(seen.sha256(), Some(Hash::sha256(&nar)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Observer {
    size: u64,
    hashers: Vec<Hasher>,
    decoder: Option<Decoder>,
    listing: Option<ListingBuilder>,
    scanner: Option<Scanner>,
}

/// What an [`Observer`] saw.
#[derive(Debug)]
#[non_exhaustive]
pub struct Observation {
    /// How many bytes the archive has.
    pub size: u64,
    /// Its hashes, in the order in which they were asked for.
    pub hashes: Vec<Hash>,
    /// What it contains, if that was asked for.
    pub listing: Option<Listing>,
    /// Which candidates occur in it, as their positions among the candidates; none if that was not
    /// asked for.
    pub references: Vec<usize>,
}

impl Observation {
    /// The first sha256 that was asked for.
    #[must_use]
    pub fn sha256(&self) -> Option<Hash> {
        self.hashes.iter().copied().find(|hash| hash.algorithm() == Algorithm::Sha256)
    }

    /// The hash parts of the candidates that occur in the archive. `candidates` are those that the
    /// observer was given.
    pub fn referenced<'c>(&self, candidates: &'c Candidates) -> impl Iterator<Item = &'c str> {
        self.references.iter().filter_map(|&index| candidates.hash_part(index))
    }
}

impl Observer {
    /// Sees the size only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes with any algorithm. Can be called several times.
    pub fn hash(mut self, algorithm: Algorithm) -> Result<Self, hash::Error> {
        self.hashers.push(Hasher::new(algorithm)?);
        Ok(self)
    }

    /// Hashes with sha256, which every narinfo needs: see [`Observation::sha256`].
    #[must_use]
    pub fn sha256(mut self) -> Self {
        self.hashers.push(Hasher::sha256());
        self
    }

    /// Checks that the bytes are one archive within `limits`, and nothing else.
    #[must_use]
    pub fn check(mut self, limits: Limits) -> Self {
        self.decoder = Some(Decoder::with_limits(limits));
        self
    }

    /// Lists the contents, and checks as [`check`](Self::check) does, within the default
    /// limits unless that was called with others before.
    #[must_use]
    pub fn listing(mut self) -> Self {
        self.decoder.get_or_insert_default();
        self.listing = Some(ListingBuilder::new());
        self
    }

    /// Looks for references to `candidates`.
    #[must_use]
    pub fn references(mut self, candidates: &Candidates) -> Self {
        self.scanner = Some(Scanner::new(candidates));
        self
    }

    /// Sees the next bytes. An error if they are to be checked and are no archive, or follow one.
    pub fn update(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.size += chunk.len() as u64;
        for hasher in &mut self.hashers {
            hasher.update(chunk);
        }
        if let Some(scanner) = &mut self.scanner {
            scanner.update(chunk);
        }
        if let Some(decoder) = &mut self.decoder {
            let mut rest = chunk;
            while let Some(event) = decoder.advance(&mut rest)? {
                if let Some(listing) = &mut self.listing {
                    listing.push(&decoder.named(event), decoder.offset());
                }
            }
            if !rest.is_empty() {
                return Err(Error::Trailing { offset: decoder.offset() });
            }
        }
        Ok(())
    }

    /// Sees all that `source` holds.
    pub fn read(mut self, mut source: impl Read) -> Result<Observation, ReadError> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(self.finish()?),
                Ok(len) => self.update(&buffer[..len])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { offset: self.size, source }),
            }
        }
    }

    /// Says what was seen. An error if the bytes are to be checked and the archive has not ended.
    pub fn finish(self) -> Result<Observation, Error> {
        self.decoder.as_ref().map_or(Ok(()), Decoder::finish)?;
        Ok(Observation {
            size: self.size,
            hashes: self.hashers.into_iter().map(Hasher::finish).collect(),
            listing: self.listing.map(ListingBuilder::finish),
            references: self.scanner.map_or_else(Vec::new, Scanner::finish),
        })
    }
}

/// An observer at work beside the thread that moves the bytes, or on that thread if it has only to
/// count them: waking another one for each chunk would take longer.
#[cfg(feature = "fs")]
#[derive(Debug)]
pub(super) enum ObserverThread<'scope> {
    Here(Box<Observer>),
    Thread { chunks: SyncSender<Bytes>, observing: ScopedJoinHandle<'scope, Result<Observation, Error>> },
}

#[cfg(feature = "fs")]
impl<'scope> ObserverThread<'scope> {
    /// Starts it; it may be `behind` chunks behind.
    pub(super) fn start(scope: &'scope Scope<'scope, '_>, mut observer: Observer, behind: usize) -> io::Result<Self> {
        if observer.hashers.is_empty() && observer.decoder.is_none() && observer.scanner.is_none() {
            return Ok(Self::Here(Box::new(observer)));
        }
        let (sender, chunks) = sync_channel::<Bytes>(behind);
        let observing = Builder::new().name("nar-observe".to_owned()).spawn_scoped(scope, move || {
            chunks.iter().try_for_each(|chunk| observer.update(&chunk)).and_then(|()| observer.finish())
        })?;
        Ok(Self::Thread { chunks: sender, observing })
    }

    /// How many threads of its own it keeps busy.
    pub(super) fn threads(&self) -> usize {
        usize::from(matches!(self, Self::Thread { .. }))
    }

    /// Shows it a chunk. False if it has failed, which [`finish`](Self::finish) reports.
    pub(super) fn show(&mut self, chunk: Bytes) -> bool {
        match self {
            Self::Here(observer) => observer.update(&chunk).is_ok(),
            Self::Thread { chunks, .. } => chunks.send(chunk).is_ok(),
        }
    }

    pub(super) fn finish(self) -> Result<Observation, Error> {
        match self {
            Self::Here(observer) => observer.finish(),
            Self::Thread { chunks, observing } => {
                drop(chunks);
                observing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}
