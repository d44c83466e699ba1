//! The settings of this machine's Nix: `nix.conf`, the files of the user, and `NIX_CONFIG`.
//!
//! They are read as Nix 2.34 reads them: `nix.conf` in `NIX_CONF_DIR` (else `/etc/nix`), then the
//! files of the user (`NIX_USER_CONF_FILES`, else `nix/nix.conf` below `XDG_CONFIG_DIRS` and
//! `XDG_CONFIG_HOME`), then the text of `NIX_CONFIG`. Later ones win. `include FILE` and `!include
//! FILE` are followed, and `extra-NAME = …` adds to a list.
//!
//! [`trusted_keys`] is what the option `--trusted` of `narutil` reads: keys, a file of keys, or the
//! word `nix.conf`.
//!
//! ```no_run
//! use nixcache_client::nix_config::NixConfig;
//!
//! let config = NixConfig::load()?;
//! let netrc = config.get("netrc-file").map(std::path::PathBuf::from);
//! let trusted = config.trusted_keys()?;
//! # Ok::<(), nixcache_client::nix_config::Error>(())
//! ```

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nixcache::ErrorKind;
use nixcache::signature::{self, PublicKey};
use nixcache::trust::TrustedKeys;

use crate::redact::shown;

/// What a machine trusts where its settings name no key: the key of cache.nixos.org, as in Nix.
const DEFAULT_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// The most that a file of settings or of keys may hold.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How deep files may include each other: a file that includes itself ends there.
const INCLUDE_DEPTH_MAX: usize = 32;

