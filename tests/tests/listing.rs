//! Listings are byte for byte what real Nix writes and prints.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use conformance::{Nix, TreeNode, any_forest, any_tree, for_all, nixes, write_tree};
use nixcache::nar::{Limits, Listing, ListingNode};
use proptest::strategy::Strategy;
use proptest::test_runner::TestCaseResult;
use proptest::{prop_assert, prop_assert_eq};

/// The versions whose bytes are ours. Older ones say the same with keys in another order.
fn writes_sorted_keys(nix: &Nix) -> bool {
    let mut numbers = nix.version().split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(10))
}

/// Makes a character of each byte of the names and targets in a tree: JSON holds only text.
fn as_text(tree: TreeNode) -> TreeNode {
    let text = |bytes: &[u8]| bytes.iter().take(127).map(|&byte| char::from(byte)).collect::<String>().into_bytes();
    match tree {
        TreeNode::File { .. } => tree,
        TreeNode::Symlink { target } => TreeNode::Symlink { target: text(&target) },
        TreeNode::Directory(entries) => {
            TreeNode::Directory(entries.into_iter().map(|(name, node)| (text(&name), as_text(node))).collect())
        }
    }
}

fn ls(nix: &Nix, nar: &Path, path: &[u8], recursive: bool) -> Result<Vec<u8>, conformance::Failure> {
    use std::os::unix::ffi::OsStrExt;
    let path = [b"/", path].concat();
    let mut args = vec!["nar".as_ref(), "ls".as_ref(), "--json".as_ref(), nar.as_os_str(), OsStr::from_bytes(&path)];
    if recursive {
        args.push("--recursive".as_ref());
    }
    nix.run("nix", args, b"").map(|out| out.trim_ascii_end().to_vec())
}

fn written(node: ListingNode<'_>, recursive: bool) -> Option<Vec<u8>> {
    let mut json = Vec::new();
    if recursive { node.write_tree(&mut json) } else { node.write_shallow(&mut json) }.ok().map(|()| json)
}

/// Nix writes `executable` only where it is true, up to 2.34; later always, as we do.
fn same_bytes(ours: &[u8], theirs: &[u8]) -> bool {
    // Inside a string, the quotes would be escaped.
    let text = |json: &[u8]| String::from_utf8_lossy(json).replace("\"executable\":false,", "");
    ours == theirs || text(ours) == text(theirs)
}

#[test]
fn printed_is_what_nix_prints() {
    let nixes = nixes();
    let agree = |tree: TreeNode| -> TestCaseResult {
        let nar = tree.to_nar();
        let listing = Listing::from_slice(&nar).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&nar).unwrap();
        for nix in &nixes {
            let nodes = [listing.root()].into_iter().chain(listing.root().children().last());
            for (node, recursive) in nodes.flat_map(|node| [(node, true), (node, false)]) {
                let theirs = ls(nix, file.path(), node.name(), recursive);
                let ours = written(node, recursive);
                if writes_sorted_keys(nix) {
                    let same = match (&ours, &theirs) {
                        (Some(ours), Ok(theirs)) => same_bytes(ours, theirs),
                        (ours, theirs) => ours.is_none() && theirs.is_err(),
                    };
                    prop_assert!(same, "Nix {}, recursive: {recursive}: {theirs:?}, not {ours:?}", nix.version());
                } else if let (Some(ours), true) = (ours, recursive) {
                    let document = |node: &[u8]| [b"{\"version\":1,\"root\":", node, b"}"].concat();
                    let read = |node: &[u8]| Listing::parse(&document(node), Limits::default());
                    prop_assert_eq!(read(&theirs.unwrap()), read(&ours), "Nix {}", nix.version());
                }
            }
        }
        Ok(())
    };
    if !nixes.is_empty() {
        for_all(24, any_forest().prop_map(as_text), agree);
        for_all(12, any_tree(), agree);
    }
}

#[test]
fn a_listing_in_a_cache_is_what_nix_puts_there() {
    let nixes = nixes();
    let agree = |tree: TreeNode| -> TestCaseResult {
        let listing = Listing::from_slice(&tree.to_nar()).unwrap();
        let mut ours = Vec::new();
        listing.root().write_document(&mut ours).unwrap();
        for nix in &nixes {
            let dir = tempfile::tempdir().unwrap();
            let (tree_path, cache) = (dir.path().join("tree"), dir.path().join("cache"));
            write_tree(&tree, &tree_path).unwrap();
            let path = nix.run("nix-store", ["--add".as_ref(), tree_path.as_os_str()], b"").unwrap();
            let path = String::from_utf8(path).unwrap();
            let to = format!("file://{}?write-nar-listing=true", cache.display());
            nix.run("nix", ["copy", "--no-check-sigs", "--to", &to, path.trim_end()], b"").unwrap();
            let hash_part = &path["/nix/store/".len()..][..32];
            let theirs = std::fs::read(cache.join(hash_part).with_extension("ls")).unwrap();
            prop_assert_eq!(&Listing::parse(&theirs, Limits::default()).unwrap(), &listing, "Nix {}", nix.version());
            if writes_sorted_keys(nix) {
                prop_assert!(same_bytes(&ours, &theirs), "Nix {} writes other bytes", nix.version());
            }
        }
        Ok(())
    };
    if !nixes.is_empty() {
        for_all(6, any_forest().prop_map(as_text), agree);
        for_all(4, any_tree().prop_map(as_text), agree);
    }
}
