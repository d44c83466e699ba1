//! Reserved space for a collection on a full disk.
//!
//! A collector writes its plan before it removes anything. In a directory, a small file reserves
//! the space for the plan. If the disk is full, the collector removes this file, and writes it
//! again at the end.

use std::io::ErrorKind;

use super::{Error, Result};
use crate::cache::{self, Cache};
use crate::protocol::FOLDER;

/// The size of a plan and its temporary file, with some to spare.
const RESERVE_BYTES: usize = 64 << 10;

/// The name of the file.
pub(crate) fn object() -> String {
    format!("{FOLDER}/reserve")
}

/// Whether a write failed because the disk or the quota is full.
pub(crate) fn is_full(error: &Error) -> bool {
    let Error::Cache(cache::Error::Io { error, .. }) = error else { return false };
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Writes the reserve of a directory if there is none. It is not an error if there is no space for
/// it.
pub(crate) async fn keep(cache: &Cache) {
    if cache.directory().is_none() {
        return;
    }
    let kept = async {
        if cache.head(&object()).await?.is_none() {
            // A file system with compression would reserve no space for zeros.
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let noise = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            });
            let bytes: Vec<u8> = noise.flatten().take(RESERVE_BYTES).collect();
            cache.write(&object(), bytes).await?;
        }
        Ok::<_, cache::Error>(())
    };
    if let Err(error) = kept.await {
        tracing::debug!("no reserve for collections of a full disk: {error}");
    }
}

/// Removes the reserve, and stale temporary files of crashed writers. Returns whether that freed
/// any space.
pub(crate) async fn release(cache: &Cache) -> Result<bool> {
    let has_reserve = cache.head(&object()).await?.is_some();
    if has_reserve {
        cache.delete(&object()).await?;
    }
    let cleaned = cache.clean(cache::STALE_TEMPORARY_AGE).await?;
    Ok(has_reserve || cleaned > 0)
}
