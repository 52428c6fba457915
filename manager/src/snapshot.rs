//! Where the bytes are, at one look.

use crate::budget::{Amount, CrateId, CrateName, DenialReason, Index, MAX_DEPTH, ROOT};
use crate::manager::UnifiedMemoryManager;
use crate::provider::{ProviderKind, Selection, SelectionReason};
use crate::sync::Ordering;

/// One budget as it was when it was looked at. All amounts are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NodeSnapshot {
    /// The crate; the global budget's is its own, and good for nothing else.
    pub id: CrateId,
    /// Its name; the global budget's is `pool`.
    pub name: CrateName,
    /// The budget it is part of; `None` for the global one.
    pub parent: Option<CrateId>,
    /// Steps below the global budget.
    pub depth: u8,
    /// Crates directly below it.
    pub children: u32,
    /// Bytes asked for, of those in use. The difference to `used` is rounding and headers.
    pub requested: usize,
    /// Bytes in use; in a parent, given out to crates below it.
    pub used: usize,
    /// Bytes of blocks that it freed and keeps for the next [`Memory`](crate::Memory) of the same size: held and not in use,
    /// and given back where it or anybody else would be denied for want of them. At most a
    /// [stock](crate::Builder::stock).
    pub slab: usize,
    /// Bytes it has from its parent.
    pub held: usize,
    /// Bytes it is guaranteed now, with the guarantees of the crates below it, and with what it has lent and
    /// borrowed.
    pub floor: usize,
    /// Bytes it may have at most now, with what it has lent and borrowed.
    pub limit: usize,
    /// Bytes of its guarantee that it has lent and not back yet.
    pub lent: usize,
    /// Bytes lent to it, which are part of its floor and limit.
    pub borrowed: usize,
    /// Bytes that were lent to it, have been recalled, and are still in its use.
    pub owed: usize,
    /// Most bytes ever in use, with those on its slab then.
    pub high_water: usize,
    /// Requests denied.
    pub denials: Denials,
    /// Its own requests that wait for bytes, here or further up.
    pub waiting: u8,
    /// A check of it failed, and it is charged for nothing any more.
    pub closed: bool,
    /// The provider of its latest block, and why that one.
    pub provider: Option<ProviderUse>,
}

/// Requests denied since the crate was registered, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Denials {
    /// By its own limit.
    pub limit: u32,
    /// Because a parent or the global budget had nothing left.
    pub pool: u32,
    /// Because no provider had the memory.
    pub provider: u32,
}

impl Denials {
    /// All of them.
    pub fn total(&self) -> u64 {
        u64::from(self.limit) + u64::from(self.pool) + u64::from(self.provider)
    }
}

/// Requests that waited for bytes since the manager was made: what begun is granted, given up, or waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Waits {
    /// Requests that stood in line.
    pub begun: u64,
    /// Those that were granted their bytes.
    pub granted: u64,
    /// Those that ended without: given up, of a crate that was retired, or no longer possible.
    pub given_up: u64,
    /// Those that wait now.
    pub waiting: u32,
}

/// Which provider served, and why it was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ProviderUse {
    /// The provider.
    pub kind: ProviderKind,
    /// Why.
    pub reason: SelectionReason,
}

impl ProviderUse {
    /// In a byte that is never 0: the kind in the high half, the reason in the low one.
    pub(crate) fn code(selection: Selection) -> u8 {
        Self::of(selection.kind, selection.reason)
    }

    /// The same, of kind and reason.
    #[inline]
    pub(crate) const fn of(kind: ProviderKind, reason: SelectionReason) -> u8 {
        let kind = match kind {
            ProviderKind::StaticRegion => 0,
            ProviderKind::Heap => 1,
            ProviderKind::Mapped => 2,
            ProviderKind::Pooled => 3,
        };
        kind << 4 | reason.to_code()
    }

    fn from_code(code: u8) -> Option<Self> {
        let reason = SelectionReason::from_code(code & 0xf)?;
        let kind = match code >> 4 {
            0 => ProviderKind::StaticRegion,
            1 => ProviderKind::Heap,
            2 => ProviderKind::Mapped,
            _ => ProviderKind::Pooled,
        };
        Some(Self { kind, reason })
    }
}

/// All budgets, each as it was at one moment, not all at the same one.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The global budget.
    pub pool: NodeSnapshot,
    /// All others: parents before the crates below them.
    pub crates: alloc::vec::Vec<NodeSnapshot>,
    /// Bytes in use by the crates themselves, without what parents gave out: what guests have.
    pub used: usize,
    /// Bytes that are neither used nor kept for a guarantee: what anybody could still have.
    pub free: usize,
    /// Requests that waited for bytes, and those that do.
    pub waits: Waits,
}

