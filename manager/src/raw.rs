//! A block of memory with its Charge: what every allocation is.

use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::NonNull;
use core::{ptr, slice};

use crate::budget::{Charge, CrateId, DenialReason};
use crate::error::{MemoryError, Result};
use crate::handle::ManagerHandle;
use crate::manager::charge;
use crate::provider::{Block, Provider, ProviderError, ProviderKind, Request};
use crate::verification::{Fence, Fresh, Handed, Offer, Release, Standing};

/// Zeroed bytes on a crate's budget. Dropping it frees the bytes, then gives them back to the crate.
#[derive(Debug)]
pub struct RawMemory<'m> {
    manager: ManagerHandle<'m>,
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
        match manager.cost(request) {
            Ok(cost) => {
                let charge = charge(manager.clone(), id, request.size, cost)?;
                Self::allocate_charged(manager, request, charge)
            }
            Err(source) => {
                manager.tracker.resolve(id)?;
                Err(refused(&manager, id, request.size, source))
            }
        }
    }

    /// Allocates what was charged already: `charge` must be what the manager's
    /// [`cost`](crate::UnifiedMemoryManager::cost) says of `request`. Where the first provider has no room and
    /// another one costs something else, the charge is adjusted first.
    ///
    /// # Errors
    /// [`Provider`](MemoryError::Provider), and where an adjustment is denied as
    /// [`allocate`](crate::UnifiedMemoryManager::allocate); the charge is then given back.
    pub fn allocate_charged(
        manager: impl Into<ManagerHandle<'m>>,
        request: &Request,
        charged: Charge<'m>,
    ) -> Result<Self> {
        Self::place(manager.into(), request, charged, None, |_, _, provider, request| {
            provider.allocate(request)
        })
    }

    /// As [`allocate_charged`](Self::allocate_charged), of memory that holds `image` where that is, and zeros elsewhere:
    /// mapped from it where the pooled provider serves, else copied.
    ///
    /// # Errors
    /// As `allocate_charged`; also where the image does not end within the request's size.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub fn allocate_charged_with(
        manager: impl Into<ManagerHandle<'m>>,
        request: &Request,
        charged: Charge<'m>,
        image: &std::sync::Arc<crate::provider::Image>,
    ) -> Result<Self> {
        let manager = manager.into();
        let (id, range) = (charged.crate_id(), image.range());
        if range.end > request.size {
            let source = ProviderError::Unsupported { what: "image", asked: range.end, limit: request.size };
            return Err(refused(&manager, id, request.size, source));
        }
        let mut copy = false;
        let content = Some((range.clone(), image.as_slice()));
        let mut memory =
            Self::place(manager, request, charged, content, |manager, kind, provider, request| {
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
    fn place(
        manager: ManagerHandle<'m>,
        request: &Request,
        mut charged: Charge<'m>,
        image: Option<(Range<usize>, &[u8])>,
        mut allocate: impl FnMut(
            &ManagerHandle<'m>,
            ProviderKind,
            &dyn Provider,
            &Request,
        ) -> core::result::Result<Block, ProviderError>,
    ) -> Result<Self> {
        let id = charged.crate_id();
        let mut refusal = None;
        let mut search = manager.providers.search(request);
        while let Some(selection) = manager.providers.next_candidate(request, &mut search) {
            let Some(provider) = manager.providers.provider(selection.kind) else { continue };
            let fence = manager.verification.fence(selection.kind, request);
            let mut widened = None;
            let wanted = fence.widened(request, &mut widened);
            match provider.cost(wanted) {
                Ok(cost) => charged.resize(cost)?,
                Err(error) => {
                    refusal.get_or_insert(error);
                    continue;
                }
            }
            match allocate(&manager, selection.kind, provider, wanted) {
                Ok(outer) => {
                    let kind = selection.kind;
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
                        manager,
                    });
                }
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
        }
        let source =
            refusal.unwrap_or(ProviderError::Unsupported { what: "size", asked: request.size, limit: 0 });
        Err(refused(&manager, id, request.size, source))
    }

    /// Grows to `size` bytes in place; new bytes are zero. A size that is not larger changes nothing.
    ///
    /// # Errors
    /// As [`allocate`](crate::UnifiedMemoryManager::allocate); also past the request's `reserve`. It is then
    /// as it was.
    pub fn grow(&mut self, size: usize) -> Result<()> {
        let Some((requested, cost)) = self.growth(size)? else { return Ok(()) };
        let id = self.crate_id();
        let mut more = charge(self.manager.clone(), id, requested, cost)?;
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
        let provider = self.manager.providers.provider(self.kind);
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
        self.manager.verification.growing(&self.manager, self.crate_id(), || self.handed())?;
        if size > self.block.reserved {
            let limit = self.block.reserved;
            return Err(self.refused(size, ProviderError::PastReserve { asked: size, limit }));
        }
        let providers = &self.manager.providers;
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
        self.manager.verification.growing(&self.manager, self.crate_id(), handed)?;
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
        let mut memory = ManuallyDrop::new(self);
        // SAFETY: it is not used again, but for its manager.
        let freed = unsafe { memory.release() };
        // SAFETY: dropped once, here; it is all that is left of `memory`.
        unsafe { ptr::drop_in_place(&mut memory.manager) };
        freed.map(|()| bytes)
    }

    /// Frees the block, then gives its bytes back: nobody is granted what is not there yet.
    ///
    /// # Safety
    /// Called once; `self` is not used after it, but for `manager`.
    unsafe fn release(&mut self) -> Result<()> {
        let id = self.crate_id();
        let outer = self.fence.outer(&self.block);
        let verification = &self.manager.verification;
        let Release { free, checked } = verification.before_free(&self.manager, id, &outer, || self.handed());
        if free {
            // SAFETY: the block came from that provider; `self` was its only owner.
            unsafe { self.manager.free(self.kind, outer) };
        }
        // SAFETY: dropped once, by the caller's contract.
        unsafe { ManuallyDrop::drop(&mut self.charge) };
        checked?;
        self.manager.verification.freed(&self.manager, id)?;
        Ok(())
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
        refused(&self.manager, self.crate_id(), asked, source)
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
