//! One test for each thing of wasmtime's memory hooks that bites, by the number it has in the notes:
//! what really happens, and that every byte is counted through it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Figures, PAGE, World, call, figures, grow, instantiate, over_limit};
use wasmtime::{
    Config, Engine, ExternRef, Instance, InstanceAllocationStrategy, Memory, MemoryType, ResourceLimiter,
    SharedMemory, Store,
};
use wrt_memory::{CrateId, MemoryError, UnifiedMemoryManager};
use wrt_memory_wasmtime::{Budgets, OnDenial, StoreAccount};

#[test]
fn trap_01_data_segments_work_with_the_adapters_config() {
    let world = World::new();
    let id = world.crate_of("guest", PAGE);
    let module = world.guest("data_segment");
    assert_eq!(world.figures(id), figures(0, 0, 0));
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &module).unwrap();
    assert_eq!(call::<_, i32, i32>(&mut store, instance, "read", 16).unwrap(), i32::from(b'h'));
    assert_eq!(call::<_, i32, i32>(&mut store, instance, "read", 21).unwrap(), 0);
    assert_eq!((world.figures(id), store.data().kept()), (figures(PAGE, PAGE, 0), 0));
    // What one instance wrote, the next does not see.
    call::<_, (i32, i32), ()>(&mut store, instance, "write", (16, 7)).unwrap();
    drop(store);
    assert_eq!(world.figures(id), figures(0, PAGE, 0));
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &module).unwrap();
    assert_eq!(call::<_, i32, i32>(&mut store, instance, "read", 16).unwrap(), i32::from(b'h'));
    drop(store);
    world.all_back([id]);
}

#[test]
fn trap_01_an_engine_whose_images_were_turned_on_again_is_found() {
    let budgets =
        Budgets::new(Arc::new(UnifiedMemoryManager::builder().total(PAGE).build().unwrap())).unwrap();
    let engine = |set: &dyn Fn(&mut Config)| {
        let mut config = Config::new();
        budgets.configure(&mut config);
        set(&mut config);
        Engine::new(&config).unwrap()
    };
    budgets.check(&engine(&|_| {})).unwrap();
    // What was set before is taken back.
    let mut config = Config::new();
    config.memory_init_cow(true).allocation_strategy(InstanceAllocationStrategy::pooling());
    budgets.configure(&mut config);
    budgets.check(&Engine::new(&config).unwrap()).unwrap();
    let images = budgets.check(&engine(&|config| _ = config.memory_init_cow(true))).unwrap_err();
    assert!(images.to_string().contains("copy-on-write"), "{images}");
    let pooled = engine(&|config| _ = config.allocation_strategy(InstanceAllocationStrategy::pooling()));
    let pooled = budgets.check(&pooled).unwrap_err();
    assert!(pooled.to_string().contains("without the budgets"), "{pooled}");
    let plain = budgets.check(&Engine::new(Config::new().memory_init_cow(false)).unwrap()).unwrap_err();
    assert!(plain.to_string().contains("without the budgets"), "{plain}");
}

#[test]
fn trap_02_host_made_memories_are_kept_by_the_account_and_shared_ones_by_nobody() {
    let world = World::new();
    let id = world.crate_of("guest", 4 * PAGE);
    let mut store = world.store(id);
    let memory = Memory::new(&mut store, MemoryType::new(2, None)).unwrap();
    assert_eq!((world.figures(id), store.data().kept()), (figures(2 * PAGE, 2 * PAGE, 0), 2 * PAGE));
    assert_eq!(memory.grow(&mut store, 1).unwrap(), 2);
    assert_eq!((world.figures(id), store.data().kept()), (figures(3 * PAGE, 3 * PAGE, 0), 3 * PAGE));
    // Past the limit: wasmtime's own words to the host, and the figures in the account.
    assert!(memory.grow(&mut store, 2).is_err());
    let denial = store.data().last_denial().unwrap();
    assert_eq!(over_limit(&denial), (2 * PAGE, 3 * PAGE, 4 * PAGE, PAGE));
    // The other constructor asks nobody: no budget bounds it.
    let shared = SharedMemory::new(&world.engine, MemoryType::shared(1, 8)).unwrap();
    shared.grow(7).unwrap();
    assert_eq!((world.figures(id), store.data().kept()), (figures(3 * PAGE, 3 * PAGE, 1), 3 * PAGE));
    drop(store);
    assert_eq!(world.figures(id), figures(0, 3 * PAGE, 1));
    world.all_back([id]);
}

