//! A block of memory with its Charge: what every allocation is.

use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::NonNull;
use core::slice;

use crate::budget::{Charge, CrateId, DenialReason};
#[cfg(all(feature = "alloc", target_pointer_width = "64"))]
use crate::budget::{Class, Taken};
use crate::error::{MemoryError, Result};
use crate::handle::ManagerHandle;
use crate::manager::UnifiedMemoryManager;
use crate::provider::{Block, Candidates, Provider, ProviderError, ProviderKind, Request, Selection};
use crate::verification::{Fence, Fresh, Handed, Offer, Release, Standing};

/// Zeroed bytes on a crate's budget. Dropping it frees the bytes, then gives them back to the crate.
#[derive(Debug)]
pub struct RawMemory<'m> {
    /// As the owner sees it: without what lies around it.
    block: ManuallyDrop<Block>,
    fence: Fence,
    kind: ProviderKind,
    charge: ManuallyDrop<Charge<'m>>,
}

// SAFETY: the bytes are the owner's alone, like a `Box<[u8]>`'s.
unsafe impl Send for RawMemory<'_> {}
// SAFETY: shared access only reads, like a `Box<[u8]>`'s.
unsafe impl Sync for RawMemory<'_> {}

impl<'m> RawMemory<'m> {
    /// Allocates for a crate: charge first, then touch memory.
    pub(crate) fn allocate(manager: ManagerHandle<'m>, id: CrateId, request: &Request) -> Result<Self> {
        let mut search = Search::of(&manager, request);
        match search.next(&manager) {
            Some(found) => {
                let taken = manager.take(id, found.cost)?;
                let charged = Charge::taken(manager, taken, request.size);
                Self::place(search, found, charged, None, |_, _, provider, request| {
                    provider.allocate(request)
                })
            }
            None => {
                manager.tracker.resolve(id)?;
                Err(refused(&manager, id, request.size, search.refusal(&manager)))
            }
        }
    }

    /// Allocates what was charged already: `charged` must be what the manager's
    /// [`cost`](crate::UnifiedMemoryManager::cost) says of `request`. Where the first provider has no room and
    /// another one costs something else, the charge is adjusted first.
    ///
    /// # Errors
    /// [`Provider`](MemoryError::Provider), and where an adjustment is denied as
    /// [`allocate`](crate::UnifiedMemoryManager::allocate); the charge is then given back.
    pub fn allocate_charged(request: &Request, charged: Charge<'m>) -> Result<Self> {
        Self::place_first(request, charged, None, |_, _, provider, request| provider.allocate(request))
    }

