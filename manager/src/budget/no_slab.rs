//! Where there is no heap, or little memory, no crate keeps blocks: see `slab.rs`.

use super::amount::Units;
use super::slot::{Index, Slot};
use super::tracker::BudgetTracker;
use crate::sync::const_fn;

/// No node has any.
pub(crate) struct SlabOf;

impl SlabOf {
    const_fn! {
        /// None.
        pub(crate) const fn new() -> Self {
            Self
        }
    }

    /// It has not.
    #[inline(always)]
    pub(crate) fn is_made(&self) -> bool {
        false
    }

    /// Nothing is kept.
    #[inline(always)]
    pub(crate) fn is_being_emptied(&self) -> bool {
        false
    }

    /// Nothing is kept.
    pub(crate) fn bytes(&self) -> usize {
        0
    }

    /// There is nothing to free.
    #[cfg(feature = "alloc")]
    pub(crate) fn end(&self) {}
}

impl BudgetTracker {
    /// Nothing is kept.
    #[inline(always)]
    pub(crate) fn empty(&self, _: Index, _: &Slot) -> Units {
        Units::ZERO
    }

    /// Nothing is kept.
    #[inline(always)]
    pub(super) fn empty_into_stock(&self, _: Index, _: Units, _: Index) -> Units {
        Units::ZERO
    }

    /// Nothing is kept.
    pub(crate) fn empty_all(&self, _: Units) -> Units {
        Units::ZERO
    }
}
