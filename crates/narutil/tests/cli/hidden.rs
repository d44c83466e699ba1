//! If something else is in the place of a folder of roots, nothing that those roots may keep is
//! removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode};

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};
use crate::shared_directory::ends;

/// A cache with a path under the root `main` and another under `other`, all of them old.
fn cache(scratch: &Scratch, key: &Key) -> PathBuf {
    let cache = scratch.path("cache");
    for name in ["main", "other"] {
        let tree = scratch.path(name);
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("file"), name).unwrap();
        run(narutil!["push", "-q", "--to", &cache, "--key", &key.file, "--root", name, "--add", tree]).ok();
    }
    age(&cache);
    cache
}

fn age(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path);
        } else {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3 * 24 * 3600)).unwrap();
        }
    }
}

fn narinfos(cache: &Path) -> usize {
    let names = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.strip_suffix(".narinfo").is_some()).count()
}

#[test]
fn what_a_hidden_folder_may_keep_stays() {
    for folder in ["roots/main", "roots", "closures", "leases", "plans"] {
        for kind in ["link", "file", "FIFO"] {
            let what = format!("a {kind} at {folder}");
            let scratch = Scratch::new();
            let key = Key::new(&scratch, "k-1");
            let cache = cache(&scratch, &key);
            let place = cache.join("nixcache/v1").join(folder);
            let away = scratch.path("away");
            fs::create_dir_all(&place).unwrap();
            fs::rename(&place, &away).unwrap();
            match kind {
                "link" => symlink(&away, &place).unwrap(),
                "file" => fs::write(&place, "x").unwrap(),
                _ => rustix::fs::mknodat(CWD, &place, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap(),
            }
            for _ in 0..2 {
                let options = ["--keep-last", "1", "--grace", "0s", "--unrooted", "remove", "--now", "--allow-empty"];
                let mut command = narutil!["gc", &cache];
                let collected = ends({
                    command.args(options);
                    command
                });
                assert!(matches!(collected.status, Some(1 | 3)), "{what}: {collected:?}");
                assert!(collected.stderr.contains(&format!("nixcache/v1/{folder}")), "{what}: {collected:?}");
                assert_eq!(narinfos(&cache), 2, "{what}");
            }
            let audited = ends(narutil!["audit", &cache, "--repair", "--older-than", "0s"]);
            assert_eq!(audited.status, Some(3), "{what}: {audited:?}");
            assert_eq!(narinfos(&cache), 2, "{what}");
            // Once it is put back, all is well.
            fs::remove_file(&place).unwrap();
            fs::rename(&away, &place).unwrap();
            ends(narutil!["gc", &cache, "--keep-last", "1"]).ok();
            ends(narutil!["audit", &cache]).ok();
        }
    }
}

#[test]
fn a_push_publishes_what_a_fifo_has_replaced() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, &key);
    let push = |name: &str| {
        narutil!["push", "-q", "--to", &cache, "--key", &key.file, "--root", name, "--add", scratch.path("main")]
    };
    let path = ends(push("main")).text().trim().to_owned();
    let narinfo = cache.join(format!("{}.narinfo", &path["/nix/store/".len()..][..32]));
    for name in ["main", "new"] {
        fs::remove_file(&narinfo).unwrap();
        rustix::fs::mknodat(CWD, &narinfo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        ends(push(name)).ok();
        assert!(fs::metadata(&narinfo).unwrap().is_file());
    }
    let into = scratch.path("into");
    ends(narutil!["pull", "-q", &path, "--from", &cache, "--trusted", key.public(), "--into", &into]).ok();
}

#[test]
fn a_collection_goes_on_beside_a_narinfo_that_a_fifo_has_replaced() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let cache = cache(&scratch, &key);
    let push = narutil!["push", "-q", "--to", &cache, "--key", &key.file, "--add", scratch.path("main")];
    let path = ends(push).text().trim().to_owned();
    let narinfo = cache.join(format!("{}.narinfo", &path["/nix/store/".len()..][..32]));
    fs::remove_file(&narinfo).unwrap();
    rustix::fs::mknodat(CWD, &narinfo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    run(narutil!["root", "remove", &cache, "other"]).ok();
    for _ in 0..2 {
        let collected = ends(narutil!["gc", &cache, "--grace", "0s", "--unrooted", "remove"]);
        assert!(collected.status == Some(1) && collected.stderr.contains("a FIFO"), "{collected:?}");
    }
    assert_eq!((narinfos(&cache), fs::read_dir(cache.join("nar")).unwrap().count()), (1, 1));
}
