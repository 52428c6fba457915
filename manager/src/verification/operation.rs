//! What a ledger does, as events for those who follow it.

#[cfg(feature = "formal-verification")]
use super::backend::VerificationBackend;
use crate::budget::{BudgetTracker, CrateId};
use crate::sharing::LendingRule;

/// One operation of a ledger. Amounts are bytes, whole units of the manager. What gives bytes is told after it did, what takes
/// them back before it does, so that at every moment at least as much is in use as was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A manager was made.
    Started {
        /// The global budget.
        total: usize,
        /// The largest there may be.
        largest: usize,
        /// What a crate may keep in stock.
        stock: usize,
    },
    /// A crate was registered.
    Registered {
        /// The crate.
        id: CrateId,
        /// Whose budget it is part of; `None` for the global one.
        parent: Option<CrateId>,
        /// Its limit.
        limit: usize,
        /// Its guarantee.
        guarantee: usize,
    },
    /// A crate is about to be retired: nothing is left of it but its place.
    Retired {
        /// The crate.
        id: CrateId,
    },
    /// A crate was charged.
    Charged {
        /// The crate.
        id: CrateId,
        /// By so much.
        bytes: usize,
    },
    /// A crate is about to be given back what it was charged.
    Uncharged {
        /// The crate.
        id: CrateId,
        /// So much of it.
        bytes: usize,
    },
    /// A crate was denied bytes, by its limit or for want of them.
    Refused {
        /// The crate.
        id: CrateId,
        /// Asked, in bytes.
        bytes: usize,
    },
    /// A crate's limit was set.
    Limited {
        /// The crate.
        id: CrateId,
        /// To this.
        bytes: usize,
    },
    /// A crate's own guarantee was set.
    Guaranteed {
        /// The crate.
        id: CrateId,
        /// To this.
        bytes: usize,
    },
    /// The global budget was set.
    TotalSet {
        /// To this.
        bytes: usize,
    },
    /// The host allowed a pair to lend and borrow.
    Allowed {
        /// Who may lend.
        lender: CrateId,
        /// Who may borrow.
        borrower: CrateId,
        /// How much, and how.
        rule: LendingRule,
    },
    /// The host allows a pair nothing more.
    Forbidden {
        /// Who may not lend.
        lender: CrateId,
        /// Who may not borrow.
        borrower: CrateId,
    },
    /// Room was lent.
    Lent {
        /// Whose guarantee it is of.
        lender: CrateId,
        /// Who has it.
        borrower: CrateId,
        /// So much.
        bytes: usize,
        /// Number of the loan.
        loan: u32,
        /// By the coordinator, for a charge.
        automatic: bool,
    },
    /// The host recalls a loan.
    Recalling {
        /// Number of the loan.
        loan: u32,
    },
    /// What is not back of a loan, or of a part of it, is a debt from now on.
    Owed {
        /// Whom to.
        lender: CrateId,
        /// By whom.
        borrower: CrateId,
        /// So much.
        bytes: usize,
    },
    /// Room that was lent is back.
    CameBack {
        /// With whom.
        lender: CrateId,
        /// From whom.
        borrower: CrateId,
        /// So much.
        bytes: usize,
        /// It was a debt.
        owed: bool,
    },
    /// The host let go of a loan's handle.
    LetGo {
        /// Number of the loan.
        loan: u32,
    },
}

/// Those who follow a ledger: its shadow, and the backends a host plugged in.
#[cfg(feature = "formal-verification")]
#[derive(Default)]
pub(crate) struct Observers {
    pub(crate) ghost: super::ghost::Ghost,
    pub(crate) backends: alloc::vec::Vec<crate::sync::Arc<dyn VerificationBackend>>,
}

impl BudgetTracker {
    /// Tells of an operation, where the ledger is followed.
    #[inline(always)]
    pub(crate) fn observe(&self, operation: impl FnOnce() -> Operation) {
        #[cfg(feature = "formal-verification")]
        {
            let operation = operation();
            self.observers.ghost.operation(&operation);
            for backend in &self.observers.backends {
                backend.operation(&operation);
            }
        }
        #[cfg(not(feature = "formal-verification"))]
        {
            let _ = operation;
        }
    }
}
