//! `narutil scan`: finds the references in a tree.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use nixcache::nar::Observer;
use nixcache::nar::references::Candidates;

use super::packer;
use crate::cli::{Common, ScanArgs};
use crate::failure::{Failure, Result, Status};
use crate::input::lines;
use crate::json::{Scan, line};
use crate::output::print;
use crate::progress::Progress;

pub(crate) fn run(common: &Common, args: &ScanArgs) -> Result {
    let packer = packer(common, &args.path)?;
    let lines = lines(&args.candidates)?;
    let numbered = (1..).zip(lines.iter().map(|line| line.trim()));
    let candidates: Vec<(usize, &str)> = numbered.filter(|(_, line)| !line.is_empty()).collect();
    let prepared = prepare(common, &args.candidates, &candidates)?;
    tracing::info!("{} candidates", candidates.len());
    let progress = Progress::new(common, &args.path, None);
    let seen = packer.pack(&args.path, progress.count(io::sink()), Observer::new().references(&prepared));
    progress.finish();
    let seen = seen.map_err(|error| Failure::packing(&error))?;
    // Several candidates may share a hash part. The scanner reports the first of them.
    let found: HashSet<Option<&str>> = seen.references.iter().map(|&index| prepared.hash_part(index)).collect();
    let found = (0..candidates.len()).filter(|&index| found.contains(&prepared.hash_part(index)));
    let found = found.map(|index| candidates[index].1);
    if common.json {
        let document = Scan { path: args.path.to_string_lossy().into_owned(), references: found.collect() };
        print(line(&document))?;
    } else {
        for candidate in found {
            print(candidate)?;
        }
    }
    Ok(Status::Ok)
}

/// The candidates in the numbered lines of the file `from`. A full path must be in the store
/// directory, because no reference to another directory is ever found, and that would look like an
/// answer.
fn prepare(common: &Common, from: &Path, lines: &[(usize, &str)]) -> Result<Candidates> {
    let store_dir = common.store_dir()?;
    for (number, line) in lines {
        if let Some((directory, _)) = line.rsplit_once('/')
            && directory != store_dir.as_str()
        {
            let message =
                format_args!("line {number}: not a path in the store directory {store_dir} (see --store-dir)");
            return Err(Failure::bad(from, message));
        }
    }
    Candidates::new(lines.iter().map(|(_, line)| line))
        .map_err(|error| Failure::bad(from, format_args!("line {}: {}", lines[error.index].0, error.reason)))
}
