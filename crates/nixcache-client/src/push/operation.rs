//! Pushing the closures of store paths from sources to a cache.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use nixcache::closure::{Graph, GraphBuilder, Node};
use nixcache::store_path::{StoreDir, StorePath};

use super::{
    Attachments, Error, PushOptions, Pushed, Selection, Session, SessionRequest, SessionStart, Upload, UploadSubject,
};
use crate::cache::{Cache, blocking};
use crate::source::{PathQuery, Source};

/// A preview of a push: what it would publish.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PushPlan {
    /// The paths that the cache lacks, sorted.
    pub missing: Vec<StorePath>,
    /// The total size of their NARs in bytes.
    pub nar_size: u64,
    /// Requested paths that are not in the sources, with
    /// [`keep_going`](PushOptions::keep_going).
    pub not_found: Vec<PathQuery>,
    /// The number of trees that would be published.
    pub trees: usize,
    /// The number of paths that the push would make available in the cache, including trees.
    pub requested: usize,
}

impl Cache {
    /// Publishes store paths with their closures, and the [trees](PushOptions::trees) of the
    /// options. Skips paths that the cache already has. Writes a root that keeps them.
    ///
    /// `sources` provide the path infos, and say where the trees are. The push reads each path
    /// once. A path whose NAR is not the registered one is not published, nor are the paths that
    /// refer to it: see [`Pushed::failed`] and [`Pushed::held_back`].
    ///
    /// ```no_run
    /// use nixcache::store_path::StorePath;
    /// use nixcache_client::cache::{Cache, CacheOptions};
    /// use nixcache_client::push::PushOptions;
    /// use nixcache_client::source::Source;
    ///
    /// # async fn example(cache: Cache) -> Result<(), Box<dyn std::error::Error>> {
    /// let path = StorePath::parse("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-hello-2.12")?;
    /// let options = PushOptions::default().with(|options| options.root = "main".parse().ok());
    /// let pushed = cache.push(Source::local(), [path], &options).await?;
    /// assert!(pushed.is_complete());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if a source or the cache cannot be read, or if the cache accepts nothing.
    /// Then a cache that was created for this push and is still empty is removed.
    pub async fn push<P: Into<PathQuery>>(
        &self,
        sources: impl AsRef<[Source]>,
        paths: impl IntoIterator<Item = P>,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        let (sources, paths) = (sources.as_ref().to_vec(), paths.into_iter().map(Into::into).collect());
        let pushed = push(self, sources, paths, options).await;
        if pushed.is_err()
            && let Err(error) = self.remove_if_new_and_empty().await
        {
            tracing::debug!("{error}");
        }
        pushed
    }

    /// Plans a [`push`](Self::push) without publishing anything. Changes nothing in the cache.
    ///
    /// # Errors
    ///
    /// Returns an error if a source or the cache cannot be read.
    pub async fn plan_push<P: Into<PathQuery>>(
        &self,
        sources: impl AsRef<[Source]>,
        paths: impl IntoIterator<Item = P>,
        options: &PushOptions,
    ) -> Result<PushPlan, Error> {
        let (sources, paths) = (sources.as_ref().to_vec(), paths.into_iter().map(Into::into).collect());
        let Loaded { graph, roots, not_found } = load(self.store_dir(), sources, paths, options.keep_going).await?;
        let selection = Selection::new(&graph, roots, options);
        let nodes = selection.missing(self, None).await?;
        let mut missing: Vec<StorePath> = nodes.iter().map(|&node| graph.path(node)).collect();
        missing.sort_unstable();
        Ok(PushPlan {
            missing,
            nar_size: nodes.iter().map(|&node| graph.nar_size(node)).sum(),
            not_found,
            trees: options.trees.len(),
            requested: selection.count() + options.trees.len(),
        })
    }
}

async fn push(
    cache: &Cache,
    sources: Vec<Source>,
    paths: Vec<PathQuery>,
    options: &PushOptions,
) -> Result<Pushed, Error> {
    let loaded = load(cache.store_dir(), sources.clone(), paths, options.keep_going).await?;
    let mut pushed = push_nodes(cache, &sources, &loaded.graph, loaded.roots, options).await?;
    pushed.not_found = loaded.not_found;
    Ok(pushed)
}

/// Publishes nodes of a graph that was loaded from these sources, and the trees of the options.
pub(crate) async fn push_nodes(
    cache: &Cache,
    sources: &[Source],
    graph: &Graph,
    roots: Vec<Node>,
    options: &PushOptions,
) -> Result<Pushed, Error> {
    // A root of nothing would keep nothing, and count as the newest generation.
    let is_nothing = roots.is_empty() && options.trees.is_empty();
    let selection = Selection::new(graph, roots, options);
    let name = options.root.clone().filter(|_| !is_nothing);
    let mut request = SessionRequest::default().with(|request| request.name = name);
    request.labels.clone_from(&options.root_labels);
    request.keys.clone_from(&options.keys);
    (request.adds_trees, request.trust_last_root) = (!options.trees.is_empty(), options.trust_last_root);
    let mut start = Session::begin(cache, selection.request(request)).await?;
    let found = find_uploads(cache, sources, &selection, &mut start, options).await;
    let (mut uploads, attachments) = match found {
        Ok(found) => found,
        Err(error) => {
            start.abort().await;
            return Err(error);
        }
    };
    let trees = options
        .trees
        .iter()
        .map(|tree| Upload { subject: UploadSubject::New { name: tree.name.clone() }, tree: tree.path.clone() });
    uploads.extend(trees);
    let mut pushed = start.publish(options, cache, &attachments, uploads).await?;
    pushed.requested = selection.count() + options.trees.len();
    Ok(pushed)
}

