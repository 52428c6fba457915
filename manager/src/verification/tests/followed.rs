//! The shadow ledger, and recordings: what they find, and that they go along with a ledger that is right.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::*;
use crate::budget::ROOT;
use crate::{LendingRule, Loan, Operation, Recording, ReplayError};

/// A parent, a lender and a borrower below it, with room lent, a debt, and bytes in use.
struct World<'m> {
    manager: &'m UnifiedMemoryManager,
    ids: [CrateId; 3],
    _held: Vec<crate::Charge<'m>>,
    _loan: Loan<'m>,
}

fn world(manager: &UnifiedMemoryManager) -> World<'_> {
    let parent = manager.register("parent", CrateSettings::new().limit(1 << 20)).unwrap();
    let below = CrateSettings::new().parent(parent).guarantee(5000);
    let [lender, borrower] = ["lender", "borrower"].map(|name| manager.register(name, below).unwrap());
    manager.sharing().allow(lender, borrower, LendingRule::new(4000)).unwrap();
    let loan = manager.borrow_from_crate(lender, borrower, 3000).unwrap();
    let held = [parent, lender, borrower].map(|id| manager.charge(id, 2000, 2000).unwrap());
    World { manager, ids: [parent, lender, borrower], _held: held.into(), _loan: loan }
}

