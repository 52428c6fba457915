//! What one budget is at one moment, and what must always be true of it.

use super::amount::Amount;

/// A budget: the global one, a parent or a crate. In a crate `used` is what the guest has; in a
/// parent, what is delegated to its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State<A> {
    /// In the guest's hands, or delegated to children.
    pub(crate) used: A,
    /// Had from the parent.
    pub(crate) held: A,
    /// Guaranteed to stay held.
    pub(crate) floor: A,
    /// The most it may hold.
    pub(crate) limit: A,
    /// Takes nothing any more.
    pub(crate) closed: bool,
    /// Room that was lent to it has been recalled while it was in use. What becomes idle goes to
    /// those who lent it, and nowhere else: see [`settle_debt`](super::transition::settle_debt).
    pub(crate) owes: bool,
    /// Low bits of the slot's generation, so that a swap by a stale handle fails.
    pub(crate) version: u8,
}

impl<A: Amount> State<A> {
    /// A budget that holds nothing yet.
    pub(crate) fn open(limit: A, version: u8) -> Self {
        Self {
            used: A::zero(),
            held: A::zero(),
            floor: A::zero(),
            limit,
            closed: false,
            owes: false,
            version,
        }
    }

    /// Held and not used.
    pub(crate) fn credit(&self) -> A {
        self.held.above(&self.used)
    }

    /// Idle above the floor: what a sweep may take, or, of a budget that owes, whoever it owes to.
    pub(crate) fn stock(&self) -> A {
        self.held.above(&self.used.most(&self.floor))
    }

    /// I3: the floor is backed by what is held, and within the limit.
    pub(crate) fn floor_is_backed(&self) -> bool {
        self.floor.at_most(&self.held) && self.floor.at_most(&self.limit)
    }

    /// I4: what is used is held.
    pub(crate) fn use_is_backed(&self) -> bool {
        self.used.at_most(&self.held)
    }
}
