//! A bad network: everything takes longer, and goes wrong now and then.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Stands between a client and a server that speak HTTP. Runs until the process ends.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    faults: Arc<AtomicUsize>,
    lines: Arc<Mutex<Vec<String>>>,
    at_once: Arc<AtOnce>,
}

/// What may happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused, and not passed on.
    Refused,
    /// The connection breaks before it is passed on.
    Lost,
    /// It is passed on, and the answer is lost.
    Unanswered,
    /// It is passed on, and half of the answer comes.
    Cut,
    /// It is not passed on, and nothing comes.
    Hangs,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Refused, Self::Lost, Self::Unanswered, Self::Cut, Self::Hangs];
}

impl Proxy {
    /// Every answer comes later by this time.
    pub fn slow(server: SocketAddr, delay: Duration) -> Self {
        Self::start(server, delay, |_| None)
    }

    /// What happens to a request is said by its number.
    pub fn faulty(server: SocketAddr, fault: impl Fn(usize) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self::start(server, Duration::ZERO, fault)
    }

    fn start(
        server: SocketAddr,
        delay: Duration,
        fault: impl Fn(usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, faults) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (lines, at_once): (_, Arc<AtOnce>) = (Arc::default(), Arc::default());
        let (counted, failed, fault) = (Arc::clone(&requests), Arc::clone(&faults), Arc::new(fault));
        let (seen, counts) = (Arc::clone(&lines), Arc::clone(&at_once));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counted, failed, fault) = (Arc::clone(&counted), Arc::clone(&failed), Arc::clone(&fault));
                let (seen, counts) = (Arc::clone(&seen), Arc::clone(&counts));
                std::thread::spawn(move || {
                    let number = counted.fetch_add(1, Ordering::Relaxed);
                    let fault = fault(number);
                    failed.fetch_add(usize::from(fault.is_some()), Ordering::Relaxed);
                    counts.begin();
                    // A client that has gone away needs no answer.
                    let _ = pass(client, server, delay, fault, &seen);
                    counts.end();
                });
            }
        });
        Self { address, requests, faults, lines, at_once }
    }

    /// Where to turn to instead of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The largest number of requests that were being answered at the same time.
    pub fn most_at_once(&self) -> usize {
        self.at_once.most.load(Ordering::Relaxed)
    }

    /// What was asked for, in order: `GET /bucket/nix-cache-info`.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// To how many of them something happened.
    pub fn faults(&self) -> usize {
        self.faults.load(Ordering::Relaxed)
    }
}

/// Requests that are being answered.
#[derive(Debug, Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl AtOnce {
    fn begin(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    fn end(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request: the connection ends with the answer.
fn pass(
    mut client: TcpStream,
    server: SocketAddr,
    delay: Duration,
    fault: Option<Fault>,
    seen: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let request = read_request(&mut client)?;
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    match fault {
        Some(Fault::Lost) => return Ok(()),
        Some(Fault::Hangs) => {
            std::thread::sleep(Duration::from_secs(20));
            return Ok(());
        }
        Some(Fault::Refused) => {
            let answer = "HTTP/1.1 503 Slow Down\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return client.write_all(answer.as_bytes());
        }
        _ => {}
    }
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(&request)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    std::thread::sleep(delay);
    match fault {
        Some(Fault::Unanswered) => Ok(()),
        Some(Fault::Cut) => client.write_all(&answer[..answer.len() / 2]),
        _ => client.write_all(&answer),
    }
}

/// The whole request, asking the server to end the connection.
fn read_request(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let head = loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match client.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    while request.len() < head + length.unwrap_or(0) {
        match client.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let line_end = text.find("\r\n").unwrap_or(0) + 2;
    let headers = text[line_end..head].split_inclusive("\r\n");
    let mut passed = text.as_bytes()[..line_end].to_vec();
    passed.extend_from_slice(b"Connection: close\r\n");
    for header in headers.filter(|header| !header.to_ascii_lowercase().starts_with("connection:")) {
        passed.extend_from_slice(header.as_bytes());
    }
    passed.extend_from_slice(&request[head..]);
    Ok(passed)
}
