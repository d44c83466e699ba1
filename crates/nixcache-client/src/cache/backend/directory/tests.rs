//! Links, FIFOs and other files that users plant in a cache lead no command out of it, and block
//! none.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{FileType, RawMode};

use super::*;

/// The files that a listing finds, and the oddities.
type Found = (Vec<String>, Vec<(String, Oddity)>);

struct Scratch {
    _folder: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
    directory: Directory,
}

impl Scratch {
    /// A cache, and a directory outside it, with files that no command may touch.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("cache"), folder.path().join("outside"));
        for made in [root.join("nar"), root.join("nixcache/v1/plans"), outside.join("sub")] {
            fs::create_dir_all(made).unwrap();
        }
        for name in ["precious", "sub/precious", ".nixcache-host-1-abc.tmp"] {
            fs::write(outside.join(name), "precious").unwrap();
        }
        let directory = Directory::new(root.clone());
        Self { _folder: folder, root, outside, directory }
    }

    fn listed(&self, folder: &str) -> io::Result<Found> {
        let (mut files, mut odd) = (Vec::new(), Vec::new());
        self.directory
            .list(folder, false, &mut |found| {
                match found {
                    Listed::File(name, _) => files.push(name),
                    Listed::Odd(name, oddity) => odd.push((name, oddity)),
                }
                true
            })
            .map_err(|(_, error)| error)?;
        files.sort_unstable();
        odd.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok((files, odd))
    }

    fn assert_untouched(&self) {
        for name in ["precious", "sub/precious", ".nixcache-host-1-abc.tmp"] {
            assert_eq!(fs::read(self.outside.join(name)).unwrap(), b"precious", "{name}");
        }
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 3);
    }
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
}

fn oddity(error: &io::Error) -> Option<Oddity> {
    Odd::of(error).map(|odd| odd.oddity)
}

#[test]
fn listing_and_deleting_cross_no_link() {
    let scratch = Scratch::new();
    let Scratch { root, outside, directory, .. } = &scratch;
    fs::write(root.join("nar/a.nar"), "").unwrap();
    symlink(outside, root.join("nar/x")).unwrap();
    symlink(outside, root.join("log")).unwrap();
    symlink(".", root.join("nar/loop")).unwrap();
    symlink("circle", root.join("nar/circle")).unwrap();
    symlink(outside.join("precious"), root.join("nar/file")).unwrap();
    fs::remove_dir(root.join("nixcache/v1/plans")).unwrap();
    symlink(outside, root.join("nixcache/v1/plans")).unwrap();

    let (files, odd) = scratch.listed("").unwrap();
    assert_eq!(files, ["nar/a.nar", "nar/file"]);
    let links = [
        ("log", Oddity::Link),
        ("nar/circle", Oddity::BrokenLink),
        ("nar/loop", Oddity::Link),
        ("nar/x", Oddity::Link),
        ("nixcache/v1/plans", Oddity::Link),
    ];
    assert_eq!(odd, links.map(|(name, oddity)| (name.to_owned(), oddity)));
    // The contents of a requested folder are unknown, not empty.
    for folder in ["log", "nar/x", "nixcache/v1/plans", "nixcache/v1/plans/sub"] {
        assert_eq!(oddity(&scratch.listed(folder).unwrap_err()), Some(Oddity::Link), "{folder}");
    }
    for name in ["nar/x/precious", "log/precious", "nixcache/v1/plans/sub/precious", "nar/loop/a.nar"] {
        assert_eq!(oddity(&directory.delete(name).unwrap_err()), Some(Oddity::Link), "{name}");
    }
    assert_eq!(directory.clean(Duration::ZERO).unwrap(), 0);
    // Deleting a link removes the link, not its target.
    directory.delete("nar/file").unwrap();
    assert!(root.join("nar/file").symlink_metadata().is_err());
    scratch.assert_untouched();
}

#[test]
fn only_files_in_folders_of_the_layout_are_deleted() {
    let scratch = Scratch::new();
    let Scratch { root, directory, .. } = &scratch;
    fs::create_dir_all(root.join("other")).unwrap();
    for name in ["other/file", "nar/file", "file"] {
        fs::write(root.join(name), "").unwrap();
    }
    for name in
        ["other/file", "../outside/precious", "nar/../../outside/precious", "/etc/nothing", "nar//file", "nar", ""]
    {
        directory.delete(name).unwrap_err();
    }
    assert!(root.join("other/file").exists() && root.join("nar/file").exists());
    for name in ["nar/file", "file", "nar/file", "log/nothing"] {
        directory.delete(name).unwrap();
    }
    scratch.assert_untouched();
}

