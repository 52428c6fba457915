//! Guests that do one thing for ever: the host ends them, or they end, and every byte is as it was.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{PAGE, World, call, figures, instantiate};
use wasmtime::Trap;

#[test]
fn a_million_refusals_change_nothing() {
    let world = World::new();
    let id = world.crate_of("guest", 2 * PAGE);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("refused_forever")).unwrap();
    assert_eq!(call::<_, i32, i32>(&mut store, instance, "run", 1_000_000).unwrap(), 1_000_000);
    assert_eq!((world.figures(id), store.data().kept()), (figures(PAGE, PAGE, 1_000_000), 0));
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_loop_without_end_is_interrupted_and_gives_all_back() {
    let world = World::with(support::TOTAL, |config| _ = config.epoch_interruption(true), |budgets| budgets);
    let id = world.crate_of("guest", 2 * PAGE);
    let mut store = world.store(id);
    store.set_epoch_deadline(1);
    let instance = instantiate(&mut store, &world.guest("spin")).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let ticking = std::thread::spawn({
        let (engine, over) = (world.engine.clone(), over.clone());
        move || {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                engine.increment_epoch();
            }
        }
    });
    let error = call::<_, (), ()>(&mut store, instance, "run", ()).unwrap_err();
    over.store(true, Ordering::Relaxed);
    ticking.join().unwrap();
    assert_eq!(error.downcast_ref(), Some(&Trap::Interrupt));
    assert_eq!(world.figures(id), figures(PAGE, PAGE, 0));
    drop(store);
    world.all_back([id]);
}

#[test]
fn recursion_without_end_is_a_trap_and_gives_all_back() {
    let world = World::new();
    let id = world.crate_of("guest", 2 * PAGE);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("recursion")).unwrap();
    for _ in 0..10 {
        let error = call::<_, i32, i32>(&mut store, instance, "run", 0).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Trap::StackOverflow));
        assert_eq!(world.figures(id), figures(PAGE, PAGE, 0));
    }
    drop(store);
    world.all_back([id]);
}

#[test]
fn instances_without_end_stop_at_the_limit() {
    let world = World::new();
    let id = world.crate_of("guest", 50 * PAGE);
    let mut store = world.store(id);
    let module = world.guest("leaker");
    let made = (0..200).filter(|_| instantiate(&mut store, &module).is_ok()).count();
    assert_eq!((made, world.figures(id)), (50, figures(50 * PAGE, 50 * PAGE, 150)));
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_leak_page_by_page_ends_at_the_limit_and_one_stores_end_frees_it() {
    let world = World::new();
    let id = world.crate_of("guest", 1000 * PAGE);
    for _ in 0..3 {
        let mut store = world.store(id);
        let instance = instantiate(&mut store, &world.guest("leaker")).unwrap();
        let mut pages = 1;
        while call::<_, (), i32>(&mut store, instance, "step", ()).unwrap() != -1 {
            pages += 1;
            assert_eq!(world.used(id), pages * PAGE);
        }
        assert_eq!((pages, world.used(id)), (1000, 1000 * PAGE));
        drop(store);
        assert_eq!(world.used(id), 0);
    }
    assert_eq!(world.figures(id), figures(0, 1000 * PAGE, 3));
    world.all_back([id]);
}
