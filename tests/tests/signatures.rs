//! Keys, fingerprints, signatures and deviations are what real Nix takes them for.

use std::fs;
use std::path::{Path, PathBuf};

use conformance::{Nix, nixes};
use nixcache::narinfo::{DeviationKind, NarInfo, NixAccepts};
use nixcache::signature::{KeyName, SecretKey};
use nixcache::store_path::StoreDir;
use nixcache::trust::{Standing, TrustPolicy, Verifier};
use tempfile::TempDir;

const INPUT: &str = "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-input-addressed";

fn run(nix: &Nix, args: &[&str], stdin: &str) -> String {
    String::from_utf8(nix.run("nix", args, stdin.as_bytes()).unwrap()).unwrap().trim_end().to_owned()
}

fn key(name: &str) -> SecretKey {
    SecretKey::generate(KeyName::new(name).unwrap()).unwrap()
}

/// What `narinfo` says, signed over its fingerprint.
fn sign(narinfo: &str, keys: &[&SecretKey]) -> String {
    let directory = StoreDir::default();
    let info = NarInfo::parse(narinfo.as_bytes(), &directory).unwrap();
    let fingerprint = info.fingerprint().to_vec();
    let signed = keys.iter().fold(info.edit(), |edit, key| edit.sign(key.sign(&fingerprint).as_ref()));
    signed.finish().unwrap().as_str().to_owned()
}

/// The standings of a narinfo's signatures, and whether it is valid, with these keys trusted.
fn verify(narinfo: &str, keys: &[&SecretKey]) -> (bool, Vec<Standing>) {
    let policy = TrustPolicy::new(keys.iter().map(|key| key.public_key().clone()).collect());
    let directory = StoreDir::default();
    let info = NarInfo::parse(narinfo.as_bytes(), &directory).unwrap();
    let verdict = Verifier::new(&policy).verify(&info);
    (verdict.is_valid(), verdict.signatures().iter().map(|(_, standing)| *standing).collect())
}

/// A store and caches of it: an input-addressed path that refers to itself and to a
/// content-addressed one.
struct Caches<'a> {
    nix: &'a Nix,
    folder: TempDir,
    tree: String,
}

impl<'a> Caches<'a> {
    fn new(nix: &'a Nix) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "hello\n").unwrap();
        let tree = nix.run("nix-store", ["--add".as_ref(), file.as_os_str()], b"").unwrap();
        let tree = String::from_utf8(tree).unwrap().trim_end().to_owned();
        nix.add_built(INPUT, format!("{INPUT} {tree}").as_bytes(), &[INPUT, &tree], "");
        Self { nix, folder, tree }
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}", self.folder.path().canonicalize().unwrap().join(name).display())
    }

    /// Has Nix write a cache, signed by a key if there is one.
    fn write(&self, name: &str, key: Option<&SecretKey>) {
        let mut url = self.url(name) + "?compression=none";
        if let Some(key) = key {
            let file = self.folder.path().join("secret");
            fs::write(&file, key.to_text().as_bytes()).unwrap();
            url = format!("{url}&secret-key={}", file.display());
        }
        run(self.nix, &["copy", "--all", "--to", &url], "");
    }

    fn narinfo(&self, name: &str, path: &str) -> PathBuf {
        let hash_part = &path["/nix/store/".len()..][..32];
        self.folder.path().join(name).join(format!("{hash_part}.narinfo"))
    }

    fn edit(&self, name: &str, path: &str, edit: impl FnOnce(String) -> String) -> String {
        let file = self.narinfo(name, path);
        let text = edit(fs::read_to_string(&file).unwrap());
        fs::write(&file, &text).unwrap();
        text
    }

    /// Whether Nix finds that a path of a cache has as many signatures by trusted keys as it needs.
    fn nix_verifies(&self, name: &str, path: &str, required: u32, keys: &[&SecretKey]) -> bool {
        let keys: Vec<String> = keys.iter().map(|key| key.public_key().to_string()).collect();
        let (required, keys, url) = (required.to_string(), keys.join(" "), self.url(name));
        let what = ["store", "verify", "--no-contents", "--store", &url, path];
        let how = ["--sigs-needed", &required, "--option", "trusted-public-keys", &keys];
        match self.nix.run("nix", what.iter().chain(&how), b"") {
            Ok(_) => true,
            Err(failure) => {
                assert!(failure.output().contains("is untrusted"), "{failure}");
                false
            }
        }
    }

    /// Whether Nix copies a path from a cache into an empty store, which must have signatures by
    /// trusted keys.
    fn nix_copies(&self, name: &str, path: &str, key: &SecretKey) -> bool {
        let store = tempfile::tempdir().unwrap();
        let to = format!("local?root={}", store.path().canonicalize().unwrap().display());
        let (from, key) = (self.url(name), key.public_key().to_string());
        let options = ["--option", "require-sigs", "true", "--option", "trusted-public-keys", &key];
        let args = ["copy", "--option", "substituters", "", "--from", &from, "--to", &to, path];
        let copied = self.nix.run("nix", args.iter().chain(&options), b"");
        if let Err(failure) = &copied {
            let output = failure.output();
            let refused = [
                "lacks a valid signature", // 2.8
                "lacks a signature by a trusted key",
                // How 2.34 ends where a content address does not make the path.
                "Assertion 'storePathForDst == storePathForSrc' failed",
            ];
            assert!(refused.iter().any(|refused| output.contains(refused)), "{failure}");
        }
        assert_eq!(store.path().join(path.trim_start_matches('/')).exists(), copied.is_ok());
        copied.is_ok()
    }
}