    /// As [`allocate_charged`](Self::allocate_charged), of memory that holds `image` where that is, and zeros elsewhere:
    /// mapped from it where the pooled provider serves, else copied.
    ///
    /// # Errors
    /// As `allocate_charged`; also where the image does not end within the request's size.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub fn allocate_charged_with(
        request: &Request,
        charged: Charge<'m>,
        image: &std::sync::Arc<crate::provider::Image>,
    ) -> Result<Self> {
        let (id, range) = (charged.crate_id(), image.range());
        if range.end > request.size {
            let source = ProviderError::Unsupported { what: "image", asked: range.end, limit: request.size };
            return Err(refused(charged.owner(), id, request.size, source));
        }
        let mut copy = false;
        let content = Some((range.clone(), image.as_slice()));
        let mut memory = Self::place_first(request, charged, content, |manager, kind, provider, request| {
            let pooled = manager.providers.pooled().filter(|_| kind == ProviderKind::Pooled);
            copy = pooled.is_none();
            pooled.map_or_else(
                || provider.allocate(request),
                |pooled| pooled.allocate_with(request, Some(image)),
            )
        })?;
        if copy {
            memory.as_mut_slice()[range].copy_from_slice(image.as_slice());
        }
        Ok(memory)
    }

    /// Asks the candidates one after another by `allocate`.
    fn place_first(
        request: &Request,
        charged: Charge<'m>,
        image: Option<(Range<usize>, &[u8])>,
        allocate: impl FnMut(&UnifiedMemoryManager, ProviderKind, &dyn Provider, &Request) -> Made,
    ) -> Result<Self> {
        let mut search = Search::of(charged.owner(), request);
        match search.next(charged.owner()) {
            Some(found) => Self::place(search, found, charged, image, allocate),
            None => {
                let source = search.refusal(charged.owner());
                Err(refused(charged.owner(), charged.crate_id(), request.size, source))
            }
        }
    }

    /// Asks what was found first, and then the others.
    fn place(
        mut search: Search<'_>,
        first: Found,
        mut charged: Charge<'m>,
        image: Option<(Range<usize>, &[u8])>,
        mut allocate: impl FnMut(&UnifiedMemoryManager, ProviderKind, &dyn Provider, &Request) -> Made,
    ) -> Result<Self> {
        let (id, request) = (charged.crate_id(), search.request);
        let mut next = Some(first);
        while let Some(Found { selection, fence, cost }) = next {
            charged.resize(cost)?;
            let (kind, manager) = (selection.kind, charged.owner());
            let mut widened = None;
            let wanted = fence.widened(request, &mut widened);
            // It was there when it was found.
            let Some(provider) = manager.providers.provider(kind) else { break };
            match allocate(manager, kind, provider, wanted) {
                Ok(outer) => {
                    manager.note_provider(id, selection);
                    // Others get a copy of the image, later.
                    let image = image.filter(|_| kind == ProviderKind::Pooled);
                    let offer = Offer { id, kind, fence, request, charged: charged.bytes(), image };
                    let block = manager.hand_out(outer, offer)?;
                    return Ok(Self {
                        block: ManuallyDrop::new(block),
                        fence,
                        kind,
                        charge: ManuallyDrop::new(charged),
                    });
                }
                Err(error) => search.note(error),
            }
            next = search.next(charged.owner());
        }
        let manager = charged.owner();
        Err(refused(manager, id, request.size, search.refusal(manager)))
    }

    /// Takes a block of so many bytes that the crate kept, and zeroes it.
    #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
    #[inline]
    pub(crate) fn take_kept(
        manager: &ManagerHandle<'m>,
        id: CrateId,
        class: Class,
        size: usize,
    ) -> Option<Self> {
        let request = Request::new(size);
        let units = manager.tracker.scale().up(size)?;
        let (ptr, slot) = manager.tracker.take_kept(id, class, units)?;
        manager.note_kept(slot);
        // SAFETY: a block of that many bytes, nobody else's since it was taken.
        unsafe { ptr.write_bytes(0, size) };
        let Request { size, align, .. } = request;
        let mark = core::ptr::null_mut();
        let block = Block { ptr, size, reserved: size, cost: size, align, guard: 0, mark };
        let charge = Charge::taken_again(manager.clone(), Taken::of(slot, id, units));
        Some(Self {
            block: ManuallyDrop::new(block),
            fence: Fence::default(),
            kind: ProviderKind::Heap,
            charge: ManuallyDrop::new(charge),
        })
    }

    /// Has the crate keep the block. `true`: nothing is left of this but its manager, which was dropped.
    ///
    /// # Safety
    /// Where that is so, `self` is not used or dropped any more.
    #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
    #[inline]
    pub(crate) unsafe fn keep(&mut self, class: Class) -> bool {
        let manager = self.charge.owner();
        // What is checked is freed, and so is what is not charged as what it is: not of the heap, or rounded up.
        let plain = self.kind == ProviderKind::Heap
            && self.charge.bytes() == self.block.size
            && manager.keeps_blocks();
        let (index, slot) = (self.crate_id().index, self.charge.slot());
        // SAFETY: the heap's, plain, of the class's size, charged for that, and the caller gives it up.
        if !plain || !unsafe { manager.tracker.keep(index, slot, class, self.block.ptr) } {
            return false;
        }
        // SAFETY: it is not used again, by the caller's contract.
        drop(unsafe { ManuallyDrop::take(&mut self.charge) }.dissolve());
        true
    }

    /// Grows to `size` bytes in place; new bytes are zero. A size that is not larger changes nothing.
    ///
    /// # Errors
    /// As [`allocate`](crate::UnifiedMemoryManager::allocate); also past the request's `reserve`. It is then
    /// as it was.
    pub fn grow(&mut self, size: usize) -> Result<()> {
        let Some((requested, cost)) = self.growth(size)? else { return Ok(()) };
        let id = self.crate_id();
        let taken = self.manager().take(id, cost)?;
        let mut more = Charge::taken(self.manager().clone(), taken, requested);
        self.grow_charged(size, &mut more)
    }

    /// What growing to `size` bytes would be charged: bytes requested and bytes they cost, `None`
    /// where it grows by nothing.
    ///
    /// # Errors
    /// [`Provider`](MemoryError::Provider) past the request's `reserve`.
    pub fn growth(&self, size: usize) -> Result<Option<(usize, usize)>> {
        if size <= self.len() {
            return Ok(None);
        }
        if size > self.block.reserved {
            let limit = self.block.reserved;
            return Err(self.refused(size, ProviderError::PastReserve { asked: size, limit }));
        }
        let provider = self.manager().providers.provider(self.kind);
        let outer = self.fence.outer(&self.block);
        let cost = provider.map_or(Ok(size), |provider| provider.grown_cost(&outer, self.fence.around(size)));
        let cost = cost.map_err(|source| self.refused(size, source))?;
        Ok(Some((size - self.len(), cost.saturating_sub(self.block.cost))))
    }

    /// Grows to `size` bytes that were charged already, as [`growth`](Self::growth) said. What `more` has is the memory's
    /// then, and `more` is of no bytes.
    ///
    /// # Errors
    /// [`Provider`](MemoryError::Provider); [`InvalidConfig`](MemoryError::InvalidConfig) where `more` is not this crate's. Both
    /// are then as they were. [`Violation`](MemoryError::Violation) where a check failed: of the memory as it was, or, with what
    /// `more` had, as it has grown.
    #[inline]
    pub fn grow_charged(&mut self, size: usize, more: &mut Charge<'m>) -> Result<()> {
        if more.crate_id() != self.crate_id() {
            return Err(MemoryError::InvalidConfig {
                what: "memory was to grow on another crate's charge; charge the crate it belongs to",
            });
        }
        let before = self.len();
        // What lies behind it now is taken away.
        self.manager().verification.growing(self.manager(), self.crate_id(), || self.handed())?;
        if size > self.block.reserved {
            let limit = self.block.reserved;
            return Err(self.refused(size, ProviderError::PastReserve { asked: size, limit }));
        }
        let providers = &self.charge.owner().providers;
        let grown = if self.fence.is_none() {
            // SAFETY: the block came from this provider and is live until this is dropped.
            unsafe { providers.grow(self.kind, &mut self.block, size) }
        } else {
            let mut outer = self.fence.outer(&self.block);
            // SAFETY: the block is this memory's alone.
            unsafe { self.fence.open(&self.block) };
            // SAFETY: as above.
            let grown = unsafe { providers.grow(self.kind, &mut outer, self.fence.around(size)) };
            *self.block = self.fence.inner(&outer);
            // SAFETY: as above.
            unsafe { self.fence.close(&self.block) };
            grown
        };
        if let Err(source) = grown {
            return Err(self.refused(size, source));
        }
        self.charge.absorb(more);
        let fresh = Fresh { range: before..self.len(), image: None };
        let handed = || Handed { fresh: Some(fresh), ..self.handed() };
        self.manager().verification.growing(self.manager(), self.crate_id(), handed)?;
        Ok(())
    }

    /// What is checked of it.
    pub(crate) fn handed(&self) -> Handed<'_> {
        Handed {
            request: None,
            block: &self.block,
            kind: self.kind,
            fence: self.fence,
            charged: self.charge.bytes(),
            fresh: None,
            standing: Standing::Sound,
        }
    }

    /// Frees it, and says how many bytes the crate was given back.
    ///
    /// # Errors
    /// As [`deallocate`](crate::UnifiedMemoryManager::deallocate).
    pub fn deallocate(self) -> Result<usize> {
        let bytes = self.charge.bytes();
        // SAFETY: it is not used again.
        unsafe { ManuallyDrop::new(self).release() }.map(|()| bytes)
    }

    /// Frees the block, then gives its bytes back: nobody is granted what is not there yet.
    ///
    /// # Safety
    /// Called once; `self` is not used after it.
    unsafe fn release(&mut self) -> Result<()> {
        let (id, manager) = (self.crate_id(), self.manager());
        let outer = self.fence.outer(&self.block);
        let Release { free, checked } =
            manager.verification.before_free(manager, id, &outer, || self.handed());
        if free {
            // SAFETY: the block came from that provider; `self` was its only owner.
            unsafe { manager.free(self.kind, outer) };
        }
        // SAFETY: taken once, by the caller's contract.
        let manager = unsafe { ManuallyDrop::take(&mut self.charge) }.end();
        checked?;
        manager.verification.freed(&manager, id)?;
        Ok(())
    }

    #[inline]
    fn manager(&self) -> &ManagerHandle<'m> {
        self.charge.owner()
    }

    /// Whose it is.
    pub fn crate_id(&self) -> CrateId {
        self.charge.crate_id()
    }

    /// What it is charged.
    pub fn charge(&self) -> &Charge<'m> {
        &self.charge
    }

    /// Which provider it came from.
    pub fn provider(&self) -> ProviderKind {
        self.kind
    }

    /// Usable bytes.
    pub fn len(&self) -> usize {
        self.block.size
    }

    /// Whether there are no usable bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it can grow to in place.
    pub fn reserved(&self) -> usize {
        self.block.reserved
    }

    /// The first byte; valid for [`len`](Self::len) bytes until this is dropped.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.block.ptr
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: a live block is `size` readable bytes that are initialised (zero, or written
        // since), and `&self` keeps them from being written or freed.
        unsafe { slice::from_raw_parts(self.block.ptr.as_ptr(), self.block.size) }
    }

    /// The bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.block.ptr.as_ptr(), self.block.size) }
    }

    fn refused(&self, asked: usize, source: ProviderError) -> MemoryError {
        refused(self.manager(), self.crate_id(), asked, source)
    }
}

