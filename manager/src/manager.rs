//! The one way in and the one way out: charge, then allocate; free, then give back.

use crate::budget::{Amount, BudgetTracker, Charge, CrateId, DenialReason, Taken, Units};
use crate::error::{MemoryError, Result};
use crate::provider::{Block, ProviderKind, ProviderSelector, Request, Selection};
use crate::raw::{RawMemory, Search};
use crate::settings::{Builder, CrateSettings};
use crate::snapshot::ProviderUse;
use crate::sync::Ordering;
use crate::verification::VerificationEngine;

/// Memory for guests, each crate's within its own budget, all within one.
///
/// Every operation takes `&self` and may be called from any thread. Sizes are bytes.
///
/// ```
/// use wrt_memory::{CrateSettings, UnifiedMemoryManager};
/// # fn main() -> wrt_memory::Result<()> {
/// let manager = UnifiedMemoryManager::builder().total(1 << 20).build()?;
/// let guest = manager.register("guest", CrateSettings::new().limit(65536))?;
/// let memory = manager.allocate(guest, 65536)?;
/// assert!(manager.allocate(guest, 1).is_err());
/// drop(memory);
/// manager.retire(guest)?;
/// # Ok(())
/// # }
/// ```
pub struct UnifiedMemoryManager {
    pub(crate) tracker: BudgetTracker,
    pub(crate) providers: ProviderSelector,
    pub(crate) verification: VerificationEngine,
}

