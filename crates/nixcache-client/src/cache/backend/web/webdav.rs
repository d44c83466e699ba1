//! What servers of `WebDAV` list.

use std::time::SystemTime;

use percent_encoding::percent_decode_str;
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::cache::backend::network::xml::resolved;

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path from the root of the server, decoded, without a slash at the end.
    pub(crate) path: String,
    pub(crate) is_folder: bool,
    pub(crate) size: Option<u64>,
    pub(crate) modified: Option<SystemTime>,
}

/// Reads the answer to a `PROPFIND`. None if it is no such answer.
pub(crate) fn parse(body: &[u8]) -> Option<Vec<Entry>> {
    let mut reader = Reader::from_reader(body);
    let mut entries = Vec::new();
    let (mut is_answer, mut is_response) = (false, false);
    let mut element: Vec<u8> = Vec::new();
    let (mut href, mut length, mut date, mut is_folder) = (Vec::new(), Vec::new(), Vec::new(), false);
    loop {
        let add = |texts: [(&[u8], &mut Vec<u8>); 3], element: &[u8], text: &[u8]| {
            if let Some((_, into)) = texts.into_iter().find(|(name, _)| *name == element) {
                into.extend_from_slice(text);
            }
        };
        match reader.read_event().ok()? {
            Event::Eof => break,
            Event::Start(tag) => {
                element = tag.local_name().as_ref().to_ascii_lowercase();
                match &element[..] {
                    b"multistatus" => is_answer = true,
                    b"response" => {
                        is_response = true;
                        (href, length, date, is_folder) = (Vec::new(), Vec::new(), Vec::new(), false);
                    }
                    b"collection" => is_folder = true,
                    _ => {}
                }
            }
            Event::Empty(tag) => {
                let name = tag.local_name().as_ref().to_ascii_lowercase();
                is_answer |= name == b"multistatus";
                is_folder |= name == b"collection";
            }
            Event::End(tag) => {
                element.clear();
                if tag.local_name().as_ref().eq_ignore_ascii_case(b"response") && is_response {
                    is_response = false;
                    entries.extend(entry(&href, &length, &date, is_folder));
                }
            }
            Event::Text(text) => add(
                [(b"href", &mut href), (b"getcontentlength", &mut length), (b"getlastmodified", &mut date)],
                &element,
                &text,
            ),
            Event::GeneralRef(reference) => add(
                [(b"href", &mut href), (b"getcontentlength", &mut length), (b"getlastmodified", &mut date)],
                &element,
                resolved(&reference).as_bytes(),
            ),
            _ => {}
        }
    }
    is_answer.then_some(entries)
}

fn entry(href: &[u8], length: &[u8], date: &[u8], is_folder: bool) -> Option<Entry> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
    let href = text(href)?;
    // A whole URL, or a path; hosts behind proxies do not know their names, so that is not looked
    // at.
    let path = match href.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => &href,
    };
    let path = percent_decode_str(path).decode_utf8().ok()?;
    Some(Entry {
        path: path.strip_suffix('/').unwrap_or(&path).to_owned(),
        is_folder,
        size: text(length).and_then(|length| length.parse().ok()),
        modified: text(date).and_then(|date| httpdate::parse_http_date(&date).ok()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn answers_of_any_prefix_are_read() {
        let answer = "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">\
            <D:response><D:href>http://h/c/nar/</D:href><D:propstat><D:prop><D:resourcetype><D:collection/>\
            </D:resourcetype></D:prop></D:propstat></D:response>\
            <D:response><D:href>/c/a%20b&amp;c</D:href><D:propstat><D:prop><D:resourcetype/>\
            <D:getcontentlength>7</D:getcontentlength>\
            <D:getlastmodified>Fri, 02 Jan 2026 03:04:05 GMT</D:getlastmodified></D:prop></D:propstat></D:response>\
            </D:multistatus>";
        let entries = parse(answer.as_bytes()).unwrap();
        assert_eq!((&entries[0].path[..], entries[0].is_folder), ("/c/nar", true));
        assert_eq!((&entries[1].path[..], entries[1].is_folder, entries[1].size), ("/c/a b&c", false, Some(7)));
        assert!(entries[1].modified.is_some());
        assert_eq!(parse(b"<!DOCTYPE html><html><body><br></body></html>"), None);
        assert_eq!(parse(b"<multistatus/>"), Some(Vec::new()));
    }
}
