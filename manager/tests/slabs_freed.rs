//! That a manager that goes frees what its crates keep. On its own: it counts what is allocated.
#![cfg(all(feature = "std", target_pointer_width = "64", not(loom)))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wrt_memory::{CrateHandle, CrateSettings, CrateStorage, UnifiedMemoryManager};

struct Counting;

std::thread_local! {
    /// Blocks that this thread allocated and did not free.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, beside a counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + 1);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - 1);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn keep(crates: Option<&'static CrateStorage<2>>) {
    let builder = UnifiedMemoryManager::builder().total(1 << 20).stock(1 << 17);
    let builder = match crates {
        Some(crates) => builder.storage(crates),
        None => builder,
    };
    let manager = builder.build().unwrap();
    let register = || manager.register("guest", CrateSettings::new()).unwrap();
    // The third is in no storage; the last is far from where slots that were made later begin.
    let few = [register(), register(), register()];
    let last = std::iter::repeat_with(register).nth(150).unwrap();
    for id in few.into_iter().chain([last]) {
        let handle = CrateHandle::new(&manager, id).unwrap();
        drop([handle.memory::<4096>().unwrap(), handle.memory().unwrap()]);
        drop(handle.memory::<64>().unwrap());
        assert_eq!(manager.node(id).unwrap().slab, 2 * 4096 + 64);
    }
}

#[test]
fn a_manager_that_goes_frees_what_its_crates_keep() {
    static CRATES: CrateStorage<2> = CrateStorage::new();
    // What is made once in a program.
    keep(None);
    for crates in [None, Some(&CRATES), Some(&CRATES)] {
        let before = LIVE.get();
        keep(crates);
        assert_eq!(LIVE.get() - before, 0, "blocks are left");
    }
}
