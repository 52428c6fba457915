//! Async stores: the limiter, stacks on the crate's budget, cancellation, and scopes per poll.

mod support;

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use support::{PAGE, World, figures, over_limit};
use wasmtime::{Caller, Func, Instance, ResourceLimiterAsync, Store};
use wrt_memory::provider::PooledProvider;
use wrt_memory::{CrateId, MemoryError, Scope, allocate};
use wrt_memory_wasmtime::{OnDenial, StoreAccount};

/// Bytes of an async stack, unless a test says otherwise.
const STACK: usize = 2 << 20;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn store(world: &World, id: CrateId) -> Store<StoreAccount> {
    store_of(world, world.account(id))
}

fn store_of(world: &World, account: StoreAccount) -> Store<StoreAccount> {
    let mut store = Store::new(&world.engine, account);
    store.limiter_async(|account| account);
    store
}

fn with_stacks() -> World {
    World::with(support::TOTAL, |_| {}, |budgets| budgets.charge_stacks(true))
}

#[test]
fn an_async_limiter_charges_and_hands_over_in_its_final_poll() {
    let world = World::new();
    let id = world.crate_of("guest", 5 * PAGE);
    let mut store = store(&world, id);
    block_on(async {
        let hog = world.guest("hog");
        let instance = Instance::new_async(&mut store, &hog, &[]).await.unwrap();
        assert_eq!((world.figures(id), store.data().kept()), (figures(PAGE, PAGE, 0), 0));
        let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        assert_eq!(run.call_async(&mut store, ()).await.unwrap(), 4);
        assert_eq!((world.figures(id), store.data().kept()), (figures(5 * PAGE, 5 * PAGE, 1), 0));
        let error = Instance::new_async(&mut store, &hog, &[]).await.unwrap_err();
        assert_eq!(over_limit(error.downcast_ref().unwrap()), (PAGE, 5 * PAGE, 5 * PAGE, 0));
        let table = world.guest("table_grow");
        Instance::new_async(&mut store, &table, &[]).await.unwrap_err();
    });
    assert_eq!(world.figures(id), figures(5 * PAGE, 5 * PAGE, 3));
    drop(store);
    world.all_back([id]);
}

#[test]
fn an_async_limiters_denial_can_be_a_trap() {
    let world = World::new();
    let id = world.crate_of("guest", 80);
    let mut store = store_of(&world, world.account(id).on_denial(OnDenial::Trap));
    block_on(async {
        let instance = Instance::new_async(&mut store, &world.guest("table_grow"), &[]).await.unwrap();
        let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow").unwrap();
        let error = grow.call_async(&mut store, 1).await.unwrap_err();
        assert_eq!(over_limit(error.downcast_ref().unwrap()), (8, 80, 80, 0));
    });
    assert_eq!((world.figures(id), store.data().kept()), (figures(80, 80, 1), 80));
    drop(store);
    world.all_back([id]);
}

/// Pending so often, then ready.
struct Yields(usize);

impl Future for Yields {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A limiter that waits before it asks ours.
struct Waiting(StoreAccount);

#[async_trait::async_trait]
impl ResourceLimiterAsync for Waiting {
    async fn memory_growing(
        &mut self,
        now: usize,
        wanted: usize,
        most: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Yields(3).await;
        ResourceLimiterAsync::memory_growing(&mut self.0, now, wanted, most).await
    }

