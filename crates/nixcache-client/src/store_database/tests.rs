//! What does not need Nix; that its databases are read rightly is shown beside it, in the
//! conformance tests.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixcache::path_info::PathInfo;
use nixcache::store_path::{StoreDir, StorePath};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Error, StoreDatabase};

const A: &str = "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a";
const B: &str = "/nix/store/n5wkd9frr45pa74if5gpz9j7mifg27fh-b";
const HASH: &str = "sha256:3de6dc6f2b5a7edb6144963f8497ce533c04877895e44d57ec166b9f64c2d6b6";

/// The tables of Nix, without indexes and triggers.
const TABLES: &str = "
    create table ValidPaths (id integer primary key autoincrement not null, path text unique not null,
        hash text not null, registrationTime integer not null, deriver text, narSize integer, ultimate integer,
        sigs text, ca text);
    create table Refs (referrer integer not null, reference integer not null, primary key (referrer, reference));";

/// A database, and the connection that made it.
fn database(journal: &str) -> (TempDir, PathBuf, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("db 100%.sqlite");
    let connection = Connection::open(&file).unwrap();
    let _mode: String = connection.pragma_update_and_check(None, "journal_mode", journal, |row| row.get(0)).unwrap();
    connection.execute_batch(TABLES).unwrap();
    (folder, file, connection)
}

fn insert(connection: &Connection, id: i64, path: &str) {
    let insert = "INSERT INTO ValidPaths (id, path, hash, registrationTime) VALUES (?, ?, ?, 0)";
    connection.execute(insert, rusqlite::params![id, path, HASH]).unwrap();
}

fn refer(connection: &Connection, from: i64, to: i64) {
    connection.execute("INSERT INTO Refs VALUES (?, ?)", [from, to]).unwrap();
}

fn open(file: &Path) -> Result<StoreDatabase, Error> {
    StoreDatabase::open(file, &StoreDir::default())
}

fn read(file: &Path) -> Result<Vec<PathInfo>, Error> {
    let (database, single) = (open(file)?, open(file)?);
    let mut infos = Vec::new();
    let flow = database.visit(|info| {
        assert_eq!(single.path_info(info.path.as_ref()).unwrap().as_ref(), Some(&info));
        assert_eq!(single.path_info_by_hash_part(info.path.hash_part()).unwrap().as_ref(), Some(&info));
        infos.push(info);
        ControlFlow::<()>::Continue(())
    });
    flow.map(|_| infos)
}

fn message(file: &Path) -> String {
    read(file).unwrap_err().to_string()
}

#[test]
fn numbers_may_have_gaps_and_references_go_either_way() {
    let (_folder, file, connection) = database("wal");
    let paths: Vec<String> =
        (0..9).map(|n| A.replace("-a", &format!("-{n}")).replacen("g1w", &format!("{n}1w"), 1)).collect();
    let ids = [-3, 2, 3, 4, 40, 41, 1000, i64::MAX - 1, i64::MAX];
    for (id, path) in ids.iter().zip(&paths) {
        insert(&connection, *id, path);
        for to in ids {
            if (id ^ to) % 3 != 0 {
                refer(&connection, *id, to);
            }
        }
    }
    let store_dir = StoreDir::default();
    let infos = read(&file).unwrap();
    assert_eq!(infos.len(), ids.len());
    for (info, (id, path)) in infos.iter().zip(ids.iter().zip(&paths)) {
        assert_eq!(store_dir.display(info.path.as_ref()).to_string(), *path);
        let expected = ids.iter().zip(&paths).filter(|(to, _)| (id ^ **to) % 3 != 0);
        let expected = expected.map(|(_, path)| StorePath::from(store_dir.parse(path).unwrap())).collect();
        assert_eq!(info.references, expected, "{path}");
    }
}

#[test]
fn it_breaks_off_when_told() {
    let (_folder, file, connection) = database("wal");
    insert(&connection, 1, A);
    insert(&connection, 2, B);
    let flow = open(&file).unwrap().visit(|info| ControlFlow::Break(info.path)).unwrap();
    assert_eq!(flow, ControlFlow::Break(StorePath::from(StoreDir::default().parse(A).unwrap())));
}

#[test]
fn a_path_that_is_not_there_is_none() {
    let (_folder, file, connection) = database("wal");
    insert(&connection, 1, A);
    let database = open(&file).unwrap();
    let absent = StoreDir::default().parse(B).unwrap();
    assert_eq!(database.path_info(absent).unwrap(), None);
    assert_eq!(database.path_info_by_hash_part(absent.hash_part()).unwrap(), None);
}

#[test]
fn what_is_no_database_of_a_store_is_told_from_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("db.sqlite");
    assert!(matches!(open(&file), Err(Error::Io { .. })));
    std::fs::write(&file, "something else, that is longer than the head of a database: ".repeat(99)).unwrap();
    assert!(matches!(open(&file), Err(Error::Foreign { .. })));
    std::fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().execute_batch("create table Others (id integer)").unwrap();
    assert!(message(&file).contains("not the database of a Nix store: no such table: "), "{}", message(&file));
}

