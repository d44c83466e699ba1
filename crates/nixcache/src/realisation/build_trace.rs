//! Realisations keyed by derivations: the build trace, from Nix 2.35.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};

use super::{Error, OutputName, signatures_of, text_of};
use crate::json::{self, Json, JsonNode, ObjectWriter, signature_objects};
use crate::store_path::StorePath;
use crate::text::excerpt;

/// An output of a derivation, identified by the store path of the derivation. The derivation is
/// resolved: instead of content-addressed inputs it has their store paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildTraceKey {
    /// The derivation.
    pub derivation: StorePath,
    /// The output.
    pub output: OutputName,
}

const FOLDER: &str = "build-trace-v2/";

impl BuildTraceKey {
    /// The place of the entry in a cache: `build-trace-v2/<derivation>/<output>.doi`.
    pub fn place(&self) -> String {
        format!("{FOLDER}{}/{}.doi", self.derivation, self.output)
    }

    /// Parses a [`place`](Self::place).
    pub fn from_place(place: &str) -> Result<Self, Error> {
        let parts = place.strip_prefix(FOLDER).and_then(|rest| rest.strip_suffix(".doi")?.split_once('/'));
        let (derivation, output) = parts.ok_or_else(|| Error::Place {
            place: excerpt(place),
            what: "an entry of the build trace",
            expected: "build-trace-v2/<base name of the derivation>/<output>.doi",
        })?;
        Ok(Self { derivation: StorePath::parse(derivation)?, output: OutputName::parse(output)? })
    }

    fn read(node: &JsonNode<'_>) -> Result<Self, json::Error> {
        let output = node.required("outputName")?;
        Ok(Self {
            derivation: node.required("drvPath")?.base_name()?,
            output: OutputName::parse(output.text("the name of an output")?).map_err(|error| output.invalid(error))?,
        })
    }
}

/// Writes `<derivation>^<output>`, the form that Nix's commands accept.
impl fmt::Display for BuildTraceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}^{}", self.derivation, self.output)
    }
}

/// The store path of an output, in the form of Nix from 2.35.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildTraceEntry {
    /// The output and its derivation.
    pub key: BuildTraceKey,
    /// The store path of the output.
    pub out_path: StorePath,
    /// Signatures of the [`fingerprint`](Self::fingerprint), each as in a narinfo, `name:base64`.
    /// Malformed ones are kept.
    pub signatures: BTreeSet<String>,
}

impl BuildTraceEntry {
    /// Makes an entry without signatures.
    pub const fn new(key: BuildTraceKey, out_path: StorePath) -> Self {
        Self { key, out_path, signatures: BTreeSet::new() }
    }

    /// Parses `{"key":{"drvPath":…,"outputName":…},"value":{"outPath":…,"signatures":[…]}}`.
    pub fn parse(text: &[u8]) -> Result<Self, json::Error> {
        let json = Json::parse(text)?;
        let document = JsonNode::root(&json, "the entry");
        let key = BuildTraceKey::read(&document.required("key")?)?;
        Self::read(&document.required("value")?, key)
    }

    /// Parses `{"outPath":…,"signatures":[…]}`, the contents of the file that a cache has at the
    /// [`place`](BuildTraceKey::place) of a key.
    pub fn parse_value(text: &[u8], key: BuildTraceKey) -> Result<Self, json::Error> {
        Self::read(&JsonNode::root(&Json::parse(text)?, "the entry"), key)
    }

    fn read(node: &JsonNode<'_>, key: BuildTraceKey) -> Result<Self, json::Error> {
        Ok(Self { key, out_path: node.required("outPath")?.base_name()?, signatures: signatures_of(node)? })
    }

    /// The text that [`parse`](Self::parse) accepts, in the bytes of Nix.
    pub fn to_json(&self) -> String {
        text_of(|out| self.write(out, true))
    }

    /// The text that [`parse_value`](Self::parse_value) accepts, in the bytes of Nix: the contents
    /// of the file in a cache.
    pub fn value_to_json(&self) -> String {
        text_of(|out| self.write_value(out, true))
    }

    pub(super) fn write(&self, out: &mut impl Write, with_signatures: bool) -> io::Result<()> {
        let mut object = ObjectWriter::new(out);
        let mut key = ObjectWriter::new(object.key("key")?);
        key.text("drvPath", &self.key.derivation)?;
        key.text("outputName", &self.key.output)?;
        key.end()?;
        self.write_value(object.key("value")?, with_signatures)?;
        object.end()
    }

    fn write_value(&self, out: &mut impl Write, with_signatures: bool) -> io::Result<()> {
        let mut value = ObjectWriter::new(out);
        value.text("outPath", &self.out_path)?;
        if with_signatures {
            signature_objects(value.key("signatures")?, &self.signatures)?;
        }
        value.end()
    }
}
