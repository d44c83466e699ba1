//! A push under way: packs, uploads and publishes, many paths at the same time.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{FusedStream, FuturesUnordered, StreamExt};
use nixcache::closure::{self, DifferenceBuilder, Graph, GraphBuilder, Node, UploadPlan};
use nixcache::nar::references::Candidates;
use nixcache::store_path::StorePath;
use tokio::sync::Semaphore;

use super::attachments::{Attachments, attach};
use super::stage::{self, Staged, Stager};
use super::{Error, Published, PushEvent, PushOptions, PushPathError, Pushed, Session, Upload, UploadSubject};
use crate::cache::merge::merge_narinfo;
use crate::cache::{self, Cache, Objects, Pending, Prepared, blocking, layout};

/// For so long what is ready in a directory waits for others, to be flushed together with them:
/// each time takes about as long.
const PUBLISH_BATCH_INTERVAL: Duration = Duration::from_millis(50);

/// Uploads to servers that go on beside those that are packed.
const CONCURRENT_UPLOADS: usize = 8;

/// Publishes paths that the cache lacks, as a part of a session where there is one. Their other
/// references have to be in the cache already.
///
/// What goes wrong with a path is in [`Pushed::failed`], and others go on. An error means that the
/// cache could not be written to.
pub(super) async fn publish(
    options: &PushOptions,
    mut session: Option<&mut Session>,
    cache: &Cache,
    attachments: &Attachments,
    uploads: Vec<Upload>,
) -> Result<Pushed, Error> {
    let (known, new): (Vec<_>, Vec<_>) =
        uploads.into_iter().partition(|upload| matches!(upload.subject, UploadSubject::Known(_)));
    let nar_size = known.iter().map(Upload::nar_size).sum();
    options.progress.report(PushEvent::Planned { paths: known.len() + new.len(), nar_size });
    let derivers = known.iter().filter_map(Upload::deriver).collect();
    let run = Run::new(options, cache, &known);
    let mut pushed = Pushed::default();
    run.publish_new(session.as_deref_mut(), new, &mut pushed).await?;
    run.publish_known(session.as_deref(), known, &mut pushed).await?;
    pushed.check_any()?;
    pushed.count_unsigned();
    attach(options, cache, attachments, &derivers, &mut pushed).await;
    if pushed.published.iter().any(|published| published.uploaded) {
        cache.clean_old().await?;
    }
    Ok(pushed)
}

