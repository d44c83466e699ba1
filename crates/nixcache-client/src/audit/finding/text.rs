//! Findings in words: the names that scripts rely on, and what users read.

use std::fmt;

use super::{ContentsState, Doubt, Finding, FindingKind, Remedy, Subject};
use crate::verify::NarFileMismatch;

/// `OBJECT: kind: explanation; remedy`, without the remedy where none is needed. Control characters
/// do not occur.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object.escape_debug(), self.kind.name(), self.kind)?;
        match self.remedy() {
            Remedy::None => Ok(()),
            remedy => write!(f, "; {remedy}"),
        }
    }
}

impl FindingKind {
    /// A name for scripts, in lower case with dashes. It does not change.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreadable { subject, .. } => match subject {
                Subject::Cache => "unreadable-cache",
                Subject::CacheInfo => "unreadable-cache-info",
                Subject::NarInfo => "unreadable-narinfo",
                Subject::Listing => "unreadable-listing",
                Subject::Nar => "unreadable-nar",
                Subject::Root => "unreadable-root",
                Subject::Snapshot => "unreadable-snapshot",
                Subject::Claim => "unreadable-claim",
                Subject::Condemned => "unreadable-condemned",
            },
            Self::MissingCacheInfo => "missing-cache-info",
            Self::BadCacheInfo(_) => "bad-cache-info",
            Self::Unparsable(_) => "unparsable-narinfo",
            Self::OtherStore(_) => "other-store",
            Self::Refused(_) => "refused-narinfo",
            Self::Odd(_) => "odd-narinfo",
            Self::Encoded { .. } => "encoded-narinfo",
            Self::Misnamed { .. } => "misnamed-narinfo",
            Self::Swapped { .. } => "swapped-narinfos",
            Self::BadSignature { .. } => "bad-signature",
            Self::NoValidSignature => "no-valid-signature",
            Self::BadUrl { .. } => "bad-url",
            Self::UrlOutside { .. } => "url-outside",
            Self::UrlCompression { .. } => "url-compression",
            Self::UrlHash { .. } => "url-hash",
            Self::MissingNar { .. } => "missing-nar",
            Self::WrongFileSize { .. } | Self::WrongNar { fault: NarFileMismatch::FileSize { .. }, .. } => {
                "wrong-file-size"
            }
            Self::MissingReference { .. } => "missing-reference",
            Self::LeftOutReference { .. } => "left-out-reference",
            Self::OrphanNar { .. } => "orphan-nar",
            Self::OrphanListing { .. } => "orphan-listing",
            Self::Temporary { .. } => "temporary",
            Self::Unknown => "unknown-object",
            Self::RootHole { .. } => "root-hole",
            Self::BrokenRoot { .. } => "broken-root",
            Self::MissingSnapshot { .. } => "missing-snapshot",
            Self::BrokenSnapshot { .. } => "broken-snapshot",
            Self::BrokenClaim { .. } => "broken-claim",
            Self::StaleClaim => "stale-claim",
            Self::UnfinishedUpload { .. } => "unfinished-upload",
            Self::BrokenCondemned { .. } => "broken-condemned",
            Self::UnknownCompression { .. } => "unknown-compression",
            Self::BadListing { .. } => "bad-listing",
            Self::ListingDisagrees { .. } => "listing-disagrees",
            Self::CorruptNar { .. } => "corrupt-nar",
            Self::WrongFileHash { .. } | Self::WrongNar { fault: NarFileMismatch::FileHash { .. }, .. } => {
                "wrong-file-hash"
            }
            Self::WrongNar { fault: NarFileMismatch::NarSize { .. }, .. } => "wrong-nar-size",
            Self::WrongNar { fault: NarFileMismatch::NarHash { .. }, .. } => "wrong-nar-hash",
            Self::WrongAddress(_) | Self::WrongNar { fault: NarFileMismatch::ContentAddress(_), .. } => "wrong-address",
            Self::UndeclaredReferences { .. } => "undeclared-references",
        }
    }
}

