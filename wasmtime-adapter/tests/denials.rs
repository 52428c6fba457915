//! What a guest and its host are told of a denial, each in its way and with the figures.

mod support;

use support::{PAGE, World, call, figures, grow, instantiate, over_limit};
use wasmtime::{Ref, RefType, Table, TableType};
use wrt_memory::{CrateSettings, MemoryError};
use wrt_memory_wasmtime::OnDenial;

#[test]
fn refuse_gives_minus_one_and_keeps_the_figures() {
    let world = World::new();
    let id = world.crate_of("guest", 5 * PAGE);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("hog")).unwrap();
    assert_eq!(store.data().last_denial(), None);
    assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), 4);
    assert_eq!(over_limit(&store.data().last_denial().unwrap()), (PAGE, 5 * PAGE, 5 * PAGE, 0));
    assert_eq!(world.figures(id), figures(5 * PAGE, 5 * PAGE, 1));
    assert_eq!(world.manager.node(id).unwrap().denials.limit, 1);
    drop(store);
    world.all_back([id]);
}

#[test]
fn trap_names_the_crate_and_the_figures() {
    let world = World::new();
    let id = world.crate_of("image resizer", 5 * PAGE);
    let mut store = world.store_of(world.account(id).on_denial(OnDenial::Trap));
    let instance = instantiate(&mut store, &world.guest("hog")).unwrap();
    let error = call::<_, (), i32>(&mut store, instance, "run", ()).unwrap_err();
    let denial: &MemoryError = error.downcast_ref().unwrap();
    assert_eq!(over_limit(denial), (PAGE, 5 * PAGE, 5 * PAGE, 0));
    assert_eq!(
        denial.to_string(),
        "crate `image resizer` asked for 65536 bytes: 327680 of its limit of 327680 are in use, 0 are free; \
         a limit of 393216 would do"
    );
    assert_eq!(store.data().last_denial().as_ref(), Some(denial));
    assert_eq!(world.figures(id), figures(5 * PAGE, 5 * PAGE, 1));
    // The memory is whole, and the store still works.
    assert_eq!(call::<_, (), i32>(&mut store, instance, "size", ()).unwrap(), 5);
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_refused_creation_has_the_figures_in_its_error_either_way() {
    let world = World::new();
    let id = world.crate_of("guest", 1000 * PAGE);
    for on_denial in [OnDenial::Refuse, OnDenial::Trap] {
        let mut store = world.store_of(world.account(id).on_denial(on_denial));
        let error = instantiate(&mut store, &world.guest("big_min")).unwrap_err();
        assert_eq!(over_limit(error.downcast_ref().unwrap()), (2000 * PAGE, 0, 1000 * PAGE, 1000 * PAGE));
        assert_eq!((world.used(id), store.data().kept()), (0, 0));
        let table = world.module("(module (table 9000000 funcref))");
        let error = instantiate(&mut store, &table).unwrap_err();
        assert_eq!(over_limit(error.downcast_ref().unwrap()), (72_000_000, 0, 1000 * PAGE, 1000 * PAGE));
    }
    assert_eq!(world.figures(id), figures(0, 0, 4));
    world.all_back([id]);
}

#[test]
fn an_empty_memory_that_cannot_grow_is_told_minus_one() {
    let world = World::new();
    let id = world.crate_of("guest", 2 * PAGE);
    let mut store = world.store(id);
    let empty = instantiate(&mut store, &world.guest("zero_memory")).unwrap();
    assert_eq!(grow(&mut store, empty, 3), -1);
    assert_eq!(over_limit(&store.data().last_denial().unwrap()), (3 * PAGE, 0, 2 * PAGE, 2 * PAGE));
    assert_eq!(grow(&mut store, empty, 1), 0);
    // Now that no memory is empty, from nothing means a new one again.
    let error = instantiate(&mut store, &world.guest("big_min")).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (2000 * PAGE, PAGE, 2 * PAGE, PAGE));
    drop(store);
    world.all_back([id]);
}

