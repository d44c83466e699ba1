//! Tests of sources and conversions.

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use nixcache::hash::Hash;
use nixcache::nar;
use nixcache::path_info::export::ExportWriter;
use nixcache::path_info::{Download, Fact, JsonVersion, PathInfo};
use nixcache::store_path::{StoreDir, StorePath};

use super::{Error, PathQuery, ResolveError, Source};
use crate::convert::{Converted, Form, convert};

const A: &str = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a";
const B: &str = "n5wkd9frr45pa74if5gpz9j7mifg27fh-b";

fn archive() -> Vec<u8> {
    let mut nar = nar::Writer::new(Vec::new());
    nar.file(b"", false, b"contents").unwrap();
    nar.finish().unwrap()
}

fn info(path: &str) -> PathInfo {
    let mut info = PathInfo::new(StorePath::parse(path).unwrap(), Hash::sha256(&archive()), archive().len() as u64);
    info.references.insert(StorePath::parse(A).unwrap());
    info
}

fn read(source: &Source) -> Result<Vec<PathInfo>, Error> {
    let mut infos = Vec::new();
    let _flow = source.open(&StoreDir::default())?.visit(|info| {
        infos.push(info);
        ControlFlow::<()>::Continue(())
    })?;
    infos.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(infos)
}

fn message(source: &Source) -> String {
    read(source).unwrap_err().to_string()
}

/// A cache of two paths, one of them signed.
fn cache(directory: &Path) -> Source {
    for path in [A, B] {
        let mut info = info(path);
        info.download = Some(Download::new("nar/x.nar".to_owned()));
        if path == B {
            info.signatures.insert("a:b".to_owned());
        }
        let text = info.to_narinfo(&StoreDir::default()).unwrap();
        fs::write(directory.join(format!("{}.narinfo", &path[..32])), text.as_str()).unwrap();
    }
    fs::write(directory.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    Source::Cache(directory.to_owned())
}

fn to(source: &Source, form: Form) -> (Vec<u8>, Converted) {
    let store_dir = StoreDir::default();
    let mut out = Vec::new();
    let done = convert(source.open(&store_dir).unwrap(), form, &store_dir, &mut out).unwrap();
    (out, done)
}

#[test]
fn words_name_sources() {
    let parse = |text: &str| Source::parse(OsStr::new(text));
    assert_eq!(parse("db:/x/db.sqlite").unwrap(), Source::Database("/x/db.sqlite".into()));
    assert_eq!(parse("registration:-").unwrap(), Source::Registration("-".into()));
    assert_eq!(parse("export:a:b").unwrap(), Source::Export("a:b".into()));
    assert_eq!(parse("some/cache").unwrap(), Source::Cache("some/cache".into()));
    assert_eq!(parse("file:///c?compression=xz").unwrap(), Source::Cache("/c".into()));
    let bucket = parse("s3://bucket/a?region=eu-west-1").unwrap();
    assert_eq!((matches!(bucket, Source::Remote { .. }), bucket.to_string()), (true, "s3://bucket/a".to_owned()));
    assert!(matches!(parse("ftp://host/"), Err(Error::Url(_))));
}

#[test]
fn every_form_gives_the_same_infos() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let infos = read(&cache).unwrap();
    assert_eq!(infos.len(), 2);

    let (json, done) = to(&cache, Form::Json(JsonVersion::V2));
    assert!(done.lost.is_nothing());
    let file = folder.path().join("infos.json");
    fs::write(&file, json).unwrap();
    assert_eq!(read(&Source::Json(file)).unwrap(), infos);

    let (registration, done) = to(&cache, Form::Registration);
    let lost: Vec<_> = done.lost.iter().collect();
    assert_eq!(lost, [(Fact::Signatures, 1), (Fact::Download, 2), (Fact::Compression, 2)]);
    let file = folder.path().join("registration");
    fs::write(&file, registration).unwrap();
    assert_eq!(read(&Source::Registration(file)).unwrap(), [info(A), info(B)]);

    let (_, done) = to(&cache, Form::Json(JsonVersion::List));
    assert_eq!(done.lost.iter().collect::<Vec<_>>(), [(Fact::Compression, 2)]);
}

#[test]
fn an_export_that_repeats_itself_gives_a_path_once_and_one_that_contradicts_itself_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    let export = |infos: &[PathInfo]| {
        let mut writer = ExportWriter::new(Vec::new(), &StoreDir::default());
        for info in infos {
            assert!(writer.write(info, archive().as_slice()).unwrap().is_nothing());
        }
        fs::write(&file, writer.finish().unwrap()).unwrap();
    };
    export(&[info(A), info(B), info(A)]);
    assert_eq!(read(&Source::Export(file.clone())).unwrap(), [info(A), info(B)]);
    let mut other = info(A);
    other.references.clear();
    export(&[info(A), other]);
    let message = message(&Source::Export(file.clone()));
    assert_eq!(message, format!("{}: says different things of /nix/store/{A}", file.display()));
}

