//! The book: which crates may borrow from which, and who owes whom. Numbers and lists; the bytes are
//! in the ledger, and whoever changes both does it under the book's lock.
//!
//! Every crate that shares has a [`Standing`] here, and from it lists of its rules and loans on either
//! side. Lists are bounded by [`MOST_PER_CRATE`], so what a guest can make the book do does not grow with
//! the number of crates.

use core::time::Duration;

use super::rule::LoanTerms;
use super::table::Table;
use crate::budget::{Amount, CrateId, Index, Units, visited};

/// Rules, and loans, that a crate may have on either side.
pub(crate) const MOST_PER_CRATE: u32 = 64;

/// Rules, and loans, of all crates together, without `alloc`.
const FEW: usize = 2;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Lender = 0,
    Borrower = 1,
}

/// A loan's number, and which of the loans that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) number: u32,
    generation: u32,
}

/// What a crate has to do with others. A number that is 0 is none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Standing {
    pub(crate) index: Index,
    rules: [List; 2],
    loans: [List; 2],
    /// Lent by it and not back.
    pub(crate) lent: Units,
    /// Lent to it and not recalled.
    pub(crate) borrowed: Units,
    /// Recalled, and still in its use.
    pub(crate) owed: Units,
    /// Passed through it to crates below it, less what was passed up.
    pub(crate) passed: i32,
    /// Loans that pass through it.
    through: u32,
    /// Room came to it, and who waits there is to be told; the next such standing.
    came: bool,
    next_came: u32,
    /// In the list of those whose idle bytes are to be looked at.
    due: bool,
    next_due: u32,
}

impl Standing {
    /// By how much its limit is more than what the host set.
    pub(crate) fn shift(&self) -> i64 {
        i64::from(self.borrowed.get()) - i64::from(self.lent.get()) + i64::from(self.passed)
    }

    /// Whether anybody may lend to it.
    pub(crate) fn may_borrow(&self) -> bool {
        self.rules[Side::Borrower as usize].len > 0
    }

    fn is_empty(&self) -> bool {
        // A rule stays for as long as there are loans by it.
        self.rules.iter().all(|list| list.len == 0) && self.through == 0 && !self.came && !self.due
    }
}

#[derive(Clone, Copy, Default)]
struct List {
    first: u32,
    len: u32,
}

/// What the host allows a pair.
pub(crate) struct Rule {
    /// The numbers of the two standings.
    pub(crate) parties: [u32; 2],
    pub(crate) most: Units,
    /// Lent by it now.
    pub(crate) out: Units,
    pub(crate) terms: LoanTerms,
    pub(crate) automatic: bool,
    next: [u32; 2],
}

/// One loan.
pub(crate) struct Record {
    /// The numbers of the two standings, while it is open.
    pub(crate) parties: [u32; 2],
    /// The two crates.
    pub(crate) ids: [CrateId; 2],
    rule: u32,
    pub(crate) amount: Units,
    /// Not back yet.
    pub(crate) outstanding: Units,
    pub(crate) stage: Stage,
    pub(crate) terms: LoanTerms,
    /// When what was recalled has to be back, on the manager's clock.
    pub(crate) deadline: Option<Duration>,
    /// The deadline has passed, and the host was told.
    pub(crate) overdue: bool,
    /// Made by the coordinator.
    pub(crate) automatic: bool,
    /// A handle refers to it.
    pub(crate) kept: bool,
    generation: u32,
    next: [u32; 2],
}

/// Where a loan is on its way. `Repaid` and `Evicted` are its ends: each loan comes to one of them, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Active,
    Recalling,
    /// The borrower is being ended by the host, for this loan.
    Evicting,
    Repaid,
    Evicted,
}

/// How often what happened.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) made: u64,
    pub(crate) automatic: u64,
    pub(crate) recalled: u64,
    pub(crate) repaid: u64,
    pub(crate) evicted: u64,
    /// Times that room moved between two crates.
    pub(crate) transfers: u64,
}

/// See the head of this file.
pub(crate) struct Book {
    standings: Table<Standing, { 2 * FEW }>,
    rules: Table<Rule, FEW>,
    loans: Table<Record, FEW>,
    /// The first standing that is due.
    due: u32,
    generation: u32,
    pub(crate) tally: Tally,
    /// The first of the standings that room came to.
    came: u32,
}

/// There is no place for more.
#[derive(Debug)]
pub(crate) struct Full;

/// What links the entries of a list.
trait Linked {
    fn next(&mut self) -> &mut [u32; 2];
}

impl Linked for Rule {
    fn next(&mut self) -> &mut [u32; 2] {
        &mut self.next
    }
}

impl Linked for Record {
    fn next(&mut self) -> &mut [u32; 2] {
        &mut self.next
    }
}

