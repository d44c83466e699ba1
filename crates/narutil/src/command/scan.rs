//! `narutil scan`

use std::io;

use nixcache::nar::Observer;
use nixcache::nar::scan::Candidates;
use serde_json::json;

use super::packer;
use crate::cli::{Common, ScanArgs};
use crate::failure::{Failure, Result, Status};
use crate::input::lines;
use crate::output::print;
use crate::progress::Progress;

pub(crate) fn run(common: &Common, args: &ScanArgs) -> Result {
    let lines = lines(&args.candidates)?;
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let candidates = Candidates::new(&lines).map_err(|error| Failure::bad(args.candidates.display(), error))?;
    let progress = Progress::new(common, args.path.display().to_string(), None);
    let observer = Observer::new().references(&candidates);
    let seen = packer(common).pack(&args.path, progress.count(io::sink()), observer);
    progress.finish();
    let seen = seen.map_err(|error| Failure::packing(&error))?;
    let found = seen.references.iter().map(|&index| lines[index]);
    if common.json {
        let found: Vec<&str> = found.collect();
        print(json!({ "path": args.path.to_string_lossy(), "references": found }).to_string().as_bytes())?;
    } else {
        for candidate in found {
            print(candidate.as_bytes())?;
        }
    }
    Ok(Status::Ok)
}
