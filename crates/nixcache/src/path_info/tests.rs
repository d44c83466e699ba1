//! Path infos as JSON of every version.

use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::hash::Algorithm;
use crate::json::Error;
use crate::store_path::{HashPart, Method, StoreDir, StorePathRef};

const HELLO: &str = "00bgd045z0d4icpbc2yyz4gx48ak44la-hello";
const OTHER: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-other";
const INFO: &str = r#""narHash":"sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=","narSize":120"#;

fn parse(text: &str) -> Result<PathInfos, Error> {
    PathInfos::parse_json(text.as_bytes(), &StoreDir::default())
}

/// The one info that a document has, whose members beside hash and size are `members`.
fn info(members: &str) -> Result<PathInfo, Error> {
    let text = format!("{{{INFO}{members}}}");
    PathInfo::parse_json(text.as_bytes(), StorePathRef::parse(HELLO).unwrap(), &StoreDir::default())
}

fn message(members: &str) -> String {
    info(members).unwrap_err().to_string()
}

fn store_path() -> impl Strategy<Value = StorePath> {
    // Few hash parts, so that some paths differ only in their names, and some not at all.
    ("[0-9a-z+._?=-]{1,20}", 0..4_u8)
        .prop_filter_map("a name", |(name, first)| StorePath::new(HashPart::new([first; HashPart::LEN]), &name).ok())
}

fn hash() -> impl Strategy<Value = Hash> {
    (proptest::sample::select(Algorithm::ALL.to_vec()), any::<[u8; 64]>())
        .prop_map(|(algorithm, bytes)| Hash::new(algorithm, &bytes[..algorithm.digest_len()]).unwrap())
}

fn content_address() -> impl Strategy<Value = ContentAddress> {
    let methods = vec![Method::Text, Method::Flat, Method::Nar, Method::Git];
    (proptest::sample::select(methods), hash())
        .prop_filter_map("text is sha256", |(method, hash)| ContentAddress::new(method, hash).ok())
}

/// Some well-formed, some malformed.
fn signatures() -> impl Strategy<Value = BTreeSet<String>> {
    let line = prop_oneof!["[a-b1-]{1,3}:[A-Za-z0-9+/]{86}==", "[a-b1-]{0,3}:[A-Za-z0-9+/]{2}==", "[^\\p{Cc}]{0,8}"];
    btree_set(line, 0..4)
}

fn download() -> impl Strategy<Value = Download> {
    ("[^\\p{Cc}]{0,20}", option::of("[^\\p{Cc}]{0,5}"), option::of(hash()), any::<(Option<u64>, Option<u64>)>())
        .prop_map(|(url, compression, file_hash, (file_size, closure_size))| Download {
            url,
            compression,
            file_hash,
            file_size,
            closure_size,
        })
}

fn path_info() -> impl Strategy<Value = PathInfo> {
    let known = (store_path(), hash(), any::<u64>(), btree_set(store_path(), 0..4), option::of(store_path()));
    let said = (signatures(), option::of(content_address()), any::<bool>(), any::<(Option<u64>, Option<u64>)>());
    (known, said, option::of(download())).prop_map(|(known, said, download)| {
        let (path, nar_hash, nar_size, references, deriver) = known;
        let (signatures, ca, ultimate, (registration_time, closure_size)) = said;
        PathInfo {
            references,
            deriver,
            signatures,
            ca,
            ultimate,
            registration_time,
            closure_size,
            download,
            ..PathInfo::new(path, nar_hash, nar_size)
        }
    })
}

fn path_infos() -> impl Strategy<Value = PathInfos> {
    (proptest::collection::vec(path_info(), 0..4), btree_set(store_path(), 0..3)).prop_map(|(mut valid, invalid)| {
        valid.sort_by(|a, b| a.path.cmp(&b.path));
        valid.dedup_by(|a, b| a.path == b.path);
        let invalid = invalid.into_iter().filter(|path| valid.iter().all(|info| info.path != *path)).collect();
        PathInfos { valid, invalid }
    })
}

/// JSON of any shape, made of the words that path infos have.
fn json() -> impl Strategy<Value = String> {
    let words =
        "[{}\\[\\],:\"0-9.e+-]|\"(path|narHash|narSize|references|ca|info|version|valid|url|signatures)\"|null|true";
    let text = format!("({words}|\"{HELLO}\"|\"/nix/store/{HELLO}\"){{0,30}}");
    proptest::string::string_regex(&text).unwrap()
}

