use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use url::Url;

/// Where a cache is, in words for a command line, those of Nix among them.
///
/// | words | |
/// |---|---|
/// | `DIRECTORY`, `file:///DIRECTORY` | a directory |
/// | `s3://BUCKET[/PREFIX]` | a bucket of S3, or of what speaks its protocol, with the parameters below |
/// | `gs://BUCKET[/PREFIX]` | a bucket of Google Cloud Storage |
/// | `az://CONTAINER[/PREFIX]` | a container of Azure Blob Storage; the account is in `AZURE_STORAGE_ACCOUNT_NAME` |
/// | `http://HOST/…`, `https://HOST/…` | a web server; to publish there it has to take `PUT` |
///
/// Parameters follow a question mark, as in Nix. `region`, `endpoint`, `profile`, `scheme`, `addressing-style`,
/// `multipart-chunk-size` and `storage-class` say how an S3 is reached. Those that tell Nix how to write (`compression`, `secret-key`
/// and so on) are accepted, so that one spelling serves both, and left to whoever publishes. Others are errors: most are
/// misspelt.
///
/// ```
/// use std::ffi::OsStr;
/// use nixcache_client::cache::CacheUrl;
///
/// let url = CacheUrl::parse(OsStr::new("s3://cache/team?region=eu-west-1&endpoint=http://127.0.0.1:9000"))?;
/// assert_eq!(url.parameter("region"), Some("eu-west-1"));
/// assert!(CacheUrl::parse(OsStr::new("s3://cache?regoin=eu-west-1")).is_err());
/// # Ok::<(), nixcache_client::cache::UrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheUrl {
    pub(super) location: Location,
    parameters: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Directory(PathBuf),
    Bucket { kind: BucketKind, name: String, prefix: String },
    Http(Url),
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BucketKind {
    S3,
    Google,
    Azure,
}

/// Why words do not say where a cache is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Nothing is known of this kind of cache.
    #[error(
        "{url}: no kind of cache that is known here: expected a directory, file://, s3://, gs://, az:// or http(s)://"
    )]
    Scheme {
        /// What was said.
        url: String,
    },
    /// It is not written as a URL is.
    #[error("{url}: {reason}")]
    Syntax {
        /// What was said.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A parameter that nobody knows.
    #[error("{url}: no cache has a parameter `{name}`")]
    Parameter {
        /// What was said.
        url: String,
        /// The parameter.
        name: String,
    },
}

/// Parameters that say how a cache is reached.
const REACHING: [&str; 9] = [
    "region",
    "endpoint",
    "profile",
    "scheme",
    "addressing-style",
    "multipart-upload",
    "multipart-chunk-size",
    "multipart-threshold",
    "storage-class",
];

/// Those that tell Nix how to write, or how to go about the cache on a machine.
const NIX: [&str; 25] = [
    "buffer-size",
    "compression",
    "compression-level",
    "index-debug-info",
    "local-nar-cache",
    "log-compression",
    "ls-compression",
    "max-connections",
    "narinfo-compression",
    "parallel-compression",
    "path-info-cache-size",
    "priority",
    "real",
    "require-sigs",
    "root",
    "secret-key",
    "secret-keys",
    "state",
    "store",
    "system-features",
    "tls-certificate",
    "tls-private-key",
    "trusted",
    "want-mass-query",
    "write-nar-listing",
];

impl CacheUrl {
    /// Reads what a user calls a cache. Nothing is looked for yet.
    pub fn parse(text: &OsStr) -> Result<Self, UrlError> {
        let bytes = text.as_bytes();
        if let Some(rest) = bytes.strip_prefix(b"file://") {
            let end = rest.iter().position(|byte| *byte == b'?').unwrap_or(rest.len());
            let parameters = match rest.get(end + 1..) {
                Some(query) => parameters(&text.to_string_lossy(), &String::from_utf8_lossy(query))?,
                None => BTreeMap::new(),
            };
            // As in Nix, what is escaped in the path means what it means in any URL.
            let path: Vec<u8> = percent_encoding::percent_decode(&rest[..end]).collect();
            let location = Location::Directory(OsStr::from_bytes(&path).into());
            return Ok(Self { location, parameters });
        }
        let shown = || text.to_string_lossy().into_owned();
        let Some((scheme, _)) = text.to_str().and_then(|text| text.split_once("://")) else {
            if bytes.is_empty() {
                return Err(UrlError::Scheme { url: shown() });
            }
            return Ok(Self { location: Location::Directory(text.into()), parameters: BTreeMap::new() });
        };
        let kind = match scheme {
            "http" | "https" => None,
            "s3" => Some(BucketKind::S3),
            "gs" => Some(BucketKind::Google),
            "az" | "azure" => Some(BucketKind::Azure),
            _ => return Err(UrlError::Scheme { url: shown() }),
        };
        let syntax = |reason: String| UrlError::Syntax { url: shown(), reason };
        let mut url = Url::parse(&shown()).map_err(|error| syntax(error.to_string()))?;
        let parameters = parameters(&shown(), url.query().unwrap_or_default())?;
        url.set_query(None);
        url.set_fragment(None);
        let location = match kind {
            None => Location::Http(url),
            Some(kind) => {
                let name = url.host_str().filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| syntax("expected a bucket after the slashes".to_owned()))?.to_owned();
                let prefix = percent_encoding::percent_decode_str(url.path().trim_matches('/')).decode_utf8();
                let prefix = prefix.map_err(|error| syntax(error.to_string()))?.into_owned();
                Location::Bucket { kind, name, prefix }
            }
        };
        Ok(Self { location, parameters })
    }

    /// A cache in memory, that is gone with the last [`Cache`](super::Cache) that was opened on it: for tests.
    pub fn memory() -> Self {
        Self { location: Location::Memory, parameters: BTreeMap::new() }
    }

    /// The directory, if it is one on this machine.
    pub fn directory(&self) -> Option<&std::path::Path> {
        match &self.location {
            Location::Directory(path) => Some(path),
            _ => None,
        }
    }

    /// What a parameter says.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

fn parameters(url: &str, query: &str) -> Result<BTreeMap<String, String>, UrlError> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .map(|(name, value)| {
            let known = REACHING.iter().chain(&NIX).any(|known| *known == name);
            if known {
                Ok((name.into_owned(), value.into_owned()))
            } else {
                Err(UrlError::Parameter { url: url.to_owned(), name: name.into_owned() })
            }
        })
        .collect()
}

/// A path in a message: what could steer a terminal, or begin another line, is escaped.
pub(crate) fn shown(path: &std::path::Path) -> String {
    let mut shown = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        shown.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    shown
}

/// Without parameters, and without what may be secret.
impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Directory(path) => f.write_str(&shown(path)),
            Location::Bucket { kind, name, prefix } => {
                let scheme = match kind {
                    BucketKind::S3 => "s3",
                    BucketKind::Google => "gs",
                    BucketKind::Azure => "az",
                };
                write!(f, "{scheme}://{name}")?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
            }
            Location::Http(url) => {
                let mut shown = url.clone();
                // Only URLs without a host refuse this.
                let _ = (shown.set_username(""), shown.set_password(None));
                f.write_str(shown.as_str())
            }
            Location::Memory => f.write_str("memory"),
        }
    }
}
