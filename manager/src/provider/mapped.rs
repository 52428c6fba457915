//! Blocks of pages from the operating system, for what is large, grows in place or needs guards.
//!
//! A block is one reservation of addresses, of which only the first pages are usable:
//!
//! ```text
//!  | guard | size, to a page: read-write, zero | to reserved: faults | guard |
//!          ^ ptr                               ^ ptr + cost          ^ ptr + reserved
//! ```
//!
//! It costs `size` rounded up to the host's page: addresses are free, as the system backs only
//! pages that were touched, and only those before `cost` can be. That is what a runtime with
//! guard pages relies on for its bounds checks, so each `grow` opens exactly the new pages.
//!
//! A block takes one `mmap`, one `mprotect` (none at size 0) and one `munmap`.

use core::num::NonZeroUsize;
use core::ptr::NonNull;

use super::{Block, Provider, ProviderError, ProviderInfo, ProviderKind, Request, os};
use super::{check_align, unsupported};

// They reserve more than 32 bits can address.
#[cfg(all(test, target_pointer_width = "64"))]
mod tests;

/// The most address space one block may take: what a pointer offset can span.
const LONGEST: usize = isize::MAX.unsigned_abs();

/// Serves blocks of whole pages, which may grow in place and may have guards.
#[derive(Clone, Copy, Debug)]
pub struct MappedProvider {
    page: usize,
}

/// The reservation a request turns into. Bytes, all multiples of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    guard: usize,
    committed: usize,
    reserved: usize,
    /// `reserved` and both guards.
    total: usize,
}

impl Span {
    fn of(request: &Request, page: usize) -> Result<Self, ProviderError> {
        let longest = LONGEST & !(page - 1);
        let guards = request
            .guard
            .checked_next_multiple_of(page)
            .and_then(|guard| Some((guard, guard.checked_mul(2)?)))
            .filter(|(_, both)| *both <= longest);
        let Some((guard, guards)) = guards else {
            return Err(unsupported("guard", request.guard, (longest / 2) & !(page - 1)));
        };
        let limit = longest - guards;
        if request.size > limit {
            return Err(unsupported("size", request.size, limit));
        }
        if request.reserve > limit {
            return Err(unsupported("reserve", request.reserve, limit));
        }
        // `limit` is a multiple of the page, so what is within it stays so when rounded up.
        let committed = request.size.next_multiple_of(page);
        let reserved = request.size.max(request.reserve).next_multiple_of(page);
        Ok(Self { guard, committed, reserved, total: reserved + guards })
    }
}

impl MappedProvider {
    /// The provider, with the host's page size; it has no other state.
    #[must_use]
    pub fn new() -> Self {
        Self { page: os::page_size() }
    }

    fn span(&self, request: &Request) -> Result<Span, ProviderError> {
        check_align(request.align, self.page)?;
        Span::of(request, self.page)
    }
}

impl Default for MappedProvider {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: a reservation is addresses that nothing else has until it is released, once, in `free`.
// Only `size` rounded up to the page is ever committed, at first by `allocate`, the rest by
// `grow`, and pages never used before are zero.
unsafe impl Provider for MappedProvider {
    fn describe(&self) -> ProviderInfo {
        ProviderInfo {
            kind: ProviderKind::Mapped,
            capacity: None,
            granule: self.page,
            max_align: self.page,
            grows_in_place: true,
            guards: true,
        }
    }

    fn cost(&self, request: &Request) -> Result<usize, ProviderError> {
        Ok(self.span(request)?.committed)
    }

    fn allocate(&self, request: &Request) -> Result<Block, ProviderError> {
        let Span { guard, committed, reserved, total } = self.span(request)?;
        let Request { size, align, .. } = *request;
        if total == 0 {
            // The alignment is a power of two, so not 0.
            let ptr = NonNull::without_provenance(NonZeroUsize::new(align).unwrap_or(NonZeroUsize::MIN));
            return Ok(Block { ptr, size, reserved, cost: 0, align, guard, mark: core::ptr::null_mut() });
        }
        let exhausted = ProviderError::Exhausted { asked: committed, largest: 0 };
        let start = os::reserve(total).map_err(|os::Refused| exhausted)?;
        // SAFETY: `guard` is at most `total`, the length of the reservation.
        let ptr = unsafe { start.add(guard) };
        // SAFETY: the pages lie in the reservation, which is fresh.
        if committed > 0 && unsafe { os::commit(ptr, committed) }.is_err() {
            // SAFETY: the reservation is whole and nobody knows of it yet. If it is refused, only
            // addresses are lost: nothing was committed.
            let _ = unsafe { os::release(start, total) };
            return Err(exhausted);
        }
        Ok(Block { ptr, size, reserved, cost: committed, align, guard, mark: core::ptr::null_mut() })
    }

    fn grown_cost(&self, block: &Block, size: usize) -> Result<usize, ProviderError> {
        if size > block.reserved {
            return Err(ProviderError::PastReserve { asked: size, limit: block.reserved });
        }
        // `reserved` is a multiple of the page.
        Ok(size.next_multiple_of(self.page).max(block.cost))
    }

    unsafe fn grow(&self, block: &mut Block, size: usize) -> Result<(), ProviderError> {
        let cost = self.grown_cost(block, size)?;
        let more = cost - block.cost;
        if more > 0 {
            // SAFETY: the block's first `cost` pages are committed and the next, up to `reserved`,
            // are in its reservation and never were.
            unsafe { os::commit(block.ptr.add(block.cost), more) }
                .map_err(|os::Refused| ProviderError::Exhausted { asked: more, largest: 0 })?;
        }
        block.cost = cost;
        block.size = block.size.max(size);
        Ok(())
    }

    unsafe fn free(&self, block: Block) {
        let total = block.reserved + 2 * block.guard;
        if total == 0 {
            return;
        }
        // SAFETY: the reservation starts `guard` bytes before the block's first byte.
        let start = unsafe { block.ptr.sub(block.guard) };
        // SAFETY: the caller says that the block is live and nothing refers to it any more, and
        // `start` and `total` are what `allocate` reserved.
        if unsafe { os::release(start, total) }.is_err() && block.cost > 0 {
            // Linux merges neighbouring reservations, and refuses to cut one out when a process
            // has as many mappings as it may. The addresses are lost then, but not the memory:
            // the crate is uncharged for it, so it has to go.
            // SAFETY: the pages are in the reservation, and nothing refers to them any more.
            unsafe { os::discard(block.ptr, block.cost) };
        }
    }
}
