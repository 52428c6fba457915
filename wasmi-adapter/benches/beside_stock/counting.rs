//! The allocator below everything.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts bytes held, the most ever, and those that a growing block takes along.
pub struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static COPIED: AtomicUsize = AtomicUsize::new(0);

fn hold(bytes: usize) {
    PEAK.fetch_max(HELD.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: all is the system allocator's; `realloc` is that of the trait, which allocates, copies and frees, as
// an allocator of a microcontroller does.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hold(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        COPIED.fetch_add(layout.size().min(new_size), Relaxed);
        // SAFETY: the caller's contract, and that of `copy_nonoverlapping`: a new block is another one.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// Runs `code` and says what it held at its peak, above what there was, and copied.
pub fn bytes(code: impl FnOnce()) -> (usize, usize) {
    let (before, copied) = (HELD.load(Relaxed), COPIED.load(Relaxed));
    PEAK.store(before, Relaxed);
    code();
    (PEAK.load(Relaxed) - before, COPIED.load(Relaxed) - copied)
}
