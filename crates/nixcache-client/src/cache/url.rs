//! URLs of caches, in the spelling of Nix.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nixcache::ErrorKind;
use nixcache::compression::{self, Compression, EncodeOptions};
#[cfg(feature = "_network")]
use url::Url;

use crate::redact::{is_name, redacted, shown};

/// The URL of a cache, as a command line names it, in the spelling of Nix.
///
/// | text | |
/// |---|---|
/// | `DIRECTORY`, `file:///DIRECTORY`, `file:/DIRECTORY` | a directory |
/// | `s3://BUCKET[/PREFIX]` | a bucket of S3, or of a server that speaks its protocol |
/// | `gs://BUCKET[/PREFIX]` | a bucket of Google Cloud Storage |
/// | `az://CONTAINER[/PREFIX]` | a container of Azure Blob Storage; the account is in `AZURE_STORAGE_ACCOUNT_NAME` |
/// | `http://HOST/…`, `https://HOST/…` | a web server; to publish there it has to accept `PUT` |
///
/// Parameters follow a question mark, as in Nix. A parameter that has no effect is refused; [`Use`]
/// says when.
///
/// What looks like a slip is refused as well: a word with a colon before the first slash
/// (`s3:/cache`, `host:path`), the names of stores (`daemon`, `local`, `auto`), a `file://` URL
/// with a host, parameters on a plain directory. Put `./` before the name of such a directory, or
/// use [`CacheUrl::from_directory`].
///
/// Neither [`Debug`](fmt::Debug) nor [`Display`](fmt::Display) show passwords or values of
/// parameters.
///
/// ```
/// use std::ffi::OsStr;
/// use nixcache_client::cache::CacheUrl;
///
/// let url = CacheUrl::parse(OsStr::new("s3://cache/team?region=eu-west-1&endpoint=http://127.0.0.1:9000"))?;
/// assert_eq!(url.parameter("region"), Some("eu-west-1"));
/// assert!(CacheUrl::parse(OsStr::new("s3://cache?regoin=eu-west-1")).is_err());
/// assert!(CacheUrl::parse(OsStr::new("s3:/cache")).is_err());
/// # Ok::<(), nixcache_client::cache::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct CacheUrl {
    pub(crate) location: Location,
    parameters: BTreeMap<String, String>,
    /// Whether the caller honours the parameters that say how to publish.
    publishes: bool,
}

impl FromStr for CacheUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(OsStr::new(text))
    }
}

/// Has no `Debug`, since URLs carry passwords.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Location {
    Directory(PathBuf),
    #[cfg(feature = "_network")]
    Bucket {
        kind: BucketKind,
        name: String,
        prefix: String,
    },
    #[cfg(feature = "_network")]
    Http(Url),
    Memory,
    #[cfg(any(test, feature = "testing"))]
    Simulated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketKind {
    S3,
    Google,
    Azure,
}

impl BucketKind {
    /// The feature of this crate that reaches such buckets.
    #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gcs",
            Self::Azure => "azure",
        }
    }

    #[cfg(feature = "_network")]
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

