//! Listings against the trees they are made of, and their JSON against itself.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use proptest::prelude::*;

use super::{Listing, ListingBuilder, ListingNode, NodeKind, Row};
#[cfg(feature = "json")]
use crate::nar::Limits;
use crate::nar::{Reader, Writer};

#[derive(Clone, Debug)]
enum Tree {
    File(bool, Vec<u8>),
    Symlink(String),
    Directory(BTreeMap<String, Tree>),
}

fn name() -> impl Strategy<Value = String> {
    let alphabet = prop_oneof![Just('a'), Just('.'), Just('"'), Just('\\'), Just('\n'), Just('\u{7f}'), any::<char>()];
    let chars = prop::collection::vec(alphabet, 1..5).prop_map(String::from_iter);
    chars.prop_filter("a name", |name| super::super::grammar::name_fault(name.as_bytes()).is_none())
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(x, contents)| Tree::File(x, contents)),
        name().prop_map(Tree::Symlink),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| prop::collection::btree_map(name(), inner, 0..5).prop_map(Tree::Directory))
}

fn nar(tree: &Tree) -> Vec<u8> {
    fn write(tree: &Tree, name: &[u8], writer: &mut Writer<Vec<u8>>) {
        match tree {
            Tree::File(executable, contents) => writer.file(name, *executable, contents).unwrap(),
            Tree::Symlink(target) => writer.symlink(name, target.as_bytes()).unwrap(),
            Tree::Directory(entries) => {
                writer.directory(name).unwrap();
                for (name, entry) in entries {
                    write(entry, name.as_bytes(), writer);
                }
                writer.end().unwrap();
            }
        }
    }
    let mut writer = Writer::new(Vec::new());
    write(tree, b"", &mut writer);
    writer.finish().unwrap()
}

/// Of all below the node: paths and kinds, and which part of the archive each file is.
fn walked(listing: &Listing) -> Vec<(Vec<u8>, NodeKind<'_>)> {
    let (mut all, mut walk) = (Vec::new(), listing.root().walk());
    while let Some((path, node)) = walk.advance() {
        all.push((path.to_vec(), node.kind()));
    }
    all
}

fn expected<'a>(tree: &'a Tree, path: &str, all: &mut Vec<(Vec<u8>, &'a Tree)>) {
    all.push((path.as_bytes().to_vec(), tree));
    if let Tree::Directory(entries) = tree {
        for (name, entry) in entries {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            expected(entry, &path, all);
        }
    }
}