#[test]
fn trap_03_each_memory_goes_to_the_crate_of_its_own_store() {
    let world = World::new();
    let (first, second) = (world.crate_of("first", 9 * PAGE), world.crate_of("second", 9 * PAGE));
    let (hog, four) = (world.guest("hog"), world.module("(module (memory 4))"));
    let (mut one, mut two) = (world.store(first), world.store(second));
    instantiate(&mut one, &hog).unwrap();
    instantiate(&mut two, &four).unwrap();
    // An offer that nobody comes for, of just the type that the other store makes next.
    Memory::new(&mut one, MemoryType::new(4, None)).unwrap();
    instantiate(&mut two, &four).unwrap();
    instantiate(&mut one, &hog).unwrap();
    assert_eq!((world.figures(first), one.data().kept()), (figures(6 * PAGE, 6 * PAGE, 0), 4 * PAGE));
    assert_eq!((world.figures(second), two.data().kept()), (figures(8 * PAGE, 8 * PAGE, 0), 0));
    drop(one);
    assert_eq!((world.used(first), world.used(second)), (0, 8 * PAGE));
    drop(two);
    world.all_back([first, second]);
}

#[test]
fn trap_04_the_gc_heap_is_on_the_crates_budget() {
    let world = World::new();
    let id = world.crate_of("guest", 1 << 20);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("externref_table")).unwrap();
    // Four elements, and a heap of no bytes.
    assert_eq!((world.figures(id), store.data().kept()), (figures(32, 32, 0), 32));
    assert_eq!(store.gc_heap_capacity(), 0);
    let value = ExternRef::new(&mut store, 7u32).unwrap();
    let heap = store.gc_heap_capacity();
    assert!(heap > 0);
    assert_eq!((world.figures(id), store.data().kept()), (figures(32 + heap, 32 + heap, 0), 32));
    call::<_, (i32, Option<wasmtime::Rooted<ExternRef>>), ()>(&mut store, instance, "set", (0, Some(value)))
        .unwrap();
    drop(store);
    assert_eq!(world.figures(id), figures(0, 32 + heap, 0));

    // It doubles: what does not fit is refused, and the guest runs out of its own heap.
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("gc_hog")).unwrap();
    let error = call::<_, i32, i32>(&mut store, instance, "run", 100_000).unwrap_err();
    let heap = store.gc_heap_capacity();
    let seen = world.figures(id);
    assert_eq!((seen.used, seen.requested, store.data().kept()), (heap, heap, 0), "{error:?}");
    assert!(heap > 0 && heap <= 1 << 20 && seen.denied > 0, "{seen:?}");
    assert!(matches!(store.data().last_denial(), Some(MemoryError::OverLimit { .. })));
    drop(store);
    world.all_back([id]);
}

/// A pool so large that a memory with 64-bit indices reserves about half of all addresses.
fn world_of_addresses() -> World {
    // The largest that is counted in units of a page.
    World::with((1 << 46) - PAGE, |_| {}, |budgets| budgets)
}

#[test]
fn trap_05_a_creation_that_fails_after_the_limiters_yes_leaves_nothing_charged() {
    let world = world_of_addresses();
    let id = world.crate_of("guest", 1 << 46);
    let module = world.guest("memory64");
    let mut store = world.store(id);
    // As many as there are addresses for.
    let mut made = 0;
    let error = loop {
        match instantiate(&mut store, &module) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 8, "there are more addresses than there should be");
    };
    let text = format!("{error:?}");
    assert!(text.contains("`guest`") && text.contains("no room"), "{text}");
    // The limiter said yes once more than there are memories, and wasmtime never took it back.
    assert_eq!((world.figures(id), store.data().kept()), (figures(made * PAGE, (made + 1) * PAGE, 1), 0));
    assert!(matches!(store.data().last_denial(), Some(MemoryError::Provider { .. })));
    drop(store);
    assert_eq!(world.figures(id), figures(0, (made + 1) * PAGE, 1));
    world.all_back([id]);
}

