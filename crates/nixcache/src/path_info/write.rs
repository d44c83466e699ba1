//! Writing path infos as JSON, in the bytes of Nix.

use std::io::{self, Write};

use super::{JsonVersion, PathInfo, PathInfos};
use crate::hash::{Format, Hash};
use crate::json::{ObjectWriter, by_name, signature_lines, signature_objects, write_array, write_text};
use crate::store_path::{ContentAddress, StoreDir, StorePathRef};

impl PathInfos {
    /// Writes a document of a version, in the bytes that `nix path-info --json` prints, without
    /// white space or the newline at the end. Many writes are small: give it a buffered sink.
    ///
    /// Paths are sorted. If a path occurs twice, nothing is written, and the error is of kind
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn write_json(&self, version: JsonVersion, store_dir: &StoreDir, mut out: impl Write) -> io::Result<()> {
        let paths = self.sorted();
        if let Some(pair) = paths.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let message = format!("{} is in a list of path infos twice", pair[0].0);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let target = Target { version, store_dir };
        match version {
            JsonVersion::List => write_array(&mut out, paths, |out, (path, info)| {
                let Some(info) = info else { return target.write_invalid(out, path) };
                target.write_listed(out, info)
            }),
            JsonVersion::Map | JsonVersion::V1 => target.write_keyed(&mut out, paths),
            JsonVersion::V2 | JsonVersion::V3 => {
                let mut object = ObjectWriter::new(&mut out);
                target.write_keyed(object.key("info")?, paths)?;
                target.write_head(&mut object)?;
                object.end()
            }
        }
    }
}

impl PathInfo {
    /// Writes this info alone, in the form that it has in a document of [`PathInfos`]. Only
    /// [`JsonVersion::List`] includes the path.
    pub fn write_json(&self, version: JsonVersion, store_dir: &StoreDir, mut out: impl Write) -> io::Result<()> {
        let target = Target { version, store_dir };
        match version {
            JsonVersion::List => target.write_listed(&mut out, self),
            _ => target.write_info(&mut out, self),
        }
    }
}

/// The form that is written.
#[derive(Clone, Copy)]
struct Target<'s> {
    version: JsonVersion,
    store_dir: &'s StoreDir,
}

