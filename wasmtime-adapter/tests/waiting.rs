//! Growth that waits for bytes: guests on tokio, served in order, and what remains when they are cancelled.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use support::{PAGE, World, over_limit};
use wasmtime::{Instance, Module, Store};
use wrt_memory::{CrateId, CrateSettings, MemoryError};
use wrt_memory_wasmtime::{OnDenial, StoreAccount};

/// Longer than any test takes: who is lost is seen as a hang, and then as a failure.
const FOR_EVER: Duration = Duration::from_secs(100);

fn waits_for(world: &World, id: CrateId, long: Duration) -> StoreAccount {
    world.account(id).wait(move || tokio::time::sleep(long))
}

fn store_of(world: &World, account: StoreAccount) -> Store<StoreAccount> {
    let mut store = Store::new(&world.engine, account);
    store.limiter_async(|account| account);
    store
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_time().build().unwrap()
}

async fn instance(store: &mut Store<StoreAccount>, module: &Module) -> wasmtime::Result<Instance> {
    Instance::new_async(store, module, &[]).await
}

async fn grow(store: &mut Store<StoreAccount>, instance: Instance, by: i32) -> wasmtime::Result<i32> {
    let grow = instance.get_typed_func::<i32, i32>(&mut *store, "grow")?;
    grow.call_async(store, by).await
}

/// A crate without a limit of its own.
fn unlimited(world: &World, name: &str) -> CrateId {
    world.manager.register(name, CrateSettings::new()).unwrap()
}

fn clean(world: &World, crates: impl IntoIterator<Item = CrateId>) {
    let waits = world.manager.waits();
    assert_eq!((waits.waiting, waits.begun), (0, waits.granted + waits.given_up));
    world.all_back(crates);
}

/// No stock: every page is where it is expected.
fn pool_of(pages: usize) -> Arc<World> {
    Arc::new(World::with_stock(pages * PAGE, 0))
}

/// A guest of each crate, with its first page.
async fn made(world: &World, module: &Module, ids: &[CrateId]) -> Vec<(Store<StoreAccount>, Instance)> {
    let mut guests = Vec::new();
    for &id in ids {
        let mut store = store_of(world, waits_for(world, id, FOR_EVER));
        let one = instance(&mut store, module).await.unwrap();
        guests.push((store, one));
    }
    guests
}

async fn until_waiting(world: &World, count: u32) {
    while world.manager.waits().waiting != count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn hundreds_of_guests_wait_and_all_are_served_while_no_thread_is_blocked() {
    const GUESTS: usize = 300;
    // Every guest has its first page; eight more are there for all of them.
    let world = pool_of(GUESTS + 8);
    let hog = world.guest("hog");
    let ids: Vec<_> = (0..GUESTS).map(|at| unlimited(&world, &format!("guest {at}"))).collect();
    let keeper = unlimited(&world, "keeper");
    let runtime = runtime(2);
    runtime.block_on(async {
        let kept = world.account(keeper).handle().charge(8 * PAGE, 8 * PAGE).unwrap();
        let guests: Vec<_> = made(&world, &hog, &ids)
            .await
            .into_iter()
            .zip(&ids)
            .map(|((mut store, one), &id)| {
                let world = world.clone();
                tokio::spawn(async move {
                    assert_eq!(grow(&mut store, one, 4).await.unwrap(), 1);
                    assert_eq!((world.used(id), store.data().kept()), (5 * PAGE, 0));
                    tokio::time::sleep(Duration::from_millis(1)).await;
                })
            })
            .collect();
        until_waiting(&world, GUESTS as u32).await;
        // All of them wait, on two threads: others still run there.
        for _ in 0..100 {
            tokio::spawn(tokio::task::yield_now()).await.unwrap();
        }
        drop(kept);
        for guest in guests {
            guest.await.unwrap();
        }
    });
    drop(runtime);
    let waits = world.manager.waits();
    assert_eq!((waits.begun, waits.granted), (GUESTS as u64, GUESTS as u64));
    clean(&world, ids.into_iter().chain([keeper]));
}

#[test]
fn guests_are_served_in_the_order_in_which_they_came() {
    const GUESTS: usize = 200;
    let world = pool_of(2 * GUESTS);
    let hog = world.guest("hog");
    let ids: Vec<_> = (0..GUESTS).map(|at| unlimited(&world, &format!("guest {at}"))).collect();
    let keeper = unlimited(&world, "keeper");
    runtime(2).block_on(async {
        let mut kept: Vec<_> =
            (0..GUESTS).map(|_| world.account(keeper).handle().charge(PAGE, PAGE).unwrap()).collect();
        let mut guests = Vec::new();
        for (at, (mut store, one)) in made(&world, &hog, &ids).await.into_iter().enumerate() {
            guests.push(tokio::spawn(async move {
                assert_eq!(grow(&mut store, one, 1).await.unwrap(), 1);
                store
            }));
            until_waiting(&world, at as u32 + 1).await;
        }
        for &id in &ids {
            assert_eq!(world.used(id), PAGE);
            // It is charged by who frees, on this thread, whatever the others do.
            kept.pop();
            assert_eq!(world.used(id), 2 * PAGE, "it was not its turn");
        }
        for guest in guests {
            drop(guest.await.unwrap());
        }
    });
    assert_eq!((world.manager.waits().granted, world.manager.waits().given_up), (GUESTS as u64, 0));
    clean(&world, ids.into_iter().chain([keeper]));
}

#[test]
fn a_wait_that_is_over_is_denied_as_the_host_chose() {
    let world = pool_of(4);
    let (id, keeper) = (unlimited(&world, "guest"), unlimited(&world, "keeper"));
    runtime(1).block_on(async {
        let kept = world.account(keeper).handle().charge(2 * PAGE, 2 * PAGE).unwrap();
        let short = Duration::from_millis(5);
        let mut store = store_of(&world, waits_for(&world, id, short));
        let one = instance(&mut store, &world.guest("hog")).await.unwrap();
        assert_eq!(grow(&mut store, one, 2).await.unwrap(), -1);
        let error = store.data().last_denial().unwrap();
        assert!(matches!(error, MemoryError::PoolExhausted { asked, .. } if asked == 2 * PAGE), "{error}");
        assert_eq!((world.used(id), store.data().kept(), world.figures(id).denied), (PAGE, 0, 1));
        // The guest goes on with what it has.
        assert_eq!(grow(&mut store, one, 1).await.unwrap(), 1);
        drop(store);

        let account = waits_for(&world, id, short).on_denial(OnDenial::Trap);
        let mut store = store_of(&world, account);
        let one = instance(&mut store, &world.guest("hog")).await.unwrap();
        let error = grow(&mut store, one, 2).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(MemoryError::PoolExhausted { .. })), "{error:?}");
        drop((store, kept));
    });
    assert_eq!(world.manager.waits().given_up, 2);
    clean(&world, [id, keeper]);
}

