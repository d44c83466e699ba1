//! `narutil ls`: lists the contents of NARs and of paths in caches.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use futures_util::StreamExt;
use nixcache::nar::{FileSource, Listing, ListingNode, NodeKind, Observer, Reader};
use nixcache_client::archive::Archive;
use nixcache_client::cache::Cache;
use nixcache_client::source::PathQuery;

use super::observe;
use crate::cache::{explain_requests, is_cache, run as block_on};
use crate::cli::{Common, LsArgs, Source};
use crate::failure::{Failure, Result, Status};
use crate::graph::path_and_inside;
use crate::input::Input;
use crate::output::{print, printable, shown};
use crate::progress::Progress;
use crate::report::{self, ls::CachedPath};
use crate::target::misnamed;

pub(crate) fn run(common: &Common, args: &LsArgs) -> Result {
    if is_cache(&args.nar) {
        return in_cache(common, args);
    }
    let listing = listing(common, &args.source, &args.nar)?;
    let path = args.path.as_deref().unwrap_or(Path::new(""));
    show(common, args, &args.nar, find(&listing, &args.nar, path)?)
}

/// Lists a cache, or a path of it.
fn in_cache(common: &Common, args: &LsArgs) -> Result {
    let Some(path) = &args.path else { return paths_of_cache(common, args) };
    let (query, inside) = path_and_inside(common, path.as_os_str())?;
    let listing = block_on(common, async {
        let cache = args.reach.open_briefly(common, args.nar.as_os_str()).await?;
        let listing = archive(common, &cache, &query, path).await?.listing().await;
        explain_requests(&cache);
        listing.map_err(|error| Failure::archive(path, &error))
    })?;
    show(common, args, path, find(&listing, path, &inside)?)
}

/// Lists the store paths of a cache.
fn paths_of_cache(common: &Common, args: &LsArgs) -> Result {
    block_on(common, async {
        let cache = args.reach.open(args.nar.as_os_str()).await?;
        let listed = cache.list_narinfos().await.map_err(|error| Failure::cache(&error))?;
        let progress = Progress::items(common, "reading", Some(listed.len()));
        let mut narinfos = cache.narinfos(listed.keys().copied().collect());
        let mut paths = Vec::with_capacity(listed.len());
        let mut status = Status::Ok;
        while let Some((hash_part, read)) = narinfos.next().await {
            progress.advance(1);
            match read {
                Ok(Some(info)) => paths.push(CachedPath { info, modified: listed[&hash_part].modified }),
                // It was removed after it was listed.
                Ok(None) => {}
                Err(error) => status = status.max(Failure::cache(&error).report()),
            }
        }
        progress.finish();
        explain_requests(&cache);
        report::ls::paths(common, args.long, args.bytes, cache.store_dir(), paths)?;
        Ok(status)
    })
}

/// Finds a path in a cache. It must exist and have the given name.
pub(super) async fn archive(common: &Common, cache: &Cache, query: &PathQuery, path: &Path) -> Result<Archive> {
    let found = Archive::find(cache, query.hash_part()).await.map_err(|error| Failure::archive(path, &error))?;
    let found = found.ok_or_else(|| Failure::bad(path, format_args!("not in {}", cache.url())))?;
    let info = found.info().as_ref();
    if let Some(asked_for) = query.path().filter(|path| path.name() != info.store_path().name()) {
        return Err(Failure::bad(path, misnamed(info.store_path().name(), asked_for.name())));
    }
    Ok(found.limits(common.limits()))
}

/// Prints the node `node` of `input`.
fn show(common: &Common, args: &LsArgs, input: &Path, node: ListingNode<'_>) -> Result {
    let mut out = Vec::new();
    if common.json {
        node.write_document(&mut out).map_err(|error| Failure::bad(input, error))?;
    } else if node.kind() == NodeKind::Directory {
        let mut walk = node.walk();
        let _ = walk.advance(); // the directory itself
        while let Some((below, entry)) = walk.advance() {
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

/// The listing of a NAR, reading as little of it as possible.
fn listing(common: &Common, source: &Source, path: &Path) -> Result<Listing> {
    let input = Input::open(path)?;
    if let Some(file) = input.seekable(source)? {
        return listing_by_seeking(common, path, file);
    }
    let seen = observe(common, source, path, Observer::new().listing())?;
    seen.listing.ok_or_else(|| Failure::bad(path, "has no listing"))
}

/// The listing of an uncompressed NAR, by seeking over file contents.
pub(super) fn listing_by_seeking(common: &Common, path: &Path, file: &File) -> Result<Listing> {
    tracing::info!("{}: not compressed, passing over contents", shown(path));
    let mut reader = Reader::with_limits(FileSource::new(file), common.limits());
    let listed = Listing::read_seek(&mut reader).and_then(|listing| reader.expect_end().map(|()| listing));
    listed.map_err(|error| Failure::nar(path, &error))
}

/// The node at `path` in the NAR `nar`.
pub(super) fn find<'a>(listing: &'a Listing, nar: &Path, path: &Path) -> Result<ListingNode<'a>> {
    let found = listing.root().get(path.as_os_str().as_bytes());
    found.ok_or_else(|| Failure::bad(nar, format_args!("has no entry \"{}\"", shown(path))))
}

fn line(out: &mut Vec<u8>, long: bool, name: &[u8], node: ListingNode<'_>) {
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
