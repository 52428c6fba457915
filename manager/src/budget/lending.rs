//! The book and the tree: what the host allows, what is lent by it, and what an end of a crate asks for.

use core::time::Duration;

use super::amount::{Amount, Units};
use super::id::CrateId;
use super::slot::{Index, Slot};
use super::tracker::BudgetTracker;
use super::transfer::NotLent;
use crate::error::{MemoryError, Result};
use crate::sharing::{Book, Key, LendingRule, LoanInfo, LoanList, LoanTerms, Side, Stage};
use crate::sync::Ordering;
use crate::verification::Operation;

/// What tells the time, since whenever.
pub(crate) type Clock = fn() -> Duration;

const FULL: MemoryError = MemoryError::InvalidConfig {
    what: "no more rules or loans can be entered: a crate has at most 64 on either side, a manager without `alloc` 2",
};

const NO_CLOCK: MemoryError = MemoryError::InvalidConfig {
    what: "terms with a deadline need a clock: give the manager one with `Builder::clock`",
};

const NO_BYTES: MemoryError = MemoryError::InvalidConfig { what: "a loan is of at least one byte" };

const RELATIVES: MemoryError = MemoryError::InvalidConfig {
    what: "a crate cannot lend to itself, nor to one that is above or below it: those share one budget already",
};

const HARDER_TERMS: MemoryError = MemoryError::InvalidConfig {
    what: "a loan cannot have harder terms than its rule: allow `Evictable`, with this deadline or a shorter one, in the rule",
};

impl BudgetTracker {
    /// The number of a crate's standing, 0 where it has none.
    pub(super) fn standing(&self, index: Index) -> u32 {
        self.slot(index).sharing.load(Ordering::SeqCst)
    }

    pub(super) fn open_standing(&self, book: &mut Book, index: Index) -> Result<u32> {
        match self.standing(index) {
            0 => {
                let number = book.open_standing(index).map_err(|_| FULL)?;
                self.slot(index).sharing.store(number, Ordering::SeqCst);
                Ok(number)
            }
            number => Ok(number),
        }
    }

    pub(super) fn close_standing(&self, book: &mut Book, index: Index) {
        let number = self.standing(index);
        if number != 0 && book.close_standing(number) {
            self.slot(index).sharing.store(0, Ordering::SeqCst);
        }
    }

    /// Whether a crate has to do with others at all.
    #[inline]
    pub(super) fn shares(slot: &Slot) -> bool {
        slot.sharing.load(Ordering::SeqCst) != 0
    }

    /// The slot of a crate that has not been retired, and, under the book's lock, is not before that is
    /// released: closing takes the lock. The id is looked at after the word, which in the next crate's hands is
    /// open again, but under another generation.
    fn resolve_open(&self, id: CrateId) -> Result<&Slot> {
        let closed = self.resolve(id)?.budget.load().closed;
        let slot = self.resolve(id)?;
        if closed { Err(MemoryError::StaleCrate { id }) } else { Ok(slot) }
    }

    /// Sets what the host allows a pair of crates.
    pub(crate) fn allow(&self, lender: CrateId, borrower: CrateId, rule: &LendingRule) -> Result<()> {
        if let (LoanTerms::Evictable { .. }, None) = (rule.terms, self.clock) {
            return Err(NO_CLOCK);
        }
        let most = self.scale.down(rule.most);
        let allowed = self.book().with(|book| {
            self.resolve_open(lender)?;
            self.resolve_open(borrower)?;
            if self.path(lender.index, borrower.index).is_none() {
                return Err(RELATIVES);
            }
            let entered = self.open_standing(book, lender.index).and_then(|from| {
                let to = self.open_standing(book, borrower.index)?;
                book.set_rule([from, to], most, rule.terms, rule.automatic).map_err(|_| FULL)
            });
            if entered.is_ok() {
                self.observe(|| Operation::Allowed { lender, borrower, rule: *rule });
            }
            for index in [lender.index, borrower.index] {
                self.close_standing(book, index);
            }
            entered
        });
        // Who shares keeps no blocks: what it frees is for others.
        if allowed.is_ok() {
            for index in [lender.index, borrower.index] {
                self.empty(index, self.slot(index));
            }
        }
        allowed
    }

