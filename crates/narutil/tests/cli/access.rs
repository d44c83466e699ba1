//! Cache URLs: mistakes are refused, credentials go only to their host, and no secret is shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::{Answer, FakeS3, Request, WebServer};

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};

/// A cache with one path, in the directory `name`, and the path.
fn cache(scratch: &Scratch, key: &Key, name: &str) -> (PathBuf, String) {
    let directory = scratch.path(name);
    let tree = format!("path={}", scratch.path("tree").display());
    let push =
        narutil!["push", "--add", tree, "--to", &directory, "--key", &key.file, "--no-root", "--compression", "none"];
    let pushed = run(push).text();
    (directory, pushed.trim().to_owned())
}

/// The responses of a web server that serves a directory.
fn file(directory: &Path, request: &Request) -> Answer {
    match fs::read(directory.join(request.path.trim_start_matches('/'))) {
        Ok(bytes) => Answer::new(200, bytes),
        Err(_) => Answer::new(404, ""),
    }
}

/// The program in an environment without credentials, with the scratch directory as home.
fn bare(mut command: Command, scratch: &Scratch) -> Command {
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("AWS_") || name.starts_with("NIX_") || name.contains("SSL_CERT"))
        {
            command.env_remove(name);
        }
    }
    command.env("HOME", scratch.path("home")).env("NIX_CONF_DIR", scratch.path("conf"));
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.env_remove("XDG_CONFIG_HOME").env_remove("NETRC").env_remove("NIXCACHE_BEARER_TOKEN");
    command
}

fn pull(scratch: &Scratch, key: &Key, path: &str, from: &str) -> Command {
    let into = tempfile::tempdir_in(scratch.path("")).unwrap().keep();
    let command = narutil!["pull", path, "--from", from, "--trusted", key.public(), "--into", into.join("root")];
    bare(command, scratch)
}

#[test]
fn passwords_come_from_every_netrc_that_nix_reads_and_go_to_their_host_only() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (directory, path) = cache(&scratch, &key, "cache");
    let server = WebServer::start(move |request| match request.header("authorization") {
        // ci:s3cret/x
        Some("Basic Y2k6czNjcmV0L3g=" | "Bearer t0ken=") => file(&directory, request),
        _ => Answer::new(401, ""),
    });
    let refused = run(pull(&scratch, &key, &path, &server.url()));
    assert_eq!(refused.status, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("netrc") && refused.stderr.contains("NIXCACHE_BEARER_TOKEN"), "{}", refused.stderr);
    let [home, conf] = ["home", "conf"].map(|name| scratch.path(name));
    fs::create_dir_all(&home).unwrap();
    fs::create_dir_all(&conf).unwrap();
    let text = b"machine other.example login x password y\nmachine 127.0.0.1\nlogin ci\npassword s3cret/x\n";
    let netrc = scratch.file("passwords", text);
    let setting = format!("netrc-file = {}", netrc.display());
    let with = |name: &str, value: &str| {
        let mut command = pull(&scratch, &key, &path, &server.url());
        command.env(name, value).arg("-vv");
        run(command)
    };
    let netrc_text = netrc.to_str().unwrap();
    let address = server.address();
    for (name, value) in [
        ("NETRC", netrc_text.to_owned()),
        ("NIX_CONFIG", setting.clone()),
        ("NIXCACHE_BEARER_TOKEN", "127.0.0.1=t0ken=".to_owned()),
        ("NIXCACHE_BEARER_TOKEN", format!("other.example=x {address}=t0ken=")),
    ] {
        let ran = with(name, &value);
        assert_eq!(ran.status, Some(0), "{name}: {}", ran.stderr);
        assert!(!ran.stderr.contains("s3cret") && !ran.stderr.contains("t0ken"), "{}", ran.stderr);
    }
    for (place, text) in [
        (home.join(".netrc"), &text[..]),
        (conf.join("netrc"), &text[..]),
        (conf.join("nix.conf"), setting.as_bytes()),
        (home.join(".netrc"), b"default login bearer password t0ken="),
    ] {
        fs::write(&place, text).unwrap();
        let ran = run(pull(&scratch, &key, &path, &server.url()));
        assert_eq!(ran.status, Some(0), "{}: {}", place.display(), ran.stderr);
        fs::remove_file(&place).unwrap();
    }
    // The user in the URL wins.
    let wrong = server.url().replace("http://", "http://who:else@");
    let mut command = pull(&scratch, &key, &path, &wrong);
    command.env("NETRC", &netrc);
    assert_eq!(run(command).status, Some(3));
    // A token without a host is sent to no host.
    let ran = with("NIXCACHE_BEARER_TOKEN", "hunter2");
    assert!(ran.status == Some(2) && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let ran = with("NIXCACHE_BEARER_TOKEN", "other.example=t0ken=");
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
}

