//! What a node knows of those who wait for its bytes. It is changed under the lock of
//! [`Lines`](super::Lines) alone.

use super::ticket::{Key, NOBODY};
use crate::budget::{Index, Units};
use crate::sync::Ordering;
use crate::sync::under_lock::{AtomicKey, AtomicU32 as Number};

/// No node.
pub(super) const NOWHERE: Index = Index::MAX;

/// Whether newcomers may pass a request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// They may not: it holds the line.
    Holding,
    /// They may, since its crate waited before and gave up.
    Passable,
}

impl Rank {
    pub(super) const BOTH: [Self; 2] = [Self::Holding, Self::Passable];
}

/// The line of one node: two lists of tickets, one for each rank. Small, as every crate has one: with it a
/// node still is a pair of cache lines on a host.
pub(crate) struct Line {
    /// First of each rank. Of those who hold the line, charges read it without the lock.
    first: [AtomicKey; 2],
    /// The next line to be looked at; [`LAST`] where there is none, [`NOWHERE`] where this one is not to be.
    next_stirred: Number,
    /// What its own requests that gave up asked at most, less what was granted to others that waited.
    forfeit: Number,
}

/// The last line to be looked at.
const LAST: Index = Index::MAX - 1;

const LOCKED: Ordering = Ordering::Relaxed;

impl Line {
    pub(crate) const fn new() -> Self {
        Self {
            first: [AtomicKey::new(NOBODY), AtomicKey::new(NOBODY)],
            next_stirred: Number::new(NOWHERE),
            forfeit: Number::new(0),
        }
    }

    /// Forgets what a former manager left.
    pub(crate) fn reset(&self) {
        self.next_stirred.store(NOWHERE, LOCKED);
        for rank in Rank::BOTH {
            self.set_first(rank, NOBODY);
        }
        self.forgive();
    }

    /// Another crate is in the slot.
    pub(crate) fn forgive(&self) {
        self.forfeit.store(0, LOCKED);
    }

    /// Whether somebody waits here whom newcomers may not pass.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.first(Rank::Holding) != NOBODY
    }

    #[inline]
    pub(super) fn first(&self, rank: Rank) -> Key {
        self.first[rank as usize].load(LOCKED)
    }

    pub(super) fn set_first(&self, rank: Rank, key: Key) {
        self.first[rank as usize].store(key, LOCKED);
    }

    pub(super) fn is_empty(&self) -> bool {
        Rank::BOTH.iter().all(|&rank| self.first(rank) == NOBODY)
    }

    /// Notes that the line is to be looked at, last of all. `false` where that was known.
    pub(super) fn stir(&self) -> bool {
        let news = self.next_stirred.load(LOCKED) == NOWHERE;
        if news {
            self.next_stirred.store(LAST, LOCKED);
        }
        news
    }

    /// It is being looked at. Returns the next one to be.
    pub(super) fn settle(&self) -> Index {
        let next = self.next_stirred.load(LOCKED);
        self.next_stirred.store(NOWHERE, LOCKED);
        if next == LAST { NOWHERE } else { next }
    }

    pub(super) fn set_next_stirred(&self, next: Index) {
        self.next_stirred.store(next, LOCKED);
    }

    /// The rank of the node's next request.
    pub(super) fn rank(&self) -> Rank {
        if self.forfeit.load(LOCKED) == 0 { Rank::Holding } else { Rank::Passable }
    }

    /// A request of `n` of the node was given up.
    pub(super) fn gave_up(&self, n: Units) {
        self.forfeit.store(self.forfeit.load(LOCKED).max(n.get()).max(1), LOCKED);
    }

    /// A request of `n` of the node that waited was granted.
    pub(super) fn was_granted(&self, n: Units) {
        self.forfeit.store(self.forfeit.load(LOCKED).saturating_sub(n.get()), LOCKED);
    }
}
