//! `Hash` and `nixcache.nixbase32`.

use std::str::FromStr;

use nixcache::hash::{Algorithm, Format, Hash as Inner, Hasher};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use crate::buffer::Buffer;
use crate::error::Result;
use crate::stream::{Source, run};

/// A hash: an algorithm and a digest.
///
/// The text is `algorithm:digest` in base16, nixbase32 or base64, or SRI, `algorithm-base64`. With
/// `algorithm`, the text may be the digest alone. Hashes are ordered by algorithm, then by digest.
///
/// >>> from nixcache import Hash
/// >>> hash = Hash("sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=")
/// >>> str(hash)
/// 'sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s'
/// >>> f"{hash:base16}"
/// 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
#[pyclass(frozen, eq, ord, hash, from_py_object, module = "nixcache")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hash(pub(crate) Inner);

#[pymethods]
impl Hash {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("algorithm", "digest");

    #[new]
    #[pyo3(signature = (text, /, algorithm=None))]
    fn new(text: &str, algorithm: Option<&str>) -> Result<Self> {
        Ok(Self(match algorithm {
            Some(algorithm) => Inner::parse_as(algorithm.parse()?, text)?,
            None => Inner::parse(text)?,
        }))
    }

    /// Creates a hash from its digest.
    #[staticmethod]
    fn from_digest(algorithm: &str, digest: &Bound<'_, PyAny>) -> Result<Self> {
        let algorithm = Algorithm::from_str(algorithm)?;
        let digest = Buffer::of(digest)?.show(digest.py(), |digest| Inner::new(algorithm, digest));
        Ok(Self(digest?))
    }

    /// The hash of the contents of a buffer, a file object or a file, as `nix hash file` and
    /// `nix-hash --flat` print it.
    #[staticmethod]
    #[pyo3(signature = (source, /, algorithm="sha256"))]
    fn of(py: Python<'_>, source: &Bound<'_, PyAny>, algorithm: &str) -> Result<Self> {
        let mut hasher = Hasher::new(algorithm.parse()?)?;
        let source = Source::of(source)?;
        run(py, |visits| {
            source.feed(visits, |bytes| {
                hasher.update(bytes);
                Ok(())
            })?;
            Ok(Self(hasher.finish()))
        })
    }

    /// The name of the algorithm: md5, sha1, sha256, sha512 or blake3.
    #[getter]
    fn algorithm(&self) -> &'static str {
        self.0.algorithm().name()
    }

    /// The bytes of the digest.
    #[getter]
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.digest())
    }

    /// The text with the algorithm, in a format: base16, nix32, base64 or sri.
    #[pyo3(signature = (format="nix32"))]
    fn display(&self, format: &str) -> Result<String> {
        Ok(self.0.display(Format::from_str(format)?).to_string())
    }

    /// The text of the digest alone. SRI includes the algorithm.
    #[pyo3(signature = (format="nix32"))]
    fn display_digest(&self, format: &str) -> Result<String> {
        Ok(self.0.display_digest(Format::from_str(format)?).to_string())
    }

    fn __format__(&self, format: &str) -> Result<String> {
        if format.is_empty() { Ok(self.0.to_string()) } else { self.display(format) }
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Hash('{}')", self.0)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (String,)) {
        (slf.get_type(), (slf.get().0.to_string(),))
    }
}

/// A hash, or the text of one.
#[derive(FromPyObject)]
pub(crate) enum HashLike {
    Hash(Hash),
    Text(String),
}

impl HashLike {
    pub(crate) fn into_inner(self) -> Result<Inner> {
        Ok(match self {
            Self::Hash(hash) => hash.0,
            Self::Text(text) => Inner::parse(&text)?,
        })
    }
}

/// The base32 encoding of Nix.
#[pymodule(submodule)]
#[pyo3(module = "nixcache")]
pub(crate) mod nixbase32 {
    use nixcache::hash::nixbase32;
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    use crate::buffer::Buffer;
    use crate::error::Result;

    /// Encodes bytes.
    #[pyfunction]
    #[pyo3(signature = (data, /))]
    fn encode(data: &Bound<'_, PyAny>) -> Result<String> {
        Ok(Buffer::of(data)?.show(data.py(), nixbase32::encode))
    }

    /// Decodes a text.
    #[pyfunction]
    #[pyo3(signature = (text, /))]
    fn decode<'py>(py: Python<'py>, text: &str) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &nixbase32::decode(text.as_bytes())?))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("ALPHABET", String::from_utf8_lossy(nixbase32::ALPHABET))
    }
}
