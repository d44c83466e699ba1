//! The scanner and the modulo hasher against naive definitions.

use super::hash_part::{LEN, is_base32};
use super::runs::for_each_run;
use super::*;
use crate::hash::{Algorithm, Hasher};
use proptest::prelude::*;

const OWN: &str = "998y3c8gq3r1jd2j3i8i0ypmhmbz8fi9";

/// The definition: at which offsets the 32 bytes stand.
fn occurrences<'a>(bytes: &'a [u8], part: &'a str) -> impl Iterator<Item = usize> + 'a {
    (0..bytes.len()).filter(move |&at| bytes[at..].starts_with(part.as_bytes()))
}

fn scan<'a>(candidates: &[String], chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<usize> {
    let mut scanner = Scanner::new(&Candidates::new(candidates).unwrap());
    chunks.into_iter().for_each(|chunk| scanner.update(chunk));
    scanner.finish()
}

fn modulo<'a>(own: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> HashModulo {
    let mut hasher = ModuloHasher::new(Hasher::new(Algorithm::Sha256).unwrap(), own).unwrap();
    chunks.into_iter().for_each(|chunk| hasher.update(chunk));
    hasher.finish()
}

fn cut<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    lengths
        .iter()
        .map(|&length| rest.split_off(..length.min(rest.len())).unwrap())
        .chain([&[] as &[u8]])
        .collect::<Vec<_>>()
        .into_iter()
        .chain([rest])
}

/// Streams in which runs of nixbase32 are frequent, of all lengths around 32, and repeat
/// themselves.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[01]{1,80}",
        2 => "[a-z0-9]{0,40}",
        2 => Just(OWN.to_owned()),
        2 => (0..32_usize).prop_map(|cut| OWN[cut..].to_owned()),
        2 => (0..32_usize).prop_map(|cut| OWN[..cut].to_owned()),
        1 => "0{30,140}",
        1 => "[ e/\u{0}]{1,40}",
        1 => "[ e/]{1,2}[ a-z0-9]{400,700}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Candidates that `stream` is likely to hold: runs of it, and a few others.
fn candidates(stream: &[u8], picks: &[prop::sample::Index]) -> Vec<String> {
    let windows: Vec<_> = stream.windows(LEN).filter(|window| window.iter().all(|&byte| is_base32(byte))).collect();
    let picked = picks.iter().filter(|_| !windows.is_empty()).map(|pick| pick.get(&windows).to_vec());
    let mut texts: Vec<_> = picked.map(|window| String::from_utf8(window).unwrap()).collect();
    texts.extend(["0".repeat(32), OWN.to_owned(), "1".repeat(32), OWN.to_owned()]);
    texts
}

proptest! {
    #[test]
    fn finds_what_a_naive_search_finds_however_the_stream_is_cut(
        stream in stream(),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        lengths in proptest::collection::vec(0..90_usize, 0..40),
    ) {
        let texts = candidates(&stream, &picks);
        let expected: Vec<_> = (0..texts.len())
            .filter(|&index| !texts[..index].contains(&texts[index]))
            .filter(|&index| occurrences(&stream, &texts[index]).next().is_some())
            .collect();
        prop_assert_eq!(&scan(&texts, [&stream[..]]), &expected);
        prop_assert_eq!(&scan(&texts, cut(&stream, &lengths)), &expected);
        prop_assert_eq!(&scan(&texts, stream.chunks(1)), &expected);
    }

    #[test]
    fn hash_modulo_is_the_hash_of_the_zeroed_stream_and_positions_however_it_is_cut(
        stream in stream(),
        own in prop_oneof![Just(OWN.to_owned()), Just("0".repeat(32)), Just("01".repeat(16))],
        lengths in proptest::collection::vec(0..90_usize, 0..40),
    ) {
        let mut zeroed = stream.clone();
        let mut positions = Vec::new();
        loop {
            let next = occurrences(&zeroed, &own).next();
            let Some(at) = next else { break };
            zeroed[at..at + LEN].fill(0);
            positions.push(at as u64);
        }
        let mut hasher = Hasher::new(Algorithm::Sha256).unwrap();
        hasher.update(&zeroed);
        let without_positions = hasher.clone().finish();
        for at in &positions {
            hasher.update(format!("|{at}").as_bytes());
        }
        let expected =
            HashModulo { hash: hasher.finish(), without_positions, positions, size: stream.len() as u64 };
        prop_assert_eq!(&modulo(&own, [&stream[..]]), &expected);
        prop_assert_eq!(&modulo(&own, cut(&stream, &lengths)), &expected);
        prop_assert_eq!(&modulo(&own, stream.chunks(1)), &expected);
    }

    #[test]
    fn runs_are_those_of_a_naive_search(stream in stream()) {
        let mut runs = Vec::new();
        for_each_run(&stream, |run| runs.push(run));
        let mut at = 0;
        let expected: Vec<_> = stream
            .chunk_by(|&one, &next| is_base32(one) == is_base32(next))
            .map(|chunk| { at += chunk.len(); at - chunk.len()..at })
            .filter(|run| run.len() >= LEN && is_base32(stream[run.start]))
            .collect();
        prop_assert_eq!(runs, expected);
    }
}

