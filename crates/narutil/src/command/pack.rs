//! `narutil pack`

use std::io::BufWriter;

use nixcache::compression::Encoder;
use nixcache::hash::Algorithm;
use nixcache::nar::{Observer, PackError};

use super::{hashing, packer, summary};
use crate::cli::{Common, PackArgs};
use crate::failure::{Failure, Result, Status};
use crate::output::Output;
use crate::progress::Progress;

pub(crate) fn run(common: &Common, args: &PackArgs) -> Result {
    let packer = packer(common);
    let output = Output::create(&args.output)?;
    let mut observer = if common.quiet { Observer::new() } else { hashing(Algorithm::Sha256)? };
    if args.listing.is_some() {
        observer = observer.check(common.limits()).listing();
    }
    let mut size = None;
    if let Output::Stream { .. } = output {
        // What was written cannot be taken back: find what metadata can tell beforehand.
        size = Some(packer.measure(&args.path).map_err(|error| Failure::packing(&error))?.0);
    }
    let writing = |error: std::io::Error| Failure::failed(args.output.display(), error);
    let threads = u32::try_from(common.threads().get()).unwrap_or(u32::MAX);
    let compression = args.compression.with_threads(threads);
    tracing::info!("compression {compression}, {threads} threads");
    let mut encoder = Encoder::new(output, &compression).map_err(|error| Failure::usage(error.to_string()))?;

    let progress = Progress::new(common, args.path.display().to_string(), size);
    let seen = packer.pack(&args.path, progress.count(&mut encoder), observer);
    progress.finish();
    let seen = seen.map_err(|error| match error {
        PackError::Write(error) => writing(error),
        error => Failure::packing(&error),
    })?;
    let output = encoder.finish().map_err(writing)?;
    if let (Some(path), Some(listing)) = (&args.listing, &seen.listing) {
        let mut file = BufWriter::new(Output::create(path)?);
        listing.root().write_document(&mut file).map_err(|error| Failure::bad(path.display(), error))?;
        let file = file.into_inner().map_err(|error| Failure::failed(path.display(), error.into_error()))?;
        file.commit()?;
    }
    output.commit()?;
    summary(common, &seen, &args.path);
    Ok(Status::Ok)
}
