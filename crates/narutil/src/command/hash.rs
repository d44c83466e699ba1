//! `narutil hash`: hashes trees, NARs and files.

use std::io;
use std::path::Path;

use nixcache::hash::Hasher;
use nixcache::nar::Observation;

use super::{hash_line, hashing, observe, packer};
use crate::cli::{Common, HashArgs};
use crate::failure::{Failure, Result, Status, for_each};
use crate::input::{Input, once_from_standard_input};
use crate::output::print;
use crate::progress::Progress;

pub(crate) fn run(common: &Common, args: &HashArgs) -> Result {
    once_from_standard_input(&args.paths)?;
    Ok(for_each(&args.paths, |path| {
        if args.flat {
            return flat(common, args, path);
        }
        // A file that is not a NAR is refused, because its hash would be of no use.
        let seen = if args.nar {
            observe(common, &args.source, path, hashing(args.algo)?)?
        } else {
            tree(common, args, path)?
        };
        for hash in &seen.hashes {
            print(hash_line(common, hash, args.format, seen.size, path))?;
        }
        Ok(Status::Ok)
    }))
}

fn tree(common: &Common, args: &HashArgs, path: &Path) -> Result<Observation> {
    let progress = Progress::new(common, path, None);
    let observer = hashing(args.algo)?;
    let packer = packer(common, path)?;
    let seen = if progress.is_shown() {
        packer.pack(path, progress.count(io::sink()), observer)
    } else {
        packer.observe(path, observer)
    };
    progress.finish();
    seen.map_err(|error| Failure::packing(&error))
}

/// Hashes the contents of a file.
fn flat(common: &Common, args: &HashArgs, path: &Path) -> Result<Status> {
    let mut hasher = Hasher::new(args.algo).map_err(|error| Failure::usage(error.to_string()))?;
    let (reader, progress) = Input::open(path)?.counted(common);
    let size = hasher.read(reader).map_err(|error| Failure::failed(path, error));
    progress.finish();
    print(hash_line(common, &hasher.finish(), args.format, size?, path))?;
    Ok(Status::Ok)
}
