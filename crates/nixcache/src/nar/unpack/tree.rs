//! The tree on disk that the events of an archive make.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::UnpackError;
use super::case_hack::CaseHack;
use super::open_file::{Directory, Finish, OpenFile};
use super::pool::Pool;
use super::writer_pool::{Job, WriterPool};
use crate::nar::{Event, Quoted};

/// How many files a batch has at most.
const BATCH: usize = 64;

/// How many directories stay open, beside those around the current node, because files in them are
/// still to be written.
const OPEN_DIRECTORIES: usize = 64;

/// A directory around the current node.
struct Level {
    directory: Arc<Directory>,
    names: CaseHack,
}

impl Level {
    fn new(directory: Arc<Directory>) -> Self {
        Self { directory, names: CaseHack::default() }
    }
}

/// The file whose contents are coming.
enum Current {
    None,
    /// Nothing has come yet.
    Announced {
        name: Box<[u8]>,
        executable: bool,
        size: u64,
    },
    /// Its contents come in several pieces.
    Open {
        file: Arc<OpenFile>,
        written: u64,
        size: u64,
    },
}

/// The tree that is being made.
pub(super) struct Tree<'scope> {
    innermost: Level,
    outer: Vec<Level>,
    current: Current,
    batch: Vec<Job>,
    writers: WriterPool<'scope>,
    permits: Pool<()>,
    finish: Finish,
    case_hack: bool,
}

impl<'scope> Tree<'scope> {
    pub(super) fn new(parent: &Arc<Directory>, writers: WriterPool<'scope>, finish: Finish, case_hack: bool) -> Self {
        Self {
            innermost: Level::new(Arc::clone(parent)),
            outer: Vec::new(),
            current: Current::None,
            batch: Vec::new(),
            writers,
            permits: Pool::new(OPEN_DIRECTORIES),
            finish,
            case_hack,
        }
    }

    /// Does what the next event says. Files may be written later.
    pub(super) fn event(&mut self, event: Event<&[u8], Bytes>) -> Result<(), UnpackError> {
        match event {
            Event::Directory { name } => {
                let name = self.on_disk(name)?;
                let directory = self.innermost.directory.make_directory(&name)?;
                self.outer.push(std::mem::replace(&mut self.innermost, Level::new(Arc::new(directory))));
                Ok(())
            }
            Event::End => self.end(),
            Event::File { name, executable, size } => {
                let name = self.on_disk(name)?.into();
                self.current = Current::Announced { name, executable, size };
                // No contents will come.
                if size == 0 { self.contents(Bytes::new()) } else { Ok(()) }
            }
            Event::Contents(contents) => self.contents(contents),
            Event::Symlink { name, target } => {
                let name = self.on_disk(name)?;
                self.innermost.directory.make_symlink(&name, target, self.finish)
            }
        }
    }

    /// Hands over what has been collected.
    pub(super) fn flush(&mut self) -> Result<(), UnpackError> {
        if self.batch.is_empty() { Ok(()) } else { self.writers.submit(std::mem::take(&mut self.batch)) }
    }

    /// Waits until everything is written that was handed over.
    pub(super) fn join(&mut self) -> Result<(), UnpackError> {
        self.writers.join()
    }

    /// The name under which an entry goes to the disk.
    fn on_disk<'a>(&mut self, name: &'a [u8]) -> Result<Cow<'a, [u8]>, UnpackError> {
        if !self.case_hack {
            return Ok(name.into());
        }
        self.innermost.names.on_disk(name).map_err(|taken| UnpackError::CaseHack {
            path: self.innermost.directory.path_of(&taken),
            other: Quoted::new(name),
        })
    }

    fn end(&mut self) -> Result<(), UnpackError> {
        let Some(outer) = self.outer.pop() else { return Ok(()) };
        let directory = std::mem::replace(&mut self.innermost, outer).directory;
        if Arc::strong_count(&directory) > 1 {
            let (batch, writers) = (&mut self.batch, &mut self.writers);
            let permit = self.permits.take(|| writers.submit(std::mem::take(batch)))?;
            // It is set nowhere else.
            let _ = directory.permit.set(permit);
        }
        directory.release(self.finish)
    }

    fn contents(&mut self, contents: Bytes) -> Result<(), UnpackError> {
        let len = contents.len() as u64;
        let (file, offset, size) = match std::mem::replace(&mut self.current, Current::None) {
            Current::None => return Ok(()), // the decoder announces every file
            Current::Announced { name, executable, size } if size == len => {
                let directory = Arc::clone(&self.innermost.directory);
                return self.push(Job::File { directory, name, executable, contents });
            }
            Current::Announced { name, executable, size } => {
                (self.innermost.directory.make_file(&name, executable)?, 0, size)
            }
            Current::Open { file, written, size } => (file, written, size),
        };
        if offset + len < size {
            self.current = Current::Open { file: Arc::clone(&file), written: offset + len, size };
        }
        self.push(Job::Part { file, offset, contents })
    }

    fn push(&mut self, job: Job) -> Result<(), UnpackError> {
        self.batch.push(job);
        if self.batch.len() < BATCH { Ok(()) } else { self.flush() }
    }
}
