//! Reading narinfos.

use memchr::memchr;

use crate::compression::Compression;
use crate::hash::{Algorithm, Hash};
use crate::store_path::{ContentAddress, StoreDir, StorePathRef, base_name_error, is_base_name};

use super::references::{self, Order};
use super::{Deviation, DeviationKind, Error, Field, Fields, Reason, Span, index32};

/// Names that Nix has for compressions which this crate has no codec for.
const OTHER_COMPRESSIONS: [&str; 4] = ["compress", "grzip", "lrzip", "lzop"];

/// Reads a narinfo, and shows each deviation to `odd`.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    store_dir: &StoreDir,
    limit: usize,
    odd: &mut impl FnMut(Deviation<'a>),
) -> Result<(&'a str, Fields), Error> {
    // Spans are made of `u32`s.
    let limit = limit.min(u32::MAX as usize);
    if bytes.len() > limit {
        return Err(Error::of(None, Reason::TooLong { length: bytes.len(), limit }));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        Error::at(line, None, Reason::NotUtf8)
    })?;
    let mut reader = Reader { text, store_dir, odd, line: 0, found: Found::default() };
    let mut start = 0;
    while start < text.len() {
        let end = memchr(b'\n', &bytes[start..]).map_or(text.len(), |length| start + length);
        reader.line += 1;
        reader.line(start, end)?;
        start = end + 1;
    }
    // The last line had no newline to step over.
    if start == text.len() + 1 {
        reader.odd(DeviationKind::MissingFinalNewline, text.rsplit('\n').next().and_then(|line| line.split(':').next()));
    }
    let fields = reader.finish()?;
    Ok((text, fields))
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// A bit for each field.
    seen: u32,
    deviations: u32,
    store_path: Span,
    url: Span,
    compression: Span,
    file_hash: Option<Hash>,
    file_size: Option<u64>,
    nar_hash: Option<Hash>,
    nar_size: u64,
    references: Span,
    order: Option<Order>,
    deriver: Option<Span>,
    content_address: Option<ContentAddress>,
    signatures: Span,
    signature_count: u32,
    last_signature: Span,
}

struct Reader<'a, 's, F> {
    text: &'a str,
    store_dir: &'s StoreDir,
    odd: &'s mut F,
    line: usize,
    found: Found,
}

