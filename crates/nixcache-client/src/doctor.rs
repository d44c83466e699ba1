//! Examines a set-up: the settings of this machine's Nix, keys, and a cache, with advice on what to
//! change.
//!
//! [`examine`] never fails: what it cannot do is a finding. Its messages contain no secrets, so
//! that they can be pasted into an issue. It changes nothing, unless [`DoctorOptions::write`] asks
//! for a probe object, which it removes again.
//!
//! ```no_run
//! use nixcache_client::doctor::{DoctorOptions, Outcome, examine};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = "https://cache.example.org".parse()?;
//! for check in examine(Some(&cache), &DoctorOptions::default()).await {
//!     println!("{}: {}", check.subject, check.message);
//!     assert_ne!(check.outcome, Outcome::Problem);
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::ErrorKind;
use nixcache::narinfo::NarInfoBuf;
use nixcache::signature::SecretKey;
use nixcache::store_path::{HashPart, StoreDir};
use nixcache::trust::{Standing, TrustPolicy, TrustedKeys, Verifier};

use crate::cache::layout::CACHE_INFO;
use crate::cache::{Cache, CacheOptions, CacheUrl, Error, Object, is_web};
use crate::nix_config::NixConfig;
use crate::source::Source;

/// How many paths of a cache are looked at.
const SAMPLE_LEN: usize = 5;

/// The clocks of a server and this machine may differ by less. S3 refuses requests at 15 minutes.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2 * 60);

/// What to examine.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DoctorOptions {
    /// How to reach the cache.
    pub connection: CacheOptions,
    /// The store directory that the cache should be for. By default `/nix/store`.
    pub store_dir: StoreDir,
    /// Keys to sign with. The report says whether Nix on this machine trusts them.
    pub keys: Vec<SecretKey>,
    /// Keys to trust. By default `None`: those that Nix on this machine trusts.
    pub trusted: Option<TrustedKeys>,
    /// Whether to write a probe object into the cache, and remove it again. By default `false`.
    pub write: bool,
}

impl DoctorOptions {
    /// Changes options in a closure, and returns the options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Outcome {
    /// Everything is as it should be.
    Good,
    /// Something that some commands need is missing.
    Warning,
    /// Something is broken.
    Problem,
}

impl Outcome {
    /// The outcome as a word: `ok`, `warning` or `problem`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Check {
    /// What was checked, in one word, such as `nix.conf` or `listing`.
    pub subject: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub message: String,
    /// What to change.
    pub advice: Option<String>,
}

/// Examines the machine, and the cache if there is one.
pub async fn examine(cache: Option<&CacheUrl>, options: &DoctorOptions) -> Vec<Check> {
    let mut report = Report(Vec::new());
    let config = report.settings();
    report.store();
    let configured = config.as_ref().and_then(|config| report.trusted_keys(config));
    report.own_keys(&options.keys, configured.as_ref());
    if let Some(url) = cache {
        if let Some(config) = &config {
            report.netrc(url, config);
        }
        let trusted = options.trusted.as_ref().or(configured.as_ref());
        let is_open = report.cache(url, options, trusted).await;
        if let Some(config) = config.as_ref().filter(|_| is_open) {
            report.substituter(url, config);
        }
    }
    report.0
}

struct Report(Vec<Check>);

impl Report {
    fn good(&mut self, subject: &'static str, message: impl Into<String>) {
        self.0.push(Check { subject, outcome: Outcome::Good, message: message.into(), advice: None });
    }

    fn add(&mut self, subject: &'static str, outcome: Outcome, message: impl Into<String>, advice: impl Into<String>) {
        let advice = Some(advice.into()).filter(|advice| !advice.is_empty());
        self.0.push(Check { subject, outcome, message: message.into(), advice });
    }

    fn settings(&mut self) -> Option<NixConfig> {
        match NixConfig::load() {
            Ok(config) => {
                for file in config.unreadable() {
                    let message = format!("{}: may not be read", file.display());
                    self.add("nix.conf", Outcome::Warning, message, "its settings have no effect for this user");
                }
                let file = config.directory().join("nix.conf");
                let exists = if file.exists() { "read" } else { "there is none, so Nix uses its defaults" };
                self.good("nix.conf", format!("{}: {exists}", file.display()));
                Some(config)
            }
            Err(error) => {
                self.add("nix.conf", Outcome::Problem, error.to_string(), "correct this line, which Nix reads as well");
                None
            }
        }
    }

