//! The common case of a charge and of what gives it back: one swap of the crate's word, and nobody else is needed.
//!
//! What is not the common case is a call away and cold, so that this stays small enough to be inlined where bytes are
//! charged.

use super::amount::{Amount, Units};
use super::credit::Credit;
use super::id::CrateId;
use super::slot::{Index, Slot};
use super::stock::Seats;
use super::tracker::{BudgetTracker, Shortage};
use super::transition::{self, Refusal};
use super::word::version_of;
use crate::error::MemoryError;
use crate::sync::{Ordering, change_then_look};
use crate::verification::Operation;
use crate::waiting::Turn;

impl BudgetTracker {
    /// Takes `n` units into use where the crate has them idle, and returns its slot. `None`, and nothing changed, where
    /// that is not so: then [`charge_elsewhere`](Self::charge_elsewhere) finds them, or says why not.
    #[inline(always)]
    pub(crate) fn charge_idle(&self, id: CrateId, n: Units) -> Option<&Slot> {
        let slot = self.admitted(id)?;
        let version = version_of(id.generation);
        let state = slot.budget.apply_once(|state| {
            let (next, ()) = transition::charge(state, &n).ok()?;
            (state.version == version && !slot.line.is_held()).then_some(next)
        })?;
        slot.raise_high_water(state.used);
        if slot.marks.is_met(state.used) || slot.generation.load(Ordering::SeqCst) != id.generation {
            self.see_to_taken(id.index, slot, id.generation, n, state.used).ok()?;
        }
        self.observe_charged(id.index, n);
        Some(slot)
    }

    /// Nothing keeps no crate in its slot: whose that would be is not known, and it is not told.
    #[inline(always)]
    pub(super) fn observe_charged(&self, index: Index, n: Units) {
        if !n.is_zero() {
            self.observe(|| Operation::Charged { id: self.id_at(index), bytes: self.scale.bytes(n) });
        }
    }

    /// As [`charge_idle`](Self::charge_idle), of bytes that are not there yet; says why it is denied.
    #[cold]
    #[inline(never)]
    pub(crate) fn charge_elsewhere(&self, id: CrateId, n: Units, asked: usize) -> Result<&Slot, MemoryError> {
        self.charge_crate(id, n, asked)?.absorb();
        Ok(self.slot(id.index))
    }

