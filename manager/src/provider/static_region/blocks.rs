//! A region cut into blocks: used ones, and the holes between them, no two of which touch.
//!
//! A block is taken from the smallest hole that fits, of those of a size the first, and from that end of it that is
//! farther from the middle of the region. So blocks gather at both ends, and what is free stays
//! in one piece between them.

use core::ptr::NonNull;

use super::holes::{Hole, Holes};
use super::words::{GRANULE, Word, Words};

/// The mark of a used block, in its size.
const USED: usize = 1;

/// The blocks of a region.
pub(super) struct Blocks {
    words: Words,
    holes: Holes,
    /// Bytes in holes.
    free: usize,
}

impl Blocks {
    /// One hole: all of `bytes` but what is not aligned to a granule.
    pub(super) fn new(bytes: &'static mut [u8]) -> Self {
        let mut words = Words::new(bytes);
        let mut holes = Holes::new(words.len());
        let free = words.len();
        if free > 0 {
            words.set(0, Word::Size, free);
            words.set(0, Word::Before, 0);
            holes.insert(&mut words, Hole { size: free, at: 0 });
        }
        Self { words, holes, free }
    }

    /// Bytes of all blocks together.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Bytes in holes.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Bytes of the largest hole.
    pub(super) fn largest(&self) -> usize {
        self.holes.largest(&self.words).map_or(0, |hole| hole.size)
    }

    /// A block of `size` bytes, a positive multiple of the granule: where its holder's bytes begin, after the header.
    pub(super) fn take(&mut self, size: usize) -> Option<NonNull<u8>> {
        debug_assert!(size > 0 && size.is_multiple_of(GRANULE));
        let hole = self.holes.smallest(&self.words, size)?;
        self.holes.remove(&mut self.words, hole);
        let rest = hole.size - size;
        let at = if hole.at + hole.size / 2 > self.len() / 2 {
            self.leave(hole.at, rest);
            hole.at + rest
        } else {
            hole.at
        };
        self.head(at, size, USED);
        if at == hole.at {
            self.leave(at + size, rest);
        }
        self.free -= size;
        Some(self.words.contents(at))
    }

    /// Makes a hole of what is left of one.
    fn leave(&mut self, at: usize, size: usize) {
        if size > 0 {
            self.head(at, size, 0);
            self.holes.insert(&mut self.words, Hole { size, at });
        }
    }

    /// Takes a block back whose holder's bytes began at `contents`.
    pub(super) fn give(&mut self, contents: NonNull<u8>) {
        let at = self.words.block_of(contents);
        let size = self.words.get(at, Word::Size) & !USED;
        self.free += size;
        let mut hole = Hole { size, at };
        if let Some(next) = self.hole_at(at + size) {
            self.holes.remove(&mut self.words, next);
            hole.size += next.size;
        }
        let before = self.words.get(at, Word::Before);
        if before > 0
            && let Some(before) = self.hole_at(at - before)
        {
            self.holes.remove(&mut self.words, before);
            hole = Hole { size: before.size + hole.size, at: before.at };
        }
        self.leave(hole.at, hole.size);
    }

    /// The hole that starts at `at`, where a block starts or the region ends.
    fn hole_at(&self, at: usize) -> Option<Hole> {
        let size = if at < self.len() { self.words.get(at, Word::Size) } else { USED };
        (size & USED == 0).then_some(Hole { size, at })
    }

    /// Says at the head of a block how large it is and whether it is used, and at the next how large this one is.
    fn head(&mut self, at: usize, size: usize, used: usize) {
        self.words.set(at, Word::Size, size | used);
        if at + size < self.len() {
            self.words.set(at + size, Word::Before, size);
        }
    }
}

#[cfg(test)]
mod tests;
