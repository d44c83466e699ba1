//! What `--json` prints is what the schemas in `docs/reference/schemas` describe.
//!
//! The schemas use a small part of JSON Schema, which [`check`] knows. They allow no key that they
//! do not describe, so a new key needs a line in the reference.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use conformance::{Answer, WebServer};
use serde_json::Value;

use crate::narutil::{Ran, Scratch, narutil, run};

/// Says what in `value` is not as `schema` describes it, and where.
fn check(schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{place}: {what}: {value}"));
    for word in schema.as_object().unwrap().keys() {
        let known = [
            "$schema",
            "title",
            "description",
            "type",
            "enum",
            "minimum",
            "items",
            "properties",
            "required",
            "additionalProperties",
        ];
        assert!(known.contains(&word.as_str()), "{place}: the checker does not know {word}");
    }
    if let Some(values) = schema.get("enum") {
        return if values.as_array().unwrap().contains(value) { Ok(()) } else { wrong(format!("none of {values}")) };
    }
    let is_of = |name: &Value| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{place}: the checker does not know the type {other}"),
    };
    let names = &schema["type"];
    if !names.as_array().map_or_else(|| is_of(names), |names| names.iter().any(is_of)) {
        return wrong(format!("is not of type {names}"));
    }
    if let (Some(least), Some(number)) = (schema.get("minimum").and_then(Value::as_f64), value.as_f64())
        && number < least
    {
        return wrong(format!("is below {least}"));
    }
    if let (Some(values), Some(items)) = (value.as_array(), schema.get("items")) {
        for (index, value) in values.iter().enumerate() {
            check(items, value, &format!("{place}[{index}]"))?;
        }
    }
    let Some(members) = value.as_object() else { return Ok(()) };
    for (key, value) in members {
        let place = format!("{place}.{key}");
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(schema), _) => check(schema, value, &place)?,
            (None, rest @ Value::Object(_)) => check(rest, value, &place)?,
            (None, _) => return Err(format!("{place}: a key that the schema does not describe")),
        }
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(key.as_str().unwrap()) {
            return wrong(format!("lacks {key}"));
        }
    }
    Ok(())
}

/// The schemas, and which of them have seen a document.
struct Schemas {
    folder: PathBuf,
    seen: BTreeSet<String>,
}

impl Schemas {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/schemas");
        Self { folder, seen: BTreeSet::new() }
    }

    /// Checks every document in `text`, one a line, and gives them. There must be one.
    fn check(&mut self, name: &str, text: &str) -> Vec<Value> {
        let schema = fs::read_to_string(self.folder.join(format!("{name}.json"))).unwrap();
        let schema: Value = serde_json::from_str(&schema).unwrap();
        let documents: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!documents.is_empty(), "{name}: nothing was printed");
        for document in &documents {
            check(&schema, document, name).unwrap();
        }
        self.seen.insert(name.to_owned());
        documents
    }

    /// Checks what a command prints with `--json`.
    fn run(&mut self, name: &str, mut command: Command) -> Vec<Value> {
        let Ran { stdout, stderr, .. } = run({
            command.arg("--json");
            command
        });
        let text = String::from_utf8(stdout).unwrap();
        assert!(!text.is_empty(), "{name}: {stderr}");
        self.check(name, &text)
    }

    /// The schemas in the folder, or in a folder below it.
    fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.is_file());
        files.map(|path| format!("{folder}{}", path.file_stem().unwrap().to_str().unwrap())).collect()
    }
}

