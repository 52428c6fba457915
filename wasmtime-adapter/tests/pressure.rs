//! Guests that are told of pressure, or ask, and what they give back.

mod support;

use std::sync::Arc;

use support::{PAGE, World, call};
use wasmtime::{Instance, Linker, Store, Trap};
use wrt_memory::{CrateHandle, CrateId, PressureSettings, PressureWatch, RawMemory};
use wrt_memory_wasmtime::{
    PressureHookError, StoreAccount, call_pressure_hook, call_pressure_hook_async, link_pressure,
};

/// Bytes of a buffer.
const BUFFER: usize = 100_000;

/// A host that lends its guest buffers, each on the guest's budget.
struct Host {
    limits: StoreAccount,
    watch: Arc<PressureWatch<'static>>,
    buffers: Vec<Option<RawMemory<'static>>>,
}

impl Host {
    fn handle(&self) -> &CrateHandle<'static> {
        self.limits.handle()
    }
}

/// A guest of 1 MB, of which its own memory takes a page, watched.
fn guest(world: &World) -> (CrateId, Arc<PressureWatch<'static>>, Store<Host>, Linker<Host>) {
    let id = world.crate_of("guest", 1_000_000);
    let watch = Arc::new(PressureWatch::new(&world.manager, PressureSettings::new().over(id)).unwrap());
    let host = Host { limits: world.account(id), watch: watch.clone(), buffers: Vec::new() };
    let store = Store::new(&world.engine, host);
    let mut linker = Linker::new(&world.engine);
    link_pressure(&mut linker, |host: &Host| host.watch.level()).unwrap();
    linker
        .func_wrap("env", "take", |mut caller: wasmtime::Caller<'_, Host>, size: i32| -> i32 {
            let Ok(buffer) = caller.data().handle().allocate(size as usize) else { return -1 };
            let buffers = &mut caller.data_mut().buffers;
            buffers.push(Some(buffer));
            buffers.len() as i32 - 1
        })
        .unwrap();
    linker
        .func_wrap("env", "give", |mut caller: wasmtime::Caller<'_, Host>, number: i32| {
            drop(caller.data_mut().buffers[number as usize].take());
        })
        .unwrap();
    (id, watch, store, linker)
}

fn instance(world: &World, store: &mut Store<Host>, linker: &Linker<Host>) -> Instance {
    store.limiter(|host| &mut host.limits);
    linker.instantiate(store, &world.guest("pressure")).unwrap()
}

#[test]
fn a_guest_that_is_told_gives_its_buffers_back() {
    let world = World::new();
    let (id, watch, mut store, linker) = guest(&world);
    let instance = instance(&world, &mut store, &linker);
    // 75 % of the limit, with its page and what rounding costs.
    assert_eq!(call::<_, (i32, i32), i32>(&mut store, instance, "fill", (BUFFER as i32, 7)).unwrap(), 7);
    let full = world.used(id);
    assert!(full >= PAGE + 7 * BUFFER);
    let levels: Vec<_> = watch.take_events().map(|event| event.level).collect();
    assert_eq!(levels, [75]);
    // It keeps half of them.
    assert_eq!(call_pressure_hook(&mut store, instance, 75).unwrap(), Some(4 * BUFFER as i32));
    let half = world.used(id);
    assert!(half <= full - 4 * BUFFER && half >= PAGE + 3 * BUFFER, "{full} {half}");
    assert_eq!(watch.level(), None);
    // It takes all there is, is refused, and gives all back.
    assert_eq!(call::<_, (i32, i32), i32>(&mut store, instance, "fill", (BUFFER as i32, 100)).unwrap(), 9);
    let events: Vec<_> = watch.take_events().map(|event| (event.level, event.refused)).collect();
    assert_eq!(events, [(75, false), (90, false), (100, true)]);
    assert_eq!(call_pressure_hook(&mut store, instance, 100).unwrap(), Some(9 * BUFFER as i32));
    assert_eq!((world.used(id), watch.level()), (PAGE, None));
    assert_eq!(call_pressure_hook(&mut store, instance, 100).unwrap(), Some(0));
    drop((store, watch));
    world.all_back([id]);
}

#[test]
fn a_guest_that_asks_is_told_its_own_level() {
    let world = World::new();
    let (id, watch, mut store, linker) = guest(&world);
    let instance = instance(&world, &mut store, &linker);
    let step = |store: &mut Store<Host>| call::<_, (), i32>(store, instance, "step", ()).unwrap();
    call::<_, (i32, i32), i32>(&mut store, instance, "fill", (BUFFER as i32, 6)).unwrap();
    // Below a level it keeps what it has.
    assert_eq!((watch.level(), step(&mut store)), (None, 6));
    call::<_, (i32, i32), i32>(&mut store, instance, "fill", (BUFFER as i32, 7)).unwrap();
    assert_eq!((watch.level(), step(&mut store)), (Some(75), 0));
    assert_eq!((watch.level(), world.used(id)), (None, PAGE));
    drop((store, watch));
    world.all_back([id]);
}

