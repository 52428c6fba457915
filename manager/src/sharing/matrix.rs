//! Who may borrow from whom and how much, and who owes whom now.

use super::loan::{Loan, LoanInfo};
use super::rule::{LendingRule, LoanTerms};
use crate::budget::CrateId;
use crate::error::{MemoryError, Result};
use crate::manager::UnifiedMemoryManager;

/// Who may borrow from whom and how much, and who owes whom now: sparse with `alloc`, where a crate may
/// have 64 rules and 64 open loans on either side; without, 2 of each for all crates together.
#[derive(Clone, Copy, Debug)]
pub struct SharingMatrix<'m> {
    manager: &'m UnifiedMemoryManager,
}

impl SharingMatrix<'_> {
    /// Allows `borrower` to borrow of what `lender` is guaranteed. Takes the place of what was allowed
    /// before; loans that were made stay as they are.
    ///
    /// # Errors
    /// [`InvalidConfig`](MemoryError::InvalidConfig) where one is above the other in the tree, where there is no
    /// place for more rules, or for a deadline without a clock; an id that is unknown, stale or foreign.
    pub fn allow(&self, lender: CrateId, borrower: CrateId, rule: LendingRule) -> Result<()> {
        self.manager.tracker.allow(lender, borrower, &rule)
    }

    /// Ends what was allowed. Loans that were made stay until they are recalled or repaid.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn forbid(&self, lender: CrateId, borrower: CrateId) -> Result<()> {
        self.manager.tracker.forbid(lender, borrower)
    }

    /// What is allowed now, and how many bytes are lent by it. `None` where nothing is, though loans by a rule that
    /// was ended may still be out.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn allowed(&self, lender: CrateId, borrower: CrateId) -> Result<Option<(LendingRule, usize)>> {
        self.manager.tracker.allowed(lender, borrower)
    }

    /// Shows every open loan to `look`, under the book's lock: `look` must not call the manager.
    pub fn for_each_loan(&self, mut look: impl FnMut(&LoanInfo)) {
        let tracker = &self.manager.tracker;
        tracker.book().with(|book| {
            for number in 1..book.loans_up_to() {
                if let Some(info) = tracker.info(book, number).filter(|_| book.is_open(number)) {
                    look(&info);
                }
            }
        });
    }

    /// The open loans.
    #[cfg(feature = "alloc")]
    pub fn loans(&self) -> alloc::vec::Vec<LoanInfo> {
        let mut loans = alloc::vec::Vec::new();
        self.for_each_loan(|loan| loans.push(*loan));
        loans
    }
}

impl UnifiedMemoryManager {
    /// Who may borrow from whom, and who owes whom.
    pub fn sharing(&self) -> SharingMatrix<'_> {
        SharingMatrix { manager: self }
    }

    /// Lends `size` bytes of what `from` is guaranteed, and has idle, to `to`, on the terms of the rule that
    /// [allows](SharingMatrix::allow) it. Room moves whole: `to` may use it though it is at its own limit, nobody
    /// can take it from `to`, and `from` may use so much less. Dropping the loan ends it.
    ///
    /// # Errors
    /// [`LendingNotAllowed`](MemoryError::LendingNotAllowed), [`NothingToLend`](MemoryError::NothingToLend);
    /// [`InvalidConfig`](MemoryError::InvalidConfig) for no bytes; an id that is unknown, stale or foreign.
    pub fn borrow_from_crate(&self, from: CrateId, to: CrateId, size: usize) -> Result<Loan<'_>> {
        self.borrow_loan(from, to, size, None)
    }

    /// As [`borrow_from_crate`](Self::borrow_from_crate), on terms that are not harder than the rule's.
    ///
    /// # Errors
    /// As [`borrow_from_crate`](Self::borrow_from_crate); [`InvalidConfig`](MemoryError::InvalidConfig) for harder terms.
    pub fn borrow_on_terms(
        &self,
        from: CrateId,
        to: CrateId,
        size: usize,
        terms: LoanTerms,
    ) -> Result<Loan<'_>> {
        self.borrow_loan(from, to, size, Some(terms))
    }

    fn borrow_loan(
        &self,
        from: CrateId,
        to: CrateId,
        size: usize,
        terms: Option<LoanTerms>,
    ) -> Result<Loan<'_>> {
        let units = self
            .tracker
            .scale()
            .up(size)
            .ok_or(MemoryError::TooLarge { asked: size, largest: self.largest_total() })?;
        let key = self.tracker.lend(from, to, units, terms)?;
        Ok(Loan::new(self.into(), key))
    }
}
