//! Queued paths are published, even if others add to the queue, drain it or are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conformance::{Nix, nixes};
use serde_json::Value;

use crate::narutil::{Scratch, narutil, run};

fn drain(nix: &Nix, queue: &Path, cache: &Path) -> Command {
    narutil!["push", "--queue", queue, "--from", format!("db:{}", nix.database().display()), "--to", cache]
}

/// Adds an entry as a script does.
fn add(queue: &Path, name: &str, text: &str) {
    let temporary = queue.join(format!(".{name}"));
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, queue.join(name)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn new_queue(scratch: &Scratch, name: &str) -> PathBuf {
    let queue = scratch.path(name);
    fs::create_dir(&queue).unwrap();
    queue
}

fn is_published(cache: &Path, path: &str) -> bool {
    let part = &Path::new(path).file_name().unwrap().to_str().unwrap()[..32];
    cache.join(format!("{part}.narinfo")).exists()
}

#[test]
fn closures_are_published_and_their_entries_removed() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let (queue, cache) = (new_queue(&scratch, "queue"), scratch.path("cache"));
    let empty = run(drain(&nix, &queue, &cache));
    assert!(empty.stderr.starts_with("0 entries of the queue published"), "{}", empty.stderr);
    empty.ok();
    assert!(!cache.exists(), "nothing was to be published");

    let paths = nix.add_closure(12, 200_000, 1);
    add(&queue, "one-a-line", &format!("{}\n{}\n", paths[3], paths[5]));
    add(&queue, "by-spaces", &format!("{}   {}", paths[5], paths[11]));
    fs::write(queue.join(".being-written"), "/nix/sto").unwrap();
    fs::write(queue.join("written.tmp"), "/nix/sto").unwrap();
    let drained = run(drain(&nix, &queue, &cache));
    assert!(drained.stderr.contains("2 entries of the queue published: 12 paths"), "{}", drained.stderr);
    drained.ok();
    assert!(paths.iter().all(|path| is_published(&cache, path)));
    assert_eq!(names(&queue), [".being-written", "written.tmp"]);
}

#[test]
fn broken_entries_are_set_aside_and_do_not_stand_in_the_way() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let (queue, cache) = (new_queue(&scratch, "queue"), scratch.path("cache"));
    let good = nix.add_closure(4, 100_000, 1).pop().unwrap();
    let also_good = nix.add_closure(4, 100_000, 2).pop().unwrap();
    let changed = nix.add_closure(4, 100_000, 3).pop().unwrap();
    fs::write(nix.physical_store().join(Path::new(&changed).file_name().unwrap()).join("new"), "not registered")
        .unwrap();
    let gone = "/nix/store/00000000000000000000000000000000-gone";
    add(&queue, "0-no-path", "rm -rf\n");
    add(&queue, "1-gone", &format!("{gone} {also_good}\n"));
    add(&queue, "2-changed", &changed);
    add(&queue, "3-empty", "");
    fs::write(queue.join("4-large"), vec![b'x'; 2 << 20]).unwrap();
    add(&queue, "5-good", &good);
    fs::create_dir(queue.join("failed")).unwrap();
    fs::write(queue.join("failed/0-no-path"), "an older one").unwrap();

    let mut command = drain(&nix, &queue, &cache);
    command.arg("--json");
    let drained = run(command);
    assert_eq!(drained.status, Some(1), "{}", drained.stderr);
    assert_eq!(names(&queue), ["failed"]);
    assert!(is_published(&cache, &good) && is_published(&cache, &also_good) && !is_published(&cache, &changed));
    let document: Value = serde_json::from_slice(&drained.stdout).unwrap();
    assert_eq!(document["queue"]["published"], 1, "{document}");
    assert_eq!(document["queue"]["failed"].as_array().unwrap().len(), 6, "{document}");
    let failed = queue.join("failed");
    let reason = |name: &str| fs::read_to_string(failed.join(format!("{name}.reason"))).unwrap();
    assert!(reason("0-no-path.1").contains("rm"), "{}", reason("0-no-path.1"));
    assert_eq!(reason("1-gone"), format!("{gone}: not in the store\n"));
    assert!(reason("2-changed").contains("is not what is registered"), "{}", reason("2-changed"));
    assert_eq!(reason("3-empty"), "lists no path\n");
    assert!(reason("4-large").contains("larger than"), "{}", reason("4-large"));
    assert_eq!(fs::read_to_string(failed.join("0-no-path")).unwrap(), "an older one");
    assert_eq!(fs::read_to_string(failed.join("2-changed")).unwrap(), changed);

    // Once it is mended, it is moved back.
    fs::remove_file(nix.physical_store().join(Path::new(&changed).file_name().unwrap()).join("new")).unwrap();
    fs::rename(failed.join("2-changed"), queue.join("2-changed")).unwrap();
    run(drain(&nix, &queue, &cache)).ok();
    assert!(is_published(&cache, &changed));
}

