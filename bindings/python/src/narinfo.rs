//! `NarInfo` and `Deviation`.

use nixcache::compression::Compression;
use nixcache::narinfo::{self, Builder, NarInfoBuf};
use nixcache::store_path::StorePathRef;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::buffer::Buffer;
use crate::convert::counted;
use crate::error::Result;
use crate::hash::{Hash, HashLike};
use crate::signature::{SecretKey, SignatureLike};
use crate::store_path::{AddressLike, ContentAddress, StorePath};

/// The metadata of a store path in a binary cache. Created by `NarInfo.parse` and `NarInfo.build`.
///
/// It keeps its text: `str()` and `bytes()` return the original, and edits keep all other bytes. An
/// edit returns a new narinfo. Two narinfos are equal if their texts are.
#[pyclass(frozen, eq, module = "nixcache")]
#[derive(PartialEq, Eq)]
pub(crate) struct NarInfo(pub(crate) NarInfoBuf);

impl NarInfo {
    fn info(&self) -> narinfo::NarInfo<'_> {
        self.0.as_ref()
    }
}

#[pymethods]
impl NarInfo {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("store_path", "nar_hash", "nar_size");

    /// Parses a narinfo from bytes, any buffer, or text.
    #[staticmethod]
    #[pyo3(signature = (data, /, *, store_dir="/nix/store"))]
    fn parse(data: &Bound<'_, PyAny>, store_dir: &str) -> Result<Self> {
        let store_dir = crate::store_path::store_dir(store_dir)?;
        if let Ok(bytes) = data.cast::<PyBytes>() {
            return Ok(Self(NarInfoBuf::parse(bytes.as_bytes(), &store_dir)?));
        }
        if let Ok(text) = data.cast::<PyString>() {
            return Ok(Self(NarInfoBuf::parse(text.encode_utf8()?.as_bytes(), &store_dir)?));
        }
        let parsed = Buffer::of(data)?.show(data.py(), |bytes| NarInfoBuf::parse(bytes, &store_dir));
        Ok(Self(parsed?))
    }

