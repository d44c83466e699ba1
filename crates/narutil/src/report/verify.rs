//! Reports of a verification.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use nixcache::narinfo::{Error, NarInfo};
use nixcache::trust::{Standing, Verdict};

use crate::cli::Common;
use crate::json;
use crate::text::shown;

/// How many narinfos are valid, how many are not, and how many could not be read.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    good: AtomicUsize,
    bad: AtomicUsize,
    unread: AtomicUsize,
}

impl Counts {
    pub(crate) fn add_good(&self) {
        self.good.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_bad(&self) {
        self.bad.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_unread(&self) {
        self.unread.fetch_add(1, Ordering::Relaxed);
    }

    /// Prints a summary, if there is more than one narinfo.
    pub(crate) fn tell(&self) {
        let [good, bad, unread] = [&self.good, &self.bad, &self.unread].map(|count| count.load(Ordering::Relaxed));
        if good + bad + unread < 2 {
            return;
        }
        let unread = if unread > 0 { format!(", {unread} could not be checked") } else { String::new() };
        eprintln!("{good} ok, {bad} bad{unread}");
    }
}

/// The result for a narinfo.
pub(crate) struct Judged<'a, 'k> {
    pub(crate) file: &'a Path,
    pub(crate) info: &'a NarInfo<'a>,
    pub(crate) verdict: &'a Verdict<'k>,
    /// Why it is not valid. None if it is valid.
    pub(crate) reason: Option<&'a str>,
    /// The references in the NAR that are not declared. None if NARs are not read.
    pub(crate) undeclared: Option<&'a [String]>,
}

impl Judged<'_, '_> {
    /// The line about it. None if nothing is printed about valid narinfos.
    pub(crate) fn line(&self, common: &Common) -> Option<String> {
        let path = format!("{}/{}", self.info.store_dir(), self.info.store_path());
        if common.json {
            return Some(json::line(&self.to_json(&path)));
        }
        match self.reason {
            Some(reason) => Some(format!("bad  {path}  {reason}")),
            None if common.quiet => None,
            None => {
                let names = self.verdict.keys().collect::<Vec<_>>();
                let address = self.info.content_address().filter(|_| names.is_empty());
                let address = address.map(|address| format!("ca:{address}"));
                let columns = ["ok", &path].into_iter().chain(names).chain(address.as_deref());
                Some(columns.collect::<Vec<_>>().join("  "))
            }
        }
    }

    fn to_json<'b>(&'b self, path: &'b str) -> json::Verification<'b> {
        let signatures = self.verdict.signatures().iter();
        json::Verification {
            path: Some(path),
            file: self.file.to_string_lossy().into_owned(),
            ok: self.reason.is_none(),
            reason: self.reason,
            content_addressed: self.verdict.is_content_addressed(),
            signatures: signatures.map(|(name, standing)| signature(name, *standing)).collect(),
            undeclared_references: self.undeclared,
        }
    }
}

/// The line about a narinfo that cannot be parsed.
pub(crate) fn unreadable(common: &Common, file: &Path, error: &Error) -> String {
    if !common.json {
        return format!("bad  {}  {error}", shown(file));
    }
    json::line(&json::Verification {
        path: None,
        file: file.to_string_lossy().into_owned(),
        ok: false,
        reason: Some(&error.to_string()),
        content_addressed: false,
        signatures: Vec::new(),
        undeclared_references: None,
    })
}

fn signature(key_name: &str, standing: Standing) -> json::Signature<'_> {
    let standing = match standing {
        Standing::Holds => json::Standing::Holds,
        Standing::HoldsAsWritten => json::Standing::HoldsAsWritten,
        Standing::Fails => json::Standing::Fails,
        Standing::Unknown => json::Standing::UnknownKey,
        _ => json::Standing::Malformed,
    };
    json::Signature { key_name, standing }
}