/// What cannot be put in an order, or has no whole closure, ends a push as a whole.
#[test]
fn an_entry_that_would_end_the_push_does_not_end_that_of_others() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let (queue, cache) = (new_queue(&scratch, "queue"), scratch.path("cache"));
    let good = nix.add_closure(4, 100_000, 1).pop().unwrap();
    let [one, other, holed, unknown] = [1, 2, 3, 4].map(crate::cache::full_path);
    let record = |path: &str, reference: &str| format!("{path}\n{:064}\n120\n\n1\n{reference}\n", 0);
    let text = format!("{}{}{}", record(&one, &other), record(&other, &one), record(&holed, &unknown));
    let registration = scratch.file("registration", text.as_bytes());
    add(&queue, "0-circle", &one);
    add(&queue, "0-hole", &holed);
    add(&queue, "1-good", &good);
    let mut command = drain(&nix, &queue, &cache);
    command.arg("--from").arg(format!("registration:{}", registration.display()));
    let drained = run(command);
    assert_eq!(drained.status, Some(1), "{}", drained.stderr);
    assert!(is_published(&cache, &good), "{}", drained.stderr);
    assert_eq!(names(&queue), ["failed"]);
    let failed = queue.join("failed");
    assert_eq!(names(&failed), ["0-circle", "0-circle.reason", "0-hole", "0-hole.reason"]);
    let reason = fs::read_to_string(failed.join("0-hole.reason")).unwrap();
    assert_eq!(reason, format!("{holed}: refers to {unknown}, which is not in the store\n"));
}

#[test]
fn a_cache_that_cannot_be_reached_leaves_everything_in_the_queue() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let queue = new_queue(&scratch, "queue");
    let good = nix.add_closure(4, 100_000, 1).pop().unwrap();
    add(&queue, "good", &good);
    add(&queue, "broken", "no path");
    let mut command = drain(&nix, &queue, Path::new("http://127.0.0.1:9/cache"));
    command.args(["--retries", "0"]);
    run(command).error(3);
    assert_eq!(names(&queue), ["broken", "good"]);
    // Neither is a queue that is not there an empty one.
    run(drain(&nix, &scratch.path("other"), &scratch.path("cache"))).error(3);
}

#[test]
fn many_add_and_drains_are_killed_and_nothing_is_lost() {
    const WRITERS: usize = 4;
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let (queue, cache) = (new_queue(&scratch, "queue"), scratch.path("cache"));
    let paths = nix.add_closure(160, 24_000_000, 5);
    let (is_done, killed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Close to the time of a drain on any machine: kills come before its end, and late.
                let mut life = Duration::from_millis(200);
                while !is_done.load(Ordering::Relaxed) || killed.load(Ordering::Relaxed) < 8 {
                    let mut command = drain(&nix, &queue, &cache);
                    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                    let started = Instant::now();
                    while started.elapsed() < life && child.try_wait().unwrap().is_none() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    child.kill().unwrap();
                    let code = child.wait().unwrap().code();
                    assert!(code.is_none_or(|code| code == 0), "{code:?}");
                    let is_killed = code.is_none();
                    killed.fetch_add(usize::from(is_killed), Ordering::Relaxed);
                    life = if is_killed { life * 5 / 4 } else { life * 3 / 4 };
                }
            });
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (queue, paths) = (&queue, &paths);
                scope.spawn(move || {
                    for (index, path) in paths.iter().enumerate().filter(|(index, _)| index % WRITERS == writer) {
                        add(queue, &format!("{index}"), path);
                        std::thread::sleep(Duration::from_millis(30));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
    });
    // What is not in the cache is still in the queue.
    let left = names(&queue);
    for (index, path) in paths.iter().enumerate() {
        assert!(left.contains(&index.to_string()) || is_published(&cache, path), "{path} is lost");
    }
    let mut both = [0, 1].map(|_| {
        let mut command = drain(&nix, &queue, &cache);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
    let started = Instant::now();
    for child in &mut both {
        assert!(child.wait().unwrap().success());
    }
    assert!(started.elapsed() < Duration::from_secs(120));
    // One of them may have ended while the other had the rest in hand.
    assert_eq!(names(&queue), [""; 0]);
    assert!(paths.iter().all(|path| is_published(&cache, path)));
    assert_good(narutil!["audit", "--json", "--contents", &cache]);
}

/// An audit finds nothing but what the dead have left behind.
pub(crate) fn assert_good(audit: Command) {
    for line in String::from_utf8(run(audit).stdout).unwrap().lines() {
        let finding: Value = serde_json::from_str(line).unwrap();
        let kind = finding["kind"].as_str().unwrap();
        assert!(["temporary", "orphan-nar", "orphan-listing"].contains(&kind), "{line}");
    }
}
