//! `Cache.audit`: checking a whole cache.

use nixcache_client::audit::{self, AuditOptions, Remedy};
use pyo3::prelude::*;

use super::Cache;
use crate::convert::{counted, quoted, threads as thread_count};
use crate::error::Result;
use crate::runtime::{Progress, wait};
use crate::signature::TrustedKeys;
use crate::store_path::StorePath;

#[pymethods]
impl Cache {
    /// Checks the whole cache. `trusted` verifies signatures, `contents` reads all NARs, and
    /// `notes` includes harmless findings.
    #[pyo3(signature = (*, trusted=None, contents=false, notes=true, threads=None, progress=None))]
    fn audit(
        &self,
        py: Python<'_>,
        trusted: Option<&Bound<'_, TrustedKeys>>,
        contents: bool,
        notes: bool,
        threads: Option<usize>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Result<Audited> {
        let threads = thread_count(threads)?;
        let policy = trusted.map(|trusted| trusted.get().policy.clone());
        let audited = wait(py, progress, |told| {
            let options = AuditOptions::default().with(|options| {
                (options.policy, options.contents, options.notes, options.threads) = (policy, contents, notes, threads);
                options.progress = nixcache_client::Progress::new(move |event| told.tell(of_audit(&event)));
            });
            async move { Ok(audit::audit(&self.0, &options).await?) }
        })?;
        let audit::Audited { narinfos, nars, file_size, unsigned, signatures_checked, elsewhere, .. } = audited;
        let findings = audited.findings.into_iter().map(Finding::of).collect();
        Ok(Audited { findings, narinfos, nars, file_size, unsigned, signatures_checked, elsewhere })
    }
}

fn of_audit(event: &audit::AuditEvent) -> Option<Progress> {
    use audit::AuditEvent as Event;
    Some(match *event {
        Event::Listed { objects } => Progress::new("listed", None, Some(objects), None),
        Event::Read { objects } => Progress::new("read", None, Some(objects), None),
        Event::Contents { files, bytes } => Progress::new("contents", None, Some(files), Some(bytes)),
        Event::ContentsRead { bytes } => Progress::new("contents-read", None, None, Some(bytes)),
        _ => return None,
    })
}

/// A finding of an audit: something in a cache that is not as it should be.
#[pyclass(frozen, eq, hash, module = "nixcache")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Finding {
    /// The object, by its name in the cache.
    #[pyo3(get)]
    object: String,
    /// A stable name for scripts, in lower case with dashes.
    #[pyo3(get)]
    kind: &'static str,
    /// The explanation.
    #[pyo3(get)]
    message: String,
    /// What would repair it. None for harmless findings.
    #[pyo3(get)]
    remedy: Option<String>,
    /// Whether the object could not be read, rather than that something is wrong with it.
    #[pyo3(get)]
    is_unread: bool,
    path: Option<StorePath>,
    text: String,
}

impl Finding {
    fn of(finding: audit::Finding) -> Self {
        let (text, is_unread) = (finding.to_string(), finding.is_unread());
        let remedy = Some(finding.remedy()).filter(|remedy| *remedy != Remedy::None);
        Self {
            kind: finding.kind.name(),
            message: finding.kind.to_string(),
            remedy: remedy.map(|remedy| remedy.to_string()),
            object: finding.object,
            path: finding.path.map(StorePath),
            is_unread,
            text,
        }
    }
}

#[pymethods]
impl Finding {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str) = ("kind", "object", "path");

    /// The store path, if known.
    #[getter]
    fn path(&self) -> Option<StorePath> {
        self.path.clone()
    }

    /// Whether the finding is harmless.
    #[getter]
    fn is_note(&self) -> bool {
        self.remedy.is_none()
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Finding {} in {}>", self.kind, quoted(py, &self.object))
    }
}

/// The result of an audit.
#[pyclass(frozen, module = "nixcache")]
pub(crate) struct Audited {
    findings: Vec<Finding>,
    /// The number of narinfos.
    #[pyo3(get)]
    narinfos: usize,
    /// The number of NAR files.
    #[pyo3(get)]
    nars: usize,
    /// The size of the NAR files in bytes.
    #[pyo3(get)]
    file_size: u64,
    /// The number of paths with neither a signature nor a content address.
    #[pyo3(get)]
    unsigned: usize,
    /// Whether signatures were verified.
    #[pyo3(get)]
    signatures_checked: bool,
    /// The number of NARs outside of the cache, which were not checked.
    #[pyo3(get)]
    elsewhere: usize,
}

#[pymethods]
impl Audited {
    /// All findings, in the order of objects.
    #[getter]
    fn findings(&self) -> Vec<Finding> {
        self.findings.clone()
    }

    /// The findings that are not harmless.
    #[getter]
    fn faults(&self) -> Vec<Finding> {
        self.findings.iter().filter(|finding| finding.remedy.is_some()).cloned().collect()
    }

    /// The objects that could not be read. While there are any, nothing is known to be unused.
    #[getter]
    fn unread(&self) -> Vec<Finding> {
        self.findings.iter().filter(|finding| finding.is_unread).cloned().collect()
    }

    fn __repr__(&self) -> String {
        let faults = self.findings.iter().filter(|finding| finding.remedy.is_some()).count();
        let (narinfos, nars) = (counted(self.narinfos, "narinfo"), counted(self.nars, "NAR"));
        let (size, faults) = (counted(self.file_size, "byte"), counted(faults, "fault"));
        format!("<Audited: {narinfos}, {nars} of {size}; {faults}>")
    }
}