    fn store(&mut self) {
        let source = match Source::of_environment() {
            Ok(source) => source,
            Err(error) => {
                let advice = "name the source of a push with --from, or unset NIX_REMOTE";
                return self.add("store", Outcome::Warning, error.to_string(), advice);
            }
        };
        match fs::File::open(source.path()) {
            Ok(_) => self.good("store", format!("{source}: readable")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.good("store", format!("{source}: no Nix store here; a push needs --store, --from or --add"));
            }
            Err(error) => {
                let advice = "pushes of store paths need to read this file";
                self.add("store", Outcome::Warning, format!("{source}: {error}"), advice);
            }
        }
    }

    fn trusted_keys(&mut self, config: &NixConfig) -> Option<TrustedKeys> {
        match config.trusted_keys() {
            Ok(keys) => {
                let names: Vec<&str> = keys.iter().map(|key| key.name().as_str()).collect();
                self.good("trusted-public-keys", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
                Some(keys)
            }
            Err(error) => {
                let advice = "correct trusted-public-keys in nix.conf";
                self.add("trusted-public-keys", Outcome::Problem, error.to_string(), advice);
                None
            }
        }
    }

    fn own_keys(&mut self, keys: &[SecretKey], trusted: Option<&TrustedKeys>) {
        for key in keys {
            let public = key.public_key();
            let known = trusted.and_then(|trusted| trusted.get(key.name().as_str()));
            match known.map(|known| known.bytes() == public.bytes()) {
                Some(true) => self.good("key", format!("{}: Nix on this machine trusts it", key.name())),
                Some(false) => self.add(
                    "key",
                    Outcome::Problem,
                    format!("{}: Nix on this machine trusts another key of this name", key.name()),
                    format!("give the key a new name, or set trusted-public-keys to {public}"),
                ),
                None => self.add(
                    "key",
                    Outcome::Warning,
                    format!("{}: Nix on this machine does not trust it", key.name()),
                    format!("add to nix.conf: extra-trusted-public-keys = {public}"),
                ),
            }
        }
    }

    /// Whether Nix on this machine uses the cache.
    fn substituter(&mut self, url: &CacheUrl, config: &NixConfig) {
        let bare = |text: &str| text.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        let name = url.to_string();
        let wanted = match url.directory().map(Path::canonicalize) {
            Some(Ok(directory)) => format!("file://{}", directory.display()),
            _ => name.clone(),
        };
        let used = config.list("substituters", &["https://cache.nixos.org/"]);
        if used.iter().any(|used| bare(used) == bare(&wanted)) {
            return self.good("substituters", "Nix on this machine uses this cache");
        }
        let message = "Nix on this machine does not use this cache";
        // The URL of a bucket is shown without its parameters, which Nix may need.
        let is_bucket = url.directory().is_none() && !name.starts_with("http");
        let wanted = if is_bucket { "the URL of this cache" } else { &wanted };
        let advice = format!("to use it, add to nix.conf: extra-substituters = {wanted}");
        self.add("substituters", Outcome::Warning, message, advice);
    }

    fn netrc(&mut self, url: &CacheUrl, config: &NixConfig) {
        if !url.to_string().starts_with("http") {
            return;
        }
        let file = config.get("netrc-file").map_or_else(|| config.directory().join("netrc"), PathBuf::from);
        match fs::File::open(&file).and_then(|opened| opened.metadata()) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                let message = format!("{}: other users may read the passwords in it", file.display());
                self.add("netrc", Outcome::Warning, message, format!("chmod 600 {}", file.display()));
            }
            Ok(_) => self.good("netrc", format!("{}: readable", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let advice = "its passwords are not used for this user";
                self.add("netrc", Outcome::Warning, format!("{}: {error}", file.display()), advice);
            }
        }
    }

    /// Examines the cache. Returns whether it can be opened.
    async fn cache(&mut self, url: &CacheUrl, options: &DoctorOptions, trusted: Option<&TrustedKeys>) -> bool {
        let opened = Cache::open(url, options.connection.clone()).await;
        let described = match &opened {
            Ok(cache) => cache.head(CACHE_INFO).await,
            Err(_) => Ok(None),
        };
        let cache = match (opened, described) {
            (Err(error), _) | (_, Err(error)) => {
                self.add("cache", Outcome::Problem, error.to_string(), open_advice(url, &error));
                return false;
            }
            (Ok(_), Ok(None)) => {
                let message = format!("{url}: there is no {CACHE_INFO}, so this is no cache");
                self.add("cache", Outcome::Problem, message, "check the spelling; `narutil push` creates a cache");
                return false;
            }
            (Ok(cache), Ok(Some(_))) => cache,
        };
        self.good("cache", format!("{url}: reachable"));
        if *cache.store_dir() == options.store_dir {
            self.good("store-dir", cache.store_dir().to_string());
        } else {
            let message = format!("the cache is for {}, not for {}", cache.store_dir(), options.store_dir);
            self.add("store-dir", Outcome::Problem, message, "name the right cache, or pass --store-dir");
        }
        self.sample(&cache, trusted).await;
        if options.write {
            self.probe(&cache).await;
        }
        true
    }

