//! What happens by itself when bytes run short, and what the host is told of it.
//!
//! A charge that finds neither credit nor anything at its parent goes down this ladder; every rung is
//! bounded and counted:
//! 1. What the crate has lent comes back: what borrowers have idle, then what the parent has free in
//!    exchange for what they use. Guarantees come first.
//! 2. Stock is swept: the idle bytes of busy crates, at the cost of what is recovered (`stock.rs`).
//! 3. Slots that are kept warm for nobody are given up (`reclaim.rs`).
//! 4. Room is borrowed, by rules that let the coordinator: from siblings first, then across.
//! 5. It is denied, which signals [pressure](crate::PressureWatch), or [waits](crate::Waiting).
//!
//! What ends a guest is the host's to do: of loans past their deadline it is told here.

use super::loan::LoanInfo;
use crate::budget::CrateId;
use crate::error::Result;
use crate::manager::UnifiedMemoryManager;
use crate::sync::Ordering;

/// Moves idle room to where it is asked for, by rules of the host's, and back.
#[derive(Clone, Copy, Debug)]
pub struct CrossCrateCoordinator<'m> {
    manager: &'m UnifiedMemoryManager,
}

/// What the coordinator has done since the manager was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CoordinatorCounts {
    /// Times that stock was taken from a crate.
    pub sweeps: u64,
    /// Times that warm slots were given up for it.
    pub trims: u64,
    /// Loans made.
    pub loans: u64,
    /// Of those, made by the coordinator itself.
    pub automatic: u64,
    /// Loans recalled.
    pub recalled: u64,
    /// Loans that ended as repaid.
    pub repaid: u64,
    /// Loans that ended as evicted.
    pub evicted: u64,
    /// Times that room moved from one crate to another.
    pub transfers: u64,
}

impl CrossCrateCoordinator<'_> {
    /// What was done so far.
    pub fn counts(&self) -> CoordinatorCounts {
        let tally = self.manager.tracker.book().with(|book| book.tally);
        CoordinatorCounts {
            sweeps: self.manager.tracker.swept.load(Ordering::Relaxed) as u64,
            trims: self.manager.tracker.reclaim.trims() as u64,
            loans: tally.made,
            automatic: tally.automatic,
            recalled: tally.recalled,
            repaid: tally.repaid,
            evicted: tally.evicted,
            transfers: tally.transfers,
        }
    }

    /// Ends the loans it made that their borrowers have idle; the bytes are then with their lenders, and are
    /// how many this returns. The coordinator does so by itself when a lender, or a third crate that may
    /// borrow of it, asks.
    pub fn return_idle(&self) -> usize {
        let tracker = &self.manager.tracker;
        tracker.scale().bytes(tracker.return_idle())
    }

    /// The next loan that has passed its deadline since this was last asked. The debt stays; what happens
    /// to the borrower is the host's choice.
    pub fn next_overdue(&self) -> Option<LoanInfo> {
        self.manager.tracker.next_overdue()
    }

    /// Says that the host is ending a crate because of loans it did not repay in time: those will count as
    /// evicted when its bytes come back. Returns how many loans those are; 0: by its terms it cannot be
    /// evicted, or not yet.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn evict(&self, borrower: CrateId) -> Result<usize> {
        self.manager.tracker.evict(borrower)
    }
}

impl UnifiedMemoryManager {
    /// What moves room between crates.
    pub fn coordinator(&self) -> CrossCrateCoordinator<'_> {
        CrossCrateCoordinator { manager: self }
    }
}
