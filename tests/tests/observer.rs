//! One pass over an archive tells what separate passes tell, however the archive is cut.

use conformance::{any_tree, for_all};
use nixcache::hash::{Algorithm, Hash};
use nixcache::nar::references::{Candidates, Scanner};
use nixcache::nar::{Error, Limits, Listing, Observer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512, Algorithm::Blake3];

/// Hash parts, of which a test puts some into an archive.
const PARTS: [&str; 3] =
    ["0c0s2q2c3bnjvcbxv4mj3mzbbvd0q2y1", "zzzz0000zzzz0000zzzz0000zzzz0000", "1111111111111111111111111111111b"];

fn chunks<'a>(mut nar: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    lengths.iter().chain(&[1]).cycle().map_while(move |&len| {
        let (chunk, rest) = nar.split_at(len.min(nar.len()));
        let more = !nar.is_empty();
        nar = rest;
        more.then_some(chunk)
    })
}

#[test]
fn one_pass_tells_what_separate_passes_tell() {
    let lengths = prop_oneof![vec(0..=40_usize, 1..5), vec(500..=70_000_usize, 1..3)];
    let placed = vec((0..PARTS.len(), any::<Index>()), 0..3);
    for_all(128, (any_tree(), lengths, placed), |(tree, lengths, placed)| {
        let mut nar = tree.to_nar();
        // Over contents, or over the framing: then it is no archive, which only those notice who
        // were asked to check.
        for (part, at) in placed {
            let at = at.index(nar.len());
            let part = &PARTS[part].as_bytes()[..32.min(nar.len() - at)];
            nar[at..at + part.len()].copy_from_slice(part);
        }
        let candidates = Candidates::new(PARTS).unwrap();
        let mut scanner = Scanner::new(&candidates);
        scanner.update(&nar);
        let references = scanner.finish();

        let observer = || {
            let hashed = ALGORITHMS.into_iter().try_fold(Observer::new(), Observer::hash).unwrap();
            hashed.references(&candidates)
        };
        let mut unchecked = observer();
        chunks(&nar, &lengths).try_for_each(|chunk| unchecked.update(chunk)).unwrap();
        let read = observer().read(nar.as_slice()).unwrap();
        for seen in [unchecked.finish().unwrap(), read] {
            prop_assert_eq!(seen.size, nar.len() as u64);
            let hashes = ALGORITHMS.map(|algorithm| Hash::of(algorithm, &nar).unwrap());
            prop_assert_eq!(seen.hashes, hashes);
            prop_assert_eq!(&seen.references, &references);
            prop_assert!(seen.listing.is_none());
        }

        let mut listing = observer().listing();
        let outcome = chunks(&nar, &lengths).try_for_each(|chunk| listing.update(chunk));
        match (outcome.and_then(|()| listing.finish()), Listing::from_slice(&nar)) {
            (Ok(seen), Ok(listing)) => {
                prop_assert_eq!(seen.listing, Some(listing));
                prop_assert_eq!(seen.hashes[2], Hash::sha256(&nar));
                prop_assert_eq!(seen.references, references);
            }
            (seen, listing) => prop_assert!(seen.is_err() && listing.is_err(), "{:?}, but {:?}", seen, listing),
        }
        Ok(())
    });
}

#[test]
fn nothing_before_its_end_and_nothing_after_it_is_an_archive() {
    for_all(64, (any_tree(), any::<Index>(), 1..100_usize), |(tree, end, len)| {
        let nar = tree.to_nar();
        let cut = &nar[..end.index(nar.len())];
        let longer = [nar.as_slice(), b"more"].concat();
        for (bytes, at) in [(cut, cut.len()), (&longer, nar.len())] {
            for mut observer in [Observer::new().listing(), Observer::new().check(Limits::default())] {
                let outcome = bytes.chunks(len).try_for_each(|chunk| observer.update(chunk));
                let error = outcome.and_then(|()| observer.finish().map(drop)).unwrap_err();
                prop_assert!(matches!(error, Error::Truncated { .. } | Error::Trailing { .. }), "{}", error);
                prop_assert_eq!(error.offset(), at as u64);
            }
        }
        Ok(())
    });
}