#[test]
fn what_can_never_be_granted_does_not_wait() {
    let world = pool_of(8);
    let id = world.crate_of("guest", 4 * PAGE);
    let (promised, keeper) = (unlimited(&world, "promised"), unlimited(&world, "keeper"));
    world.manager.set_guarantee(promised, 5 * PAGE).unwrap();
    runtime(1).block_on(async {
        let mut store = store_of(&world, waits_for(&world, id, FOR_EVER));
        let one = instance(&mut store, &world.guest("hog")).await.unwrap();
        // With what it has it would be above its limit, whoever gives back.
        assert_eq!(grow(&mut store, one, 4).await.unwrap(), -1);
        let error = store.data().last_denial().unwrap();
        assert_eq!(over_limit(&error), (4 * PAGE, PAGE, 4 * PAGE, 3 * PAGE));
        // Three of the pool's are not promised to another.
        assert_eq!(grow(&mut store, one, 3).await.unwrap(), -1);
        assert!(matches!(store.data().last_denial(), Some(MemoryError::PoolExhausted { .. })));
        assert_eq!(grow(&mut store, one, 2).await.unwrap(), 1);
        let error = instance(&mut store, &world.module("(module (memory 5))")).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(MemoryError::OverLimit { .. })), "{error:?}");
    });
    assert_eq!(world.manager.waits().begun, 0);
    clean(&world, [id, promised, keeper]);
}

#[test]
fn instantiation_and_tables_wait_as_well() {
    let world = pool_of(4);
    let (id, keeper) = (unlimited(&world, "guest"), unlimited(&world, "keeper"));
    let charge = |bytes| world.account(keeper).handle().charge(bytes, bytes).unwrap();
    runtime(1).block_on(async {
        // Its two memories do not fit, one by one.
        let mut kept = vec![charge(PAGE), charge(PAGE), charge(PAGE), charge(PAGE)];
        let mut store = store_of(&world, waits_for(&world, id, FOR_EVER));
        let two = world.guest("two_memories");
        {
            let frees = async {
                until_waiting(&world, 1).await;
                kept.pop();
                until_waiting(&world, 1).await;
                kept.pop();
            };
            let (made, ()) = tokio::join!(instance(&mut store, &two), frees);
            made.unwrap();
        }
        assert_eq!((world.used(id), store.data().kept()), (2 * PAGE, 0));
        drop(store);

        let mut store = store_of(&world, waits_for(&world, id, FOR_EVER));
        let one = instance(&mut store, &world.guest("table_grow")).await.unwrap();
        assert_eq!(world.used(id), 80);
        let frees = async {
            until_waiting(&world, 1).await;
            kept.clear();
        };
        let (grown, ()) = tokio::join!(grow(&mut store, one, 3 * PAGE as i32 / 8), frees);
        assert_eq!(grown.unwrap(), 10);
        assert_eq!((world.used(id), store.data().kept()), (80 + 3 * PAGE, 80 + 3 * PAGE));
    });
    assert_eq!((world.manager.waits().granted, world.manager.waits().given_up), (3, 0));
    clean(&world, [id, keeper]);
}

