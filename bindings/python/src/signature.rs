//! Keys, signatures and trust.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use nixcache::narinfo as inner_narinfo;
use nixcache::signature::{self, KeyName};
use nixcache::trust::{self, Standing, TrustPolicy, Verifier};
use nixcache_client::nix_config;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyType};

use crate::buffer::Buffer;
use crate::convert::{collect, quoted, threads as thread_count};
use crate::error::{Failure, Result};
use crate::narinfo::NarInfo;
use crate::stream::run;

/// Calls `look` with the message: the bytes of a buffer, or the fingerprint of a narinfo.
fn with_message<R>(message: &Bound<'_, PyAny>, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
    if let Ok(info) = message.cast::<NarInfo>() {
        return Ok(look(&info.get().0.as_ref().fingerprint().to_vec()));
    }
    Ok(Buffer::of(message)?.show(message.py(), look))
}

/// A named key that signs. Its repr shows only the name, and it cannot be pickled. `to_text`
/// returns the text for a key file.
#[pyclass(frozen, eq, module = "nixcache")]
#[derive(PartialEq, Eq)]
pub(crate) struct SecretKey(pub(crate) signature::SecretKey);

#[pymethods]
impl SecretKey {
    /// Generates a new key from system randomness.
    #[staticmethod]
    fn generate(name: &str) -> Result<Self> {
        Ok(Self(signature::SecretKey::generate(KeyName::new(name)?)?))
    }

    /// Parses the text of a key file, as `nix key generate-secret` writes it. Surrounding blanks,
    /// line ends and quotes are ignored.
    #[staticmethod]
    #[pyo3(signature = (text, /))]
    fn parse(text: &str) -> Result<Self> {
        Ok(Self(signature::SecretKey::parse(text)?))
    }

    /// Reads a key file.
    #[staticmethod]
    #[pyo3(signature = (path, /))]
    fn load(path: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&path).map_err(|error| {
            if signature::looks_like_key(&path.to_string_lossy()) {
                return PyValueError::new_err("this is a key, not a file that holds one; use SecretKey.parse").into();
            }
            Failure::file(&path, &error)
        })?;
        Ok(Self(signature::SecretKey::parse(&text)?))
    }

    /// The name of the key, which its signatures carry.
    #[getter]
    fn name(&self) -> &str {
        self.0.name().as_str()
    }

    /// The public key that verifies signatures by this key.
    #[getter]
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key().clone())
    }

    /// The text of a key file, without a newline.
    fn to_text(&self) -> String {
        self.0.to_text().to_string()
    }

    /// Signs bytes, or the fingerprint of a narinfo. The same message always gets the same
    /// signature.
    #[pyo3(signature = (message, /))]
    fn sign(&self, message: &Bound<'_, PyAny>) -> Result<Signature> {
        with_message(message, |message| Signature(self.0.sign(message)))
    }

    /// Signs the fingerprints of many narinfos on several threads. The signatures are in the order
    /// of the narinfos.
    #[pyo3(signature = (infos, /, *, threads=None))]
    fn sign_many(&self, py: Python<'_>, infos: &Bound<'_, PyAny>, threads: Option<usize>) -> Result<Vec<Signature>> {
        let infos = collect(infos)?;
        let threads = thread_count(threads)?;
        in_portions(py, &infos, threads, |infos| self.0.sign_many(infos, threads).into_iter().map(Signature).collect())
    }

    fn __repr__(&self) -> String {
        Python::attach(|py| format!("<SecretKey {}>", quoted(py, self.name())))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a secret key is not pickled: use to_text() where it has to be written"))
    }
}

/// A named key that verifies: `name:base64`. Surrounding blanks, line ends and quotes are ignored.
#[pyclass(frozen, eq, hash, from_py_object, module = "nixcache")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PublicKey(signature::PublicKey);

#[pymethods]
impl PublicKey {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("name",);

    #[new]
    #[pyo3(signature = (text, /))]
    fn new(text: &str) -> Result<Self> {
        Ok(Self(signature::PublicKey::parse(text)?))
    }

    /// The name of the key, which its signatures carry.
    #[getter]
    fn name(&self) -> &str {
        self.0.name().as_str()
    }

    /// The encoded public key, 32 bytes.
    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.bytes())
    }

    /// Whether a signature of bytes or of a narinfo's fingerprint is by this key. False if the
    /// names differ.
    #[pyo3(signature = (message, signature, /))]
    fn verify(&self, message: &Bound<'_, PyAny>, signature: SignatureLike) -> Result<bool> {
        let signature = signature.into_inner()?;
        with_message(message, |message| signature.verify_by(&self.0, message))
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        Python::attach(|py| format!("PublicKey({})", quoted(py, &self.0.to_string())))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (String,)) {
        (slf.get_type(), (slf.get().0.to_string(),))
    }
}

