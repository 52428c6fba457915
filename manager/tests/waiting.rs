//! Many threads that wait for one another's bytes: all get theirs, in order, and nothing is left.
#![cfg(all(feature = "std", not(loom)))]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::test_runner::{RngAlgorithm, TestRng};
use rand::RngExt;
use wrt_memory::{CrateHandle, CrateId, CrateSettings, MemoryError, UnifiedMemoryManager};

fn choices(seed: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])
}

fn assert_whole(manager: &UnifiedMemoryManager, crates: &[CrateId]) {
    let waits = manager.waits();
    assert_eq!((waits.waiting, waits.begun), (0, waits.granted + waits.given_up));
    for &id in crates.iter().rev() {
        let node = manager.node(id).unwrap();
        assert_eq!((node.used, node.waiting), (0, 0), "{}", node.name);
        manager.retire(id).unwrap();
    }
    let pool = manager.pool();
    assert_eq!((pool.used, pool.children), (0, 0));
}

/// Crates at two levels, some with limits that bite, some guaranteed.
fn crates(manager: &UnifiedMemoryManager) -> Vec<CrateId> {
    let register = |name: &str, settings: CrateSettings| manager.register(name, settings).unwrap();
    let parent = register("parent", CrateSettings::new().limit(60_000).guarantee(10_000));
    vec![
        parent,
        register("child", CrateSettings::new().parent(parent)),
        register("other child", CrateSettings::new().parent(parent).limit(30_000).guarantee(5_000)),
        register("free", CrateSettings::new()),
        register("limited", CrateSettings::new().limit(20_000)),
        register("guaranteed", CrateSettings::new().guarantee(20_000)),
    ]
}

/// Nobody times out: a wake-up that is lost would be seen as a hang, which the watchdog ends.
#[test]
fn all_who_wait_are_served_while_bytes_come_back() {
    for stock in [0, 1000] {
        let manager = UnifiedMemoryManager::builder().total(100_000).stock(stock).build().unwrap();
        let ids = crates(&manager);
        let (done, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let threads: Vec<_> = (0..12)
                .map(|seed| {
                    let (manager, ids, done) = (&manager, &ids, &done);
                    scope.spawn(move || {
                        let mut rng = choices(seed);
                        for _ in 0..2000 {
                            // Whoever waits holds nothing: then no two wait for each other.
                            let id = ids[rng.random_range(0..ids.len())];
                            let handle = CrateHandle::new(manager, id).unwrap();
                            let n = rng.random_range(5_000..=20_000);
                            let charge = handle.charge_or_wait(n, n).block(Duration::from_secs(60)).unwrap();
                            assert_eq!(charge.bytes(), n);
                            thread::yield_now();
                            drop(charge);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            // Limits, guarantees and the total move meanwhile, never below what one request needs.
            scope.spawn(|| {
                let mut rng = choices(99);
                while !over.load(Ordering::Relaxed) {
                    let id = ids[rng.random_range(0..ids.len())];
                    manager.set_limit(id, rng.random_range(50_000..200_000)).unwrap();
                    let _ = manager.set_guarantee(id, rng.random_range(0..10_000));
                    manager.set_total(rng.random_range(90_000..=100_000)).unwrap();
                    thread::sleep(Duration::from_micros(200));
                }
            });
            for thread in threads {
                thread.join().unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 12 * 2000);
        assert!(manager.waits().granted > 100, "hardly anybody waited: {:?}", manager.waits());
        assert_eq!(manager.waits().given_up, 0);
        assert_whole(&manager, &ids);
    }
}

/// With those who give up at any moment, in line or granted, and crates that are retired.
#[test]
fn those_who_give_up_and_crates_that_are_retired_leave_nothing() {
    let manager = UnifiedMemoryManager::builder().total(50_000).stock(500).build().unwrap();
    let ids = crates(&manager);
    thread::scope(|scope| {
        for seed in 0..6 {
            let (manager, ids) = (&manager, &ids);
            scope.spawn(move || {
                let mut rng = choices(seed);
                let mut waiting = Vec::new();
                let mut held = Vec::new();
                for round in 0..4000 {
                    let id = if rng.random_range(0..20) == 0 {
                        manager.register("passing", CrateSettings::new()).unwrap()
                    } else {
                        ids[rng.random_range(0..ids.len())]
                    };
                    let handle = CrateHandle::new(manager, id).unwrap();
                    let n = rng.random_range(1..=20_000);
                    let mut wait = handle.charge_or_wait(n, n);
                    match wait.poll_once() {
                        None => waiting.push(wait),
                        Some(Ok(charge)) => held.push(charge),
                        Some(Err(
                            MemoryError::OverLimit { .. }
                            | MemoryError::PoolExhausted { .. }
                            | MemoryError::Queued { .. },
                        )) => {}
                        Some(Err(other)) => panic!("{other}"),
                    }
                    if !ids.contains(&id) {
                        // In use where it was granted: then it stays until the end.
                        let _ = manager.retire(id);
                    }
                    let mut at = 0;
                    while at < waiting.len() {
                        match waiting[at].poll_once() {
                            Some(Ok(charge)) => held.push(charge),
                            Some(Err(MemoryError::StaleCrate { .. })) => {}
                            Some(Err(other)) => panic!("{other}"),
                            None => {
                                at += 1;
                                continue;
                            }
                        }
                        drop(waiting.swap_remove(at));
                    }
                    if waiting.len() > 6 || round % 3 == 0 && !waiting.is_empty() {
                        drop(waiting.swap_remove(rng.random_range(0..waiting.len())));
                    }
                    if held.len() > 1 || round % 2 == 0 {
                        drop(held.pop());
                    }
                }
            });
        }
    });
    let passing: Vec<_> =
        manager.nodes().map(|node| node.id).skip(1).filter(|id| !ids.contains(id)).collect();
    for id in passing {
        manager.retire(id).unwrap();
    }
    // How many depends on how the threads came to run beside one another.
    assert!(manager.waits().given_up > 0 && manager.waits().granted > 0, "{:?}", manager.waits());
    assert_whole(&manager, &ids);
}

/// A guest that waits and gives up as fast as it can does not keep a neighbour from growing.
#[test]
fn a_hostile_loop_of_waiting_and_giving_up_does_not_stop_a_neighbour() {
    let manager = UnifiedMemoryManager::builder().total(100_000).build().unwrap();
    let hostile = manager.register("hostile", CrateSettings::new()).unwrap();
    let neighbour = manager.register("neighbour", CrateSettings::new()).unwrap();
    let holder = manager.charge(neighbour, 0, 30_000).unwrap();
    let over = AtomicBool::new(false);
    let (mut denied, rounds) = (0, 20_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            let handle = CrateHandle::new(&manager, hostile).unwrap();
            while !over.load(Ordering::Relaxed) {
                let mut waiting = handle.charge_or_wait(100_000, 100_000);
                assert!(waiting.poll_once().is_none());
                drop(waiting);
            }
        });
        while manager.waits().given_up == 0 {
            thread::yield_now();
        }
        for _ in 0..rounds {
            denied += usize::from(manager.charge(neighbour, 0, 60_000).is_err());
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(denied, 0, "of {rounds}");
    drop(holder);
    assert_whole(&manager, &[hostile, neighbour]);
}
