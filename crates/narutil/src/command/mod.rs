//! The commands, one file each, and what several of them use.

pub(crate) mod audit;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod closure;
pub(crate) mod convert;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod gc;
pub(crate) mod generate;
pub(crate) mod hash;
pub(crate) mod info;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod narinfo;
pub(crate) mod pack;
pub(crate) mod pull;
pub(crate) mod push;
mod queue;
mod repair;
pub(crate) mod roots;
pub(crate) mod scan;
pub(crate) mod sign;
pub(crate) mod unpack;
pub(crate) mod verify;
pub(crate) mod why;

use std::path::Path;

use nixcache::hash::{Algorithm, Format, Hash};
use nixcache::nar::{Observation, Observer, Packer};
use nixcache::signature::looks_like_key;

use crate::cli::{Common, Source};
use crate::failure::{Failure, Result};
use crate::input::Input;
use crate::json::{Hashed, line};
use crate::output::is_standard;
use crate::secret::redacted;
use crate::text::printable;

/// A packer for the tree at `path`, which cannot be standard input.
fn packer(common: &Common, path: &Path) -> Result<Packer> {
    if is_standard(path) {
        return Err(Failure::usage("a tree cannot be read from standard input; use ./- for a file of that name"));
    }
    Ok(Packer::new().threads(common.threads()).limits(common.limits()))
}

/// An observer that computes a hash.
fn hashing(algorithm: Algorithm) -> Result<Observer> {
    Observer::new().hash(algorithm).map_err(|error| Failure::usage(error.to_string()))
}

/// Reads a NAR, which may be compressed, with `observer`.
fn observe(common: &Common, source: &Source, path: &Path, observer: Observer) -> Result<Observation> {
    let (archive, progress) = Input::open(path)?.archive(common, source)?;
    let seen = observer.check(common.limits()).read(archive);
    progress.finish();
    seen.map_err(|error| Failure::nar(path, &error))
}

/// A line of `HASH  SIZE  PATH`, or a JSON object with these.
fn hash_line(common: &Common, hash: &Hash, format: Format, size: u64, path: &Path) -> Vec<u8> {
    // A file may have a key as its name, perhaps by mistake.
    let without_key = looks_like_key(&path.to_string_lossy()).then(|| redacted(&path.to_string_lossy()).into_owned());
    let path = without_key.as_deref().map_or(path, Path::new);
    if common.json {
        let hash = hash.display(format).to_string();
        return line(&Hashed { path: path.to_string_lossy().into_owned(), hash, size }).into_bytes();
    }
    let mut line = format!("{}  {size}  ", hash.display(format)).into_bytes();
    line.extend_from_slice(&printable(path.as_os_str().as_encoded_bytes()));
    line
}

/// Prints a summary of a packed or unpacked NAR on standard error.
fn summary(common: &Common, seen: &Observation, path: &Path) {
    if let Some(hash) = seen.hashes.first() {
        eprintln!("{}", String::from_utf8_lossy(&hash_line(common, hash, Format::Sri, seen.size, path)));
    }
}
