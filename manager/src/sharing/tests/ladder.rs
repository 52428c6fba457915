//! Who is asked first, for how much, and what is counted.

use super::NOW;
use crate::sharing::LoanState;
use crate::{CoordinatorCounts, CrateId, CrateSettings, LendingRule, LoanTerms, UnifiedMemoryManager};
use std::time::Duration;

fn manager(total: usize) -> UnifiedMemoryManager {
    UnifiedMemoryManager::builder().total(total).stock(0).clock(|| NOW.get()).build().unwrap()
}

fn guaranteed(manager: &UnifiedMemoryManager, bytes: usize) -> CrateId {
    manager.register("crate", CrateSettings::new().guarantee(bytes).limit(bytes)).unwrap()
}

fn limited(manager: &UnifiedMemoryManager, bytes: usize) -> CrateId {
    manager.register("crate", CrateSettings::new().limit(bytes)).unwrap()
}

fn lent(manager: &UnifiedMemoryManager, id: CrateId) -> usize {
    manager.node(id).unwrap().lent
}

fn counts(manager: &UnifiedMemoryManager) -> CoordinatorCounts {
    manager.coordinator().counts()
}

#[test]
fn what_was_lent_comes_back_before_the_pool_is_asked() {
    let manager = manager(1000);
    let lender = manager.register("lender", CrateSettings::new().guarantee(600)).unwrap();
    let borrower = limited(&manager, 0);
    manager.sharing().allow(lender, borrower, LendingRule::new(200).automatic()).unwrap();
    drop(manager.charge(borrower, 200, 200).unwrap());
    let charge = manager.charge(lender, 500, 500).unwrap();
    assert_eq!((lent(&manager, lender), manager.pool().used), (100, 600));
    drop(charge);
}

#[test]
fn a_lender_calls_back_what_it_needs_of_the_oldest_loans_and_leaves_the_others() {
    let manager = manager(1000);
    let lender = guaranteed(&manager, 1000);
    let borrowers = [400, 300, 300].map(|bytes| {
        let borrower = limited(&manager, 0);
        manager.sharing().allow(lender, borrower, LendingRule::new(bytes)).unwrap();
        borrower
    });
    let loans = [(0, 400), (1, 300), (2, 200)]
        .map(|(at, n)| manager.borrow_from_crate(lender, borrowers[at], n).unwrap());
    let now = || loans.each_ref().map(|loan| (loan.info().outstanding, loan.info().state));
    let all_of = |outstanding: [usize; 3]| outstanding.map(|bytes| (bytes, LoanState::Active));
    // 100 are its own.
    let mut used = vec![manager.charge(lender, 200, 200).unwrap()];
    assert_eq!(now(), all_of([300, 300, 200]), "what is idle of a loan leaves the rest as it was");
    used.push(manager.charge(lender, 400, 400).unwrap());
    assert_eq!(now()[0], (0, LoanState::Repaid));
    assert_eq!(now()[1..], all_of([0, 200, 200])[1..]);
    drop(used);
}

#[test]
fn a_loan_that_is_recalled_whole_is_not_made_two_for_that() {
    let manager = manager(300);
    let lender = guaranteed(&manager, 300);
    let borrower = limited(&manager, 0);
    manager.sharing().allow(lender, borrower, LendingRule::new(300).automatic()).unwrap();
    let used = manager.charge(borrower, 300, 300).unwrap();
    assert!(manager.charge(lender, 300, 300).is_err());
    assert_eq!((manager.node(borrower).unwrap().owed, counts(&manager).loans), (300, 1));
    drop(used);
}

#[test]
fn the_coordinator_asks_siblings_first_and_only_by_rules_that_let_it() {
    let manager = manager(1000);
    let parent = manager.register("parent", CrateSettings::new().guarantee(0)).unwrap();
    let below = |guarantee, limit| {
        let settings = CrateSettings::new().parent(parent).guarantee(guarantee).limit(limit);
        manager.register("crate", settings).unwrap()
    };
    let (borrower, asked, sibling) = (below(0, 0), below(100, 100), below(100, 100));
    let stranger = guaranteed(&manager, 100);
    let rule = LendingRule::new(100);
    for (lender, rule) in [(stranger, rule.automatic()), (asked, rule), (sibling, rule.automatic())] {
        manager.sharing().allow(lender, borrower, rule).unwrap();
    }
    let lent = || [stranger, asked, sibling].map(|id| lent(&manager, id));
    let first = manager.charge(borrower, 60, 60).unwrap();
    assert_eq!(lent(), [0, 0, 60]);
    let second = manager.charge(borrower, 60, 60).unwrap();
    assert_eq!(lent(), [20, 0, 100]);
    // What the host alone lends is not the coordinator's, on either side of a loan.
    assert!(manager.charge(borrower, 81, 81).is_err());
    drop((first, second));
}

#[test]
fn what_the_host_lent_stays_with_whom_it_was_lent_to() {
    let manager = manager(300);
    let lender = guaranteed(&manager, 300);
    let [holder, asks] = [(); 2].map(|()| limited(&manager, 0));
    manager.sharing().allow(lender, holder, LendingRule::new(300)).unwrap();
    manager.sharing().allow(lender, asks, LendingRule::new(300).automatic()).unwrap();
    let loan = manager.borrow_from_crate(lender, holder, 250).unwrap();
    let before = counts(&manager);
    assert!(manager.charge(asks, 100, 100).is_err());
    assert_eq!((loan.info().outstanding, counts(&manager)), (250, before));
    drop(manager.charge(asks, 50, 50).unwrap());
}

