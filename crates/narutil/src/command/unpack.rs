//! `narutil unpack`: restores the tree in a NAR.

use nixcache::hash::Algorithm;
use nixcache::nar::{Observer, Unpacker};

use super::{hashing, summary};
use crate::cli::{Common, UnpackArgs};
use crate::failure::{Failure, Result, Status};
use crate::input::Input;
use crate::output::is_standard;

pub(crate) fn run(common: &Common, args: &UnpackArgs) -> Result {
    if is_standard(&args.dest) {
        return Err(Failure::usage("a NAR cannot be unpacked to standard output; use ./- for a file of that name"));
    }
    let observer = if common.quiet { Observer::new() } else { hashing(Algorithm::Sha256)? };
    let unpacker = Unpacker::new().limits(common.limits()).threads(common.threads()).canonical(args.canonical);
    let (archive, progress) = Input::open(&args.nar)?.archive(common, &args.source)?;
    let seen = unpacker.unpack(archive, &args.dest, observer);
    progress.finish();
    let seen = seen.map_err(|error| Failure::unpacking(&args.nar, &error))?;
    summary(common, &seen, &args.dest);
    Ok(Status::Ok)
}