/// A signature with the name of its key: `name:base64`. Ordered by text.
#[pyclass(frozen, eq, ord, hash, from_py_object, module = "nixcache")]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Signature(pub(crate) signature::Signature);

#[pymethods]
impl Signature {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("name",);

    #[new]
    #[pyo3(signature = (text, /))]
    fn new(text: &str) -> Result<Self> {
        Ok(Self(signature::Signature::parse(text)?))
    }

    /// The name of the key.
    #[getter]
    fn name(&self) -> &str {
        self.0.name().as_str()
    }

    /// The signature without the name, 64 bytes.
    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.bytes())
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        Python::attach(|py| format!("Signature({})", quoted(py, &self.0.to_string())))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (String,)) {
        (slf.get_type(), (slf.get().0.to_string(),))
    }
}

/// A signature, or the text of one.
#[derive(FromPyObject)]
pub(crate) enum SignatureLike {
    Signature(Signature),
    Text(String),
}

impl SignatureLike {
    pub(crate) fn into_inner(self) -> Result<signature::Signature> {
        Ok(match self {
            Self::Signature(signature) => signature.0,
            Self::Text(text) => signature::Signature::parse(&text)?,
        })
    }
}

/// A public key, or the text of one.
#[derive(FromPyObject)]
enum KeyLike {
    Key(PublicKey),
    Text(String),
}

/// Trusted public keys, and the rule by which a narinfo is valid: `require` different keys have
/// signed it, or its content address determines its path.
///
/// A key is a `PublicKey` or a text, which may hold several keys. Of two keys with the same name,
/// the first counts, as in Nix. `as_written` also accepts signatures over the references in the
/// order of the narinfo, as very old versions of Nix made them.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct TrustedKeys {
    pub(crate) policy: TrustPolicy,
    as_written: bool,
}

fn policy(keys: trust::TrustedKeys, required: usize, as_written: bool) -> TrustPolicy {
    TrustPolicy::new(keys).with(|policy| {
        policy.required = required;
        policy.as_written = as_written;
    })
}

#[pymethods]
impl TrustedKeys {
    #[new]
    #[pyo3(signature = (keys=None, /, *, require=1, as_written=false))]
    fn new(keys: Option<&Bound<'_, PyAny>>, require: usize, as_written: bool) -> Result<Self> {
        let mut trusted = trust::TrustedKeys::default();
        let mut add = |key: &Bound<'_, PyAny>| -> Result<()> {
            match key.extract::<KeyLike>()? {
                KeyLike::Key(key) => trusted.insert(key.0),
                KeyLike::Text(text) => {
                    trust::TrustedKeys::parse(&text)?.iter().for_each(|key| trusted.insert(key.clone()));
                }
            }
            Ok(())
        };
        match keys {
            Some(keys) if keys.is_instance_of::<PyString>() || keys.is_instance_of::<PublicKey>() => add(keys)?,
            Some(keys) => {
                for key in keys.try_iter()? {
                    add(&key?)?;
                }
            }
            None => {}
        }
        Ok(Self { policy: policy(trusted, require, as_written), as_written })
    }

    /// Loads keys from `source`: `name:base64` (several separated by blanks), a file with keys or
    /// lines of nix.conf, or the word `nix.conf` for the keys that Nix on this machine trusts.
    #[staticmethod]
    #[pyo3(signature = (source, /, *, require=1, as_written=false))]
    fn load(py: Python<'_>, source: PathBuf, require: usize, as_written: bool) -> Result<Self> {
        let trusted = nix_config::trusted_keys(source.as_os_str());
        crate::warnings::log(py);
        let trusted = trusted?;
        Ok(Self { policy: policy(trusted, require, as_written), as_written })
    }

    /// The number of different keys that must have signed.
    #[getter]
    fn require(&self) -> usize {
        self.policy.required
    }

    /// Whether signatures over the references in the order of the narinfo count.
    #[getter]
    fn as_written(&self) -> bool {
        self.as_written
    }

    /// The key with a name, or None.
    fn get(&self, name: &str) -> Option<PublicKey> {
        self.policy.keys.get(name).cloned().map(PublicKey)
    }

    /// Verifies one narinfo.
    #[pyo3(signature = (info, /))]
    fn verify(&self, py: Python<'_>, info: &Bound<'_, NarInfo>) -> Verdict {
        let info = info.get();
        py.detach(|| Verdict::of(&Verifier::new(&self.policy).verify(&info.0.as_ref())))
    }

    /// Verifies many narinfos on several threads, with the verdicts of `verify`, in the order of
    /// the narinfos.
    #[pyo3(signature = (infos, /, *, threads=None))]
    fn verify_many<'py>(
        &self,
        py: Python<'py>,
        infos: &Bound<'py, PyAny>,
        threads: Option<usize>,
    ) -> Result<Bound<'py, PyList>> {
        let infos = collect(infos)?;
        let threads = thread_count(threads)?;
        let verdicts = in_portions(py, &infos, threads, |infos| {
            self.policy.verify_batched(infos, threads).iter().map(Verdict::of).collect()
        })?;
        Ok(PyList::new(py, verdicts)?)
    }

    fn __len__(&self) -> usize {
        self.policy.keys.iter().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let keys = self.policy.keys.iter().cloned().map(PublicKey);
        PyList::new(py, keys.collect::<Vec<_>>())?.into_any().call_method0("__iter__")
    }

    fn __contains__(&self, key: KeyLike) -> bool {
        match key {
            KeyLike::Key(key) => self.policy.keys.get(key.name()) == Some(&key.0),
            KeyLike::Text(name) => self.policy.keys.get(&name).is_some(),
        }
    }

    fn __repr__(&self) -> String {
        Python::attach(|py| {
            let names = self.policy.keys.iter().map(|key| quoted(py, key.name().as_str()));
            let require = match self.policy.required {
                1 => String::new(),
                require => format!(", require={require}"),
            };
            format!("<TrustedKeys {}{require}>", names.collect::<Vec<_>>().join(", "))
        })
    }
}

