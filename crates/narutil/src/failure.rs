//! Exit statuses, and the failures of commands with their messages.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use nixcache::nar::{PackError, ReadError, UnpackError};
use nixcache::{ErrorKind, compression};
use nixcache_client::{archive, cache, gc, push, roots, source};

use crate::secret::{KEY_NOT_FILE, is_key_for_file};
use crate::text::shown;

/// The exit status of a command, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// Done, and the answer is yes.
    Ok,
    /// The data is bad, or the answer is no.
    Bad,
    /// Wrong usage.
    Usage,
    /// It could not be done.
    Failed,
    /// What read the results has gone away: as a shell shows a program that SIGPIPE ended.
    Closed = 141,
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Content | ErrorKind::NotFound => Self::Bad,
            ErrorKind::Usage => Self::Usage,
            _ => Self::Failed,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command could not give its answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// The message. None if the reader of standard output has closed it, which ends the command.
    pub(crate) message: Option<String>,
}

impl Failure {
    /// An error of the libraries. Its message names its object.
    ///
    /// An error of I/O is a failure, even "no such file": only the contents of what was read are an
    /// answer.
    pub(crate) fn of(kind: ErrorKind, error: &(impl Error + 'static)) -> Self {
        let status = match Status::from(kind) {
            Status::Bad if is_input_output(error) => Status::Failed,
            status => status,
        };
        Self::new(status, error)
    }

    fn new(status: Status, message: impl Display) -> Self {
        Self { status, message: Some(message.to_string()) }
    }

    pub(crate) fn bad(input: &Path, message: impl Display) -> Self {
        Self::new(Status::Bad, format_args!("{}: {message}", shown(input)))
    }

    /// The error for a key that was given in the place of a file. The message does not show it.
    pub(crate) fn key_for_file() -> Self {
        Self::usage(KEY_NOT_FILE)
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Status::Usage, message)
    }

    pub(crate) fn failed(input: &Path, message: impl Display) -> Self {
        if is_key_for_file(input) {
            return Self::key_for_file();
        }
        Self::new(Status::Failed, format_args!("{}: {message}", shown(input)))
    }

    /// An error of writing `output`. There is no message if the next program in a pipeline has
    /// closed it.
    pub(crate) fn writing(output: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { status: Status::Closed, message: None },
            _ => Self::failed(output, error),
        }
    }

    /// An error of reading `input`: of its contents if they cannot be decompressed, or of I/O.
    pub(crate) fn reading(input: &Path, error: &io::Error) -> Self {
        match compression::Error::of(error) {
            Some(error) => Self::decoding(input, error),
            None => Self::failed(input, error),
        }
    }

    pub(crate) fn decoding(input: &Path, error: &compression::Error) -> Self {
        use compression::Error;
        match error {
            Error::Io(_) | Error::Setup { .. } | Error::NotCompiledIn { .. } => Self::failed(input, error),
            // The data names the compression, so an unknown one is bad data, not wrong usage.
            _ => Self::bad(input, error),
        }
    }

    pub(crate) fn nar(input: &Path, error: &ReadError) -> Self {
        match error {
            ReadError::Io { source, .. } => Self::reading(input, source),
            ReadError::Nar(nixcache::nar::Error::Unexpected { found, .. }) if found.starts_with("an export") => {
                let command = format_args!("convert --from export:{} --to json:-", shown(input));
                Self::bad(input, format_args!("{error}. To see what is in it: {command}"))
            }
            error => Self::bad(input, error),
        }
    }

    /// An error of packing. Its message names the path.
    pub(crate) fn packing(error: &PackError) -> Self {
        match error {
            // The tree changed while it was read, so there is no NAR of it.
            PackError::Changed { .. } => Self::new(Status::Bad, error),
            error => Self::of(error.kind(), error),
        }
    }

    pub(crate) fn unpacking(input: &Path, error: &UnpackError) -> Self {
        match error {
            UnpackError::Nar(error) => Self::bad(input, error),
            UnpackError::Read { source, .. } => Self::reading(input, source),
            UnpackError::NotRemoved { error: first, .. } => Self::new(Self::unpacking(input, first).status, error),
            UnpackError::CaseHack { .. } => Self::bad(input, error),
            UnpackError::Destination { .. } => Self::usage(error),
            _ => Self::new(Status::Failed, error),
        }
    }

    /// An error of a source: of its contents or of I/O. Its message names the source.
    pub(crate) fn source(error: &source::Error) -> Self {
        Self::of(error.kind(), error)
    }

    /// An error of the roots of a cache.
    pub(crate) fn roots(error: &roots::Error) -> Self {
        Self::of(error.kind(), error)
    }

    /// An error of a collection.
    pub(crate) fn gc(error: &gc::Error) -> Self {
        Self::of(error.kind(), error)
    }

    /// An error of a push. Its message names the object.
    pub(crate) fn push(error: &push::Error) -> Self {
        use push::Error;
        match error {
            // A link in the place of a folder keeps the push from being done.
            Error::Cache(cache::Error::Odd { .. }) | Error::Session(roots::Error::Cache(cache::Error::Odd { .. })) => {
                Self::new(Status::Failed, error)
            }
            error => Self::of(error.kind(), error),
        }
    }

    /// An error of a cache: of its contents, its URL, or of I/O. Its message names the object.
    pub(crate) fn cache(error: &cache::Error) -> Self {
        Self::of(error.kind(), error)
    }

    /// An error of reading a path of a cache.
    pub(crate) fn archive(input: &Path, error: &archive::Error) -> Self {
        match error {
            archive::Error::Cache(error) => Self::cache(error),
            archive::Error::Write(error) => Self::writing(Path::new("-"), error),
            archive::Error::NoEntry { .. } | archive::Error::Directory { .. } | archive::Error::Symlink { .. } => {
                Self::bad(input, error)
            }
            error if error.kind() == ErrorKind::Content => Self::new(Status::Bad, error),
            error => Self::new(Status::Failed, error),
        }
    }

    /// Prints the message, and returns the exit status.
    pub(crate) fn report(self) -> Status {
        if let Some(message) = self.message {
            eprintln!("narutil: {message}");
        }
        self.status
    }
}

/// Whether the cause of an error is an error of I/O.
fn is_input_output(error: &(dyn Error + 'static)) -> bool {
    error.is::<io::Error>() || error.source().is_some_and(is_input_output)
}

pub(crate) type Result<T = Status> = std::result::Result<T, Failure>;

/// Runs `each` for every target, reports failures and continues, and returns the worst status.
pub(crate) fn for_each<T>(targets: &[T], mut each: impl FnMut(&T) -> Result) -> Status {
    let mut worst = Status::Ok;
    for target in targets {
        worst = worst.max(match each(target) {
            Ok(status) => status,
            Err(Failure { status, message: None }) => return status,
            Err(failure) => failure.report(),
        });
    }
    worst
}
