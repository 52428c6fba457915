//! The atomics everything else is built on: std's, portable-atomic's, or loom's.
//!
//! This file alone decides which. A budget is one word: 128 bits on 64-bit hosts, 64 bits on
//! microcontrollers and under loom. On targets without 64-bit atomics the 64-bit word is a
//! critical section (the firmware provides the `critical-section` implementation), never
//! portable-atomic's global lock, which an interrupt handler could dead-lock on.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(not(loom))]
pub(crate) use portable_atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};

#[cfg(all(loom, feature = "alloc"))]
pub(crate) use loom::sync::atomic::AtomicPtr;
#[cfg(all(not(loom), feature = "alloc"))]
pub(crate) use portable_atomic::AtomicPtr;

pub(crate) use core::sync::atomic::Ordering;

#[cfg(all(not(loom), target_has_atomic = "64"))]
pub(crate) use portable_atomic::AtomicU64;

#[cfg(all(not(loom), not(target_has_atomic = "64")))]
pub(crate) use critical::AtomicU64;

/// A field that is only changed under a lock, which orders it: an atomic so that it needs no `unsafe`, and not
/// loom's, which would try orders that the lock rules out.
pub(crate) mod under_lock {
    pub(crate) use core::sync::atomic::{AtomicU8, AtomicU32};

    /// Of a `waiting::Key`.
    #[cfg(not(feature = "alloc"))]
    pub(crate) use core::sync::atomic::AtomicU8 as AtomicKey;
    /// Of a `waiting::Key`.
    #[cfg(feature = "alloc")]
    pub(crate) use core::sync::atomic::AtomicU16 as AtomicKey;
}

/// Between a change that others look for and a look for theirs, all of them sequentially consistent: at
/// least one of two threads that do so sees what the other changed. loom takes sequential consistency for
/// less than that; there a fence says it.
#[inline]
pub(crate) fn change_then_look() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Lets another thread go on, for whom this one waits.
pub(crate) fn give_way() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(all(feature = "std", not(loom)))]
    std::thread::yield_now();
    #[cfg(all(not(feature = "std"), not(loom)))]
    core::hint::spin_loop();
}

/// The integer a budget is packed into, and its atomic.
#[cfg(all(not(loom), target_pointer_width = "64"))]
pub(crate) type Bits = u128;
#[cfg(all(not(loom), target_pointer_width = "64"))]
pub(crate) use portable_atomic::AtomicU128 as AtomicBits;

/// The integer a budget is packed into, and its atomic.
#[cfg(any(loom, not(target_pointer_width = "64")))]
pub(crate) type Bits = u64;
#[cfg(any(loom, not(target_pointer_width = "64")))]
pub(crate) use AtomicU64 as AtomicBits;

/// A shared manager: the standard `Arc`, or portable-atomic's where the target has no CAS.
#[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
pub(crate) use alloc::sync::Arc;
#[cfg(all(feature = "alloc", not(target_has_atomic = "ptr")))]
pub(crate) use portable_atomic_util::Arc;

/// Declares a `const fn` that loom, whose atomics have no `const` constructor, sees as a plain `fn`.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$meta])* $vis const fn $($rest)*
        #[cfg(loom)]
        $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

#[cfg(all(not(loom), not(target_has_atomic = "64")))]
mod critical {
    use super::Ordering;
    use core::cell::UnsafeCell;

    /// A 64-bit cell whose every access is a critical section of a few instructions.
    pub(crate) struct AtomicU64(UnsafeCell<u64>);

    // SAFETY: the cell is only touched inside a critical section, which the
    // `critical-section` contract makes exclusive across threads, cores and interrupts.
    unsafe impl Sync for AtomicU64 {}

    impl AtomicU64 {
        pub(crate) const fn new(value: u64) -> Self {
            Self(UnsafeCell::new(value))
        }

        pub(crate) fn load(&self, _: Ordering) -> u64 {
            // SAFETY: exclusive, see the `Sync` implementation.
            critical_section::with(|_| unsafe { *self.0.get() })
        }

        pub(crate) fn store(&self, value: u64, _: Ordering) {
            // SAFETY: exclusive, see the `Sync` implementation.
            critical_section::with(|_| unsafe { *self.0.get() = value });
        }

        pub(crate) fn compare_exchange_weak(
            &self,
            expected: u64,
            new: u64,
            _: Ordering,
            _: Ordering,
        ) -> Result<u64, u64> {
            critical_section::with(|_| {
                // SAFETY: exclusive, see the `Sync` implementation.
                let value = unsafe { &mut *self.0.get() };
                let found = *value;
                if found == expected {
                    *value = new;
                    Ok(found)
                } else {
                    Err(found)
                }
            })
        }
    }
}