#[test]
fn errors_name_the_file_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let at = |text: &str| format!("{}: {text}", file.display());
    assert!(message(&Source::Registration(file.clone())).starts_with(&at("line 1: path: ")));
    assert!(message(&Source::Export(file.clone())).starts_with(&at("at byte 1: the stream ends")));
    assert!(message(&Source::Json(file.clone())).starts_with(&at("")));
    assert!(message(&Source::Cache(file.clone())).starts_with(&at("neither a directory")));
    assert!(message(&Source::Database(file.clone())).starts_with(&at("not the database")));
    let nowhere = folder.path().join("nowhere");
    assert!(message(&Source::Cache(nowhere.clone())).starts_with(&format!("{}: No such file", nowhere.display())));

    cache(folder.path());
    let narinfo = folder.path().join(format!("{}.narinfo", &A[..32]));
    fs::copy(folder.path().join(format!("{}.narinfo", &B[..32])), &narinfo).unwrap();
    let misplaced = message(&Source::Cache(folder.path().to_owned()));
    assert_eq!(misplaced, format!("{}: is the narinfo of /nix/store/{B}", narinfo.display()));
    fs::write(&narinfo, "StorePath").unwrap();
    assert!(message(&Source::Cache(folder.path().to_owned())).starts_with(&format!("{}: ", narinfo.display())));
}

#[test]
fn it_breaks_off_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let stream = cache(folder.path()).open(&StoreDir::default()).unwrap();
    assert!(matches!(stream.visit(ControlFlow::Break).unwrap(), ControlFlow::Break(_)));
}

#[test]
fn a_file_is_recognised_by_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| {
        fs::write(folder.path().join(name), contents).unwrap();
        Source::parse(folder.path().join(name).as_os_str()).unwrap()
    };
    assert!(matches!(file("a", b" [{}]"), Source::Json(_)));
    assert!(matches!(file("b.json", b""), Source::Json(_)));
    assert!(matches!(file("c", b"/nix/store/x\n"), Source::Registration(_)));
    assert!(matches!(file("d", b"SQLite format 3\0..."), Source::Database(_)));
    assert!(matches!(file("e", b"\x01\0\0\0\0\0\0\0\x0d"), Source::Export(_)));
    assert!(matches!(file("f", b"?"), Source::Cache(_)));
    assert_eq!(Source::parse(OsStr::new("-")).unwrap(), Source::Json("-".into()));
}

#[tokio::test]
async fn a_walk_reads_the_closure_and_nothing_else() {
    use super::walk;
    use crate::cache::{Cache, CacheOptions, CacheUrl};
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut caches = Vec::new();
    for folder in &folders {
        caches.push(
            Cache::create(
                &CacheUrl::parse(folder.path().as_os_str()).unwrap(),
                &StoreDir::default(),
                CacheOptions::default(),
            )
            .await
            .unwrap(),
        );
    }
    // B refers to A, which only the other cache has; what is broken belongs to neither.
    let source = cache(folders[0].path());
    let [a, b] = [A, B].map(|path| StorePath::parse(path).unwrap());
    let moved = format!("{}.narinfo", &A[..32]);
    fs::rename(folders[0].path().join(&moved), folders[1].path().join(&moved)).unwrap();
    fs::write(folders[0].path().join(format!("{}.narinfo", "0".repeat(32))), "broken").unwrap();
    assert!(read(&source).is_err());
    let walked = walk(&caches, [b.hash_part()], |_| false).await.unwrap();
    let paths: Vec<&StorePath> = walked.infos.iter().map(|info| &info.path).collect();
    assert_eq!((paths, walked.absent), (vec![&b, &a], Vec::new()));
    let walked = walk(&caches[..1], [b.hash_part()], |_| false).await.unwrap();
    assert_eq!((walked.infos.len(), walked.absent), (1, vec![a.hash_part()]));
    let walked = walk(&caches[..1], [b.hash_part()], |part| part == a.hash_part()).await.unwrap();
    assert_eq!((walked.infos.len(), walked.absent), (1, Vec::new()));
    fs::write(folders[1].path().join(&moved), "broken").unwrap();
    assert!(walk(&caches, [b.hash_part()], |_| false).await.is_err());
}

