//! Stock: the few idle bytes a busy crate keeps above its floor, so that two crates on two threads
//! rarely meet on their parent's word.
//!
//! A crate keeps stock only while it has a *seat*. There are [`SEATS`] of them per manager, so a
//! sweep that looks for idle bytes looks at that many places, however many crates there are: a
//! refused growth costs the same beside 16 crates and beside 100,000. A crate without a seat gives
//! all it does not use above its floor to its parent at once.
//!
//! # The protocol
//! Stock must never be where no sweep finds it. Two atomics are involved, the crate's word and its
//! seat, and two threads: one gives the crate stock, one takes its seat away. The first swaps the
//! word, then reads the seat again; if the seat is gone it releases the stock itself. The second
//! clears the seat, then sweeps the word. Both are sequentially consistent, so at least one of them
//! sees what the other did. A slot's seat is only ever swapped, never stored: who overwrites an
//! unseating sees whose it is now.

use super::slot::{Index, Slot};
use crate::sync::{AtomicU32, Ordering};

/// Crates that can have stock at one time.
pub(crate) const SEATS: usize = if cfg!(loom) {
    1
} else if cfg!(target_pointer_width = "64") {
    64
} else {
    8
};

/// While a slot's seat has this value, a thread is looking for one for it. Above that of any seat, and negative as an `i8`.
const SEEKING: u8 = 0x80;

/// Seats tried for a crate that looks for one.
const TRIES: usize = 4;

/// Of so many crates that found no seat, one gets that of another.
const PATIENCE: u32 = 8;

/// Who has which seat.
pub(crate) struct Seats {
    /// The index of the crate in each seat; 0, the root's, where it is free.
    taken_by: [AtomicU32; SEATS],
    /// Counts who found none; names the seat to vacate next.
    hand: AtomicU32,
}

impl Seats {
    pub(crate) fn new() -> Self {
        Self { taken_by: core::array::from_fn(|_| AtomicU32::new(0)), hand: AtomicU32::new(0) }
    }

    /// Whether `slot` may keep stock right now.
    #[inline]
    pub(crate) fn has_seat(slot: &Slot) -> bool {
        slot.seat.load(Ordering::SeqCst).cast_signed() > 0
    }

    /// Looks for a seat for the crate at `index`. Returns the crate that lost its own to it, which the
    /// caller must [unseat](Self::unseat), and `false` where this one lost it to a third at once. The
    /// caller must sweep the stock of either.
    pub(crate) fn seek(&self, index: Index, slot: &Slot) -> (Option<Index>, bool) {
        if slot.seat.compare_exchange(0, SEEKING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return (None, true);
        }
        for tried in 0..TRIES.min(SEATS) {
            let seat = (index as usize + tried) % SEATS;
            if self.taken_by[seat].compare_exchange(0, index, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return (None, self.sit(seat, index, slot));
            }
        }
        let turn = self.hand.fetch_add(1, Ordering::Relaxed);
        if turn.is_multiple_of(PATIENCE) {
            let seat = (turn / PATIENCE) as usize % SEATS;
            let former = self.taken_by[seat].swap(index, Ordering::SeqCst);
            return ((former != 0).then_some(former), self.sit(seat, index, slot));
        }
        slot.seat.swap(0, Ordering::SeqCst);
        (None, true)
    }

    /// Tells a slot which seat it has, unless that was given to another already: then `false`, and
    /// stock that was kept on the strength of it must be swept.
    #[must_use]
    fn sit(&self, seat: usize, index: Index, slot: &Slot) -> bool {
        slot.seat.swap(seat as u8 + 1, Ordering::SeqCst);
        // Who takes the seat away changes the table first, then the slot.
        let kept = self.taken_by[seat].load(Ordering::SeqCst) == index;
        if !kept {
            slot.seat.swap(0, Ordering::SeqCst);
        }
        kept
    }

    /// Tells a slot that `seek` gave its seat to another. Its stock is to be swept after this.
    pub(crate) fn unseat(slot: &Slot) {
        slot.seat.swap(0, Ordering::SeqCst);
    }

    /// Gives the seat of a crate that is being retired back.
    pub(crate) fn vacate(&self, index: Index, slot: &Slot) {
        if let Some(seat) = slot.seat.load(Ordering::SeqCst).checked_sub(1).map(usize::from)
            && seat < SEATS
            && self.taken_by[seat].compare_exchange(index, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            slot.seat.swap(0, Ordering::SeqCst);
        }
    }

    /// The crates that have a seat. At most [`SEATS`].
    pub(crate) fn seated(&self) -> impl Iterator<Item = Index> + '_ {
        self.taken_by.iter().map(|seat| seat.load(Ordering::SeqCst)).filter(|&index| index != 0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
