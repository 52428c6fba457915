//! Budgets in plain numbers: what must be granted, without a ledger. Also for `fuzz/`, which includes this file.
//!
//! The model knows no credit, no stock and no seats. What a node must hold, at the least, is
//!
//! ```text
//! needs(v) = max(own use of v + sum of needs(children of v), floor(v))
//! floor(v) = own guarantee of v + sum of floor(children of v)
//! ```
//!
//! A charge is granted where the crate's own use and what the crates below it need stay within its
//! limit, and, for every node above it up to the first whose needs do not rise, likewise. So idle
//! stock is free for everybody, and what is kept for a guarantee is free only for whom it is kept.
//! A guarantee is granted where it fits the limit of every node up to the pool, both as a sum of
//! guarantees and as a sum of needs.

use crate::CrateId;

/// A crate in plain numbers, all of them units.
pub(crate) struct Node {
    pub(crate) id: CrateId,
    pub(crate) parent: Option<CrateId>,
    pub(crate) limit: u64,
    pub(crate) guarantee: u64,
    pub(crate) used: u64,
}

/// All crates, and the pool's total.
pub(crate) struct Model {
    pub(crate) total: u64,
    pub(crate) nodes: Vec<Node>,
}

impl Model {
    pub(crate) fn node(&self, id: CrateId) -> &Node {
        self.nodes.iter().find(|node| node.id == id).unwrap()
    }

    pub(crate) fn node_mut(&mut self, id: CrateId) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).unwrap()
    }

    pub(crate) fn below(&self, id: Option<CrateId>) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.parent == id)
    }

    /// `None` is the pool.
    pub(crate) fn floor(&self, id: Option<CrateId>) -> u64 {
        let own = id.map_or(0, |id| self.node(id).guarantee);
        own + self.below(id).map(|child| self.floor(Some(child.id))).sum::<u64>()
    }

    /// The least it can have in use.
    pub(crate) fn used(&self, id: Option<CrateId>) -> u64 {
        let own = id.map_or(0, |id| self.node(id).used);
        own + self.below(id).map(|child| self.needs(Some(child.id))).sum::<u64>()
    }

    pub(crate) fn needs(&self, id: Option<CrateId>) -> u64 {
        self.used(id).max(self.floor(id))
    }

    pub(crate) fn limit(&self, id: Option<CrateId>) -> u64 {
        id.map_or(self.total, |id| self.node(id).limit)
    }

    /// The nodes above a crate, the pool last.
    pub(crate) fn above(&self, id: CrateId) -> Vec<Option<CrateId>> {
        let mut path = vec![self.node(id).parent];
        while let Some(Some(at)) = path.last().copied() {
            path.push(self.node(at).parent);
        }
        path
    }

    /// Charges, or says which node does not let it: `None` inside is the pool.
    pub(crate) fn charge(&mut self, id: CrateId, n: u64) -> Result<(), Option<CrateId>> {
        let path: Vec<_> = [Some(id)].into_iter().chain(self.above(id)).collect();
        let before: Vec<_> = path.iter().map(|&at| self.needs(at)).collect();
        self.node_mut(id).used += n;
        for (at, before) in path.into_iter().zip(before) {
            if self.used(at) > self.limit(at) {
                self.node_mut(id).used -= n;
                return Err(at);
            }
            if self.needs(at) == before {
                break;
            }
        }
        Ok(())
    }

    /// Sets a guarantee, or says that it cannot be.
    pub(crate) fn guarantee(&mut self, id: CrateId, guarantee: u64) -> bool {
        let former = core::mem::replace(&mut self.node_mut(id).guarantee, guarantee);
        let fits = guarantee <= former
            || self.floor(Some(id)) <= self.limit(Some(id))
                && self.above(id).into_iter().all(|at| self.needs(at) <= self.limit(at));
        if !fits {
            self.node_mut(id).guarantee = former;
        }
        fits
    }
}