#[test]
fn trap_05_a_guest_reserves_no_more_addresses_than_its_limit() {
    let world = world_of_addresses();
    let limit = (4 << 30) + PAGE;
    let id = world.crate_of("guest", limit);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("memory64")).unwrap();
    let hundred = "(memory i64 0)".repeat(100);
    instantiate(&mut store, &world.module(&format!("(module {hundred})"))).unwrap();
    assert_eq!(world.figures(id), figures(PAGE, PAGE, 0));
    // And has all of that to grow into.
    let rest = limit / PAGE - 1;
    assert_eq!(call::<_, i64, i64>(&mut store, instance, "grow", rest as i64).unwrap(), 1);
    assert_eq!(world.figures(id), figures(limit, limit, 0));
    // A limit raised later is not in reach of a memory that is there.
    world.manager.set_limit(id, 8 << 30).unwrap();
    assert_eq!(call::<_, i64, i64>(&mut store, instance, "grow", 1).unwrap(), -1);
    assert!(matches!(store.data().last_denial(), Some(MemoryError::Provider { .. })));
    assert_eq!(world.figures(id).used, limit);
    drop(store);
    world.all_back([id]);
}

#[test]
fn trap_06_a_failure_of_which_no_limiter_was_asked_refunds_nothing() {
    let world = World::new();
    let id = world.crate_of("guest", 64 * PAGE);
    let mut store = world.store(id);
    let tiny = world.module(
        r#"(module (memory (export "memory") 1 (pagesize 1))
             (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    let tiny = instantiate(&mut store, &tiny).unwrap();
    // One byte, and the host page it takes.
    let page = world.used(id);
    assert_eq!(world.figures(id), Figures { used: page, requested: 1, high_water: page, denied: 0 });
    let host_made = Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
    for pages in 1..10 {
        // What was granted last stands for a memory that is there.
        let used = page + pages * PAGE;
        let seen = Figures { used, requested: used - page + 1, high_water: used, denied: 0 };
        assert_eq!((world.figures(id), store.data().kept()), (seen, pages * PAGE));
        // 4 GiB of one-byte pages cannot be: reported as failed, and never asked for.
        assert_eq!(grow(&mut store, tiny, -1), -1);
        assert_eq!((world.figures(id), store.data().kept()), (seen, pages * PAGE));
        host_made.grow(&mut store, 1).unwrap();
    }
    drop(store);
    world.all_back([id]);
}

#[test]
fn trap_06_a_table_that_overflows_is_no_refund_either() {
    let world = World::new();
    let id = world.crate_of("guest", PAGE);
    let mut store = world.store(id);
    let table = world.module(
        r#"(module (table i64 10 funcref)
             (func (export "grow") (param i64) (result i64) (table.grow (ref.null func) (local.get 0))))"#,
    );
    let table = instantiate(&mut store, &table).unwrap();
    assert_eq!((world.figures(id), store.data().kept()), (figures(80, 80, 0), 80));
    assert_eq!(call::<_, i64, i64>(&mut store, table, "grow", -1).unwrap(), -1);
    assert_eq!((world.figures(id), store.data().kept()), (figures(80, 80, 0), 80));
    drop(store);
    world.all_back([id]);
}

#[test]
fn trap_07_growth_past_the_types_maximum_is_neither_charged_nor_a_denial() {
    let world = World::new();
    let id = world.crate_of("guest", 64 * PAGE);
    let mut store = world.store(id);
    let tiny = instantiate(&mut store, &world.guest("tiny_pages")).unwrap();
    let page = world.used(id);
    let before = world.figures(id);
    assert_eq!(before, Figures { used: page, requested: 2048, high_water: page, denied: 0 });
    assert_eq!(grow(&mut store, tiny, 2049), -1);
    assert_eq!(world.figures(id), before);
    assert_eq!(grow(&mut store, tiny, 2048), 2048);
    let table = instantiate(&mut store, &world.guest("table_grow")).unwrap();
    let before = world.figures(id);
    assert_eq!((before.used, store.data().kept()), (page + 80, 80));
    assert_eq!(grow(&mut store, table, 999_991), -1);
    assert_eq!((world.figures(id), store.data().kept()), (before, 80));
    assert_eq!(store.data().last_denial(), None);
    drop(store);
    world.all_back([id]);
}

#[test]
fn trap_08_sizes_near_the_end_of_addresses_are_refused_without_overflow() {
    for reservation in [None, Some(0)] {
        let world = World::with(
            support::TOTAL,
            |config| {
                if let Some(bytes) = reservation {
                    config.memory_reservation(bytes).memory_guard_size(bytes);
                }
            },
            |budgets| budgets,
        );
        let id = world.crate_of("guest", usize::MAX);
        let mut store = world.store(id);
        let wide = instantiate(&mut store, &world.guest("memory64")).unwrap();
        let pages = [-1, -2, i64::MAX, i64::MIN, 1 << 48, (1 << 48) - 1, 1 << 47, 1 << 31, 1 << 14];
        for (denied, pages) in pages.into_iter().enumerate() {
            assert_eq!(call::<_, i64, i64>(&mut store, wide, "grow", pages).unwrap(), -1, "{pages}");
            assert_eq!((world.figures(id), store.data().kept()), (figures(PAGE, PAGE, denied as u64 + 1), 0));
        }
        assert_eq!(call::<_, i64, i64>(&mut store, wide, "grow", 3).unwrap(), 1);
        assert_eq!(world.used(id), 4 * PAGE);
        // A minimum beyond all addresses: the limiter hears of it, and of nothing after.
        let vast = world.module("(module (memory i64 0x1000000000000))");
        let error = instantiate(&mut store, &vast).unwrap_err();
        assert!(error.downcast_ref::<MemoryError>().is_some(), "{error:?}");
        assert_eq!((world.used(id), store.data().kept()), (4 * PAGE, 0));
        drop(store);
        world.all_back([id]);
    }
}

#[test]
fn trap_09_a_memory_without_bounds_checks_faults_at_its_very_end() {
    let world = World::new();
    assert!(world.engine.get_memory_reservation() + world.engine.get_memory_guard_size() >= 1 << 32);
    let id = world.crate_of("guest", 4 * PAGE);
    let mut store = world.store(id);
    let module = world.module(
        r#"(module (memory (export "memory") 1 4)
             (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
             (func (export "at") (param i32) (result i32) (i32.load8_u (local.get 0)))
             (func (export "far") (param i32) (result i32) (i32.load8_u offset=0xffffffff (local.get 0))))"#,
    );
    let instance = instantiate(&mut store, &module).unwrap();
    let base = instance.get_memory(&mut store, "memory").unwrap().data_ptr(&store);
    for pages in 1..=4 {
        let end = (pages * PAGE) as i32;
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "at", end - 1).unwrap(), 0);
        for (name, at) in
            [("at", end), ("at", end + 4096), ("at", i32::MAX), ("at", -1), ("far", 0), ("far", -1)]
        {
            let trap = call::<_, i32, i32>(&mut store, instance, name, at).unwrap_err();
            assert_eq!(trap.downcast_ref(), Some(&wasmtime::Trap::MemoryOutOfBounds), "{name} {at}");
        }
        assert_eq!(world.figures(id), figures(pages * PAGE, pages * PAGE, 0));
        grow(&mut store, instance, 1);
    }
    assert_eq!(instance.get_memory(&mut store, "memory").unwrap().data_ptr(&store), base, "it may not move");
    drop(store);
    world.all_back([id]);
}

