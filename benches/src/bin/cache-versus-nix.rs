//! Times publishing, fetching and verifying beside real Nix, as whole processes, and prints a table
//! in Markdown.
//!
//! ```sh
//! cargo run --release -p benches --bin cache-versus-nix [ROUNDS] [WORK…]
//! ```
//!
//! Five rounds unless told otherwise, and only the works whose names contain one of the words, if
//! there are any. The closure has 301 paths of mixed sizes, 164 MB in all; `NIXCACHE_BENCH_PATHS`
//! changes the one, and `NIXCACHE_BENCH_SCALE` the other. In each round every program does the work
//! once, so that other load on the machine meets all of them; caches are on the disk, and a
//! round before those warms the page cache. The ratios are those of the medians.
//!
//! Every version of Nix has the same closure in a store of its own, from which `narutil` reads it,
//! too. The Nix to beat is found as by `versus-nix`, and so is `narutil`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use benches::{narutil, scaled, target_directory};
use conformance::{Nix, Proxy, Server, nixes};
use tempfile::TempDir;

const PATHS: usize = 301;
/// How much later answers of the slow server come.
const DELAY: Duration = Duration::from_millis(20);
const BYTES: usize = 164_000_000;

/// A closure in the store of a Nix, and where things are made of it.
struct Place {
    nix: Nix,
    root: String,
    keys: PathBuf,
    scratch: TempDir,
    /// A web server, and what makes it slow. None where there is no nginx.
    web: Option<(Server, Proxy)>,
}

/// Something that both can do.
struct Work {
    name: &'static str,
    /// Prepares a round, before the clock runs.
    before: fn(&Place, &Path),
    ours: fn(&Place, &mut Command, &Path),
    theirs: fn(&Place, &mut Command, &Path),
}

impl Place {
    /// The slow server, or the cache where there is none.
    fn slow(&self, cache: &Path) -> OsString {
        self.web.as_ref().map_or(cache.into(), |(_, proxy)| format!("http://{}", proxy.address()).into())
    }
}

fn push(place: &Place, command: &mut Command, cache: &Path, compression: &str) {
    push_to(place, command, cache.as_os_str(), compression);
}

fn push_to(place: &Place, command: &mut Command, cache: &OsStr, compression: &str) {
    command.args(["-q", "push", &place.root, "--compression", compression, "--key"]).arg(place.keys.join("secret"));
    command.arg("--from").arg(format!("db:{}", place.nix.database().display())).arg("--to").arg(cache);
}

fn copy_to(place: &Place, command: &mut Command, cache: &Path, compression: &str) {
    let secret = place.keys.join("secret");
    let url = format!("file://{}?compression={compression}&secret-key={}", cache.display(), secret.display());
    command.args(["copy", "--to", &url, &place.root]);
}

fn nothing(_: &Place, _: &Path) {}

fn filled(place: &Place, cache: &Path) {
    let mut command = place.nix.command("nix");
    copy_to(place, &mut command, cache, "zstd");
    run(&mut command);
}