#[test]
fn a_guest_without_the_hook_is_none_the_worse() {
    let world = World::new();
    let id = world.crate_of("guest", 10 * PAGE);
    let mut store = world.store(id);
    let instance = support::instantiate(&mut store, &world.guest("hog")).unwrap();
    assert_eq!(call_pressure_hook(&mut store, instance, 100).unwrap(), None);
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_hook_of_another_type_is_refused_and_never_called() {
    let world = World::new();
    let id = world.crate_of("guest", 10 * PAGE);
    for (export, found) in [
        ("(func (export \"wrt_memory_pressure\") unreachable)", "a function of type"),
        (
            "(func (export \"wrt_memory_pressure\") (param i64) (result i32) unreachable)",
            "(param i64) (result i32)",
        ),
        ("(func (export \"wrt_memory_pressure\") (param i32) unreachable)", "(param i32)"),
        ("(global (export \"wrt_memory_pressure\") i32 (i32.const 0))", "is a global"),
        ("(memory (export \"wrt_memory_pressure\") 0)", "is a memory"),
        ("(table (export \"wrt_memory_pressure\") 0 funcref)", "is a table"),
    ] {
        let mut store = world.store(id);
        let module = world.module(&format!("(module {export})"));
        let instance = support::instantiate(&mut store, &module).unwrap();
        let error = call_pressure_hook(&mut store, instance, 75).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, PressureHookError::WrongType { .. }), "{message}");
        assert!(message.contains(found) && message.contains("(param $level i32) (result i32)"), "{message}");
    }
    world.all_back([id]);
}

#[test]
fn a_hook_that_traps_is_reported_and_the_guest_goes_on() {
    let world = World::new();
    let (id, watch, mut store, linker) = guest(&world);
    let instance = instance(&world, &mut store, &linker);
    call::<_, (i32, i32), i32>(&mut store, instance, "fill", (BUFFER as i32, 8)).unwrap();
    let before = world.used(id);
    call::<_, i32, ()>(&mut store, instance, "break_at", 90).unwrap();
    match call_pressure_hook(&mut store, instance, 90) {
        Err(PressureHookError::Ended(error)) => {
            assert_eq!(error.downcast_ref(), Some(&Trap::UnreachableCodeReached));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.used(id), before);
    // Below that it still works.
    assert_eq!(call_pressure_hook(&mut store, instance, 75).unwrap(), Some(4 * BUFFER as i32));
    drop((store, watch));
    world.all_back([id]);
}

#[test]
fn a_hook_that_never_returns_ends_by_the_hosts_bounds() {
    const FOREVER: &str = r#"(module (func (export "wrt_memory_pressure") (param i32) (result i32)
        (loop $forever (br $forever)) unreachable))"#;
    let world = World::with(support::TOTAL, |config| _ = config.consume_fuel(true), |budgets| budgets);
    let id = world.crate_of("guest", PAGE);
    let mut store = world.store(id);
    store.set_fuel(100_000).unwrap();
    let instance = support::instantiate(&mut store, &world.module(FOREVER)).unwrap();
    match call_pressure_hook(&mut store, instance, 90) {
        Err(PressureHookError::Ended(error)) => assert_eq!(error.downcast_ref(), Some(&Trap::OutOfFuel)),
        other => panic!("{other:?}"),
    }
    let world = World::with(support::TOTAL, |config| _ = config.epoch_interruption(true), |budgets| budgets);
    let id = world.crate_of("guest", PAGE);
    let mut store = world.store(id);
    store.set_epoch_deadline(1);
    let instance = support::instantiate(&mut store, &world.module(FOREVER)).unwrap();
    world.engine.increment_epoch();
    match call_pressure_hook(&mut store, instance, 90) {
        Err(PressureHookError::Ended(error)) => assert_eq!(error.downcast_ref(), Some(&Trap::Interrupt)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_async_guest_is_told_too() {
    let world = World::new();
    let (id, watch, mut store, linker) = guest(&world);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.limiter(|host| &mut host.limits);
        let instance = linker.instantiate_async(&mut store, &world.guest("pressure")).await.unwrap();
        let fill = instance.get_typed_func::<(i32, i32), i32>(&mut store, "fill").unwrap();
        assert_eq!(fill.call_async(&mut store, (BUFFER as i32, 8)).await.unwrap(), 8);
        let given = call_pressure_hook_async(&mut store, instance, 90).await.unwrap();
        assert_eq!((given, watch.level()), (Some(8 * BUFFER as i32), None));
        assert_eq!(world.used(id), PAGE);
    });
    drop((store, watch));
    world.all_back([id]);
}

#[test]
fn the_import_is_linked_once() {
    let world = World::new();
    let mut linker = Linker::<()>::new(&world.engine);
    link_pressure(&mut linker, |_| None).unwrap();
    assert!(link_pressure(&mut linker, |_| None).unwrap_err().to_string().contains("defined twice"));
    let mut store = Store::new(&world.engine, ());
    let module = world.module(
        r#"(module (import "wrt_memory" "pressure" (func $pressure (result i32)))
             (func (export "run") (result i32) (call $pressure)))"#,
    );
    let instance = linker.instantiate(&mut store, &module).unwrap();
    assert_eq!(call::<_, (), i32>(&mut store, instance, "run", ()).unwrap(), 0);
}
