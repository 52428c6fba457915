//! The global allocator of the firmwares that have one: the static region that the guests'
//! memories are in, too, with the most it ever had in use.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

use critical_section::Mutex;
use wrt_memory::UnifiedMemoryManager;
use wrt_memory::provider::StaticRegionProvider;
use wrt_memory_wasmi::RegionHeap;

use crate::Peak;

/// A [`RegionHeap`] that looks at its region after every allocation.
pub struct WatchedHeap {
    heap: RegionHeap,
    region: Mutex<Cell<Option<&'static StaticRegionProvider>>>,
    /// Bytes of the region, with all of it free.
    size: AtomicUsize,
    peak: AtomicUsize,
}

impl WatchedHeap {
    /// A heap that refuses everything until it is [installed](Self::install).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: RegionHeap::new(),
            region: Mutex::new(Cell::new(None)),
            size: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    /// Takes blocks from the static region of this manager, which has not been used yet.
    pub fn install(&self, manager: &'static UnifiedMemoryManager) {
        let region = manager.providers().region();
        critical_section::with(|section| self.region.borrow(section).set(region));
        self.size.store(region.map_or(0, StaticRegionProvider::free_bytes), Ordering::Relaxed);
        self.heap.install(manager);
    }

    /// Bytes in use by the heap now, without the guests' memories.
    pub fn used(&self) -> usize {
        self.heap.used_and_peak().0
    }

    /// The most that the heap ever had, of the bytes of the region.
    pub fn peak(&self) -> Peak {
        Peak { bytes: self.heap.used_and_peak().1, of: self.size.load(Ordering::Relaxed) }
    }

    /// The most of the region that was ever in use, the guests' memories included.
    pub fn region_peak(&self) -> Peak {
        Peak { bytes: self.peak.load(Ordering::Relaxed), of: self.size.load(Ordering::Relaxed) }
    }

    fn look(&self) {
        if let Some(region) = critical_section::with(|section| self.region.borrow(section).get()) {
            let used = self.size.load(Ordering::Relaxed) - region.free_bytes();
            self.peak.fetch_max(used, Ordering::Relaxed);
        }
    }
}

impl Default for WatchedHeap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: `heap` keeps the contract; looking changes nothing about it.
unsafe impl GlobalAlloc for WatchedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        let block = unsafe { self.heap.alloc(layout) };
        self.look();
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract.
        let block = unsafe { self.heap.alloc_zeroed(layout) };
        self.look();
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { self.heap.dealloc(block, layout) };
    }
}
