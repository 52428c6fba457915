//! Blocks out of a caller's `'static` bytes: no allocator, no operating system, a bounded time.
//!
//! Best fit ([`blocks`], [`holes`]): an operation looks at no more holes, one after the other, than a few times
//! the binary logarithm of the region in granules, whatever is free and however it came to be so. This module decides
//! what a block costs, before it is allocated and exactly, and zeroes what it hands out, so that no tenant reads
//! what another left.
//!
//! What a block of `n` bytes costs, with `g` the [granule](StaticRegionProvider::GRANULE):
//! - aligned to at most `g / 2`: `n + g / 2` (the header) rounded up to `g`;
//! - above: `n + align` rounded up to `g`. A block starts at any multiple of `g`, so it takes
//!   that many bytes to be sure of an aligned address in it. They are taken even where fewer would
//!   do: a cost that depends on where the block comes to lie could not be charged beforehand.
//!
//! Here `n` is the larger of `size` and `reserve`: what a block may grow into has to be kept free
//! of others, so a reservation takes its bytes, and is charged for them, at once.

use core::fmt;
use core::ptr::NonNull;

use super::{Block, Provider, ProviderError, ProviderInfo, ProviderKind, Request};
use super::{check_align, unsupported};
use crate::lock::Lock;
use blocks::Blocks;
use words::{GRANULE, HEADER};

mod blocks;
mod buffer;
mod holes;
#[cfg(test)]
mod tests;
mod words;

pub use buffer::StaticRegion;

/// Serves blocks from a caller's `'static` bytes; they may grow in place up to what they reserved.
pub struct StaticRegionProvider {
    blocks: Lock<Blocks>,
    /// Bytes of all blocks together: the cost of the largest there can be.
    capacity: usize,
    /// Where its blocks lie.
    #[cfg(feature = "verification")]
    bounds: core::ops::Range<usize>,
}

/// What a request turns into.
struct Plan {
    /// Bytes set aside for the block to use.
    reserved: usize,
    /// Bytes of all of the block.
    cost: usize,
}

impl StaticRegionProvider {
    /// Costs are multiples of this many bytes: four machine words.
    pub const GRANULE: usize = GRANULE;

    /// The largest alignment served, in bytes: one WebAssembly page.
    pub const MAX_ALIGN: usize = 65536;

    /// Takes over `bytes`. What is not aligned to a granule is lost; a region of less than a granule serves nothing.
    #[must_use]
    pub fn new(bytes: &'static mut [u8]) -> Self {
        #[cfg(feature = "verification")]
        let bounds = bytes.as_ptr().addr()..bytes.as_ptr().addr() + bytes.len();
        let blocks = Blocks::new(bytes);
        Self {
            capacity: blocks.len(),
            blocks: Lock::new(blocks),
            #[cfg(feature = "verification")]
            bounds,
        }
    }

    /// Bytes in free blocks, overhead of future blocks included. Exact.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.blocks.with(|blocks| blocks.free())
    }

    /// Cost in bytes of the largest block that would be handed out now, header included. Exact.
    ///
    /// It is at most [`free_bytes`](Self::free_bytes), less by fragmentation only.
    #[must_use]
    pub fn largest_free(&self) -> usize {
        self.blocks.with(|blocks| blocks.largest())
    }

    /// The addresses of its blocks, where they are kept: for checks.
    pub(crate) fn bounds(&self) -> Option<core::ops::Range<usize>> {
        #[cfg(feature = "verification")]
        return Some(self.bounds.clone());
        #[cfg(not(feature = "verification"))]
        None
    }

    fn plan(&self, request: &Request) -> Result<Plan, ProviderError> {
        check_align(request.align, Self::MAX_ALIGN)?;
        if request.guard > 0 {
            return Err(unsupported("guard", request.guard, 0));
        }
        let overhead = if request.align <= HEADER { HEADER } else { request.align };
        let room = self.capacity.saturating_sub(overhead);
        if overhead > self.capacity || request.size > room {
            return Err(unsupported("size", request.size, room));
        }
        if request.reserve > room {
            return Err(unsupported("reserve", request.reserve, room));
        }
        let reserved = request.size.max(request.reserve);
        // Neither sum overflows: they are at most the capacity, itself a multiple of the granule.
        let cost = (reserved + overhead).next_multiple_of(GRANULE);
        Ok(Plan { reserved, cost })
    }
}

