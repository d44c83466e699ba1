//! `nix-archive`, written by others, agrees: on what is an archive, on what it says, and on its
//! bytes.

use conformance::{TreeNode, any_tree, for_all, write_tree};
use nix_archive::nar::{self as peer, CaseHack};
use nixcache::nar::{Error, Event, Events, Writer, check, pack};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;

/// What an archive says, owned.
type Said = Vec<Event<Vec<u8>, Vec<u8>>>;

fn ours(nar: &[u8]) -> Result<Said, Error> {
    check(nar)?;
    Events::new(nar).map(|event| Ok(event?.map(<[u8]>::to_vec, <[u8]>::to_vec))).collect()
}

fn theirs(nar: &[u8]) -> Result<Said, peer::Error> {
    let mut said = Said::new();
    peer::decode_events(nar, |event| {
        let name = |name: Option<&[u8]>| name.unwrap_or_default().to_vec();
        match event {
            peer::Event::DirectoryStart { name: n } => said.push(Event::Directory { name: name(n) }),
            peer::Event::DirectoryEnd { .. } => said.push(Event::End),
            peer::Event::Symlink { name: n, target } => {
                said.push(Event::Symlink { name: name(n), target: target.to_vec() });
            }
            peer::Event::Regular { name: n, executable, contents } => {
                said.push(Event::File { name: name(n), executable, size: contents.len() as u64 });
                if !contents.is_empty() {
                    said.push(Event::Contents(contents.to_vec()));
                }
            }
        }
        Ok(())
    })?;
    Ok(said)
}

/// Whether both say the same of `bytes`, or ours refuses what Nix 2.34 refuses and theirs does not:
/// long names and targets, and targets that are empty or hold NUL.
fn agree(bytes: &[u8]) -> TestCaseResult {
    match (ours(bytes), theirs(bytes)) {
        (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
        (Err(_), Err(_)) | (Err(Error::Limit { .. } | Error::Target { .. }), Ok(_)) => {}
        (Ok(_), Err(error)) => prop_assert!(false, "only we accept it; they say {}", error),
        (Err(error), Ok(_)) => prop_assert!(false, "only they accept it; we say {}", error),
    }
    Ok(())
}

#[test]
fn both_read_the_same_in_a_valid_archive_and_write_it_again() {
    for_all(256, any_tree(), |tree| {
        let nar = tree.to_nar();
        let said = ours(&nar).unwrap();
        prop_assert_eq!(&said, &theirs(&nar).unwrap());
        let mut writer = Writer::new(Vec::new());
        for event in Events::new(&nar) {
            writer.event(event.unwrap()).unwrap();
        }
        prop_assert!(writer.finish().unwrap() == nar);
        Ok(())
    });
}

/// A change of an archive, at places that are found once it is known.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    /// One of the words that lengths and tokens are made of.
    Word(Index, u64),
    Cut(Index),
    Remove(Index, usize),
    /// Copies some words from one place to another.
    Splice(Index, usize, Index),
    Insert(Index, Vec<u8>),
}

impl Change {
    fn apply(&self, nar: &mut Vec<u8>) {
        if nar.len() < 16 {
            return;
        }
        let word = |index: &Index| index.index(nar.len() / 8) * 8;
        match self {
            Self::Flip(at, bits) => {
                let at = at.index(nar.len());
                nar[at] ^= bits;
            }
            Self::Word(at, value) => {
                let at = word(at);
                nar[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            Self::Cut(at) => nar.truncate(at.index(nar.len())),
            Self::Remove(at, words) => {
                let at = word(at);
                nar.drain(at..(at + 8 * words).min(nar.len()));
            }
            Self::Splice(from, words, to) => {
                let (from, to) = (word(from), word(to));
                let words = nar[from..(from + 8 * words).min(nar.len())].to_vec();
                nar.splice(to..to, words);
            }
            Self::Insert(at, bytes) => {
                let at = word(at);
                nar.splice(at..at, bytes.iter().copied());
            }
        }
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let token = |text: &str| {
        let mut token = (text.len() as u64).to_le_bytes().to_vec();
        token.extend(text.bytes());
        token.resize(token.len().next_multiple_of(8), 0);
        token
    };
    let tokens = ["(", ")", "", "type", "entry", "name", "node", "executable", "contents", "directory", ".", "a"];
    let tokens: Vec<_> = tokens.into_iter().map(token).collect();
    prop_oneof![
        4 => (at(), 1..=u8::MAX).prop_map(|(at, bits)| Change::Flip(at, bits)),
        2 => (at(), prop_oneof![0..40_u64, any::<u64>()]).prop_map(|(at, word)| Change::Word(at, word)),
        1 => at().prop_map(Change::Cut),
        2 => (at(), 1..12_usize).prop_map(|(at, words)| Change::Remove(at, words)),
        3 => (at(), 1..40_usize, at()).prop_map(|(from, words, to)| Change::Splice(from, words, to)),
        2 => (at(), proptest::sample::select(tokens)).prop_map(|(at, token)| Change::Insert(at, token)),
    ]
}

#[test]
fn both_give_the_same_verdict_on_a_damaged_archive() {
    let damaged = (any_tree(), proptest::collection::vec(any_change(), 1..4));
    for_all(4096, damaged, |(tree, changes)| {
        let mut nar = tree.to_nar();
        for change in &changes {
            change.apply(&mut nar);
        }
        agree(&nar)
    });
}

#[test]
fn both_give_the_same_verdict_when_any_one_byte_of_an_archive_is_changed_or_missing() {
    let leaf = |contents: &[u8]| TreeNode::File { executable: true, contents: contents.to_vec() };
    let entries = [
        (b"empty".to_vec(), leaf(b"")),
        (b"file".to_vec(), leaf(b"contents.")),
        (b"link".to_vec(), TreeNode::Symlink { target: b"target".to_vec() }),
    ];
    let tree = TreeNode::Directory([(b"below".to_vec(), TreeNode::Directory(entries.into()))].into());
    let nar = tree.to_nar();
    for at in 0..nar.len() {
        for bits in [1, 2, 0x20, 0x80, 0xff] {
            let mut changed = nar.clone();
            changed[at] ^= bits;
            agree(&changed).unwrap();
        }
        agree(&nar[..at]).unwrap();
        agree(&[&nar[..at], &nar[at + 1..]].concat()).unwrap();
    }
}

#[test]
fn both_pack_a_tree_into_the_same_bytes() {
    for_all(64, any_tree(), |tree| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree");
        write_tree(&tree, &path).unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        pack(&path, &mut ours).unwrap();
        peer::encode_path(&mut theirs, &path, CaseHack::Disabled).unwrap();
        prop_assert!(ours == theirs);
        Ok(())
    });
}
