//! Uploads in parts that crashed writers have left in a bucket of S3.
//!
//! `object_store` has no request that lists them, so that one is made here.

use std::time::SystemTime;

use chrono::DateTime;
use http::{Method, Request};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpError, HttpRequestBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::Bucket;
use crate::cache::UnfinishedUpload;
use crate::cache::backend::Backend as _;
use crate::cache::backend::network::refusal::Refusal;
use crate::cache::backend::network::xml::resolved;
use crate::cache::error::{Error, Result};
use crate::redact::chain;

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
            let credential = credentials.get_credential().await.map_err(|error| chain(&error))?;
            let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
            authorizer.try_authorize(&mut request, None).map_err(|error| chain(&error))?;
        }
        let told = |error: HttpError| match Refusal::of(&error) {
            Some(refusal) => refusal.to_string(),
            None => chain(&error),
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

impl Bucket {
    /// Uploads in parts of objects below the prefix of the cache.
    pub(super) async fn list_uploads(&self) -> Result<Vec<UnfinishedUpload>> {
        let Some(uploads) = &self.uploads else { return Ok(Vec::new()) };
        let listed = uploads.list(&self.key("")).await;
        let listed = listed.map_err(|reason| Error::Server {
            object: self.place.clone(),
            reason: format!("cannot list uploads in parts (s3:ListBucketMultipartUploads): {reason}"),
        })?;
        let named = listed.into_iter().filter_map(|[key, id, date]| {
            let name = self.name(&key)?.to_owned();
            let started = DateTime::parse_from_rfc3339(date.trim()).ok().map(SystemTime::from);
            Some(UnfinishedUpload { name, started, id })
        });
        Ok(named.collect())
    }

    /// Aborts an upload in parts. An absent one is no error.
    pub(super) async fn abort(&self, upload: &UnfinishedUpload) -> Result<()> {
        let Some(uploads) = &self.uploads else { return Ok(()) };
        let path = format!("/{}", self.key(&upload.name));
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
