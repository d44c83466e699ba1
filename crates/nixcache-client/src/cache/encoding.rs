//! Content encodings: objects that a server stores or sends compressed, as a header says.
//!
//! Nix can write narinfos, listings and logs compressed (`narinfo-compression`, `ls-compression`,
//! `log-compression`), cache.nixos.org stores its listings compressed, and proxies compress on the
//! way. Decoding stops at the size limit of the object.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, ZlibDecoder};
use futures_util::stream::{BoxStream, StreamExt};
use nixcache::compression::{self, Compression, DecodeOptions, Decompressor};
use nixcache::narinfo::NarInfo;

use super::error::{Error, Result};
use super::layout;
use super::object_reader::StreamReader;
use crate::redact::escaped;

/// One layer of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Compressed(Compression),
    /// HTTP's `deflate`: zlib, or a raw deflate stream from some servers.
    Deflate,
}

impl Layer {
    const fn name(self) -> &'static str {
        match self {
            Self::Compressed(compression) => compression.name(),
            Self::Deflate => "deflate",
        }
    }
}

/// The layers that a `Content-Encoding` names, in the order in which they were applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Encoding(Vec<Layer>);

impl Encoding {
    /// Parses the header.
    pub(crate) fn parse(object: &str, header: Option<&str>) -> Result<Self> {
        /// The most layers that are decoded: more could be a decompression bomb in another.
        const LAYERS_MAX: usize = 4;
        let mut layers = Vec::new();
        for name in header.unwrap_or_default().split(',') {
            let name = name.trim().to_ascii_lowercase();
            let name = name.strip_prefix("x-").unwrap_or(&name);
            let layer = match name {
                // S3 clients upload with `aws-chunked`. It is no encoding of the object.
                "" | "identity" | "none" | "aws-chunked" => continue,
                "deflate" => Layer::Deflate,
                name => Layer::Compressed(name.parse().map_err(|_| {
                    let encoding = escaped(header.unwrap_or_default());
                    Error::Encoding { object: object.to_owned(), encoding, reason: "it is not known here".to_owned() }
                })?),
            };
            layers.push(layer);
        }
        if layers.len() > LAYERS_MAX {
            let encoding = escaped(header.unwrap_or_default());
            let reason = format!("it has more than {LAYERS_MAX} layers");
            return Err(Error::Encoding { object: object.to_owned(), encoding, reason });
        }
        Ok(Self(layers))
    }

    /// Whether there is nothing to decode.
    pub(crate) fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    fn name(&self) -> String {
        self.0.iter().map(|layer| layer.name()).collect::<Vec<_>>().join(", ")
    }

    /// Decodes an object as it is read, without a size limit.
    pub(crate) fn reader(&self, object: &str, reader: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>> {
        let mut reader: Box<dyn Read + Send> = Box::new(reader);
        for layer in self.0.iter().rev() {
            reader = layer.decoder(reader, u64::MAX).map_err(|error| self.failed(object, error.to_string()))?;
        }
        Ok(reader)
    }

    /// The error of the cache or of the encoding that made a [`reader`](Self::reader) fail.
    pub(crate) fn failure(&self, object: &str, error: std::io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => self.failed(object, error.to_string()),
        }
    }

    fn failed(&self, object: &str, reason: String) -> Error {
        Error::Encoding { object: object.to_owned(), encoding: self.name(), reason }
    }

    fn decode(&self, object: &str, bytes: Bytes, limit: u64) -> Result<Bytes> {
        let mut bytes = bytes;
        for layer in self.0.iter().rev() {
            bytes = layer.decode(&bytes, limit).map_err(|reason| match reason {
                None => Error::TooLarge { object: object.to_owned(), limit },
                Some(reason) => self.failed(object, reason),
            })?;
        }
        Ok(bytes)
    }
}

