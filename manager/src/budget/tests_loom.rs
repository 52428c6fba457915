//! The ledger under every schedule that loom tries; those who wait for it are in `waiting/tests_loom.rs`.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p wrt-memory --release --lib loom_
//! ```
//! What bounds it: words of four 15-bit fields, one seat, four slots to a bucket, two or three
//! threads of one to four operations each, and the preemptions each test names: with two threads
//! `PREEMPTIONS`, with three fewer, any number where it names none. `LOOM_MAX_PREEMPTIONS` overrides all of these. loom takes
//! sequential consistency for acquire and release, which is weaker: what passes here passes there.

use loom::sync::Arc;
use loom::thread;

use super::amount::{Scale, Units};
use super::credit::Credit;
use super::id::CrateId;
use super::slot::ROOT;
use super::storage::Slots;
use super::tracker::BudgetTracker;
use crate::error::MemoryError;
use crate::sharing::{Key, LendingRule};

/// Preemptions tried with two threads where all of them would be too many.
pub(crate) const PREEMPTIONS: usize = 4;

pub(crate) fn model(preemptions: Option<usize>, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 100_000;
    let schedules = std::sync::atomic::AtomicUsize::new(0);
    let counted = std::sync::Arc::new(schedules);
    let count = counted.clone();
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        test();
    });
    println!("{} schedules", counted.load(std::sync::atomic::Ordering::Relaxed));
}

pub(crate) fn units(raw: u32) -> Units {
    Units::new(raw).unwrap()
}

pub(crate) fn tracker(total: u32, batch: u32) -> Arc<BudgetTracker> {
    let scale = Scale::for_total(total as usize);
    Arc::new(BudgetTracker::new(
        Slots::new(None),
        scale,
        units(total),
        units(batch),
        1,
        None,
        crate::budget::Reclaim::default(),
    ))
}

pub(crate) fn register(tracker: &BudgetTracker, parent: Option<CrateId>, guarantee: u32) -> CrateId {
    tracker.register("crate", parent, Units::MAX, units(guarantee)).unwrap()
}

pub(crate) fn charge(tracker: &BudgetTracker, id: CrateId, n: u32) -> Result<Credit<'_>, MemoryError> {
    tracker.charge_crate(id, units(n), n as usize)
}

/// With nothing in transit: every node's invariants, and I1 where only `in_use` has bytes itself.
pub(crate) fn check(tracker: &BudgetTracker, in_use: &[(CrateId, u32)]) {
    for index in tracker.nodes() {
        let state = tracker.slot(index).budget.load();
        assert!(state.use_is_backed() && state.floor_is_backed(), "{index}: {state:?}");
        let own: u32 = in_use.iter().filter(|(id, _)| id.index == index).map(|(_, n)| n).sum();
        let parent_of = |child| tracker.slot(child).parent.load(crate::sync::Ordering::SeqCst);
        let below = tracker.nodes().filter(|&child| child != ROOT && parent_of(child) == index);
        let (held, floors) = below.fold((0, 0), |(held, floors), child| {
            let state = tracker.slot(child).budget.load();
            (held + state.held.get(), floors + state.floor.get())
        });
        let own_floor = tracker.slot(index).own_guarantee.load(crate::sync::Ordering::SeqCst);
        assert_eq!(state.used.get(), own + held, "I1 at {index}: {state:?}");
        assert_eq!(state.floor.get(), own_floor + floors, "floors at {index}: {state:?}");
    }
}

/// Everything is idle: whoever asks gets all of the pool that is not guaranteed to others.
pub(crate) fn all_can_be_had(tracker: &BudgetTracker, by: CrateId, total: u32) {
    check(tracker, &[]);
    let all = charge(tracker, by, total);
    assert!(all.is_ok(), "idle bytes were not found: {:?}", all.err());
    check(tracker, &[(by, total)]);
}

#[test]
fn loom_charges_within_a_guarantee_are_never_refused() {
    model(None, || {
        let tracker = tracker(4, 0);
        let id = register(&tracker, None, 4);
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || drop(charge(&tracker, id, 1).unwrap()))
        };
        drop(charge(&tracker, id, 3).unwrap());
        other.join().unwrap();
        check(&tracker, &[]);
        assert!(tracker.slot(id.index).high_water(Units::ZERO) <= units(4));
    });
}

