//! Which narinfos to trust: fingerprints, trusted keys, and verdicts by a policy.
//!
//! Nix signs a *fingerprint* of a store path: its name, the hash and size of its NAR, and its
//! references. [`Fingerprint`] writes one, from a narinfo ([`NarInfo::fingerprint`]) or from parts.
//! A [`TrustPolicy`] says which keys are trusted and how many of them must have signed. By that
//! policy, a [`Verifier`] gives a [`Verdict`] on a narinfo. Content-addressed paths need no
//! signature.
//!
//! [`Verifier::verify`] checks one narinfo, with the strict verification of `ed25519-dalek`.
//! [`Verifier::verify_batched`] and [`TrustPolicy::verify_batched`] check many narinfos in batches,
//! which is several times as fast, with the same verdicts (see
//! [`Batch`](crate::signature::Batch)).
//!
//! Fingerprints are always available. The rest needs the feature `signature`, which is a default.
//!
//! ```
//! # #[cfg(feature = "signature")] {
//! use nixcache::narinfo::NarInfo;
//! use nixcache::store_path::StoreDir;
//! use nixcache::trust::{TrustPolicy, TrustedKeys, Verifier};
//!
//! let text = "\
//! StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
//! URL: nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz
//! Compression: xz
//! FileHash: sha256:1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d
//! FileSize: 114980
//! NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
//! NarSize: 464152
//! References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
//! Sig: cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+\
//! ZWOI9NTtjo/woMdvAg==
//! ";
//! let info = NarInfo::parse(text.as_bytes(), &StoreDir::default())?;
//! let key = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
//! let keys = TrustedKeys::parse(key)?;
//! let policy = TrustPolicy::new(keys);
//! assert!(Verifier::new(&policy).verify(&info).is_valid());
//!
//! let forged = text.replace("NarSize: ", "NarSize: 1");
//! let forged = NarInfo::parse(forged.as_bytes(), &StoreDir::default())?;
//! assert!(!Verifier::new(&policy).verify(&forged).is_valid());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "signature")]
mod builder;
mod fingerprint;
#[cfg(feature = "signature")]
mod policy;
#[cfg(test)]
#[cfg(feature = "signature")]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
#[cfg(feature = "signature")]
mod threads;
#[cfg(feature = "signature")]
mod trusted_keys;
#[cfg(feature = "signature")]
mod verifier;

pub use self::fingerprint::Fingerprint;
#[cfg(feature = "signature")]
pub use self::{
    policy::TrustPolicy,
    trusted_keys::TrustedKeys,
    verifier::{Standing, Verdict, Verifier},
};
#[cfg(doc)]
use crate::narinfo::NarInfo;
