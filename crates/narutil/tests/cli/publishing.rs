//! Extras of a push (logs, realisations, debug information), its summary, and closures read from
//! caches path by path.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use conformance::{Nix, nixes, skip};
use serde_json::Value;

use crate::cache::{Key, base_name, full_path, hash_part, narinfo};
use crate::narutil::{Scratch, narutil, run, run_with};
use crate::push::{push, whole};

/// A web server that serves the files of a directory, accepts or refuses new ones, and supports
/// neither listing nor `WebDAV`.
struct PlainServer {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl PlainServer {
    fn new(root: PathBuf, denied: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, denied) = (Arc::clone(&requests), denied.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (root, seen, denied) = (root.clone(), Arc::clone(&seen), denied.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    loop {
                        let (mut request, mut line) = (String::new(), String::new());
                        if reader.read_line(&mut request).unwrap_or(0) == 0 {
                            return;
                        }
                        let mut length = 0;
                        while reader.read_line(&mut line).unwrap_or(0) > 2 {
                            let lower = line.to_ascii_lowercase();
                            if let Some(number) = lower.strip_prefix("content-length:") {
                                length = number.trim().parse().unwrap();
                            }
                            if lower.starts_with("expect:") {
                                let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                            }
                            line.clear();
                        }
                        let mut sent = vec![0; length];
                        reader.read_exact(&mut sent).unwrap();
                        let mut words = request.split_whitespace();
                        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
                        let file = root.join(path.trim_start_matches('/'));
                        let (status, body) = match fs::read(&file) {
                            _ if !denied.is_empty() && path.ends_with(&denied) => ("403 Forbidden", Vec::new()),
                            _ if method == "PUT" => {
                                fs::create_dir_all(file.parent().unwrap()).unwrap();
                                fs::write(&file, &sent).unwrap();
                                ("201 Created", Vec::new())
                            }
                            _ if !matches!(method, "GET" | "HEAD") => ("405 Method Not Allowed", Vec::new()),
                            Ok(body) => ("200 OK", body),
                            Err(_) => ("404 Not Found", Vec::new()),
                        };
                        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                        let body = if method == "HEAD" { &[][..] } else { &body };
                        if stream.write_all(&[head.as_bytes(), body].concat()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, requests }
    }

    fn narinfos_read(&self) -> usize {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.starts_with("GET ") && request.ends_with(".narinfo")).count()
    }
}

/// A cache of the paths 1 to 5. Each refers to all before it.
fn narinfos(scratch: &Scratch) -> PathBuf {
    let cache = scratch.path("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
    for number in 1..=5 {
        let references: Vec<String> = (1..number).map(base_name).collect();
        let old = format!("References: {} {}", base_name(1), base_name(2));
        let text = narinfo(number).replace(&old, &format!("References: {}", references.join(" ")));
        fs::write(cache.join(hash_part(number) + ".narinfo"), text).unwrap();
    }
    cache
}

#[test]
fn closures_are_read_from_plain_web_servers_and_nothing_else_is() {
    let scratch = Scratch::new();
    let cache = narinfos(&scratch);
    let path = full_path(3);
    let whole = run(narutil!["closure", &path, "--from", scratch.path("cache")]).text();
    let count = whole.lines().count();
    assert_eq!(count, 3, "{whole}");
    // What does not belong to the closure may be anything.
    fs::write(cache.join(hash_part(9) + ".narinfo"), "broken").unwrap();
    assert_eq!(run(narutil!["closure", &path, "--from", &cache]).text(), whole);
    let server = PlainServer::new(cache.clone(), "");
    assert_eq!(run(narutil!["closure", &path, "--from", &server.url]).text(), whole);
    assert_eq!(server.narinfos_read(), count);
    let why = run(narutil!["why", &path, full_path(1), "--from", &server.url]).text();
    assert_eq!(why, run(narutil!["why", &path, full_path(1), "--from", &cache]).text());
    let converted = |from: &Path| run(narutil!["convert", &path, "--from", from, "--to", "registration:-"]).text();
    assert_eq!(converted(Path::new(&server.url)), converted(&cache));
    assert_eq!(run(narutil!["diff", &path, "--from", &server.url, "--to", &cache]).text(), "");
    let error = run(narutil!["closure", full_path(8), "--from", &server.url]).error(1);
    assert!(error.contains("not in the source"), "{error}");
}

#[test]
fn a_cache_that_refuses_to_show_a_narinfo_fails_and_does_not_look_incomplete() {
    let scratch = Scratch::new();
    let cache = narinfos(&scratch);
    let server = PlainServer::new(cache.clone(), "2.narinfo");
    for command in [
        narutil!["closure", full_path(3), "--from", &server.url],
        narutil!["convert", full_path(3), "--from", &server.url, "--to", "registration:-"],
        narutil!["diff", full_path(3), "--from", &cache, "--to", &server.url],
    ] {
        let error = run(command).error(3);
        assert!(error.contains("narinfo: "), "{error}");
    }
}

#[test]
fn unsigned_publishing_is_said() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let Some(nix) = nixes().pop() else { return };
    let root = nix.add_closure(3, 1000, 5).pop().unwrap();
    let to = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let unsigned = "narutil: 3 paths are unsigned: Nix will not accept them; see --key";
    let said = run(push(&nix, &root, &to("a"), &[]));
    assert!(said.stderr.contains(unsigned), "{}", said.stderr);
    let again = run(push(&nix, &root, &to("a"), &[]));
    assert!(!again.stderr.contains("unsigned"), "{}", again.stderr);
    let signed = run(push(&nix, &root, &to("b"), &["--key", key.file.to_str().unwrap()]));
    assert!(!signed.stderr.contains("unsigned"), "{}", signed.stderr);
    let document = run(push(&nix, &root, &to("c"), &["--json"])).text();
    assert_eq!(serde_json::from_str::<Value>(&document).unwrap()["unsigned"], 3);
    let added = run(narutil!["push", "--to", to("d"), "--add", scratch.path("tree")]);
    assert!(!added.stderr.contains("unsigned"), "{}", added.stderr);
}

/// A path with a deriver, in the database of a Nix.
fn built(nix: &Nix) -> (String, String) {
    let path = "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-built";
    let deriver = "n5wkd9frr45pa74if5gpz9j7mifg27fh-built.drv";
    nix.add_built(path, b"built", &[], &format!("/nix/store/{deriver}"));
    (path.to_owned(), deriver.to_owned())
}

#[test]
fn logs_of_paths_that_are_there_are_published() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let (path, deriver) = built(&nix);
    let logs = scratch.path("log/nix");
    let folder = logs.join("drvs").join(&deriver[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&deriver[2..]), "a log").unwrap();
    for (number, directory) in [logs.clone(), logs.join("drvs")].iter().enumerate() {
        let cache = scratch.path(format!("cache-{number}"));
        let to = cache.to_str().unwrap();
        let log = cache.join("log").join(&deriver);
        run(push(&nix, &path, to, &[])).ok();
        assert!(!log.exists());
        run(push(&nix, &path, to, &["--no-closure", &format!("--logs={}", directory.display())])).ok();
        assert_eq!(fs::read_to_string(&log).unwrap(), "a log");
    }
    let cache = scratch.path("cache-default");
    let mut command = push(&nix, &path, cache.to_str().unwrap(), &["--logs"]);
    // A chroot store has logs of its own; that of this one is told by the variable only if it is at
    // the root.
    command.args(["--store", "/"]).env("NIX_LOG_DIR", &logs);
    let ran = run(command);
    assert!(cache.join("log").join(&deriver).exists() || ran.status != Some(0), "{}", ran.stderr);
}

#[test]
fn a_directory_of_logs_that_is_none_is_an_error() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let (path, _) = built(&nix);
    let cache = scratch.path("cache");
    for logs in [scratch.path("nothing"), scratch.path("tree"), scratch.nar()] {
        let option = format!("--logs={}", logs.display());
        let error = run(push(&nix, &path, cache.to_str().unwrap(), &[&option])).error(3);
        assert!(error.contains(logs.to_str().unwrap()), "{error}");
        assert!(!cache.exists(), "nothing is begun");
    }
}

