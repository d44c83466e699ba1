//! Commands against servers that deny, lack a feature, or give a final error.

use std::process::Command;

use conformance::{ACCESS_KEY, Action, Conditions, FakeS3, Rule, SECRET_KEY};

use crate::cache::Key;
use crate::narutil::{Ran, Scratch, narutil, run};
use crate::replaced::Store;

fn signed(mut command: Command) -> Ran {
    run({
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    })
}

struct Filled {
    s3: FakeS3,
    scratch: Scratch,
    store: Store,
    key: Key,
}

fn filled() -> Filled {
    let scratch = Scratch::new();
    let (s3, store, key) = (FakeS3::start(), Store::new(&scratch), Key::new(&scratch, "one-1"));
    assert_eq!(signed(store.push(s3.url().as_ref(), &key, "main", &["app"])).status, Some(0));
    Filled { s3, scratch, store, key }
}

#[test]
fn a_cache_that_denies_access_is_not_told_as_an_empty_one() {
    let Filled { s3, scratch, store, .. } = filled();
    let from = format!("registration:{}", scratch.path("registration").display());
    for operations in ["READ LIST", "READ"] {
        s3.rule(Rule::on(operations, Action::Deny));
        for url in [s3.url(), s3.http()] {
            let app = store.path("app");
            for command in [
                narutil!["info", &url],
                narutil!["roots", &url],
                narutil!["audit", &url],
                narutil!["gc", &url, "--keep-last", "1"],
                narutil!["diff", "--from", &from, "--to", &url, app],
                narutil!["ls", &url, app],
                narutil!["pull", "--no-check-sigs", "--from", &url, "--nar", scratch.path("into"), app],
            ] {
                let shown = format!("{command:?}");
                let Ran { status, stdout, stderr } = signed(command);
                assert_eq!(status, Some(3), "{shown}: {stderr}");
                assert_eq!(String::from_utf8_lossy(&stdout), "", "{shown}");
                assert!(stderr.contains("access denied (403"), "{shown}: {stderr}");
                assert!(!stderr.contains("in no cache"), "{shown}: {stderr}");
            }
        }
        s3.clear_rules();
    }
    s3.rule(Rule::on("LIST", Action::Deny));
    for command in [narutil!["info", s3.url()], narutil!["roots", s3.url()], narutil!["audit", s3.url()]] {
        let Ran { status, stderr, .. } = signed(command);
        assert_eq!(status, Some(3), "{stderr}");
        assert!(stderr.contains("s3://cache: access denied (403") && stderr.contains("s3:ListBucket"), "{stderr}");
    }
}

#[test]
fn a_cache_that_denies_its_narinfos_is_told_once_and_the_next_one_is_asked() {
    let Filled { s3, scratch, store, key } = filled();
    let other = FakeS3::start();
    assert_eq!(signed(store.push(other.url().as_ref(), &key, "main", &["app"])).status, Some(0));
    s3.rule(Rule::on("READ", Action::Deny).keys(|key| key.ends_with(".narinfo")));
    let pull = |from: &[&str], into: &str| {
        let mut command = narutil!["pull", "--no-check-sigs", "--nar", scratch.path(into)];
        for from in from {
            command.args(["--from", from]);
        }
        command.args(["--", store.path("app")]);
        signed(command)
    };
    let told = "s3://cache: access denied (403) to the request: check the credentials";
    let Ran { status, stderr, .. } = pull(&[&s3.url()], "one");
    assert_eq!(status, Some(3), "{stderr}");
    assert!(stderr.contains("access denied (403 to GET)") && !stderr.contains("in no cache"), "{stderr}");
    let both = pull(&[&s3.url(), &other.url()], "two");
    assert_eq!(both.status, Some(0), "{}", both.stderr);
    // Shown where warnings are.
    assert!(both.stderr.matches("access denied").count() <= 1 || both.stderr.contains(told), "{}", both.stderr);
}

#[test]
fn a_pusher_that_may_not_list_publishes_and_what_it_publishes_is_fetched() {
    let scratch = Scratch::new();
    let (s3, store, key) = (FakeS3::start(), Store::new(&scratch), Key::new(&scratch, "one-1"));
    s3.rule(Rule::on("LIST", Action::Deny));
    // S3 answers 403 for a missing object to clients without permission to list.
    s3.rule(Rule::on("GET HEAD", Action::Status(403, "<Error><Code>AccessDenied</Code></Error>".to_owned())).absent());
    for names in [&["app"][..], &["app", "tool", "other"]] {
        let mut push = store.push(s3.url().as_ref(), &key, "main", names);
        push.arg("--no-root");
        let pushed = signed(without_root(&push));
        assert_eq!(pushed.status, Some(0), "{}", pushed.stderr);
    }
    let narinfos = s3.keys().iter().filter(|key| key.ends_with(".narinfo")).count();
    assert_eq!(narinfos, 5);
    let into = scratch.path("into");
    let pulled = signed(narutil![
        "pull",
        "--trusted",
        key.public(),
        "--from",
        s3.url(),
        "--nar",
        into,
        "--",
        store.path("tool")
    ]);
    assert_eq!(pulled.status, Some(0), "{}", pulled.stderr);
}

/// The command without `--root NAME`.
fn without_root(command: &Command) -> Command {
    let mut arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--root") {
        arguments.drain(place..place + 2);
    }
    let mut without = Command::new(command.get_program());
    without.args(arguments);
    without
}

#[test]
fn a_server_without_conditional_writes_gets_few_requests_more() {
    let count = |conditions: Conditions| {
        let scratch = Scratch::new();
        let (s3, store, key) = (FakeS3::start(), Store::new(&scratch), Key::new(&scratch, "one-1"));
        s3.set_conditions(conditions);
        let pushed = signed(store.push(s3.url().as_ref(), &key, "main", &["app", "tool", "other"]));
        assert_eq!(pushed.status, Some(0), "{}", pushed.stderr);
        assert_eq!(s3.keys().iter().filter(|key| key.ends_with(".narinfo")).count(), 5);
        s3.count("PUT")
    };
    let kept = count(Conditions::Kept);
    for status in [501, 400] {
        let refused = count(Conditions::Refused(status));
        // One refusal at most for each object that was already under way when the first was
        // refused.
        assert!(refused <= kept + 12, "{refused} instead of {kept} for {status}");
    }
}

#[test]
fn a_bucket_that_is_not_there_is_named_with_what_to_do() {
    let Filled { s3, scratch: _scratch, store, key } = filled();
    s3.set_exists(false);
    let pushed = signed(store.push(s3.url().as_ref(), &key, "main", &["app"]));
    let stderr = pushed.stderr;
    assert_eq!(pushed.status, Some(3), "{stderr}");
    assert!(
        stderr.starts_with("narutil: s3://cache: there is no such bucket") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(stderr.contains("create the bucket"), "{stderr}");
}

#[test]
fn a_push_that_is_told_to_end_leaves_no_upload_in_parts() {
    let scratch = Scratch::new();
    // More than one part, of what does not compress.
    let (s3, store, key) = (FakeS3::start(), Store::of_size(&scratch, 12 << 20), Key::new(&scratch, "one-1"));
    s3.rule(Rule::on("UPLOAD_PART", Action::Delay(std::time::Duration::from_secs(30))));
    let mut push = store.push(s3.url().as_ref(), &key, "main", &["base"]);
    push.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let mut child = push.spawn().unwrap();
    while s3.count("UPLOAD_PART") == 0 {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(s3.uploads().len(), 1);
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(s3.uploads().is_empty(), "{:?}", s3.uploads());
}
