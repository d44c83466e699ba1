//! `narutil verify --contents`: the NAR is the one that the narinfo describes.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use conformance::TreeNode;
use nixcache::compression::{Compression, Compressor};
use nixcache::hash::{Algorithm, Hash, Hasher};
use nixcache::narinfo::Builder;
use nixcache::store_path::{ContentAddress, Method, StoreDir, StorePathRef};
use serde_json::{Value, json};

use crate::cache::{Key, add, base_name, full_path, hash_part};
#[cfg(target_os = "linux")]
use crate::memory::peak_of;
use crate::narutil::{Ran, Scratch, file, narutil, run, sample};

/// A cache of one path. The narinfo is signed after it has been changed, so that only the contents
/// are wrong.
struct Lone {
    scratch: Scratch,
    key: Key,
    cache: PathBuf,
}

type Damage = fn(&[u8]) -> Vec<u8>;

/// The facts about a NAR.
struct Facts {
    compression: &'static str,
    /// The file at the URL, compressed.
    bytes: Vec<u8>,
    nar: Vec<u8>,
}

impl Facts {
    fn new(compression: &'static str, tree: &TreeNode) -> Self {
        Self::of_nar(compression, tree.to_nar())
    }

    fn of_nar(compression: &'static str, nar: Vec<u8>) -> Self {
        Self { compression, bytes: compress(compression, &nar), nar }
    }

    fn url(&self) -> String {
        format!("nar/a.nar{}", self.compression.parse::<Compression>().unwrap().extension())
    }

    /// The narinfo, as it is without a signature.
    fn narinfo(&self) -> String {
        let (directory, name, url) = (StoreDir::default(), base_name(1), self.url());
        let path = StorePathRef::parse(&name).unwrap();
        Builder::new(&directory, path, &url, Hash::sha256(&self.nar), self.nar.len() as u64)
            .compression(self.compression.parse().unwrap())
            .file_hash(Hash::sha256(&self.bytes))
            .file_size(self.bytes.len() as u64)
            .build()
            .unwrap()
            .as_str()
            .to_owned()
    }
}