proptest! {
    #[test]
    fn what_is_written_in_any_version_reads_back_the_same(infos in path_infos()) {
        let store = StoreDir::default();
        for version in JsonVersion::ALL {
            let mut json = Vec::new();
            infos.write_json(version, &store, &mut json).unwrap();
            let mut expected = infos.clone();
            if version == JsonVersion::List {
                let downloads = expected.valid.iter_mut().filter_map(|info| info.download.as_mut());
                downloads.for_each(|download| download.compression = None);
            }
            prop_assert_eq!(PathInfos::parse_json(&json, &store), Ok(expected), "{}", String::from_utf8_lossy(&json));
        }
    }

    #[test]
    fn one_info_reads_back_the_same(info in path_info()) {
        let store = StoreDir::new("/a/store").unwrap();
        for version in [JsonVersion::Map, JsonVersion::V1, JsonVersion::V2, JsonVersion::V3] {
            let mut json = Vec::new();
            info.write_json(version, &store, &mut json).unwrap();
            prop_assert_eq!(&PathInfo::parse_json(&json, info.path.as_ref(), &store).unwrap(), &info);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![json(), "\\PC*"]) {
        let _ = parse(&text);
    }

    #[test]
    fn no_damage_makes_it_panic(
        infos in path_infos(),
        version in proptest::sample::select(JsonVersion::ALL.to_vec()),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        insert in json(),
    ) {
        let store = StoreDir::default();
        let mut json = Vec::new();
        infos.write_json(version, &store, &mut json).unwrap();
        let [start, end] = [cut.0, cut.1].map(|index| index.index(json.len() + 1));
        json.splice(start.min(end)..start.max(end), insert.into_bytes());
        let _ = PathInfos::parse_json(&json, &store);
    }
}

#[test]
fn versions_may_be_mixed() {
    let infos = parse(&format!(
        r#"{{"/nix/store/{HELLO}": {{{INFO}, "references": ["{OTHER}", "/nix/store/{HELLO}", "{OTHER}"], "version": 2,
            "ca": "fixed:r:sha256:1lr187v6dck1rjh2j6svpikcfz53wyl3qrlcbb405zlh13x0khhh", "unknown": [{{}}],
            "signatures": ["b:x", {{"keyName": "a", "sig": "y"}}, "odd"]}}, "{OTHER}": null}}"#
    ))
    .unwrap();
    let [info] = &*infos.valid else { panic!("{infos:?}") };
    assert_eq!(info.references.iter().map(StorePath::as_str).collect::<Vec<_>>(), [HELLO, OTHER]);
    assert_eq!(info.signatures.iter().collect::<Vec<_>>(), ["a:y", "b:x", "odd"]);
    assert_eq!(infos.invalid, [StorePath::parse(OTHER).unwrap()]);
}

