//! A value of a document and its path, with getters that check types.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

use super::{Error, Json};
use crate::hash::{Algorithm, Format, Hash};
use crate::store_path::{ContentAddress, Method, StoreDir, StorePath, StorePathRef};
use crate::text::excerpt;

/// A value of a document and its path.
#[derive(Clone, Copy)]
pub(crate) struct JsonNode<'n> {
    json: &'n Json<'n>,
    step: Step<'n>,
    parent: Option<&'n JsonNode<'n>>,
}

#[derive(Clone, Copy)]
enum Step<'n> {
    /// The document, or the part about one store path.
    Root(&'n str),
    Key(&'n str),
    Index(usize),
}

impl<'n> JsonNode<'n> {
    /// A value that errors call `name`.
    pub(crate) fn root(json: &'n Json<'n>, name: &'n str) -> Self {
        Self { json, step: Step::Root(name), parent: None }
    }

    /// This value, with `name` as its whole path.
    pub(crate) fn named(&self, name: &'n str) -> Self {
        Self::root(self.json, name)
    }

    pub(crate) fn is_null(&self) -> bool {
        *self.json == Json::Null
    }

    pub(crate) fn is_array(&self) -> bool {
        matches!(self.json, Json::Array(_))
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self.json, Json::Object(_))
    }

    /// The value of a key. `None` if the object lacks it, or if this is not an object.
    pub(crate) fn get(&'n self, key: &'static str) -> Option<Self> {
        let Json::Object(members) = self.json else { return None };
        Some(Self { json: members.get(key)?, step: Step::Key(key), parent: Some(self) })
    }

    /// The value of a key that may be missing or `null`.
    pub(crate) fn optional(&'n self, key: &'static str) -> Option<Self> {
        self.get(key).filter(|node| !node.is_null())
    }

    /// The value of a required key.
    pub(crate) fn required(&'n self, key: &'static str) -> Result<Self, Error> {
        self.get(key).ok_or_else(|| Error::Missing { place: self.place(), key })
    }

    /// Keys and values of an object, in the order of the keys.
    pub(crate) fn members(
        &'n self,
        expected: &'static str,
    ) -> Result<impl Iterator<Item = (&'n str, Self)> + use<'n>, Error> {
        let Json::Object(members) = self.json else { return Err(self.unexpected(expected)) };
        Ok(members.iter().map(|(key, json)| (&**key, Self { json, step: Step::Key(key), parent: Some(self) })))
    }

    pub(crate) fn elements(&'n self, expected: &'static str) -> Result<impl Iterator<Item = Self> + use<'n>, Error> {
        let Json::Array(elements) = self.json else { return Err(self.unexpected(expected)) };
        let nodes = elements.iter().enumerate();
        Ok(nodes.map(|(index, json)| Self { json, step: Step::Index(index), parent: Some(self) }))
    }

    pub(crate) fn text(&self, expected: &'static str) -> Result<&'n str, Error> {
        if let Json::Text(text) = self.json { Ok(text) } else { Err(self.unexpected(expected)) }
    }

    /// A text that fits on a line of a narinfo.
    pub(crate) fn line(&self, expected: &'static str) -> Result<&'n str, Error> {
        let text = self.text(expected)?;
        if text.chars().any(char::is_control) {
            return Err(self.invalid(format_args!("\"{}\" has a control character", excerpt(text))));
        }
        Ok(text)
    }

    pub(crate) fn number(&self) -> Result<u64, Error> {
        let Json::Number(Some(number)) = *self.json else {
            return Err(self.unexpected("a whole number from 0 to 18446744073709551615"));
        };
        Ok(number)
    }

    pub(crate) fn boolean(&self) -> Result<bool, Error> {
        if let Json::Bool(value) = *self.json { Ok(value) } else { Err(self.unexpected("true or false")) }
    }

    /// A store path by its base name.
    pub(crate) fn base_name(&self) -> Result<StorePath, Error> {
        let text = self.text("the base name of a store path")?;
        StorePath::parse(text).map_err(|error| self.invalid(error))
    }

    /// A store path: a full path, or a base name.
    pub(crate) fn store_path(&self, store_dir: &StoreDir) -> Result<StorePath, Error> {
        self.as_store_path(self.text("a store path")?, store_dir)
    }

    /// Parses a text that belongs to this node as a full path or a base name.
    pub(crate) fn as_store_path(&self, text: &str, store_dir: &StoreDir) -> Result<StorePath, Error> {
        let path = if text.starts_with('/') { store_dir.parse(text) } else { StorePathRef::parse(text) };
        path.map(StorePath::from).map_err(|error| self.invalid(error))
    }

    /// A hash: a text in any format that names its algorithm, or an object with `algorithm`,
    /// `format` and `hash`, as in some versions between 2.32 and 2.34.
    pub(crate) fn hash(&self) -> Result<Hash, Error> {
        if !self.is_object() {
            return Hash::parse(self.text("a hash")?).map_err(|error| self.invalid(error));
        }
        let algorithm = self.required("algorithm")?;
        let known: Algorithm =
            algorithm.text("the name of an algorithm")?.parse().map_err(|error| algorithm.invalid(error))?;
        let digest = self.required("hash")?;
        let text = digest.text("a digest")?;
        let hash = Hash::parse_as(known, text).map_err(|error| digest.invalid(error))?;
        if let Some(node) = self.optional("format") {
            let format: Format = node.text("the name of a format")?.parse().map_err(|error| node.invalid(error))?;
            // Each format has its own length.
            if hash.display_digest(format).as_str().len() != text.len() {
                return Err(digest.invalid(format_args!("this is not {format}, the format in \"format\"")));
            }
        }
        Ok(hash)
    }

    /// A content address: a text, or since version 2 an object with `method` and `hash`.
    pub(crate) fn content_address(&self) -> Result<ContentAddress, Error> {
        const METHOD: &str = "\"flat\", \"nar\", \"text\" or \"git\"";
        if !self.is_object() {
            return ContentAddress::parse(self.text("a content address")?).map_err(|error| self.invalid(error));
        }
        let method = self.required("method")?;
        let known = match method.text(METHOD)? {
            "flat" => Method::Flat,
            "nar" => Method::Nar,
            "text" => Method::Text,
            "git" => Method::Git,
            _ => return Err(method.unexpected(METHOD)),
        };
        ContentAddress::new(known, self.required("hash")?.hash()?).map_err(|error| self.invalid(error))
    }

    /// Signatures: each is a line `name:base64`, or since version 3 an object with `keyName` and
    /// `sig`. The part after the name is not checked.
    pub(crate) fn signatures(&'n self) -> Result<BTreeSet<String>, Error> {
        let signatures = self.elements("an array of signatures")?.map(|node| {
            if !node.is_object() {
                return node.line("a signature").map(str::to_owned);
            }
            let name = node.required("keyName")?;
            let text = name.line("the name of a key")?;
            if text.contains(':') {
                return Err(name.unexpected("the name of a key, without a colon"));
            }
            Ok(format!("{text}:{}", node.required("sig")?.line("a signature in base64")?))
        });
        signatures.collect()
    }

    pub(crate) fn unexpected(&self, expected: &'static str) -> Error {
        Error::Unexpected { place: self.place(), expected, found: self.json.described() }
    }

    pub(crate) fn invalid(&self, reason: impl Display) -> Error {
        Error::Invalid { place: self.place(), reason: reason.to_string() }
    }

    /// The path from the root to this value, such as `/nix/store/…-hello: references[3]`.
    pub(crate) fn place(&self) -> String {
        // At most 127 levels, and few are ever named.
        let mut place = self.parent.map_or_else(String::new, JsonNode::place);
        let is_first = self.parent.is_some_and(|parent| matches!(parent.step, Step::Root(_)));
        match self.step {
            Step::Root(name) => place.push_str(&shown(name)),
            Step::Key(key) => {
                place.push_str(if is_first { ": " } else { "." });
                place.push_str(&shown(key));
            }
            Step::Index(index) => {
                place.push_str(if is_first { ": " } else { "" });
                // Writing to a string does not fail.
                let _ = write!(place, "[{index}]");
            }
        }
        place
    }
}

/// A key for messages. A store path is shown whole.
fn shown(key: &str) -> String {
    /// A path in a store directory of ordinary length.
    const LIMIT: usize = 300;
    if key.len() <= LIMIT && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return key.to_owned();
    }
    excerpt(key)
}
