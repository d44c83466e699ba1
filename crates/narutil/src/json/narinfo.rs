//! Documents about narinfos, their signatures, and keys.

use serde::Serialize;

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GeneratedKey<'a> {
    /// The secret key; missing if it is written to a file
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key: Option<&'a str>,
    /// The public key, `name:base64`
    pub(crate) public_key: &'a str,
}

/// One document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PublicKey<'a> {
    /// The public key, `name:base64`
    pub(crate) public_key: &'a str,
}

/// One document for each narinfo.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NarInfoCheck<'a> {
    /// The narinfo
    pub(crate) file: String,
    /// Whether it is valid
    pub(crate) ok: bool,
    /// Why it is not valid
    pub(crate) error: Option<String>,
    /// What Nix would have written otherwise
    pub(crate) deviations: Vec<Deviation<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Deviation<'a> {
    /// The line in the narinfo, from 1
    pub(crate) line: usize,
    /// The name of the deviation, which does not change
    pub(crate) name: &'static str,
    /// The field
    pub(crate) field: &'a str,
    /// What is odd
    pub(crate) explanation: &'static str,
    /// Which versions of Nix accept it
    #[cfg_attr(test, schemars(extend("enum" = ["yes", "only-older", "no"])))]
    pub(crate) nix_accepts: &'static str,
}

/// One document for each narinfo.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Signed<'a> {
    /// The store path
    pub(crate) path: String,
    /// The narinfo
    pub(crate) file: String,
    /// Names of keys whose signatures were added or replaced
    pub(crate) added: &'a [String],
    /// Names of keys whose signatures were removed
    pub(crate) removed: &'a [String],
}

/// One document for each narinfo that could be read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Verification<'a> {
    /// The store path, if the narinfo could be parsed
    pub(crate) path: Option<&'a str>,
    /// The narinfo
    pub(crate) file: String,
    /// Whether enough trusted keys have signed it, or its content address holds
    pub(crate) ok: bool,
    /// Why not
    pub(crate) reason: Option<&'a str>,
    /// Whether its content address vouches for it
    pub(crate) content_addressed: bool,
    /// Each signature
    pub(crate) signatures: Vec<Signature<'a>>,
    /// With `--contents`: hash parts that occur in the NAR and are not declared
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undeclared_references: Option<&'a [String]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Signature<'a> {
    /// The name of the key
    pub(crate) key_name: &'a str,
    /// What it is worth
    pub(crate) standing: Standing,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Standing {
    Holds,
    HoldsAsWritten,
    Fails,
    UnknownKey,
    Malformed,
}
