//! Publishing store paths: packed, compared with what is registered, compressed, signed, and
//! uploaded so that the cache is whole at every instant.
//!
//! A [`Push`] takes paths that the cache lacks (a [`Selection`] says which) and the trees in which
//! they are. Each tree is read once: while it is packed, its NAR is hashed, listed and compressed,
//! and the compressed file hashed. **A path whose NAR is not the registered one is not published**,
//! nor is what refers to it.
//!
//! A narinfo is written only after its NAR and after the narinfos of everything that it refers to.
//! So whoever sees a narinfo can fetch its closure, whenever he looks, however many publish at the
//! same time, and wherever this was killed. What is left then is at most a NAR that nobody refers
//! to; the next push uses it.
//!
//! Large NARs come first, so that the last thing to wait for is a small one. Paths are packed on
//! several threads while others are uploaded.

mod attachments;
mod error;
mod selection;
mod stage;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{FusedStream, FuturesUnordered, StreamExt};
use nixcache::closure::{DifferenceBuilder, Graph, GraphBuilder, Node, UploadPlan};
use nixcache::compression::{Compression, EncodeOptions};
use nixcache::nar::Limits;
use nixcache::nar::references::Candidates;
use nixcache::narinfo::{NarInfo, NarInfoBuf};
use nixcache::path_info::PathInfo;
use nixcache::signature::{SecretKey, SignatureRef};
use nixcache::store_path::{HashPart, StoreDir, StorePath};
use tokio::sync::Semaphore;

use self::stage::{Staged, Stager};
use crate::cache::{self, Cache, Objects, Pending, Prepared, blocking, layout};
use crate::roots::Session;

pub(crate) use attachments::publish_realisation;
pub use attachments::{AttachmentError, Attachments, LogDirectory};
pub use error::{Error, Mismatch, PathError};
pub use selection::Selection;

/// For so long what is ready in a directory waits for others, to be flushed together with them:
/// each time takes about as long.
const GATHERING: Duration = Duration::from_millis(50);

/// Uploads to servers that go on beside those that are packed.
const UPLOADS: usize = 8;

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Which path.
    pub subject: Subject,
    /// Where its contents are.
    pub tree: PathBuf,
}

/// Which path is to be published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Subject {
    /// A path of a store. Its NAR has to be the one that is known.
    Known(Box<PathInfo>),
    /// A tree that becomes the path of this name that its contents make, as `nix store add` does.
    New {
        /// The name of the path.
        name: String,
    },
}

/// What happens during a push, for whoever shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// So many paths are to be published, of so many bytes as NARs.
    Planned {
        /// The number of paths.
        paths: usize,
        /// Bytes of their NARs, as far as they are known.
        nar_size: u64,
    },
    /// A path is being packed.
    Started {
        /// Its name: without the hash part.
        name: String,
        /// Bytes of its NAR, 0 if they are not known.
        nar_size: u64,
    },
    /// So many more bytes of NARs were packed.
    Packed {
        /// The number of bytes.
        bytes: u64,
    },
    /// The NAR of a path is in the cache.
    Uploaded {
        /// The name of the path.
        name: String,
        /// Bytes of the compressed file.
        file_size: u64,
    },
    /// A path is published.
    Published {
        /// The path.
        path: StorePath,
    },
}

/// Who is told what happens. Is called from several threads.
pub type Watch = Arc<dyn Fn(Event) + Send + Sync>;

/// How to publish.
#[derive(Clone)]
pub struct Push {
    compression: EncodeOptions,
    keys: Arc<[SecretKey]>,
    threads: NonZeroUsize,
    limits: Limits,
    listings: bool,
    debug_info: bool,
    logs: Option<LogDirectory>,
    attachments: Arc<Attachments>,
    watch: Watch,
}

/// What was done.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Pushed {
    /// What was published, in the order in which it was.
    pub published: Vec<Published>,
    /// Paths that somebody else had published meanwhile, or that were there already.
    pub present: Vec<StorePath>,
    /// Paths that could not be published, and why. Not those that refer to them.
    pub failed: Vec<(String, PathError)>,
    /// Paths that were not published because something that they refer to was not.
    pub held_back: Vec<StorePath>,
    /// Paths in whose contents others occur that are not among their references: what is published
    /// works only where those are, too.
    pub undeclared: Vec<(StorePath, Vec<String>)>,
    /// The paths that trees became, in the order in which they were given, as far as they did not
    /// fail.
    pub added: Vec<StorePath>,
    /// How many of the published paths have no signature and no content address: Nix accepts them
    /// only where it does not ask for signatures.
    pub unsigned: usize,
    /// How many realisations were written.
    pub realisations: usize,
    /// How many build logs were written.
    pub logs: usize,
    /// Why realisations and build logs could not be published. Their paths are in the cache.
    pub unattached: Vec<AttachmentError>,
    /// What was not possible although everything was published: leaving a root, or removing the
    /// lease.
    pub notes: Vec<String>,
}

