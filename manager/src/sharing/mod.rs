//! Sharing: who may borrow idle guaranteed room from whom, who has, and how it comes back.
//!
//! The [`SharingMatrix`] says what the host allows and what is owed; a [`Loan`] is one transfer; the
//! [`CrossCrateCoordinator`] makes and recalls loans by itself when bytes run short. The book of it
//! all (`book.rs`) is numbers and lists under a short lock; the bytes move in the ledger
//! (`budget/transfer.rs`).

mod book;
mod coordinator;
mod loan;
mod matrix;
mod rule;
mod table;

pub use coordinator::{CoordinatorCounts, CrossCrateCoordinator};
pub use loan::{Loan, LoanInfo, LoanList, LoanState};
pub use matrix::SharingMatrix;
pub use rule::{LendingRule, LoanTerms};

pub(crate) use book::{Book, Key, Record, Side, Stage};

#[cfg(all(test, feature = "std", not(loom)))]
mod tests;