fn compress(compression: &str, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = Compressor::new(Vec::new(), &compression.parse().unwrap()).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Lone {
    fn new() -> Self {
        let scratch = Scratch::new();
        let (key, cache) = (Key::new(&scratch, "k-1"), scratch.path("cache"));
        fs::create_dir_all(cache.join("nar")).unwrap();
        Self { scratch, key, cache }
    }

    /// Writes the signed narinfo and the file.
    fn put(&self, facts: &Facts, narinfo: &str) {
        fs::write(self.cache.join(facts.url()), &facts.bytes).unwrap();
        add(&self.cache, 1, &self.key.sign(narinfo));
    }

    fn verify(&self) -> Ran {
        run(narutil!["verify", "--contents", "--trusted", self.key.public(), &self.cache])
    }

    /// The reported reason why the path is bad.
    fn bad(&self) -> String {
        let Ran { status, stdout, stderr } = self.verify();
        let stdout = String::from_utf8(stdout).unwrap();
        assert_eq!((status, stderr.as_str()), (Some(1), ""), "{stdout}");
        let reason = stdout.strip_prefix(&format!("bad  {}  ", full_path(1))).unwrap_or_else(|| panic!("{stdout}"));
        assert_eq!(reason.lines().count(), 1, "{reason}");
        reason.trim_end().to_owned()
    }

    fn ok(&self) {
        let ran = self.verify();
        assert_eq!(ran.stderr, "");
        assert_eq!(ran.text(), format!("ok  {}  k-1\n", full_path(1)));
    }
}

const COMPRESSIONS: [&str; 7] = ["none", "xz", "zstd", "bzip2", "gzip", "br", "lz4"];

/// The narinfo, with another value of a field.
fn with(narinfo: &str, field: &str, value: &str) -> String {
    let changed = narinfo.lines().map(|line| match line.split_once(": ") {
        Some((name, _)) if name == field => format!("{name}: {value}\n"),
        _ => format!("{line}\n"),
    });
    let changed = changed.collect::<String>();
    assert_ne!(changed, narinfo);
    changed
}

#[test]
fn a_whole_nar_is_ok_in_every_compression() {
    let lone = Lone::new();
    for compression in COMPRESSIONS {
        let facts = Facts::new(compression, &sample());
        lone.put(&facts, &facts.narinfo());
        lone.ok();
        // What need not be there need not be checked.
        let lines = facts.narinfo();
        let lines = lines.lines().filter(|line| !line.starts_with("File"));
        lone.put(&facts, &lines.fold(String::new(), |text, line| text + line + "\n"));
        lone.ok();
    }
    // Files that tell more than the NAR's hash, by another algorithm, and a query, which belongs to
    // no file name.
    let facts = Facts::new("none", &file("x"));
    let narinfo = with(&facts.narinfo(), "FileHash", &sha512(&facts.bytes));
    lone.put(&facts, &with(&narinfo, "URL", "nar/a.nar?hash=x"));
    lone.ok();
}

#[test]
fn what_a_narinfo_says_wrongly_is_found_in_every_compression() {
    let lone = Lone::new();
    for compression in COMPRESSIONS {
        let facts = Facts::new(compression, &sample());
        let good = facts.narinfo();
        let another = Hash::sha256(b"").to_string();
        let (size, longer) = (facts.nar.len(), facts.nar.len() + 8);
        let cases = [
            ("FileHash", another.clone(), "not the FileHash".to_owned()),
            (
                "FileSize",
                (facts.bytes.len() + 1).to_string(),
                format!("has {} bytes, not the FileSize", facts.bytes.len()),
            ),
            ("NarHash", another.clone(), "not the NarHash".to_owned()),
            ("NarSize", longer.to_string(), format!("the NAR has {size} bytes, not the NarSize {longer}")),
            ("NarSize", (size - 8).to_string(), (size - 8).to_string()),
            ("URL", "nar/b.nar".into(), "there is no nar/b.nar".into()),
            ("URL", "nar/a.nar/b.nar".into(), "`nar/a.nar` is a file, not a directory".into()),
            ("Compression", "rot13".into(), "rot13".into()),
        ];
        for (field, value, expected) in cases {
            lone.put(&facts, &with(&good, field, &value));
            let reason = lone.bad();
            assert!(reason.contains(&expected), "{compression} {field}: {reason}");
        }
    }
}

#[test]
fn damaged_files_are_found_whether_or_not_their_hash_is_known() {
    let lone = Lone::new();
    for compression in COMPRESSIONS {
        let facts = Facts::new(compression, &sample());
        let damage: [Damage; 6] = [
            |bytes| bytes[..bytes.len() - 1].to_vec(),
            |bytes| bytes[..bytes.len() / 2].to_vec(),
            |_| Vec::new(),
            |bytes| [bytes, b"x"].concat(),
            |bytes| [bytes, &[0; 7]].concat(), // 8 would be an xz's padding
            |bytes| {
                let mut flipped = bytes.to_vec();
                flipped[bytes.len() / 2] ^= 1;
                flipped
            },
        ];
        for (number, damage) in damage.iter().enumerate() {
            // Any number of zeros is padding of gzip.
            if compression == "gzip" && number == 4 {
                continue;
            }
            let damaged = Facts { bytes: damage(&facts.bytes), nar: facts.nar.clone(), compression };
            lone.put(&damaged, &facts.narinfo());
            lone.bad();
            // And if the narinfo was made for the damaged file.
            if !damaged.bytes.is_empty() {
                lone.put(&damaged, &damaged.narinfo());
                let Ran { status, stdout, .. } = lone.verify();
                let stdout = String::from_utf8(stdout).unwrap();
                assert_eq!(status, Some(1), "{compression}, {number}: {stdout}");
            }
        }
    }
}

#[test]
fn what_is_no_nar_is_bad_even_if_all_hashes_agree() {
    let lone = Lone::new();
    let good = sample().to_nar();
    let mut unpadded = file("x").to_nar();
    let place = unpadded.len() - 17;
    unpadded[place] = 1;
    let archives = [
        (b"no archive at all".to_vec(), "at byte 0"),
        (good[..good.len() - 8].to_vec(), "the input ends"),
        ([&good[..], &[0; 8]].concat(), "unexpected bytes after"),
        ([&good[..], &good[..]].concat(), "unexpected bytes after"),
        (unpadded, "at byte"),
    ];
    for compression in ["none", "zstd"] {
        for (nar, expected) in &archives {
            let facts = Facts::of_nar(compression, nar.clone());
            lone.put(&facts, &facts.narinfo());
            let reason = lone.bad();
            assert!(reason.contains(expected), "{compression}: {reason}");
        }
    }
    let deep = (0..70).fold(file("x"), |tree, _| crate::narutil::directory([("d", tree)]));
    let facts = Facts::new("none", &deep);
    lone.put(&facts, &facts.narinfo());
    assert!(lone.bad().contains("exceeds the limit of 63"));
    let raised = narutil!["verify", "--max-depth", "70", "--contents", "--trusted", lone.key.public(), &lone.cache];
    run(raised).ok();
}

#[test]
fn a_url_that_leads_out_of_the_cache_is_bad_and_not_followed() {
    let lone = Lone::new();
    let facts = Facts::new("none", &sample());
    let outside = lone.scratch.file("a.nar", &facts.bytes);
    let far = format!("../{}.nar", "x".repeat(100_000));
    let urls = [
        "../a.nar",
        "nar/../../a.nar",
        "./../a.nar",
        outside.to_str().unwrap(),
        &format!("file://{}", outside.display()),
        "https://example.org/nar/a.nar",
        "nar/./a.nar",
        "nar//a.nar",
        "..",
        "?",
        "nar/\u{202e}.nar",
        &far,
    ];
    for url in urls {
        lone.put(&facts, &with(&facts.narinfo(), "URL", url));
        let reason = lone.bad();
        assert!(reason.starts_with("URL: ") && reason.len() < 400, "{url}: {reason}");
    }
}

/// 200 MiB of zeros in some KiB. What is read beyond the size that the narinfo says is little.
#[cfg(target_os = "linux")]
#[test]
fn a_decompression_bomb_is_stopped_early_and_takes_little_memory() {
    const SIZE: u64 = 200 << 20;
    let lone = Lone::new();
    for compression in ["zstd:1", "xz:0", "bzip2:1", "gzip:1", "br:1"] {
        let mut encoder = Compressor::new(Vec::new(), &compression.parse().unwrap()).unwrap();
        let small = file(vec![0; 8]).to_nar();
        // The closing parenthesis takes the last 16 bytes, the contents and their length as many
        // before.
        encoder.write_all(&small[..small.len() - 32]).unwrap();
        encoder.write_all(&SIZE.to_le_bytes()).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(SIZE), &mut encoder).unwrap();
        encoder.write_all(&small[small.len() - 16..]).unwrap();
        let compression = compression.split(':').next().unwrap();
        let facts = Facts { compression, bytes: encoder.finish().unwrap(), nar: small };
        lone.put(&facts, &facts.narinfo());
        let reason = lone.bad();
        assert!(reason.contains(&format!("{}", facts.nar.len())), "{compression}: {reason}");
        let command = || narutil!["verify", "--contents", "--trusted", lone.key.public(), &lone.cache];
        let peak = peak_of(command(), 1);
        assert!(peak < 64 << 20, "{compression}: {peak} bytes");
    }
}

