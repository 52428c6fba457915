//! The rungs of sharing on the ladder of a charge that finds no bytes (see
//! [`CrossCrateCoordinator`](crate::CrossCrateCoordinator)): what was lent comes back, and what others leave idle is borrowed.
//!
//! Each rung looks at the lists of the crate that asks and at those of its lenders, which are bounded
//! (`MOST_PER_CRATE` in `book.rs`): never at all crates, nor at all loans.

use super::amount::{Amount, Units};
use super::credit::Credit;
use super::slot::{Index, Slot};
use super::tracker::{BudgetTracker, Effort, Shortage, visited};
use super::transition::{self, Refusal};
use crate::sharing::{Book, Key, Record, Side, Stage};
use crate::sync::Ordering;
use crate::waiting::Turn;

/// Lenders for one charge, at most.
const LENDERS: usize = 8;

/// Loans that were made for one charge.
struct Borrowed {
    loans: [Option<(Key, Units)>; LENDERS],
    count: usize,
}

/// What a crate may still get from others, at one look under the book's lock.
pub(super) struct Dealings {
    /// Anybody may lend to it.
    pub(super) may_borrow: bool,
    /// It has lent so much.
    pub(super) lent: Units,
}

impl BudgetTracker {
    pub(super) fn dealings(&self, index: Index) -> Dealings {
        self.book().with(|book| {
            let standing = book.standing(self.standing(index));
            Dealings { may_borrow: standing.may_borrow(), lent: standing.lent }
        })
    }

