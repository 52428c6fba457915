//! Host functions that a guest calls work for that guest: `attach` enters its scope around each call.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use support::{PAGE, World, call, instantiate};
use wasmtime::{Caller, Func, Instance, Store};
use wrt_memory::{CrateId, CrateVec, MemoryError, Scope, allocate, allocate_collection};
use wrt_memory_wasmtime::StoreAccount;

fn current() -> Option<CrateId> {
    Scope::current().map(|handle| handle.id())
}

/// A store that enters its crate's scope, and an instance of the guest that calls `host`.
fn attached(
    world: &World,
    id: CrateId,
    host: impl Fn(Caller<'_, StoreAccount>) -> wasmtime::Result<()> + Send + Sync + 'static,
) -> (Store<StoreAccount>, Instance) {
    let mut store = Store::new(&world.engine, world.account(id));
    world.budgets.attach(&mut store, |account| account);
    let function = Func::wrap(&mut store, host);
    let instance = Instance::new(&mut store, &world.guest("host_call"), &[function.into()]).unwrap();
    (store, instance)
}

#[test]
fn what_a_host_function_allocates_is_charged_to_its_caller() {
    let world = World::new();
    let id = world.crate_of("guest", PAGE + 10_000);
    let manager = world.manager.clone();
    let (mut store, instance) = attached(&world, id, move |_| {
        let before = manager.node(id).unwrap().used;
        assert_eq!(before, PAGE);
        let block = allocate::<4096>().unwrap();
        assert_eq!(block.raw().crate_id(), id);
        let after_block = manager.node(id).unwrap().used;
        assert!(after_block >= before + 4096);
        let list: CrateVec<'static, u64> = allocate_collection(100).unwrap();
        assert!(manager.node(id).unwrap().used >= after_block + 800 && list.capacity() >= 100);
        // The guest's budget bounds what the host does for it.
        assert!(matches!(allocate::<65536>(), Err(MemoryError::OverLimit { .. })));
        Ok(())
    });
    assert_eq!(current(), None);
    call::<_, (), ()>(&mut store, instance, "run", ()).unwrap();
    call::<_, i32, ()>(&mut store, instance, "run_many", 100).unwrap();
    assert_eq!((current(), world.used(id)), (None, PAGE));
    assert_eq!(world.figures(id).denied, 101);
    assert!(matches!(allocate::<16>(), Err(MemoryError::NoScope)));
    drop(store);
    world.all_back([id]);
}

#[test]
fn calls_into_another_guest_are_that_guests_and_then_the_firsts_again() {
    let world = World::new();
    let (outer, inner) = (world.crate_of("outer", 2 * PAGE), world.crate_of("inner", 2 * PAGE));
    let (store, instance) = attached(&world, inner, move |_| {
        assert_eq!(current(), Some(inner));
        Ok(())
    });
    let inside = std::sync::Mutex::new((store, instance));
    let (mut store, instance) = attached(&world, outer, move |_| {
        assert_eq!(current(), Some(outer));
        let (store, instance) = &mut *inside.lock().unwrap();
        call::<_, i32, ()>(store, *instance, "run_many", 3)?;
        assert_eq!(current(), Some(outer));
        Ok(())
    });
    call::<_, i32, ()>(&mut store, instance, "run_many", 3).unwrap();
    assert_eq!(current(), None);
    drop(store);
    world.all_back([outer, inner]);
}

#[test]
fn a_call_back_into_the_same_guest_nests() {
    let world = World::new();
    let id = world.crate_of("guest", 2 * PAGE);
    let back = world.module(
        r#"(module (import "env" "call" (func $call (param i32)))
             (func (export "run") (param i32) (call $call (local.get 0))))"#,
    );
    let mut store = Store::new(&world.engine, world.account(id));
    world.budgets.attach(&mut store, |account| account);
    let function = Func::wrap(&mut store, move |mut caller: Caller<'_, StoreAccount>, deep: i32| {
        assert_eq!(current(), Some(id));
        if deep > 0 {
            let run = caller.get_export("run").and_then(wasmtime::Extern::into_func);
            if let Some(run) = run {
                run.typed::<i32, ()>(&caller)?.call(&mut caller, deep - 1)?;
            }
            assert_eq!(current(), Some(id));
        }
        Ok(())
    });
    let instance = Instance::new(&mut store, &back, &[function.into()]).unwrap();
    call::<_, i32, ()>(&mut store, instance, "run", 5).unwrap();
    assert_eq!(current(), None);
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_trap_leaves_the_scope() {
    let world = World::new();
    let id = world.crate_of("guest", 2 * PAGE);
    let mut store = Store::new(&world.engine, world.account(id));
    world.budgets.attach(&mut store, |account| account);
    instantiate(&mut store, &world.guest("failed_start")).unwrap_err();
    assert_eq!(current(), None);
    let instance = instantiate(&mut store, &world.guest("recursion")).unwrap();
    call::<_, i32, i32>(&mut store, instance, "run", 0).unwrap_err();
    assert_eq!(current(), None);
    let (mut store, instance) = attached(&world, id, |_| Err(wasmtime::Error::msg("no")));
    call::<_, (), ()>(&mut store, instance, "run", ()).unwrap_err();
    assert_eq!(current(), None);
    drop(store);
}