impl Layer {
    fn decoder<R: Read + Send + 'static>(
        self,
        reader: R,
        limit: u64,
    ) -> std::result::Result<Box<dyn Read + Send>, compression::Error> {
        Ok(match self {
            Self::Deflate => Box::new(ZlibDecoder::new(reader)),
            Self::Compressed(compression) => {
                let options = DecodeOptions::default().with(|options| options.max_size = limit);
                let reader = std::io::BufReader::with_capacity(64 << 10, reader);
                Box::new(Decompressor::new(reader, compression, &options)?)
            }
        })
    }

    /// Decodes a whole object. The error is `None` if the object is too large.
    fn decode(self, bytes: &Bytes, limit: u64) -> std::result::Result<Bytes, Option<String>> {
        let decoded = match self {
            Self::Compressed(compression) => {
                let options = DecodeOptions::default().with(|options| options.max_size = limit);
                let mut decoded = Vec::new();
                let mut reader =
                    Decompressor::new(&bytes[..], compression, &options).map_err(|error| Some(error.to_string()))?;
                reader.read_to_end(&mut decoded).map_err(|error| match compression::Error::of(&error) {
                    Some(compression::Error::TooLarge { .. }) => None,
                    _ => Some(error.to_string()),
                })?;
                decoded
            }
            Self::Deflate => {
                let bound = limit.saturating_add(1);
                let mut decoded = Vec::new();
                let mut zlib = ZlibDecoder::new(&bytes[..]).take(bound);
                if let Err(error) = zlib.read_to_end(&mut decoded) {
                    // Some servers send a raw deflate stream, without the zlib header.
                    decoded.clear();
                    let mut raw = DeflateDecoder::new(&bytes[..]).take(bound);
                    raw.read_to_end(&mut decoded).map_err(|_| Some(error.to_string()))?;
                }
                if decoded.len() as u64 > limit {
                    return Err(None);
                }
                decoded
            }
        };
        Ok(decoded.into())
    }
}

/// Decodes a whole object, by its `Content-Encoding`. Without that header, the first bytes of a
/// text show the compression.
///
/// `object` is its name in messages, `name` its name within the cache.
pub(crate) fn decode(object: &str, name: &str, header: Option<&str>, bytes: Bytes, limit: u64) -> Result<Bytes> {
    let encoding = Encoding::parse(object, header)?;
    if !encoding.is_identity() {
        return match encoding.decode(object, bytes.clone(), limit) {
            // A proxy has decoded the object, and kept the header.
            Err(Error::Encoding { .. }) if is_plain_text(name, &bytes) => Ok(bytes),
            decoded => decoded,
        };
    }
    match shown(name, &bytes) {
        None => Ok(bytes),
        Some(compression) => Encoding(vec![Layer::Compressed(compression)]).decode(object, bytes, limit),
    }
}

/// Decodes an object of any size as it arrives.
pub(crate) fn decoded(
    stream: BoxStream<'static, Result<Bytes>>,
    encoding: Encoding,
    object: String,
) -> BoxStream<'static, Result<Bytes>> {
    const PIECE_BYTES: usize = 256 << 10;
    if encoding.is_identity() {
        return stream;
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reader = StreamReader::new(stream);
    tokio::task::spawn_blocking(move || {
        let mut decoder = match encoding.reader(&object, reader) {
            Ok(decoder) => decoder,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            match decoder.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece) {
                Ok(0) => return,
                // The receiver was dropped, so the rest of the object is not needed.
                Ok(_) if sender.blocking_send(Ok(Bytes::from(piece))).is_err() => return,
                Ok(_) => {}
                Err(error) => return drop(sender.blocking_send(Err(encoding.failure(&object, error)))),
            }
        }
    });
    futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))).boxed()
}

/// Decodes a narinfo from a file that a mirror of a cache has stored with its content encoding.
/// Returns `None` if the file is not encoded. `file` is its name in messages.
///
/// [`Cache`](super::Cache) decodes narinfos by itself. This function is for programs that read
/// narinfo files directly.
pub fn decode_narinfo(file: &str, stored: &[u8]) -> Result<Option<Bytes>> {
    let Some(compression) = Compression::detect(stored).filter(|magic| is_of_texts(*magic)) else { return Ok(None) };
    let (stored, limit) = (Bytes::copy_from_slice(stored), NarInfo::MAX_LEN as u64);
    Encoding(vec![Layer::Compressed(compression)]).decode(file, stored, limit).map(Some)
}

/// Whether caches store texts in this compression, and its magic number is long enough to be
/// reliable.
const fn is_of_texts(compression: Compression) -> bool {
    matches!(compression, Compression::Gzip | Compression::Zstd | Compression::Xz | Compression::Bzip2)
}

