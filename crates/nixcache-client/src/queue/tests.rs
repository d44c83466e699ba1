//! Tests of the queue: taking, settling and setting aside entries.

use super::*;

const PATH: &str = "/nix/store/00000000000000000000000000000000-a";

fn queue() -> (tempfile::TempDir, Queue) {
    let directory = tempfile::tempdir().unwrap();
    let queue = Queue::new(directory.path().to_owned());
    (directory, queue)
}

fn take(queue: &Queue) -> Vec<QueueEntry> {
    queue.take(&StoreDir::default(), usize::MAX).unwrap()
}

#[test]
fn an_entry_is_taken_by_one_at_a_time() {
    let (directory, queue) = queue();
    fs::write(directory.path().join("1"), PATH).unwrap();
    let taken = take(&queue);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].paths().len(), 1);
    assert!(take(&queue).is_empty());
    // A process that ends without settling an entry leaves it to others.
    drop(taken);
    assert_eq!(take(&queue).len(), 1);
}

#[test]
fn what_is_added_is_taken_with_its_paths_and_none_is_added_without() {
    let (directory, queue) = queue();
    let paths = [PATH, "/nix/store/10000000000000000000000000000000-b"];
    let paths = paths.map(|path| StoreDir::default().parse(path).unwrap().to_owned());
    let file = queue.add(&StoreDir::default(), paths.iter().map(StorePath::as_ref)).unwrap();
    queue.add(&StoreDir::default(), [paths[0].as_ref()]).unwrap();
    assert_eq!((file.parent(), fs::read_dir(&directory).unwrap().count()), (Some(directory.path()), 2));
    let taken = take(&queue);
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().any(|entry| entry.paths() == paths), "{taken:?}");
    assert_eq!(queue.add(&StoreDir::default(), []).unwrap_err().error.kind(), io::ErrorKind::InvalidInput);
    let nowhere = Queue::new(directory.path().join("missing"));
    assert_eq!(nowhere.add(&StoreDir::default(), [paths[0].as_ref()]).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_oldest_come_first_and_not_more_than_wanted() {
    let (directory, queue) = queue();
    let start = SystemTime::now();
    for (age, name) in [(1, "c"), (3, "a"), (2, "b")] {
        let file = File::create(directory.path().join(name)).unwrap();
        file.set_modified(start - std::time::Duration::from_secs(age)).unwrap();
    }
    let taken = queue.take(&StoreDir::default(), 2).unwrap();
    assert_eq!(taken.iter().map(QueueEntry::name).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_is_being_written_and_what_is_no_file_is_left_alone() {
    let (directory, queue) = queue();
    for name in [".1", "1.tmp"] {
        fs::write(directory.path().join(name), PATH).unwrap();
    }
    fs::create_dir(directory.path().join("failed")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
    assert!(take(&queue).is_empty());
}

#[test]
fn an_entry_is_not_removed_in_the_place_of_another() {
    let (directory, queue) = queue();
    let place = directory.path().join("1");
    fs::write(&place, PATH).unwrap();
    let entry = take(&queue).pop().unwrap();
    // Another writer reuses the name.
    fs::write(directory.path().join(".1"), "other").unwrap();
    fs::rename(directory.path().join(".1"), &place).unwrap();
    let graph = nixcache::closure::GraphBuilder::new().finish();
    assert_eq!(entry.settle(&StoreDir::default(), &graph, &Pushed::default()).unwrap(), QueueOutcome::Published);
    assert_eq!(fs::read(&place).unwrap(), b"other");
}

#[test]
fn paths_that_are_not_known_set_an_entry_aside_with_the_reason() {
    let (directory, queue) = queue();
    fs::write(directory.path().join("1"), PATH).unwrap();
    let mut entry = take(&queue).pop().unwrap();
    let (store_dir, graph) = (StoreDir::default(), nixcache::closure::GraphBuilder::new().finish());
    assert!(entry.look_up(&store_dir, &graph).is_empty());
    let outcome = entry.settle(&store_dir, &graph, &Pushed::default()).unwrap();
    let to = directory.path().join("failed/1");
    assert_eq!(outcome, QueueOutcome::SetAside { to: to.clone(), reasons: vec![format!("{PATH}: not in the store")] });
    assert_eq!(fs::read(&to).unwrap(), PATH.as_bytes());
    assert_eq!(
        fs::read_to_string(directory.path().join("failed/1.reason")).unwrap(),
        format!("{PATH}: not in the store\n")
    );
}

/// Other users who can write to the queue can create links in it.
#[test]
fn a_reason_is_not_written_through_a_link() {
    let (directory, queue) = queue();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("victim"), "precious").unwrap();
    fs::create_dir(path("failed")).unwrap();
    std::os::unix::fs::symlink(path("victim"), path("failed/1.reason")).unwrap();
    std::os::unix::fs::symlink(path("nothing"), path("failed/2.reason")).unwrap();
    for name in ["1", "2"] {
        fs::write(path(name), "rm").unwrap();
    }
    fs::rename(path("victim"), path(".victim")).unwrap();
    std::os::unix::fs::symlink(path(".victim"), path("victim")).unwrap();
    for entry in take(&queue) {
        let name = entry.name().to_owned();
        let QueueOutcome::SetAside { to, .. } = entry.set_aside("no path").unwrap() else { panic!("{name:?}") };
        let reason = directory.path().join("failed").join(with_suffix(&name, ".reason"));
        assert!(reason.symlink_metadata().unwrap().is_file(), "{reason:?}");
        assert_eq!(to, path("failed").join(&name));
    }
    assert_eq!(fs::read_to_string(path(".victim")).unwrap(), "precious");
    assert!(!path("nothing").exists());
}

#[test]
fn a_folder_of_failed_entries_that_is_a_link_is_not_written_to() {
    let (directory, queue) = queue();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("failed")).unwrap();
    fs::write(directory.path().join("1"), "rm").unwrap();
    let refused = take(&queue).pop().unwrap().set_aside("no path").unwrap_err();
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
    assert!(directory.path().join("1").exists());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}
