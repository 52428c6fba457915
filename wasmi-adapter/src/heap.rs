//! Whose bytes the runtime allocates: a global allocator that keeps, for each guest, the sum of what
//! was allocated on its behalf and is not freed yet.
//!
//! Every block has a word before it that says which guest it was allocated for, or none. So the sums
//! are right wherever a block is freed: on another thread, in another guest's scope, or long
//! after its guest is gone. The bytes themselves come from the room that is set aside for the guest, if there is one,
//! else from the allocator below, and go back to where they came from.

use alloc::alloc::{GlobalAlloc, Layout, alloc, dealloc};
use alloc::vec::Vec;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

mod headroom;
mod region;
mod scope;

pub use region::RegionHeap;
pub(crate) use scope::Entered;

use crate::reserve::Room;
use headroom::Headroom;

const WORD: usize = size_of::<usize>();

/// Bytes are counted in multiples of this many: four words, as a static region does.
const GRANULE: usize = 4 * WORD;

/// The bit of a meter's sum that is no byte: the guest is there.
const HELD: usize = 1;

/// Wraps a program's global allocator, so that [`Guest`](crate::Guest)s can be charged what the runtime
/// allocates for them. It adds one word to every block of the program.
///
/// ```
/// use std::alloc::System;
/// use wrt_memory_wasmi::GuestHeap;
///
/// #[global_allocator]
/// static HEAP: GuestHeap<System> = GuestHeap::new(System);
/// # fn main() {}
/// ```
#[derive(Debug, Default)]
pub struct GuestHeap<A> {
    below: A,
}

impl<A> GuestHeap<A> {
    /// On top of `below`.
    pub const fn new(below: A) -> Self {
        Self { below }
    }

    /// The allocator below.
    pub const fn below(&self) -> &A {
        &self.below
    }
}

/// Runs code of the host that allocates for itself what outlives the guest's call: a host function's part of a
/// queue, say. It is no guest's.
pub fn for_the_host<R>(code: impl FnOnce() -> R) -> R {
    let _outside = scope::leave();
    code()
}

/// Whether the program's global allocator counts for guests: found by trying.
pub(crate) fn is_installed() -> bool {
    let Some(meter) = Meter::new(None) else { return false };
    let entered = meter.enter();
    let block = core::hint::black_box(alloc::boxed::Box::new([0u8; 8]));
    let counted = meter.live() > 0;
    drop(block);
    drop(entered);
    counted
}

/// Whether the program's allocator could serve so many bytes, without what is kept for errors.
pub(crate) fn has_room(bytes: usize) -> bool {
    #[cfg(feature = "faults")]
    if wrt_memory::fault::fails(wrt_memory::fault::Call::Runtime) {
        return false;
    }
    let mut room = Vec::<u8>::new();
    let had = room.try_reserve_exact(bytes.max(headroom::SLOT + 1)).is_ok();
    // The compiler may not conclude that nobody needs it.
    core::hint::black_box(&mut room);
    had
}

/// What is known of one guest's blocks. It lives as long as its guest, or any block of it.
struct Sums {
    /// Bytes in blocks, a multiple of [`GRANULE`], with [`HELD`] while the guest is there.
    live: AtomicUsize,
    /// The largest that sum ever was since it was last asked for.
    peak: AtomicUsize,
    /// Where its blocks are, as far as they fit.
    room: Option<Room>,
    /// Where they are when there is nothing left.
    headroom: Headroom,
}

impl Sums {
    /// As any block of this allocator, so that it costs the same in a room and elsewhere.
    const LAYOUT: Layout = match padded(Layout::new::<Self>()) {
        Some(padded) => padded,
        None => Layout::new::<Self>(),
    };

    fn add(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Most blocks are not at the peak, and looking costs less than an atomic maximum.
        if live & !HELD > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live & !HELD, Ordering::Relaxed);
        }
    }

    /// A zeroed block in the guest's room.
    fn allocate(&self, padded: Layout) -> Option<NonNull<u8>> {
        self.room.as_ref()?.allocate(padded)
    }

    /// Takes a block back that is in the guest's room, or in its headroom.
    ///
    /// # Safety
    /// The block was allocated with this layout for this guest, and is live.
    unsafe fn free(&self, base: NonNull<u8>, padded: Layout) -> bool {
        match &self.room {
            Some(room) if room.has(base.as_ptr()) => {
                // SAFETY: what is in the room came from it; the rest is the caller's contract.
                unsafe { room.free(base, padded) };
                true
            }
            _ => self.headroom.free(base.as_ptr()),
        }
    }

    /// Whether a block is where [`free`](Self::free) would take it back.
    fn has(&self, base: *const u8) -> bool {
        self.room.as_ref().is_some_and(|room| room.has(base)) || self.headroom.has(base)
    }
}

