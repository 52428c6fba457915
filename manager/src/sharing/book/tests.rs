//! What must be true of the book whenever its lock is free, checked by walking all of it.

use super::*;

impl Book {
    /// Standings, rules and loans there are.
    pub(crate) fn places(&self) -> [usize; 3] {
        [self.standings.len(), self.rules.len(), self.loans.len()]
    }

    /// Every list, and every sum against what it is the sum of.
    pub(crate) fn audit(&self) {
        let open = || (1..self.loans.up_to()).filter(|&number| self.is_open(number));
        let outstanding = |number: u32| self.loans.get(number).unwrap().outstanding.get();
        let mut linked = [[0, 0], [0, 0]];
        for number in 1..self.standings.up_to() {
            let Some(standing) = self.standings.get(number) else { continue };
            assert!(!standing.is_empty(), "standing {number} is good for nothing and was left");
            let mut sums = [0, 0, 0];
            for side in [Side::Lender, Side::Borrower] {
                let rules: Vec<u32> = self.rules_of(number, side).collect();
                let loans: Vec<u32> = self.loans_of(number, side).collect();
                for (kind, list, len) in [
                    (0, &rules, standing.rules[side as usize].len),
                    (1, &loans, standing.loans[side as usize].len),
                ] {
                    assert_eq!(list.len(), len as usize, "list of standing {number}");
                    assert!(len <= MOST_PER_CRATE);
                    linked[kind][side as usize] += list.len();
                }
                for rule in rules {
                    assert_eq!(self.rules.get(rule).unwrap().parties[side as usize], number);
                }
                for loan in loans {
                    let record = self.loans.get(loan).unwrap();
                    assert!(record.is_open() && !record.outstanding.is_zero(), "loan {loan}");
                    assert_eq!(record.parties[side as usize], number);
                    let sum = match (side, record.stage) {
                        (Side::Lender, _) => 0,
                        (Side::Borrower, Stage::Active) => 1,
                        (Side::Borrower, _) => 2,
                    };
                    sums[sum] += outstanding(loan);
                }
            }
            assert_eq!([standing.lent, standing.borrowed, standing.owed].map(Units::get), sums, "{number}");
        }
        assert_eq!(linked, [[self.rules.len(); 2], [open().count(); 2]], "not every entry is in its lists");
        for number in 1..self.rules.up_to() {
            let Some(rule) = self.rules.get(number) else { continue };
            let of_rule = |loan: &u32| self.loans.get(*loan).unwrap().rule == number;
            let out: u32 = open().filter(of_rule).map(outstanding).sum();
            assert_eq!(rule.out.get(), out, "lent by rule {number}");
        }
        for number in 1..self.loans.up_to() {
            let Some(record) = self.loans.get(number) else { continue };
            assert!(
                record.is_open() || record.kept,
                "loan {number} ended, nobody refers to it, and it was left"
            );
        }
        let Tally { made, repaid, evicted, .. } = self.tally;
        assert_eq!(made, open().count() as u64 + repaid + evicted, "every loan ends once");
    }
}
