//! Path infos are read from what real Nix prints, of stores and of caches, and written in the same
//! bytes.

use std::fs;
use std::path::Path;

use conformance::{Nix, nixes};
use nixcache::path_info::{JsonVersion, PathInfo, PathInfos};
use nixcache::store_path::StoreDir;

const INPUT: &str = "/nix/store/g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-input-addressed";
const NOT_THERE: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-not-there";

fn number(nix: &Nix) -> (u32, u32) {
    let mut numbers = nix.version().split('.').map_while(|number| number.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn run(nix: &Nix, program: &str, args: &[&str]) -> String {
    String::from_utf8(nix.run(program, args, b"").unwrap()).unwrap().trim_end().to_owned()
}

/// Puts paths of all kinds into the store, and the closures of all into a cache beside it.
fn fill(nix: &Nix, folder: &Path) -> Vec<String> {
    let file = folder.join("a");
    fs::write(&file, "hello\n").unwrap();
    let file = file.to_str().unwrap();
    let tree = run(nix, "nix-store", &["--add", file]);
    let mut paths = vec![tree.clone()];
    paths.push(run(nix, "nix-store", &["--add-fixed", "sha256", file]));
    paths.push(run(nix, "nix-store", &["--add-fixed", "sha1", file]));
    let derivation = "derivation { name = \"d\"; system = \"s\"; builder = \"b\"; of = builtins.toFile \"t\" \"x\"; }";
    paths.push(run(nix, "nix-instantiate", &["-E", derivation]));
    let deriver = paths.last().unwrap().clone();
    paths.push(run(nix, "nix-store", &["-q", "--references", &deriver]));
    nix.add_built(INPUT, format!("{INPUT} {tree}").as_bytes(), &[INPUT, &tree], &deriver);
    paths.push(INPUT.to_owned());

    // Names that sort otherwise with the colon after them, and many keys of one name, so that bytes
    // sort otherwise than their base64.
    for (index, name) in ["a", "a-1", "b", "b", "b", "b", "b", "b"].into_iter().enumerate() {
        let [secret, public] = ["secret", "public"].map(|end| folder.join(format!("{index}.{end}")));
        let [secret, public] = [secret.to_str().unwrap(), public.to_str().unwrap()];
        run(nix, "nix-store", &["--generate-binary-cache-key", name, secret, public]);
        let sign = if number(nix) < (2, 4) { "sign-paths" } else { "sign" };
        run(nix, "nix", &["store", sign, "-k", secret, INPUT]);
    }
    paths
}

/// The forms in which a version of Nix prints, and how it is asked for each.
fn forms(nix: &Nix) -> Vec<(JsonVersion, &'static [&'static str])> {
    match number(nix) {
        (0..=1, _) | (2, 0..=18) => vec![(JsonVersion::List, &[])],
        (2, 19..=32) => vec![(JsonVersion::Map, &[])],
        _ => vec![
            (JsonVersion::V1, &[]),
            (JsonVersion::V1, &["--json-format", "1"]),
            (JsonVersion::V2, &["--json-format", "2"]),
            (JsonVersion::V3, &["--json-format", "3"]),
        ],
    }
}

/// What is printed; nothing if this Nix does not know the form.
fn print(nix: &Nix, form: &[&str], store: &[&str], paths: &[String]) -> Option<String> {
    let mut args = vec!["path-info", "--json", "--option", "substituters", ""];
    args.extend(form.iter().chain(store));
    args.extend(paths.iter().map(String::as_str));
    match nix.run("nix", args, b"") {
        Ok(printed) => Some(String::from_utf8(printed).unwrap().trim_end().to_owned()),
        Err(failure) if failure.output().contains("unsupported path info JSON format") => None,
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn what_nix_prints_is_read_and_written_in_the_same_bytes() {
    let store_dir = StoreDir::default();
    for nix in nixes() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = fill(&nix, folder.path());
        let cache = format!("file://{}", folder.path().join("cache").display());
        run(&nix, "nix", &["copy", "--all", "--to", &format!("{cache}?compression=zstd")]);
        // Asked for a derivation, old versions build it.
        paths.retain(|path| !store_dir.parse(path).unwrap().is_derivation());
        paths.push(NOT_THERE.to_owned());
        for (store, is_cache) in [(&[][..], false), (&["--store", &cache], true)] {
            let all = ["--all".to_owned()];
            compare(&nix, &paths, store, |infos| {
                assert_eq!((infos.valid.len(), infos.invalid.len()), (5, 1), "{infos:#?}");
                check_input_addressed(infos, is_cache, false);
            });
            compare(&nix, &all, &[store, &["-S"]].concat(), |infos| {
                assert_eq!((infos.valid.len(), infos.invalid.len()), (6, 0), "{infos:#?}");
                check_input_addressed(infos, is_cache, true);
            });
        }
    }
}

/// Has Nix print in all forms that it knows, and compares.
fn compare(nix: &Nix, paths: &[String], flags: &[&str], check: impl Fn(&PathInfos)) {
    let store_dir = StoreDir::default();
    let mut seen: Vec<PathInfos> = Vec::new();
    for (version, form) in forms(nix) {
        let Some(printed) = print(nix, form, flags, paths) else { continue };
        let infos = PathInfos::parse_json(printed.as_bytes(), &store_dir)
            .unwrap_or_else(|error| panic!("Nix {}: {error}: {printed}", nix.version()));
        check(&infos);
        let mut written = Vec::new();
        infos.write_json(version, &store_dir, &mut written).unwrap();
        // From 2.9 to 2.18 keys are in order, and entries say that they are valid.
        if version != JsonVersion::List || number(nix) < (2, 9) {
            assert_eq!(String::from_utf8(written).unwrap(), printed, "Nix {}", nix.version());
        }
        seen.push(infos);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "Nix {}: {seen:#?}", nix.version());
}

fn check_input_addressed(infos: &PathInfos, is_cache: bool, closures: bool) {
    let is_it = |info: &&PathInfo| INPUT.ends_with(info.path.as_str());
    let info = infos.valid.iter().find(is_it).unwrap();
    assert_eq!((info.references.len(), info.signatures.len()), (2, 8), "{info:?}");
    assert!(info.deriver.is_some() && info.ca.is_none() && !info.ultimate, "{info:?}");
    assert_eq!(info.registration_time.is_some(), !is_cache, "{info:?}");
    assert_eq!(info.closure_size.is_some(), closures, "{info:?}");
    assert_eq!(info.download.is_some(), is_cache, "{info:?}");
    if let Some(download) = &info.download {
        assert!(download.url.ends_with(".nar.zst"), "{download:?}");
        assert!(download.file_hash.is_some() && download.file_size.is_some(), "{download:?}");
        assert_eq!(download.closure_size.is_some(), closures, "{download:?}");
    }
}
