//! Parsing narinfos.

use memchr::{memchr, memchr_iter};

use crate::compression::Compression;
use crate::hash::{Algorithm, Hash, nixbase32};
use crate::store_path::{ContentAddress, StoreDir, StorePathRef, base_name_error, leading_base_name};

use super::references::{self, ReferenceOrder};
use super::signatures;
use super::{Deviation, DeviationKind, Error, ErrorReason, Field, Fields, Span, index32};

/// Compressions that Nix knows and this crate has no codec for.
const OTHER_COMPRESSIONS: [&str; 4] = ["compress", "grzip", "lrzip", "lzop"];

/// Parses a narinfo, and passes each deviation to `odd`.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    store_dir: &StoreDir,
    limit: usize,
    odd: &mut impl FnMut(Deviation<'a>),
) -> Result<(&'a str, Fields), Error> {
    // Spans are made of `u32`s.
    let limit = limit.min(u32::MAX as usize);
    if bytes.len() > limit {
        return Err(Error::of(None, ErrorReason::TooLong { limit }));
    }
    if bytes.is_empty() {
        return Err(Error::of(None, ErrorReason::NoText));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count();
        Error::at(line, None, ErrorReason::NotUtf8)
    })?;
    let mut reader = Reader {
        text,
        store_dir,
        odd,
        line: 0,
        fields: Fields::default(),
        last_signature: Span::default(),
        is_sorted_by_line: true,
        is_sorted_by_name: true,
    };
    let mut start = 0;
    while start < text.len() {
        let end = memchr(b'\n', &bytes[start..]).map_or(text.len(), |length| start + length);
        reader.line += 1;
        reader.line(start, end).map_err(|error| {
            // A single line without a field is another kind of text, not the beginning of a
            // narinfo.
            let is_cut = end == text.len() && (error.field.is_some() || reader.line > 1);
            if is_cut { Error { reason: ErrorReason::CutShort, ..error } } else { error }
        })?;
        start = end + 1;
    }
    // The last line had no newline to step over.
    if start == text.len() + 1 {
        reader
            .odd(DeviationKind::MissingFinalNewline, text.rsplit('\n').next().and_then(|line| line.split(':').next()));
    }
    let fields = reader.finish()?;
    Ok((text, fields))
}

struct Reader<'a, 's, F> {
    text: &'a str,
    store_dir: &'s StoreDir,
    odd: &'s mut F,
    line: usize,
    fields: Fields,
    last_signature: Span,
    is_sorted_by_line: bool,
    is_sorted_by_name: bool,
}

