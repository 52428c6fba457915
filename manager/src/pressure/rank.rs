//! Whom it would help to evict, and by how much.

use alloc::vec;
use alloc::vec::Vec;

use super::victim::VictimPolicy;
use crate::budget::{Amount, CrateId, CrateName, Index, MAX_DEPTH, ROOT, State, Units};
use crate::error::Result;
use crate::manager::UnifiedMemoryManager;
use crate::sync::Ordering;

/// A crate, and what ending all its instances would give back. All amounts are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Candidate {
    /// The crate.
    pub id: CrateId,
    /// Its name.
    pub name: CrateName,
    /// What the budget in question would have more for others: 0 for a crate that uses no more than it, or a
    /// parent on the way, is guaranteed, as what is guaranteed stays with it.
    pub returns: usize,
    /// What the crate itself has in use, and would lose.
    pub used: usize,
    /// What it is guaranteed, with the crates below it.
    pub guaranteed: usize,
}

/// One look at a node.
struct Look {
    state: State<Units>,
    parent: Index,
    /// What its children hold of its use.
    below: Units,
}

impl Look {
    /// What the node must hold.
    fn bound(&self, used: Units) -> Units {
        used.most(&self.state.floor)
    }
}

impl UnifiedMemoryManager {
    /// The crates below `over`, or all where it is `None`, ranked by what evicting each would give back to it: the
    /// most first; of equals the one first that loses less. Those with nothing in use and nothing to give are
    /// left out.
    ///
    /// Evicting is ending all instances of one crate, not those of crates below it; it stays registered, and
    /// keeps its guarantee. What it has idle above that counts as given back, as a sweep could take it. `over`
    /// itself is ranked where it has bytes in use of its own.
    ///
    /// Walks all crates: for the host, when there is pressure, not for the path of a request. Each crate is looked
    /// at once, not all at the same moment.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn rank(&self, over: Option<CrateId>) -> Result<Vec<Candidate>> {
        let top = match over {
            Some(id) => {
                self.tracker.resolve(id)?;
                id.index
            }
            None => ROOT,
        };
        let looks = self.looks();
        let scale = self.tracker.scale();
        let mut ranked = Vec::new();
        for (index, look) in looks.iter().enumerate() {
            let (Some(look), Ok(index)) = (look, Index::try_from(index)) else { continue };
            let own = look.state.used.above(&look.below);
            let Some(returns) = returns(&looks, index, top) else { continue };
            if index == ROOT || (own.is_zero() && returns.is_zero()) {
                continue;
            }
            ranked.push(Candidate {
                id: self.tracker.id_at(index),
                name: self.tracker.name_of(index),
                returns: scale.bytes(returns),
                used: scale.bytes(own),
                guaranteed: scale.bytes(look.state.floor),
            });
        }
        ranked.sort_by_key(|one| (core::cmp::Reverse(one.returns), one.used, one.id.index));
        Ok(ranked)
    }

    /// The crate below `over`, or of all, that a policy would evict so that `over` has `needed` bytes more for others.
    /// `None` where it would evict nobody.
    ///
    /// # Errors
    /// As [`rank`](Self::rank).
    pub fn victim(
        &self,
        policy: &impl VictimPolicy,
        over: Option<CrateId>,
        needed: usize,
    ) -> Result<Option<Candidate>> {
        let ranked = self.rank(over)?;
        Ok(policy.choose(needed, &ranked).copied())
    }

    /// Every node by its index, each read once.
    fn looks(&self) -> Vec<Option<Look>> {
        let mut looks: Vec<Option<Look>> = Vec::new();
        for index in self.tracker.nodes() {
            let slot = self.tracker.slot(index);
            looks.resize_with(looks.len().max(index as usize + 1), || None);
            looks[index as usize] = Some(Look {
                state: slot.budget.load(),
                parent: slot.parent.load(Ordering::Relaxed),
                below: Units::ZERO,
            });
        }
        let mut below = vec![Units::ZERO; looks.len()];
        for (index, look) in looks.iter().enumerate() {
            let Some(look) = look.as_ref().filter(|_| index != ROOT as usize) else { continue };
            if let Some(sum) = below.get_mut(look.parent as usize) {
                *sum = sum.plus_saturating(&look.state.held);
            }
        }
        for (look, below) in looks.iter_mut().zip(below) {
            if let Some(look) = look {
                look.below = below;
            }
        }
        looks
    }
}

/// By how much the use of `top` would fall if what `index` itself has in use were gone; where it is `top` itself, by
/// how much its own would. `None` where it is not below.
fn returns(looks: &[Option<Look>], index: Index, top: Index) -> Option<Units> {
    let look = looks.get(index as usize)?.as_ref()?;
    let own = look.state.used.above(&look.below);
    if index == top {
        return Some(own);
    }
    // What it holds goes up, but for its guarantee and what is below it.
    let mut gone = look.state.held.above(&look.bound(look.state.used.above(&own)));
    let mut at = look.parent;
    for _ in 0..=MAX_DEPTH {
        if at == top {
            return Some(gone);
        }
        let look = looks.get(at as usize)?.as_ref()?;
        if at == ROOT {
            return None;
        }
        // A parent passes on what it has above its own guarantee.
        gone = look.bound(look.state.used).above(&look.bound(look.state.used.above(&gone)));
        at = look.parent;
    }
    None
}
