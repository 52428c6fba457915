//! A crate's limit bounds the sum over all its memories, instances and stores, exactly.

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{PAGE, World, call, figures, grow, instantiate, over_limit};

#[test]
fn two_memories_of_64_kib_do_not_pass_a_limit_of_64_kib() {
    let world = World::new();
    let id = world.crate_of("guest", PAGE);
    let mut store = world.store(id);
    let error = instantiate(&mut store, &world.guest("two_memories")).unwrap_err();
    assert_eq!(over_limit(error.downcast_ref().unwrap()), (PAGE, PAGE, PAGE, 0));
    // The first was made, and went with the instance that could not be.
    assert_eq!((world.figures(id), store.data().kept()), (figures(0, PAGE, 1), 0));
    drop(store);
    assert_eq!(world.figures(id), figures(0, PAGE, 1));
    world.all_back([id]);
}

#[test]
fn two_memories_of_one_instance_share_its_limit() {
    let world = World::new();
    let id = world.crate_of("guest", 4 * PAGE);
    let mut store = world.store(id);
    let two = instantiate(&mut store, &world.guest("two_memories")).unwrap();
    assert_eq!(call::<_, i32, i32>(&mut store, two, "grow0", 1).unwrap(), 1);
    assert_eq!(call::<_, i32, i32>(&mut store, two, "grow1", 2).unwrap(), -1);
    assert_eq!(call::<_, i32, i32>(&mut store, two, "grow1", 1).unwrap(), 1);
    assert_eq!(call::<_, i32, i32>(&mut store, two, "grow0", 1).unwrap(), -1);
    assert_eq!((world.figures(id), store.data().kept()), (figures(4 * PAGE, 4 * PAGE, 2), 0));
    drop(store);
    world.all_back([id]);
}

#[test]
fn ten_instances_of_one_crate_hold_their_sum() {
    let world = World::new();
    let id = world.crate_of("guest", 25 * PAGE);
    let hog = world.guest("hog");
    // Five in one store, five in a store each.
    let mut stores: Vec<_> = (0..6).map(|_| world.store(id)).collect();
    let mut instances = Vec::new();
    for at in 0..10usize {
        let store = at.saturating_sub(4);
        instances.push((store, instantiate(&mut stores[store], &hog).unwrap()));
        assert_eq!(world.used(id), (at + 1) * PAGE);
    }
    let gained: i32 = instances
        .iter()
        .map(|(store, instance)| {
            // Three more each, as long as there are any.
            (0..3).filter(|_| grow(&mut stores[*store], *instance, 1) != -1).count() as i32
        })
        .sum();
    assert_eq!(gained, 15);
    assert_eq!(world.figures(id), figures(25 * PAGE, 25 * PAGE, 15));
    // What one store gives back, another can have: the first had five instances, and twelve pages more.
    let (last, instance) = instances[9];
    assert_eq!(grow(&mut stores[last], instance, 1), -1);
    let mut first = stores.remove(0);
    let held =
        (0..5).map(|at| call::<_, (), i32>(&mut first, instances[at].1, "size", ()).unwrap()).sum::<i32>();
    drop(first);
    assert_eq!(world.used(id), (25 - held as usize) * PAGE);
    assert_eq!(grow(&mut stores[last - 1], instance, held), 1);
    assert_eq!(world.figures(id), figures(25 * PAGE, 25 * PAGE, 16));
    drop(stores);
    world.all_back([id]);
}

#[test]
fn ten_stores_on_four_threads_hold_their_sum() {
    let world = World::new();
    let id = world.crate_of("guest", 64 * PAGE);
    let hog = world.guest("hog");
    for _ in 0..10 {
        let gained = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        // No thread panics between two of these: the others would wait for it for ever.
        let in_step = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut stores: Vec<_> = (0..10).map(|_| world.store(id)).collect();
                    let mut instances = Vec::new();
                    for store in &mut stores {
                        instances.push(instantiate(store, &hog).unwrap());
                        gained.fetch_add(1, Ordering::Relaxed);
                    }
                    in_step.wait();
                    for _ in 0..10 {
                        for (store, instance) in stores.iter_mut().zip(&instances) {
                            let got = grow(store, *instance, 1) != -1;
                            gained.fetch_add(usize::from(got), Ordering::Relaxed);
                        }
                        most.fetch_max(world.used(id), Ordering::Relaxed);
                    }
                    in_step.wait();
                    // All 400 tries are over.
                    most.fetch_max(world.used(id), Ordering::Relaxed);
                    in_step.wait();
                });
            }
        });
        assert_eq!((gained.into_inner(), most.into_inner(), world.used(id)), (64, 64 * PAGE, 0));
    }
    assert_eq!(world.figures(id).high_water, 64 * PAGE);
    world.all_back([id]);
}

#[test]
fn crates_on_threads_hold_their_parents_sum() {
    let world = World::with(100 * PAGE, |_| {}, |budgets| budgets);
    let hog = world.guest("hog");
    let ids: Vec<_> = (0..4).map(|at| world.crate_of(&format!("guest {at}"), 40 * PAGE)).collect();
    for _ in 0..10 {
        let in_step = Barrier::new(4);
        let total: usize = std::thread::scope(|scope| {
            let running: Vec<_> = ids
                .iter()
                .map(|&id| {
                    let (world, hog, in_step) = (&world, &hog, &in_step);
                    scope.spawn(move || {
                        let mut store = world.store(id);
                        let instance = instantiate(&mut store, hog).unwrap();
                        in_step.wait();
                        let gained = call::<_, (), i32>(&mut store, instance, "run", ()).unwrap();
                        in_step.wait();
                        let mine = (gained as usize + 1) * PAGE;
                        assert_eq!(world.used(id), mine);
                        assert!(mine <= 40 * PAGE);
                        mine
                    })
                })
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 100 * PAGE);
    }
    world.all_back(ids);
}