proptest! {
    #[test]
    fn every_node_of_the_archive_is_listed_in_its_order_and_found_by_its_path(tree in tree()) {
        let nar = nar(&tree);
        let listing = Listing::from_slice(&nar).unwrap();
        let mut all = Vec::new();
        expected(&tree, "", &mut all);
        prop_assert_eq!(walked(&listing).len(), all.len());
        for ((path, kind), (expected_path, tree)) in walked(&listing).into_iter().zip(all) {
            prop_assert_eq!(&path, &expected_path);
            let node = listing.root().get(&path).unwrap();
            prop_assert_eq!(node.kind(), kind);
            match (kind, tree) {
                (NodeKind::Directory, Tree::Directory(entries)) => {
                    prop_assert!(node.children().map(ListingNode::name).eq(entries.keys().map(String::as_bytes)));
                }
                (NodeKind::Symlink { target }, Tree::Symlink(expected)) => prop_assert_eq!(target, expected.as_bytes()),
                (NodeKind::File { executable, size, .. }, Tree::File(expected, contents)) => {
                    prop_assert_eq!((executable, size), (*expected, contents.len() as u64));
                    let mut read = Vec::new();
                    node.open(Cursor::new(&nar)).unwrap().read_to_end(&mut read).unwrap();
                    prop_assert_eq!(&read, contents);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn the_listing_is_the_same_whichever_way_the_archive_is_read(tree in tree(), buffer in 1..300_usize) {
        let nar = nar(&tree);
        let listing = Listing::from_slice(&nar).unwrap();
        let buffered = || io::BufReader::with_capacity(buffer, Cursor::new(&nar));
        let mut streamed = Reader::new(buffered());
        prop_assert_eq!(&Listing::read(&mut streamed).unwrap(), &listing);
        streamed.expect_end().unwrap();
        let mut seeked = Reader::new(buffered());
        prop_assert_eq!(&Listing::read_seek(&mut seeked).unwrap(), &listing);
        seeked.expect_end().unwrap();
    }

    #[test]
    fn a_cut_archive_is_refused_whichever_way_it_is_read(tree in tree(), cut in any::<prop::sample::Index>()) {
        let mut nar = nar(&tree);
        nar.truncate(cut.index(nar.len()));
        prop_assert!(Listing::from_slice(&nar).is_err());
        prop_assert!(Listing::read(&mut Reader::new(nar.as_slice())).is_err());
        prop_assert!(Listing::read_seek(&mut Reader::new(Cursor::new(&nar))).is_err());
    }

    #[test]
    fn an_opened_file_seeks_like_its_contents_alone(
        contents in prop::collection::vec(any::<u8>(), 0..50),
        moves in prop::collection::vec((0..3_usize, -60..60_i64, 0..20_usize), 0..20),
    ) {
        let nar = nar(&Tree::File(false, contents.clone()));
        let listing = Listing::from_slice(&nar).unwrap();
        let mut file = listing.root().open(Cursor::new(&nar)).unwrap();
        let mut oracle = Cursor::new(contents);
        for (from, by, len) in moves {
            let to = [SeekFrom::Start(by.unsigned_abs()), SeekFrom::Current(by), SeekFrom::End(by)][from];
            prop_assert_eq!(file.seek(to).ok(), oracle.seek(to).ok());
            prop_assert_eq!(file.stream_position().unwrap(), oracle.position());
            let (mut read, mut expected) = (vec![0; len], vec![0; len]);
            prop_assert_eq!(file.read(&mut read).unwrap(), oracle.read(&mut expected).unwrap());
            prop_assert_eq!(read, expected);
        }
    }
}

#[test]
fn contents_that_the_archive_does_not_have_are_an_error() {
    let nar = nar(&Tree::File(false, b"contents".to_vec()));
    let listing = Listing::from_slice(&nar).unwrap();
    let cut = &nar[..100];
    let mut read = Vec::new();
    let error = listing.root().open(Cursor::new(cut)).unwrap().read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(b"contents".starts_with(&read) && read.len() == 4, "{read:?}");
}

#[test]
fn only_a_file_with_a_known_place_can_be_opened() {
    let open = |event, offset| {
        let mut builder = ListingBuilder::new();
        builder.push::<()>(&event, offset);
        builder.finish().root().open(Cursor::new(b"")).map(drop).map_err(|error| error.kind())
    };
    let file = crate::nar::Event::File { name: b"".as_slice(), executable: false, size: 2 };
    let link = crate::nar::Event::Symlink { name: b"".as_slice(), target: b"file".as_slice() };
    let invalid = Err(io::ErrorKind::InvalidInput);
    assert_eq!(open(file, 96), Ok(()));
    assert_eq!(open(file, 0), invalid);
    assert_eq!(open(file, u64::MAX - 1), invalid);
    assert_eq!(open(link, 96), invalid);
    assert_eq!(open(crate::nar::Event::Directory { name: b"" }, 96), invalid);
}

#[test]
fn paths_are_names_between_slashes_and_nothing_else() {
    let link = || Tree::Symlink("dir".to_owned());
    let dir = Tree::Directory([("x".to_owned(), link())].into());
    let nar = nar(&Tree::Directory([("dir".to_owned(), dir), ("link".to_owned(), link())].into()));
    let listing = Listing::from_slice(&nar).unwrap();
    let found = |path: &[u8]| listing.root().get(path).map(|node| node.name().to_vec());
    for path in ["", "/", "//"] {
        assert_eq!(found(path.as_bytes()), Some(b"".to_vec()), "{path}");
    }
    for path in ["dir/x", "/dir/x", "//dir//x/"] {
        assert_eq!(found(path.as_bytes()), Some(b"x".to_vec()), "{path}");
    }
    for path in [".", "dir/.", "dir/..", "./dir", "link/x", "dir/x/y", "di", "dirx"] {
        assert_eq!(found(path.as_bytes()), None, "{path}");
    }
}

#[test]
fn events_that_are_no_archive_do_no_harm() {
    use crate::nar::Event::{Directory, End, File};
    let events = [End, Directory { name: b"".as_slice() }, Directory { name: b"a" }];
    let mut builder = ListingBuilder::new();
    assert_eq!(walked(&builder.clone().finish()), [(b"".to_vec(), NodeKind::Directory)]);
    for event in &events {
        builder.push::<()>(event, 0);
    }
    assert_eq!(walked(&builder.clone().finish()).len(), 2, "what is open is ended");
    let events = [End, End, End, File { name: b"b".as_slice(), executable: true, size: 1 }];
    for event in &events {
        builder.push::<()>(event, 0);
    }
    assert_eq!(walked(&builder.finish()).len(), 2, "what follows the root is passed over");
}

#[test]
fn a_node_takes_forty_bytes_and_its_name() {
    assert!(size_of::<Row>() <= 40, "{}", size_of::<Row>());
}

#[test]
fn a_million_nested_directories_do_not_exhaust_the_stack() {
    let depth = 1_000_000;
    let mut builder = ListingBuilder::new();
    for nth in 0..depth {
        builder.push::<()>(&crate::nar::Event::Directory { name: if nth == 0 { b"" } else { b"d" } }, 0);
    }
    let listing = builder.finish();
    let path = b"d/".repeat(depth - 1);
    assert_eq!(listing.root().get(&path).unwrap().children().count(), 0);
    let (mut walk, mut last) = (listing.root().walk(), 0);
    while let Some((path, _)) = walk.advance() {
        last = path.len();
    }
    assert_eq!(last, path.len() - 1);
    #[cfg(feature = "json")]
    {
        let limits = Limits { depth, ..Limits::default() };
        let mut json = Vec::new();
        listing.root().write_document(&mut json).unwrap();
        assert_eq!(Listing::parse(&json, limits).unwrap(), listing);
        assert!(matches!(
            Listing::parse(&json, Limits::default()),
            Err(crate::nar::ListingError::Limit { what: "the depth", value: 64, limit: 63, .. })
        ));
        for hostile in [r#"{"a":"#, "[", r#"{"root":{"entries":"#, r#"{"root":{"mtime":["#] {
            assert!(Listing::parse(hostile.repeat(depth).as_bytes(), limits).is_err());
        }
    }
}

#[cfg(feature = "json")]
mod json {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{nar, tree};
    use crate::nar::{Limits, Listing, ListingError, ListingWriteError, Writer};

    fn document(listing: &Listing) -> Vec<u8> {
        let mut json = Vec::new();
        listing.root().write_document(&mut json).unwrap();
        json
    }

    fn parse(json: &[u8]) -> Result<Listing, ListingError> {
        Listing::parse(json, Limits::default())
    }

    /// A document of equal meaning, with the members of each object rotated by some other number,
    /// keys escaped and white space.
    fn disguise(value: &Value, turn: &mut usize, out: &mut String) {
        let Value::Object(members) = value else { return out.push_str(&value.to_string()) };
        let mut members: Vec<_> = members.iter().collect();
        if !members.is_empty() {
            let len = members.len();
            members.rotate_left(*turn % len);
        }
        *turn += 1;
        out.push_str(" {\n");
        for (nth, (key, value)) in members.into_iter().enumerate() {
            out.push_str(if nth == 0 { "\"" } else { " , \"" });
            out.extend(key.encode_utf16().map(|unit| format!("\\u{unit:04X}")));
            out.push_str("\"\t: ");
            disguise(value, turn, out);
        }
        out.push_str(" }\r\n");
    }

    proptest! {
        #[test]
        fn a_written_listing_reads_as_itself(tree in tree()) {
            let listing = Listing::from_slice(&nar(&tree)).unwrap();
            let json = document(&listing);
            prop_assert_eq!(&parse(&json).unwrap(), &listing);
            let sorted_and_compact = serde_json::from_slice::<Value>(&json).unwrap().to_string();
            prop_assert_eq!(String::from_utf8(json).unwrap(), sorted_and_compact);
        }

        #[test]
        fn neither_the_order_of_keys_nor_escapes_nor_white_space_matter(tree in tree(), mut turn in 0..10_usize) {
            let listing = Listing::from_slice(&nar(&tree)).unwrap();
            let mut other = String::new();
            disguise(&serde_json::from_slice(&document(&listing)).unwrap(), &mut turn, &mut other);
            prop_assert_eq!(parse(other.as_bytes()).unwrap(), listing);
        }

        #[test]
        fn damaged_text_is_refused_or_is_another_listing(
            tree in tree(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut json = document(&Listing::from_slice(&nar(&tree)).unwrap());
            for (at, byte) in damage {
                let at = at.index(json.len());
                json[at] = byte;
            }
            if let Ok(listing) = parse(&json) {
                prop_assert_eq!(parse(&document(&listing)).unwrap(), listing);
            }
        }
    }

    #[test]
    fn errors_say_where() {
        let cases = [
            ("", "line 1, column 1: expected a listing: an object with \"root\" and \"version\""),
            ("{\n\"version\" 1}", "line 2, column 11: expected \":\""),
            ("{\n \"a\": [\n tru]}", "line 3, column 5: not JSON: expected ident"),
            (r#"{"version":2}"#, "line 1, column 12: expected version 1, the only one known"),
            (r#"{"version":1,"version":1}"#, "line 1, column 14: \"version\" for the second time"),
            (r#"{"version":1}"#, "line 1, column 13: \"root\" is missing before the end of this object"),
            (r#"{"root":{"type":"fifo"}}"#, "line 1, column 17: expected \"directory\", \"regular\" or \"symlink\""),
            (
                r#"{"root":{"entries":{"a":{}}}}"#,
                "line 1, column 26: \"type\" is missing before the end of this object",
            ),
            (
                r#"{"root":{"entries":{"a/":{"type":"directory"}}}}"#,
                "line 1, column 21: invalid entry name \"a/\": it contains a slash",
            ),
            (
                r#"{"root":{"target":"\u0000","type":"symlink"}}"#,
                "line 1, column 19: invalid symlink target \"\\x00\": it contains NUL",
            ),
            (r#"{"root":{"size":1e3}}"#, "line 1, column 17: expected a whole number from 0 to 18446744073709551615"),
            (
                "{\"root\":{\"entries\":{\n\"b\":{\"target\":\"t\",\"type\":\"symlink\"},\n\"a\":{\"target\":\"t\",\"type\":\"symlink\"},\n\
                 \"b\":{\"target\":\"t\",\"type\":\"symlink\"}\n},\"type\":\"directory\"},\"version\":1}",
                "line 4, column 1: \"b\" for the second time",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_utf8_cannot_be_written_and_is_named() {
        let mut writer = Writer::new(Vec::new());
        writer.directory(b"").unwrap();
        writer.directory(b"dir").unwrap();
        writer.symlink(b"caf\xe9", b"t").unwrap();
        writer.end().unwrap();
        writer.symlink(b"link", b"\xff").unwrap();
        writer.end().unwrap();
        let listing = Listing::from_slice(&writer.finish().unwrap()).unwrap();
        let message = |result: Result<(), ListingWriteError>| result.unwrap_err().to_string();
        let name = r#"the name of entry "caf\xe9" in directory "dir" is not UTF-8, which JSON cannot express"#;
        assert_eq!(message(listing.root().write_document(std::io::sink())), name);
        let target = r#"the target of entry "link" in directory "" is not UTF-8, which JSON cannot express"#;
        assert_eq!(message(listing.root().get(b"link").unwrap().write_tree(std::io::sink())), target);
        let mut shallow = Vec::new();
        listing.root().write_shallow(&mut shallow).unwrap();
        assert_eq!(shallow, br#"{"entries":{"dir":{},"link":{}},"type":"directory"}"#);
    }
}