/// Takes from a meter's sum; who takes the last of it frees the meter.
///
/// # Safety
/// `sums` is live, and what is taken is part of its sum.
unsafe fn take(sums: NonNull<Sums>, part: usize) {
    // SAFETY: live while there is anything in its sum, and what the caller takes is.
    let before = unsafe { sums.as_ref() }.live.fetch_sub(part, Ordering::Release);
    if before == part {
        core::sync::atomic::fence(Ordering::Acquire);
        // SAFETY: made by `Meter::new` with this layout, and nobody has any part of it left. It is in its own room, or
        // else was allocated by nobody.
        unsafe {
            let Sums { room, .. } = sums.read();
            match room {
                Some(room) => {
                    if room.has(sums.as_ptr().cast()) {
                        room.free(sums.cast(), Sums::LAYOUT);
                    } else {
                        dealloc(sums.cast().as_ptr(), Sums::LAYOUT);
                    }
                    room.leave();
                }
                None => dealloc(sums.cast().as_ptr(), Sums::LAYOUT),
            }
        }
    }
}

/// One guest's sum. Dropping it leaves the sum to the blocks that are still there.
#[derive(Debug)]
pub(crate) struct Meter(NonNull<Sums>);

// SAFETY: sums are atomics, and slots that are given to one thread each.
unsafe impl Send for Meter {}
// SAFETY: as above.
unsafe impl Sync for Meter {}

impl Meter {
    /// Bytes that it takes itself, with room for errors.
    pub(crate) const COST: usize = counted(Sums::LAYOUT);

    /// A meter for a guest whose blocks are in `room`, which is left when the last of them is gone. `None` where there
    /// is no room for the meter.
    pub(crate) fn new(room: Option<Room>) -> Option<Self> {
        let _outside = scope::leave();
        #[cfg(feature = "faults")]
        if wrt_memory::fault::fails(wrt_memory::fault::Call::Runtime) {
            room.inspect(Room::leave);
            return None;
        }
        let inside = room.as_ref().and_then(|room| room.allocate(Sums::LAYOUT));
        // SAFETY: the layout's size is not 0.
        let sums = inside.or_else(|| NonNull::new(unsafe { alloc(Sums::LAYOUT) }));
        let Some(sums) = sums else {
            room.inspect(Room::leave);
            return None;
        };
        let sums = sums.cast::<Sums>();
        let (live, peak) = (AtomicUsize::new(HELD), AtomicUsize::new(0));
        // SAFETY: fresh memory of that layout.
        unsafe { sums.write(Sums { live, peak, room, headroom: Headroom::new() }) };
        Some(Self(sums))
    }

    fn sums(&self) -> &Sums {
        // SAFETY: live, as `HELD` is in its sum until this is dropped.
        unsafe { self.0.as_ref() }
    }

    /// Bytes in blocks.
    pub(crate) fn live(&self) -> usize {
        self.sums().live.load(Ordering::Relaxed) & !HELD
    }

    /// The room its blocks are in.
    pub(crate) fn room(&self) -> Option<&Room> {
        self.sums().room.as_ref()
    }

    /// Most bytes in blocks since the last call, or ever.
    pub(crate) fn take_peak(&self) -> usize {
        self.sums().peak.swap(self.live(), Ordering::Relaxed)
    }

    /// Counts what this thread allocates for this guest, until the result is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        scope::enter(self)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // SAFETY: `HELD` is in the sum, and is taken once, here.
        unsafe { take(self.0, HELD) };
    }
}

/// Bytes before a block that are this allocator's: at least a word, and the block stays aligned.
const fn offset(layout: Layout) -> usize {
    if layout.align() > WORD { layout.align() } else { WORD }
}

