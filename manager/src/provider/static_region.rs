//! Blocks out of a caller's `'static` bytes: no allocator, no operating system, O(1).
//!
//! The bytes are managed by TLSF ([`rlsf`], after Masmano et al., "TLSF: a New Dynamic Memory
//! Allocator for Real-Time Systems", 2004). This module decides what a block costs, before it is
//! allocated and exactly, and zeroes what it hands out, so that no tenant reads what another left.
//!
//! What a block of `n` bytes costs, with `g` the [granule](StaticRegionProvider::GRANULE):
//! - aligned to at most `g / 2`: `n + g / 2` (the header) rounded up to `g`;
//! - above: `n + align` rounded up to `g`. A TLSF block starts at any multiple of `g`, so it takes
//!   that many bytes to be sure of an aligned address in it. They are taken even where fewer would
//!   do: a cost that depends on where the block comes to lie could not be charged beforehand.
//!
//! Here `n` is the larger of `size` and `reserve`: what a block may grow into has to be kept free
//! of others, so a reservation takes its bytes, and is charged for them, at once.

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use super::{Block, Provider, ProviderError, ProviderInfo, ProviderKind, Request};
use super::{check_align, unsupported};
use crate::lock::Lock;

mod buffer;
#[cfg(test)]
mod tests;

pub use buffer::StaticRegion;

const GRANULE: usize = rlsf::GRANULARITY;
/// Size of a used block's header, and the alignment of what follows it.
const HEADER: usize = GRANULE / 2;

/// Powers of two from a granule up to the address space: 48 bits suffice on 64-bit machines. On 32-bit ones
/// 16 MiB, which no microcontroller's RAM passes; a longer region is several pools.
const FIRST_LEVELS: usize = (ADDRESS_BITS - GRANULE.trailing_zeros()) as usize;
const ADDRESS_BITS: u32 = if usize::BITS > 48 { 48 } else { 24 };
/// Size classes for each power of two: a request may miss a hole that is up to 1/16 larger. The
/// whole structure takes 5.5 KiB on 64-bit machines and 1.3 KiB on 32-bit ones.
const SECOND_LEVELS: usize = 16;
/// The longest run of bytes that the index takes as one pool, where there is a limit.
const LONGEST: Option<usize> = 1usize.checked_shl(ADDRESS_BITS);

type Index = rlsf::Tlsf<'static, usize, u16, FIRST_LEVELS, SECOND_LEVELS>;

struct State {
    index: Index,
    /// Bytes in free blocks, header included.
    free: usize,
}

/// Serves blocks from a caller's `'static` bytes; they may grow in place up to what they reserved.
pub struct StaticRegionProvider {
    state: Lock<State>,
    /// Bytes of all blocks together.
    capacity: usize,
    /// Cost of the largest block there can be, with everything free.
    largest: usize,
}

/// What a request turns into.
struct Plan {
    /// Bytes set aside for the block to use.
    reserved: usize,
    /// What TLSF is asked for.
    layout: Layout,
    /// What TLSF takes for it.
    cost: usize,
}

impl StaticRegionProvider {
    /// Costs are multiples of this many bytes: four machine words.
    pub const GRANULE: usize = GRANULE;

    /// The largest alignment served, in bytes: one WebAssembly page.
    pub const MAX_ALIGN: usize = 65536;

    /// Takes over `bytes`. One granule, and what is not aligned to a granule, is lost to overhead;
    /// a region of less than two granules serves nothing.
    #[must_use]
    pub fn new(bytes: &'static mut [u8]) -> Self {
        let mut index = Index::new();
        let skip = bytes.as_ptr().align_offset(GRANULE);
        let usable = bytes.len().saturating_sub(skip) & !(GRANULE - 1);
        let usable = LONGEST.map_or(usable, |longest| usable.min(longest));
        let mut capacity = 0;
        if usable >= 2 * GRANULE {
            let pool = NonNull::from(&mut bytes[skip..skip + usable]);
            // SAFETY: the bytes are ours alone and for good, since the reference was exclusive and
            // 'static and is not used after this.
            let taken = unsafe { index.insert_free_block_ptr(pool) };
            debug_assert_eq!(taken.map_or(0, |taken| taken.get()), usable);
            // The last granule marks the end.
            capacity = usable - GRANULE;
        }
        let state = Lock::new(State { index, free: capacity });
        let mut provider = Self { state, capacity, largest: 0 };
        provider.largest = provider.largest_free();
        provider
    }

