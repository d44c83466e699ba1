//! `StorePath` and `ContentAddress`, and the arguments that can be given for them.

use nixcache::hash::Hash as InnerHash;
use nixcache::store_path::{self, HashPart, Method, StoreDir, StorePathRef};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use crate::error::Result;
use crate::hash::{Hash, HashLike};

/// Parses a store directory.
pub(crate) fn store_dir(text: &str) -> Result<StoreDir> {
    // The usual one, without a copy.
    if text == "/nix/store" { Ok(StoreDir::default()) } else { Ok(StoreDir::new(text)?) }
}

/// A store path without its directory: 32 characters of nixbase32, a dash and a name.
///
/// `StorePath.parse` removes the directory. Paths are ordered by text, as in Nix.
///
/// >>> from nixcache import StorePath
/// >>> path = StorePath.parse("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60")
/// >>> path
/// StorePath('00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60')
/// >>> path.name
/// 'net-tools-1.60'
#[pyclass(frozen, eq, ord, hash, from_py_object, module = "nixcache")]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StorePath(pub(crate) store_path::StorePath);

impl From<store_path::StorePath> for StorePath {
    fn from(path: store_path::StorePath) -> Self {
        Self(path)
    }
}

impl From<StorePathRef<'_>> for StorePath {
    fn from(path: StorePathRef<'_>) -> Self {
        Self(path.to_owned())
    }
}

#[pymethods]
impl StorePath {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("hash_part", "name");

    #[new]
    #[pyo3(signature = (base_name, /))]
    fn new(base_name: &str) -> Result<Self> {
        Ok(Self(store_path::StorePath::parse(base_name)?))
    }

    /// Parses a full path, which must be directly in the store directory.
    #[staticmethod]
    #[pyo3(signature = (path, /, *, store_dir="/nix/store"))]
    fn parse(path: &Bound<'_, PyAny>, store_dir: &str) -> Result<Self> {
        let path: std::path::PathBuf = path.extract()?;
        let text = path.to_string_lossy();
        Ok(Self(crate::store_path::store_dir(store_dir)?.parse(&*text)?.to_owned()))
    }

    /// The path of contents with this address and these references.
    ///
    /// `references` are the references to other paths. `to_itself` says whether the contents refer
    /// to the path itself.
    #[staticmethod]
    #[pyo3(signature = (name, address, references=None, *, to_itself=false, store_dir="/nix/store"))]
    fn from_content_address(
        name: &str,
        address: AddressLike,
        references: Option<Vec<StorePath>>,
        to_itself: bool,
        store_dir: &str,
    ) -> Result<Self> {
        let references: Vec<StorePathRef<'_>> = references.iter().flatten().map(|path| path.0.as_ref()).collect();
        let store_dir = crate::store_path::store_dir(store_dir)?;
        Ok(Self(store_dir.make_path(name, &address.into_inner()?, &references, to_itself)?))
    }

    /// The 32 characters that identify the path.
    #[getter]
    fn hash_part(&self) -> &str {
        self.0.as_ref().hash_text()
    }

    /// The name: the part after the dash.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Whether the name is that of a derivation.
    #[getter]
    fn is_derivation(&self) -> bool {
        self.0.as_ref().is_derivation()
    }

    /// The full path.
    #[pyo3(signature = (store_dir="/nix/store"))]
    fn display(&self, store_dir: &str) -> Result<String> {
        Ok(crate::store_path::store_dir(store_dir)?.display(self.0.as_ref()).to_string())
    }

    fn __str__(&self) -> &str {
        self.0.as_str()
    }

    fn __repr__(&self) -> String {
        format!("StorePath('{}')", self.0)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (String,)) {
        (slf.get_type(), (slf.get().0.to_string(),))
    }
}

/// A content address: `fixed:r:sha256:…`, as in the `CA` field of a narinfo. It determines the name
/// of a store path.
#[pyclass(frozen, eq, ord, hash, from_py_object, module = "nixcache")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContentAddress(pub(crate) store_path::ContentAddress);

#[pymethods]
impl ContentAddress {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("method", "hash");

    #[new]
    #[pyo3(signature = (text, /))]
    fn new(text: &str) -> Result<Self> {
        Ok(Self(store_path::ContentAddress::parse(text)?))
    }

    /// Creates an address from its parts. The method is text, flat, nar or git.
    #[staticmethod]
    fn from_hash(method: &str, hash: HashLike) -> Result<Self> {
        let known = [Method::Text, Method::Flat, Method::Nar, Method::Git];
        let Some(method) = known.into_iter().find(|known| known.to_string() == method) else {
            let message = format!("expected the method text, flat, nar or git, not {method:?}");
            return Err(PyValueError::new_err(message).into());
        };
        let hash: InnerHash = hash.into_inner()?;
        Ok(Self(store_path::ContentAddress::new(method, hash)?))
    }

    /// The method of serialization: text, flat, nar or git.
    #[getter]
    fn method(&self) -> String {
        self.0.method().to_string()
    }

    /// The hash of the serialized contents.
    #[getter]
    fn hash(&self) -> Hash {
        Hash(self.0.hash())
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("ContentAddress('{}')", self.0)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (String,)) {
        (slf.get_type(), (slf.get().0.to_string(),))
    }
}

/// A content address, or the text of one.
#[derive(FromPyObject)]
pub(crate) enum AddressLike {
    Address(ContentAddress),
    Text(String),
}

impl AddressLike {
    pub(crate) fn into_inner(self) -> Result<store_path::ContentAddress> {
        Ok(match self {
            Self::Address(address) => address.0,
            Self::Text(text) => store_path::ContentAddress::parse(&text)?,
        })
    }
}

/// A store path argument: a [`StorePath`], a full path, a base name, or a hash part alone.
pub(crate) struct PathLike {
    pub(crate) hash_part: HashPart,
    pub(crate) path: Option<store_path::StorePath>,
}

impl PathLike {
    pub(crate) fn of(object: &Bound<'_, PyAny>, store_dir: &StoreDir) -> Result<Self> {
        if let Ok(path) = object.cast::<StorePath>() {
            let path = path.get().0.clone();
            return Ok(Self { hash_part: path.hash_part(), path: Some(path) });
        }
        let text = if object.is_instance_of::<PyString>() {
            object.extract::<String>()?
        } else {
            object.extract::<std::path::PathBuf>()?.to_string_lossy().into_owned()
        };
        if text.len() == HashPart::TEXT_LEN {
            return Ok(Self { hash_part: HashPart::parse(&text)?, path: None });
        }
        let path = if text.starts_with('/') { store_dir.parse(&text)? } else { StorePathRef::parse(&text)? };
        Ok(Self { hash_part: path.hash_part(), path: Some(path.to_owned()) })
    }
}
