//! A running push: it packs, uploads and publishes many paths at the same time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{FusedStream, FuturesUnordered, StreamExt};
use nixcache::closure::{self, DifferenceBuilder, Graph, GraphBuilder, Node, UploadPlan};
use nixcache::nar::references::Candidates;
use nixcache::store_path::StorePath;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::attachments::{Attachments, attach};
use super::stage::{self, Staged, Stager};
use super::{Error, Published, PushEvent, PushOptions, PushPathError, Pushed, Session, Upload, UploadSubject};
use crate::cache::merge::merge_narinfo;
use crate::cache::{self, Cache, Objects, Pending, Prepared, blocking, layout};

/// In a directory, how long ready paths wait for others, so that one flush covers them all. A flush
/// takes about this long.
const PUBLISH_BATCH_INTERVAL: Duration = Duration::from_millis(50);

/// The number of uploads to a server that run at the same time as packing.
const CONCURRENT_UPLOADS: usize = 8;

/// Publishes paths that the cache lacks, as part of a session if there is one. The cache must
/// already have their other references.
///
/// The error of a single path goes to [`Pushed::failed`], and the push continues with the others.
/// This function returns an error if the cache cannot be written.
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

/// A running push.
struct Run<'a> {
    options: &'a PushOptions,
    cache: &'a Cache,
    stager: Stager,
    /// Limits how many trees are packed at the same time.
    processors: Arc<Semaphore>,
    started: Instant,
    /// The number of failed uploads since the last successful one.
    refused: AtomicUsize,
}

/// The result of packing and uploading the NAR of one path.
enum Outcome {
    /// The NAR is uploaded, so the narinfo can follow.
    Ready(Box<Ready>),
    /// The path is already published.
    Present(StorePath),
    /// The path cannot be published.
    Failed(PushPathError),
}

struct Ready {
    published: Published,
    /// In a directory, the NAR and its attachments, which do not have their final names yet.
    pending: Option<Pending>,
    prepared: Prepared,
    undeclared: Vec<String>,
}

impl Drop for Run<'_> {
    /// Stops the threads that are still packing.
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
        let paths: BTreeSet<&StorePath> = infos.flat_map(|info| info.references.iter().chain([&info.path])).collect();
        let parts = paths.iter().map(|&path| path.as_ref().hash_text());
        // Hash parts of store paths are always valid candidates. If they were not, the scan would
        // be skipped.
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

    /// Interprets a failed upload: its path cannot be published, or, after several failures in a
    /// row, the cache cannot be written.
    fn refused(&self, error: cache::Error) -> Result<PushPathError, Error> {
        /// This many failures in a row are a problem of the cache, not of the uploaded objects.
        const REFUSED_IN_A_ROW_MAX: usize = 4;
        if self.refused.fetch_add(1, Ordering::Relaxed) + 1 >= REFUSED_IN_A_ROW_MAX {
            return Err(error.into());
        }
        Ok(PushPathError::Cache(error))
    }

    fn taken(&self) {
        self.refused.store(0, Ordering::Relaxed);
    }

    /// Publishes registered paths of a store, each after its references.
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
        let mut nodes: Vec<Node> = uploads.keys().copied().collect();
        nodes.sort_unstable();
        let closure = graph.closure(nodes);
        let mut difference = DifferenceBuilder::new(&graph, &closure);
        // All other references are in the cache.
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
        // In a directory, publish one batch at a time, which is flushed once. Elsewhere, publish
        // paths one by one, many at the same time.
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
                // In this order, since the default is random.
                biased;
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
                Some((node, outcome)) = nars.next() => match outcome? {
                    Outcome::Ready(mut done) => {
                        // The next batch names these files before it writes its narinfos.
                        pending.extend(done.pending.take());
                        prepared.insert(node, done);
                        ready.extend(plan.nar_done(node));
                    }
                    Outcome::Present(path) => {
                        pushed.present.push(path);
                        // Nothing to wait for: the process that published the path had to publish
                        // its references first.
                        plan.nar_done(node);
                        ready.extend(plan.narinfo_done(node));
                    }
                    Outcome::Failed(error) => {
                        pushed.failed.push((graph.path(node), error));
                    }
                },
                () = tokio::time::sleep_until(next_batch), if can_publish => {}
                else => break,
            }
        }
        pushed.held_back = prepared.into_keys().map(|node| graph.path(node)).collect();
        pushed.held_back.sort_unstable();
        Ok(())
    }

    /// The number of paths in progress: some are packed while others are uploaded.
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

    /// Whether another process may have published the path since the push began, and packing it
    /// costs more than a request.
    fn is_worth_asking(&self, nar_size: u64) -> bool {
        const ASK_BEFORE_PACKING_MIN_BYTES: u64 = 4 << 20;
        const ASK_BEFORE_PACKING_AFTER: Duration = Duration::from_secs(5);
        self.cache.directory().is_some()
            || (nar_size >= ASK_BEFORE_PACKING_MIN_BYTES && self.started.elapsed() >= ASK_BEFORE_PACKING_AFTER)
    }

    /// Uploads the listing, the debug information and the NAR: all that must exist before the
    /// narinfo.
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

    /// Publishes narinfos whose other objects are uploaded or pending. For each, returns whether it
    /// is new, or why the cache refused it.
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
            // With several, it is unknown which one was refused.
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
                    // The narinfo of another writer that cannot be read serves as well as ours.
                    // Only our signatures are missing from it.
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

    /// Publishes trees. They have no references, so each is published once its NAR is uploaded.
    async fn publish_new(
        &self,
        session: Option<&mut Session>,
        new: Vec<Upload>,
        pushed: &mut Pushed,
    ) -> Result<(), Error> {
        /// The number of trees that are published together.
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
                // The lease already protects all NARs. The paths are known only now, so the lease
                // names them from here on.
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

/// Sorts large NARs first, and shuffles those of about the same size. So several pushes of the same
/// paths do not all begin with the same one.
fn shuffled(graph: &Graph, nars: &[Node]) -> Vec<Node> {
    let random = crate::random::HashKeys::default();
    let mut order = nars.to_vec();
    order.sort_by_cached_key(|&node| {
        (Reverse(graph.nar_size(node).checked_ilog2()), random.hash_one(graph.hash_part(node)))
    });
    order
}
