//! Large and hostile texts: bounded, and read in time proportional to their length.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::*;
use crate::signature::{KeyName, Signature};

/// The processor time that this thread takes: others may use the machine.
fn processor_time(work: impl Fn()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let start = now();
    work();
    now().checked_sub(start).unwrap()
}

/// Does everything with a text that can be done with a narinfo, or shows the error.
fn work_through(text: &[u8]) {
    match NarInfo::parse_limited(text, &StoreDir::default(), usize::MAX) {
        Ok(info) => {
            let key = |name| Signature::new(KeyName::new(name).unwrap(), [1; 64]);
            let references = info.references();
            assert_eq!(references.iter().count(), references.len());
            assert_eq!(info.signatures().count(), info.signatures().len());
            assert_eq!(info.deviations().is_empty(), info.is_canonical());
            assert!(!written(&info).is_empty());
            assert!(!info.fingerprint().to_vec().is_empty());
            assert!(!info.fingerprint().as_written().to_vec().is_empty());
            let edited = info.edit().sign(key("new").as_ref()).sign(key("a").as_ref()).unsign("b").url("u").finish();
            assert!(edited.is_ok());
        }
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
}

fn path(index: usize, name: &str) -> String {
    format!("{index:0>32}-{name}")
}

/// The example, with something at the end.
fn with(more: &str) -> String {
    Facts::example().text() + more
}

fn with_references(references: &[String]) -> String {
    let facts = Facts::example();
    let few: Vec<&str> = facts.references.iter().map(String::as_str).collect();
    facts.text().replace(&few.join(" "), &references.join(" "))
}

#[test]
fn no_text_takes_long() {
    let signature = |index: usize| Signature::new(KeyName::new(format!("k{index}")).unwrap(), [1; 64]).to_string();
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let paths: Vec<String> = (0..30_000).map(|index| path(index, "name")).collect();
    let rows: &[(&str, String)] = &[
        ("a line of colons", with(&":".repeat(100_000))),
        ("a line of colons and spaces", with(&": ".repeat(100_000))),
        ("a value of colons", with(&format!("Sig: {}\n", ":".repeat(100_000)))),
        ("a line without a colon", with(&"x".repeat(4 << 20))),
        ("newlines", with(&"\n".repeat(100_000))),
        ("blanks", " ".repeat(4 << 20)),
        ("lines of a colon and a space", with(&": \n".repeat(100_000))),
        ("carriage returns", with(&format!("x: {}", "\r".repeat(100_000)))),
        ("different signatures", with(&many(100_000, &|index| format!("Sig: {}\n", signature(index))))),
        ("one signature", with(&format!("Sig: {}\n", signature(1)).repeat(100_000))),
        ("malformed signatures", with(&"Sig: a:\n".repeat(100_000))),
        ("signatures between others", with(&many(100_000, &|index| format!("Sig: {index}\nx: \n")))),
        ("descending signatures", with(&many(100_000, &|index| format!("Sig: {}:a\n", 100_000 - index)))),
        ("unknown fields", with(&many(100_000, &|index| format!("Unknown{index}: a\n")))),
        ("a long unknown field", with(&format!("{}: a\n", "x".repeat(4 << 20)))),
        ("a long URL", Facts::example().text().replace("nar/a.nar.xz", &"é".repeat(2 << 20))),
        ("a long compression", Facts::example().text().replace(": xz", &format!(": {}", "x".repeat(4 << 20)))),
        ("a long number", Facts::example().text().replace(": 80", &format!(": {}", "0".repeat(4 << 20)))),
        ("references of blanks", with_references(&[" ".repeat(4 << 20)])),
        ("ascending references", with_references(&paths)),
        ("descending references", with_references(&paths.iter().rev().cloned().collect::<Vec<_>>())),
        ("one reference", with_references(&vec![path(7, "name"); 30_000])),
        (
            "references far apart",
            with_references(&paths[..3000].iter().map(|path| path.to_owned() + &" ".repeat(1000)).collect::<Vec<_>>()),
        ),
        ("a reference without end", with_references(&[path(7, &"x".repeat(4 << 20))])),
    ];
    for (what, text) in rows {
        let time = processor_time(|| work_through(text.as_bytes()));
        assert!(time < Duration::from_secs(3), "{what}: {} bytes took {time:?}", text.len());
    }
}

#[test]
fn as_many_references_as_anything_has_are_read_within_the_limit() {
    let name = "n".repeat(crate::store_path::StorePathRef::MAX_NAME_LEN);
    let mut paths: Vec<String> = (0..30_000).map(|index| path(index, &name)).collect();
    for is_sorted in [true, false] {
        let text = with_references(&paths);
        let info = NarInfo::parse(text.as_bytes(), &StoreDir::default()).unwrap();
        assert_eq!((info.references().len(), info.references().is_sorted()), (30_000, is_sorted));
        assert!(info.references().iter().map(|path| path.as_str()).eq(paths.iter()));
        assert_eq!(info.is_canonical(), is_sorted);
        paths.reverse();
    }
}

#[test]
fn a_text_of_more_than_the_limit_is_refused_unread() {
    let store_dir = StoreDir::default();
    let text = Facts::example().text();
    let length = text.len();
    assert!(NarInfo::parse_limited(text.as_bytes(), &store_dir, length).is_ok());
    let error = NarInfo::parse_limited(text.as_bytes(), &store_dir, length - 1).unwrap_err();
    assert_eq!(error, Error::of(None, ErrorReason::TooLong { limit: length - 1 }));

    let padding = "x".repeat(NarInfo::MAX_LEN - length - "x: \n".len());
    let mut text = with(&format!("x: {padding}\n"));
    assert_eq!(text.len(), NarInfo::MAX_LEN);
    assert!(NarInfo::parse(text.as_bytes(), &store_dir).is_ok());
    assert!(NarInfoBuf::parse(text.as_bytes(), &store_dir).is_ok());
    text.insert(0, 'x');
    let error = NarInfoBuf::parse(text.as_bytes(), &store_dir).unwrap_err();
    assert_eq!(error.reason, ErrorReason::TooLong { limit: NarInfo::MAX_LEN });
}
