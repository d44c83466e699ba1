//! No key, password or token of the arguments is ever shown, wherever it was given.

use std::process::Command;

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, program, run, run_with};

/// Parts of a secret so long give it away.
const TELLING: usize = 8;

/// Every command, as words.
const COMMANDS: [&[&str]; 31] = [
    &["pack"],
    &["unpack"],
    &["ls"],
    &["cat"],
    &["hash"],
    &["check"],
    &["scan"],
    &["narinfo"],
    &["narinfo", "show"],
    &["narinfo", "check"],
    &["narinfo", "fingerprint"],
    &["key"],
    &["key", "generate"],
    &["key", "public"],
    &["sign"],
    &["verify"],
    &["closure"],
    &["diff"],
    &["why"],
    &["convert"],
    &["push"],
    &["pull"],
    &["audit"],
    &["info"],
    &["roots"],
    &["root"],
    &["root", "pin"],
    &["root", "label"],
    &["gc"],
    &["completions"],
    &["man"],
];

/// The options of a command that take a value.
fn options(command: &[&str]) -> Vec<String> {
    let mut help = program();
    help.args(command).arg("--help");
    let text = run(help).text();
    let option = |line: &str| {
        let rest = line.trim_start();
        let rest = rest.strip_prefix('-').filter(|rest| !rest.starts_with('-')).map_or(rest, |rest| &rest[3..]);
        let (name, value) = rest.split_at(rest.find([' ', '[']).unwrap_or(rest.len()));
        (name.starts_with("--") && value.contains('<')).then(|| name.to_owned())
    };
    text.lines().filter(|line| line.starts_with(' ')).filter_map(option).collect()
}

/// Arguments that hold a secret, and what of each is secret.
fn secrets(scratch: &Scratch) -> Vec<(String, String)> {
    let text = Key::new(scratch, "cache.example.org-1").secret.to_text().to_string();
    let base64 = text.split_once(':').unwrap().1.to_owned();
    let password = "hunter2hunter2";
    vec![
        (text.clone(), base64.clone()),
        (format!("http://user:{password}@127.0.0.1:1/c?x=1"), password.to_owned()),
        (base64.clone(), base64.clone()),
        (format!("{text}\n"), base64.clone()),
        (format!("other {text}"), base64.clone()),
        (text[..text.len() - 9].to_owned(), base64[..base64.len() - 9].to_owned()),
        (format!("htp://user:{password}@127.0.0.1:1/c"), password.to_owned()),
        (format!("s3://b?regoin=x&endpoint=http://user:{password}@127.0.0.1:1"), password.to_owned()),
        (format!("http://user:{password}/{password}@127.0.0.1:1/c"), password.to_owned()),
        (format!("user:{password}@host:/path"), password.to_owned()),
        (format!("https://127.0.0.1:1/c?token={password}"), password.to_owned()),
        (format!("s3://b?regoin={password}"), password.to_owned()),
        (format!("./c?secret-key={password}"), password.to_owned()),
    ]
}

fn assert_not_shown(mut command: Command, directory: &Scratch, secret: &str) {
    command.current_dir(directory.path("")).env_remove("NARUTIL_ROOT").env("HOME", directory.path(""));
    let what = format!("{command:?}");
    let ran = run(command);
    assert!(matches!(ran.status, Some(0..=3)), "{what}: {:?}: {}", ran.status, ran.stderr);
    let shown = format!("{}{}", ran.stderr, String::from_utf8_lossy(&ran.stdout));
    let leak = secret.as_bytes().windows(TELLING).find(|part| shown.contains(std::str::from_utf8(part).unwrap()));
    assert_eq!(leak, None, "{what}: {shown}");
}

#[test]
fn no_secret_in_an_argument_is_ever_shown() {
    let keys = Scratch::new();
    for (number, (argument, secret)) in secrets(&keys).into_iter().enumerate() {
        // All of them everywhere would take minutes, and they go the same way.
        let takes_most = |words: &&&[&str]| number < 2 || matches!(words[0], "push" | "pull" | "verify" | "sign");
        for words in COMMANDS.iter().filter(takes_most) {
            let scratch = Scratch::in_memory();
            let options = options(words);
            let base = || {
                let mut command = program();
                command.args(*words);
                if options.iter().any(|option| option == "--retries") {
                    command.args(["--retries", "0"]);
                }
                command
            };
            let positions: [&[&str]; 6] =
                [&["S"], &["S", "S"], &["tree", "S"], &["S", "tree"], &["c", "n", "S"], &["-S"]];
            for position in positions {
                let mut command = base();
                command.args(position.iter().map(|word| word.replace('S', &argument)));
                assert_not_shown(command, &scratch, &secret);
            }
            for option in &options {
                let scratch = Scratch::in_memory();
                let mut alone = base();
                alone.arg(format!("{option}={argument}"));
                assert_not_shown(alone, &scratch, &secret);
                let mut among_others = base();
                among_others.args(["tree", "tree", option, &argument]);
                for (other, value) in
                    [("--to", "c"), ("--from", "c"), ("--trusted", "pk"), ("--into", "d"), ("--candidates", "tree")]
                {
                    if other != option && options.iter().any(|option| option == other) && *words != ["convert"] {
                        among_others.args([other, value]);
                    }
                }
                assert_not_shown(among_others, &scratch, &secret);
            }
        }
    }
}

