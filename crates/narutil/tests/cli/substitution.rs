//! Keys, signatures and caches are compatible in both directions between `narutil` and real Nix.

use std::fs;
use std::path::PathBuf;

use conformance::{Nix, nixes};
use nixcache::signature::{PublicKey, SignatureRef};
use serde_json::Value;
use tempfile::TempDir;

use crate::cache::Key;
use crate::narutil::{Scratch, narutil, run};

const INPUT: &str = "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-input-addressed";

/// A Nix whose store has a path that refers to itself and to another.
struct Publisher {
    nix: Nix,
    folder: TempDir,
}

impl Publisher {
    fn all() -> Vec<Self> {
        let publisher = |nix: Nix| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a");
            fs::write(&file, "hello\n".repeat(1000)).unwrap();
            let tree = nix.run("nix-store", ["--add".as_ref(), file.as_os_str()], b"").unwrap();
            let tree = String::from_utf8(tree).unwrap();
            let tree = tree.trim_end();
            nix.add_built(INPUT, format!("{INPUT} {tree}").as_bytes(), &[INPUT, tree], "");
            Self { nix, folder }
        };
        nixes().into_iter().map(publisher).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    fn nix(&self, args: &[&str]) -> Result<String, conformance::Failure> {
        let args = args.iter().chain(&["--option", "substituters", ""]);
        self.nix.run("nix", args, b"").map(|printed| String::from_utf8(printed).unwrap())
    }

    /// Has Nix publish its store.
    fn publish(&self, name: &str, parameters: &str) -> PathBuf {
        self.nix(&["copy", "--all", "--to", &format!("{}?{parameters}", self.url(name))]).unwrap();
        self.path(name)
    }

    /// Whether Nix finds everything in a cache signed by a key.
    fn verifies(&self, name: &str, public: &str) -> bool {
        let url = self.url(name);
        let args = ["store", "verify", "--all", "--store", &url, "--sigs-needed", "1"];
        self.nix(&[&args[..], &["--option", "trusted-public-keys", public]].concat()).is_ok()
    }

    /// Whether Nix takes the path from a cache into an empty store if it trusts a key.
    fn substitutes(&self, name: &str, public: &str) -> bool {
        let store = tempfile::tempdir().unwrap();
        let to = format!("local?root={}", store.path().canonicalize().unwrap().display());
        let args = ["copy", "--from", &self.url(name), "--to", &to, INPUT, "--option", "require-sigs", "true"];
        self.nix(&[&args[..], &["--option", "trusted-public-keys", public]].concat()).is_ok()
    }
}

#[test]
fn nix_takes_the_caches_that_narutil_signs_until_they_are_tampered_with() {
    for publisher in Publisher::all() {
        let version = publisher.nix.version();
        let scratch = Scratch::new();
        let (key, old) = (Key::new(&scratch, "new-1"), Key::new(&scratch, "old-1"));
        let unsigned = publisher.publish("unsigned", "compression=xz");
        let signed = publisher.publish("signed", &format!("compression=xz&secret-key={}", old.file.display()));
        assert!(!publisher.substitutes("unsigned", &key.public()), "Nix {version}");
        assert!(publisher.substitutes("signed", &old.public()), "Nix {version}");
        for (name, cache) in [("unsigned", &unsigned), ("signed", &signed)] {
            run(narutil!["sign", "--key", &key.file, "--remove", "old-1", cache]).ok();
            run(narutil!["verify", "--contents", "--trusted", key.public(), cache]).ok();
            assert!(publisher.verifies(name, &key.public()), "Nix {version}");
            assert!(publisher.substitutes(name, &key.public()), "Nix {version}");
            assert!(!publisher.substitutes(name, &old.public()), "Nix {version}");
        }
        let narinfo = signed.join("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q.narinfo");
        let good = fs::read_to_string(&narinfo).unwrap();
        assert_eq!(good, fs::read_to_string(unsigned.join(narinfo.file_name().unwrap())).unwrap());
        for (field, other) in
            [("NarSize: ", "NarSize: 1"), ("References: g", "References: h"), ("Sig: new-1", "Sig: x-1")]
        {
            fs::write(&narinfo, good.replace(field, other)).unwrap();
            assert!(!publisher.substitutes("signed", &key.public()), "Nix {version}: {other}");
            let ours = run(narutil!["verify", "--trusted", key.public(), &narinfo]);
            assert_eq!(ours.status, Some(1), "{other}");
        }
    }
}