#[test]
fn who_is_trusted_for_a_content_address_must_have_its_contents() {
    let store_dir = nixcache::store_path::StoreDir::default();
    let facts = Facts::new("zstd", &sample());
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    for (of, is_true) in [(&facts.nar[..], true), (b"another NAR", false)] {
        for algorithm in [nixcache::hash::Algorithm::Sha256, nixcache::hash::Algorithm::Sha1] {
            let hash = nixcache::hash::Hash::of(algorithm, of).unwrap();
            let address = nixcache::store_path::ContentAddress::new(nixcache::store_path::Method::Nar, hash).unwrap();
            let path = store_dir.make_path("made", &address, &[], false).unwrap();
            let text = with(&facts.narinfo(), "StorePath", &format!("{store_dir}/{path}"));
            let text = text + &format!("CA: {address}\n");
            let cache = scratch.path(format!("{path}"));
            fs::create_dir_all(cache.join("nar")).unwrap();
            fs::write(cache.join(facts.url()), &facts.bytes).unwrap();
            add(&cache, 1, &text);
            let ran = run(narutil!["verify", "--contents", "--trusted", key.public(), &cache]);
            let stdout = String::from_utf8(ran.stdout).unwrap();
            assert_eq!(ran.status, Some(i32::from(!is_true)), "{stdout}");
            let expected = if is_true { format!("ca:{address}") } else { format!("content address {address}") };
            assert!(stdout.contains(&expected), "{stdout}");
        }
    }
}