    /// Looks at a few of the paths that the cache lists.
    async fn sample(&mut self, cache: &Cache, trusted: Option<&TrustedKeys>) {
        let narinfos = cache.list().try_filter_map(async |(name, info)| {
            Ok(if let Object::NarInfo(hash_part) = Object::of(&name) { Some((hash_part, info.modified)) } else { None })
        });
        let mut narinfos = std::pin::pin!(narinfos.take(SAMPLE_LEN));
        let mut listed = Vec::new();
        let mut failure = None;
        while let Some(narinfo) = narinfos.next().await {
            match narinfo {
                Ok(narinfo) => listed.push(narinfo),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        match failure {
            Some(error) => {
                let advice =
                    "gc, audit, roots, ls and info need to list the whole cache; pushes and pulls of paths do not";
                self.add("listing", Outcome::Warning, error.to_string(), advice);
            }
            None if listed.is_empty() => self.good("listing", "the cache is empty"),
            None => self.good("listing", "permitted"),
        }
        if listed.is_empty() {
            return;
        }
        self.clock(listed.iter().filter_map(|(_, modified)| *modified).max());
        let parts: Vec<HashPart> = listed.iter().map(|(part, _)| *part).collect();
        let read: Vec<_> = cache.narinfos(parts).collect().await;
        let mut infos = Vec::new();
        for (_, read) in read {
            match read {
                Ok(Some(info)) => infos.push(info),
                // It was removed after it was listed.
                Ok(None) => {}
                Err(error) => {
                    let advice = match error.kind() {
                        ErrorKind::Denied => "reading objects needs a right of its own, such as s3:GetObject",
                        _ => "`narutil audit` says what is wrong in the whole cache",
                    };
                    return self.add("narinfos", Outcome::Problem, error.to_string(), advice);
                }
            }
        }
        self.good("narinfos", format!("{} of {} read", infos.len(), listed.len()));
        self.nars(cache, &infos).await;
        self.signatures(&infos, trusted);
    }

    async fn nars(&mut self, cache: &Cache, infos: &[NarInfoBuf]) {
        for info in infos.iter().map(NarInfoBuf::as_ref) {
            let found = match cache.nar(&info) {
                Ok(name) if is_web(&name) => continue,
                Ok(name) => cache.head(&name).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let message = format!("{}: the NAR of {} is missing", info.url(), info.store_path());
                    let advice = "`narutil audit --repair` withdraws such paths";
                    return self.add("nars", Outcome::Problem, message, advice);
                }
                Err(error) => return self.add("nars", Outcome::Problem, error.to_string(), ""),
            }
        }
        self.good("nars", "present");
    }

    fn signatures(&mut self, infos: &[NarInfoBuf], trusted: Option<&TrustedKeys>) {
        let Some(trusted) = trusted else { return };
        let policy = TrustPolicy::new(trusted.clone());
        let mut verifier = Verifier::new(&policy);
        let (mut signed, mut unsigned, mut others, mut invalid) = (0, 0, BTreeSet::new(), BTreeSet::new());
        for info in infos {
            let info = info.as_ref();
            let verdict = verifier.verify(&info);
            signed += usize::from(verdict.keys().next().is_some());
            if verdict.is_valid() {
                continue;
            }
            if verdict.signatures().is_empty() {
                unsigned += 1;
            }
            for (name, standing) in verdict.signatures() {
                let names = if *standing == Standing::Unknown { &mut others } else { &mut invalid };
                names.insert((*name).to_owned());
            }
        }
        let names = |names: &BTreeSet<String>| {
            let few = names.iter().take(SAMPLE_LEN).map(|name| name.chars().take(80).collect::<String>());
            few.map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
        };
        if !invalid.is_empty() {
            let message = format!("signatures by {} are not valid", names(&invalid));
            self.add("signatures", Outcome::Problem, message, "`narutil verify` shows them all");
        } else if !others.is_empty() {
            let message = format!("signed by {}, which is not trusted here", names(&others));
            let advice = "ask the owner of the cache for this public key, and add it to trusted-public-keys";
            self.add("signatures", Outcome::Problem, message, advice);
        } else if unsigned > 0 {
            let message = format!("{unsigned} of {} paths are unsigned, and Nix will not accept them", infos.len());
            self.add("signatures", Outcome::Problem, message, "sign them: narutil sign --key FILE CACHE");
        } else if signed > 0 {
            self.good("signatures", "valid, by trusted keys");
        } else {
            self.good("signatures", "content-addressed paths, which need no signature");
        }
    }

    /// Compares the clock of this machine with the time at which the store wrote an object.
    fn clock(&mut self, written: Option<SystemTime>) {
        let ahead = written.and_then(|written| written.duration_since(crate::random::wall_clock()).ok());
        if let Some(ahead) = ahead.filter(|ahead| *ahead > CLOCK_TOLERANCE) {
            let message = format!("an object was written {} s in the future, by this clock", ahead.as_secs());
            let advice = "set the clock of this machine, or of the server; gc relies on ages";
            self.add("clock", Outcome::Problem, message, advice);
        }
    }

    /// Writes an object, and removes it again.
    async fn probe(&mut self, cache: &Cache) {
        let name = format!("nixcache/v1/doctor-{:016x}", crate::random::unique_number());
        if let Err(error) = cache.write(&name, "a probe by `narutil doctor`, which can be removed").await {
            let advice = match error.kind() {
                ErrorKind::Denied => "a push needs to write objects, such as with s3:PutObject",
                _ => "",
            };
            return self.add("write", Outcome::Problem, error.to_string(), advice);
        }
        self.good("write", "permitted");
        match cache.head(&name).await {
            Ok(info) => self.clock_of(info.and_then(|info| info.modified)),
            Err(error) => self.add("write", Outcome::Warning, error.to_string(), "the probe cannot be read back"),
        }
        match cache.delete(&name).await {
            Ok(()) => self.good("delete", "permitted"),
            Err(error) => {
                let advice = format!("pushes work without this right; gc and repair need it. Remove {name} by hand");
                self.add("delete", Outcome::Warning, error.to_string(), advice);
            }
        }
    }

    /// Compares both clocks by an object that was written just now.
    fn clock_of(&mut self, written: Option<SystemTime>) {
        let Some(written) = written else { return };
        let now = crate::random::wall_clock();
        let apart = now.duration_since(written).or_else(|_| written.duration_since(now)).unwrap_or_default();
        if apart < CLOCK_TOLERANCE {
            return self.good("clock", "agrees with that of the store");
        }
        let message = format!("differs by {} s from that of the store", apart.as_secs());
        self.add("clock", Outcome::Problem, message, "set the clocks; gc relies on ages, and S3 refuses old requests");
    }
}

/// What to do if a cache cannot be opened.
fn open_advice(url: &CacheUrl, error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Denied if url.directory().is_some() => "check the permissions of this directory and those above it",
        _ if url.directory().is_some() => "check the spelling; `narutil push` creates a cache",
        ErrorKind::Denied => {
            "check the credentials: AWS_PROFILE or the parameter `profile` for S3, the file netrc for web servers"
        }
        ErrorKind::NotFound => "check the spelling; `narutil push` creates a cache, but no bucket",
        ErrorKind::Unavailable => "check the host name, proxies (HTTPS_PROXY) and certificates (SSL_CERT_FILE)",
        _ => "",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn outcome(checks: &[Check], subject: &str) -> Option<Outcome> {
        checks.iter().filter(|check| check.subject == subject).map(|check| check.outcome).max()
    }

    #[tokio::test]
    async fn a_cache_that_works_has_no_problems_and_a_probe_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let url = CacheUrl::from_directory(directory.path().join("cache"));
        let cache = Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap();
        let options = DoctorOptions::default().with(|options| options.write = true);
        let checks = examine(Some(&url), &options).await;
        for subject in ["cache", "store-dir", "listing", "write", "clock", "delete"] {
            assert_eq!(outcome(&checks, subject), Some(Outcome::Good), "{subject}: {checks:?}");
        }
        let left: Vec<_> = cache.list().try_collect().await.unwrap();
        assert!(left.iter().all(|(name, _)| !name.contains("doctor")), "{left:?}");
    }

    #[tokio::test]
    async fn what_is_broken_is_a_problem_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let missing = CacheUrl::from_directory(directory.path().join("missing"));
        let checks = examine(Some(&missing), &DoctorOptions::default()).await;
        let check = checks.iter().find(|check| check.subject == "cache").unwrap();
        assert!(check.outcome == Outcome::Problem && check.advice.is_some(), "{check:?}");

        let url = CacheUrl::from_directory(directory.path().join("cache"));
        let other = StoreDir::new("/other/store").unwrap();
        let cache = Cache::create(&url, &other, CacheOptions::default()).await.unwrap();
        cache.write("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q.narinfo", "nonsense").await.unwrap();
        let checks = examine(Some(&url), &DoctorOptions::default()).await;
        for subject in ["store-dir", "narinfos"] {
            assert_eq!(outcome(&checks, subject), Some(Outcome::Problem), "{subject}: {checks:?}");
        }
    }
}