#[test]
fn nothing_is_written_through_a_link_to_what_is_ours() {
    let scratch = Scratch::new();
    let Scratch { root, outside, directory, .. } = &scratch;
    fs::remove_dir(root.join("nixcache/v1/plans")).unwrap();
    symlink(outside, root.join("nixcache/v1/plans")).unwrap();
    let refused = directory.prepare("nixcache/v1/plans/a.json", b"{}").unwrap_err();
    assert_eq!(oddity(&refused), Some(Oddity::Link));
    // A link in the place of a file is replaced, and not followed.
    symlink(outside.join("precious"), root.join("nar/a.nar")).unwrap();
    Directory::replace_all(vec![directory.prepare("nar/a.nar", b"ours").unwrap()]).unwrap();
    assert!(root.join("nar/a.nar").symlink_metadata().unwrap().is_file());
    scratch.assert_untouched();
}

/// The handle keeps referring to the folder that was opened.
#[test]
fn a_folder_that_is_replaced_by_a_link_while_it_is_open_is_not_followed() {
    let scratch = Scratch::new();
    let Scratch { root, outside, directory, .. } = &scratch;
    let complete = directory.prepare("nar/precious", b"ours").unwrap();
    let growing = directory.temporary("nar/b").unwrap();
    fs::rename(root.join("nar"), root.join("moved")).unwrap();
    symlink(outside, root.join("nar")).unwrap();
    Directory::replace_all(vec![complete]).unwrap();
    drop(growing);
    assert_eq!(fs::read(root.join("moved/precious")).unwrap(), b"ours");
    assert_eq!(fs::read_dir(root.join("moved")).unwrap().count(), 1);
    scratch.assert_untouched();
}

#[test]
fn links_of_trusted_users_lead_to_other_disks_and_those_of_others_nowhere() {
    let scratch = Scratch::new();
    let Scratch { root, outside, directory, .. } = &scratch;
    fs::remove_dir(root.join("nar")).unwrap();
    symlink(outside, root.join("nar")).unwrap();
    symlink(outside.join("precious"), root.join("a.narinfo")).unwrap();
    symlink(outside.join("nothing"), root.join("b.narinfo")).unwrap();
    symlink("c.narinfo", root.join("c.narinfo")).unwrap();
    assert_eq!(directory.read("nar/precious", 100).unwrap().unwrap(), b"precious");
    assert_eq!(directory.read("a.narinfo", 100).unwrap().unwrap(), b"precious");
    assert_eq!(directory.head("a.narinfo").unwrap().unwrap().size, 8);
    assert!(directory.read("nar/nothing", 100).unwrap().is_none());
    // The target may be on an unmounted disk, so it is not known to be absent.
    for name in ["b.narinfo", "c.narinfo"] {
        assert_eq!(oddity(&directory.read(name, 100).unwrap_err()), Some(Oddity::BrokenLink), "{name}");
        assert_eq!(oddity(&directory.head(name).unwrap_err()), Some(Oddity::BrokenLink), "{name}");
    }
    Directory::replace_all(vec![directory.prepare("nar/new", b"new").unwrap()]).unwrap();
    assert_eq!(fs::read(outside.join("new")).unwrap(), b"new");
    fs::remove_file(outside.join("new")).unwrap();

    if !rustix::process::geteuid().is_root() {
        return; // only root can change the owner of a link
    }
    for name in ["nar", "a.narinfo"] {
        std::os::unix::fs::lchown(root.join(name), Some(65534), Some(65534)).unwrap();
    }
    for name in ["nar/precious", "nar/nothing", "a.narinfo"] {
        assert_eq!(oddity(&directory.read(name, 100).unwrap_err()), Some(Oddity::Link), "{name}");
        assert_eq!(oddity(&directory.head(name).unwrap_err()), Some(Oddity::Link), "{name}");
    }
    assert_eq!(oddity(&directory.prepare("nar/new", b"new").unwrap_err()), Some(Oddity::Link));
    // Links of the owner of the cache are followed.
    std::os::unix::fs::chown(root, Some(65534), Some(65534)).unwrap();
    assert_eq!(directory.read("nar/precious", 100).unwrap().unwrap(), b"precious");
    scratch.assert_untouched();
}

