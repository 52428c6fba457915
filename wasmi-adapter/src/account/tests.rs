//! The limiter by itself, with the calls that wasmi would make.

use alloc::sync::Arc;

use wrt_memory::{CrateSettings, UnifiedMemoryManager};

use super::*;

const PAGE: usize = 65536;

fn account(limit: usize) -> (Arc<UnifiedMemoryManager>, Account) {
    // On 32-bit targets small totals are counted in bytes, and large ones are not.
    let total = 2 * limit.next_power_of_two();
    let manager = Arc::new(UnifiedMemoryManager::builder().total(total).stock(0).build().unwrap());
    let id = manager.register("guest", CrateSettings::new().limit(limit)).unwrap();
    let handle = CrateHandle::new(&manager, id).unwrap();
    (manager, Account::new(handle, OnDenial::Refuse, None))
}

fn used(account: &Account) -> usize {
    account.handle().manager().node(account.handle().id()).unwrap().used
}

fn place(account: &mut Account, size: usize, region: usize, maximum: usize) {
    account.place(Some(Linear { size: 0, region, maximum }));
    assert!(account.memory_growing(0, size, Some(maximum)).unwrap());
    account.place(None);
}

#[test]
fn trap_2_a_maximum_that_arrives_as_0_is_the_memory_that_has_it() {
    let (_manager, mut account) = account(1 << 20);
    // 65,536 pages, as a 32-bit wasmi has it when it grows.
    let maximum = 0;
    place(&mut account, PAGE, 4 * PAGE, maximum);
    assert!(account.memory_growing(PAGE, 3 * PAGE, Some(0)).unwrap());
    assert_eq!(account.linear(), 3 * PAGE);
    assert!(!account.memory_growing(3 * PAGE, 5 * PAGE, Some(0)).unwrap());
    assert_eq!(account.linear(), 3 * PAGE);
    // And a table of which that is said.
    assert!(account.table_growing(0, 10, None).unwrap());
    assert!(account.table_growing(10, 20, Some(0)).unwrap());
}

#[test]
fn a_maximum_is_cut_off_as_wasmi_does_it() {
    assert_eq!(in_bytes(65536, PAGE), 1usize.checked_shl(32).unwrap_or(0));
    assert_eq!(in_bytes(7, 1), 7);
}

#[test]
fn memories_of_one_size_are_told_apart_by_their_maximum() {
    let (_manager, mut account) = account(1 << 20);
    let first = account.maximum(65536, PAGE, 4 * PAGE);
    place(&mut account, PAGE, 4 * PAGE, in_bytes(first, PAGE));
    let second = account.maximum(65536, PAGE, 2 * PAGE);
    place(&mut account, PAGE, 2 * PAGE, in_bytes(second, PAGE));
    assert_ne!(first, second);
    assert!(!account.memory_growing(PAGE, 3 * PAGE, Some(in_bytes(second, PAGE))).unwrap());
    assert!(account.memory_growing(PAGE, 3 * PAGE, Some(in_bytes(first, PAGE))).unwrap());
}

#[test]
fn memories_of_one_region_may_have_one_maximum_and_where_none_is_left_it_is_that_of_the_region() {
    let (_manager, mut account) = account(1 << 20);
    for _ in 0..3 {
        assert_eq!(account.maximum(3, PAGE, PAGE), 3);
        place(&mut account, 0, PAGE, in_bytes(3, PAGE));
    }
    assert_eq!(account.maximum(3, PAGE, 2 * PAGE), 2);
}

#[test]
fn of_two_that_cannot_be_told_apart_the_shorter_region_decides() {
    let (_manager, mut account) = account(1 << 20);
    place(&mut account, PAGE, 9 * PAGE, 9 * PAGE);
    place(&mut account, PAGE, 2 * PAGE, 9 * PAGE);
    assert!(
        !account.memory_growing(PAGE, 3 * PAGE, Some(9 * PAGE)).unwrap(),
        "one of them would end the host"
    );
    assert!(account.memory_growing(PAGE, 2 * PAGE, Some(9 * PAGE)).unwrap());
}

#[test]
fn trap_5_creation_that_was_not_announced_is_refused() {
    let (_manager, mut account) = account(1 << 20);
    assert!(!account.memory_growing(0, PAGE, None).unwrap());
    place(&mut account, PAGE, PAGE, PAGE);
    assert!(!account.memory_growing(0, 0, Some(3 * PAGE)).unwrap());
}

