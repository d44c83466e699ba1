//! Parsing path infos from JSON. Each value may have the form of any version of Nix, regardless of
//! the version of the document.

use super::{Download, PathInfo, PathInfos};
use crate::json::{Error, Json, JsonNode};
use crate::store_path::{StoreDir, StorePath, StorePathRef};

/// The keys that tell an info from an object keyed by paths. None of them can be a path.
const INFO_KEYS: [&str; 3] = ["path", "narHash", "narSize"];

impl PathInfos {
    /// Parses the output of `nix path-info --json` of any version of Nix; see
    /// [`JsonVersion`](super::JsonVersion). A single info with a `path` is accepted, too.
    ///
    /// Every path must be in `store_dir`, and no path may occur twice. `narHash` and `narSize` are
    /// required; anything else that is missing is unknown, or empty. Both lists are sorted by path,
    /// as in the output of Nix.
    pub fn parse_json(text: &[u8], store_dir: &StoreDir) -> Result<Self, Error> {
        let json = Json::parse(text)?;
        let document = JsonNode::root(&json, "the document");
        let mut infos = Self::default();
        if document.is_array() {
            for node in document.elements("an array of path infos")? {
                infos.add_unkeyed(&node, store_dir)?;
            }
        } else if INFO_KEYS.into_iter().any(|key| document.get(key).is_some()) {
            infos.add_unkeyed(&document, store_dir)?;
        } else if let Some(keyed) = document.get("info") {
            check_head(&document, store_dir)?;
            infos.add_keyed(&keyed, store_dir)?;
        } else {
            infos.add_keyed(&document, store_dir)?;
        }
        infos.sort(store_dir)?;
        Ok(infos)
    }

    fn add_keyed(&mut self, keyed: &JsonNode<'_>, store_dir: &StoreDir) -> Result<(), Error> {
        for (key, node) in keyed.members("an object keyed by store paths, or an array")? {
            let node = node.named(key);
            let path = node.as_store_path(key, store_dir)?;
            self.add(path, &node, store_dir)?;
        }
        Ok(())
    }

    fn add_unkeyed(&mut self, node: &JsonNode<'_>, store_dir: &StoreDir) -> Result<(), Error> {
        if !node.is_object() {
            return Err(node.unexpected("a path info: an object"));
        }
        let path = node.required("path")?.store_path(store_dir)?;
        let name = store_dir.display(path.as_ref()).to_string();
        self.add(path, &node.named(&name), store_dir)
    }

    fn add(&mut self, path: StorePath, node: &JsonNode<'_>, store_dir: &StoreDir) -> Result<(), Error> {
        let valid = match node.optional("valid") {
            Some(valid) => valid.boolean()?,
            None => !node.is_null(),
        };
        if valid {
            self.valid.push(PathInfo::read(path, node, store_dir)?);
        } else {
            self.invalid.push(path);
        }
        Ok(())
    }

    /// Sorts both lists. An error if a path occurs twice.
    fn sort(&mut self, store_dir: &StoreDir) -> Result<(), Error> {
        self.valid.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.invalid.sort_unstable();
        match self.sorted().windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(Error::Twice { place: store_dir.display(pair[0].0).to_string() }),
            None => Ok(()),
        }
    }

    /// All paths in order, each with its info.
    pub(super) fn sorted(&self) -> Vec<(StorePathRef<'_>, Option<&PathInfo>)> {
        let valid = self.valid.iter().map(|info| (info.path.as_ref(), Some(info)));
        let mut paths: Vec<_> = valid.chain(self.invalid.iter().map(|path| (path.as_ref(), None))).collect();
        paths.sort_by_key(|(path, _)| *path);
        paths
    }
}

impl PathInfo {
    /// Parses the info of a path that is known from elsewhere, in the form that it has under its
    /// key in a document of [`PathInfos`].
    pub fn parse_json(text: &[u8], path: StorePathRef<'_>, store_dir: &StoreDir) -> Result<Self, Error> {
        let json = Json::parse(text)?;
        Self::read(path.to_owned(), &JsonNode::root(&json, &store_dir.display(path).to_string()), store_dir)
    }

    fn read(path: StorePath, node: &JsonNode<'_>, store_dir: &StoreDir) -> Result<Self, Error> {
        if !node.is_object() {
            return Err(node.unexpected("a path info: an object"));
        }
        check_head(node, store_dir)?;
        if let Some(said) = node.optional("path")
            && said.store_path(store_dir)? != path
        {
            return Err(said.unexpected("the path that this info is about"));
        }
        let number = |key| node.optional(key).map(|node| node.number()).transpose();
        let mut info = Self::new(path, node.required("narHash")?.hash()?, node.required("narSize")?.number()?);
        if let Some(references) = node.optional("references") {
            for reference in references.elements("an array of store paths")? {
                info.references.insert(reference.store_path(store_dir)?);
            }
        }
        info.deriver = node.optional("deriver").map(|node| node.store_path(store_dir)).transpose()?;
        if let Some(signatures) = node.optional("signatures") {
            info.signatures = signatures.signatures()?;
        }
        info.ca = node.optional("ca").map(|node| node.content_address()).transpose()?;
        info.ultimate = node.optional("ultimate").map_or(Ok(false), |node| node.boolean())?;
        info.registration_time = number("registrationTime")?;
        info.closure_size = number("closureSize")?;
        info.download = Download::read(node)?;
        Ok(info)
    }
}

impl Download {
    fn read(node: &JsonNode<'_>) -> Result<Option<Self>, Error> {
        const OTHERS: [&str; 4] = ["compression", "downloadHash", "downloadSize", "closureDownloadSize"];
        if node.optional("url").is_none() && OTHERS.into_iter().all(|key| node.optional(key).is_none()) {
            return Ok(None);
        }
        let number = |key| node.optional(key).map(|node| node.number()).transpose();
        Ok(Some(Self {
            url: node.required("url")?.line("a URL")?.to_owned(),
            compression: match node.optional("compression") {
                Some(node) => Some(node.line("the name of a compression")?.to_owned()),
                None => None,
            },
            file_hash: node.optional("downloadHash").map(|node| node.hash()).transpose()?,
            file_size: number("downloadSize")?,
            closure_size: number("closureDownloadSize")?,
        }))
    }
}

/// Checks that the version is known, and that the store is the expected one.
fn check_head(node: &JsonNode<'_>, store_dir: &StoreDir) -> Result<(), Error> {
    if let Some(version) = node.optional("version")
        && !matches!(version.number()?, 1..=3)
    {
        return Err(version.unexpected("version 1, 2 or 3"));
    }
    if let Some(said) = node.optional("storeDir") {
        let found = said.text("the path of a store directory")?;
        if found != store_dir.as_str() {
            let [found, expected] = [found, store_dir.as_str()].map(crate::text::excerpt);
            return Err(Error::StoreDir { place: said.place(), found, expected });
        }
    }
    Ok(())
}
