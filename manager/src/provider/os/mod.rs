//! The only calls into the operating system, behind functions that say what is needed and not how: reserve
//! addresses, make some of them usable, give all of them back, and the page size; what the pooled provider needs
//! besides is in `linux.rs`.
//!
//! Whoever wants to see what happens when one of them fails does it here: in tests
//! [`fault::fail_next`] makes the next call of a kind fail as the system would.

use core::ptr::NonNull;

#[cfg(target_os = "linux")]
pub(in crate::provider) mod linux;
#[cfg(miri)]
mod miri;
#[cfg_attr(miri, allow(dead_code, reason = "`miri` stands in for it"))]
mod unix;

#[cfg(miri)]
use miri as pages;
#[cfg(not(miri))]
use unix as pages;

pub(super) use unix::page_size;

/// The system refused. Why is not told: nothing that could be done here depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// Takes `len` bytes of address space, page-aligned, that nobody else has; touching them faults.
/// `len` is a positive multiple of the page.
pub(super) fn reserve(len: usize) -> Result<NonNull<u8>, Refused> {
    #[cfg(any(test, feature = "faults"))]
    fault::check(fault::Call::Reserve)?;
    pages::reserve(len)
}

/// Makes `len` bytes from `start`, multiples of the page, readable, writable and zero. Refused,
/// they are as they were.
///
/// # Safety
/// They lie in one reservation, and have not been committed since they were reserved, or only zeros are in them.
#[inline]
pub(super) unsafe fn commit(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    #[cfg(any(test, feature = "faults"))]
    fault::check(fault::Call::Commit)?;
    // SAFETY: the caller's promise is the one asked for.
    unsafe { pages::commit(start, len) }
}

/// Gives back the reservation of `len` bytes at `start`. Refused, it is as it was.
///
/// # Safety
/// It is a whole reservation, and nothing refers to its bytes any more.
pub(super) unsafe fn release(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    #[cfg(any(test, feature = "faults"))]
    fault::check(fault::Call::Release)?;
    // SAFETY: the caller's promise is the one asked for.
    unsafe { pages::release(start, len) }
}

/// Takes the memory behind `len` bytes at `start` back, as far as the system offers that, but not
/// the addresses.
///
/// # Safety
/// They lie in one reservation, and nothing refers to them any more.
pub(super) unsafe fn discard(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { pages::discard(start, len) }
}

/// Failures on demand, for the calling thread.
#[cfg(any(test, feature = "faults"))]
pub(super) mod fault {
    use super::Refused;
    pub(in crate::provider) use crate::fault::Call;
    #[cfg(test)]
    pub(in crate::provider) use crate::fault::fail_next;

    pub(super) fn check(call: Call) -> Result<(), Refused> {
        if crate::fault::fails(call) { Err(Refused) } else { Ok(()) }
    }
}
