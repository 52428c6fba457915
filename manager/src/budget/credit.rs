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
    /// Charged to the crate itself, and told so.
    #[cfg(feature = "formal-verification")]
    own: bool,
}

impl<'t> Credit<'t> {
    /// For the tracker alone, right after the transition that took `amount` and `floor` from `from`.
    #[inline]
    pub(super) fn taken(tracker: &'t BudgetTracker, from: Index, amount: Units, floor: Units) -> Self {
        Self {
            tracker,
            from,
            amount,
            floor,
            #[cfg(feature = "formal-verification")]
            own: false,
        }
    }

    /// It is for the crate itself, and not on its way to another.
    #[inline(always)]
    #[cfg_attr(not(feature = "formal-verification"), allow(unused_mut, reason = "nobody follows"))]
    pub(super) fn owned(mut self) -> Self {
        self.tracker.observe_charged(self.from, self.amount);
        #[cfg(feature = "formal-verification")]
        {
            self.own = true;
        }
        self
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
        #[cfg(feature = "formal-verification")]
        if self.own {
            return self.tracker.uncharge(self.from, self.tracker.slot(self.from), self.amount);
        }
        self.tracker.give_back(self.from, self.amount, self.floor);
    }
}
