//! A store with a closure in it, shaped like those that people publish.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nixcache::hash::{Algorithm, Format, Hash};
use nixcache::nar::{Observer, Packer};
use nixcache::store_path::{HashPart, StorePath};

use crate::{Nix, Random};

const WORDS: [&str; 24] = [
    "archive", "binary", "cache", "client", "codec", "config", "const", "derive", "error", "event", "field", "format",
    "header", "index", "library", "match", "node", "parse", "query", "reader", "return", "store", "stream", "value",
];

impl Nix {
    /// Registers `count` paths with about `bytes` of contents in all, and returns them, references
    /// first: the last refers to all others, directly or not.
    ///
    /// Sizes are mixed: most paths are small, few large. Each has several files, a link and an
    /// executable, names what it refers to (one to six earlier paths, and sometimes itself), and
    /// compresses about as programs do. The same `seed` makes the same paths.
    pub fn add_closure(&self, count: usize, bytes: usize, seed: u64) -> Vec<String> {
        let mut random = Random::new(seed.wrapping_mul(2).wrapping_add(1));
        let weights: Vec<usize> = (0..count).map(|_| 1 << random.below(13)).collect();
        let total: usize = weights.iter().sum();
        let store = self.physical_store();
        fs::create_dir_all(&store).unwrap();
        let (mut paths, mut registration): (Vec<String>, _) = (Vec::with_capacity(count), String::new());
        let mut unreferred: Vec<usize> = Vec::new();
        for (number, weight) in weights.into_iter().enumerate() {
            let hash = Hash::sha256(format!("{seed} {number}").as_bytes());
            let part = HashPart::new(*hash.digest().first_chunk().unwrap());
            let name = StorePath::new(part, &format!("{}-{number}.{seed}", random.pick(&WORDS))).unwrap().to_string();
            let path = format!("/nix/store/{name}");
            let mut references: Vec<usize> = if number + 1 == count {
                std::mem::take(&mut unreferred)
            } else {
                (0..random.below(6).min(number)).map(|_| random.below(number)).collect()
            };
            references.sort_unstable();
            references.dedup();
            unreferred.retain(|other| !references.contains(other));
            unreferred.push(number);
            let mut referred: Vec<&str> = references.iter().map(|&reference| paths[reference].as_str()).collect();
            if random.below(4) == 0 {
                referred.push(&path);
            }
            grow(&store.join(&name), &mut random, bytes * weight / total, &referred);
            let observer = Observer::new().hash(Algorithm::Sha256).unwrap();
            let packed = Packer::new().observe(&store.join(&name), observer).unwrap();
            let (digest, size) = (packed.hashes[0].display_digest(Format::Base16), packed.size);
            write!(registration, "{path}\n{digest}\n{size}\n\n{}\n", referred.len()).unwrap();
            for reference in referred {
                writeln!(registration, "{reference}").unwrap();
            }
            paths.push(path);
        }
        self.run("nix-store", ["--load-db"], registration.as_bytes()).unwrap();
        paths
    }

    /// The database of its store.
    pub fn database(&self) -> PathBuf {
        self.physical_store().parent().unwrap().join("var/nix/db/db.sqlite")
    }
}

fn grow(path: &Path, random: &mut Random, bytes: usize, references: &[&str]) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("references"), references.join("\n")).unwrap();
    fs::create_dir(path.join("bin")).unwrap();
    fs::write(path.join("bin/run"), format!("#!/bin/sh\nexec {}/bin/run\n", references.first().unwrap_or(&"/")))
        .unwrap();
    fs::set_permissions(path.join("bin/run"), fs::Permissions::from_mode(0o555)).unwrap();
    symlink("bin/run", path.join("link")).unwrap();
    let files = 1 + random.below(12);
    for file in 0..files {
        let mut text = Vec::with_capacity(bytes / files + 16);
        while text.len() < bytes / files {
            if random.below(3) == 0 {
                text.extend_from_slice(&random.next().to_le_bytes()); // what compresses badly
            } else {
                text.extend_from_slice(random.pick(&WORDS).as_bytes());
                text.push(b' ');
            }
        }
        fs::write(path.join(format!("{}-{file}", random.pick(&WORDS))), text).unwrap();
    }
}