    /// The rungs of sharing for a charge: what the crate lent comes back before anything else. Not for a
    /// charge that would pass its limit with all of that, and can borrow nothing: it is denied in any case.
    pub(super) fn charge_with_what_comes_back(
        &self,
        index: Index,
        slot: &Slot,
        n: Units,
        dealings: &Dealings,
    ) -> Option<Credit<'_>> {
        let state = slot.budget.load();
        let limit = state.limit.plus_saturating(&dealings.lent);
        if !dealings.may_borrow && !state.used.plus_saturating(&n).at_most(&limit) {
            return None;
        }
        // What comes to one that owes backs what it uses first: what that lacks goes to whom it owes.
        let usable = if state.owes { state.floor } else { state.held };
        let lacking = state.used.plus_saturating(&n).above(&usable.least(&state.limit));
        if self.call_back(index, lacking).is_zero() {
            return None;
        }
        self.collect_idle(index, slot);
        self.charge_once(index, slot, n)
    }

    /// As the last rung but waiting: borrows what is lacking, and charges. What is lacking may be room
    /// below the limit first and bytes then.
    pub(super) fn charge_with_loans(
        &self,
        index: Index,
        slot: &Slot,
        n: Units,
        shortage: Shortage,
        turn: Turn,
    ) -> Option<Credit<'_>> {
        let mut refusal = shortage.refusal;
        let mut made = Borrowed { loans: [None; LENDERS], count: 0 };
        while let Refusal::Short(short) | Refusal::OverLimit(short) = refusal {
            // What comes to one that owes backs what it uses first.
            let state = slot.budget.load();
            let owed = if state.owes { state.used.above(&state.floor) } else { Units::ZERO };
            let lacking = short.plus_saturating(&owed);
            // Each round makes a loan at least, and there are places for few.
            if !self.borrow_for(index, lacking, &mut made) {
                break;
            }
            self.tend();
            if let Some(credit) = self.charge_once(index, slot, n) {
                return Some(credit);
            }
            match self.take(index, n, Units::ZERO, Effort::Full { asker: index, turn }) {
                Ok(credit) => return Some(credit),
                Err(shortage) => refusal = shortage.refusal,
            }
        }
        // They did not help.
        self.moving(Some(index), |book| {
            for (key, part) in made.loans.iter().flatten() {
                if book.loan(*key).is_some() {
                    self.recall_part(book, key.number, *part);
                }
            }
        });
        None
    }

    pub(super) fn charge_once(&self, index: Index, slot: &Slot, n: Units) -> Option<Credit<'_>> {
        let (state, ()) = slot.budget.apply(|state| transition::charge(state, &n)).ok()?;
        slot.raise_high_water(state.used);
        Some(Credit::taken(self, index, n, Units::ZERO))
    }

    /// A crate in need of `needed` bytes gets back what it lent: first what borrowers have idle, the
    /// oldest loan first, then what its parent has free, which makes good for what its siblings use.
    /// Returns how much came.
    fn call_back(&self, index: Index, needed: Units) -> Units {
        let mut got = Units::ZERO;
        self.moving(Some(index), |book| {
            // What is idle, of all; a batch at a time, so that a crate that grows step by step does not ask at
            // each.
            let mut at = book.loans_of(self.standing(index), Side::Lender).next();
            while let (Some(loan), true) = (at, got < needed) {
                at = book.loan_after(loan, Side::Lender);
                let ample = book.loan_mut(loan).map_or(Units::ZERO, |record| record.outstanding.eighth());
                let wish = needed.above(&got).most(&self.batch).most(&ample);
                got = got.plus_saturating(&self.take_idle(book, loan, wish));
            }
            // What is in use: just so much of it is a debt from now on.
            let mut debt = Units::ZERO;
            while got.plus_saturating(&debt) < needed {
                let standing = self.standing(index);
                let next = book.find_loan(standing, Side::Lender, |record| record.stage == Stage::Active);
                let Some(loan) = next else { break };
                let wish = needed.above(&got).above(&debt);
                let part = book.loan_mut(loan).map_or(Units::ZERO, |record| record.outstanding.least(&wish));
                let came = self.recall_part(book, loan, wish);
                got = got.plus_saturating(&came);
                debt = debt.plus_saturating(&part.above(&came));
            }
        });
        while got < needed {
            let made_good = self.make_good(index, needed.above(&got));
            if made_good.is_zero() {
                break;
            }
            got = got.plus_saturating(&made_good);
        }
        got
    }

    /// Replaces room that a crate lent to a sibling, recalled, and has not back, by what their parent
    /// has free: the borrower's use of it is then use like any other. Returns how much.
    fn make_good(&self, index: Index, most: Units) -> Units {
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
        let Some((_, outstanding, _)) = self.book().with(|book| owed_by_siblings(book)) else {
            return Units::ZERO;
        };
        let wish = outstanding.least(&most);
        // What is guaranteed goes before those who wait.
        let effort = Effort::Full { asker: index, turn: Turn::FIRST };
        let Ok(credit) = self.take(parent, wish, Units::ZERO, effort) else {
            return Units::ZERO;
        };
        // The debt may have been paid meanwhile: what is then too much goes back with the credit.
        let made_good = self.book().with(|book| {
            let (loan, outstanding, borrower) = owed_by_siblings(book)?;
            let part = outstanding.least(&credit.amount());
            self.receive(book, index, part);
            self.observe_back([index, borrower], part, true);
            let ended = book.note_repaid(loan, part);
            let slot = self.slot(borrower);
            // Its debt is less, or none, from now on.
            let spilled = self.collect_in(book, borrower, slot);
            if ended {
                self.close_standing(book, index);
                self.close_standing(book, borrower);
            }
            Some((part, spilled, borrower))
        });
        let Some((part, spilled, borrower)) = made_good else { return Units::ZERO };
        let rest = credit.amount().above(&part).plus_saturating(&spilled);
        // The lender has its part: before anybody is told, who may panic, the credit is what is left of it.
        credit.absorb();
        let rest = Credit::taken(self, parent, rest, Units::ZERO);
        self.after_moving(Some(index));
        drop(rest);
        // What it was left may be stock, and its seat another's by now.
        self.settle(borrower);
        part
    }

    /// Borrows `lacking` for a crate that would be denied otherwise, from those whose rules let the
    /// coordinator: siblings first. `false`, and nothing was moved, where they have not so much idle.
    fn borrow_for(&self, index: Index, lacking: Units, made: &mut Borrowed) -> bool {
        self.moving(Some(index), |book| {
            let number = self.standing(index);
            let places = LENDERS - made.count;
            if lacking.is_zero() || !self.could_borrow(book, index, lacking, places) {
                return false;
            }
            let (mut missing, borrowed) = (lacking, book.standing(number).borrowed);
            for siblings in [true, false] {
                let mut at = book.rules_of(number, Side::Borrower).next();
                while let (Some(rule_number), false) = (at, missing.is_zero()) {
                    let Some(rule) = book.rule(rule_number) else { break };
                    let (left, automatic, terms) = (rule.most.above(&rule.out), rule.automatic, rule.terms);
                    let lender = book.standing(rule.parties[0]).index;
                    let is_sibling = self.slot(lender).parent.load(Ordering::Relaxed)
                        == self.slot(index).parent.load(Ordering::Relaxed);
                    at = book.rule_after(rule_number, Side::Borrower);
                    if !automatic || left.is_zero() || is_sibling != siblings || made.count == LENDERS {
                        continue;
                    }
                    self.call_idle_in(book, lender, missing.least(&left), index);
                    let room = self.lendable(book, lender);
                    // A batch at a time, and the more the more it has borrowed, so that a crate that grows step by
                    // step does not borrow at each; and
                    // no more than half beyond what is needed, so that the lender does not call it back at
                    // its own next step.
                    let ample = self.batch.most(&borrowed.eighth()).least(&room.half());
                    let part = missing.most(&ample).least(&room).least(&left);
                    if part.is_zero() {
                        continue;
                    }
                    if let Ok(key) = self.lend_by_rule(book, rule_number, part, terms, true) {
                        missing = missing.above(&part);
                        made.loans[made.count] = Some((key, part));
                        made.count += 1;
                    }
                }
            }
            // What else there was, somebody was quicker to use: the caller undoes what was made.
            missing.is_zero()
        })
    }

    /// Whether those who lend to a crate by themselves have so much idle, or idle with others to whom
    /// they lent it.
    fn could_borrow(&self, book: &Book, index: Index, lacking: Units, lenders: usize) -> bool {
        let rules = || {
            let rules = book.rules_of(self.standing(index), Side::Borrower);
            let rules = rules.filter_map(|number| book.rule(number)).filter(|rule| rule.automatic);
            rules.map(|rule| (rule.parties[0], rule.most.above(&rule.out)))
        };
        let most = rules().fold(Units::ZERO, |most, (_, left)| most.plus_saturating(&left));
        if most < lacking || lenders == 0 {
            return false;
        }
        let (mut found, mut lenders) = (Units::ZERO, lenders);
        for (lender, left) in rules() {
            let mut room = self.lendable(book, book.standing(lender).index);
            for loan in book.loans_of(lender, Side::Lender) {
                if room >= left {
                    break;
                }
                let record = book.key(loan).and_then(|key| book.loan(key));
                let idle = record.map_or(Units::ZERO, |record| self.left_idle(book, record, index));
                room = room.plus_saturating(&idle);
            }
            let part = room.least(&left);
            found = found.plus_saturating(&part);
            lenders -= usize::from(!part.is_zero());
            if found >= lacking || lenders == 0 {
                break;
            }
        }
        found >= lacking
    }

    /// What another than `asker` has idle of what the coordinator lent to it.
    fn left_idle(&self, book: &Book, record: &Record, asker: Index) -> Units {
        visited();
        let borrower = book.standing(record.parties[1]).index;
        if !record.automatic || record.stage != Stage::Active || borrower == asker {
            return Units::ZERO;
        }
        let state = self.slot(borrower).budget.load();
        // What one that owes has idle above its floor is others' already.
        let usable = if state.owes { state.used.most(&state.floor) } else { state.held };
        record.outstanding.least(&usable.above(&state.used))
    }

    /// What a crate lent by the coordinator and nobody uses comes home, so that another may borrow it.
    fn call_idle_in(&self, book: &mut Book, lender: Index, needed: Units, asker: Index) {
        loop {
            let missing = needed.above(&self.lendable(book, lender));
            let idle = book.find_loan(self.standing(lender), Side::Lender, |record| {
                !self.left_idle(book, record, asker).is_zero()
            });
            let (Some(loan), false) = (idle, missing.is_zero()) else { return };
            if self.take_idle(book, loan, missing).is_zero() {
                return;
            }
        }
    }

    /// Recalls the loans the coordinator made to or from a crate, unless there are others: those keep it
    /// in any case.
    pub(super) fn end_automatic(&self, index: Index) {
        self.moving(None, |book| {
            let sides = [Side::Borrower, Side::Lender];
            let number = self.standing(index);
            if sides.iter().any(|&side| book.find_loan(number, side, |record| !record.automatic).is_some()) {
                return;
            }
            for side in sides {
                loop {
                    let made =
                        book.find_loan(self.standing(index), side, |record| record.stage == Stage::Active);
                    let Some(loan) = made else { break };
                    self.recall_in(book, loan);
                }
            }
        });
        self.tend();
    }

    /// Returns every loan the coordinator made that its borrower has idle now.
    pub(crate) fn return_idle(&self) -> Units {
        let up_to = self.book().with(|book| book.loans_up_to());
        let mut came = Units::ZERO;
        for number in 1..up_to {
            // One at a time under the lock: it is never held for longer than one loan takes.
            let returned = self.moving(None, |book| {
                let automatic = book.loan_mut(number).is_some_and(|record| record.automatic);
                automatic.then(|| self.take_idle(book, number, Units::MAX))
            });
            self.tend();
            came = came.plus_saturating(&returned.unwrap_or(Units::ZERO));
        }
        came
    }
}
