//! `nixcache.nar`: NARs.

mod events;
mod listing;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nixcache::nar::Observation as Inner;
use nixcache::nar::Observer;
use nixcache::nar::references::Candidates;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::Result;
use crate::hash::Hash;
use crate::store_path::StorePath;

/// Converts names and link targets to Python strings, as file names.
fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// The result of one pass over a NAR.
#[pyclass(frozen, module = "nixcache.nar")]
pub(crate) struct Observation {
    /// The size of the NAR in bytes.
    #[pyo3(get)]
    size: u64,
    /// The hash of the NAR.
    #[pyo3(get)]
    hash: Hash,
    /// The listing, if it was requested.
    #[pyo3(get)]
    listing: Option<Py<listing::Listing>>,
    references: Vec<StorePath>,
}

#[pymethods]
impl Observation {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("hash", "size");

    /// The candidates that occur in the NAR.
    #[getter]
    fn references<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.references.iter().cloned())
    }

    fn __repr__(&self) -> String {
        format!("<Observation {}, {} bytes>", self.hash.0, self.size)
    }
}

/// The observer for a pass.
struct Watched {
    observer: Observer,
    candidates: Vec<StorePath>,
}

impl Watched {
    fn new(algorithm: &str, listing: bool, candidates: Option<Vec<StorePath>>) -> Result<Self> {
        let candidates = candidates.unwrap_or_default();
        let mut observer = Observer::new().hash(algorithm.parse()?)?;
        if listing {
            observer = observer.listing();
        }
        if !candidates.is_empty() {
            observer = observer.references(&Candidates::new(candidates.iter().map(|path| path.0.as_str()))?);
        }
        Ok(Self { observer, candidates })
    }
}

fn observation(py: Python<'_>, seen: Inner, candidates: &[StorePath]) -> PyResult<Observation> {
    let Inner { size, hashes, listing, references, .. } = seen;
    let listing = listing.map(|listing| Py::new(py, listing::Listing(listing))).transpose()?;
    let references = references.into_iter().map(|index| candidates[index].clone()).collect();
    // Exactly one hash was requested.
    Ok(Observation { size, hash: Hash(hashes[0]), listing, references })
}

/// NARs: trees as one deterministic stream of bytes.
#[pymodule(submodule)]
#[pyo3(module = "nixcache")]
pub(crate) mod nar {
    use std::io;
    use std::path::PathBuf;

    use nixcache::compression::{Compressor, EncodeOptions};
    use nixcache::nar::{Limits, Observer, Packer, Unpacker};
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    use super::{Watched, observation};
    use crate::convert::threads as thread_count;
    use crate::error::{Failure, Result};
    use crate::hash::Hash;
    use crate::store_path::StorePath;
    use crate::stream::{Sink, Source, run};

    #[pymodule_export]
    use super::Observation;
    #[pymodule_export]
    use super::events::{Contents, Directory, End, Events, File, Symlink};
    #[pymodule_export]
    use super::listing::{Listing, Node};