impl<'a, F: FnMut(Deviation<'a>)> Reader<'a, '_, F> {
    /// Reads the line from `start` to the newline at `end`.
    #[inline]
    fn line(&mut self, start: usize, end: usize) -> Result<(), Error> {
        let line = &self.text.as_bytes()[start..end];
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            let reason = if line.is_empty() { Reason::BlankLine } else { Reason::NoColon };
            return Err(self.line_error(line, None, reason));
        };
        let field = Field::of_name(&line[..colon]);
        if line.get(colon + 1) != Some(&b' ') {
            return Err(self.line_error(line, field, Reason::NoSpace));
        }
        if let [.., b'\r'] = line {
            return Err(self.line_error(line, field, Reason::CarriageReturn));
        }
        let Some(field) = field else {
            let name = &self.text[start..start + colon];
            self.odd(DeviationKind::UnknownField, Some(name));
            return Ok(());
        };
        let value = Span::new(start + colon + 2, end);
        self.note(field)?;
        self.field(field, value, start)
    }

    /// That a line has no colon or space says less than that it ends in a carriage return, if it does.
    #[cold]
    fn line_error(&self, line: &[u8], field: Option<Field>, reason: Reason) -> Error {
        Error::at(self.line, field, if line.ends_with(b"\r") { Reason::CarriageReturn } else { reason })
    }

    /// Notes that a field is there: once, and where Nix would have it.
    #[inline]
    fn note(&mut self, field: Field) -> Result<(), Error> {
        let bit = field.bit();
        if self.found.seen & bit != 0 && field != Field::Sig {
            return Err(self.error(field, Reason::Duplicate));
        }
        if self.found.seen >= bit << 1 {
            self.odd(DeviationKind::FieldOrder, Some(field.name()));
        }
        self.found.seen |= bit;
        Ok(())
    }

    #[inline]
    fn field(&mut self, field: Field, span: Span, line_start: usize) -> Result<(), Error> {
        let value = span.of(self.text);
        match field {
            Field::StorePath => {
                let Some(base_name) = self.store_dir.strip(value).filter(|name| is_base_name(name.as_bytes())) else {
                    return Err(self.path_error(field, value));
                };
                self.found.store_path = Span { start: span.end - len32(base_name), end: span.end };
            }
            Field::Url => {
                self.no_control(field, value)?;
                if value.is_empty() {
                    return Err(self.error(field, Reason::Empty));
                }
                self.found.url = span;
            }
            Field::Compression => {
                self.no_control(field, value)?;
                if value.is_empty() {
                    self.odd(DeviationKind::EmptyCompression, Some(field.name()));
                } else if !Compression::ALL.iter().any(|known| known.name() == value)
                    && !OTHER_COMPRESSIONS.contains(&value)
                {
                    // Parsing it would allocate for the error.
                    self.odd(DeviationKind::UnknownCompression, Some(field.name()));
                }
                self.found.compression = span;
            }
            Field::FileHash => self.found.file_hash = Some(self.hash(field, value)?),
            Field::FileSize => match self.size(field, value)? {
                0 => self.odd(DeviationKind::ZeroFileSize, Some(field.name())),
                size => self.found.file_size = Some(size),
            },
            Field::NarHash => {
                let hash = self.hash(field, value)?;
                if hash.algorithm() != Algorithm::Sha256 {
                    return Err(self.error(field, Reason::NarHashAlgorithm(hash.algorithm())));
                }
                self.found.nar_hash = Some(hash);
            }
            Field::NarSize => {
                self.found.nar_size = self.size(field, value)?;
                if self.found.nar_size == 0 {
                    return Err(self.error(field, Reason::NoSize));
                }
            }
            Field::References => {
                self.found.references = span;
                self.found.order = Some(match references::scan(value.as_bytes()) {
                    Some(order) if order.is_sorted => order,
                    _ => self.odd_references(value)?,
                });
            }
            Field::Deriver => {
                if value == "unknown-deriver" {
                    self.odd(DeviationKind::UnknownDeriver, Some(field.name()));
                } else if is_base_name(value.as_bytes()) {
                    if !value.ends_with(".drv") {
                        self.odd(DeviationKind::DeriverNotDerivation, Some(field.name()));
                    }
                    self.found.deriver = Some(span);
                } else {
                    return Err(self.path_error(field, value));
                }
            }
            Field::Sig => self.signature(value, span, line_start)?,
            Field::Ca => {
                if value.is_empty() {
                    self.odd(DeviationKind::EmptyContentAddress, Some(field.name()));
                    return Ok(());
                }
                let address = ContentAddress::parse(value).map_err(|error| self.error(field, error))?;
                        let digest = value.rsplit(':').next().map_or(0, str::len);
                if digest != crate::hash::nixbase32::encoded_len(address.hash().digest().len()) {
                    self.odd(DeviationKind::HashForm, Some(field.name()));
                }
                self.found.content_address = Some(address);
            }
        }
        Ok(())
    }

    fn hash(&mut self, field: Field, value: &str) -> Result<Hash, Error> {
        const CANONICAL: usize = "sha256:".len() + 52;
        if value.is_empty() {
            return Err(self.error(field, Reason::Empty));
        }
        let hash = Hash::parse(value).map_err(|error| self.error(field, error))?;
        if value.len() != CANONICAL || hash.algorithm() != Algorithm::Sha256 {
            self.odd(DeviationKind::HashForm, Some(field.name()));
        }
        Ok(hash)
    }

    fn size(&mut self, field: Field, value: &str) -> Result<u64, Error> {
        // `str::parse` would take a plus sign.
        let size = if value.starts_with('+') { None } else { value.parse().ok() };
        let size = size.ok_or_else(|| self.error(field, if value.is_empty() { Reason::Empty } else { Reason::Size }))?;
        if value.len() > 1 && value.starts_with('0') {
            self.odd(DeviationKind::LeadingZeros, Some(field.name()));
        }
        Ok(size)
    }

    /// References that are not as Nix would write them.
    #[cold]
    fn odd_references(&mut self, value: &str) -> Result<Order, Error> {
        let field = Field::References;
        let mut order = Order { count: 0, is_sorted: true, is_tight: true };
        let (mut is_ascending, mut has_duplicates) = (true, false);
        let mut previous = "";
        let mut names = value.split(' ');
        if value.is_empty() {
            names.next();
        }
        for name in names {
            if name.is_empty() {
                order.is_tight = false;
                continue;
            }
            let path = StorePathRef::parse(name).map_err(|error| self.error(field, error))?;
            order.count += 1;
            is_ascending &= previous <= path.as_str();
            has_duplicates |= previous == path.as_str();
            previous = path.as_str();
        }
        // Whether an unsorted list has duplicates cannot be told without sorting it.
        if !is_ascending {
            self.odd(DeviationKind::UnsortedReferences, Some(field.name()));
        } else if has_duplicates {
            self.odd(DeviationKind::DuplicateReferences, Some(field.name()));
        }
        if !order.is_tight {
            self.odd(DeviationKind::ReferenceSpacing, Some(field.name()));
        }
        order.is_sorted = is_ascending && !has_duplicates;
        Ok(order)
    }

    fn signature(&mut self, value: &'a str, span: Span, line_start: usize) -> Result<(), Error> {
        let field = Field::Sig;
        self.no_control(field, value)?;
        if !is_signature(value) {
            self.odd(DeviationKind::MalformedSignature, Some(field.name()));
        }
        if self.found.signature_count == 0 {
            self.found.signatures.start = index32(line_start);
        } else {
            match self.found.last_signature.of(self.text).cmp(value) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => self.odd(DeviationKind::DuplicateSignatures, Some(field.name())),
                std::cmp::Ordering::Greater => self.odd(DeviationKind::UnsortedSignatures, Some(field.name())),
            }
        }
        self.found.signatures.end = span.end;
        self.found.last_signature = span;
        self.found.signature_count += 1;
        Ok(())
    }

    #[inline]
    fn no_control(&self, field: Field, value: &str) -> Result<(), Error> {
        // No control character of ASCII, and no byte that begins another.
        let plain = value.bytes().fold(true, |plain, byte| plain & (byte.wrapping_sub(b' ') < 0x7f - b' '));
        if !plain && value.chars().any(char::is_control) {
            return Err(self.error(field, Reason::Control));
        }
        Ok(())
    }

    #[inline]
    fn odd(&mut self, kind: DeviationKind, field: Option<&'a str>) {
        self.found.deviations |= kind.bit();
        (self.odd)(Deviation { kind, line: self.line, field: field.unwrap_or_default() });
    }

    #[cold]
    fn error(&self, field: Field, reason: impl Into<Reason>) -> Error {
        Error::at(self.line, field, reason)
    }

    #[cold]
    fn path_error(&self, field: Field, value: &str) -> Error {
        let reason = if value.is_empty() {
            Reason::Empty
        } else if field == Field::Deriver {
            base_name_error(value).into()
        } else {
            match self.store_dir.parse(value) {
                Err(error) => error.into(),
                Ok(_) => Reason::Empty,
            }
        };
        self.error(field, reason)
    }

    fn finish(mut self) -> Result<Fields, Error> {
        for field in [Field::StorePath, Field::Url, Field::NarHash, Field::NarSize] {
            if self.found.seen & field.bit() == 0 {
                return Err(Error::of(field, Reason::Missing));
            }
        }
        for (field, kind) in [
            (Field::Compression, DeviationKind::MissingCompression),
            (Field::References, DeviationKind::MissingReferences),
        ] {
            if self.found.seen & field.bit() == 0 {
                self.odd(kind, Some(field.name()));
            }
        }
        let found = self.found;
        let Some(nar_hash) = found.nar_hash else { return Err(Error::of(Field::NarHash, Reason::Missing)) };
        Ok(Fields {
            store_path: found.store_path,
            store_dir: Span {
                start: found.store_path.start - 1 - len32(self.store_dir.as_str()),
                end: found.store_path.start - 1,
            },
            url: found.url,
            compression: found.compression,
            file_hash: found.file_hash,
            file_size: found.file_size,
            nar_hash,
            nar_size: found.nar_size,
            references: found.references,
            order: found.order.unwrap_or(Order::NONE),
            deriver: found.deriver,
            content_address: found.content_address,
            signatures: found.signatures,
            signature_count: found.signature_count,
            deviations: found.deviations,
        })
    }
}

/// Whether a `Sig` is a key name, a colon and 64 bytes in base64.
fn is_signature(text: &str) -> bool {
    let Some((name, base64)) = text.split_once(':') else { return false };
    let Some((digits, b"==")) = base64.as_bytes().split_last_chunk() else { return false };
    let Ok(digits) = <&[u8; 86]>::try_from(digits) else { return false };
    let is_base64 = digits.iter().fold(true, |all, byte| {
        all & (byte.is_ascii_alphanumeric() | (*byte == b'+') | (*byte == b'/'))
    });
    // Four bits of the last digit belong to no byte.
    is_base64 && matches!(digits[85], b'A' | b'Q' | b'g' | b'w') && !name.is_empty() && !name.starts_with(' ')
}

fn len32(text: &str) -> u32 {
    index32(text.len())
}