#[test]
fn loom_three_threads_on_one_word_lose_nothing() {
    model(Some(3), || {
        let tracker = tracker(3, 0);
        let id = register(&tracker, None, 3);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let tracker = tracker.clone();
                thread::spawn(move || drop(charge(&tracker, id, 1).unwrap()))
            })
            .collect();
        drop(charge(&tracker, id, 1).unwrap());
        for other in threads {
            other.join().unwrap();
        }
        all_can_be_had(&tracker, id, 3);
    });
}

#[test]
fn loom_stock_is_found_after_a_refill_met_a_sweep() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(10, 4);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        drop(charge(&tracker, one, 1).unwrap());
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || drop(charge(&tracker, one, 6)))
        };
        // Too much beside the other's stock: sweeps it, or is refused.
        drop(charge(&tracker, two, 8));
        other.join().unwrap();
        all_can_be_had(&tracker, two, 10);
    });
}

#[test]
fn loom_stock_is_not_left_with_a_crate_that_loses_its_seat() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(10, 4);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        let held = charge(&tracker, one, 3).unwrap();
        assert!(!tracker.slot(one.index).budget.load().stock().is_zero());
        held.absorb();
        let other = {
            let tracker = tracker.clone();
            // The first who finds no seat gets that of another.
            thread::spawn(move || drop(charge(&tracker, two, 1)))
        };
        tracker.uncharge(one.index, tracker.slot(one.index), units(3));
        other.join().unwrap();
        check(&tracker, &[]);
        let three = register(&tracker, None, 0);
        all_can_be_had(&tracker, three, 10);
    });
}

#[test]
fn loom_stock_that_is_kept_whole_is_not_left_with_a_crate_that_loses_its_seat() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(10, 4);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        charge(&tracker, one, 3).unwrap().absorb();
        // All its stock: given back, it is no more than the crate may keep.
        charge(&tracker, one, 4).unwrap().absorb();
        assert!(tracker.slot(one.index).budget.load().stock().is_zero());
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || drop(charge(&tracker, two, 1)))
        };
        tracker.uncharge(one.index, tracker.slot(one.index), units(4));
        other.join().unwrap();
        check(&tracker, &[(one, 3)]);
        let three = register(&tracker, None, 0);
        let rest = charge(&tracker, three, 7);
        assert!(rest.is_ok(), "idle bytes were not found: {:?}", rest.err());
    });
}

#[test]
fn loom_a_seat_lost_the_moment_it_is_found_leaves_no_stock() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(20, 4);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        // Somebody else has the seat, until so many looked for one that the next who does gets that
        // of another; then it is free, and the first crate will find it, and lose it.
        let (former, seated) = (register(&tracker, None, 0), register(&tracker, None, 0));
        drop(charge(&tracker, former, 1).unwrap());
        drop(charge(&tracker, seated, 1).unwrap());
        for _ in 0..7 {
            charge(&tracker, one, 1).unwrap().absorb();
        }
        tracker.retire(seated).unwrap();
        let finder = {
            let tracker = tracker.clone();
            thread::spawn(move || charge(&tracker, one, 1).unwrap().absorb())
        };
        drop(charge(&tracker, two, 1).unwrap());
        tracker.uncharge(one.index, tracker.slot(one.index), units(7));
        finder.join().unwrap();
        check(&tracker, &[(one, 1)]);
        let all = charge(&tracker, former, 19);
        assert!(all.is_ok(), "idle bytes were not found: {:?}", all.err());
        check(&tracker, &[(one, 1), (former, 19)]);
    });
}

#[test]
fn loom_a_parent_keeps_nothing_of_what_was_swept_to_it() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(12, 3);
        let parent = register(&tracker, None, 0);
        let (one, two) = (register(&tracker, Some(parent), 0), register(&tracker, Some(parent), 0));
        let outside = register(&tracker, None, 0);
        drop(charge(&tracker, one, 2).unwrap());
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || drop(charge(&tracker, one, 4)))
        };
        drop(charge(&tracker, two, 11));
        other.join().unwrap();
        all_can_be_had(&tracker, outside, 12);
    });
}

