//! Where the nodes live: a caller's storage first, then, with `alloc`, buckets that double in size
//! and never move.

use super::slot::{Index, Slot};
#[cfg(not(feature = "alloc"))]
use crate::lock::Lock;
#[cfg(not(feature = "alloc"))]
use crate::sharing::Book;
use crate::sync::{AtomicBool, Ordering};
#[cfg(not(feature = "alloc"))]
use crate::waiting::Lines;

#[cfg(feature = "alloc")]
use crate::sync::AtomicPtr;

/// Room for `N` crates that a program without `alloc` gives its manager; 16 if it does not say.
///
/// ```
/// use wrt_memory::CrateStorage;
/// static CRATES: CrateStorage<4> = CrateStorage::new();
/// ```
pub struct CrateStorage<const N: usize = 16> {
    claimed: AtomicBool,
    /// Here, and not in the manager, which is built on a stack that is small.
    #[cfg(not(feature = "alloc"))]
    lines: Lines,
    #[cfg(not(feature = "alloc"))]
    book: Lock<Book>,
    slots: [Slot; N],
}

impl<const N: usize> CrateStorage<N> {
    /// Room that no manager has claimed yet.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            claimed: AtomicBool::new(false),
            #[cfg(not(feature = "alloc"))]
            lines: Lines::new(),
            #[cfg(not(feature = "alloc"))]
            book: Lock::new(Book::new()),
            slots: [const { Slot::new() }; N],
        }
    }

    /// Room that no manager has claimed yet.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            claimed: AtomicBool::new(false),
            #[cfg(not(feature = "alloc"))]
            lines: Lines::new(),
            #[cfg(not(feature = "alloc"))]
            book: Lock::new(Book::new()),
            slots: core::array::from_fn(|_| Slot::new()),
        }
    }
}

impl<const N: usize> Default for CrateStorage<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// A caller's storage while one manager has it.
pub(crate) struct Claimed {
    claimed: &'static AtomicBool,
    #[cfg(not(feature = "alloc"))]
    lines: &'static Lines,
    #[cfg(not(feature = "alloc"))]
    book: &'static Lock<Book>,
    slots: &'static [Slot],
}

impl Claimed {
    /// Claims `storage`, or `None` where another manager has it.
    pub(crate) fn new<const N: usize>(storage: &'static CrateStorage<N>) -> Option<Self> {
        if storage.claimed.swap(true, Ordering::Acquire) {
            return None;
        }
        for slot in &storage.slots {
            slot.forget_manager();
        }
        #[cfg(not(feature = "alloc"))]
        storage.lines.forget_manager();
        #[cfg(not(feature = "alloc"))]
        storage.book.with(|book| *book = Book::new());
        Some(Self {
            claimed: &storage.claimed,
            #[cfg(not(feature = "alloc"))]
            lines: &storage.lines,
            #[cfg(not(feature = "alloc"))]
            book: &storage.book,
            slots: &storage.slots,
        })
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // Nothing borrows the manager any more, so nothing is charged; what a crate that was never
        // retired left, the next manager's claim and its `register` overwrite.
        self.claimed.store(false, Ordering::Release);
    }
}

/// Slots in the first bucket; each further one has twice as many. loom makes all of them anew for
/// every schedule it tries.
#[cfg(feature = "alloc")]
const FIRST_BUCKET: usize = if cfg!(loom) { 4 } else { 64 };

/// Enough buckets for 2^30 crates.
#[cfg(feature = "alloc")]
const BUCKETS: usize = 24;

/// All nodes but the root, by index from 1.
pub(crate) struct Slots {
    #[cfg_attr(feature = "alloc", expect(dead_code, reason = "kept until it is dropped"))]
    given: Option<Claimed>,
    /// Those of `given`, a step nearer.
    #[cfg(feature = "alloc")]
    slots: &'static [Slot],
    #[cfg(feature = "alloc")]
    buckets: [AtomicPtr<Slot>; BUCKETS],
}

impl Slots {
    pub(crate) fn new(given: Option<Claimed>) -> Self {
        Self {
            #[cfg(feature = "alloc")]
            slots: given.as_ref().map_or(&[], |given| given.slots),
            given,
            #[cfg(feature = "alloc")]
            buckets: core::array::from_fn(|_| AtomicPtr::new(core::ptr::null_mut())),
        }
    }

    /// The lines of the manager that claimed the storage.
    #[cfg(not(feature = "alloc"))]
    pub(super) fn lines(&self) -> &Lines {
        match &self.given {
            Some(given) => given.lines,
            None => unreachable!("without `alloc` there is no manager without a storage"),
        }
    }

    /// The book of the manager that claimed the storage.
    #[cfg(not(feature = "alloc"))]
    pub(super) fn book(&self) -> &Lock<Book> {
        match &self.given {
            Some(given) => given.book,
            None => unreachable!("without `alloc` there is no manager without a storage"),
        }
    }

    #[inline]
    fn given(&self) -> &[Slot] {
        #[cfg(feature = "alloc")]
        return self.slots;
        #[cfg(not(feature = "alloc"))]
        self.given.as_ref().map_or(&[], |given| given.slots)
    }

    /// Crates there can be; `usize::MAX` never occurs.
    pub(crate) fn capacity(&self) -> usize {
        let given = self.given().len();
        #[cfg(feature = "alloc")]
        let given = given + FIRST_BUCKET * ((1 << BUCKETS) - 1);
        given
    }

    /// The slot at `index` (from 1), where one has been [made](Self::make).
    #[inline]
    pub(crate) fn get(&self, index: Index) -> Option<&Slot> {
        let at = (index as usize).checked_sub(1)?;
        let given = self.given();
        match given.get(at) {
            Some(slot) => Some(slot),
            #[cfg(feature = "alloc")]
            None => self.bucketed(at - given.len()),
            #[cfg(not(feature = "alloc"))]
            None => None,
        }
    }

