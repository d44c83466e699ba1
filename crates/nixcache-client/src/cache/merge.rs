//! Merging narinfos and realisations with those that another writer has published at the same time:
//! the result has the signatures of both.

use std::sync::{Arc, Mutex, PoisonError};

use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::realisation::CachedRealisation;
use nixcache::signature::SignatureRef;
use nixcache::store_path::{HashPart, StoreDir, StorePath};

use super::{Cache, Error, layout};

/// Publishes a narinfo. If the cache has one of the same path and contents, adds our signatures to
/// it; one of other contents stays as it is.
pub(crate) async fn merge_narinfo(cache: &Cache, part: HashPart, ours: NarInfoBuf) -> Result<(), Error> {
    let store_dir = cache.store_dir().clone();
    let change = move |theirs: Option<&[u8]>| match theirs {
        None => Some(ours.as_str().as_bytes().to_vec()),
        Some(theirs) => with_our_signatures(theirs, &ours, &store_dir),
    };
    cache.edit(&layout::narinfo(part), change).await.map(drop)
}

/// The published narinfo with our signatures added. `None` if it has them already, or is about
/// other contents.
fn with_our_signatures(theirs: &[u8], ours: &NarInfoBuf, store_dir: &StoreDir) -> Option<Vec<u8>> {
    let theirs = NarInfo::parse(theirs, store_dir).ok()?;
    let ours = ours.as_ref();
    let is_same = |other: &NarInfo<'_>| {
        other.nar_hash() == ours.nar_hash()
            && other.nar_size() == ours.nar_size()
            && other.store_path() == ours.store_path()
    };
    if !is_same(&theirs) {
        return None;
    }
    let new: Vec<SignatureRef<'_>> = ours
        .signatures()
        .filter(|signature| !theirs.signatures().any(|other| other == *signature))
        .filter_map(|signature| SignatureRef::parse(signature).ok())
        .collect();
    if new.is_empty() {
        return None;
    }
    let edit = new.into_iter().fold(theirs.edit(), |edit, signature| edit.sign(signature));
    Some(edit.finish().ok()?.as_str().as_bytes().to_vec())
}

/// Publishes a realisation. If the cache has one of the same output and path, adds our signatures
/// to it. Returns whether anything was written.
///
/// If the realisation in the cache names another path for the output, it stays as long as the cache
/// has that path: other paths in the cache were built with it.
pub(crate) async fn publish_realisation(cache: &Cache, ours: CachedRealisation) -> Result<bool, Error> {
    let place = ours.place();
    let other: Arc<Mutex<Option<StorePath>>> = Arc::default();
    let change = {
        let (place, ours, other) = (place.clone(), ours.clone(), Arc::clone(&other));
        move |theirs: Option<&[u8]>| {
            let mut other = other.lock().unwrap_or_else(PoisonError::into_inner);
            *other = None;
            // A realisation that cannot be parsed is replaced: Nix cannot use it either.
            let theirs = theirs.and_then(|text| CachedRealisation::parse(&place, text).ok());
            let Some(theirs) = theirs else { return Some(ours.contents().into_bytes()) };
            if theirs.out_path() != ours.out_path() {
                *other = Some(theirs.out_path().clone());
                return None;
            }
            merged_realisation(&theirs, &ours).map(|merged| merged.contents().into_bytes())
        }
    };
    let edited = match cache.edit(&place, change).await {
        // A writer without read access can still add an absent object.
        Err(Error::Denied { .. }) => return cache.create_object(&place, ours.contents()).await,
        edited => edited?,
    };
    let other = other.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(other) = other else { return Ok(edited) };
    let object = cache.display_name(&place);
    if cache.head(&layout::narinfo(other.hash_part())).await?.is_some() {
        tracing::warn!(
            "{object}: names {other} for this output, which stays; {} is published without it",
            ours.out_path()
        );
        return Ok(false);
    }
    tracing::info!("{object}: named {other}, which is not in the cache any more");
    cache.write(&place, ours.contents()).await.map(|()| true)
}

/// The published realisation with our signatures added. `None` if that changes nothing.
fn merged_realisation(theirs: &CachedRealisation, ours: &CachedRealisation) -> Option<CachedRealisation> {
    let name = |signature: &str| signature.split_once(':').map(|(name, _)| name.to_owned());
    let mut merged = match (theirs, ours) {
        // The one in the cache may have dependencies, while ours has none.
        (CachedRealisation::KeyedByHash(old), CachedRealisation::KeyedByHash(new)) if new.dependencies.is_empty() => {
            CachedRealisation::KeyedByHash(old.clone())
        }
        _ => ours.clone(),
    };
    let names: Vec<Option<String>> = ours.signatures().iter().map(|signature| name(signature)).collect();
    let kept = theirs.signatures().iter().filter(|signature| !names.contains(&name(signature)));
    let signatures = kept.chain(ours.signatures()).cloned().collect();
    *merged.signatures_mut() = signatures;
    (merged != *theirs).then_some(merged)
}
