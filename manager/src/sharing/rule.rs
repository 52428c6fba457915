//! What a lender agrees to.

use core::time::Duration;

/// On which terms room is lent: what can be had back, and when.
///
/// A lender cannot always have its room back at once, because linear memory does not shrink. What the
/// borrower has idle comes back at once in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoanTerms {
    /// What the borrower uses when the loan is recalled stays a debt, repaid from the first bytes it frees.
    #[default]
    Idle,
    /// As `Idle`; and the borrower agrees to be ended when it has not repaid so long after the
    /// recall. The deadline is an event for the host, not an end: the debt stays until it is repaid.
    Evictable {
        /// From the recall on.
        deadline: Duration,
    },
}

/// How much a crate may borrow from another, and how. A crate's guarantee is never lent without such a
/// rule of the host's.
///
/// ```
/// use wrt_memory::{CrateSettings, LendingRule, UnifiedMemoryManager};
/// # fn main() -> wrt_memory::Result<()> {
/// let manager = UnifiedMemoryManager::builder().total(1 << 20).build()?;
/// let quiet = manager.register("quiet", CrateSettings::new().guarantee(256 << 10))?;
/// let busy = manager.register("busy", CrateSettings::new().limit(64 << 10))?;
/// manager.sharing().allow(quiet, busy, LendingRule::new(128 << 10))?;
///
/// let loan = manager.borrow_from_crate(quiet, busy, 64 << 10)?;
/// assert_eq!(manager.node(busy)?.limit, 128 << 10);
/// drop(loan);
/// assert_eq!(manager.node(busy)?.limit, 64 << 10);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LendingRule {
    pub(crate) most: usize,
    pub(crate) terms: LoanTerms,
    pub(crate) automatic: bool,
}

impl LendingRule {
    /// Up to `most` bytes at one time, on the terms `Idle`, and only when the host asks.
    pub const fn new(most: usize) -> Self {
        Self { most, terms: LoanTerms::Idle, automatic: false }
    }

    /// The terms of loans that do not name their own, and the hardest a loan by this rule may have.
    pub const fn terms(mut self, terms: LoanTerms) -> Self {
        self.terms = terms;
        self
    }

    /// Lets the [`CrossCrateCoordinator`](crate::CrossCrateCoordinator) borrow by this rule when the borrower would
    /// otherwise be denied.
    pub const fn automatic(mut self) -> Self {
        self.automatic = true;
        self
    }

    /// Bytes lent at one time, at most.
    pub const fn most(&self) -> usize {
        self.most
    }
}