#[test]
fn the_pools_end_is_told_apart_from_the_crates_limit() {
    let world = World::with(8 * PAGE, |_| {}, |budgets| budgets);
    let parent = world.manager.register("customer", CrateSettings::new().limit(6 * PAGE)).unwrap();
    let child = world.manager.register("module", CrateSettings::new().parent(parent)).unwrap();
    let other = world.crate_of("other", usize::MAX);
    let mut store = world.store_of(world.account(child).on_denial(OnDenial::Trap));
    let instance = instantiate(&mut store, &world.guest("hog")).unwrap();
    let error = call::<_, (), i32>(&mut store, instance, "run", ()).unwrap_err();
    match error.downcast_ref().unwrap() {
        MemoryError::PoolExhausted { holder, free, .. } => {
            assert_eq!((holder.as_str(), *free), ("customer", 0))
        }
        error => panic!("{error}"),
    }
    assert_eq!(world.used(child), 6 * PAGE);
    let mut hog = world.store_of(world.account(other).on_denial(OnDenial::Trap));
    let instance = instantiate(&mut hog, &world.guest("hog")).unwrap();
    let error = call::<_, (), i32>(&mut hog, instance, "run", ()).unwrap_err();
    match error.downcast_ref().unwrap() {
        MemoryError::PoolExhausted { holder, free, .. } => assert_eq!((holder.as_str(), *free), ("pool", 0)),
        error => panic!("{error}"),
    }
    assert_eq!(world.used(other), 2 * PAGE);
    drop((store, hog));
    assert_eq!((world.figures(child).denied, world.figures(other).denied), (1, 1));
    world.all_back([child, parent, other]);
}

#[test]
fn tables_are_refused_like_memories() {
    let world = World::new();
    let id = world.crate_of("guest", 8000);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("table_grow")).unwrap();
    assert_eq!(grow(&mut store, instance, 990), 10);
    assert_eq!((world.figures(id), store.data().kept()), (figures(8000, 8000, 0), 8000));
    assert_eq!(grow(&mut store, instance, 1), -1);
    assert_eq!((world.figures(id), store.data().kept()), (figures(8000, 8000, 1), 8000));
    assert_eq!(over_limit(&store.data().last_denial().unwrap()), (8, 8000, 8000, 0));
    // A host's own table is no way round.
    Table::new(&mut store, TableType::new(RefType::FUNCREF, 1, None), Ref::Func(None)).unwrap_err();
    drop(store);
    let mut store = world.store_of(world.account(id).on_denial(OnDenial::Trap));
    let instance = instantiate(&mut store, &world.guest("table_grow")).unwrap();
    let error = call::<_, i32, i32>(&mut store, instance, "grow", 991).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (7928, 80, 8000, 7920));
    drop(store);
    assert_eq!(world.figures(id), figures(0, 8000, 3));
    world.all_back([id]);
}

#[test]
fn a_gc_heap_that_may_not_grow_is_out_of_memory_to_the_guest_and_figures_to_the_host() {
    let world = World::new();
    let id = world.crate_of("guest", PAGE);
    let mut store = world.store_of(world.account(id).on_denial(OnDenial::Trap));
    let instance = instantiate(&mut store, &world.guest("gc_hog")).unwrap();
    let error = call::<_, i32, i32>(&mut store, instance, "run", 1 << 20).unwrap_err();
    // wasmtime drops the limiter's error on this path, and tries to collect.
    assert!(error.downcast_ref::<MemoryError>().is_none(), "{error:?}");
    assert!(matches!(store.data().last_denial(), Some(MemoryError::OverLimit { .. })));
    assert_eq!((world.used(id), store.gc_heap_capacity()), (PAGE, PAGE));
    // What it lets go of it can have again.
    call::<_, (), ()>(&mut store, instance, "clear", ()).unwrap();
    assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 100).unwrap(), 100);
    drop(store);
    world.all_back([id]);
}
