//! Reading, writing, fingerprinting, signing and verifying narinfos, beside the other crates that
//! do it.
//!
//! Each figure is for one pass over all narinfos of [`benches::narinfos`]; the throughput is
//! narinfos a second.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::num::NonZeroUsize;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nixcache::narinfo::{Builder, NarInfo};
use nixcache::signature::{KeyName, SecretKey};
use nixcache::store_path::StoreDir;
use nixcache::trust::{Fingerprint, TrustPolicy, TrustedKeys, Verifier};

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// The narinfos, each signed by a key, and that key.
fn signed() -> (Vec<String>, SecretKey) {
    let key = SecretKey::generate(KeyName::new("bench-1").unwrap()).unwrap();
    let sign = |text: String| {
        let info = NarInfo::parse(text.as_bytes(), &StoreDir::default()).unwrap();
        let signature = key.sign(&info.fingerprint().to_vec());
        info.edit().sign(signature.as_ref()).finish().unwrap().to_string()
    };
    (benches::narinfos().into_iter().map(sign).collect(), key)
}

/// The narinfos, read by us and by them.
fn read(texts: &[String]) -> (Vec<NarInfo<'_>>, Vec<nix_narinfo::NarInfo>) {
    let (store_dir, their_store_dir) = (StoreDir::default(), nix_derivation::StoreDir::default());
    let ours = texts.iter().map(|text| NarInfo::parse(text.as_bytes(), &store_dir).unwrap()).collect();
    let theirs = texts.iter().map(|text| nix_narinfo::NarInfo::parse_in(&their_store_dir, text.as_bytes()).unwrap());
    (ours, theirs.collect())
}

fn parse(criterion: &mut Criterion) {
    let texts = benches::narinfos();
    let store_dir = StoreDir::default();
    let their_store_dir = nix_derivation::StoreDir::default();
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(texts.len() as u64));
    group.bench_function("nixcache", |b| {
        b.iter(|| {
            for text in &texts {
                let _ = black_box(NarInfo::parse(text.as_bytes(), &store_dir).unwrap());
            }
        });
    });
    group.bench_function("nix-narinfo", |b| {
        b.iter(|| {
            for text in &texts {
                black_box(nix_narinfo::NarInfo::parse_in(&their_store_dir, text.as_bytes()).unwrap());
            }
        });
    });
    // It fails for a few, which costs it nothing that others do not pay.
    group.bench_function("narinfo", |b| {
        b.iter(|| {
            for text in &texts {
                let _ = black_box(narinfo::NarInfo::parse(text));
            }
        });
    });
    group.bench_function("only splitting lines", |b| {
        b.iter(|| {
            for line in texts.iter().flat_map(|text| text.lines()) {
                let _ = black_box(line.split_once(": "));
            }
        });
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let texts = benches::narinfos();
    let store_dir = StoreDir::default();
    let (infos, theirs) = read(&texts);
    let others: Vec<_> = texts.iter().filter_map(|text| narinfo::NarInfo::parse(text).ok()).collect();
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(texts.len() as u64));
    let mut out = Vec::new();
    group.bench_function("nixcache", |b| {
        b.iter(|| {
            for info in &infos {
                out.clear();
                info.write(&mut out);
                black_box(&out);
            }
        });
    });
    group.bench_function("nixcache, from parts, read back", |b| {
        b.iter(|| {
            for info in &infos {
                let mut builder =
                    Builder::new(&store_dir, info.store_path(), info.url(), info.nar_hash(), info.nar_size())
                        .compression(info.compression().unwrap())
                        .references(info.references());
                if let (Some(hash), Some(size)) = (info.file_hash(), info.file_size()) {
                    builder = builder.file_hash(hash).file_size(size);
                }
                black_box(builder.build().unwrap());
            }
        });
    });
    group.bench_function("nix-narinfo", |b| {
        b.iter(|| theirs.iter().for_each(|info| drop(black_box(info.to_canonical_bytes()))));
    });
    group.throughput(Throughput::Elements(others.len() as u64));
    group.bench_function("narinfo", |b| {
        b.iter(|| {
            for info in &others {
                let mut text = String::new();
                info.serialize_into(&mut text).unwrap();
                black_box(text);
            }
        });
    });
    group.finish();
}

