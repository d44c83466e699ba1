//! Realisations of content-addressed outputs, copied between caches beside the paths.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache::realisation::{BuildTraceKey, CachedRealisation, OutputName};
use nixcache::store_path::{HashPart, StorePath};
use nixcache::trust::TrustedKeys;

use super::{Pull, Pulled, ResolvedClosure, Trust};
use crate::cache::merge::publish_realisation;
use crate::cache::{self, Cache};

/// The folders of a cache that hold realisations, of Nix from 2.35 and up to 2.34.
const FOLDERS: [&str; 2] = ["build-trace-v2", "realisations"];

impl Pull {
    /// Copies the realisations of the paths that were found, each from the cache that its path is
    /// from, and returns how many were written.
    ///
    /// A cache that lists what it has is searched. Of one that does not, only entries of the build
    /// trace can be found, by the derivers of content-addressed paths: the older form is named
    /// after a hash that the path does not tell.
    ///
    /// As with narinfos, only those count that the policy accepts, and a realisation has no content
    /// address that would do without a signature.
    pub(super) async fn copy_realisations(
        &self,
        found: &ResolvedClosure,
        pulled: &Pulled,
        to: &Cache,
    ) -> Result<usize, cache::Error> {
        let failed = pulled.failed.iter().map(|(path, _)| path).chain(&pulled.held_back);
        let failed: HashSet<HashPart> = failed.map(StorePath::hash_part).collect();
        let mut by_cache: BTreeMap<usize, HashMap<HashPart, StorePath>> = BTreeMap::new();
        let mut guesses: HashMap<usize, Vec<String>> = HashMap::new();
        for located in found.paths() {
            let info = located.info.as_ref();
            let path = info.store_path();
            if failed.contains(&path.hash_part()) {
                continue;
            }
            by_cache.entry(located.index).or_default().insert(path.hash_part(), path.to_owned());
            if let (Some(deriver), Some(_)) = (info.deriver(), info.content_address())
                && let Some(key) = build_trace_key(&path.to_owned(), &deriver.to_owned())
            {
                guesses.entry(located.index).or_default().push(key.place());
            }
        }
        let mut copied = 0;
        for (index, paths) in by_cache {
            let cache = &self.caches[index];
            if cache.url() == to.url() {
                continue;
            }
            let names = match list(cache).await {
                Ok(names) => names,
                Err(cache::Error::Unsupported { .. }) => guesses.remove(&index).unwrap_or_default(),
                Err(error) => {
                    tracing::warn!("{error}; its realisations are not copied");
                    continue;
                }
            };
            copied += self.copy_named(cache, names, &paths, to).await?;
        }
        Ok(copied)
    }

    async fn copy_named(
        &self,
        cache: &Cache,
        names: Vec<String>,
        paths: &HashMap<HashPart, StorePath>,
        to: &Cache,
    ) -> Result<usize, cache::Error> {
        let mut unsigned = 0;
        let mut copied = 0;
        let mut read = cache.read_many(names);
        while let Some((name, text)) = read.next().await {
            let object = cache.display_name(&name);
            let text = match text {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!("{error}; this realisation is not copied");
                    continue;
                }
            };
            let realisation = match CachedRealisation::parse(&name, &text) {
                Ok(realisation) => realisation,
                Err(error) => {
                    tracing::warn!("{object}: {error}; this realisation is not copied");
                    continue;
                }
            };
            if paths.get(&realisation.out_path().hash_part()) != Some(realisation.out_path()) {
                continue;
            }
            if !self.accepts(&realisation) {
                unsigned += 1;
                tracing::debug!("{object}: not copied: no signature by a trusted key");
                continue;
            }
            copied += usize::from(publish_realisation(to, realisation).await?);
        }
        if unsigned > 0 {
            let (are, have) =
                if unsigned == 1 { ("realisation is", "it has") } else { ("realisations are", "they have") };
            tracing::warn!(
                "{}: {unsigned} {are} not copied: {have} no signature by a trusted key. Nix builds what it is about again",
                cache.url()
            );
        }
        Ok(copied)
    }

    fn accepts(&self, realisation: &CachedRealisation) -> bool {
        match &self.options.trust {
            Trust::Unchecked => true,
            Trust::Signed(policy) => {
                let keys: &TrustedKeys = &policy.keys;
                realisation.verify(keys).len() >= policy.required.max(1)
            }
        }
    }
}

/// The names of the objects that may be realisations.
async fn list(cache: &Cache) -> Result<Vec<String>, cache::Error> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for folder in FOLDERS {
        let mut listed = cache.list_below(folder);
        while let Some((name, _)) = listed.try_next().await? {
            let is_document = name.rsplit_once('.').is_some_and(|(_, extension)| extension == "doi");
            if cache::Object::of(&name) == cache::Object::Realisation && is_document {
                names.insert(name);
            }
        }
    }
    Ok(names.into_iter().collect())
}

/// The output of a derivation that a path is, by their names: `NAME` is the output `out` of
/// `NAME.drv`, and `NAME-dev` its output `dev`.
fn build_trace_key(path: &StorePath, deriver: &StorePath) -> Option<BuildTraceKey> {
    let name = deriver.name().strip_suffix(".drv")?;
    let output = match path.name().strip_prefix(name)? {
        "" => OutputName::default(),
        rest => OutputName::parse(rest.strip_prefix('-')?).ok()?,
    };
    Some(BuildTraceKey { derivation: deriver.clone(), output })
}
