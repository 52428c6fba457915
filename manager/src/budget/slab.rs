//! Slabs: blocks of common sizes that a crate freed, kept for the next [`Memory`](crate::Memory) of the same size.
//!
//! A block on a slab is still charged to its crate, so that neither taking it nor keeping it touches a budget; to its crate
//! and to all others it is idle like stock. Whoever would be denied for want of it has it emptied first: the crate
//! itself where it is refused for whatever reason, a node where it refuses what a crate below it asks, a sweep. So
//! snapshots do not count it as used.
//!
//! # The protocol
//! A crate keeps blocks only while nobody else is waiting for, watching over or owed what it frees, and while it has a
//! [seat](super::stock), so that a sweep finds them ([`may_keep`](BudgetTracker::may_keep)). Who frees puts the block
//! on the slab, then looks whether that is so still; if not, it empties the slab itself. Who changes that, changes it and then
//! empties the slab, or tries a charge, which does. All of it is sequentially consistent, so at least one of them sees what the other
//! did.
//!
//! A place on a slab is one pointer, only ever swapped: whoever has swapped a block out has it alone, and as its bytes are in
//! use its crate keeps its slot. Who takes one looks at the generation after that, as a charge does, and whether the
//! crate is over a limit that was lowered.
//!
//! What was taken off to be freed is in use until it is given back. The end of its crate, which is not to be refused for
//! that, waits for who is at it.
//!
//! # What it can come to
//! [`PLACES`] blocks of each class, of classes so small that all together are at most a batch, the most that a crate keeps in
//! stock. Without stock there are no slabs.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use alloc::alloc::{alloc, dealloc};

use super::amount::{Amount, Units};
use super::id::CrateId;
use super::slot::{Index, Slot};
use super::stock::Seats;
use super::tracker::BudgetTracker;
use super::transition;
use crate::provider::{Block, HeapProvider, Provider, Request};
use crate::sync::{AtomicPtr, AtomicUsize, Ordering, change_then_look, const_fn};
use crate::verification::Operation;

/// The largest block that is kept, in bytes.
const LARGEST: usize = if cfg!(loom) { SMALLEST } else { 16384 };

/// The smallest one.
const SMALLEST: usize = if cfg!(loom) { 1 } else { 64 };

/// Powers of two from the smallest to the largest.
const CLASSES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;

/// Blocks of one class.
const PLACES: usize = if cfg!(loom) { 1 } else { 4 };

/// A size of which blocks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(usize);

impl Class {
    /// That of blocks of so many bytes.
    #[inline]
    pub(crate) const fn of(size: usize) -> Option<Self> {
        if size.is_power_of_two() && size >= SMALLEST && size <= LARGEST {
            Some(Self((size / SMALLEST).ilog2() as usize))
        } else {
            None
        }
    }

    /// Bytes of a block.
    const fn size(self) -> usize {
        SMALLEST << self.0
    }
}

/// From the most that a crate keeps in stock, in bytes, the largest block that it keeps: all places of all classes up to
/// that one have twice the bytes of its own.
pub(crate) const fn largest_kept(batch: usize) -> usize {
    batch / (2 * PLACES)
}

/// The places of one crate; null where there is no block.
struct Slab {
    places: [[AtomicPtr<u8>; PLACES]; CLASSES],
    /// How many are giving back what they took off it to free: bytes that nobody uses, and that are charged still.
    emptying: AtomicUsize,
}

impl Slab {
    fn new() -> Self {
        let place = || AtomicPtr::new(ptr::null_mut());
        let places = core::array::from_fn(|_| core::array::from_fn(|_| place()));
        Self { places, emptying: AtomicUsize::new(0) }
    }
}

/// Until this is dropped, somebody gives back what was on a slab.
struct Emptying<'a>(&'a Slab);

impl<'a> Emptying<'a> {
    fn begin(slab: &'a Slab) -> Self {
        slab.emptying.fetch_add(1, Ordering::SeqCst);
        Self(slab)
    }
}

