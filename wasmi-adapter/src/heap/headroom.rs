//! The last bytes a guest has: for the errors of the runtime, when the allocator has nothing left.
//!
//! A trap is a small box that wasmi allocates while the guest runs, and wasmi ends the program where it gets none. Whether
//! others have used up all there is does not depend on the guest that traps; so each has room for a
//! few such boxes from the start.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use wasmi::errors::ErrorKind;

/// Bytes of a slot: an error of wasmi, and what comes before a block.
pub(crate) const SLOT: usize = (size_of::<ErrorKind>() + align_of::<ErrorKind>()).next_multiple_of(ALIGN);

/// Bytes that a slot is aligned to: what `Slot` says.
const ALIGN: usize = 16;

/// Errors that there can be at one time: one that a host keeps, one that the guest ends with, and one that a host function
/// makes of it.
const SLOTS: usize = 3;

#[repr(C, align(16))]
struct Slot([MaybeUninit<[u8; ALIGN]>; SLOT / ALIGN]);

/// The slots of one guest.
pub(super) struct Headroom {
    /// A bit for each.
    taken: AtomicUsize,
    slots: UnsafeCell<[Slot; SLOTS]>,
}

impl Headroom {
    pub(super) const fn new() -> Self {
        let slots = [const { Slot([MaybeUninit::uninit(); SLOT / ALIGN]) }; SLOTS];
        Self { taken: AtomicUsize::new(0), slots: UnsafeCell::new(slots) }
    }

    /// A slot, zeroed, for what fits into one.
    pub(super) fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        if layout.size() > SLOT || layout.align() > ALIGN {
            return None;
        }
        loop {
            let taken = self.taken.load(Ordering::Relaxed);
            let at = taken.trailing_ones() as usize;
            if at >= SLOTS {
                return None;
            }
            let more = taken | 1 << at;
            if self.taken.compare_exchange(taken, more, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                // SAFETY: within the array, and this slot's bit was clear and is this caller's now.
                return NonNull::new(unsafe {
                    let slot = self.slots.get().cast::<Slot>().add(at).cast::<u8>();
                    slot.write_bytes(0, SLOT);
                    slot
                });
            }
        }
    }

    /// Whether a block is one of these.
    pub(super) fn has(&self, block: *const u8) -> bool {
        self.offset(block) < SLOTS * SLOT
    }

    /// Takes a block back, if it is one of these.
    pub(super) fn free(&self, block: *const u8) -> bool {
        if self.has(block) {
            self.taken.fetch_and(!(1 << (self.offset(block) / SLOT)), Ordering::Release);
        }
        self.has(block)
    }

    fn offset(&self, block: *const u8) -> usize {
        block.addr().wrapping_sub(self.slots.get().addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_distinct_zeroed_and_to_be_had_again() {
        let headroom = Headroom::new();
        let layout = Layout::from_size_align(SLOT, 8).unwrap();
        let mut all: alloc::vec::Vec<_> = (0..SLOTS).map(|_| headroom.allocate(layout).unwrap()).collect();
        assert!(headroom.allocate(layout).is_none());
        for slot in &all {
            // SAFETY: a slot is this many bytes.
            unsafe {
                assert!((0..SLOT).all(|at| slot.add(at).read() == 0));
                slot.write_bytes(0xff, SLOT);
            }
        }
        assert!(headroom.free(all[2].as_ptr()));
        let again = headroom.allocate(layout).unwrap();
        assert_eq!(again, all[2]);
        // SAFETY: as above.
        assert!(unsafe { (0..SLOT).all(|at| again.add(at).read() == 0) });
        all.dedup();
        assert_eq!(all.len(), SLOTS);
    }

    #[test]
    fn what_is_too_large_or_from_elsewhere_is_none_of_its_business() {
        let headroom = Headroom::new();
        for (size, align) in [(SLOT + 1, 8), (8, 32)] {
            assert!(headroom.allocate(Layout::from_size_align(size, align).unwrap()).is_none());
        }
        let elsewhere = 0u8;
        assert!(!headroom.free(&raw const elsewhere));
    }
}
