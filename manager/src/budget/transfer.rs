//! How guaranteed room moves between crates: whole, that is held bytes, floor and limit together, up
//! from the lender to the first node that is above both, and down to the borrower.
//!
//! Every step is one swap of one word. The book's lock is held over the steps of one loan, so loans come
//! one after another; charges do not wait for it, and meet each word before or after a step. In between,
//! the room is counted as used by the node above, like any credit on its way: nobody can sweep it.
//!
//! A debt is what was recalled while the borrower was using it. Its word says `owes`: what becomes idle
//! stays in it, unusable, until whoever freed it has come here ([`collect`](BudgetTracker::collect)) and
//! sent it to the lender.
//!
//! Nothing under the lock gives bytes back to a parent: that may find a parent that owes, and come here.

use super::amount::{Amount, Units};
use super::lifecycle::MAX_DEPTH;
use super::slot::{Index, ROOT, Slot};
use super::tracker::BudgetTracker;
use super::transition;
use crate::sharing::{Book, Key, LoanTerms, Side, Stage};
use crate::sync::{Ordering, change_then_look};
use crate::verification::Operation;

/// Crates seen to at one time, at most.
const TENDED: usize = 16;

/// Why a loan was not made.
pub(super) enum NotLent {
    /// The lender has not so much idle any more.
    NotIdle,
    /// The book is full.
    NoPlace,
}

/// The nodes strictly between two crates, on either side of the first node above both.
pub(super) struct Path {
    up: [Index; MAX_DEPTH as usize],
    ups: usize,
    down: [Index; MAX_DEPTH as usize],
    downs: usize,
}

impl Path {
    /// From the lender's parent upwards.
    fn up(&self) -> &[Index] {
        &self.up[..self.ups]
    }

    /// From the borrower's parent upwards.
    fn down(&self) -> &[Index] {
        &self.down[..self.downs]
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = Index> + '_ {
        self.up().iter().chain(self.down()).copied()
    }
}

impl BudgetTracker {
    /// The way from one crate to another. `None` where one is above the other, or both are the same.
    pub(super) fn path(&self, from: Index, to: Index) -> Option<Path> {
        let depth = |index| self.slot(index).depth.load(Ordering::Relaxed);
        let parent = |index| self.slot(index).parent.load(Ordering::Relaxed);
        let mut path =
            Path { up: [ROOT; MAX_DEPTH as usize], ups: 0, down: [ROOT; MAX_DEPTH as usize], downs: 0 };
        let (mut a, mut b) = (from, to);
        while a != b {
            // Both start below the node they meet at: a step up never leaves the tree.
            if depth(a) >= depth(b) {
                a = parent(a);
                if a == to {
                    return None;
                }
                *path.up.get_mut(path.ups)? = a;
                path.ups += 1;
            } else {
                b = parent(b);
                if b == from {
                    return None;
                }
                *path.down.get_mut(path.downs)? = b;
                path.downs += 1;
            }
        }
        if from == to {
            return None;
        }
        // The node above both was entered by whichever came there last, or by each.
        path.ups -= usize::from(path.up().last() == Some(&a));
        path.downs -= usize::from(path.down().last() == Some(&a));
        Some(path)
    }

    /// Moves room by a rule and enters the loan, or moves nothing. To be followed by [`tend`](Self::tend), as
    /// everything here that moves room.
    pub(super) fn lend_by_rule(
        &self,
        book: &mut Book,
        rule: u32,
        n: Units,
        terms: LoanTerms,
        automatic: bool,
    ) -> Result<Key, NotLent> {
        let parties = book.rule(rule).ok_or(NotLent::NotIdle)?.parties;
        let [from, to] = parties.map(|number| book.standing(number).index);
        let path = self.path(from, to).ok_or(NotLent::NotIdle)?;
        let part_of = if automatic { book.automatic_by(rule) } else { None };
        if let Some(key) = part_of.and_then(|loan| book.key(loan)) {
            if self.slot(from).budget.apply(|state| transition::lend(state, &n)).is_err() {
                return Err(NotLent::NotIdle);
            }
            book.change_loan(key.number, n, Units::ZERO);
            self.pass(book, &path, n);
            // Before the bytes come: who gives up what it need not keep keeps these.
            self.note_borrowed(book, to);
            self.receive(book, to, n);
            self.observe_lent([from, to], n, key, automatic);
            book.tally.transfers += 1;
            return Ok(key);
        }
        if !book.has_place(rule) {
            return Err(NotLent::NoPlace);
        }
        // Everything that could be refused comes before the first swap.
        for (at, node) in path.nodes().enumerate() {
            if let Ok(number) = self.open_standing(book, node) {
                book.pass_through(number, true);
            } else {
                self.leave_path(book, path.nodes().take(at));
                return Err(NotLent::NoPlace);
            }
        }
        let lent = self.slot(from).budget.apply(|state| transition::lend(state, &n)).is_ok();
        let ids = [from, to].map(|index| self.id_at(index));
        let entered = lent.then(|| book.open_loan(rule, ids, n, terms, automatic).ok());
        let Some(Some(key)) = entered else {
            // The lender used it meanwhile, or the machine has no memory for the book.
            if lent {
                self.receive(book, from, n);
            }
            self.leave_path(book, path.nodes());
            return Err(if lent { NotLent::NoPlace } else { NotLent::NotIdle });
        };
        self.pass(book, &path, n);
        // Before the bytes come: who gives up what it need not keep keeps these.
        self.note_borrowed(book, to);
        self.receive(book, to, n);
        self.observe_lent([from, to], n, key, automatic);
        book.tally.transfers += 1;
        Ok(key)
    }

