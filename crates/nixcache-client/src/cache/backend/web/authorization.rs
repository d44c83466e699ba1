//! What a web server is told about who asks.

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::cache::backend::web::netrc::Netrc;

/// The variable that holds tokens: `HOST=TOKEN`, or several of these with blanks between them. A
/// host may have a port.
///
/// The host is part of it so that a token is never sent to another cache of the same command.
const TOKENS: &str = "NIXCACHE_BEARER_TOKEN";

/// The login in a file of passwords that says that the password is a token.
const BEARER: &str = "bearer";

/// The header that requests to one server carry. It is for the host of the cache's URL, and for no
/// other.
#[derive(Debug)]
pub(crate) struct Authorization {
    host: String,
    port: Option<u16>,
    /// What the URL or the environment says; it wins.
    fixed: Option<HeaderValue>,
    netrc: Option<Netrc>,
}

impl Authorization {
    /// What user and password in the URL, the variable and the files of passwords say of its host.
    pub(crate) fn of(url: &Url) -> Result<Self, String> {
        let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default());
        let fixed = if !url.username().is_empty() || url.password().is_some() {
            let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
            Some(basic(&user, &password)?)
        } else {
            let tokens = std::env::var(TOKENS).unwrap_or_default();
            token(&tokens, &host, port)?.map(bearer).transpose()?
        };
        let netrc = fixed.is_none().then(Netrc::of_user);
        Ok(Self { host, port, fixed, netrc })
    }

    /// No header, for any server.
    pub(crate) fn none() -> Self {
        Self { host: String::new(), port: None, fixed: None, netrc: None }
    }

    /// The header as of now: files of passwords are looked at again.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        if self.fixed.is_some() {
            return self.fixed.clone();
        }
        let entry = self.netrc.as_ref()?.entry(&self.host, self.port)?;
        let header = if entry.login.eq_ignore_ascii_case(BEARER) {
            bearer(entry.password.reveal())
        } else {
            basic(&entry.login, entry.password.reveal())
        };
        header.map_err(|reason| tracing::warn!("{}: password in a netrc: {reason}", self.host)).ok()
    }
}

/// The token for a host.
fn token<'a>(tokens: &'a str, host: &str, port: Option<u16>) -> Result<Option<&'a str>, String> {
    let with_port = format!("{host}:{}", port.unwrap_or_default());
    for pair in tokens.split_whitespace() {
        let named = pair.split_once('=').filter(|(host, token)| !host.is_empty() && !token.is_empty());
        let (named, token) =
            named.ok_or_else(|| format!("{TOKENS} is not HOST=TOKEN, or several of these with blanks between"))?;
        if named.eq_ignore_ascii_case(host) || named.eq_ignore_ascii_case(&with_port) {
            return Ok(Some(token));
        }
    }
    Ok(None)
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, String> {
    sensitive(&format!("Basic {}", data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes())))
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    sensitive(&format!("Bearer {token}"))
}

/// A header that is not shown, and that is not sent along to another host.
fn sensitive(text: &str) -> Result<HeaderValue, String> {
    // What cannot be part of a header is not shown either.
    let mut value =
        HeaderValue::from_str(text).map_err(|_| "a token has characters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_the_host_that_it_is_given_for() {
        let tokens = "a.example=abc= b.example:8080=def";
        assert_eq!(token(tokens, "a.example", Some(443)).unwrap(), Some("abc="));
        assert_eq!(token(tokens, "b.example", Some(8080)).unwrap(), Some("def"));
        assert_eq!(token(tokens, "b.example", Some(443)).unwrap(), None);
        assert_eq!(token(tokens, "evil.example", Some(443)).unwrap(), None);
        let refused = token("hunter2", "a.example", None).unwrap_err();
        assert!(!refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn neither_password_nor_token_is_shown() {
        let url = Url::parse("https://user:hunter2@a.example/").unwrap();
        let authorization = Authorization::of(&url).unwrap();
        assert_eq!(authorization.header().unwrap(), "Basic dXNlcjpodW50ZXIy");
        let shown = format!("{authorization:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("dXNlcj"), "{shown}");
    }
}
