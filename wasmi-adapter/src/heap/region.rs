//! A firmware's heap in the same static region as its guests' memories: one pool, no split to guess.

use alloc::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use wrt_memory::UnifiedMemoryManager;
use wrt_memory::provider::{Block, Provider, StaticRegionProvider};

use crate::reserve::request;

/// A global allocator whose blocks come from the static region of a manager.
///
/// It charges nobody: with a [`GuestHeap`](super::GuestHeap) above it guests are charged for theirs, and
/// what the host itself needs is what the manager's total is to be less than the region.
/// It refuses everything until a manager is [installed](Self::install).
#[derive(Debug, Default)]
pub struct RegionHeap {
    manager: AtomicPtr<UnifiedMemoryManager>,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl RegionHeap {
    /// A heap without a region.
    pub const fn new() -> Self {
        Self {
            manager: AtomicPtr::new(ptr::null_mut()),
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    /// Takes blocks from this manager's static region from now on. Only the first call does anything.
    pub fn install(&self, manager: &'static UnifiedMemoryManager) {
        let manager = ptr::from_ref(manager).cast_mut();
        let _ = self.manager.compare_exchange(ptr::null_mut(), manager, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Bytes in blocks, and the most there ever were. Exact: headers and rounding included.
    pub fn used_and_peak(&self) -> (usize, usize) {
        (self.used.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed))
    }

    fn region(&self) -> Option<&StaticRegionProvider> {
        let manager = NonNull::new(self.manager.load(Ordering::Acquire))?;
        // SAFETY: `install` stored a shared reference that is 'static.
        unsafe { manager.as_ref() }.providers().region()
    }
}

// SAFETY: the provider's contract is an allocator's; a block is named again by the numbers it was
// asked with, which decide all its fields.
unsafe impl GlobalAlloc for RegionHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(block) = self.region().and_then(|region| region.allocate(&request(layout)).ok()) else {
            return ptr::null_mut();
        };
        let used = self.used.fetch_add(block.cost, Ordering::Relaxed) + block.cost;
        self.peak.fetch_max(used, Ordering::Relaxed);
        block.ptr.as_ptr()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // What a provider hands out is zero.
        // SAFETY: the caller's contract.
        unsafe { self.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let (Some(region), Some(ptr)) = (self.region(), NonNull::new(block)) else { return };
        let Ok(cost) = region.cost(&request(layout)) else { return };
        let (size, align) = (layout.size(), layout.align());
        self.used.fetch_sub(cost, Ordering::Relaxed);
        // SAFETY: the caller says the block is live and from here; these are the fields `allocate` gave it.
        unsafe { region.free(Block { ptr, size, reserved: size, cost, align, guard: 0 }) };
    }
}