/// What the allocator below is asked for.
const fn padded(layout: Layout) -> Option<Layout> {
    let Some(size) = layout.size().checked_add(offset(layout)) else { return None };
    let align = if layout.align() > WORD { layout.align() } else { WORD };
    match Layout::from_size_align(size, align) {
        Ok(padded) => Some(padded),
        Err(_) => None,
    }
}

/// What a block of a vector costs at most, beyond its bytes.
pub(crate) const BESIDES: usize = WORD + 2 * GRANULE;

/// What a block is counted as, by the layout the allocator below was asked for: what it costs in a static
/// region, which is about what it costs in other allocators too.
const fn counted(padded: Layout) -> usize {
    let overhead = if padded.align() <= 2 * WORD { 2 * WORD } else { padded.align() };
    (padded.size() + overhead).next_multiple_of(GRANULE)
}

/// The word that says whose block it is.
///
/// # Safety
/// `block` was handed out by a [`GuestHeap`] and is live, or is about to be handed out.
unsafe fn owner(block: *mut u8) -> *mut *mut Sums {
    // SAFETY: `offset` keeps at least a word before each block, and its alignment is at least a word's.
    unsafe { block.cast::<*mut Sums>().sub(1) }
}

impl<A: GlobalAlloc> GuestHeap<A> {
    /// A block for a guest, or for nobody.
    fn obtain(
        &self,
        sums: Option<NonNull<Sums>>,
        layout: Layout,
        below: impl FnOnce(&A, Layout) -> *mut u8,
    ) -> *mut u8 {
        let Some(padded) = padded(layout) else { return ptr::null_mut() };
        let base = match sums {
            None => below(&self.below, padded),
            Some(sums) => {
                // SAFETY: the scope's meter outlives the scope, and a live block's the block.
                let sums = unsafe { sums.as_ref() };
                let base = sums.allocate(padded).map_or(ptr::null_mut(), NonNull::as_ptr);
                let base = if base.is_null() { below(&self.below, padded) } else { base };
                let last = || sums.headroom.allocate(padded).map_or(ptr::null_mut(), NonNull::as_ptr);
                let base = if base.is_null() { last() } else { base };
                if !base.is_null() {
                    sums.add(counted(padded));
                }
                base
            }
        };
        if base.is_null() {
            return base;
        }
        // SAFETY: the block of `padded` begins with `offset` bytes that are ours.
        unsafe {
            let block = base.add(offset(layout));
            owner(block).write(sums.map_or(ptr::null_mut(), NonNull::as_ptr));
            block
        }
    }
}

// SAFETY: blocks are the allocator's below, or of a room or a headroom, less the bytes before them; every block's
// owner word is written before it is handed out. What `padded` refuses is refused. Rooms and headrooms
// hand out zeros.
unsafe impl<A: GlobalAlloc> GlobalAlloc for GuestHeap<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the size is not 0.
        self.obtain(scope::current(), layout, |below, padded| unsafe { below.alloc(padded) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the size is not 0.
        self.obtain(scope::current(), layout, |below, padded| unsafe { below.alloc_zeroed(padded) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(padded) = padded(layout) else { return };
        // SAFETY: the caller says the block is live and of this layout, so these are what `alloc` asked
        // for and wrote; a live block's meter is live.
        unsafe {
            let base = block.sub(offset(layout));
            let Some(sums) = NonNull::new(owner(block).read()) else {
                return self.below.dealloc(base, padded);
            };
            if !sums.as_ref().free(NonNull::new_unchecked(base), padded) {
                self.below.dealloc(base, padded);
            }
            take(sums, counted(padded));
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        let (Some(old), Some(new)) = (padded(layout), padded(new_layout)) else { return ptr::null_mut() };
        // SAFETY: the caller's contract; the word moves with the bytes. The block stays whose it was.
        unsafe {
            let base = block.sub(offset(layout));
            let sums = NonNull::new(owner(block).read());
            if let Some(of) = sums
                && of.as_ref().has(base)
            {
                let moved = self.obtain(sums, new_layout, |below, padded| below.alloc(padded));
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(block, layout.size().min(new_size));
                    self.dealloc(block, layout);
                }
                return moved;
            }
            let base = self.below.realloc(base, old, new.size());
            if base.is_null() {
                return base;
            }
            if let Some(sums) = sums {
                sums.as_ref().add(counted(new));
                take(sums, counted(old));
            }
            base.add(offset(layout))
        }
    }
}

#[cfg(test)]
mod tests;
