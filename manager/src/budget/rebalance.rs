//! The rungs of sharing on the ladder of a charge that finds no bytes (see
//! [`CrossCrateCoordinator`](crate::CrossCrateCoordinator)): what was lent comes back, and what others leave idle is borrowed.

use super::amount::{Amount, Units};
use super::credit::Credit;
use super::slot::{Index, Slot};
use super::tracker::{BudgetTracker, Effort, Shortage};
use super::transition::{self, Refusal};
use crate::sharing::{Book, Key, Record, Side, Stage};
use crate::sync::Ordering;
use crate::waiting::Turn;

/// Lenders for one charge, at most.
const LENDERS: usize = 8;

/// Loans that were made for one charge.
struct Borrowed {
    loans: [Option<Key>; LENDERS],
    count: usize,
}

impl BudgetTracker {
    /// Whether anybody may lend to a crate, and whether it has lent.
    pub(super) fn dealings(&self, index: Index) -> (bool, bool) {
        self.book.with(|book| {
            let standing = book.standing(self.standing(index));
            (standing.may_borrow(), !standing.lent.is_zero())
        })
    }

    /// The rungs of sharing for a charge: what the crate lent comes back before anything else.
    pub(super) fn charge_with_what_comes_back(
        &self,
        index: Index,
        slot: &Slot,
        n: Units,
    ) -> Option<Credit<'_>> {
        if self.call_back(index, self.lacking(slot, n), index).is_zero() {
            return None;
        }
        self.charge_once(index, slot, n)
    }

    /// As the last rung but waiting: borrows what is lacking, and charges.
    pub(super) fn charge_with_loans(
        &self,
        index: Index,
        slot: &Slot,
        n: Units,
        shortage: Shortage,
        turn: Turn,
    ) -> Option<Credit<'_>> {
        let lacking = match shortage.refusal {
            Refusal::Short(by) | Refusal::OverLimit(by) => by,
            _ => return None,
        };
        let made = self.borrow_for(index, lacking)?;
        let charged = self
            .charge_once(index, slot, n)
            .or_else(|| self.take(index, n, Units::ZERO, Effort::Full { asker: index, turn }).ok());
        if charged.is_none() {
            self.return_loans(&made);
        }
        charged
    }

    fn charge_once(&self, index: Index, slot: &Slot, n: Units) -> Option<Credit<'_>> {
        let (state, ()) = slot.budget.apply(|state| transition::charge(state, &n)).ok()?;
        slot.raise_high_water(state.used);
        Some(Credit::taken(self, index, n, Units::ZERO))
    }

    /// What is missing for a charge of `n`, of what a loan would bring.
    fn lacking(&self, slot: &Slot, n: Units) -> Units {
        let state = slot.budget.load();
        let usable = if state.owes { state.used.most(&state.floor) } else { state.held };
        state.used.plus_saturating(&n).above(&usable.least(&state.limit))
    }

    /// A crate in need of `needed` bytes gets back what it lent: first what borrowers have idle, the
    /// oldest loan first, then what its parent has free, which makes good for what its siblings use.
    /// Returns how much came.
    fn call_back(&self, index: Index, needed: Units, asker: Index) -> Units {
        let mut got = self.moving(Some(index), |book| {
            let mut got = Units::ZERO;
            while got < needed {
                let standing = self.standing(index);
                let next = book.find_loan(standing, Side::Lender, |record| record.stage == Stage::Active);
                let Some(loan) = next else { break };
                got = got.plus_saturating(&self.recall_in(book, loan));
            }
            got
        });
        while got < needed {
            let made_good = self.make_good(index, needed.above(&got), asker);
            if made_good.is_zero() {
                break;
            }
            got = got.plus_saturating(&made_good);
        }
        got
    }

    /// Replaces room that a crate lent to a sibling, recalled, and has not back, by what their parent
    /// has free: the borrower's use of it is then use like any other. Returns how much.
    fn make_good(&self, index: Index, most: Units, asker: Index) -> Units {
        let parent = self.slot(index).parent.load(Ordering::Relaxed);
        let owed_by_siblings = |book: &Book| {
            let index_of = |record: &Record| book.standing(record.parties[1]).index;
            let loan = book.find_loan(self.standing(index), Side::Lender, |record| {
                let sibling = self.slot(index_of(record)).parent.load(Ordering::Relaxed) == parent;
                record.stage != Stage::Active && sibling
            })?;
            let record = book.loan(book.key(loan)?)?;
            Some((loan, record.outstanding, index_of(record)))
        };
        let Some((_, outstanding, _)) = self.book.with(|book| owed_by_siblings(book)) else {
            return Units::ZERO;
        };
        let wish = outstanding.least(&most);
        let Ok(credit) = self.take(parent, wish, Units::ZERO, Effort::Full { asker, turn: Turn::FIRST })
        else {
            return Units::ZERO;
        };
        // The debt may have been paid meanwhile: what is then too much goes back with the credit.
        let made_good = self.moving(Some(index), |book| {
            let (loan, outstanding, borrower) = owed_by_siblings(book)?;
            let part = outstanding.least(&credit.amount());
            self.receive(book, index, part);
            let ended = book.note_repaid(loan, part);
            let slot = self.slot(borrower);
            // Its debt is less, or none, from now on.
            let spilled = self.collect_in(book, borrower, slot);
            if ended {
                self.close_standing(book, index);
                self.close_standing(book, borrower);
            }
            Some((part, spilled))
        });
        let Some((part, spilled)) = made_good else { return Units::ZERO };
        let rest = credit.amount().above(&part);
        credit.absorb();
        self.give_back(parent, rest.plus_saturating(&spilled), Units::ZERO);
        part
    }

    /// Borrows up to `lacking` for a crate that would be denied otherwise, from those whose rules let
    /// the coordinator: siblings first. All of it or nothing; returns the loans made.
    fn borrow_for(&self, index: Index, lacking: Units) -> Option<Borrowed> {
        self.moving(Some(index), |book| {
            let number = self.standing(index);
            let mut missing = lacking;
            let mut made = Borrowed { loans: [None; LENDERS], count: 0 };
            for siblings in [true, false] {
                let mut at = book.rules_of(number, Side::Borrower).next();
                while let (Some(rule_number), false) = (at, missing.is_zero()) {
                    let Some(rule) = book.rule(rule_number) else { break };
                    let (out, most, automatic, terms) = (rule.out, rule.most, rule.automatic, rule.terms);
                    let lender = book.standing(rule.parties[0]).index;
                    let is_sibling = self.slot(lender).parent.load(Ordering::Relaxed)
                        == self.slot(index).parent.load(Ordering::Relaxed);
                    at = book.rule_after(rule_number, Side::Borrower);
                    if !automatic || is_sibling != siblings || made.count == LENDERS {
                        continue;
                    }
                    self.call_idle_in(book, lender, missing, index);
                    let room = self.lendable(book, lender).least(&most.above(&out));
                    // A batch at a time, so that a crate that grows step by step does not borrow at each.
                    let part = missing.most(&self.batch).least(&room);
                    if part.is_zero() {
                        continue;
                    }
                    if let Some(key) = self.lend_by_rule(book, rule_number, part, terms, true) {
                        missing = missing.above(&part);
                        made.loans[made.count] = Some(key);
                        made.count += 1;
                    }
                }
            }
            if missing.is_zero() {
                return Some(made);
            }
            // Not enough: as it was.
            for key in made.loans.into_iter().flatten() {
                self.recall_in(book, key.number);
            }
            None
        })
    }

    /// What a crate lent by the coordinator and nobody uses comes home, so that another may borrow it.
    fn call_idle_in(&self, book: &mut Book, lender: Index, needed: Units, asker: Index) {
        while self.lendable(book, lender) < needed {
            let idle = book.find_loan(self.standing(lender), Side::Lender, |record| {
                let borrower = book.standing(record.parties[1]).index;
                let idle = record.outstanding.at_most(&self.slot(borrower).budget.load().credit());
                idle && borrower != asker && record.automatic && record.stage == Stage::Active
            });
            let Some(loan) = idle else { return };
            self.recall_in(book, loan);
        }
    }

    /// Undoes loans that did not help.
    fn return_loans(&self, made: &Borrowed) {
        for key in made.loans.iter().flatten() {
            self.recall(*key);
        }
    }

    /// Recalls the loans the coordinator made to or from a crate.
    pub(super) fn end_automatic(&self, index: Index) {
        self.moving(None, |book| {
            for side in [Side::Borrower, Side::Lender] {
                loop {
                    let made = book.find_loan(self.standing(index), side, |record| {
                        record.automatic && record.stage == Stage::Active
                    });
                    let Some(loan) = made else { break };
                    self.recall_in(book, loan);
                }
            }
        });
    }

    /// Returns every loan the coordinator made that its borrower has idle now.
    pub(crate) fn return_idle(&self) -> Units {
        let up_to = self.book.with(|book| book.loans_up_to());
        let mut came = Units::ZERO;
        for number in 1..up_to {
            // One at a time under the lock: it is never held for longer than one loan takes.
            let returned = self.moving(None, |book| {
                let record = book.loan_mut(number)?;
                let (automatic, active, borrower, outstanding) =
                    (record.automatic, record.stage == Stage::Active, record.parties[1], record.outstanding);
                let credit = self.slot(book.standing(borrower).index).budget.load().credit();
                (automatic && active && outstanding.at_most(&credit)).then(|| self.recall_in(book, number))
            });
            came = came.plus_saturating(&returned.unwrap_or(Units::ZERO));
        }
        came
    }
}