    /// What a crate could lend now: of its own guarantee, what is idle and not lent yet.
    pub(super) fn lendable(&self, book: &Book, index: Index) -> Units {
        let slot = self.slot(index);
        let state = slot.budget.load();
        if state.owes || state.closed {
            return Units::ZERO;
        }
        let own = Units::new(slot.own_guarantee.load(Ordering::SeqCst)).unwrap_or(Units::MAX);
        let left = own.above(&book.standing(self.standing(index)).lent);
        state.credit().least(&state.floor).least(&left)
    }

    fn observe_lent(&self, parties: [Index; 2], n: Units, key: Key, automatic: bool) {
        self.observe(|| {
            let [lender, borrower] = parties.map(|index| self.id_at(index));
            Operation::Lent { lender, borrower, bytes: self.scale.bytes(n), loan: key.number, automatic }
        });
    }

    pub(super) fn observe_back(&self, parties: [Index; 2], n: Units, owed: bool) {
        self.observe(|| {
            let [lender, borrower] = parties.map(|index| self.id_at(index));
            Operation::CameBack { lender, borrower, bytes: self.scale.bytes(n), owed }
        });
    }

    fn leave_path(&self, book: &mut Book, nodes: impl Iterator<Item = Index>) {
        for node in nodes {
            book.pass_through(self.standing(node), false);
            self.close_standing(book, node);
        }
    }

    /// A section that moves room. After it, those who have idle what is not theirs are seen to, and who waits
    /// for what came is served: not at `asker`, which is about to charge what it brings, and is served then.
    pub(super) fn moving<R>(&self, asker: Option<Index>, section: impl FnOnce(&mut Book) -> R) -> R {
        let result = self.book().with(section);
        self.after_moving(asker);
        result
    }

    /// What is to be done after a section that moved room.
    pub(super) fn after_moving(&self, asker: Option<Index>) {
        self.tend();
        self.tell(asker);
    }

    /// Tells those who wait, and those who watch, where room has come.
    fn tell(&self, asker: Option<Index>) {
        let mut came = self.book().with(|book| self.take_came(book));
        if came.is_some() {
            // Limits have changed with the room.
            self.pressure_relimited();
        }
        while let Some(index) = came {
            if asker != Some(index) {
                self.stir(index);
            }
            came = self.book().with(|book| self.take_came(book));
        }
    }

    fn take_came(&self, book: &mut Book) -> Option<Index> {
        let index = book.take_came()?;
        self.close_standing(book, index);
        Some(index)
    }

    /// Passes `n` that a crate has just let go along a path.
    fn pass(&self, book: &mut Book, path: &Path, n: Units) {
        for &node in path.up() {
            let passed = self.slot(node).budget.apply(|state| transition::pass_up(state, &n));
            debug_assert!(passed.is_ok(), "node {node} passes up what its child held: {:?}", passed.err());
            self.note_passed(book, node, n, false);
        }
        for &node in path.down().iter().rev() {
            let passed = self.slot(node).budget.apply(|state| transition::pass_down(state, &n));
            debug_assert!(passed.is_ok(), "node {node} passes down what it is given: {:?}", passed.err());
            self.note_passed(book, node, n, true);
        }
    }

    fn note_borrowed(&self, book: &Book, index: Index) {
        let borrowed = book.standing(self.standing(index)).borrowed;
        self.slot(index).borrowed.store(borrowed.get(), Ordering::SeqCst);
    }

    fn note_passed(&self, book: &mut Book, node: Index, n: Units, down: bool) {
        if let Some(standing) = book.standing_mut(self.standing(node)) {
            // Within a field, whose sign bit is free.
            let n = n.get() as i32;
            standing.passed += if down { n } else { -n };
        }
    }

