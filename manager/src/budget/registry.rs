//! Which slots are free.

use super::slot::Index;
use super::storage::Slots;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Slots that were never used are handed out in order; freed ones are kept in a stack.
pub(crate) struct Registry {
    /// The next slot that was never used.
    fresh: AtomicU32,
    /// Index of the topmost freed slot (0: none) below a count of changes, so that a slot that
    /// went and came back does not pass for one that stayed.
    freed: AtomicU64,
}

const COUNT_ONE: u64 = 1 << 32;

impl Registry {
    pub(crate) fn new() -> Self {
        Self { fresh: AtomicU32::new(1), freed: AtomicU64::new(0) }
    }

    /// Indexes up to this one, exclusive, have been handed out at some time.
    pub(crate) fn used_up_to(&self) -> Index {
        self.fresh.load(Ordering::SeqCst)
    }

    /// A free slot's index, or `None` where all are taken or the machine gives no memory for more.
    pub(crate) fn take(&self, slots: &Slots) -> Option<Index> {
        let mut top = self.freed.load(Ordering::SeqCst);
        while top as u32 != 0 {
            let index = top as u32;
            let below = slots.get(index)?.next_free.load(Ordering::SeqCst);
            let next = (top & !(COUNT_ONE - 1)).wrapping_add(COUNT_ONE) | u64::from(below);
            match self.freed.compare_exchange_weak(top, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(index),
                Err(now) => top = now,
            }
        }
        loop {
            let index = self.fresh.load(Ordering::SeqCst);
            // Refused past the capacity.
            slots.make(index)?;
            let taken = self.fresh.compare_exchange(index, index + 1, Ordering::SeqCst, Ordering::SeqCst);
            if taken.is_ok() {
                return Some(index);
            }
        }
    }

    /// Makes a slot available again.
    pub(crate) fn put(&self, slots: &Slots, index: Index) {
        let Some(slot) = slots.get(index) else { return };
        let mut top = self.freed.load(Ordering::SeqCst);
        loop {
            slot.next_free.store(top as u32, Ordering::SeqCst);
            let next = (top & !(COUNT_ONE - 1)).wrapping_add(COUNT_ONE) | u64::from(index);
            match self.freed.compare_exchange_weak(top, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_slot_that_came_back_is_handed_out_again_before_a_new_one() {
        let (registry, slots) = (Registry::new(), Slots::new(None));
        let take = || registry.take(&slots).unwrap();
        let first: [Index; 4] = core::array::from_fn(|_| take());
        assert_eq!((first, registry.used_up_to()), ([1, 2, 3, 4], 5));
        for _ in 0..2 {
            let before = registry.freed.load(Ordering::SeqCst);
            for index in first {
                registry.put(&slots, index);
            }
            assert_eq!(core::array::from_fn(|_| take()), [4, 3, 2, 1]);
            // One that looked before takes nothing for what it was.
            let after = registry.freed.load(Ordering::SeqCst);
            assert_eq!((after >> 32) - (before >> 32), 8);
        }
        assert_eq!(take(), 5);
    }
}
