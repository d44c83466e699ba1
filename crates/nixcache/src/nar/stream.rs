//! An archive from a stream of chunks, as networks deliver it.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use thiserror::Error;

use super::decoder::Decoder;
use super::error::Error;
use super::event::Event;
use super::grammar::Limits;
use crate::ErrorKind;

/// Why an archive could not be read from a stream.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError<E> {
    /// What came is not a NAR.
    #[error(transparent)]
    Nar(#[from] Error),
    /// The stream failed.
    #[error("at byte {offset}: {source}")]
    Stream {
        /// How many bytes of the archive were understood before.
        offset: u64,
        /// The failure.
        source: E,
    },
}

impl<E: 'static> StreamError<E> {
    /// What kind of failure this is. A stream that failed is [`ErrorKind::Unavailable`], unless its
    /// error is an [`io::Error`] that says more.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Nar(error) => error.kind(),
            Self::Stream { source, .. } => {
                (source as &dyn Any).downcast_ref().map_or(ErrorKind::Unavailable, ErrorKind::of_io)
            }
        }
    }
}

/// Keeps the kind: that of the stream's error, or as for [`enum@Error`].
impl From<StreamError<io::Error>> for io::Error {
    fn from(error: StreamError<Self>) -> Self {
        match error {
            StreamError::Nar(error) => error.into(),
            StreamError::Stream { ref source, .. } => Self::new(source.kind(), error),
        }
    }
}

/// The events of an archive that comes as a stream of [`Bytes`]. Contents are parts of those, not
/// copies.
///
/// Works with every async runtime, and needs none. Ends after the archive or the first error; what
/// follows the archive in the stream is not read, except for what came in the same chunk
/// ([`rest`](Self::rest)).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use bytes::Bytes;
/// use futures_util::{TryStreamExt, stream};
/// use nixcache::nar::{Event, EventStream, Writer};
///
/// # let mut writer = Writer::new(Vec::new());
/// # writer.file(b"", false, b"contents")?;
/// # let nar = Bytes::from(writer.finish()?);
/// let pieces = [nar.slice(..100), nar.slice(100..)].map(Ok::<_, std::io::Error>);
/// let mut events = EventStream::new(stream::iter(pieces));
/// let mut contents = Vec::new();
/// while let Some(event) = events.try_next().await? {
///     if let Event::Contents(part) = event {
///         contents.extend_from_slice(&part);
///     }
/// }
/// assert_eq!(contents, b"contents");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventStream<S> {
    chunks: S,
    chunk: Bytes,
    decoder: Decoder,
    ended: bool,
}

impl<S> EventStream<S> {
    /// Reads within the default limits.
    pub fn new(chunks: S) -> Self {
        Self::with_limits(chunks, Limits::default())
    }

    /// Reads within other limits.
    pub fn with_limits(chunks: S, limits: Limits) -> Self {
        Self { chunks, chunk: Bytes::new(), decoder: Decoder::with_limits(limits), ended: false }
    }

    /// How many bytes of the archive the events so far took: after [`Event::File`], where its
    /// contents begin.
    pub fn offset(&self) -> u64 {
        self.decoder.offset()
    }

    /// What came already but was not decoded yet; after the last event, the start of what follows
    /// the archive.
    pub fn rest(&self) -> &Bytes {
        &self.chunk
    }
}

impl<S, E> Stream for EventStream<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Event<Bytes, Bytes>, StreamError<E>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while !this.ended {
            match this.decoder.next(&mut this.chunk) {
                Ok(Some(event)) => {
                    return Poll::Ready(Some(Ok(event.map(Bytes::copy_from_slice, |contents| contents))));
                }
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Ok(None) => {}
            }
            if this.decoder.is_done() {
                break;
            }
            match ready!(Pin::new(&mut this.chunks).poll_next(context)) {
                Some(Ok(chunk)) => this.chunk = chunk,
                Some(Err(source)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(StreamError::Stream { offset: this.decoder.offset(), source })));
                }
                None => {
                    this.ended = true;
                    return Poll::Ready(this.decoder.finish().err().map(|error| Err(error.into())));
                }
            }
        }
        this.ended = true;
        Poll::Ready(None)
    }
}
