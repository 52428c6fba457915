//! Faults of the ledger as a whole: bytes and floors that are nobody's or two's, a book that says otherwise.

use super::*;
use crate::budget::ROOT;
use crate::{LendingRule, LoanTerms};

/// A parent with two crates, each with bytes in use and a guarantee.
fn family(level: VerificationLevel) -> (UnifiedMemoryManager, [CrateId; 3]) {
    let (manager, parent) = heap(level);
    let below = CrateSettings::new().parent(parent).guarantee(2000);
    let [a, b] = ["a", "b"].map(|name| manager.register(name, below).unwrap());
    (manager, [parent, a, b])
}

/// Changes a crate's word, looks by an operation of another crate or by `verify`, and changes it back.
fn with_fault(
    level: VerificationLevel,
    fault: impl Fn(&UnifiedMemoryManager, [CrateId; 3]),
    look: impl Fn(&UnifiedMemoryManager, [CrateId; 3]) -> crate::Result<()>,
) -> Option<(&'static str, CrateId)> {
    let (manager, ids) = family(level);
    let charges = ids.map(|id| manager.charge(id, 500, 500).unwrap());
    look(&manager, ids).unwrap();
    manager.verify().unwrap();
    let words = [ROOT, ids[0].index, ids[1].index, ids[2].index];
    let before = words.map(|index| manager.tracker.slot(index).budget.load());
    fault(&manager, ids);
    let found = look(&manager, ids).err().map(|error| {
        let MemoryError::Violation(violation) = error else { panic!("{error}") };
        (violation.invariant.name(), violation.id)
    });
    for (index, state) in words.into_iter().zip(before) {
        manager.tracker.slot(index).budget.reset(&state);
    }
    drop(charges);
    found
}

fn change(manager: &UnifiedMemoryManager, id: CrateId, change: impl Fn(&mut State<Units>)) {
    let budget = &manager.tracker.slot(id.index).budget;
    let mut state = budget.load();
    change(&mut state);
    budget.reset(&state);
}

fn more(amount: &mut Units, by: u32) {
    *amount = units(amount.get() + by);
}

/// By an operation of the other crate, of which nothing is wrong itself.
fn by_operation(manager: &UnifiedMemoryManager, ids: [CrateId; 3]) -> crate::Result<()> {
    manager.verification.freed(manager, ids[2]).map_err(MemoryError::Violation)
}

fn at_rest(manager: &UnifiedMemoryManager, _: [CrateId; 3]) -> crate::Result<()> {
    manager.verify()
}

#[test]
fn bytes_that_two_hold_are_found_by_an_operation_of_either() {
    let fault = |manager: &UnifiedMemoryManager, ids: [CrateId; 3]| {
        change(manager, ids[1], |state| more(&mut state.held, 4000));
    };
    let found = with_fault(Full, fault, by_operation).expect("found");
    assert_eq!(found.0, "conservation");
    assert_eq!(with_fault(Standard, fault, by_operation), None);
    assert_eq!(with_fault(Full, fault, at_rest).expect("found").0, "conservation-at-rest");
}

#[test]
fn a_guarantee_that_nothing_above_covers_is_found() {
    let fault = |manager: &UnifiedMemoryManager, ids: [CrateId; 3]| {
        change(manager, ids[0], |state| state.floor = units(state.floor.get() - 1));
    };
    let found = with_fault(Full, fault, by_operation).expect("found");
    assert_eq!(found.0, "conservation-of-floors");
    assert_eq!(with_fault(Standard, fault, by_operation), None);
}

#[test]
fn bytes_that_nobody_has_are_found_at_rest() {
    let fault = |manager: &UnifiedMemoryManager, _: [CrateId; 3]| {
        let budget = &manager.tracker.slot(ROOT).budget;
        let mut state = budget.load();
        more(&mut state.used, 1);
        budget.reset(&state);
    };
    // On their way, for all an operation can see.
    assert_eq!(with_fault(Full, fault, by_operation), None);
    let (invariant, at) = with_fault(Full, fault, at_rest).expect("found");
    assert_eq!((invariant, at.index), ("conservation-at-rest", ROOT));
    assert_eq!(with_fault(Standard, fault, at_rest), None);
}

#[test]
fn a_guarantee_that_nobody_set_is_found_at_rest() {
    let fault = |manager: &UnifiedMemoryManager, ids: [CrateId; 3]| {
        change(manager, ids[1], |state| state.floor = units(state.floor.get() - 1));
    };
    let (invariant, at) = with_fault(Full, fault, at_rest).expect("found");
    assert_eq!(invariant, "conservation-at-rest");
    assert_ne!(at.index, ROOT);
}

#[test]
fn a_word_and_a_book_that_differ_are_found() {
    type Fault = fn(&UnifiedMemoryManager, CrateId);
    let faults: [(&str, Fault); 3] = [
        ("borrowed", |manager, id| {
            manager.tracker.slot(id.index).borrowed.store(999, Ordering::SeqCst);
        }),
        ("owes", |manager, id| change(manager, id, |state| state.owes = !state.owes)),
        ("owed", |manager, id| {
            change(manager, id, |state| (state.floor, state.used) = (units(0), units(0)));
            manager.tracker.book().with(|book| {
                let number = manager.tracker.slot(id.index).sharing.load(Ordering::SeqCst);
                let standing = book.standing_mut(number).unwrap();
                standing.borrowed = units(standing.borrowed.get() - 1);
            });
        }),
    ];
    for (what, fault) in faults {
        for level in [Standard, Full] {
            let (manager, [_, lender, borrower]) = family(level);
            manager.sharing().allow(lender, borrower, LendingRule::new(1000)).unwrap();
            let loan = manager.borrow_from_crate(lender, borrower, 1000).unwrap();
            manager.verify().unwrap();
            assert!(matches!(loan.info().terms, LoanTerms::Idle));
            fault(&manager, borrower);
            let looked = manager.verification.freed(&manager, borrower);
            if level == Full {
                assert_eq!(looked.unwrap_err().invariant.name(), "loans", "{what}");
                assert_eq!(found(&manager, borrower), "loans");
            } else {
                assert_eq!(looked, Ok(()), "{what}");
            }
            // Nothing is right any more that ends it, nor of what is left.
            core::mem::forget(loan);
            core::mem::forget(manager);
        }
    }
}

#[test]
fn a_debt_is_no_fault() {
    let (manager, [_, lender, borrower]) = family(Full);
    manager.sharing().allow(lender, borrower, LendingRule::new(1000)).unwrap();
    let loan = manager.borrow_from_crate(lender, borrower, 1000).unwrap();
    let charge = manager.charge(borrower, 3000, 3000).unwrap();
    assert_eq!(loan.recall(), 0);
    assert_eq!(manager.node(borrower).unwrap().owed, 1000);
    for id in [lender, borrower] {
        assert_eq!(manager.verification.freed(&manager, id), Ok(()));
    }
    manager.verify().unwrap();
    drop(charge);
    manager.verify().unwrap();
}