#[test]
fn trap_10_memories_of_failed_instantiations_live_until_the_store_ends() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    let failed = world.guest("failed_start");
    instantiate(&mut store, &failed).unwrap_err();
    assert_eq!((world.figures(id), store.data().kept()), (figures(4 * PAGE, 4 * PAGE, 0), 0));
    instantiate(&mut store, &world.guest("start_out_of_bounds_data")).unwrap_err();
    assert_eq!((world.figures(id), store.data().kept()), (figures(5 * PAGE, 5 * PAGE, 0), 0));
    let error = instantiate(&mut store, &failed).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (4 * PAGE, 5 * PAGE, 8 * PAGE, 3 * PAGE));
    drop(store);
    assert_eq!(world.figures(id), figures(0, 5 * PAGE, 1));
    world.all_back([id]);
}

#[test]
fn trap_11_a_no_is_minus_one_an_error_a_trap_and_a_failed_grow_minus_one() {
    let world = World::new();
    let id = world.crate_of("guest", 2 * PAGE);
    let hog = world.guest("hog");
    // A no.
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &hog).unwrap();
    assert_eq!(grow(&mut store, instance, 2), -1);
    assert_eq!(over_limit(&store.data().last_denial().unwrap()), (2 * PAGE, PAGE, 2 * PAGE, PAGE));
    assert_eq!(world.figures(id), figures(PAGE, PAGE, 1));
    drop(store);
    // An error.
    let mut store = world.store_of(world.account(id).on_denial(OnDenial::Trap));
    let instance = instantiate(&mut store, &hog).unwrap();
    let error = call::<_, i32, i32>(&mut store, instance, "grow", 2).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (2 * PAGE, PAGE, 2 * PAGE, PAGE));
    assert_eq!(world.figures(id), figures(PAGE, PAGE, 2));
    drop(store);
    // A grow that fails: a shared memory's, of which no limiter is asked.
    let mut store = world.store_of(world.account(id).on_denial(OnDenial::Trap));
    let instance = instantiate(&mut store, &world.guest("shared_memory")).unwrap();
    assert_eq!(grow(&mut store, instance, 2), -1);
    assert_eq!((world.figures(id), store.data().kept()), (figures(PAGE, PAGE, 3), 0));
    assert_eq!(grow(&mut store, instance, 1), 1);
    assert_eq!(world.figures(id), figures(2 * PAGE, 2 * PAGE, 3));
    drop(store);
    world.all_back([id]);
}

