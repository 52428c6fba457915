//! How what a node is promised and allowed changes, and how it ends: floors, limits, closing.

use super::amount::{Amount, Units};
use super::slot::Index;
use super::tracker::{BudgetTracker, Effort, MAX_ROUNDS, Shortage};
use super::transition::{self, Refusal};
use crate::sharing::LoanList;
use crate::sync::Ordering;
use crate::verification::Operation;
use crate::waiting::Turn;

/// Why a node cannot be closed.
pub(super) enum Unclosed {
    /// Its word says so.
    Refused(Refusal<Units>),
    /// It has lent, or borrowed.
    Loans(LoanList),
}

impl BudgetTracker {
    /// Raises a node's own guarantee by `n`: its floor and that of every node above it.
    pub(super) fn raise_floor(&self, index: Index, n: Units) -> Result<(), Shortage> {
        let raised = self.raise_floor_only(index, n);
        self.pressure_rose_above(index);
        raised
    }

    /// As [`raise_floor`](Self::raise_floor), and no watch hears of it.
    fn raise_floor_only(&self, index: Index, n: Units) -> Result<(), Shortage> {
        let slot = self.slot(index);
        let Some(parent) = self.parent(index) else {
            return Err(Shortage { node: index, refusal: Refusal::OutOfRange });
        };
        for _ in 0..MAX_ROUNDS {
            self.collect_idle(index, slot);
            let state = slot.budget.load();
            let raised = state.floor.plus_saturating(&n);
            // What is held above the floor of a crate that owes is owed: it backs nothing.
            let short = if state.owes { n } else { raised.above(&state.held) };
            let needed = if state.owes { raised.most(&state.held.plus_saturating(&n)) } else { raised };
            if !needed.at_most(&state.limit) {
                let refusal = Refusal::OverLimit(needed.above(&state.limit));
                return Err(Shortage { node: index, refusal });
            }
            let effort = Effort::Full { asker: index, turn: Turn::NONE };
            let credit = match self.take(parent, short, n, effort) {
                Ok(credit) => credit,
                // Stock of its own and of those above counts as use of a node that is over its limit.
                Err(_) if self.give_up_stock(index) => continue,
                Err(shortage) => return Err(shortage),
            };
            let amount = credit.amount();
            if let Ok((state, ())) = slot.budget.apply(|state| transition::refill(state, &amount, &n)) {
                credit.absorb();
                // Others may have brought what was missing meanwhile: this much more is idle then.
                self.keep_findable(index, slot, &state);
                return Ok(());
            }
        }
        Err(Shortage { node: parent, refusal: Refusal::Short(n) })
    }

    /// Lowers a node's own guarantee by `n`.
    pub(super) fn lower_floor(&self, index: Index, n: Units) {
        let slot = self.slot(index);
        let keep = self.keeps(slot);
        if let Ok((state, spilled)) = slot.budget.apply(|state| transition::lower_floor(state, &n, &keep)) {
            self.keep_findable(index, slot, &state);
            if let Some(parent) = self.parent(index) {
                self.give_back(parent, spilled, n);
            }
            self.stir(index);
        }
    }

    /// Sets a node's limit, or the pool's total, and takes back what is idle above it.
    pub(super) fn limit_to(&self, index: Index, limit: Units) -> Result<(), Refusal<Units>> {
        let slot = self.slot(index);
        let Some(parent) = self.parent(index) else {
            slot.budget.apply(|state| transition::set_total(state, &limit))?;
            self.observe(|| Operation::TotalSet { bytes: self.scale.bytes(limit) });
            self.stir(index);
            return Ok(());
        };
        // What it has borrowed comes on top of the limit, and what it has lent is missing from it: for as
        // long as that is so, and it changes under the book's lock.
        let spilled = self.book().with(|book| {
            let shift = book.standing(slot.sharing.load(Ordering::SeqCst)).shift();
            let shifted = i64::from(limit.get()) + shift;
            let own =
                |floor: Units| Units::new((i64::from(floor.get()) - shift).max(0) as u32).unwrap_or(floor);
            let Some(with_loans) = u32::try_from(shifted).ok().and_then(Units::new) else {
                return Err(Refusal::BelowFloor(own(slot.budget.load().floor)));
            };
            match slot.budget.apply(|state| transition::set_limit(state, &with_loans)) {
                Ok((_, spilled)) => {
                    let bytes = self.scale.bytes(limit);
                    self.observe(|| Operation::Limited { id: self.id_at(index), bytes });
                    Ok(spilled)
                }
                Err(Refusal::BelowFloor(floor)) => Err(Refusal::BelowFloor(own(floor))),
                Err(other) => Err(other),
            }
        })?;
        self.give_back(parent, spilled, Units::ZERO);
        self.stir(index);
        Ok(())
    }

    /// Closes a node and gives all it holds back.
    pub(super) fn close(&self, index: Index) -> Result<(), Unclosed> {
        let slot = self.slot(index);
        let (held, floor) = self.book().with(|book| {
            let loans = self.open_loans(book, index);
            if loans.count() > 0 {
                return Err(Unclosed::Loans(loans));
            }
            let (_, given) = slot.budget.apply(transition::retire).map_err(Unclosed::Refused)?;
            self.leave_book(book, index);
            Ok(given)
        })?;
        if let Some(parent) = self.parent(index) {
            self.give_back(parent, held, floor);
        }
        self.seats.vacate(index, slot);
        Ok(())
    }
}