/// Why a text is not the URL of a cache. No message shows passwords or values of parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// There is no such kind of cache.
    #[error("{url}: unknown kind of cache: expected a directory, file://, s3://, gs://, az:// or http(s)://")]
    Scheme {
        /// The text, redacted.
        url: String,
    },
    /// This build reaches no such cache: the crate was compiled without a feature.
    #[error(
        "{url}: this build cannot reach such a cache: it was compiled without the feature `{feature}` of \
         nixcache-client. Build it with that feature"
    )]
    NotCompiled {
        /// The text, redacted.
        url: String,
        /// The feature of this crate that is missing.
        feature: &'static str,
    },
    /// The text is no URL of its kind, or probably a slip.
    #[error("{url}: {reason}")]
    Syntax {
        /// The text, redacted.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A parameter that does not exist, has no effect here, or an invalid value.
    #[error("{url}: parameter `{name}`: {reason}")]
    Parameter {
        /// The text, redacted.
        url: String,
        /// The parameter.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl UrlError {
    /// What kind of failure it is: always [`ErrorKind::Usage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// What a cache is opened for, which decides which parameters its URL may have.
///
/// | parameters | caches | reading | writing |
/// |---|---|---|---|
/// | `priority`, `want-mass-query` | all | override what the cache says | go into the `nix-cache-info` of a new cache |
/// | `store` | all | the cache must be for this store directory | same |
/// | `region`, `profile`, `addressing-style` | S3 | how the bucket is reached | same |
/// | `endpoint`, `scheme` | buckets | how the bucket is reached | same |
/// | `tls-certificate`, `tls-private-key` | servers | the client certificate | same |
/// | `multipart-chunk-size`, `storage-class` | buckets | ignored | how objects are uploaded |
/// | `compression`, `compression-level`, `secret-key`, `secret-keys`, `index-debug-info` | all | ignored | honoured by `push` |
/// | `parallel-compression`, `write-nar-listing=true` | all | ignored | what `push` does anyway |
/// | `multipart-upload=true`, `buffer-size` | S3 | ignored | `multipart-upload=true` only |
/// | `multipart-threshold`, `narinfo-compression`, `ls-compression`, `log-compression`, `path-info-cache-size` | all | ignored | refused |
///
/// "Ignored" are parameters that tell Nix how to write or how to cache, and that change nothing for
/// a reader: one URL serves for `nix.conf` and here. All others are refused, those of Nix among
/// them that would change what a reader gets (`trusted`, `local-nar-cache`) or that belong to other
/// kinds of stores (`root`, `real`, `state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// [`Cache::open`](super::Cache::open).
    Read,
    /// [`Cache::create`](super::Cache::create).
    Write,
}

/// What a parameter does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Honoured,
    /// It is honoured by those who publish paths.
    Publishing,
    /// This is what is done anyway.
    IfTrue,
    /// There is nothing to do for it.
    Ignored,
    None,
}

/// Kinds of caches, as bits.
const DIRECTORY: u8 = 1;
const S3: u8 = 2;
const OTHER_BUCKETS: u8 = 4;
const WEB: u8 = 8;
const BUCKETS: u8 = S3 | OTHER_BUCKETS;
const SERVERS: u8 = BUCKETS | WEB;
const ALL: u8 = DIRECTORY | SERVERS;

/// Each parameter, the kinds of caches that have it, and its effect for those who read and for
/// those who write.
const PARAMETERS: [(&str, u8, Effect, Effect); 26] = {
    use Effect::{Honoured, IfTrue, Ignored, None, Publishing};
    [
        ("addressing-style", S3, Honoured, Honoured),
        ("buffer-size", S3, Ignored, None),
        ("compression", ALL, Ignored, Publishing),
        ("compression-level", ALL, Ignored, Publishing),
        ("endpoint", BUCKETS, Honoured, Honoured),
        ("index-debug-info", ALL, Ignored, Publishing),
        ("log-compression", ALL, Ignored, None),
        ("ls-compression", ALL, Ignored, None),
        ("multipart-chunk-size", BUCKETS, Ignored, Honoured),
        ("multipart-threshold", S3, Ignored, None),
        ("multipart-upload", S3, Ignored, IfTrue),
        ("narinfo-compression", ALL, Ignored, None),
        ("parallel-compression", ALL, Ignored, Ignored),
        ("path-info-cache-size", ALL, Ignored, None),
        ("priority", ALL, Honoured, Honoured),
        ("profile", S3, Honoured, Honoured),
        ("region", S3, Honoured, Honoured),
        ("scheme", BUCKETS, Honoured, Honoured),
        ("secret-key", ALL, Ignored, Publishing),
        ("secret-keys", ALL, Ignored, Publishing),
        ("storage-class", BUCKETS, Ignored, Honoured),
        ("store", ALL, Honoured, Honoured),
        ("tls-certificate", SERVERS, Honoured, Honoured),
        ("tls-private-key", SERVERS, Honoured, Honoured),
        ("want-mass-query", ALL, Honoured, Honoured),
        ("write-nar-listing", ALL, Ignored, IfTrue),
    ]
};

