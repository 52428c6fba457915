//! Bytes on their way between two nodes.

use super::amount::Units;
use super::slot::Index;
use super::tracker::BudgetTracker;

/// Bytes that one node has taken into use for another that does not hold them yet, with the
/// guarantee they carry. Linear: a receiver [absorbs](Self::absorb) it, else dropping it returns it
/// to where it came from.
#[must_use = "dropping a credit gives it back"]
pub(crate) struct Credit<'t> {
    tracker: &'t BudgetTracker,
    from: Index,
    amount: Units,
    floor: Units,
}

impl<'t> Credit<'t> {
    /// For the tracker alone, right after the transition that took `amount` and `floor` from `from`.
    #[inline]
    pub(super) fn taken(tracker: &'t BudgetTracker, from: Index, amount: Units, floor: Units) -> Self {
        Self { tracker, from, amount, floor }
    }

    pub(crate) fn amount(&self) -> Units {
        self.amount
    }

    pub(crate) fn floor(&self) -> Units {
        self.floor
    }

    /// The receiver holds it now, or a [`Charge`](super::charge::Charge) stands for it.
    #[inline]
    pub(crate) fn absorb(self) {
        core::mem::forget(self);
    }
}

impl Drop for Credit<'_> {
    fn drop(&mut self) {
        self.tracker.give_back(self.from, self.amount, self.floor);
    }
}
