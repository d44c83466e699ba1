//! Every archive of the shared vectors gets the verdict that was decided for it.

use nixcache::nar::{Decoder, Error, ReadError, Reader, check};

use crate::archives;

#[test]
fn every_archive_gets_its_verdict_from_every_reader() {
    for (case, nar, valid) in archives() {
        let whole = check(&nar);
        assert_eq!(whole.is_ok(), valid, "{}", case["id"]);

        let mut reader = Reader::new(nar.as_slice());
        let mut read = || -> Result<(), ReadError> {
            while reader.next()?.is_some() {}
            reader.expect_end()
        };
        assert_eq!(read().map_err(|error| error.to_string()), whole.map_err(|error| error.to_string()));

        let bytewise = || {
            let mut decoder = Decoder::new();
            for mut chunk in nar.chunks(1) {
                while decoder.next(&mut chunk)?.is_some() {}
                if !chunk.is_empty() {
                    return Err(Error::Trailing { offset: decoder.offset() });
                }
            }
            decoder.finish()
        };
        assert_eq!(bytewise().is_ok(), valid, "{}: byte by byte: {:?}", case["id"], bytewise());
    }
}