#[test]
fn another_schema_is_refused() {
    let (folder, file, _connection) = database("wal");
    std::fs::write(folder.path().join("schema"), "10").unwrap();
    open(&file).unwrap();
    std::fs::write(folder.path().join("schema"), "11\n").unwrap();
    assert!(matches!(open(&file), Err(Error::Schema { found: 11, .. })));
}

#[test]
fn rows_that_cannot_be_are_named() {
    for (statement, expected) in [
        ("UPDATE ValidPaths SET path = 'x'", "ValidPaths.path of row 7: "),
        ("UPDATE ValidPaths SET path = x'00'", "ValidPaths.path of row 7: expected text, found Blob"),
        ("UPDATE ValidPaths SET hash = 'md5:x'", "ValidPaths.hash of row 7: "),
        ("UPDATE ValidPaths SET narSize = -1", "ValidPaths.narSize of row 7: -1 is negative"),
        ("UPDATE ValidPaths SET registrationTime = 'x'", "ValidPaths.registrationTime of row 7: expected a number"),
        ("UPDATE ValidPaths SET deriver = 'x'", "ValidPaths.deriver of row 7: "),
        ("UPDATE ValidPaths SET ca = 'x'", "ValidPaths.ca of row 7: "),
        ("INSERT INTO Refs VALUES (7, 8)", "Refs.reference of row 7: there is no such path"),
    ] {
        let (_folder, file, connection) = database("wal");
        insert(&connection, 7, A);
        connection.execute_batch(statement).unwrap();
        assert!(message(&file).contains(expected), "{statement}: {}", message(&file));
    }
}

#[test]
fn a_writer_and_a_reader_do_not_wait_for_each_other() {
    let (_folder, file, connection) = database("wal");
    insert(&connection, 1, A);
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    insert(&connection, 2, B);
    // What is not committed is not there.
    assert_eq!(read(&file).unwrap().len(), 1);
    let database = open(&file).unwrap();
    let mut count = 0;
    let _flow = database
        .visit(|_| {
            if count == 0 {
                connection.execute_batch("COMMIT").unwrap();
            }
            count += 1;
            ControlFlow::<()>::Continue(())
        })
        .unwrap();
    assert_eq!(count, 1, "all that is read is of one instant");
    assert_eq!(read(&file).unwrap().len(), 2);
}

#[test]
fn it_waits_for_a_lock() {
    let (_folder, file, connection) = database("delete");
    insert(&connection, 1, A);
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let unlock = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        connection.execute_batch("COMMIT").unwrap();
    });
    assert_eq!(read(&file).unwrap().len(), 1);
    unlock.join().unwrap();
}

/// Runs another test of this file as a process that, though root, may write only where the modes of
/// files let it. False where that cannot be done.
fn run_without_privileges(test: &str, file: &Path) -> bool {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-dac_override,-dac_read_search", "--"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "--ignored", "--nocapture"]);
    command.arg(format!("store_database::tests::{test}")).env("DATABASE", file);
    match command.output() {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("1 passed") => true,
        Ok(output)
            if !output.status.success() && String::from_utf8_lossy(&output.stdout).contains("running 1 test") =>
        {
            panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        _ => false,
    }
}

/// Takes the permission to write from a directory, and gives it back at the end.
struct ReadOnly<'a>(&'a Path);

impl<'a> ReadOnly<'a> {
    fn new(directory: &'a Path) -> Self {
        Self::set(directory, 0o555);
        Self(directory)
    }

    fn set(directory: &Path, mode: u32) {
        std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        Self::set(self.0, 0o755);
    }
}

fn given() -> PathBuf {
    std::env::var_os("DATABASE").unwrap().into()
}

#[test]
#[ignore = "run by others, without privileges"]
fn one_path_is_read() {
    let database = open(&given()).unwrap();
    assert_eq!(database.unread_wal(), None);
    assert_eq!(read(&given()).unwrap().len(), 1);
}

#[test]
#[ignore = "run by others, without privileges"]
fn one_path_is_read_and_more_is_known_to_be_missed() {
    let database = open(&given()).unwrap();
    assert!(database.unread_wal().unwrap() > 0);
    assert_eq!(read(&given()).unwrap().len(), 1);
}

#[test]
#[ignore = "run by others, without privileges"]
fn a_change_while_reading_is_noticed() {
    let database = open(&given()).unwrap();
    let flow = database.visit(|_| {
        std::fs::OpenOptions::new().write(true).open(given()).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        ControlFlow::<()>::Continue(())
    });
    assert!(matches!(flow, Err(Error::Changed { .. })), "{flow:?}");
}

fn skip(done: bool) {
    if !done {
        eprintln!("SKIPPED: needs setpriv, and root");
    }
}

