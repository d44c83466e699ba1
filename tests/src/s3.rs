//! An S3 within the test, which can be told to misbehave.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::web::{Answer, Request, WebServer};

/// An S3 with path-style addresses and one bucket, `cache`. It checks no signatures.
///
/// It keeps conditions (`If-Match`, `If-None-Match`), lists in pages, gives ranges, takes uploads
/// in parts, removes many objects with a request, and has the clock of S3: times of objects are
/// whole seconds. [`Rule`]s change what it answers.
#[derive(Debug)]
pub struct FakeS3 {
    server: WebServer,
    state: Arc<Mutex<State>>,
}

/// How conditions of writes are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// They are kept.
    Kept,
    /// The server writes as if there were none.
    Ignored,
    /// The server answers this status (501, 400), and writes nothing.
    Refused(u16),
}

/// An upload in parts that is neither complete nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// Its identifier.
    pub id: String,
    /// The key of the object.
    pub key: String,
    /// How many parts have come.
    pub parts: usize,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// 403 `AccessDenied`.
    Deny,
    /// This status, with this body.
    Status(u16, String),
    /// The answer comes later.
    Delay(Duration),
    /// The body of the answer comes in pieces of this many bytes, with this time between them.
    Drip(usize, Duration),
    /// The connection breaks after this many bytes of the body of the answer.
    Cut(usize),
    /// The answer has another header.
    Header(&'static str, String),
    /// The answer has another body.
    Body(Vec<u8>),
}

/// Changes the answers to some requests.
pub struct Rule {
    operations: Vec<String>,
    matches: Box<dyn Fn(&str) -> bool + Send>,
    action: Action,
    left: usize,
    is_about_absent: bool,
}

impl Rule {
    /// A rule about some operations, named with blanks between them: `GET`, `HEAD`, `PUT`,
    /// `DELETE`, `LIST`, `DELETE_MANY`, `CREATE_UPLOAD`, `UPLOAD_PART`, `COMPLETE_UPLOAD`,
    /// `ABORT_UPLOAD`, `LIST_UPLOADS`; `READ` for `GET` and `HEAD`, `*` for all.
    pub fn on(operations: &str, action: Action) -> Self {
        let operations = operations.split_whitespace().map(str::to_owned).collect();
        Self { operations, matches: Box::new(|_| true), action, left: usize::MAX, is_about_absent: false }
    }

    /// Only about keys like this. The key of `LIST` is the prefix that is asked for.
    #[must_use]
    pub fn keys(mut self, matches: impl Fn(&str) -> bool + Send + 'static) -> Self {
        self.matches = Box::new(matches);
        self
    }

