//! Uploads in parts: those that are under way are aborted when they are given up, those that were
//! left are found.
//!
//! A bucket keeps, and bills, the parts of an upload that is never completed. `object_store` has no
//! request that lists them, so that one is made here, for S3.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::DateTime;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{Method, Request};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpError, HttpRequestBody};
use object_store::{MultipartUpload, PutPayload, UploadPart};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::cache::backend::answer::Refusal;
use crate::cache::backend::bucket::Bucket;
use crate::cache::backend::bucket::odd_keys::resolved;
use crate::cache::error::{Error, Result};
use crate::cache::{Cache, Object, Place};

type Shared = Arc<tokio::sync::Mutex<Option<Box<dyn MultipartUpload>>>>;

/// All uploads of this process that are neither complete nor aborted.
static IN_FLIGHT: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

/// An upload that is aborted unless it is completed, also where the work that makes it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    upload: Shared,
}

impl InFlight {
    pub(crate) fn new(upload: Box<dyn MultipartUpload>) -> Self {
        let upload = Arc::new(tokio::sync::Mutex::new(Some(upload)));
        IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&upload));
        Self { upload }
    }

    /// The upload of one more part; none if the whole was aborted meanwhile.
    pub(crate) async fn put_part(&self, bytes: PutPayload) -> Option<UploadPart> {
        Some(self.upload.lock().await.as_mut()?.put_part(bytes))
    }

    pub(crate) async fn complete(self) -> object_store::Result<()> {
        let mut upload = self.upload.lock().await;
        let Some(writing) = upload.as_mut() else {
            let source = "the upload was aborted".to_owned().into();
            return Err(object_store::Error::Generic { store: "upload", source });
        };
        let completed = writing.complete().await.map(drop);
        if completed.is_ok() {
            *upload = None;
        }
        completed
    }

    pub(crate) async fn abort(self) {
        abort(&self.upload).await;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let is_settled = self.upload.try_lock().is_ok_and(|upload| upload.is_none());
        if is_settled {
            forget(&self.upload);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let upload = Arc::clone(&self.upload);
            runtime.spawn(async move { abort(&upload).await });
        }
    }
}

fn forget(upload: &Shared) {
    let mut all = IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|other| !Arc::ptr_eq(other, upload));
}

async fn abort(upload: &Shared) {
    // The lock is held until the answer, so that another call waits for it.
    let mut held = upload.lock().await;
    if let Some(mut upload) = held.take()
        && let Err(error) = upload.abort().await
    {
        let error = crate::cache::backend::answer::chain(&error);
        tracing::info!("an upload in parts could not be aborted: {error}");
    }
    drop(held);
    forget(upload);
}

/// Aborts all uploads in parts that this process has begun and not completed, and waits for that,
/// but not longer than `limit`.
///
/// For programs that end early. What works on a cache has to be dropped before.
pub async fn abort_uploads(limit: Duration) {
    let all = IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let aborted = all.iter().map(abort).collect::<FuturesUnordered<_>>().collect::<Vec<()>>();
    if tokio::time::timeout(limit, aborted).await.is_err() {
        tracing::info!("uploads in parts could not be aborted within {} ms", limit.as_millis());
    }
}

/// An upload in parts that was begun, and is neither complete nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnfinishedUpload {
    /// The object that it was to become.
    pub name: String,
    /// When it began, by the clock of the store.
    pub started: Option<SystemTime>,
    id: String,
}

/// Asks an S3 for uploads in parts.
#[derive(Debug)]
pub(crate) struct Uploads {
    http: HttpClient,
    /// Of the bucket, without a slash at the end.
    address: String,
    region: String,
    /// None if requests are not signed.
    credentials: Option<AwsCredentialProvider>,
}

/// The URL of a bucket of S3, as `object_store` makes it. A virtual-hosted endpoint has the bucket
/// in it already.
pub(crate) fn address(endpoint: Option<&str>, bucket: &str, region: &str, virtual_hosted: bool) -> String {
    match (endpoint, virtual_hosted) {
        (Some(endpoint), true) => endpoint.to_owned(),
        (Some(endpoint), false) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        (None, true) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
        (None, false) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
    }
}

/// What S3's signatures leave as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const UNRESERVED_PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// A page of a listing of uploads.
#[derive(Debug, Default)]
struct Page {
    /// Key, identifier, date.
    uploads: Vec<[String; 3]>,
    is_truncated: bool,
    next_key: String,
    next_id: String,
}

impl Uploads {
    pub(crate) fn new(
        http: HttpClient,
        address: String,
        region: String,
        credentials: Option<AwsCredentialProvider>,
    ) -> Self {
        Self { http, address, region, credentials }
    }