#[test]
fn keys_that_nix_makes_are_read_and_written_in_the_same_bytes() {
    for nix in nixes() {
        let secret = run(&nix, &["key", "generate-secret", "--key-name", "nix-1"], "");
        let key = SecretKey::parse(&secret).unwrap();
        assert_eq!(key.to_text().as_str(), secret);
        assert_eq!(key.public_key().to_string(), run(&nix, &["key", "convert-secret-to-public"], &secret));

        let folder = tempfile::tempdir().unwrap();
        let [secret, public] = ["secret", "public"].map(|name| folder.path().join(name));
        let args = ["--generate-binary-cache-key".as_ref(), "old-1".as_ref(), secret.as_os_str(), public.as_os_str()];
        nix.run("nix-store", args, b"").unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let key = SecretKey::parse(&read(&secret)).unwrap();
        assert_eq!(key.to_text().as_str(), read(&secret));
        assert_eq!(key.public_key().to_string(), read(&public));
    }
}

#[test]
fn nix_derives_the_public_key_that_we_do() {
    for nix in nixes() {
        for name in ["a", "cache.example.org-1", "odd name/ü"] {
            let key = key(name);
            for end in ["", "\n"] {
                let secret = format!("{}{end}", key.to_text().as_str());
                let public = run(&nix, &["key", "convert-secret-to-public"], &secret);
                assert_eq!(public, key.public_key().to_string(), "Nix {}", nix.version());
            }
        }
    }
}

/// A signature of ed25519 depends on nothing but key and message: equal narinfos show that the
/// fingerprints are equal.
#[test]
fn we_sign_a_cache_in_the_same_bytes_as_nix() {
    for nix in nixes() {
        let caches = Caches::new(&nix);
        let key = key("k-1");
        caches.write("signed", Some(&key));
        caches.write("unsigned", None);
        for path in [INPUT, &caches.tree] {
            let signed = fs::read_to_string(caches.narinfo("signed", path)).unwrap();
            let unsigned = fs::read_to_string(caches.narinfo("unsigned", path)).unwrap();
            assert_ne!(signed, unsigned);
            assert_eq!(sign(&unsigned, &[&key]), signed, "Nix {}", nix.version());
            assert_eq!(verify(&signed, &[&key]), (true, vec![Standing::Holds]), "Nix {}", nix.version());
        }
    }
}

