//! Pages under Miri, which has neither protection nor reservations: blocks of the program's allocator. Bytes that could not
//! be touched are uninitialised, so Miri finds who reads them; who writes to them it does not find.

use core::alloc::Layout;
use core::ptr::NonNull;

use alloc::alloc::{alloc, dealloc};

use super::{Refused, page_size};

fn layout(len: usize) -> Result<Layout, Refused> {
    Layout::from_size_align(len, page_size()).map_err(|_| Refused)
}

pub(super) fn reserve(len: usize) -> Result<NonNull<u8>, Refused> {
    // SAFETY: a reservation is a page at least.
    NonNull::new(unsafe { alloc(layout(len)?) }).ok_or(Refused)
}

/// # Safety
/// As `os::commit`.
pub(super) unsafe fn commit(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    // SAFETY: the bytes are in a reservation of the caller's.
    unsafe { start.write_bytes(0, len) };
    Ok(())
}

/// # Safety
/// As `os::release`.
pub(super) unsafe fn release(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    // SAFETY: `reserve` made it with the same length, and the caller gives it up whole.
    unsafe { dealloc(start.as_ptr(), layout(len)?) };
    Ok(())
}

/// # Safety
/// As `os::discard`.
pub(super) unsafe fn discard(start: NonNull<u8>, len: usize) {
    // SAFETY: the bytes are in a reservation of the caller's, who gives up every reference to them.
    unsafe { start.write_bytes(0, len) };
}