/// A path that was published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// The path.
    pub path: StorePath,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// Bytes of the file in the cache.
    pub file_size: u64,
    /// Whether the file was uploaded, rather than there already.
    pub uploaded: bool,
    /// Its narinfo.
    pub narinfo: NarInfoBuf,
}

impl Default for Push {
    fn default() -> Self {
        Self::new()
    }
}

impl Push {
    /// Publishes as zstd at Nix's level, in frames that can be read singly, with listings,
    /// unsigned, on as many threads as there are processors.
    pub fn new() -> Self {
        Self {
            compression: EncodeOptions::new(Compression::Zstd),
            keys: Arc::new([]),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            listings: true,
            debug_info: false,
            logs: None,
            attachments: Arc::default(),
            watch: Arc::new(|_| {}),
        }
    }

    /// Compresses otherwise.
    #[must_use]
    pub fn compression(self, compression: EncodeOptions) -> Self {
        Self { compression, ..self }
    }

    /// Signs with these keys, beside the signatures that are known.
    #[must_use]
    pub fn keys(self, keys: impl IntoIterator<Item = SecretKey>) -> Self {
        Self { keys: keys.into_iter().collect(), ..self }
    }

    /// The keys that it signs with.
    pub fn signing_keys(&self) -> &[SecretKey] {
        &self.keys
    }

    /// Packs so many paths at the same time.
    #[must_use]
    pub fn threads(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// Allows archives beyond Nix's limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Whether to write what is in each NAR beside it (`.ls`).
    #[must_use]
    pub fn listings(self, listings: bool) -> Self {
        Self { listings, ..self }
    }

    /// Whether to index debug information by build ids.
    #[must_use]
    pub fn debug_info(self, debug_info: bool) -> Self {
        Self { debug_info, ..self }
    }

    /// Publishes the logs of the builds from this directory, as well: those of the derivers of what
    /// is published, and of those that [`attachments`](Self::attachments) name.
    #[must_use]
    pub fn logs(self, directory: LogDirectory) -> Self {
        Self { logs: Some(directory), ..self }
    }

    /// Publishes these realisations and logs beside the paths, whether the paths are in the cache
    /// already or not.
    #[must_use]
    pub fn attachments(self, attachments: Attachments) -> Self {
        Self { attachments: Arc::new(attachments), ..self }
    }

    /// Tells `watch` what happens.
    #[must_use]
    pub fn watch(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// Publishes paths that the cache lacks. What they refer to, and is not among them, has to be
    /// there already.
    ///
    /// What goes wrong with a path is in [`Pushed::failed`], and others go on; an error means that
    /// the cache could not be written to.
    pub async fn run(&self, cache: &Cache, uploads: Vec<Upload>) -> Result<Pushed, Error> {
        self.run_under(None, cache, uploads).await
    }

    /// The same, as a part of a [`Session`], which keeps collectors away from what this relies
    /// upon.
    pub async fn run_in(&self, session: &mut Session, uploads: Vec<Upload>) -> Result<Pushed, Error> {
        let cache = session.cache().clone();
        self.run_under(Some(session), &cache, uploads).await
    }

    async fn run_under(
        &self,
        session: Option<&mut Session>,
        cache: &Cache,
        uploads: Vec<Upload>,
    ) -> Result<Pushed, Error> {
        let (known, new): (Vec<_>, Vec<_>) =
            uploads.into_iter().partition(|upload| matches!(upload.subject, Subject::Known(_)));
        let nar_size = known.iter().map(Upload::nar_size).sum();
        (self.watch)(Event::Planned { paths: known.len() + new.len(), nar_size });
        let derivers = known.iter().filter_map(Upload::deriver).collect();
        let run = Run::new(self, cache, &known);
        let mut pushed = Pushed::default();
        let mut session = session;
        run.publish_new(session.as_deref_mut(), new, &mut pushed).await?;
        run.publish_known(session.as_deref(), known, &mut pushed).await?;
        pushed.check_any()?;
        pushed.count_unsigned();
        self.attach(cache, &derivers, &mut pushed).await;
        if pushed.published.iter().any(|published| published.uploaded) {
            cache.clean_old().await?;
        }
        Ok(pushed)
    }
}

impl Pushed {
    /// An error if the cache took nothing at all.
    fn check_any(&mut self) -> Result<(), Error> {
        let is_of_cache = |failed: &(String, PathError)| matches!(failed.1, PathError::Cache(_));
        if self.published.is_empty()
            && self.present.is_empty()
            && self.failed.iter().all(is_of_cache)
            && let Some((_, PathError::Cache(error))) = self.failed.pop()
        {
            return Err(error.into());
        }
        Ok(())
    }

    fn count_unsigned(&mut self) {
        let is_unsigned = |published: &&Published| {
            let info = published.narinfo.as_ref();
            info.signatures().len() == 0 && info.content_address().is_none()
        };
        self.unsigned = self.published.iter().filter(is_unsigned).count();
    }
}

impl Upload {
    fn nar_size(&self) -> u64 {
        match &self.subject {
            Subject::Known(info) => info.nar_size,
            Subject::New { .. } => 0,
        }
    }

    fn deriver(&self) -> Option<(StorePath, StorePath)> {
        match &self.subject {
            Subject::Known(info) => Some((info.path.clone(), info.deriver.clone()?)),
            Subject::New { .. } => None,
        }
    }

    fn name(&self) -> &str {
        match &self.subject {
            Subject::Known(info) => info.path.name(),
            Subject::New { name } => name,
        }
    }
}

/// A push under way.
struct Run<'a> {
    push: &'a Push,
    cache: &'a Cache,
    stager: Stager,
    /// How many trees are packed at the same time.
    processors: Arc<Semaphore>,
    started: Instant,
    /// Uploads that the cache did not take, since the last that it took.
    refused: AtomicUsize,
}

/// What came of one path's NAR.
enum Outcome {
    /// It is uploaded, and its narinfo may follow.
    Ready(Box<Ready>),
    /// The path turned out to be published.
    Present(StorePath),
    /// It cannot be published.
    Failed(PathError),
}

struct Ready {
    published: Published,
    /// The NAR, and what is beside it, where they have no names yet.
    pending: Option<Pending>,
    prepared: Prepared,
    undeclared: Vec<String>,
}

impl Drop for Run<'_> {
    /// Whoever is packing still ends soon.
    fn drop(&mut self) {
        self.stager.stopped.store(true, Ordering::Relaxed);
    }
}

