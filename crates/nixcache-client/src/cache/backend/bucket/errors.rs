//! What the errors of `object_store` mean.

use std::error::Error as _;

use object_store::client::{HttpError, HttpErrorKind};

use crate::cache::backend::network::body::TooSlow;
use crate::cache::backend::network::refusal::{Meaning, Refusal, Unreachable, find};
use crate::cache::error::Error;
use crate::redact::chain;

impl From<Refusal> for HttpError {
    /// Of a kind that `object_store` does not retry.
    fn from(refusal: Refusal) -> Self {
        Self::new(HttpErrorKind::Unknown, refusal)
    }
}

impl From<Unreachable> for HttpError {
    fn from(unreachable: Unreachable) -> Self {
        Self::new(HttpErrorKind::Unknown, unreachable)
    }
}

/// What an error of a bucket means.
pub(crate) fn meaning(error: &object_store::Error) -> Meaning {
    if let Some(refusal) = Refusal::of(error) {
        return refusal.meaning();
    }
    match error {
        object_store::Error::NotFound { .. } => Meaning::Absent,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => Meaning::Denied,
        object_store::Error::AlreadyExists { .. }
        | object_store::Error::Precondition { .. }
        | object_store::Error::NotModified { .. } => Meaning::Condition,
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            Meaning::NotImplemented
        }
        _ => Meaning::Failed,
    }
}

/// Whether a body broke off, or a connection before it: what the connector does not retry.
pub(crate) fn was_interrupted(error: &object_store::Error) -> bool {
    find::<HttpError>(error).is_some_and(|_| {
        find::<Refusal>(error).is_none() && find::<Unreachable>(error).is_none() && find::<TooSlow>(error).is_none()
    })
}

/// An error of a bucket about an object. `right` as in [`Refusal::error`].
pub(crate) fn bucket_error(object: &str, right: Option<&str>, error: &object_store::Error) -> Error {
    if let Some(refusal) = Refusal::of(error) {
        return refusal.error(object, right);
    }
    let object = object.to_owned();
    if meaning(error) == Meaning::Denied {
        return Error::Denied { object, reason: told(error) };
    }
    Error::Server { object, reason: told(error) }
}

/// An error with its causes, for a message: from the failed connection on, if there is one, else
/// all of it.
fn told(error: &object_store::Error) -> String {
    match find::<HttpError>(error).and_then(HttpError::source) {
        Some(cause) => chain(cause),
        None => chain(error),
    }
}
