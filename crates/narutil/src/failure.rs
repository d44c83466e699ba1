//! How a command ends, for scripts and for people.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use nixcache::compression;
use nixcache::nar::{EncodeError, PackError, ReadError, UnpackError};

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
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn bad(input: impl Display, message: impl Display) -> Self {
        Self { status: Status::Bad, message: format!("{input}: {message}") }
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self { status: Status::Usage, message: message.to_string() }
    }

    pub(crate) fn failed(input: impl Display, message: impl Display) -> Self {
        Self { status: Status::Failed, message: format!("{input}: {message}") }
    }

    /// What went wrong while `input` was read: its content, if that says so, else the reading.
    pub(crate) fn reading(input: impl Display, error: &io::Error) -> Self {
        match compression::Error::of(error) {
            Some(error) => Self::decoding(input, error),
            None => Self::failed(input, error),
        }
    }

    pub(crate) fn decoding(input: impl Display, error: &compression::Error) -> Self {
        use compression::Error;
        match error {
            Error::Io(_) | Error::Setup { .. } | Error::NotCompiledIn { .. } => Self::failed(input, error),
            _ => Self::bad(input, error),
        }
    }

    pub(crate) fn nar(input: impl Display, error: &ReadError) -> Self {
        match error {
            ReadError::Io { source, .. } => Self::reading(input, source),
            error => Self::bad(input, error),
        }
    }

    /// The message itself names the path.
    pub(crate) fn packing(error: &PackError) -> Self {
        let status = match error {
            PackError::Io { .. } | PackError::Write(_) | PackError::Encode(EncodeError::Io(_)) => Status::Failed,
            _ => Status::Bad,
        };
        Self { status, message: error.to_string() }
    }

    pub(crate) fn unpacking(input: impl Display, error: &UnpackError) -> Self {
        match error {
            UnpackError::Nar(error) => Self::bad(input, error),
            UnpackError::Read { source, .. } => Self::reading(input, source),
            UnpackError::NotRemoved { error: first, .. } => {
                Self { message: format!("{input}: {error}"), ..Self::unpacking("", first) }
            }
            UnpackError::CaseHack { .. } => Self::bad(input, error),
            _ => Self { status: Status::Failed, message: error.to_string() },
        }
    }

    /// Prints the message, and says how the command ends.
    pub(crate) fn report(self) -> Status {
        eprintln!("narutil: {}", self.message);
        self.status
    }
}

pub(crate) type Result<T = Status> = std::result::Result<T, Failure>;

/// Runs `each` for every target, reports what fails and goes on, and ends with the worst status.
pub(crate) fn for_each<T>(targets: &[T], mut each: impl FnMut(&T) -> Result) -> Status {
    let statuses = targets.iter().map(|target| each(target).unwrap_or_else(Failure::report));
    statuses.max().unwrap_or(Status::Ok)
}