impl<'a, F: FnMut(Deviation<'a>)> Reader<'a, '_, F> {
    /// Parses the line from `start` to the newline at `end`.
    #[inline]
    fn line(&mut self, start: usize, end: usize) -> Result<(), Error> {
        let line = &self.text.as_bytes()[start..end];
        let (field, colon) = match Field::leading(line) {
            Some(field) => (Some(field), field.name().len()),
            None => match memchr(b':', line) {
                Some(colon) => (None, colon),
                None if line.is_empty() => return Err(self.line_error(line, None, ErrorReason::BlankLine)),
                None => return Err(self.line_error(line, None, ErrorReason::NoColon)),
            },
        };
        if line.get(colon + 1) != Some(&b' ') {
            return Err(self.line_error(line, field, ErrorReason::NoSpace));
        }
        if let [.., b'\r'] = line {
            return Err(self.line_error(line, field, ErrorReason::CarriageReturn));
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

    /// The error of a line. If the line ends in a carriage return, that says more than a missing
    /// colon or space.
    #[cold]
    fn line_error(&self, line: &[u8], field: Option<Field>, reason: ErrorReason) -> Error {
        Error::at(self.line, field, if line.ends_with(b"\r") { ErrorReason::CarriageReturn } else { reason })
    }

    /// Records a field. It must be the only one of its name, and should be where Nix writes it.
    #[inline]
    fn note(&mut self, field: Field) -> Result<(), Error> {
        let bit = field.bit();
        if self.fields.seen & bit != 0 && field != Field::Sig {
            return Err(self.error(field, ErrorReason::Duplicate));
        }
        if self.fields.seen >= bit << 1 {
            self.odd(DeviationKind::FieldOrder, Some(field.name()));
        }
        self.fields.seen |= bit;
        Ok(())
    }

    #[inline]
    fn field(&mut self, field: Field, span: Span, line_start: usize) -> Result<(), Error> {
        let value = span.of(self.text);
        match field {
            Field::StorePath => {
                let base_name = self.store_dir.strip(value).map_or(0, str::len);
                let start = span.end - index32(base_name);
                if !self.is_base_name(Span { start, end: span.end }) {
                    return Err(self.path_error(field, value));
                }
                self.fields.store_path = Span { start, end: span.end };
                self.fields.store_dir = Span { start: span.start, end: start - 1 };
            }
            Field::Url => {
                self.no_control(field, value)?;
                if value.is_empty() {
                    return Err(self.error(field, ErrorReason::Empty));
                }
                self.fields.url = span;
            }
            Field::Compression => {
                self.no_control(field, value)?;
                if value.is_empty() {
                    self.odd(DeviationKind::EmptyCompression, Some(field.name()));
                } else if !is_known_compression(value) {
                    self.odd(DeviationKind::UnknownCompression, Some(field.name()));
                }
                self.fields.compression = span;
            }
            Field::FileHash => {
                self.hash(field, value)?;
                self.fields.file_hash = span;
            }
            Field::FileSize => {
                self.fields.file_size = self.size(field, value)?;
                if self.fields.file_size == 0 {
                    self.odd(DeviationKind::ZeroFileSize, Some(field.name()));
                }
            }
            Field::NarHash => {
                let algorithm = self.hash(field, value)?;
                if algorithm != Algorithm::Sha256 {
                    return Err(self.error(field, ErrorReason::NarHashAlgorithm(algorithm)));
                }
                self.fields.nar_hash = span;
            }
            Field::NarSize => {
                self.fields.nar_size = self.size(field, value)?;
                if self.fields.nar_size == 0 {
                    return Err(self.error(field, ErrorReason::NoSize));
                }
            }
            Field::References => {
                self.fields.references = span;
                self.fields.order = match references::scan(self.text.as_bytes(), span.start as usize, span.end as usize)
                {
                    Some(order) if order.is_sorted => order,
                    _ => self.odd_references(value)?,
                };
            }
            Field::Deriver => {
                if value == "unknown-deriver" {
                    self.odd(DeviationKind::UnknownDeriver, Some(field.name()));
                } else if self.is_base_name(span) {
                    if !StorePathRef::of_checked(value).is_derivation() {
                        self.odd(DeviationKind::DeriverNotDerivation, Some(field.name()));
                    }
                    self.fields.deriver = span;
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
                if digest != nixbase32::encoded_len(address.hash().digest().len()) {
                    self.odd(DeviationKind::HashForm, Some(field.name()));
                }
                self.fields.content_address = span;
            }
        }
        Ok(())
    }

    /// Whether a part of the text is a base name. It is checked together with the bytes that
    /// follow, which is faster.
    #[inline]
    fn is_base_name(&self, span: Span) -> bool {
        let length = (span.end - span.start) as usize;
        leading_base_name(&self.text.as_bytes()[span.start as usize..], length) == Some(length)
    }

    /// Parses a hash and returns its algorithm.
    #[inline]
    fn hash(&mut self, field: Field, value: &str) -> Result<Algorithm, Error> {
        let is_sha256 = |digits: &[u8]| digits.try_into().is_ok_and(nixbase32::is_sha256);
        if value.as_bytes().strip_prefix(b"sha256:").is_some_and(is_sha256) {
            return Ok(Algorithm::Sha256);
        }
        self.other_hash(field, value)
    }

    /// Parses a hash that is not written as Nix writes it.
    #[cold]
    fn other_hash(&mut self, field: Field, value: &str) -> Result<Algorithm, Error> {
        if value.is_empty() {
            return Err(self.error(field, ErrorReason::Empty));
        }
        let hash = Hash::parse(value).map_err(|error| self.error(field, error))?;
        self.odd(DeviationKind::HashForm, Some(field.name()));
        Ok(hash.algorithm())
    }

    fn size(&mut self, field: Field, value: &str) -> Result<u64, Error> {
        // `str::parse` would take a plus sign.
        let size = if value.starts_with('+') { None } else { value.parse().ok() };
        let size = size
            .ok_or_else(|| self.error(field, if value.is_empty() { ErrorReason::Empty } else { ErrorReason::Size }))?;
        if value.len() > 1 && value.starts_with('0') {
            self.odd(DeviationKind::LeadingZeros, Some(field.name()));
        }
        Ok(size)
    }

    /// Parses references that are not as Nix writes them.
    #[cold]
    fn odd_references(&mut self, value: &str) -> Result<ReferenceOrder, Error> {
        let field = Field::References;
        let (mut count, mut is_ascending, mut has_duplicates, mut is_tight) = (0, true, false, true);
        let mut previous = "";
        for name in value.split(' ').filter(|_| !value.is_empty()) {
            if name.is_empty() {
                is_tight = false;
                continue;
            }
            let path = StorePathRef::parse(name).map_err(|error| self.error(field, error))?;
            count += 1;
            is_ascending &= previous <= path.as_str();
            has_duplicates |= previous == path.as_str();
            previous = path.as_str();
        }
        // Finding duplicates in an unsorted list would take sorting it.
        if !is_ascending {
            self.odd(DeviationKind::UnsortedReferences, Some(field.name()));
        } else if has_duplicates {
            self.odd(DeviationKind::DuplicateReferences, Some(field.name()));
        }
        if !is_tight {
            self.odd(DeviationKind::ReferenceSpacing, Some(field.name()));
        }
        Ok(ReferenceOrder { count, is_sorted: is_ascending && !has_duplicates })
    }

    fn signature(&mut self, value: &'a str, span: Span, line_start: usize) -> Result<(), Error> {
        let field = Field::Sig;
        self.no_control(field, value)?;
        if !is_signature(value) {
            self.odd(DeviationKind::MalformedSignature, Some(field.name()));
        }
        if self.fields.signature_count == 0 {
            self.fields.signatures.start = index32(line_start);
        } else {
            let last = self.last_signature.of(self.text);
            if last == value {
                self.odd(DeviationKind::DuplicateSignatures, Some(field.name()));
            }
            // Either order is fine, if all signatures are in it.
            let was_sorted = self.is_sorted_by_line || self.is_sorted_by_name;
            self.is_sorted_by_line &= last <= value;
            self.is_sorted_by_name &= signatures::order(last, value).is_le();
            if was_sorted && !self.is_sorted_by_line && !self.is_sorted_by_name {
                self.odd(DeviationKind::UnsortedSignatures, Some(field.name()));
            }
        }
        self.fields.signatures.end = span.end;
        self.last_signature = span;
        self.fields.signature_count += 1;
        Ok(())
    }

    #[inline]
    fn no_control(&self, field: Field, value: &str) -> Result<(), Error> {
        if has_control(value) {
            return Err(self.error(field, ErrorReason::Control));
        }
        Ok(())
    }

    #[inline]
    fn odd(&mut self, kind: DeviationKind, field: Option<&'a str>) {
        self.fields.deviations |= kind.bit();
        (self.odd)(Deviation { kind, line: self.line, field: field.unwrap_or_default() });
    }

    #[cold]
    fn error(&self, field: Field, reason: impl Into<ErrorReason>) -> Error {
        Error::at(self.line, field, reason)
    }

    #[cold]
    fn path_error(&self, field: Field, value: &str) -> Error {
        let reason = if value.is_empty() {
            ErrorReason::Empty
        } else if field == Field::Deriver {
            base_name_error(value).into()
        } else {
            match self.store_dir.parse(value) {
                Err(error) => error.into(),
                Ok(_) => ErrorReason::Empty,
            }
        };
        self.error(field, reason)
    }

    fn finish(mut self) -> Result<Fields, Error> {
        for field in [Field::StorePath, Field::Url, Field::NarHash, Field::NarSize] {
            if self.fields.seen & field.bit() == 0 {
                return Err(Error::of(field, ErrorReason::Missing));
            }
        }
        for (field, kind) in [
            (Field::Compression, DeviationKind::MissingCompression),
            (Field::References, DeviationKind::MissingReferences),
        ] {
            if self.fields.seen & field.bit() == 0 {
                self.odd(kind, Some(field.name()));
            }
        }
        Ok(self.fields)
    }
}

/// Whether Nix or this crate has a name for a compression.
pub(super) fn is_known_compression(name: &str) -> bool {
    // Without parsing it, which allocates for the error.
    Compression::ALL.iter().any(|known| known.name() == name) || OTHER_COMPRESSIONS.contains(&name)
}

/// The store directory in the first `StorePath` line. `None` if there is no such line, or if it has
/// no directory.
pub(super) fn store_dir(text: &[u8]) -> Option<Result<StoreDir, Error>> {
    let (line, value) = (1..)
        .zip(text.split(|&byte| byte == b'\n'))
        .find_map(|(number, line)| Some((number, line.strip_prefix(b"StorePath: ")?)))?;
    let (directory, _) = std::str::from_utf8(value).ok()?.rsplit_once('/')?;
    Some(StoreDir::new(directory).map_err(|error| Error::at(line, Field::StorePath, error)))
}

/// Whether a `Sig` is a key name, a colon and 64 bytes in base64.
#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator would be a branch")]
pub(super) fn is_signature(text: &str) -> bool {
    let Some((name, base64)) = text.as_bytes().split_last_chunk::<89>() else { return false };
    let [b':', digits @ .., b'=', b'='] = base64 else { return false };
    let is_base64 = |digit: &u8| digit.is_ascii_alphanumeric() | (*digit == b'+') | (*digit == b'/');
    // Four bits of the last digit belong to no byte and must be zero.
    digits.iter().fold(true, |all, digit| all & is_base64(digit))
        && matches!(digits[85], b'A' | b'Q' | b'g' | b'w')
        && !matches!(name, [] | [b' ', ..])
        && !name.contains(&b':')
}

/// Whether a text has a control character.
#[inline]
pub(super) fn has_control(text: &str) -> bool {
    !are_plain(text.as_bytes()) && text.chars().any(char::is_control)
}

/// The number of bytes that are checked together.
const WINDOW: usize = 16;

/// Whether all bytes are printable ASCII: neither control characters, nor bytes that begin other
/// ones.
#[inline]
fn are_plain(bytes: &[u8]) -> bool {
    let are_plain =
        |bytes: &[u8]| bytes.iter().fold(true, |plain, byte| plain & (byte.wrapping_sub(b' ') < 0x7f - b' '));
    // The last window may overlap the one before, so that no bytes are left over.
    match bytes.last_chunk::<WINDOW>() {
        Some(last) => {
            bytes.as_chunks::<WINDOW>().0.iter().fold(true, |plain, window| plain & are_plain(window)) & are_plain(last)
        }
        None => are_plain(bytes),
    }
}
