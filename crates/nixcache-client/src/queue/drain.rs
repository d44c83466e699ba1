//! Draining a queue: publishing its entries.

use std::path::PathBuf;

use nixcache::ErrorKind;
use nixcache::closure::{Graph, Node};

use super::{Error, Queue, QueueEntry, QueueOutcome};
use crate::cache::{Cache, blocking};
use crate::push::operation::{load_graph, push_nodes};
use crate::push::{self, PushOptions, Pushed};
use crate::source::Source;

/// The number of entries that are taken at a time. Each holds an open file. Entries that are added
/// while they are published are taken with the next batch.
const DRAIN_BATCH_ENTRIES: usize = 256;

/// The result of draining a queue.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Drained {
    /// What was published, summed over all entries.
    pub pushed: Pushed,
    /// The number of entries that were published, and so removed.
    pub published: usize,
    /// Entries that cannot be published. They are in the directory `failed` of the queue.
    pub set_aside: Vec<SetAsideEntry>,
    /// Entries that could not be published this time. They stay in the queue.
    pub kept: Vec<KeptEntry>,
    /// Whether a push published everything but could not write a root.
    pub lacks_root: bool,
}

/// An entry that cannot be published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetAsideEntry {
    /// The name of the entry.
    pub name: String,
    /// Its new path.
    pub to: PathBuf,
    /// Why it cannot be published: at least one reason.
    pub reasons: Vec<String>,
}

/// An entry that stays in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptEntry {
    /// The name of the entry.
    pub name: String,
    /// Why it could not be published: at least one reason.
    pub reasons: Vec<String>,
}

/// Why a queue was not drained completely.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct DrainError {
    /// The result up to the failure.
    pub drained: Box<Drained>,
    /// The failure.
    #[source]
    pub error: DrainFailure,
}

/// The failure that stopped a drain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrainFailure {
    /// The directory of the queue could not be read or changed.
    #[error(transparent)]
    Queue(#[from] Error),
    /// A source or the cache could not be read or written.
    #[error(transparent)]
    Push(#[from] push::Error),
}

impl DrainError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match &self.error {
            DrainFailure::Queue(error) => error.kind(),
            DrainFailure::Push(error) => error.kind(),
        }
    }
}

impl Queue {
    /// Publishes the closures of all paths in the queue, and removes the entries that are
    /// published. Includes entries that are added during the drain.
    ///
    /// `sources` provide the path infos of the paths. The trees of the options are not published.
    ///
    /// ```
    /// use nixcache::store_path::StoreDir;
    /// use nixcache_client::cache::{Cache, CacheOptions, CacheUrl};
    /// use nixcache_client::push::PushOptions;
    /// use nixcache_client::queue::Queue;
    /// use nixcache_client::source::Source;
    ///
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let (url, options) = (CacheUrl::memory(), CacheOptions::default());
    /// let cache = Cache::create(&url, &StoreDir::default(), options).await?;
    /// let directory = tempfile::tempdir()?;
    /// let queue = Queue::new(directory.path().to_owned());
    /// let drained = queue.drain(&cache, Source::local(), &PushOptions::default()).await?;
    /// assert_eq!(drained.published, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the queue, a source or the cache cannot be read or written. The error
    /// contains the result up to the failure.
    pub async fn drain(
        &self,
        cache: &Cache,
        sources: impl AsRef<[Source]>,
        options: &PushOptions,
    ) -> Result<Drained, DrainError> {
        let sources = sources.as_ref().to_vec();
        let options = options.clone().with(|options| options.trees.clear());
        let mut drained = Drained::default();
        let mut drain = Drain { queue: self, cache, sources, options, drained: &mut drained };
        match drain.run().await {
            Ok(()) => Ok(drained),
            Err(error) => Err(DrainError { drained: Box::new(drained), error }),
        }
    }
}

struct Drain<'a> {
    queue: &'a Queue,
    cache: &'a Cache,
    sources: Vec<Source>,
    options: PushOptions,
    drained: &'a mut Drained,
}

