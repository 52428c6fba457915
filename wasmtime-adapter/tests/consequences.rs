//! What follows from wasmtime's hooks, beyond the numbered list: the order in which things are dropped,
//! hand-overs that nobody comes for, memories that outlive their store.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{PAGE, World, call, figures, grow, instantiate, over_limit};
use wasmtime::{Extern, Instance, Memory, MemoryType, Store};
use wrt_memory::{CrateId, MemoryError, UnifiedMemoryManager};
use wrt_memory_wasmtime::StoreAccount;

/// Store data that notes, as it is dropped, what its crate had in use just before.
struct Watch {
    account: StoreAccount,
    manager: Arc<UnifiedMemoryManager>,
    id: CrateId,
    used: Arc<AtomicUsize>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.used.store(self.manager.node(self.id).unwrap().used, Ordering::Relaxed);
    }
}

fn watched(world: &World, id: CrateId) -> (Store<Watch>, Arc<AtomicUsize>) {
    let used = Arc::new(AtomicUsize::new(usize::MAX));
    let watch = Watch { account: world.account(id), manager: world.manager.clone(), id, used: used.clone() };
    let mut store = Store::new(&world.engine, watch);
    store.limiter(|watch| &mut watch.account);
    instantiate(&mut store, &world.guest("hog")).unwrap();
    instantiate(&mut store, &world.guest("table_grow")).unwrap();
    Memory::new(&mut store, MemoryType::new(2, None)).unwrap();
    assert_eq!((world.used(id), store.data().account.kept()), (3 * PAGE + 80, 2 * PAGE + 80));
    (store, used)
}

#[test]
fn a_dropped_store_drops_its_data_before_its_memories() {
    let world = World::new();
    let id = world.crate_of("guest", 4 * PAGE);
    let (store, used) = watched(&world, id);
    drop(store);
    assert_eq!(used.load(Ordering::Relaxed), 3 * PAGE + 80);
    assert_eq!(world.figures(id), figures(0, 3 * PAGE + 80, 0));
    world.all_back([id]);
}

#[test]
fn into_data_drops_the_memories_and_keeps_what_the_account_owes() {
    let world = World::new();
    let id = world.crate_of("guest", 4 * PAGE);
    let (store, used) = watched(&world, id);
    let watch = store.into_data();
    assert_eq!((world.used(id), watch.account.kept()), (2 * PAGE + 80, 2 * PAGE + 80));
    assert_eq!(used.load(Ordering::Relaxed), usize::MAX);
    drop(watch);
    assert_eq!(used.load(Ordering::Relaxed), 2 * PAGE + 80);
    world.all_back([id]);
}

#[test]
fn an_offer_that_went_stale_is_not_taken_for_another_size() {
    let world = World::with(support::TOTAL, |_| {}, |budgets| budgets);
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    Memory::new(&mut store, MemoryType::new(3, None)).unwrap();
    // No account, and nobody's offer of this size: refused.
    let mut stranger = Store::new(&world.engine, ());
    let error = instantiate(&mut stranger, &world.guest("hog")).unwrap_err();
    assert!(format!("{error:?}").contains("no account"), "{error:?}");
    assert_eq!((world.figures(id), store.data().kept()), (figures(3 * PAGE, 3 * PAGE, 0), 3 * PAGE));
    // The offer is used up: nor is the right size taken now.
    instantiate(&mut stranger, &world.module("(module (memory 3))")).unwrap_err();
    assert_eq!((world.figures(id), store.data().kept()), (figures(3 * PAGE, 3 * PAGE, 0), 3 * PAGE));
    drop(store);
    world.all_back([id]);
}

#[test]
fn an_offer_that_went_stale_is_not_taken_for_another_maximum() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    Memory::new(&mut store, MemoryType::new(3, None)).unwrap();
    let mut stranger = Store::new(&world.engine, ());
    instantiate(&mut stranger, &world.module("(module (memory 3 4))")).unwrap_err();
    assert_eq!((world.figures(id), store.data().kept()), (figures(3 * PAGE, 3 * PAGE, 0), 3 * PAGE));
    drop(store);
    world.all_back([id]);
}

#[test]
fn an_offer_of_a_store_that_is_gone_is_nobodys() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
    drop(store);
    assert_eq!(world.used(id), 0);
    let mut stranger = Store::new(&world.engine, ());
    instantiate(&mut stranger, &world.guest("hog")).unwrap_err();
    assert_eq!(world.used(id), 0);
    world.all_back([id]);
}

