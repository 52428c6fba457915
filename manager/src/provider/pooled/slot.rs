//! One slot: what is behind its addresses, and how it is made as new for the next memory.

use core::ops::{ControlFlow, Range};
use core::ptr::NonNull;
use std::sync::Arc;

use super::super::os;
use super::class::Class;
use super::image::Image;

/// Images up to here are copied into a slot: a mapping of their own costs more than the pages they share.
const COPIED: usize = 16 << 10;

/// Memories up to here are gone through whole: that takes less than asking which pages were written.
const WHOLE: usize = 64 << 10;

/// What a slot that nobody has holds.
#[derive(Debug)]
enum Contents {
    Zeros,
    /// The image, in the slot's own pages.
    Copy(Arc<Image>),
    /// The image, mapped copy-on-write.
    Map(Arc<Image>),
}

impl Contents {
    fn image(&self) -> Option<&Arc<Image>> {
        match self {
            Self::Zeros => None,
            Self::Copy(image) | Self::Map(image) => Some(image),
        }
    }
}

/// How slots are made as new.
#[derive(Debug)]
pub(super) struct Cleaner {
    pub(super) page: usize,
    /// Bytes of a slot that may stay in memory, and so are gone through; the rest goes back to the system.
    pub(super) keep: usize,
}

impl Cleaner {
    /// The most bytes of a memory of `size` bytes that a [reset](Slot::reset) leaves in memory.
    pub(super) fn most_warm(&self, size: usize) -> usize {
        size.next_multiple_of(self.page).min(self.keep.max(WHOLE) + COPIED).max(self.page)
    }
}

/// Addresses for one memory at a time. Between two it holds zeros or one image, and nothing of the memory before.
#[derive(Debug)]
pub(super) struct Slot {
    start: NonNull<u8>,
    pub(super) class: Class,
    /// Bytes from the start that may be in memory: those beyond were never touched, or are empty again. In a guarded
    /// slot, the bytes that do not fault.
    extent: usize,
    contents: Contents,
    /// Bytes it has in memory while nobody has it.
    pub(super) warm: usize,
    /// How often it was reset by a scan since it has its image, modulo 256.
    scans: u8,
}

// SAFETY: a slot names addresses that it alone owns; nothing of it is bound to a thread.
unsafe impl Send for Slot {}