    /// Bytes in free blocks, overhead of future blocks included. Exact.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.state.with(|state| state.free)
    }

    /// Cost in bytes of the largest block that would be handed out now, header included.
    ///
    /// It is at most [`free_bytes`](Self::free_bytes), less by fragmentation and by up to 1/16 for
    /// the width of a size class. It is found by trying: at most `log2(free_bytes / GRANULE)`
    /// allocations, each its own short section of the lock and undone in it. While others allocate
    /// or free, the answer may be out of date; alone, it is exact.
    #[must_use]
    pub fn largest_free(&self) -> usize {
        let (mut fits, mut bound) = (0, self.free_bytes() / GRANULE);
        while fits < bound {
            let middle = fits + (bound - fits).div_ceil(2);
            if self.would_fit(middle * GRANULE) {
                fits = middle;
            } else {
                bound = middle - 1;
            }
        }
        fits * GRANULE
    }

    /// Whether a block of `cost` bytes, a positive multiple of the granule, could be had now.
    fn would_fit(&self, cost: usize) -> bool {
        let Ok(layout) = Layout::from_size_align(cost - HEADER, HEADER) else {
            return false;
        };
        self.state.with(|state| match state.index.allocate(layout) {
            // It came from the head of a list and goes back to that head: nothing has changed.
            Some(block) => {
                // SAFETY: `block` was allocated from this index, with this alignment, just now.
                unsafe { state.index.deallocate(block, HEADER) };
                true
            }
            None => false,
        })
    }

    fn plan(&self, request: &Request) -> Result<Plan, ProviderError> {
        check_align(request.align, Self::MAX_ALIGN)?;
        if request.guard > 0 {
            return Err(unsupported("guard", request.guard, 0));
        }
        let overhead = if request.align <= HEADER { HEADER } else { request.align };
        let room = self.largest.saturating_sub(overhead);
        if overhead > self.largest || request.size > room {
            return Err(unsupported("size", request.size, room));
        }
        if request.reserve > room {
            return Err(unsupported("reserve", request.reserve, room));
        }
        let reserved = request.size.max(request.reserve);
        // Neither sum overflows: they are at most `largest`, itself a multiple of the granule.
        let cost = (reserved + overhead).next_multiple_of(GRANULE);
        let layout = Layout::from_size_align(cost - HEADER, HEADER)
            .map_err(|_| unsupported("size", request.size, room))?;
        Ok(Plan { reserved, layout, cost })
    }
}

/// Aligns the bytes of a TLSF block, and leaves its start where [`start_of`] finds it.
///
/// # Safety
/// `start` is a TLSF block of `HEADER + reserved + align` bytes less its header, nobody else's, and
/// `align` is a power of two.
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

/// The TLSF block that `block` lies in.
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

// SAFETY: TLSF hands out each byte once until it is deallocated, and `place` stays in what it
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
        let Plan { reserved, layout, cost } = self.plan(request)?;
        let start = self.state.with(|state| {
            let start = state.index.allocate(layout)?;
            state.free -= cost;
            Some(start)
        });
        let Some(start) = start else {
            return Err(ProviderError::Exhausted { asked: cost, largest: self.largest_free() });
        };
        // SAFETY: TLSF just gave out `cost` bytes at `start` less the header; `cost` is at least
        // `reserved + align` where `align` is above `HEADER`. The `size` bytes at `ptr` are among
        // them and nobody else's.
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
        self.state.with(|state| {
            // SAFETY: `start` was allocated from this index with this alignment, and is live.
            unsafe { state.index.deallocate(start, HEADER) };
            state.free += block.cost;
        });
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