/// As a host function that fails badly; without the message.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("a host function panicked"))
}

#[test]
fn a_panic_through_a_nested_call_does_not_outlive_the_call_around_it() {
    let world = World::new();
    let (outer, inner) = (world.crate_of("outer", 2 * PAGE), world.crate_of("inner", 2 * PAGE));
    let (store, instance) = attached(&world, inner, |_| panic_quietly());
    let inside = std::sync::Mutex::new((store, instance));
    let (mut store, instance) = attached(&world, outer, move |_| {
        let mut inside = inside.lock().unwrap();
        let (store, instance) = &mut *inside;
        let instance = *instance;
        catch_unwind(AssertUnwindSafe(|| call::<_, (), ()>(store, instance, "run", ()))).unwrap_err();
        Ok(())
    });
    for _ in 0..3 {
        call::<_, (), ()>(&mut store, instance, "run", ()).unwrap();
        assert_eq!(current(), None);
    }
    drop(store);
    world.all_back([outer, inner]);
}

#[test]
fn a_panic_through_a_call_ends_with_its_store() {
    let world = World::new();
    let id = world.crate_of("guest", 2 * PAGE);
    // The store goes as the panic unwinds.
    catch_unwind(AssertUnwindSafe(|| {
        let (mut store, instance) = attached(&world, id, |_| panic_quietly());
        call::<_, (), ()>(&mut store, instance, "run", ())
    }))
    .unwrap_err();
    assert_eq!((current(), world.used(id)), (None, 0));
    // Or later, and in between another store's calls are its own.
    let other = world.crate_of("other", 2 * PAGE);
    let (mut store, instance) = attached(&world, id, |_| panic_quietly());
    catch_unwind(AssertUnwindSafe(|| call::<_, (), ()>(&mut store, instance, "run", ()))).unwrap_err();
    let (mut second, instance) = attached(&world, other, move |_| {
        assert_eq!(current(), Some(other));
        Ok(())
    });
    call::<_, (), ()>(&mut second, instance, "run", ()).unwrap();
    drop(store);
    assert_eq!(current(), None);
    drop(second);
    world.all_back([id, other]);
}

#[test]
fn a_scope_entered_by_hand_ends_with_a_panic() {
    let world = World::new();
    let id = world.crate_of("guest", 2 * PAGE);
    let mut store = world.store(id);
    let function = Func::wrap(&mut store, || -> () { panic_quietly() });
    let instance = Instance::new(&mut store, &world.guest("host_call"), &[function.into()]).unwrap();
    catch_unwind(AssertUnwindSafe(|| {
        let _scope = store.data().enter();
        assert_eq!(current(), Some(id));
        call::<_, (), ()>(&mut store, instance, "run", ())
    }))
    .unwrap_err();
    assert_eq!(current(), None);
    drop(store);
    world.all_back([id]);
}
