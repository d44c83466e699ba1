//! Findings: what an audit reports, and what should be done about it.

mod text;

use std::time::SystemTime;

use nixcache::compression::Compression;
use nixcache::hash::Hash;
use nixcache::narinfo::{self, CacheInfoError, DeviationKind, NixAccepts};
use nixcache::store_path::StorePath;

use crate::verify::{AddressMismatch, NarFileMismatch};

/// Something about a cache that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The object, by its name in the cache.
    pub object: String,
    /// The path that it is about, if that is known.
    pub path: Option<StorePath>,
    /// What is the matter.
    pub kind: FindingKind,
}

/// What can be the matter with an object of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindingKind {
    /// The object is there, or is listed, and could not be looked at: access was denied, it is
    /// larger than it may be, or it has an encoding that cannot be undone. Whether anything is
    /// wrong with it is not known.
    Unreadable {
        /// What kind of object it is.
        subject: Subject,
        /// Why it could not be read.
        reason: String,
    },
    /// There is no `nix-cache-info`.
    MissingCacheInfo,
    /// `nix-cache-info` cannot be read.
    BadCacheInfo(CacheInfoError),
    /// A narinfo cannot be read.
    Unparsable(narinfo::Error),
    /// A narinfo is about a path of another store.
    OtherStore(narinfo::Error),
    /// A narinfo has something because of which current Nix refuses it.
    Refused(Vec<DeviationKind>),
    /// A narinfo in a directory is stored compressed. Nix reads it there as it is, and refuses it.
    Encoded {
        /// The compression, by its first bytes.
        compression: Compression,
    },
    /// A narinfo is not as Nix writes it, which does no harm.
    Odd(Vec<DeviationKind>),
    /// A narinfo has the name of another path's.
    Misnamed {
        /// The path that it is about.
        holds: StorePath,
    },
    /// Two narinfos have each other's names.
    Swapped {
        /// The path that it is about.
        holds: StorePath,
        /// The object that holds what should be here.
        with: String,
    },
    /// Signatures that are said to be by trusted keys do not verify.
    BadSignature {
        /// The names of the keys.
        keys: Vec<String>,
        /// Whether other signatures make the narinfo valid.
        valid: bool,
    },
    /// There is no valid signature by a trusted key.
    NoValidSignature,
    /// The URL names no NAR of this cache for certain. Other readers may understand it.
    BadUrl {
        /// What is wrong with it.
        reason: String,
    },
    /// The URL leads out of this cache, where the NAR was not looked at.
    UrlOutside {
        /// The URL.
        url: String,
    },
    /// The name of the NAR's file and the narinfo disagree on the compression.
    UrlCompression {
        /// The NAR.
        nar: String,
        /// What the narinfo says.
        stated: Compression,
        /// What the name says.
        named: Compression,
        /// What the file begins like, if that is known.
        found: Option<Compression>,
    },
    /// The NAR's file is named after another hash than the narinfo has.
    UrlHash {
        /// The NAR.
        nar: String,
        /// Whether the contents were read, and are those that the narinfo means.
        harmless: bool,
    },
    /// The NAR is not there.
    MissingNar {
        /// The NAR.
        nar: String,
    },
    /// The NAR's file has another size than the narinfo says. No signature covers the size.
    WrongFileSize {
        /// The NAR.
        nar: String,
        /// What the narinfo says.
        expected: u64,
        /// What it is.
        found: u64,
        /// What is known of the contents.
        contents: ContentsState,
    },
    /// The NAR's file has another hash than the narinfo says. No signature covers the hash of the
    /// file.
    WrongFileHash {
        /// The NAR.
        nar: String,
        /// What the narinfo says.
        expected: Hash,
        /// What it is.
        found: Hash,
        /// What is known of the contents.
        contents: ContentsState,
    },
    /// The NAR is compressed in a way that cannot be read, so that its contents were not looked at.
    UnknownCompression {
        /// The NAR.
        nar: String,
        /// The compression, as the narinfo names it.
        compression: String,
    },
    /// What a narinfo says of its content address is not true: Nix refuses the path, even if it is
    /// signed.
    WrongAddress(AddressMismatch),
    /// A path that is referred to is not there.
    MissingReference {
        /// The path.
        reference: StorePath,
    },
    /// A path that is referred to is not there, and a root says that it was left out on purpose
    /// (`push --skip`): another cache has it.
    LeftOutReference {
        /// The path.
        reference: StorePath,
    },
    /// No narinfo names this NAR.
    OrphanNar {
        /// When it was written, by the clock of the store.
        modified: Option<SystemTime>,
        /// Why it may be in use all the same.
        doubt: Option<Doubt>,
    },
    /// A listing has no narinfo beside it.
    OrphanListing {
        /// When it was written.
        modified: Option<SystemTime>,
    },
    /// A temporary file of a writer that is still running or has crashed.
    Temporary {
        /// When it was written, by the clock of the store.
        modified: Option<SystemTime>,
        /// Whether it is so young that its writer is probably still running.
        is_young: bool,
    },
    /// An object with a name that nothing in a cache has. It is never removed.
    Unknown,
    /// A root lists paths that are not in the cache. Pushes under it take them for published.
    RootHole {
        /// How many paths are missing.
        paths: usize,
        /// Some of them.
        examples: Vec<StorePath>,
    },
    /// A root cannot be understood.
    BrokenRoot {
        /// Why.
        reason: String,
    },
    /// The list of the paths of a root is not there.
    MissingSnapshot {
        /// The object that would hold it.
        snapshot: String,
    },
    /// A list of paths cannot be understood.
    BrokenSnapshot {
        /// Why.
        reason: String,
        /// Whether a root names it.
        is_used: bool,
    },
    /// A lease or a plan cannot be understood. What it claims is unknown, so it keeps everything
    /// until it expires.
    BrokenClaim {
        /// Why.
        reason: String,
    },
    /// A lease or a plan has expired: the push or collection that wrote it has crashed.
    StaleClaim,
    /// An upload in parts that was begun more than a day ago, and was neither completed nor
    /// aborted. A bucket keeps its parts.
    UnfinishedUpload {
        /// When it was begun, where the store tells.
        begun: Option<SystemTime>,
    },
    /// The list that a collection leaves for the next one cannot be understood.
    BrokenCondemned {
        /// Why.
        reason: String,
    },
    /// A listing cannot be read.
    BadListing {
        /// Why.
        reason: String,
    },
    /// A listing is not that of the NAR.
    ListingDisagrees {
        /// In what.
        reason: String,
    },
    /// The NAR's file cannot be decompressed, or is no NAR.
    CorruptNar {
        /// The NAR.
        nar: String,
        /// Why.
        reason: String,
    },
    /// The NAR's file is not what the narinfo says.
    WrongNar {
        /// The NAR.
        nar: String,
        /// In what.
        fault: NarFileMismatch,
    },
    /// Paths occur in the NAR that are not among the references.
    UndeclaredReferences {
        /// Their hash parts.
        hash_parts: Vec<String>,
    },
}