/// Parameters of Nix that are refused, and why.
const REFUSED: [(&str, &str); 8] = [
    ("local-nar-cache", "is not supported"),
    ("max-connections", "has no effect: the number of requests at a time is an option"),
    ("real", "belongs to a store, not to a binary cache"),
    ("require-sigs", "has no effect: which signatures are wanted is an option of the command"),
    ("root", "belongs to a store, not to a binary cache"),
    ("state", "belongs to a store, not to a binary cache"),
    ("system-features", "has no effect on a binary cache"),
    ("trusted", "has no effect: which signatures are wanted is an option of the command"),
];

impl CacheUrl {
    /// Reads what a user calls a cache. Nothing is looked for yet.
    pub fn parse(text: &OsStr) -> Result<Self, UrlError> {
        let bytes = text.as_bytes();
        let lossy = text.to_string_lossy();
        let syntax = |reason: &str| UrlError::Syntax { url: redacted(&lossy), reason: reason.to_owned() };
        if bytes.is_empty() {
            return Err(UrlError::Scheme { url: "an empty text".to_owned() });
        }
        if let Some(rest) = bytes.strip_prefix(b"file:") {
            return Self::parse_file(&lossy, rest);
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        let slash = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
        let Some(colon) = colon.filter(|colon| *colon < slash) else {
            return Self::parse_directory(text);
        };
        if !bytes[colon..].starts_with(b"://") {
            return Err(syntax(
                "a colon before the first slash: a URL has two slashes after it, as in s3://BUCKET or https://HOST; \
                 for a directory of this name write ./ before it",
            ));
        }
        let known = |scheme: &[u8]| match scheme {
            b"http" | b"https" => Some(None),
            b"s3" => Some(Some(BucketKind::S3)),
            b"gs" => Some(Some(BucketKind::Google)),
            b"az" | b"azure" => Some(Some(BucketKind::Azure)),
            _ => None,
        };
        let Some(kind) = known(&bytes[..colon]) else {
            if known(&bytes[..colon].to_ascii_lowercase()).is_some() {
                return Err(syntax("the scheme is written in lower case"));
            }
            return Err(UrlError::Scheme { url: redacted(&lossy) });
        };
        Self::parse_server(text, kind)
    }

    /// The URL of a web server, or of a bucket of this kind.
    #[cfg(not(feature = "_network"))]
    fn parse_server(text: &OsStr, kind: Option<BucketKind>) -> Result<Self, UrlError> {
        let feature = kind.map_or("http", BucketKind::feature);
        Err(UrlError::NotCompiled { url: redacted(&text.to_string_lossy()), feature })
    }

    /// The URL of a web server, or of a bucket of this kind.
    #[cfg(feature = "_network")]
    fn parse_server(text: &OsStr, kind: Option<BucketKind>) -> Result<Self, UrlError> {
        let lossy = text.to_string_lossy();
        let syntax = |reason: &str| UrlError::Syntax { url: redacted(&lossy), reason: reason.to_owned() };
        let text = text.to_str().ok_or_else(|| syntax("not UTF-8"))?;
        let bytes = text.as_bytes();
        let colon = text.find(':').unwrap_or_default();
        if bytes.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
            return Err(syntax("has blanks or control characters"));
        }
        if matches!(bytes.get(colon + 3), None | Some(b'/' | b'?')) {
            return Err(syntax(if kind.is_some() {
                "expected a bucket after the slashes"
            } else {
                "expected a host after the slashes"
            }));
        }
        let mut url = Url::parse(text).map_err(|error| syntax(&error.to_string()))?;
        if url.fragment().is_some() {
            return Err(syntax("a fragment (#) has no effect: as part of a name it is written %23"));
        }
        let parameters = parameters(text, url.query().unwrap_or_default())?;
        url.set_query(None);
        let location = match kind {
            None => Location::Http(url),
            Some(kind) => {
                if !url.username().is_empty() || url.password().is_some() {
                    return Err(syntax(
                        "user and password have no place in the URL of a bucket: give credentials in the environment, or \
                         profile=… for S3",
                    ));
                }
                if url.port().is_some() {
                    return Err(syntax("the URL of a bucket has no port: use endpoint=…"));
                }
                let name = url.host_str().unwrap_or_default().to_owned();
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'$');
                if name.is_empty() || !name.bytes().all(is_plain) {
                    return Err(syntax("no name of a bucket"));
                }
                let prefix = percent_encoding::percent_decode_str(url.path().trim_matches('/')).decode_utf8();
                let prefix = prefix.map_err(|error| syntax(&error.to_string()))?.into_owned();
                Location::Bucket { kind, name, prefix }
            }
        };
        Self { location, parameters, publishes: false }.checked(text)
    }

    /// What follows `file:`.
    fn parse_file(text: &str, rest: &[u8]) -> Result<Self, UrlError> {
        let syntax = |reason: &str| UrlError::Syntax { url: redacted(text), reason: reason.to_owned() };
        let path = match rest.strip_prefix(b"//") {
            Some(path) if path.starts_with(b"/") => path,
            Some(_) => {
                return Err(syntax("file:// has no host: a directory is file:///DIRECTORY, from the root on"));
            }
            None if rest.starts_with(b"/") => rest,
            None => return Err(syntax("file: takes a directory from the root on, as in file:///DIRECTORY")),
        };
        let end = path.iter().position(|byte| *byte == b'?').unwrap_or(path.len());
        if path[..end].contains(&b'#') {
            return Err(syntax("a fragment (#) has no effect: as part of a name it is written %23"));
        }
        let parameters = match path.get(end + 1..) {
            Some(query) => parameters(text, &String::from_utf8_lossy(query))?,
            None => BTreeMap::new(),
        };
        // As in Nix, what is escaped in the path means what it means in any URL.
        let path: Vec<u8> = percent_encoding::percent_decode(&path[..end]).collect();
        if path.contains(&0) {
            return Err(syntax("no path of a directory"));
        }
        let location = Location::Directory(OsStr::from_bytes(&path).into());
        Self { location, parameters, publishes: false }.checked(text)
    }

    /// A directory, unless it is probably a slip.
    fn parse_directory(text: &OsStr) -> Result<Self, UrlError> {
        let lossy = text.to_string_lossy();
        let syntax = |reason: &str| UrlError::Syntax { url: redacted(&lossy), reason: reason.to_owned() };
        let bytes = text.as_bytes();
        if bytes == b"-" || bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(syntax("is no cache: a directory of this name is written with ./ before it"));
        }
        let word = bytes.split(|byte| *byte == b'?').next().unwrap_or_default();
        if [&b"auto"[..], b"daemon", b"local"].contains(&word) {
            return Err(syntax(
                "names a store of Nix, not a binary cache; for a directory of this name write ./ before it",
            ));
        }
        if bytes.contains(&b'?') {
            return Err(syntax(
                "a plain directory has no parameters: write file:///DIRECTORY?…, or %3F there for a question mark in a name",
            ));
        }
        if bytes.starts_with(b"~") || bytes.starts_with(b"$") {
            return Err(syntax("was not expanded by the shell; for a directory of this name write ./ before it"));
        }
        Ok(Self::from_directory(text))
    }

    /// A directory of any name, also of one that looks like a slip.
    pub fn from_directory(path: impl Into<PathBuf>) -> Self {
        Self { location: Location::Directory(path.into()), parameters: BTreeMap::new(), publishes: false }
    }

    /// A new cache in memory, which ends with the last clone of the [`Cache`](super::Cache) that is
    /// opened by it: for tests.
    pub fn memory() -> Self {
        Self { location: Location::Memory, parameters: BTreeMap::new(), publishes: false }
    }

    /// A cache in the [simulated store](crate::testing::SimulatedStore).
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated() -> Self {
        Self { location: Location::Simulated, parameters: BTreeMap::new(), publishes: false }
    }

    /// The directory, if it is one on this machine.
    pub fn directory(&self) -> Option<&Path> {
        match &self.location {
            Location::Directory(path) => Some(path),
            _ => None,
        }
    }

    /// Whether it outlasts this process.
    pub(crate) fn is_outside_memory(&self) -> bool {
        match self.location {
            Location::Memory => false,
            #[cfg(any(test, feature = "testing"))]
            Location::Simulated => false,
            _ => true,
        }
    }

    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// How NARs are compressed by the parameters `compression` and `compression-level`. `None` if
    /// the URL has neither. A level of -1 is the default level, as in Nix.
    ///
    /// ```
    /// use nixcache_client::cache::CacheUrl;
    ///
    /// let url: CacheUrl = "file:///srv/cache?compression=xz&compression-level=9".parse()?;
    /// assert_eq!(url.compression()?.map(|options| options.to_string()), Some("xz:9".to_owned()));
    /// # Ok::<(), nixcache_client::cache::UrlError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if this build has no such compression, or if the compression has no such
    /// level.
    pub fn compression(&self) -> Result<Option<EncodeOptions>, UrlError> {
        const NAME: &str = "compression";
        const LEVEL: &str = "compression-level";
        let refused =
            |name: &str, reason: String| UrlError::Parameter { url: self.to_string(), name: name.to_owned(), reason };
        let (name, level) = (self.parameter(NAME), self.parameter(LEVEL).filter(|level| *level != "-1"));
        if name.is_none() && level.is_none() {
            return Ok(None);
        }
        let compression: Compression = match name {
            Some(name) => name.parse().map_err(|error: compression::Error| refused(NAME, error.to_string()))?,
            None => Compression::Zstd,
        };
        let Some(level) = level else { return Ok(Some(EncodeOptions::new(compression))) };
        let level: u32 = level.parse().map_err(|_| refused(LEVEL, "must be a number".to_owned()))?;
        let options = format!("{compression}:{level}").parse();
        options.map(Some).map_err(|error: compression::Error| refused(LEVEL, error.to_string()))
    }

    /// The files with the secret keys that sign what is published, by the parameters `secret-key`
    /// and `secret-keys`. The latter has several files, separated by commas.
    pub fn secret_key_files(&self) -> Vec<PathBuf> {
        let several = self.parameter("secret-keys").into_iter().flat_map(|files| files.split(','));
        let files = self.parameter("secret-key").into_iter().chain(several);
        files.filter(|file| !file.is_empty()).map(PathBuf::from).collect()
    }

    /// Whether a push indexes debug information, by the parameter `index-debug-info`.
    pub fn indexes_debug_info(&self) -> bool {
        self.parameter("index-debug-info").and_then(boolean).unwrap_or(false)
    }

    /// Says that the caller honours the parameters that tell how paths are published:
    /// `compression`, `compression-level`, `secret-key`, `secret-keys` and `index-debug-info`.
    /// Otherwise [`Cache::create`](super::Cache::create) refuses them.
    #[must_use]
    pub fn for_publishing(self) -> Self {
        Self { publishes: true, ..self }
    }

    /// Refuses parameters that have no effect on this use.
    pub fn check(&self, what: Use) -> Result<(), UrlError> {
        for (name, value) in &self.parameters {
            let Some((_, _, reading, writing)) = PARAMETERS.iter().find(|parameter| parameter.0 == name) else {
                continue;
            };
            let refused = |reason: &str| {
                let (name, reason) = (name.clone(), reason.to_owned());
                Err(UrlError::Parameter { url: self.to_string(), name, reason })
            };
            match if what == Use::Read { reading } else { writing } {
                Effect::Publishing if !self.publishes => {
                    return refused("has an effect where store paths are published, and not here");
                }
                Effect::IfTrue if !matches!(boolean(value), Some(true)) => return refused("can only be true here"),
                Effect::None if !matches!(value.as_str(), "" | "none") => {
                    return refused("has no effect when the cache is written to");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The parameter `priority`.
    pub(crate) fn priority(&self) -> Option<i32> {
        self.parameter("priority")?.parse().ok()
    }

    /// The parameter `want-mass-query`.
    pub(crate) fn want_mass_query(&self) -> Option<bool> {
        boolean(self.parameter("want-mass-query")?)
    }

    fn kind(&self) -> (u8, &'static str) {
        match &self.location {
            Location::Directory(_) | Location::Memory => (DIRECTORY, "a directory"),
            #[cfg(any(test, feature = "testing"))]
            Location::Simulated => (DIRECTORY, "a directory"),
            #[cfg(feature = "_network")]
            Location::Bucket { kind: BucketKind::S3, .. } => (S3, "a bucket of S3"),
            #[cfg(feature = "_network")]
            Location::Bucket { kind: BucketKind::Google, .. } => (OTHER_BUCKETS, "a bucket of Google"),
            #[cfg(feature = "_network")]
            Location::Bucket { kind: BucketKind::Azure, .. } => (OTHER_BUCKETS, "a container of Azure"),
            #[cfg(feature = "_network")]
            Location::Http(_) => (WEB, "a web server"),
        }
    }

    /// Refuses parameters that this kind of cache does not have, and values that none can have.
    fn checked(self, text: &str) -> Result<Self, UrlError> {
        let (kind, shown) = self.kind();
        for (name, value) in &self.parameters {
            let refused = |reason: String| {
                let name = if is_name(name) { name.clone() } else { "…".to_owned() };
                UrlError::Parameter { url: redacted(text), name, reason }
            };
            if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == name) {
                return Err(refused((*reason).to_owned()));
            }
            let parameter = PARAMETERS.iter().find(|parameter| parameter.0 == name);
            let (_, kinds, reading, _) = parameter.ok_or_else(|| refused("no cache has it".to_owned()))?;
            if kinds & kind == 0 {
                return Err(refused(format!("has no effect on {shown}")));
            }
            if *reading != Effect::Honoured {
                continue;
            }
            let expected = match name.as_str() {
                _ if value.is_empty() => Some("is empty"),
                "priority" if value.parse::<i32>().is_err() => Some("must be an integer"),
                "want-mass-query" if boolean(value).is_none() => Some("must be true or false"),
                "scheme" if !matches!(value.as_str(), "http" | "https") => Some("must be http or https"),
                "addressing-style" if !matches!(value.as_str(), "auto" | "path" | "virtual") => {
                    Some("must be auto, path or virtual")
                }
                "region" if !is_region(value) => Some("is no region"),
                "store" if nixcache::store_path::StoreDir::new(value).is_err() => Some("is no store directory"),
                "tls-private-key" if !self.parameters.contains_key("tls-certificate") => {
                    Some("needs tls-certificate as well")
                }
                "scheme" if kind != S3 && !self.parameters.contains_key("endpoint") => Some("needs endpoint as well"),
                _ => None,
            };
            if let Some(reason) = expected {
                return Err(refused(reason.to_owned()));
            }
        }
        Ok(self)
    }
}

/// Whether a text can be part of the name of a host, as a region is.
pub(crate) fn is_region(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// As Nix reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn parameters(url: &str, query: &str) -> Result<BTreeMap<String, String>, UrlError> {
    let mut parameters = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let name = name.into_owned();
        if parameters.insert(name.clone(), value.into_owned()).is_some() {
            let name = if is_name(&name) { name } else { "…".to_owned() };
            return Err(UrlError::Parameter { url: redacted(url), name, reason: "is given twice".to_owned() });
        }
    }
    Ok(parameters)
}

/// Without parameters, user and password.
impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Directory(path) => f.write_str(&shown(path)),
            #[cfg(feature = "_network")]
            Location::Bucket { kind, name, prefix } => {
                write!(f, "{}://{name}", kind.scheme())?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{}", shown(Path::new(prefix))) }
            }
            #[cfg(feature = "_network")]
            Location::Http(url) => f.write_str(without_user(url).as_str()),
            Location::Memory => f.write_str("memory"),
            #[cfg(any(test, feature = "testing"))]
            Location::Simulated => f.write_str("memory"),
        }
    }
}

/// A URL without user and password.
#[cfg(feature = "_network")]
pub(crate) fn without_user(url: &Url) -> Url {
    let mut shown = url.clone();
    // Only URLs without a host refuse this.
    let _ = (shown.set_username(""), shown.set_password(None));
    shown
}

/// Parameters are named only.
impl fmt::Debug for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheUrl")
            .field("url", &self.to_string())
            .field("parameters", &self.parameters.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
