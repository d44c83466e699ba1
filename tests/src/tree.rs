//! Trees as values: random ones, to and from a disk, and as NARs by the shortest writer that can be
//! right.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// All that a NAR says of a tree.
#[derive(Clone, PartialEq, Eq)]
pub enum TreeNode {
    /// A regular file.
    File {
        /// Whether its owner may execute it.
        executable: bool,
        /// What is in it.
        contents: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points: any bytes, the place need not exist.
        target: Vec<u8>,
    },
    /// A directory: what it holds, by name.
    Directory(BTreeMap<Vec<u8>, TreeNode>),
}

impl TreeNode {
    /// The NAR of this tree. Nothing is checked; a map's own order is the order that a NAR wants.
    pub fn to_nar(&self) -> Vec<u8> {
        let mut nar = Vec::new();
        string(&mut nar, b"nix-archive-1");
        self.append(&mut nar);
        nar
    }

    fn append(&self, nar: &mut Vec<u8>) {
        let mut tokens = |tokens: &[&[u8]]| tokens.iter().for_each(|token| string(nar, token));
        tokens(&[b"(", b"type"]);
        match self {
            Self::File { executable, contents } => {
                tokens(&[b"regular"]);
                if *executable {
                    tokens(&[b"executable", b""]);
                }
                tokens(&[b"contents", contents]);
            }
            Self::Symlink { target } => tokens(&[b"symlink", b"target", target]),
            Self::Directory(entries) => {
                tokens(&[b"directory"]);
                for (name, node) in entries {
                    for token in [b"entry".as_slice(), b"(", b"name", name, b"node"] {
                        string(nar, token);
                    }
                    node.append(nar);
                    string(nar, b")");
                }
            }
        }
        string(nar, b")");
    }
}

/// Appends a string of a NAR: its length, its bytes, zeros up to a multiple of eight.
fn string(nar: &mut Vec<u8>, bytes: &[u8]) {
    nar.extend((bytes.len() as u64).to_le_bytes());
    nar.extend(bytes);
    nar.resize(nar.len().next_multiple_of(8), 0);
}

/// Writes `tree` at `path`, where nothing may be yet.
///
/// A NAR keeps one bit of a file's mode, so each file is given one of the many modes that have the
/// wanted bit, by its length: 0654 and 0111 among them, since group and others must not count.
pub fn write_tree(tree: &TreeNode, path: &Path) -> io::Result<()> {
    const PLAIN: [u32; 5] = [0o644, 0o654, 0o400, 0o677, 0o000];
    const EXECUTABLE: [u32; 5] = [0o755, 0o744, 0o111, 0o500, 0o100];
    match tree {
        TreeNode::File { executable, contents } => {
            fs::File::create_new(path)?;
            fs::write(path, contents)?;
            let mode = if *executable { EXECUTABLE } else { PLAIN }[contents.len() % PLAIN.len()];
            fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
            // Only root reads a file without read permission.
            if fs::File::open(path).is_err() {
                fs::set_permissions(path, PermissionsExt::from_mode(mode | 0o400))?;
            }
            Ok(())
        }
        TreeNode::Symlink { target } => symlink(OsStr::from_bytes(target), path),
        TreeNode::Directory(entries) => {
            fs::create_dir(path)?;
            entries.iter().try_for_each(|(name, node)| write_tree(node, &path.join(OsStr::from_bytes(name))))
        }
    }
}

/// Reads back the tree at `path`. Anything but files, directories and links is an error.
pub fn read_tree(path: &Path) -> io::Result<TreeNode> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        Ok(TreeNode::Symlink { target: fs::read_link(path)?.into_os_string().into_vec() })
    } else if metadata.is_file() {
        let executable = metadata.permissions().mode() & 0o100 != 0;
        Ok(TreeNode::File { executable, contents: fs::read(path)? })
    } else if metadata.is_dir() {
        let entries = fs::read_dir(path)?.map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().into_vec(), read_tree(&entry.path())?))
        });
        Ok(TreeNode::Directory(entries.collect::<io::Result<_>>()?))
    } else {
        Err(io::Error::other(format!("{} is neither file, directory nor link", path.display())))
    }
}

