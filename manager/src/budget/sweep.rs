//! How stock is found and taken back (what stock is, and where it may be, `stock.rs` says).

use super::amount::{Amount, Units};
use super::lifecycle::MAX_DEPTH;
use super::slot::{Index, ROOT};
use super::tracker::{BudgetTracker, beyond, visited};
use super::transition;
use crate::sync::Ordering;

impl BudgetTracker {
    /// Collects stock from below `node`, up to `needed`, into its credit; not that of `asker` and of
    /// nodes above it, who would be short of it in turn. Looks at no more places than there are
    /// seats. Returns how much came.
    pub(super) fn sweep(&self, node: Index, needed: Units, asker: Index) -> Units {
        let mut got = Units::ZERO;
        for index in self.seats.seated() {
            if got >= needed {
                break;
            }
            visited();
            let slot = self.slot(index);
            let idle = || beyond(&slot.budget.load(), Self::borrowed(slot));
            let keeps = slot.slab.bytes() > 0;
            if (keeps || !idle().is_zero())
                && index != asker
                && self.is_above(node, index)
                && !self.is_above(index, asker)
            {
                if keeps {
                    got = got.plus_saturating(&self.empty_into_stock(index, needed.above(&got), node));
                }
                let came = self.sweep_one(index, needed.above(&got).least(&idle()), node);
                got = got.plus_saturating(&came);
                if keeps {
                    self.keep_findable(index, slot, &slot.budget.load());
                }
            }
        }
        got
    }

    /// Moves up to `most` of a node's stock to `last`, which is above it. Returns how much came.
    pub(super) fn sweep_one(&self, index: Index, most: Units, last: Index) -> Units {
        let Some(slot) = self.pin(index) else {
            return Units::ZERO;
        };
        match slot.budget.apply(|state| transition::release(state, &most)) {
            Ok((_, given)) if !given.is_zero() => {
                self.swept.fetch_add(1, Ordering::Relaxed);
                let parent = slot.parent.load(Ordering::Relaxed);
                self.give_back_until(parent, given, Units::ZERO, Some(last))
            }
            _ => Units::ZERO,
        }
    }

    /// Whether `above` is a proper ancestor of `index`.
    pub(super) fn is_above(&self, above: Index, index: Index) -> bool {
        let mut at = index;
        // Nobody pins what is walked over: the bound is for slots that get other crates meanwhile.
        for _ in 0..=MAX_DEPTH {
            match self.parent(at) {
                Some(parent) if parent == above => return true,
                Some(parent) => at = parent,
                None => return false,
            }
        }
        false
    }

    /// Sweeps the stock of a node and of those above it. Returns whether there was any.
    pub(super) fn give_up_stock(&self, index: Index) -> bool {
        let mut at = index;
        let mut any = false;
        while at != ROOT {
            // Not what arrives at the root: it may stop on its way, to back a guarantee.
            any |= !self.empty(at, self.slot(at)).is_zero();
            let state = self.slot(at).budget.load();
            any |= !state.owes && !state.stock().is_zero();
            self.sweep_one(at, Units::MAX, ROOT);
            at = self.slot(at).parent.load(Ordering::Relaxed);
        }
        any
    }
}
