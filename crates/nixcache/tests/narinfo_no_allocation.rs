//! Reading a narinfo never allocates, even if it deviates from what Nix writes. Verifying one does
//! not allocate once the verifier has warmed up. A counting allocator checks it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::hint::black_box;

use allocation_counter::measure;
use nixcache::hash::Hash;
use nixcache::narinfo::{Builder, DeviationKind, NarInfo};
use nixcache::signature::{KeyName, SecretKey};
use nixcache::store_path::{StoreDir, StorePath, StorePathRef};
use nixcache::trust::{Standing, TrustPolicy, Verifier};

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

fn secret(name: &str) -> SecretKey {
    SecretKey::generate(KeyName::new(name).unwrap()).unwrap()
}

/// A narinfo as Nix writes it, with this many references, signed by these keys.
fn canonical(references: usize, signers: &[&SecretKey]) -> String {
    let store_dir = StoreDir::default();
    let paths: Vec<StorePath> =
        (0..references).map(|index| StorePath::parse(&format!("{index:0>32}-name-{index}")).unwrap()).collect();
    let path = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60").unwrap();
    let builder = Builder::new(&store_dir, path, "nar/x.nar.xz", Hash::sha256(b"nar"), 1234)
        .file_hash(Hash::sha256(b"file"))
        .file_size(100)
        .references(paths.iter().map(StorePath::as_ref))
        .deriver(path);
    let unsigned = builder.build().unwrap();
    let fingerprint = unsigned.as_ref().fingerprint().to_vec();
    let edit = unsigned.as_ref().edit();
    let signed = signers.iter().fold(edit, |edit, signer| edit.sign(signer.sign(&fingerprint).as_ref())).finish();
    signed.unwrap().as_str().to_owned()
}

/// A variant of a narinfo with as many deviations as possible.
fn odd(canonical: &str) -> String {
    let references = canonical.lines().find_map(|line| line.strip_prefix("References: ")).unwrap();
    let mut reversed: Vec<&str> = references.split(' ').rev().collect();
    reversed.extend(reversed.last().copied());
    let mut lines: Vec<String> = canonical.lines().rev().map(str::to_owned).collect();
    for line in &mut lines {
        if line.starts_with("References: ") {
            *line = format!("References:  {}  ", reversed.join("  "));
        } else if line.starts_with("Compression: ") {
            "Compression: snappy".clone_into(line);
        } else if let Some(size) = line.strip_prefix("NarSize: ") {
            *line = format!("NarSize: 00{size}");
        } else if line.starts_with("NarHash: ") {
            *line = format!("NarHash: {}", Hash::sha256(b"nar").display(nixcache::hash::Format::Sri));
        } else if line.starts_with("FileSize: ") {
            "FileSize: 0".clone_into(line);
        }
    }
    lines.extend(["System: x86_64-linux".to_owned(), "CA: ".to_owned(), "Sig: nonsense".to_owned()]);
    lines.join("\n")
}

/// Reads every field of a narinfo.
fn look(info: &NarInfo<'_>) -> usize {
    black_box((info.store_path(), info.store_dir(), info.url(), info.compression_name()));
    black_box((info.file_hash(), info.file_size(), info.nar_hash(), info.nar_size(), info.deriver()));
    black_box((info.content_address(), info.is_canonical(), info.references().is_sorted()));
    black_box(DeviationKind::ALL.iter().filter(|kind| info.deviates(**kind)).count());
    let length: usize = info.references().iter().map(|path| path.as_str().len() + path.name().len()).sum();
    length + info.signatures().map(str::len).sum::<usize>()
}

#[test]
fn reading_a_narinfo_never_allocates() {
    let (a, b) = (secret("a"), secret("b"));
    let store_dir = StoreDir::default();
    for references in [0, 1, 3, 5000] {
        let canonical = canonical(references, &[&a, &b]);
        for text in [odd(&canonical), canonical] {
            let mut length = 0;
            let read = || length = look(&NarInfo::parse(text.as_bytes(), &store_dir).unwrap());
            assert_eq!(allocations(read), 0, "{text}");
            assert!(length > 2 * 88);
        }
    }
}

#[test]
fn neither_many_lines_nor_odd_names_make_reading_allocate() {
    let store_dir = StoreDir::default();
    let none = canonical(2, &[]);
    for line in ["Sig: a:b\n", "Unknown: field\n", "Sig: \nx: \n"] {
        let text = none.clone() + &line.repeat(10_000);
        let read = || assert!(look(&NarInfo::parse(text.as_bytes(), &store_dir).unwrap()) > 0);
        assert_eq!(allocations(read), 0, "{line}");
    }
    // Compressions that have a name but no codec, and names that no compression has.
    for name in ["lzop", "lrzip", "snappy", "", "none "] {
        let text = none.replace("Compression: none", &format!("Compression: {name}"));
        let read = || assert!(look(&NarInfo::parse(text.as_bytes(), &store_dir).unwrap()) > 0);
        assert_eq!(allocations(read), 0, "{name}");
    }
}

#[test]
fn a_fingerprint_is_written_to_a_grown_buffer_without_allocating() {
    let canonical = canonical(500, &[]);
    let odd = odd(&canonical);
    let store_dir = StoreDir::default();
    let mut buffer = Vec::new();
    NarInfo::parse(canonical.as_bytes(), &store_dir).unwrap().fingerprint().write_to(&mut buffer).unwrap();
    let fingerprint = buffer.clone();
    let mut write = |text: &str| {
        let info = NarInfo::parse(text.as_bytes(), &store_dir).unwrap();
        buffer.clear();
        allocations(|| info.fingerprint().write_to(&mut buffer).unwrap())
    };
    assert_eq!(write(&canonical), 0);
    // Unsorted references are sorted in one allocated buffer.
    assert!(write(&odd) < 12);
    assert_eq!(buffer, fingerprint);
}

#[test]
fn parsing_and_verifying_allocates_nothing_once_warmed_up() {
    let (a, b, other) = (secret("a"), secret("b"), secret("other"));
    let store_dir = StoreDir::default();
    let texts = [
        (canonical(100, &[&a]), vec![Standing::Holds]),
        (canonical(3, &[&a, &b]), vec![Standing::Holds, Standing::Holds]),
        (canonical(0, &[]), vec![]),
        (canonical(1, &[&a, &other]), vec![Standing::Holds, Standing::Unknown]),
        (canonical(2, &[&b]).replace("NarSize: ", "NarSize: 9"), vec![Standing::Fails]),
    ];
    // One key and several are looked up in different ways.
    for keys in [vec![&a], vec![&a, &b]] {
        let policy = TrustPolicy::new(keys.iter().map(|key| key.public_key().clone()).collect());
        let mut verifier = Verifier::new(&policy);
        verifier.verify(&NarInfo::parse(texts[0].0.as_bytes(), &store_dir).unwrap());
        for (text, expected) in &texts {
            let mut found = [Standing::Unknown; 2];
            let verify = || {
                let info = NarInfo::parse(text.as_bytes(), &store_dir).unwrap();
                let verdict = verifier.verify(&info);
                for (found, (_, standing)) in found.iter_mut().zip(verdict.signatures()) {
                    *found = *standing;
                }
            };
            assert_eq!(allocations(verify), 0, "{text}");
            assert!(keys.len() == 1 || found[..expected.len()] == **expected, "{text}");
        }
    }
}