impl Drop for Emptying<'_> {
    fn drop(&mut self) {
        self.0.emptying.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives a block of a class back to the heap.
///
/// # Safety
/// As [`keep`](BudgetTracker::keep) asks; it is gone afterwards.
unsafe fn free(ptr: NonNull<u8>, class: Class) {
    let Request { size, align, .. } = Request::new(class.size());
    let cost = size.next_multiple_of(HeapProvider::GRANULE);
    let block = Block { ptr, size, reserved: size, cost, align, guard: 0, mark: ptr::null_mut() };
    // SAFETY: the caller's contract.
    unsafe { HeapProvider::new().free(block) };
}

/// Where a node's slab is, once it has kept anything. It stays with the slot, for the next crate there.
pub(crate) struct SlabOf(AtomicPtr<Slab>);

impl SlabOf {
    const_fn! {
        /// None yet.
        pub(crate) const fn new() -> Self {
            Self(AtomicPtr::new(ptr::null_mut()))
        }
    }

    #[inline]
    fn get(&self) -> Option<&Slab> {
        // SAFETY: what is set is a slab, which is freed only by `end`, when nothing refers to the node any more.
        unsafe { self.0.load(Ordering::SeqCst).as_ref() }
    }

    /// Whether the node has ever kept anything.
    #[inline]
    pub(crate) fn is_made(&self) -> bool {
        !self.0.load(Ordering::SeqCst).is_null()
    }

    /// Makes it. `None` where the machine gives no memory.
    #[cold]
    fn make(&self) -> Option<&Slab> {
        #[cfg(any(all(test, feature = "std"), feature = "faults"))]
        if crate::fault::fails(crate::fault::Call::Slab) {
            return None;
        }
        let layout = Layout::new::<Slab>();
        // SAFETY: the layout's size is not 0.
        let made = NonNull::new(unsafe { alloc(layout) })?.cast::<Slab>();
        // SAFETY: fresh memory of that layout.
        unsafe { made.write(Slab::new()) };
        let order = Ordering::SeqCst;
        if self.0.compare_exchange(ptr::null_mut(), made.as_ptr(), order, order).is_err() {
            // Another thread was quicker.
            // SAFETY: made above, and never shared.
            unsafe { dispose(made) };
        }
        self.get()
    }

    /// Whether another thread has bytes of this slab on their way back. Who has emptied the slab and is told no finds that use
    /// without them.
    pub(crate) fn is_being_emptied(&self) -> bool {
        self.get().is_some_and(|slab| slab.emptying.load(Ordering::SeqCst) != 0)
    }

    /// Takes a block of a class.
    #[inline]
    fn take(&self, class: Class) -> Option<NonNull<u8>> {
        self.get()?.places[class.0].iter().find_map(|place| {
            if place.load(Ordering::Relaxed).is_null() {
                return None;
            }
            NonNull::new(place.swap(ptr::null_mut(), Ordering::SeqCst))
        })
    }

    /// Keeps a block of a class. `false` where there is no place.
    #[inline]
    fn put(&self, class: Class, block: NonNull<u8>) -> bool {
        let Some(slab) = self.get().or_else(|| self.make()) else { return false };
        slab.places[class.0].iter().any(|place| {
            let (none, order) = (ptr::null_mut(), Ordering::SeqCst);
            place.load(Ordering::Relaxed).is_null()
                && place.compare_exchange(none, block.as_ptr(), order, Ordering::Relaxed).is_ok()
        })
    }

    /// Bytes kept now.
    pub(crate) fn bytes(&self) -> usize {
        let Some(slab) = self.get() else { return 0 };
        let of_class = |(class, places): (usize, &[AtomicPtr<u8>; PLACES])| {
            let kept = places.iter().filter(|place| !place.load(Ordering::SeqCst).is_null()).count();
            kept * Class(class).size()
        };
        slab.places.iter().enumerate().map(of_class).sum()
    }

    /// Frees all there is, when the manager goes.
    pub(crate) fn end(&self) {
        if let Some(slab) = NonNull::new(self.0.swap(ptr::null_mut(), Ordering::SeqCst)) {
            // SAFETY: `make` made it; nothing else refers to it any more.
            unsafe {
                slab.as_ref().free_all();
                dispose(slab);
            }
        }
    }
}

impl Slab {
    /// Frees all blocks. Returns their bytes, which are still charged.
    #[cold]
    #[inline(never)]
    fn free_all(&self) -> usize {
        let mut bytes = 0;
        for (class, places) in self.places.iter().enumerate() {
            let class = Class(class);
            for place in places {
                // Not a load: under loom one may be late.
                if let Some(ptr) = NonNull::new(place.swap(ptr::null_mut(), Ordering::SeqCst)) {
                    // SAFETY: the heap's, of that size, and nobody's but ours since the swap.
                    unsafe { free(ptr, class) };
                    bytes += class.size();
                }
            }
        }
        bytes
    }
}

/// # Safety
/// `make` made it, and nothing refers to it.
unsafe fn dispose(slab: NonNull<Slab>) {
    // SAFETY: the caller's contract.
    unsafe { slab.drop_in_place() };
    // SAFETY: the same; allocated with this layout.
    unsafe { dealloc(slab.as_ptr().cast(), Layout::new::<Slab>()) };
}

impl BudgetTracker {
    /// Whether a crate may keep what it frees: it can be found, and nobody is to hear of it or to have it.
    #[inline]
    fn may_keep(&self, slot: &Slot) -> bool {
        Seats::has_seat(slot)
            && !Self::shares(slot)
            && !slot.marks.is_watched()
            && self.debtors.load(Ordering::SeqCst) == 0
            && !self.due.load(Ordering::SeqCst)
            && !self.anyone_waits()
    }

    /// Keeps a block of the heap that the crate at `index` is charged just its size for. `false`, and nothing was done,
    /// where it does not.
    ///
    /// # Safety
    /// A live block of [`HeapProvider`]'s, of the class's size and a plain request's alignment, that nothing refers
    /// to; the caller gives it up where it is kept.
    #[inline]
    pub(crate) unsafe fn keep(&self, index: Index, slot: &Slot, class: Class, ptr: NonNull<u8>) -> bool {
        if class.size() > self.largest_kept || !self.may_keep(slot) || !slot.slab.put(class, ptr) {
            return false;
        }
        change_then_look();
        if !self.may_keep(slot) {
            self.empty(index, slot);
        }
        true
    }

    /// Takes a block that a crate kept, of a size for which it is charged `n`: bytes that it is charged for from then
    /// on, with whatever was in them.
    #[inline]
    pub(crate) fn take_kept(&self, id: CrateId, class: Class, n: Units) -> Option<(NonNull<u8>, &Slot)> {
        let slot = self.admitted(id)?;
        let ptr = slot.slab.take(class)?;
        let state = slot.budget.load();
        // In use, it keeps its crate in the slot: that may be another by now.
        let granted =
            state.used.at_most(&state.limit) && slot.generation.load(Ordering::SeqCst) == id.generation;
        if !granted {
            self.give_kept_back(id.index, class, ptr, n);
            return None;
        }
        Some((ptr, slot))
    }

    #[cold]
    #[inline(never)]
    fn give_kept_back(&self, index: Index, class: Class, ptr: NonNull<u8>, n: Units) {
        // SAFETY: the heap's, of that size, and nobody's but ours since it was taken.
        unsafe { free(ptr, class) };
        self.give_back_freed(index, n);
    }

    fn give_back_freed(&self, index: Index, n: Units) {
        self.observe(|| Operation::Uncharged { id: self.id_at(index), bytes: self.scale.bytes(n) });
        self.give_back(index, n, Units::ZERO);
    }

    /// Frees what a node keeps, and gives its bytes back. Returns how many there were.
    #[inline]
    pub(crate) fn empty(&self, index: Index, slot: &Slot) -> Units {
        change_then_look();
        slot.slab.get().map_or(Units::ZERO, |slab| self.empty_slab(index, slab))
    }

    #[cold]
    #[inline(never)]
    fn empty_slab(&self, index: Index, slab: &Slab) -> Units {
        let _until_given_back = Emptying::begin(slab);
        let n = self.freed(slab);
        if !n.is_zero() {
            self.give_back_freed(index, n);
        }
        n
    }

    fn freed(&self, slab: &Slab) -> Units {
        self.scale.up(slab.free_all()).unwrap_or(Units::ZERO)
    }

    /// Frees what a crate keeps; its bytes are stock then, of which a sweep takes what it needs, but for what is above
    /// a limit that was lowered: of that, up to `most` goes to `last`. Returns how much came there.
    /// [`keep_findable`](Self::keep_findable) is to be called after the sweep.
    pub(super) fn empty_into_stock(&self, index: Index, most: Units, last: Index) -> Units {
        let slot = self.slot(index);
        let Some(slab) = slot.slab.get() else { return Units::ZERO };
        let _until_given_back = Emptying::begin(slab);
        let n = self.freed(slab);
        if n.is_zero() {
            return Units::ZERO;
        }
        self.observe(|| Operation::Uncharged { id: self.id_at(index), bytes: self.scale.bytes(n) });
        let made = slot.budget.apply(|state| transition::undelegate(state, &n, &Units::ZERO, &Units::MAX));
        debug_assert!(made.is_ok(), "node {index} keeps what it is not charged for");
        let Ok((state, spilled)) = made else { return Units::ZERO };
        if slot.marks.is_left(state.used) {
            self.pressure_fell(index);
        }
        let parent = slot.parent.load(Ordering::Relaxed);
        self.give_back_until(parent, spilled.above(&most), Units::ZERO, None);
        self.give_back_until(parent, spilled.least(&most), Units::ZERO, Some(last))
    }

    /// Frees what crates keep until that are `most` bytes, or there is no more. Returns how many there were.
    pub(crate) fn empty_all(&self, most: Units) -> Units {
        let mut freed = Units::ZERO;
        for index in self.seats.seated() {
            if freed >= most {
                break;
            }
            freed = freed.plus_saturating(&self.empty(index, self.slot(index)));
        }
        freed
    }
}

#[cfg(all(test, loom))]
mod tests_loom;

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::Emptying;
    use crate::sync::Ordering;
    use crate::{CrateHandle, CrateSettings, MemoryError, UnifiedMemoryManager};

    #[test]
    fn who_frees_while_somebody_is_due_keeps_nothing_and_sees_to_that() {
        let manager = UnifiedMemoryManager::builder().total(1 << 20).stock(1 << 17).build().unwrap();
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        let memory = CrateHandle::new(&manager, id).unwrap().memory::<4096>().unwrap();
        manager.tracker.due.store(true, Ordering::SeqCst);
        drop(memory);
        assert_eq!(manager.node(id).unwrap().slab, 0);
        assert!(!manager.tracker.due.load(Ordering::SeqCst), "nobody went on");
    }

    #[test]
    fn a_slab_is_being_emptied_until_all_who_do_have_given_back_what_they_freed() {
        let manager = UnifiedMemoryManager::builder().total(1 << 20).stock(1 << 17).build().unwrap();
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        let slab = &manager.tracker.slot(id.index).slab;
        assert!(!slab.is_being_emptied(), "there is none");
        drop(CrateHandle::new(&manager, id).unwrap().memory::<4096>().unwrap());
        assert!(slab.bytes() == 4096 && !slab.is_being_emptied(), "nobody does");
        let [one, other] = [Emptying::begin(slab.get().unwrap()), Emptying::begin(slab.get().unwrap())];
        assert!(slab.is_being_emptied());
        drop(one);
        assert!(slab.is_being_emptied(), "one of two does");
        drop(other);
        assert!(!slab.is_being_emptied());
        manager.trim(usize::MAX);
        assert!(slab.bytes() == 0 && !slab.is_being_emptied(), "it is done");
    }

    #[test]
    fn a_crate_in_use_stays_however_long_somebody_empties_its_slab() {
        let manager = UnifiedMemoryManager::builder().total(1 << 20).stock(1 << 17).build().unwrap();
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        drop(CrateHandle::new(&manager, id).unwrap().memory::<4096>().unwrap());
        let used = manager.charge(id, 1, 1).unwrap();
        let emptying = Emptying::begin(manager.tracker.slot(id.index).slab.get().unwrap());
        assert!(matches!(manager.retire(id), Err(MemoryError::InUse { .. })));
        drop((used, emptying));
        manager.retire(id).unwrap();
    }
}