/// Why settings or keys could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: {error}", shown(file))]
    Io {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// A line is no setting.
    #[error("{origin}: line {line}: {reason}")]
    Line {
        /// The file, or `NIX_CONFIG`.
        origin: String,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A key is not written as keys are.
    #[error("{origin}: {error}")]
    Key {
        /// The file, or the name of the setting.
        origin: String,
        /// What is wrong.
        #[source]
        error: signature::Error,
    },
    /// An argument is neither keys nor a file.
    #[error("{argument}: neither a file nor a public key: {error}")]
    Neither {
        /// The argument.
        argument: String,
        /// Why it is not a key.
        #[source]
        error: signature::Error,
    },
    /// An argument is a key, but not one that can be trusted, or is damaged. The message does not
    /// show it.
    #[error("this is not a public key to trust: {0}")]
    Argument(#[source] signature::Error),
    /// An argument is a store path.
    #[error("{path}: this is a store path, not a key. The option takes one value; repeat it for more")]
    StorePath {
        /// The path.
        path: String,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { error, .. } => ErrorKind::of_io(error),
            _ => ErrorKind::Usage,
        }
    }
}

/// The settings, by their names.
#[derive(Clone, Debug, Default)]
pub struct NixConfig {
    directory: PathBuf,
    values: BTreeMap<String, String>,
    /// What `extra-NAME` adds to settings that nothing sets.
    extra: BTreeMap<String, String>,
    unreadable: Vec<PathBuf>,
    /// Whether lines and files that are no settings are passed over.
    is_lenient: bool,
}

impl NixConfig {
    /// Reads the settings of this machine, for the user who runs the program.
    ///
    /// A file that is not there, or may not be read, is passed over, as in Nix.
    /// [`unreadable`](Self::unreadable) names the latter.
    pub fn load() -> Result<Self, Error> {
        Self::load_from(|name| std::env::var_os(name))
    }

    /// Reads those settings of this machine that can be read. A mistake elsewhere in
    /// `nix.conf` must not keep a cache from being opened.
    pub(crate) fn load_leniently() -> Self {
        Self::leniently_from(|name| std::env::var_os(name))
    }

    fn leniently_from(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut config = Self { is_lenient: true, ..Self::default() };
        if let Err(error) = config.read_all(variable) {
            tracing::debug!("{error}");
        }
        config
    }

    /// Reads the settings under other environment variables than those of this process.
    pub fn load_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let mut config = Self::default();
        config.read_all(variable)?;
        Ok(config)
    }

    fn read_all(&mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<(), Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        self.directory = set("NIX_CONF_DIR").map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from);
        let read = self.read_file(&self.directory.join("nix.conf"), true, 0);
        self.unless_lenient(read)?;
        let home = set("HOME").map(PathBuf::from);
        let user_files: Vec<PathBuf> = if let Some(files) = variable("NIX_USER_CONF_FILES") {
            std::env::split_paths(&files).collect()
        } else {
            let own = set("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home.map(|home| home.join(".config")));
            let others = set("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
            let directories = own.into_iter().chain(std::env::split_paths(&others));
            directories.map(|directory| directory.join("nix/nix.conf")).collect()
        };
        // The first is the most important one, so it is read last.
        for file in user_files.iter().rev().filter(|file| !file.as_os_str().is_empty()) {
            let read = self.read_file(file, true, 0);
            self.unless_lenient(read)?;
        }
        match variable("NIX_CONFIG") {
            Some(text) => self.apply(&text.to_string_lossy(), "NIX_CONFIG", Path::new("."), 0),
            None => Ok(()),
        }
    }

    /// The result, or success with what was read if mistakes are passed over.
    fn unless_lenient(&self, read: Result<(), Error>) -> Result<(), Error> {
        match read {
            Err(error) if self.is_lenient => {
                tracing::debug!("{error}");
                Ok(())
            }
            read => read,
        }
    }

    /// The directory of `nix.conf`, which has also `netrc` and `machines`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The value of a setting, if something sets it: words with single blanks between them.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The words of a setting that is a list: those that were set, else these defaults; then what
    /// `extra-NAME` adds.
    pub fn list(&self, name: &str, default: &[&str]) -> Vec<String> {
        let words = |text: &String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut list = self.values.get(name).map(words);
        let list = list.get_or_insert_with(|| default.iter().map(|word| (*word).to_owned()).collect());
        list.extend(self.extra.get(name).map(words).unwrap_or_default());
        std::mem::take(list)
    }

    /// Files of settings that are there and may not be read.
    pub fn unreadable(&self) -> &[PathBuf] {
        &self.unreadable
    }

    /// The keys whose signatures Nix accepts on this machine: `trusted-public-keys`, and the key of
    /// cache.nixos.org if that is not set.
    pub fn trusted_keys(&self) -> Result<TrustedKeys, Error> {
        const NAME: &str = "trusted-public-keys";
        let parse = |word: &String| {
            PublicKey::parse(word).map_err(|error| Error::Key { origin: format!("{NAME} of nix.conf"), error })
        };
        self.list(NAME, &[DEFAULT_KEY]).iter().map(parse).collect()
    }

    fn read_file(&mut self, file: &Path, may_be_absent: bool, depth: usize) -> Result<(), Error> {
        let text = match read(file) {
            Ok(text) => text,
            Err(error) if may_be_absent => {
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    tracing::debug!("{}: {error}", shown(file));
                    self.unreadable.push(file.to_owned());
                }
                return Ok(());
            }
            Err(error) => return Err(Error::Io { file: file.to_owned(), error }),
        };
        self.apply(&text, &shown(file), file.parent().unwrap_or(Path::new(".")), depth)
    }

    /// Takes settings over the present ones. Files that they include are relative to `directory`.
    fn apply(&mut self, text: &str, origin: &str, directory: &Path, depth: usize) -> Result<(), Error> {
        for (number, line) in (1..).zip(text.lines()) {
            let wrong =
                |reason: &str| Error::Line { origin: origin.to_owned(), line: number, reason: reason.to_owned() };
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words {
                [] => {}
                ["include" | "!include", file] => {
                    if depth == INCLUDE_DEPTH_MAX {
                        return Err(wrong("files include each other too deeply"));
                    }
                    let may_be_absent = self.is_lenient || words[0] == "!include";
                    self.read_file(&directory.join(file), may_be_absent, depth + 1)?;
                }
                [name, "=", ref value @ ..] => self.set(name, &value.join(" ")),
                _ => self.unless_lenient(Err(wrong("expected NAME = VALUE")))?,
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) {
        let main = |name: &str| match name {
            // Their old names.
            "binary-cache-public-keys" => "trusted-public-keys".to_owned(),
            "binary-caches" => "substituters".to_owned(),
            name => name.to_owned(),
        };
        if let Some(name) = name.strip_prefix("extra-") {
            let extra = self.extra.entry(main(name)).or_default();
            if !extra.is_empty() {
                extra.push(' ');
            }
            extra.push_str(value);
        } else {
            let name = main(name);
            // As in Nix, what was added before goes with what it was added to.
            self.extra.remove(&name);
            self.values.insert(name, value.to_owned());
        }
    }
}

/// The keys that an argument means: `name:base64`, several of them separated by blanks, a file that
/// holds keys or lines of nix.conf, or the word `nix.conf` for the keys that this machine's Nix
/// trusts. (A file of that name is `./nix.conf`.)
///
/// No error shows what may be a secret key.
pub fn trusted_keys(argument: &OsStr) -> Result<TrustedKeys, Error> {
    // Always the word: which keys count must not depend on the files of the current directory.
    if argument == "nix.conf" {
        let config = NixConfig::load()?;
        for file in config.unreadable() {
            tracing::warn!("{}: may not be read; keys that it names are not trusted", shown(file));
        }
        return config.trusted_keys();
    }
    let file = Path::new(argument);
    let text = argument.to_string_lossy();
    let is_key = signature::looks_like_key(&text);
    let as_text = match TrustedKeys::parse(&text) {
        Ok(keys) => return Ok(keys),
        Err(error) => error,
    };
    let is_there = std::fs::symlink_metadata(file).is_ok();
    if is_key && !is_there {
        return Err(Error::Argument(as_text));
    }
    if nixcache::store_path::StoreDir::default().parse(&*text).is_ok() && !file.is_file() {
        return Err(Error::StorePath { path: shown(file) });
    }
    match read(file) {
        Ok(text) => TrustedKeys::parse(&text).map_err(|error| Error::Key { origin: shown(file), error }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Neither { argument: shown(file), error: as_text })
        }
        Err(error) => Err(Error::Io { file: file.to_owned(), error }),
    }
}

/// Reads a text file, which is not large.
fn read(file: &Path) -> io::Result<String> {
    use rustix::fs::{Mode, OFlags};
    // Opening a pipe waits for no writer; reading one waits for what its writers write.
    let opened = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    let opened = std::fs::File::from(opened);
    let metadata = opened.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    rustix::fs::fcntl_setfl(&opened, OFlags::empty())?;
    let mut text = Vec::new();
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "this is too large for a file of settings or keys"));
    }
    String::from_utf8(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}

