//! Caches and keys for tests, made by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use nixcache::narinfo::NarInfo;
use nixcache::signature::{KeyName, SecretKey};
use nixcache::store_path::StoreDir;

use crate::narutil::{Scratch, narutil, run};

/// A key, and the file that holds it.
pub(crate) struct Key {
    pub(crate) secret: SecretKey,
    pub(crate) file: PathBuf,
}

impl Key {
    pub(crate) fn new(scratch: &Scratch, name: &str) -> Self {
        let secret = SecretKey::generate(KeyName::new(name).unwrap()).unwrap();
        let file = scratch.file(&format!("{name}.secret"), secret.to_text().as_bytes());
        Self { secret, file }
    }

    /// The text of the public key.
    pub(crate) fn public(&self) -> String {
        self.secret.public_key().to_string()
    }

    /// The text of the signature of a narinfo.
    pub(crate) fn signature(&self, narinfo: &str) -> String {
        let info = NarInfo::parse(narinfo.as_bytes(), &StoreDir::default()).unwrap();
        self.secret.sign(&info.fingerprint().to_vec()).to_string()
    }

    /// A narinfo, with a signature at its end.
    pub(crate) fn sign(&self, narinfo: &str) -> String {
        format!("{narinfo}Sig: {}\n", self.signature(narinfo))
    }
}

/// The hash part of a path: any digits are one.
pub(crate) fn hash_part(number: usize) -> String {
    format!("{number:032}")
}

pub(crate) fn base_name(number: usize) -> String {
    format!("{}-path-{number}", hash_part(number))
}

pub(crate) fn full_path(number: usize) -> String {
    format!("/nix/store/{}", base_name(number))
}

/// The narinfo that Nix would write for a path with two references, without a signature.
pub(crate) fn narinfo(number: usize) -> String {
    let hash = "14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k";
    let mut text = String::new();
    writeln!(text, "StorePath: {}", full_path(number)).unwrap();
    writeln!(text, "URL: nar/{hash}.nar.xz\nCompression: xz\nFileHash: sha256:{hash}\nFileSize: 50088").unwrap();
    writeln!(text, "NarHash: sha256:0yzhigwjl6bws649vcs2asa4lbs8hg93hyix187gc7s7a74w5h80\nNarSize: 226488").unwrap();
    writeln!(text, "References: {} {}", base_name(1), base_name(2)).unwrap();
    writeln!(text, "Deriver: ib3sh3pcz10wsmavxvkdbayhqivbghlq-hello-2.12.1.drv").unwrap();
    text
}

/// Makes a file of a cache.
pub(crate) fn add(cache: &Path, number: usize, narinfo: &str) -> PathBuf {
    fs::create_dir_all(cache).unwrap();
    let path = cache.join(format!("{}.narinfo", hash_part(number)));
    fs::write(&path, narinfo).unwrap();
    path
}

/// The directory `cache` with as many narinfos, without signatures.
pub(crate) fn cache(scratch: &Scratch, count: usize) -> PathBuf {
    let cache = scratch.path("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    (0..count).for_each(|number| drop(add(&cache, number, &narinfo(number))));
    cache
}

/// A cache with the path of the tree `tree` under the root `main`, and the path.
pub(crate) fn cache_with_tree(scratch: &Scratch, key: &Key) -> (PathBuf, String) {
    let cache = scratch.path("cache");
    let added = run(narutil![
        "push",
        "-q",
        "--to",
        &cache,
        "--key",
        &key.file,
        "--root",
        "main",
        "--add",
        scratch.path("tree")
    ]);
    let path = added.text().trim().to_owned();
    (cache, path)
}

/// All files below a folder, by their names below it, with their contents.
pub(crate) fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap_or_default());
            }
        }
    }
    files
}
