//! Tests of pulls: closures, trust, damage, roots, and pulls at the same time.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use nixcache::ErrorKind;
use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::Hash;
use nixcache::nar::Writer;
use nixcache::narinfo::NarInfo;
use nixcache::signature::{KeyName, SecretKey};
use nixcache::store_path::{ContentAddress, Method, StoreDir, StorePath};
use nixcache::trust::{TrustPolicy, TrustedKeys};

use super::path_locks::{PathLocks, Turn};
use super::{Destination, Error, Pull, PullEvent, PullOptions, PullRequest, Pulled, ResolvedClosure, Trust};
use crate::cache::{Cache, CacheOptions, CacheUrl, layout};
use crate::progress::Progress;
use crate::push::{Session, SessionRequest, SessionStart};
use crate::roots::Root;

/// A cache, and the key that signs what is in it.
struct Origin {
    cache: Cache,
    key: SecretKey,
}

/// What is said of a path, by fields that a test may change before it is signed.
struct Entry {
    path: StorePath,
    url: String,
    compression: &'static str,
    file: Vec<u8>,
    file_hash: Option<Hash>,
    file_size: Option<u64>,
    nar_hash: Hash,
    nar_size: u64,
    references: Vec<StorePath>,
    address: Option<ContentAddress>,
}

fn path(number: usize) -> StorePath {
    StorePath::parse(&format!("{number:032}-path-{number}")).unwrap()
}

