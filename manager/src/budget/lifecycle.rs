//! What a host does with budgets: register, set limits and guarantees, retire. All of it may run
//! beside charges from other threads.

use super::amount::{Amount, Units};
use super::id::CrateId;
use super::name::CrateName;
use super::pin::Pinned;
use super::slot::{DenialReason, Index, ROOT, Slot};
use super::state::State;
use super::terms::Unclosed;
use super::tracker::{BudgetTracker, Shortage};
use super::transition::Refusal;
use super::word::version_of;
use crate::error::{MemoryError, Result};
use crate::sync::{Ordering, give_way};
use crate::verification::Operation;

/// Levels of nodes below the root. Bounds the work of every walk up the tree.
pub(crate) const MAX_DEPTH: u8 = 8;

/// Times that the end of a crate gives way to who gives back what the crate kept.
const LOOKS: usize = if cfg!(loom) { 2 } else { 1000 };

/// The name errors and snapshots give the root.
pub(crate) const ROOT_NAME: &str = "pool";

/// A crate's slot, which stays that crate's until this is dropped.
pub(super) struct PinnedSlot<'t> {
    tracker: &'t BudgetTracker,
    index: Index,
    slot: &'t Slot,
}

impl core::ops::Deref for PinnedSlot<'_> {
    type Target = Slot;
    fn deref(&self) -> &Slot {
        self.slot
    }
}

impl Drop for PinnedSlot<'_> {
    fn drop(&mut self) {
        if self.slot.pins.unpin() {
            self.tracker.registry.put(&self.tracker.slots, self.index);
        }
    }
}

