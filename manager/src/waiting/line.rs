//! What a node knows of those who wait for its bytes. All of it but `held` is touched under the lock of
//! [`Lines`](super::Lines) alone.

use super::ticket::{Key, NOBODY};
use crate::budget::{Index, Units};
use crate::sync::under_lock::{AtomicBool as Flag, AtomicKey, AtomicU16 as Small, AtomicU32 as Number};
use crate::sync::{AtomicBool, Ordering, const_fn};

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

/// The line of one node: two lists of tickets, one for each rank.
pub(crate) struct Line {
    /// Whether anybody holds the line. Charges read it without the lock.
    held: AtomicBool,
    /// Whether it is on the list of lines to be looked at.
    stirred: Flag,
    /// The next one there.
    next_stirred: Number,
    /// First and last of each rank.
    first: [AtomicKey; 2],
    last: [AtomicKey; 2],
    /// Tickets of the node's own requests.
    own: Small,
    /// What its own requests that gave up asked at most, less what was granted to others that waited.
    forfeit: Number,
}

const LOCKED: Ordering = Ordering::Relaxed;

impl Line {
    const_fn! {
        pub(crate) const fn new() -> Self {
            Self {
                held: AtomicBool::new(false),
                stirred: Flag::new(false),
                next_stirred: Number::new(NOWHERE),
                first: [AtomicKey::new(NOBODY), AtomicKey::new(NOBODY)],
                last: [AtomicKey::new(NOBODY), AtomicKey::new(NOBODY)],
                own: Small::new(0),
                forfeit: Number::new(0),
            }
        }
    }

    /// Forgets what a former manager left.
    pub(crate) fn reset(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.stirred.store(false, LOCKED);
        self.next_stirred.store(NOWHERE, LOCKED);
        for rank in Rank::BOTH {
            self.set_first(rank, NOBODY);
            self.set_last(rank, NOBODY);
        }
        self.own.store(0, LOCKED);
        self.forgive();
    }

    /// Another crate is in the slot.
    pub(crate) fn forgive(&self) {
        self.forfeit.store(0, LOCKED);
    }

    /// Whether somebody waits here whom newcomers may not pass.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    pub(super) fn first(&self, rank: Rank) -> Key {
        self.first[rank as usize].load(LOCKED)
    }

    pub(super) fn last(&self, rank: Rank) -> Key {
        self.last[rank as usize].load(LOCKED)
    }

    pub(super) fn set_first(&self, rank: Rank, key: Key) {
        self.first[rank as usize].store(key, LOCKED);
        if rank == Rank::Holding {
            self.held.store(key != NOBODY, Ordering::SeqCst);
        }
    }

    pub(super) fn set_last(&self, rank: Rank, key: Key) {
        self.last[rank as usize].store(key, LOCKED);
    }

    pub(super) fn is_empty(&self) -> bool {
        Rank::BOTH.iter().all(|&rank| self.first(rank) == NOBODY)
    }

    /// Notes that the line is to be looked at. `false` where that was known.
    pub(super) fn stir(&self) -> bool {
        if self.stirred.load(LOCKED) {
            return false;
        }
        self.stirred.store(true, LOCKED);
        self.next_stirred.store(NOWHERE, LOCKED);
        true
    }

    /// It is being looked at. Returns the next one to be.
    pub(super) fn settle(&self) -> Index {
        self.stirred.store(false, LOCKED);
        self.next_stirred.load(LOCKED)
    }

    pub(super) fn set_next_stirred(&self, next: Index) {
        self.next_stirred.store(next, LOCKED);
    }

    /// Requests of the node itself that have a ticket.
    pub(crate) fn own(&self) -> u16 {
        self.own.load(LOCKED)
    }

    pub(super) fn count_own(&self, own: u16) {
        self.own.store(own, LOCKED);
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
