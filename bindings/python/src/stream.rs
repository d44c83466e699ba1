//! Sources and destinations of bytes: paths, buffers and file objects.
//!
//! Long work runs without the interpreter. It attaches to the interpreter a few times a second, so
//! that Ctrl-C ends it, and to read or write file objects. An exception that Python raises then is
//! kept in the [`Visits`]. The work ends with an I/O error, and the exception is raised instead.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nixcache::compression::{DecodeOptions, Decompressor};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::buffer::Buffer;
use crate::error::{Failure, Result};

/// The interval between checks for signals. Each check waits for other threads to give up the
/// interpreter, 5 ms for a busy one.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The size of reads. Measured fastest for NARs.
const READ_BYTES: usize = 256 << 10;

/// The time of the last check for signals, and the exception that Python raised.
pub(crate) struct Visits {
    last: Mutex<Instant>,
    raised: Mutex<Option<PyErr>>,
}

impl Visits {
    pub(crate) fn new() -> Self {
        Self { last: Mutex::new(Instant::now()), raised: Mutex::new(None) }
    }

    /// Lets Python handle signals, if the last check is long ago. Call it without the interpreter,
    /// every few milliseconds or less.
    pub(crate) fn check(&self) -> io::Result<()> {
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() < SIGNAL_CHECK_INTERVAL {
                return Ok(());
            }
            *last = Instant::now();
        }
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method is not general enough in its lifetime"
        )]
        self.call(|py| py.check_signals())
    }

    /// Calls `work` with the interpreter. An exception is kept, and takes precedence over errors.
    pub(crate) fn call<R>(&self, work: impl FnOnce(Python<'_>) -> PyResult<R>) -> io::Result<R> {
        Python::attach(work).map_err(|error| {
            self.raised.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            io::Error::other("Python raised an exception")
        })
    }

    /// The result of the work, or what Python has raised.
    pub(crate) fn settle<T>(&self, result: Result<T>) -> Result<T> {
        match self.raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error.into()),
            None => result,
        }
    }
}

/// Runs work without the interpreter.
pub(crate) fn run<T: Send>(py: Python<'_>, work: impl Send + FnOnce(&Visits) -> Result<T>) -> Result<T> {
    let visits = Visits::new();
    let done = py.detach(|| {
        let done = work(&visits);
        visits.settle(done)
    });
    crate::warnings::log(py);
    done
}

/// A source of bytes: a path, a buffer or a binary file object.
pub(crate) enum Source {
    File(File, PathBuf),
    Buffer { buffer: Buffer, at: usize },
    Object(Py<PyAny>),
}

impl Source {
    /// A `str` or `os.PathLike` is a path, an object with the buffer protocol is the bytes
    /// themselves, and an object with `read` is a file object.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> Result<Self> {
        if let Some(path) = path_of(object)? {
            let file = object.py().detach(|| File::open(&path));
            return match file {
                Ok(file) => Ok(Self::File(file, path)),
                Err(error) => Err(Failure::file(&path, &error)),
            };
        }
        if let Ok(buffer) = Buffer::of(object) {
            return Ok(Self::Buffer { buffer, at: 0 });
        }
        if object.hasattr("read")? {
            return Ok(Self::Object(object.clone().unbind()));
        }
        let kind = object.get_type().name()?;
        let message = format!("expected a path, bytes or a binary file object, not {kind}");
        Err(PyTypeError::new_err(message).into())
    }

    /// The bytes, if they are in memory and immutable.
    pub(crate) fn constant(&self) -> Option<&[u8]> {
        match self {
            Self::Buffer { buffer, .. } => buffer.constant(),
            Self::File(..) | Self::Object(_) => None,
        }
    }

    /// The file that is read, for messages.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(_, path) => Some(path),
            Self::Buffer { .. } | Self::Object(_) => None,
        }
    }

    /// Reads the source from its beginning, decompressed. The compression is detected by the first
    /// bytes.
    pub(crate) fn decompressed(self, visits: &Visits) -> Result<Decompressor<BufReader<Reading<'_>>>> {
        let input = BufReader::with_capacity(READ_BYTES, Reading { source: self, visits });
        Ok(Decompressor::detect(input, &DecodeOptions::default())?)
    }

    /// Passes all bytes to `take`, in pieces, without decompression.
    pub(crate) fn feed(self, visits: &Visits, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Some(bytes) = self.constant() {
            return bytes.chunks(READ_BYTES).try_for_each(|piece| {
                visits.check().map_err(|error| Failure::reading(&error))?;
                take(piece)
            });
        }
        let mut reading = Reading { source: self, visits };
        let mut piece = vec![0; READ_BYTES];
        loop {
            match reading.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => take(&piece[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::reading(&error)),
            }
        }
    }

    /// Reads all bytes into memory.
    pub(crate) fn read_all(self, visits: &Visits) -> Result<Vec<u8>> {
        let path = self.path().map(Path::to_owned);
        let mut bytes = Vec::new();
        let read = Reading { source: self, visits }.read_to_end(&mut bytes);
        match (read, path) {
            (Ok(_), _) => Ok(bytes),
            (Err(error), Some(path)) => Err(Failure::file(&path, &error)),
            (Err(error), None) => Err(Failure::reading(&error)),
        }
    }
}

