//! Listings of the shared vectors: those that Nix wrote are read, and every case gets the verdict
//! that was decided for it.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use nixcache::nar::{Limits, Listing, NodeKind, Reader};

use crate::{cases, vectors};

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn parse(text: &[u8]) -> Result<Listing, nixcache::nar::ListingError> {
    Listing::parse(text, Limits::default())
}

fn document(listing: &Listing) -> Vec<u8> {
    let mut json = Vec::new();
    listing.root().write_document(&mut json).unwrap();
    json
}

#[test]
fn every_case_gets_its_verdict() {
    let Some(vectors) = vectors() else { return };
    let mut tried = 0;
    for case in cases("ls") {
        let text = match case["input"]["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            // Some files are left out of the vectors for their licence.
            None => match std::fs::read(vectors.join(case["input"]["file"].as_str().unwrap())) {
                Ok(text) => text,
                Err(_) => continue,
            },
        };
        tried += 1;
        let listing = parse(&text);
        assert_eq!(listing.is_ok(), case["expect"] == "ok", "{}: {:?}", case["id"], listing.err());
        if let Ok(listing) = listing {
            assert_eq!(parse(&document(&listing)).as_ref(), Ok(&listing), "{}", case["id"]);
        }
    }
    assert!(tried >= 30, "only {tried} cases found");
}

#[test]
fn listings_of_caches_by_nix_read_as_what_the_archive_beside_them_holds() {
    let Some(vectors) = vectors() else { return };
    let (mut read, mut compared) = (0, 0);
    for cache in std::fs::read_dir(vectors.join("golden/store/caches")).unwrap() {
        let cache = cache.unwrap().path();
        if !cache.is_dir() {
            continue;
        }
        for path in files(&cache, "ls") {
            let listing = parse(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(parse(&document(&listing)).as_ref(), Ok(&listing), "{}", path.display());
            read += 1;
            let narinfo = std::fs::read_to_string(path.with_extension("narinfo")).unwrap();
            if narinfo.contains("\nCompression: none\n") {
                let url = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
                let nar = std::fs::read(cache.join(url)).unwrap();
                assert_eq!(Listing::from_slice(&nar).as_ref(), Ok(&listing), "{}", path.display());
                compared += 1;
            }
        }
    }
    assert!(read >= 50 && compared > 0, "{read} read, {compared} compared");
}

#[test]
fn archives_are_listed_as_nix_lists_them() {
    let Some(vectors) = vectors() else { return };
    let limits = Limits::default().with(|limits| limits.depth = 1000);
    let (mut compared, mut not_text) = (0, 0);
    for path in files(&vectors.join("golden/trees/nars"), "nar") {
        let name = path.file_stem().unwrap();
        let file = BufReader::new(File::open(&path).unwrap());
        let listing = Listing::read_seek(&mut Reader::with_limits(file, limits)).unwrap();
        let Ok(tree) = std::fs::read(vectors.join("golden/trees/ls").join(name).with_extension("json")) else {
            continue;
        };
        if listing.root().write_document(std::io::sink()).is_err() {
            not_text += 1; // Nix 2.8 writes bytes that are not UTF-8 as they are, or as U+FFFD
            continue;
        }
        let text = [b"{\"version\":1,\"root\":", tree.as_slice(), b"}"].concat();
        assert_eq!(Listing::parse(&text, limits).as_ref(), Ok(&listing), "{}", path.display());
        compared += 1;

        let mut walk = listing.root().walk();
        while let Some((_, node)) = walk.advance() {
            if let NodeKind::File { size, .. } = node.kind() {
                let archive = File::open(&path).unwrap();
                let copied = std::io::copy(&mut node.open(archive).unwrap(), &mut std::io::sink()).unwrap();
                assert_eq!(copied, size);
            }
        }
    }
    assert!(compared >= 40 && not_text >= 3, "{compared} compared, {not_text} not text");
}