#[test]
fn narutil_takes_what_nix_signs_in_every_compression() {
    for publisher in Publisher::all() {
        let version = publisher.nix.version();
        let scratch = Scratch::new();
        let (key, second) = (Key::new(&scratch, "k-1"), Key::new(&scratch, "a-1"));
        for compression in ["none", "xz", "zstd", "bzip2", "gzip", "br", "lzma", "lz4"] {
            let cache =
                publisher.publish(compression, &format!("compression={compression}&secret-key={}", key.file.display()));
            let url = publisher.url(compression);
            let secret = second.file.to_str().unwrap();
            publisher.nix(&["store", "sign", "--all", "--store", &url, "--key-file", secret]).unwrap();
            let keys = narutil!["verify", "--contents", "--require", "2", "--trusted", key.public(), "--trusted"];
            let mut command = keys;
            command.arg(second.public()).arg(&cache);
            let ran = run(command);
            assert_eq!(ran.stderr, "2 ok, 0 bad\n", "Nix {version}: {compression}");
            let printed = ran.text();
            assert_eq!(printed.lines().count(), 2, "Nix {version}: {compression}: {printed}");
            assert!(printed.contains(&format!("ok  {INPUT}  a-1  k-1\n")), "Nix {version}: {compression}: {printed}");
            assert_eq!(run(narutil!["narinfo", "check", "--strict", &cache]).text(), "ok\nok\n");
            // Signed as we would have, so that nothing is left to do.
            let again = run(narutil!["sign", "--key", &key.file, "--key", &second.file, &cache]);
            assert_eq!(again.stderr, "0 of 2 narinfos changed\n", "Nix {version}: {compression}");
        }
    }
}

#[test]
fn fingerprint_is_what_nix_signs() {
    for publisher in Publisher::all() {
        let scratch = Scratch::new();
        let key = Key::new(&scratch, "k-1");
        let cache = publisher.publish("cache", &format!("compression=none&secret-key={}", key.file.display()));
        let narinfo = cache.join("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q.narinfo");
        let fingerprint = run(narutil!["narinfo", "fingerprint", &narinfo]).ok();
        let text = fs::read_to_string(&narinfo).unwrap();
        let signature = text.lines().find_map(|line| line.strip_prefix("Sig: ")).unwrap();
        let signature = SignatureRef::parse(signature).unwrap();
        let public = PublicKey::parse(&key.public()).unwrap();
        assert!(signature.verify_by(&public, &fingerprint), "Nix {}", publisher.nix.version());
    }
}

#[test]
fn keys_go_both_ways() {
    for nix in nixes() {
        let version = nix.version();
        let scratch = Scratch::new();
        let ours = run(narutil!["key", "generate", "our-1"]).ok();
        let file = scratch.file("ours", &ours);
        let public = nix.run("nix", ["key", "convert-secret-to-public"], &ours).unwrap();
        let public = String::from_utf8(public).unwrap();
        assert_eq!(run(narutil!["key", "public", &file]).text().trim_end(), public.trim_end(), "Nix {version}");

        let theirs = nix.run("nix", ["key", "generate-secret", "--key-name", "their-1"], b"").unwrap();
        let public = nix.run("nix", ["key", "convert-secret-to-public"], &theirs).unwrap();
        let file = scratch.file("theirs", &theirs);
        let public = String::from_utf8(public).unwrap();
        assert_eq!(run(narutil!["key", "public", &file]).text().trim_end(), public.trim_end(), "Nix {version}");

        let [secret, public] = ["old", "old.pub"].map(|name| scratch.path(name));
        let args = ["--generate-binary-cache-key".as_ref(), "old-1".as_ref(), secret.as_os_str(), public.as_os_str()];
        nix.run("nix-store", args, b"").unwrap();
        let public = fs::read_to_string(&public).unwrap();
        assert_eq!(run(narutil!["key", "public", &secret]).text().trim_end(), public.trim_end(), "Nix {version}");
    }
}

#[test]
fn show_json_is_what_nix_prints_of_a_cache() {
    for publisher in Publisher::all() {
        let is_old = publisher.nix.version().starts_with("2.8.");
        let scratch = Scratch::new();
        let key = Key::new(&scratch, "k-1");
        let cache = publisher.publish("cache", &format!("compression=xz&secret-key={}", key.file.display()));
        let url = publisher.url("cache");
        let mut args = vec!["path-info", "--json", "--all", "--store", &url];
        args.extend(["--json-format", "1"].iter().filter(|_| !is_old));
        let theirs: Value = serde_json::from_str(&publisher.nix(&args).unwrap()).unwrap();
        let ours = run(narutil!["narinfo", "show", "--json", &cache]).text();
        let mut count = 0;
        for line in ours.lines() {
            let mut ours: Value = serde_json::from_str(line).unwrap();
            let fields = ours.as_object_mut().unwrap();
            assert_eq!(fields.remove("deviations"), Some(Value::Array(Vec::new())));
            assert_eq!(fields["compression"], "xz");
            let path = fields["path"].clone();
            count += 1;
            if is_old {
                // Which leaves out what is unknown, and some of what is known.
                let theirs = theirs.as_array().unwrap().iter().find(|info| info["path"] == path).unwrap();
                for (name, value) in theirs.as_object().unwrap() {
                    assert_eq!(fields.get(name), Some(value), "{name}");
                }
            } else {
                fields.remove("path");
                assert_eq!(ours, theirs[path.as_str().unwrap()], "Nix {}", publisher.nix.version());
            }
        }
        assert!(count > 0);
    }
}