/// The path, if the object is a `str` or `os.PathLike`.
pub(crate) fn path_of(object: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    let is_path = object.is_instance_of::<PyString>() || object.hasattr("__fspath__")?;
    is_path.then(|| object.extract()).transpose()
}

/// A source that is being read.
pub(crate) struct Reading<'a> {
    source: Source,
    visits: &'a Visits,
}

impl Read for Reading<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.visits.check()?;
        match &mut self.source {
            Source::File(file, _) => file.read(target),
            Source::Buffer { buffer, at } => {
                let length = match buffer.constant() {
                    Some(bytes) => bytes.get(*at..).unwrap_or_default().read(target)?,
                    None => Python::attach(|py| buffer.copy_to(py, *at, target)),
                };
                *at += length;
                Ok(length)
            }
            Source::Object(object) => self.visits.call(|py| {
                let read = object.bind(py).call_method1("read", (target.len(),))?;
                let Ok(bytes) = Buffer::of(&read) else {
                    let kind = read.get_type().name()?;
                    return Err(PyTypeError::new_err(format!(
                        "read() returned {kind}, not bytes: open the file as binary"
                    )));
                };
                if bytes.len() > target.len() {
                    return Err(PyTypeError::new_err("read() returned more bytes than it was asked for"));
                }
                Ok(bytes.copy_to(py, 0, target))
            }),
        }
    }
}

/// A destination of bytes: a path or a binary file object.
pub(crate) enum Sink {
    File(File),
    Object(Py<PyAny>),
    Nothing,
}

impl Sink {
    /// A `str` or `os.PathLike` is a path, what has `write` is a file object.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> Result<Self> {
        if object.is_none() {
            return Ok(Self::Nothing);
        }
        if let Some(path) = path_of(object)? {
            return match object.py().detach(|| File::create(&path)) {
                Ok(file) => Ok(Self::File(file)),
                Err(error) => Err(Failure::file(&path, &error)),
            };
        }
        if object.hasattr("write")? {
            return Ok(Self::Object(object.clone().unbind()));
        }
        let kind = object.get_type().name()?;
        Err(PyTypeError::new_err(format!("expected a path or a binary file object, not {kind}")).into())
    }

    pub(crate) fn writing(self, visits: &Visits) -> Writing<'_> {
        Writing { sink: self, visits }
    }
}

/// A sink that is being written to.
pub(crate) struct Writing<'a> {
    sink: Sink,
    visits: &'a Visits,
}

impl Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.visits.check()?;
        match &mut self.sink {
            Sink::File(file) => file.write(bytes),
            Sink::Nothing => Ok(bytes.len()),
            Sink::Object(object) => self.visits.call(|py| {
                let written = object.bind(py).call_method1("write", (PyBytes::new(py, bytes),))?;
                // Raw files return how much they took. Others take all, and some return None.
                if written.is_none() { Ok(bytes.len()) } else { written.extract() }
            }),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::File(file) => file.flush(),
            Sink::Object(_) | Sink::Nothing => Ok(()),
        }
    }
}
