//! How fast a few things are here: narinfos parsed and verified, a tree hashed. The benchmark of
//! the Python package compares itself with what this prints.
//!
//! `rates NARINFOS PUBLIC_KEY TREE`: a file of narinfos with an empty line behind each, a public
//! key, and a tree.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use nixcache::hash::Algorithm;
use nixcache::nar::{Observer, Packer};
use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::signature::PublicKey;
use nixcache::store_path::StoreDir;
use nixcache::trust::{TrustPolicy, TrustedKeys};

/// The shortest of several runs.
fn best(mut work: impl FnMut()) -> Duration {
    let run = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..5).map(run).min().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "rates of small counts")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [narinfos, key, tree] = &arguments[..] else { return Err("usage: rates NARINFOS PUBLIC_KEY TREE".into()) };
    let text = std::fs::read_to_string(narinfos)?;
    let texts: Vec<&str> = text.split_terminator("\n\n").collect();
    let store_dir = StoreDir::default();
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);

    let parsed = best(|| {
        for text in &texts {
            assert!(NarInfoBuf::parse(text.as_bytes(), &store_dir).is_ok());
        }
    });
    let infos = texts.iter().map(|text| NarInfo::parse(text.as_bytes(), &store_dir)).collect::<Result<Vec<_>, _>>()?;
    let policy = TrustPolicy::new(TrustedKeys::from_iter([PublicKey::parse(key)?]));
    let verified =
        best(|| assert!(policy.verify_batched(&infos, threads).iter().all(nixcache::trust::Verdict::is_valid)));
    let mut size = 0;
    let hashed = best(|| {
        let seen =
            Observer::new().hash(Algorithm::Sha256).map(|observer| Packer::new().observe(Path::new(tree), observer));
        size = seen.ok().and_then(Result::ok).map_or(0, |seen| seen.size);
    });
    let count = infos.len() as f64;
    println!("parse {:.0}", count / parsed.as_secs_f64());
    println!("verify {:.0}", count / verified.as_secs_f64());
    println!("hash {:.0}", size as f64 / hashed.as_secs_f64());
    Ok(())
}
