//! Signing a narinfo while it is built.

use std::num::NonZeroU64;

use super::Fingerprint;
use crate::narinfo::{Builder, Unsigned};
use crate::signature::SecretKey;

impl<'a> Builder<'a> {
    /// Signs the narinfo with a key when it is built, so parts may be set in any order.
    ///
    /// ```
    /// # use nixcache::hash::Hash;
    /// # use nixcache::narinfo::Builder;
    /// # use nixcache::signature::{KeyName, SecretKey};
    /// # use nixcache::store_path::{StoreDir, StorePathRef};
    /// # use nixcache::trust::{TrustPolicy, TrustedKeys, Verifier};
    /// let key = SecretKey::generate(KeyName::new("cache.example.org-1")?)?;
    /// let store = StoreDir::default();
    /// let path = StorePathRef::parse("00bgd045z0d4icpbc2yyz4gx48ak44la-hello")?;
    /// let builder = Builder::new(&store, path, "nar/hello.nar", Hash::sha256(b"the NAR"), 7);
    /// let info = builder.sign(&key).references([path]).build()?;
    ///
    /// let policy = TrustPolicy::new(TrustedKeys::from_iter([key.public_key().clone()]));
    /// assert!(Verifier::new(&policy).verify(&info.as_ref()).is_valid());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sign(self, key: &'a SecretKey) -> Self {
        self.sign_by(key, |key, info| {
            // The builder refuses a size of 0 by itself.
            let nar_size = NonZeroU64::new(info.nar_size).unwrap_or(NonZeroU64::MIN);
            let Unsigned { store_dir, store_path, nar_hash, references, .. } = *info;
            let fingerprint = Fingerprint::new(store_dir, store_path, nar_hash, nar_size, references);
            key.sign(&fingerprint.to_vec())
        })
    }
}