    /// Packs a tree into a file, given by path or as a binary file object, and hashes it in the
    /// same pass.
    ///
    /// `compression` is a name with an optional level, such as "zstd:19". Hash and size are those
    /// of the NAR, not of the compressed file. With `listing`, the result has the listing.
    /// `candidates` are paths to search for in the tree; those found are the references of the
    /// result.
    #[pyfunction]
    #[pyo3(signature = (path, file=None, /, *, algorithm="sha256", compression="none", listing=false,
        candidates=None, threads=None))]
    fn pack(
        py: Python<'_>,
        path: PathBuf,
        file: Option<&Bound<'_, PyAny>>,
        algorithm: &str,
        compression: &str,
        listing: bool,
        candidates: Option<Vec<StorePath>>,
        threads: Option<usize>,
    ) -> Result<Observation> {
        let Watched { observer, candidates } = Watched::new(algorithm, listing, candidates)?;
        let options: EncodeOptions = compression.parse()?;
        let packer = Packer::new().threads(thread_count(threads)?);
        let sink = file.map_or(Ok(Sink::Nothing), Sink::of)?;
        let seen = run(py, |visits| {
            let writing = |error: io::Error| Failure::reading(&error);
            let mut encoder = Compressor::new(sink.writing(visits), &options)?;
            let seen = packer.pack(&path, &mut encoder, observer)?;
            encoder.finish().map_err(writing)?;
            Ok(seen)
        })?;
        Ok(observation(py, seen, &candidates)?)
    }

    /// The NAR hash of a tree, as `nix hash path` prints it. `Hash.of` hashes only the contents of
    /// a file.
    #[pyfunction]
    #[pyo3(signature = (path, /, *, algorithm="sha256", threads=None))]
    fn hash(py: Python<'_>, path: PathBuf, algorithm: &str, threads: Option<usize>) -> Result<Hash> {
        let mut observer = Observer::new().hash(algorithm.parse()?)?;
        let packer = Packer::new().threads(thread_count(threads)?);
        run(py, |visits| {
            for chunk in packer.chunks(&path)? {
                observer.update(&chunk?)?;
                visits.check().map_err(|error| Failure::reading(&error))?;
            }
            Ok(Hash(observer.finish()?.hashes[0]))
        })
    }

    /// Restores a NAR from a path, a buffer or a binary file object, compressed or not, to a path
    /// that must not exist.
    ///
    /// `canonical` sets the modes and times of a Nix store. `sync` flushes everything to disk
    /// before the call returns.
    #[pyfunction]
    #[pyo3(signature = (source, path, /, *, algorithm="sha256", canonical=false, sync=false, listing=false,
        candidates=None, threads=None))]
    fn unpack(
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        path: PathBuf,
        algorithm: &str,
        canonical: bool,
        sync: bool,
        listing: bool,
        candidates: Option<Vec<StorePath>>,
        threads: Option<usize>,
    ) -> Result<Observation> {
        let Watched { observer, candidates } = Watched::new(algorithm, listing, candidates)?;
        let unpacker = Unpacker::new().canonical(canonical).sync(sync).threads(thread_count(threads)?);
        let source = Source::of(source)?;
        let seen = run(py, |visits| Ok(unpacker.unpack(source.decompressed(visits)?, &path, observer)?))?;
        Ok(observation(py, seen, &candidates)?)
    }

    /// Reads a NAR, compressed or not, to its end, and checks and hashes it.
    #[pyfunction]
    #[pyo3(signature = (source, /, *, algorithm="sha256", listing=false, candidates=None))]
    fn check(
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        algorithm: &str,
        listing: bool,
        candidates: Option<Vec<StorePath>>,
    ) -> Result<Observation> {
        let Watched { observer, candidates } = Watched::new(algorithm, listing, candidates)?;
        let observer = observer.check(Limits::default());
        let source = Source::of(source)?;
        let seen = run(py, |visits| Ok(observer.read(source.decompressed(visits)?)?))?;
        Ok(observation(py, seen, &candidates)?)
    }

    /// The listing of a NAR, compressed or not, without file contents.
    #[pyfunction]
    #[pyo3(signature = (source, /), name = "listing")]
    fn list(py: Python<'_>, source: &Bound<'_, PyAny>) -> Result<Listing> {
        let source = Source::of(source)?;
        run(py, |visits| super::listing::read(source, visits))
    }

    /// The node and contents of a file in a NAR, compressed or not. Reads no further than the end
    /// of the file. `nixcache.nar.open` uses this.
    #[pyfunction]
    #[pyo3(signature = (source, member, /))]
    fn extract<'py>(
        py: Python<'py>,
        source: &Bound<'py, PyAny>,
        member: PathBuf,
    ) -> Result<(Node, Bound<'py, PyBytes>)> {
        let source = Source::of(source)?;
        let member = member.into_os_string().into_encoded_bytes();
        let (node, contents) = run(py, |visits| super::listing::extract(source, &member, visits))?;
        Ok((node, PyBytes::new(py, &contents)))
    }

    /// The events of a NAR in memory, in order. The contents of files are memoryviews of the
    /// buffer.
    #[pyfunction]
    #[pyo3(signature = (buffer, /))]
    fn events(buffer: &Bound<'_, PyAny>) -> Result<Events> {
        Events::new(buffer)
    }
}
