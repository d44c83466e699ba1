//! Every archive of the shared vectors gets the verdict that was decided for it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use nixcache::nar::{Decoder, Reader, check};

fn vectors() -> Option<PathBuf> {
    let path = std::env::var_os("NIXCACHE_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: no test vectors at {}; set NIXCACHE_VECTORS", path.display());
    None
}

#[test]
fn every_vector_gets_its_verdict_from_every_reader() {
    let Some(vectors) = vectors() else { return };
    let text = std::fs::read_to_string(vectors.join("cases/nar.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = cases.as_array().unwrap();
    let mut tried = 0;
    for case in cases {
        // Some files are left out of the vectors for their licence.
        let Ok(nar) = std::fs::read(vectors.join(case["input"]["file"].as_str().unwrap())) else { continue };
        tried += 1;
        let expected = case["expect"] == "ok";
        let whole = check(&nar);
        assert_eq!(whole.is_ok(), expected, "{}", case["id"]);

        let mut reader = Reader::new(nar.as_slice());
        let mut read = || -> Result<(), nixcache::nar::ReadError> {
            while reader.next()?.is_some() {}
            reader.expect_end()
        };
        assert_eq!(read().map_err(|error| error.to_string()), whole.clone().map_err(|error| error.to_string()));

        let bytewise = || {
            let mut decoder = Decoder::new();
            for mut chunk in nar.chunks(1) {
                while decoder.next(&mut chunk)?.is_some() {}
                if !chunk.is_empty() {
                    return Err(nixcache::nar::Error::Trailing { offset: decoder.offset() });
                }
            }
            decoder.finish()
        };
        assert_eq!(bytewise().is_ok(), expected, "{}: byte by byte: {:?}", case["id"], bytewise());
    }
    assert!(tried > 100, "only {tried} vectors found");
}