#[test]
fn what_a_crate_has_idle_itself_is_nothing_to_borrow() {
    let manager = manager(300);
    let lender = guaranteed(&manager, 300);
    let borrower = limited(&manager, 0);
    manager.sharing().allow(lender, borrower, LendingRule::new(300).automatic()).unwrap();
    let mut used = manager.charge(borrower, 200, 200).unwrap();
    drop(used.split(100, 100).unwrap());
    let rest = manager.charge(lender, 100, 100).unwrap();
    let before = counts(&manager);
    assert!(manager.charge(borrower, 150, 150).is_err());
    assert_eq!((counts(&manager), manager.node(borrower).unwrap().borrowed), (before, 200));
    drop((used, rest));
}

#[test]
fn one_charge_borrows_of_eight_and_undoes_what_does_not_help() {
    let manager = manager(390);
    let borrower = limited(&manager, 300);
    // No sibling: asked last, though its rule is the first.
    let parent = manager.register("parent", CrateSettings::new()).unwrap();
    let stranger = CrateSettings::new().parent(parent).guarantee(10).limit(10);
    let stranger = manager.register("stranger", stranger).unwrap();
    let siblings = [(); 8].map(|()| guaranteed(&manager, 10));
    for lender in [stranger].into_iter().chain(siblings) {
        manager.sharing().allow(lender, borrower, LendingRule::new(10).automatic()).unwrap();
    }
    let own = manager.charge(borrower, 290, 290).unwrap();
    let before = counts(&manager);
    let borrowed = || manager.node(borrower).unwrap().borrowed;
    // 90 above its limit takes nine: nothing moves.
    assert!(manager.charge(borrower, 100, 100).is_err());
    assert_eq!((counts(&manager), borrowed()), (before, 0));
    // 80 takes eight, and then 10 bytes are lacking at the pool, which has none.
    let hog = manager.register("hog", CrateSettings::new()).unwrap();
    let rest = manager.charge(hog, 10, 10).unwrap();
    assert!(manager.charge(borrower, 90, 90).is_err());
    assert_eq!((counts(&manager).automatic, borrowed()), (8, 0));
    drop(rest);
    let lent = manager.charge(borrower, 90, 90).unwrap();
    assert_eq!((counts(&manager).automatic, borrowed()), (16, 80));
    drop((own, lent));
}

#[test]
fn what_a_rule_lends_by_itself_is_one_loan_and_the_hosts_another() {
    let manager = manager(1000);
    let [first, second] = [(); 2].map(|()| guaranteed(&manager, 500));
    let borrower = limited(&manager, 0);
    for lender in [first, second] {
        manager.sharing().allow(lender, borrower, LendingRule::new(300).automatic()).unwrap();
    }
    let own = manager.borrow_from_crate(first, borrower, 100).unwrap();
    let mut used = manager.charge(borrower, 100, 100).unwrap();
    assert_eq!((counts(&manager).loans, counts(&manager).transfers), (1, 1));
    for (step, transfers) in [(50, 2), (50, 3), (200, 5)] {
        used.merge(manager.charge(borrower, step, step).unwrap()).unwrap();
        assert_eq!(counts(&manager).transfers, transfers);
    }
    let amounts = || {
        manager.sharing().loans().iter().map(|loan| (loan.automatic, loan.outstanding)).collect::<Vec<_>>()
    };
    assert_eq!(amounts(), [(false, 100), (true, 200), (true, 100)]);
    assert_eq!([first, second].map(|id| lent(&manager, id)), [300, 100]);
    // A debt is paid, what is idle comes back: each is one more.
    assert_eq!(own.recall(), 0);
    drop(used.split(100, 100).unwrap());
    assert_eq!((own.info().state, counts(&manager).transfers), (LoanState::Repaid, 6));
    drop(used);
    assert_eq!(manager.coordinator().return_idle(), 300);
    assert_eq!((amounts(), counts(&manager).transfers), (vec![], 8));
}

#[test]
fn every_overdue_loan_of_a_crate_that_is_evicted_counts() {
    let manager = manager(1000);
    let terms = LoanTerms::Evictable { deadline: Duration::from_secs(1) };
    let borrower = limited(&manager, 0);
    let loans = [(); 3].map(|()| {
        let lender = guaranteed(&manager, 100);
        manager.sharing().allow(lender, borrower, LendingRule::new(100).terms(terms)).unwrap();
        manager.borrow_from_crate(lender, borrower, 100).unwrap()
    });
    let used = manager.charge(borrower, 300, 300).unwrap();
    NOW.set(Duration::ZERO);
    assert!(loans.iter().all(|loan| loan.recall() == 0));
    NOW.set(Duration::from_secs(1));
    assert_eq!(manager.coordinator().evict(borrower).unwrap(), 3);
    drop(used);
    assert!(loans.iter().all(|loan| loan.info().state == LoanState::Evicted));
}
