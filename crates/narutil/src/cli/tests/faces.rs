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

const SELF: &str = "in the library and in Python, the cache is the object itself";
const DEPTH: &str = "Python keeps the nesting limit of Nix";
const KEY: &str = "in the library and in Python, a key is an object";
const NAMED: &str =
    "in the library and in Python, all paths are named: `Source::open`, `Cache::list_narinfos`, `narinfos`";
const ARGUMENT: &str = "in the library, an argument of the operation";

const OPERATIONS: &[Operation] = &[
    Operation {
        command: &["push"],
        library: &["PushOptions"],
        python: ("Cache", &["push"]),
        options: &[
            ("paths", "", "paths", ARGUMENT),
            ("to", "", "", SELF),
            ("all", "", "", NAMED),
            ("keep-going", "keep_going", "keep_going", ""),
            ("from", "", "source", ARGUMENT),
            ("store", "store_root", "store", ""),
            ("root", "root", "root", ""),
            ("no-root", "", "", "in the library and in Python, the root None"),
            ("label", "root_labels", "labels", ""),
            ("verify-present", "trust_last_root", "verify_present", ""),
            ("add", "trees", "add", ""),
            ("queue", "", "", "in the library and in Python, `Queue::drain`, with the other options"),
            ("key", "keys", "keys", ""),
            ("key-env", "", "", KEY),
            ("compression", "compression", "compression", ""),
            ("no-closure", "closure", "closure", ""),
            ("skip", "skip", "skip", ""),
            ("trusted", "", "trusted", "in the library, a part of `skip`"),
            ("dry-run", "", "", "in the library, `plan_push`; in Python, `Cache.missing`"),
            ("no-listing", "listings", "listings", ""),
            ("debug-info", "debug_info", "debug_info", ""),
            ("logs", "logs", "logs", ""),
            ("threads", "threads", "threads", ""),
            ("max-depth", "limits", "", DEPTH),
            ("quiet", "progress", "progress", ""),
        ],
    },
    Operation {
        command: &["pull"],
        library: &["PullOptions"],
        python: ("Cache", &["pull"]),
        options: &[
            ("paths", "", "paths", ARGUMENT),
            ("from", "", "others", "in the library, an argument of the operation; in Python, the cache is the first"),
            ("into", "", "into", ARGUMENT),
            ("to", "", "into", ARGUMENT),
            ("nar", "", "archives", ARGUMENT),
            ("root", "root", "root", ""),
            ("roots", "", "roots", ARGUMENT),
            ("label", "root_labels", "labels", ""),
            ("key", "root_keys", "keys", ""),
            ("key-env", "", "", KEY),
            ("touch", "touch", "touch", ""),
            ("all", "", "", NAMED),
            ("keep-going", "keep_going", "keep_going", ""),
            ("trusted", "trust", "trusted", ""),
            ("no-check-sigs", "", "", "in the library and in Python, a value of the argument"),
            ("registration", "", "", "in the library and in Python, a method of the result"),
            ("no-closure", "closure", "closure", ""),
            ("check", "check", "check", ""),
            ("dry-run", "dry_run", "dry_run", ""),
            ("no-listing", "listings", "listings", ""),
            ("threads", "threads", "threads", ""),
            ("max-depth", "limits", "", DEPTH),
            ("store-dir", "store_dir", "", "in Python, that of the cache"),
            ("quiet", "progress", "progress", ""),
        ],
    },
    Operation {
        command: &["audit"],
        library: &["AuditOptions", "RepairOptions"],
        python: ("Cache", &["audit", "repair"]),
        options: &[
            ("cache", "", "", SELF),
            ("trusted", "policy", "trusted", ""),
            ("contents", "contents", "contents", ""),
            ("verbose", "notes", "notes", ""),
            ("threads", "threads", "threads", ""),
            ("max-depth", "limits", "", DEPTH),
            ("quiet", "progress", "progress", ""),
            ("repair", "", "", "in the library and in Python, an operation of its own"),
            ("dry-run", "", "dry_run", "in the library, `plan_repair`"),
            ("older-than", "older_than", "older_than", ""),
            ("from", "sources", "source", ""),
            ("store", "push", "store", ""),
            ("key", "", "keys", "in the library, a part of `push`"),
            ("key-env", "", "", KEY),
        ],
    },
    Operation {
        command: &["gc"],
        library: &["RetentionPolicy", "GcOptions"],
        python: ("Cache", &["gc"]),
        options: &[
            ("cache", "", "", SELF),
            ("", "retention", "", "holds the other options"),
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
            ("dry-run", "dry_run", "dry_run", ""),
            ("quiet", "progress", "", "in Python, the result has all that was removed"),
        ],
    },
    Operation {
        command: &["verify"],
        library: &["VerifyOptions"],
        python: ("Cache", &["verify"]),
        options: &[
            ("targets", "", "paths", ARGUMENT),
            ("trusted", "policy", "trusted", ""),
            ("require", "", "", "in the library, a part of the policy; in Python, of `TrustedKeys`"),
            ("as-written", "", "", "in the library, a part of the policy; in Python, of `TrustedKeys`"),
            ("contents", "contents", "contents", ""),
            ("threads", "threads", "threads", ""),
            ("max-depth", "limits", "", DEPTH),
            ("quiet", "progress", "", "in Python, the result says what was found"),
        ],
    },
    Operation {
        command: &["sign"],
        library: &["SignOptions"],
        python: ("Cache", &["sign"]),
        options: &[
            ("targets", "", "paths", ARGUMENT),
            ("key", "keys", "keys", ""),
            ("key-env", "", "", KEY),
            ("remove", "remove", "remove", ""),
            ("dry-run", "dry_run", "dry_run", ""),
            ("store-dir", "store_dir", "", "in Python, that of the cache"),
            ("quiet", "progress", "", "in Python, the result says what was done"),
        ],
    },
    Operation {
        command: &["narinfo", "check"],
        library: &[],
        python: ("NarInfo", &["parse"]),
        options: &[
            ("targets", "", "data", "in the library, an argument of the operation"),
            ("strict", "", "", "in the library and in Python, the caller looks at the deviations of a narinfo"),
            ("store-dir", "", "store_dir", "in the library, an argument of the operation"),
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

/// `narutil push --queue` takes the options of `narutil push`, and `Queue::drain` those of a push.
#[test]
fn a_queue_is_drained_with_the_arguments_of_a_push_except_for_what_it_publishes() {
    let mut push = arguments_of_python(("Cache", &["push"]));
    for what in ["paths", "add", "closure", "keep_going"] {
        assert!(push.remove(what), "{what}");
    }
    push.insert("cache".to_owned());
    assert_eq!(arguments_of_python(("Queue", &["drain"])), push);
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