/// Any tree: a file, a link, or a directory up to five deep.
pub fn any_tree() -> impl Strategy<Value = TreeNode> {
    leaf().prop_recursive(5, 48, 8, |child| btree_map(name(), child, 0..8).prop_map(TreeNode::Directory))
}

/// Many trees in one directory, for tests that start a process for each case.
pub fn any_forest() -> impl Strategy<Value = TreeNode> {
    btree_map(name(), any_tree(), 0..24).prop_map(TreeNode::Directory)
}

fn leaf() -> impl Strategy<Value = TreeNode> {
    prop_oneof![
        4 => (any::<bool>(), contents()).prop_map(|(executable, contents)| TreeNode::File { executable, contents }),
        1 => target().prop_map(|target| TreeNode::Symlink { target }),
        1 => Just(TreeNode::Directory(BTreeMap::new())),
    ]
}

/// Sizes around the eight-byte borders of padding, and around those of pages and read buffers.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let sized = |sizes: RangeInclusive<usize>| (sizes, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]);
    prop_oneof![
        12 => vec(any::<u8>(), 0..=33),
        1 => sized(4087..=4105),
        1 => sized(65_535..=65_537),
        1 => sized(262_143..=262_145),
        // What the inside of a NAR looks like.
        1 => Just(TreeNode::Directory(BTreeMap::new()).to_nar()),
    ]
}

/// Any bytes but `/` and NUL, at most 255, not `.` and not `..`.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd = ["...", ".a", "-", "--", " ", "\n", "\\", "~", "a~nix~case~hack~1", "\u{e9}", "e\u{301}"];
    prop_oneof![
        // Short ones, of which some are prefixes of others: what sorts by path goes wrong here.
        6 => "[aAb.+-]{1,3}".prop_map(String::into_bytes),
        3 => vec(byte(b'/'), 1..=24),
        1 => vec(byte(b'/'), 247..=255),
        1 => proptest::sample::select(odd.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
    ]
    .prop_filter("no . or ..", |name| name != b"." && name != b"..")
}

/// Relative, absolute, dangling or circular; not UTF-8; and as long as Linux allows.
fn target() -> impl Strategy<Value = Vec<u8>> {
    let plain = [".", "..", "/", "a", "a/", "../../../a", "/etc/passwd", "/nix/store", "a//b"];
    prop_oneof![
        3 => proptest::sample::select(plain.to_vec()).prop_map(|target| target.as_bytes().to_vec()),
        3 => vec(byte(0), 1..=40),
        1 => (4088..=4095_usize, byte(0)).prop_map(|(size, byte)| vec![byte; size]),
    ]
}

/// Any byte but NUL and `without`.
fn byte(without: u8) -> impl Strategy<Value = u8> {
    (1..=u8::MAX).prop_map(move |byte| if byte == without { b'_' } else { byte })
}

/// Contents by their size and bytes as text, so that a failing case can be read.
impl fmt::Debug for TreeNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;
        let shown = |bytes: &[u8]| {
            let more = if bytes.len() > SHOWN { "…" } else { "" };
            format!("\"{}{more}\" ({} bytes)", bytes[..bytes.len().min(SHOWN)].escape_ascii(), bytes.len())
        };
        match self {
            Self::File { executable, contents } => {
                write!(f, "{} {}", if *executable { "Executable" } else { "File" }, shown(contents))
            }
            Self::Symlink { target } => write!(f, "Symlink {}", shown(target)),
            Self::Directory(entries) => {
                f.debug_map().entries(entries.iter().map(|(name, node)| (Name(name), node))).finish()
            }
        }
    }
}

struct Name<'a>(&'a [u8]);

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}