/// The result of verifying a narinfo. True if the narinfo is valid.
#[pyclass(frozen, eq, hash, module = "nixcache")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Verdict {
    is_valid: bool,
    is_content_addressed: bool,
    keys: Box<[String]>,
    signatures: Box<[(String, Standing)]>,
}

impl Verdict {
    fn of(verdict: &trust::Verdict<'_>) -> Self {
        Self {
            is_valid: verdict.is_valid(),
            is_content_addressed: verdict.is_content_addressed(),
            keys: verdict.keys().map(str::to_owned).collect(),
            signatures: verdict.signatures().iter().map(|(name, standing)| ((*name).to_owned(), *standing)).collect(),
        }
    }
}

#[pymethods]
impl Verdict {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("is_valid", "keys");

    /// Whether enough trusted keys have signed, or no signature is needed.
    #[getter]
    fn is_valid(&self) -> bool {
        self.is_valid
    }

    /// Whether the content address determines the path, so that no signature is needed.
    #[getter]
    fn is_content_addressed(&self) -> bool {
        self.is_content_addressed
    }

    /// The names of the keys that count, each once, in the order of the narinfo.
    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, self.keys.iter())
    }

    /// Each signature as the name of its key and its state: holds, holds-as-written, fails, unknown
    /// or malformed. For a malformed signature, the name is its whole text.
    #[getter]
    fn signatures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, self.signatures.iter().map(|(name, standing)| (name, word(*standing))))
    }

    fn __bool__(&self) -> bool {
        self.is_valid
    }

    fn __repr__(&self) -> String {
        Python::attach(|py| {
            let found =
                self.signatures.iter().map(|(name, standing)| format!("{}: {}", quoted(py, name), word(*standing)));
            let mut found: Vec<String> = found.collect();
            if self.is_content_addressed {
                found.push("content-addressed".to_owned());
            }
            let valid = if self.is_valid { "valid" } else { "not valid" };
            let found = if found.is_empty() { "no signatures".to_owned() } else { found.join(", ") };
            format!("<Verdict {valid}; {found}>")
        })
    }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Holds => "holds",
        Standing::HoldsAsWritten => "holds-as-written",
        Standing::Fails => "fails",
        Standing::Unknown => "unknown",
        Standing::Malformed => "malformed",
        _ => "other",
    }
}

/// Works on many narinfos in portions, without the interpreter. Ctrl-C ends the work between
/// portions.
fn in_portions<R: Send>(
    py: Python<'_>,
    infos: &[Py<NarInfo>],
    threads: NonZeroUsize,
    work: impl Fn(&[inner_narinfo::NarInfo<'_>]) -> Vec<R> + Sync,
) -> Result<Vec<R>> {
    /// The number of narinfos for each thread in a portion: about half a second of verifying.
    const PORTION: usize = 8 * 4096;
    run(py, |visits| {
        let mut done = Vec::with_capacity(infos.len());
        for portion in infos.chunks(threads.get().saturating_mul(PORTION)) {
            visits.check().map_err(|error| Failure::reading(&error))?;
            let portion: Vec<_> = portion.iter().map(|info| info.get().0.as_ref()).collect();
            done.extend(work(&portion));
        }
        Ok(done)
    })
}