#[test]
fn a_call_dropped_while_it_waits_or_when_it_was_granted_leaves_nothing() {
    let world = pool_of(6);
    let (id, other, keeper) =
        (unlimited(&world, "guest"), unlimited(&world, "other"), unlimited(&world, "keeper"));
    let hog = world.guest("hog");
    runtime(1).block_on(async {
        for granted in [false, true] {
            let kept = world.account(keeper).handle().charge(4 * PAGE, 4 * PAGE).unwrap();
            let mut store = store_of(&world, waits_for(&world, id, FOR_EVER));
            let one = instance(&mut store, &hog).await.unwrap();
            let mut next = store_of(&world, waits_for(&world, other, FOR_EVER));
            let behind = instance(&mut next, &hog).await.unwrap();
            {
                let mut context = Context::from_waker(Waker::noop());
                let mut call = pin!(grow(&mut store, one, 3));
                assert!(call.as_mut().poll(&mut context).is_pending());
                let mut second = Box::pin(grow(&mut next, behind, 4));
                assert!(second.as_mut().poll(&mut context).is_pending());
                assert_eq!(world.manager.waits().waiting, 2);
                if granted {
                    drop(kept);
                    // Reserved before it is polled again.
                    assert_eq!((world.used(id), world.manager.waits().waiting), (4 * PAGE, 1));
                } else {
                    assert_eq!(world.used(id), PAGE);
                }
            }
            assert_eq!(world.manager.waits().waiting, 0);
            drop((store, next));
            assert_eq!((world.used(id), world.used(other)), (0, 0), "granted: {granted}");
        }
    });
    clean(&world, [id, other, keeper]);
}

#[test]
fn the_next_in_line_is_served_when_the_first_is_dropped() {
    let world = pool_of(8);
    let (id, other, keeper) =
        (unlimited(&world, "guest"), unlimited(&world, "other"), unlimited(&world, "keeper"));
    let hog = world.guest("hog");
    runtime(2).block_on(async {
        let kept = world.account(keeper).handle().charge(4 * PAGE, 4 * PAGE).unwrap();
        let mut guests = made(&world, &hog, &[other, id]).await;
        let mut guest = |by| {
            let (mut store, one) = guests.pop().unwrap();
            tokio::spawn(async move {
                assert_eq!(grow(&mut store, one, by).await.unwrap(), 1);
            })
        };
        let first = guest(7);
        until_waiting(&world, 1).await;
        let second = guest(4);
        until_waiting(&world, 2).await;
        // Enough for the second, but the first is before it, until it is gone with its page.
        drop(kept);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!second.is_finished());
        first.abort();
        second.await.unwrap();
        assert!(first.await.unwrap_err().is_cancelled());
    });
    clean(&world, [id, other, keeper]);
}

#[test]
fn a_guest_that_waits_and_gives_up_in_a_loop_does_not_stop_a_neighbours_growth() {
    let world = pool_of(8);
    let (hostile, neighbour) = (unlimited(&world, "hostile"), unlimited(&world, "neighbour"));
    let hog = world.guest("hog");
    let runtime = runtime(2);
    runtime.block_on(async {
        let mut store = store_of(&world, world.account(neighbour));
        let one = instance(&mut store, &hog).await.unwrap();
        let loops = {
            let (world, hog) = (world.clone(), hog.clone());
            tokio::spawn(async move {
                let mut store = store_of(&world, waits_for(&world, hostile, Duration::from_millis(2)));
                let one = instance(&mut store, &hog).await.unwrap();
                loop {
                    assert_eq!(grow(&mut store, one, 7).await.unwrap(), -1);
                }
            })
        };
        // It bars others for one wait.
        while world.manager.waits().given_up == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for size in 1..6 {
            until_waiting(&world, 1).await;
            assert_eq!(grow(&mut store, one, 1).await.unwrap(), size, "a neighbour was refused");
        }
        loops.abort();
        assert!(loops.await.unwrap_err().is_cancelled());
    });
    drop(runtime);
    clean(&world, [hostile, neighbour]);
}

#[test]
fn guests_that_wait_on_one_thread_do_not_take_each_others_grants() {
    let world = pool_of(24);
    let ids: [CrateId; 6] = std::array::from_fn(|at| unlimited(&world, &format!("guest {at}")));
    let keeper = unlimited(&world, "keeper");
    runtime(1).block_on(async {
        let kept = world.account(keeper).handle().charge(24 * PAGE, 24 * PAGE).unwrap();
        // All of one type: a hand-over left for another store would fit.
        let hog = world.guest("hog");
        let guest = async |at: usize| {
            let mut store = store_of(&world, waits_for(&world, ids[at], FOR_EVER));
            let one = instance(&mut store, &hog).await.unwrap();
            assert_eq!(grow(&mut store, one, 3).await.unwrap(), 1);
            assert_eq!((world.used(ids[at]), store.data().kept()), (4 * PAGE, 0));
            store
        };
        let frees = async {
            until_waiting(&world, 6).await;
            drop(kept);
        };
        let stores = tokio::join!(guest(0), guest(1), guest(2), guest(3), guest(4), guest(5), frees);
        assert_eq!(world.manager.pool().used, 24 * PAGE);
        drop(stores);
    });
    clean(&world, ids.into_iter().chain([keeper]));
}