impl Slot {
    /// # Safety
    /// The class's `len` bytes at `start` are nobody else's: untouched, and faulting unless the class is open.
    pub(super) unsafe fn new(start: NonNull<u8>, class: Class) -> Self {
        Self { start, class, extent: 0, contents: Contents::Zeros, warm: 0, scans: 0 }
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The image it holds.
    pub(super) fn image(&self) -> Option<&Image> {
        self.contents.image().map(|image| &**image)
    }

    /// Whether it holds just that: this image, or zeros.
    pub(super) fn holds(&self, image: Option<&Image>) -> bool {
        self.image().map(Image::id) == image.map(Image::id)
    }

    /// Whether its image is mapped: pages of it that were not written are not its own.
    fn is_mapped(&self) -> bool {
        matches!(self.contents, Contents::Map(_))
    }

    #[inline]
    fn at(&self, offset: usize) -> NonNull<u8> {
        // SAFETY: the callers' offsets are within the slot.
        unsafe { self.start.add(offset) }
    }

    /// Makes it a memory of `size` bytes that holds `image`, whose end is not past `size`, else zeros. Refused, it is
    /// of no use any more.
    pub(super) fn prepare(
        &mut self,
        size: usize,
        image: Option<&Arc<Image>>,
        page: usize,
    ) -> Result<(), os::Refused> {
        if !self.holds(image.map(|image| &**image)) {
            self.blank()?;
        }
        self.fit(size.next_multiple_of(page))?;
        if let Some(image) = image.filter(|_| self.image().is_none()) {
            self.install(image)?;
        }
        Ok(())
    }

    /// Makes just `size` bytes usable.
    fn fit(&mut self, size: usize) -> Result<(), os::Refused> {
        if size < self.extent {
            let (from, len) = (self.at(size), self.extent - size);
            // What is left there would be in nobody's account.
            // SAFETY: nobody has the slot, and an image in it ends before `size`.
            unsafe {
                if self.warm > 0 {
                    os::linux::empty(from, len)?;
                }
                if !self.class.is_open() {
                    os::linux::close(from, len)?;
                }
            }
            self.extent = size;
        }
        self.open(size)
    }

    /// Makes at least `size` bytes usable, whole pages; new ones are zero.
    #[inline(always)]
    pub(super) fn open(&mut self, size: usize) -> Result<(), os::Refused> {
        if size > self.extent {
            if !self.class.is_open() {
                // SAFETY: past `extent` a guarded slot faults, and only zeros are in it.
                unsafe { os::commit(self.at(self.extent), size - self.extent) }?;
            }
            self.extent = size;
        }
        Ok(())
    }

    /// Puts an image where zeros are.
    fn install(&mut self, image: &Arc<Image>) -> Result<(), os::Refused> {
        let range = image.range();
        self.scans = 0;
        self.contents = if range.len() <= COPIED {
            // SAFETY: the range is usable and nobody has the slot.
            unsafe { Image::restore(Some(image), self.start, range) };
            Contents::Copy(image.clone())
        } else {
            // SAFETY: the range is in the slot, which nobody has.
            unsafe { os::linux::map_image(self.at(range.start), range.len(), image.file()) }?;
            Contents::Map(image.clone())
        };
        Ok(())
    }

    /// Makes it hold zeros.
    fn blank(&mut self) -> Result<(), os::Refused> {
        match core::mem::replace(&mut self.contents, Contents::Zeros) {
            Contents::Zeros => {}
            // SAFETY: the range is usable and nobody has the slot.
            Contents::Copy(image) => unsafe { Image::restore(None, self.start, image.range()) },
            Contents::Map(image) => {
                let range = image.range();
                // SAFETY: the range is in the slot, which nobody has.
                unsafe { os::linux::map_fresh(self.at(range.start), range.len()) }?;
            }
        }
        Ok(())
    }

    /// Makes it as new after a memory of `size` bytes: it holds its image, else zeros. What it then has in memory is
    /// in `warm`.
    pub(super) fn reset(&mut self, size: usize, cleaner: &Cleaner, scanner: Option<&os::linux::Scanner>) {
        let used = size.next_multiple_of(cleaner.page);
        let mapped = self.is_mapped();
        let kept = if used <= WHOLE && !mapped {
            self.renew(0..used);
            used
        } else if let Some(scanner) = scanner {
            self.reset_written(used, cleaner.keep, scanner)
        } else {
            // Writing over a mapped image would make each of its pages the slot's own.
            let kept = if mapped { 0 } else { used.min(cleaner.keep) };
            self.renew(0..kept);
            kept + self.empty(kept..used)
        };
        self.warm = kept.max(cleaner.page);
    }

    /// Renews the pages that were written, and gives back those past the first `keep` bytes of them. Returns the
    /// bytes it has in memory then.
    ///
    /// At the first time, and now and then after, it takes the other pages out of the page table, which are a file's or
    /// the page of zeros: one read brings in sixteen of a file's, and each is as much work in every scan as two that are not
    /// there. Those that are read again come back by a fault.
    fn reset_written(&mut self, used: usize, keep: usize, scanner: &os::linux::Scanner) -> usize {
        let base = self.start.addr().get();
        let unmap = self.scans == 0;
        self.scans = self.scans.wrapping_add(1);
        let mapped = self.is_mapped();
        let (mut kept, mut rest, mut read) = (0, used, 0);
        let scanned = scanner.written(base..base + used, mapped, &mut |run| {
            let run = run.start - base..run.end - base;
            if unmap {
                self.unmap_read(read..run.start);
            }
            read = run.end;
            let fits = run.len().min(keep - kept);
            self.renew(run.start..run.start + fits);
            kept += fits;
            if fits < run.len() {
                rest = run.start + fits;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if scanned.is_err() {
            // Anything may have been missed.
            return self.empty(0..used);
        }
        if unmap {
            self.unmap_read(read..rest);
        }
        kept + self.empty(rest..used)
    }

    /// Takes pages out of the page table that were not written, so that they are as new with them and without.
    fn unmap_read(&self, range: Range<usize>) {
        if !range.is_empty() {
            // SAFETY: the range is in the slot, which nobody has.
            let _ = unsafe { os::linux::empty(self.at(range.start), range.len()) };
        }
    }

    /// Gives the memory behind `range` back, and has it hold what it should. Returns the bytes of it that are in
    /// memory then.
    fn empty(&self, range: Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        // SAFETY: the range is in the slot, which nobody has.
        if unsafe { os::linux::empty(self.at(range.start), range.len()) }.is_err() {
            // The system refuses that of locked memory, which can be renewed.
            self.renew(range.clone());
            return range.len();
        }
        let Contents::Copy(image) = &self.contents else { return 0 };
        let image = image.range();
        let again = image.start.max(range.start)..image.end.min(range.end);
        if again.is_empty() {
            return 0;
        }
        self.renew(again.clone());
        again.len()
    }

    fn renew(&self, range: Range<usize>) {
        // SAFETY: what a memory could write is usable, and nobody has the slot.
        unsafe { Image::restore(self.image(), self.start, range) };
    }

    /// Has it hold zeros, and gives all its memory back to the system; what the system does not take is in `warm`.
    /// Refused, it is of no use any more.
    pub(super) fn discard(&mut self) -> Result<(), os::Refused> {
        if self.is_mapped() {
            self.blank()?;
        }
        self.contents = Contents::Zeros;
        self.warm = self.empty(0..self.extent);
        Ok(())
    }
}