type Made = core::result::Result<Block, ProviderError>;

/// A provider that serves a request, what is to be laid around the block there, and what that costs.
pub(crate) struct Found {
    selection: Selection,
    fence: Fence,
    pub(crate) cost: usize,
}

/// The providers that serve a request, one by one.
pub(crate) struct Search<'r> {
    request: &'r Request,
    candidates: Candidates,
    /// Why the first that did not serve it did not.
    refusal: Option<ProviderError>,
}

impl<'r> Search<'r> {
    pub(crate) fn of(manager: &UnifiedMemoryManager, request: &'r Request) -> Self {
        Self { request, candidates: manager.providers.search(request), refusal: None }
    }

    /// The next one.
    pub(crate) fn next(&mut self, manager: &UnifiedMemoryManager) -> Option<Found> {
        while let Some((selection, cost)) =
            manager.providers.next_candidate(self.request, &mut self.candidates)
        {
            let fence = manager.verification.fence(selection.kind, self.request);
            let mut widened = None;
            let wanted = fence.widened(self.request, &mut widened);
            if core::ptr::eq(wanted, self.request) {
                return Some(Found { selection, fence, cost });
            }
            match manager.providers.provider(selection.kind).map(|provider| provider.cost(wanted)) {
                Some(Ok(cost)) => return Some(Found { selection, fence, cost }),
                Some(Err(error)) => self.note(error),
                None => {}
            }
        }
        None
    }

    fn note(&mut self, error: ProviderError) {
        self.refusal.get_or_insert(error);
    }

    /// Why none of them does.
    pub(crate) fn refusal(&self, manager: &UnifiedMemoryManager) -> ProviderError {
        self.refusal.unwrap_or_else(|| manager.providers.best_refusal(self.request))
    }
}

fn refused(manager: &ManagerHandle<'_>, id: CrateId, asked: usize, source: ProviderError) -> MemoryError {
    manager.note_denial(id, DenialReason::Provider);
    MemoryError::Provider { id, name: manager.tracker.name_of(id.index), asked, source }
}

impl Drop for RawMemory<'_> {
    fn drop(&mut self) {
        // A violation here is counted; there is nobody to return it to.
        // SAFETY: this is the last use of `self`.
        let _ = unsafe { self.release() };
    }
}