fn works() -> Vec<Work> {
    vec![
        Work {
            name: "first push, zstd",
            before: nothing,
            ours: |place, command, cache| push(place, command, cache, "zstd"),
            theirs: |place, command, cache| copy_to(place, command, cache, "zstd"),
        },
        Work {
            name: "first push, uncompressed",
            before: nothing,
            ours: |place, command, cache| push(place, command, cache, "none"),
            theirs: |place, command, cache| copy_to(place, command, cache, "none"),
        },
        Work {
            name: "push of what is there",
            before: filled,
            ours: |place, command, cache| push(place, command, cache, "zstd"),
            theirs: |place, command, cache| copy_to(place, command, cache, "zstd"),
        },
        Work {
            name: "the same, 20 ms a request",
            before: |place, _| {
                if let Some((server, _)) = &place.web
                    && !server.root().join("nix-cache-info").exists()
                {
                    filled(place, &server.root());
                }
            },
            ours: |place, command, cache| push_to(place, command, &place.slow(cache), "zstd"),
            theirs: |place, command, cache| {
                command.args(["copy", "--refresh", "--to"]).arg(place.slow(cache)).arg(&place.root);
            },
        },
        Work {
            name: "verify all signatures",
            before: filled,
            ours: |place, command, cache| {
                command.args(["-q", "verify", "--trusted"]).arg(place.keys.join("public")).arg(cache);
            },
            theirs: |place, command, cache| {
                let public = std::fs::read_to_string(place.keys.join("public")).unwrap();
                command.args(["store", "verify", "--all", "--no-contents", "--trusted-public-keys", public.trim()]);
                command.arg("--store").arg(format!("file://{}", cache.display()));
            },
        },
        Work {
            name: "pull into a store",
            before: filled,
            ours: |place, command, cache| {
                command.args(["-q", "pull", &place.root, "--trusted"]).arg(place.keys.join("public"));
                command.arg("--from").arg(cache).arg("--into").arg(cache.with_extension("store"));
            },
            theirs: |place, command, cache| {
                let public = std::fs::read_to_string(place.keys.join("public")).unwrap();
                command.args(["copy", "--from", &format!("file://{}", cache.display()), &place.root]);
                command.args(["--trusted-public-keys", public.trim(), "--to"]).arg(cache.with_extension("store"));
            },
        },
    ]
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Does the work once. What came out stays until the end: ext4 gives new files no inodes that were
/// freed lately, and searching for others took a sixth of a push.
fn time(place: &Place, work: &Work, narutil: Option<&Path>) -> Duration {
    let scratch = tempfile::tempdir_in(place.scratch.path()).unwrap().keep();
    let cache = scratch.join("cache");
    (work.before)(place, &cache);
    let mut command = match narutil {
        Some(narutil) => Command::new(narutil),
        None => place.nix.command("nix"),
    };
    let arguments = if narutil.is_some() { work.ours } else { work.theirs };
    arguments(place, &mut command, &cache);
    let start = Instant::now();
    run(&mut command);
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = arguments.first().and_then(|first| first.parse().ok());
    let names = &arguments[usize::from(rounds.is_some())..];
    let rounds: usize = rounds.unwrap_or(5).max(1);

    let paths = std::env::var("NIXCACHE_BENCH_PATHS").ok().filter(|paths| !paths.is_empty());
    let paths = paths.map_or(PATHS, |paths| paths.parse().expect("NIXCACHE_BENCH_PATHS is a number"));

    let narutil = narutil();
    let places: Vec<Place> = nixes()
        .into_iter()
        .map(|nix| {
            let scratch = tempfile::tempdir_in(target_directory()).unwrap();
            let keys = scratch.path().join("keys");
            std::fs::create_dir(&keys).unwrap();
            let mut generate = Command::new(&narutil);
            generate.args(["key", "generate", "bench-1", "-o"]).arg(keys.join("secret"));
            run(generate.arg("--public").arg(keys.join("public")));
            let root = nix.add_closure(paths, scaled(BYTES), 1).pop().unwrap();
            let web = Server::nginx().map(|server| {
                let proxy = Proxy::slow(server.address(), DELAY);
                (server, proxy)
            });
            Place { nix, root, keys, scratch, web }
        })
        .collect();
    let versions: Vec<String> = places.iter().map(|place| format!("Nix {}", place.nix.version())).collect();
    println!("| work | `narutil` | {} |\n|---|---|{}", versions.join(" | "), "---|".repeat(versions.len()));
    for work in works() {
        if !names.is_empty() && !names.iter().any(|name| work.name.contains(name.as_str())) {
            continue;
        }
        let mut ours = Vec::new();
        let mut theirs = vec![Vec::new(); places.len()];
        for round in 0..=rounds {
            for (place, theirs) in places.iter().zip(&mut theirs) {
                let (our_time, their_time) = (time(place, &work, Some(&narutil)), time(place, &work, None));
                if round > 0 {
                    ours.push(our_time);
                    theirs.push(their_time);
                }
            }
        }
        let ours = median(&mut ours);
        let columns: Vec<String> = theirs
            .iter_mut()
            .map(|times| {
                let theirs = median(times);
                format!("{:.0} ms, **{:.2}×**", theirs.as_secs_f64() * 1e3, theirs.as_secs_f64() / ours.as_secs_f64())
            })
            .collect();
        println!("| {} | {:.0} ms | {} |", work.name, ours.as_secs_f64() * 1e3, columns.join(" | "));
    }
    for place in &places {
        // Nix makes the contents of stores read-only, and a temporary directory that cannot be
        // emptied stays behind.
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(place.scratch.path()).status();
    }
}
