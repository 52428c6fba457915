//! A `static` buffer that can be handed over exactly once.

use core::cell::UnsafeCell;

use portable_atomic::{AtomicBool, Ordering};

/// `SIZE` bytes in a `static`, zeroed and aligned to 64 bytes, to be claimed once.
///
/// The bytes stay in the program's zero-initialised data: nothing passes over the stack.
///
/// ```
/// use wrt_memory::provider::{StaticRegion, StaticRegionProvider};
///
/// static HEAP: StaticRegion<65536> = StaticRegion::new();
///
/// let provider = StaticRegionProvider::new(HEAP.claim().expect("nobody else claims it"));
/// assert!(provider.free_bytes() > 65_000);
/// assert!(HEAP.claim().is_none());
/// ```
#[repr(C, align(64))]
pub struct StaticRegion<const SIZE: usize> {
    bytes: UnsafeCell<[u8; SIZE]>,
    claimed: AtomicBool,
}

// SAFETY: the bytes are reached only through the reference that `claim` gives out, and `claimed`
// lets it give out one.
unsafe impl<const SIZE: usize> Sync for StaticRegion<SIZE> {}

impl<const SIZE: usize> StaticRegion<SIZE> {
    /// A region of `SIZE` zero bytes that nobody has claimed.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; SIZE]), claimed: AtomicBool::new(false) }
    }

    /// All `SIZE` bytes for the first caller, for good; `None` for everyone after.
    #[allow(clippy::mut_from_ref, reason = "`claimed` makes the reference unique")]
    pub fn claim(&'static self) -> Option<&'static mut [u8]> {
        if self.claimed.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: `claimed` went from false to true in this call and never goes back, so this is
        // the only reference to the bytes there ever is; `self` is 'static.
        Some(unsafe { &mut *self.bytes.get() })
    }
}

impl<const SIZE: usize> Default for StaticRegion<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::StaticRegion;

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "no threads there")]
    fn of_many_claimants_exactly_one_gets_the_bytes() {
        static REGION: StaticRegion<4096> = StaticRegion::new();
        let got = std::thread::scope(|scope| {
            let claims = [(); 4].map(|()| scope.spawn(|| REGION.claim().map(|bytes| bytes.len())));
            claims.map(|claim| claim.join().unwrap())
        });
        assert_eq!(got.iter().flatten().collect::<std::vec::Vec<_>>(), [&4096]);
        assert!(REGION.claim().is_none());
    }

    #[test]
    fn a_region_is_aligned_so_that_no_byte_of_it_is_lost() {
        static REGION: StaticRegion<256> = StaticRegion::new();
        let bytes = REGION.claim().unwrap();
        assert_eq!(bytes.as_ptr().align_offset(64), 0);
        assert_eq!(bytes.len(), 256);
    }
}