/// Counts what a limiter is asked.
struct Counting {
    account: StoreAccount,
    asked: Arc<AtomicUsize>,
}

impl ResourceLimiter for Counting {
    fn memory_growing(&mut self, now: usize, wanted: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        ResourceLimiter::memory_growing(&mut self.account, now, wanted, most)
    }

    fn table_growing(&mut self, now: usize, wanted: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        ResourceLimiter::table_growing(&mut self.account, now, wanted, most)
    }
}

fn counting(world: &World, id: CrateId) -> (Store<Counting>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut store = Store::new(&world.engine, Counting { account: world.account(id), asked: asked.clone() });
    store.limiter(|counting| counting);
    (store, asked)
}

#[test]
fn trap_12_a_modules_shared_memory_is_charged_for_growth_that_no_limiter_sees() {
    let world = World::new();
    let id = world.crate_of("guest", 4 * PAGE);
    let (mut store, asked) = counting(&world, id);
    let instance = instantiate(&mut store, &world.guest("shared_memory")).unwrap();
    assert_eq!((asked.load(Ordering::Relaxed), world.figures(id)), (1, figures(PAGE, PAGE, 0)));
    assert_eq!(grow(&mut store, instance, 2), 1);
    assert_eq!((asked.load(Ordering::Relaxed), world.figures(id)), (1, figures(3 * PAGE, 3 * PAGE, 0)));
    assert_eq!(grow(&mut store, instance, 2), -1);
    assert_eq!((asked.load(Ordering::Relaxed), world.figures(id)), (1, figures(3 * PAGE, 3 * PAGE, 1)));
    assert_eq!(store.data().account.kept(), 0);
    // Whoever else has the memory keeps it charged.
    let shared = instance.get_shared_memory(&mut store, "memory").unwrap();
    drop(store);
    assert_eq!(world.figures(id), figures(3 * PAGE, 3 * PAGE, 1));
    assert_eq!(shared.grow(1).unwrap(), 3);
    assert_eq!(world.figures(id), figures(4 * PAGE, 4 * PAGE, 1));
    drop(shared);
    world.all_back([id]);
}

#[test]
fn trap_13_what_no_hook_reports_is_not_charged() {
    let world = World::new();
    let id = world.crate_of("guest", 0);
    let mut store = world.store(id);
    let module = world.guest("no_memory");
    for _ in 0..100 {
        let instance = instantiate(&mut store, &module).unwrap();
        assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), 42);
    }
    let import = world.guest("import_shared_memory");
    let shared = SharedMemory::new(&world.engine, MemoryType::shared(1, 16)).unwrap();
    Instance::new(&mut store, &import, &[shared.into()]).unwrap();
    assert_eq!((world.figures(id), store.data().kept()), (figures(0, 0, 0), 0));
    drop(store);
    world.all_back([id]);
}