#[test]
fn a_guest_that_grows_from_nothing_leaves_no_offer_for_a_stranger() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("zero_memory")).unwrap();
    assert_eq!(grow(&mut store, instance, 1), 0);
    let mut stranger = Store::new(&world.engine, ());
    instantiate(&mut stranger, &world.guest("hog")).unwrap_err();
    assert_eq!(world.figures(id), figures(PAGE, PAGE, 0));
    drop(store);
    world.all_back([id]);
}

#[test]
fn an_offer_of_another_managers_crate_is_not_taken() {
    let (ours, theirs) = (World::new(), World::new());
    let id = ours.crate_of("guest", 8 * PAGE);
    let mut store = ours.store(id);
    Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
    let mut stranger = Store::new(&theirs.engine, ());
    instantiate(&mut stranger, &theirs.guest("hog")).unwrap_err();
    assert_eq!((ours.figures(id), store.data().kept()), (figures(PAGE, PAGE, 0), PAGE));
    drop(store);
    ours.all_back([id]);
    theirs.all_back([]);
}

#[test]
fn a_host_made_memory_of_ours_is_charged_for_what_it_grows_by_and_ends_with_its_store() {
    let world = World::new();
    let id = world.crate_of("guest", 3 * PAGE);
    let mut store = world.store(id);
    let memory = world.budgets.memory(&mut store, MemoryType::new(1, Some(9))).unwrap();
    assert_eq!((world.figures(id), store.data().kept()), (figures(PAGE, PAGE, 0), 0));
    let instance =
        Instance::new(&mut store, &world.guest("import_memory"), &[Extern::Memory(memory)]).unwrap();
    assert_eq!(grow(&mut store, instance, 2), 1);
    assert_eq!((world.figures(id), store.data().kept()), (figures(3 * PAGE, 3 * PAGE, 0), 0));
    assert_eq!(grow(&mut store, instance, 1), -1);
    assert!(memory.grow(&mut store, 1).is_err());
    assert_eq!((world.figures(id), memory.size(&store)), (figures(3 * PAGE, 3 * PAGE, 2), 3));
    // Refused before it is made, with the figures.
    let error = world.budgets.memory(&mut store, MemoryType::new(1, None)).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (PAGE, 3 * PAGE, 3 * PAGE, 0));
    let error = world.budgets.memory(&mut store, MemoryType::shared(0, 1)).unwrap_err();
    assert!(error.to_string().contains("Budgets::shared_memory"), "{error}");
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_shared_memory_of_ours_is_charged_until_its_last_clone_is_gone() {
    let world = World::new();
    let (owner, user) = (world.crate_of("owner", 4 * PAGE), world.crate_of("user", 0));
    let memory = world.budgets.shared_memory(&world.engine, owner, MemoryType::shared(1, 16)).unwrap();
    assert_eq!(world.figures(owner), figures(PAGE, PAGE, 0));
    let import = world.guest("import_shared_memory");
    let mut stores: Vec<_> = (0..3).map(|_| world.store(user)).collect();
    for store in &mut stores {
        let instance = Instance::new(&mut *store, &import, &[memory.clone().into()]).unwrap();
        grow(&mut *store, instance, 1);
    }
    // Whoever grows it, it is the owner's.
    assert_eq!((world.figures(owner), world.used(user)), (figures(4 * PAGE, 4 * PAGE, 0), 0));
    assert!(memory.grow(1).is_err());
    assert_eq!(world.figures(owner), figures(4 * PAGE, 4 * PAGE, 1));
    drop(memory);
    assert_eq!(world.used(owner), 4 * PAGE);
    for left in (0..3).rev() {
        stores.pop();
        assert_eq!(world.used(owner), if left > 0 { 4 * PAGE } else { 0 });
    }
    assert!(world.budgets.shared_memory(&world.engine, owner, MemoryType::new(1, None)).is_err());
    let error = world.budgets.shared_memory(&world.engine, owner, MemoryType::shared(5, 5)).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (5 * PAGE, 0, 4 * PAGE, 4 * PAGE));
    world.all_back([owner, user]);
}