/// The kinds of object that an audit reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// The listing of the cache itself.
    Cache,
    /// `nix-cache-info`.
    CacheInfo,
    /// A narinfo.
    NarInfo,
    /// The listing of a NAR.
    Listing,
    /// The file of a NAR.
    Nar,
    /// A root.
    Root,
    /// The list of the paths of a root.
    Snapshot,
    /// A lease or a plan.
    Claim,
    /// The list that a collection leaves for the next one.
    Condemned,
}

/// What is known of the contents of a NAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentsState {
    /// They were not read.
    Unread,
    /// They cannot be read, because their compression is not known.
    Unknown,
    /// They are those that the narinfo describes.
    Right,
    /// They are others.
    Wrong,
}

/// Why a NAR that no narinfo names may be in use all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Doubt {
    /// Not all narinfos could be read.
    UnreadNarInfos,
    /// For some narinfos it is not certain which object is their NAR.
    UnplacedNars,
    /// A push is running, which uploads NARs before their narinfos.
    Push,
}

/// The repair of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// Nothing needs to be done.
    None,
    /// To remove the object.
    Remove,
    /// To withdraw the narinfo and all that refer to it, and to publish them again.
    Withdraw,
    /// To write the object anew, which loses nothing.
    Rewrite,
    /// To read the NAR, and if its contents are right, to write the narinfo anew.
    ReadAndRewrite,
    /// To sign it, or to withdraw it if it should not have been published.
    Sign,
    /// To read the contents, which tells more.
    ReadContents,
    /// To make it readable, and to audit again.
    MakeReadable,
    /// To remove the root with `narutil root remove`.
    RemoveRoot,
    /// To push again under this name.
    Push,
    /// To look at it.
    ByHand,
}

