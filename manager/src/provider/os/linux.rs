//! What only Linux has: images in memory files, addresses that change what is behind them, and a scan
//! for the pages that were written.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ops::{ControlFlow, Range};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, Ordering};
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::pwrite;
use rustix::ioctl::{self, opcode};
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};

use super::Refused;

/// A file in memory that has `bytes`, and that nobody can change any more.
pub(in crate::provider) fn sealed_file(bytes: &[u8]) -> Result<OwnedFd, Refused> {
    #[cfg(any(test, feature = "faults"))]
    super::fault::check(super::fault::Call::File)?;
    let file = memfd_create("wrt-memory image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|_| Refused)?;
    let mut at = 0;
    while at < bytes.len() {
        match pwrite(&file, &bytes[at..], at as u64) {
            Ok(written) if written > 0 => at += written,
            Err(rustix::io::Errno::INTR) => {}
            _ => return Err(Refused),
        }
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).map_err(|_| Refused)?;
    Ok(file)
}

/// Maps a sealed file somewhere, to be read.
pub(in crate::provider) fn view(file: &OwnedFd, len: usize) -> Result<NonNull<u8>, Refused> {
    #[cfg(any(test, feature = "faults"))]
    super::fault::check(super::fault::Call::View)?;
    // SAFETY: with no address given the system picks one where nothing is mapped.
    let start = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, file, 0) };
    start.ok().and_then(|start| NonNull::new(start.cast())).ok_or(Refused)
}

/// Gives up what [`view`] mapped.
///
/// # Safety
/// It did, with that length, and nothing refers to it any more.
pub(in crate::provider) unsafe fn unview(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise. Refused, addresses are lost and nothing else.
    let _ = unsafe { munmap(start.as_ptr().cast(), len) };
}

/// Puts a sealed file behind `len` bytes at `start`: they read as the file, and what is written to them stays
/// theirs. Refused, what is behind them is not known.
///
/// # Safety
/// They are whole pages in a reservation of the caller's, and nothing refers to them.
pub(in crate::provider) unsafe fn map_image(
    start: NonNull<u8>,
    len: usize,
    file: &OwnedFd,
) -> Result<(), Refused> {
    #[cfg(any(test, feature = "faults"))]
    super::fault::check(super::fault::Call::Image)?;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: what was mapped there is the caller's to replace.
    unsafe { mmap(start.as_ptr().cast(), len, access, flags, file, 0) }.map(drop).map_err(|_| Refused)
}

/// Puts fresh pages behind `len` bytes at `start`: zero, to be read and written. Refused, what is behind them is
/// not known.
///
/// # Safety
/// As [`map_image`].
pub(in crate::provider) unsafe fn map_fresh(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    #[cfg(any(test, feature = "faults"))]
    super::fault::check(super::fault::Call::Fresh)?;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: what was mapped there is the caller's to replace.
    unsafe { mmap_anonymous(start.as_ptr().cast(), len, access, flags) }.map(drop).map_err(|_| Refused)
}

/// Takes a slab all of which can be read and written, never of huge pages: its slots are smaller.
pub(in crate::provider) fn reserve_open(len: usize) -> Result<NonNull<u8>, Refused> {
    #[cfg(any(test, feature = "faults"))]
    super::fault::check(super::fault::Call::Open)?;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: with no address given the system picks one where nothing is mapped.
    let start =
        unsafe { mmap_anonymous(ptr::null_mut(), len, access, MapFlags::PRIVATE | MapFlags::NORESERVE) };
    let start = start.ok().and_then(|start| NonNull::new(start.cast::<u8>())).ok_or(Refused)?;
    // Kernels built without huge pages refuse this, and need it not.
    // SAFETY: the mapping is fresh; the advice changes no byte.
    let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
    Ok(start)
}

/// Makes `len` bytes at `start` fault when touched. What is in them stays.
///
/// # Safety
/// They are whole pages in a reservation of the caller's, and nothing refers to them.
pub(in crate::provider) unsafe fn close(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    #[cfg(any(test, feature = "faults"))]
    super::fault::check(super::fault::Call::Close)?;
    // SAFETY: the caller's promise.
    unsafe { mprotect(start.as_ptr().cast(), len, MprotectFlags::empty()) }.map_err(|_| Refused)
}

/// Takes the memory behind `len` bytes at `start` away: they read as when they were mapped. Refused, they are
/// as they were, in part.
///
/// # Safety
/// They are whole pages in a reservation of the caller's, and nothing refers to them.
pub(in crate::provider) unsafe fn empty(start: NonNull<u8>, len: usize) -> Result<(), Refused> {
    #[cfg(any(test, feature = "faults"))]
    super::fault::check(super::fault::Call::Empty)?;
    // SAFETY: the caller's promise.
    unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontNeed) }.map_err(|_| Refused)
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// A page of a file that nobody wrote to.
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
/// The page of zeros that all share who have only read.
const ZERO: u64 = 1 << 5;

/// Regions asked for at once. More take longer to set up, fewer take more calls; both were measured.
const REGIONS: usize = 64;

/// Finds the pages of this process that were written.
#[derive(Debug)]
pub(in crate::provider) struct Scanner {
    pagemap: File,
    /// A page that a fork empties. In the child `pagemap` is still the parent's: what it says there is of other
    /// pages.
    not_forked: NonNull<AtomicU8>,
    page: usize,
}

// SAFETY: the page is shared by atomic accesses only, and unmapped by the only owner.
unsafe impl Send for Scanner {}
// SAFETY: as above.
unsafe impl Sync for Scanner {}

