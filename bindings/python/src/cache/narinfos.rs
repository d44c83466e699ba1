//! Iteration over the narinfos of a cache.

use std::collections::VecDeque;

use futures_util::stream::{StreamExt, TryStreamExt};
use nixcache_client::cache::{self, Object};
use pyo3::prelude::*;

use super::Cache;
use crate::error::{Failure, Result};
use crate::narinfo::NarInfo;
use crate::runtime::wait;

#[pymethods]
impl Cache {
    fn __iter__(&self, py: Python<'_>) -> Result<NarInfos> {
        let names = wait(py, None, |_| async {
            let is_narinfo =
                async |(name, _): (String, _)| Ok(matches!(Object::of(&name), Object::NarInfo(_)).then_some(name));
            Ok(self.0.list().try_filter_map(is_narinfo).try_collect::<Vec<String>>().await?)
        })?;
        Ok(NarInfos { cache: self.0.clone(), names, read: VecDeque::new() })
    }
}

/// An iterator over the narinfos of a cache.
#[pyclass(module = "nixcache")]
pub(crate) struct NarInfos {
    cache: cache::Cache,
    /// The objects that are not read yet.
    names: Vec<String>,
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
        while self.read.is_empty() && !self.names.is_empty() {
            let names = self.names.split_off(self.names.len().saturating_sub(NARINFOS_PER_BATCH));
            let cache = &self.cache;
            self.read = wait(py, None, |_| async {
                let mut read = cache.read_many(names);
                let mut infos = VecDeque::new();
                while let Some((name, text)) = read.next().await {
                    let Object::NarInfo(part) = Object::of(&name) else { continue };
                    match text {
                        // Removed since it was listed.
                        Ok(None) => {}
                        Ok(Some(text)) => {
                            let info = cache.parse_narinfo(part, &text).map(NarInfo);
                            infos.push_back(info.map_err(Failure::from));
                        }
                        Err(error) => infos.push_back(Err(error.into())),
                    }
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
