//! `Cache.verify`: signatures of narinfos, and NARs.

use nixcache_client::verify::{self, VerifiedNarInfo, VerifyOptions};
use pyo3::prelude::*;

use super::Cache;
use crate::convert::{counted, threads as thread_count};
use crate::error::Result;
use crate::runtime::wait;
use crate::signature::TrustedKeys;

#[pymethods]
impl Cache {
    /// Verifies the narinfos of `paths`, or of all paths, by the signatures of `trusted` keys. With
    /// `contents`, the NARs are read and compared with the narinfos.
    #[pyo3(signature = (paths=None, /, *, trusted, contents=false, threads=None))]
    fn verify(
        &self,
        py: Python<'_>,
        paths: Option<&Bound<'_, PyAny>>,
        trusted: &Bound<'_, TrustedKeys>,
        contents: bool,
        threads: Option<usize>,
    ) -> Result<Verified> {
        let parts = self.hash_parts(paths)?;
        let threads = thread_count(threads)?;
        let policy = trusted.get().policy.clone();
        let options = VerifyOptions::default()
            .with(|options| (options.policy, options.contents, options.threads) = (policy, contents, threads));
        let verified = wait(py, None, |_| async move { Ok(verify::verify(&self.0, parts, &options).await?) })?;
        let told = |narinfo: &VerifiedNarInfo| Some((narinfo.object.clone(), narinfo.problem.clone()?));
        Ok(Verified {
            narinfos: verified.narinfos.len(),
            bad: verified.bad().filter_map(told).collect(),
            unread: verified.unread().filter_map(told).collect(),
        })
    }
}

/// The result of verifying.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Verified {
    /// The number of narinfos.
    #[pyo3(get)]
    narinfos: usize,
    bad: Vec<(String, String)>,
    unread: Vec<(String, String)>,
}

#[pymethods]
impl Verified {
    /// The narinfos that are not valid, each with the reason.
    #[getter]
    fn bad(&self) -> Vec<(String, String)> {
        self.bad.clone()
    }

    /// The narinfos that could not be verified, each with the reason.
    #[getter]
    fn unread(&self) -> Vec<(String, String)> {
        self.unread.clone()
    }

    fn __bool__(&self) -> bool {
        self.bad.is_empty() && self.unread.is_empty()
    }

    fn __repr__(&self) -> String {
        let narinfos = counted(self.narinfos, "narinfo");
        format!("<Verified: {narinfos}, {} bad, {} unread>", self.bad.len(), self.unread.len())
    }
}
