//! Slabs under every schedule that loom tries; `budget/tests_loom.rs` says how to run it, and what bounds it. There is one
//! class, of one byte, with one place.

use core::ptr::NonNull;

use loom::thread;

use super::Class;
use crate::budget::tests_loom::{
    PREEMPTIONS, all_can_be_had, charge, check, model, register, tracker, units,
};
use crate::budget::{BudgetTracker, CrateId, Units};
use crate::provider::{HeapProvider, Provider, Request};
use crate::waiting;

const BYTE: Class = Class::of(1).unwrap();

/// A byte of a crate's, charged for, or taken again. `None` where it is denied.
fn take(tracker: &BudgetTracker, id: CrateId) -> Option<NonNull<u8>> {
    if let Some((ptr, _)) = tracker.take_kept(id, BYTE, Units::ONE) {
        return Some(ptr);
    }
    charge(tracker, id, 1).ok()?.absorb();
    // Charged as one byte, though the heap would say that it costs more.
    Some(HeapProvider::new().allocate(&Request::new(1)).unwrap().ptr)
}

/// Frees it. Whether it was kept.
fn free(tracker: &BudgetTracker, id: CrateId, ptr: NonNull<u8>) -> bool {
    let slot = tracker.slot(id.index);
    // SAFETY: nothing refers to it.
    let kept = unsafe { tracker.keep(id.index, slot, BYTE, ptr) };
    if !kept {
        // SAFETY: the same.
        unsafe { super::free(ptr, BYTE) };
        tracker.uncharge(id.index, slot, Units::ONE);
    }
    kept
}

/// Whoever asks for all there is gets it, though blocks may be kept.
fn all_is_idle(tracker: &BudgetTracker, by: CrateId, total: u32) {
    drop(charge(tracker, by, total).expect("idle bytes were not found"));
    all_can_be_had(tracker, by, total);
}

/// A crate with a seat, and with a byte in use.
fn with_byte(tracker: &BudgetTracker, id: CrateId) -> NonNull<u8> {
    take(tracker, id).expect("nobody else has anything")
}

#[test]
fn loom_what_is_kept_while_another_asks_for_all_is_found() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(6, 2);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        let byte = with_byte(&tracker, one);
        let other = {
            let (tracker, byte) = (tracker.clone(), byte.as_ptr() as usize);
            thread::spawn(move || free(&tracker, one, NonNull::new(byte as *mut u8).unwrap()))
        };
        // Sweeps it, or is refused, or takes the seat.
        drop(charge(&tracker, two, 6));
        other.join().unwrap();
        all_is_idle(&tracker, two, 6);
    });
}

#[test]
fn loom_who_waits_is_served_by_what_is_freed_or_kept() {
    model(Some(PREEMPTIONS - 1), || {
        let tracker = tracker(4, 2);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        let byte = with_byte(&tracker, one);
        let other = {
            let (tracker, byte) = (tracker.clone(), byte.as_ptr() as usize);
            thread::spawn(move || free(&tracker, one, NonNull::new(byte as *mut u8).unwrap()))
        };
        let key = match tracker.charge(two.index, two.generation, units(4)) {
            Ok(credit) => {
                credit.absorb();
                None
            }
            Err(shortage) => {
                let request = waiting::Request { id: two, n: units(4), needs: units(4), asked: 4 };
                Some(tracker.stand_in_line(&request, shortage).unwrap())
            }
        };
        other.join().unwrap();
        if let Some(key) = key {
            assert!(matches!(tracker.stands(key, None), waiting::Standing::Granted), "nobody told it");
        }
        check(&tracker, &[(two, 4)]);
        tracker.uncharge(two.index, tracker.slot(two.index), units(4));
        all_is_idle(&tracker, one, 4);
    });
}

#[test]
fn loom_a_block_has_one_owner_and_a_limit_is_never_passed() {
    model(Some(PREEMPTIONS - 1), || {
        let tracker = tracker(6, 2);
        let id = register(&tracker, None, 0);
        let byte = with_byte(&tracker, id);
        assert!(free(&tracker, id, byte));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let tracker = tracker.clone();
                thread::spawn(move || {
                    let byte = take(&tracker, id)?;
                    Some((byte.as_ptr() as usize, tracker.clone()))
                })
            })
            .collect();
        // Empties it, where it is not taken yet.
        tracker.empty(id.index, tracker.slot(id.index));
        let taken: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap().unwrap().0).collect();
        assert_ne!(taken[0], taken[1], "one block has two owners");
        check(&tracker, &[(id, 2)]);
        for byte in taken {
            free(&tracker, id, NonNull::new(byte as *mut u8).unwrap());
        }
        all_is_idle(&tracker, id, 6);
    });
}

#[test]
fn loom_a_stale_id_takes_nothing_of_the_next_crates() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(6, 2);
        let id = register(&tracker, None, 0);
        let byte = with_byte(&tracker, id);
        assert!(free(&tracker, id, byte));
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || {
                let taken = tracker.take_kept(id, BYTE, Units::ONE).map(|(ptr, _)| ptr);
                taken.inspect(|&byte| _ = free(&tracker, id, byte)).is_some()
            })
        };
        if tracker.retire(id).is_ok() {
            let next = register(&tracker, None, 0);
            let byte = with_byte(&tracker, next);
            free(&tracker, next, byte);
            other.join().unwrap();
            all_is_idle(&tracker, next, 6);
        } else {
            assert!(other.join().unwrap(), "nothing was in use");
            all_is_idle(&tracker, id, 6);
        }
    });
}

#[test]
fn loom_nothing_is_kept_once_a_limit_was_lowered_or_a_rule_made() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(6, 2);
        let (id, other) = (register(&tracker, None, 0), register(&tracker, None, 0));
        let byte = with_byte(&tracker, id);
        let freeing = {
            let (tracker, byte) = (tracker.clone(), byte.as_ptr() as usize);
            thread::spawn(move || free(&tracker, id, NonNull::new(byte as *mut u8).unwrap()))
        };
        tracker.allow(id, other, &crate::sharing::LendingRule::new(3)).unwrap();
        freeing.join().unwrap();
        assert_eq!(tracker.slot(id.index).slab.bytes(), 0, "who shares keeps nothing");
        check(&tracker, &[]);
    });
}

#[test]
fn loom_a_crate_is_not_in_use_while_a_sweep_frees_what_it_kept() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(6, 2);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        let byte = with_byte(&tracker, one);
        assert!(free(&tracker, one, byte));
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || drop(charge(&tracker, two, 6)))
        };
        tracker.retire(one).expect("nothing was in use");
        other.join().unwrap();
        all_is_idle(&tracker, two, 6);
    });
}