impl<'a> Run<'a> {
    fn new(push: &'a Push, cache: &'a Cache, known: &[Upload]) -> Self {
        let infos = known.iter().filter_map(|upload| match &upload.subject {
            Subject::Known(info) => Some(info),
            Subject::New { .. } => None,
        });
        let paths: HashSet<&StorePath> = infos.flat_map(|info| info.references.iter().chain([&info.path])).collect();
        let parts = paths.iter().map(|path| path.as_ref().hash_text());
        // Parts of store paths are candidates; if they were not, nothing would be looked for.
        let candidates = Candidates::new(parts).ok().filter(|candidates| !candidates.is_empty()).map(Arc::new);
        let stager = Stager {
            store_dir: cache.store_dir().clone(),
            compression: push.compression,
            threads: push.threads,
            limits: push.limits,
            keys: Arc::clone(&push.keys),
            candidates,
            listing: push.listings || push.debug_info,
            watch: Arc::clone(&push.watch),
            stopped: Arc::new(AtomicBool::new(false)),
        };
        let processors = Arc::new(Semaphore::new(push.threads.get()));
        Self { push, cache, stager, processors, started: Instant::now(), refused: AtomicUsize::new(0) }
    }

    /// What an upload that failed means: that its path cannot be published, or after several in a
    /// row that the cache cannot be written to.
    fn refused(&self, error: cache::Error) -> Result<PathError, Error> {
        /// As many at the same time are the fault of the cache, rather than of what is uploaded.
        const REFUSED_IN_A_ROW_MAX: usize = 4;
        if self.refused.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSED_IN_A_ROW_MAX {
            return Err(error.into());
        }
        Ok(PathError::Cache(error))
    }

    fn taken(&self) {
        self.refused.store(0, Ordering::Relaxed);
    }

