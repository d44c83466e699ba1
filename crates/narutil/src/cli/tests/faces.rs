//! The three faces of an operation stay equal: each option of a command is an option of the library
//! and an argument of the Python method, or the table says why it is not.
//!
//! The command line is asked; the options of the library and the arguments of Python are read from
//! the source text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::super::Cli;

/// An operation on its three faces.
struct Operation {
    /// The command, after `narutil`.
    command: &'static [&'static str],
    /// The types of the library that hold its options, as fields or as methods that set them.
    library: &'static [&'static str],
    /// The class and the methods of Python.
    python: (&'static str, &'static [&'static str]),
    options: &'static [Row],
}

/// An option of the command, a field or setter of the library, and an argument of Python. Where a
/// face does not have it, the name is empty, and the last text says why.
type Row = (&'static str, &'static str, &'static str, &'static str);

const PRESENTATION: &str = "how a program presents its results";
const SELF: &str = "in the library and in Python, the cache is the object itself";
const DEPTH: &str = "Python keeps the nesting limit of Nix";
const REPAIR: &str = "in the library, an operation of its own; Python audits, and leaves repairs to the command";
const SECRET: &str = "in the library and in Python, a key is an object";

const OPERATIONS: &[Operation] = &[
    Operation {
        command: &["push"],
        library: &["Push", "SessionRequest"],
        python: ("Cache", &["push"]),
        options: &[
            ("paths", "targets", "paths", ""),
            ("to", "", "", SELF),
            ("from", "", "source", "in the library, the caller opens the source"),
            ("store", "", "store", "in the library, each upload has the place of its tree"),
            ("root", "name", "root", ""),
            ("no-root", "", "", "in the library and in Python, the name None"),
            ("label", "labels", "labels", ""),
            ("verify-present", "trust_last_root", "verify_present", ""),
            ("add", "adds_trees", "add", ""),
            ("queue", "", "", "an operation of its own in the library; a daemon in Python calls push"),
            ("key", "keys", "keys", ""),
            ("key-env", "", "", SECRET),
            ("compression", "compression", "compression", ""),
            ("no-closure", "closure", "closure", ""),
            ("skip", "", "skip", "in the library, an argument of the selection"),
            ("trusted", "", "trusted", "in the library, an argument of the selection"),
            ("dry-run", "", "", "in the library, the selection; in Python, `Cache.missing`"),
            ("no-listing", "listings", "listings", ""),
            ("debug-info", "debug_info", "debug_info", ""),
            ("logs", "logs", "logs", ""),
            ("", "attachments", "", "realisations and logs, which all faces gather"),
            ("threads", "threads", "threads", ""),
            ("max-depth", "limits", "", DEPTH),
            ("", "watch", "progress", PRESENTATION),
        ],
    },
    Operation {
        command: &["pull"],
        library: &["Pull", "RootRequest"],
        python: ("Cache", &["pull"]),
        options: &[
            ("paths", "", "paths", "in the library, an argument of finding them"),
            ("from", "", "others", "in the library, an argument of the operation; in Python, the cache is the first"),
            ("into", "", "into", "in the library, an argument of the operation"),
            ("to", "", "into", "in the library, an argument of the operation"),
            ("nar", "", "archives", "in the library, an argument of the operation"),
            ("root", "name", "root", ""),
            ("roots", "", "roots", "in the library, an argument of finding them"),
            ("touch", "", "touch", "in the library, an operation of its own"),
            ("keep-going", "keep_going", "keep_going", ""),
            ("trusted", "", "trusted", "in the library, an argument of the operation"),
            ("no-check-sigs", "", "", "in the library and in Python, a value of the argument"),
            ("registration", "", "", "in the library and in Python, made from the result"),
            ("no-closure", "closure", "closure", ""),
            ("check", "check", "check", ""),
            ("dry-run", "", "", "in the library, finding without running; in Python, `Cache.missing`"),
            ("no-listing", "listings", "listings", ""),
            ("threads", "threads", "threads", ""),
            ("max-depth", "limits", "", DEPTH),
            ("", "labels", "", "of roots that are made for given paths; neither command nor Python makes labels"),
            ("", "keys", "", "of roots that are made for given paths; neither command nor Python signs them"),
            ("", "leave_root", "", "takes the name, the labels and the keys"),
            ("", "known", "", "narinfos that the caller has already"),
            ("", "watch", "progress", PRESENTATION),
        ],
    },
    Operation {
        command: &["audit"],
        library: &["Audit"],
        python: ("Cache", &["audit"]),
        options: &[
            ("cache", "", "", SELF),
            ("trusted", "policy", "trusted", ""),
            ("contents", "contents", "contents", ""),
            ("", "notes", "notes", "the command prints notes with -v"),
            ("threads", "threads", "threads", ""),
            ("max-depth", "limits", "", DEPTH),
            ("", "watch", "progress", PRESENTATION),
            ("repair", "", "", REPAIR),
            ("dry-run", "", "", REPAIR),
            ("older-than", "", "", REPAIR),
            ("from", "", "", REPAIR),
            ("store", "", "", REPAIR),
            ("key", "", "", REPAIR),
            ("key-env", "", "", REPAIR),
        ],
    },
    Operation {
        command: &["gc"],
        library: &["RetentionPolicy"],
        python: ("Cache", &["gc"]),
        options: &[
            ("cache", "", "", SELF),
            ("keep-last", "keep_last", "keep_last", ""),
            ("keep-within", "keep_within", "keep_within", ""),
            ("max-size", "max_size", "max_size", ""),
            ("unrooted", "unrooted", "unrooted", ""),
            ("root-path", "root_paths", "root_paths", ""),
            ("grace", "grace", "grace", ""),
            ("now", "now", "now", ""),
            ("patience", "patience", "patience", ""),
            ("rate", "rate", "rate", ""),
            ("allow-empty", "allow_empty", "allow_empty", ""),
            ("dry-run", "", "dry_run", "in the library, a collection is found, and run or not"),
        ],
    },
    Operation {
        command: &["verify"],
        library: &["TrustPolicy"],
        python: ("TrustedKeys", &["__new__", "verify_many"]),
        options: &[
            ("targets", "", "infos", "in the library, an argument of the operation"),
            ("trusted", "keys", "keys", ""),
            ("require", "required", "require", ""),
            ("as-written", "as_written", "as_written", ""),
            ("contents", "", "", "in Python, `Cache.audit`"),
            ("threads", "", "threads", "in the library, an argument of the operation"),
            ("max-depth", "", "", DEPTH),
        ],
    },
    Operation {
        command: &["sign"],
        library: &[],
        python: ("SecretKey", &["sign_many"]),
        options: &[
            ("targets", "", "infos", "in the library, an argument of the operation"),
            ("key", "", "", SECRET),
            ("key-env", "", "", SECRET),
            ("remove", "", "", "in Python, `NarInfo.unsign`"),
            ("dry-run", "", "", "in Python, signatures are made, and put into narinfos by `Cache.edit`"),
            ("threads", "", "threads", "in the library, an argument of the operation"),
        ],
    },
    Operation {
        command: &["roots"],
        library: &[],
        python: ("Cache", &["roots"]),
        options: &[("cache", "", "", SELF), ("name", "", "name", "in the library, an argument of the operation")],
    },
    Operation {
        command: &["root", "label"],
        library: &[],
        python: ("Cache", &["amend_root"]),
        options: &[
            ("cache", "", "", SELF),
            ("root", "", "root", "in the library, an argument of the operation"),
            ("generation", "", "", "in the library and in Python, part of the root"),
            ("labels", "", "labels", "in the library, an argument of the operation"),
            ("", "", "pinned", "the command has `root pin` and `root unpin`"),
        ],
    },
    Operation {
        command: &["root", "remove"],
        library: &[],
        python: ("Cache", &["remove_roots"]),
        options: &[
            ("cache", "", "", SELF),
            ("root", "", "name", "in the library, an argument of the operation"),
            ("generation", "", "generation", "in the library, an argument of the operation"),
        ],
    },
    Operation {
        command: &["info"],
        library: &["CacheOptions"],
        python: ("Cache", &["__new__"]),
        options: &[
            ("cache", "", "url", "in the library, an argument of opening it"),
            ("concurrency", "concurrency", "concurrency", ""),
            ("retries", "retries", "retries", ""),
            ("timeout", "timeout", "timeout", ""),
            ("", "connect_timeout", "", "the default is right for command and Python"),
            ("", "retry_after_max", "", "the default is right for command and Python"),
            ("store-dir", "", "store_dir", "in the library, an argument of creating it"),
            ("", "", "create", "the command creates what it publishes to"),
        ],
    },
];

#[test]
fn every_option_of_an_operation_is_on_all_three_faces_or_on_the_list_with_the_reason() {
    let mut faults = Vec::new();
    for operation in OPERATIONS {
        let name = operation.command.join(" ");
        let of = |face: fn(&Row) -> &'static str| -> BTreeSet<String> {
            operation.options.iter().map(face).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let mut compare = |face: &str, listed: BTreeSet<String>, found: BTreeSet<String>| {
            faults.extend(found.difference(&listed).map(|option| format!("{name}: {face} `{option}` is not listed")));
            faults.extend(listed.difference(&found).map(|option| format!("{name}: {face} has no `{option}`")));
        };
        compare("command", of(|row| row.0), options_of_command(operation, &of(|row| row.0)));
        if !operation.library.is_empty() {
            compare("library", of(|row| row.1), options_of_library(operation.library));
        }
        compare("Python", of(|row| row.2), arguments_of_python(operation.python));
        for (command, library, python, reason) in operation.options {
            let is_absent = command.is_empty() || library.is_empty() || python.is_empty();
            if is_absent && reason.is_empty() && !(operation.library.is_empty() && library.is_empty()) {
                faults.push(format!("{name}: `{command}{library}{python}` needs a reason"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The options and arguments of a command. Those that every command shares count where the table
/// lists them.
fn options_of_command(operation: &Operation, listed: &BTreeSet<String>) -> BTreeSet<String> {
    const SHARED: &[&str] =
        &["json", "quiet", "verbose", "threads", "store-dir", "help", "concurrency", "retries", "timeout", "max-depth"];
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for name in operation.command {
        command = command.find_subcommand(name).unwrap_or_else(|| panic!("no command {name}"));
    }
    let name = |argument: &clap::Arg| argument.get_long().map_or_else(|| argument.get_id().to_string(), str::to_owned);
    let is_meant = |name: &String| !SHARED.contains(&name.as_str()) || listed.contains(name);
    command.get_arguments().filter(|argument| !argument.is_hide_set()).map(name).filter(is_meant).collect()
}

/// The public fields of structs of the library, and the methods that set one of their options.
fn options_of_library(types: &[&str]) -> BTreeSet<String> {
    let mut options = BTreeSet::new();
    let crates = workspace().join("crates");
    let mut files = Vec::new();
    sources(&crates.join("nixcache/src"), &mut files);
    sources(&crates.join("nixcache-client/src"), &mut files);
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    for name in types {
        let mut is_known = false;
        for text in &texts {
            let fields = block(text, &format!("pub struct {name} {{"));
            is_known |= fields.is_some();
            for line in fields.unwrap_or_default().lines() {
                if let Some((field, _)) = line.trim().strip_prefix("pub ").and_then(|line| line.split_once(':')) {
                    options.insert(field.to_owned());
                }
            }
            if fields.is_none() {
                continue;
            }
            for line in block(text, &format!("\nimpl {name} {{")).unwrap_or_default().lines() {
                let setter = line.trim().strip_prefix("pub fn ").and_then(|line| line.split_once('('));
                if let Some((method, rest)) = setter
                    && (rest.starts_with("self, ") || rest.starts_with("mut self, "))
                    && method != "with"
                {
                    options.insert(method.to_owned());
                }
            }
        }
        assert!(is_known, "the library has no public struct {name}");
    }
    options
}

/// The arguments of methods of a Python class, by its stub.
fn arguments_of_python((class, methods): (&str, &[&str])) -> BTreeSet<String> {
    let stub = std::fs::read_to_string(workspace().join("bindings/python/python/nixcache/__init__.pyi")).unwrap();
    let class = stub.split_once(&format!("\nclass {class}:")).unwrap().1;
    let class = class.split("\nclass ").next().unwrap_or_default();
    let mut arguments = BTreeSet::new();
    for method in methods {
        let rest = class.split_once(&format!("    def {method}(")).unwrap_or_else(|| panic!("no method {method}")).1;
        let signature = rest.split_once(") ->").unwrap().0;
        let without_comments = |line: &str| line.split('#').next().unwrap_or_default().to_owned();
        let signature: String = signature.lines().map(without_comments).collect();
        let mut depth = 0;
        let at_top = |character: char| {
            depth += i32::from("[(".contains(character)) - i32::from("])".contains(character));
            character == ',' && depth == 0
        };
        let names = signature.split(at_top).map(|argument| argument.split([':', '=']).next().unwrap_or_default());
        let is_name = |name: &&str| !["", "self", "cls", "*", "/"].contains(name);
        arguments.extend(names.map(str::trim).filter(is_name).map(str::to_owned));
    }
    arguments
}

/// What stands between an opening line and the brace that closes it.
fn block<'a>(text: &'a str, opening: &str) -> Option<&'a str> {
    let rest = text.split_once(opening)?.1;
    rest.split("\n}\n").next()
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
