//! What goes wrong, as the exceptions of `nixcache._exceptions`.
//!
//! A [`Failure`] is made where no thread holds the interpreter, and becomes an exception when it is
//! handed to Python. The class tells the kind, attributes tell where.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use nixcache::store_path::StorePath;
use nixcache::{closure, compression, hash, json, nar, narinfo, path_info, signature, store_path};
use nixcache_client::audit::RepairError;
use nixcache_client::queue::{self, DrainError, DrainFailure};
use nixcache_client::{cache, gc, nix_config, pull, push, roots, sign, source, store_database};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Why something failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An exception that Python raised: in a callback, a file object, an argument, or because of
    /// Ctrl-C.
    Python(PyErr),
    /// One of the package's.
    Ours(Box<Ours>),
}

/// An exception of the package that is to be made.
#[derive(Debug)]
pub(crate) struct Ours {
    class: &'static str,
    message: String,
    attributes: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Number(u64),
    Code(i32),
    Text(String),
    Path(PathBuf),
    Paths(Vec<StorePath>),
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    fn new(class: &'static str, message: impl ToString) -> Self {
        Self::Ours(Box::new(Ours { class, message: message.to_string(), attributes: Vec::new() }))
    }

    fn with(mut self, name: &'static str, value: Option<Value>) -> Self {
        if let (Self::Ours(ours), Some(value)) = (&mut self, value) {
            ours.attributes.push((name, value));
        }
        self
    }

    fn number(self, name: &'static str, value: impl TryInto<u64>) -> Self {
        self.with(name, value.try_into().ok().map(Value::Number))
    }

    fn text(self, name: &'static str, value: impl ToString) -> Self {
        self.with(name, Some(Value::Text(value.to_string())))
    }

    fn path(self, path: &Path) -> Self {
        self.with("path", Some(Value::Path(path.to_owned())))
    }

    /// The number of the error that the system gave, wherever it is below this one.
    fn system(self, error: &(dyn StdError + 'static)) -> Self {
        let mut below = Some(error);
        while let Some(error) = below {
            if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                return self.with("errno", Some(Value::Code(code)));
            }
            below = error.source();
        }
        self
    }

    /// A file that cannot be opened, read or written.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::new("SourceError", format_args!("{}: {error}", path.display())).path(path).system(error)
    }

    /// Something that could not be read as it came.
    pub(crate) fn reading(error: &io::Error) -> Self {
        match compression::Error::of(error) {
            Some(inner) => Self::new("CompressionError", inner),
            None => Self::new("SourceError", error).system(error),
        }
    }

    /// A push that has published everything, and could not leave the root that it was asked for.
    pub(crate) fn no_root(cache: &str, name: &dyn std::fmt::Display, notes: &[String]) -> Self {
        let why = if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) };
        let message = format_args!(
            "{cache}: everything is published, but the root {name} was not left{why}. A collection may remove the closure; see the \
             rights that a push needs, or push with root=None"
        );
        Self::new("CacheError", message).text("path", cache)
    }

    /// A path that a graph does not have.
    pub(crate) fn not_in_graph(path: &str) -> Self {
        Self::new("GraphError", format_args!("{path}: not in the graph"))
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// Turns errors of the libraries into exceptions: the type of the error, the class of the
/// exception, and what sets the attributes of the exception.
macro_rules! exceptions {
    ($($error:ty => $class:literal $(, $attributes:expr)?;)*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let failure = Self::new($class, &error);
                $(
                    let attributes: fn(Failure, &$error) -> Failure = $attributes;
                    let failure = attributes(failure, &error);
                )?
                failure
            }
        }
    )*};
}