#[test]
fn a_nar_on_another_server_is_fetched_and_no_other_server_is_told_who_asks() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (directory, path) = cache(&scratch, &key, "cache");
    let nars = directory.clone();
    let other = WebServer::start(move |request| {
        let file = request.path.replace("/moved", "").replace("/f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "");
        file_below(&nars, &file)
    });
    // Every narinfo names its NAR on the other server, with a user in the URL; everything else is
    // redirected there.
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap().path();
        if entry.extension().is_some_and(|extension| extension == "narinfo") {
            let text = fs::read_to_string(&entry).unwrap();
            let host = other.url().replace("http://", "http://u:p@");
            fs::write(&entry, text.replace("URL: nar/", &format!("URL: {host}/nar/"))).unwrap();
        }
    }
    let moved = format!("{}/moved", other.url());
    let server =
        WebServer::start(move |request| Answer::new(302, "").with("Location", format!("{moved}{}", request.path)));
    let from = server.url().replace("http://", "http://ci:hunter2@");
    let ran = run(pull(&scratch, &key, &path, &from));
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(server.requests().iter().all(|request| request.header("authorization").is_some()));
    assert!(other.requests().iter().any(|request| request.path.starts_with("/nar/")));
    assert!(other.requests().iter().all(|request| request.header("authorization").is_none()), "{:?}", other.requests());
}

fn file_below(directory: &Path, path: &str) -> Answer {
    fs::read(directory.join(path.trim_start_matches('/')))
        .map_or_else(|_| Answer::new(404, ""), |bytes| Answer::new(200, bytes))
}

#[test]
fn nars_that_hydra_names_are_fetched() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    for (number, name) in
        ["nar/BASE", "nar/f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "nar/odd.bin"].into_iter().enumerate()
    {
        let (directory, path) = cache(&scratch, &key, &format!("cache-{number}"));
        let base = path.strip_prefix("/nix/store/").unwrap();
        let name = name.replace("BASE", base);
        let narinfo = directory.join(format!("{}.narinfo", &base[..32]));
        let text = fs::read_to_string(&narinfo).unwrap();
        let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
        fs::rename(directory.join(url), directory.join(&name)).unwrap();
        fs::write(&narinfo, text.replace(url, &name)).unwrap();
        let ran = run(pull(&scratch, &key, &path, directory.to_str().unwrap()));
        assert_eq!(ran.status, Some(0), "{name}: {}", ran.stderr);
    }
}

#[test]
fn the_priority_in_the_url_goes_before_that_of_the_cache() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (first, path) = cache(&scratch, &key, "first");
    let (second, _) = cache(&scratch, &key, "second");
    fs::write(first.join("nix-cache-info"), "StoreDir: /nix/store\nPriority: 50\n").unwrap();
    fs::write(second.join("nix-cache-info"), "StoreDir: /nix/store\nPriority: 10\n").unwrap();
    let nars = |directory: &Path| fs::remove_dir_all(directory.join("nar")).unwrap();
    nars(&second);
    let with_priority = format!("file://{}?priority=1", first.display());
    let mut command = pull(&scratch, &key, &path, &with_priority);
    command.arg("--from").arg(&second).arg("-v");
    let ran = run(command);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("second/nar"), "{}", ran.stderr);
}

