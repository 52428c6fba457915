//! Blocks from the program's global allocator.
//!
//! The allocator does not say what it takes for a block, so what is charged is the block's size
//! rounded up to [`HeapProvider::GRANULE`], the step in which common allocators serve small sizes.
//! Its own header (8 to 16 bytes with glibc), the width of its size classes and what it loses to
//! alignments above the granule are *not visible* here and not charged; a budget that must be
//! exact to the byte of the machine takes a static region or mapped pages.

use core::alloc::Layout;
use core::ptr::NonNull;

use alloc::alloc::{alloc_zeroed, dealloc};

use super::{Block, Provider, ProviderError, ProviderInfo, ProviderKind, Request};
use super::{check_align, unsupported};

#[cfg(test)]
mod tests;

/// Serves blocks that neither grow nor have guards from the global allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapProvider;

impl HeapProvider {
    /// Sizes are charged in multiples of this many bytes.
    pub const GRANULE: usize = 16;

    /// The largest alignment served, in bytes. Beyond it the bytes an allocator may lose to
    /// alignment, which nobody is charged for, would be more than a page.
    pub const MAX_ALIGN: usize = 4096;

    /// The provider; it has no state.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    fn layout(request: &Request) -> Result<Layout, ProviderError> {
        check_align(request.align, Self::MAX_ALIGN)?;
        if request.guard > 0 {
            return Err(unsupported("guard", request.guard, 0));
        }
        if request.reserve > request.size {
            return Err(unsupported("reserve", request.reserve, request.size));
        }
        // `Layout` wants the size, rounded up to the alignment, to be at most `isize::MAX`.
        let limit = (isize::MAX.unsigned_abs() + 1) - request.align.max(Self::GRANULE);
        request
            .size
            .checked_next_multiple_of(Self::GRANULE)
            .and_then(|cost| Layout::from_size_align(cost, request.align).ok())
            .ok_or(unsupported("size", request.size, limit))
    }
}

// SAFETY: the global allocator hands out bytes that are nobody else's until they are freed, and
// `alloc_zeroed` zeroes them; what does not grow is never moved. No guards are offered.
unsafe impl Provider for HeapProvider {
    fn describe(&self) -> ProviderInfo {
        ProviderInfo {
            kind: ProviderKind::Heap,
            capacity: None,
            granule: Self::GRANULE,
            max_align: Self::MAX_ALIGN,
            grows_in_place: false,
            guards: false,
        }
    }

    fn cost(&self, request: &Request) -> Result<usize, ProviderError> {
        Ok(Self::layout(request)?.size())
    }

    fn allocate(&self, request: &Request) -> Result<Block, ProviderError> {
        let layout = Self::layout(request)?;
        let cost = layout.size();
        let exhausted = ProviderError::Exhausted { asked: cost, largest: 0 };
        #[cfg(any(all(test, feature = "std"), feature = "faults"))]
        if cost > 0 && crate::fault::fails(crate::fault::Call::Heap) {
            return Err(exhausted);
        }
        let ptr = if cost == 0 {
            layout.dangling_ptr()
        } else {
            // SAFETY: the layout's size is not 0.
            NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(exhausted)?
        };
        let Request { size, align, .. } = *request;
        Ok(Block { ptr, size, reserved: size, cost, align, guard: 0, mark: core::ptr::null_mut() })
    }

    fn grown_cost(&self, block: &Block, size: usize) -> Result<usize, ProviderError> {
        if size > block.reserved {
            return Err(ProviderError::PastReserve { asked: size, limit: block.reserved });
        }
        Ok(block.cost)
    }

    unsafe fn grow(&self, block: &mut Block, size: usize) -> Result<(), ProviderError> {
        // What is reserved is the size: there is nothing to do but to refuse.
        self.grown_cost(block, size).map(|_| ())
    }

    unsafe fn free(&self, block: Block) {
        if block.cost == 0 {
            return;
        }
        // SAFETY: `allocate` made the layout of the same two numbers, so it is valid.
        let layout = unsafe { Layout::from_size_align_unchecked(block.cost, block.align) };
        // SAFETY: the caller says the block is live and from here; it was allocated with `layout`.
        unsafe { dealloc(block.ptr.as_ptr(), layout) };
    }
}
