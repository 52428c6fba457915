//! The system calls on Unix: `mmap`, `mprotect`, `munmap`, `madvise`.

use core::ffi::c_void;
use core::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use super::Refused;

/// Bytes in a page of the host: 4096 on most, 16384 on Apple's processors.
pub(in crate::provider) fn page_size() -> usize {
    rustix::param::page_size()
}

pub(super) fn reserve(len: usize) -> Result<NonNull<u8>, Refused> {
    // Not counted against the system's commit limit, where that can be said: a reservation is
    // addresses, and 4 GiB of them for each guest is normal.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
    let flags = MapFlags::PRIVATE;
    // SAFETY: with no address given the system picks one where nothing is mapped.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) };
    start.ok().and_then(|start| NonNull::new(start.cast())).ok_or(Refused)
}

/// # Safety
/// As `os::commit`.
#[inline]
pub(super) unsafe fn commit(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    let access = MprotectFlags::READ | MprotectFlags::WRITE;
    // SAFETY: the bytes are in a reservation of the caller's and had no access before, so no
    // reference is to them. They are zero because nobody could ever write to them.
    unsafe { mprotect(as_void(start), len, access) }.map_err(|_| Refused)
}

/// # Safety
/// As `os::release`.
pub(super) unsafe fn release(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    // SAFETY: the caller gives up the whole reservation and every reference into it.
    unsafe { munmap(as_void(start), len) }.map_err(|_| Refused)
}

/// # Safety
/// As `os::discard`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) unsafe fn discard(start: NonNull<u8>, len: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the caller gives up every reference into the bytes; that they read as zero
    // afterwards is seen by nobody. It splits no mapping, so it cannot fail as `munmap` may, and
    // if it did there would be nothing left to try.
    let _ = unsafe { madvise(as_void(start), len, Advice::LinuxDontNeed) };
}

/// # Safety
/// As `os::discard`.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) unsafe fn discard(_start: NonNull<u8>, _len: usize) {}

fn as_void(start: NonNull<u8>) -> *mut c_void {
    start.as_ptr().cast()
}