    /// The floor that comes may cover bytes that were in use above the floor: as many are then idle, for whom
    /// the crate owes, or for its parent. They are seen to after the lock ([`tend`](Self::tend)).
    pub(super) fn receive(&self, book: &mut Book, to: Index, n: Units) {
        let slot = self.slot(to);
        let received = slot.budget.apply(|state| transition::borrow(state, &n));
        // Not closed, as retiring takes the book's lock; within the field, as totals are half of one.
        debug_assert!(received.is_ok(), "node {to} takes room over: {:?}", received.as_ref().err());
        book.note_came(self.standing(to));
        if let Ok((state, ())) = received
            && !state.stock().is_zero()
            && (state.owes || !self.spare(slot, &state).is_zero())
        {
            book.mark_due(self.standing(to));
            self.due.store(true, Ordering::SeqCst);
        }
    }

    /// Sees to crates that have idle what is not theirs to keep, since the room came that covers their use. A
    /// few at a time: each may pay another's debt, and so make that one due. Who comes here next goes on.
    #[inline]
    pub(super) fn tend(&self) {
        if self.due.load(Ordering::SeqCst) {
            self.tend_those_due();
        }
    }

    #[cold]
    fn tend_those_due(&self) {
        for _ in 0..TENDED {
            if !self.due.load(Ordering::SeqCst) {
                return;
            }
            let due = self.book().with(|book| {
                let Some(index) = book.take_due() else {
                    self.due.store(false, Ordering::SeqCst);
                    return None;
                };
                let slot = self.slot(index);
                let spilled = self.collect_in(book, index, slot);
                let owed = book.standing(self.standing(index)).owed;
                self.close_standing(book, index);
                Some((index, slot.parent.load(Ordering::Relaxed), spilled, owed))
            });
            let Some((index, parent, spilled, owed)) = due else { return };
            self.give_back_until(parent, spilled, Units::ZERO, None);
            self.stir(parent);
            if !owed.is_zero() && self.slot(index).children() != 0 {
                self.sweep(index, owed, index);
            }
            self.settle(index);
        }
    }

    /// Brings `n` from the borrower of a loan, which has let it go, to its lender.
    fn bring_back(&self, book: &mut Book, loan: u32, n: Units) {
        let Some(parties) = book.loan_mut(loan).map(|record| record.parties) else { return };
        let [lender, borrower] = parties.map(|number| book.standing(number).index);
        let Some(path) = self.path(borrower, lender) else { return };
        if !n.is_zero() {
            self.pass(book, &path, n);
            self.receive(book, lender, n);
            self.observe_back([lender, borrower], n, true);
        }
        if book.note_repaid(loan, n) {
            self.leave_path(book, path.nodes());
            self.close_standing(book, lender);
            self.close_standing(book, borrower);
        }
    }

    /// Recalls a loan: what is idle comes back now, the rest is a debt. Returns what came back.
    pub(crate) fn recall(&self, key: Key) -> Units {
        self.moving(None, |book| match book.loan(key).map(|record| record.stage) {
            Some(Stage::Active) => {
                self.observe(|| Operation::Recalling { loan: key.number });
                self.recall_in(book, key.number)
            }
            _ => Units::ZERO,
        })
    }

    pub(super) fn recall_in(&self, book: &mut Book, number: u32) -> Units {
        let Some(record) = book.loan_mut(number).filter(|record| record.stage == Stage::Active) else {
            return Units::ZERO;
        };
        let (outstanding, terms, [lender, borrower]) = (record.outstanding, record.terms, record.parties);
        let index = book.standing(borrower).index;
        // Before anything is changed: the clock is the host's code.
        let deadline = match (terms, self.clock) {
            (LoanTerms::Evictable { deadline }, Some(clock)) => Some(clock().saturating_add(deadline)),
            _ => None,
        };
        let slot = self.slot(index);
        let mut owed = false;
        let recalled = slot.budget.apply(|state| {
            owed = state.owes;
            transition::recall(state, &outstanding)
        });
        debug_assert!(recalled.is_ok(), "what was lent to node {index} is part of its floor and limit");
        let Ok((state, idle)) = recalled else { return Units::ZERO };
        if state.owes && !owed {
            self.debtors.fetch_add(1, Ordering::SeqCst);
            // Those below that gave before they could see it left what they have to be found.
            change_then_look();
        }
        book.note_recalled(number, deadline);
        self.observe(|| Operation::Owed {
            lender: self.id_at(book.standing(lender).index),
            borrower: self.id_at(index),
            bytes: self.scale.bytes(outstanding),
        });
        self.note_borrowed(book, index);
        // It may have kept more on the strength of it; and crates below a debtor may have stock, which pays for
        // this from now on.
        if !self.spare(slot, &state).is_zero() || (state.owes && slot.children() != 0) {
            book.mark_due(borrower);
            self.due.store(true, Ordering::SeqCst);
        }
        self.bring_back(book, number, idle);
        idle
    }

