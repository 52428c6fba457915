//! Each check fails when what it checks is broken: by a provider that lies, or by a budget that does.

use core::ptr::NonNull;

use super::*;
use crate::{CrateSettings, UnifiedMemoryManager};

/// A manager at level `Basic` with a crate that is charged 100 bytes, and a block of as many that a
/// provider might have handed out.
fn with_block(work: impl FnOnce(&UnifiedMemoryManager, CrateId, &Request, Block)) {
    let level = VerificationLevel::Basic;
    let manager = UnifiedMemoryManager::builder().total(4096).verification(level).build().unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    let charge = manager.charge(id, 100, 100).unwrap();
    let ptr = NonNull::without_provenance(core::num::NonZero::new(64).unwrap());
    let block =
        Block { ptr, size: 100, reserved: 100, cost: 100, align: 16, guard: 0, mark: core::ptr::null_mut() };
    work(&manager, id, &Request { size: 100, align: 16, reserve: 0, guard: 0 }, block);
    drop(charge);
}

#[test]
fn an_honest_block_passes_every_check() {
    with_block(|manager, id, request, block| {
        let engine = manager.verification();
        assert_eq!(engine.before_allocation(&manager.tracker, id), Ok(()));
        assert_eq!(engine.after_allocation(&manager.tracker, id, request, &block), Ok(()));
        assert_eq!(engine.before_deallocation(&manager.tracker, id, 100, &block), Ok(()));
        assert_eq!(engine.after_deallocation(&manager.tracker, id), Ok(()));
        assert_eq!(engine.violations(), 0);
    });
}

#[test]
fn a_block_that_is_not_what_was_asked_is_a_violation() {
    type Lie = fn(&mut Block);
    let lies: [(&str, Lie); 4] = [
        ("block.size = request.size", |block| block.size = 99),
        ("block.cost >= block.size", |block| block.cost = 99),
        ("block.reserved >= block.size", |block| block.reserved = 99),
        ("block.ptr mod request.align = 0", |block| {
            block.ptr = NonNull::without_provenance(core::num::NonZero::new(8).unwrap());
        }),
    ];
    for (invariant, lie) in lies {
        with_block(|manager, id, request, mut block| {
            lie(&mut block);
            let found = manager.verification().after_allocation(&manager.tracker, id, request, &block);
            assert_eq!(found.unwrap_err().invariant, invariant);
            assert_eq!(manager.verification().violations(), 1);
        });
    }
}

#[test]
fn a_block_nobody_is_charged_for_is_a_violation() {
    with_block(|manager, id, request, mut block| {
        block.cost = 101;
        let engine = manager.verification();
        let found = engine.after_allocation(&manager.tracker, id, request, &block).unwrap_err();
        assert_eq!(
            (found.invariant, found.found, found.expected),
            ("used >= charge of a live block", 100, 101)
        );
        let found = engine.before_deallocation(&manager.tracker, id, 100, &block).unwrap_err();
        assert_eq!(found.invariant, "charge >= block.cost");
        assert_eq!(engine.violations(), 2);
    });
}

#[test]
fn a_budget_that_breaks_an_invariant_is_a_violation() {
    use crate::budget::{State, Units};
    let units = |n| Units::new(n).unwrap();
    let sound = State { used: units(100), held: units(100), ..State::open(units(4096), 0) };
    let broken = [
        ("used <= held", State { held: units(99), ..sound }),
        ("floor <= held and floor <= limit", State { floor: units(101), ..sound }),
    ];
    for (invariant, state) in broken {
        with_block(|manager, id, _, _| {
            let budget = &manager.tracker.slot(id.index).budget;
            let before = budget.load();
            budget.reset(&State { version: before.version, ..state });
            let found = manager.verification().before_allocation(&manager.tracker, id);
            budget.reset(&before);
            assert_eq!(found.unwrap_err().invariant, invariant);
        });
    }
}

#[test]
fn off_checks_nothing() {
    let manager = UnifiedMemoryManager::builder().total(4096).build().unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    let ptr = NonNull::dangling();
    let block = Block { ptr, size: 1, reserved: 0, cost: 0, align: 1, guard: 0, mark: core::ptr::null_mut() };
    let engine = manager.verification();
    assert_eq!(engine.after_allocation(&manager.tracker, id, &Request::new(100), &block), Ok(()));
    assert_eq!((engine.level(), engine.violations()), (VerificationLevel::Off, 0));
}
