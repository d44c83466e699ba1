//! Runs the built program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conformance::{TreeNode, write_tree};
use tempfile::TempDir;

/// The program with these arguments, which may be of different types.
macro_rules! narutil {
    ($($argument:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "without arguments")]
        let mut command = crate::narutil::program();
        $(command.arg($argument);)*
        command
    }};
}
pub(crate) use narutil;

/// The program, in an environment that does not depend on the machine.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_narutil"));
    command
        .env_remove("NIX_STORE_DIR")
        .env_remove("NO_COLOR")
        .env_remove("NIX_REMOTE")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    command
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// The output of a command that must have succeeded.
    pub(crate) fn ok(self) -> Vec<u8> {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Standard output, as text.
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.ok()).unwrap()
    }

    /// The error of a command that must have failed with `status`, and printed nothing.
    pub(crate) fn error(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{}", self.stderr);
        assert!(self.stdout.is_empty(), "{} bytes on stdout", self.stdout.len());
        assert!(self.stderr.starts_with("narutil: ") || self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { status: output.status.code(), stdout: output.stdout, stderr }
}

/// Runs a command to its end, with a pipe as its standard input.
pub(crate) fn run_with(mut command: Command, stdin: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that fails early reads no further.
            let _ = pipe.write_all(stdin);
        });
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { status: output.status.code(), stdout: output.stdout, stderr }
    })
}

/// A scratch directory with a small tree.
pub(crate) struct Scratch {
    directory: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// One in memory where that is possible, for many small files: a disk takes long to have each
    /// of them safe.
    pub(crate) fn in_memory() -> Self {
        Self::of(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn of(directory: TempDir) -> Self {
        let scratch = Self { directory };
        write_tree(&sample(), &scratch.path("tree")).unwrap();
        scratch
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file with these bytes.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The archive of [`sample`], in a file.
    pub(crate) fn nar(&self) -> PathBuf {
        self.file("tree.nar", &sample().to_nar())
    }

    /// The entries of the directory, including hidden ones.
    pub(crate) fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A tree with nodes of all kinds.
pub(crate) fn sample() -> TreeNode {
    let file = |executable, contents: &[u8]| TreeNode::File { executable, contents: contents.to_vec() };
    let link = |target: &[u8]| TreeNode::Symlink { target: target.to_vec() };
    directory([
        ("bin", directory([("run", file(true, b"#!/bin/sh\n")), ("link", link(b"run"))])),
        ("empty", directory([])),
        ("large", file(false, &vec![b'x'; 300_000])),
        ("text", file(false, b"Hello, NAR!\n")),
        ("zero", file(false, b"")),
    ])
}

pub(crate) fn directory<const N: usize>(entries: [(&str, TreeNode); N]) -> TreeNode {
    TreeNode::Directory(entries.into_iter().map(|(name, node)| (name.as_bytes().to_vec(), node)).collect())
}

pub(crate) fn file(contents: impl Into<Vec<u8>>) -> TreeNode {
    TreeNode::File { executable: false, contents: contents.into() }
}
