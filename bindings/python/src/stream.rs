//! Where bytes come from and go to: paths, buffers and file objects; and what Python wants to know
//! meanwhile.
//!
//! Long work runs without the interpreter. It looks in at it a few times a second, so that Ctrl-C
//! ends it, and whenever a file object has to be read or written. What Python raises then is kept
//! in the [`Visits`], while the work ends with some I/O error, and raised in its place.

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

/// How often signals are looked for. Each look waits for other threads to give up the interpreter,
/// 5 ms for a busy one.
const PERIOD: Duration = Duration::from_millis(50);

/// The size of reads that measured best for NARs.
const READ: usize = 256 << 10;

/// When Python was visited last, and what it raised.
pub(crate) struct Visits {
    last: Mutex<Instant>,
    raised: Mutex<Option<PyErr>>,
}

impl Visits {
    pub(crate) fn new() -> Self {
        Self { last: Mutex::new(Instant::now()), raised: Mutex::new(None) }
    }

    /// Lets signals be handled, if that was long ago. To be called without the interpreter, every
    /// few milliseconds or less.
    pub(crate) fn check(&self) -> io::Result<()> {
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() < PERIOD {
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

    /// Does something with Python. What it raises is kept, and is not to be overtaken by anything.
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

/// Something to read: what a path, a buffer or a binary file object holds.
pub(crate) enum Source {
    File(File, PathBuf),
    Buffer { buffer: Buffer, at: usize },
    Object(Py<PyAny>),
}

impl Source {
    /// A `str` or `os.PathLike` is a path, whatever has the buffer protocol is the bytes
    /// themselves, and what has `read` is a file object.
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

    /// The bytes, if they are in memory and never change.
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

    /// Reads it from its beginning, decompressed, whatever it is compressed with that can be told
    /// from its beginning.
    pub(crate) fn decompressed(self, visits: &Visits) -> Result<Decompressor<BufReader<Reading<'_>>>> {
        let input = BufReader::with_capacity(READ, Reading { source: self, visits });
        Ok(Decompressor::detect(input, &DecodeOptions::default())?)
    }

    /// Shows all of it to `take`, in pieces, as it is.
    pub(crate) fn feed(self, visits: &Visits, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Some(bytes) = self.constant() {
            return bytes.chunks(READ).try_for_each(|piece| {
                visits.check().map_err(|error| Failure::reading(&error))?;
                take(piece)
            });
        }
        let mut reading = Reading { source: self, visits };
        let mut piece = vec![0; READ];
        loop {
            match reading.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => take(&piece[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::reading(&error)),
            }
        }
    }

    /// All of it, for what must be in memory as a whole.
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

/// The path that an object is.
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

/// Something to write to: a file with this path, or a binary file object.
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
                // Raw files say how much they took; others take all, and some of them say nothing.
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
