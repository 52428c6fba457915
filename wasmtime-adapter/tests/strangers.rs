//! Stores without an account on an engine with budgets: refused, or on the crate the host named.

mod support;

use support::{PAGE, World, figures, grow, instantiate, over_limit};
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder};
use wrt_memory::{CrateSettings, MemoryError, UnifiedMemoryManager};
use wrt_memory_wasmtime::Budgets;

#[test]
fn a_store_without_an_account_is_refused_and_told_what_to_do() {
    let world = World::new();
    let mut store = Store::new(&world.engine, ());
    let error = instantiate(&mut store, &world.guest("hog")).unwrap_err();
    let text = format!("{error:?}");
    for hint in ["no account", "Budgets::account", "Store::limiter", "default_crate"] {
        assert!(text.contains(hint), "{text}");
    }
    // No memory, nothing to refuse.
    instantiate(&mut store, &world.guest("no_memory")).unwrap();
    drop(store);
    world.all_back([]);
}

#[test]
fn a_store_with_somebody_elses_limiter_is_refused_too() {
    let world = World::new();
    let mut store: Store<StoreLimits> =
        Store::new(&world.engine, StoreLimitsBuilder::new().memory_size(1 << 30).build());
    store.limiter(|limits| limits);
    assert!(
        format!("{:?}", instantiate(&mut store, &world.guest("hog")).unwrap_err()).contains("no account")
    );
    drop(store);
    world.all_back([]);
}

/// A world whose default crate has `limit` bytes.
fn with_default(limit: usize) -> (World, wrt_memory::CrateId) {
    let mut id = None;
    let manager = std::sync::Arc::new(UnifiedMemoryManager::builder().total(support::TOTAL).build().unwrap());
    let budgets = Budgets::new(manager.clone()).unwrap();
    id.replace(manager.register("default", CrateSettings::new().limit(limit)).unwrap());
    let budgets = budgets.default_crate(id.unwrap()).unwrap();
    let mut config = support::config();
    budgets.configure(&mut config);
    let engine = wasmtime::Engine::new(&config).unwrap();
    (World { manager, budgets, engine }, id.unwrap())
}

#[test]
fn a_default_crate_pays_for_stores_without_an_account() {
    let (world, id) = with_default(4 * PAGE);
    let mut store = Store::new(&world.engine, ());
    let hog = instantiate(&mut store, &world.guest("hog")).unwrap();
    let shared = instantiate(&mut store, &world.guest("shared_memory")).unwrap();
    assert_eq!(world.figures(id), figures(2 * PAGE, 2 * PAGE, 0));
    assert_eq!(grow(&mut store, hog, 1), 1);
    assert_eq!(grow(&mut store, shared, 1), 1);
    assert_eq!(world.figures(id), figures(4 * PAGE, 4 * PAGE, 0));
    assert_eq!(grow(&mut store, hog, 1), -1);
    assert_eq!(grow(&mut store, shared, 1), -1);
    let error = instantiate(&mut store, &world.guest("hog")).unwrap_err();
    assert!(format!("{error:?}").contains("crate `default` asked for 65536 bytes"), "{error:?}");
    assert_eq!(world.figures(id), figures(4 * PAGE, 4 * PAGE, 3));
    // A store with an account is not the default's.
    let guest = world.crate_of("guest", PAGE);
    let mut own = world.store(guest);
    instantiate(&mut own, &world.guest("hog")).unwrap();
    assert_eq!((world.used(id), world.used(guest)), (4 * PAGE, PAGE));
    drop((store, own));
    world.all_back([id, guest]);
}

#[test]
fn a_default_crate_that_was_retired_is_none() {
    let (world, id) = with_default(4 * PAGE);
    world.manager.retire(id).unwrap();
    let next = world.crate_of("next", 4 * PAGE);
    let mut store = Store::new(&world.engine, ());
    instantiate(&mut store, &world.guest("hog")).unwrap_err();
    assert_eq!(world.figures(next), figures(0, 0, 0));
    assert!(matches!(world.budgets.clone().default_crate(id), Err(MemoryError::StaleCrate { .. })));
    world.all_back([next]);
}

#[test]
fn a_check_of_the_engine_charges_nobody() {
    let (world, id) = with_default(0);
    world.budgets.check(&world.engine).unwrap();
    assert_eq!(world.figures(id), figures(0, 0, 0));
    World::new().budgets.check(&world.engine).unwrap();
}

#[test]
fn a_manager_without_mapped_pages_has_no_budgets() {
    use wrt_memory::provider::{HeapProvider, ProviderSelector};
    let providers = ProviderSelector::new().with_heap(HeapProvider::new());
    let manager = UnifiedMemoryManager::builder().total(PAGE).providers(providers).build().unwrap();
    let error = Budgets::new(std::sync::Arc::new(manager)).unwrap_err();
    assert!(error.to_string().contains("mapped provider"), "{error}");
}

#[test]
fn what_a_default_crate_is_denied_has_the_figures() {
    let (world, id) = with_default(PAGE);
    let mut store = Store::new(&world.engine, ());
    let memory = world.budgets.memory(&mut store, wasmtime::MemoryType::new(1, None)).unwrap();
    memory.grow(&mut store, 1).unwrap_err();
    assert_eq!(world.figures(id), figures(PAGE, PAGE, 1));
    assert_eq!(over_limit(&world.manager.allocate(id, 1).unwrap_err()).1, PAGE);
    drop(store);
    world.all_back([id]);
}