/// Writes the fingerprints one by one into the same buffer.
fn for_each_fingerprint(infos: &[NarInfo<'_>], out: &mut Vec<u8>, mut each: impl FnMut(&[u8])) {
    for info in infos {
        out.clear();
        info.fingerprint().write_to(out).unwrap();
        each(out);
    }
}

fn fingerprint(criterion: &mut Criterion) {
    let texts = benches::narinfos();
    let (infos, theirs) = read(&texts);
    let their_store_dir = nix_derivation::StoreDir::default();
    let mut group = criterion.benchmark_group("fingerprint");
    group.throughput(Throughput::Elements(texts.len() as u64));
    let mut out = Vec::new();
    group.bench_function("nixcache", |b| {
        b.iter(|| {
            for_each_fingerprint(&infos, &mut out, |fingerprint| {
                black_box(fingerprint);
            });
        });
    });
    group.bench_function("nix-narinfo", |b| {
        b.iter(|| theirs.iter().for_each(|info| drop(black_box(info.fingerprint(&their_store_dir)))));
    });
    group.finish();
}

/// From parts that a program holds already, as a server does that answers from a database.
fn parts(criterion: &mut Criterion) {
    let (texts, key) = signed();
    let (infos, _) = read(&texts);
    let store_dir = StoreDir::default();
    let mut group = criterion.benchmark_group("from parts");
    group.throughput(Throughput::Elements(texts.len() as u64));
    let references: Vec<Vec<_>> = infos.iter().map(|info| info.references().iter().collect()).collect();
    group.bench_function("fingerprint", |b| {
        b.iter(|| {
            for (info, references) in infos.iter().zip(&references) {
                let nar_size = info.nar_size().try_into().unwrap();
                let fingerprint =
                    Fingerprint::new(&store_dir, info.store_path(), info.nar_hash(), nar_size, references);
                black_box(fingerprint.to_vec());
            }
        });
    });
    group.bench_function("builder", |b| {
        b.iter(|| {
            for (info, references) in infos.iter().zip(&references) {
                let builder = Builder::new(&store_dir, info.store_path(), info.url(), info.nar_hash(), info.nar_size());
                black_box(builder.references(references.iter().copied()).build().unwrap());
            }
        });
    });
    group.bench_function("builder that signs", |b| {
        b.iter(|| {
            for (info, references) in infos.iter().zip(&references) {
                let builder = Builder::new(&store_dir, info.store_path(), info.url(), info.nar_hash(), info.nar_size());
                black_box(builder.references(references.iter().copied()).sign(&key).build().unwrap());
            }
        });
    });
    group.finish();
}

/// Reading included: what a check of a cache does.
fn verify(criterion: &mut Criterion) {
    let (texts, key) = signed();
    // As many as a cache has, so that batches are full.
    let texts: Vec<&str> = texts.iter().map(String::as_str).cycle().take(20_000).collect();
    let store_dir = StoreDir::default();
    let policy = TrustPolicy::new(TrustedKeys::from_iter([key.public_key().clone()]));
    let their_key = nix_narinfo::TrustedPublicKey::parse(&key.public_key().to_string()).unwrap();
    let their_store_dir = nix_derivation::StoreDir::default();
    let mut group = criterion.benchmark_group("parse, fingerprint and verify");
    group.sample_size(10).throughput(Throughput::Elements(texts.len() as u64));
    let parse_all = || -> Vec<NarInfo<'_>> {
        texts.iter().map(|text| NarInfo::parse(text.as_bytes(), &store_dir).unwrap()).collect()
    };
    group.bench_function("nixcache, in batches, two threads", |b| {
        b.iter(|| assert!(policy.verify_batched(&parse_all(), TWO).iter().all(nixcache::trust::Verdict::is_valid)));
    });
    group.bench_function("nixcache, in batches", |b| {
        let mut verifier = Verifier::new(&policy);
        b.iter(|| assert!(verifier.verify_batched(&parse_all()).iter().all(nixcache::trust::Verdict::is_valid)));
    });
    group.bench_function("nixcache, in batches, one in a thousand bad", |b| {
        let bad: Vec<String> =
            texts.iter().step_by(1000).map(|text| text.replacen("NarSize: ", "NarSize: 1", 1)).collect();
        let mut verifier = Verifier::new(&policy);
        b.iter(|| {
            let mut infos = parse_all();
            for (place, text) in bad.iter().enumerate() {
                infos[place * 1000] = NarInfo::parse(text.as_bytes(), &store_dir).unwrap();
            }
            let verdicts = verifier.verify_batched(&infos);
            assert_eq!(verdicts.iter().filter(|verdict| !verdict.is_valid()).count(), bad.len());
        });
    });
    group.throughput(Throughput::Elements(texts.len().div_ceil(10) as u64));
    group.bench_function("nixcache, one by one", |b| {
        let mut verifier = Verifier::new(&policy);
        b.iter(|| {
            assert!(
                texts
                    .iter()
                    .step_by(10)
                    .all(|text| verifier.verify(&NarInfo::parse(text.as_bytes(), &store_dir).unwrap()).is_valid())
            );
        });
    });
    group.bench_function("nix-narinfo", |b| {
        b.iter(|| {
            assert!(texts.iter().step_by(10).all(|text| {
                let info = nix_narinfo::NarInfo::parse_in(&their_store_dir, text.as_bytes()).unwrap();
                info.has_valid_signature(&their_store_dir, std::slice::from_ref(&their_key))
            }));
        });
    });
    group.finish();
}

fn sign(criterion: &mut Criterion) {
    let (texts, key) = signed();
    let (infos, _) = read(&texts);
    let mut group = criterion.benchmark_group("sign");
    group.throughput(Throughput::Elements(texts.len() as u64));
    let mut out = Vec::new();
    group.bench_function("nixcache", |b| {
        b.iter(|| {
            for_each_fingerprint(&infos, &mut out, |fingerprint| {
                black_box(key.sign(fingerprint));
            });
        });
    });
    group.bench_function("ed25519-dalek, of fingerprints made before", |b| {
        use ed25519_dalek::Signer as _;
        let fingerprints: Vec<Vec<u8>> = infos.iter().map(|info| info.fingerprint().to_vec()).collect();
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        b.iter(|| {
            for fingerprint in &fingerprints {
                let _ = black_box(key.sign(fingerprint));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, parse, write, fingerprint, parts, verify, sign);
criterion_main!(benches);