#[test]
fn a_shared_memory_grows_from_threads_while_its_store_goes() {
    let world = World::new();
    let id = world.crate_of("guest", 10 * PAGE);
    for _ in 0..20 {
        let mut store = world.store(id);
        let instance = instantiate(&mut store, &world.guest("shared_memory")).unwrap();
        let memory = instance.get_shared_memory(&mut store, "memory").unwrap();
        let gained: usize = std::thread::scope(|scope| {
            let growing: Vec<_> = (0..4)
                .map(|_| {
                    let memory = memory.clone();
                    scope.spawn(move || (0..5).filter(|_| memory.grow(1).is_ok()).count())
                })
                .collect();
            drop(store);
            growing.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((gained, memory.size()), (9, 10));
        assert_eq!(world.used(id), 10 * PAGE);
        drop(memory);
        assert_eq!(world.used(id), 0);
    }
    assert_eq!(world.figures(id), figures(0, 10 * PAGE, 20 * 11));
    world.all_back([id]);
}

#[test]
fn every_memory_kind_is_counted_by_its_size() {
    let world = World::new();
    let id = world.crate_of("guest", 1 << 20);
    for (name, bytes) in [
        ("zero_memory", 0),
        ("memory64", PAGE),
        ("two_memories", 2 * PAGE),
        ("big_max", PAGE),
        ("no_memory", 0),
    ] {
        let mut store = world.store(id);
        instantiate(&mut store, &world.guest(name)).unwrap();
        assert_eq!((world.used(id), store.data().kept()), (bytes, 0), "{name}");
    }
    world.all_back([id]);
}

#[test]
fn one_byte_pages_cost_the_host_pages_they_touch() {
    let world = World::new();
    let id = world.crate_of("guest", usize::MAX);
    let mut store = world.store(id);
    let text = r#"(module (memory (export "memory") 0 (pagesize 1))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;
    let instance = instantiate(&mut store, &world.module(text)).unwrap();
    assert_eq!((world.used(id), world.figures(id).requested), (0, 0));
    grow(&mut store, instance, 1);
    let page = world.used(id);
    assert!(page.is_power_of_two() && page >= 4096, "{page}");
    let mut size = 1;
    for bytes in [1, 4094, 1, 1, 8192, 4095, 1, 30_000, 12_345] {
        assert_eq!(grow(&mut store, instance, bytes), size);
        size += bytes;
        let seen = world.figures(id);
        assert_eq!((seen.used, seen.requested), ((size as usize).next_multiple_of(page), size as usize));
    }
    // One more byte fits into a page that is paid for, whatever the limit.
    grow(&mut store, instance, (size as usize).next_multiple_of(page) as i32 - size - 1);
    let full = world.used(id);
    world.manager.set_limit(id, full).unwrap();
    assert_ne!(grow(&mut store, instance, 1), -1);
    assert_eq!(world.used(id), full);
    assert_eq!(grow(&mut store, instance, 1), -1);
    assert_eq!(world.figures(id).requested, full);
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_retired_crates_account_is_refused() {
    let world = World::new();
    let id = world.crate_of("guest", PAGE);
    let mut store = world.store(id);
    world.manager.retire(id).unwrap();
    assert!(matches!(world.budgets.account(id), Err(MemoryError::StaleCrate { .. })));
    // Nobody else's budget pays for it, even in the same slot.
    let next = world.crate_of("next", PAGE);
    let error = instantiate(&mut store, &world.guest("hog")).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(MemoryError::StaleCrate { .. })), "{error:?}");
    assert_eq!(world.figures(next), figures(0, 0, 0));
    drop(store);
    world.all_back([next]);
}

#[test]
fn a_limit_lowered_below_what_is_used_refuses_until_enough_is_back() {
    let world = World::new();
    let id = world.crate_of("guest", 4 * PAGE);
    let (mut one, mut two) = (world.store(id), world.store(id));
    let first = instantiate(&mut one, &world.guest("hog")).unwrap();
    assert_eq!(grow(&mut one, first, 2), 1);
    let second = instantiate(&mut two, &world.guest("hog")).unwrap();
    world.manager.set_limit(id, 2 * PAGE).unwrap();
    assert_eq!(grow(&mut two, second, 1), -1);
    // By nothing, it is no question.
    assert_eq!(call::<_, i32, i32>(&mut two, second, "grow", 0).unwrap(), 1);
    drop(one);
    assert_eq!(grow(&mut two, second, 1), 1);
    assert_eq!(grow(&mut two, second, 1), -1);
    drop(two);
    assert_eq!(world.figures(id), figures(0, 4 * PAGE, 2));
    world.all_back([id]);
}