    async fn table_growing(
        &mut self,
        now: usize,
        wanted: usize,
        most: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Yields(3).await;
        ResourceLimiterAsync::table_growing(&mut self.0, now, wanted, most).await
    }
}

#[test]
fn limiters_that_wait_before_they_ask_do_not_take_each_others_grants() {
    let world = World::new();
    let ids: [CrateId; 4] = std::array::from_fn(|at| world.crate_of(&format!("guest {at}"), (at + 3) * PAGE));
    let hog = world.guest("hog");
    let guest = async |at: usize| {
        let mut store = Store::new(&world.engine, Waiting(world.account(ids[at])));
        store.limiter_async(|waiting| waiting);
        for _ in 0..2 {
            Instance::new_async(&mut store, &hog, &[]).await.unwrap();
        }
        let instance = Instance::new_async(&mut store, &hog, &[]).await.unwrap();
        let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
        assert_eq!(run.call_async(&mut store, ()).await.unwrap(), at as i32);
        assert_eq!((world.used(ids[at]), store.data().0.kept()), ((at + 3) * PAGE, 0));
        store
    };
    // All four on one thread, each waiting while the others are asked.
    let stores = block_on(async { tokio::join!(guest(0), guest(1), guest(2), guest(3)) });
    drop(stores);
    for (at, id) in ids.into_iter().enumerate() {
        assert_eq!(world.figures(id), figures(0, (at + 3) * PAGE, 1));
    }
    world.all_back(ids);
}

/// A store whose guest calls a host function that stays pending.
async fn waiting_for_ever(world: &World, id: CrateId) -> (Store<StoreAccount>, Instance) {
    let mut store = store(world, id);
    let never = Func::wrap_async(&mut store, |_: Caller<'_, StoreAccount>, (): ()| {
        Box::new(async {
            let _block = allocate::<4096>();
            std::future::pending::<()>().await;
        })
    });
    let instance = Instance::new_async(&mut store, &world.guest("host_call"), &[never.into()]).await.unwrap();
    (store, instance)
}

#[test]
fn a_call_cancelled_in_the_middle_gives_all_back() {
    let world = with_stacks();
    let id = world.crate_of("guest", PAGE + STACK + 8192);
    for _ in 0..10 {
        let (mut store, instance) =
            block_on(Scope::run(world.account(id).handle().clone(), waiting_for_ever(&world, id)));
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        let handle = store.data().handle().clone();
        {
            let mut call = pin!(Scope::run(handle, run.call_async(&mut store, ())));
            let mut context = Context::from_waker(Waker::noop());
            assert!(call.as_mut().poll(&mut context).is_pending());
            assert!(call.as_mut().poll(&mut context).is_pending());
            // The memory, the stack, and the block of the host function that waits.
            assert!(world.used(id) >= PAGE + STACK + 4096);
            assert!(Scope::current().is_none());
        }
        // The block is gone with the call.
        assert!(world.used(id) <= PAGE + STACK);
        drop(store);
        assert_eq!(world.used(id), 0);
    }
    world.all_back([id]);
}

#[test]
fn an_instantiation_cancelled_while_its_limiter_waits_gives_all_back() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let two = world.guest("two_memories");
    // However many polls it got.
    for polls in 0..8 {
        let mut store = Store::new(&world.engine, Waiting(world.account(id)));
        store.limiter_async(|waiting| waiting);
        {
            let mut call = pin!(Instance::new_async(&mut store, &two, &[]));
            let mut context = Context::from_waker(Waker::noop());
            let ready = (0..polls).any(|_| call.as_mut().poll(&mut context).is_ready());
            assert_eq!(ready, polls >= 7);
        }
        assert!(world.used(id) <= 2 * PAGE);
        drop(store);
        assert_eq!(world.used(id), 0, "after {polls} polls");
    }
    world.all_back([id]);
}

#[test]
fn a_stack_is_charged_whole_while_the_store_has_it() {
    let world = with_stacks();
    let id = world.crate_of("guest", 4 << 20);
    let mut store = store(&world, id);
    let handle = store.data().handle().clone();
    block_on(Scope::run(handle, async {
        let instance = Instance::new_async(&mut store, &world.guest("hog"), &[]).await.unwrap();
        let used = world.used(id);
        let size = instance.get_typed_func::<(), i32>(&mut store, "size").unwrap();
        assert_eq!(size.call_async(&mut store, ()).await.unwrap(), 1);
        // The store keeps its last stack for the next call.
        assert_eq!((world.used(id), used <= PAGE + STACK), (PAGE + STACK, true));
        size.call_async(&mut store, ()).await.unwrap();
        assert_eq!((world.figures(id), store.data().kept()), (figures(PAGE + STACK, PAGE + STACK, 0), 0));
    }));
    // Also when it goes on another thread.
    std::thread::spawn(move || drop(store)).join().unwrap();
    assert_eq!(world.used(id), 0);
    world.all_back([id]);
}

