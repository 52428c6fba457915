//! For which guest this thread allocates.
//!
//! Without `std` there is one cell for the whole program: right for one core on which guests run in
//! one context. An interrupt that allocates would be counted for the guest it interrupts.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{Meter, Sums};

#[cfg(feature = "std")]
mod cell {
    extern crate std;

    use core::cell::Cell;
    use core::ptr;

    use super::Sums;

    std::thread_local! {
        /// `const` and without a destructor: usable from within an allocator at any time.
        static CURRENT: Cell<*mut Sums> = const { Cell::new(ptr::null_mut()) };
    }

    pub(super) fn get() -> *mut Sums {
        CURRENT.get()
    }

    pub(super) fn replace(sums: *mut Sums) -> *mut Sums {
        CURRENT.replace(sums)
    }
}

#[cfg(not(feature = "std"))]
mod cell {
    use core::ptr;
    use core::sync::atomic::{AtomicPtr, Ordering};

    use super::Sums;

    static CURRENT: AtomicPtr<Sums> = AtomicPtr::new(ptr::null_mut());

    pub(super) fn get() -> *mut Sums {
        CURRENT.load(Ordering::Relaxed)
    }

    pub(super) fn replace(sums: *mut Sums) -> *mut Sums {
        CURRENT.swap(sums, Ordering::Relaxed)
    }
}

/// The scope of a guest, or of none. Dropping it restores the one before.
#[must_use]
pub(crate) struct Entered<'a> {
    before: *mut Sums,
    /// Keeps the meter, and keeps this on its thread.
    meter: PhantomData<(&'a Meter, *mut Sums)>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        cell::replace(self.before);
    }
}

pub(super) fn enter(meter: &Meter) -> Entered<'_> {
    Entered { before: cell::replace(meter.0.as_ptr()), meter: PhantomData }
}

/// Counts for nobody, until the result is dropped.
pub(crate) fn leave() -> Entered<'static> {
    Entered { before: cell::replace(core::ptr::null_mut()), meter: PhantomData }
}

pub(super) fn current() -> Option<NonNull<Sums>> {
    NonNull::new(cell::get())
}