/// Where Nix keeps the database of its store: `db/db.sqlite` in the directory that `NIX_STATE_DIR`
/// names, or in `/nix/var/nix`.
pub(crate) fn default_database_file() -> PathBuf {
    let state = std::env::var_os("NIX_STATE_DIR").filter(|state| !state.is_empty());
    PathBuf::from(state.unwrap_or_else(|| "/nix/var/nix".into())).join("db/db.sqlite")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::*;

    const A: &str = "a-1:eGVygzLgOmO2RCtC75jusdS+/R6cUDK4PXD2Tl9VGlA=";
    const B: &str = "b-1:X/m/tz+PLK+6Ym3Vm9oOtIA70mLt8UD/buxjlzaRMhw=";

    struct Machine {
        directory: tempfile::TempDir,
        variables: HashMap<&'static str, OsString>,
    }

    impl Machine {
        fn new(conf: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("nix.conf"), conf).unwrap();
            let variables = HashMap::from([
                ("NIX_CONF_DIR", directory.path().into()),
                ("HOME", directory.path().into()),
                ("XDG_CONFIG_DIRS", directory.path().join("xdg").into()),
            ]);
            Self { directory, variables }
        }

        fn with(mut self, variable: &'static str, value: impl Into<OsString>) -> Self {
            self.variables.insert(variable, value.into());
            self
        }

        fn file(self, name: &str, text: &str) -> Self {
            let file = self.directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            self
        }

        fn config(&self) -> Result<NixConfig, Error> {
            NixConfig::load_from(|name| self.variables.get(name).cloned())
        }

        fn names(&self) -> Vec<String> {
            let keys = self.config().unwrap().trusted_keys().unwrap();
            keys.iter().map(|key| key.name().to_string()).collect()
        }
    }

    #[test]
    fn settings_are_read_in_the_order_in_which_nix_reads_them() {
        let machine = Machine::new("netrc-file = /one # a comment\ncores   =  4\n")
            .file("xdg/nix/nix.conf", "netrc-file = /two\n")
            .file(".config/nix/nix.conf", "netrc-file = /three\nempty =\n");
        let config = machine.config().unwrap();
        assert_eq!(
            ["netrc-file", "cores", "empty"].map(|name| config.get(name)),
            [Some("/three"), Some("4"), Some("")]
        );
        assert_eq!(config.get("other"), None);
        assert_eq!(config.directory(), machine.directory.path());
        let machine = machine.with("NIX_CONFIG", "netrc-file = /four");
        assert_eq!(machine.config().unwrap().get("netrc-file"), Some("/four"));
        let machine = machine.with("NIX_CONFIG", "").with("NIX_USER_CONF_FILES", "");
        assert_eq!(machine.config().unwrap().get("netrc-file"), Some("/one"));
    }

    #[test]
    fn the_trusted_keys_are_those_of_nix() {
        let default = "cache.nixos.org-1";
        assert_eq!(Machine::new("").names(), [default]);
        assert_eq!(Machine::new(&format!("trusted-public-keys = {A} {B}\n")).names(), ["a-1", "b-1"]);
        assert_eq!(Machine::new(&format!("extra-trusted-public-keys = {A}\n")).names(), [default, "a-1"]);
        let machine = Machine::new(&format!("binary-cache-public-keys = {A}\n!include keys.conf\n!include absent\n"))
            .file("keys.conf", &format!("extra-trusted-public-keys = {B}\n"));
        assert_eq!(machine.names(), ["a-1", "b-1"]);
        let machine = machine.with("NIX_CONFIG", format!("trusted-public-keys = {B}\n"));
        assert_eq!(machine.names(), ["b-1"]);
        let bad = Machine::new("trusted-public-keys = nonsense\n").config().unwrap();
        assert!(matches!(bad.trusted_keys(), Err(Error::Key { .. })));
    }

    #[test]
    fn what_is_no_setting_is_an_error_that_names_file_and_line() {
        for (text, reason) in [("\ncores 4\n", "NAME = VALUE"), ("\ninclude nix.conf\n", "too deeply")] {
            let error = Machine::new(text).config().unwrap_err().to_string();
            assert!(error.contains("nix.conf: line 2: ") && error.contains(reason), "{error}");
        }
        let error = Machine::new("include absent\n").config().unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        // Nix reads no settings from what is no file, nor do we wait for a writer.
        let machine = Machine::new("");
        fs::remove_file(machine.directory.path().join("nix.conf")).unwrap();
        fs::create_dir(machine.directory.path().join("nix.conf")).unwrap();
        assert_eq!(machine.config().unwrap().unreadable().len(), 1);
    }

    #[test]
    fn a_mistake_in_a_file_hides_no_setting_from_what_reads_leniently() {
        let machine = Machine::new("one = 1\nnonsense\ninclude absent\nincluded = no\n!include more.conf\n")
            .file("more.conf", "included =  a   b\n!include more.conf\n!include more.conf\n")
            .file(".config/nix/nix.conf", "two = 2\ntoo much\n")
            .with("NIX_CONFIG", "what is this\nthree = 3\n");
        let config = NixConfig::leniently_from(|name| machine.variables.get(name).cloned());
        assert_eq!(
            ["one", "included", "two", "three"].map(|name| config.get(name)),
            [Some("1"), Some("a b"), Some("2"), Some("3")]
        );
        assert_eq!(config.directory(), machine.directory.path());
        assert!(machine.config().is_err());
    }

    #[test]
    fn an_argument_is_keys_or_a_file_of_keys() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        let count = |argument: &OsStr| trusted_keys(argument).map(|keys| keys.iter().len());
        assert_eq!(count(A.as_ref()).unwrap(), 1);
        assert_eq!(count(format!("{A}\n{B}").as_ref()).unwrap(), 2);
        fs::write(&file, format!("# two\ntrusted-public-keys = {A} {B}\n")).unwrap();
        assert_eq!(count(file.as_os_str()).unwrap(), 2);
        fs::write(&file, "").unwrap();
        assert!(matches!(count(file.as_os_str()), Err(Error::Key { .. })));
        assert!(matches!(count(directory.path().join("absent").as_os_str()), Err(Error::Neither { .. })));
        assert!(matches!(count(directory.path().as_os_str()), Err(Error::Io { .. })));
        let path = "/nix/store/00000000000000000000000000000000-hello";
        assert!(matches!(count(path.as_ref()), Err(Error::StorePath { .. })));
    }

    #[test]
    fn a_secret_key_in_the_place_of_a_public_one_is_not_shown() {
        let name = signature::KeyName::new("k-1").unwrap();
        let secret = signature::SecretKey::generate(name).unwrap().to_text();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, secret.as_bytes()).unwrap();
        let nameless = &secret["k-1:".len()..];
        for argument in [secret.as_str(), nameless, file.to_str().unwrap(), &secret[..60]] {
            let error = trusted_keys(argument.as_ref()).unwrap_err();
            let message = format!("{error} {error:?}");
            assert!(!message.contains(&nameless[..12]), "{message}");
        }
        let error = trusted_keys(file.as_os_str()).unwrap_err().to_string();
        assert!(error.contains("this is a secret key, not a public key"), "{error}");
    }
}