#[test]
fn trap_6_failed_growth_is_taken_back_and_only_the_last_one() {
    let (_manager, mut account) = account(1 << 13);
    place(&mut account, PAGE, 4 * PAGE, 4 * PAGE);
    for _ in 0..3 {
        assert!(account.memory_growing(PAGE, 2 * PAGE, Some(4 * PAGE)).unwrap());
        account.memory_grow_failed(&WasmMemoryError::OutOfFuel { required_fuel: 1 }).unwrap();
        assert_eq!(account.linear(), PAGE);
    }
    assert!(account.memory_growing(PAGE, 2 * PAGE, Some(4 * PAGE)).unwrap());
    assert!(account.memory_growing(2 * PAGE, 3 * PAGE, Some(4 * PAGE)).unwrap());
    account.memory_grow_failed(&WasmMemoryError::OutOfFuel { required_fuel: 1 }).unwrap();
    account.memory_grow_failed(&WasmMemoryError::OutOfFuel { required_fuel: 1 }).unwrap();
    assert_eq!(account.linear(), 2 * PAGE, "what came before has happened");

    assert!(account.table_growing(0, 10, None).unwrap());
    let made = (used(&account), account.tables.clone());
    for _ in 0..3 {
        assert!(account.table_growing(10, 1000, None).unwrap());
        assert_eq!(used(&account), 4000);
        account.table_grow_failed(&TableError::OutOfFuel { required_fuel: 1 }).unwrap();
        assert_eq!((used(&account), account.tables.clone()), made);
        assert!(account.table_growing(0, 7, None).unwrap());
        account.table_grow_failed(&TableError::OutOfSystemMemory).unwrap();
        assert_eq!((used(&account), account.tables.clone()), made);
    }
}

#[test]
fn tables_are_charged_the_room_they_have_and_a_refusal_changes_nothing() {
    let (_manager, mut account) = account(4000);
    assert!(account.table_growing(0, 1, None).unwrap());
    assert_eq!((used(&account), account.tables()), (16, 16));
    for (current, desired, room) in
        [(1, 4, 4), (4, 5, 8), (5, 8, 8), (8, 9, 16), (9, 100, 100), (100, 101, 200)]
    {
        assert!(account.table_growing(current, desired, None).unwrap());
        assert_eq!((used(&account), account.tables()), (room * 4, room * 4), "{current} to {desired}");
    }
    let before = account.tables.clone();
    for desired in [1001, 1 << 20, usize::MAX] {
        assert!(!account.table_growing(101, desired, None).unwrap());
        assert!(matches!(account.last_denial(), Some(MemoryError::OverLimit { .. })));
    }
    assert!(!account.table_growing(101, 102, Some(101)).unwrap());
    assert_eq!((used(&account), account.tables.clone()), (800, before));
    drop(account);
}

#[test]
fn of_two_tables_of_one_length_the_roomier_one_is_taken_to_grow() {
    let (_manager, mut account) = account(1 << 13);
    assert!(account.table_growing(0, 4, None).unwrap());
    assert!(account.table_growing(4, 5, None).unwrap());
    assert!(account.table_growing(0, 5, None).unwrap());
    assert_eq!(account.tables(), (8 + 5) * 4);
    // It may be either: 16 and 5, or 8 and 10.
    assert!(account.table_growing(5, 9, None).unwrap());
    assert_eq!(account.tables(), (16 + 5) * 4);
}

#[test]
fn every_growth_past_the_region_is_a_denial_that_is_counted_with_its_figures() {
    let (manager, mut account) = account(1 << 20);
    place(&mut account, PAGE, 2 * PAGE, 99 * PAGE);
    let denials = || manager.snapshot().crates[0].denials;
    for count in 1..=3 {
        assert!(!account.memory_growing(PAGE, 4 * PAGE, Some(99 * PAGE)).unwrap());
        assert_eq!((denials().provider, denials().total()), (count, count.into()));
        let source = ProviderError::PastReserve { asked: 4 * PAGE, limit: 2 * PAGE };
        let denied = account.last_denial();
        assert!(
            matches!(denied, Some(MemoryError::Provider { asked, source: s, .. }) if (*asked, *s) == (3 * PAGE, source)),
            "{denied:?}"
        );
    }
    // Past what the budget has, too, it is the budget's.
    assert!(!account.memory_growing(PAGE, 90 * PAGE, Some(99 * PAGE)).unwrap());
    assert_eq!((denials().provider, denials().limit), (3, 1));
    assert!(matches!(account.last_denial(), Some(MemoryError::OverLimit { .. })));
    assert_eq!(used(&account), 0);
}
