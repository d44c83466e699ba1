//! Uploads in parts that are under way: they are aborted when they are given up.
//!
//! A bucket keeps, and bills, the parts of an upload that is never completed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use object_store::{MultipartUpload, PutPayload, UploadPart};

use crate::redact::chain;

type Shared = Arc<tokio::sync::Mutex<Option<Box<dyn MultipartUpload>>>>;

/// All uploads of this process that are neither complete nor aborted.
static IN_FLIGHT: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

/// An upload that is aborted unless it is completed, also where the work that makes it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    upload: Shared,
}

impl InFlight {
    pub(crate) fn new(upload: Box<dyn MultipartUpload>) -> Self {
        let upload = Arc::new(tokio::sync::Mutex::new(Some(upload)));
        IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&upload));
        Self { upload }
    }

    /// The upload of one more part; none if the upload was aborted in between.
    pub(crate) async fn put_part(&self, bytes: PutPayload) -> Option<UploadPart> {
        Some(self.upload.lock().await.as_mut()?.put_part(bytes))
    }

    pub(crate) async fn complete(self) -> object_store::Result<()> {
        let mut upload = self.upload.lock().await;
        let Some(writing) = upload.as_mut() else {
            let source = "the upload was aborted".to_owned().into();
            return Err(object_store::Error::Generic { store: "upload", source });
        };
        let completed = writing.complete().await.map(drop);
        if completed.is_ok() {
            *upload = None;
        }
        completed
    }

    pub(crate) async fn abort(self) {
        abort(&self.upload).await;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let is_settled = self.upload.try_lock().is_ok_and(|upload| upload.is_none());
        if is_settled {
            forget(&self.upload);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let upload = Arc::clone(&self.upload);
            runtime.spawn(async move { abort(&upload).await });
        }
    }
}

fn forget(upload: &Shared) {
    let mut all = IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|other| !Arc::ptr_eq(other, upload));
}

async fn abort(upload: &Shared) {
    // The lock is held until the answer, so that another call waits for it.
    let mut held = upload.lock().await;
    if let Some(mut upload) = held.take()
        && let Err(error) = upload.abort().await
    {
        let error = chain(&error);
        tracing::info!("an upload in parts could not be aborted: {error}");
    }
    drop(held);
    forget(upload);
}

/// Aborts all uploads of this process, and waits for that, but not longer than `limit`.
pub(crate) async fn abort_all(limit: Duration) {
    let all = IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let aborted = all.iter().map(abort).collect::<FuturesUnordered<_>>().collect::<Vec<()>>();
    if tokio::time::timeout(limit, aborted).await.is_err() {
        tracing::info!("uploads in parts could not be aborted within {} ms", limit.as_millis());
    }
}