#[test]
fn nix_accepts_what_we_sign_and_refuses_it_changed() {
    for nix in nixes() {
        let caches = Caches::new(&nix);
        let keys = ["a-1", "b-1", "stranger-1"].map(key);
        let [a, b, stranger] = &keys;
        caches.write("cache", None);
        assert!(!caches.nix_verifies("cache", INPUT, 1, &[a, b]));
        assert!(!caches.nix_copies("cache", INPUT, a));
        let good = caches.edit("cache", INPUT, |text| sign(&text, &[a, b]));
        for (required, trusted, expected) in [
            (1, &[a, b][..], true),
            (2, &[a, b], true),
            (1, &[b], true),
            (2, &[b], false),
            (1, &[stranger], false),
            (3, &[a, b, stranger], false),
        ] {
            let ours = TrustPolicy::new(trusted.iter().map(|key| key.public_key().clone()).collect())
                .with(|policy| policy.required = required);
            let directory = StoreDir::default();
            let info = NarInfo::parse(good.as_bytes(), &directory).unwrap();
            assert_eq!(Verifier::new(&ours).verify(&info).is_valid(), expected);
            let theirs = caches.nix_verifies("cache", INPUT, u32::try_from(required).unwrap(), trusted);
            assert_eq!(theirs, expected, "Nix {}: {required} of {}", nix.version(), trusted.len());
        }
        assert!(caches.nix_copies("cache", INPUT, a));
        assert!(!caches.nix_copies("cache", INPUT, stranger));
        let tree = caches.tree.trim_start_matches("/nix/store/");
        let changed = [
            good.replace("NarSize: ", "NarSize: 1"),
            good.replace(&format!(" {tree}"), ""),
            // With the name of the other key.
            good.replace("Sig: a-1:", "Sig: c-1:").replace("Sig: b-1:", "Sig: a-1:"),
        ];
        for text in changed {
            assert_ne!(text, good);
            caches.edit("cache", INPUT, |_| text.clone());
            assert!(!verify(&text, &[a]).0, "{text}");
            assert!(!caches.nix_verifies("cache", INPUT, 1, &[a]), "Nix {}: {text}", nix.version());
            assert!(!caches.nix_copies("cache", INPUT, a), "Nix {}: {text}", nix.version());
        }
    }
}

#[test]
fn a_cache_signed_anew_by_us_is_copied_by_nix() {
    for nix in nixes() {
        let caches = Caches::new(&nix);
        let (old, new) = (key("old-1"), key("new-1"));
        caches.write("cache", Some(&old));
        for path in [INPUT, &caches.tree] {
            caches.edit("cache", path, |text| {
                let info = NarInfo::parse(text.as_bytes(), &StoreDir::default()).unwrap().to_owned();
                sign(info.as_ref().edit().unsign("old-1").finish().unwrap().as_str(), &[&new])
            });
        }
        assert!(caches.nix_copies("cache", INPUT, &new), "Nix {}", nix.version());
        assert!(!caches.nix_copies("cache", INPUT, &old), "Nix {}", nix.version());
    }
}

#[test]
fn content_addressed_paths_need_no_signature_unless_the_address_is_another_s() {
    for nix in nixes() {
        let caches = Caches::new(&nix);
        let key = key("k-1");
        caches.write("cache", None);
        let good = fs::read_to_string(caches.narinfo("cache", &caches.tree)).unwrap();
        let ca = good.lines().find(|line| line.starts_with("CA: ")).unwrap();
        let another = "CA: fixed:r:sha256:0yzhigwjl6bws649vcs2asa4lbs8hg93hyix187gc7s7a74w5h80";
        for (text, expected) in
            [(good.clone(), true), (good.replace(ca, another), false), (good.replace(&format!("{ca}\n"), ""), false)]
        {
            let text = caches.edit("cache", &caches.tree, |_| text);
            assert_eq!(verify(&text, &[&key]), (expected, vec![]), "{text}");
            assert_eq!(caches.nix_verifies("cache", &caches.tree, 1, &[&key]), expected, "Nix {}", nix.version());
            assert_eq!(caches.nix_copies("cache", &caches.tree, &key), expected, "Nix {}", nix.version());
        }
    }
}

/// Both versions keep references as a set, and so sign and verify them sorted, however they stand
/// in the narinfo.
#[test]
fn what_holds_only_over_references_in_file_order_is_refused_as_by_nix() {
    for nix in nixes() {
        let caches = Caches::new(&nix);
        let key = key("k-1");
        caches.write("cache", None);
        let references = [INPUT, &caches.tree].map(|path| path.trim_start_matches("/nix/store/"));
        let swapped = caches.edit("cache", INPUT, |text| {
            let (first, second) = (references[0], references[1]);
            text.replace(&format!("{first} {second}"), &format!("{second} {first}"))
        });
        let directory = StoreDir::default();
        let info = NarInfo::parse(swapped.as_bytes(), &directory).unwrap();
        assert!(info.deviates(DeviationKind::UnsortedReferences), "{swapped}");

        let as_written = key.sign(&info.fingerprint().as_written().to_vec());
        let text = caches.edit("cache", INPUT, |text| format!("{text}Sig: {as_written}\n"));
        assert_eq!(verify(&text, &[&key]), (false, vec![Standing::HoldsAsWritten]));
        assert!(!caches.nix_verifies("cache", INPUT, 1, &[&key]), "Nix {}", nix.version());
        assert!(!caches.nix_copies("cache", INPUT, &key), "Nix {}", nix.version());

        let text = caches.edit("cache", INPUT, |_| sign(&swapped, &[&key]));
        assert_eq!(verify(&text, &[&key]), (true, vec![Standing::Holds]));
        assert!(caches.nix_verifies("cache", INPUT, 1, &[&key]), "Nix {}", nix.version());
        assert!(caches.nix_copies("cache", INPUT, &key), "Nix {}", nix.version());
    }
}