    /// Ends what the host allowed a pair. Loans that were made stay.
    pub(crate) fn forbid(&self, lender: CrateId, borrower: CrateId) -> Result<()> {
        self.book().with(|book| {
            self.resolve_open(lender)?;
            self.resolve_open(borrower)?;
            let rule = book.rule_between(self.standing(lender.index), self.standing(borrower.index));
            if let Some(rule) = rule {
                book.end_rule(rule);
                self.observe(|| Operation::Forbidden { lender, borrower });
            }
            for index in [lender.index, borrower.index] {
                self.close_standing(book, index);
            }
            Ok(())
        })
    }

    /// What the host allows a pair now, and how much of it is lent. Not a rule that ended and waits for its loans.
    pub(crate) fn allowed(&self, lender: CrateId, borrower: CrateId) -> Result<Option<(LendingRule, usize)>> {
        self.book().with(|book| {
            self.resolve_open(lender)?;
            self.resolve_open(borrower)?;
            let rule = book.rule_between(self.standing(lender.index), self.standing(borrower.index));
            let rule = rule.and_then(|rule| book.rule(rule)).filter(|rule| !rule.most.is_zero());
            Ok(rule.map(|rule| {
                let most = self.scale.bytes(rule.most);
                let allowed = LendingRule { most, terms: rule.terms, automatic: rule.automatic };
                (allowed, self.scale.bytes(rule.out))
            }))
        })
    }

    /// Lends `n` by the rule there is for the pair.
    pub(crate) fn lend(
        &self,
        lender: CrateId,
        borrower: CrateId,
        n: Units,
        terms: Option<LoanTerms>,
    ) -> Result<Key> {
        if n.is_zero() {
            return Err(NO_BYTES);
        }
        let key = self.moving(None, |book| {
            let (l, b) = (self.resolve_open(lender)?, self.resolve_open(borrower)?);
            let names = (l.name(), b.name());
            let asked = self.scale.bytes(n);
            let number = book.rule_between(self.standing(lender.index), self.standing(borrower.index));
            let rule = number.and_then(|number| Some((number, book.rule(number)?)));
            let (number, rule) = rule.ok_or(MemoryError::LendingNotAllowed {
                lender: names.0,
                borrower: names.1,
                asked,
                most: 0,
                lent: 0,
            })?;
            if !rule.out.plus_saturating(&n).at_most(&rule.most) {
                return Err(MemoryError::LendingNotAllowed {
                    lender: names.0,
                    borrower: names.1,
                    asked,
                    most: self.scale.bytes(rule.most),
                    lent: self.scale.bytes(rule.out),
                });
            }
            let terms = match (terms, rule.terms) {
                (None, terms) => terms,
                (Some(LoanTerms::Evictable { deadline }), LoanTerms::Evictable { deadline: least })
                    if deadline >= least =>
                {
                    LoanTerms::Evictable { deadline }
                }
                (Some(LoanTerms::Evictable { .. }), _) => return Err(HARDER_TERMS),
                (Some(LoanTerms::Idle), _) => LoanTerms::Idle,
            };
            let lendable = self.lendable(book, lender.index);
            if !n.at_most(&lendable) {
                return Err(MemoryError::NothingToLend {
                    lender: names.0,
                    asked,
                    lendable: self.scale.bytes(lendable),
                });
            }
            self.lend_by_rule(book, number, n, terms, false).map_err(|why| match why {
                NotLent::NoPlace => FULL,
                NotLent::NotIdle => MemoryError::NothingToLend {
                    lender: names.0,
                    asked,
                    lendable: self.scale.bytes(self.lendable(book, lender.index)),
                },
            })
        })?;
        self.tend();
        Ok(key)
    }

