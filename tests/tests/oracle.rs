//! The naive NAR writer that other tests compare with says what real Nix says.

use std::collections::BTreeMap;
use std::fs;

use conformance::{TreeNode, any_forest, any_tree, for_all, nixes, read_tree, write_tree};
use proptest::test_runner::TestCaseResult;
use proptest::{prop_assert, prop_assert_eq};
use tempfile::TempDir;

#[test]
fn naive_nar_is_what_nix_dumps_and_restores() {
    let nixes = nixes();
    if nixes.is_empty() {
        return;
    }
    let agree = |tree: TreeNode| -> TestCaseResult {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree");
        write_tree(&tree, &path).unwrap();
        prop_assert_eq!(&read_tree(&path).unwrap(), &tree);
        let nar = tree.to_nar();
        for (index, nix) in nixes.iter().enumerate() {
            let version = nix.version();
            prop_assert!(nix.dump(&path).unwrap() == nar, "Nix {version} dumps another NAR");
            let restored = dir.path().join(format!("restored-{index}"));
            nix.restore(&nar, &restored).unwrap();
            prop_assert_eq!(&read_tree(&restored).unwrap(), &tree, "restored by Nix {}", version);
        }
        Ok(())
    };
    // Few cases of many trees each, since starting Nix costs more than all its work here; and some
    // whose root is a file or a link.
    for_all(24, any_forest(), agree);
    for_all(16, any_tree(), agree);
}

#[test]
fn hash_path_is_the_hash_of_the_nar() {
    let (dir, tree) = small_tree();
    let nar = dir.path().join("tree.nar");
    fs::write(&nar, tree.to_nar()).unwrap();
    for nix in nixes() {
        let flat = nix.run("nix", ["hash".as_ref(), "file".as_ref(), nar.as_os_str()], b"").unwrap();
        assert_eq!(nix.hash_path(&dir.path().join("tree")).unwrap(), String::from_utf8_lossy(&flat).trim_end());
    }
}

#[test]
fn listing_says_where_contents_begin() {
    let (_dir, tree) = small_tree();
    let nar = tree.to_nar();
    let offset = nar.windows(CONTENTS.len()).position(|window| window == CONTENTS).unwrap();
    for nix in nixes() {
        let listing = nix.ls_json(&nar).unwrap();
        assert!(listing.contains(&format!("\"narOffset\":{offset}")), "{listing}");
    }
}

#[test]
fn each_nix_has_a_store_of_its_own_that_calls_itself_nix_store() {
    let (dir, _) = small_tree();
    for nix in nixes() {
        let added = nix.run("nix-store", ["--add".as_ref(), dir.path().join("tree").as_os_str()], b"").unwrap();
        let added = String::from_utf8(added).unwrap();
        let name = added.trim_end().strip_prefix("/nix/store/").unwrap();
        assert!(nix.physical_store().join(name).is_dir(), "{name}");
    }
}

const CONTENTS: &[u8] = b"Hello, NAR!";

/// `tree` in a new directory, holding one executable file.
fn small_tree() -> (TempDir, TreeNode) {
    let dir = tempfile::tempdir().unwrap();
    let file = TreeNode::File { executable: true, contents: CONTENTS.to_vec() };
    let tree = TreeNode::Directory(BTreeMap::from([(b"hello".to_vec(), file)]));
    write_tree(&tree, &dir.path().join("tree")).unwrap();
    (dir, tree)
}