    /// Paths of a store.
    async fn publish_known(
        &self,
        session: Option<&Session>,
        known: Vec<Upload>,
        pushed: &mut Pushed,
    ) -> Result<(), Error> {
        let graph = graph_of(&known)?;
        let mut uploads: HashMap<Node, Upload> = HashMap::with_capacity(known.len());
        for upload in known {
            if let Subject::Known(info) = &upload.subject
                && let Some(node) = graph.find_path(info.path.as_ref())
            {
                uploads.insert(node, upload);
            }
        }
        let closure = graph.closure(uploads.keys().copied());
        let mut difference = DifferenceBuilder::new(&graph, &closure);
        // What is not among them is in the cache.
        let absent = graph.nodes().filter(|&node| !graph.is_present(node)).map(|node| graph.hash_part(node));
        difference.subtract(absent);
        let mut plan = UploadPlan::new(&graph, &difference.finish())?;
        let order = shuffled(&graph, plan.nars());

        let jobs = self.jobs();
        let mut nars = futures_util::stream::iter(order)
            .filter_map(|node| std::future::ready(uploads.remove(&node).map(|upload| (node, upload))))
            .map(|(node, upload)| async move { (node, self.nar(upload).await) })
            .buffer_unordered(jobs)
            .fuse();
        let mut prepared: HashMap<Node, Box<Ready>> = HashMap::new();
        let mut pending: Vec<Pending> = Vec::new();
        let mut ready: VecDeque<Node> = VecDeque::new();
        let mut publishing = FuturesUnordered::new();
        // In a directory one batch at a time, which is flushed once; elsewhere each by itself, many
        // at the same time.
        let (batches, batch, gathering) = match self.cache.directory() {
            Some(_) => (1, usize::MAX, GATHERING),
            None => (self.cache.options().concurrency, 1, Duration::ZERO),
        };
        let mut next_batch = Instant::now();
        loop {
            let is_due = nars.is_terminated() || Instant::now() >= next_batch;
            while is_due && publishing.len() < batches && !(ready.is_empty() && pending.is_empty()) {
                let nodes = ready.drain(..batch.min(ready.len()));
                let batch = nodes.filter_map(|node| prepared.remove(&node).map(|ready| (node, ready))).collect();
                publishing.push(self.publish(session, std::mem::take(&mut pending), batch));
                next_batch = Instant::now() + gathering;
            }
            let can_publish = publishing.len() < batches && !(ready.is_empty() && pending.is_empty());
            tokio::select! {
                Some((node, outcome)) = nars.next() => match outcome? {
                    Outcome::Ready(mut done) => {
                        // What is published next gets its name after these.
                        pending.extend(done.pending.take());
                        prepared.insert(node, done);
                        ready.extend(plan.nar_done(node));
                    }
                    Outcome::Present(path) => {
                        pushed.present.push(path);
                        // Neither has anything to wait for: whoever has published it had to.
                        plan.nar_done(node);
                        ready.extend(plan.narinfo_done(node));
                    }
                    Outcome::Failed(error) => {
                        let path = self.stager.store_dir.display(graph.path(node).as_ref()).to_string();
                        pushed.failed.push((path, error));
                    }
                },
                Some(done) = publishing.next() => {
                    for (node, published, is_new, undeclared) in done? {
                        let is_new = match is_new {
                            Ok(is_new) => is_new,
                            Err(error) => {
                                let path = self.stager.store_dir.display(published.path.as_ref()).to_string();
                                pushed.failed.push((path, error));
                                continue;
                            }
                        };
                        ready.extend(plan.narinfo_done(node));
                        (self.push.watch)(Event::Published { path: published.path.clone() });
                        if !undeclared.is_empty() {
                            pushed.undeclared.push((published.path.clone(), undeclared));
                        }
                        if is_new { pushed.published.push(published) } else { pushed.present.push(published.path) }
                    }
                }
                () = tokio::time::sleep_until(next_batch.into()), if can_publish => {}
                else => break,
            }
        }
        pushed.held_back = prepared.into_keys().map(|node| graph.path(node)).collect();
        pushed.held_back.sort_unstable();
        Ok(())
    }

    /// How many paths are under way: some are packed while others are uploaded.
    fn jobs(&self) -> usize {
        let threads = self.push.threads.get();
        threads + if self.cache.directory().is_some() { threads } else { UPLOADS }
    }