    /// The handle of a loan goes: what is not back yet is recalled.
    pub(crate) fn end_loan(&self, key: Key) -> Units {
        let came = self.recall(key);
        self.book().with(|book| {
            self.observe(|| Operation::LetGo { loan: key.number });
            book.let_go(key);
        });
        came
    }

    /// Bytes lent by a crate, lent to it, and owed by it.
    pub(crate) fn sums(&self, index: Index) -> (Units, Units, Units) {
        if !Self::shares(self.slot(index)) {
            return (Units::ZERO, Units::ZERO, Units::ZERO);
        }
        self.book().with(|book| {
            let standing = book.standing(self.standing(index));
            (standing.lent, standing.borrowed, standing.owed)
        })
    }

    /// Room that has gone from a node's limit, and comes back: what it has lent, and what crates below it have.
    pub(crate) fn room_away(&self, index: Index) -> Units {
        if !Self::shares(self.slot(index)) {
            return Units::ZERO;
        }
        self.book().with(|book| {
            let standing = book.standing(self.standing(index));
            let passed_up = u32::try_from(standing.passed.saturating_neg())
                .ok()
                .and_then(Units::new)
                .unwrap_or(Units::ZERO);
            standing.lent.plus_saturating(&passed_up)
        })
    }

    /// The loans past their deadline of which the host was not told yet, one at a time.
    pub(crate) fn next_overdue(&self) -> Option<LoanInfo> {
        let now = self.clock?();
        self.book().with(|book| {
            let number = (1..book.loans_up_to()).find(|&number| {
                book.key(number).and_then(|key| book.loan(key)).is_some_and(|record| {
                    record.is_open() && !record.overdue && record.deadline.is_some_and(|at| at <= now)
                })
            })?;
            book.loan_mut(number)?.overdue = true;
            self.info(book, number)
        })
    }

    /// The host is ending a borrower: its overdue loans will end as evicted. Returns how many there are.
    pub(crate) fn evict(&self, id: CrateId) -> Result<usize> {
        let now = self.clock.map(|clock| clock());
        self.book().with(|book| {
            self.resolve_open(id)?;
            let mut evicting = 0;
            let mut at = book.loans_of(self.standing(id.index), Side::Borrower).next();
            while let Some(number) = at {
                at = book.loan_after(number, Side::Borrower);
                let Some(record) = book.loan_mut(number) else { break };
                let late = now.zip(record.deadline).is_some_and(|(now, deadline)| deadline <= now);
                if matches!(record.stage, Stage::Recalling | Stage::Evicting) && late {
                    record.stage = Stage::Evicting;
                    evicting += 1;
                }
            }
            Ok(evicting)
        })
    }

    /// What a loan is now. `None` where there is none of this number.
    pub(crate) fn info(&self, book: &Book, number: u32) -> Option<LoanInfo> {
        let record = book.loan(book.key(number)?)?;
        let [lender, borrower] = record.ids;
        Some(LoanInfo {
            lender,
            borrower,
            bytes: self.scale.bytes(record.amount),
            outstanding: self.scale.bytes(record.outstanding),
            state: record.stage.into(),
            terms: record.terms,
            overdue: record.overdue,
            automatic: record.automatic,
        })
    }

    /// The open loans of a crate, on either side.
    pub(super) fn open_loans(&self, book: &Book, index: Index) -> LoanList {
        let mut list = LoanList::default();
        for side in [Side::Lender, Side::Borrower] {
            for number in book.loans_of(self.standing(index), side) {
                if let Some(info) = self.info(book, number) {
                    list.push(&info, side);
                }
            }
        }
        list
    }

    /// A crate that has no loans leaves the book, with the rules of and for it.
    pub(super) fn leave_book(&self, book: &mut Book, index: Index) {
        for side in [Side::Lender, Side::Borrower] {
            loop {
                let next = book.rules_of(self.standing(index), side).next();
                let Some(rule) = next else { break };
                let others = book.rule(rule).map(|rule| rule.parties[1 - side as usize]);
                book.end_rule(rule);
                if let Some(other) = others {
                    self.close_standing(book, book.standing(other).index);
                }
            }
        }
        self.close_standing(book, index);
    }
}
