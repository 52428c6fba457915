//! What an allocation holds of a budget.

use core::mem;
use core::ptr::NonNull;

use super::amount::{Amount, Units};
use super::id::CrateId;
use super::slot::{Index, ROOT, Slot};
use super::tracker::BudgetTracker;
use crate::error::Result;
use crate::handle::ManagerHandle;
use crate::sync::Ordering;

/// Where the slot of a charged crate is: found when it is charged, and not again.
#[derive(Clone, Copy)]
struct Place(NonNull<Slot>);

// SAFETY: a slot is shared between threads as it is.
unsafe impl Send for Place {}
// SAFETY: the same.
unsafe impl Sync for Place {}

impl Place {
    #[inline]
    fn of(slot: &Slot) -> Self {
        Self(NonNull::from(slot))
    }
}

/// Bytes of a crate's budget in use. Dropping it is what gives them back; nothing else is.
///
/// Whoever holds bytes on behalf of a crate holds a `Charge` beside them, and drops it after
/// them.
#[must_use = "dropping a charge gives the bytes back"]
pub struct Charge<'m> {
    owner: ManagerHandle<'m>,
    slot: Place,
    /// By its full id: a charge of no bytes does not keep its crate in the slot.
    id: CrateId,
    units: Units,
    /// Bytes that were asked for.
    requested: usize,
    /// Bytes charged above those, as they are counted at the crate: rounding and headers.
    overhead: usize,
}

/// What a transition has just taken into use: it stays so until it is a [`Charge`].
#[must_use = "nothing else gives it back"]
pub(crate) struct Taken {
    slot: Place,
    id: CrateId,
    units: Units,
}

impl Taken {
    /// `units` of the crate `id`, which is in `slot`.
    #[inline]
    pub(crate) fn of(slot: &Slot, id: CrateId, units: Units) -> Self {
        Self { slot: Place::of(slot), id, units }
    }
}

impl<'m> Charge<'m> {
    /// Of what was taken of `owner`'s for `requested` bytes.
    #[inline(always)]
    pub(crate) fn taken(owner: ManagerHandle<'m>, taken: Taken, requested: usize) -> Self {
        let Taken { slot, id, units } = taken;
        let overhead = overhead(owner.tracker(), units, requested);
        count_overhead(slot, id, 0, overhead);
        Self { owner, slot, id, units, requested, overhead }
    }

    /// Of what a crate kept and has taken again.
    #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
    #[inline]
    pub(crate) fn taken_again(owner: ManagerHandle<'m>, taken: Taken) -> Self {
        let Taken { slot, id, units } = taken;
        let requested = owner.tracker().scale().bytes(units);
        Self { owner, slot, id, units, requested, overhead: 0 }
    }