impl BudgetTracker {
    /// Keeps whatever crate is at `index` there. `None` where there is none.
    pub(super) fn pin(&self, index: Index) -> Option<PinnedSlot<'_>> {
        let slot = self.slots.get(index)?;
        match slot.pins.pin() {
            Pinned::Held => Some(PinnedSlot { tracker: self, index, slot }),
            Pinned::Refused => None,
            Pinned::FreedNow => {
                self.registry.put(&self.slots, index);
                None
            }
        }
    }

    /// Whether an id was made by this tracker, be it stale or not.
    #[cfg(feature = "std")]
    pub(crate) fn made(&self, id: CrateId) -> bool {
        id.tag == self.tag
    }

    /// The slot of a crate that has not been retired, be it closed or not.
    #[inline]
    pub(crate) fn resolve(&self, id: CrateId) -> Result<&Slot> {
        if id.tag != self.tag {
            return Err(MemoryError::ForeignCrate { id });
        }
        let Some(slot) = self.slots.get(id.index) else {
            return Err(MemoryError::UnknownCrate { id });
        };
        if slot.generation() != id.generation {
            return Err(MemoryError::StaleCrate { id });
        }
        Ok(slot)
    }

    /// The slot of a crate that may be charged.
    #[inline]
    pub(super) fn admitted(&self, id: CrateId) -> Option<&Slot> {
        let slot = self.slots.get(id.index).filter(|_| id.tag == self.tag)?;
        // One that was closed has another.
        (slot.generation.load(Ordering::SeqCst) == id.generation).then_some(slot)
    }

    /// Says why a crate may not be charged, where it may not.
    #[inline]
    pub(crate) fn admit(&self, id: CrateId) -> Result<()> {
        if self.admitted(id).is_some() { Ok(()) } else { Err(self.gone(id)) }
    }

    /// Why a crate is charged for nothing: there is none, it was retired, or a check of it failed.
    #[cold]
    pub(crate) fn gone(&self, id: CrateId) -> MemoryError {
        match self.resolve(id) {
            Err(error) => error,
            Ok(slot) if slot.is_closed() => MemoryError::CrateClosed { id, name: slot.name() },
            Ok(_) => MemoryError::StaleCrate { id },
        }
    }

    /// Closes a crate, where a check of it failed: it is charged for nothing any more, and who waits in its name does so
    /// no longer. What it has it keeps until it gives it back; its limit, loans and children stay as they are.
    pub(crate) fn seal(&self, id: CrateId) {
        if let Ok(slot) = self.resolve_pinned(id) {
            slot.close();
            // In a parent's line its children stand too. What it asks itself is refused when it is its turn.
            if slot.children() == 0 {
                self.end_waits(id.index);
            }
        }
    }

    /// As [`resolve`](Self::resolve), and the slot stays the crate's.
    fn resolve_pinned(&self, id: CrateId) -> Result<PinnedSlot<'_>> {
        self.resolve(id)?;
        let pinned = self.pin(id.index).ok_or(MemoryError::StaleCrate { id })?;
        // It may have been retired and given to another before the pin.
        self.resolve(id)?;
        Ok(pinned)
    }

    /// The crate in a slot now.
    pub(crate) fn id_at(&self, index: Index) -> CrateId {
        let generation = self.slot(index).generation();
        CrateId { index, generation, tag: self.tag }
    }

    /// What errors and snapshots call a node.
    pub(crate) fn name_of(&self, index: Index) -> CrateName {
        if index == ROOT { root_name() } else { self.slot(index).name() }
    }

    /// Registers a crate below `parent`, or below the root.
    pub(crate) fn register(
        &self,
        name: &str,
        parent: Option<CrateId>,
        limit: Units,
        guarantee: Units,
    ) -> Result<CrateId> {
        let name = CrateName::new(name).ok_or(MemoryError::InvalidName { len: name.len() })?;
        // The parent is pinned until it counts the child: from then on it cannot be retired.
        let pinned = parent.map(|id| self.resolve_pinned(id)).transpose()?;
        let (parent_index, above) = match (&pinned, parent) {
            (Some(pinned), Some(id)) => (id.index, &**pinned),
            _ => (ROOT, &self.root),
        };
        let depth = above.depth.load(Ordering::Relaxed);
        if depth >= MAX_DEPTH {
            let name = self.name_of(parent_index);
            return Err(MemoryError::TooDeep { name, depth: depth.into(), deepest: MAX_DEPTH.into() });
        }
        if let (false, Some(id)) = (above.add_child(), parent) {
            return Err(MemoryError::StaleCrate { id });
        }
        let child = self.place(&name, parent_index, depth + 1, limit, guarantee);
        if child.is_err() {
            above.remove_child();
        }
        child
    }

    /// Puts a crate into a free slot, with its guarantee, once its parent counts it.
    fn place(
        &self,
        name: &CrateName,
        parent: Index,
        depth: u8,
        limit: Units,
        guarantee: Units,
    ) -> Result<CrateId> {
        let index = self
            .registry
            .take(&self.slots)
            .ok_or(MemoryError::TooManyCrates { capacity: self.slots.capacity() })?;
        let slot = self.slot(index);
        let generation = slot.generation();
        slot.prepare(name, parent, depth);
        slot.budget.reset(&State::open(limit, version_of(generation)));
        slot.pins.occupy();
        if !guarantee.is_zero()
            && let Err(shortage) = self.raise_floor(index, guarantee)
        {
            self.stir(parent);
            let error = self.guarantee_error(index, guarantee, shortage);
            // Nobody has its id yet, so nothing is in use, unless a charge by an id whose version has
            // come round is on its way out again: then the slot is not used any more, rather than
            // used twice.
            if self.close(index).is_ok() {
                self.free(index, slot);
            }
            return Err(error);
        }
        slot.own_guarantee.store(guarantee.get(), Ordering::Relaxed);
        let id = CrateId { index, generation, tag: self.tag };
        self.observe(|| Operation::Registered {
            id,
            parent: (parent != ROOT).then(|| self.id_at(parent)),
            limit: self.scale.bytes(limit),
            guarantee: self.scale.bytes(guarantee),
        });
        self.stir(index);
        Ok(id)
    }

    /// Ends the crate in a closed slot.
    fn free(&self, index: Index, slot: &Slot) {
        slot.end_generation();
        if slot.pins.vacate() {
            self.registry.put(&self.slots, index);
        }
    }

    /// Retires a crate: all it holds goes back to its parent, and its id is stale.
    pub(crate) fn retire(&self, id: CrateId) -> Result<()> {
        let slot = self.resolve_pinned(id)?;
        self.empty(id.index, &slot);
        match self.retire_emptied(id, &slot) {
            Err(MemoryError::InUse { .. }) if slot.slab.is_made() => self.retire_beside(id, &slot),
            ended => ended,
        }
    }

    /// Where what is in use may be what another thread frees of what the crate kept.
    #[cold]
    #[inline(never)]
    fn retire_beside(&self, id: CrateId, slot: &Slot) -> Result<()> {
        let mut looks = 0;
        loop {
            self.empty(id.index, slot);
            // Before the use is looked at: what is on its way back now may count there.
            let is_being_emptied = slot.slab.is_being_emptied();
            match self.retire_emptied(id, slot) {
                Err(MemoryError::InUse { .. }) if is_being_emptied && looks < LOOKS => looks += 1,
                ended => return ended,
            }
            give_way();
        }
    }

    /// Inlined, so that an end that succeeds copies no error.
    #[inline(always)]
    fn retire_emptied(&self, id: CrateId, slot: &Slot) -> Result<()> {
        let in_use = |used| MemoryError::InUse {
            id,
            name: slot.name(),
            used: self.scale.bytes(used),
            children: slot.children() as usize,
        };
        if !slot.bar_children() {
            return Err(in_use(slot.budget.load().used));
        }
        // One that will be refused anyway changes nothing.
        if Self::shares(slot) && slot.budget.load().used.is_zero() {
            self.end_automatic(id.index);
        }
        if let Err(unclosed) = self.close(id.index) {
            slot.admit_children();
            return Err(match unclosed {
                Unclosed::Refused(Refusal::InUse(used)) => in_use(used),
                Unclosed::Refused(_) => MemoryError::StaleCrate { id },
                Unclosed::Loans(loans) => MemoryError::OpenLoans { id, name: slot.name(), loans },
            });
        }
        let parent = slot.parent.load(Ordering::Relaxed);
        self.end_waits(id.index);
        self.observe(|| Operation::Retired { id });
        self.free(id.index, slot);
        self.slot(parent).remove_child();
        Ok(())
    }

    /// Sets a crate's limit.
    pub(crate) fn set_limit(&self, id: CrateId, limit: Units) -> Result<()> {
        let slot = self.resolve_pinned(id)?;
        let set = self.limit_to(id.index, limit);
        // What is above it goes to others.
        self.empty(id.index, &slot);
        self.pressure_relimited();
        set.map_err(|refusal| self.limit_error(id, slot.name(), limit, refusal))
    }

    /// Sets what the root holds. Below what is given out, it shrinks as bytes come back.
    pub(crate) fn set_total(&self, total: Units) -> Result<()> {
        let root = CrateId { index: ROOT, generation: 0, tag: self.tag };
        let set = self.limit_to(ROOT, total);
        self.pressure_relimited();
        set.map_err(|refusal| self.limit_error(root, root_name(), total, refusal))
    }

    fn limit_error(
        &self,
        id: CrateId,
        name: CrateName,
        limit: Units,
        refusal: Refusal<Units>,
    ) -> MemoryError {
        match refusal {
            Refusal::BelowFloor(floor) => MemoryError::LimitBelowGuarantee {
                name,
                asked: self.scale.bytes(limit),
                guaranteed: self.scale.bytes(floor),
            },
            _ => MemoryError::StaleCrate { id },
        }
    }

    /// Sets what a crate is guaranteed for itself; the guarantees of crates below it are on top.
    pub(crate) fn set_guarantee(&self, id: CrateId, guarantee: Units) -> Result<()> {
        let slot = self.resolve_pinned(id)?;
        // A floor on its way keeps no node in its slot, as bytes in use do: for as long as it may be
        // on its way, the parent counts one child more, and so cannot be retired.
        let above = self.slot(slot.parent.load(Ordering::Relaxed));
        if !above.add_child() {
            return Err(MemoryError::StaleCrate { id });
        }
        let set = self.resolve(id).and_then(|_| self.set_own_guarantee(id, &slot, guarantee));
        above.remove_child();
        self.stir(id.index);
        set
    }

    /// Sets what a pinned crate is guaranteed, while its parents are kept.
    fn set_own_guarantee(&self, id: CrateId, slot: &Slot, guarantee: Units) -> Result<()> {
        loop {
            let now = slot.own_guarantee.load(Ordering::SeqCst);
            let (more, less) = (guarantee.get().saturating_sub(now), now.saturating_sub(guarantee.get()));
            let raise = Units::new(more).unwrap_or(Units::MAX);
            let raised = if more > 0 { self.raise_floor(id.index, raise) } else { Ok(()) };
            self.tend();
            if let Err(shortage) = raised {
                return Err(self.guarantee_error(id.index, guarantee, shortage));
            }
            // The number says who may lower how much: it is raised after the floor, and lowered
            // before. What is lent is lent of it.
            let swapped = self.book().with(|book| {
                let lent = book.standing(slot.sharing.load(Ordering::SeqCst)).lent;
                if less > 0 && guarantee < lent {
                    return Err(lent);
                }
                let order = Ordering::SeqCst;
                let swapped = slot.own_guarantee.compare_exchange(now, guarantee.get(), order, order);
                if swapped.is_ok() {
                    self.observe(|| Operation::Guaranteed { id, bytes: self.scale.bytes(guarantee) });
                }
                Ok(swapped)
            });
            let swapped = swapped.map_err(|lent| MemoryError::GuaranteeLent {
                name: slot.name(),
                asked: self.scale.bytes(guarantee),
                lent: self.scale.bytes(lent),
            })?;
            match swapped {
                Ok(_) => {
                    self.lower_floor(id.index, Units::new(less).unwrap_or(Units::MAX));
                    return Ok(());
                }
                // Another thread set it meanwhile: undo, look again.
                Err(_) => self.lower_floor(id.index, raise),
            }
        }
    }

    fn guarantee_error(&self, index: Index, guarantee: Units, shortage: Shortage) -> MemoryError {
        let holder = self.slot(shortage.node).budget.load();
        let (name, asked) = (self.name_of(index), self.scale.bytes(guarantee));
        let holder_name = self.name_of(shortage.node);
        match shortage.refusal {
            Refusal::OverLimit(_) if shortage.node == index => MemoryError::GuaranteeAboveLimit {
                name,
                holder: holder_name,
                asked,
                limit: self.scale.bytes(holder.limit),
            },
            Refusal::Closed => MemoryError::StaleCrate { id: self.id_at(index) },
            _ => MemoryError::GuaranteeUnavailable {
                name,
                holder: holder_name,
                asked,
                free: self
                    .scale
                    .bytes(holder.held.least(&holder.limit).above(&holder.used.most(&holder.floor))),
            },
        }
    }

    /// Counts a denial and says what it was.
    #[cold]
    #[inline(never)]
    pub(crate) fn denied(&self, id: CrateId, asked: usize, shortage: Shortage) -> MemoryError {
        if shortage.refusal != Refusal::Closed {
            let own = shortage.node == id.index && shortage.refusal != Refusal::Queued;
            self.slot(id.index).count_denial(if own { DenialReason::Limit } else { DenialReason::Pool });
            self.pressure_refused(shortage.node, asked);
            if shortage.refusal != Refusal::Queued {
                self.observe(|| Operation::Refused { id, bytes: asked });
            }
        }
        self.describe(id, asked, shortage)
    }

    /// A denial with its figures.
    pub(crate) fn describe(&self, id: CrateId, asked: usize, shortage: Shortage) -> MemoryError {
        if shortage.refusal == Refusal::Closed {
            return self.gone(id);
        }
        let name = self.name_of(id.index);
        if shortage.refusal == Refusal::Queued {
            return MemoryError::Queued { id, name, holder: self.name_of(shortage.node), asked };
        }
        let state = self.slot(shortage.node).budget.load();
        let bytes = |units| self.scale.bytes(units);
        let (used, limit) = (bytes(state.used), bytes(state.limit));
        if shortage.node == id.index {
            return MemoryError::OverLimit { id, name, asked, used, limit, free: limit.saturating_sub(used) };
        }
        let free = bytes(state.held.least(&state.limit).above(&state.used));
        MemoryError::PoolExhausted { id, name, holder: self.name_of(shortage.node), asked, used, limit, free }
    }

    /// Denies what is more than any limit.
    #[cold]
    #[inline(never)]
    pub(crate) fn over_limit(&self, id: CrateId, asked: usize) -> MemoryError {
        if let Err(error) = self.resolve(id) {
            return error;
        }
        self.denied(id, asked, Shortage { node: id.index, refusal: Refusal::OverLimit(Units::MAX) })
    }

    /// Bytes that a crate's own limit would still allow.
    #[cfg(feature = "alloc")]
    pub(crate) fn allowance(&self, id: CrateId) -> usize {
        self.resolve(id).map_or(0, |slot| {
            let state = slot.budget.load();
            self.scale.bytes(state.limit.above(&state.used))
        })
    }

    /// Says why `asked` bytes, which were refused and counted a moment ago, would be.
    #[cfg(feature = "alloc")]
    pub(crate) fn refusal(&self, id: CrateId, asked: usize) -> MemoryError {
        if let Err(error) = self.resolve(id) {
            return error;
        }
        let over = asked > self.allowance(id);
        let parent = self.slot(id.index).parent.load(Ordering::Relaxed);
        let refusal = if over { Refusal::OverLimit(Units::MAX) } else { Refusal::Short(Units::MAX) };
        self.describe(id, asked, Shortage { node: if over { id.index } else { parent }, refusal })
    }

    /// The indexes of all nodes there are now, the root first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Index> + '_ {
        let crates = (1..self.registry.used_up_to()).filter(|&index| !self.slot(index).pins.is_free());
        core::iter::once(ROOT).chain(crates)
    }
}

/// [`ROOT_NAME`] as a name.
pub(crate) fn root_name() -> CrateName {
    CrateName::new(ROOT_NAME).unwrap_or_else(|| unreachable!("a short literal is a name"))
}
