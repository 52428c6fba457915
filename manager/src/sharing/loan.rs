//! One loan, as its handle and as figures.

use core::fmt;

use super::book::{Key, Side, Stage};
use super::rule::LoanTerms;
use crate::budget::{CrateId, Units};
use crate::handle::ManagerHandle;

/// Where a loan is. `Active`, then `Recalling`, then `Repaid` or `Evicted`: each loan ends once, in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum LoanState {
    /// The borrower has it.
    Active,
    /// It was recalled, and the borrower still uses some of it: a debt, repaid from the first bytes it
    /// frees.
    Recalling,
    /// The lender has all of it back.
    Repaid,
    /// The lender has all of it back, because the host ended the borrower for it.
    Evicted,
}

impl From<Stage> for LoanState {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Active => Self::Active,
            Stage::Recalling | Stage::Evicting => Self::Recalling,
            Stage::Repaid => Self::Repaid,
            Stage::Evicted => Self::Evicted,
        }
    }
}

/// A loan as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoanInfo {
    /// Whose guarantee it is of.
    pub lender: CrateId,
    /// Who has it.
    pub borrower: CrateId,
    /// Bytes lent at first.
    pub bytes: usize,
    /// Bytes not back with the lender yet.
    pub outstanding: usize,
    /// Where it is.
    pub state: LoanState,
    /// On which terms.
    pub terms: LoanTerms,
    /// Its deadline has passed, and the host was told.
    pub overdue: bool,
    /// The coordinator made it.
    pub automatic: bool,
}

/// A loan, for as long as the host wants it: dropping it ends it. What the borrower has idle is then back
/// with the lender at once; what it uses is a debt, repaid from the first bytes it frees.
#[must_use = "dropping a loan recalls it"]
pub struct Loan<'m> {
    manager: ManagerHandle<'m>,
    key: Key,
}

impl<'m> Loan<'m> {
    pub(crate) fn new(manager: ManagerHandle<'m>, key: Key) -> Self {
        Self { manager, key }
    }

    /// The loan as it is now.
    pub fn info(&self) -> LoanInfo {
        let tracker = self.manager.tracker();
        // A loan that has a handle stays in the book.
        tracker
            .book()
            .with(|book| tracker.info(book, self.key.number))
            .unwrap_or_else(|| unreachable!("a loan with a handle is in the book"))
    }

    /// Recalls it: what the borrower has idle comes back now, which is how many bytes that is. The rest
    /// comes with the first bytes the borrower frees; [`info`](Self::info) says when all of it has. Again
    /// recalled, nothing happens.
    pub fn recall(&self) -> usize {
        self.bytes(|tracker| tracker.recall(self.key))
    }

    /// Ends it, as dropping it does, and says how many bytes came back.
    pub fn repay(self) -> usize {
        self.bytes(|tracker| tracker.recall(self.key))
    }

    fn bytes(&self, came: impl FnOnce(&crate::budget::BudgetTracker) -> Units) -> usize {
        let tracker = self.manager.tracker();
        tracker.scale().bytes(came(tracker))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.manager.tracker().end_loan(self.key);
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info().fmt(f)
    }
}

/// Loans that are in the way of something: how many, and the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoanList {
    count: usize,
    first: [Option<Entry>; LISTED],
}

/// How many an error names.
const LISTED: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    with: CrateId,
    outstanding: usize,
    lent: bool,
}

impl LoanList {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Notes one, seen from a crate that is on `side` of it.
    pub(crate) fn push(&mut self, info: &LoanInfo, side: Side) {
        let lent = side == Side::Lender;
        let with = if lent { info.borrower } else { info.lender };
        if let Some(place) = self.first.get_mut(self.count) {
            *place = Some(Entry { with, outstanding: info.outstanding, lent });
        }
        self.count += 1;
    }
}

impl fmt::Display for LoanList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.first.iter().flatten().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let verb = if entry.lent { "has lent" } else { "owes" };
            write!(f, "{comma}it {verb} {} bytes to crate {}", entry.outstanding, entry.with)?;
        }
        match self.count.saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, ", and {more} loans more"),
        }
    }
}