/// A push under way.
struct Run<'a> {
    options: &'a PushOptions,
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
    Failed(PushPathError),
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
    fn new(options: &'a PushOptions, cache: &'a Cache, known: &[Upload]) -> Self {
        let infos = known.iter().filter_map(|upload| match &upload.subject {
            UploadSubject::Known(info) => Some(info),
            UploadSubject::New { .. } => None,
        });
        let paths: HashSet<&StorePath> = infos.flat_map(|info| info.references.iter().chain([&info.path])).collect();
        let parts = paths.iter().map(|&path| path.as_ref().hash_text());
        // Parts of store paths are candidates; if they were not, nothing would be looked for.
        let candidates = Candidates::new(parts).ok().filter(|candidates| !candidates.is_empty()).map(Arc::new);
        let stager = Stager {
            store_dir: cache.store_dir().clone(),
            compression: options.compression,
            threads: options.threads,
            limits: options.limits,
            keys: options.keys.clone().into(),
            candidates,
            listing: options.listings || options.debug_info,
            progress: options.progress.clone(),
            stopped: Arc::new(AtomicBool::new(false)),
        };
        let processors = Arc::new(Semaphore::new(options.threads.get()));
        Self { options, cache, stager, processors, started: Instant::now(), refused: AtomicUsize::new(0) }
    }

    /// What an upload that failed means: that its path cannot be published, or after several in a
    /// row that the cache cannot be written to.
    fn refused(&self, error: cache::Error) -> Result<PushPathError, Error> {
        /// As many at the same time are the fault of the cache, rather than of what is uploaded.
        const REFUSED_IN_A_ROW_MAX: usize = 4;
        if self.refused.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSED_IN_A_ROW_MAX {
            return Err(error.into());
        }
        Ok(PushPathError::Cache(error))
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
        let graph = graph_of(&known).map_err(|error| Error::Graph { place: self.cache.url().to_string(), error })?;
        let mut uploads: HashMap<Node, Upload> = HashMap::with_capacity(known.len());
        for upload in known {
            if let UploadSubject::Known(info) = &upload.subject
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
        let plan = UploadPlan::new(&graph, &difference.finish());
        let mut plan = plan.map_err(|error| Error::Graph { place: self.cache.url().to_string(), error })?;
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
            Some(_) => (1, usize::MAX, PUBLISH_BATCH_INTERVAL),
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
                        pushed.failed.push((graph.path(node), error));
                    }
                },
                Some(done) = publishing.next() => {
                    for (node, published, is_new, undeclared) in done? {
                        let is_new = match is_new {
                            Ok(is_new) => is_new,
                            Err(error) => {
                                pushed.failed.push((published.path, error));
                                continue;
                            }
                        };
                        ready.extend(plan.narinfo_done(node));
                        self.options.progress.report(PushEvent::Published { path: published.path.clone() });
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
        let threads = self.options.threads.get();
        threads + if self.cache.directory().is_some() { threads } else { CONCURRENT_UPLOADS }
    }

    /// Packs a path and uploads its NAR.
    async fn nar(&self, upload: Upload) -> Result<Outcome, Error> {
        let permit = self.processors.acquire().await;
        if let UploadSubject::Known(info) = &upload.subject
            && self.is_worth_asking(info.nar_size)
            && self.cache.is_known(&layout::narinfo(info.path.hash_part())).await?
        {
            return Ok(Outcome::Present(info.path.clone()));
        }
        self.options
            .progress
            .report(PushEvent::Started { name: upload.name().to_owned(), nar_size: upload.nar_size() });
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
        const ASK_BEFORE_PACKING_MIN_BYTES: u64 = 4 << 20;
        const ASK_BEFORE_PACKING_AFTER: Duration = Duration::from_secs(5);
        self.cache.directory().is_some()
            || (nar_size >= ASK_BEFORE_PACKING_MIN_BYTES && self.started.elapsed() >= ASK_BEFORE_PACKING_AFTER)
    }

    /// Listing, debug information, NAR: all that has to be there before the narinfo.
    async fn upload(&self, staged: Staged) -> Result<Outcome, cache::Error> {
        let Staged { staging, info, narinfo, listing, listing_text, undeclared } = staged;
        let part = info.path.hash_part();
        let (url, file_size) = (narinfo.as_ref().url().to_owned(), narinfo.as_ref().file_size().unwrap_or(0));
        let mut beside = Vec::new();
        if self.options.listings {
            if let Some(text) = listing_text {
                beside.push((layout::listing(part), text));
            } else {
                tracing::warn!("{}: no listing, since a name in it is not UTF-8", info.path);
            }
        }
        if let Some(listing) = listing.filter(|_| self.options.debug_info) {
            beside.extend(stage::debug_info(&listing, &url));
        }
        let mut objects = Objects::new(narinfo.clone());
        (objects.nar, objects.attachments) = (Some(staging), beside);
        let (prepared, pending) = self.cache.prepare(objects).await?;
        self.taken();
        self.options.progress.report(PushEvent::Uploaded { name: info.path.name().to_owned(), file_size });
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
    ) -> Result<Vec<(T, Published, Result<bool, PushPathError>, Vec<String>)>, Error> {
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
                match merge_narinfo(self.cache, published.path.hash_part(), published.narinfo.clone()).await {
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
        const PUBLISH_BATCH_TREES: usize = 64;
        let nar = async |upload: Upload| {
            let tree = upload.tree.clone();
            (tree, self.nar(upload).await)
        };
        let nars = futures_util::stream::iter(new).map(nar).buffered(self.jobs()).chunks(PUBLISH_BATCH_TREES);
        let mut nars = std::pin::pin!(nars);
        // Trees with the same contents and name are one path.
        let mut seen = HashSet::new();
        let mut session = session;
        while let Some(outcomes) = nars.next().await {
            let (mut pending, mut batch) = (Vec::new(), Vec::new());
            for (tree, outcome) in outcomes {
                match outcome? {
                    Outcome::Failed(error) => pushed.failed_trees.push((tree, error)),
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
                session.add_paths(batch.iter().map(|((), ready)| ready.published.path.clone()).collect()).await?;
            }
            for ((), published, is_new, _) in self.publish(session.as_deref(), pending, batch).await? {
                let is_new = match is_new {
                    Ok(is_new) => is_new,
                    Err(error) => {
                        pushed.failed.push((published.path, error));
                        continue;
                    }
                };
                self.options.progress.report(PushEvent::Published { path: published.path.clone() });
                if is_new { pushed.published.push(published) } else { pushed.present.push(published.path) }
            }
        }
        Ok(())
    }
}

fn graph_of(known: &[Upload]) -> Result<Graph, closure::Error> {
    let mut builder = GraphBuilder::new();
    for upload in known {
        if let UploadSubject::Known(info) = &upload.subject {
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
