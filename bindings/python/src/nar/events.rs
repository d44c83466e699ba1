//! `nixcache.nar.events`: the events of a NAR in memory.

use std::path::PathBuf;

use nixcache::nar::{Decoder, Error, Event};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySlice, PyString, PyTuple, PyType};

use super::name;
use crate::buffer::Buffer;
use crate::error::Result;

/// A directory begins. Its entries follow, then an `End`.
#[pyclass(frozen, eq, hash, module = "nixcache.nar")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Directory {
    name: Vec<u8>,
}

/// The innermost open directory ends.
#[pyclass(frozen, eq, hash, module = "nixcache.nar")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct End;

/// A regular file. Its contents follow, unless it is empty.
#[pyclass(frozen, eq, hash, module = "nixcache.nar")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct File {
    name: Vec<u8>,
    /// Whether the file is executable.
    #[pyo3(get)]
    executable: bool,
    /// The size of the contents in bytes.
    #[pyo3(get)]
    size: u64,
}

/// A symbolic link.
#[pyclass(frozen, eq, hash, module = "nixcache.nar")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Symlink {
    name: Vec<u8>,
    target: Vec<u8>,
}

/// The contents of the preceding file: a memoryview of the buffer, not a copy.
#[pyclass(frozen, module = "nixcache.nar")]
pub(crate) struct Contents {
    /// The contents.
    #[pyo3(get)]
    contents: Py<PyMemoryView>,
    /// The offset of the contents in the NAR.
    #[pyo3(get)]
    offset: u64,
}

/// The quoted repr of a name.
fn repr(py: Python<'_>, bytes: &[u8]) -> String {
    let Ok(text) = name(bytes).into_pyobject(py);
    text.repr().map_or_else(|error| error.to_string(), |text| text.to_string())
}

#[pymethods]
impl Directory {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("name",);

    #[new]
    fn new(name: PathBuf) -> Self {
        Self { name: name.into_os_string().into_encoded_bytes() }
    }

    /// The name of the entry. Empty for the root.
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(name(&self.name).into_pyobject(py)?)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("Directory({})", repr(py, &self.name))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, (Bound<'py, PyString>,))> {
        Ok((slf.get_type(), (slf.get().name(slf.py())?,)))
    }
}

#[pymethods]
impl End {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    fn match_args(py: Python<'_>) -> Bound<'_, PyTuple> {
        PyTuple::empty(py)
    }

    #[new]
    fn new() -> Self {
        Self
    }

    fn __repr__(&self) -> &'static str {
        "End()"
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, Bound<'py, PyTuple>) {
        (slf.get_type(), PyTuple::empty(slf.py()))
    }
}

#[pymethods]
impl File {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("name", "executable", "size");

    #[new]
    fn new(name: PathBuf, executable: bool, size: u64) -> Self {
        Self { name: name.into_os_string().into_encoded_bytes(), executable, size }
    }

    /// The name of the entry. Empty for the root.
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(name(&self.name).into_pyobject(py)?)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let executable = if self.executable { "True" } else { "False" };
        format!("File({}, {executable}, {})", repr(py, &self.name), self.size)
    }

    #[expect(clippy::type_complexity, reason = "Python's own: a class and the arguments of its constructor")]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, (Bound<'py, PyString>, bool, u64))> {
        let file = slf.get();
        Ok((slf.get_type(), (file.name(slf.py())?, file.executable, file.size)))
    }
}

#[pymethods]
impl Symlink {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("name", "target");

    #[new]
    fn new(name: PathBuf, target: PathBuf) -> Self {
        Self { name: name.into_os_string().into_encoded_bytes(), target: target.into_os_string().into_encoded_bytes() }
    }

    /// The name of the entry. Empty for the root.
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(name(&self.name).into_pyobject(py)?)
    }

    /// The target of the link.
    #[getter]
    fn target<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(name(&self.target).into_pyobject(py)?)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("Symlink({}, {})", repr(py, &self.name), repr(py, &self.target))
    }

    #[expect(clippy::type_complexity, reason = "Python's own: a class and the arguments of its constructor")]
    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyType>, (Bound<'py, PyString>, Bound<'py, PyString>))> {
        let link = slf.get();
        Ok((slf.get_type(), (link.name(slf.py())?, link.target(slf.py())?)))
    }
}

#[pymethods]
impl Contents {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str,) = ("contents",);

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.contents.bind(py).call_method0("tobytes")
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.contents.bind(py).len()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Contents of {} bytes, at byte {}>", self.contents.bind(py).len()?, self.offset))
    }
}

/// An iterator over the events of a NAR.
#[pyclass(module = "nixcache.nar")]
pub(crate) struct Events {
    buffer: Buffer,
    view: Py<PyMemoryView>,
    decoder: Decoder,
    /// The number of bytes that the decoder has consumed.
    at: usize,
    ended: bool,
}

impl Events {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> Result<Self> {
        let buffer = Buffer::of(object)?;
        let mut view = PyMemoryView::from(object)?;
        if view.getattr("format")?.extract::<String>()? != "B" || view.getattr("ndim")?.extract::<usize>()? != 1 {
            let cast = view.call_method1("cast", ("B",))?;
            view = cast.cast_into().map_err(|_| PyTypeError::new_err("memoryview.cast gave something else"))?;
        }
        Ok(Self { buffer, view: view.unbind(), decoder: Decoder::new(), at: 0, ended: false })
    }
}

#[pymethods]
impl Events {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> Result<Option<Bound<'py, PyAny>>> {
        if self.ended {
            return Ok(None);
        }
        let (decoder, at) = (&mut self.decoder, self.at);
        let (event, at) = self.buffer.show(py, |bytes| {
            let mut rest = bytes.get(at..).unwrap_or_default();
            let event = decoder.next(&mut rest);
            // The names in the event belong to the decoder, so no reference to the buffer is kept,
            // only offsets.
            let event = event.map(|event| event.map(|event| event.map(<[u8]>::to_vec, <[u8]>::len)));
            (event, bytes.len() - rest.len())
        });
        self.at = at;
        let event = event.and_then(|event| match event {
            None => self.decoder.finish().map(|()| None),
            event => Ok(event),
        });
        let event = event.inspect_err(|_| self.ended = true)?;
        let Some(event) = event else {
            self.ended = true;
            if at < self.buffer.len() {
                return Err(Error::Trailing { offset: self.decoder.offset() }.into());
            }
            return Ok(None);
        };
        Ok(Some(match event {
            Event::Directory { name } => Bound::new(py, Directory { name })?.into_any(),
            Event::End => Bound::new(py, End)?.into_any(),
            Event::File { name, executable, size } => Bound::new(py, File { name, executable, size })?.into_any(),
            Event::Symlink { name, target } => Bound::new(py, Symlink { name, target })?.into_any(),
            Event::Contents(length) => {
                let start = at - length;
                let slice = PySlice::new(py, start.try_into().unwrap_or(0), at.try_into().unwrap_or(0), 1);
                let contents = self.view.bind(py).get_item(slice)?;
                let contents = contents.cast_into().map_err(PyErr::from)?.unbind();
                Bound::new(py, Contents { contents, offset: start as u64 })?.into_any()
            }
        }))
    }

    fn __repr__(&self) -> String {
        format!("<Events, at byte {} of {}>", self.at, self.buffer.len())
    }
}