    /// Makes the slot at `index` (from 1) where there is none yet. `None` past the capacity, or
    /// where the machine gives no memory.
    pub(crate) fn make(&self, index: Index) -> Option<&Slot> {
        #[cfg(feature = "alloc")]
        if let Some(at) = (index as usize).checked_sub(1 + self.given().len()) {
            self.make_bucket(at)?;
        }
        self.get(index)
    }
}

/// Bucket, and position in it, of the `at`th slot that is not the caller's.
#[cfg(feature = "alloc")]
#[inline]
fn locate(at: usize) -> (usize, usize) {
    // As if there were a bucket before the first: each then begins at a power of two.
    let at = at + FIRST_BUCKET;
    let bucket = (at.ilog2() - FIRST_BUCKET.ilog2()) as usize;
    (bucket, at - (FIRST_BUCKET << bucket))
}

#[cfg(feature = "alloc")]
mod growing {
    use super::{BUCKETS, FIRST_BUCKET, Slot, Slots, locate};
    use crate::sync::Ordering;
    use alloc::alloc::{alloc, dealloc};
    use core::alloc::Layout;
    use core::ptr;

    fn layout(bucket: usize) -> Option<Layout> {
        Layout::array::<Slot>(FIRST_BUCKET << bucket).ok()
    }

    impl Slots {
        #[inline]
        pub(super) fn bucketed(&self, at: usize) -> Option<&Slot> {
            let (bucket, within) = locate(at);
            let first = self.buckets.get(bucket)?.load(Ordering::Acquire);
            if first.is_null() {
                return None;
            }
            // SAFETY: a bucket that is set holds `FIRST_BUCKET << bucket` initialised slots, of which
            // `within` is one by `locate`; it is never moved, and freed only with `self`.
            Some(unsafe { &*first.add(within) })
        }

        pub(super) fn make_bucket(&self, at: usize) -> Option<()> {
            let (bucket, _) = locate(at);
            let home = self.buckets.get(bucket)?;
            if !home.load(Ordering::Acquire).is_null() {
                return Some(());
            }
            #[cfg(any(all(test, feature = "std"), feature = "faults"))]
            if crate::fault::fails(crate::fault::Call::Crates) {
                return None;
            }
            let layout = layout(bucket)?;
            // SAFETY: the layout's size is not 0.
            let first = unsafe { alloc(layout) }.cast::<Slot>();
            if first.is_null() {
                return None;
            }
            for within in 0..FIRST_BUCKET << bucket {
                // SAFETY: `first` is that many slots of fresh memory.
                unsafe { first.add(within).write(Slot::new()) };
            }
            let raced = home.compare_exchange(ptr::null_mut(), first, Ordering::AcqRel, Ordering::Acquire);
            if raced.is_err() {
                // Another thread made the bucket first. Slots need no drop.
                // SAFETY: allocated above with this layout, and never shared.
                unsafe { dealloc(first.cast(), layout) };
            }
            Some(())
        }
    }

    impl Drop for Slots {
        fn drop(&mut self) {
            self.slots.iter().for_each(Slot::end_slab);
            for bucket in 0..BUCKETS {
                let first = self.buckets[bucket].load(Ordering::Acquire);
                if let (false, Some(layout)) = (first.is_null(), layout(bucket)) {
                    for within in 0..FIRST_BUCKET << bucket {
                        // SAFETY: a bucket that is set holds that many slots.
                        unsafe { &*first.add(within) }.end_slab();
                    }
                    // SAFETY: allocated by `make_bucket` with this layout; `&mut self` says that
                    // nothing refers to it. Slots need no drop.
                    unsafe { dealloc(first.cast(), layout) };
                }
            }
        }
    }

    const _: () = assert!(!core::mem::needs_drop::<Slot>() || cfg!(loom));
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_without_gap_or_overlap() {
        let mut expected = (0, 0);
        for at in 0..FIRST_BUCKET * 20 {
            assert_eq!(locate(at), expected);
            expected.1 += 1;
            if expected.1 == FIRST_BUCKET << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[cfg(not(loom))]
    #[test]
    fn the_capacity_is_what_storage_and_buckets_hold() {
        static CRATES: CrateStorage<5> = CrateStorage::new();
        let slots = Slots::new(Claimed::new(&CRATES));
        let buckets = slots.capacity() - 5;
        assert_eq!(locate(buckets - 1), (BUCKETS - 1, (FIRST_BUCKET << (BUCKETS - 1)) - 1));
        assert!(slots.make((slots.capacity() + 1) as Index).is_none());
    }

    #[cfg(not(loom))]
    #[test]
    fn slots_follow_those_of_the_storage_each_at_a_place_of_its_own() {
        static CRATES: CrateStorage<5> = CrateStorage::new();
        let slots = Slots::new(Claimed::new(&CRATES));
        assert!(slots.get(0).is_none() && slots.get(6).is_none());
        let mut places = alloc::vec::Vec::new();
        for index in 1..=5 + 3 * FIRST_BUCKET as Index {
            let made = core::ptr::from_ref(slots.make(index).unwrap());
            assert_eq!(slots.get(index).map(core::ptr::from_ref), Some(made));
            assert_eq!(index <= 5, CRATES.slots.as_ptr_range().contains(&made), "slot {index}");
            places.push(made);
        }
        assert!(slots.get(6 + 3 * FIRST_BUCKET as Index).is_none(), "nobody asked for that bucket");
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 5 + 3 * FIRST_BUCKET);
    }
}