/// A charge with an id whose crate is retired meanwhile, and whose slot gets the next crate, below
/// another parent. Either it is retired or it is charged, and the next one never is.
fn retire_against_charge(guarantee: u32, batch: u32) {
    model(Some(PREEMPTIONS), move || {
        let tracker = tracker(8, batch);
        let parent = register(&tracker, None, 0);
        let id = register(&tracker, None, guarantee);
        let charger = {
            let tracker = tracker.clone();
            thread::spawn(move || match charge(&tracker, id, 2) {
                Ok(credit) => {
                    credit.absorb();
                    true
                }
                Err(error) => {
                    assert!(matches!(error, MemoryError::StaleCrate { .. }), "{error}");
                    false
                }
            })
        };
        let next = match tracker.retire(id) {
            Ok(()) => {
                let next = tracker.register("next", Some(parent), units(3), units(3)).unwrap();
                assert_ne!(next, id);
                // Guaranteed, whatever stale charges do.
                drop(charge(&tracker, next, 3).unwrap());
                Some(next)
            }
            Err(error) => {
                assert!(matches!(error, MemoryError::InUse { .. }), "{error}");
                None
            }
        };
        let charged = charger.join().unwrap();
        assert_ne!(charged, next.is_some(), "charged and retired, or neither");
        if charged {
            check(&tracker, &[(id, 2)]);
            tracker.uncharge(id.index, tracker.slot(id.index), units(2));
        }
        check(&tracker, &[]);
        tracker.retire(next.unwrap_or(id)).unwrap();
        check(&tracker, &[]);
        tracker.retire(parent).unwrap();
        assert_eq!(tracker.root.budget.load().used, Units::ZERO);
        assert!(matches!(tracker.retire(id), Err(MemoryError::StaleCrate { .. })));
    });
}

#[test]
fn loom_a_quick_charge_never_reaches_a_retired_crate_or_the_next_one() {
    retire_against_charge(2, 0);
}

#[test]
fn loom_a_slow_charge_never_reaches_a_retired_crate_or_the_next_one() {
    retire_against_charge(0, 0);
}

#[test]
fn loom_a_slow_charge_with_stock_never_reaches_a_retired_crate_or_the_next_one() {
    retire_against_charge(0, 2);
}

#[test]
fn loom_two_who_register_never_get_one_slot_nor_more_guarantees_than_there_are_bytes() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        // A slot to reuse, which both will want.
        let former = register(&tracker, None, 0);
        tracker.retire(former).unwrap();
        let try_register = |tracker: &BudgetTracker, guarantee| {
            tracker.register("crate", None, Units::MAX, units(guarantee))
        };
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || try_register(&tracker, 1))
        };
        let ids = [try_register(&tracker, 3), other.join().unwrap()].map(Result::unwrap);
        assert_ne!(ids[0].index, ids[1].index);
        check(&tracker, &[]);
        assert!(try_register(&tracker, 1).is_err());
        for id in ids {
            tracker.retire(id).unwrap();
        }
        all_can_be_had(&tracker, try_register(&tracker, 0).unwrap(), 4);
    });
}

#[test]
fn loom_a_slot_that_went_and_came_back_does_not_pass_for_one_that_stayed() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let free = [register(&tracker, None, 0), register(&tracker, None, 0)];
        for id in free {
            tracker.retire(id).unwrap();
        }
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || register(&tracker, None, 0))
        };
        let (came_back, stays) = (register(&tracker, None, 0), register(&tracker, None, 0));
        tracker.retire(came_back).unwrap();
        let other = other.join().unwrap();
        let ids = [stays, other, register(&tracker, None, 0), register(&tracker, None, 0)];
        for (at, id) in ids.iter().enumerate() {
            assert!(ids[..at].iter().all(|earlier| earlier.index != id.index), "{ids:?}");
        }
    });
}

#[test]
fn loom_of_two_guarantees_too_large_together_at_most_one_is_given() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || tracker.register("crate", None, Units::MAX, units(3)))
        };
        let ours = tracker.register("crate", None, Units::MAX, units(3));
        let theirs = other.join().unwrap();
        assert!(ours.is_err() || theirs.is_err());
        check(&tracker, &[]);
        for id in [ours, theirs].into_iter().flatten() {
            tracker.retire(id).unwrap();
        }
        assert_eq!(tracker.root.budget.load().floor, Units::ZERO);
        all_can_be_had(&tracker, register(&tracker, None, 0), 4);
    });
}

