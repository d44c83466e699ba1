//! References to roots, as users write them: `NAME` or `NAME/GENERATION`.

use std::str::FromStr;

use super::{Error, Result, Root, RootName, RootNameError, exists, generations, latest};
use crate::cache::Cache;

/// A reference to a root: a name, or a name with a generation.
///
/// A name may have slashes, so `a/b` is either the root `a/b` or the generation `b` of the root
/// `a`. [`resolve`](Self::resolve) asks the cache which of them it is.
///
/// ```no_run
/// use nixcache_client::cache::Cache;
/// use nixcache_client::roots::{self, RootReference};
///
/// # async fn example(cache: &Cache) -> Result<(), Box<dyn std::error::Error>> {
/// let reference: RootReference = "release/24.05".parse()?;
/// let root = reference.find(cache).await?;
/// roots::update(cache, &root, |root| root.record.pinned = true).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootReference {
    /// The whole text as a name, if it is one.
    name: Option<RootName>,
    /// The text as a name and a generation, if it can be split.
    split: Option<(RootName, String)>,
}

impl RootReference {
    /// Creates a reference to a generation of a root, or to the root itself.
    pub fn new(name: RootName, generation: Option<String>) -> Self {
        match generation {
            Some(generation) => Self { name: None, split: Some((name, generation)) },
            None => Self { name: Some(name), split: None },
        }
    }

    /// The name, and the generation if the reference has one.
    ///
    /// What follows the last slash is a generation if the cache has such an object, or if the whole
    /// text is not a valid name.
    ///
    /// # Errors
    ///
    /// Returns an error if the cache cannot be listed.
    pub async fn resolve(&self, cache: &Cache) -> Result<(RootName, Option<String>)> {
        let split = self.split.clone().map(|(name, generation)| (name, Some(generation)));
        match (&self.name, split) {
            (None, Some(split)) => Ok(split),
            (Some(_), Some(split)) if exists(cache, &split.0, split.1.as_deref()).await? => Ok(split),
            (name, _) => Ok((name.clone().unwrap_or_default(), None)),
        }
    }

    /// Finds the root in the cache. Without a generation, it is the newest of the name.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NoRoot`] if the cache has no such root, and another error if the root is
    /// damaged or cannot be read.
    pub async fn find(&self, cache: &Cache) -> Result<Root> {
        let (name, generation) = self.resolve(cache).await?;
        let Some(generation) = generation else {
            let found = latest(cache, &name).await?;
            return found.ok_or_else(|| Error::NoRoot { cache: cache.url().to_string(), name: name.to_string() });
        };
        let all = generations(cache, &name).await?;
        if let Some(broken) = all.broken.into_iter().find(|root| root.generation == generation) {
            return Err(broken.error);
        }
        let found = all.roots.into_iter().find(|root| root.generation == generation);
        found.ok_or_else(|| Error::NoRoot { cache: cache.url().to_string(), name: format!("{name}/{generation}") })
    }
}

impl FromStr for RootReference {
    type Err = RootNameError;

    fn from_str(text: &str) -> std::result::Result<Self, RootNameError> {
        let split =
            text.rsplit_once('/').and_then(|(name, generation)| Some((name.parse().ok()?, generation.to_owned())));
        match (text.parse(), split) {
            (Err(error), None) => Err(error),
            (name, split) => Ok(Self { name: name.ok(), split }),
        }
    }
}
