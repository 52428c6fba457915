//! The tickets of those who wait, and where they are kept: with `alloc` in buckets that double in size and
//! never move, else in a few places of the manager itself.

use core::task::Waker;

use super::line::Rank;
use crate::budget::{Index, MAX_DEPTH, ROOT, Refusal, Shortage, Units};

/// A ticket's place, from 1.
#[cfg(feature = "alloc")]
pub(crate) type Key = u16;

/// A ticket's place, from 1.
#[cfg(not(feature = "alloc"))]
pub(crate) type Key = u8;

/// No ticket.
pub(super) const NOBODY: Key = 0;

/// Nodes from a crate up to the root, both counted.
pub(super) const LEVELS: usize = MAX_DEPTH as usize + 1;

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The ticket is nobody's.
    Free,
    /// It waits.
    Waiting,
    /// A thread is charging on its behalf; `abandoned` where whoever waited is gone.
    Trying { abandoned: bool },
    /// Its bytes are charged: the owner of the ticket answers for them.
    Granted,
    /// It will get none; `last` says why.
    Ended,
}

/// Its neighbours in the line of one node.
#[derive(Clone, Copy, Default)]
pub(super) struct Links {
    pub(super) before: Key,
    pub(super) after: Key,
}

/// One request that waits.
pub(super) struct Ticket {
    pub(super) stage: Stage,
    pub(super) index: Index,
    pub(super) generation: u32,
    pub(super) n: Units,
    /// `n` and what its owner has already and will not give back meanwhile.
    pub(super) needs: Units,
    pub(super) rank: Rank,
    /// Those who came later have larger ones.
    pub(super) number: u64,
    /// The node it waits for, by depth, and the crate's own: it is in the lines of all nodes from the one to
    /// the other. Where `top > bottom` it is in none.
    pub(super) top: u8,
    pub(super) bottom: u8,
    /// The nodes above it, by depth, and itself.
    pub(super) path: [Index; LEVELS],
    pub(super) links: [Links; LEVELS],
    /// Where it was refused last.
    pub(super) last: Shortage,
    /// It is to go on serving, as the thread that did had done its share.
    pub(super) nudged: bool,
    pub(super) waker: Option<Waker>,
    /// Link of the free tickets.
    next_free: Key,
}

impl Ticket {
    const fn free(next_free: Key) -> Self {
        Self {
            stage: Stage::Free,
            index: ROOT,
            generation: 0,
            n: Units::ZERO,
            needs: Units::ZERO,
            rank: Rank::Holding,
            number: 0,
            top: LEVELS as u8,
            bottom: 0,
            path: [ROOT; LEVELS],
            links: [Links { before: NOBODY, after: NOBODY }; LEVELS],
            last: Shortage { node: ROOT, refusal: Refusal::Closed },
            nudged: false,
            waker: None,
            next_free,
        }
    }
}

#[cfg(feature = "alloc")]
pub(super) use buckets::{Room, Tickets};
#[cfg(not(feature = "alloc"))]
pub(super) use fixed::{Room, Tickets};

/// A ticket that no request has: what a key that is none would lead to.
fn check(ticket: &Ticket) {
    debug_assert!(ticket.stage != Stage::Free, "a ticket of nobody is looked at");
}

#[cfg(feature = "alloc")]
mod buckets {
    use super::{Key, NOBODY, Ticket, check};
    use alloc::boxed::Box;
    use alloc::vec::Vec;

    /// Tickets in the first bucket; each further one has twice as many.
    const FIRST_BUCKET: usize = if cfg!(loom) { 4 } else { 64 };
    const BUCKETS: usize = 8;

    /// More tickets, allocated outside of the lock.
    pub(in crate::waiting) struct Room(Box<[Ticket]>);

    impl Room {
        /// As many as the bucket of this number has; `None` where the machine has no memory.
        pub(in crate::waiting) fn make(bucket: usize) -> Option<Self> {
            #[cfg(any(all(test, feature = "std"), feature = "faults"))]
            if crate::fault::fails(crate::fault::Call::Tickets) {
                return None;
            }
            let count = FIRST_BUCKET << bucket;
            let mut tickets = Vec::new();
            tickets.try_reserve_exact(count).ok()?;
            let before = FIRST_BUCKET * ((1 << bucket) - 1);
            tickets.extend((1..=count).map(|at| {
                // The last one's link is set when the bucket is put in place.
                Ticket::free(if at == count { NOBODY } else { (before + at + 1) as Key })
            }));
            Some(Self(tickets.into_boxed_slice()))
        }
    }

