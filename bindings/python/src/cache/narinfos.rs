//! Iteration over the narinfos of a cache.

use std::collections::VecDeque;

use futures_util::stream::StreamExt;
use nixcache::store_path::HashPart;
use nixcache_client::cache;
use pyo3::prelude::*;

use super::Cache;
use crate::error::{Failure, Result};
use crate::narinfo::NarInfo;
use crate::runtime::wait;

#[pymethods]
impl Cache {
    fn __iter__(&self, py: Python<'_>) -> Result<NarInfos> {
        let listed = wait(py, None, |_| async { Ok(self.0.list_narinfos().await?) })?;
        Ok(NarInfos { cache: self.0.clone(), parts: listed.into_keys().collect(), read: VecDeque::new() })
    }
}

/// An iterator over the narinfos of a cache.
#[pyclass(module = "nixcache")]
pub(crate) struct NarInfos {
    cache: cache::Cache,
    /// The narinfos that are not read yet.
    parts: Vec<HashPart>,
    read: VecDeque<Result<NarInfo>>,
}

#[pymethods]
impl NarInfos {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> Result<Option<NarInfo>> {
        /// The number of narinfos in memory at the same time.
        const NARINFOS_PER_BATCH: usize = 1024;
        while self.read.is_empty() && !self.parts.is_empty() {
            let parts = self.parts.split_off(self.parts.len().saturating_sub(NARINFOS_PER_BATCH));
            let cache = &self.cache;
            self.read = wait(py, None, |_| async {
                let mut read = cache.narinfos(parts);
                let mut infos = VecDeque::new();
                while let Some((_, info)) = read.next().await {
                    // One that is absent was removed after it was listed.
                    infos.extend(info.transpose().map(|info| info.map(NarInfo).map_err(Failure::from)));
                }
                Ok(infos)
            })?;
        }
        self.read.pop_front().transpose()
    }

    fn __repr__(&self) -> String {
        format!("<NarInfos of {}>", self.cache.url())
    }
}
