//! Path infos read from JSON. Each value is taken in any form that some version of Nix gave it,
//! whatever version the document says that it is.

use super::{Download, PathInfo, PathInfos};
use crate::json::{Error, Json, Node};
use crate::store_path::{StoreDir, StorePath, StorePathRef};

/// The keys that tell an info from an object keyed by paths; none of them could be a path.
const INFO_KEYS: [&str; 3] = ["path", "narHash", "narSize"];

impl PathInfos {
    /// Reads what `nix path-info --json` prints, in any version of Nix; see
    /// [`JsonVersion`](super::JsonVersion). One info alone is read, too, if it says its `path`.
    ///
    /// Every path must be in `store_dir`, and no path may stand in the document twice. `narHash`
    /// and `narSize` must be there; what else is missing is unknown, or empty. Both lists come
    /// sorted by path, as Nix prints them.
    pub fn parse_json(text: &[u8], store_dir: &StoreDir) -> Result<Self, Error> {
        let json = Json::parse(text)?;
        let document = Node::root(&json, "the document");
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

    fn add_keyed(&mut self, keyed: &Node<'_>, store_dir: &StoreDir) -> Result<(), Error> {
        for (key, node) in keyed.members("an object keyed by store paths, or an array")? {
            let node = node.named(key);
            let path = node.as_store_path(key, store_dir)?;
            self.add(path, &node, store_dir)?;
        }
        Ok(())
    }

    fn add_unkeyed(&mut self, node: &Node<'_>, store_dir: &StoreDir) -> Result<(), Error> {
        if !node.is_object() {
            return Err(node.unexpected("a path info: an object"));
        }
        let path = node.required("path")?.store_path(store_dir)?;
        let name = store_dir.display(path.as_ref()).to_string();
        self.add(path, &node.named(&name), store_dir)
    }

    fn add(&mut self, path: StorePath, node: &Node<'_>, store_dir: &StoreDir) -> Result<(), Error> {
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

    /// Puts both lists in order; an error if a path is there twice.
    fn sort(&mut self, store_dir: &StoreDir) -> Result<(), Error> {
        self.valid.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.invalid.sort_unstable();
        match self.sorted().windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(Error::Twice { place: store_dir.display(pair[0].0).to_string() }),
            None => Ok(()),
        }
    }

    /// All paths in order, each with what is known of it.
    pub(super) fn sorted(&self) -> Vec<(StorePathRef<'_>, Option<&PathInfo>)> {
        let valid = self.valid.iter().map(|info| (info.path.as_ref(), Some(info)));
        let mut paths: Vec<_> = valid.chain(self.invalid.iter().map(|path| (path.as_ref(), None))).collect();
        paths.sort_by_key(|(path, _)| *path);
        paths
    }
}

impl PathInfo {
    /// Reads the info of a path that is known from elsewhere, as it stands in a document of
    /// [`PathInfos`] under its key.
    pub fn parse_json(text: &[u8], path: StorePathRef<'_>, store_dir: &StoreDir) -> Result<Self, Error> {
        let json = Json::parse(text)?;
        Self::read(path.to_owned(), &Node::root(&json, &store_dir.display(path).to_string()), store_dir)
    }

    fn read(path: StorePath, node: &Node<'_>, store_dir: &StoreDir) -> Result<Self, Error> {
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
    fn read(node: &Node<'_>) -> Result<Option<Self>, Error> {
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

/// Whether the version is a known one, and the store is the one that was asked for.
fn check_head(node: &Node<'_>, store_dir: &StoreDir) -> Result<(), Error> {
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
