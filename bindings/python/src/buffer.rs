//! Bytes that a Python object owns: the one place with `unsafe`.
//!
//! `PyO3` has the buffer protocol for Python 3.11 and later only, because it is part of the
//! *limited* API only since then. The functions, and the layout of `Py_buffer`, are the same in
//! every `CPython` from 3.9 on; what 3.11 added is the promise that they stay so. Without them, 3.9
//! and 3.10 would have to copy everything that is not `bytes`. So they are declared here.
//!
//! Rust must never see bytes change behind a `&[u8]`. Therefore:
//!
//! - The bytes of a `bytes` object, also through a memoryview, never change. They are lent as a
//!   slice, while other threads run.
//! - All other buffers may change whenever Python code runs, read-only views included: what is
//!   below may be writable. They are lent only to code that keeps the interpreter and runs no
//!   Python, and otherwise copied out, a piece at a time.
//!
//! Builds of `CPython` without a global lock do not load modules of this ABI, so holding the
//! interpreter does keep other Python code out.

#![expect(unsafe_code, reason = "PyO3 has no buffers for the limited API of Python 3.9")]

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

use pyo3::ffi::{Py_ssize_t, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

/// `Py_buffer`, as `Include/cpython/object.h` of 3.9 and `Include/pybuffer.h` of later ones have
/// it.
#[repr(C)]
struct View {
    buf: *mut c_void,
    obj: *mut PyObject,
    len: Py_ssize_t,
    itemsize: Py_ssize_t,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut Py_ssize_t,
    strides: *mut Py_ssize_t,
    suboffsets: *mut Py_ssize_t,
    internal: *mut c_void,
}

/// `PyBUF_SIMPLE`: bytes, one behind the other.
const SIMPLE: c_int = 0;

unsafe extern "C" {
    fn PyObject_GetBuffer(object: *mut PyObject, view: *mut View, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut View);
}

/// The bytes of an object that supports the buffer protocol. While this exists, the object does not
/// move or free them.
pub(crate) struct Buffer {
    /// Its address is known to the object.
    view: Box<View>,
    is_constant: bool,
}

// SAFETY: The pointers in the view are used by `PyBuffer_Release`, which is called with the
// interpreter held, and by the methods here, whose comments say why no other thread interferes.
// None of them depends on the thread.
unsafe impl Send for Buffer {}
// SAFETY: As above. Nothing is changed through a shared reference.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Gets the buffer of an object. `BufferError` or `TypeError` if it has none, or one that is
    /// not contiguous.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(View {
            buf: null_mut(),
            obj: null_mut(),
            len: 0,
            itemsize: 0,
            readonly: 0,
            ndim: 0,
            format: null_mut(),
            shape: null_mut(),
            strides: null_mut(),
            suboffsets: null_mut(),
            internal: null_mut(),
        });
        // SAFETY: The object is alive, the view may be written to, and the interpreter is held, as
        // `Bound` shows.
        if unsafe { PyObject_GetBuffer(object.as_ptr(), &raw mut *view, SIMPLE) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // From here on it is released when dropped.
        let mut buffer = Self { view, is_constant: false };
        buffer.is_constant = match object.cast::<PyMemoryView>() {
            Ok(view) => view.getattr("obj")?.is_exact_instance_of::<PyBytes>(),
            Err(_) => object.is_exact_instance_of::<PyBytes>(),
        };
        Ok(buffer)
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        // Never negative.
        usize::try_from(self.view.len).unwrap_or(0)
    }

    /// The bytes, if they are immutable.
    pub(crate) fn constant(&self) -> Option<&[u8]> {
        // SAFETY: These are bytes of a `bytes` object, which the view keeps alive, and which
        // nothing may change.
        self.is_constant.then(|| unsafe { self.slice() })
    }

    /// Calls `look` with the bytes. It must not run Python code, not even by dropping an object:
    /// the interpreter is held, so that no other code changes the bytes.
    pub(crate) fn show<R>(&self, _held: Python<'_>, look: impl FnOnce(&[u8]) -> R) -> R {
        // SAFETY: Only Python code could change the bytes, and while the closure runs none does:
        // this thread holds the interpreter, and the closure runs none. Callers are few and in this
        // crate, and each was looked at.
        look(unsafe { self.slice() })
    }

    /// Copies bytes from `start` on into `target`, and returns their number.
    pub(crate) fn copy_to(&self, held: Python<'_>, start: usize, target: &mut [u8]) -> usize {
        self.show(held, |bytes| {
            let rest = bytes.get(start..).unwrap_or_default();
            let length = rest.len().min(target.len());
            target[..length].copy_from_slice(&rest[..length]);
            length
        })
    }

    /// # Safety
    /// Nothing may change the bytes while the slice is there.
    unsafe fn slice(&self) -> &[u8] {
        if self.view.buf.is_null() {
            return &[];
        }
        // SAFETY: After `PyObject_GetBuffer`, `buf` points to `len` initialised bytes, until the
        // view is released, for which `self` has to be dropped. That nothing changes them, the
        // caller has promised.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast::<u8>().cast_const(), self.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // If there is no interpreter any more, the object is gone, too.
        Python::try_attach(|_| {
            // SAFETY: The view was filled by `PyObject_GetBuffer`, is released once, and the
            // interpreter is held.
            unsafe { PyBuffer_Release(&raw mut *self.view) };
        });
    }
}
