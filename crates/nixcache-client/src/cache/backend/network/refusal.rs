//! Unsuccessful responses of servers, what they mean, and how messages explain them.
//!
//! The connector of buckets turns every final unsuccessful response into a [`Refusal`], and puts it
//! into the cause chain of `object_store`'s error, where [`Refusal::of`] finds it. So one place
//! decides the meaning for buckets and web servers.

use std::error::Error as StdError;
use std::fmt;

use http::{Method, StatusCode};
use quick_xml::events::Event;

use super::xml::resolved;
use crate::cache::error::Error;
use crate::redact::escaped;

/// A final unsuccessful response.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) method: Method,
    pub(crate) status: StatusCode,
    /// The `Code` of an error in the format of S3; escaped.
    pub(crate) code: Option<String>,
    /// The message of the server; escaped and truncated.
    message: Option<String>,
    /// How often the request was sent.
    attempts: usize,
}

/// The meaning of a refusal, or of an error of a store that is not a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The object does not exist.
    Absent,
    /// The bucket does not exist.
    NoBucket,
    /// Authentication is missing or access is denied.
    Denied,
    /// A condition does not hold.
    Condition,
    /// The server does not support the request.
    NotImplemented,
    /// The request is malformed, says the server.
    BadRequest,
    /// The server, or the way to it, failed.
    Failed,
}

impl Refusal {
    pub(crate) fn new(method: &Method, status: StatusCode, body: &[u8], attempts: usize) -> Self {
        let (code, message) = explained(body);
        Self { method: method.clone(), status, code, message, attempts }
    }

    /// The refusal in the cause chain of an error.
    pub(crate) fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        find(error)
    }

    pub(crate) fn meaning(&self) -> Meaning {
        match self.code.as_deref() {
            Some("NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted") => return Meaning::NoBucket,
            Some(
                "AccessDenied"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "AllAccessDisabled"
                | "RequestTimeTooSkewed"
                | "AuthenticationFailed"
                | "AuthorizationHeaderMalformed",
            ) => return Meaning::Denied,
            Some("NotImplemented") => return Meaning::NotImplemented,
            _ => {}
        }
        match self.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Meaning::Absent,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Meaning::Denied
            }
            StatusCode::PRECONDITION_FAILED | StatusCode::NOT_MODIFIED | StatusCode::CONFLICT => Meaning::Condition,
            StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => Meaning::NotImplemented,
            StatusCode::BAD_REQUEST => Meaning::BadRequest,
            _ => Meaning::Failed,
        }
    }

    /// `AccessDenied: Access Denied`, or nothing.
    fn details(&self) -> Option<String> {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) if code != message => Some(format!("{code}: {message}")),
            (Some(text), _) | (None, Some(text)) => Some(text.clone()),
            (None, None) => None,
        }
    }

    /// The error for an object whose request was refused. `right` is the S3 permission that a
    /// request of this kind needs.
    pub(crate) fn error(&self, object: &str, right: Option<&str>) -> Error {
        let right = right.map(|right| format!(", and that they allow {right}")).unwrap_or_default();
        self.with_advice(object, &format!("Check the credentials{right}"))
    }

    /// The error for an object of a web server whose request was refused.
    pub(crate) fn web_error(&self, object: &str) -> Error {
        let advice = match self.status {
            StatusCode::UNAUTHORIZED => {
                "Put a login for this host into a netrc file (~/.netrc, or the one that NETRC names), or a token into \
                 NIXCACHE_BEARER_TOKEN"
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => "Put the login for the proxy into its URL (https_proxy)",
            _ => "Check the credentials: those of the URL, of the netrc file, or NIXCACHE_BEARER_TOKEN",
        };
        self.with_advice(object, advice)
    }

    fn with_advice(&self, object: &str, advice: &str) -> Error {
        match self.meaning() {
            Meaning::NoBucket => {
                Error::NoBucket { cache: object.to_owned(), reason: format!("there is no such bucket ({self})") }
            }
            Meaning::Denied => {
                let details = self.details().map(|details| format!(": {details}")).unwrap_or_default();
                let reason = format!("({} to {}){details}. {advice}", self.status.as_u16(), self.method);
                Error::Denied { object: object.to_owned(), reason }
            }
            _ => Error::Server { object: object.to_owned(), reason: self.to_string() },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answers {} to {}", self.status, self.method)?;
        if let Some(details) = self.details() {
            write!(f, ": {details}")?;
        }
        if self.attempts > 1 {
            write!(f, " ({} times)", self.attempts)?;
        }
        Ok(())
    }
}

impl StdError for Refusal {}

/// A connection that failed for good: all retries are used up.
#[derive(Debug)]
pub(crate) struct Unreachable {
    pub(crate) reason: String,
    pub(crate) attempts: usize,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.attempts > 1 {
            write!(f, " ({} times)", self.attempts)?;
        }
        Ok(())
    }
}