    /// Takes up to `n` of a loan back, as far as its borrower has it idle. Returns how much.
    pub(super) fn take_idle(&self, book: &mut Book, number: u32, n: Units) -> Units {
        let Some(record) = book.loan_mut(number).filter(|record| record.stage == Stage::Active) else {
            return Units::ZERO;
        };
        let (most, parties) = (record.outstanding.least(&n), record.parties);
        let [lender, borrower] = parties.map(|number| book.standing(number).index);
        let Some(path) = self.path(borrower, lender) else { return Units::ZERO };
        let slot = self.slot(borrower);
        let taken = slot.budget.apply(|state| transition::recall_idle(state, &most));
        debug_assert!(taken.is_ok(), "what was lent to node {borrower} is part of its floor and limit");
        let Ok((state, idle)) = taken else { return Units::ZERO };
        if !idle.is_zero() {
            self.pass(book, &path, idle);
            self.receive(book, lender, idle);
            self.observe_back([lender, borrower], idle, false);
            book.tally.transfers += 1;
            let ended = book.change_loan(number, Units::ZERO, idle);
            self.note_borrowed(book, borrower);
            // It may have kept more on the strength of it.
            if state.stock() > self.keeps(slot) {
                book.mark_due(parties[1]);
                self.due.store(true, Ordering::SeqCst);
            }
            if ended {
                self.leave_path(book, path.nodes());
                self.close_standing(book, lender);
                self.close_standing(book, borrower);
            }
        }
        idle
    }

    /// Recalls `n` of a loan of the coordinator's, and leaves the rest. Returns what came back.
    pub(super) fn recall_part(&self, book: &mut Book, number: u32, n: Units) -> Units {
        let Some(record) = book.loan_mut(number).filter(|record| record.stage == Stage::Active) else {
            return Units::ZERO;
        };
        let (automatic, outstanding, parties) = (record.automatic, record.outstanding, record.parties);
        if automatic && n < outstanding {
            let [lender, borrower] = parties.map(|number| book.standing(number).index);
            let part = book.split_loan(number, n);
            if let (Some(part), Some(path)) = (part, self.path(borrower, lender)) {
                for node in path.nodes() {
                    book.pass_through(self.standing(node), true);
                }
                return self.recall_in(book, part);
            }
        }
        self.recall_in(book, number)
    }

    /// Sends what a crate that owes has idle to those it owes to. To be called by whoever made it idle.
    #[cold]
    pub(super) fn collect(&self, index: Index) {
        let (parent, spilled) = self.book().with(|book| {
            let slot = self.slot(index);
            let parent = slot.parent.load(Ordering::Relaxed);
            (parent, self.collect_in(book, index, slot))
        });
        self.give_back_until(parent, spilled, Units::ZERO, None);
        // What it was left may be stock, and its seat another's by now.
        self.settle(index);
        self.tell(None);
    }

    /// [`collect`](Self::collect), where there is something to.
    pub(super) fn collect_idle(&self, index: Index, slot: &Slot) {
        let state = slot.budget.load();
        if state.owes && !state.stock().is_zero() {
            self.collect(index);
        }
    }

    /// Returns what the crate does not keep, now that it owes nothing.
    pub(super) fn collect_in(&self, book: &mut Book, index: Index, slot: &Slot) -> Units {
        let number = self.standing(index);
        let debt = book.standing(number).owed;
        let keep = self.keeps(slot);
        let mut owed = false;
        let settled = slot.budget.apply(|state| {
            owed = state.owes;
            if state.owes {
                transition::settle_debt(state, &debt, &keep)
            } else {
                Ok((state, (Units::ZERO, Units::ZERO)))
            }
        });
        let Ok((state, (mut paid, spilled))) = settled else { return Units::ZERO };
        if owed && !state.owes {
            self.debtors.fetch_sub(1, Ordering::SeqCst);
        }
        while !paid.is_zero() {
            // The oldest first.
            let owed = book.find_loan(number, Side::Borrower, |record| record.stage != Stage::Active);
            let owed = owed.and_then(|loan| Some((loan, book.loan_mut(loan)?.outstanding)));
            let Some((loan, outstanding)) = owed else {
                debug_assert!(false, "node {index} paid more than it owed");
                break;
            };
            let part = outstanding.least(&paid);
            self.bring_back(book, loan, part);
            paid = paid.above(&part);
        }
        spilled
    }
}
