//! A directory that is mounted twice, as two machines mount one drive.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::programs;

/// A directory, and mounts of it that each keep what they have read for a while: as near to NFS as
/// a machine gets that mounts no NFS. They end with this value.
#[derive(Debug)]
pub struct Mounts {
    directory: TempDir,
    servers: Vec<Child>,
    processes: Vec<Child>,
}

impl Mounts {
    /// Mounts a new directory `count` times by sshfs, whose server is run directly. `None`, with a
    /// loud note, where that is not possible.
    ///
    /// # Panics
    ///
    /// When it is not possible although `CI` is `true`, and when a mount does not come.
    pub fn sshfs(count: usize) -> Option<Self> {
        Self::sshfs_that_remembers(count, Duration::from_secs(1))
    }

    /// Mounts a new directory as [`sshfs`](Self::sshfs) does, so that each mount remembers listings
    /// and what it knows of files for this long.
    ///
    /// # Panics
    ///
    /// As above.
    pub fn sshfs_that_remembers(count: usize, time: Duration) -> Option<Self> {
        let note = "no drive to mount twice: install sshfs and openssh-sftp-server";
        let [sshfs, unmount] = programs(["sshfs", "fusermount3"], note)?;
        drop(unmount);
        let server = Path::new("/usr/lib/openssh/sftp-server");
        if !server.exists() || File::open("/dev/fuse").is_err() {
            crate::skip(note);
            return None;
        }
        let directory = tempfile::Builder::new().prefix("nixcache-mounts-").tempdir().unwrap();
        fs::create_dir(directory.path().join("drive")).unwrap();
        let mut all = Self { directory, servers: Vec::new(), processes: Vec::new() };
        for number in 0..count {
            // Each end of a pair of sockets is one's standard input and output.
            let (ours, theirs) = UnixStream::pair().unwrap();
            let stdio = |stream: &UnixStream| Stdio::from(std::os::fd::OwnedFd::from(stream.try_clone().unwrap()));
            all.servers.push(Command::new(server).stdin(stdio(&theirs)).stdout(stdio(&theirs)).spawn().unwrap());
            let at = all.path(number);
            fs::create_dir(&at).unwrap();
            let from = format!(":{}", all.drive().display());
            let mut command = Command::new(&sshfs);
            command.args([&from, at.to_str().unwrap(), "-f"]);
            let options = format!("passive,cache=yes,dcache_timeout={},auto_cache", time.as_secs());
            command.args(["-o", &options]);
            all.processes.push(command.stdin(stdio(&ours)).stdout(stdio(&ours)).spawn().unwrap());
            let started = Instant::now();
            while !is_mounted(&at) {
                assert!(started.elapsed() < Duration::from_secs(20), "{from} is not mounted");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Some(all)
    }

    /// Where the directory itself is.
    pub fn drive(&self) -> PathBuf {
        self.directory.path().join("drive")
    }

    /// Where it is mounted.
    pub fn path(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("mount-{number}"))
    }
}

fn is_mounted(at: &Path) -> bool {
    let at = format!(" {} ", at.display());
    fs::read_to_string("/proc/mounts").is_ok_and(|mounts| mounts.contains(&at))
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for number in 0..self.processes.len() {
            let _ = Command::new("fusermount3").args(["-u", "-z"]).arg(self.path(number)).status();
        }
        for process in self.processes.iter_mut().chain(&mut self.servers) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
