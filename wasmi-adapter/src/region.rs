//! Where a guest's linear memories are, and how large a region each one gets.

use alloc::vec::Vec;
use core::slice;

use wrt_memory::provider::{ProviderKind, Request, StaticRegionProvider};
use wrt_memory::{CrateHandle, CrateId, MemoryError, RawMemory, UnifiedMemoryManager, VerificationLevel};

use crate::heap::for_the_host;
use crate::reserve::{Reserve, Room};

/// Bytes for one linear memory: as many as it can ever have, all of them charged.
pub(crate) struct Region {
    bytes: Bytes,
    len: usize,
}

/// The bytes that a region is in.
enum Bytes {
    /// From the manager's providers, on the crate's budget.
    Manager(RawMemory<'static>),
    /// A [`Reserve`]'s room, which is on the crate's budget already.
    Reserve(Room),
}

impl Bytes {
    fn memory(&self) -> &RawMemory<'static> {
        match self {
            Self::Manager(memory) => memory,
            Self::Reserve(room) => room.memory(),
        }
    }
}

impl Region {
    /// Takes `size` bytes from the manager.
    ///
    /// From a static region they come as whoever had them before left them: wasmi zeroes what a memory begins with and what
    /// it grows by, and nobody sees the rest. Not where there are canaries: one would lie where a block's size ends, at the
    /// first byte of what is only reserved.
    pub(crate) fn take(handle: &CrateHandle<'static>, size: usize) -> Result<Self, MemoryError> {
        // Where the provider is the program's heap, the guest is not to pay twice.
        let memory = for_the_host(|| Self::allocate(handle, size))?;
        Ok(Self { bytes: Bytes::Manager(memory), len: size })
    }

