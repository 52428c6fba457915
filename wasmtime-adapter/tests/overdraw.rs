//! Ways in which a guest could try to have bytes that nobody pays for.

mod support;

use support::{PAGE, World, figures, grow, instantiate};
use wasmtime::{Extern, Instance, Memory, MemoryType, Store};
use wrt_memory_wasmtime::StoreAccount;

/// A host-made memory in the guest's hands: nobody takes over what its growth is granted.
fn host_made(store: &mut Store<StoreAccount>, world: &World, pages: u32) -> Instance {
    let memory = Memory::new(&mut *store, MemoryType::new(pages, None)).unwrap();
    let import = world.module(
        r#"(module (import "env" "memory" (memory 0))
             (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    Instance::new(store, &import, &[Extern::Memory(memory)]).unwrap()
}

#[test]
fn a_shared_memory_does_not_grow_on_a_host_made_memorys_grant() {
    let world = World::new();
    let id = world.crate_of("guest", 64 * PAGE);
    let mut store = world.store(id);
    let host_made = host_made(&mut store, &world, 1);
    let shared = instantiate(&mut store, &world.guest("shared_memory")).unwrap();
    for pages in 1..16 {
        assert_eq!((world.used(id), store.data().kept()), (2 * pages * PAGE, pages * PAGE));
        // The same sizes, one after the other; only the first asks a limiter.
        assert_eq!(grow(&mut store, host_made, 1), pages as i32);
        assert_eq!(grow(&mut store, shared, 1), pages as i32);
    }
    drop(store);
    assert_eq!(world.figures(id), figures(0, 32 * PAGE, 0));
    world.all_back([id]);
}

#[test]
fn a_shared_memory_of_no_pages_does_not_grow_on_a_creations_grant() {
    let world = World::new();
    let id = world.crate_of("guest", 64 * PAGE);
    let mut store = world.store(id);
    let text = r#"(module (memory 0 4 shared)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;
    let shared = instantiate(&mut store, &world.module(text)).unwrap();
    host_made(&mut store, &world, 2);
    assert_eq!(grow(&mut store, shared, 2), 0);
    assert_eq!((world.used(id), store.data().kept()), (4 * PAGE, 2 * PAGE));
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_module_memory_does_not_grow_on_a_host_made_memorys_grant() {
    let world = World::new();
    let id = world.crate_of("guest", 64 * PAGE);
    let mut store = world.store(id);
    let host_made = host_made(&mut store, &world, 1);
    let hog = instantiate(&mut store, &world.guest("hog")).unwrap();
    for pages in 1..16 {
        assert_eq!((world.used(id), store.data().kept()), (2 * pages * PAGE, pages * PAGE));
        assert_eq!(grow(&mut store, host_made, 1), pages as i32);
        assert_eq!(grow(&mut store, hog, 1), pages as i32);
    }
    drop(store);
    world.all_back([id]);
}

#[test]
fn overflow_and_host_made_growth_in_turn_give_no_refund() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    let host_made = host_made(&mut store, &world, 0);
    let text = r#"(module (memory 1 (pagesize 1))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;
    let tiny = instantiate(&mut store, &world.module(text)).unwrap();
    let mut gained = 0;
    for _ in 0..100 {
        gained += usize::from(grow(&mut store, host_made, 1) != -1);
        assert_eq!(grow(&mut store, tiny, -1), -1);
    }
    // A host page of the eight wasm pages is the tiny memory's.
    assert_eq!((gained, store.data().kept()), (7, 7 * PAGE));
    assert!(world.used(id) <= 8 * PAGE);
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_host_made_memory_that_may_not_move_gives_back_what_it_could_not_grow_by() {
    let world = World::with(
        support::TOTAL,
        |config| _ = config.memory_reservation(2 * PAGE as u64).memory_guard_size(0).memory_may_move(false),
        |budgets| budgets,
    );
    let id = world.crate_of("guest", 64 * PAGE);
    let mut store = world.store(id);
    let host_made = host_made(&mut store, &world, 1);
    assert_eq!(grow(&mut store, host_made, 1), 1);
    for _ in 0..100 {
        // Granted, then given up by wasmtime: the one failure that is sure to be of what was granted.
        assert_eq!(grow(&mut store, host_made, 1), -1);
        assert_eq!((world.used(id), store.data().kept()), (2 * PAGE, 2 * PAGE));
    }
    // A memory of the module's own has all it may be granted reserved, and grows.
    let hog = instantiate(&mut store, &world.guest("hog")).unwrap();
    assert_eq!(grow(&mut store, hog, 61), 1);
    assert_eq!(grow(&mut store, hog, 1), -1);
    assert_eq!((world.used(id), store.data().kept()), (64 * PAGE, 2 * PAGE));
    drop(store);
    world.all_back([id]);
}

#[test]
fn failed_creations_in_a_loop_cannot_be_had_for_nothing() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    let (failing, two) = (world.guest("failed_start"), world.guest("two_memories"));
    instantiate(&mut store, &failing).unwrap_err();
    instantiate(&mut store, &two).unwrap();
    instantiate(&mut store, &world.module("(module (memory 1))")).unwrap();
    assert_eq!(world.used(id), 7 * PAGE);
    for _ in 0..100 {
        // The first of the two fits. It is made, and gone again when the second does not.
        instantiate(&mut store, &two).unwrap_err();
        assert_eq!((world.used(id), store.data().kept()), (7 * PAGE, 0));
        instantiate(&mut store, &failing).unwrap_err();
        assert_eq!((world.used(id), store.data().kept()), (7 * PAGE, 0));
    }
    drop(store);
    assert_eq!(world.figures(id), figures(0, 8 * PAGE, 200));
    world.all_back([id]);
}

#[test]
fn a_limiter_that_refuses_after_ours_said_yes_costs_its_own_crate_only() {
    /// Asks ours, then refuses: the wrong way round.
    struct Spiteful(StoreAccount);
    impl wasmtime::ResourceLimiter for Spiteful {
        fn memory_growing(
            &mut self,
            now: usize,
            wanted: usize,
            most: Option<usize>,
        ) -> wasmtime::Result<bool> {
            let ours = wasmtime::ResourceLimiter::memory_growing(&mut self.0, now, wanted, most)?;
            Ok(ours && wanted < 3 * PAGE)
        }
        fn table_growing(
            &mut self,
            now: usize,
            wanted: usize,
            most: Option<usize>,
        ) -> wasmtime::Result<bool> {
            wasmtime::ResourceLimiter::table_growing(&mut self.0, now, wanted, most)
        }
    }
    let world = World::new();
    let id = world.crate_of("guest", 4 * PAGE);
    let mut store = Store::new(&world.engine, Spiteful(world.account(id)));
    store.limiter(|spiteful| spiteful);
    let hog = instantiate(&mut store, &world.guest("hog")).unwrap();
    assert_eq!(grow(&mut store, hog, 1), 1);
    assert_eq!(grow(&mut store, hog, 1), -1);
    // Charged until the store ends, and taken by nobody.
    assert_eq!((world.used(id), store.data().0.kept()), (3 * PAGE, PAGE));
    assert_eq!(grow(&mut store, hog, 1), -1);
    assert_eq!((world.used(id), store.data().0.kept()), (4 * PAGE, 2 * PAGE));
    assert_eq!(grow(&mut store, hog, 1), -1);
    assert_eq!((world.used(id), store.data().0.kept()), (4 * PAGE, 2 * PAGE));
    drop(store);
    world.all_back([id]);
}