/// What `verify` says once `fault` was done, at a crate the fault names; all is as it was afterwards.
fn found_after(fault: impl Fn(&World<'_>) -> CrateId) -> &'static str {
    let (manager, _) = heap(Full);
    let world = world(&manager);
    manager.verify().unwrap();
    manager.tracker.assert_followed();
    let before = manager.tracker.nodes().map(|at| (at, manager.tracker.slot(at).budget.load()));
    let before: Vec<_> = before.collect();
    let at = fault(&world);
    let part = catch_unwind(AssertUnwindSafe(|| manager.tracker.assert_followed())).expect_err("it is found");
    let part = part.downcast::<String>().unwrap();
    assert!(part.contains(&at.to_string()), "{part}");
    for (at, state) in before {
        manager.tracker.slot(at).budget.reset(&state);
    }
    let names = ["ghost-history", "ghost-use", "ghost-floor", "ghost-limit", "ghost-loans"];
    names.into_iter().find(|name| part.contains(name)).unwrap()
}

fn change(world: &World<'_>, index: u32, change: impl Fn(&mut State<Units>)) {
    let budget = &world.manager.tracker.slot(index).budget;
    let mut state = budget.load();
    change(&mut state);
    budget.reset(&state);
}

#[test]
fn the_shadow_finds_bytes_that_were_lost_or_given_twice() {
    for by in [-1, 1] {
        let found = found_after(|world| {
            change(world, world.ids[2].index, |state| {
                state.used = units((state.used.get() as i32 + by) as u32)
            });
            world.ids[2]
        });
        assert_eq!(found, "ghost-use");
        let found = found_after(|world| {
            change(world, world.ids[1].index, |state| {
                state.held = units((state.held.get() as i32 + by) as u32)
            });
            world.ids[0]
        });
        assert_eq!(found, "ghost-use");
    }
    // The pool: what it holds is its limit.
    let found = found_after(|world| {
        change(world, ROOT, |state| state.held = units(state.held.get() - 1));
        world.manager.tracker.id_at(ROOT)
    });
    assert_eq!(found, "ghost-limit");
}

#[test]
fn the_shadow_finds_a_guarantee_and_a_limit_that_nobody_set() {
    let found = found_after(|world| {
        change(world, world.ids[1].index, |state| state.floor = units(state.floor.get() - 1));
        // That of the parent is looked at first.
        world.ids[0]
    });
    assert_eq!(found, "ghost-floor");
    let found = found_after(|world| {
        change(world, world.ids[2].index, |state| state.limit = units(state.limit.get() - 1));
        world.ids[2]
    });
    assert_eq!(found, "ghost-limit");
}

#[test]
fn the_shadow_finds_a_debt_that_the_word_does_not_know() {
    let found = found_after(|world| {
        change(world, world.ids[2].index, |state| state.owes = true);
        world.ids[2]
    });
    assert_eq!(found, "ghost-loans");
}

#[test]
fn the_shadow_finds_what_is_given_back_that_was_not_taken() {
    let (manager, id) = heap(Full);
    // Told without being done.
    manager.tracker.observe(|| Operation::Uncharged { id, bytes: 1 });
    let refused = manager.verify().unwrap_err();
    assert!(refused.to_string().contains("ghost-history"), "{refused}");
    assert!(catch_unwind(AssertUnwindSafe(|| drop(manager))).is_err(), "whoever drops it hears of it");
}

#[derive(Clone, Debug)]
enum Step {
    Register { parent: Option<usize>, limit: usize, guarantee: usize },
    Charge { who: usize, bytes: usize },
    Drop { which: usize },
    Limit { who: usize, bytes: usize },
    Guarantee { who: usize, bytes: usize },
    Total { bytes: usize },
    Allow { lender: usize, borrower: usize, bytes: usize, automatic: bool },
    Forbid { lender: usize, borrower: usize },
    Lend { lender: usize, borrower: usize, bytes: usize },
    Recall { which: usize },
    Return { which: usize },
    Retire { who: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (any, small) = (any::<usize>, 0..400usize);
    let pair = || (any(), any());
    prop_oneof![
        2 => (prop::option::of(any()), 100..2000usize, prop_oneof![Just(0), 0..300usize])
            .prop_map(|(parent, limit, guarantee)| Step::Register { parent, limit, guarantee }),
        8 => (any(), small.clone()).prop_map(|(who, bytes)| Step::Charge { who, bytes }),
        5 => any().prop_map(|which| Step::Drop { which }),
        1 => (any(), 100..2000usize).prop_map(|(who, bytes)| Step::Limit { who, bytes }),
        2 => (any(), small.clone()).prop_map(|(who, bytes)| Step::Guarantee { who, bytes }),
        1 => (500..2000usize).prop_map(|bytes| Step::Total { bytes }),
        3 => (pair(), small.clone(), prop::bool::ANY)
            .prop_map(|((lender, borrower), bytes, automatic)| Step::Allow { lender, borrower, bytes, automatic }),
        1 => pair().prop_map(|(lender, borrower)| Step::Forbid { lender, borrower }),
        3 => (pair(), small).prop_map(|((lender, borrower), bytes)| Step::Lend { lender, borrower, bytes }),
        2 => any().prop_map(|which| Step::Recall { which }),
        2 => any().prop_map(|which| Step::Return { which }),
        1 => any().prop_map(|who| Step::Retire { who }),
    ]
}

/// What each node is.
fn figures(manager: &UnifiedMemoryManager) -> Vec<[usize; 8]> {
    let figures = manager.nodes().map(|it| {
        [it.id.index as usize, it.used, it.held, it.floor, it.limit, it.lent, it.borrowed, it.owed]
    });
    figures.collect()
}

fn run(steps: Vec<Step>, stock: usize) {
    let recording = Arc::new(Recording::new(10_000));
    let builder = UnifiedMemoryManager::builder().total(1500).stock(stock).largest_total(4000);
    let manager = builder.verification(Full).verification_backend(recording.clone()).build().unwrap();
    let (mut ids, mut charges, mut loans) = (Vec::new(), Vec::new(), Vec::new());
    for step in steps {
        let pick = |who: usize| ids.get(who.checked_rem(ids.len()).unwrap_or(0)).copied();
        match step {
            Step::Register { parent, limit, guarantee } => {
                let settings = CrateSettings::new().limit(limit).guarantee(guarantee);
                let parent = parent.and_then(pick);
                ids.extend(manager.register("crate", parent.map_or(settings, |it| settings.parent(it))));
            }
            Step::Charge { who, bytes } => {
                charges.extend(pick(who).and_then(|id| manager.charge(id, bytes, bytes).ok()));
            }
            Step::Drop { which } if !charges.is_empty() => {
                drop(charges.swap_remove(which % charges.len()));
            }
            Step::Limit { who, bytes } => drop(pick(who).map(|id| manager.set_limit(id, bytes))),
            Step::Guarantee { who, bytes } => drop(pick(who).map(|id| manager.set_guarantee(id, bytes))),
            Step::Total { bytes } => drop(manager.set_total(bytes)),
            Step::Allow { lender, borrower, bytes, automatic } => {
                let rule = LendingRule::new(bytes);
                let rule = if automatic { rule.automatic() } else { rule };
                let _ = pick(lender).zip(pick(borrower)).map(|(a, b)| manager.sharing().allow(a, b, rule));
            }
            Step::Forbid { lender, borrower } => {
                let _ = pick(lender).zip(pick(borrower)).map(|(a, b)| manager.sharing().forbid(a, b));
            }
            Step::Lend { lender, borrower, bytes } => {
                let pair = pick(lender).zip(pick(borrower));
                loans.extend(pair.and_then(|(a, b)| manager.borrow_from_crate(a, b, bytes).ok()));
            }
            Step::Recall { which } if !loans.is_empty() => drop(loans[which % loans.len()].recall()),
            Step::Return { which } if !loans.is_empty() => drop(loans.swap_remove(which % loans.len())),
            Step::Retire { who } => {
                if let Some(id) = pick(who).filter(|&id| manager.retire(id).is_ok()) {
                    ids.retain(|&other| other != id);
                    charges.retain(|charge: &crate::Charge<'_>| charge.crate_id() != id);
                }
            }
            Step::Drop { .. } | Step::Recall { .. } | Step::Return { .. } => {}
        }
        manager.tracker.assert_followed();
        manager.verify().unwrap();
    }
    // With stock, what a crate may have depends on what was refused to the host, which is not told.
    if stock == 0 {
        let again = recording.replay().unwrap();
        assert_eq!(figures(&again), figures(&manager));
        again.tracker.assert_followed();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_shadow_agrees_after_every_operation_and_a_replay_comes_to_the_same_state(
        steps in prop::collection::vec(step(), 1..80), stock in prop_oneof![Just(0usize), Just(50)],
    ) {
        run(steps, stock);
    }
}

#[test]
fn a_replay_that_goes_otherwise_says_where() {
    let recording = Arc::new(Recording::new(100));
    let builder = UnifiedMemoryManager::builder().total(1000).stock(0);
    let manager = builder.verification_backend(recording.clone()).build().unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    let charge = manager.charge(id, 600, 600).unwrap();
    // Told without being done: there is not so much left.
    manager.tracker.observe(|| Operation::Charged { id, bytes: 600 });
    let refused = recording.replay().map(drop).unwrap_err();
    assert!(
        matches!(
            refused,
            ReplayError::Diverged { at: 3, operation: Operation::Charged { .. }, error: Some(_) }
        ),
        "{refused}"
    );
    manager.tracker.observe(|| Operation::Uncharged { id, bytes: 600 });
    drop(charge);
    // And what was refused, and would not be.
    let recording = Arc::new(Recording::new(100));
    let builder = UnifiedMemoryManager::builder().total(1000).stock(0);
    let manager = builder.verification_backend(recording.clone()).build().unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    manager.tracker.observe(|| Operation::Refused { id, bytes: 600 });
    let refused = recording.replay().map(drop).unwrap_err();
    assert!(matches!(refused, ReplayError::Diverged { at: 2, error: None, .. }), "{refused}");
}

#[test]
fn a_recording_is_bounded_and_says_so() {
    let recording = Arc::new(Recording::new(3));
    let builder = UnifiedMemoryManager::builder().total(1000).verification_backend(recording.clone());
    let manager = builder.build().unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    drop(manager.charge(id, 1, 1).unwrap());
    assert_eq!(recording.operations().len(), 3);
    assert_eq!(recording.replay().map(drop), Err(ReplayError::NotWhole { lost: 1 }));
}

#[test]
fn what_several_threads_did_is_replayed_to_the_same_state() {
    let recording = Arc::new(Recording::new(1 << 20));
    let builder = UnifiedMemoryManager::builder().total(10_000).stock(100);
    let manager = builder.verification_backend(recording.clone()).build().unwrap();
    let ids: [CrateId; 4] =
        core::array::from_fn(|_| manager.register("guest", CrateSettings::new().guarantee(500)).unwrap());
    std::thread::scope(|scope| {
        for (thread, id) in ids.into_iter().enumerate() {
            let manager = &manager;
            scope.spawn(move || {
                let mut charges = Vec::new();
                for at in 0..300 {
                    charges.extend(manager.charge(id, 0, 17 * (at * (thread + 3) % 200)).ok());
                    if at % 3 == 0 {
                        charges.pop();
                    }
                    if at % 50 == 0 {
                        charges.clear();
                    }
                }
                charges.into_iter().for_each(core::mem::forget);
            });
        }
    });
    manager.tracker.assert_followed();
    let again = recording.replay().unwrap();
    let used = |of: &UnifiedMemoryManager| of.nodes().skip(1).map(|node| node.used).collect::<Vec<_>>();
    assert_eq!(used(&again), used(&manager));
}
