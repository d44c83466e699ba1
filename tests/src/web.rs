//! A web server within the test: it answers as a closure says, slowly, in pieces or not to the end.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PROPFIND`, …
    pub method: String,
    /// The path without the query, as the client wrote it: percent-encoded.
    pub path: String,
    /// The query, as the client wrote it; empty for none.
    pub query: String,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, whose name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| &value[..])
    }

    /// The path without what is percent-encoded.
    pub fn decoded_path(&self) -> String {
        decoded(&self.path)
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| decoded(&value.replace('+', " ")))
        })
    }
}

/// What the server answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, without those that frame the body.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long the server waits before it answers.
    pub delay: Duration,
    /// The body comes in pieces of this many bytes, with this time between them.
    pub pace: Option<(usize, Duration)>,
    /// The connection breaks after this many bytes of the body.
    pub cut: Option<usize>,
    /// What `Content-Length` says, if it is not the length of the body: the answer to a `HEAD`, or
    /// a lie.
    pub length: Option<u64>,
}

impl Answer {
    /// An answer without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let (headers, body) = (Vec::new(), body.into());
        Self { status, headers, body, delay: Duration::ZERO, pace: None, cut: None, length: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A server on a port of its own. It stops to take connections with this value.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
}

impl WebServer {
    /// Starts a server that answers as it is told. `answer` is called by several threads.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (seen, ended, answer) = (Arc::clone(&requests), Arc::clone(&stopped), Arc::new(answer));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                // A client that went away needs no answer.
                std::thread::spawn(move || drop(serve(client, &seen, &*answer)));
            }
        });
        Self { address, requests, stopped }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    client: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request) -> Answer + Send + Sync),
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut writer = client.try_clone()?;
    let mut reader = BufReader::new(client);
    while let Some(request) = read_request(&mut reader)? {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let answer = answer(&request);
        std::thread::sleep(answer.delay);
        let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let length = answer.length.unwrap_or(answer.body.len() as u64);
        head.extend(["Content-Length: ", &length.to_string(), "\r\n\r\n"]);
        writer.write_all(head.as_bytes())?;
        if request.method == "HEAD" {
            continue;
        }
        let body = &answer.body[..answer.cut.unwrap_or(answer.body.len()).min(answer.body.len())];
        match answer.pace {
            None => writer.write_all(body)?,
            Some((bytes, time)) => {
                for piece in body.chunks(bytes.max(1)) {
                    writer.write_all(piece)?;
                    std::thread::sleep(time);
                }
            }
        }
        if answer.cut.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// None where the connection ends.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request { method, path: path.to_owned(), query: query.to_owned(), headers, body: Vec::new() };
    if request.header("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked")) {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            reader.by_ref().take(size).read_to_end(&mut request.body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = request.header("content-length").and_then(|length| length.parse().ok()) {
        reader.by_ref().take(length).read_to_end(&mut request.body)?;
    }
    Ok(Some(request))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