    fn allocate(handle: &CrateHandle<'static>, size: usize) -> Result<RawMemory<'static>, MemoryError> {
        let request = Request { reserve: size, ..Request::new(0) };
        let manager = handle.manager();
        if manager.verification().level() < VerificationLevel::Standard
            && let Ok(first) = manager.providers().select(&request)
            && first.kind == ProviderKind::StaticRegion
            && let Ok(cost) = manager.cost(&request)
        {
            let charge = handle.charge(size, cost)?;
            let memory = RawMemory::allocate_charged(&request, charge)?;
            // Pages that were not asked for are not there.
            if memory.provider() == ProviderKind::StaticRegion {
                return Ok(memory);
            }
        }
        handle.allocate_for(&Request::new(size))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All bytes, for a memory that is not used any more when this is dropped.
    ///
    /// # Safety
    /// Called once, and nothing uses the result when `self` has been dropped: it is not really 'static.
    pub(crate) unsafe fn bytes(&mut self) -> &'static mut [u8] {
        let memory = self.bytes.memory();
        debug_assert!(self.len <= memory.reserved());
        // SAFETY: `len` is at most what the block has, or, in a static region, what it has reserved: bytes of the
        // caller's slice, so initialised, which are this block's alone. A room is whose `taken` it set. The caller
        // sees to the rest.
        unsafe { slice::from_raw_parts_mut(memory.as_ptr().as_ptr(), self.len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Bytes::Reserve(room) = &self.bytes {
            room.leave();
        }
    }
}

/// Bytes of the largest block a static region could hand out now, without its header.
fn usable(region: &StaticRegionProvider) -> usize {
    region.largest_free().saturating_sub(StaticRegionProvider::GRANULE / 2)
}

impl Region {
    /// The smallest free room of a reserve that a memory's minimum fits into, as much of it as the memory may have.
    pub(crate) fn take_reserved(reserve: &Reserve, id: CrateId, wanted: &Wanted) -> Option<Self> {
        let room = reserve.take_memory(id, wanted.minimum)?;
        let more = room.memory().len().min(wanted.maximum) - wanted.minimum;
        Some(Self { bytes: Bytes::Reserve(room), len: wanted.minimum + more - more % wanted.page })
    }
}

/// What one memory is declared to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Bytes it starts with.
    pub(crate) minimum: usize,
    /// Bytes it may grow to.
    pub(crate) maximum: usize,
    /// Bytes of a page.
    pub(crate) page: usize,
}

/// Divides `available` bytes among memories: to each its minimum, and of what is left to each, in equal
/// parts and whole pages, as much as it may grow to. `None` where the minima do not fit.
pub(crate) fn divide(available: usize, wanted: &[Wanted]) -> Option<Vec<usize>> {
    let minima = wanted.iter().try_fold(0usize, |sum, memory| sum.checked_add(memory.minimum))?;
    let mut left = available.checked_sub(minima)?;
    let mut open = wanted.len();
    let mut sizes: Vec<usize> = wanted.iter().map(|memory| memory.minimum).collect();
    // Whoever wants least is served first, so that what it does not want is left to the others.
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&at| wanted[at].maximum.saturating_sub(wanted[at].minimum));
    for &at in &order {
        let Wanted { minimum, maximum, page } = wanted[at];
        let share = (left / open).min(maximum.saturating_sub(minimum));
        let share = share - share % page;
        sizes[at] += share;
        left -= share;
        open -= 1;
    }
    // What was less than a page of one may be a page of another, or one of several parts.
    for at in order {
        let more = left.min(wanted[at].maximum.saturating_sub(sizes[at]));
        let more = more - more % wanted[at].page;
        sizes[at] += more;
        left -= more;
    }
    Some(sizes)
}

/// Bytes that the regions of a crate's new memories may have together.
pub(crate) fn available(handle: &CrateHandle<'static>) -> usize {
    let manager = handle.manager();
    let budget = budget(manager, handle.id());
    match manager.providers().region() {
        Some(region) if manager.providers().provider(ProviderKind::Mapped).is_none() => {
            budget.min(usable(region))
        }
        _ => budget,
    }
}

/// Bytes that a crate could still be charged, as far as can be told without charging it.
pub(crate) fn budget(manager: &UnifiedMemoryManager, id: CrateId) -> usize {
    let Ok(node) = manager.node(id) else { return 0 };
    let above = match node.parent {
        Some(parent) => budget(manager, parent),
        None => {
            let pool = manager.pool();
            pool.limit.saturating_sub(pool.used)
        }
    };
    let own = node.limit.saturating_sub(node.used);
    own.min(node.held.saturating_sub(node.used).saturating_add(above))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: usize = 65536;

    fn wanted(minimum: usize, maximum: usize) -> Wanted {
        Wanted { minimum: minimum * PAGE, maximum: maximum * PAGE, page: PAGE }
    }

    #[test]
    fn the_minima_come_first() {
        assert_eq!(divide(3 * PAGE, &[wanted(1, 9), wanted(2, 9)]), Some([PAGE, 2 * PAGE].into()));
        assert_eq!(divide(3 * PAGE - 1, &[wanted(1, 9), wanted(2, 9)]), None);
        assert_eq!(divide(usize::MAX, &[wanted(usize::MAX / PAGE, 0), wanted(2, 2)]), None);
    }

    #[test]
    fn what_one_does_not_want_the_others_get() {
        assert_eq!(divide(9 * PAGE, &[wanted(1, 99), wanted(1, 2)]), Some([7 * PAGE, 2 * PAGE].into()));
    }

    #[test]
    fn a_page_is_not_divided_and_a_byte_is_a_page_too() {
        let bytes = Wanted { minimum: 1, maximum: 5000, page: 1 };
        assert_eq!(divide(PAGE + 100, &[wanted(1, 2), bytes]), Some([PAGE, 100].into()));
    }

    proptest! {
        #[test]
        fn nobody_gets_less_than_the_minimum_more_than_the_maximum_or_all_together_more_than_there_is(
            available in 0usize..1 << 24,
            memories in proptest::collection::vec((0usize..40, 0usize..80, any::<bool>()), 0..6),
        ) {
            let wanted: Vec<Wanted> = memories
                .iter()
                .map(|&(min, more, small)| {
                    let page = if small { 1 } else { PAGE };
                    Wanted { minimum: min * page, maximum: (min + more) * page, page }
                })
                .collect();
            let minima: usize = wanted.iter().map(|memory| memory.minimum).sum();
            match divide(available, &wanted) {
                None => prop_assert!(minima > available),
                Some(sizes) => {
                    prop_assert!(sizes.iter().sum::<usize>() <= available);
                    let mut all = true;
                    for (size, memory) in sizes.iter().zip(&wanted) {
                        prop_assert!((memory.minimum..=memory.maximum).contains(size));
                        prop_assert_eq!((size - memory.minimum) % memory.page, 0);
                        all &= *size == memory.maximum;
                    }
                    // Nobody is refused what nobody else got.
                    let left = available - sizes.iter().sum::<usize>();
                    prop_assert!(all || left < PAGE);
                }
            }
        }
    }
}
