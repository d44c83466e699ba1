//! Listings read from JSON: the `.ls` files of a binary cache.
//!
//! Read is what any version of Nix wrote: keys in any order, `executable` and `narOffset` optional,
//! unknown keys passed over. What no archive can hold is refused, and so is a known key with a
//! value of the wrong type, even where the key has no meaning, such as the `size` of a directory.
//!
//! Strings and numbers are left to `serde_json`, but not objects: it refuses more than 127 levels,
//! or without that limit recurses as deep as the text says, and the 64 nested directories of a
//! valid archive are 129 levels.

use std::borrow::Cow;
use std::num::NonZeroU64;

use serde_core::de::{Deserialize, IgnoredAny};
use thiserror::Error;

use super::{Listing, ListingBuilder, ListingNode, NodeKind, Row, RowKind};
use crate::ErrorKind;
use crate::nar::error::Quoted;
use crate::nar::event::Event;
use crate::nar::grammar::{Limits, name_fault, target_fault};

/// Why text is not a listing, and where: lines and columns count from 1, columns in bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListingError {
    /// The text is not JSON.
    #[error("line {line}, column {column}: not JSON: {reason}")]
    Syntax {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something else stands where a listing wants a certain thing.
    #[error("line {line}, column {column}: expected {expected}")]
    Unexpected {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// What should stand here.
        expected: &'static str,
    },
    /// An object lacks a key that it must have.
    #[error("line {line}, column {column}: \"{key}\" is missing before the end of this object")]
    Missing {
        /// The line where the object ends.
        line: usize,
        /// The column where the object ends.
        column: usize,
        /// The key.
        key: &'static str,
    },
    /// A key stands twice in one object.
    #[error("line {line}, column {column}: {key} for the second time")]
    Duplicate {
        /// The line of one of the two.
        line: usize,
        /// Its column.
        column: usize,
        /// The key.
        key: Quoted,
    },
    /// A name that no directory entry can have.
    #[error("line {line}, column {column}: invalid entry name {name}: {reason}")]
    Name {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// The name.
        name: Quoted,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A link target that no symlink can have.
    #[error("line {line}, column {column}: invalid symlink target {target}: {reason}")]
    Target {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// The target.
        target: Quoted,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// More than the [`Limits`] allow.
    #[error("line {line}, column {column}: {what} {value} exceeds the limit of {limit}")]
    Limit {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// Which limit.
        what: &'static str,
        /// What the listing has.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
}

impl ListingError {
    /// What kind of failure this is: always [`ErrorKind::Content`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Content
    }
}

impl Listing {
    /// Reads an `.ls` document, version 1.
    ///
    /// Names and targets must be such as an archive can hold, and all of it within `limits`; of
    /// these the size of the archive cannot be told. Entries may stand in any order. Nothing checks
    /// that sizes and offsets fit an archive.
    pub fn parse(text: &[u8], limits: Limits) -> Result<Self, ListingError> {
        Parser {
            text: Text { text, at: 0 },
            limits,
            listing: Self { rows: Vec::new(), bytes: Vec::new() },
            places: Vec::new(),
            sorted: true,
        }
        .document()
    }
}

/// What has been read of the listing, in the order of the text.
struct Parser<'a> {
    text: Text<'a>,
    limits: Limits,
    listing: Listing,
    /// For each row, where in the text its name stands.
    places: Vec<usize>,
    /// Whether the order of the text is that of an archive.
    sorted: bool,
}

/// A node whose object has not ended. What it is shows only at the end: `entries` comes before
/// `type`.
#[derive(Default)]
struct Open<'a> {
    row: usize,
    /// Whether the text is in the object of its entries rather than in its own.
    in_entries: bool,
    /// Whether nothing was read yet of the object that the text is in.
    first: bool,
    last_entry: Option<usize>,
    has_entries: bool,
    kind: Option<Kind>,
    executable: Option<bool>,
    offset: Option<u64>,
    size: Option<u64>,
    target: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Directory,
    Regular,
    Symlink,
}