impl Finding {
    /// Whether it only says what is odd, and harms nothing.
    pub fn is_note(&self) -> bool {
        self.remedy() == Remedy::None
    }

    /// Whether it says that something could not be looked at, rather than that something is wrong.
    pub fn is_unread(&self) -> bool {
        matches!(self.kind, FindingKind::Unreadable { .. })
    }

    /// What would make it good.
    pub fn remedy(&self) -> Remedy {
        match &self.kind {
            FindingKind::Odd(_)
            | FindingKind::Unknown
            | FindingKind::UndeclaredReferences { .. }
            | FindingKind::UrlHash { harmless: true, .. }
            | FindingKind::UrlOutside { .. }
            | FindingKind::OrphanNar { doubt: Some(_), .. }
            | FindingKind::Temporary { is_young: true, .. }
            | FindingKind::LeftOutReference { .. }
            | FindingKind::StaleClaim
            | FindingKind::UnfinishedUpload { .. } => Remedy::None,
            FindingKind::Unreadable { .. } => Remedy::MakeReadable,
            FindingKind::UrlCompression { stated, found, .. } => match found {
                Some(found) if found == stated => Remedy::None,
                Some(_) => Remedy::Withdraw,
                None => Remedy::ReadContents,
            },
            FindingKind::Refused(deviations) => match deviations[..] {
                [DeviationKind::MissingFinalNewline] => Remedy::Rewrite,
                _ => Remedy::ByHand,
            },
            FindingKind::WrongFileSize { contents, .. } | FindingKind::WrongFileHash { contents, .. } => match contents
            {
                ContentsState::Right => Remedy::Rewrite,
                ContentsState::Wrong => Remedy::Withdraw,
                ContentsState::Unread => Remedy::ReadAndRewrite,
                ContentsState::Unknown => Remedy::ByHand,
            },
            FindingKind::MissingCacheInfo | FindingKind::BadCacheInfo(_) | FindingKind::RootHole { .. } => {
                Remedy::Rewrite
            }
            FindingKind::BadSignature { .. } | FindingKind::NoValidSignature => Remedy::Sign,
            FindingKind::UrlHash { .. } => Remedy::ReadContents,
            FindingKind::OtherStore(_)
            | FindingKind::Encoded { .. }
            | FindingKind::BadUrl { .. }
            | FindingKind::UnknownCompression { .. }
            | FindingKind::BrokenClaim { .. } => Remedy::ByHand,
            FindingKind::BrokenRoot { .. } => Remedy::RemoveRoot,
            FindingKind::MissingSnapshot { .. } | FindingKind::BrokenSnapshot { is_used: true, .. } => Remedy::Push,
            FindingKind::OrphanNar { .. }
            | FindingKind::OrphanListing { .. }
            | FindingKind::Temporary { .. }
            | FindingKind::BadListing { .. }
            | FindingKind::ListingDisagrees { .. }
            | FindingKind::BrokenSnapshot { .. }
            | FindingKind::BrokenCondemned { .. } => Remedy::Remove,
            FindingKind::Unparsable(_)
            | FindingKind::Misnamed { .. }
            | FindingKind::Swapped { .. }
            | FindingKind::MissingNar { .. }
            | FindingKind::WrongAddress(_)
            | FindingKind::MissingReference { .. }
            | FindingKind::CorruptNar { .. }
            | FindingKind::WrongNar { .. } => Remedy::Withdraw,
        }
    }
}

/// What of a narinfo's oddities matters: those because of which current Nix refuses it, else all.
pub(super) fn oddities(deviations: &[narinfo::Deviation<'_>]) -> FindingKind {
    let kinds = |wanted: &dyn Fn(NixAccepts) -> bool| {
        let mut kinds: Vec<DeviationKind> = deviations.iter().map(|deviation| deviation.kind).collect();
        kinds.retain(|kind| wanted(kind.nix_accepts()));
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    let refused = kinds(&|accepts| accepts != NixAccepts::Yes);
    if refused.is_empty() { FindingKind::Odd(kinds(&|_| true)) } else { FindingKind::Refused(refused) }
}
