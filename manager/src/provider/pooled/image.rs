//! What a memory holds when it is made, kept once and shared by all that start with it.

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::{ProviderError, os, unsupported};
use super::renew;

/// Initial bytes of linear memories, in a sealed memory file. Slots map it copy-on-write; small ones, and memories of
/// other providers, get a copy.
///
/// It occupies [`bytes`](Self::bytes) of the machine, once. Whoever makes it charges somebody for them, for as long as the
/// `Arc` or any memory made with it lives.
pub struct Image {
    /// Told from all others, also from those that were where this one is now.
    id: u64,
    /// Bytes of the memory that it is for, whole pages.
    range: Range<usize>,
    file: OwnedFd,
    view: NonNull<u8>,
}

// SAFETY: the view is read only, and of a file that nobody can change; the only owner unmaps it.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// An image of `bytes` at offset `at` of a memory, zeros elsewhere.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] where there are no bytes, or they end past all addresses;
    /// [`ProviderError::Exhausted`] where the system gives no memory file.
    pub fn new(at: usize, bytes: &[u8]) -> Result<Arc<Self>, ProviderError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let page = os::page_size();
        let end = at.checked_add(bytes.len()).and_then(|end| end.checked_next_multiple_of(page));
        let Some(end) = end.filter(|end| !bytes.is_empty() && *end <= isize::MAX.unsigned_abs()) else {
            return Err(unsupported("image", at, isize::MAX.unsigned_abs() - bytes.len()));
        };
        let start = at / page * page;
        let mut whole = vec![0; end - start];
        whole[at - start..at - start + bytes.len()].copy_from_slice(bytes);
        let exhausted = |os::Refused| ProviderError::Exhausted { asked: whole.len(), largest: 0 };
        let file = os::linux::sealed_file(&whole).map_err(exhausted)?;
        let view = os::linux::view(&file, whole.len()).map_err(exhausted)?;
        Ok(Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), range: start..end, file, view }))
    }

    /// Bytes of the machine that an image of `size` bytes at `at` takes: whole pages of this host. To be charged before it
    /// is made.
    pub fn cost(at: usize, size: usize) -> usize {
        let page = os::page_size();
        (at % page).saturating_add(size).checked_next_multiple_of(page).unwrap_or(usize::MAX)
    }

    /// Bytes of the machine it takes: whole pages.
    pub fn bytes(&self) -> usize {
        self.range.len()
    }

    /// Where in a memory it lies, in bytes. A memory that is made with it is at least as large as its end.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Its bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: mapped for just as long, readable, of a sealed file.
        unsafe { core::slice::from_raw_parts(self.view.as_ptr(), self.range.len()) }
    }

    /// Makes `within` of a memory at `start` what it is in a new one: its part of this image, zeros elsewhere.
    ///
    /// # Safety
    /// Those bytes can be written, and nothing refers to them.
    pub(super) unsafe fn restore(image: Option<&Self>, start: NonNull<u8>, within: Range<usize>) {
        let covered = image.map_or(within.end..within.end, |image| {
            let from = image.range.start.clamp(within.start, within.end);
            from..image.range.end.clamp(from, within.end)
        });
        for zeros in [within.start..covered.start, covered.end..within.end] {
            // SAFETY: the range lies in `within`.
            renew::zeros(unsafe { bytes(start, zeros) });
        }
        if let Some(image) = image.filter(|_| !covered.is_empty()) {
            let from = covered.start - image.range.start;
            // SAFETY: the range lies in `within`.
            renew::copy(
                unsafe { bytes(start, covered.clone()) },
                &image.as_slice()[from..from + covered.len()],
            );
        }
    }
}

/// # Safety
/// `range` of the memory at `start` can be written, and nothing refers to it meanwhile.
unsafe fn bytes<'a>(start: NonNull<u8>, range: Range<usize>) -> &'a mut [u8] {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts_mut(start.add(range.start).as_ptr(), range.len()) }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; references into it ended with `self`.
        unsafe { os::linux::unview(self.view, self.range.len()) };
    }
}

impl core::fmt::Debug for Image {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Image").field("id", &self.id).field("range", &self.range).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        #[cfg_attr(miri, ignore = "no memory files there")]
        fn any_part_is_restored_to_what_a_new_memory_has(
            at in 0..20_000usize, len in 1..20_000usize, from in 0..40_960usize, to in 0..40_960usize, none: bool,
        ) {
            let bytes: Vec<u8> = (0..len).map(|it| it as u8 | 1).collect();
            let image = Image::new(at, &bytes).unwrap();
            let mut fresh = vec![0u8; 40_960];
            if !none {
                fresh[at..at + len].copy_from_slice(&bytes);
            }
            let within = from.min(to)..from.max(to);
            let mut memory = vec![0xEE; 40_960];
            let start = NonNull::new(memory.as_mut_ptr()).unwrap();
            // SAFETY: the range is within the vector, which nothing else refers to meanwhile.
            unsafe { Image::restore((!none).then_some(&*image), start, within.clone()) };
            prop_assert!(memory[within.clone()] == fresh[within.clone()]);
            prop_assert!(memory[..within.start].iter().chain(&memory[within.end..]).all(|it| *it == 0xEE));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "no memory files there")]
    fn it_is_whole_pages_and_nobody_can_write_to_its_file() {
        let image = Image::new(5000, b"hello").unwrap();
        assert_eq!((image.range(), image.bytes()), (4096..8192, 4096));
        for (at, size) in [(0, 1), (0, 4096), (1, 4096), (5000, 5), (8191, 1), (8191, 2)] {
            assert_eq!(
                Image::cost(at, size),
                Image::new(at, &vec![1; size]).unwrap().range().len(),
                "{at}, {size}"
            );
        }
        assert_eq!(Image::cost(0, usize::MAX), usize::MAX);
        assert_eq!(&image.as_slice()[904..909], b"hello");
        assert!(rustix::io::pwrite(image.file(), b"x", 0).is_err());
        assert!(Image::new(0, b"").is_err() && Image::new(usize::MAX, b"x").is_err());
    }
}
