//! Charges as their holders see them.

use core::future::Future;

use crate::error::MemoryError;
use crate::{CrateHandle, CrateSettings, CrateStorage, UnifiedMemoryManager};

fn manager(largest: usize) -> UnifiedMemoryManager {
    UnifiedMemoryManager::builder().total(1 << 20).largest_total(largest).stock(0).build().unwrap()
}

#[test]
fn a_charge_of_no_bytes_does_not_answer_for_the_next_crate_in_its_slot() {
    let manager = manager(0);
    let first = manager.register("first", CrateSettings::new()).unwrap();
    let mut charge = manager.charge(first, 0, 0).unwrap();
    manager.retire(first).unwrap();
    let next = manager.register("next", CrateSettings::new().guarantee(100)).unwrap();
    assert_eq!(next.index, first.index);
    assert_eq!(charge.crate_id(), first);
    assert_eq!(charge.resize(10), Err(MemoryError::StaleCrate { id: first }));
    let other = manager.charge(next, 7, 7).unwrap();
    let other = charge.merge(other).unwrap_err();
    assert_eq!((charge.bytes(), manager.node(next).unwrap().used), (0, 7));
    drop(charge);
    drop(other);
    let node = manager.node(next).unwrap();
    assert_eq!((node.used, node.held, node.high_water), (0, 100, 7));
}

#[test]
fn the_next_manager_of_a_storage_finds_the_stock_of_a_crate_the_former_never_retired() {
    static CRATES: CrateStorage<4> = CrateStorage::new();
    for round in 0..2 {
        let manager =
            UnifiedMemoryManager::builder().total(1000).stock(100).storage(&CRATES).build().unwrap();
        // The index that had the seat before, and others: none of them is registered in this order
        // only by chance, so the seat of one is another's now.
        let others: Vec<_> =
            (0..round).map(|_| manager.register("first", CrateSettings::new()).unwrap()).collect();
        let idle = manager.register("idle", CrateSettings::new()).unwrap();
        let asks = manager.register("asks", CrateSettings::new()).unwrap();
        for id in others.into_iter().chain([idle, asks]) {
            drop(manager.charge(id, 50, 50).unwrap());
        }
        drop(manager.charge(asks, 1000, 1000).unwrap());
        // Nobody retires them.
    }
}

#[test]
#[cfg(panic = "unwind")]
fn a_charge_that_shrinks_gives_no_byte_back_twice_where_who_is_woken_panics() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: std::sync::Arc<Self>) {
            std::panic::resume_unwind(Box::new(()));
        }
    }
    let manager = manager(0);
    let [shrinks, waits] =
        ["shrinks", "waits"].map(|name| manager.register(name, CrateSettings::new()).unwrap());
    let kept = manager.charge(shrinks, 300, 300).unwrap();
    let mut charge = manager.charge(shrinks, 1000, 1000).unwrap();
    let rest = manager.charge(waits, 0, (1 << 20) - 1300).unwrap();
    let handle = CrateHandle::new(&manager, waits).unwrap();
    let mut waiting = handle.charge_or_wait(600, 600);
    let waker = std::sync::Arc::new(Panics).into();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(std::pin::Pin::new(&mut waiting).poll(&mut context).is_pending());
    let shrunk = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| charge.resize(100)));
    assert!(shrunk.is_err(), "nobody was woken");
    assert_eq!((charge.bytes(), manager.node(shrinks).unwrap().used), (100, 400));
    drop(charge);
    assert_eq!(manager.node(shrinks).unwrap().used, 300);
    drop((kept, rest, waiting));
    assert_eq!(manager.pool().used, 0);
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_split_is_exact_or_refused() {
    let manager = manager((32 << 30) - 1);
    let id = manager.register("crate", CrateSettings::new()).unwrap();
    let mut whole = manager.charge(id, 90, 96).unwrap();
    for refused in [1, 31, 33, 128] {
        assert!(whole.split(refused, 0).is_none(), "{refused} bytes in units of 32");
    }
    assert!(whole.split(32, 91).is_none(), "more than was requested");
    let part = whole.split(64, 60).unwrap();
    assert_eq!((whole.bytes(), whole.requested(), part.bytes(), part.requested()), (32, 30, 64, 60));
    assert_eq!((manager.node(id).unwrap().used, manager.node(id).unwrap().requested), (96, 90));
    drop(whole);
    assert_eq!((manager.node(id).unwrap().used, manager.node(id).unwrap().requested), (64, 60));
    drop(part);
    assert_eq!(manager.node(id).unwrap().used, 0);
}

#[test]
fn merging_takes_the_same_crate_of_the_same_manager_and_any_figures() {
    let (one, two) = (manager(0), manager(0));
    let settings = CrateSettings::new();
    let (mine, theirs) = (one.register("mine", settings).unwrap(), two.register("theirs", settings).unwrap());
    let mut charge = one.charge(mine, usize::MAX, 10).unwrap();
    let refused = charge.merge(two.charge(theirs, 5, 5).unwrap()).unwrap_err();
    assert_eq!((refused.crate_id(), charge.bytes()), (theirs, 10));
    drop(refused);
    charge.merge(one.charge(mine, usize::MAX, 6).unwrap()).unwrap();
    assert_eq!((charge.bytes(), charge.requested()), (16, usize::MAX));
    drop(charge);
    assert_eq!((one.node(mine).unwrap().used, two.node(theirs).unwrap().used), (0, 0));
}