/// The compression of a text that a tool has stored encoded but without the header, such as
/// `aws s3 sync` to a directory.
pub(crate) fn shown(name: &str, bytes: &[u8]) -> Option<Compression> {
    let magic = Compression::detect(bytes)?;
    (is_of_texts(magic) && layout::is_text(name)).then_some(magic)
}

/// Whether an object is a text that is not encoded, judged by how texts of its kind begin. Any
/// other contents count as undecodable, not as a malformed text.
fn is_plain_text(name: &str, bytes: &[u8]) -> bool {
    let is_shown = |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.chars().all(is_shown)) else { return false };
    layout::is_text(name)
        && match layout::Object::of(name) {
            layout::Object::NarInfo(_) => text.starts_with("StorePath:"),
            layout::Object::CacheInfo => text.starts_with("StoreDir:"),
            layout::Object::Log => true,
            _ => text.trim_start().starts_with('{'),
        }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::Write;

    use nixcache::compression::{Compressor, EncodeOptions};

    use super::*;

    const NAME: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q.narinfo";

    fn encoded(text: &[u8], name: &str) -> Bytes {
        let mut encoder = Compressor::new(Vec::new(), &name.parse::<EncodeOptions>().unwrap()).unwrap();
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn every_encoding_that_nix_writes_is_decoded_also_stacked() {
        for name in ["gzip", "br", "zstd", "xz", "bzip2"] {
            let bytes = encoded(b"StorePath: x\n", name);
            let decoded = decode(NAME, NAME, Some(name), bytes.clone(), 1 << 20).unwrap();
            assert_eq!(&decoded[..], b"StorePath: x\n", "{name}");
            let twice = encoded(&bytes, "gzip");
            let header = format!("aws-chunked, {}, GZIP", name.to_uppercase());
            assert_eq!(&decode(NAME, NAME, Some(&header), twice, 1 << 20).unwrap()[..], b"StorePath: x\n", "{name}");
        }
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(b"text").unwrap();
        let decoded = decode(NAME, NAME, Some("deflate"), zlib.finish().unwrap().into(), 1 << 20).unwrap();
        assert_eq!(&decoded[..], b"text");
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        raw.write_all(b"text").unwrap();
        let decoded = decode(NAME, NAME, Some("deflate"), raw.finish().unwrap().into(), 1 << 20).unwrap();
        assert_eq!(&decoded[..], b"text");
    }

    #[test]
    fn a_text_that_lost_its_header_is_decoded_and_a_nar_is_not() {
        for name in ["gzip", "zstd", "xz"] {
            let bytes = encoded(b"StorePath: x\n", name);
            assert_eq!(&decode(NAME, NAME, None, bytes.clone(), 1 << 20).unwrap()[..], b"StorePath: x\n", "{name}");
            assert_eq!(decode("nar/x.nar", "nar/x.nar", None, bytes.clone(), 1 << 20).unwrap(), bytes, "{name}");
        }
    }

    #[test]
    fn a_text_that_a_proxy_has_decoded_is_read_despite_its_header() {
        for header in ["gzip", "br", "zstd", "deflate", "xz", "gzip, zstd"] {
            let text = Bytes::from_static(b"StorePath: x\n");
            assert_eq!(decode(NAME, NAME, Some(header), text.clone(), 1 << 20).unwrap(), text, "{header}");
            assert!(decode("nar/x.nar", "nar/x.nar", Some(header), text, 1 << 20).is_err(), "{header}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_says_so_and_bombs_are_bounded() {
        let cut = encoded(b"StorePath: x\n", "gzip");
        let cut = cut.slice(..cut.len() - 9);
        assert!(matches!(decode(NAME, NAME, Some("gzip"), cut, 99), Err(Error::Encoding { .. })));
        let unknown = decode(NAME, NAME, Some("rot13\u{1b}"), Bytes::from_static(b"x"), 99);
        assert!(!unknown.unwrap_err().to_string().contains('\u{1b}'));
        for name in ["gzip", "br", "zstd", "xz"] {
            let bomb = encoded(&vec![0; 1 << 20], name);
            assert!(matches!(decode(NAME, NAME, Some(name), bomb, 1000), Err(Error::TooLarge { .. })), "{name}");
        }
    }
}