/// A directory with one executable file.
fn archive(contents: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.directory(b"").unwrap();
    writer.file(b"run", true, contents).unwrap();
    writer.end().unwrap();
    writer.finish().unwrap()
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut encoder = Compressor::new(Vec::new(), &EncodeOptions::new(compression)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Entry {
    fn new(path: StorePath, nar: &[u8], compression: Compression, references: &[StorePath]) -> Self {
        let mut entry = Self {
            path,
            url: String::new(),
            compression: compression.name(),
            file: Vec::new(),
            file_hash: None,
            file_size: None,
            nar_hash: Hash::sha256(nar),
            nar_size: nar.len() as u64,
            references: references.to_vec(),
            address: None,
        };
        entry.set_file(compressed(nar, compression));
        entry
    }

    fn set_file(&mut self, file: Vec<u8>) {
        let hash = Hash::sha256(&file);
        self.url = layout::nar(hash, self.compression.parse().unwrap());
        (self.file_hash, self.file_size) = (Some(hash), Some(file.len() as u64));
        self.file = file;
    }

    fn text(&self) -> String {
        let mut text = format!("StorePath: /nix/store/{}\nURL: {}\n", self.path, self.url);
        writeln!(text, "Compression: {}", self.compression).unwrap();
        if let Some(hash) = self.file_hash {
            writeln!(text, "FileHash: {hash}").unwrap();
        }
        if let Some(size) = self.file_size {
            writeln!(text, "FileSize: {size}").unwrap();
        }
        let references: Vec<&str> = self.references.iter().map(StorePath::as_str).collect();
        write!(text, "NarHash: {}\nNarSize: {}\n", self.nar_hash, self.nar_size).unwrap();
        writeln!(text, "References: {}", references.join(" ")).unwrap();
        if let Some(address) = self.address {
            writeln!(text, "CA: {address}").unwrap();
        }
        text
    }
}

impl Origin {
    async fn new(priority: i32) -> Self {
        Self::at(&CacheUrl::memory(), priority).await
    }

    async fn at(url: &CacheUrl, priority: i32) -> Self {
        let cache = Cache::create(url, &StoreDir::default(), CacheOptions::default()).await.unwrap();
        let key = SecretKey::generate(KeyName::new(format!("key-{priority}")).unwrap()).unwrap();
        Self { cache, key }
    }

    async fn add(&self, entry: &Entry) {
        self.cache.write(&entry.url, entry.file.clone()).await.unwrap();
        self.describe(entry).await;
    }

    /// Adds the narinfo only.
    async fn describe(&self, entry: &Entry) {
        let text = entry.text();
        let info = NarInfo::parse(text.as_bytes(), &StoreDir::default()).unwrap();
        let signature = self.key.sign(&info.fingerprint().to_vec());
        self.write(entry, format!("{text}Sig: {signature}\n")).await;
    }

    async fn write(&self, entry: &Entry, text: String) {
        self.cache.write(&layout::narinfo(entry.path.hash_part()), text).await.unwrap();
    }

    /// Three paths, of which each refers to the one before it.
    async fn add_chain(&self) {
        for number in 1..=3 {
            let references: Vec<StorePath> = (1..number).map(path).collect();
            let nar = archive(format!("number {number}").as_bytes());
            let compression = [Compression::Xz, Compression::Zstd, Compression::None][number - 1];
            self.add(&Entry::new(path(number), &nar, compression, &references)).await;
        }
    }
}

fn pull(origins: &[&Origin]) -> Pull {
    pull_with(origins, |_| {})
}

fn pull_with(origins: &[&Origin], change: impl FnOnce(&mut PullOptions)) -> Pull {
    let keys: TrustedKeys = origins.iter().map(|origin| origin.key.public_key().clone()).collect();
    let caches = origins.iter().map(|origin| origin.cache.clone()).collect();
    Pull::new(
        caches,
        PullOptions::default().with(|options| options.trust = Trust::Signed(TrustPolicy::new(keys))).with(change),
    )
}

async fn find(origin: &Origin, number: usize) -> Result<ResolvedClosure, Error> {
    pull(&[origin]).find(vec![path(number).into()]).await
}

async fn run(origin: &Origin, number: usize, target: &Destination) -> Pulled {
    let pull = pull(&[origin]);
    let found = pull.find(vec![path(number).into()]).await.unwrap();
    pull.run(&found, target).await.unwrap()
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closure_becomes_a_store_and_is_not_fetched_again() {
    let (origin, root) = (Origin::new(1).await, tempfile::tempdir().unwrap());
    origin.add_chain().await;
    let target = Destination::Store(root.path().to_owned());
    let pulled = run(&origin, 3, &target).await;
    let paths: Vec<_> = pulled.fetched.iter().map(|fetched| fetched.path.clone()).collect();
    assert_eq!(paths, [1, 2, 3].map(path));
    let store = root.path().join("nix/store");
    assert_eq!(entries(&store), [1, 2, 3].map(|number| path(number).to_string()));
    for number in 1..=3 {
        let tree = store.join(path(number));
        assert_eq!(fs::read_to_string(tree.join("run")).unwrap(), format!("number {number}"));
        assert_eq!(tree.metadata().unwrap().permissions().mode() & 0o7777, 0o555);
    }
    let again = run(&origin, 3, &target).await;
    assert_eq!((again.fetched.len(), again.present.len()), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_hashed_again_when_that_is_asked_for() {
    let (origin, root) = (Origin::new(1).await, tempfile::tempdir().unwrap());
    origin.add_chain().await;
    let target = Destination::Store(root.path().to_owned());
    let pull = pull_with(&[&origin], |options| options.check = true);
    let found = pull.find(vec![path(3).into()]).await.unwrap();
    pull.run(&found, &target).await.unwrap();
    let clean = pull.run(&found, &target).await.unwrap();
    assert!(clean.failed.is_empty());
    let file = root.path().join("nix/store").join(path(2)).join("run");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&file, "changed").unwrap();
    let damaged = pull.run(&found, &target).await.unwrap();
    assert_eq!(damaged.failed.len(), 1);
    assert!(damaged.failed[0].1.to_string().contains("remove it to have it fetched again"), "{}", damaged.failed[0].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_the_nars() {
    let (origin, directory) = (Origin::new(1).await, tempfile::tempdir().unwrap());
    origin.add_chain().await;
    run(&origin, 3, &Destination::Archives(directory.path().to_owned())).await;
    assert_eq!(entries(directory.path()), [1, 2, 3].map(|number| format!("{}.nar", path(number))));
    let nar = fs::read(directory.path().join(format!("{}.nar", path(2)))).unwrap();
    assert!(nar == archive(b"number 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_same_narinfos_and_files() {
    let (origin, copy) = (Origin::new(1).await, Origin::new(2).await);
    origin.add_chain().await;
    let pulled = run(&origin, 3, &Destination::Cache(copy.cache.clone())).await;
    assert_eq!(pulled.fetched.len(), 3);
    for number in 1..=3 {
        let name = layout::narinfo(path(number).hash_part());
        let [theirs, ours] = [&origin, &copy].map(|origin| origin.cache.read(&name));
        let theirs = theirs.await.unwrap().unwrap();
        assert_eq!(theirs, ours.await.unwrap().unwrap());
        let info = NarInfo::parse(&theirs, &StoreDir::default()).unwrap();
        let [theirs, ours] = [&origin, &copy].map(|origin| origin.cache.read(info.url()));
        assert_eq!(theirs.await.unwrap().unwrap(), ours.await.unwrap().unwrap());
        assert!(copy.cache.read(&layout::listing(path(number).hash_part())).await.unwrap().is_some());
    }
    let again = run(&origin, 3, &Destination::Cache(copy.cache.clone())).await;
    assert_eq!((again.fetched.len(), again.present.len()), (0, 3));
}

/// A cache may call its files as it likes; in the copy, two of different origins must not have one
/// name.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_named_after_its_hash() {
    let (origin, copy) = (Origin::new(1).await, Origin::new(2).await);
    let mut entry = Entry::new(path(1), &archive(b"contents"), Compression::Xz, &[]);
    let url = std::mem::replace(&mut entry.url, "nar/mine.nar.xz".to_owned());
    origin.add(&entry).await;
    run(&origin, 1, &Destination::Cache(copy.cache.clone())).await;
    assert!(copy.cache.read("nar/mine.nar.xz").await.unwrap().is_none());
    assert!(copy.cache.read(&url).await.unwrap().is_some());
    let info = copy.cache.narinfo(path(1).hash_part()).await.unwrap().unwrap();
    assert_eq!(info.as_ref().url(), url);
    let keys = TrustedKeys::from_iter([origin.key.public_key().clone()]);
    let options = PullOptions::default().with(|options| options.trust = Trust::Signed(TrustPolicy::new(keys)));
    let pull = Pull::new(vec![copy.cache.clone()], options);
    pull.find(vec![path(1).into()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_cache_is_asked_where_a_narinfo_will_not_do() {
    let (first, second) = (Origin::new(1).await, Origin::new(2).await);
    second.add_chain().await;
    let mut forged = Entry::new(path(1), &archive(b"number 1"), Compression::None, &[]);
    first.add(&forged).await;
    forged.references.push(path(9));
    let signed = first.cache.read(&layout::narinfo(path(1).hash_part())).await.unwrap().unwrap();
    let signature = String::from_utf8(signed.to_vec()).unwrap().lines().last().unwrap().to_owned();
    first.write(&forged, format!("{}{signature}\n", forged.text())).await;
    let found = pull(&[&first, &second]).find(vec![path(3).into()]).await.unwrap();
    assert!(found.paths().all(|located| located.index == 1));

    let error = find(&first, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Content);
    let expected = format!("/nix/store/{}: memory: no valid signature by a trusted key (signed by key-1)", path(1));
    assert_eq!(error.to_string(), expected);
    let pull = Pull::new(
        vec![first.cache.clone()],
        PullOptions::default().with(|options| (options.trust, options.closure) = (Trust::Unchecked, false)),
    );
    pull.find(vec![path(1).into()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_cache_gives_the_nar_where_one_is_broken_or_gone() {
    let (first, second) = (Origin::new(1).await, Origin::new(2).await);
    first.add_chain().await;
    second.add_chain().await;
    let nar = async |number| {
        let info = first.cache.narinfo(path(number).hash_part()).await.unwrap().unwrap();
        info.as_ref().url().to_owned()
    };
    first.cache.write(&nar(1).await, &b"broken"[..]).await.unwrap();
    let pull = pull(&[&first, &second]);
    let found = pull.find(vec![path(3).into()]).await.unwrap();
    // After it was found.
    first.cache.delete(&nar(2).await).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pulled = pull.run(&found, &Destination::Store(folder.path().into())).await.unwrap();
    assert!(pulled.failed.is_empty() && pulled.held_back.is_empty(), "{pulled:?}");
    let mut from: Vec<_> =
        pulled.fetched.iter().map(|fetched| (fetched.path.clone(), fetched.cache.url().to_string())).collect();
    from.sort_unstable();
    let [first, second] = [&first, &second].map(|origin| origin.cache.url().to_string());
    let mut expected = [(path(1), second.clone()), (path(2), second), (path(3), first)];
    expected.sort_unstable();
    assert_eq!(from, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_with_who_refers_to_it() {
    let origin = Origin::new(1).await;
    origin.add_chain().await;
    origin.cache.delete(&layout::narinfo(path(1).hash_part())).await.unwrap();
    let error = find(&origin, 3).await.unwrap_err().to_string();
    assert_eq!(error, format!("/nix/store/{}, which /nix/store/{} refers to, is in no cache", path(1), path(3)));
    let other_name = StorePath::parse(&format!("{:032}-other", 2)).unwrap();
    let error = pull(&[&origin]).find(vec![other_name.into()]).await.unwrap_err().to_string();
    assert!(error.contains("path-2 under this hash part"), "{error}");
}

/// Only web servers may be elsewhere, as in Nix.
#[tokio::test(flavor = "multi_thread")]
async fn no_file_outside_the_cache_is_fetched() {
    for (url, reason) in [
        ("../outside.nar", "is not a path within a cache"),
        ("nar/../../outside.nar", "is not a path within a cache"),
        ("/etc/outside.nar", "is not a path within a cache"),
        ("nar/%2e%2e/%2E./outside.nar", "is not a path within a cache"),
        ("nar/..%2foutside.nar", "is not a path within a cache"),
        ("nar/..\\..\\outside.nar", "is not a path within a cache"),
        ("file:///etc/outside.nar", "is neither in this cache nor on a web server"),
        ("ftp://elsewhere.example.org/outside.nar", "is neither in this cache nor on a web server"),
        ("nix-cache-info", "is not a NAR"),
    ] {
        let origin = Origin::new(1).await;
        let mut entry = Entry::new(path(1), &archive(b"contents"), Compression::None, &[]);
        entry.url = url.to_owned();
        origin.describe(&entry).await;
        let error = find(&origin, 1).await.unwrap_err().to_string();
        assert!(error.contains("URL") && error.contains(reason), "{url}: {error}");
    }
}

/// What a cache offers under a good signature and is wrong is refused with its reason, and
/// nothing stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_nar_that_is_not_what_its_narinfo_says_leaves_nothing_behind() {
    let nar = archive(b"contents");
    let new = |compression| Entry::new(path(1), &nar, compression, &[]);
    let mut hostile: Vec<(Entry, &str)> = Vec::new();
    let mut add = |mut entry: Entry, change: &dyn Fn(&mut Entry), reason| {
        change(&mut entry);
        hostile.push((entry, reason));
    };
    let other = compressed(&archive(b"CONTENTS"), Compression::Zstd);
    add(new(Compression::Zstd), &|entry| entry.set_file(other.clone()), "not the NarHash");
    add(new(Compression::Zstd), &|entry| entry.nar_size += 1, "not the NarSize");
    add(new(Compression::Zstd), &|entry| entry.nar_size -= 1, "more than the");
    add(new(Compression::Xz), &|entry| entry.compression = "zstd", "bad zstd data");
    let bomb = compressed(&vec![0; 64 << 20], Compression::Zstd);
    add(new(Compression::Zstd), &|entry| entry.set_file(bomb.clone()), "expected \"nix-archive-1\"|more than the");
    let mut fat = archive(&vec![0; 64 << 20]);
    add(new(Compression::Zstd), &|entry| entry.set_file(compressed(&fat, Compression::Zstd)), "more than the");
    fat.truncate(1 << 20);
    add(new(Compression::None), &|entry| entry.set_file(fat.clone()), "more than the");
    // Frames that hold nothing, without end.
    let empty = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(1 << 19);
    let endless = move |entry: &mut Entry| {
        entry.set_file(empty.clone());
        entry.file_size = None;
    };
    add(new(Compression::Zstd), &endless, "has more than");
    for name in [&b".."[..], b".", b"a/b", b"\0"] {
        let escaping = |entry: &mut Entry| {
            let mut nar = nar.clone();
            let place = nar.windows(3).position(|window| window == b"run").unwrap();
            nar[place - 8] = u8::try_from(name.len()).unwrap();
            nar[place..place + 3].fill(0);
            nar[place..place + name.len()].copy_from_slice(name);
            entry.nar_hash = Hash::sha256(&nar);
            entry.set_file(nar);
        };
        add(new(Compression::None), &escaping, "name");
    }
    let cut = |entry: &mut Entry| entry.set_file(nar[..nar.len() - 8].to_vec());
    add(new(Compression::None), &cut, "ends");

    let mut surprising = Vec::new();
    for (entry, reason) in &hostile {
        let origin = Origin::new(1).await;
        origin.add(entry).await;
        let directory = tempfile::tempdir().unwrap();
        let copy = Origin::new(2).await;
        let store = directory.path().join("root");
        let archives = directory.path().join("archives");
        for target in [
            Destination::Store(store.clone()),
            Destination::Archives(archives.clone()),
            Destination::Cache(copy.cache.clone()),
        ] {
            let pulled = run(&origin, 1, &target).await;
            assert!(pulled.fetched.is_empty());
            let [(failed, error)] = &pulled.failed[..] else { panic!("{pulled:?}") };
            assert_eq!(*failed, path(1));
            assert!(matches!(error.kind(), ErrorKind::Content | ErrorKind::NotFound), "{error}");
            let is_expected = reason.split('|').any(|reason| error.to_string().contains(reason));
            if !is_expected {
                surprising.push(format!("{error}, expected {reason}"));
            }
        }
        assert_eq!(entries(&store.join("nix/store")), [""; 0]);
        assert_eq!(entries(&archives), [""; 0]);
        assert!(copy.cache.read(&layout::narinfo(path(1).hash_part())).await.unwrap().is_none());
    }
    assert!(surprising.is_empty(), "{surprising:#?}");
}

/// They are not signed, and may be those of another compression: a proxy passes them on, say.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_size_or_hash_of_the_file_is_no_reason_to_refuse_a_nar() {
    for size in [-1, 1, 9999] {
        for hash in [None, Some(Hash::sha256(b""))] {
            let (origin, copy) = (Origin::new(1).await, Origin::new(2).await);
            let mut entry = Entry::new(path(1), &archive(b"contents"), Compression::Zstd, &[]);
            let right = entry.file_size;
            entry.file_size = right.and_then(|right| right.checked_add_signed(size));
            entry.file_hash = hash.or(entry.file_hash);
            origin.add(&entry).await;
            let root = tempfile::tempdir().unwrap();
            let pulled = run(&origin, 1, &Destination::Store(root.path().to_owned())).await;
            assert!(pulled.failed.is_empty() && pulled.fetched.len() == 1, "{pulled:?}");
            // The copy says what is right.
            run(&origin, 1, &Destination::Cache(copy.cache.clone())).await;
            let info = copy.cache.narinfo(path(1).hash_part()).await.unwrap().unwrap();
            assert_eq!(info.as_ref().file_size(), right);
            assert_eq!(info.as_ref().file_hash(), Some(Hash::sha256(&entry.file)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_keeps_going_fetches_what_can_be_had() {
    let (origin, root) = (Origin::new(1).await, tempfile::tempdir().unwrap());
    origin.add_chain().await;
    origin.cache.delete(&layout::narinfo(path(2).hash_part())).await.unwrap();
    origin.add(&Entry::new(path(5), &archive(b"number 5"), Compression::None, &[path(1)])).await;
    let wanted = || vec![path(3).into(), path(5).into(), path(8).into()];
    assert!(matches!(pull(&[&origin]).find(wanted()).await, Err(Error::Missing(missing)) if missing.len() == 2));
    let pull = pull_with(&[&origin], |options| options.keep_going = true);
    let found = pull.find(wanted()).await.unwrap();
    assert_eq!(found.missing().len(), 2);
    let pulled = pull.run(&found, &Destination::Store(root.path().to_owned())).await.unwrap();
    assert_eq!(pulled.fetched.len(), 2);
    assert_eq!(entries(&root.path().join("nix/store")), [path(1), path(5)].map(|path| path.to_string()));
}

/// Leaves a root over a closure of the chain.
async fn keep(cache: &Cache, name: &str, number: usize, keys: &[SecretKey]) -> Root {
    let mut request = SessionRequest {
        name: Some(name.parse().unwrap()),
        targets: vec![path(number)],
        closure: (1..=number).map(path).collect(),
        keys: keys.to_vec(),
        ..SessionRequest::default()
    };
    request.labels.insert("commit".to_owned(), name.to_owned());
    match Session::begin(cache, request).await.unwrap() {
        SessionStart::Open(session) => session.commit(Vec::new()).await.unwrap().unwrap(),
        begun => panic!("{begun:?}"),
    }
}

async fn sign_all(origin: &Origin, key: &SecretKey) {
    for number in 1..=3 {
        let info = origin.cache.narinfo(path(number).hash_part()).await.unwrap().unwrap();
        let signature = key.sign(&info.as_ref().fingerprint().to_vec());
        let text = format!("{}Sig: {signature}\n", info.as_str());
        origin.cache.write(&layout::narinfo(path(number).hash_part()), text).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_whose_snapshot_will_not_do_is_fetched_by_the_narinfos_of_the_cache() {
    let origin = Origin::new(1).await;
    origin.add_chain().await;
    let root = keep(&origin.cache, "main", 3, &[]).await;
    let key = SecretKey::generate(KeyName::new("new-1").unwrap()).unwrap();
    let trust = Trust::Signed(TrustPolicy::new(TrustedKeys::from_iter([key.public_key().clone()])));
    let pull = Pull::new(vec![origin.cache.clone()], PullOptions::default().with(|options| options.trust = trust));
    let name = "main".parse().unwrap();
    assert!(matches!(pull.find_root(&name).await, Err(Error::Missing(_))));
    // The key is replaced: what the snapshot lists is signed by the old one.
    sign_all(&origin, &key).await;
    assert_eq!(pull.find_root(&name).await.unwrap().paths().count(), 3);
    let object = crate::roots::snapshot::object(&root.record.closure);
    for text in [None, Some("broken")] {
        match text {
            Some(text) => origin.cache.write(&object, text).await.unwrap(),
            None => origin.cache.delete(&object).await.unwrap(),
        }
        assert_eq!(pull.find_root(&name).await.unwrap().paths().count(), 3);
    }
    let error = pull.find_root(&"other".parse().unwrap()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("no root other"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_says_something_else_than_was_signed_is_refused() {
    let origin = Origin::new(1).await;
    origin.add_chain().await;
    let key = origin.key.clone();
    let one = keep(&origin.cache, "main", 3, std::slice::from_ref(&key)).await;
    let other = keep(&origin.cache, "other", 1, &[key]).await;
    let pull = pull(&[&origin]);
    pull.find_root(&one.name).await.unwrap();
    let objects = [one.object(), other.object()];
    let [text, another] = [&objects[0], &objects[1]].map(|object| origin.cache.read(object));
    let (text, another) = (text.await.unwrap().unwrap(), another.await.unwrap().unwrap());
    let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
    // As another closure, and as the signed root of another name.
    let mut changed = value(&text);
    for member in ["targets", "closure", "pathSet"] {
        changed[member] = value(&another)[member].clone();
    }
    for forged in [changed.to_string(), String::from_utf8(another.to_vec()).unwrap()] {
        origin.cache.write(&one.object(), forged).await.unwrap();
        let error = pull.find_root(&one.name).await.unwrap_err();
        assert!(matches!(&error, Error::Forged { key, .. } if key == "key-1"), "{error}");
    }
    origin.cache.write(&one.object(), text).await.unwrap();
    assert_eq!(pull.find_root(&one.name).await.unwrap().paths().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_are_copied_with_their_closures_labels_pins_and_signatures() {
    let (origin, copy) = (Origin::new(1).await, Origin::new(2).await);
    origin.add_chain().await;
    let keys = [origin.key.clone()];
    let old = keep(&origin.cache, "main", 1, &keys).await;
    let pinned = keep(&origin.cache, "main", 3, &keys).await;
    keep(&origin.cache, "other", 2, &keys).await;
    crate::roots::update(&origin.cache, &pinned, |root| root.record.pinned = true).await.unwrap();
    let pull = pull(&[&origin]);
    for _ in 0..2 {
        let found = pull.find_roots().await.unwrap();
        let pulled = pull.run(&found, &Destination::Cache(copy.cache.clone())).await.unwrap();
        assert_eq!(pulled.roots.len(), 3);
    }
    let before = all_roots(&origin.cache).await;
    let after = all_roots(&copy.cache).await;
    assert_eq!(before.len(), 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.object(), &before.record), (after.object(), &after.record));
    }
    assert!(after.iter().any(|root| root.record.pinned) && after.iter().any(|root| root.generation == old.generation));
    let listed = crate::roots::snapshot::read(&copy.cache, &pinned.record.closure).await.unwrap().unwrap();
    assert_eq!(listed.len(), 3);

    // One by its name, and paths under a new name.
    let copy = Origin::new(3).await;
    let found = pull.find_root(&old.name).await.unwrap();
    assert_eq!(pull.run(&found, &Destination::Cache(copy.cache.clone())).await.unwrap().roots.len(), 1);
    let pull = pull_with(&[&origin], |options| options.root = Some("mine".parse().unwrap()));
    let found = pull.find(vec![path(2).into()]).await.unwrap();
    let pulled = pull.run(&found, &Destination::Cache(copy.cache.clone())).await.unwrap();
    assert_eq!((pulled.roots[0].name.as_str(), pulled.roots[0].record.paths), ("mine", 2));
    assert!(names_below(&copy.cache, "nixcache/v1/leases").await.is_empty());
}

async fn all_roots(cache: &Cache) -> Vec<Root> {
    let mut roots = crate::roots::list(cache).await.unwrap().roots;
    roots.sort_by_key(Root::object);
    roots
}

async fn names_below(cache: &Cache, folder: &str) -> Vec<String> {
    use futures_util::stream::TryStreamExt;
    cache.list_below(folder).map_ok(|(name, _)| name).try_collect().await.unwrap()
}

/// The paths that are in the target already are in no root: a collection is removing them.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_to_a_cache_and_a_collection_at_the_same_time_leave_no_hole() {
    use crate::gc::{Collection, RetentionPolicy};
    let origin = Origin::new(1).await;
    origin.add_chain().await;
    origin.add(&Entry::new(path(9), &archive(b"number 9"), Compression::None, &[])).await;
    for delay in [0, 5, 20, 60] {
        let folder = tempfile::tempdir().unwrap();
        let url = CacheUrl::parse(folder.path().as_os_str()).unwrap();
        let target = Cache::create(&url, &StoreDir::default(), CacheOptions::default()).await.unwrap();
        run(&origin, 2, &Destination::Cache(target.clone())).await;
        let kept = pull_with(&[&origin], |options| options.root = Some("kept".parse().unwrap()));
        let found = kept.find(vec![path(9).into()]).await.unwrap();
        kept.run(&found, &Destination::Cache(target.clone())).await.unwrap();
        let mut policy = RetentionPolicy::default();
        (policy.grace, policy.now) = (std::time::Duration::ZERO, true);
        policy.rate = std::num::NonZeroUsize::new(2);
        policy.patience = std::time::Duration::ZERO;
        let collect = async { Collection::find(&target, policy).await.unwrap().run(drop).await.unwrap() };
        let copy = async {
            tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
            run(&origin, 3, &Destination::Cache(target.clone())).await
        };
        futures_util::join!(collect, copy);
        for number in 1..=3 {
            let info = target.narinfo(path(number).hash_part()).await.unwrap().unwrap();
            assert!(target.head(info.as_ref().url()).await.unwrap().is_some(), "the NAR of {number}, {delay}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_what_failed_gets_no_name() {
    let (origin, root) = (Origin::new(1).await, tempfile::tempdir().unwrap());
    origin.add_chain().await;
    let info = origin.cache.narinfo(path(2).hash_part()).await.unwrap().unwrap();
    origin.cache.delete(info.as_ref().url()).await.unwrap();
    let target = Destination::Store(root.path().to_owned());
    let pulled = run(&origin, 3, &target).await;
    assert_eq!(pulled.failed.len(), 1);
    assert!(pulled.failed[0].1.to_string().ends_with("there is no such object"));
    assert_eq!(pulled.held_back, [path(3)]);
    assert_eq!(entries(&root.path().join("nix/store")), [path(1).to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_address_vouches_only_for_its_contents() {
    let store_dir = StoreDir::default();
    let nar = archive(b"contents");
    let file = {
        let mut writer = Writer::new(Vec::new());
        writer.file(b"", false, b"contents").unwrap();
        writer.finish().unwrap()
    };
    for (method, nar, hash) in [
        (Method::Nar, &nar, Hash::sha256(&nar)),
        (Method::Flat, &file, Hash::sha256(b"contents")),
        (Method::Text, &file, Hash::sha256(b"contents")),
    ] {
        let origin = Origin::new(1).await;
        let address = ContentAddress::new(method, hash).unwrap();
        let path = store_dir.make_path("name", &address, &[], false).unwrap();
        for (nar, is_right) in [(nar, true), (&archive(b"other"), false)] {
            let mut entry = Entry::new(path.clone(), nar, Compression::Xz, &[]);
            entry.address = Some(address);
            origin.cache.write(&entry.url, entry.file.clone()).await.unwrap();
            origin.write(&entry, entry.text()).await;
            let root = tempfile::tempdir().unwrap();
            let pull = pull(&[&origin]);
            let found = pull.find(vec![path.clone().into()]).await.unwrap();
            let pulled = pull.run(&found, &Destination::Store(root.path().to_owned())).await.unwrap();
            assert_eq!(pulled.failed.is_empty(), is_right, "{method}: {pulled:?}");
            assert_eq!(entries(&root.path().join("nix/store")).len(), usize::from(is_right));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_without_their_closure_need_it_in_a_cache() {
    let (origin, copy) = (Origin::new(1).await, Origin::new(2).await);
    origin.add_chain().await;
    let pull = pull_with(&[&origin], |options| options.closure = false);
    let found = pull.find(vec![path(2).into()]).await.unwrap();
    let target = Destination::Cache(copy.cache.clone());
    let error = pull.run(&found, &target).await.unwrap_err();
    assert!(matches!(&error, Error::Hole { path: hole, .. } if *hole == path(1)), "{error}");
    run(&origin, 1, &target).await;
    assert_eq!(pull.run(&found, &target).await.unwrap().fetched.len(), 1);
}

#[test]
fn a_workspace_of_the_dead_is_removed_and_one_of_the_living_is_not() {
    use super::workspace::Workspace;
    let directory = tempfile::tempdir().unwrap();
    let living = Workspace::new(directory.path()).unwrap();
    let dead = directory.path().join(".nixcache-pull-dead");
    fs::create_dir_all(dead.join("tree/inside")).unwrap();
    fs::set_permissions(dead.join("tree"), fs::Permissions::from_mode(0o555)).unwrap();
    let other = Workspace::new(directory.path()).unwrap();
    assert_eq!(entries(directory.path()).len(), 2);
    drop((living, other));
    assert_eq!(entries(directory.path()), [""; 0]);
}

/// Longer than anything takes here that does not wait for ever.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_pulls_into_one_directory_fetch_each_path_once() {
    let (origin, root) = (Origin::new(1).await, tempfile::tempdir().unwrap());
    origin.add_chain().await;
    for target in [Destination::Store(root.path().to_owned()), Destination::Archives(root.path().join("nars"))] {
        // The first one has begun with a NAR when the second one begins, and goes on when that one
        // knows what is missing.
        let (started, has_started) = mpsc::channel();
        let (planned, has_planned) = mpsc::channel();
        let waiting = Mutex::new(Some(has_planned));
        let first = Progress::new(move |event| {
            if let PullEvent::Started { .. } = event
                && let Some(has_planned) = waiting.lock().unwrap().take()
            {
                started.send(()).unwrap();
                has_planned.recv_timeout(PATIENCE).unwrap();
            }
        });
        let first = pull_with(&[&origin], |options| options.progress = first);
        let second = Progress::new(move |event| {
            if let PullEvent::Planned { paths, .. } = event {
                assert_eq!(paths, 3);
                planned.send(()).unwrap();
            }
        });
        let second = pull_with(&[&origin], |options| options.progress = second);
        let found = first.find(vec![path(3).into()]).await.unwrap();
        let theirs = second.find(vec![path(3).into()]).await.unwrap();
        let place = target.clone();
        let runtime = tokio::runtime::Handle::current();
        let first = std::thread::spawn(move || runtime.block_on(first.run(&found, &place)).unwrap());
        tokio::task::block_in_place(|| has_started.recv_timeout(PATIENCE).unwrap());
        let second = tokio::time::timeout(PATIENCE, second.run(&theirs, &target)).await.unwrap().unwrap();
        let first = tokio::task::block_in_place(|| first.join().unwrap());

        let mut fetched: Vec<_> = first.fetched.iter().chain(&second.fetched).map(|fetched| &fetched.path).collect();
        fetched.sort();
        assert_eq!(fetched, [&path(1), &path(2), &path(3)]);
        for pulled in [&first, &second] {
            assert!(pulled.failed.is_empty() && pulled.held_back.is_empty());
            assert_eq!(pulled.fetched.len() + pulled.present.len(), 3);
        }
        // The locks are gone with the workspaces.
        let directory = match &target {
            Destination::Archives(directory) => directory.clone(),
            _ => root.path().join("nix/store"),
        };
        assert_eq!(entries(&directory).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_another_pull_has_begun_and_not_ended_is_fetched() {
    let (origin, root) = (Origin::new(1).await, tempfile::tempdir().unwrap());
    origin.add_chain().await;
    let store = root.path().join("nix/store");
    fs::create_dir_all(&store).unwrap();
    // Its locks are free once it has ended, however it ended.
    let other = PathLocks::open(&store).unwrap();
    let Turn::Ours(Some(lock)) = other.turn(path(2).as_str()) else { panic!("the lock is free") };
    assert!(matches!(other.turn(path(2).as_str()), Turn::Theirs));
    let pull = pull(&[&origin]);
    let found = pull.find(vec![path(3).into()]).await.unwrap();
    let target = Destination::Store(root.path().to_owned());
    let runtime = tokio::runtime::Handle::current();
    let pulled = std::thread::spawn(move || {
        runtime.block_on(async move { tokio::time::timeout(PATIENCE, pull.run(&found, &target)).await.unwrap() })
    });
    while !store.join(path(1).as_str()).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!store.join(path(2).as_str()).exists());
    drop(lock);
    let pulled = tokio::task::block_in_place(|| pulled.join().unwrap().unwrap());
    assert_eq!(pulled.fetched.len(), 3);
    // The other pull still has its locks.
    assert_eq!(entries(&store).len(), 4);
    drop(other);
    assert_eq!(entries(&store).len(), 3);
    // What a killed pull leaves, the next one removes.
    fs::create_dir(store.join(".nixcache-pull-locks")).unwrap();
    fs::write(store.join(".nixcache-pull-locks").join(path(1).as_str()), "").unwrap();
    run(&origin, 3, &Destination::Store(root.path().to_owned())).await;
    assert_eq!(entries(&store).len(), 3);
}

/// Each pull lacks what the other one waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pulls_that_fail_do_not_keep_each_other_waiting() {
    for round in 0..8 {
        let root = tempfile::tempdir().unwrap();
        let origins = [Origin::new(1).await, Origin::new(2).await];
        for (at, origin) in origins.iter().enumerate() {
            origin.add_chain().await;
            for number in 4..=12 {
                let nar = archive(format!("number {number}").as_bytes());
                let references = [path(number - 1), path(number - 2), path(number - 3)];
                let entry = Entry::new(path(number), &nar, Compression::None, &references);
                origin.add(&entry).await;
                if number == 4 + at + round {
                    origin.cache.write(&entry.url, vec![0; entry.file.len()]).await.unwrap();
                }
            }
        }
        let target = Destination::Store(root.path().to_owned());
        let both = origins.iter().map(|origin| run(origin, 12, &target));
        let both = tokio::time::timeout(PATIENCE, futures_util::future::join_all(both)).await.unwrap();
        assert!(both.iter().all(|pulled| pulled.fetched.len() + pulled.present.len() >= 3));
        assert!(entries(&root.path().join("nix/store")).iter().all(|name| !name.starts_with('.')));
    }
}

/// Servers and queues run operations as tasks.
#[test]
fn a_pull_can_be_spawned() {
    fn assert_send<T: Send>(_: T) {}
    let (request, destination) = (PullRequest::AllRoots, Destination::Store("root".into()));
    assert_send(super::pull(Vec::new(), &request, &destination, &PullOptions::default()));
}
