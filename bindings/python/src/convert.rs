//! Conversions between Rust and Python that several classes need.

use std::fmt::Display;
use std::num::NonZeroUsize;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyClass, PyTypeCheck};

use crate::error::Result;

/// The number of threads to use: all processors by default.
pub(crate) fn threads(wanted: Option<usize>) -> Result<NonZeroUsize> {
    match wanted {
        None => Ok(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        Some(threads) => {
            let threads = NonZeroUsize::new(threads);
            threads.ok_or_else(|| PyValueError::new_err("threads: there has to be one at least").into())
        }
    }
}

/// The `repr` of a text.
pub(crate) fn quoted(py: Python<'_>, text: &str) -> String {
    PyString::new(py, text).repr().map_or_else(|_| format!("{text:?}"), |text| text.to_string())
}

/// A count and its noun, in the singular or the plural.
pub(crate) fn counted(count: impl Copy + Display + PartialEq + From<u8>, thing: &str) -> String {
    if count == 1.into() {
        return format!("{count} {thing}");
    }
    match thing.strip_suffix('y') {
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {thing}s"),
    }
}

/// The objects of one class that an iterable gives.
pub(crate) fn collect<T: PyClass + PyTypeCheck>(objects: &Bound<'_, PyAny>) -> Result<Vec<Py<T>>> {
    let mut collected = Vec::with_capacity(objects.len().unwrap_or(0));
    for (index, object) in objects.try_iter()?.enumerate() {
        if index % 4096 == 0 {
            objects.py().check_signals()?;
        }
        collected.push(object?.cast_into::<T>().map_err(PyErr::from)?.unbind());
    }
    Ok(collected)
}
