//! Keys that are no paths: `a//b`, `./x`, `nar/../y`, keys with control characters.
//!
//! Anybody with the right to write makes them (`aws s3 cp FILE s3://BUCKET//x`), and `object_store`
//! fails a whole page of a listing because of one. So they are taken out of the answer before it
//! reads it, and handed over beside it: they are listed by their names, which are those of no
//! object of a cache, and nothing else is done with them.

use bytes::Bytes;
use chrono::DateTime;
use object_store::path::Path;
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::cache::ObjectInfo;
use crate::cache::backend::network::xml::resolved;

/// The odd keys of a page, among the extensions of the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct OddKeys(pub(crate) Vec<(String, ObjectInfo)>);

/// What a page says of one object, or of one folder.
#[derive(Debug, Default)]
struct Entry {
    start: usize,
    is_folder: bool,
    name: Vec<u8>,
    size: Vec<u8>,
    modified: Vec<u8>,
}

/// Takes the odd keys out of a page of a listing in XML, of S3, Google or Azure. What is no such
/// page stays as it is.
pub(crate) fn take_out(page: Bytes) -> (Bytes, Vec<(String, ObjectInfo)>) {
    let mut reader = Reader::from_reader(&page[..]);
    reader.config_mut().check_end_names = false;
    let mut odd = Vec::new();
    let mut removed: Vec<(usize, usize)> = Vec::new();
    let mut entry: Option<Entry> = None;
    let mut element: Vec<u8> = Vec::new();
    loop {
        let start = position(&reader);
        let Ok(event) = reader.read_event() else { return (page, Vec::new()) };
        match event {
            Event::Eof => break,
            Event::Start(tag) => {
                element = tag.local_name().as_ref().to_vec();
                let is_folder = matches!(&element[..], b"CommonPrefixes" | b"BlobPrefix");
                if entry.is_none() && (is_folder || matches!(&element[..], b"Contents" | b"Blob")) {
                    entry = Some(Entry { start, is_folder, ..Entry::default() });
                }
            }
            Event::End(tag) => {
                element.clear();
                if !matches!(tag.local_name().as_ref(), b"Contents" | b"Blob" | b"CommonPrefixes" | b"BlobPrefix") {
                    continue;
                }
                let Some(entry) = entry.take() else { continue };
                if entry.is_plain() {
                    continue;
                }
                removed.push((entry.start, position(&reader)));
                odd.extend(entry.told());
            }
            Event::Text(text) => add(entry.as_mut(), &element, &text),
            Event::CData(text) => add(entry.as_mut(), &element, &text),
            Event::GeneralRef(reference) => add(entry.as_mut(), &element, resolved(&reference).as_bytes()),
            _ => {}
        }
    }
    if removed.is_empty() {
        return (page, odd);
    }
    let mut kept = Vec::with_capacity(page.len());
    let mut from = 0;
    for (start, end) in removed {
        kept.extend_from_slice(&page[from..start]);
        from = end;
    }
    kept.extend_from_slice(&page[from..]);
    (kept.into(), odd)
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

fn add(entry: Option<&mut Entry>, element: &[u8], text: &[u8]) {
    let Some(entry) = entry else { return };
    match element {
        b"Key" | b"Name" | b"Prefix" => entry.name.extend_from_slice(text),
        b"Size" | b"Content-Length" => entry.size.extend_from_slice(text),
        b"LastModified" | b"Last-Modified" => entry.modified.extend_from_slice(text),
        _ => {}
    }
}

impl Entry {
    fn is_plain(&self) -> bool {
        let Ok(name) = std::str::from_utf8(&self.name) else { return false };
        // What `Path::parse` takes off the ends would make another key of it.
        Path::parse(name).is_ok_and(|path| self.is_folder || path.as_ref() == name)
    }

    /// What listings tell of it; nothing of folders, nor of the empty objects that stand for them.
    fn told(self) -> Option<(String, ObjectInfo)> {
        let name = String::from_utf8_lossy(&self.name).into_owned();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let size = text(&self.size).parse().ok();
        let is_marker = size == Some(0)
            && name.strip_suffix('/').is_some_and(|name| Path::parse(name).is_ok_and(|path| path.as_ref() == name));
        if self.is_folder || is_marker {
            return None;
        }
        let date = text(&self.modified);
        let modified = DateTime::parse_from_rfc3339(&date).ok().map(Into::into);
        let modified = modified.or_else(|| httpdate::parse_http_date(&date).ok());
        Some((name, ObjectInfo { size, modified }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_keys_are_taken_out_of_a_page_and_told() {
        let entry = |key: &str, size: usize| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>\
                 <Size>{size}</Size></Contents>"
            )
        };
        let odd = ["a//b", "./x", "nar/../y", "/lead", "nar/x.nar/", "a&#x1b;b", "a\u{7}b"];
        let plain = ["nix-cache-info", "nar/x.nar", "a b", "é&amp;", "%2F"];
        let page = |keys: &[&str]| {
            let entries: String = keys.iter().map(|key| entry(key, 3)).collect();
            format!("<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\">{entries}</ListBucketResult>")
        };
        let mut all: Vec<&str> = Vec::new();
        for (index, key) in plain.iter().enumerate() {
            all.push(key);
            all.extend(odd.get(2 * index..(2 * index + 2).min(odd.len())).unwrap_or_default());
        }
        let (kept, told) = take_out(page(&all).into());
        assert_eq!(String::from_utf8_lossy(&kept), page(&plain));
        let names: Vec<&str> = told.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, ["a//b", "./x", "nar/../y", "/lead", "nar/x.nar/", "a\u{1b}b", "a\u{7}b"]);
        assert!(told.iter().all(|(_, meta)| meta.size == Some(3) && meta.modified.is_some()));
    }

    #[test]
    fn markers_of_folders_are_no_objects() {
        let page = "<ListBucketResult><Contents><Key>nar/</Key><Size>0</Size></Contents></ListBucketResult>";
        let (kept, told) = take_out(page.into());
        assert_eq!((&kept[..], told.len()), (&b"<ListBucketResult></ListBucketResult>"[..], 0));
        let azure = "<EnumerationResults><Blobs><Blob><Name>a//b</Name><Properties><Content-Length>7</Content-Length>\
                     </Properties></Blob></Blobs></EnumerationResults>";
        let (kept, told) = take_out(azure.into());
        assert_eq!(&kept[..], b"<EnumerationResults><Blobs></Blobs></EnumerationResults>");
        assert_eq!(told[0].0, "a//b");
        let no_page = Bytes::from_static(b"<html><body>hello");
        assert_eq!(take_out(no_page.clone()).0, no_page);
    }
}
