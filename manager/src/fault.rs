//! Failures on demand, for tests: what the ledger, the system or an allocator may refuse is asked for here first. The adapters'
//! tests have it by the feature `faults`; without that, nothing of it is in what is built.

use core::cell::Cell;

#[cfg(all(test, not(loom), target_os = "linux"))]
mod tests;

/// What may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Bytes of a crate's budget.
    Charge,
    /// Addresses.
    Reserve,
    /// The use of pages.
    Commit,
    /// Giving addresses back.
    Release,
    /// A scan for pages that were written.
    Scan,
    /// An image's mapping.
    Image,
    /// Fresh pages where something was mapped.
    Fresh,
    /// A slab without guards.
    Open,
    /// Closing pages that could be touched.
    Close,
    /// Giving pages back.
    Empty,
    /// A memory file.
    File,
    /// A view of one.
    View,
    /// A block of the heap.
    Heap,
    /// A block of a static region, as if it was full.
    Region,
    /// What a runtime is about to allocate.
    Runtime,
    /// Places for blocks that are kept.
    Slab,
    /// Room for crates.
    Crates,
    /// Room in the book of loans.
    Book,
    /// Room for those who wait.
    Tickets,
}

std::thread_local! {
    static NEXT: Cell<Option<Call>> = const { Cell::new(None) };
    static LEFT: Cell<usize> = const { Cell::new(0) };
    static FAILED: Cell<Option<Call>> = const { Cell::new(None) };
}

/// Makes this thread's next `call` fail, once.
#[cfg(test)]
pub(crate) fn fail_next(call: Call) {
    NEXT.set(Some(call));
}

/// Makes this thread's `k`th call of any kind fail, counted from 1; 0: none does.
pub fn fail_at(k: usize) {
    LEFT.set(k);
    FAILED.set(None);
}

/// Which call was made to fail since [`fail_at`].
#[must_use]
pub fn failed() -> Option<Call> {
    FAILED.get()
}

/// Whether this call is to fail.
pub fn fails(call: Call) -> bool {
    if NEXT.get() == Some(call) {
        NEXT.set(None);
        return true;
    }
    let left = LEFT.get();
    LEFT.set(left.saturating_sub(1));
    if left == 1 {
        FAILED.set(Some(call));
    }
    left == 1
}