/// The narinfo under the name of a path is that of another path: no program may take one for the
/// other. `nix store verify` and `nix path-info` do not look; what copies and substitutes does.
#[test]
fn nix_copies_no_path_whose_narinfo_is_that_of_another() {
    const WANTED: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-wanted";
    for nix in nixes() {
        let caches = Caches::new(&nix);
        let key = key("k-1");
        caches.write("cache", Some(&key));
        fs::copy(caches.narinfo("cache", INPUT), caches.narinfo("cache", WANTED)).unwrap();
        let store = tempfile::tempdir().unwrap();
        let to = format!("local?root={}", store.path().canonicalize().unwrap().display());
        let args =
            ["copy", "--no-check-sigs", "--option", "substituters", "", "--from", &caches.url("cache"), "--to", &to];
        let failure = nix.run("nix", args.iter().chain(&[WANTED]), b"").unwrap_err();
        assert!(failure.output().contains("is not valid"), "{failure}");
    }
}

/// narinfos that deviate in this way, in all its forms.
fn deviating(kind: DeviationKind) -> Vec<String> {
    let plain = "\
        StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a\n\
        URL: nar/a.nar\n\
        Compression: none\n\
        FileHash: sha256:14cx20k6z4hq508kqi2lm79qfld5f9mf7kiafpqsjs3zlmycza0k\n\
        FileSize: 50088\n\
        NarHash: sha256:0yzhigwjl6bws649vcs2asa4lbs8hg93hyix187gc7s7a74w5h80\n\
        NarSize: 226488\n\
        References: 00bgd045z0d4icpbc2yyz4gx48ak44la-a g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-b\n\
        Deriver: ib3sh3pcz10wsmavxvkdbayhqivbghlq-a.drv\n";
    let (one, two) = ("00bgd045z0d4icpbc2yyz4gx48ak44la-a", "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-b");
    let with = |field: &str, line: &str| -> String {
        let is_it = |line: &str| line.split(':').next() == Some(field);
        plain.lines().map(|old| if is_it(old) { line.to_owned() } else { format!("{old}\n") }).collect()
    };
    let and = |line: &str| format!("{plain}{line}\n");
    let digits = "A".repeat(86);
    match kind {
        DeviationKind::UnknownField => vec![and("Note: x"), and("storepath: x"), and(": x")],
        DeviationKind::FieldOrder => vec![with("URL", "") + "URL: nar/a.nar\n"],
        DeviationKind::MissingCompression => vec![with("Compression", "")],
        DeviationKind::EmptyCompression => vec![with("Compression", "Compression: \n")],
        DeviationKind::UnknownCompression => vec![with("Compression", "Compression: rot13\n")],
        DeviationKind::MissingReferences => vec![with("References", "")],
        DeviationKind::UnsortedReferences => vec![with("References", &format!("References: {two} {one}\n"))],
        DeviationKind::DuplicateReferences => vec![with("References", &format!("References: {one} {one}\n"))],
        DeviationKind::ReferenceSpacing => vec![
            with("References", &format!("References:  {one}\n")),
            with("References", &format!("References: {one}  {two}\n")),
            with("References", &format!("References: {one} \n")),
        ],
        DeviationKind::UnknownDeriver => vec![with("Deriver", "Deriver: unknown-deriver\n")],
        DeviationKind::DeriverNotDerivation => vec![with("Deriver", &format!("Deriver: {one}\n"))],
        DeviationKind::HashForm => {
            let hashes = [
                "sha256-AIPEV6IV4gSsg6dlk88p1NvyFWyVHe7MSQkrpTgpvPc=",
                "sha256:AIPEV6IV4gSsg6dlk88p1NvyFWyVHe7MSQkrpTgpvPc=",
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "sha256:E3B0C44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ];
            let nar = hashes.map(|hash| with("NarHash", &format!("NarHash: {hash}\n")));
            let file = hashes.map(|hash| with("FileHash", &format!("FileHash: {hash}\n")));
            let ca = hashes.iter().skip(1).map(|hash| and(&format!("CA: fixed:r:{hash}")));
            let sha1 = with("FileHash", "FileHash: sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709\n");
            nar.into_iter().chain(file).chain(ca).chain([sha1]).collect()
        }
        DeviationKind::LeadingZeros => {
            vec![
                with("NarSize", "NarSize: 007\n"),
                with("FileSize", "FileSize: 007\n"),
                with("FileSize", "FileSize: 00\n"),
            ]
        }
        DeviationKind::ZeroFileSize => vec![with("FileSize", "FileSize: 0\n")],
        DeviationKind::EmptyContentAddress => vec![and("CA: ")],
        DeviationKind::MalformedSignature => vec![
            and("Sig: rubbish"),
            and("Sig: "),
            and(&format!("Sig: :{digits}==")),
            and(&format!("Sig: k:*{}==", &digits[1..])),
        ],
        DeviationKind::UnsortedSignatures => vec![and(&format!("Sig: l:{digits}==\nSig: k:{digits}=="))],
        DeviationKind::DuplicateSignatures => vec![and(&format!("Sig: k:{digits}==\nSig: k:{digits}=="))],
        DeviationKind::MissingFinalNewline => vec![plain.trim_end().to_owned()],
        kind => panic!("no narinfo deviates as {kind}"),
    }
}

/// What we call malformed and Nix does not: it fills in padding, and overlooks bits that belong to
/// no byte.
fn signatures_that_only_nix_takes() -> [String; 4] {
    let digits = "A".repeat(86);
    [format!("k:{digits}"), format!("k:{digits}="), format!("k:{}B==", &digits[1..]), format!(" k:{digits}==")]
}

fn is_before(nix: &Nix, version: (u32, u32)) -> bool {
    let mut numbers = nix.version().split('.').map_while(|number| number.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) < version
}

#[test]
fn nix_accepts_the_deviations_that_we_say_it_accepts() {
    let directory = StoreDir::default();
    for nix in nixes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("nix-cache-info"), "StoreDir: /nix/store\n").unwrap();
        let url = format!("file://{}", folder.path().canonicalize().unwrap().display());
        let accepts = |text: &str| {
            fs::write(folder.path().join("00bgd045z0d4icpbc2yyz4gx48ak44la.narinfo"), text).unwrap();
            let path = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-a";
            let args = ["path-info", "--json", "--option", "substituters", "", "--store", &url, path];
            match nix.run("nix", args, b"") {
                Ok(printed) => {
                    assert!(String::from_utf8(printed).unwrap().contains("narHash"), "Nix {}: {text}", nix.version());
                    true
                }
                Err(failure) => {
                    let reasons = ["corrupt", "Base64"];
                    assert!(reasons.iter().any(|reason| failure.output().contains(reason)), "{failure}");
                    false
                }
            }
        };
        for kind in DeviationKind::ALL {
            for text in deviating(*kind) {
                let info = NarInfo::parse(text.as_bytes(), &directory).unwrap();
                assert!(info.deviates(*kind), "{kind}: {text}");
                let expected = match kind.nix_accepts() {
                    NixAccepts::Yes => true,
                    // Refused from 2.36 on.
                    NixAccepts::OnlyOlder if *kind == DeviationKind::UnknownCompression => is_before(&nix, (2, 36)),
                    NixAccepts::OnlyOlder => is_before(&nix, (2, 34)),
                    NixAccepts::No => false,
                    other => panic!("{other:?}"),
                };
                assert_eq!(accepts(&text), expected, "Nix {}: {kind}: {text}", nix.version());
            }
        }
        let plain = deviating(DeviationKind::MissingFinalNewline).remove(0) + "\n";
        assert!(accepts(&plain));
        // 2.34 looks for base64 of any length, 2.36 for that of a signature.
        assert_eq!(accepts(&format!("{plain}Sig: k:AAAA\n")), is_before(&nix, (2, 36)), "Nix {}", nix.version());
        for signature in signatures_that_only_nix_takes() {
            let text = format!("{plain}Sig: {signature}\n");
            let info = NarInfo::parse(text.as_bytes(), &directory).unwrap();
            assert!(info.deviates(DeviationKind::MalformedSignature), "{text}");
            assert!(accepts(&text), "Nix {}: {text}", nix.version());
        }
    }
}