    /// Packs a path and uploads its NAR.
    async fn nar(&self, upload: Upload) -> Result<Outcome, Error> {
        let permit = self.processors.acquire().await;
        if let Subject::Known(info) = &upload.subject
            && self.is_worth_asking(info.nar_size)
            && self.cache.is_known(&layout::narinfo(info.path.hash_part())).await?
        {
            return Ok(Outcome::Present(info.path.clone()));
        }
        (self.push.watch)(Event::Started { name: upload.name().to_owned(), nar_size: upload.nar_size() });
        let (stager, cache) = (self.stager.clone(), self.cache.clone());
        let packed = blocking(move || {
            let staging = cache.stage()?;
            Ok::<_, cache::Error>(stager.stage(&upload.subject, &upload.tree, staging))
        });
        let packed = packed.await?;
        drop(permit);
        match packed {
            Ok(packed) => match self.upload(packed).await {
                Ok(ready) => Ok(ready),
                Err(error) => Ok(Outcome::Failed(self.refused(error)?)),
            },
            Err(error) => Ok(Outcome::Failed(error)),
        }
    }

    /// Whether somebody else may have published it meanwhile, and packing it costs more than
    /// asking.
    fn is_worth_asking(&self, nar_size: u64) -> bool {
        const LARGE: u64 = 4 << 20;
        const LONG: Duration = Duration::from_secs(5);
        self.cache.directory().is_some() || (nar_size >= LARGE && self.started.elapsed() >= LONG)
    }

    /// Listing, debug information, NAR: all that has to be there before the narinfo.
    async fn upload(&self, staged: Staged) -> Result<Outcome, cache::Error> {
        let Staged { staging, info, narinfo, listing, listing_text, undeclared } = staged;
        let part = info.path.hash_part();
        let (url, file_size) = (narinfo.as_ref().url().to_owned(), narinfo.as_ref().file_size().unwrap_or(0));
        let mut beside = Vec::new();
        if self.push.listings {
            if let Some(text) = listing_text {
                beside.push((layout::listing(part), text));
            } else {
                tracing::warn!("{}: no listing, since a name in it is not UTF-8", info.path);
            }
        }
        if let Some(listing) = listing.filter(|_| self.push.debug_info) {
            beside.extend(stage::debug_info(&listing, &url));
        }
        let mut objects = Objects::new(narinfo.clone());
        (objects.nar, objects.attachments) = (Some(staging), beside);
        let (prepared, pending) = self.cache.prepare(objects).await?;
        self.taken();
        (self.push.watch)(Event::Uploaded { name: info.path.name().to_owned(), file_size });
        let uploaded = prepared.is_uploaded();
        let published = Published { nar_size: info.nar_size, path: info.path, file_size, uploaded, narinfo };
        let pending = self.cache.directory().map(|_| pending);
        Ok(Outcome::Ready(Box::new(Ready { published, pending, prepared, undeclared })))
    }

    /// Publishes narinfos for which everything is there, or pending. Returns for each whether it is
    /// new, or why the cache does not take it.
    async fn publish<T>(
        &self,
        session: Option<&Session>,
        pending: Vec<Pending>,
        batch: Vec<(T, Box<Ready>)>,
    ) -> Result<Vec<(T, Published, Result<bool, PathError>, Vec<String>)>, Error> {
        let mut prepared = Vec::with_capacity(batch.len());
        let mut rest = Vec::with_capacity(batch.len());
        for (node, ready) in batch {
            prepared.push(ready.prepared);
            rest.push((node, ready.published, ready.undeclared));
        }
        let mut done = Vec::with_capacity(rest.len());
        if let Some(session) = session {
            session.check()?;
        }
        let created = match self.cache.publish(pending, prepared).await {
            // Of several, it is not known which one was refused.
            Err(error) if rest.len() == 1 && self.cache.directory().is_none() => {
                let refused = Err(self.refused(error)?);
                let one = rest.pop().map(|(node, published, undeclared)| (node, published, refused, undeclared));
                return Ok(one.into_iter().collect());
            }
            created => created?,
        };
        for ((node, published, undeclared), is_new) in rest.into_iter().zip(created) {
            if !is_new {
                match merge(self.cache, published.path.hash_part(), published.narinfo.clone()).await {
                    // Another writer's narinfo that cannot be read is as good as ours; only our
                    // signatures are missing.
                    Err(cache::Error::Denied { object, .. }) => {
                        tracing::warn!("{object}: is there and cannot be read, so it stays as it is");
                    }
                    merged => merged?,
                }
            }
            done.push((node, published, Ok(is_new), undeclared));
        }
        Ok(done)
    }

