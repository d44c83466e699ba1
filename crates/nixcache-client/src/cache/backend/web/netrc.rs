//! Files of passwords, as curl reads them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::nix_config::NixConfig;
use crate::redact::Secret;

/// No file of passwords is larger.
const LEN_MAX: u64 = 1 << 20;

/// What a file says of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// None stands for all machines that no entry is about.
    machine: Option<String>,
    pub(crate) login: String,
    pub(crate) password: Secret,
}

/// The entries of a file.
///
/// Words are separated by white space. One in double quotes may have blanks, and `\"`, `\\`, `\n`,
/// `\r` and `\t` in it. `#` at the beginning of a word begins a comment, unless a value is expected
/// there. A `macdef` ends at an empty line. What is not understood is skipped.
pub(crate) fn parse(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut rest = text;
    while let Some((word, after)) = word(rest, true) {
        rest = after;
        let mut value = || {
            let (value, after) = self::word(rest, false).unwrap_or_default();
            rest = after;
            value
        };
        match word.as_str() {
            "machine" => entries.push(Entry { machine: Some(value()), ..Entry::default() }),
            "default" => entries.push(Entry::default()),
            "login" => {
                let login = value();
                if let Some(entry) = entries.last_mut() {
                    entry.login = login;
                }
            }
            "password" => {
                let password = Secret::new(value());
                if let Some(entry) = entries.last_mut() {
                    entry.password = password;
                }
            }
            "account" => drop(value()),
            "macdef" => rest = rest.find("\n\n").map_or("", |end| &rest[end..]),
            _ => {}
        }
    }
    entries
}

/// The first word, and what follows it. Where a keyword is expected there may be a comment, which
/// is skipped.
fn word(text: &str, is_keyword: bool) -> Option<(String, &str)> {
    let mut text = text.trim_start();
    while is_keyword && text.starts_with('#') {
        text = text.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut word = String::new();
    let mut characters = quoted.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((word, &quoted[place + 1..])),
            '\\' => word.extend(characters.next().map(|(_, escaped)| match escaped {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            })),
            other => word.push(other),
        }
    }
    Some((word, ""))
}

/// The files that may hold a password for a server. They are read again when they change.
#[derive(Debug)]
pub(crate) struct Netrc {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Whether it has to be there.
    is_named: bool,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    state: State,
    entries: Vec<Entry>,
}

/// What a file was when it was read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    NotRead,
    /// It is absent, or its version cannot be told.
    Absent,
    Version(Version),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Netrc {
    /// Those of this machine and user: `NETRC`, `netrc-file` of the settings of Nix, `~/.netrc`,
    /// and the `netrc` beside `nix.conf`.
    pub(crate) fn of_user() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let named = variable("NETRC").into_iter();
        let config = NixConfig::load_leniently();
        let setting = config.get("netrc-file").filter(|file| !file.is_empty()).map(PathBuf::from);
        let named = named.chain(setting).map(|path| (path, true));
        let usual = variable("HOME").map(|home| home.join(".netrc")).into_iter();
        let usual = usual.chain([config.directory().join("netrc")]).map(|path| (path, false));
        Self::new(named.chain(usual))
    }

    fn new(files: impl Iterator<Item = (PathBuf, bool)>) -> Self {
        Self { files: files.map(|(path, is_named)| File { path, is_named, read: Mutex::default() }).collect() }
    }

    /// What the files say of a host: the first entry that names it, else the first for all hosts.
    pub(crate) fn entry(&self, host: &str, port: Option<u16>) -> Option<Entry> {
        let with_port = port.map(|port| format!("{host}:{port}"));
        let mut default = None;
        for file in &self.files {
            let mut read = file.read.lock().unwrap_or_else(PoisonError::into_inner);
            file.refresh(&mut read);
            for entry in &read.entries {
                match &entry.machine {
                    Some(machine)
                        if machine.eq_ignore_ascii_case(host)
                            || with_port.as_ref().is_some_and(|name| machine.eq_ignore_ascii_case(name)) =>
                    {
                        return Some(entry.clone());
                    }
                    Some(_) => {}
                    None => default = default.or_else(|| Some(entry.clone())),
                }
            }
        }
        default
    }
}

impl File {
    fn refresh(&self, read: &mut Read) {
        let state = match fs::metadata(&self.path) {
            // A pipe might never end.
            Ok(metadata) if !metadata.is_file() => {
                return self.fail(read, State::Absent, &std::io::Error::other("not a regular file"));
            }
            Ok(metadata) => State::Version(Version::of(&metadata)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.is_named => State::Absent,
            Err(error) => return self.fail(read, State::Absent, &error),
        };
        if read.state == state {
            return;
        }
        let text = match state {
            State::Version(_) => self::read(&self.path),
            State::NotRead | State::Absent => Ok(String::new()),
        };
        match text {
            Ok(text) => *read = Read { state, entries: parse(&text) },
            Err(error) => self.fail(read, state, &error),
        }
    }

    /// Says once for each state of the file that it cannot be read.
    fn fail(&self, read: &mut Read, state: State, error: &std::io::Error) {
        if read.state != state {
            if self.is_named {
                tracing::warn!("{}: no passwords are taken from it: {error}", self.path.display());
            } else {
                // The one beside `nix.conf` is often for the daemon only.
                tracing::info!("{}: no passwords are taken from it: {error}", self.path.display());
            }
        }
        *read = Read { state, entries: Vec::new() };
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let file = fs::File::open(path)?;
    file.take(LEN_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LEN_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl Version {
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { modified: metadata.modified().ok(), len: metadata.len(), inode: metadata.ino() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn entry(machine: Option<&str>, login: &str, password: &str) -> Entry {
        Entry { machine: machine.map(str::to_owned), login: login.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn files_are_read_as_curl_reads_them() {
        let text = "# passwords\nmachine a.example login u password p#1 # of a\n machine b.example\n\tpassword \"a \\\"b\\\\\"\n\
                    login v account x\nmacdef init\ncd /\nmachine no.example\n\nmachine c.example password only\n\
                    default login anonymous password \"\"";
        let expected = [
            entry(Some("a.example"), "u", "p#1"),
            entry(Some("b.example"), "v", "a \"b\\"),
            entry(Some("c.example"), "", "only"),
            entry(None, "anonymous", ""),
        ];
        assert_eq!(parse(text), expected);
        for odd in ["", "machine", "password x", "machine a login", "\"", "macdef", "machine a password \"\\"] {
            parse(odd);
        }
        assert!(!format!("{:?}", parse("machine a login u password hunter2")).contains("hunter2"));
    }

    #[test]
    fn the_first_file_that_names_the_host_wins_and_changes_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("1"), "default login d password d").unwrap();
        fs::write(path("2"), "machine h login u password old\nmachine h:81 login w password w").unwrap();
        let netrc = Netrc::new([(path("0"), false), (path("1"), false), (path("2"), true)].into_iter());
        let login = |host: &str, port| netrc.entry(host, port).unwrap().login;
        assert_eq!(login("other", None), "d");
        assert_eq!(login("H", Some(80)), "u");
        fs::write(path("2"), "machine h login u password renewed").unwrap();
        assert_eq!(netrc.entry("h", None).unwrap().password.reveal(), "renewed");
        fs::write(path("0"), "machine h login first password x").unwrap();
        assert_eq!(login("h", None), "first");
        fs::remove_file(path("0")).unwrap();
        fs::remove_file(path("2")).unwrap();
        assert_eq!(login("h", None), "d");
    }
}