#[test]
fn a_hash_part_is_found_at_every_offset_and_across_every_cut() {
    for before in 0..600 {
        for fill in *b"e0" {
            let mut stream = vec![fill; before];
            stream.extend_from_slice(OWN.as_bytes());
            stream.resize(1200, fill);
            assert_eq!(scan(&[OWN.to_owned()], [&stream[..]]), [0], "{before} bytes before");
            let (left, right) = stream.split_at(before + before % 33);
            assert_eq!(scan(&[OWN.to_owned()], [left, right]), [0], "{before} bytes before");
            assert_eq!(modulo(OWN, [left, right]).positions, [before as u64]);
        }
    }
    let stream = format!("bar/{OWN}{OWN}-x");
    for at in 0..=stream.len() {
        let (left, right) = stream.as_bytes().split_at(at);
        assert_eq!(scan(&[OWN.to_owned()], [left, right]), [0], "cut at {at}");
        assert_eq!(modulo(OWN, [left, right]).positions, [4, 36], "cut at {at}");
    }
}

/// `nix store make-content-addressed` on the output of `echo A$out B$out/x-$out > $out`, with
/// Nix 2.8.0 and 2.34.8.
#[test]
fn hash_modulo_equals_that_of_both_kinds_of_nix() {
    let path = format!("/nix/store/{OWN}-selfie");
    let contents = format!("A{path} B{path}/x-{path}\n");
    let mut nar = Vec::new();
    for token in ["nix-archive-1", "(", "type", "regular", "contents", &contents, ")"] {
        nar.extend_from_slice(&(token.len() as u64).to_le_bytes());
        nar.extend_from_slice(token.as_bytes());
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    let found = modulo(&path, [&nar[..]]);
    assert_eq!(found.positions, [108, 160, 213]);
    assert_eq!(found.size, 272);
    assert_eq!(found.hash.to_string(), "sha256:11h2xqnf1p6alxg4nn00bgj8kyb5a23fpgq3gf6ri3qa75611agx");
    assert_eq!(found.without_positions.to_string(), "sha256:12fc123qw84k5wf2ndgymhp9514pdqlbrr763q9zybx1wjryxm3b");
}

#[test]
fn a_hundred_thousand_candidates_are_told_apart() {
    let part = |n: u32| format!("{n:0>32}");
    let texts: Vec<_> = (0..100_000).map(part).collect();
    let mentioned: Vec<_> = (0..200_000).step_by(3).map(part).collect();
    let stream = mentioned.join(" ");
    assert_eq!(scan(&texts, [stream.as_bytes()]), (0..100_000).step_by(3).collect::<Vec<_>>());
}

#[test]
fn hash_parts_are_taken_from_store_paths_and_base_names() {
    let given = [OWN, &format!("{OWN}-x"), &format!("/gnu/store/{OWN}-x")].map(str::to_owned);
    let candidates = Candidates::new(&given).unwrap();
    assert_eq!(
        (0..4).map(|index| candidates.hash_part(index)).collect::<Vec<_>>(),
        [Some(OWN), Some(OWN), Some(OWN), None]
    );
    assert_eq!(scan(&given, [OWN.as_bytes()]), [0]);
}

#[test]
fn what_is_no_hash_part_is_refused_with_its_place_and_quoted_to_a_bound() {
    let long = "x".repeat(10_000);
    let bad = ["", "short", &OWN[1..], &long, &format!("{OWN}-"), &format!("{OWN}x"), &format!("store/{OWN}-x"), "é"];
    for text in bad {
        let error = Candidates::new([OWN, text]).unwrap_err();
        assert!(matches!(error, CandidateError { index: 1, reason: HashPartError::Form { .. } }), "{error}");
        assert!(error.to_string().len() < 300, "{error}");
    }
    for character in "etouA_ \0".chars() {
        let text = format!("{}{character}{}-x", &OWN[..7], &OWN[8..]);
        let error = Candidates::new([&text]).unwrap_err();
        assert!(matches!(error.reason, HashPartError::Character { offset: 7, .. }), "{error}");
    }
}
