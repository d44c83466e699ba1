//! Real servers on loopback: a web server that takes files, and two that speak S3.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::programs;

/// A server on a port of its own. It ends with this value.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
    directory: TempDir,
}

/// Who is asked for a bucket: any name and secret will do.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
/// The secret that belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

impl Server {
    /// nginx, which takes `PUT` and lists by `PROPFIND`. What it serves is in [`Self::root`].
    /// Nothing, with a loud note, where there is none.
    ///
    /// # Panics
    ///
    /// When there is none although `CI` is `true`, and when it does not start: so do all of these.
    pub fn nginx() -> Option<Self> {
        let [program] =
            programs(["nginx"], "no web server to publish to: install nginx and libnginx-mod-http-dav-ext")?;
        let (port, directory) = (free_port(), temporary());
        let root = directory.path();
        fs::create_dir(root.join("root")).unwrap();
        let module = Path::new("/usr/lib/nginx/modules/ngx_http_dav_ext_module.so");
        let module = if module.exists() { format!("load_module {};", module.display()) } else { String::new() };
        let root = root.display();
        let configuration = format!(
            "{module} daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log {root}/errors;
             events {{ worker_connections 512; }}
             http {{
               access_log off; client_max_body_size 0; client_body_temp_path {root}/bodies; proxy_temp_path {root}/proxy;
               fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
               server {{
                 listen 127.0.0.1:{port}; root {root}/root;
                 location / {{
                   dav_methods PUT DELETE MKCOL; dav_ext_methods PROPFIND OPTIONS; create_full_put_path on;
                 }}
               }}
             }}"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        // The user of the master process, who may write where this one can.
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).args(["-g", if is_root() { "user root;" } else { "" }]);
        Some(Self::start(command, port, directory))
    }

    /// moto, which keeps buckets in memory, with an empty bucket `cache` that is open to all: Nix
    /// as it is built for tests signs nothing.
    ///
    /// # Panics
    ///
    /// As [`Self::nginx`].
    pub fn moto() -> Option<Self> {
        let [program] = programs(["moto_server"], "no S3 to publish to: install moto[s3,server] from PyPI")?;
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server = Self::start(command, port, temporary());
        server.make_bucket();
        Some(server)
    }

    /// s3s-fs, which keeps buckets in a directory, with an empty bucket `cache`.
    ///
    /// # Panics
    ///
    /// As [`Self::nginx`].
    pub fn s3s() -> Option<Self> {
        let [program] = programs(["s3s-fs"], "no second S3 to publish to: install s3s-fs from crates.io")?;
        let (port, directory) = (free_port(), temporary());
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("cache")).unwrap();
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", ACCESS_KEY]);
        command.args(["--secret-key", SECRET_KEY]).arg(root);
        Some(Self::start(command, port, directory))
    }

    /// `WsgiDAV`: a `WebDAV` server written in Python.
    ///
    /// # Panics
    ///
    /// As [`Self::nginx`].
    pub fn wsgidav() -> Option<Self> {
        let [program] = programs(["wsgidav"], "no WsgiDAV to publish to: install wsgidav and cheroot from PyPI")?;
        let (port, directory) = (free_port(), temporary());
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--auth", "anonymous", "--no-config"]);
        command.arg("--root").arg(root);
        Some(Self::start(command, port, directory))
    }

    /// rclone, which serves a directory by `WebDAV`.
    ///
    /// # Panics
    ///
    /// As [`Self::nginx`].
    pub fn rclone() -> Option<Self> {
        let [program] = programs(["rclone"], "no rclone to publish to: install it")?;
        let (port, directory) = (free_port(), temporary());
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut command = Command::new(program);
        command.args(["serve", "webdav", "--addr", &format!("127.0.0.1:{port}"), "--vfs-cache-mode", "writes"]);
        command.arg("--config=").arg("--cache-dir").arg(directory.path().join("vfs")).arg(root);
        Some(Self::start(command, port, directory))
    }

    fn start(mut command: Command, port: u16, directory: TempDir) -> Self {
        let log = fs::File::create(directory.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().unwrap();
        let mut server = Self { process, port, directory };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = server.process.try_wait().unwrap();
            let log = fs::read_to_string(server.directory.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && started.elapsed() < Duration::from_secs(60), "{command:?}: {ended:?}: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn make_bucket(&self) {
        let open = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*",
            "Resource": ["arn:aws:s3:::cache", "arn:aws:s3:::cache/*"]}]}"#;
        for (path, body) in [("/cache", ""), ("/cache?policy", open)] {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
            let length = body.len();
            let head = format!(
                "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
        }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL of a server that is no bucket.
    pub fn http(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The URL of the bucket, as Nix and `narutil` spell it.
    pub fn s3(&self) -> String {
        self.s3_through(self.address())
    }

    /// The URL of the S3 cache behind a proxy that listens at `address`.
    pub fn s3_through(&self, address: SocketAddr) -> String {
        format!("s3://cache?endpoint=http://{address}&addressing-style=path&region=us-east-1")
    }

    /// Where what it serves is on the disk, if it is there.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free a moment ago: another process could take it before the server does.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn temporary() -> TempDir {
    tempfile::Builder::new().prefix("nixcache-server-").tempdir().unwrap()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whether this process has the credentials of the buckets of these tests, which come from the
/// environment. If not, the test runs itself again with them, and the caller has nothing left to
/// do.
pub fn is_signed_for(test: &str) -> bool {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|key| key == ACCESS_KEY) {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([test, "--exact"]).env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    false
}