    async fn send(&self, method: Method, path: &str, query: &[(&str, &str)]) -> std::result::Result<Vec<u8>, String> {
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, UNRESERVED))).collect();
        let path = utf8_percent_encode(path, UNRESERVED_PATH);
        let uri = format!("{}{path}?{}", self.address, query.join("&"));
        let request = Request::builder().method(method).uri(uri).body(HttpRequestBody::empty());
        let mut request = request.map_err(|error| error.to_string())?;
        if let Some(credentials) = &self.credentials {
            let credential =
                credentials.get_credential().await.map_err(|error| crate::cache::backend::answer::chain(&error))?;
            let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
            authorizer
                .try_authorize(&mut request, None)
                .map_err(|error| crate::cache::backend::answer::chain(&error))?;
        }
        let told = |error: HttpError| match Refusal::of(&error) {
            Some(refusal) => refusal.to_string(),
            None => crate::cache::backend::answer::chain(&error),
        };
        let response = self.http.execute(request).await.map_err(told)?;
        Ok(response.into_body().bytes().await.map_err(told)?.into())
    }

    /// The uploads of a bucket whose keys begin with `prefix`.
    async fn list(&self, prefix: &str) -> std::result::Result<Vec<[String; 3]>, String> {
        /// A million uploads.
        const PAGES_MAX: usize = 1000;
        let mut all = Vec::new();
        let (mut key, mut id) = (String::new(), String::new());
        for _ in 0..PAGES_MAX {
            let mut query = Vec::new();
            if !key.is_empty() {
                query.push(("key-marker", key.as_str()));
            }
            query.extend([("max-uploads", "1000"), ("prefix", prefix)]);
            if !id.is_empty() {
                query.push(("upload-id-marker", id.as_str()));
            }
            query.push(("uploads", ""));
            let body = self.send(Method::GET, "", &query).await?;
            let page = parse(&body).ok_or("the answer is no list of uploads")?;
            all.extend(page.uploads);
            let next = (page.next_key, page.next_id);
            if !page.is_truncated || next == (key.clone(), id.clone()) || next.0.is_empty() {
                return Ok(all);
            }
            (key, id) = next;
        }
        Err("the list of uploads does not end".to_owned())
    }
}

fn parse(body: &[u8]) -> Option<Page> {
    let mut reader = Reader::from_reader(body);
    let mut page = Page::default();
    let mut is_page = false;
    let mut upload: Option<[String; 3]> = None;
    let mut element: Vec<u8> = Vec::new();
    let mut text = String::new();
    loop {
        match reader.read_event().ok()? {
            Event::Eof => break,
            Event::Start(tag) => {
                element = tag.local_name().as_ref().to_vec();
                is_page |= element == b"ListMultipartUploadsResult";
                text.clear();
                if element == b"Upload" {
                    upload = Some(Default::default());
                }
            }
            Event::Empty(tag) => is_page |= tag.local_name().as_ref() == b"ListMultipartUploadsResult",
            Event::Text(part) => text.push_str(&String::from_utf8_lossy(&part)),
            Event::GeneralRef(reference) => text.push_str(&resolved(&reference)),
            Event::End(tag) => {
                if tag.local_name().as_ref() == b"Upload" {
                    page.uploads.extend(upload.take());
                }
                if tag.local_name().as_ref() == &element[..] {
                    let text = std::mem::take(&mut text);
                    match (&element[..], &mut upload) {
                        (b"Key", Some(upload)) => upload[0] = text,
                        (b"UploadId", Some(upload)) => upload[1] = text,
                        (b"Initiated", Some(upload)) => upload[2] = text,
                        (b"IsTruncated", None) => page.is_truncated = text.trim() == "true",
                        (b"NextKeyMarker", None) => page.next_key = text,
                        (b"NextUploadIdMarker", None) => page.next_id = text,
                        _ => {}
                    }
                }
                element.clear();
            }
            _ => {}
        }
    }
    is_page.then_some(page)
}

impl Cache {
    fn uploads(&self) -> Option<(&Bucket, &Uploads)> {
        let Place::Bucket(bucket) = &self.0.place else { return None };
        Some((bucket, bucket.uploads.as_ref()?))
    }

    /// Uploads in parts that began at least `age` ago, of objects that are part of a cache, and
    /// were neither completed nor aborted: their writers have crashed. Empty for caches that are no
    /// bucket of S3.
    pub async fn unfinished_uploads(&self, age: Duration) -> Result<Vec<UnfinishedUpload>> {
        let Some((bucket, uploads)) = self.uploads() else { return Ok(Vec::new()) };
        let listed = uploads.list(&bucket.key("")).await;
        let listed = listed.map_err(|reason| Error::Server {
            object: self.url().to_string(),
            reason: format!("cannot list uploads in parts (s3:ListBucketMultipartUploads): {reason}"),
        })?;
        let named = listed.into_iter().filter_map(|[key, id, date]| {
            let name = bucket.name(&key)?.to_owned();
            let started = DateTime::parse_from_rfc3339(date.trim()).ok().map(SystemTime::from);
            Some(UnfinishedUpload { name, started, id })
        });
        let is_old = |upload: &UnfinishedUpload| {
            let passed = upload.started.and_then(|started| started.elapsed().ok());
            passed.is_some_and(|passed| passed >= age)
        };
        let is_ours = |upload: &UnfinishedUpload| {
            !matches!(Object::of(&upload.name), Object::Other | Object::Temporary) && !upload.id.is_empty()
        };
        Ok(named.filter(|upload| is_old(upload) && is_ours(upload)).collect())
    }

    /// Aborts an upload in parts. That it is gone already is no error.
    pub async fn abort_upload(&self, upload: &UnfinishedUpload) -> Result<()> {
        let Some((bucket, uploads)) = self.uploads() else { return Ok(()) };
        let path = format!("/{}", bucket.key(&upload.name));
        match uploads.send(Method::DELETE, &path, &[("uploadId", &upload.id)]).await {
            Ok(_) => Ok(()),
            Err(reason) if reason.contains("NoSuchUpload") => Ok(()),
            Err(reason) => Err(Error::Server {
                object: self.display_name(&upload.name),
                reason: format!("cannot abort an upload in parts (s3:AbortMultipartUpload): {reason}"),
            }),
        }
    }
}
