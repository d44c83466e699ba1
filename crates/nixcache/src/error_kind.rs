//! The one classification that the public errors of these crates share.

use std::io;

/// What kind of failure an error is, for code that decides what to do next.
///
/// Every public error has a `kind` method. Exit codes, HTTP statuses and Python exceptions follow
/// from it; the message of the error says the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The data is bad, or the answer is no: malformed, a wrong hash, no valid signature. Trying
    /// again gives the same answer.
    Content,
    /// The object, path or root does not exist, says a source that is able to know.
    NotFound,
    /// Authentication is missing or access was denied.
    Denied,
    /// The request makes no sense: an option, a URL or a combination of them is wrong.
    Usage,
    /// A file, disk, network or server failed, or gave no answer in time.
    Unavailable,
    /// Another process holds what is needed, or changed it at the same time.
    Busy,
    /// A fault of this program.
    Internal,
}

impl ErrorKind {
    /// The kind of an error of input or output.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Content,
            io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock => Self::Busy,
            _ => Self::Unavailable,
        }
    }
}

/// Implements the conversion of errors with a `kind` method to [`io::Error`]: the kind stays, and
/// the error is the inner one.
macro_rules! into_io_error {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for std::io::Error {
            fn from(error: $error) -> Self {
                Self::new(error.kind().into(), error)
            }
        })+
    };
}
pub(crate) use into_io_error;

/// For conversions to [`io::Error`] that keep the kind.
impl From<ErrorKind> for io::ErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Content => Self::InvalidData,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Denied => Self::PermissionDenied,
            ErrorKind::Usage => Self::InvalidInput,
            ErrorKind::Busy => Self::ResourceBusy,
            ErrorKind::Unavailable | ErrorKind::Internal => Self::Other,
        }
    }
}