    /// Only about the next `times` requests that it matches.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = times;
        self
    }

    /// Only about objects that are not there: S3 denies them to those who may not list.
    #[must_use]
    pub fn absent(mut self) -> Self {
        self.is_about_absent = true;
        self
    }

    fn applies(&mut self, operation: &str, key: &str, exists: bool) -> bool {
        let named = self.operations.iter().any(|named| {
            named == "*" || named == operation || (named == "READ" && ["GET", "HEAD"].contains(&operation))
        });
        let applies = named && self.left > 0 && (self.matches)(key) && !(self.is_about_absent && exists);
        self.left -= usize::from(applies);
        applies
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("operations", &self.operations)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Stored {
    bytes: Vec<u8>,
    tag: String,
    modified: SystemTime,
    encoding: Option<String>,
}

#[derive(Debug)]
struct Upload {
    key: String,
    parts: BTreeMap<usize, Vec<u8>>,
    started: SystemTime,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Upload>,
    next_upload: usize,
    rules: Vec<Rule>,
    conditions: Conditions,
    page: usize,
    repeats: bool,
    exists: bool,
    log: Vec<(String, String)>,
}

impl Default for FakeS3 {
    fn default() -> Self {
        Self::start()
    }
}

impl FakeS3 {
    /// Starts one with an empty bucket.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            next_upload: 0,
            rules: Vec::new(),
            conditions: Conditions::Kept,
            page: 1000,
            repeats: false,
            exists: true,
            log: Vec::new(),
        }));
        let answering = Arc::clone(&state);
        let server = WebServer::start(move |request| answer(&answering, request));
        Self { server, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of the bucket, as Nix and `narutil` spell it.
    pub fn url(&self) -> String {
        self.url_below("")
    }

    /// The URL of a cache below a prefix of the bucket, which begins with a slash.
    pub fn url_below(&self, prefix: &str) -> String {
        format!("s3://cache{prefix}?endpoint=http://{}&addressing-style=path&region=us-east-1", self.address())
    }

    /// The bucket as web clients see it: a server that gives objects, and lists nothing.
    pub fn http(&self) -> String {
        format!("http://{}/cache", self.address())
    }

    /// Adds a rule. Of several that match a request, all act.
    pub fn rule(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Forgets the rules.
    pub fn clear_rules(&self) {
        self.state().rules.clear();
    }

    /// How conditions are answered.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.state().conditions = conditions;
    }

    /// How many names a page of a listing has at most.
    pub fn set_page(&self, names: usize) {
        self.state().page = names;
    }

    /// Whether every page of a listing is the first one, and leads to itself.
    pub fn set_repeats_page(&self, repeats: bool) {
        self.state().repeats = repeats;
    }

    /// Whether there is the bucket at all.
    pub fn set_exists(&self, exists: bool) {
        self.state().exists = exists;
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// The bytes of an object, as they are stored.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).map(|stored| stored.bytes.clone())
    }

    /// The `Content-Encoding` with which an object is stored.
    pub fn encoding(&self, key: &str) -> Option<String> {
        self.state().objects.get(key)?.encoding.clone()
    }

    /// Stores an object.
    pub fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.state().store(key, bytes.into(), None);
    }

    /// Stores an object with a `Content-Encoding`; the bytes are encoded already.
    pub fn put_encoded(&self, key: &str, bytes: impl Into<Vec<u8>>, encoding: &str) {
        self.state().store(key, bytes.into(), Some(encoding.to_owned()));
    }

    /// Removes an object.
    pub fn remove(&self, key: &str) {
        self.state().objects.remove(key);
    }

    /// Makes objects older.
    pub fn age(&self, matches: impl Fn(&str) -> bool, by: Duration) {
        for (key, stored) in &mut self.state().objects {
            if matches(key) {
                stored.modified -= by;
            }
        }
    }

    /// The uploads in parts that are neither complete nor aborted.
    pub fn uploads(&self) -> Vec<OpenUpload> {
        let open = |(id, upload): (&String, &Upload)| OpenUpload {
            id: id.clone(),
            key: upload.key.clone(),
            parts: upload.parts.len(),
        };
        self.state().uploads.iter().map(open).collect()
    }

    /// Begins an upload in parts that is never ended, and gives it an age.
    pub fn begin_upload(&self, key: &str, age: Duration) -> String {
        let mut state = self.state();
        let id = state.begin(key);
        if let Some(upload) = state.uploads.get_mut(&id) {
            upload.started -= age;
        }
        id
    }

    /// The requests so far: operation, as in [`Rule::on`], and key.
    pub fn log(&self) -> Vec<(String, String)> {
        self.state().log.clone()
    }

    /// How many requests so far were this operation.
    pub fn count(&self, operation: &str) -> usize {
        self.state().log.iter().filter(|(made, _)| made == operation).count()
    }

    /// Forgets the requests so far.
    pub fn forget_log(&self) {
        self.state().log.clear();
        self.server.forget_requests();
    }

    /// The requests so far, whole.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

impl State {
    fn store(&mut self, key: &str, bytes: Vec<u8>, encoding: Option<String>) -> String {
        let mut hasher = DefaultHasher::new();
        (&bytes, &encoding).hash(&mut hasher);
        let tag = format!("\"{:016x}\"", hasher.finish());
        let stored = Stored { bytes, tag: tag.clone(), modified: SystemTime::now(), encoding };
        self.objects.insert(key.to_owned(), stored);
        tag
    }

    fn begin(&mut self, key: &str) -> String {
        self.next_upload += 1;
        let id = format!("upload-{}", self.next_upload);
        let upload = Upload { key: key.to_owned(), parts: BTreeMap::new(), started: SystemTime::now() };
        self.uploads.insert(id.clone(), upload);
        id
    }

