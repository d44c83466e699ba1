//! Writing JSON in the bytes of Nix: without white space, and with keys in the given order.

use std::fmt::Display;
use std::io::{self, Write};

use data_encoding::BASE64;

/// Writes the members of one object.
pub(crate) struct ObjectWriter<W> {
    out: W,
    separator: &'static [u8],
}

impl<W: Write> ObjectWriter<W> {
    /// Begins an object.
    pub(crate) const fn new(out: W) -> Self {
        Self { out, separator: b"{" }
    }

    /// Writes a key. Returns the sink for its value.
    pub(crate) fn key(&mut self, key: &str) -> io::Result<&mut W> {
        self.out.write_all(std::mem::replace(&mut self.separator, b","))?;
        serde_json::to_writer(&mut self.out, key)?;
        self.out.write_all(b":")?;
        Ok(&mut self.out)
    }

    pub(crate) fn text(&mut self, key: &str, value: impl Display) -> io::Result<()> {
        write_text(self.key(key)?, value)
    }

    /// Writes a number, `true`, `false` or `null`, whose text is its JSON.
    pub(crate) fn literal(&mut self, key: &str, value: impl Display) -> io::Result<()> {
        write!(self.key(key)?, "{value}")
    }

    /// Ends the object.
    pub(crate) fn end(mut self) -> io::Result<()> {
        if self.separator == b"{" {
            self.out.write_all(b"{")?;
        }
        self.out.write_all(b"}")
    }
}

/// Writes a text in quotes.
pub(crate) fn write_text(out: &mut impl Write, value: impl Display) -> io::Result<()> {
    serde_json::to_writer(out, &value.to_string())?;
    Ok(())
}

/// Writes an array, each element by `write`.
pub(crate) fn write_array<W: Write, T>(
    out: &mut W,
    elements: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut W, T) -> io::Result<()>,
) -> io::Result<()> {
    let mut separator: &[u8] = b"[";
    for element in elements {
        out.write_all(std::mem::replace(&mut separator, b","))?;
        write(out, element)?;
    }
    out.write_all(if separator == b"[" { b"[]" } else { b"]" })
}

/// Writes signatures as lines, in the given order.
pub(crate) fn signature_lines<'a>(
    out: &mut impl Write,
    signatures: impl IntoIterator<Item = &'a String>,
) -> io::Result<()> {
    write_array(out, signatures, |out, signature| write_text(out, signature))
}

/// Sorts signatures as Nix does since 2.34, where it holds them in two parts: by name, then by
/// bytes. The order of lines differs: `a:` comes after `a-1:`, but `a` before `a-1`.
///
/// A line without a colon has no such parts, and comes first.
pub(crate) fn by_name<'a>(signatures: impl IntoIterator<Item = &'a String>) -> Vec<&'a String> {
    let mut signatures: Vec<&String> = signatures.into_iter().collect();
    signatures.sort_by_cached_key(|line| {
        line.split_once(':').map(|(name, sig)| (name, BASE64.decode(sig.as_bytes()).ok(), sig))
    });
    signatures
}

/// Writes signatures as objects, [`by_name`]. A line without a colon is written as it is.
pub(crate) fn signature_objects<'a>(
    out: &mut impl Write,
    signatures: impl IntoIterator<Item = &'a String>,
) -> io::Result<()> {
    write_array(out, by_name(signatures), |out, line| {
        let Some((name, sig)) = line.split_once(':') else { return write_text(out, line) };
        let mut object = ObjectWriter::new(out);
        object.text("keyName", name)?;
        object.text("sig", sig)?;
        object.end()
    })
}
