//! Signatures of roots: by whom it is said that a name means a closure.
//!
//! The signatures of narinfos say that paths are what they seem. They do not say which closure a
//! root stands for: anyone who can write to a cache can give a root another closure, whose paths
//! are signed as well. So a push signs the root with its keys.

use nixcache::signature::{SecretKey, SignatureRef};
use nixcache::store_path::StoreDir;
use nixcache::trust::TrustedKeys;

use super::Root;
use crate::protocol::digest;

/// Signatures of a root that are looked at.
const SIGNATURES_MAX: usize = 64;

/// What the signatures of a root say to a reader that trusts some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authenticity {
    /// Trusted keys with these names have signed this root.
    Signed(Vec<String>),
    /// No trusted key has signed it.
    Unsigned,
    /// A signature under the name of a trusted key does not fit the root, which is another one than
    /// was signed.
    Forged {
        /// The name of the key.
        key: String,
    },
}

impl Root {
    /// The text that is signed: `nixcache-root-1`, the name, `closure`, `pathSet`, and the targets
    /// in full, sorted and separated by commas; with a semicolon between each two.
    pub fn fingerprint(&self, store_dir: &StoreDir) -> String {
        let record = &self.record;
        let mut targets: Vec<String> =
            record.targets.iter().map(|target| store_dir.display(target.as_ref()).to_string()).collect();
        targets.sort_unstable();
        targets.dedup();
        format!(
            "nixcache-root-1;{};{};{};{}",
            self.name,
            digest(&record.closure),
            digest(&record.path_set),
            targets.join(",")
        )
    }

    /// Signs with these keys. Other signatures stay if `is_same` says that what they are about has
    /// not changed.
    pub(crate) fn sign(&mut self, store_dir: &StoreDir, keys: &[SecretKey], is_same: bool) {
        let text = self.fingerprint(store_dir);
        let is_ours = |signature: &String| {
            SignatureRef::parse(signature)
                .is_ok_and(|signature| keys.iter().any(|key| key.name().as_str() == signature.name()))
        };
        self.record.signatures.retain(|signature| is_same && !is_ours(signature));
        self.record.signatures.extend(keys.iter().map(|key| key.sign(text.as_bytes()).to_string()));
        self.record.signatures.sort_unstable();
        self.record.signatures.dedup();
    }

    /// What its signatures say to a reader that trusts these keys.
    pub fn authenticity(&self, store_dir: &StoreDir, trusted: &TrustedKeys) -> Authenticity {
        let text = self.fingerprint(store_dir);
        let mut signed = Vec::new();
        for signature in self.record.signatures.iter().take(SIGNATURES_MAX) {
            let Ok(signature) = SignatureRef::parse(signature) else { continue };
            let Some(key) = trusted.get(signature.name()) else { continue };
            if !signature.verify_by(key, text.as_bytes()) {
                return Authenticity::Forged { key: signature.name().to_owned() };
            }
            signed.push(signature.name().to_owned());
        }
        if signed.is_empty() { Authenticity::Unsigned } else { Authenticity::Signed(signed) }
    }
}