/// Appends, so that a list is in the order in which things came.
fn link<T: Linked, const FEW: usize>(table: &mut Table<T, FEW>, list: &mut List, side: Side, number: u32) {
    let mut last = list.first;
    for _ in 1..list.len {
        last = table.get_mut(last).map_or(0, |entry| entry.next()[side as usize]);
    }
    match table.get_mut(last) {
        Some(entry) => entry.next()[side as usize] = number,
        None => list.first = number,
    }
    list.len += 1;
}

fn unlink<T: Linked, const FEW: usize>(table: &mut Table<T, FEW>, list: &mut List, side: Side, number: u32) {
    let after = table.get_mut(number).map_or(0, |entry| core::mem::take(&mut entry.next()[side as usize]));
    if list.first == number {
        list.first = after;
        list.len -= 1;
        return;
    }
    let mut at = list.first;
    while at != 0 {
        let Some(entry) = table.get_mut(at) else { return };
        let next = &mut entry.next()[side as usize];
        if *next == number {
            *next = after;
            list.len -= 1;
            return;
        }
        at = *next;
    }
}

impl Book {
    pub(crate) const fn new() -> Self {
        Self {
            standings: Table::new(),
            rules: Table::new(),
            loans: Table::new(),
            due: 0,
            generation: 0,
            tally: Tally { made: 0, automatic: 0, recalled: 0, repaid: 0, evicted: 0, transfers: 0 },
            came: 0,
        }
    }

    /// Room came to a crate: who waits for bytes there is to be told.
    pub(crate) fn note_came(&mut self, number: u32) {
        let first = self.came;
        if let Some(standing) = self.standings.get_mut(number).filter(|standing| !standing.came) {
            (standing.came, standing.next_came) = (true, first);
            self.came = number;
        }
    }

    /// One of the crates that room came to.
    pub(crate) fn take_came(&mut self) -> Option<Index> {
        let standing = self.standings.get_mut(self.came)?;
        (standing.came, self.came) = (false, standing.next_came);
        Some(standing.index)
    }

    pub(crate) fn standing(&self, number: u32) -> Standing {
        self.standings.get(number).copied().unwrap_or_default()
    }

    pub(crate) fn standing_mut(&mut self, number: u32) -> Option<&mut Standing> {
        self.standings.get_mut(number)
    }

    pub(crate) fn open_standing(&mut self, index: Index) -> Result<u32, Full> {
        self.standings.put(Standing { index, ..Standing::default() }).ok_or(Full)
    }

    /// Ends a standing that is good for nothing more. `true` where it did.
    #[must_use]
    pub(crate) fn close_standing(&mut self, number: u32) -> bool {
        let empty = self.standings.get(number).is_some_and(Standing::is_empty);
        if empty {
            self.standings.take(number);
        }
        empty
    }

    /// What a standing has idle is to be looked at, by whoever has given the lock back.
    pub(crate) fn mark_due(&mut self, number: u32) {
        let first = self.due;
        if let Some(standing) = self.standings.get_mut(number).filter(|standing| !standing.due) {
            (standing.due, standing.next_due) = (true, first);
            self.due = number;
        }
    }

    /// The next that is due, which is not any more.
    pub(crate) fn take_due(&mut self) -> Option<Index> {
        let standing = self.standings.get_mut(self.due)?;
        standing.due = false;
        self.due = standing.next_due;
        Some(standing.index)
    }

    /// A loan passes through, or has ended that did.
    pub(crate) fn pass_through(&mut self, number: u32, begins: bool) {
        if let Some(standing) = self.standings.get_mut(number) {
            standing.through = if begins { standing.through + 1 } else { standing.through.saturating_sub(1) };
        }
    }

