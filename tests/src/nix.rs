//! Real Nix, in every version at hand, each run with a store of its own.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use nixcache::hash::{Format, Hash};
use tempfile::TempDir;

use crate::TreeNode;
use crate::program::skip;

/// One installed version of Nix.
///
/// Its commands see no configuration and no store but their own: the store is empty at first, lies
/// in a temporary directory that goes away with this value, and calls itself `/nix/store`, so that
/// paths made in it are the real ones.
#[derive(Debug)]
pub struct Nix {
    bin: PathBuf,
    version: String,
    state: TempDir,
}

/// The versions of Nix to test against, at least one; empty, with a loud note, where there is none.
///
/// They are the `bin` directories in `NIXCACHE_NIX`, separated by colons, or else the
/// `nix-store` on `PATH`.
///
/// # Panics
///
/// When a directory in `NIXCACHE_NIX` holds no working Nix; and when there is no Nix at all
/// although `CI` is `true`: what was not compared must not look as if it had passed.
pub fn nixes() -> Vec<Nix> {
    let listed = std::env::var_os("NIXCACHE_NIX").filter(|list| !list.is_empty());
    let bins: Vec<PathBuf> = match listed {
        Some(list) => std::env::split_paths(&list).filter(|bin| !bin.as_os_str().is_empty()).collect(),
        None => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .filter(|bin| bin.join("nix-store").is_file())
            .take(1)
            .collect(),
    };
    if bins.is_empty() {
        skip("no real Nix to compare with: install one, or name its bin directory in NIXCACHE_NIX");
    }
    bins.into_iter().map(Nix::at).collect()
}

impl Nix {
    fn at(bin: PathBuf) -> Self {
        let state = tempfile::Builder::new().prefix("nixcache-nix-").tempdir().unwrap();
        let mut nix = Self { bin, version: String::new(), state };
        let banner =
            nix.run("nix-store", ["--version"], b"").unwrap_or_else(|failure| panic!("NIXCACHE_NIX: {failure}"));
        nix.version.extend(String::from_utf8_lossy(&banner).split_whitespace().last());
        nix
    }

    /// The version as Nix says it, such as `2.34.8`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where this Nix's `/nix/store` lies on the machine's disk; made by the first command that
    /// needs it.
    pub fn physical_store(&self) -> PathBuf {
        self.state.path().canonicalize().unwrap().join("root/nix/store")
    }

    /// A command such as `nix-store`, ready for arguments, in this Nix's private surroundings.
    pub fn command(&self, program: &str) -> Command {
        // Nix refuses a store below a symbolic link, and the system's temporary directory may be
        // one.
        let state = self.state.path().canonicalize().unwrap();
        let mut command = Command::new(self.bin.join(program));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"NIX_")) {
            command.env_remove(name);
        }
        command
            .env("HOME", state.join("home"))
            .env("XDG_CACHE_HOME", state.join("home/.cache"))
            .env("XDG_CONFIG_HOME", state.join("home/.config"))
            .env("XDG_DATA_HOME", state.join("home/.local/share"))
            .env("XDG_STATE_HOME", state.join("home/.local/state"))
            .env("NIX_CONF_DIR", state.join("etc"))
            .env("NIX_CONFIG", "build-users-group =\nsandbox = false\nexperimental-features = nix-command flakes")
            .env("NIX_REMOTE", format!("local?root={}", state.join("root").display()));
        command
    }

    /// Runs a command to its end with `stdin` as its input, and returns what it printed.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
        stdin: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let mut command = self.command(program);
        command.args(args).stdin(input(stdin));
        let output = match command.output() {
            Ok(output) if output.status.success() => return Ok(output.stdout),
            Ok(output) => format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)),
            Err(error) => error.to_string(),
        };
        // Without the environment, which would hide the rest.
        let command = std::iter::once(command.get_program()).chain(command.get_args());
        let command = command.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Err(Failure { command, version: self.version.clone(), output })
    }

    /// Puts a file into the store as if a builder had made it: its path does not depend on its
    /// contents, and the references are as they are said to be. The deriver may be empty.
    pub fn add_built(&self, path: &str, contents: &[u8], references: &[&str], deriver: &str) {
        let nar = TreeNode::File { executable: false, contents: contents.to_vec() }.to_nar();
        let hash = Hash::sha256(&nar);
        let hash = hash.display_digest(Format::Base16);
        let count = references.len();
        let references: String = references.iter().flat_map(|reference| [reference, "\n"]).collect();
        let registration = format!("{path}\n{hash}\n{}\n{deriver}\n{count}\n{references}", nar.len());
        let store = self.physical_store();
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join(Path::new(path).file_name().unwrap()), contents).unwrap();
        self.run("nix-store", ["--load-db"], registration.as_bytes()).unwrap();
    }

    /// The NAR of `path`, by `nix-store --dump`.
    pub fn dump(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        self.run("nix-store", [OsStr::new("--dump"), path.as_os_str()], b"")
    }

    /// Unpacks `nar` at `dest`, by `nix-store --restore`.
    pub fn restore(&self, nar: &[u8], dest: &Path) -> Result<(), Failure> {
        self.run("nix-store", [OsStr::new("--restore"), dest.as_os_str()], nar).map(drop)
    }

    /// The hash of the NAR of `path` in SRI form, by `nix hash path`.
    pub fn hash_path(&self, path: &Path) -> Result<String, Failure> {
        self.run("nix", ["hash".as_ref(), "path".as_ref(), path.as_os_str()], b"").map(text)
    }

    /// The listing of `nar` as this version of Nix renders it, by `nix nar ls`.
    pub fn ls_json(&self, nar: &[u8]) -> Result<String, Failure> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(nar).unwrap();
        let args: [OsString; 6] =
            ["nar".into(), "ls".into(), "--json".into(), "--recursive".into(), file.path().into(), "/".into()];
        self.run("nix", args, b"").map(text)
    }
}

/// A file to read `bytes` from: a pipe could block both sides when the command stops reading or
/// prints much.
fn input(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn text(stdout: Vec<u8>) -> String {
    String::from_utf8(stdout).unwrap().trim_end().to_owned()
}

/// A command of Nix that failed: what was run, by which version, how it ended and what it said.
pub struct Failure {
    command: String,
    version: String,
    output: String,
}

impl Failure {
    /// How the command ended, and its error output.
    pub fn output(&self) -> &str {
        &self.output
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nix {}: {}: {}", self.version, self.command, self.output)
    }
}

/// As [`Display`](fmt::Display), because `unwrap` prints this.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}