#[test]
fn a_registration_is_that_of_nix_to_the_byte() {
    for nix in nixes() {
        nix.add_closure(30, 3000, 7);
        let dumped = nix.run("nix-store", ["--dump-db"], b"").unwrap();
        let from = format!("db:{}", nix.database().display());
        let ours = run(narutil!["convert", "--from", from, "--to", "registration:-"]).ok();
        assert!(ours == dumped, "Nix {}", nix.version());
    }
}

#[test]
fn a_source_is_recognised_without_a_word_before_it() {
    let scratch = Scratch::new();
    let cache = narinfos(&scratch);
    let json = run(narutil!["convert", "--from", &cache, "--to", "json:-"]).ok();
    let registration = run(narutil!["convert", "--from", &cache, "--to", "registration:-"]).ok();
    let file = scratch.file("infos.json", &json);
    let closure = run(narutil!["closure", full_path(3), "--from", &cache]).text();
    assert_eq!(run(narutil!["closure", full_path(3), "--from", &file]).text(), closure);
    assert_eq!(run_with(narutil!["closure", full_path(3), "--from", "-"], &json).text(), closure);
    let file = scratch.file("dump", &registration);
    assert_eq!(run(narutil!["closure", full_path(3), "--from", &file]).text(), closure);
}

#[test]
fn a_database_that_may_not_be_read_could_not_be_done() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    nix.add_closure(1, 100, 1);
    let copy = scratch.path("db.sqlite");
    fs::copy(nix.database(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o000)).unwrap();
    let from = format!("db:{}", copy.display());
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-dac_override,-dac_read_search", "--"]).arg(env!("CARGO_BIN_EXE_narutil"));
    command.args(["convert", "--from", &from, "--to", "json:-"]);
    let Ok(output) = command.output() else { return skip("needs setpriv, and root") };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.starts_with("setpriv") || output.status.success() {
        return skip("needs setpriv, and root");
    }
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("Permission denied"), "{stderr}");
    assert!(
        run(narutil!["convert", "--from", format!("db:{}", scratch.path("").display()), "--to", "json:-"])
            .error(3)
            .contains("is a directory")
    );
}