#[test]
fn forged_contents_are_found_by_any_kind_of_content_address_even_if_signed() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (good, evil) = (Facts::new("zstd", &file("good")), Facts::new("zstd", &file("evil")));
    let store_dir = StoreDir::default();
    for (number, address, to_itself) in [
        (0, ContentAddress::new(Method::Text, Hash::sha256(b"good")), false),
        (1, ContentAddress::new(Method::Flat, Hash::sha256(b"good")), false),
        (2, ContentAddress::new(Method::Flat, Hash::of(Algorithm::Sha1, b"good").unwrap()), false),
        (3, ContentAddress::new(Method::Nar, Hash::sha256(&good.nar)), false),
        (4, ContentAddress::new(Method::Nar, Hash::of(Algorithm::Sha512, &good.nar).unwrap()), false),
        // Contents that do not mention their path have the same hash modulo that.
        (5, ContentAddress::new(Method::Nar, Hash::sha256(&good.nar)), true),
    ] {
        let address = address.unwrap();
        let path = store_dir.make_path("made", &address, &[], to_itself).unwrap();
        let narinfo = |facts: &Facts, address: &ContentAddress| {
            let text = with(&facts.narinfo(), "StorePath", &format!("{store_dir}/{path}"));
            let text = if to_itself { with(&text, "References", path.as_str()) } else { text };
            format!("{text}CA: {address}\n")
        };
        let other = ContentAddress::new(Method::Nar, Hash::sha256(b"other")).unwrap();
        for (facts, said, expected) in
            [(&good, address, None), (&evil, address, Some("content")), (&good, other, Some("path"))]
        {
            let cache = scratch.path(format!("cache-{number}"));
            fs::create_dir_all(cache.join("nar")).unwrap();
            fs::write(cache.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
            fs::write(cache.join(facts.url()), &facts.bytes).unwrap();
            let unsigned = narinfo(facts, &said);
            for text in [&unsigned, &key.sign(&unsigned)] {
                fs::write(cache.join(format!("{}.narinfo", path.hash_part())), text).unwrap();
                let ran = run(narutil!["verify", "--contents", "--trusted", key.public(), &cache]);
                let stdout = String::from_utf8(ran.stdout).unwrap();
                assert_eq!(ran.status, Some(i32::from(expected.is_some())), "{address}: {stdout}");
                if let Some(part) = expected {
                    assert!(stdout.starts_with("bad") && stdout.contains(part), "{stdout}");
                }
                let audit = run(narutil!["audit", "--contents", &cache]);
                let found = String::from_utf8(audit.stdout).unwrap();
                let wrong = found.lines().filter(|line| line.contains(": wrong-address: ")).count();
                assert_eq!(wrong, usize::from(expected.is_some()), "{address}: {found}");
                // The narinfo alone says so.
                if expected == Some("path") {
                    let found = run(narutil!["audit", &cache]);
                    assert_eq!(found.status, Some(1), "{address}");
                    assert!(String::from_utf8(found.stdout).unwrap().contains("does not make the path"));
                    let pull = narutil![
                        "pull",
                        "--from",
                        &cache,
                        "--no-check-sigs",
                        "--into",
                        scratch.path("into"),
                        path.hash_part().to_string()
                    ];
                    assert!(run(pull).error(1).contains("does not make the path"), "{address}");
                }
            }
        }
    }
}

#[test]
fn undeclared_references_are_told_but_no_failure() {
    let lone = Lone::new();
    add(&lone.cache, 2, "x");
    add(&lone.cache, 3, "x");
    let contents = format!("{} {} {}", full_path(1), hash_part(2), hash_part(4));
    let facts = Facts::new("zstd", &file(contents));
    lone.put(&facts, &facts.narinfo());
    let ran = || narutil!["verify", "--contents", "--trusted", lone.key.public(), &lone.cache, &hash_part(1)];
    let Ran { status, stdout, stderr } = run(ran());
    assert_eq!((status, stdout), (Some(0), format!("ok  {}  k-1\n", full_path(1)).into_bytes()));
    // Of paths that the cache does not have, nothing is known.
    let told: Vec<&str> = stderr.lines().collect();
    assert_eq!(told.len(), 2, "{stderr}");
    for (line, number) in told.iter().zip([1, 2]) {
        let expected = format!("1.narinfo: the NAR refers to {}, which is not among the references", hash_part(number));
        assert!(line.starts_with("narutil: ") && line.ends_with(&expected), "{line}");
    }
    let mut command = ran();
    command.arg("--json");
    let document: Value = serde_json::from_slice(&run(command).ok()).unwrap();
    assert_eq!(document["undeclaredReferences"], json!([hash_part(1), hash_part(2)]));
    // Declared ones are not told.
    let declared = facts.narinfo().replace("References: ", &format!("References: {} {}", base_name(1), base_name(2)));
    lone.put(&facts, &declared);
    let Ran { status, stderr, .. } = run(ran());
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_single_narinfo_finds_its_nar_beside_it() {
    let lone = Lone::new();
    let facts = Facts::new("xz", &sample());
    lone.put(&facts, &facts.narinfo());
    let narinfo = lone.cache.join(format!("{}.narinfo", hash_part(1)));
    run(narutil!["verify", "--contents", "--trusted", lone.key.public(), &narinfo]).ok();
    let mut inside =
        narutil!["verify", "--contents", "--trusted", lone.key.public(), Path::new(narinfo.file_name().unwrap())];
    inside.current_dir(&lone.cache);
    run(inside).ok();
}

#[test]
fn contents_are_not_read_where_signatures_are_bad() {
    let lone = Lone::new();
    let facts = Facts::new("xz", &sample());
    fs::write(lone.cache.join(facts.url()), b"").unwrap();
    add(&lone.cache, 1, &facts.narinfo());
    assert!(lone.bad().contains("it has no signature"));
}

fn sha512(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha512).unwrap();
    hasher.update(bytes);
    hasher.finish().to_string()
}