#[test]
fn loom_a_guarantee_lowered_while_all_above_it_retires_lowers_no_other() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(8, 2);
        let parent = register(&tracker, None, 0);
        let child = register(&tracker, Some(parent), 2);
        // With a seat: the bytes of the guarantee become its stock, and only the floor goes up.
        drop(charge(&tracker, child, 3).unwrap());
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || drop(tracker.set_guarantee(child, Units::ZERO)))
        };
        let next = (tracker.retire(child).is_ok() && tracker.retire(parent).is_ok())
            .then(|| register(&tracker, None, 3));
        other.join().unwrap();
        check(&tracker, &[]);
        if let Some(next) = next {
            let state = tracker.slot(next.index).budget.load();
            assert_eq!((state.floor, tracker.root.budget.load().floor), (units(3), units(3)));
        }
    });
}

#[test]
fn loom_limits_and_guarantees_set_beside_a_charge_lose_nothing() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(8, 2);
        let (id, outside) = (register(&tracker, None, 1), register(&tracker, None, 0));
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || drop(charge(&tracker, id, 3)))
        };
        tracker.set_limit(id, units(2)).unwrap();
        drop(tracker.set_guarantee(id, units(2)));
        tracker.set_guarantee(id, Units::ZERO).unwrap();
        other.join().unwrap();
        all_can_be_had(&tracker, outside, 8);
    });
}

/// A crate that is guaranteed `lender` bytes and another that is guaranteed none, below a limit each, which
/// a loan moves with the room.
fn pair(tracker: &BudgetTracker, lender: u32, parents: [Option<CrateId>; 2]) -> [CrateId; 2] {
    let make =
        |parent, guarantee| tracker.register("crate", parent, units(lender), units(guarantee)).unwrap();
    let pair = [make(parents[0], lender), make(parents[1], 0)];
    tracker.allow(pair[0], pair[1], &LendingRule::new(lender as usize)).unwrap();
    pair
}

fn lend(tracker: &BudgetTracker, [from, to]: [CrateId; 2], n: u32) -> Result<Key, MemoryError> {
    tracker.lend(from, to, units(n), None)
}

/// Nothing in use, nothing lent: all that there is is where it was, and the book is empty.
fn all_is_back(tracker: &BudgetTracker, pair: [CrateId; 2], lender: u32) {
    check(tracker, &[]);
    let state = |id: CrateId| tracker.slot(id.index).budget.load();
    assert_eq!((state(pair[0]).floor, state(pair[0]).limit), (units(lender), units(lender)));
    assert_eq!((state(pair[1]).floor, state(pair[1]).limit), (Units::ZERO, units(lender)));
    assert!(!state(pair[0]).owes && !state(pair[1]).owes);
    for id in pair {
        let (lent, borrowed, owed) = tracker.sums(id.index);
        assert_eq!([lent, borrowed, owed], [Units::ZERO; 3]);
        tracker.retire(id).unwrap();
    }
}

#[test]
fn loom_a_loan_recalled_beside_its_use_is_paid_by_what_is_freed() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let pair = pair(&tracker, 4, [None; 2]);
        let loan = lend(&tracker, pair, 3).unwrap();
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || {
                // Within what is borrowed, as long as it is; and freed whatever became of the loan.
                drop(charge(&tracker, pair[1], 2));
            })
        };
        let came = tracker.recall(loan);
        assert!(came >= units(1));
        other.join().unwrap();
        tracker.end_loan(loan);
        all_is_back(&tracker, pair, 4);
    });
}

#[test]
fn loom_a_lender_that_charges_beside_its_loan_is_refused_nothing_it_still_has() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let pair = pair(&tracker, 4, [None; 2]);
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || lend(&tracker, pair, 3).ok())
        };
        // One byte is never lent; the rest comes back when it is asked for, as nobody uses it.
        charge(&tracker, pair[0], 1).unwrap().absorb();
        drop(charge(&tracker, pair[0], 3).unwrap());
        let loan = other.join().unwrap();
        tracker.uncharge(pair[0].index, tracker.slot(pair[0].index), units(1));
        if let Some(loan) = loan {
            tracker.end_loan(loan);
        }
        all_is_back(&tracker, pair, 4);
    });
}