#[test]
fn a_path_that_the_server_does_not_take_is_named_and_the_others_are_published() {
    let scratch = Scratch::new();
    let Some(nix) = nixes().pop() else { return };
    let paths = nix.add_closure(8, 1000, 11);
    let root = paths.last().unwrap();
    let model = scratch.path("model");
    run(push(&nix, root, model.to_str().unwrap(), &[])).ok();
    // Nothing refers to it, so that the others can be published.
    let leaf = root["/nix/store/".len()..].split('-').next().unwrap().to_owned();
    let text = fs::read_to_string(model.join(leaf.clone() + ".narinfo")).unwrap();
    let nar = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap().to_owned();
    for (number, denied) in [leaf.clone() + ".narinfo", nar].iter().enumerate() {
        let cache = scratch.path(format!("cache-{number}"));
        fs::create_dir(&cache).unwrap();
        let server = PlainServer::new(cache.clone(), denied);
        let ran = run(push(&nix, root, &server.url, &["--retries", "0"]));
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        let named = ran.stderr.lines().find(|line| line.contains(&format!("/nix/store/{leaf}-")));
        let named = named.unwrap_or_else(|| panic!("{}", ran.stderr));
        assert!(named.contains(&format!("{}/{denied}", server.url)) && named.contains("403"), "{named}");
        let published = whole(&cache);
        assert!(!published.contains_key(&leaf) && published.len() == 7, "{published:?}");
    }
}

#[test]
fn that_a_cache_to_skip_may_not_be_read_is_said() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let Some(nix) = nixes().pop() else { return };
    let root = nix.add_closure(2, 1000, 5).pop().unwrap();
    let other = scratch.path("other");
    run(push(&nix, &root, other.to_str().unwrap(), &["--key", key.file.to_str().unwrap()])).ok();
    let server = PlainServer::new(other, ".narinfo");
    let cache = scratch.path("cache");
    let more = ["--skip", &server.url, "--trusted", &key.public(), "--retries", "0"];
    let ran = run(push(&nix, &root, cache.to_str().unwrap(), &more));
    assert!(ran.stderr.contains(&server.url) && ran.stderr.contains("2 of 2 paths"), "{}", ran.stderr);
    ran.ok();
    assert_eq!(whole(&cache).len(), 2);
}