#[test]
fn a_copy_that_one_may_not_write_to_is_read() {
    let (folder, file, connection) = database("wal");
    insert(&connection, 1, A);
    connection.close().unwrap();
    let names = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!(names(folder.path()), 1, "closing removes the -wal");
    let _read_only = ReadOnly::new(folder.path());
    skip(run_without_privileges("one_path_is_read", &file));
    skip(run_without_privileges("a_change_while_reading_is_noticed", &file));
    assert_eq!(names(folder.path()), 1, "nothing is left behind");
}

#[test]
fn a_database_in_use_that_one_may_not_write_to_is_read_with_its_wal() {
    let (folder, file, connection) = database("wal");
    insert(&connection, 1, A);
    let _read_only = ReadOnly::new(folder.path());
    for ending in ["", "-wal", "-shm"] {
        ReadOnly::set(&super::open::beside(&file, ending), 0o444);
    }
    skip(run_without_privileges("one_path_is_read", &file));
    drop(connection);
}

#[test]
fn what_is_missed_in_a_wal_is_said() {
    let (_folder, file, connection) = database("wal");
    insert(&connection, 1, A);
    connection.pragma_query(None, "wal_checkpoint", |_| Ok(())).unwrap();
    insert(&connection, 2, B);
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("db.sqlite");
    std::fs::copy(&file, &copy).unwrap();
    std::fs::copy(super::open::beside(&file, "-wal"), super::open::beside(&copy, "-wal")).unwrap();
    {
        let _read_only = ReadOnly::new(copies.path());
        skip(run_without_privileges("one_path_is_read_and_more_is_known_to_be_missed", &copy));
    }
    // Who may write reads all of it.
    assert_eq!(read(&copy).unwrap().len(), 2);
}

/// The tables of Nix with `ca-derivations`: up to 2.34, and from 2.35.
const REALISATIONS: &str = "
    create table Realisations (id integer primary key autoincrement not null, drvPath text not null,
        outputName text not null, outputPath integer not null, signatures text);
    create table RealisationsRefs (referrer integer not null, realisationReference integer);";
const BUILD_TRACE: &str = "
    create table BuildTraceV3 (id integer primary key autoincrement not null, drvPath text not null,
        outputName text not null, outputPath text not null, signatures text);";

fn realisations(file: &Path) -> Vec<(String, String)> {
    let database = open(file).unwrap();
    let found = database.realisations(|path| path.name() == "a").unwrap();
    found.iter().map(|realisation| (realisation.place(), realisation.contents())).collect()
}

#[test]
fn realisations_of_both_forms_are_read() {
    let (_folder, file, connection) = database("wal");
    insert(&connection, 1, A);
    insert(&connection, 2, B);
    assert_eq!(realisations(&file), [], "without the tables");
    connection.execute_batch(REALISATIONS).unwrap();
    connection
        .execute_batch(&format!(
            "insert into Realisations values (1, '{HASH}', 'out', 1, 'k-1:x k-2:y');
             insert into Realisations values (2, '{HASH}', 'dev', 2, null);
             insert into Realisations values (3, '{HASH}', 'out', 2, null);
             insert into Realisations values (4, 'no hash', 'out', 1, null);
             insert into RealisationsRefs values (1, 2);"
        ))
        .unwrap();
    let by_hash = (
        format!("realisations/{HASH}!out.doi"),
        format!(
            r#"{{"dependentRealisations":{{"{HASH}!dev":"{}"}},"id":"{HASH}!out","outPath":"{}","signatures":["k-1:x","k-2:y"]}}"#,
            &B[11..],
            &A[11..]
        ),
    );
    assert_eq!(realisations(&file), std::slice::from_ref(&by_hash), "a row that cannot be read is left out");
    connection.execute_batch(BUILD_TRACE).unwrap();
    let derivation = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-a.drv";
    connection
        .execute_batch(&format!("insert into BuildTraceV3 values (1, '{derivation}', 'out', '{A}', '')"))
        .unwrap();
    let by_derivation =
        (format!("build-trace-v2/{derivation}/out.doi"), format!(r#"{{"outPath":"{}","signatures":[]}}"#, &A[11..]));
    assert_eq!(realisations(&file), [by_hash, by_derivation]);
}

#[test]
#[ignore = "run by others, without privileges"]
fn it_may_not_be_read() {
    let error = open(&given()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.kind() != nixcache::ErrorKind::Content, "{error}");
    assert!(error.to_string().ends_with("Permission denied (os error 13)"), "{error}");
}

#[test]
fn a_database_that_may_not_be_read_says_so() {
    let (_folder, file, connection) = database("wal");
    connection.close().unwrap();
    ReadOnly::set(&file, 0o000);
    skip(run_without_privileges("it_may_not_be_read", &file));
}

#[test]
fn what_is_no_file_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("is a directory"), "{error}");
    assert!(error.kind() != nixcache::ErrorKind::Content);
}
