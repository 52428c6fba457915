//! A region's bytes, of which only the words at the head of each block are looked at.

use core::ptr::NonNull;

/// Blocks start at multiples of this many bytes, and are multiples of it: four words, which a hole needs.
pub(super) const GRANULE: usize = 4 * WORD;
/// Bytes at the head of every block, used or not; what follows them is a used block's holder's.
pub(super) const HEADER: usize = 2 * WORD;
const WORD: usize = size_of::<usize>();

/// Which word of a block.
#[derive(Clone, Copy)]
pub(super) enum Word {
    /// Its size in bytes, and whether it is used.
    Size = 0,
    /// The size of the block before it in bytes; 0 where it is the first.
    Before = 1,
    /// Of a hole: the hole below it where the next digit is 0. See [`Holes`](super::holes::Holes).
    Zero = 2,
    /// Of a hole: the same where it is 1.
    One = 3,
}

/// Sole access to a region. Positions are bytes from its start.
pub(super) struct Words {
    base: NonNull<u8>,
    len: usize,
    /// How many words were looked at: the tests count the steps that an operation takes.
    #[cfg(test)]
    pub(super) reads: core::cell::Cell<usize>,
}

// SAFETY: the bytes are this value's alone for good, but for those that blocks were handed out for.
unsafe impl Send for Words {}

impl Words {
    /// Takes over `bytes`, from the first multiple of a granule on, in whole granules.
    pub(super) fn new(bytes: &'static mut [u8]) -> Self {
        let skip = bytes.as_ptr().align_offset(GRANULE).min(bytes.len());
        let bytes = &mut bytes[skip..];
        let len = bytes.len() & !(GRANULE - 1);
        Self {
            base: NonNull::from(bytes).cast(),
            len,
            #[cfg(test)]
            reads: core::cell::Cell::new(0),
        }
    }

    /// Bytes of all blocks together.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn word(&self, at: usize, word: Word) -> *mut usize {
        debug_assert!(at < self.len && at.is_multiple_of(GRANULE), "{at} is the start of no block");
        // SAFETY: `at` is the start of a block of this region, and a block is a granule at least.
        unsafe { self.base.as_ptr().add(at).cast::<usize>().add(word as usize) }
    }

    /// A word of the block at `at`: of a hole, or else of its header, and written since it is one.
    pub(super) fn get(&self, at: usize, word: Word) -> usize {
        #[cfg(test)]
        self.reads.set(self.reads.get() + 1);
        // SAFETY: in the region by `word`, aligned as the base and `at` are multiples of a granule, written before, and
        // nobody else's: a holder has what follows the header only.
        unsafe { self.word(at, word).read() }
    }

    /// Writes a word of the block at `at`: of a hole, or else of its header.
    pub(super) fn set(&mut self, at: usize, word: Word, value: usize) {
        // SAFETY: as above.
        unsafe { self.word(at, word).write(value) }
    }

    /// Where the holder's bytes of the block at `at` begin.
    pub(super) fn contents(&self, at: usize) -> NonNull<u8> {
        // SAFETY: the start of a block of this region, which is a granule at least.
        unsafe { self.base.add(at + HEADER) }
    }

    /// The block whose holder's bytes begin at `contents`.
    pub(super) fn block_of(&self, contents: NonNull<u8>) -> usize {
        contents.addr().get() - self.base.addr().get() - HEADER
    }
}
