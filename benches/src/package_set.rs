//! A cache of package sets shaped like nixpkgs, for the benches of closures.

use std::fmt::Write;

use conformance::Random;

/// Narinfos of paths that refer to one another as packages do.
///
/// A cache holds many generations of a package set, each built against its own libraries. A path of
/// a generation stands on one of forty levels, few on the lower ones and many on the upper ones. It
/// refers to one path of the level below, so that chains are forty long, and to a number of paths
/// of all lower levels, around twelve, some to many more. The lower a path, the more popular it is.
/// At 20,000 paths in a generation closures have 2,000 paths on average.
#[derive(Debug)]
pub struct PackageSet {
    text: String,
    /// Where the narinfos end.
    ends: Vec<usize>,
    reference_count: usize,
}

const LEVELS: usize = 40;

/// Paths in a generation of the size at which closures are typical.
pub const GENERATION: usize = 20_000;

impl PackageSet {
    /// As many paths, in generations of `generation` each. Their narinfos are in the order of hash
    /// parts, which says nothing of references, as in the listing of a cache.
    pub fn new(paths: usize, generation: usize) -> Self {
        let mut random = Random::new(0x2545_F491_4F6C_DD1D);
        let mut names: Vec<(u64, usize)> = (0..paths).map(|path| (random.next(), path)).collect();
        let base_names: Vec<String> = names.iter().map(|&(hash, path)| base_name(hash, path % generation)).collect();
        names.sort_by(|(_, a), (_, b)| base_names[*a].cmp(&base_names[*b]));
        let mut set = Self { text: String::new(), ends: Vec::with_capacity(paths), reference_count: 0 };
        let mut references = Vec::new();
        for (_, path) in names {
            references.clear();
            let (first, position) = (path - path % generation, path % generation);
            pick_references(&mut random, generation, position, &mut references);
            for reference in &mut references {
                *reference += first;
            }
            references.sort_unstable();
            references.dedup();
            // One in four refers to itself.
            if random.once_in(4) {
                references.push(path);
            }
            references.sort_by(|&a, &b| base_names[a].cmp(&base_names[b]));
            set.push(&mut random, &base_names[path], references.iter().map(|&reference| &*base_names[reference]));
        }
        set
    }

    fn push<'a>(&mut self, random: &mut Random, path: &str, references: impl Iterator<Item = &'a str>) {
        let (file_size, nar_size) = (1000 + random.below(1 << 20), 1000 + random.below(1 << 22));
        write!(
            self.text,
            "StorePath: /nix/store/{path}\n\
             URL: nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz\n\
             Compression: xz\n\
             FileHash: sha256:1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3\n\
             FileSize: {file_size}\n\
             NarHash: sha256:1impfw8zdgisxkghq9a3q7cn7jb9zyzgxdydiamp8z2nlyyl0h5h\n\
             NarSize: {nar_size}\n\
             References: "
        )
        .unwrap();
        for (place, reference) in references.enumerate() {
            self.text.push_str(if place == 0 { "" } else { " " });
            self.text.push_str(reference);
            self.reference_count += 1;
        }
        let hash = &path[..32];
        writeln!(self.text, "\nDeriver: {hash}-{}.drv\nSig: cache.nixos.org-1:{:086}==", &path[33..], 0).unwrap();
        self.ends.push(self.text.len());
    }

    /// The narinfos.
    pub fn narinfos(&self) -> impl ExactSizeIterator<Item = &str> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        self.ends.iter().zip(starts.collect::<Vec<_>>()).map(|(&end, start)| &self.text[start..end])
    }

    /// References of all paths together.
    pub fn reference_count(&self) -> usize {
        self.reference_count
    }

    /// The hash parts of the paths and of others, `count` altogether, in ascending order on lines:
    /// a listing of a larger cache that has a path but for one in `missing_each`.
    pub fn sorted_hash_parts(&self, count: usize, missing_each: usize) -> String {
        let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
        let ours = self.narinfos().map(|info| info.split_once("/nix/store/").unwrap().1[..32].to_owned());
        let mut hash_parts: Vec<String> = ours.filter(|_| !random.once_in(missing_each)).collect();
        while hash_parts.len() < count {
            hash_parts.push(base_name(random.next(), 0)[..32].to_owned());
        }
        hash_parts.sort_unstable();
        hash_parts.iter().flat_map(|hash_part| [hash_part, "\n"]).collect()
    }
}

/// The first position on a level.
fn level_start(generation: usize, level: usize) -> usize {
    generation * level * level / (LEVELS * LEVELS)
}

/// Positions that one refers to, with duplicates.
fn pick_references(random: &mut Random, generation: usize, position: usize, references: &mut Vec<usize>) {
    let level = (0..LEVELS).rev().find(|&level| level_start(generation, level) <= position).unwrap();
    let start = level_start(generation, level);
    if level == 0 || start == 0 {
        return;
    }
    let below = level_start(generation, level - 1);
    references.push(below + random.below(start - below));
    for _ in 0..exponential(random) {
        // The least of four is near the bottom of what it is picked from.
        let picked = (0..4).map(|_| random.below(start)).min();
        references.extend(picked);
    }
}

/// An exponentially distributed number, 11 on average.
fn exponential(random: &mut Random) -> usize {
    let mut count = 0;
    while !random.once_in(12) {
        count += 1;
    }
    count
}

/// A base name of a hash part made of a number, and a name of a position.
fn base_name(number: u64, position: usize) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let mut random = Random::new(number | 1);
    let mut name: String = (0..32).map(|_| char::from(DIGITS[random.below(32)])).collect();
    let words = [random.pick(&crate::WORDS), random.pick(&crate::WORDS)];
    write!(name, "-{}-{}-{}.{}.{}", words[0], words[1], position % 40, position / 40 % 30, position % 7).unwrap();
    name
}
