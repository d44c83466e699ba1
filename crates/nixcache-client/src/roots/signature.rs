//! Signatures of roots. They say which key vouches that a name stands for a closure.
//!
//! Signatures of narinfos vouch for the contents of paths. They do not say which closure a root
//! stands for: anyone who can write to a cache can give a root another closure, whose paths are
//! signed as well. So a push signs the root with its keys.

use nixcache::signature::{SecretKey, SignatureRef};
use nixcache::store_path::StoreDir;
use nixcache::trust::TrustedKeys;

use super::Root;
use crate::protocol::digest;

/// The number of signatures of a root that are checked.
const SIGNATURES_MAX: usize = 64;

/// The result of checking the signatures of a root against trusted keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authenticity {
    /// The root is signed by the trusted keys with these names.
    Signed(Vec<String>),
    /// The root has no signature by a trusted key.
    Unsigned,
    /// A signature under the name of a trusted key does not match the root, so the root is not the
    /// one that was signed.
    Forged {
        /// The name of the key.
        key: String,
    },
}

impl Root {
    /// The signed text: `nixcache-root-1`, the name, `closure`, `pathSet` and the targets,
    /// separated by semicolons. The targets are full store paths, sorted and separated by commas.
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

    /// Signs the root with these keys. Signatures by other keys stay only if `is_same`, which says
    /// that the signed text is unchanged.
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

    /// Checks the signatures of the root against trusted keys.
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