#[test]
fn loom_a_crate_is_retired_or_lent_to_and_never_both() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let pair = pair(&tracker, 4, [None; 2]);
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || lend(&tracker, pair, 3).ok())
        };
        let retired = tracker.retire(pair[1]).is_ok();
        let loan = other.join().unwrap();
        assert_ne!(retired, loan.is_some());
        if let Some(loan) = loan {
            tracker.end_loan(loan);
            tracker.retire(pair[1]).unwrap();
        }
        check(&tracker, &[]);
        tracker.retire(pair[0]).unwrap();
        assert_eq!(tracker.root.budget.load().used, Units::ZERO);
    });
}

#[test]
fn loom_a_rule_for_a_crate_that_is_gone_is_never_the_next_ones() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let (lender, stale) = (register(&tracker, None, 4), register(&tracker, None, 0));
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || drop(tracker.allow(lender, stale, &LendingRule::new(4))))
        };
        tracker.retire(stale).unwrap();
        let next = register(&tracker, None, 0);
        other.join().unwrap();
        assert_eq!(next.index, stale.index);
        assert!(tracker.allowed(lender, next).unwrap().is_none(), "it was allowed what another was");
    });
}

#[test]
fn loom_bytes_freed_beside_a_recall_across_parents_reach_the_lender() {
    model(Some(3), || {
        let tracker = tracker(4, 0);
        let parents = [(); 2].map(|()| tracker.register("parent", None, units(4), Units::ZERO).unwrap());
        let pair = pair(&tracker, 4, parents.map(Some));
        let loan = lend(&tracker, pair, 3).unwrap();
        charge(&tracker, pair[1], 3).unwrap().absorb();
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || {
                tracker.uncharge(pair[1].index, tracker.slot(pair[1].index), units(2));
                tracker.uncharge(pair[1].index, tracker.slot(pair[1].index), units(1));
            })
        };
        tracker.end_loan(loan);
        other.join().unwrap();
        all_is_back(&tracker, pair, 4);
        for parent in parents {
            let state = tracker.slot(parent.index).budget.load();
            assert_eq!(
                (state.used, state.held, state.floor, state.limit.get()),
                (Units::ZERO, Units::ZERO, Units::ZERO, 4)
            );
        }
    });
}

#[test]
fn loom_a_debtor_that_loses_its_seat_while_it_pays_leaves_no_stock() {
    model(Some(3), || {
        let tracker = tracker(12, 2);
        let pair = pair(&tracker, 4, [None; 2]);
        let outside = register(&tracker, None, 0);
        // It has the seat, and uses what it borrowed and some of the pool's.
        let loan = lend(&tracker, pair, 4).unwrap();
        charge(&tracker, pair[1], 5).unwrap().absorb();
        tracker.recall(loan);
        let other = {
            let tracker = tracker.clone();
            // The first who finds no seat gets that of another.
            thread::spawn(move || drop(charge(&tracker, outside, 1)))
        };
        tracker.uncharge(pair[1].index, tracker.slot(pair[1].index), units(5));
        other.join().unwrap();
        tracker.end_loan(loan);
        check(&tracker, &[]);
        let three = register(&tracker, None, 0);
        // All but what the lender is guaranteed.
        let all = charge(&tracker, three, 8);
        assert!(all.is_ok(), "idle bytes were not found: {:?}", all.err());
    });
}

#[test]
fn loom_what_is_freed_below_one_that_begins_to_owe_does_not_stay_there_as_stock() {
    model(Some(3), || {
        let tracker = tracker(12, 2);
        let pair = pair(&tracker, 4, [None; 2]);
        let child = register(&tracker, Some(pair[1]), 0);
        let loan = lend(&tracker, pair, 4).unwrap();
        // It has the seat, and a batch on top; what it frees below that stays with it.
        charge(&tracker, child, 3).unwrap().absorb();
        charge(&tracker, child, 1).unwrap().absorb();
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || tracker.uncharge(child.index, tracker.slot(child.index), units(1)))
        };
        tracker.recall(loan);
        other.join().unwrap();
        let state = |id: CrateId| tracker.slot(id.index).budget.load();
        assert!(state(pair[1]).owes);
        assert_eq!(
            (state(child).used, state(child).stock()),
            (units(3), Units::ZERO),
            "it owes, and has that"
        );
        tracker.uncharge(child.index, tracker.slot(child.index), units(3));
        tracker.end_loan(loan);
        tracker.retire(child).unwrap();
        all_is_back(&tracker, pair, 4);
    });
}