    /// Builds a narinfo from its parts, in the bytes that Nix writes.
    #[staticmethod]
    #[pyo3(signature = (store_path, *, url, nar_hash, nar_size, compression="none", file_hash=None, file_size=None,
        references=None, deriver=None, signatures=None, content_address=None, store_dir="/nix/store"))]
    fn build(
        store_path: StorePath,
        url: &str,
        nar_hash: HashLike,
        nar_size: u64,
        compression: &str,
        file_hash: Option<HashLike>,
        file_size: Option<u64>,
        references: Option<Vec<StorePath>>,
        deriver: Option<StorePath>,
        signatures: Option<Vec<SignatureLike>>,
        content_address: Option<AddressLike>,
        store_dir: &str,
    ) -> Result<Self> {
        let store_dir = crate::store_path::store_dir(store_dir)?;
        let references: Vec<StorePathRef<'_>> = references.iter().flatten().map(|path| path.0.as_ref()).collect();
        let mut builder = Builder::new(&store_dir, store_path.0.as_ref(), url, nar_hash.into_inner()?, nar_size)
            .compression(compression.parse()?)
            .references(references)
            .file_size(file_size.unwrap_or(0));
        if let Some(hash) = file_hash {
            builder = builder.file_hash(hash.into_inner()?);
        }
        if let Some(deriver) = &deriver {
            builder = builder.deriver(deriver.0.as_ref());
        }
        for signature in signatures.into_iter().flatten() {
            builder = builder.signature(signature.into_inner()?.as_ref());
        }
        if let Some(address) = content_address {
            builder = builder.content_address(address.into_inner()?);
        }
        Ok(Self(builder.build()?))
    }

    /// The store path.
    #[getter]
    fn store_path(&self) -> StorePath {
        self.info().store_path().into()
    }

    /// The store directory of the path.
    #[getter]
    fn store_dir(&self) -> String {
        self.info().store_dir().to_owned()
    }

    /// The URL of the NAR, usually relative to the cache.
    #[getter]
    fn url(&self) -> String {
        self.info().url().to_owned()
    }

    /// The name of the compression, known or not. bzip2 if the narinfo names none.
    #[getter]
    fn compression(&self) -> String {
        self.info().compression_name().to_owned()
    }

    /// The hash of the file at the URL, or None if unknown.
    #[getter]
    fn file_hash(&self) -> Option<Hash> {
        self.info().file_hash().map(Hash)
    }

    /// The size of the file at the URL in bytes, or None if unknown.
    #[getter]
    fn file_size(&self) -> Option<u64> {
        self.info().file_size()
    }

    /// The SHA-256 hash of the NAR.
    #[getter]
    fn nar_hash(&self) -> Hash {
        Hash(self.info().nar_hash())
    }

    /// The size of the NAR in bytes.
    #[getter]
    fn nar_size(&self) -> u64 {
        self.info().nar_size()
    }

    /// The references, in the order of the text. They may include the path itself.
    #[getter]
    fn references<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.info().references().iter().map(StorePath::from))
    }

    /// The derivation that built the path, or None if unknown.
    #[getter]
    fn deriver(&self) -> Option<StorePath> {
        self.info().deriver().map(StorePath::from)
    }

    /// The signatures as texts, including malformed ones, in the order of the text.
    #[getter]
    fn signatures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.info().signatures())
    }

    /// The content address, if the path has one.
    #[getter]
    fn content_address(&self) -> Option<ContentAddress> {
        self.info().content_address().map(ContentAddress)
    }

    /// Whether the text is byte for byte what Nix writes.
    #[getter]
    fn is_canonical(&self) -> bool {
        self.info().is_canonical()
    }

    /// The deviations from what Nix writes, by line.
    #[getter]
    fn deviations<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let deviations = self.info().deviations();
        PyTuple::new(py, deviations.iter().map(|deviation| Deviation::of(deviation)).collect::<Vec<_>>())
    }

    /// The bytes that signatures sign.
    fn fingerprint<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.info().fingerprint().to_vec())
    }

    /// Returns the narinfo with a signature by a secret key, or with an existing signature. It
    /// replaces others of the same key name.
    #[pyo3(signature = (by, /))]
    fn sign(&self, by: &Bound<'_, PyAny>) -> Result<Self> {
        let info = self.info();
        let signature = match by.cast::<SecretKey>() {
            Ok(key) => key.get().0.sign(&info.fingerprint().to_vec()),
            Err(_) => by.extract::<SignatureLike>()?.into_inner()?,
        };
        Ok(Self(info.edit().sign(signature.as_ref()).finish()?))
    }

    /// Returns the narinfo without the signatures by a key name.
    #[pyo3(signature = (key_name, /))]
    fn unsign(&self, key_name: &str) -> Result<Self> {
        Ok(Self(self.info().edit().unsign(key_name).finish()?))
    }

    /// Returns the narinfo with other values of some fields. None means that a file hash or size is
    /// unknown.
    #[pyo3(signature = (**fields))]
    fn replace(&self, fields: Option<&Bound<'_, pyo3::types::PyDict>>) -> Result<Self> {
        let info = self.info();
        let mut edit = info.edit();
        for (name, value) in fields.into_iter().flatten() {
            let name: String = name.extract()?;
            edit = match &*name {
                "url" => edit.url(&value.extract::<String>()?),
                "compression" => edit.compression(value.extract::<String>()?.parse::<Compression>()?),
                "file_hash" => {
                    let hash = value.extract::<Option<HashLike>>()?;
                    edit.file_hash(hash.map(HashLike::into_inner).transpose()?)
                }
                "file_size" => edit.file_size(value.extract()?),
                name => {
                    let message = format!("replace() got an unexpected keyword argument '{name}'");
                    return Err(PyTypeError::new_err(message).into());
                }
            };
        }
        Ok(Self(edit.finish()?))
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        self.0.as_str().hash(&mut hasher);
        hasher.finish()
    }

    fn __str__(&self) -> &str {
        self.0.as_str()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.as_str().as_bytes())
    }

    fn __repr__(&self) -> String {
        let info = self.info();
        let (path, size) = (info.store_path(), counted(info.nar_size(), "byte"));
        let references = counted(info.references().len(), "reference");
        format!("<NarInfo {path}, {size}, {references}, {}>", counted(info.signatures().len(), "signature"))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String, String))> {
        let restore = slf.py().import("nixcache._restore")?.getattr("narinfo")?;
        Ok((restore, (slf.get().0.as_str().to_owned(), slf.get().store_dir())))
    }
}

/// A place where a narinfo differs from what Nix writes.
#[pyclass(frozen, eq, hash, module = "nixcache")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Deviation {
    /// A stable name for scripts, in lower case with dashes.
    #[pyo3(get)]
    kind: &'static str,
    /// The line, starting at 1.
    #[pyo3(get)]
    line: usize,
    /// The name of the field, as in the text or as it should be.
    #[pyo3(get)]
    field: String,
    /// What differs, how it is interpreted, and what Nix does.
    #[pyo3(get)]
    explanation: &'static str,
    /// Whether Nix accepts a narinfo with this deviation: yes, only-older or no.
    #[pyo3(get)]
    nix_accepts: &'static str,
}

impl Deviation {
    fn of(deviation: &narinfo::Deviation<'_>) -> Self {
        Self {
            kind: deviation.kind.name(),
            line: deviation.line,
            field: deviation.field.to_owned(),
            explanation: deviation.kind.explanation(),
            nix_accepts: deviation.kind.nix_accepts().name(),
        }
    }
}

#[pymethods]
impl Deviation {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("kind", "line", "field");

    fn __str__(&self) -> String {
        format!("line {}: {}: {}: {}", self.line, self.field, self.kind, self.explanation)
    }

    fn __repr__(&self) -> String {
        Python::attach(|py| {
            let field = crate::convert::quoted(py, &self.field);
            format!("<Deviation '{}', line {}, field {field}>", self.kind, self.line)
        })
    }
}
