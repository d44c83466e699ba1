//! Room for a collection on a full disk.
//!
//! A collector writes its plan before it removes anything. In a directory, a small file keeps the
//! space for that. It is given up when the disk is full, and written again at the end.

use std::io::ErrorKind;

use super::{Error, Result};
use crate::cache::{self, Cache};
use crate::protocol::FOLDER;

/// What a plan and its temporary file take, with some to spare.
const RESERVE_BYTES: usize = 64 << 10;

/// The name of the file.
pub(crate) fn object() -> String {
    format!("{FOLDER}/reserve")
}

/// Whether something could not be written for want of space.
pub(crate) fn is_full(error: &Error) -> bool {
    let Error::Cache(cache::Error::Io { error, .. }) = error else { return false };
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Writes the reserve of a directory, if there is none. That there is no room for it is no failure.
pub(crate) async fn keep(cache: &Cache) {
    if cache.directory().is_none() {
        return;
    }
    let kept = async {
        if cache.head(&object()).await?.is_none() {
            // File systems that compress would keep no room for zeros.
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

/// Gives up the reserve, and what writers have left that died long ago. Says whether that freed
/// anything.
pub(crate) async fn release(cache: &Cache) -> Result<bool> {
    let has_reserve = cache.head(&object()).await?.is_some();
    if has_reserve {
        cache.delete(&object()).await?;
    }
    let cleaned = cache.clean(cache::STALE_TEMPORARY_AGE).await?;
    Ok(has_reserve || cleaned > 0)
}
