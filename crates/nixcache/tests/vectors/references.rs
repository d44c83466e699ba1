//! Reference scans against shared vectors and a store made by real Nix; passes without them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nixcache::hash::{Algorithm, Hasher};
use nixcache::nar::references::{Candidates, ModuloHasher, Scanner};

use crate::{cases, vectors};

fn scan<'a>(candidates: &Candidates, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<usize> {
    let mut scanner = Scanner::new(candidates);
    chunks.into_iter().for_each(|chunk| scanner.update(chunk));
    scanner.finish()
}

#[test]
fn shared_cases_are_found_at_once_cut_where_they_say_and_byte_by_byte() {
    let strings = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    for case in cases("refscan") {
        let input = &case["input"];
        let bytes = data_encoding::BASE64.decode(input["data_b64"].as_str().unwrap().as_bytes()).unwrap();
        let texts = strings(&input["candidates"]);
        let candidates = Candidates::new(&texts).unwrap();
        let expected: Vec<_> =
            strings(&case["value"]).iter().map(|found| texts.iter().position(|text| text == found).unwrap()).collect();

        let mut borders = vec![0];
        borders.extend(
            input["chunks"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|at| usize::try_from(at.as_u64().unwrap()).unwrap().min(bytes.len())),
        );
        borders.push(bytes.len());
        assert_eq!(scan(&candidates, [&bytes[..]]), expected, "{}", case["id"]);
        assert_eq!(scan(&candidates, borders.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), expected, "{}", case["id"]);
        assert_eq!(scan(&candidates, bytes.chunks(1)), expected, "{}", case["id"]);
    }
}

/// The narinfos and NARs of the caches that Nix 2.8 wrote without compression.
fn published(vectors: &Path) -> impl Iterator<Item = (String, Vec<u8>)> {
    let caches = fs::read_dir(vectors.join("golden/store/caches")).into_iter().flatten();
    let files = caches.flat_map(|cache| fs::read_dir(cache.unwrap().path()).into_iter().flatten());
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "narinfo"))
        .filter_map(|path| {
            let narinfo = fs::read_to_string(&path).unwrap();
            let url =
                field(&narinfo, "URL").filter(|url| Path::new(url).extension().is_some_and(|ext| ext == "nar"))?;
            let nar = fs::read(path.parent().unwrap().join(url)).unwrap();
            (field(&narinfo, "Compression") == Some("none")).then_some((narinfo, nar))
        })
}

fn field<'a>(narinfo: &'a str, name: &str) -> Option<&'a str> {
    narinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn references_of_built_paths_are_those_that_nix_found() {
    let Some(vectors) = vectors() else { return };
    let paths = fs::read_to_string(vectors.join("golden/store/store-paths.txt")).unwrap();
    let paths: Vec<_> = paths.lines().collect();
    let candidates = Candidates::new(&paths).unwrap();
    let mut checked = 0;
    for (narinfo, nar) in published(&vectors).filter(|(narinfo, _)| narinfo.contains("\nDeriver: ")) {
        let references: BTreeSet<_> = field(&narinfo, "References").unwrap().split_whitespace().collect();
        let found: BTreeSet<_> = scan(&candidates, nar.chunks(1000))
            .into_iter()
            .map(|index| paths[index].strip_prefix("/nix/store/").unwrap())
            .collect();
        assert_eq!(found, references, "{narinfo}");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn hash_modulo_is_in_the_content_address_of_paths_that_refer_to_themselves() {
    let Some(vectors) = vectors() else { return };
    let mut checked = 0;
    for (narinfo, nar) in published(&vectors) {
        let path = field(&narinfo, "StorePath").unwrap();
        let Some(address) = field(&narinfo, "CA").and_then(|address| address.strip_prefix("fixed:r:")) else {
            continue;
        };
        if !address.starts_with("sha256:") {
            continue;
        }
        let mut hasher = ModuloHasher::new(Hasher::new(Algorithm::Sha256).unwrap(), path).unwrap();
        nar.chunks(50).for_each(|chunk| hasher.update(chunk));
        let modulo = hasher.finish();
        assert_eq!(modulo.hash.to_string(), address, "{narinfo}");
        assert_eq!(modulo.size.to_string(), field(&narinfo, "NarSize").unwrap());
        let base_name = Path::new(path).file_name().unwrap().to_str().unwrap();
        let refers_to_itself = field(&narinfo, "References").unwrap().split_whitespace().any(|name| name == base_name);
        assert_eq!(!modulo.positions.is_empty(), refers_to_itself, "{narinfo}");
        checked += usize::from(refers_to_itself);
    }
    assert!(checked > 0);
}