impl Drain<'_> {
    async fn run(&mut self) -> Result<(), DrainFailure> {
        loop {
            let entries = self.queue.take(self.cache.store_dir(), DRAIN_BATCH_ENTRIES)?;
            if entries.is_empty() {
                return Ok(());
            }
            // Load the graph again: the store may have new paths.
            let (store_dir, sources) = (self.cache.store_dir().clone(), self.sources.clone());
            let graph = blocking(move || load_graph(&store_dir, &sources)).await?;
            self.publish(&graph, entries).await?;
            // The kept entries would be taken again at once.
            if !self.drained.kept.is_empty() {
                return Ok(());
            }
        }
    }

    /// Publishes entries together, or one by one if one of them makes the push of all fail.
    async fn publish(&mut self, graph: &Graph, mut entries: Vec<QueueEntry>) -> Result<(), DrainFailure> {
        let first = self.push(graph, &mut entries).await?;
        let is_alone = entries.len() == 1;
        match first {
            Err(_) if !is_alone => {
                for entry in entries {
                    let mut entry = vec![entry];
                    let pushed = self.push(graph, &mut entry).await?;
                    self.settle(graph, entry, pushed)?;
                }
                Ok(())
            }
            pushed => self.settle(graph, entries, pushed),
        }
    }

    /// Settles entries after a push of all their paths.
    fn settle(
        &mut self,
        graph: &Graph,
        entries: Vec<QueueEntry>,
        pushed: Result<Pushed, push::Error>,
    ) -> Result<(), DrainFailure> {
        for entry in entries {
            let name = entry.name().to_string_lossy().into_owned();
            match &pushed {
                Ok(pushed) => {
                    let outcome = entry.settle(self.cache.store_dir(), graph, pushed)?;
                    self.note(name, outcome);
                }
                Err(error @ (push::Error::Graph { .. } | push::Error::Unknown { .. })) => {
                    let outcome = entry.set_aside(error)?;
                    self.note(name, outcome);
                }
                Err(error) => self.drained.kept.push(KeptEntry { name, reasons: vec![error.to_string()] }),
            }
        }
        if let Ok(pushed) = pushed {
            self.count(pushed);
        }
        Ok(())
    }

    fn note(&mut self, name: String, outcome: QueueOutcome) {
        match outcome {
            QueueOutcome::SetAside { to, reasons } => {
                self.drained.set_aside.push(SetAsideEntry { name, to, reasons });
            }
            QueueOutcome::Kept { reasons } => self.drained.kept.push(KeptEntry { name, reasons }),
            QueueOutcome::Published => self.drained.published += 1,
        }
    }

    /// Pushes the paths of entries. The inner error is about the paths, or about what the cache has
    /// of them. The outer error is about a source, or about access to the cache.
    async fn push(
        &mut self,
        graph: &Graph,
        entries: &mut [QueueEntry],
    ) -> Result<Result<Pushed, push::Error>, DrainFailure> {
        let mut roots: Vec<Node> = Vec::new();
        for entry in entries {
            roots.extend(entry.look_up(self.cache.store_dir(), graph));
        }
        match push_nodes(self.cache, &self.sources, graph, roots, &self.options).await {
            Err(error) if is_about_paths(&error) => Ok(Err(error)),
            pushed => Ok(Ok(pushed?)),
        }
    }

    fn count(&mut self, mut pushed: Pushed) {
        self.drained.lacks_root |= pushed.root.is_none() && pushed.is_complete();
        let sum = &mut self.drained.pushed;
        let is_new = |note: &String| !sum.notes.contains(note);
        let notes: Vec<String> = std::mem::take(&mut pushed.notes).into_iter().filter(is_new).collect();
        sum.notes.extend(notes);
        sum.requested += pushed.requested;
        sum.published.append(&mut pushed.published);
        sum.present.append(&mut pushed.present);
        sum.undeclared.append(&mut pushed.undeclared);
        sum.unattached.append(&mut pushed.unattached);
        sum.unsigned += pushed.unsigned;
        sum.realisations += pushed.realisations;
        sum.logs += pushed.logs;
    }
}

/// Whether a push failed because of the paths, or because of what the cache has of them.
fn is_about_paths(error: &push::Error) -> bool {
    use crate::roots;
    match error {
        push::Error::Cache(error) | push::Error::Session(roots::Error::Cache(error)) => {
            error.kind() == ErrorKind::Content
        }
        push::Error::Source(_) | push::Error::NoTrees { .. } | push::Error::StandardInput => false,
        _ => true,
    }
}