#[test]
fn slips_in_a_target_are_refused_and_leave_nothing_behind() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let tree = scratch.path("tree");
    let before = scratch.entries();
    let slips = [
        "s3:/cache?region=eu-west-1",
        "https:/cache.example.org",
        "ssh-ng:host",
        "S3:cache",
        "host:/mnt/cache",
        "daemon",
        "local",
        "auto",
        "file://rel",
        "file://host/c",
        "file:rel",
        "./c?secret-key=k",
        "c9?compression=xz",
        "~/cache",
    ];
    for slip in slips {
        let mut command = narutil!["push", "--add", &tree, "--to", slip, "--key", &key.file];
        command.current_dir(scratch.path(""));
        let refused = run(bare(command, &scratch)).error(2);
        assert!(refused.lines().count() <= 2, "{refused}");
        assert_eq!(scratch.entries(), before, "{slip}");
    }
    // So are parameters without effect.
    for parameter in [
        "region=x",
        "store=/other/store",
        "local-nar-cache=d",
        "trusted=1",
        "root=/r",
        "real=/r",
        "narinfo-compression=xz",
    ] {
        let to = format!("file://{}?{parameter}", scratch.path("c").display());
        let refused = run(bare(narutil!["push", "--add", &tree, "--to", &to, "--key", &key.file], &scratch));
        assert!(matches!(refused.status, Some(1 | 2)), "{parameter}: {refused:?}");
        assert_eq!(scratch.entries(), before, "{parameter}");
    }
    let to = format!("file://{}?secret-key={}", scratch.path("c").display(), key.file.display());
    let refused = run(bare(narutil!["pull", "x", "--from", "./nowhere", "--to", &to], &scratch));
    assert!(refused.status != Some(0) && !scratch.path("c").exists(), "{refused:?}");
    // In a store, through a link too.
    fs::create_dir_all(scratch.path("root/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-x")).unwrap();
    std::os::unix::fs::symlink(scratch.path("root/nix/store"), scratch.path("link")).unwrap();
    for to in ["root/nix/store", "root/nix/store/cache", "link"] {
        let refused =
            run(bare(narutil!["push", "--add", &tree, "--to", scratch.path(to), "--key", &key.file], &scratch));
        assert_eq!(refused.status, Some(2), "{to}: {}", refused.stderr);
        assert_eq!(fs::read_dir(scratch.path("root/nix/store")).unwrap().count(), 1);
    }
}

#[test]
fn a_directory_as_a_file_url_is_that_directory() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (directory, path) = cache(&scratch, &key, "a b");
    for url in [
        format!("file:{}", directory.display()),
        format!("file://{}", directory.display()).replace(' ', "%20"),
        format!("file:{}?priority=3&compression=xz", directory.display()),
    ] {
        assert!(run(narutil!["info", &url]).text().contains("paths"), "{url}");
        assert_eq!(run(pull(&scratch, &key, &path, &url)).status, Some(0), "{url}");
        assert!(run(narutil!["closure", &path, "--from", &url]).text().contains(&path), "{url}");
    }
}

#[test]
fn a_cache_that_is_made_is_announced_and_one_that_came_to_nothing_goes_again() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let to = scratch.path("new");
    let failed =
        run(bare(narutil!["push", ".#foo", "--from", "json:/dev/null", "--to", &to, "--key", &key.file], &scratch));
    assert!(failed.status != Some(0) && !to.exists(), "{failed:?}");
    let tree = scratch.path("tree");
    let made = run(narutil!["-v", "push", "--add", &tree, "--to", &to, "--key", &key.file]);
    assert!(made.stderr.contains("made a new cache here"), "{}", made.stderr);
    let known = run(narutil!["-v", "push", "--add", &tree, "--to", &to, "--key", &key.file]);
    assert!(known.status == Some(0) && !known.stderr.contains("made a new cache"), "{}", known.stderr);
}