exceptions! {
    hash::Error => "HashError", |failure, error| match error {
        hash::Error::Symbol { position, .. } | hash::Error::UnusedBits { position, .. } => {
            failure.number("offset", *position)
        }
        _ => failure,
    };
    hash::nixbase32::Error => "HashError", |failure, error| match error {
        hash::nixbase32::Error::Symbol { position, .. } => failure.number("offset", *position),
        _ => failure,
    };
    store_path::Error => "StorePathError", |failure, error| match error {
        store_path::Error::NameByte { position, .. }
        | store_path::Error::HashPart { source: hash::nixbase32::Error::Symbol { position, .. }, .. } => {
            failure.number("offset", *position)
        }
        _ => failure,
    };
    nar::references::CandidateError => "StorePathError";
    narinfo::Error => "NarInfoError", of_narinfo;
    narinfo::CacheInfoError => "NarInfoError";
    signature::Error => "SignatureError", |failure, error| match error {
        signature::Error::NameCharacter { position, .. } | signature::Error::Symbol { position, .. } => {
            failure.number("offset", *position)
        }
        _ => failure,
    };
    compression::Error => "CompressionError";
    nar::Error => "NarError", |failure, error| failure.number("offset", error.offset());
    nar::ListingError => "ListingError";
    nar::ListingWriteError => "ListingError";
    nar::PackError => "PackError", |failure, error| {
        use nar::PackError;
        let failure = failure.system(error);
        match error {
            PackError::Io { path, .. }
            | PackError::Unsupported { path, .. }
            | PackError::Changed { path, .. }
            | PackError::Name { path, .. }
            | PackError::CaseHack { path, .. }
            | PackError::Limit { path, .. } => failure.path(path),
            _ => failure,
        }
    };
    closure::Error => "GraphError", |failure, error| {
        use closure::Error;
        let paths = match error {
            Error::Disagreement { path, .. } | Error::Unknown { path } => vec![path.clone()],
            Error::SameHashPart { first, second } => vec![first.clone(), second.clone()],
            Error::Cycle { members, .. } => members.clone(),
            _ => return failure,
        };
        failure.with("paths", Some(Value::Paths(paths)))
    };
    json::Error => "PathInfoError", |failure, error| match error {
        json::Error::Syntax { line, column, .. } => failure.number("line", *line).number("column", *column),
        _ => failure,
    };
    path_info::registration::Error => "PathInfoError", |failure, error| failure.system(error);
    store_database::Error => "SourceError", |failure, error| failure.system(error);
    cache::UrlError => "CacheUrlError";
}

fn of_narinfo(mut failure: Failure, error: &narinfo::Error) -> Failure {
    if let Some(line) = error.line {
        failure = failure.number("line", line);
    }
    match error.field {
        Some(field) => failure.text("field", field),
        None => failure,
    }
}

impl From<nix_config::Error> for Failure {
    fn from(error: nix_config::Error) -> Self {
        match &error {
            nix_config::Error::Io { file, error } => Self::file(file, error),
            _ => Self::new("SignatureError", &error),
        }
    }
}

impl From<nar::ReadError> for Failure {
    fn from(error: nar::ReadError) -> Self {
        match error {
            nar::ReadError::Nar(error) => error.into(),
            nar::ReadError::Io { source, .. } => Self::reading(&source),
            error => Self::new("NarError", error),
        }
    }
}

impl From<nar::UnpackError> for Failure {
    fn from(error: nar::UnpackError) -> Self {
        use nar::UnpackError;
        let failure = || Self::new("UnpackError", &error).system(&error);
        match &error {
            UnpackError::Nar(error) => error.clone().into(),
            UnpackError::Read { source, .. } => Self::reading(source),
            UnpackError::Destination { path, .. }
            | UnpackError::Io { path, .. }
            | UnpackError::CaseHack { path, .. }
            | UnpackError::NotRemoved { left: path, .. } => failure().path(path),
            UnpackError::Exists { path } => failure().path(path).with("errno", Some(Value::Code(EEXIST))),
            _ => failure(),
        }
    }
}

/// File exists: the same number on all systems that Nix runs on.
const EEXIST: i32 = 17;

impl From<source::Error> for Failure {
    fn from(error: source::Error) -> Self {
        use source::Error;
        match &error {
            Error::Remote(_) | Error::Url(_) => Self::new("CacheError", &error).system(&error),
            Error::Database(_) => Self::new("SourceError", &error).system(&error),
            Error::Io { file, .. } | Error::NoDirectory { file } => {
                Self::new("SourceError", &error).path(file).system(&error)
            }
            Error::Registration { file, .. }
            | Error::Json { file, .. }
            | Error::Export { file, .. }
            | Error::Disagreement { file, .. }
            | Error::Misplaced { file, .. } => Self::new("PathInfoError", &error).path(file),
            Error::NarInfo { file, error: inner } => of_narinfo(Self::new("NarInfoError", &error), inner).path(file),
            _ => Self::new("SourceError", error),
        }
    }
}

impl From<cache::Error> for Failure {
    fn from(error: cache::Error) -> Self {
        use cache::Error;
        let class = if error.kind() == nixcache::ErrorKind::Content { "CacheContentError" } else { "CacheError" };
        let failure = Self::new(class, &error).system(&error);
        match error {
            Error::Url(error) => error.into(),
            Error::NarInfo { object, error } => of_narinfo(failure.text("path", object), &error),
            Error::CacheInfo { object, .. }
            | Error::Misplaced { object, .. }
            | Error::NarUrl { object, .. }
            | Error::TooLarge { object, .. }
            | Error::Denied { object, .. }
            | Error::Io { object, .. }
            | Error::Encoding { object, .. }
            | Error::KeepsChanging { object, .. }
            | Error::NoRanges { object }
            | Error::Server { object, .. } => failure.text("path", object),
            Error::Configuration { cache, .. }
            | Error::NoBucket { cache, .. }
            | Error::NoCache { cache }
            | Error::StoreDir { cache, .. }
            | Error::Unsupported { cache, .. } => failure.text("path", cache),
            _ => failure,
        }
    }
}