/// Finds the path infos of the missing paths in the sources, and the attachments of all wanted
/// paths.
async fn find_uploads(
    cache: &Cache,
    sources: &[Source],
    selection: &Selection<'_>,
    start: &mut SessionStart,
    options: &PushOptions,
) -> Result<(Vec<Upload>, Attachments), Error> {
    let missing = selection.missing(cache, Some(start)).await?;
    let missing: HashSet<StorePath> = missing.iter().map(|&node| selection.graph().path(node)).collect();
    let wanted = selection.wanted();
    let (sources, store_dir) = (sources.to_vec(), cache.store_dir().clone());
    let (root, has_logs) = (options.store_root.clone(), options.logs.is_some());
    blocking(move || {
        let uploads = uploads(root.as_deref(), &sources, &store_dir, &missing)?;
        let mut attachments = Attachments::default();
        if !wanted.is_empty() {
            for source in &sources {
                attachments.gather(source, &wanted, &store_dir, has_logs)?;
            }
        }
        Ok((uploads, attachments))
    })
    .await
}

fn uploads(
    root: Option<&Path>,
    sources: &[Source],
    store_dir: &StoreDir,
    missing: &HashSet<StorePath>,
) -> Result<Vec<Upload>, Error> {
    let mut found: BTreeMap<StorePath, Upload> = BTreeMap::new();
    for source in sources {
        // Do not read more sources than needed, since that is slow.
        if found.len() == missing.len() {
            break;
        }
        let root = root.map_or_else(|| source.store_root(), Path::to_owned);
        let folder = root.join(store_dir.as_str().trim_start_matches('/'));
        let take = |info: nixcache::path_info::PathInfo| {
            if missing.contains(&info.path) {
                let tree = folder.join(&info.path);
                let path = info.path.clone();
                let subject = UploadSubject::Known(Box::new(info));
                found.entry(path).or_insert(Upload { subject, tree });
            }
            ControlFlow::<()>::Continue(())
        };
        // The callback never breaks, so the result has no value.
        let _flow = source.open(store_dir)?.visit(take)?;
    }
    Ok(found.into_values().collect())
}

/// The graph of the sources, and the requested paths in it.
struct Loaded {
    graph: Graph,
    roots: Vec<Node>,
    not_found: Vec<PathQuery>,
}

/// Loads the graph of the sources, and finds the requested paths in it.
///
/// With `keep_going`, a path that is not in the sources is no error.
async fn load(
    store_dir: &StoreDir,
    sources: Vec<Source>,
    paths: Vec<PathQuery>,
    keep_going: bool,
) -> Result<Loaded, Error> {
    if paths.is_empty() {
        return Ok(Loaded { graph: GraphBuilder::new().finish(), roots: Vec::new(), not_found: Vec::new() });
    }
    let store_dir = store_dir.clone();
    blocking(move || {
        let graph = load_graph(&store_dir, &sources)?;
        let (mut roots, mut not_found) = (Vec::with_capacity(paths.len()), Vec::new());
        for path in paths {
            match find(&store_dir, &graph, &path) {
                Ok(node) => roots.push(node),
                Err(_) if keep_going => not_found.push(path),
                Err(error) => return Err(error),
            }
        }
        roots.sort_unstable();
        roots.dedup();
        Ok(Loaded { graph, roots, not_found })
    })
    .await
}

/// Loads the reference graph of all paths of the sources.
pub(crate) fn load_graph(store_dir: &StoreDir, sources: &[Source]) -> Result<Graph, Error> {
    let mut builder = GraphBuilder::new();
    for source in sources {
        match source {
            Source::Cache(_) | Source::Remote { .. } | Source::Export(_) => {
                return Err(Error::NoTrees { source_name: source.to_string() });
            }
            source if source.path() == Path::new("-") => return Err(Error::StandardInput),
            _ => {}
        }
        let stream = source.open(store_dir)?;
        if let Some(warning) = stream.warning() {
            tracing::warn!("{warning}");
        }
        let insert = |info| builder.insert_path_info(&info).map_or_else(ControlFlow::Break, ControlFlow::Continue);
        if let ControlFlow::Break(error) = stream.visit(insert)? {
            return Err(Error::Graph { place: source.to_string(), error });
        }
    }
    Ok(builder.finish())
}

fn find(store_dir: &StoreDir, graph: &Graph, path: &PathQuery) -> Result<Node, Error> {
    let named = || match &path.path {
        Some(path) => store_dir.display(path.as_ref()).to_string(),
        None => path.hash_part.to_string(),
    };
    let node = graph.find(path.hash_part).filter(|&node| graph.is_present(node));
    let node = node.ok_or_else(|| Error::NotInSource { query: named(), found: None })?;
    if path.path.as_ref().is_none_or(|path| path.name() == graph.name(node)) {
        Ok(node)
    } else {
        Err(Error::NotInSource { query: named(), found: Some(graph.path(node)) })
    }
}
