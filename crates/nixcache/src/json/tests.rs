//! JSON values, borrowed where possible, and what is refused.

use super::{Error, Json};

#[test]
fn every_kind_of_value_is_read() {
    let json = Json::parse(br#"{"a":[null,true,18446744073709551615,-1,1e3,"t","\u00e9"]}"#).unwrap();
    let Json::Object(members) = &json else { panic!("{json:?}") };
    let expected = [
        Json::Null,
        Json::Bool(true),
        Json::Number(Some(u64::MAX)),
        Json::Number(None),
        Json::Number(None),
        Json::Text("t".into()),
        Json::Text("é".into()),
    ];
    assert_eq!(members["a"], Json::Array(expected.into()));
}

#[test]
fn texts_are_borrowed_unless_something_is_escaped() {
    let json = Json::parse(br#"["plain","\n"]"#).unwrap();
    let Json::Array(texts) = json else { panic!() };
    let borrowed = texts.iter().map(|text| matches!(text, Json::Text(std::borrow::Cow::Borrowed(_))));
    assert_eq!(borrowed.collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_key_that_stands_twice_is_an_error_at_any_depth() {
    let error = Json::parse(b"{\"a\":\n[{\"b\":1,\"\\u0062\":1}]}").unwrap_err();
    let reason = "the key \"b\" for the second time".to_owned();
    assert!(matches!(&error, Error::Syntax { line: 2, reason: found, .. } if *found == reason), "{error}");
}

#[test]
fn what_is_not_json_is_an_error_with_its_place() {
    for (text, expected) in [
        ("", "line 1, column 0: not JSON: EOF while parsing a value"),
        ("{} {}", "line 1, column 4: not JSON: trailing characters"),
        ("[1,\n2,]", "line 2, column 3: not JSON: trailing comma"),
    ] {
        assert_eq!(Json::parse(text.as_bytes()).unwrap_err().to_string(), expected);
    }
    assert!(Json::parse(b"\"\xff\"").is_err());
}
