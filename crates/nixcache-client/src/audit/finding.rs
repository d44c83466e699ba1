use std::fmt;
use std::time::SystemTime;

use nixcache::compression::Compression;
use nixcache::narinfo::{self, CacheInfoError, DeviationKind, NarUrlError, NixAccepts};
use nixcache::store_path::StorePath;

use crate::address;
use crate::nar_file::Fault;

/// Something about a cache that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The object, by its name in the cache.
    pub object: String,
    /// The path that it is about, if that is known.
    pub path: Option<StorePath>,
    /// What is the matter.
    pub kind: Kind,
}

/// What can be the matter with an object of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
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
    /// A narinfo is not as Nix writes it, which harms nobody.
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
    /// Nobody who is trusted vouches for a path.
    NoValidSignature,
    /// The URL of the NAR is none, or leads out of the cache.
    BadUrl(NarUrlError),
    /// The NAR is somewhere else.
    UrlOutside {
        /// Where.
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
    /// The NAR's file has another size.
    WrongFileSize {
        /// The NAR.
        nar: String,
        /// What the narinfo says.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// What a narinfo says of its content address is not true: Nix refuses the path, whoever has signed it.
    WrongAddress(address::Fault),
    /// A path that is referred to is not there.
    MissingReference {
        /// The path.
        reference: StorePath,
    },
    /// No narinfo has this NAR.
    OrphanNar {
        /// When it was written.
        modified: Option<SystemTime>,
    },
    /// A listing has no narinfo beside it.
    OrphanListing {
        /// When it was written.
        modified: Option<SystemTime>,
    },
    /// What somebody is writing, or was when he died.
    Temporary {
        /// When it was written.
        modified: Option<SystemTime>,
    },
    /// Nothing that belongs to a cache.
    Unknown,
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
        fault: Fault,
    },
    /// Paths occur in the NAR that are not among the references.
    UndeclaredReferences {
        /// Their hash parts.
        hash_parts: Vec<String>,
    },
}

/// What would make it good.
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
    Mend,
    /// To sign it, or to withdraw what nobody should have published.
    Sign,
    /// To read the contents, which tells more.
    ReadContents,
    /// To look at it.
    ByHand,
}

impl Finding {
    /// Whether it only says what is odd, and harms nobody.
    pub fn is_note(&self) -> bool {
        self.remedy() == Remedy::None
    }

    /// What would make it good.
    pub fn remedy(&self) -> Remedy {
        match &self.kind {
            Kind::Odd(_) | Kind::Unknown | Kind::UndeclaredReferences { .. } | Kind::UrlHash { harmless: true, .. } => {
                Remedy::None
            }
            Kind::UrlCompression { stated, found, .. } => match found {
                Some(found) if found == stated => Remedy::None,
                Some(_) => Remedy::Withdraw,
                None => Remedy::ReadContents,
            },
            Kind::Refused(deviations) => match deviations[..] {
                [DeviationKind::MissingFinalNewline] => Remedy::Mend,
                _ if deviations.contains(&DeviationKind::UnknownCompression) => Remedy::Withdraw,
                _ => Remedy::ByHand,
            },
            Kind::MissingCacheInfo | Kind::BadCacheInfo(_) | Kind::WrongNar { fault: Fault::FileHash { .. }, .. } => {
                Remedy::Mend
            }
            Kind::BadSignature { .. } | Kind::NoValidSignature => Remedy::Sign,
            Kind::UrlHash { .. } => Remedy::ReadContents,
            Kind::OtherStore(_) | Kind::UrlOutside { .. } => Remedy::ByHand,
            Kind::OrphanNar { .. }
            | Kind::OrphanListing { .. }
            | Kind::Temporary { .. }
            | Kind::BadListing { .. }
            | Kind::ListingDisagrees { .. } => Remedy::Remove,
            Kind::Unparsable(_)
            | Kind::Misnamed { .. }
            | Kind::Swapped { .. }
            | Kind::BadUrl(_)
            | Kind::MissingNar { .. }
            | Kind::WrongFileSize { .. }
            | Kind::WrongAddress(_)
            | Kind::MissingReference { .. }
            | Kind::CorruptNar { .. }
            | Kind::WrongNar { .. } => Remedy::Withdraw,
        }
    }
}

/// `OBJECT: kind: explanation; remedy`, without the remedy where none is needed. Control characters do not occur.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object.escape_debug(), self.kind.name(), self.kind)?;
        match self.remedy() {
            Remedy::None => Ok(()),
            remedy => write!(f, "; {remedy}"),
        }
    }
}