/// The explanation.
impl fmt::Display for FindingKind {
    #[expect(clippy::too_many_lines, reason = "a line a kind")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { reason, .. } => write!(f, "could not be read: {}", escaped(reason)),
            Self::MissingCacheInfo => f.write_str("is missing, and Nix accepts no cache without it"),
            Self::BadCacheInfo(error) => error.fmt(f),
            Self::Unparsable(error) | Self::OtherStore(error) => error.fmt(f),
            Self::Encoded { compression } => {
                write!(
                    f,
                    "is compressed with {compression}, and in a directory Nix does not decompress it: decompress the file"
                )
            }
            Self::Refused(deviations) | Self::Odd(deviations) => {
                let mut separator = "";
                for kind in deviations {
                    write!(f, "{separator}{kind}: {}", kind.explanation())?;
                    separator = "; ";
                }
                Ok(())
            }
            Self::Misnamed { holds } => write!(f, "is the narinfo of {holds}"),
            Self::Swapped { holds, with } => write!(f, "is the narinfo of {holds}; {with} is the narinfo of this path"),
            Self::BadSignature { keys, valid } => {
                let others = if *valid { ", but another one does" } else { ", and no other signature is valid" };
                let keys: Vec<_> = keys.iter().map(|key| key.escape_debug().to_string()).collect();
                write!(f, "the signature by {} does not verify{others}", keys.join(", "))
            }
            Self::NoValidSignature => f.write_str("no valid signature by a trusted key"),
            Self::BadUrl { reason } => write!(f, "URL: {}", escaped(reason)),
            Self::UrlOutside { url } => {
                write!(f, "URL: {} is outside of this cache, and was not checked", escaped(url))
            }
            Self::UrlCompression { nar, stated, named, found } => {
                write!(f, "the name of {nar} means {named}, but the narinfo says Compression: {stated}")?;
                match found {
                    Some(found) => write!(f, "; the file is {found} by its first bytes"),
                    None => Ok(()),
                }
            }
            Self::UrlHash { nar, harmless } => {
                let contents = if *harmless { ", but has the right contents" } else { "" };
                write!(f, "{nar} is named after neither the FileHash nor the NarHash{contents}")
            }
            Self::MissingNar { nar } => write!(f, "there is no {nar}"),
            Self::WrongFileSize { nar, expected, found, contents } => {
                write!(f, "{nar} has {found} bytes, not the FileSize {expected}{}", contents.note())
            }
            Self::WrongFileHash { nar, expected, found, contents } => {
                write!(f, "{nar} has the hash {found}, not the FileHash {expected}{}", contents.note())
            }
            Self::UnknownCompression { nar, compression } => {
                write!(f, "{nar} is compressed with {}, which this program cannot decompress", escaped(compression))
            }
            Self::WrongAddress(fault) => fault.fmt(f),
            Self::MissingReference { reference } => {
                write!(f, "refers to {reference}, which is not in the cache: the closure has a hole")
            }
            Self::LeftOutReference { reference } => {
                write!(
                    f,
                    "refers to {reference}, which a push left out on purpose (--skip): another cache must have it"
                )
            }
            Self::OrphanNar { doubt, .. } => {
                f.write_str("no narinfo has this NAR")?;
                f.write_str(match doubt {
                    None => "",
                    Some(Doubt::UnreadNarInfos) => " of those that could be read, so it may be in use",
                    Some(Doubt::UnplacedNars) => {
                        ", but of some narinfos it is not certain where their NARs are, so it may be in use"
                    }
                    Some(Doubt::Push) => " yet; a push is running",
                })
            }
            Self::OrphanListing { .. } => f.write_str("no narinfo belongs to this listing"),
            Self::Temporary { .. } => f.write_str("temporary file of a writer that is still running or has crashed"),
            Self::Unknown => f.write_str("not an object of a cache"),
            Self::RootHole { paths, examples } => {
                let lists = if *paths == 1 { "a path that is" } else { "paths that are" };
                write!(f, "lists {paths} {lists} not in the cache, such as ")?;
                let mut separator = "";
                for example in examples {
                    write!(f, "{separator}{example}")?;
                    separator = ", ";
                }
                Ok(())
            }
            Self::MissingSnapshot { snapshot } => write!(f, "its list of paths, {snapshot}, is missing"),
            Self::BrokenRoot { reason }
            | Self::BrokenSnapshot { reason, .. }
            | Self::BrokenClaim { reason }
            | Self::BrokenCondemned { reason } => f.write_str(&escaped(reason)),
            Self::UnfinishedUpload { .. } => {
                f.write_str("multipart upload that was started more than a day ago and not completed; `gc` aborts it")
            }
            Self::StaleClaim => {
                f.write_str("left by a writer that has crashed; the next push or collection removes it")
            }
            Self::BadListing { reason } | Self::ListingDisagrees { reason } => f.write_str(reason),
            Self::CorruptNar { nar, reason } => write!(f, "{nar}: {reason}"),
            Self::WrongNar { nar, fault } => match fault {
                NarFileMismatch::FileSize { .. } | NarFileMismatch::FileHash { .. } => write!(f, "{nar} {fault}"),
                fault => write!(f, "{nar}: {fault}"),
            },
            Self::UndeclaredReferences { hash_parts } => {
                write!(f, "the NAR refers to {}, which is not among the references", hash_parts.join(", "))
            }
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "nothing needs to be done",
            Self::Remove => "remove it",
            Self::Withdraw => "withdraw it and all that refers to it, then publish it again",
            Self::Rewrite => "rewrite it",
            Self::ReadAndRewrite => "check the contents, and rewrite the narinfo if they are right",
            Self::Sign => "sign it, or remove it if it should not be in the cache",
            Self::ReadContents => "check the contents",
            Self::MakeReadable => "make it readable, and audit again",
            Self::RemoveRoot => "remove it with `narutil root remove`",
            Self::Push => "push again under this name",
            Self::ByHand => "check it by hand",
        })
    }
}

impl ContentsState {
    const fn note(self) -> &'static str {
        match self {
            Self::Right => ", but the contents are right",
            Self::Unread | Self::Unknown | Self::Wrong => "",
        }
    }
}

/// A text of a server or a file, as a message has it.
fn escaped(text: &str) -> String {
    const SHOWN: usize = 400;
    let mut shown = String::new();
    for character in text.chars().take(SHOWN) {
        if character.is_control() { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}
