//! Whose bytes the runtime allocates: a global allocator that keeps, for each guest, the sum of what
//! was allocated on its behalf and is not freed yet.
//!
//! Every block has a word before it that says which guest it was allocated for, or none. So the sums
//! are right wherever a block is freed: on another thread, in another guest's scope, or long
//! after its guest is gone. The bytes themselves come from the allocator below and go back to it.

use alloc::alloc::{GlobalAlloc, Layout, alloc, dealloc};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

mod region;
mod scope;

pub use region::RegionHeap;
pub(crate) use scope::Entered;

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
    let meter = Meter::new();
    let entered = meter.enter();
    let block = core::hint::black_box(alloc::boxed::Box::new([0u8; 8]));
    let counted = meter.live() > 0;
    drop(block);
    drop(entered);
    counted
}

/// What is known of one guest's blocks. It lives as long as its guest, or any block of it.
struct Sums {
    /// Bytes in blocks, a multiple of [`GRANULE`], with [`HELD`] while the guest is there.
    live: AtomicUsize,
    /// The largest that sum ever was since it was last asked for.
    peak: AtomicUsize,
}

impl Sums {
    fn add(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live & !HELD, Ordering::Relaxed);
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
        // SAFETY: made by `Meter::new` with this layout, and nobody has any part of it left.
        unsafe { dealloc(sums.cast().as_ptr(), Layout::new::<Sums>()) };
    }
}

/// One guest's sum. Dropping it leaves the sum to the blocks that are still there.
#[derive(Debug)]
pub(crate) struct Meter(NonNull<Sums>);

// SAFETY: sums are atomics.
unsafe impl Send for Meter {}
// SAFETY: as above.
unsafe impl Sync for Meter {}

impl Meter {
    pub(crate) fn new() -> Self {
        let outside = scope::leave();
        let layout = Layout::new::<Sums>();
        // SAFETY: the layout's size is not 0.
        let Some(sums) = NonNull::new(unsafe { alloc(layout) }.cast::<Sums>()) else {
            alloc::alloc::handle_alloc_error(layout)
        };
        // SAFETY: fresh memory of that layout.
        unsafe { sums.write(Sums { live: AtomicUsize::new(HELD), peak: AtomicUsize::new(0) }) };
        drop(outside);
        Self(sums)
    }

    fn sums(&self) -> &Sums {
        // SAFETY: live, as `HELD` is in its sum until this is dropped.
        unsafe { self.0.as_ref() }
    }

    /// Bytes in blocks.
    pub(crate) fn live(&self) -> usize {
        self.sums().live.load(Ordering::Relaxed) & !HELD
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
fn padded(layout: Layout) -> Option<Layout> {
    let size = layout.size().checked_add(offset(layout))?;
    Layout::from_size_align(size, layout.align().max(WORD)).ok()
}

/// What a block is counted as, by the layout the allocator below was asked for: what it costs in a static
/// region, which is about what it costs in other allocators too.
fn counted(padded: Layout) -> usize {
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
    fn place(&self, base: *mut u8, layout: Layout, padded: Layout) -> *mut u8 {
        if base.is_null() {
            return base;
        }
        let sums = scope::current();
        if let Some(sums) = sums {
            // SAFETY: the scope's meter outlives the scope.
            unsafe { sums.as_ref() }.add(counted(padded));
        }
        // SAFETY: the block of `padded` begins with `offset` bytes that are ours.
        unsafe {
            let block = base.add(offset(layout));
            owner(block).write(sums.map_or(ptr::null_mut(), NonNull::as_ptr));
            block
        }
    }
}

// SAFETY: blocks are the allocator's below, less the bytes before them; every block's owner word is
// written before it is handed out. What `padded` refuses is refused.
unsafe impl<A: GlobalAlloc> GlobalAlloc for GuestHeap<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(padded) = padded(layout) else { return ptr::null_mut() };
        // SAFETY: the size is not 0.
        let base = unsafe { self.below.alloc(padded) };
        self.place(base, layout, padded)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(padded) = padded(layout) else { return ptr::null_mut() };
        // SAFETY: the size is not 0.
        let base = unsafe { self.below.alloc_zeroed(padded) };
        self.place(base, layout, padded)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(padded) = padded(layout) else { return };
        // SAFETY: the caller says the block is live and of this layout, so these are what `alloc` asked
        // for and wrote.
        unsafe {
            let sums = owner(block).read();
            self.below.dealloc(block.sub(offset(layout)), padded);
            if let Some(sums) = NonNull::new(sums) {
                take(sums, counted(padded));
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        let (Some(old), Some(new)) = (padded(layout), padded(new_layout)) else { return ptr::null_mut() };
        // SAFETY: the caller's contract; the word moves with the bytes. The block stays whose it was.
        unsafe {
            let base = self.below.realloc(block.sub(offset(layout)), old, new.size());
            if base.is_null() {
                return base;
            }
            let moved = base.add(offset(layout));
            if let Some(sums) = NonNull::new(owner(moved).read()) {
                sums.as_ref().add(counted(new));
                take(sums, counted(old));
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests;