#[test]
fn a_registration_is_in_the_order_of_the_paths() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("infos.json");
    let infos = [info(B), info(A)];
    let store_dir = StoreDir::default();
    let mut texts = infos.map(|info| {
        let mut text = Vec::new();
        info.write_json(JsonVersion::List, &store_dir, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    });
    let mut written = Vec::new();
    for _ in 0..2 {
        fs::write(&file, format!("[{}]", texts.join(","))).unwrap();
        written.push(to(&Source::Json(file.clone()), Form::Registration).0);
        texts.reverse();
    }
    assert_eq!(written[0], written[1]);
    assert!(written[0].starts_with(format!("/nix/store/{A}\n").as_bytes()));
}

/// What an argument names in the store `/nix/store`.
fn resolve(argument: impl AsRef<Path>) -> Result<String, ResolveError> {
    PathQuery::resolve(argument.as_ref().as_os_str(), &StoreDir::default()).map(|query| query.to_string())
}

#[test]
fn every_spelling_of_a_store_path_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let link = |name: &str, target: &Path| {
        std::os::unix::fs::symlink(target, directory.path().join(name)).unwrap();
        directory.path().join(name)
    };
    let full = Path::new("/nix/store").join(A);
    // None of the paths exists.
    let result = link("result", &full);
    let indirect = link("indirect", Path::new("result"));
    let program = link("program", &full.join("bin/program"));
    let spellings = [
        full.clone(),
        full.join("bin/program"),
        A.into(),
        Path::new(A).join("bin"),
        result.clone(),
        indirect,
        program,
        result.join("bin/program"),
        directory.path().join("./result"),
    ];
    for spelling in spellings {
        assert_eq!(resolve(&spelling).unwrap(), A, "{}", spelling.display());
    }
    assert_eq!(resolve(&A[..32]).unwrap(), A[..32]);
    for (argument, file) in [(full.join("bin/program"), "bin/program"), (result.join("bin"), "bin"), (result, "")] {
        let inside = PathQuery::resolve_inside(argument.as_os_str(), &StoreDir::default()).unwrap().1;
        assert_eq!(inside, Path::new(file), "{}", argument.display());
    }
}

#[test]
fn an_argument_that_names_no_store_path_gets_the_reason() {
    use nixcache::ErrorKind;

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let round = directory.path().join("round");
    std::os::unix::fs::symlink("round", &round).unwrap();
    let dangling = directory.path().join("dangling");
    std::os::unix::fs::symlink("nothing", &dangling).unwrap();
    let kinds = |argument: &Path| {
        let error = resolve(argument).unwrap_err();
        assert!(error.to_string().starts_with(argument.to_str().unwrap()), "{error}");
        (error.kind(), error)
    };
    for missing in [Path::new("./result"), &directory.path().join("no/such"), &dangling] {
        let (kind, error) = kinds(missing);
        assert!(kind == ErrorKind::NotFound && error.to_string().contains("No such file"), "{error}");
    }
    for outside in [&file, directory.path(), &round] {
        assert!(
            matches!(kinds(outside), (ErrorKind::Usage, ResolveError::OutsideStore { .. })),
            "{}",
            outside.display()
        );
    }
    for flake in [".#hello", "nixpkgs#hello", "github:owner/name#hello", "#hello"] {
        assert!(matches!(kinds(Path::new(flake)), (ErrorKind::Usage, ResolveError::Flake { .. })), "{flake}");
    }
    let malformed = ["/nix/store/short-name".to_owned(), format!("{}e-a", &A[..31]), format!("/nix/store/{A}\u{e9}")];
    for malformed in &malformed {
        assert!(matches!(kinds(Path::new(malformed)), (_, ResolveError::Malformed { .. })), "{malformed}");
    }
    assert!(matches!(kinds(Path::new("hello")), (ErrorKind::Usage, ResolveError::Unknown { .. })));
}

#[test]
fn stores_are_named_by_the_words_of_nix() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let database = Source::Database(root.join("nix/var/nix/db/db.sqlite"));
    let of_root = format!("local?root={}", root.display());
    for store in [root.as_os_str(), OsStr::new(&of_root)] {
        let source = Source::of_store(store).unwrap();
        assert_eq!((&source, source.store_root().as_path()), (&database, root));
    }
    for store in ["", "auto", "local", "daemon", "local?read-only=true"] {
        assert_eq!(Source::of_store(OsStr::new(store)).unwrap(), Source::local(), "{store}");
    }
    for store in ["ssh://host", "ssh-ng://user@host", "unix:///run/socket", "https://user:secret@host", "nosuch"] {
        let error = Source::of_store(OsStr::new(store)).unwrap_err();
        assert!(matches!(error, Error::Store { .. }) && !error.to_string().contains("secret"), "{store}: {error}");
    }
}