#[test]
fn a_key_in_the_place_of_a_file_is_recognised() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let text = key.secret.to_text();
    let narinfo = scratch.file("a.narinfo", crate::cache::narinfo(1).as_bytes());
    for command in [
        narutil!["sign", "--key", text.as_str(), &narinfo],
        narutil!["push", "--add", scratch.path("tree"), "--to", scratch.path("c"), "--key", text.as_str()],
        narutil!["key", "public", text.as_str()],
    ] {
        let error = run(command).error(2);
        assert!(error.contains("this is a key, not a file that holds one") && error.contains("--key-env"), "{error}");
    }
    let error = run(narutil!["verify", "--trusted", text.as_str(), &narinfo]).error(2);
    assert!(error.contains("this is a secret key, not a public key"), "{error}");
    let public = scratch.file("public", key.public().as_bytes());
    let error = run(narutil!["sign", "--key", &public, &narinfo]).error(1);
    assert!(error.contains("public: this is a public key, not a secret key"), "{error}");
    let error = run(narutil!["verify", "--trusted", &key.file, &narinfo]).error(1);
    assert!(error.contains("this is a secret key, not a public key"), "{error}");
    let empty = scratch.file("empty", b"\n");
    let error = run(narutil!["sign", "--key", &empty, &narinfo]).error(1);
    assert!(error.contains("empty: there is no secret key: the text is empty"), "{error}");
}

#[test]
fn keys_come_from_files_standard_input_and_the_environment() {
    let scratch = Scratch::new();
    let key = Key::new(&scratch, "k-1");
    let signed = key.sign(&crate::cache::narinfo(1));
    let text = format!("  {}\r\n\n", key.secret.to_text().as_str());
    let fresh = || scratch.file("a.narinfo", crate::cache::narinfo(1).as_bytes());
    let is_signed = || std::fs::read_to_string(scratch.path("a.narinfo")).unwrap() == signed;

    run_with(narutil!["sign", "--key", "-", fresh()], text.as_bytes()).ok();
    assert!(is_signed());
    for value in [&*text, key.file.to_str().unwrap()] {
        let mut command = narutil!["sign", "--key-env", "SIGNING_KEY", fresh()];
        command.env("SIGNING_KEY", value);
        run(command).ok();
        assert!(is_signed(), "{value}");
    }
    let mut push = narutil!["push", "-q", "--add", scratch.path("tree"), "--to", scratch.path("c"), "--key-env", "K"];
    push.env("K", &text);
    run(push).ok();
    run(narutil!["verify", "--trusted", key.public(), scratch.path("c")]).ok();

    for (name, value) in [("NOT_SET", None), ("EMPTY", Some(""))] {
        let mut command = narutil!["sign", "--key-env", name, fresh()];
        command.envs(value.map(|value| (name, value)));
        let error = run(command).error(2);
        assert!(error.contains(name) && error.contains("not set or empty"), "{error}");
    }
    let error = run_with(narutil!["sign", "--key", "-", "--key", "-", fresh()], text.as_bytes()).error(2);
    assert!(error.contains("only once"), "{error}");
    run_with(narutil!["sign", "--key", "-", "-"], text.as_bytes()).error(2);
    // A damaged key in a variable is not shown.
    let mut command = narutil!["sign", "--key-env", "K", fresh()];
    command.env("K", &text.trim()[..80]);
    let error = run(command).error(1);
    assert!(!error.contains(&text.trim()[10..20]), "{error}");
}

#[test]
fn trusted_keys_come_as_text_from_files_and_from_nix_conf() {
    let scratch = Scratch::new();
    let keys = ["a-1", "b-1"].map(|name| Key::new(&scratch, name));
    let narinfo = scratch.file("a.narinfo", keys[1].sign(&crate::cache::narinfo(1)).as_bytes());
    let both = format!("{} {}", keys[0].public(), keys[1].public());
    let comments = scratch.file("keys", format!("# two keys\n{both} # of the team\n").as_bytes());
    let conf = scratch.file("nix.conf", format!("cores = 2\nextra-trusted-public-keys = {both}\n").as_bytes());
    let setting = scratch.file("setting", format!("trusted-public-keys = {both}").as_bytes());
    for trusted in [both.as_ref(), comments.as_os_str(), conf.as_os_str(), setting.as_os_str()] {
        for option in ["--trusted", "--trusted-public-keys"] {
            run(narutil!["verify", option, trusted, &narinfo]).ok();
        }
    }
    let machine = |variable: &str, value: &std::ffi::OsStr| {
        let mut command = narutil!["verify", "--trusted", "nix.conf", &narinfo];
        command.current_dir("/").env("NIX_CONF_DIR", "/nonexistent").env("HOME", "/nonexistent").env(variable, value);
        run(command)
    };
    machine("NIX_CONF_DIR", scratch.path("").as_os_str()).ok();
    machine("NIX_CONFIG", format!("trusted-public-keys = {both}").as_ref()).ok();
    machine("NIX_USER_CONF_FILES", conf.as_os_str()).ok();
    let other = machine("NIX_CONFIG", "".as_ref());
    assert_eq!(other.status, Some(1), "{}", other.stderr);
    let error = machine("NIX_CONFIG", "nonsense".as_ref()).error(1);
    assert!(error.contains("NIX_CONFIG: line 1: expected NAME = VALUE"), "{error}");
}
