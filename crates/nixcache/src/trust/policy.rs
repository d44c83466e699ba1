//! What makes a narinfo valid.

use super::TrustedKeys;

/// What makes a narinfo valid: which keys are trusted, and how many of them must have signed it.
///
/// By default one trusted key must have signed it. A narinfo whose path is content-addressed, that
/// is, made from its contents, is valid without a signature.
///
/// ```
/// use nixcache::trust::{TrustPolicy, TrustedKeys};
///
/// let key = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
/// let keys = TrustedKeys::parse(key)?;
/// let policy = TrustPolicy::new(keys).with(|policy| policy.required = 2);
/// assert_eq!(policy.required, 2);
/// # Ok::<(), nixcache::signature::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrustPolicy {
    /// The trusted keys.
    pub keys: TrustedKeys,
    /// How many different trusted keys must have signed. With 0, every narinfo is valid.
    pub required: usize,
    /// Whether a signature counts that holds only over the references in the order of the narinfo.
    /// Very old versions of Nix made such signatures; current ones refuse them.
    pub as_written: bool,
}

impl TrustPolicy {
    /// The default policy for these keys.
    pub fn new(keys: TrustedKeys) -> Self {
        Self { keys, required: 1, as_written: false }
    }

    /// Changes the policy in place, for use in an expression.
    #[must_use]
    pub fn with(mut self, f: impl FnOnce(&mut Self)) -> Self {
        f(&mut self);
        self
    }
}

/// Trusts no key.
impl Default for TrustPolicy {
    fn default() -> Self {
        Self::new(TrustedKeys::default())
    }
}