#[test]
fn what_is_no_regular_file_is_an_error_and_not_waited_for() {
    let scratch = Scratch::new();
    let Scratch { root, directory, .. } = &scratch;
    for folder in ["", "nar/"] {
        fifo(&root.join(format!("{folder}fifo")));
        let _socket = UnixListener::bind(root.join(format!("{folder}socket"))).unwrap();
        fs::create_dir(root.join(format!("{folder}folder"))).unwrap();
        symlink("/dev/null", root.join(format!("{folder}device"))).unwrap();
        let odd = [
            ("fifo", Oddity::Fifo),
            ("socket", Oddity::Socket),
            ("folder", Oddity::Folder),
            ("device", Oddity::Device),
        ];
        for (name, expected) in odd {
            let name = format!("{folder}{name}");
            assert_eq!(oddity(&directory.read(&name, 100).unwrap_err()), Some(expected), "{name}");
            assert_eq!(oddity(&directory.open(&name).unwrap_err()), Some(expected), "{name}");
            assert_eq!(oddity(&directory.head(&name).unwrap_err()), Some(expected), "{name}");
            assert!(!directory.has_contents(&name, &mut io::empty()).unwrap());
        }
    }
    let (files, odd) = scratch.listed("").unwrap();
    assert!(files.is_empty());
    assert_eq!(odd.len(), 6, "{odd:?}");
    assert_eq!(oddity(&directory.read("nar/fifo/x", 100).unwrap_err()), Some(Oddity::Fifo));
    // A FIFO with the name of an object is listed as an object, which cannot be read.
    let part = "00000000000000000000000000000000";
    let objects = [format!("{part}.narinfo"), "nar/a.nar.zst".to_owned(), "nixcache/v1/plans/a.json".to_owned()];
    for name in &objects {
        fifo(&root.join(name));
    }
    let (files, odd) = scratch.listed("").unwrap();
    assert_eq!((files.as_slice(), odd.len()), (&objects[..], 6));
    for name in &objects {
        directory.delete(name).unwrap();
    }
    // They do not block writers.
    for name in ["fifo", "nar/fifo", "nar/socket"] {
        assert!(directory.prepare(name, b"ours").unwrap().create().unwrap(), "{name}");
        assert_eq!(directory.read(name, 100).unwrap().unwrap(), b"ours");
        assert!(!directory.prepare(name, b"other").unwrap().create().unwrap(), "{name}");
    }
    fifo(&root.join("other"));
    Directory::replace_all(vec![directory.prepare("other", b"ours").unwrap()]).unwrap();
    assert_eq!(directory.read("other", 100).unwrap().unwrap(), b"ours");
}

#[test]
fn names_that_are_not_utf_8_are_reported() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    if fs::write(scratch.root.join(std::ffi::OsStr::from_bytes(b"\xff.narinfo")), "").is_err() {
        return; // not on this file system
    }
    let (files, odd) = scratch.listed("").unwrap();
    assert!(files.is_empty());
    assert_eq!(odd, [("\u{fffd}.narinfo".to_owned(), Oddity::Name)]);
}

#[test]
fn a_root_that_is_not_there_is_not_an_empty_one() {
    let scratch = Scratch::new();
    fs::rename(&scratch.root, scratch.root.with_file_name("unmounted")).unwrap();
    for name in ["a.narinfo", "nar/a.nar"] {
        assert_eq!(scratch.directory.read(name, 100).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
        assert_eq!(scratch.directory.head(name).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
    }
    scratch.listed("nixcache/v1/roots").unwrap_err();
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let scratch = Scratch::new();
    File::create(scratch.root.join("huge")).unwrap().set_len(1 << 40).unwrap();
    fs::write(scratch.root.join("small"), [0; 100]).unwrap();
    assert_eq!(TooLarge::of(&scratch.directory.read("huge", 100).unwrap_err()).unwrap().limit, 100);
    assert_eq!(TooLarge::of(&scratch.directory.read("small", 99).unwrap_err()).unwrap().limit, 99);
    assert_eq!(scratch.directory.read("small", 100).unwrap().unwrap().len(), 100);
}

#[test]
fn a_nar_is_there_only_if_it_has_the_same_contents() {
    let scratch = Scratch::new();
    let contents: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let has = |there: &[u8]| {
        fs::write(scratch.root.join("nar/a"), there).unwrap();
        scratch.directory.has_contents("nar/a", &mut &contents[..]).unwrap()
    };
    assert!(has(&contents));
    for at in [0, 262_143, 262_144, 999_999] {
        let mut other = contents.clone();
        other[at] ^= 1;
        assert!(!has(&other), "{at}");
    }
    assert!(!has(&contents[1..]));
    assert!(!scratch.directory.has_contents("nar/b", &mut &contents[..]).unwrap());
}

/// The umask of one pusher could lock out all others.
#[test]
fn files_and_folders_are_for_those_whom_the_root_is_for() {
    let cases: [(RawMode, u32, u32); 6] = [
        (0o755, 0o644, 0o755),
        (0o700, 0o644, 0o755),
        (0o775, 0o664, 0o775),
        (0o2775, 0o664, 0o2775),
        (0o2750, 0o644, 0o2750),
        (0o1777, 0o664, 0o1777),
    ];
    for (root_mode, file_mode, folder_mode) in cases {
        let scratch = Scratch::new();
        let Scratch { root, directory, .. } = &scratch;
        fs::set_permissions(root, fs::Permissions::from_mode(root_mode)).unwrap();
        for name in ["a.narinfo", "log/a", "nixcache/v1/roots/main/a.json"] {
            Directory::replace_all(vec![directory.prepare(name, b"").unwrap()]).unwrap();
            let mode = root.join(name).metadata().unwrap().mode() & 0o7777;
            assert_eq!(mode, file_mode, "{name} in {root_mode:o}: {mode:o}");
        }
        for name in ["log", "nixcache/v1/roots", "nixcache/v1/roots/main"] {
            let mode = root.join(name).metadata().unwrap().mode() & 0o7777;
            assert_eq!(mode, folder_mode, "{name} in {root_mode:o}: {mode:o}");
        }
    }
}