/// Aligns the bytes of a block, and leaves its start where [`start_of`] finds it.
///
/// # Safety
/// `start` is what follows the header in a block of `reserved + align` bytes, nobody else's, and `align` is a power of two.
unsafe fn place(start: NonNull<u8>, align: usize) -> NonNull<u8> {
    if align <= HEADER {
        return start;
    }
    // `start` lies HEADER after a multiple of GRANULE, so this is HEADER at least, which is two
    // words, and `align - HEADER` at most.
    let skip = start.align_offset(align);
    debug_assert!(skip >= HEADER && skip <= align - HEADER);
    // SAFETY: `skip` bytes are within the block by the caller's promise, and the word before the
    // result is in it too, is ours, and is aligned since the result is aligned to more than a word.
    unsafe {
        let ptr = start.add(skip);
        ptr.cast::<NonNull<u8>>().sub(1).write(start);
        ptr
    }
}

/// What follows the header of the block that `block` lies in.
///
/// # Safety
/// `block` is live and came from [`place`] with its alignment.
unsafe fn start_of(block: &Block) -> NonNull<u8> {
    if block.align <= HEADER {
        block.ptr
    } else {
        // SAFETY: `place` wrote the start here, and the word is not part of what a holder may write.
        unsafe { block.ptr.cast::<NonNull<u8>>().sub(1).read() }
    }
}

// SAFETY: `blocks` hands out each byte once until it is given back, and `place` stays in what it
// handed out; `plan` takes for `reserved` what growing will use; bytes are zeroed when handed out.
unsafe impl Provider for StaticRegionProvider {
    fn describe(&self) -> ProviderInfo {
        ProviderInfo {
            kind: ProviderKind::StaticRegion,
            capacity: Some(self.capacity),
            granule: GRANULE,
            max_align: Self::MAX_ALIGN,
            grows_in_place: true,
            guards: false,
        }
    }

    fn cost(&self, request: &Request) -> Result<usize, ProviderError> {
        Ok(self.plan(request)?.cost)
    }

    fn allocate(&self, request: &Request) -> Result<Block, ProviderError> {
        let Plan { reserved, cost } = self.plan(request)?;
        #[cfg(any(all(test, feature = "std"), feature = "faults"))]
        if crate::fault::fails(crate::fault::Call::Region) {
            return Err(ProviderError::Exhausted { asked: cost, largest: 0 });
        }
        let start = self.blocks.with(|blocks| blocks.take(cost).ok_or_else(|| blocks.largest()));
        let start = start.map_err(|largest| ProviderError::Exhausted { asked: cost, largest })?;
        // SAFETY: `cost` bytes were just taken for `start`, header included; they are at least `reserved + align` where
        // `align` is above `HEADER`, else `reserved + HEADER`. The `size` bytes at `ptr` are among them and nobody
        // else's.
        let ptr = unsafe {
            let ptr = place(start, request.align);
            ptr.write_bytes(0, request.size);
            ptr
        };
        Ok(Block {
            ptr,
            size: request.size,
            reserved,
            cost,
            align: request.align,
            guard: 0,
            mark: core::ptr::null_mut(),
        })
    }

    fn grown_cost(&self, block: &Block, size: usize) -> Result<usize, ProviderError> {
        if size > block.reserved {
            return Err(ProviderError::PastReserve { asked: size, limit: block.reserved });
        }
        Ok(block.cost)
    }

    unsafe fn grow(&self, block: &mut Block, size: usize) -> Result<(), ProviderError> {
        self.grown_cost(block, size)?;
        if size > block.size {
            // SAFETY: `size <= reserved`, and the block's reserved bytes are its alone by `plan`.
            unsafe { block.ptr.add(block.size).write_bytes(0, size - block.size) };
            block.size = size;
        }
        Ok(())
    }

    unsafe fn free(&self, block: Block) {
        // SAFETY: the caller says `block` is live and from here, so `place` made it.
        let start = unsafe { start_of(&block) };
        self.blocks.with(|blocks| blocks.give(start));
    }
}

impl fmt::Debug for StaticRegionProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticRegionProvider")
            .field("capacity", &self.capacity)
            .field("free", &self.free_bytes())
            .finish_non_exhaustive()
    }
}
