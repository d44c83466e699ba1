//! `nixcache.nar.Listing`: the contents of a NAR without file contents.

use std::io::{BufReader, Read};
use std::path::PathBuf;

use nixcache::compression::Compression;
use nixcache::nar::{self, Event, FileSource, Limits, NodeKind, ReadError, Reader};
use pyo3::exceptions::{PyIsADirectoryError, PyKeyError, PyNotADirectoryError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::name;
use crate::buffer::Buffer;
use crate::error::{Failure, Result};
use crate::stream::{Source, Visits};

/// The listing of a NAR: the `.ls` file of a binary cache.
///
/// A mapping of paths, without a leading slash, to nodes, in the order of the NAR. The root has the
/// empty path.
#[pyclass(frozen, eq, mapping, module = "nixcache.nar")]
#[derive(PartialEq, Eq)]
pub(crate) struct Listing(pub(crate) nar::Listing);

/// A file, directory or symbolic link in a listing.
#[pyclass(frozen, eq, hash, module = "nixcache.nar")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Node {
    path: Vec<u8>,
    /// The type: regular, directory or symlink.
    #[pyo3(get, name = "type")]
    kind: &'static str,
    /// The size of a file in bytes. None for other nodes.
    #[pyo3(get)]
    size: Option<u64>,
    /// Whether the node is an executable file.
    #[pyo3(get)]
    executable: bool,
    /// The offset of the contents of a file in the NAR, or None if unknown.
    #[pyo3(get)]
    offset: Option<u64>,
    target: Option<Vec<u8>>,
}

impl Node {
    fn of(path: &[u8], node: nar::ListingNode<'_>) -> Self {
        let (path, kind, size, executable, offset, target) = match node.kind() {
            NodeKind::File { executable, size, offset } => (path, "regular", Some(size), executable, offset, None),
            NodeKind::Symlink { target } => (path, "symlink", None, false, None, Some(target.to_vec())),
            _ => (path, "directory", None, false, None, None),
        };
        Self { path: path.to_vec(), kind, size, executable, offset, target }
    }
}

#[pymethods]
impl Node {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str) = ("path", "type");

    /// The path in the NAR. Empty for the root.
    #[getter]
    fn path(&self) -> &std::ffi::OsStr {
        name(&self.path)
    }

    /// The target of a symbolic link. None for other nodes.
    #[getter]
    fn target(&self) -> Option<&std::ffi::OsStr> {
        self.target.as_deref().map(name)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = self.path().into_pyobject(py)?.repr()?;
        Ok(match (self.size, self.target()) {
            (Some(size), _) => {
                format!("<Node {path}: {size} bytes{}>", if self.executable { ", executable" } else { "" })
            }
            (None, Some(target)) => format!("<Node {path}: symlink to {}>", target.into_pyobject(py)?.repr()?),
            (None, None) => format!("<Node {path}: directory>"),
        })
    }
}

impl Listing {
    fn find(&self, path: &[u8]) -> Option<Node> {
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        self.0.root().get(path).map(|node| Node::of(&names.join(&b'/'), node))
    }
}

#[pymethods]
impl Listing {
    /// Parses the `.ls` document of a cache.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn parse(data: &Bound<'_, PyAny>) -> Result<Self> {
        if let Ok(text) = data.extract::<String>() {
            return Ok(Self(nar::Listing::parse(text.as_bytes(), Limits::default())?));
        }
        let parsed = Buffer::of(data)?.show(data.py(), |text| nar::Listing::parse(text, Limits::default()));
        Ok(Self(parsed?))
    }

    /// The `.ls` document, in the bytes that Nix writes.
    fn to_json<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        let mut text = Vec::new();
        self.0.root().write_document(&mut text)?;
        Ok(PyBytes::new(py, &text))
    }

    /// The entries of a directory.
    #[pyo3(signature = (path=None, /))]
    fn children(&self, path: Option<PathBuf>) -> PyResult<Vec<Node>> {
        let path = path.unwrap_or_default().into_os_string().into_encoded_bytes();
        let Some(node) = self.0.root().get(&path) else { return Err(missing(&path)) };
        if node.kind() != NodeKind::Directory {
            return Err(PyNotADirectoryError::new_err(name(&path).to_owned()));
        }
        let prefix = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/');
        let path = |child: nar::ListingNode<'_>| {
            let mut path = prefix.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(child.name());
            path
        };
        Ok(node.children().map(|child| Node::of(&path(child), child)).collect())
    }

    fn __getitem__(&self, path: PathBuf) -> PyResult<Node> {
        let path = path.into_os_string().into_encoded_bytes();
        self.find(&path).ok_or_else(|| missing(&path))
    }

    /// The node at a path, or the default.
    #[pyo3(signature = (path, default=None, /))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.find(&path.into_os_string().into_encoded_bytes()) {
            Some(node) => Ok(Some(Bound::new(py, node)?.into_any())),
            None => Ok(default),
        }
    }

    fn __contains__(&self, path: PathBuf) -> bool {
        self.0.root().get(path.as_os_str().as_encoded_bytes()).is_some()
    }

    fn __len__(&self) -> usize {
        let mut walk = self.0.root().walk();
        std::iter::from_fn(|| walk.advance().map(drop)).count()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys(py)?.into_any().call_method0("__iter__")
    }

    /// All paths.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut walk = self.0.root().walk();
        let paths = PyList::empty(py);
        while let Some((path, _)) = walk.advance() {
            paths.append(name(path))?;
        }
        Ok(paths)
    }

    /// All nodes.
    fn values(&self) -> Vec<Node> {
        let mut walk = self.0.root().walk();
        std::iter::from_fn(|| walk.advance().map(|(path, node)| Node::of(path, node))).collect()
    }

    /// All paths, each with its node.
    fn items(&self) -> Vec<(std::ffi::OsString, Node)> {
        self.values().into_iter().map(|node| (name(&node.path).to_owned(), node)).collect()
    }

    fn __repr__(&self) -> String {
        format!("<Listing of {} nodes>", self.__len__())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> Result<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let py = slf.py();
        Ok((py.import("nixcache._restore")?.getattr("listing")?, (slf.get().to_json(py)?,)))
    }
}