impl<'a> Parser<'a> {
    fn document(mut self) -> Result<Listing, ListingError> {
        self.text.open("a listing: an object with \"root\" and \"version\"")?;
        let (mut first, mut version) = (true, None);
        while let Some((at, key)) = self.text.member(&mut first)? {
            match &*key {
                "root" if self.listing.rows.is_empty() => self.tree()?,
                "root" => return Err(self.text.duplicate(at, &key)),
                "version" => {
                    let value_at = self.text.at;
                    self.text.field(at, &key, &mut version, "the version, a number")?;
                    if version != Some(1_u64) {
                        return Err(self.text.unexpected(value_at, "version 1, the only one known"));
                    }
                }
                _ => self.text.skip()?,
            }
        }
        if self.listing.rows.is_empty() {
            return Err(self.text.missing("root"));
        }
        if version.is_none() {
            return Err(self.text.missing("version"));
        }
        if self.text.peek().is_some() {
            return Err(self.text.unexpected(self.text.at, "nothing after the listing"));
        }
        if self.sorted { Ok(self.listing) } else { self.sort() }
    }

    /// Reads the root and all below it.
    fn tree(&mut self) -> Result<(), ListingError> {
        let mut open = vec![self.begin(self.text.at, "", 0)?];
        while let Some(node) = open.last_mut() {
            match self.text.member(&mut node.first)? {
                Some((at, name)) if node.in_entries => {
                    self.check_name(at, &name)?;
                    if let Some(last) = node.last_entry.replace(self.listing.rows.len()) {
                        self.sorted &= ListingNode { listing: &self.listing, index: last }.name() < name.as_bytes();
                    }
                    let depth = open.len();
                    open.push(self.begin(at, &name, depth)?);
                }
                Some((at, key)) => self.field(node, at, &key)?,
                None if node.in_entries => node.in_entries = false,
                None => {
                    if let Some(node) = open.pop() {
                        self.end(node)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins a node; `at` is where its name stands.
    fn begin(&mut self, at: usize, name: &str, depth: usize) -> Result<Open<'a>, ListingError> {
        self.check_limit(at, "the depth", depth as u64, self.limits.depth as u64)?;
        self.check_limit(at, "the number of entries", self.listing.rows.len() as u64 + 1, self.limits.entries)?;
        self.text.open("a node: an object with \"type\"")?;
        let row = self.listing.rows.len();
        let start = self.listing.bytes.len();
        self.listing.bytes.extend_from_slice(name.as_bytes());
        let name = start..self.listing.bytes.len();
        // What kind it is shows at its end.
        self.listing.rows.push(Row { name, kind: RowKind::Directory { end: row + 1 } });
        self.places.push(at);
        Ok(Open { row, first: true, ..Open::default() })
    }

    /// Reads the value of a node's key.
    fn field(&mut self, node: &mut Open<'a>, at: usize, key: &str) -> Result<(), ListingError> {
        /// As [`u64`] is read: no sign, no fraction, no exponent.
        const NUMBER: &str = "a whole number from 0 to 18446744073709551615";
        let text = &mut self.text;
        match key {
            "type" => {
                const TYPE: &str = "\"directory\", \"regular\" or \"symlink\"";
                let value_at = text.at;
                let kind = match &*text.string(TYPE)? {
                    "directory" => Kind::Directory,
                    "regular" => Kind::Regular,
                    "symlink" => Kind::Symlink,
                    _ => return Err(text.unexpected(value_at, TYPE)),
                };
                if node.kind.replace(kind).is_some() {
                    return Err(text.duplicate(at, key));
                }
            }
            "entries" => {
                text.open("an object with the entries of a directory")?;
                if std::mem::replace(&mut node.has_entries, true) {
                    return Err(text.duplicate(at, key));
                }
                (node.in_entries, node.first) = (true, true);
            }
            "target" => {
                let value_at = text.at;
                let target = text.string("a string")?;
                if let Some(reason) = target_fault(target.as_bytes()) {
                    let (line, column) = text.place(value_at);
                    return Err(ListingError::Target { line, column, target: Quoted::new(target.as_bytes()), reason });
                }
                if node.target.replace(target).is_some() {
                    return Err(text.duplicate(at, key));
                }
            }
            "executable" => text.field(at, key, &mut node.executable, "true or false")?,
            "narOffset" => text.field(at, key, &mut node.offset, NUMBER)?,
            "size" => text.field(at, key, &mut node.size, NUMBER)?,
            _ => text.skip()?,
        }
        Ok(())
    }

    /// Ends a node.
    fn end(&mut self, node: Open<'a>) -> Result<(), ListingError> {
        let missing = |key| self.text.missing(key);
        let kind = match node.kind.ok_or_else(|| missing("type"))? {
            Kind::Directory if node.has_entries => RowKind::Directory { end: self.listing.rows.len() },
            Kind::Directory => return Err(missing("entries")),
            Kind::Regular => RowKind::File {
                executable: node.executable.unwrap_or(false),
                size: node.size.ok_or_else(|| missing("size"))?,
                offset: node.offset.and_then(NonZeroU64::new), // Nix, too, reads 0 as unknown
            },
            Kind::Symlink => {
                let target = node.target.ok_or_else(|| missing("target"))?;
                self.check_limit(
                    self.text.at,
                    "the length of a symlink's target",
                    target.len() as u64,
                    self.limits.target as u64,
                )?;
                self.drop_entries(node.row);
                self.listing.bytes.extend_from_slice(target.as_bytes());
                RowKind::Symlink { target_len: target.len() }
            }
        };
        if let RowKind::File { .. } = kind {
            self.drop_entries(node.row);
        }
        self.listing.rows[node.row].kind = kind;
        Ok(())
    }

    /// Forgets the entries of what turned out to be no directory.
    fn drop_entries(&mut self, row: usize) {
        self.listing.bytes.truncate(self.listing.rows[row].name.end);
        self.listing.rows.truncate(row + 1);
        self.places.truncate(row + 1);
    }

    /// What has been read, in the order of an archive.
    fn sort(&self) -> Result<Listing, ListingError> {
        enum Task {
            Add(usize),
            End,
        }
        let mut builder = ListingBuilder::new();
        let mut tasks = vec![Task::Add(0)];
        let mut entries = Vec::new();
        while let Some(task) = tasks.pop() {
            let Task::Add(index) = task else {
                builder.push::<()>(&Event::End, 0);
                continue;
            };
            let node = ListingNode { listing: &self.listing, index };
            let name = node.name();
            match node.kind() {
                NodeKind::File { executable, size, offset } => {
                    builder.push::<()>(&Event::File { name, executable, size }, offset.unwrap_or(0));
                }
                NodeKind::Symlink { target } => builder.push::<()>(&Event::Symlink { name, target }, 0),
                NodeKind::Directory => {
                    builder.push::<()>(&Event::Directory { name }, 0);
                    tasks.push(Task::End);
                    entries.extend(node.children());
                    entries.sort_unstable_by_key(|entry: &ListingNode<'_>| (entry.name(), entry.index));
                    if let Some(twice) = entries.windows(2).find(|pair| pair[0].name() == pair[1].name()) {
                        let name = String::from_utf8_lossy(twice[1].name());
                        return Err(self.text.duplicate(self.places[twice[1].index], &name));
                    }
                    tasks.extend(entries.drain(..).rev().map(|entry| Task::Add(entry.index)));
                }
            }
        }
        Ok(builder.finish())
    }

    fn check_name(&self, at: usize, name: &str) -> Result<(), ListingError> {
        if let Some(reason) = name_fault(name.as_bytes()) {
            let (line, column) = self.text.place(at);
            return Err(ListingError::Name { line, column, name: Quoted::new(name.as_bytes()), reason });
        }
        self.check_limit(at, "the length of a name", name.len() as u64, self.limits.name as u64)
    }

    fn check_limit(&self, at: usize, what: &'static str, value: u64, limit: u64) -> Result<(), ListingError> {
        if value <= limit {
            return Ok(());
        }
        let (line, column) = self.text.place(at);
        Err(ListingError::Limit { line, column, what, value, limit })
    }
}

/// The text, and how far it was read: to the next thing, white space passed over.
struct Text<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    /// The byte that is next.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.text.get(self.at).copied()
    }

    /// Reads the byte `wanted`.
    fn byte(&mut self, wanted: u8, expected: &'static str) -> Result<(), ListingError> {
        if self.peek() != Some(wanted) {
            return Err(self.unexpected(self.at, expected));
        }
        self.at += 1;
        self.peek();
        Ok(())
    }

    /// Reads the start of an object.
    fn open(&mut self, expected: &'static str) -> Result<(), ListingError> {
        self.byte(b'{', expected)
    }

    /// Reads a member of an object, up to its value: where its key stands, and the key. Or reads
    /// the object's end.
    fn member(&mut self, first: &mut bool) -> Result<Option<(usize, Cow<'a, str>)>, ListingError> {
        if self.peek() == Some(b'}') {
            self.at += 1;
            *first = false; // what is around this object has a member now: this one
            return Ok(None);
        }
        if !std::mem::replace(first, false) {
            self.byte(b',', "\",\" or \"}\"")?;
        }
        let at = self.at;
        let key = self.string("a key in quotes")?;
        self.byte(b':', "\":\"")?;
        Ok(Some((at, key)))
    }

    /// Reads a string, without a copy unless something in it is escaped.
    fn string(&mut self, expected: &'static str) -> Result<Cow<'a, str>, ListingError> {
        match self.value::<&str>(expected) {
            Err(ListingError::Unexpected { .. }) => self.value(expected).map(Cow::Owned),
            borrowed => borrowed.map(Cow::Borrowed),
        }
    }

    /// Reads the value of a key that may stand only once.
    fn field<T: Deserialize<'a>>(
        &mut self,
        at: usize,
        key: &str,
        field: &mut Option<T>,
        expected: &'static str,
    ) -> Result<(), ListingError> {
        let value = self.value(expected)?;
        if field.replace(value).is_some() { Err(self.duplicate(at, key)) } else { Ok(()) }
    }

    /// Passes over any value. `serde_json` does not recurse for this.
    fn skip(&mut self) -> Result<(), ListingError> {
        self.value::<IgnoredAny>("a value").map(drop)
    }

    fn value<T: Deserialize<'a>>(&mut self, expected: &'static str) -> Result<T, ListingError> {
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) if !error.is_data() => Err(self.syntax(&error)),
            _ => Err(self.unexpected(self.at, expected)),
        }
    }

    /// Line and column of a byte, from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at.min(self.text.len())];
        let lines = before.split(|&byte| byte == b'\n');
        lines.fold((0, 1), |(line, _), text| (line + 1, text.len() + 1))
    }

    /// The error of `serde_json`, whose place counts from where it was set to work.
    fn syntax(&self, error: &serde_json::Error) -> ListingError {
        let (line, column) = self.place(self.at);
        let (line, column) = match error.line() {
            0 | 1 => (line, (column + error.column()).saturating_sub(1)),
            lines => (line + lines - 1, error.column().max(1)),
        };
        let message = error.to_string();
        let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason).to_owned();
        ListingError::Syntax { line, column, reason }
    }

    fn unexpected(&self, at: usize, expected: &'static str) -> ListingError {
        let (line, column) = self.place(at);
        ListingError::Unexpected { line, column, expected }
    }

    fn missing(&self, key: &'static str) -> ListingError {
        let (line, column) = self.place(self.at.saturating_sub(1));
        ListingError::Missing { line, column, key }
    }

    fn duplicate(&self, at: usize, key: &str) -> ListingError {
        let (line, column) = self.place(at);
        ListingError::Duplicate { line, column, key: Quoted::new(key.as_bytes()) }
    }
}