    /// All tickets there are.
    pub(in crate::waiting) struct Tickets {
        buckets: [Option<Box<[Ticket]>>; BUCKETS],
        free: Key,
    }

    impl Tickets {
        /// How many there can be.
        pub(in crate::waiting) const MOST: usize = FIRST_BUCKET * ((1 << BUCKETS) - 1);

        pub(in crate::waiting) const fn new() -> Self {
            Self { buckets: [const { None }; BUCKETS], free: NOBODY }
        }

        /// A free ticket, or the number of the bucket that is missing, or `None` where all are taken.
        pub(in crate::waiting) fn take(&mut self) -> Result<Key, Option<usize>> {
            let key = self.free;
            if key == NOBODY {
                return Err(self.buckets.iter().position(Option::is_none));
            }
            self.free = self.at(key).next_free;
            Ok(key)
        }

        /// Takes a bucket in, unless another thread was quicker: then it comes back.
        pub(in crate::waiting) fn extend(&mut self, bucket: usize, room: Room) -> Option<Room> {
            let home = self.buckets.get_mut(bucket).filter(|home| home.is_none());
            let Some(home) = home else { return Some(room) };
            let mut tickets = room.0;
            if let Some(last) = tickets.last_mut() {
                last.next_free = self.free;
            }
            *home = Some(tickets);
            self.free = (FIRST_BUCKET * ((1 << bucket) - 1) + 1) as Key;
            None
        }

        pub(in crate::waiting) fn put(&mut self, key: Key) {
            *self.at(key) = Ticket::free(self.free);
            self.free = key;
        }

        /// The ticket of a key that was taken.
        pub(in crate::waiting) fn get(&mut self, key: Key) -> &mut Ticket {
            let ticket = self.at(key);
            check(ticket);
            ticket
        }

        pub(in crate::waiting) fn at(&mut self, key: Key) -> &mut Ticket {
            let at = usize::from(key - 1);
            let bucket = (at / FIRST_BUCKET + 1).ilog2() as usize;
            let within = at - FIRST_BUCKET * ((1 << bucket) - 1);
            match self.buckets[bucket].as_mut().and_then(|tickets| tickets.get_mut(within)) {
                Some(ticket) => ticket,
                None => unreachable!("a key is one of a bucket that is there"),
            }
        }
    }
}

#[cfg(not(feature = "alloc"))]
mod fixed {
    use super::{Key, NOBODY, Ticket, check};

    /// There is no more room than there is.
    pub(in crate::waiting) enum Room {}

    impl Room {
        pub(in crate::waiting) fn make(_bucket: usize) -> Option<Self> {
            None
        }
    }

    /// All tickets there are.
    pub(in crate::waiting) struct Tickets {
        tickets: [Ticket; Self::MOST],
        free: Key,
    }

    impl Tickets {
        /// How many there can be.
        pub(in crate::waiting) const MOST: usize = 4;

        pub(in crate::waiting) const fn new() -> Self {
            let mut tickets = [const { Ticket::free(NOBODY) }; Self::MOST];
            let mut at = 1;
            while at < Self::MOST {
                tickets[at - 1].next_free = (at + 1) as Key;
                at += 1;
            }
            Self { tickets, free: 1 }
        }

        pub(in crate::waiting) fn reset(&mut self) {
            self.free = NOBODY;
            for at in (1..=Self::MOST).rev() {
                self.put(at as Key);
            }
        }

        /// A free ticket, or `None` where all are taken.
        pub(in crate::waiting) fn take(&mut self) -> Result<Key, Option<usize>> {
            let key = self.free;
            if key == NOBODY {
                return Err(None);
            }
            self.free = self.at(key).next_free;
            Ok(key)
        }

        pub(in crate::waiting) fn extend(&mut self, _bucket: usize, room: Room) -> Option<Room> {
            match room {}
        }

        pub(in crate::waiting) fn put(&mut self, key: Key) {
            *self.at(key) = Ticket::free(self.free);
            self.free = key;
        }

        /// The ticket of a key that was taken.
        pub(in crate::waiting) fn get(&mut self, key: Key) -> &mut Ticket {
            let ticket = self.at(key);
            check(ticket);
            ticket
        }

        pub(in crate::waiting) fn at(&mut self, key: Key) -> &mut Ticket {
            &mut self.tickets[usize::from(key - 1)]
        }
    }
}