#[test]
fn hashes_are_read_in_every_form() {
    let expected = Hash::parse("sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=").unwrap();
    let structured = |format: &str, hash: &str| format!(r#"{{"algorithm":"sha256",{format}"hash":"{hash}"}}"#);
    let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let base64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    for hash in [
        "\"sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s\"",
        &format!("\"sha256:{hex}\""),
        &format!("\"sha256:{base64}\""),
        &format!("\"sha256-{base64}\""),
        &structured("\"format\":\"base64\",", base64),
        &structured("\"format\":\"base16\",", hex),
        &structured("\"format\":\"sri\",", &format!("sha256-{base64}")),
        &structured("", hex),
    ] {
        let read = info(&format!(r#","url":"x","downloadHash":{hash}"#)).unwrap().download.unwrap();
        assert_eq!(read.file_hash, Some(expected), "{hash}");
    }
    let wrong = structured("\"format\":\"base64\",", hex);
    let error = message(&format!(r#","url":"x","downloadHash":{wrong}"#));
    assert!(error.ends_with("downloadHash.hash: this is not base64, the format in \"format\""), "{error}");
}

#[test]
fn errors_say_where_and_what_is_expected() {
    let place = format!("/nix/store/{HELLO}: ");
    for (members, expected) in [
        (
            r#","references":["00bgd045z0d4icpbc2yyz4gx48ak44la-a",7]"#,
            "references[1]: expected a store path, found a number",
        ),
        (r#","references":"""#, "references: expected an array of store paths, found \"\""),
        (
            r#","references":["/gnu/store/x"]"#,
            "references[0]: `/gnu/store/x` is not a path in the store directory /nix/store",
        ),
        (
            r#","signatures":[{"keyName":"a:b","sig":""}]"#,
            "signatures[0].keyName: expected the name of a key, without a colon, found \"a:b\"",
        ),
        (r#","signatures":[{"keyName":"a"}]"#, "signatures[0]: \"sig\" is missing"),
        (r#","url":"a\nSig: b""#, "url: \"a\\nSig: b\" has a control character"),
        (r#","downloadSize":1"#, ""),
        (r#","ca":{"method":"Nar"}"#, "ca.method: expected \"flat\", \"nar\", \"text\" or \"git\", found \"Nar\""),
        (r#","version":4"#, "version: expected version 1, 2 or 3, found a number"),
        (r#","storeDir":"/gnu/store""#, "storeDir: this is about the store /gnu/store, not /nix/store"),
        (
            r#","registrationTime":-1"#,
            "registrationTime: expected a whole number from 0 to 18446744073709551615, found a number",
        ),
        (
            r#","closureSize":1.5"#,
            "closureSize: expected a whole number from 0 to 18446744073709551615, found a number",
        ),
        (r#","ultimate":"no""#, "ultimate: expected true or false, found \"no\""),
        (
            r#","path":"/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-other""#,
            "path: expected the path that this info is about, found \"/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-other\"",
        ),
    ] {
        let expected = match expected {
            "" => format!("/nix/store/{HELLO}: \"url\" is missing"),
            expected => format!("{place}{expected}"),
        };
        assert_eq!(message(members), expected);
    }
}

#[test]
fn errors_of_a_document_say_where() {
    for (text, expected) in [
        ("{\n  \"a\" 1}", "line 2, column 7: not JSON: expected `:`"),
        ("7", "the document: expected an object keyed by store paths, or an array, found a number"),
        ("[7]", "the document: [0]: expected a path info: an object, found a number"),
        ("[{}]", "the document: [0]: \"path\" is missing"),
        (
            r#"{"hello":null}"#,
            "hello: `hello` is not a store path: expected 32 characters of nixbase32, `-` and a name",
        ),
        (r#"{"info":{},"version":4}"#, "the document: version: expected version 1, 2 or 3, found a number"),
        (r#"{"info":{},"storeDir":"/a"}"#, "the document: storeDir: this is about the store /a, not /nix/store"),
        (&format!(r#"{{"{HELLO}":{{"narSize":1}}}}"#), &format!("{HELLO}: \"narHash\" is missing")),
        (
            &format!(r#"{{"{HELLO}":null,"/nix/store/{HELLO}":null}}"#),
            &format!("/nix/store/{HELLO}: this path is in the document twice"),
        ),
        (
            &format!(r#"{{"{HELLO}":null,"{HELLO}":null}}"#),
            &format!("line 1, column 93: the key \"{HELLO}\" for the second time"),
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn an_empty_answer_is_read_and_written_in_every_version() {
    let written = |version| {
        let mut json = Vec::new();
        PathInfos::default().write_json(version, &StoreDir::default(), &mut json).unwrap();
        String::from_utf8(json).unwrap()
    };
    assert_eq!(
        JsonVersion::ALL.map(written),
        [
            "[]",
            "{}",
            "{}",
            r#"{"info":{},"storeDir":"/nix/store","version":2}"#,
            r#"{"info":{},"storeDir":"/nix/store","version":3}"#
        ]
    );
    for version in JsonVersion::ALL {
        assert_eq!(parse(&written(version)), Ok(PathInfos::default()));
    }
}

#[test]
fn an_answer_that_says_a_path_twice_is_not_written() {
    let path = StorePath::parse(HELLO).unwrap();
    let infos = PathInfos { valid: vec![PathInfo::new(path.clone(), Hash::sha256(b""), 0)], invalid: vec![path] };
    let mut json = Vec::new();
    let error = infos.write_json(JsonVersion::V1, &StoreDir::default(), &mut json).unwrap_err();
    assert_eq!((error.kind(), json.len()), (std::io::ErrorKind::InvalidInput, 0));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_full_stack() {
    for open in ["[", "{\"a\":"] {
        let error = parse(&open.repeat(1 << 20)).unwrap_err().to_string();
        assert!(error.ends_with("recursion limit exceeded"), "{error}");
    }
}

#[test]
fn what_has_no_size_has_no_fingerprint() {
    let mut info = info("").unwrap();
    assert!(info.fingerprint(&StoreDir::default()).is_some());
    info.nar_size = 0;
    assert!(info.fingerprint(&StoreDir::default()).is_none());
}

#[test]
fn structured_signatures_are_sorted_by_name_and_bytes() {
    let mut info = info("").unwrap();
    // The first is byte 255, the second byte 0.
    for line in ["a:/w==", "a:AA==", "a-1:AA==", "odd"] {
        info.signatures.insert(line.to_owned());
    }
    let mut json = Vec::new();
    info.write_json(JsonVersion::V3, &StoreDir::default(), &mut json).unwrap();
    let json = String::from_utf8(json).unwrap();
    let expected = r#""signatures":["odd",{"keyName":"a","sig":"AA=="},{"keyName":"a","sig":"/w=="},{"keyName":"a-1","sig":"AA=="}],"#;
    assert!(json.contains(expected), "{json}");
}
