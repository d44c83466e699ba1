//! What buckets and web servers share: TLS, clients, refusals, bodies and XML.

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod refusal;
mod tls;
pub(crate) mod xml;

use std::error::Error;
use std::io;

#[cfg(feature = "s3")]
pub(crate) use self::tls::Tls;

/// Whether a request reached no server: the connection was refused, or the host is unknown.
pub(crate) fn is_unreachable(error: &(dyn Error + 'static)) -> bool {
    let is_refused = refusal::find::<io::Error>(error).is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
        )
    });
    // The resolver has no type of its own.
    is_refused || crate::redact::chain(error).contains("dns error")
}
