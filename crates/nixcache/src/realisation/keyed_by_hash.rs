//! Realisations keyed by hashes of derivations, from Nix up to 2.34.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use super::{Error, OutputName, signatures_of, text_of};
use crate::hash::{Format, Hash};
use crate::json::{self, Json, JsonNode, ObjectWriter, signature_lines};
use crate::store_path::StorePath;
use crate::text::excerpt;

/// An output of a derivation, identified by the hash *modulo* of the derivation: one hash for all
/// derivations that differ only in how their fixed inputs are fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputId {
    /// The hash of the derivation.
    pub hash: Hash,
    /// The output.
    pub output: OutputName,
}

const FOLDER: &str = "realisations/";

impl OutputId {
    /// Parses the text that [`Display`](fmt::Display) writes, with the hash in any format that
    /// names its algorithm.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (hash, output) = text.split_once('!').ok_or_else(|| Error::OutputId { text: excerpt(text) })?;
        Ok(Self { hash: Hash::parse(hash)?, output: OutputName::parse(output)? })
    }

    /// The place of the realisation in a cache: `realisations/sha256:<base16>!<output>.doi`.
    pub fn place(&self) -> String {
        format!("{FOLDER}{self}.doi")
    }

    /// Parses a [`place`](Self::place). The hash must be in that format, the only one that Nix
    /// looks for.
    pub fn from_place(place: &str) -> Result<Self, Error> {
        let no_place = || Error::Place {
            place: excerpt(place),
            what: "a realisation",
            expected: "realisations/sha256:<hash in base16>!<output>.doi",
        };
        let text = place.strip_prefix(FOLDER).and_then(|rest| rest.strip_suffix(".doi")).ok_or_else(no_place)?;
        let id = Self::parse(text)?;
        if id.to_string() == text { Ok(id) } else { Err(no_place()) }
    }

    fn read(node: &JsonNode<'_>, text: &str) -> Result<Self, json::Error> {
        Self::parse(text).map_err(|error| node.invalid(error))
    }
}

impl FromStr for OutputId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// Writes `sha256:<base16>!<output>`.
impl fmt::Display for OutputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.hash.display(Format::Base16), self.output)
    }
}

/// The store path of an output, in the form of Nix up to 2.34.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realisation {
    /// The output and its derivation.
    pub id: OutputId,
    /// The store path of the output.
    pub out_path: StorePath,
    /// Signatures of the [`fingerprint`](Self::fingerprint), each as in a narinfo, `name:base64`.
    /// Malformed ones are kept.
    pub signatures: BTreeSet<String>,
    /// The realisations that the output refers to. Nix 2.8 writes and signs them; 2.34 ignores
    /// them, and so refuses the signature.
    pub dependencies: BTreeMap<OutputId, StorePath>,
}

impl Realisation {
    /// Makes a realisation without signatures and dependencies.
    pub const fn new(id: OutputId, out_path: StorePath) -> Self {
        Self { id, out_path, signatures: BTreeSet::new(), dependencies: BTreeMap::new() }
    }

    /// Parses `{"dependentRealisations":{…},"id":…,"outPath":…,"signatures":[…]}`: the file in a
    /// cache, or an element of what `nix realisation info --json` prints.
    pub fn parse(text: &[u8]) -> Result<Self, json::Error> {
        let json = Json::parse(text)?;
        let document = JsonNode::root(&json, "the realisation");
        let id = document.required("id")?;
        let mut realisation = Self {
            id: OutputId::read(&id, id.text("the id of an output")?)?,
            out_path: document.required("outPath")?.base_name()?,
            signatures: signatures_of(&document)?,
            dependencies: BTreeMap::new(),
        };
        if let Some(dependencies) = document.optional("dependentRealisations") {
            for (key, node) in dependencies.members("an object keyed by ids of outputs")? {
                if realisation.dependencies.insert(OutputId::read(&node, key)?, node.base_name()?).is_some() {
                    return Err(node.invalid("this output occurs twice"));
                }
            }
        }
        Ok(realisation)
    }

    /// The text that [`parse`](Self::parse) accepts, in the bytes of Nix 2.8: the contents of the
    /// file in a cache. Newer versions that write this form may sort several signatures in another
    /// order, and never write dependencies.
    pub fn to_json(&self) -> String {
        text_of(|out| self.write(out, true))
    }

    pub(super) fn write(&self, out: &mut impl Write, with_signatures: bool) -> io::Result<()> {
        let mut object = ObjectWriter::new(out);
        let mut dependencies = ObjectWriter::new(object.key("dependentRealisations")?);
        // Texts may have another order.
        let texts: BTreeMap<String, &StorePath> =
            self.dependencies.iter().map(|(id, path)| (id.to_string(), path)).collect();
        for (id, path) in texts {
            dependencies.text(&id, path)?;
        }
        dependencies.end()?;
        object.text("id", &self.id)?;
        object.text("outPath", &self.out_path)?;
        if with_signatures {
            signature_lines(object.key("signatures")?, &self.signatures)?;
        }
        object.end()
    }
}