#[test]
fn no_command_shows_a_secret_of_a_url() {
    let scratch = Scratch::new();
    let secret = "hunter2";
    let urls = [
        "https://user:hunter2@127.0.0.1:1/c?bad=1",
        "http://user:hunter2@127.0.0.1:1/c",
        "http://hunter2@127.0.0.1:1/c",
        "htp://user:hunter2@host",
        "http://user:hun/hunter2@host:x/c",
        "s3://user:hunter2@bucket",
        "s3://b?region=x&endpoint=http://user:hunter2@127.0.0.1:1",
        "s3://b?region=x&endpoint=user:hunter2@127.0.0.1:1",
        "./c?secret-key=hunter2",
        "file:///nonexistent/c?secret-key=/hunter2&bad=1",
    ];
    let path = "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-x";
    for url in urls {
        let tree = scratch.path("tree");
        let commands = [
            narutil!["info", url],
            narutil!["ls", url, path],
            narutil!["cat", url, path, "x"],
            narutil!["gc", url],
            narutil!["audit", url],
            narutil!["roots", url],
            narutil!["verify", "--trusted", "k", url],
            narutil!["narinfo", "check", url],
            narutil!["push", "--add", tree, "--to", url],
            narutil!["pull", path, "--from", url, "--no-check-sigs", "--into", scratch.path("into")],
            narutil!["diff", path, "--to", url],
            narutil!["closure", path, "--from", url],
            narutil!["convert", "--from", url, "--to", "json:-"],
        ];
        for (number, mut command) in commands.into_iter().enumerate() {
            // Where nothing answers, only commands that take --retries end soon.
            if url.contains("127.0.0.1") {
                if ![0, 8, 9].contains(&number) {
                    continue;
                }
                command.args(["--retries", "0"]);
            }
            command.arg("-vv");
            let shown = format!("{command:?}");
            let mut command = bare(command, &scratch);
            command.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", secret);
            let ran = run(command);
            assert!(matches!(ran.status, Some(1..=3)), "{shown}: {:?} {}", ran.status, ran.stderr);
            let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(!ran.stderr.contains(secret) && !stdout.contains(secret), "{shown}: {} {stdout}", ran.stderr);
        }
    }
}

#[test]
fn the_endpoint_may_come_from_anywhere_and_be_odd() {
    let scratch = Scratch::new();
    let s3 = FakeS3::start();
    let key = Key::new(&scratch, "k-1");
    let tree = scratch.path("tree");
    let bucket = s3.url();
    let bucket = bucket.split('?').next().unwrap().to_owned();
    let credentials = |command: Command| {
        let mut command = bare(command, &scratch);
        command.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", "hunter2").env("AWS_REGION", "eu-west-1");
        command
    };
    fs::create_dir_all(scratch.path("home/.aws")).unwrap();
    let config = format!(
        "[default]\nregion = x\n[profile ci]\nendpoint_url = {0}\n[profile services]\nservices = dev\n[services dev]\ns3 =\n  \
         endpoint_url = {0}\n",
        format!("http://{}", s3.address())
    );
    fs::write(scratch.path("home/.aws/config"), config).unwrap();
    let closed = "http://127.0.0.1:1";
    let http = format!("http://{}", s3.address());
    let slashed = format!("{http}/");
    let ways: [&[(&str, &str)]; 6] = [
        &[("AWS_ENDPOINT_URL", &http)],
        &[("AWS_ENDPOINT_URL_S3", &http)],
        &[("AWS_ENDPOINT_URL_S3", &slashed), ("AWS_ENDPOINT_URL", closed)],
        &[("AWS_PROFILE", "ci")],
        &[("AWS_PROFILE", "services")],
        &[("AWS_ENDPOINT_URL_S3", &http), ("AWS_SESSION_TOKEN", "t")],
    ];
    for way in ways {
        let mut command =
            credentials(narutil!["push", "--add", &tree, "--to", &bucket, "--key", &key.file, "--retries", "0"]);
        command.envs(way.iter().copied());
        let ran = run(command);
        assert_eq!(ran.status, Some(0), "{way:?}: {}", ran.stderr);
    }
    let by_profile = run(credentials(narutil!["info", format!("{bucket}?profile=ci"), "--retries", "0"]));
    assert_eq!(by_profile.status, Some(0), "{}", by_profile.stderr);
    let odd = [
        "http://",
        "://",
        "http://u:hunter2@h",
        "h",
        "http://h?x=1",
        "ftp://h",
        "http://[::1",
        "http://[::1]:1",
        "http://127.0.0.1:1/",
        "127.0.0.1:1",
        "http://127.0.0.1:1/path/",
        "http://a b",
        "\u{e9}",
        "http://127.0.0.1:99999",
        "/",
        "http:/127.0.0.1:1",
    ];
    for endpoint in odd {
        for style in ["", "?addressing-style=virtual"] {
            let mut command = credentials(narutil!["info", format!("{bucket}{style}"), "--retries", "0"]);
            command.env("AWS_ENDPOINT_URL", endpoint);
            let ran = run(command);
            assert!(matches!(ran.status, Some(2 | 3)), "{endpoint}: {:?} {}", ran.status, ran.stderr);
            assert!(!ran.stderr.contains("hunter2") && !ran.stderr.contains("panicked"), "{endpoint}: {}", ran.stderr);
        }
    }
    // Values that would make headers invalid.
    for (name, value) in [("AWS_SESSION_TOKEN", "t\n"), ("AWS_ACCESS_KEY_ID", "A\nB"), ("AWS_REGION", "a/b c")] {
        let mut command = credentials(narutil!["info", &bucket, "--retries", "0"]);
        command.env("AWS_ENDPOINT_URL", format!("http://{}", s3.address())).env(name, value);
        let ran = run(command);
        assert!(!ran.stderr.contains("panicked") && matches!(ran.status, Some(0 | 2 | 3)), "{name}: {ran:?}");
    }
}