    fn perform(&mut self, operation: &str, key: &str, request: &Request) -> Answer {
        if !self.exists {
            return error(404, "NoSuchBucket", "The specified bucket does not exist");
        }
        match operation {
            "GET" | "HEAD" => self.read(key, request),
            "PUT" => self.write(key, request),
            "DELETE" => {
                self.objects.remove(key);
                Answer::new(204, "")
            }
            "DELETE_MANY" => {
                let text = String::from_utf8_lossy(&request.body);
                let keys: Vec<String> = elements(&text, "Key").map(unescaped).collect();
                let mut body = String::from("<DeleteResult>");
                for key in keys {
                    self.objects.remove(&key);
                    let _ = write!(body, "<Deleted><Key>{}</Key></Deleted>", escaped(&key));
                }
                xml(200, &format!("{body}</DeleteResult>"))
            }
            "LIST" => self.list(request),
            "CREATE_UPLOAD" => {
                let id = self.begin(key);
                let result = format!(
                    "<InitiateMultipartUploadResult><Bucket>cache</Bucket><Key>{}</Key><UploadId>{id}</UploadId>\
                     </InitiateMultipartUploadResult>",
                    escaped(key)
                );
                xml(200, &result)
            }
            "UPLOAD_PART" => {
                let id = request.parameter("uploadId").unwrap_or_default();
                let number = request.parameter("partNumber").and_then(|number| number.parse().ok());
                let Some(upload) = self.uploads.get_mut(&id) else {
                    return error(404, "NoSuchUpload", "There is no such upload");
                };
                let number: usize = number.unwrap_or(0);
                upload.parts.insert(number, request.body.clone());
                Answer::new(200, "").with("ETag", format!("\"part-{number}\""))
            }
            "COMPLETE_UPLOAD" => {
                let id = request.parameter("uploadId").unwrap_or_default();
                let Some(upload) = self.uploads.remove(&id) else {
                    return error(404, "NoSuchUpload", "There is no such upload");
                };
                let bytes = upload.parts.into_values().flatten().collect();
                let tag = self.store(key, bytes, None);
                let result =
                    format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>");
                xml(200, &result)
            }
            "ABORT_UPLOAD" => match self.uploads.remove(&request.parameter("uploadId").unwrap_or_default()) {
                Some(_) => Answer::new(204, ""),
                None => error(404, "NoSuchUpload", "There is no such upload"),
            },
            "LIST_UPLOADS" => self.list_uploads(request),
            _ => error(405, "MethodNotAllowed", "The specified method is not allowed against this resource"),
        }
    }

    fn read(&self, key: &str, request: &Request) -> Answer {
        let Some(stored) = self.objects.get(key) else {
            return error(404, "NoSuchKey", "The specified key does not exist");
        };
        let len = stored.bytes.len();
        let range = request.header("range").filter(|_| request.method == "GET").and_then(|range| {
            let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
            if start.is_empty() {
                return Some((len.saturating_sub(end.parse().ok()?), len));
            }
            let end = if end.is_empty() { len } else { (end.parse::<usize>().ok()?.saturating_add(1)).min(len) };
            Some((start.parse().ok()?, end))
        });
        let answer = match range {
            Some((start, _)) if start >= len => {
                return error(416, "InvalidRange", "The requested range is not satisfiable");
            }
            Some((start, end)) => Answer::new(206, &stored.bytes[start..end])
                .with("Content-Range", format_args!("bytes {start}-{}/{len}", end - 1)),
            None => Answer::new(200, &stored.bytes[..]),
        };
        let answer = answer
            .with("ETag", &stored.tag)
            .with("Accept-Ranges", "bytes")
            .with("Last-Modified", httpdate::fmt_http_date(stored.modified));
        match &stored.encoding {
            Some(encoding) => answer.with("Content-Encoding", encoding),
            None => answer,
        }
    }