    /// Whose it is.
    #[inline]
    pub(crate) fn owner(&self) -> &ManagerHandle<'m> {
        &self.owner
    }

    /// Where its crate is.
    #[inline]
    pub(crate) fn slot(&self) -> &Slot {
        // SAFETY: slots are not moved, nor freed before their manager, which `owner` keeps.
        unsafe { self.slot.0.as_ref() }
    }

    /// Gives the bytes back, as dropping it does, and keeps the manager.
    pub(crate) fn end(self) -> ManagerHandle<'m> {
        self.give_back();
        self.dissolve().0
    }

    #[inline(always)]
    fn give_back(&self) {
        count_overhead(self.slot, self.id, self.overhead, 0);
        self.owner.tracker().uncharge(self.id.index, self.slot(), self.units);
    }

    /// The crate that is charged.
    pub fn crate_id(&self) -> CrateId {
        self.id
    }

    /// Bytes charged.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.owner.tracker().scale().bytes(self.units)
    }

    /// Bytes that were asked for, at most [`bytes`](Self::bytes) unless they are shared out by [`split`](Self::split).
    pub fn requested(&self) -> usize {
        self.requested
    }

    /// Splits off a charge of exactly `bytes`, of which `requested` were asked for. `None`, and no
    /// change, where it has not that much or the manager does not count in units that small.
    pub fn split(&mut self, bytes: usize, requested: usize) -> Option<Charge<'m>> {
        let scale = self.owner.tracker().scale();
        let units = scale.up(bytes).filter(|&units| scale.bytes(units) == bytes)?;
        let rest = self.units.minus(&units)?;
        let rest_requested = self.requested.checked_sub(requested)?;
        let mut part = Self { owner: self.owner.clone(), units, requested, overhead: 0, ..*self };
        self.units = rest;
        self.requested = rest_requested;
        self.recount_overhead();
        part.recount_overhead();
        Some(part)
    }

    /// Charges the crate for `cost` bytes more, of which `requested` were asked for, on this charge: less work than to
    /// [merge](Self::merge) a new one.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::charge`](crate::UnifiedMemoryManager::charge); it is then as it was.
    #[inline]
    pub fn extend(&mut self, requested: usize, cost: usize) -> Result<()> {
        let tracker = self.owner.tracker();
        let id = self.id;
        let more = tracker.scale().up(cost);
        let Some((more, units)) = more.and_then(|more| Some((more, self.units.plus(&more)?))) else {
            return Err(tracker.over_limit(id, cost));
        };
        #[cfg(any(all(test, feature = "std"), feature = "faults"))]
        if crate::fault::fails(crate::fault::Call::Charge) {
            return Err(tracker.over_limit(id, cost));
        }
        if tracker.charge_idle(id, more).is_none() {
            tracker.charge_elsewhere(id, more, cost)?;
        }
        self.units = units;
        self.requested = self.requested.saturating_add(requested);
        self.recount_overhead();
        Ok(())
    }

    /// Adds another charge of the same crate to this one.
    ///
    /// # Errors
    /// Gives `other` back where it is another crate's, or another manager's.
    pub fn merge(&mut self, mut other: Charge<'m>) -> core::result::Result<(), Charge<'m>> {
        // Of no bytes then, it gives nothing back when it is dropped.
        if self.absorb(&mut other) { Ok(()) } else { Err(other) }
    }

    /// Takes over what another charge of the same crate has, which is of no bytes then. Returns whether it did: not where
    /// `other` is another crate's, or another manager's.
    #[inline(always)]
    pub fn absorb(&mut self, other: &mut Charge<'m>) -> bool {
        let same = self.id == other.id && core::ptr::eq(self.owner.tracker(), other.owner.tracker());
        let Some(units) = self.units.plus(&other.units).filter(|_| same) else {
            return false;
        };
        self.units = units;
        self.requested = self.requested.saturating_add(other.requested);
        // Counted already, by the other.
        self.overhead += mem::take(&mut other.overhead);
        other.units = Units::ZERO;
        other.requested = 0;
        self.recount_overhead();
        true
    }

    /// Ends the charge and keeps the bytes in use, until [`attach`](Self::attach) takes them up again.
    #[cfg(feature = "alloc")]
    pub(crate) fn detach(self) {
        drop(self.dissolve());
    }

    /// Takes up what a charge of `cost` bytes, `requested` of them asked for, left in use when it was
    /// [detached](Self::detach).
    #[cfg(feature = "alloc")]
    pub(crate) fn attach(owner: ManagerHandle<'m>, id: CrateId, requested: usize, cost: usize) -> Self {
        let units = owner.tracker().scale().up(cost).unwrap_or(Units::ZERO);
        let slot = Place::of(owner.tracker().slot(id.index));
        let overhead = overhead(owner.tracker(), units, requested);
        Self { owner, slot, id, units, requested, overhead }
    }

    /// Makes it a charge of `cost` bytes, charging or giving back the difference.
    pub(crate) fn resize(&mut self, cost: usize) -> Result<()> {
        if cost == self.bytes() {
            return Ok(());
        }
        let tracker = self.owner.tracker();
        let id = self.id;
        let Some(units) = tracker.scale().up(cost) else {
            return Err(tracker.over_limit(id, cost));
        };
        let less = self.units.above(&units);
        if less.is_zero() {
            let more = units.above(&self.units);
            #[cfg(any(all(test, feature = "std"), feature = "faults"))]
            if crate::fault::fails(crate::fault::Call::Charge) {
                return Err(tracker.over_limit(id, cost));
            }
            tracker.charge_crate(id, more, tracker.scale().bytes(more))?.absorb();
        }
        self.units = units;
        self.recount_overhead();
        let tracker = self.owner.tracker();
        // Last, as it may run a stranger's code, which may panic: the bytes are not this charge's any more.
        tracker.uncharge(id.index, tracker.slot(id.index), less);
        Ok(())
    }

    /// Ends the charge without giving anything back: the caller answers for the units.
    pub(crate) fn dissolve(self) -> (ManagerHandle<'m>, Units) {
        let charge = mem::ManuallyDrop::new(self);
        // SAFETY: `owner` is read once, and `charge` is never dropped or used again.
        let owner = unsafe { core::ptr::read(&charge.owner) };
        (owner, charge.units)
    }

    /// After a change of its bytes, or of those that were asked for.
    #[inline(always)]
    fn recount_overhead(&mut self) {
        let overhead = overhead(self.owner.tracker(), self.units, self.requested);
        count_overhead(self.slot, self.id, self.overhead, overhead);
        self.overhead = overhead;
    }
}

#[inline]
fn overhead(tracker: &BudgetTracker, units: Units, requested: usize) -> usize {
    tracker.scale().bytes(units).saturating_sub(requested)
}

/// It is kept beside the word, and touched only where there is any.
#[inline(always)]
fn count_overhead(slot: Place, id: CrateId, before: usize, after: usize) {
    if before != after {
        change_overhead(slot, id.index, before, after);
    }
}

#[cold]
#[inline(never)]
fn change_overhead(slot: Place, index: Index, before: usize, after: usize) {
    if index == ROOT {
        return;
    }
    // SAFETY: as for `Charge::slot`, of a charge that has, or had a moment ago, what is counted.
    let counter = unsafe { &slot.0.as_ref().overhead };
    if after > before {
        counter.fetch_add(after - before, Ordering::Relaxed);
    } else {
        counter.fetch_sub(before - after, Ordering::Relaxed);
    }
}

impl Drop for Charge<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.give_back();
    }
}

impl core::fmt::Debug for Charge<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Charge")
            .field("crate_id", &self.crate_id())
            .field("bytes", &self.bytes())
            .field("requested", &self.requested)
            .finish()
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests;