    /// Charges a crate `n` units for an operation that asked for `asked` bytes.
    pub(crate) fn charge_crate(
        &self,
        id: CrateId,
        n: Units,
        asked: usize,
    ) -> Result<Credit<'_>, MemoryError> {
        self.admit(id)?;
        self.charge(id.index, id.generation, n).map_err(|shortage| self.denied(id, asked, shortage))
    }

    /// Takes `n` units into use at the crate of `generation` in a slot.
    pub(crate) fn charge(&self, index: Index, generation: u32, n: Units) -> Result<Credit<'_>, Shortage> {
        self.charge_in_turn(index, generation, n, Turn::NONE)
    }

    /// As [`charge`](Self::charge), for one who is first in the lines of `turn`.
    pub(crate) fn charge_in_turn(
        &self,
        index: Index,
        generation: u32,
        n: Units,
        turn: Turn,
    ) -> Result<Credit<'_>, Shortage> {
        let slot = self.slot(index);
        let Err(mut refusal) = self.take_own(index, slot, generation, n, turn.is_barred_at(slot)) else {
            return Ok(Credit::taken(self, index, n, Units::ZERO).owned());
        };
        if slot.slab.is_made() && refusal != Refusal::Closed {
            match self.take_emptied(index, slot, generation, n, turn.is_barred_at(slot)) {
                None => return Ok(Credit::taken(self, index, n, Units::ZERO).owned()),
                Some(other) => refusal = other,
            }
        }
        let charged = self.charge_slowly(index, generation, n, refusal, turn);
        self.tend();
        // What a newcomer had on its way meanwhile, those in line may have missed. One of them is
        // tried by who serves, one after another: the next try sees all.
        if turn == Turn::NONE {
            self.stir(index);
        }
        let credit = charged?;
        if slot.generation.load(Ordering::SeqCst) == generation {
            Ok(credit.owned())
        } else {
            Err(Shortage { node: index, refusal: Refusal::Closed })
        }
    }

    /// Takes `n` units into use of what the crate of `generation` in a slot has idle.
    ///
    /// The version in the word keeps a charge from the next crate in the slot; where versions have
    /// come round, the generation is checked once more when the bytes are the crate's and it can no
    /// longer be retired.
    #[inline(always)]
    fn take_own(
        &self,
        index: Index,
        slot: &Slot,
        generation: u32,
        n: Units,
        barred: bool,
    ) -> Result<(), Refusal<Units>> {
        let version = version_of(generation);
        let (state, ()) = slot.budget.apply(|state| {
            if state.version != version {
                return Err(Refusal::Closed);
            }
            let floor = state.floor;
            match transition::charge(state, &n) {
                // What is guaranteed waits for nobody.
                Ok((state, ())) if barred && !state.used.at_most(&floor) => Err(Refusal::Queued),
                charged => charged,
            }
        })?;
        slot.raise_high_water(state.used);
        if slot.marks.is_met(state.used) || slot.generation.load(Ordering::SeqCst) != generation {
            return self.see_to_taken(index, slot, generation, n, state.used);
        }
        Ok(())
    }

    /// As [`take_own`](Self::take_own), once what the crate keeps is free: that is idle, and it is denied nothing for it.
    #[cold]
    #[inline(never)]
    fn take_emptied(
        &self,
        index: Index,
        slot: &Slot,
        generation: u32,
        n: Units,
        barred: bool,
    ) -> Option<Refusal<Units>> {
        self.empty(index, slot);
        self.take_own(index, slot, generation, n, barred).err()
    }

    /// A watch is to be told of what was taken, or it was taken of another crate.
    #[cold]
    #[inline(never)]
    fn see_to_taken(
        &self,
        index: Index,
        slot: &Slot,
        generation: u32,
        n: Units,
        used: Units,
    ) -> Result<(), Refusal<Units>> {
        // Given back where another is in the slot, and where a watch panics.
        let credit = Credit::taken(self, index, n, Units::ZERO);
        self.pressure_rose(index, slot, used);
        if slot.generation.load(Ordering::SeqCst) != generation {
            return Err(Refusal::Closed);
        }
        credit.absorb();
        Ok(())
    }

    /// Gives `n` units of use back at a crate, which keeps what it holds idle then; where it does not, the
    /// [long way](Self::give_back).
    #[inline(always)]
    pub(crate) fn uncharge(&self, index: Index, slot: &Slot, n: Units) {
        // Where nothing is given back, nothing keeps the crate in its slot.
        if n.is_zero() {
            return;
        }
        self.observe(|| Operation::Uncharged { id: self.id_at(index), bytes: self.scale.bytes(n) });
        // Who borrowed, or has a debtor above, keeps something else.
        let alone = || self.debtors.load(Ordering::SeqCst) == 0;
        let mut seated = false;
        let given = slot.budget.apply_once(|state| {
            if slot.borrowed.load(Ordering::SeqCst) != 0 || !alone() {
                return None;
            }
            seated = Seats::has_seat(slot);
            let stock = if seated { self.batch } else { Units::ZERO };
            transition::uncharge_and_keep(state, &n, &stock).ok().map(|(next, ())| next)
        });
        let Some(state) = given else { return self.give_back(index, n, Units::ZERO) };
        // Looked at after the swap, as `stock.rs` asks: with less to keep, it would have had to give.
        change_then_look();
        let keeps = !seated || (Seats::has_seat(slot) && alone());
        if !keeps || slot.marks.is_left(state.used) || self.due.load(Ordering::SeqCst) || self.anyone_waits()
        {
            self.see_to_given(index);
        }
    }

    /// A crate was given bytes back while what it keeps changed, or a watch is to be told.
    #[cold]
    #[inline(never)]
    fn see_to_given(&self, index: Index) {
        let slot = self.slot(index);
        let state = slot.budget.load();
        self.keep_findable(index, slot, &state);
        // Once all bytes are where they belong: somebody may be told.
        if slot.marks.is_left(state.used) {
            self.pressure_fell(index);
        }
        self.tend();
        self.stir(index);
    }
}