#[test]
fn the_output_of_every_command_is_what_its_schema_describes() {
    let scratch = Scratch::new();
    let mut schemas = Schemas::read();
    let [tree, nar, key, public, cache] = ["tree", "nar", "key", "public", "cache"].map(|name| scratch.path(name));

    // Archives. `pack` and `unpack` print on standard error.
    let packed = run(narutil!["--json", "pack", &tree, "-o", &nar]);
    schemas.check("pack", &packed.stderr);
    schemas.check("pack", &run(narutil!["--json", "unpack", &nar, scratch.path("copy")]).stderr);
    schemas.run("pack", narutil!["hash", &tree, &nar]);
    schemas.run("pack", narutil!["hash", "--flat", tree.join("text")]);
    schemas.run("check", narutil!["check", &nar, tree.join("text")]);

    // Keys.
    schemas.run("key-generate", narutil!["key", "generate", "example-1", "-o", &key, "--public", &public]);
    schemas.run("key-generate", narutil!["key", "generate", "example-2"]);
    schemas.run("key-public", narutil!["key", "public", &key]);

    // A cache with two paths, of which one refers to the other.
    let add = |name: &str, tree: &Path| format!("{name}={}", tree.display());
    let libraries = narutil!["push", "--to", &cache, "--key", &key, "--label", "a=b", "--add", add("library", &tree)];
    let pushed = schemas.run("push", libraries).remove(0);
    let library = pushed["added"][0].as_str().unwrap().to_owned();
    let candidates = scratch.file("candidates", format!("{library}\n").as_bytes());
    fs::write(tree.join("text"), &library).unwrap();
    schemas.run("scan", narutil!["scan", &tree, "--candidates", &candidates]);

    // Path infos, of which a source knows no trees but enough to walk.
    let hash_part = &library["/nix/store/".len()..][..32];
    let narinfo = cache.join(format!("{hash_part}.narinfo"));
    let odd = scratch.path("odd.narinfo");
    fs::write(&odd, format!("{}X-Odd: yes\n", fs::read_to_string(&narinfo).unwrap())).unwrap();
    schemas.run("narinfo-show", narutil!["narinfo", "show", &narinfo, &odd]);
    schemas.run("narinfo-check", narutil!["narinfo", "check", &narinfo, &odd, &key]);
    let app = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app";
    let infos = serde_json::json!([
        {"path": library, "narHash": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", "narSize": 10,
         "references": []},
        {"path": app, "narHash": "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", "narSize": 20,
         "references": [library, "/nix/store/26xbg1ndr7hbcncrlf9nhx5is2b25d13-hole"], "signatures": ["a-1:c2ln"]},
    ]);
    let source = format!("json:{}", scratch.file("infos.json", infos.to_string().as_bytes()).display());
    schemas.run("closure", narutil!["closure", app, "--from", &source]);
    schemas.run("diff", narutil!["diff", app, "--from", &source, "--to", &cache]);
    schemas.run("why", narutil!["why", app, &library, "--from", &source]);
    schemas.run("why-all", narutil!["why", "--all", app, "library", "--from", &source]);
    schemas.run("ls-cache", narutil!["ls", &cache]);
    schemas.run("doctor", narutil!["doctor", &cache]);
    let registration = format!("registration:{}", scratch.path("registration").display());
    schemas.run("why", narutil!["why", &library, app, "--from", &source]);
    schemas.run("convert", narutil!["convert", &library, "--from", &cache, "--to", registration]);

    // Signatures.
    let second = scratch.path("second");
    run(narutil!["key", "generate", "example-3", "-o", &second]).ok();
    schemas.run("sign", narutil!["sign", "--key", &second, &cache]);
    schemas.run("verify", narutil!["verify", "--trusted", &public, &cache, &odd, &key]);
    schemas.run("verify", narutil!["verify", "--trusted", &public, "--contents", &cache]);

    // Fetching.
    let pull = |rest: &[&Path]| {
        let mut command = narutil!["pull", &library, "--from", &cache, "--trusted", &public];
        command.args(rest);
        command
    };
    let [into, to] = [scratch.path("root"), scratch.path("copied")];
    schemas.run("dry-run", pull(&["--dry-run".as_ref(), "--into".as_ref(), &into]));
    schemas.run("dry-run", narutil!["push", "--dry-run", "--add", &tree, "--to", &cache]);
    schemas.run("pull", pull(&["--into".as_ref(), &into]));
    schemas.run("pull", pull(&["--to".as_ref(), &to]));
    schemas.run("pull", narutil!["pull", "--roots", "--from", &cache, "--trusted", &public, "--to", &to]);

    // A queue, with an entry that cannot be published.
    let queue = scratch.path("queue");
    fs::create_dir(&queue).unwrap();
    fs::write(queue.join("1"), app).unwrap();
    schemas.run("push", narutil!["push", "--queue", &queue, "--from", &source, "--store", &into, "--to", &cache]);

    // Looking after a cache, which is damaged at last.
    schemas.run("info", narutil!["info", &cache]);
    schemas.run("roots", narutil!["roots", &cache]);
    for nar in fs::read_dir(cache.join("nar")).unwrap() {
        fs::remove_file(nar.unwrap().path()).unwrap();
    }
    schemas.run("audit", narutil!["audit", &cache, "--trusted", &public]);
    run(narutil!["root", "remove", &to, "default"]).ok();
    schemas.run("gc", narutil!["gc", &to, "--grace", "0s", "--allow-empty", "--unrooted", "remove", "--now"]);

    assert_eq!(schemas.seen, schemas.names(""), "a schema without a document");
}

/// All files in a folder and in the folders of it, as JSON on one line each.
fn documents(folder: &Path) -> String {
    let mut lines = String::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lines += &documents(&path);
        } else if let Ok(document) = serde_json::from_slice::<Value>(&fs::read(&path).unwrap_or_default()) {
            lines += &document.to_string();
            lines.push('\n');
        }
    }
    lines
}

#[test]
fn the_objects_in_a_cache_are_what_their_schemas_describe() {
    let scratch = Scratch::new();
    let mut schemas = Schemas::read();
    let [key, public, from, to] = ["key", "public", "from", "to"].map(|name| scratch.path(name));
    run(narutil!["key", "generate", "example-1", "-o", &key, "--public", &public]).ok();
    let push = narutil!["push", "--to", &from, "--key", &key, "--label", "a=b", "--add", scratch.path("tree")];
    let path = run(push).text();
    schemas.check("store/root", &documents(&from.join("nixcache/v1/roots")));

    // The server shows what is claimed in the cache that is written to while it is asked for a NAR.
    let (shown, written) = (from.clone(), to.join("nixcache/v1/leases"));
    let claims = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&claims);
    let server = WebServer::start(move |request| {
        if request.path.starts_with("/nar/") {
            *seen.lock().unwrap() += &documents(&written);
        }
        match fs::read(shown.join(request.path.trim_start_matches('/'))) {
            Ok(body) => Answer::new(200, body),
            Err(_) => Answer::new(404, ""),
        }
    });
    run(narutil!["pull", path.trim(), "--from", server.url(), "--trusted", &public, "--to", &to]).ok();
    schemas.check("store/claim", &claims.lock().unwrap());

    run(narutil!["gc", &to, "--grace", "0s", "--allow-empty", "--unrooted", "remove"]).ok();
    schemas.check("store/condemned", &fs::read_to_string(to.join("nixcache/v1/condemned.json")).unwrap());
    assert_eq!(schemas.seen, schemas.names("store/"), "a schema without a document");
}
