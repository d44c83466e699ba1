//! `narutil cat`: prints a file from a NAR or from a path in a cache.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nixcache::nar::{Event, NodeKind, ReadError, Reader};

use super::ls::{archive, find, listing_by_seeking};
use crate::cache::{explain_requests, is_cache, run as block_on};
use crate::cli::{CatArgs, Common};
use crate::failure::{Failure, Result, Status};
use crate::graph::path_and_inside;
use crate::input::{BUFFER, Input};
use crate::output::{Output, shown};

/// How much of a file is held in memory until the rest of the NAR has been checked.
const SPOOL: usize = 16 << 20;

pub(crate) fn run(common: &Common, args: &CatArgs) -> Result {
    if is_cache(&args.nar) {
        return in_cache(common, args);
    }
    let input = Input::open(&args.nar)?;
    let mut output = Output::create("-".as_ref())?;
    if let Some(file) = input.seekable(&args.source)? {
        copy(&mut member(common, args, file)?, &mut output, args)?;
    } else {
        copy(&mut stream(common, args, input)?, &mut output, args)?;
    }
    output.commit()?;
    Ok(Status::Ok)
}

/// Prints a file in a path of a cache.
fn in_cache(common: &Common, args: &CatArgs) -> Result {
    let (query, inside) = path_and_inside(common, args.path.as_os_str())?;
    let mut output = Output::create("-".as_ref())?;
    block_on(common, async {
        let cache = args.reach.open_briefly(common, args.nar.as_os_str()).await?;
        let found = archive(common, &cache, &query, &args.path).await?;
        let copied = found.copy_file(inside.as_os_str().as_bytes(), &mut output).await;
        explain_requests(&cache);
        copied.map_err(|error| Failure::archive(&args.path, &error))
    })?;
    output.commit()?;
    Ok(Status::Ok)
}

/// Copies like [`std::io::copy`], but distinguishes errors of reading and writing.
fn copy(source: &mut impl Read, output: &mut Output, args: &CatArgs) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => output.write_all(&buffer[..len]).map_err(|error| Failure::writing(Path::new("-"), &error))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::reading(&args.nar, &error)),
        }
    }
}

/// The file, by its offset in a NAR that supports seeking.
fn member<'a>(common: &Common, args: &CatArgs, nar: &'a File) -> Result<impl Read + use<'a>> {
    let listing = listing_by_seeking(common, &args.nar, nar)?;
    let node = find(&listing, &args.nar, &args.path)?;
    match node.kind() {
        NodeKind::File { .. } => {
            let member = node.open(nar).map_err(|error| Failure::reading(&args.nar, &error))?;
            Ok(member)
        }
        NodeKind::Symlink { target } => Err(not_a_file(args, &symlink(target))),
        _ => Err(not_a_file(args, "a directory")),
    }
}

/// The file, from a NAR that must be read from its beginning. The whole NAR is read before the
/// first byte is printed, because an error may follow the file.
fn stream(common: &Common, args: &CatArgs, input: Input) -> Result<impl Read + use<>> {
    let fail = |error: ReadError| Failure::nar(&args.nar, &error);
    let wanted: Vec<&[u8]> =
        args.path.as_os_str().as_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
    let (archive, progress) = input.archive(common, &args.source)?;
    let mut reader = Reader::with_limits(BufReader::with_capacity(BUFFER, archive), common.limits());
    let mut spool = tempfile::SpooledTempFile::new(SPOOL);
    let mut found = Err(Failure::bad(&args.nar, format_args!("has no entry \"{}\"", shown(&args.path))));
    // The number of open directories, and how many of the outermost are on the path of the file.
    let (mut open, mut on_the_way) = (0, 0);
    while let Some(event) = reader.next().map_err(fail)? {
        let (name, kind) = match event {
            Event::Contents(_) => continue,
            Event::End => {
                open -= 1;
                on_the_way = open.min(on_the_way);
                continue;
            }
            Event::File { name, .. } => (name, Ok(())),
            Event::Directory { name } => (name, Err(not_a_file(args, "a directory"))),
            Event::Symlink { name, target } => (name, Err(not_a_file(args, &symlink(target)))),
        };
        let here = on_the_way == open && (open == 0 || wanted.get(open - 1) == Some(&name));
        let is_directory = matches!(event, Event::Directory { .. });
        if here && open == wanted.len() {
            found = kind;
            if found.is_ok() {
                reader.copy_contents(&mut spool).map_err(fail)?;
            }
        }
        if is_directory {
            on_the_way += usize::from(here);
            open += 1;
        }
    }
    reader.expect_end().map_err(fail)?;
    progress.finish();
    found?;
    spool.rewind().map_err(|error| Failure::failed(&args.nar, error))?;
    Ok(spool)
}

fn not_a_file(args: &CatArgs, kind: &str) -> Failure {
    Failure::bad(&args.nar, format_args!("\"{}\" is {kind}, not a file", shown(&args.path)))
}

fn symlink(target: &[u8]) -> String {
    format!("a symlink to \"{}\"", target.escape_ascii())
}