#[test]
fn a_stack_that_does_not_fit_is_refused_with_the_figures() {
    let world = with_stacks();
    // A page less: the manager need not count in bytes.
    let limit = STACK - 4096;
    let id = world.crate_of("guest", limit);
    let mut store = store(&world, id);
    let handle = store.data().handle().clone();
    let error = block_on(Scope::run(handle, async {
        let instance = Instance::new_async(&mut store, &world.guest("no_memory"), &[]).await?;
        let run = instance.get_typed_func::<(), i32>(&mut store, "run")?;
        run.call_async(&mut store, ()).await
    }))
    .unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (STACK, 0, limit, limit));
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_warm_stack_is_charged_to_whom_it_serves_and_shows_nothing_of_the_one_before() {
    let pools: [fn() -> PooledProvider; 2] =
        [PooledProvider::new, || PooledProvider::new().without_pagemap_scan()];
    for pool in pools {
        let world = World::pooled(pool(), |budgets| budgets.charge_stacks(true));
        let ids = [world.crate_of("first", STACK + PAGE), world.crate_of("second", STACK + PAGE)];
        let secret = 0x5EC2_E75E_C2E7_0000u64;
        let mut places = std::collections::BTreeSet::new();
        for round in 0..6 {
            let id = ids[round % 2];
            let mut store = store(&world, id);
            let seen = std::sync::Arc::new(std::sync::Mutex::new((0usize, 0)));
            let note = seen.clone();
            let host = Func::wrap(&mut store, move |mut caller: Caller<'_, StoreAccount>| {
                // Some way down, and below it: what was left there by whoever had the stack before.
                let words = [0u64; 512];
                let here = std::hint::black_box(&words).as_ptr();
                let below = (1..8192).filter(|words| {
                    // SAFETY: the stack is 2 MiB, of which this much is below the words; nothing refers to it.
                    let word = unsafe { here.wrapping_sub(1024 + *words).read_volatile() };
                    word & !0xFFFF == secret
                });
                *note.lock().unwrap() = (here.addr() / STACK, below.count());
                let mut secrets = [0u64; 16_384];
                secrets.fill(secret | round as u64);
                std::hint::black_box(&mut secrets);
                let _ = caller.data_mut();
            });
            let crate_of = store.data().handle().clone();
            block_on(Scope::run(crate_of, async {
                host.call_async(&mut store, &[], &mut []).await.unwrap()
            }));
            let (place, left) = *seen.lock().unwrap();
            places.insert(place);
            assert_eq!(left, 0, "round {round}");
            assert_eq!((world.used(id), world.used(ids[1 - round % 2])), (STACK, 0));
        }
        assert!(places.len() < 6, "no stack was used again: {places:?}");
        world.all_back(ids);
    }
}

#[test]
fn a_stack_outside_of_any_scope_is_refused_and_told_what_to_do() {
    let world = with_stacks();
    let id = world.crate_of("guest", 8 << 20);
    let mut store = store(&world, id);
    let call = async |store: &mut Store<StoreAccount>| {
        let instance = Instance::new_async(&mut *store, &world.guest("no_memory"), &[]).await?;
        let run = instance.get_typed_func::<(), i32>(&mut *store, "run")?;
        run.call_async(store, ()).await
    };
    let error = block_on(call(&mut store)).unwrap_err();
    assert!(format!("{error:?}").contains("StoreAccount::run"), "{error:?}");
    // A scope of another manager's crate is none.
    let other = World::new();
    let stranger = other.crate_of("stranger", 8 << 20);
    let error = block_on(other.account(stranger).run(call(&mut store))).unwrap_err();
    assert!(format!("{error:?}").contains("StoreAccount::run"), "{error:?}");
    assert_eq!((world.used(id), other.used(stranger)), (0, 0));
    drop(store);
    world.all_back([id]);
}

