//! The one lock of this crate, for providers, for the book of loans and for the lines of those who wait:
//! held for a bounded section that runs no caller's code.
//!
//! With `std` it is `std::sync::Mutex`. Without, it is a critical section, which the firmware
//! implements: on one core that means interrupts off, so a section must be short. Those here are
//! one step of an allocator each, bounded by the logarithm of its region's size, the steps of a bounded number of
//! loans, or a step on the lines whose bound is a tree's depth. There is no spin lock: on one core with priorities it never ends. Under loom it
//! is loom's, which tries every order of those who want it.

#[cfg(all(not(feature = "std"), not(loom)))]
use core::cell::RefCell;

use crate::sync::const_fn;

/// A value that one caller at a time may look into.
pub(crate) struct Lock<T> {
    #[cfg(loom)]
    inner: loom::sync::Mutex<T>,
    #[cfg(all(feature = "std", not(loom)))]
    inner: std::sync::Mutex<T>,
    #[cfg(all(not(feature = "std"), not(loom)))]
    inner: critical_section::Mutex<RefCell<T>>,
}

impl<T> Lock<T> {
    const_fn! {
        pub(crate) const fn new(value: T) -> Self {
            Self {
                #[cfg(loom)]
                inner: loom::sync::Mutex::new(value),
                #[cfg(all(feature = "std", not(loom)))]
                inner: std::sync::Mutex::new(value),
                #[cfg(all(not(feature = "std"), not(loom)))]
                inner: critical_section::Mutex::new(RefCell::new(value)),
            }
        }
    }

    /// Runs `section` alone. It must be short, must not panic and must not enter this lock again.
    #[cfg(any(feature = "std", loom))]
    pub(crate) fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        // Poison is ignored: a section runs nothing that can panic half way, and to refuse every
        // tenant's memory because one thread panicked would spread one tenant's failure to all.
        let mut value = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        section(&mut value)
    }

    /// Runs `section` alone. It must be short, must not panic and must not enter this lock again.
    #[cfg(all(not(feature = "std"), not(loom)))]
    pub(crate) fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        critical_section::with(|token| section(&mut self.inner.borrow_ref_mut(token)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Lock;

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "no threads there")]
    fn two_threads_never_see_a_half_made_change() {
        let pair = Lock::new((0u32, 0u32));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pair.with(|(a, b)| {
                            assert_eq!(*a, *b);
                            *a += 1;
                            std::thread::yield_now();
                            *b += 1;
                        });
                    }
                });
            }
        });
        assert_eq!(pair.with(|pair| *pair), (400, 400));
    }

    #[test]
    #[cfg(all(feature = "std", panic = "unwind"))]
    fn a_panic_elsewhere_does_not_take_the_value_from_everybody() {
        let lock = Lock::new(7);
        let hook = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lock.with(|_| std::panic::resume_unwind(Box::new(())))
        }));
        assert!(hook.is_err());
        assert_eq!(lock.with(|value| *value), 7);
    }
}
