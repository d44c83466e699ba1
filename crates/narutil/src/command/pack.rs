//! `narutil pack`: writes a tree as a NAR.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::Algorithm;
use nixcache::nar::{Listing, ListingWriteError, NodeKind, Observer, PackError};
use rustix::fs::Access;

use super::{hashing, packer, summary};
use crate::cli::{Common, PackArgs};
use crate::failure::{Failure, Result, Status};
use crate::output::{HELD_BACK_BYTES, Output, behind_links, directory, is_standard};
use crate::progress::Progress;
use crate::text::shown;

pub(crate) fn run(common: &Common, args: &PackArgs) -> Result {
    let packer = packer(common, &args.path)?;
    if is_standard(&args.output) && args.listing.as_deref().is_some_and(is_standard) {
        return Err(Failure::usage("the NAR and its listing cannot both go to standard output"));
    }
    if args.listing.as_ref().is_some_and(|listing| is_same_file(listing, &args.output)) {
        return Err(Failure::usage(format_args!(
            "{}: the NAR and its listing cannot go to the same file",
            shown(&args.output)
        )));
    }
    let output = Output::create(&args.output)?;
    let listing_output = args.listing.as_deref().map(Output::create).transpose()?;
    // Leaves out the temporary files of the outputs: they are not part of the tree.
    let ours: Vec<PathBuf> =
        [Some(&output), listing_output.as_ref()].into_iter().flatten().filter_map(|o| o.inside(&args.path)).collect();
    let packer =
        if ours.is_empty() { packer } else { packer.filter(move |entry| !ours.iter().any(|o| o == entry.path)) };

    let mut observer = if common.quiet { Observer::new() } else { hashing(Algorithm::Sha256)? };
    if args.listing.is_some() {
        observer = observer.check(common.limits()).listing();
    }
    let mut size = None;
    if output.is_stream() {
        // Output cannot be taken back, so find the errors that metadata shows first.
        let (measured, listing) = packer.measure(&args.path).map_err(|error| Failure::packing(&error))?;
        if measured > HELD_BACK_BYTES as u64 {
            check_readable(&args.path, &listing)?;
        }
        if let Some(name) = &args.listing {
            write_listing(&args.path, &listing, io::sink(), name)?;
        }
        size = Some(measured);
    }
    let threads = common.threads();
    let compression =
        args.compression.unwrap_or_else(|| by_name(&args.output)).with(|options| options.threads = threads);
    tracing::info!("compression {compression}, {threads} threads");
    let mut encoder = Compressor::new(output, &compression).map_err(|error| Failure::usage(error.to_string()))?;

    let progress = Progress::new(common, &args.path, size);
    let seen = packer.pack(&args.path, progress.count(&mut encoder), observer);
    progress.finish();
    let writing = |error: &io::Error| Failure::writing(&args.output, error);
    let seen = seen.map_err(|error| match &error {
        PackError::Write(error) => writing(error),
        error => Failure::packing(error),
    })?;
    let output = encoder.finish().map_err(|error| writing(&error))?;
    if let (Some(mut file), Some(listing), Some(name)) = (listing_output, &seen.listing, &args.listing) {
        write_listing(&args.path, listing, &mut file, name)?;
        file.commit()?;
    }
    output.commit()?;
    summary(common, &seen, &args.path);
    Ok(Status::Ok)
}

/// Whether two outputs are the same file, and would replace each other. Devices and pipes do not.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let target = behind_links(path);
        let directory = directory(&target).canonicalize().ok()?;
        Some(directory.join(target.file_name()?))
    };
    let is_stream = |path: &PathBuf| path.metadata().is_ok_and(|metadata| !metadata.is_file());
    place(one).is_some_and(|one| place(other).as_ref() == Some(&one) && !is_stream(&one))
}

/// The compression that the extension of a NAR's name says.
fn by_name(output: &Path) -> EncodeOptions {
    let compression = match output.extension().and_then(OsStr::to_str) {
        Some("zst" | "zstd") => Compression::Zstd,
        Some("xz") => Compression::Xz,
        Some("bz2") => Compression::Bzip2,
        Some("gz") => Compression::Gzip,
        Some("br") => Compression::Brotli,
        Some("lz4") => Compression::Lz4,
        Some("lzma") => Compression::Lzma,
        _ => Compression::None,
    };
    if compression != Compression::None {
        tracing::info!("{}: {compression}, by the extension of the name", shown(output));
    }
    EncodeOptions::new(compression)
}

/// Reports a file that this user may not read. Packing reports all other errors.
fn check_readable(tree: &Path, listing: &Listing) -> Result<()> {
    let mut walk = listing.root().walk();
    while let Some((below, node)) = walk.advance() {
        let NodeKind::File { .. } = node.kind() else { continue };
        let path = tree.join(OsStr::from_bytes(below));
        if let Err(error @ rustix::io::Errno::ACCESS) = rustix::fs::access(&path, Access::READ_OK) {
            return Err(Failure::failed(&path, io::Error::from(error)));
        }
    }
    Ok(())
}

/// Writes the listing of `tree` to `output`, the file `name`.
fn write_listing(tree: &Path, listing: &Listing, output: impl Write, name: &Path) -> Result<()> {
    let mut output = BufWriter::new(output);
    let written = listing.root().write_document(&mut output).and_then(|()| Ok(output.flush()?));
    written.map_err(|error| match error {
        ListingWriteError::Io(error) => Failure::writing(name, &error),
        error => Failure::bad(tree, error),
    })
}
