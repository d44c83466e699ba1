//! Deviations of narinfos from what Nix writes.

use std::fmt;

use crate::text::excerpt;

/// A place where a narinfo is not as Nix writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deviation<'a> {
    /// What is odd.
    pub kind: DeviationKind,
    /// The line, counted from 1. The last line if something is missing.
    pub line: usize,
    /// The name of the field, as the narinfo has it or should have it.
    pub field: &'a str,
}

/// Writes the name and the explanation.
impl fmt::Display for Deviation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind, excerpt(self.field), self.kind.explanation())
    }
}

/// Whether Nix accepts a narinfo with a deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NixAccepts {
    /// All versions do.
    Yes,
    /// Older versions such as 2.8 do. Current ones refuse the whole file.
    OnlyOlder,
    /// No version does.
    No,
}

impl NixAccepts {
    /// A name for scripts: `yes`, `only-older` or `no`. It does not change.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::OnlyOlder => "only-older",
            Self::No => "no",
        }
    }
}

macro_rules! deviations {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal, $accepts:ident, $explanation:literal;)+) => {
        /// A kind of deviation. The narinfo still has one meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum DeviationKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl DeviationKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// A name for scripts, in lower case with dashes. It does not change.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// What is odd, what it means, and what Nix does.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$kind => $explanation,)+ }
            }

            /// Whether Nix accepts a narinfo with this deviation.
            pub const fn nix_accepts(self) -> NixAccepts {
                match self { $(Self::$kind => NixAccepts::$accepts,)+ }
            }
        }
    };
}

deviations! {
    /// A field that Nix does not know.
    UnknownField = "unknown-field", Yes, "not a field of a narinfo; ignored, and kept";
    /// Fields stand in another order than Nix writes them.
    FieldOrder = "field-order", Yes, "stands after a field that Nix writes later; the order has no meaning";
    /// No `Compression`.
    MissingCompression = "missing-compression", Yes, "is missing, which means bzip2";
    /// `Compression` without a value.
    EmptyCompression = "empty-compression", Yes, "is empty, which means bzip2";
    /// A compression that no version of Nix has a name for.
    UnknownCompression = "unknown-compression", OnlyOlder,
        "no compression that is known; the NAR cannot be decompressed (Nix 2.8 guesses it, current Nix refuses the file)";
    /// No `References`.
    MissingReferences = "missing-references", Yes, "is missing, which means that there are none";
    /// References are not in ascending order.
    UnsortedReferences = "unsorted-references", Yes, "not sorted; Nix signs them sorted";
    /// A reference occurs twice.
    DuplicateReferences = "duplicate-references", Yes, "a path occurs twice; Nix signs it once";
    /// More than one space between references, or one before or after them.
    ReferenceSpacing = "reference-spacing", Yes, "more spaces than one between each two paths; they have no meaning";
    /// The deriver is `unknown-deriver`.
    UnknownDeriver = "unknown-deriver", Yes, "`unknown-deriver` means that it is not known";
    /// The deriver is not a derivation.
    DeriverNotDerivation = "deriver-not-derivation", Yes, "does not end in `.drv`";
    /// A hash is not `sha256:` and nixbase32, but in base16, base64 or SRI for instance.
    HashForm = "hash-form", Yes, "not written as sha256 in nixbase32";
    /// A size begins with zeros.
    LeadingZeros = "leading-zeros", Yes, "zeros before the number; they have no meaning";
    /// The file size is 0.
    ZeroFileSize = "zero-file-size", Yes, "0, which means that it is not known";
    /// `CA` without a value.
    EmptyContentAddress = "empty-content-address", Yes, "is empty, which means that there is none";
    /// A `Sig` is not a key name, a colon and 64 bytes in base64.
    MalformedSignature = "malformed-signature", OnlyOlder,
        "not a key name and an ed25519 signature in padded base64; it never verifies, the others still count (current Nix refuses the file, unless it is only the padding)";
    /// Signatures are not in ascending order.
    UnsortedSignatures = "unsorted-signatures", Yes, "not sorted; the order has no meaning";
    /// A signature occurs twice.
    DuplicateSignatures = "duplicate-signatures", Yes, "occurs twice, which has no meaning";
    /// The last line has no newline.
    MissingFinalNewline = "missing-final-newline", No, "no newline at the end of the last line; Nix refuses the file";
}

impl DeviationKind {
    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for DeviationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