impl Target<'_> {
    fn has_base_names(self) -> bool {
        matches!(self.version, JsonVersion::V2 | JsonVersion::V3)
    }

    fn path(self, path: StorePathRef<'_>) -> String {
        if self.has_base_names() { path.to_string() } else { self.store_dir.display(path).to_string() }
    }

    fn write_keyed(self, out: &mut impl Write, paths: Vec<(StorePathRef<'_>, Option<&PathInfo>)>) -> io::Result<()> {
        let mut object = ObjectWriter::new(out);
        for (path, info) in paths {
            let out = object.key(&self.path(path))?;
            match info {
                Some(info) => self.write_info(out, info)?,
                None => out.write_all(b"null")?,
            }
        }
        object.end()
    }

    fn write_invalid(self, out: &mut impl Write, path: StorePathRef<'_>) -> io::Result<()> {
        let mut object = ObjectWriter::new(out);
        object.text("path", self.path(path))?;
        object.literal("valid", false)?;
        object.end()
    }

    /// Writes keys in the order of Nix 2.8, which leaves out unknown, false and empty values.
    fn write_listed(self, out: &mut impl Write, info: &PathInfo) -> io::Result<()> {
        let mut object = ObjectWriter::new(out);
        object.text("path", self.path(info.path.as_ref()))?;
        object.text("narHash", sri(&info.nar_hash))?;
        object.literal("narSize", info.nar_size)?;
        self.write_references(&mut object, info)?;
        if let Some(ca) = info.ca {
            object.text("ca", ca)?;
        }
        if let Some(size) = info.closure_size {
            object.literal("closureSize", size)?;
        }
        if let Some(deriver) = &info.deriver {
            object.text("deriver", self.path(deriver.as_ref()))?;
        }
        if let Some(time) = info.registration_time {
            object.literal("registrationTime", time)?;
        }
        if info.ultimate {
            object.literal("ultimate", true)?;
        }
        if !info.signatures.is_empty() {
            signature_lines(object.key("signatures")?, &info.signatures)?;
        }
        if let Some(download) = &info.download {
            object.text("url", &download.url)?;
            if let Some(hash) = &download.file_hash {
                object.text("downloadHash", sri(hash))?;
            }
            if let Some(size) = download.file_size {
                object.literal("downloadSize", size)?;
            }
            if let Some(size) = download.closure_size {
                object.literal("closureDownloadSize", size)?;
            }
        }
        object.end()
    }

    /// Writes keys in order, with `null` for unknown values. Leaves out unknown facts of caches.
    fn write_info(self, out: &mut impl Write, info: &PathInfo) -> io::Result<()> {
        let download = info.download.as_ref();
        let mut object = ObjectWriter::new(out);
        self.write_address(&mut object, info.ca)?;
        if let Some(size) = download.and_then(|download| download.closure_size) {
            object.literal("closureDownloadSize", size)?;
        }
        if let Some(size) = info.closure_size {
            object.literal("closureSize", size)?;
        }
        if let Some(compression) = download.and_then(|download| download.compression.as_ref()) {
            object.text("compression", compression)?;
        }
        match &info.deriver {
            Some(deriver) => object.text("deriver", self.path(deriver.as_ref()))?,
            None => object.literal("deriver", "null")?,
        }
        if let Some(hash) = download.and_then(|download| download.file_hash.as_ref()) {
            object.text("downloadHash", sri(hash))?;
        }
        if let Some(size) = download.and_then(|download| download.file_size) {
            object.literal("downloadSize", size)?;
        }
        object.text("narHash", sri(&info.nar_hash))?;
        object.literal("narSize", info.nar_size)?;
        self.write_references(&mut object, info)?;
        match info.registration_time {
            Some(time) => object.literal("registrationTime", time)?,
            None => object.literal("registrationTime", "null")?,
        }
        let signatures = object.key("signatures")?;
        match self.version {
            JsonVersion::V3 => signature_objects(signatures, &info.signatures)?,
            // Nix 2.34 holds signatures in two parts, and so sorts them by parts also in lines.
            JsonVersion::V1 | JsonVersion::V2 => signature_lines(signatures, by_name(&info.signatures))?,
            JsonVersion::List | JsonVersion::Map => signature_lines(signatures, &info.signatures)?,
        }
        if self.version.number().is_some() {
            object.text("storeDir", self.store_dir)?;
        }
        object.literal("ultimate", info.ultimate)?;
        if let Some(download) = download {
            object.text("url", &download.url)?;
        }
        if let Some(number) = self.version.number() {
            object.literal("version", number)?;
        }
        object.end()
    }

    fn write_references<W: Write>(self, object: &mut ObjectWriter<W>, info: &PathInfo) -> io::Result<()> {
        write_array(object.key("references")?, &info.references, |out, path| write_text(out, self.path(path.as_ref())))
    }

    fn write_address<W: Write>(self, object: &mut ObjectWriter<W>, ca: Option<ContentAddress>) -> io::Result<()> {
        match ca {
            None => object.literal("ca", "null"),
            Some(ca) if self.has_base_names() => {
                let mut structured = ObjectWriter::new(object.key("ca")?);
                structured.text("hash", sri(&ca.hash()))?;
                structured.text("method", ca.method())?;
                structured.end()
            }
            Some(ca) => object.text("ca", ca),
        }
    }

    /// Writes the store directory and version after the infos.
    fn write_head<W: Write>(self, object: &mut ObjectWriter<W>) -> io::Result<()> {
        object.text("storeDir", self.store_dir)?;
        match self.version.number() {
            Some(number) => object.literal("version", number),
            None => Ok(()),
        }
    }
}

fn sri(hash: &Hash) -> crate::hash::HashText {
    hash.display(Format::Sri)
}