impl UnifiedMemoryManager {
    /// What a manager is made with.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn assemble(
        tracker: BudgetTracker,
        providers: ProviderSelector,
        verification: VerificationEngine,
    ) -> Self {
        Self { tracker, providers, verification }
    }

    /// Registers a crate: a guest module or component, or a parent of such.
    ///
    /// # Errors
    /// [`InvalidName`](MemoryError::InvalidName), [`TooManyCrates`](MemoryError::TooManyCrates),
    /// [`TooDeep`](MemoryError::TooDeep); a guarantee that
    /// [cannot be kept](MemoryError::GuaranteeUnavailable) or [does not fit](MemoryError::GuaranteeAboveLimit)
    /// a limit; a parent that is unknown, stale or foreign.
    pub fn register(&self, name: &str, settings: CrateSettings) -> Result<CrateId> {
        let guarantee = self.guarantee_units(settings.guarantee)?;
        let limit = self.tracker.scale().down(settings.limit);
        self.tracker.register(name, settings.parent, limit, guarantee)
    }

    /// Retires a crate: its id is stale from then on.
    ///
    /// # Errors
    /// [`InUse`](MemoryError::InUse) while it has bytes in use or crates below it; an id that is
    /// unknown, stale or foreign.
    pub fn retire(&self, id: CrateId) -> Result<()> {
        self.tracker.retire(id)
    }

    /// Sets a crate's limit in bytes. It may be below what is in use: then nothing more is granted
    /// until enough has come back.
    ///
    /// # Errors
    /// [`LimitBelowGuarantee`](MemoryError::LimitBelowGuarantee); an id that is unknown, stale or foreign.
    pub fn set_limit(&self, id: CrateId, limit: usize) -> Result<()> {
        self.tracker.set_limit(id, self.tracker.scale().down(limit))
    }

    /// Sets what a crate is guaranteed, in bytes: an allocation that stays within it never fails for
    /// want of budget. A parent's guarantee is for what its children have not of their own: theirs
    /// come on top.
    ///
    /// # Errors
    /// [`GuaranteeUnavailable`](MemoryError::GuaranteeUnavailable),
    /// [`GuaranteeAboveLimit`](MemoryError::GuaranteeAboveLimit); an id that is unknown, stale or
    /// foreign.
    pub fn set_guarantee(&self, id: CrateId, guarantee: usize) -> Result<()> {
        self.tracker.set_guarantee(id, self.guarantee_units(guarantee)?)
    }

    /// Sets the global budget in bytes. Where more is given out, it shrinks as bytes come back.
    ///
    /// # Errors
    /// [`LimitBelowGuarantee`](MemoryError::LimitBelowGuarantee) below the sum of all guarantees;
    /// [`TooLarge`](MemoryError::TooLarge) above what this manager counts, which its builder's
    /// [`largest_total`](Builder::largest_total) decides.
    pub fn set_total(&self, total: usize) -> Result<()> {
        let scale = self.tracker.scale();
        let units = scale.down(total);
        if total > self.largest_total() && units == Units::LARGEST {
            return Err(MemoryError::TooLarge { asked: total, largest: self.largest_total() });
        }
        self.tracker.set_total(units)
    }

    /// The largest global budget this manager can count, in bytes: nothing larger is ever granted.
    pub fn largest_total(&self) -> usize {
        self.tracker.scale().bytes(Units::LARGEST)
    }

    /// Allocates `size` bytes, zeroed, for a crate. Dropping the result frees them.
    ///
    /// # Errors
    /// [`OverLimit`](MemoryError::OverLimit), [`PoolExhausted`](MemoryError::PoolExhausted),
    /// [`Provider`](MemoryError::Provider); an id that is unknown, stale or foreign.
    pub fn allocate(&self, id: CrateId, size: usize) -> Result<RawMemory<'_>> {
        self.allocate_for(id, &Request::new(size))
    }

    /// As [`allocate`](Self::allocate), with an alignment, room to grow in place, or guards.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn allocate_for(&self, id: CrateId, request: &Request) -> Result<RawMemory<'_>> {
        RawMemory::allocate(self.into(), id, request)
    }

    /// Frees memory and says how many bytes the crate was given back. Dropping it does the same
    /// without a word.
    ///
    /// # Errors
    /// [`Violation`](MemoryError::Violation) where a check of the block failed; it is freed all the same.
    pub fn deallocate(&self, memory: RawMemory<'_>) -> Result<usize> {
        memory.deallocate()
    }

    /// Charges a crate for `cost` bytes that somebody else provides, of which it asked for
    /// `requested`. For adapters of runtimes and for hosts with allocators of their own.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate), without those of providers.
    #[inline(always)]
    pub fn charge(&self, id: CrateId, requested: usize, cost: usize) -> Result<Charge<'_>> {
        let taken = self.take(id, cost)?;
        Ok(Charge::taken(self.into(), taken, requested))
    }

    /// Takes `cost` bytes into use at a crate, for a [`Charge`] of them.
    ///
    /// Inlined with what a crate has idle: a `Charge` that was returned through memory, beside an error of nine times its
    /// size, would be copied before it is there. And without a handle of the manager, which would have to be let go where
    /// it is refused.
    ///
    /// # Errors
    /// As [`charge`](Self::charge).
    #[inline(always)]
    pub(crate) fn take(&self, id: CrateId, cost: usize) -> Result<Taken> {
        let tracker = &self.tracker;
        let Some(units) = tracker.scale().up(cost) else { return Err(tracker.over_limit(id, cost)) };
        #[cfg(any(all(test, feature = "std"), feature = "faults"))]
        if cost > 0 && crate::fault::fails(crate::fault::Call::Charge) {
            return Err(tracker.over_limit(id, cost));
        }
        let slot = match tracker.charge_idle(id, units) {
            Some(slot) => slot,
            None => tracker.charge_elsewhere(id, units, cost)?,
        };
        Ok(Taken::of(slot, id, units))
    }

    /// What a request would be charged, in bytes, by the provider that would be asked first.
    ///
    /// # Errors
    /// As a provider's [`cost`](crate::provider::Provider::cost), without a crate's name.
    pub fn cost(&self, request: &Request) -> core::result::Result<usize, crate::provider::ProviderError> {
        let mut search = Search::of(self, request);
        search.next(self).map(|found| found.cost).ok_or_else(|| search.refusal(self))
    }

    /// Gives memory that idles back, and its bytes to those whose they are, until `bytes` are or there are no more: what the
    /// pooled provider keeps warm, that not used for longest first, and then blocks that crates keep on their slabs
    /// ([`NodeSnapshot::slab`](crate::NodeSnapshot::slab)). Returns how many bytes were given back. Done by itself where a
    /// crate would be denied for want of them.
    pub fn trim(&self, bytes: usize) -> usize {
        let most = self.tracker.scale().down(bytes);
        let trimmed = self.tracker.trim(most);
        let emptied = self.tracker.empty_all(most.above(&trimmed));
        self.tracker.scale().bytes(trimmed.plus_saturating(&emptied))
    }

    /// Has no warm slot keep an image, so that its memory goes with its last owner.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub fn forget(&self, image: &crate::provider::Image) {
        if let Some(pooled) = self.providers.pooled() {
            pooled.forget(image);
        }
    }

    /// Charges the account of the warm slots.
    #[cfg(all(feature = "std", target_os = "linux"))]
    fn lease_warm(&self, bytes: usize) -> bool {
        let account = self.providers.pooled().and_then(crate::provider::PooledProvider::account);
        let (Some(id), Some(units)) = (account, self.tracker.scale().up(bytes)) else { return false };
        // No room is no denial: nobody asked for anything.
        self.tracker.charge(id.index, id.generation, units).map(|credit| credit.absorb()).is_ok()
    }

    /// The providers, for their figures.
    pub fn providers(&self) -> &ProviderSelector {
        &self.providers
    }

    /// The checks that are made, and how many failed.
    pub fn verification(&self) -> &VerificationEngine {
        &self.verification
    }

    fn guarantee_units(&self, guarantee: usize) -> Result<Units> {
        let scale = self.tracker.scale();
        scale.up(guarantee).ok_or(MemoryError::TooLarge { asked: guarantee, largest: self.largest_total() })
    }

    /// Remembers which provider served a crate last, for the snapshot.
    pub(crate) fn note_provider(&self, id: CrateId, selection: Selection) {
        if let Ok(slot) = self.tracker.resolve(id) {
            slot.provider.store(ProviderUse::code(selection), Ordering::Relaxed);
        }
    }

    /// The same of a block that the crate in `slot` kept: the heap's, of a request that is small.
    #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
    #[inline]
    pub(crate) fn note_kept(&self, slot: &crate::budget::Slot) {
        let (kind, reason) = (ProviderKind::Heap, crate::provider::SelectionReason::Small);
        let code = ProviderUse::of(kind, reason);
        if slot.provider.load(Ordering::Relaxed) != code {
            slot.provider.store(code, Ordering::Relaxed);
        }
    }

    /// Whether a crate may keep a block of the heap that it frees: not where blocks are checked.
    #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
    #[inline]
    pub(crate) fn keeps_blocks(&self) -> bool {
        self.verification.level() == crate::VerificationLevel::Off && self.providers.has_own_heap()
    }

    pub(crate) fn note_denial(&self, id: CrateId, reason: DenialReason) {
        if let Ok(slot) = self.tracker.resolve(id) {
            slot.count_denial(reason);
        }
    }

    /// Gives a block back to the provider it came from.
    ///
    /// # Safety
    /// `block` came from the provider of `kind`, is live, and nothing refers to its bytes any more.
    pub(crate) unsafe fn free(&self, kind: ProviderKind, block: Block) {
        #[cfg(all(feature = "std", target_os = "linux"))]
        if kind == ProviderKind::Pooled
            && let Some(pooled) = self.providers.pooled()
        {
            // SAFETY: the caller's contract.
            return unsafe { pooled.give(block, |bytes| self.lease_warm(bytes)) };
        }
        if let Some(provider) = self.providers.provider(kind) {
            // SAFETY: the caller's contract.
            unsafe { provider.free(block) };
        }
    }
}

impl core::fmt::Debug for UnifiedMemoryManager {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UnifiedMemoryManager").field("providers", &self.providers).finish_non_exhaustive()
    }
}