impl StdError for Unreachable {}

/// The first error of a type in a cause chain.
pub(crate) fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The `Code` and the `Message` of an XML error, or the first line of a plain text. HTML pages are
/// ignored.
fn explained(body: &[u8]) -> (Option<String>, Option<String>) {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    let (mut code, mut message) = (None, None);
    if !text.starts_with('<') {
        let line = text.lines().next().unwrap_or_default();
        // JSON is not meant for people.
        let plain = Some(escaped(line)).filter(|line| !line.is_empty() && !line.starts_with(['{', '[']));
        return (None, plain);
    }
    let mut reader = quick_xml::Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    let mut element = Vec::new();
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(start) => element = start.local_name().as_ref().to_vec(),
            Event::End(_) => element.clear(),
            Event::Text(text) => {
                let said = String::from_utf8_lossy(&text);
                add(&element, &said, &mut code, &mut message);
            }
            Event::GeneralRef(reference) => add(&element, &resolved(&reference), &mut code, &mut message),
            Event::Eof => break,
            _ => {}
        }
    }
    let shown = |text: Option<String>| text.map(|text| escaped(&text)).filter(|text| !text.is_empty());
    (shown(code), shown(message))
}

fn add(element: &[u8], text: &str, code: &mut Option<String>, message: &mut Option<String>) {
    match element {
        b"Code" => code.get_or_insert_default().push_str(text),
        b"Message" => message.get_or_insert_default().push_str(text),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        Refusal::new(&Method::GET, status, body.as_bytes(), 1)
    }

    #[test]
    fn errors_in_xml_are_told_by_code_and_message_without_what_steers_a_terminal() {
        let xml = "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>no \u{1b}[31m&amp;\n\
                   narutil: all is well</Message><Key>k</Key></Error>";
        let error = refusal(403, xml).error("s3://cache/abc.narinfo", Some("s3:GetObject"));
        assert!(matches!(error, Error::Denied { .. }));
        assert_eq!(
            error.to_string(),
            "s3://cache/abc.narinfo: access denied (403 to GET): AccessDenied: no \\u{1b}[31m&\\nnarutil: all is well. \
             Check the credentials, and that they allow s3:GetObject"
        );
        let long = refusal(500, &"x".repeat(10_000)).error("s3://cache/x", None).to_string();
        assert!(long.chars().count() < 400, "{long}");
        let page = refusal(502, "<!DOCTYPE html><html><body>Bad Gateway</body></html>").to_string();
        assert_eq!(page, "the server answers 502 Bad Gateway to GET");
    }

    #[test]
    fn a_missing_bucket_is_no_missing_object() {
        let missing =
            refusal(404, "<Error><Code>NoSuchBucket</Code><Message>The bucket is not there</Message></Error>");
        assert_eq!(missing.meaning(), Meaning::NoBucket);
        assert_eq!(refusal(404, "<Error><Code>NoSuchKey</Code></Error>").meaning(), Meaning::Absent);
        assert_eq!(refusal(400, "<Error><Code>ExpiredToken</Code></Error>").meaning(), Meaning::Denied);
    }
}