    pub(crate) fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(number)
    }

    /// The rule for a pair of standings.
    pub(crate) fn rule_between(&self, lender: u32, borrower: u32) -> Option<u32> {
        self.rules_of(borrower, Side::Borrower)
            .find(|&number| self.rules.get(number).is_some_and(|rule| rule.parties[0] == lender))
    }

    /// Sets the rule for a pair of standings.
    pub(crate) fn set_rule(
        &mut self,
        parties: [u32; 2],
        most: Units,
        terms: LoanTerms,
        automatic: bool,
    ) -> Result<(), Full> {
        if let Some(rule) = self.rule_between(parties[0], parties[1]).and_then(|at| self.rules.get_mut(at)) {
            (rule.most, rule.terms, rule.automatic) = (most, terms, automatic);
            return Ok(());
        }
        for side in [Side::Lender, Side::Borrower] {
            if self.standing(parties[side as usize]).rules[side as usize].len >= MOST_PER_CRATE {
                return Err(Full);
            }
        }
        let rule = Rule { parties, most, out: Units::ZERO, terms, automatic, next: [0; 2] };
        let number = self.rules.put(rule).ok_or(Full)?;
        for side in [Side::Lender, Side::Borrower] {
            if let Some(standing) = self.standings.get_mut(parties[side as usize]) {
                link(&mut self.rules, &mut standing.rules[side as usize], side, number);
            }
        }
        Ok(())
    }

    /// Nothing more is lent by a rule. It goes when all that was is back.
    pub(crate) fn end_rule(&mut self, number: u32) {
        let Some(rule) = self.rules.get_mut(number) else { return };
        (rule.most, rule.automatic) = (Units::ZERO, false);
        if !rule.out.is_zero() {
            return;
        }
        let parties = rule.parties;
        for side in [Side::Lender, Side::Borrower] {
            if let Some(standing) = self.standings.get_mut(parties[side as usize]) {
                unlink(&mut self.rules, &mut standing.rules[side as usize], side, number);
            }
        }
        self.rules.take(number);
    }

    pub(crate) fn rules_of(&self, standing: u32, side: Side) -> impl Iterator<Item = u32> + '_ {
        let first = self.standing(standing).rules[side as usize].first;
        let next = move |&number: &u32| {
            visited();
            self.rules.get(number).map(|rule| rule.next[side as usize])
        };
        core::iter::successors(Some(first), next).take_while(|&number| number != 0)
    }

    pub(crate) fn rule_after(&self, rule: u32, side: Side) -> Option<u32> {
        self.rules.get(rule).map(|rule| rule.next[side as usize]).filter(|&next| next != 0)
    }

    pub(crate) fn loan_after(&self, loan: u32, side: Side) -> Option<u32> {
        self.loans.get(loan).map(|record| record.next[side as usize]).filter(|&next| next != 0)
    }

    /// Whether one more loan by a rule has a place.
    pub(crate) fn has_place(&self, rule: u32) -> bool {
        self.rules.get(rule).is_some_and(|rule| {
            [Side::Lender, Side::Borrower].into_iter().all(|side| {
                self.standing(rule.parties[side as usize]).loans[side as usize].len < MOST_PER_CRATE
            })
        })
    }

    /// Enters a loan that was made by a rule.
    pub(crate) fn open_loan(
        &mut self,
        rule: u32,
        ids: [CrateId; 2],
        amount: Units,
        terms: LoanTerms,
        automatic: bool,
    ) -> Result<Key, Full> {
        let parties = self.rules.get(rule).filter(|_| self.has_place(rule)).ok_or(Full)?.parties;
        let generation = self.generation.wrapping_add(1);
        let record = Record {
            parties,
            ids,
            rule,
            amount,
            outstanding: amount,
            stage: Stage::Active,
            terms,
            deadline: None,
            overdue: false,
            automatic,
            kept: !automatic,
            generation,
            next: [0; 2],
        };
        let number = self.loans.put(record).ok_or(Full)?;
        self.generation = generation;
        for side in [Side::Lender, Side::Borrower] {
            if let Some(standing) = self.standings.get_mut(parties[side as usize]) {
                link(&mut self.loans, &mut standing.loans[side as usize], side, number);
                let sum = if side == Side::Lender { &mut standing.lent } else { &mut standing.borrowed };
                *sum = sum.plus_saturating(&amount);
            }
        }
        if let Some(rule) = self.rules.get_mut(rule) {
            rule.out = rule.out.plus_saturating(&amount);
        }
        self.tally.made += 1;
        self.tally.automatic += u64::from(automatic);
        Ok(Key { number, generation })
    }

    /// The loan that the coordinator made by a rule, and that more by the same rule is part of.
    pub(crate) fn automatic_by(&self, rule: u32) -> Option<u32> {
        let entry = self.rules.get(rule)?;
        self.find_loan(entry.parties[Side::Borrower as usize], Side::Borrower, |record| {
            record.rule == rule
                && record.automatic
                && record.stage == Stage::Active
                && record.terms == entry.terms
        })
    }

    /// More is lent by a loan, or what was idle of it came back. `true` where that was the last of it.
    pub(crate) fn change_loan(&mut self, number: u32, more: Units, less: Units) -> bool {
        let Some(record) = self.loans.get_mut(number) else { return false };
        let change = |sum: Units| sum.plus_saturating(&more).above(&less);
        record.amount = record.amount.plus_saturating(&more);
        record.outstanding = change(record.outstanding);
        let (parties, rule, ended) = (record.parties, record.rule, record.outstanding.is_zero());
        for side in [Side::Lender, Side::Borrower] {
            let Some(standing) = self.standings.get_mut(parties[side as usize]) else { continue };
            let sum = if side == Side::Lender { &mut standing.lent } else { &mut standing.borrowed };
            *sum = change(*sum);
        }
        if let Some(rule) = self.rules.get_mut(rule) {
            rule.out = change(rule.out);
        }
        if ended {
            self.note_recalled(number, None);
            self.note_repaid(number, Units::ZERO);
        }
        ended
    }

    /// Makes `n` of a loan, less than all of it, a loan of its own, to be recalled alone.
    pub(crate) fn split_loan(&mut self, number: u32, n: Units) -> Option<u32> {
        let record = self.loans.get(number)?;
        let (rule, ids, terms) = (record.rule, record.ids, record.terms);
        let Key { number: part, .. } = self.open_loan(rule, ids, n, terms, true).ok()?;
        // It is lent already: what `open_loan` added comes off the loan it was part of.
        if let Some(record) = self.loans.get_mut(number) {
            record.amount = record.amount.above(&n);
        }
        self.change_loan(number, Units::ZERO, n);
        Some(part)
    }

    pub(crate) fn key(&self, number: u32) -> Option<Key> {
        self.loans.get(number).map(|record| Key { number, generation: record.generation })
    }

    pub(crate) fn loan(&self, key: Key) -> Option<&Record> {
        self.loans.get(key.number).filter(|record| record.generation == key.generation)
    }

    pub(crate) fn loan_mut(&mut self, number: u32) -> Option<&mut Record> {
        self.loans.get_mut(number)
    }

    /// The open loans of a standing, the oldest first.
    pub(crate) fn loans_of(&self, standing: u32, side: Side) -> impl Iterator<Item = u32> + '_ {
        let first = self.standing(standing).loans[side as usize].first;
        let next = move |&number: &u32| {
            visited();
            self.loans.get(number).map(|record| record.next[side as usize])
        };
        core::iter::successors(Some(first), next).take_while(|&number| number != 0)
    }

    /// The oldest open loan of a standing that is as asked.
    pub(crate) fn find_loan(
        &self,
        standing: u32,
        side: Side,
        is_it: impl Fn(&Record) -> bool,
    ) -> Option<u32> {
        self.loans_of(standing, side).find(|&number| self.loans.get(number).is_some_and(&is_it))
    }

    /// Whether there is an open loan of this number.
    pub(crate) fn is_open(&self, number: u32) -> bool {
        self.loans.get(number).is_some_and(Record::is_open)
    }

    /// The numbers of all loans there may be, exclusive.
    pub(crate) fn loans_up_to(&self) -> u32 {
        self.loans.up_to()
    }

    /// A loan is recalled: what is outstanding is owed from now on.
    pub(crate) fn note_recalled(&mut self, number: u32, deadline: Option<Duration>) {
        let Some(record) = self.loans.get_mut(number).filter(|record| record.stage == Stage::Active) else {
            return;
        };
        record.stage = Stage::Recalling;
        record.deadline = deadline;
        let (borrower, outstanding) = (record.parties[1], record.outstanding);
        if let Some(standing) = self.standings.get_mut(borrower) {
            standing.borrowed = standing.borrowed.above(&outstanding);
            standing.owed = standing.owed.plus_saturating(&outstanding);
        }
        self.tally.recalled += 1;
    }

    /// So much of a recalled loan is back with its lender. `true` where that was the last of it.
    pub(crate) fn note_repaid(&mut self, number: u32, paid: Units) -> bool {
        let Some(record) = self.loans.get_mut(number) else { return false };
        record.outstanding = record.outstanding.above(&paid);
        let (parties, rule, ended, kept) =
            (record.parties, record.rule, record.outstanding.is_zero(), record.kept);
        if ended {
            let evicted = record.stage == Stage::Evicting;
            record.stage = if evicted { Stage::Evicted } else { Stage::Repaid };
            self.tally.evicted += u64::from(evicted);
            self.tally.repaid += u64::from(!evicted);
        }
        self.tally.transfers += u64::from(!paid.is_zero());
        for side in [Side::Lender, Side::Borrower] {
            let Some(standing) = self.standings.get_mut(parties[side as usize]) else { continue };
            let sum = if side == Side::Lender { &mut standing.lent } else { &mut standing.owed };
            *sum = sum.above(&paid);
            if ended {
                unlink(&mut self.loans, &mut standing.loans[side as usize], side, number);
            }
        }
        if let Some(entry) = self.rules.get_mut(rule) {
            entry.out = entry.out.above(&paid);
            if ended && entry.most.is_zero() {
                // Where that was the last loan by it.
                self.end_rule(rule);
            }
        }
        if ended && !kept {
            self.loans.take(number);
        }
        ended
    }

    /// No handle refers to a loan any more. An ended one leaves its place.
    pub(crate) fn let_go(&mut self, key: Key) {
        if self.loan(key).is_none() {
            return;
        }
        if let Some(record) = self.loans.get_mut(key.number) {
            record.kept = false;
            if !record.is_open() {
                self.loans.take(key.number);
            }
        }
    }
}

impl Record {
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Repaid | Stage::Evicted)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