#[test]
fn stacks_of_odd_sizes_are_whole_pages() {
    for size in [(1 << 20) + 1, (1 << 20) - 1, 700_001] {
        let world = World::with(
            support::TOTAL,
            |config| _ = config.async_stack_size(size).max_wasm_stack(256 << 10),
            |budgets| budgets.charge_stacks(true),
        );
        let id = world.crate_of("guest", 8 << 20);
        let mut store = store(&world, id);
        let handle = store.data().handle().clone();
        block_on(Scope::run(handle, async {
            let instance = Instance::new_async(&mut store, &world.guest("recursion"), &[]).await.unwrap();
            let run = instance.get_typed_func::<i32, i32>(&mut store, "run").unwrap();
            let error = run.call_async(&mut store, 0).await.unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&wasmtime::Trap::StackOverflow));
        }));
        let stack = world.used(id) - PAGE;
        assert!(stack >= size && stack < size + 65536 && stack.is_multiple_of(4096), "{size}: {stack}");
        drop(store);
        world.all_back([id]);
    }
}

/// Calls the host so often, which yields in between and asks each time whose scope it is in.
async fn interleaved(world: &World, id: CrateId, calls: i32) -> Store<StoreAccount> {
    let mut store = store(world, id);
    let host = Func::wrap_async(&mut store, move |_: Caller<'_, StoreAccount>, (): ()| {
        Box::new(async move {
            let block = allocate::<4096>()?;
            assert_eq!(block.raw().crate_id(), id);
            tokio::task::yield_now().await;
            let again = allocate::<512>()?;
            assert_eq!(again.raw().crate_id(), id);
            wasmtime::Result::Ok(())
        })
    });
    let instance = Instance::new_async(&mut store, &world.guest("host_call"), &[host.into()]).await.unwrap();
    let run = instance.get_typed_func::<i32, ()>(&mut store, "run_many").unwrap();
    run.call_async(&mut store, calls).await.unwrap();
    assert_eq!(world.used(id), PAGE + STACK);
    store
}

#[test]
fn two_futures_on_one_thread_each_work_for_their_own_crate() {
    let world = with_stacks();
    let (first, second) = (world.crate_of("first", 4 << 20), world.crate_of("second", 4 << 20));
    let (one, two) = (world.account(first), world.account(second));
    let stores = block_on(async {
        tokio::join!(one.run(interleaved(&world, first, 50)), two.run(interleaved(&world, second, 50)))
    });
    assert!(Scope::current().is_none());
    drop(stores);
    world.all_back([first, second]);
}

#[test]
fn futures_that_move_between_threads_take_their_scope_along() {
    let world = std::sync::Arc::new(with_stacks());
    let ids: Vec<_> = (0..8).map(|at| world.crate_of(&format!("guest {at}"), 4 << 20)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    runtime.block_on(async {
        let running: Vec<_> = ids
            .iter()
            .map(|&id| {
                let world = world.clone();
                let handle = world.account(id).handle().clone();
                tokio::spawn(Scope::run(handle, async move { interleaved(&world, id, 200).await }))
            })
            .collect();
        for task in running {
            drop(task.await.unwrap());
        }
    });
    drop(runtime);
    world.all_back(ids);
}

#[test]
fn without_charged_stacks_a_call_needs_no_scope() {
    let world = World::new();
    let id = world.crate_of("guest", PAGE);
    let mut store = store(&world, id);
    block_on(async {
        let instance = Instance::new_async(&mut store, &world.guest("hog"), &[]).await.unwrap();
        let size = instance.get_typed_func::<(), i32>(&mut store, "size").unwrap();
        assert_eq!(size.call_async(&mut store, ()).await.unwrap(), 1);
        assert!(matches!(allocate::<16>(), Err(MemoryError::NoScope)));
    });
    assert_eq!(world.figures(id), figures(PAGE, PAGE, 0));
    drop(store);
    world.all_back([id]);
}