impl Kind {
    /// A name for scripts, in lower case with dashes. It does not change.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MissingCacheInfo => "missing-cache-info",
            Self::BadCacheInfo(_) => "bad-cache-info",
            Self::Unparsable(_) => "unparsable-narinfo",
            Self::OtherStore(_) => "other-store",
            Self::Refused(_) => "refused-narinfo",
            Self::Odd(_) => "odd-narinfo",
            Self::Misnamed { .. } => "misnamed-narinfo",
            Self::Swapped { .. } => "swapped-narinfos",
            Self::BadSignature { .. } => "bad-signature",
            Self::NoValidSignature => "no-valid-signature",
            Self::BadUrl(_) => "bad-url",
            Self::UrlOutside { .. } => "url-outside",
            Self::UrlCompression { .. } => "url-compression",
            Self::UrlHash { .. } => "url-hash",
            Self::MissingNar { .. } => "missing-nar",
            Self::WrongFileSize { .. } | Self::WrongNar { fault: Fault::FileSize { .. }, .. } => "wrong-file-size",
            Self::MissingReference { .. } => "missing-reference",
            Self::OrphanNar { .. } => "orphan-nar",
            Self::OrphanListing { .. } => "orphan-listing",
            Self::Temporary { .. } => "temporary",
            Self::Unknown => "unknown-object",
            Self::BadListing { .. } => "bad-listing",
            Self::ListingDisagrees { .. } => "listing-disagrees",
            Self::CorruptNar { .. } => "corrupt-nar",
            Self::WrongNar { fault: Fault::FileHash { .. }, .. } => "wrong-file-hash",
            Self::WrongNar { fault: Fault::NarSize { .. }, .. } => "wrong-nar-size",
            Self::WrongNar { fault: Fault::NarHash { .. }, .. } => "wrong-nar-hash",
            Self::WrongAddress(_) | Self::WrongNar { fault: Fault::Address(_), .. } => "wrong-address",
            Self::UndeclaredReferences { .. } => "undeclared-references",
        }
    }
}

/// The explanation.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingCacheInfo => f.write_str("is not there, and Nix takes nothing for a cache without it"),
            Self::BadCacheInfo(error) => error.fmt(f),
            Self::Unparsable(error) | Self::OtherStore(error) => error.fmt(f),
            Self::Refused(deviations) | Self::Odd(deviations) => {
                let mut separator = "";
                for kind in deviations {
                    write!(f, "{separator}{kind}: {}", kind.explanation())?;
                    separator = "; ";
                }
                Ok(())
            }
            Self::Misnamed { holds } => write!(f, "is the narinfo of {holds}"),
            Self::Swapped { holds, with } => write!(f, "is the narinfo of {holds}, and {with} is that of this path"),
            Self::BadSignature { keys, valid } => {
                let others = if *valid { ", but others do" } else { ", and no other makes the path valid" };
                let keys: Vec<_> = keys.iter().map(|key| key.escape_debug().to_string()).collect();
                write!(f, "the signature by {} does not verify{others}", keys.join(", "))
            }
            Self::NoValidSignature => f.write_str("there is no valid signature by a trusted key"),
            Self::BadUrl(error) => write!(f, "URL: {error}"),
            Self::UrlOutside { url } => {
                write!(f, "URL: {} is not in this cache, and was not looked at", url.escape_debug())
            }
            Self::UrlCompression { nar, stated, named, found } => {
                write!(f, "{nar} is named like {named}, but the Compression is {stated}")?;
                match found {
                    Some(found) => write!(f, ", and the file begins like {found}"),
                    None => Ok(()),
                }
            }
            Self::UrlHash { nar, harmless } => {
                let contents = if *harmless { ", but has the right contents" } else { "" };
                write!(f, "{nar} is named after neither the FileHash nor the NarHash{contents}")
            }
            Self::MissingNar { nar } => write!(f, "there is no {nar}"),
            Self::WrongFileSize { nar, expected, found } => {
                write!(f, "{nar} has {found} bytes, not the FileSize {expected}")
            }
            Self::WrongAddress(fault) => fault.fmt(f),
            Self::MissingReference { reference } => {
                write!(f, "refers to {reference}, which is not in the cache: the closure has a hole")
            }
            Self::OrphanNar { .. } => f.write_str("no narinfo has this NAR"),
            Self::OrphanListing { .. } => f.write_str("there is no narinfo to this listing"),
            Self::Temporary { .. } => f.write_str("somebody is writing it, or was when he died"),
            Self::Unknown => f.write_str("nothing that belongs to a cache"),
            Self::BadListing { reason } | Self::ListingDisagrees { reason } => f.write_str(reason),
            Self::CorruptNar { nar, reason } => write!(f, "{nar}: {reason}"),
            Self::WrongNar { nar, fault } => match fault {
                Fault::FileSize { .. } | Fault::FileHash { .. } => write!(f, "{nar} {fault}"),
                fault => write!(f, "{nar}: {fault}"),
            },
            Self::UndeclaredReferences { hash_parts } => {
                write!(f, "the NAR contains {}, not among the references", hash_parts.join(", "))
            }
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "nothing needs to be done",
            Self::Remove => "remove it",
            Self::Withdraw => "withdraw it with all that refer to it, and publish it again",
            Self::Mend => "write it anew",
            Self::Sign => "sign it, or withdraw what should not be there",
            Self::ReadContents => "check the contents",
            Self::ByHand => "look at it",
        })
    }
}

/// What of a narinfo's oddities matters: those because of which current Nix refuses it, else all.
pub(super) fn oddities(deviations: &[narinfo::Deviation<'_>]) -> Kind {
    let kinds = |wanted: &dyn Fn(NixAccepts) -> bool| {
        let mut kinds: Vec<DeviationKind> = deviations.iter().map(|deviation| deviation.kind).collect();
        kinds.retain(|kind| wanted(kind.nix_accepts()));
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    let refused = kinds(&|accepts| accepts != NixAccepts::Yes);
    if refused.is_empty() { Kind::Odd(kinds(&|_| true)) } else { Kind::Refused(refused) }
}
