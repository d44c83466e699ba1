//! Publishing again what a repair withdraws.

use std::collections::HashSet;

use nixcache::closure::{Graph, Node};

use super::plan::{RepairPlan, Withdrawal};
use crate::cache::{Cache, blocking};
use crate::push::operation::{load_graph, push_nodes};
use crate::push::{Error, PushOptions, Pushed};
use crate::source::Source;

/// What was published again after a repair.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Republished {
    /// The push of the withdrawn paths that the sources have, with their closures.
    pub pushed: Pushed,
    /// The withdrawn narinfos whose paths no source has. They are not in the cache now.
    pub not_in_source: Vec<Withdrawal>,
}

impl Republished {
    /// Whether all withdrawn paths are in the cache again.
    pub fn is_complete(&self) -> bool {
        self.not_in_source.is_empty() && self.pushed.is_complete()
    }
}

/// The paths to withdraw, as the sources have them.
pub(super) struct Replacements {
    graph: Graph,
    nodes: Vec<Node>,
    not_in_source: Vec<Withdrawal>,
}

impl Replacements {
    /// Reads the sources. This comes before anything is withdrawn, so that a source that cannot be
    /// read costs nothing.
    pub(super) async fn find(cache: &Cache, plan: &RepairPlan, sources: &[Source]) -> Result<Self, Error> {
        let (store_dir, sources) = (cache.store_dir().clone(), sources.to_vec());
        let graph = blocking(move || load_graph(&store_dir, &sources)).await?;
        let (mut nodes, mut not_in_source) = (HashSet::new(), Vec::new());
        for withdrawal in plan.withdrawals() {
            match graph.find(withdrawal.hash_part).filter(|&node| graph.is_present(node)) {
                Some(node) => drop(nodes.insert(node)),
                None => not_in_source.push(withdrawal.clone()),
            }
        }
        let mut nodes: Vec<Node> = nodes.into_iter().collect();
        nodes.sort_unstable();
        Ok(Self { graph, nodes, not_in_source })
    }

    /// Publishes the paths with their closures. The roots that listed them are not written again.
    pub(super) async fn publish(
        self,
        cache: &Cache,
        sources: &[Source],
        options: &PushOptions,
    ) -> Result<Republished, Error> {
        let options = options.clone().with(|options| {
            options.root = None;
            options.root_labels.clear();
            options.trees.clear();
            // It may list what was withdrawn.
            options.trust_last_root = false;
        });
        let pushed = if self.nodes.is_empty() {
            Pushed::default()
        } else {
            push_nodes(cache, sources, &self.graph, self.nodes, &options).await?
        };
        Ok(Republished { pushed, not_in_source: self.not_in_source })
    }
}