impl From<roots::Error> for Failure {
    fn from(error: roots::Error) -> Self {
        use roots::Error;
        match error {
            Error::Cache(error) => error.into(),
            Error::Broken { ref object, .. } | Error::Version { ref object, .. } => {
                let object = object.clone();
                Self::new("CacheContentError", &error).text("path", object)
            }
            error => Self::new("CacheError", &error).system(&error),
        }
    }
}

impl From<gc::Error> for Failure {
    fn from(error: gc::Error) -> Self {
        use gc::Error;
        match error {
            Error::Cache(error) => error.into(),
            Error::Roots(error) => error.into(),
            Error::Unknown { ref object, .. } => {
                let object = object.clone();
                Self::new("CacheContentError", &error).text("path", object)
            }
            error @ Error::Unreadable(_) => Self::new("CacheContentError", &error),
            error => Self::new("CacheError", &error).system(&error),
        }
    }
}

impl From<push::Error> for Failure {
    fn from(error: push::Error) -> Self {
        match error {
            push::Error::Session(error) => error.into(),
            push::Error::Cache(error) => error.into(),
            push::Error::Source(error) => error.into(),
            push::Error::Graph { error, .. } => error.into(),
            push::Error::NotInSource { ref query, .. } => Self::not_in_graph(query),
            push::Error::NoTrees { .. } | push::Error::StandardInput => {
                pyo3::exceptions::PyValueError::new_err(error.to_string()).into()
            }
            push::Error::Hole { ref path, .. } | push::Error::Unknown { ref path, .. } => {
                Self::new("GraphError", &error).with("paths", Some(Value::Paths(vec![path.clone()])))
            }
            error => Self::new("PushError", &error).system(&error),
        }
    }
}

impl From<queue::Error> for Failure {
    fn from(error: queue::Error) -> Self {
        Self::file(&error.path, &error.error)
    }
}

impl From<DrainError> for Failure {
    fn from(error: DrainError) -> Self {
        match error.error {
            DrainFailure::Queue(error) => error.into(),
            DrainFailure::Push(error) => error.into(),
            error => Self::new("PushError", error),
        }
    }
}

impl From<pull::Error> for Failure {
    fn from(error: pull::Error) -> Self {
        match error {
            pull::Error::Cache(error) => error.into(),
            pull::Error::Graph(error) => error.into(),
            pull::Error::Roots(error) => error.into(),
            pull::Error::Destination { ref path, .. } => Self::new("PullError", &error).path(path).system(&error),
            error => Self::new("PullError", &error).system(&error),
        }
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Cache(error) => error.into(),
            RepairError::Roots(error) => error.into(),
            RepairError::Sources(error) | RepairError::Republish { error, .. } => (*error).into(),
            error => Self::new("CacheError", &error),
        }
    }
}

impl From<sign::Error> for Failure {
    fn from(error: sign::Error) -> Self {
        match error {
            sign::Error::Cache(error) => error.into(),
            error => Self::new("CacheError", &error),
        }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Python(error) => error,
            Failure::Ours(ours) => Python::attach(|py| make(py, *ours).unwrap_or_else(|error| error)),
        }
    }
}

fn make(py: Python<'_>, ours: Ours) -> PyResult<PyErr> {
    let attributes = PyDict::new(py);
    for (name, value) in ours.attributes {
        match value {
            Value::Number(value) => attributes.set_item(name, value)?,
            Value::Code(value) => attributes.set_item(name, value)?,
            Value::Text(value) => attributes.set_item(name, value)?,
            Value::Path(value) => attributes.set_item(name, value.as_os_str())?,
            Value::Paths(values) => {
                // By its name: the module of the class needs this one.
                let class = py.import("nixcache._nixcache")?.getattr("StorePath")?;
                let paths = values.iter().map(|path| class.call1((path.as_str(),)));
                let paths = paths.collect::<PyResult<Vec<_>>>()?;
                attributes.set_item(name, PyTuple::new(py, paths)?)?;
            }
        }
    }
    let class = py.import("nixcache._exceptions")?.getattr(ours.class)?;
    let exception = class.call((ours.message,), Some(&attributes))?;
    Ok(PyErr::from_value(exception))
}
