//! `narutil ls`

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nixcache::nar::{FileSource, Listing, Node, NodeKind, Observer, Reader};

use super::observe;
use crate::cli::{Common, LsArgs, Source};
use crate::failure::{Failure, Result, Status};
use crate::input::Input;
use crate::output::{print, printable, shown};

pub(crate) fn run(common: &Common, args: &LsArgs) -> Result {
    let listing = listing(common, &args.source, &args.nar)?;
    let path = args.path.as_deref().unwrap_or(Path::new(""));
    let node = find(&listing, &args.nar, path)?;
    let mut out = Vec::new();
    if common.json {
        node.write_document(&mut out).map_err(|error| Failure::bad(&args.nar, error))?;
    } else if node.kind() == NodeKind::Directory {
        let mut walk = node.walk();
        let _ = walk.next(); // the directory itself
        while let Some((below, entry)) = walk.next() {
            if args.recursive || !below.contains(&b'/') {
                line(&mut out, args.long, below, entry);
            }
        }
        let _ = out.pop(); // the last line's end, which printing adds
    } else {
        let name = if node.name().is_empty() { b"." } else { node.name() };
        line(&mut out, args.long, name, node);
        let _ = out.pop();
    }
    if !out.is_empty() {
        print(&out)?;
    }
    Ok(Status::Ok)
}

/// What an archive contains, reading as little of it as possible.
fn listing(common: &Common, source: &Source, path: &Path) -> Result<Listing> {
    let input = Input::open(path)?;
    if let Some(file) = input.seekable(source)? {
        return listing_by_seeking(common, path, file);
    }
    let seen = observe(common, source, path, Observer::new().listing())?;
    seen.listing.ok_or_else(|| Failure::bad(path, "has no listing"))
}

/// What an archive contains that is not compressed, from the file that it is.
pub(super) fn listing_by_seeking(common: &Common, path: &Path, file: &File) -> Result<Listing> {
    tracing::info!("{}: not compressed, passing over contents", shown(path));
    let mut reader = Reader::with_limits(FileSource::new(file), common.limits());
    let listed = Listing::read_seek(&mut reader).and_then(|listing| reader.expect_end().map(|()| listing));
    listed.map_err(|error| Failure::nar(path, &error))
}

/// The node at `path` in the archive `nar`.
pub(super) fn find<'a>(listing: &'a Listing, nar: &Path, path: &Path) -> Result<Node<'a>> {
    let found = listing.root().get(path.as_os_str().as_bytes());
    found.ok_or_else(|| Failure::bad(nar, format_args!("has no entry \"{}\"", shown(path))))
}

fn line(out: &mut Vec<u8>, long: bool, name: &[u8], node: Node<'_>) {
    let (kind, size, target) = match node.kind() {
        NodeKind::Directory => ("d-", 0, None),
        NodeKind::File { executable, size, .. } => (if executable { "-x" } else { "--" }, size, None),
        NodeKind::Symlink { target } => ("l-", 0, Some(target)),
        _ => ("?-", 0, None),
    };
    if long {
        out.extend_from_slice(format!("{kind} {size:>12} ").as_bytes());
    }
    out.extend_from_slice(&printable(name));
    if long && let Some(target) = target {
        out.extend_from_slice(b" -> ");
        out.extend_from_slice(&printable(target));
    }
    out.push(b'\n');
}
