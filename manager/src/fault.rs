//! Failures on demand, for tests: what the system or an allocator may refuse is asked for here first.

use core::cell::Cell;

#[cfg(all(not(loom), target_os = "linux"))]
mod tests;

/// What may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
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
pub(crate) fn fail_next(call: Call) {
    NEXT.set(Some(call));
}

/// Makes this thread's `k`th call of any kind fail, counted from 1; 0: none does.
#[cfg(all(not(loom), target_os = "linux"))]
fn fail_at(k: usize) {
    LEFT.set(k);
    FAILED.set(None);
}

/// Which call was made to fail since [`fail_at`].
#[cfg(all(not(loom), target_os = "linux"))]
fn failed() -> Option<Call> {
    FAILED.get()
}

/// Whether this call is to fail.
pub(crate) fn fails(call: Call) -> bool {
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