impl Scanner {
    /// A scanner, where the kernel has the scan (Linux 6.7) and says of a page just written that it was.
    pub(in crate::provider) fn new(page: usize) -> Option<Self> {
        let pagemap = File::open("/proc/self/pagemap").ok()?;
        let start = reserve_open(page).ok()?;
        let scanner = Self { pagemap, not_forked: start.cast(), page };
        // SAFETY: the page was mapped above, for this; the advice takes effect at a fork.
        unsafe { madvise(start.as_ptr().cast(), page, Advice::LinuxWipeOnFork) }.ok()?;
        let range = start.addr().get()..start.addr().get() + page;
        let mut seen = 0;
        let mut count = |_: Range<usize>| {
            seen += 1;
            ControlFlow::Continue(())
        };
        scanner.walk(range.clone(), false, &mut count).ok()?;
        scanner.mark().store(1, Ordering::Relaxed);
        scanner.walk(range, false, &mut count).ok()?;
        (seen == 1).then_some(scanner)
    }

    fn mark(&self) -> &AtomicU8 {
        // SAFETY: mapped and valid, zero included, until `self` is dropped.
        unsafe { self.not_forked.as_ref() }
    }

    /// Calls `found` with each run of pages in `range` that were written since they were mapped or emptied: also
    /// those that were swapped out. Those that were only read are not among them. It goes on to the end of the
    /// range, however many there are, unless `found` breaks.
    ///
    /// Pages of a file are told apart only where the range may have some, as `files` says: for each page that is in
    /// memory that takes the kernel as long again.
    ///
    /// Refused, some may have been missed.
    pub(in crate::provider) fn written(
        &self,
        range: Range<usize>,
        files: bool,
        found: &mut dyn FnMut(Range<usize>) -> ControlFlow<()>,
    ) -> Result<(), Refused> {
        if self.mark().load(Ordering::Relaxed) == 0 {
            return Err(Refused);
        }
        #[cfg(any(test, feature = "faults"))]
        if let Err(refused) = super::fault::check(super::fault::Call::Scan) {
            // Half way: what was found before does not help.
            let end = range.start + range.len() / 4 / self.page * self.page;
            self.walk(range.start..end, files, found)?;
            return Err(refused);
        }
        self.walk(range, files, found)
    }

    fn walk(
        &self,
        range: Range<usize>,
        files: bool,
        found: &mut dyn FnMut(Range<usize>) -> ControlFlow<()>,
    ) -> Result<(), Refused> {
        let mut regions = [const { MaybeUninit::<Region>::uninit() }; REGIONS];
        // Neither the zero page nor a file's, and there or swapped out.
        let not = if files { FILE | ZERO } else { ZERO };
        let mut from = range.start as u64;
        let end = range.end as u64;
        while from < end {
            let mut arguments = ScanArguments {
                size: size_of::<ScanArguments>() as u64,
                start: from,
                end,
                vec: regions.as_mut_ptr().expose_provenance() as u64,
                vec_len: REGIONS as u64,
                category_inverted: not,
                category_mask: not,
                category_anyof_mask: PRESENT | SWAPPED,
                ..ScanArguments::default()
            };
            // SAFETY: `vec` is `vec_len` regions that live through the call.
            let filled = unsafe { ioctl::ioctl(&self.pagemap, Scan(&mut arguments)) }.map_err(|_| Refused)?;
            for region in regions.iter().take(filled) {
                // SAFETY: the call has filled so many of them.
                let region = unsafe { region.assume_init_ref() };
                if found(region.start as usize..region.end as usize).is_break() {
                    return Ok(());
                }
            }
            // It stops where `regions` is full: on from there.
            if arguments.walk_end <= from {
                return Err(Refused);
            }
            from = arguments.walk_end;
        }
        Ok(())
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing refers to it any more.
        let _ = unsafe { munmap(self.not_forked.as_ptr().cast::<c_void>(), self.page) };
    }
}

/// Entries of the pagemap read at once: one page of them.
const ENTRIES: usize = 512;

/// An entry of the pagemap: the page is in memory, or in swap.
const THERE: u64 = 0b11 << 62;

/// Calls `found` with runs of the pages of `range` that the system has in memory or in swap, cut to `range`, until it says
/// `false`. Where `/proc` is not to be read it is not called. Opened for each call: in a forked child the file is its
/// parent's.
pub(crate) fn resident(range: Range<usize>, found: &mut dyn FnMut(Range<usize>) -> bool) {
    use std::os::unix::fs::FileExt;

    let page = super::page_size();
    let Ok(pagemap) = File::open("/proc/self/pagemap") else { return };
    let mut entries = [0; 8 * ENTRIES];
    let (mut at, last) = (range.start / page, range.end.div_ceil(page));
    while at < last {
        let count = ENTRIES.min(last - at);
        if pagemap.read_exact_at(&mut entries[..8 * count], 8 * at as u64).is_err() {
            return;
        }
        let (words, _) = entries[..8 * count].as_chunks();
        let pages = words.iter().enumerate().filter(|(_, word)| u64::from_ne_bytes(**word) & THERE != 0);
        for (offset, _) in pages {
            let start = (at + offset) * page;
            if !found(start.max(range.start)..(start + page).min(range.end)) {
                return;
            }
        }
        at += count;
    }
}

/// One call of the scan; what it returns is how many regions it filled.
struct Scan<'a>(&'a mut ScanArguments);

// SAFETY: the opcode is that of a call which reads and writes `ScanArguments`, and returns a number.
unsafe impl ioctl::Ioctl for Scan<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> ioctl::Opcode {
        opcode::read_write::<ScanArguments>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(out: ioctl::IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        Ok(usize::try_from(out).unwrap_or(0).min(REGIONS))
    }
}

#[cfg(test)]
mod tests;