    /// Trees, which refer to nothing, so that they are published as they are uploaded.
    async fn publish_new(
        &self,
        session: Option<&mut Session>,
        new: Vec<Upload>,
        pushed: &mut Pushed,
    ) -> Result<(), Error> {
        /// How many are published together.
        const TOGETHER: usize = 64;
        let nar = async |upload: Upload| {
            let tree = upload.tree.clone();
            (tree, self.nar(upload).await)
        };
        let nars = futures_util::stream::iter(new).map(nar).buffered(self.jobs()).chunks(TOGETHER);
        let mut nars = std::pin::pin!(nars);
        // Trees with the same contents and name are one path.
        let mut seen = HashSet::new();
        let mut session = session;
        while let Some(outcomes) = nars.next().await {
            let (mut pending, mut batch) = (Vec::new(), Vec::new());
            for (tree, outcome) in outcomes {
                match outcome? {
                    Outcome::Failed(error) => pushed.failed.push((tree.display().to_string(), error)),
                    Outcome::Present(path) => pushed.added.push(path),
                    Outcome::Ready(mut ready) => {
                        let path = ready.published.path.clone();
                        pushed.added.push(path.clone());
                        if seen.insert(path) {
                            pending.extend(ready.pending.take());
                            batch.push(((), ready));
                        }
                    }
                }
            }
            if let Some(session) = &mut session {
                // Collectors leave alone the NARs of whoever has a lease; the paths have their
                // names only now.
                session.cover(batch.iter().map(|((), ready)| ready.published.path.clone()).collect()).await?;
            }
            for ((), published, is_new, _) in self.publish(session.as_deref(), pending, batch).await? {
                let is_new = match is_new {
                    Ok(is_new) => is_new,
                    Err(error) => {
                        pushed.failed.push((self.stager.store_dir.display(published.path.as_ref()).to_string(), error));
                        continue;
                    }
                };
                (self.push.watch)(Event::Published { path: published.path.clone() });
                if is_new { pushed.published.push(published) } else { pushed.present.push(published.path) }
            }
        }
        Ok(())
    }
}

fn graph_of(known: &[Upload]) -> Result<Graph, Error> {
    let mut builder = GraphBuilder::new();
    for upload in known {
        if let Subject::Known(info) = &upload.subject {
            builder.insert_path_info(info)?;
        }
    }
    Ok(builder.finish())
}

/// Large ones first, but among those of about one size in no order: several who publish the same do
/// not all begin with the same.
fn shuffled(graph: &Graph, nars: &[Node]) -> Vec<Node> {
    let random = crate::random::HashKeys::default();
    let mut order = nars.to_vec();
    order.sort_by_cached_key(|&node| {
        (Reverse(graph.nar_size(node).checked_ilog2()), random.hash_one(graph.hash_part(node)))
    });
    order
}

/// Adds our signatures to what somebody else has published meanwhile, if it is the same.
pub(crate) async fn merge(cache: &Cache, part: HashPart, ours: NarInfoBuf) -> Result<(), cache::Error> {
    let store_dir = cache.store_dir().clone();
    let change = move |theirs: Option<&[u8]>| match theirs {
        None => Some(ours.as_str().as_bytes().to_vec()),
        Some(theirs) => merged(theirs, &ours, &store_dir),
    };
    cache.edit(&layout::narinfo(part), change).await.map(drop)
}

/// What is published, with our signatures; none if it has them already, or is about other contents.
fn merged(theirs: &[u8], ours: &NarInfoBuf, store_dir: &StoreDir) -> Option<Vec<u8>> {
    let theirs = NarInfo::parse(theirs, store_dir).ok()?;
    let ours = ours.as_ref();
    let is_same = |other: &NarInfo<'_>| {
        other.nar_hash() == ours.nar_hash()
            && other.nar_size() == ours.nar_size()
            && other.store_path() == ours.store_path()
    };
    if !is_same(&theirs) {
        return None;
    }
    let new: Vec<SignatureRef<'_>> = ours
        .signatures()
        .filter(|signature| !theirs.signatures().any(|other| other == *signature))
        .filter_map(|signature| SignatureRef::parse(signature).ok())
        .collect();
    if new.is_empty() {
        return None;
    }
    let edit = new.into_iter().fold(theirs.edit(), |edit, signature| edit.sign(signature));
    Some(edit.finish().ok()?.as_str().as_bytes().to_vec())
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push")
            .field("compression", &self.compression)
            .field("keys", &self.keys.len())
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