fn missing(path: &[u8]) -> PyErr {
    PyKeyError::new_err(name(path).to_owned())
}

/// Lists a NAR. In an uncompressed file, it seeks over the contents.
pub(super) fn read(source: Source, visits: &Visits) -> Result<Listing> {
    if let Some(bytes) = source.constant()
        && Compression::detect(bytes).is_none_or(|compression| compression == Compression::None)
    {
        return Ok(Listing(nar::Listing::from_slice(bytes)?));
    }
    if let Source::File(file, path) = &source {
        let fail = |error: std::io::Error| Failure::file(path, &error);
        let mut head = Vec::new();
        FileSource::new(file).take(Compression::DETECT_LEN as u64).read_to_end(&mut head).map_err(fail)?;
        let is_file = file.metadata().map_err(fail)?.is_file();
        if is_file && Compression::detect(&head) == Some(Compression::None) {
            let mut reader = Reader::new(FileSource::new(file));
            return finish(nar::Listing::read_seek(&mut reader), reader);
        }
    }
    let mut reader = Reader::new(BufReader::with_capacity(256 << 10, source.decompressed(visits)?));
    finish(nar::Listing::read(&mut reader), reader)
}

fn finish<R: std::io::BufRead>(listing: Result<nar::Listing, ReadError>, mut reader: Reader<R>) -> Result<Listing> {
    let listing = listing?;
    reader.expect_end()?;
    Ok(Listing(listing))
}

/// Reads one file from a NAR that must be read from its beginning.
pub(super) fn extract(source: Source, member: &[u8], visits: &Visits) -> Result<(Node, Vec<u8>)> {
    let wanted: Vec<&[u8]> = member.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
    let mut reader = Reader::new(BufReader::with_capacity(256 << 10, source.decompressed(visits)?));
    // The number of open directories, and how many of the outermost are on the path of the file.
    let (mut open, mut on_the_way) = (0_usize, 0_usize);
    while let Some(event) = reader.next()? {
        let (name, file) = match event {
            Event::Contents(_) => continue,
            Event::End => {
                open -= 1;
                on_the_way = on_the_way.min(open);
                continue;
            }
            Event::Directory { name } | Event::Symlink { name, .. } => (name, None),
            Event::File { name, executable, size } => (name, Some((executable, size))),
        };
        let is_directory = matches!(event, Event::Directory { .. });
        // The root has no name, and is on every path.
        let fits = on_the_way == open && (open == 0 || wanted.get(open - 1) == Some(&name));
        if fits && open == wanted.len() {
            let path = wanted.join(&b'/');
            let Some((executable, size)) = file else {
                return Err(PyIsADirectoryError::new_err(format!("{}: is no file", path.escape_ascii())).into());
            };
            let offset = Some(reader.offset());
            let mut contents = Vec::new();
            reader.copy_contents(&mut contents)?;
            return Ok((Node { path, kind: "regular", size: Some(size), executable, offset, target: None }, contents));
        }
        if is_directory {
            on_the_way += usize::from(fits);
            open += 1;
        }
    }
    Err(missing(member).into())
}