#[test]
fn a_profile_that_is_named_has_to_be_there() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("home/.aws")).unwrap();
    fs::write(scratch.path("home/.aws/credentials"), "[prod]\naws_access_key_id = A\naws_secret_access_key = B\n")
        .unwrap();
    let url = "s3://b?region=x&endpoint=http://127.0.0.1:1";
    let by_url = run(bare(narutil!["info", format!("{url}&profile=prdo"), "--retries", "0"], &scratch));
    let mut command = bare(narutil!["info", url, "--retries", "0"], &scratch);
    command.env("AWS_PROFILE", "prdo");
    for ran in [by_url, run(command)] {
        let refused = ran.error(2);
        assert!(
            refused.contains("prdo") && refused.contains(".aws/credentials") && refused.contains(".aws/config"),
            "{refused}"
        );
    }
}

#[test]
fn those_whom_a_bucket_refuses_are_told_that_there_are_no_credentials() {
    let scratch = Scratch::new();
    let server = WebServer::start(|_| Answer::new(403, "<Error><Code>AccessDenied</Code></Error>"));
    let url = format!("s3://b?region=x&endpoint={}", server.url());
    let ran = run(bare(narutil!["-v", "info", url, "--retries", "0"], &scratch));
    assert!(ran.stderr.contains("no AWS credentials were found"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("no AWS credentials were found (").count(), 1, "{}", ran.stderr);
}

#[test]
fn a_machine_without_certificates_reaches_what_needs_none() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let (directory, path) = cache(&scratch, &key, "cache");
    let files = directory.clone();
    let server = WebServer::start(move |request| file(&files, request));
    let s3 = FakeS3::start();
    fs::create_dir(scratch.path("empty")).unwrap();
    let without = |command: Command| {
        let mut command = bare(command, &scratch);
        command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", scratch.path("empty"));
        command.env("AWS_ACCESS_KEY_ID", "A").env("AWS_SECRET_ACCESS_KEY", "B");
        run(command)
    };
    for from in [server.url(), format!("file://{}", directory.display())] {
        let ran = without(pull(&scratch, &key, &path, &from));
        assert_eq!(ran.status, Some(0), "{from}: {}", ran.stderr);
    }
    let ran = without(narutil!["push", "--add", scratch.path("tree"), "--to", s3.url(), "--key", &key.file]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
}

#[test]
fn what_is_wrong_with_a_client_certificate_is_said() {
    let scratch = Scratch::new();
    let file = scratch.file("none.pem", b"no certificate");
    for parameters in [format!("tls-certificate={}", file.display()), "tls-certificate=/nonexistent".to_owned()] {
        let refused = run(bare(narutil!["info", format!("https://127.0.0.1:1/?{parameters}")], &scratch)).error(2);
        assert!(refused.contains("certificate"), "{refused}");
    }
}