#[test]
fn an_extended_charge_has_what_two_would_and_a_refused_one_what_it_had() {
    let manager = manager(0);
    let id = manager.register("crate", CrateSettings::new().limit(100)).unwrap();
    let figures = || (manager.node(id).unwrap().used, manager.node(id).unwrap().requested);
    let mut charge = manager.charge(id, 0, 0).unwrap();
    charge.extend(50, 60).unwrap();
    charge.extend(30, 40).unwrap();
    assert_eq!((charge.bytes(), charge.requested(), figures()), (100, 80, (100, 80)));
    for cost in [1, usize::MAX / 2, usize::MAX] {
        assert!(matches!(charge.extend(1, cost), Err(MemoryError::OverLimit { .. })), "{cost}");
    }
    assert_eq!((charge.bytes(), charge.requested(), figures()), (100, 80, (100, 80)));
    drop(charge);
    assert_eq!(figures(), (0, 0));
}

#[test]
fn an_empty_charge_is_not_extended_on_the_next_crate_in_its_slot() {
    let manager = manager(0);
    let first = manager.register("first", CrateSettings::new()).unwrap();
    let mut charge = manager.charge(first, 0, 0).unwrap();
    manager.retire(first).unwrap();
    let next = manager.register("next", CrateSettings::new()).unwrap();
    assert_eq!(next.index, first.index);
    assert_eq!(charge.extend(10, 10), Err(MemoryError::StaleCrate { id: first }));
    let mut theirs = manager.charge(next, 7, 7).unwrap();
    assert!(!charge.absorb(&mut theirs) && !theirs.absorb(&mut charge));
    assert_eq!((charge.bytes(), theirs.bytes()), (0, 7));
    drop(charge);
    assert_eq!(manager.node(next).unwrap().used, 7);
}

#[test]
fn what_is_absorbed_is_had_once_and_by_one() {
    let (one, two) = (manager(0), manager(0));
    let settings = CrateSettings::new();
    let (mine, theirs) = (one.register("mine", settings).unwrap(), two.register("theirs", settings).unwrap());
    let (mut to, mut from) = (one.charge(mine, 5, 10).unwrap(), one.charge(mine, 6, 20).unwrap());
    assert!(to.absorb(&mut from));
    assert_eq!((to.bytes(), to.requested(), from.bytes(), from.requested()), (30, 11, 0, 0));
    let node = one.node(mine).unwrap();
    assert_eq!((node.used, node.requested), (30, 11));
    // It is as good as new.
    from.extend(1, 4).unwrap();
    let mut foreign = two.charge(theirs, 5, 5).unwrap();
    assert!(!to.absorb(&mut foreign));
    assert_eq!((to.bytes(), foreign.bytes()), (30, 5));
    drop(to);
    assert_eq!((one.node(mine).unwrap().used, from.bytes()), (4, 4));
    drop(from);
    assert_eq!((one.node(mine).unwrap().used, two.node(theirs).unwrap().used), (0, 5));
}

#[test]
fn a_resize_charges_or_gives_back_just_the_difference_and_a_refused_one_nothing() {
    let manager = manager(0);
    let id = manager.register("crate", CrateSettings::new().limit(100)).unwrap();
    let mut charge = manager.charge(id, 30, 40).unwrap();
    charge.resize(100).unwrap();
    assert!(matches!(charge.resize(101), Err(MemoryError::OverLimit { asked: 1, free: 0, .. })));
    assert!(matches!(charge.resize(usize::MAX), Err(MemoryError::OverLimit { .. })));
    assert_eq!(
        (charge.bytes(), manager.node(id).unwrap().used, manager.node(id).unwrap().requested),
        (100, 100, 30)
    );
    charge.resize(30).unwrap();
    assert_eq!((manager.node(id).unwrap().used, manager.node(id).unwrap().requested), (30, 30));
    drop(charge);
    assert_eq!(manager.node(id).unwrap().used, 0);
}

// A unit of 32 bytes takes a total that a word of 32 bits has no room for.
#[cfg(target_pointer_width = "64")]
#[test]
fn what_was_requested_is_told_from_what_is_charged_whatever_becomes_of_a_charge() {
    let manager = manager((32 << 30) - 1);
    let id = manager.register("crate", CrateSettings::new()).unwrap();
    let requested = || manager.node(id).unwrap().requested;
    let mut charge = manager.charge(id, 30, 96).unwrap();
    charge.merge(manager.charge(id, 25, 96).unwrap()).unwrap();
    assert_eq!((charge.bytes(), requested()), (192, 55));
    charge.resize(64).unwrap();
    assert_eq!((charge.bytes(), requested()), (64, 55));
    charge.resize(320).unwrap();
    assert_eq!((charge.bytes(), requested()), (320, 55));
    let said = format!("{charge:?}");
    assert!(said.contains(&id.to_string()) && said.contains("320") && said.contains("55"), "{said}");
    drop(charge);
    assert_eq!((manager.node(id).unwrap().used, requested()), (0, 0));
}