    fn write(&mut self, key: &str, request: &Request) -> Answer {
        let (absent, unchanged) = (request.header("if-none-match"), request.header("if-match"));
        match self.conditions {
            Conditions::Refused(status) if absent.is_some() || unchanged.is_some() => {
                return error(status, "NotImplemented", "A header you provided implies functionality that is missing");
            }
            Conditions::Kept => {
                let current = self.objects.get(key).map(|stored| &stored.tag[..]);
                if absent.is_some() && current.is_some() {
                    return error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold");
                }
                match (unchanged, current) {
                    (Some(_), None) => return error(404, "NoSuchKey", "The specified key does not exist"),
                    (Some(expected), Some(current)) if expected != current => {
                        return error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold");
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        let encoding = request.header("content-encoding").map(str::to_owned);
        let tag = self.store(key, request.body.clone(), encoding);
        Answer::new(200, "").with("ETag", tag)
    }

    fn list(&self, request: &Request) -> Answer {
        let prefix = request.parameter("prefix").unwrap_or_default();
        let delimiter = request.parameter("delimiter").unwrap_or_default();
        let token = request.parameter("continuation-token").filter(|_| !self.repeats);
        let most = request.parameter("max-keys").and_then(|keys| keys.parse().ok()).unwrap_or(usize::MAX);
        let most = most.min(self.page);
        let mut listed = String::new();
        let (mut count, mut last, mut truncated) = (0, String::new(), false);
        for (key, stored) in self.objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let rest = &key[prefix.len()..];
            let folder = rest.find(&delimiter).filter(|_| !delimiter.is_empty());
            let name = folder.map_or(&key[..], |end| &key[..prefix.len() + end + delimiter.len()]);
            if name == last || token.as_ref().is_some_and(|token| name <= &token[..]) {
                continue;
            }
            if count == most {
                truncated = true;
                break;
            }
            count += 1;
            name.clone_into(&mut last);
            if folder.is_some() {
                let _ = write!(listed, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(name));
            } else {
                let _ = write!(
                    listed,
                    "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                    escaped(key),
                    iso_date(stored.modified),
                    escaped(&stored.tag),
                    stored.bytes.len()
                );
            }
        }
        let mut body =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>cache</Name>{listed}");
        let truncated = truncated || self.repeats;
        let _ = write!(body, "<IsTruncated>{truncated}</IsTruncated>");
        if truncated {
            let _ = write!(body, "<NextContinuationToken>{}</NextContinuationToken>", escaped(&last));
        }
        body.push_str("</ListBucketResult>");
        xml(200, &body)
    }

    fn list_uploads(&self, request: &Request) -> Answer {
        let prefix = request.parameter("prefix").unwrap_or_default();
        let mut body = String::from("<ListMultipartUploadsResult><Bucket>cache</Bucket>");
        for (id, upload) in self.uploads.iter().filter(|(_, upload)| upload.key.starts_with(&prefix)) {
            let (key, started) = (escaped(&upload.key), iso_date(upload.started));
            let _ = write!(
                body,
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{started}</Initiated></Upload>"
            );
        }
        body.push_str("<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
        xml(200, &body)
    }
}

fn answer(state: &Mutex<State>, request: &Request) -> Answer {
    let path = request.decoded_path();
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let has = |name: &str| request.query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let operation = match &request.method[..] {
        "GET" if key.is_empty() && has("list-type") => "LIST",
        "GET" if key.is_empty() && has("uploads") => "LIST_UPLOADS",
        "POST" if has("delete") => "DELETE_MANY",
        "POST" if has("uploads") => "CREATE_UPLOAD",
        "POST" if has("uploadId") => "COMPLETE_UPLOAD",
        "PUT" if has("uploadId") => "UPLOAD_PART",
        "DELETE" if has("uploadId") => "ABORT_UPLOAD",
        method => method,
    };
    let key =
        if operation.starts_with("LIST") { request.parameter("prefix").unwrap_or_default() } else { key.to_owned() };
    let mut state = lock(state);
    state.log.push((operation.to_owned(), key.clone()));
    let exists = state.objects.contains_key(&key);
    let actions: Vec<Action> = state
        .rules
        .iter_mut()
        .filter_map(|rule| rule.applies(operation, &key, exists).then(|| rule.action.clone()))
        .collect();
    let refused = actions.iter().find_map(|action| match action {
        Action::Deny => Some(error(403, "AccessDenied", "Access Denied")),
        Action::Status(status, body) => Some(Answer::new(*status, body.as_bytes())),
        _ => None,
    });
    let mut answer = match refused {
        Some(refused) => refused,
        None if bucket != "cache" => error(404, "NoSuchBucket", "The specified bucket does not exist"),
        None => state.perform(operation, &key, request),
    };
    for action in actions {
        match action {
            Action::Deny | Action::Status(..) => {}
            Action::Delay(delay) => answer.delay += delay,
            Action::Drip(bytes, time) => answer.pace = Some((bytes, time)),
            Action::Cut(bytes) => answer.cut = Some(bytes),
            Action::Header(name, value) => answer = answer.with(name, value),
            Action::Body(body) => answer.body = body,
        }
    }
    answer
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn xml(status: u16, body: &str) -> Answer {
    Answer::new(status, body).with("Content-Type", "application/xml")
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    xml(status, &body)
}

/// Control characters are escaped as S3 does it.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if control.is_control() => {
                let _ = write!(escaped, "&#x{:x};", u32::from(control));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

/// The texts of the elements of a name.
fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = &rest[rest.find(&open)? + open.len()..];
        let end = begin.find(&close)?;
        rest = &begin[end..];
        Some(&begin[..end])
    })
}

/// `2026-01-02T03:04:05.000Z`: S3 knows no parts of seconds.
fn iso_date(time: SystemTime) -> String {
    // `Fri, 02 Jan 2026 03:04:05 GMT`
    let date = httpdate::fmt_http_date(time);
    let words: Vec<&str> = date.split(' ').collect();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == words[2]).unwrap_or(0) + 1;
    format!("{}-{month:02}-{}T{}.000Z", words[3], words[1], words[4])
}