impl UnifiedMemoryManager {
    /// One budget.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn node(&self, id: CrateId) -> crate::Result<NodeSnapshot> {
        self.tracker.resolve(id)?;
        Ok(self.look_at(id.index))
    }

    /// The global budget.
    pub fn pool(&self) -> NodeSnapshot {
        self.look_at(ROOT)
    }

    /// Requests that waited for bytes, and those that do.
    pub fn waits(&self) -> Waits {
        self.tracker.lines().counts()
    }

    /// All budgets, the global one first. Needs no `alloc`.
    pub fn nodes(&self) -> impl Iterator<Item = NodeSnapshot> + '_ {
        self.tracker.nodes().map(|index| self.look_at(index))
    }

    /// All budgets and their sums.
    #[cfg(feature = "alloc")]
    pub fn snapshot(&self) -> Snapshot {
        let pool = self.pool();
        let mut crates: alloc::vec::Vec<_> = self.nodes().skip(1).collect();
        sort_as_tree(&mut crates);
        // From the leaves up: what children hold of a node, and what they must.
        let mut below = alloc::collections::BTreeMap::<Index, (usize, usize)>::new();
        let mut used = 0;
        for node in crates.iter().rev() {
            let (held, needed) = below.remove(&node.id.index).unwrap_or_default();
            let own = node.used.saturating_sub(held);
            used += own;
            let of_parent = below.entry(node.parent.map_or(ROOT, |parent| parent.index)).or_default();
            of_parent.0 += node.held;
            of_parent.1 += (own + needed).max(node.floor);
        }
        let (_, needed) = below.remove(&ROOT).unwrap_or_default();
        let free = pool.limit.saturating_sub(needed);
        Snapshot { pool, crates, used, free, waits: self.waits() }
    }

    pub(crate) fn look_at(&self, index: Index) -> NodeSnapshot {
        let slot = self.tracker.slot(index);
        let scale = self.tracker.scale();
        let state = slot.budget.load();
        let [limit, pool, provider] = slot.denials();
        debug_assert_eq!((DenialReason::Limit as usize, DenialReason::Provider as usize), (0, 2));
        // Looked at after the word: a block that comes or goes meanwhile may be missed, or counted as used.
        let slab = slot.slab.bytes();
        let used = scale.bytes(state.used).saturating_sub(slab);
        let overhead = slot.overhead.load(Ordering::Relaxed);
        let (lent, borrowed, owed) = self.tracker.sums(index);
        NodeSnapshot {
            id: self.tracker.id_at(index),
            name: self.tracker.name_of(index),
            parent: (index != ROOT && slot.depth.load(Ordering::Relaxed) > 1)
                .then(|| self.tracker.id_at(slot.parent.load(Ordering::Relaxed))),
            depth: slot.depth.load(Ordering::Relaxed).min(MAX_DEPTH),
            children: slot.children(),
            requested: used.saturating_sub(overhead),
            used,
            slab,
            held: scale.bytes(state.held),
            floor: scale.bytes(state.floor),
            limit: scale.bytes(state.limit.least(&self.tracker.slot(ROOT).budget.load().limit)),
            lent: scale.bytes(lent),
            borrowed: scale.bytes(borrowed),
            owed: scale.bytes(owed),
            high_water: scale.bytes(slot.high_water(state.used)),
            denials: Denials { limit, pool, provider },
            closed: slot.is_closed(),
            waiting: slot.waiting.load(Ordering::Relaxed),
            provider: ProviderUse::from_code(slot.provider.load(Ordering::Relaxed)),
        }
    }
}

/// Puts every node behind its parent and that one's earlier children.
#[cfg(feature = "alloc")]
fn sort_as_tree(crates: &mut alloc::vec::Vec<NodeSnapshot>) {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    let mut below: BTreeMap<Option<Index>, Vec<NodeSnapshot>> = BTreeMap::new();
    for node in crates.drain(..).rev() {
        below.entry(node.parent.map(|parent| parent.index)).or_default().push(node);
    }
    let mut open = below.remove(&None).unwrap_or_default();
    while let Some(node) = open.pop() {
        open.extend(below.remove(&Some(node.id.index)).unwrap_or_default());
        crates.push(node);
    }
    // A parent that was retired between two looks leaves nobody out.
    crates.extend(below.into_values().flatten());
}
