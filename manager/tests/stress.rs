//! Many threads on one tree of budgets: what must hold while they run, and that every byte is back
//! when they are done.
#![cfg(all(feature = "std", not(loom)))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::test_runner::{RngAlgorithm, TestRng};
use rand::RngExt;
use wrt_memory::{Charge, CrateId, CrateSettings, MemoryError, UnifiedMemoryManager};

/// A reproducible source of choices for one thread.
fn choices(seed: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])
}

fn manager(total: usize, stock: usize) -> UnifiedMemoryManager {
    UnifiedMemoryManager::builder().total(total).stock(stock).build().unwrap()
}

/// After everything was dropped and retired.
fn assert_whole(manager: &UnifiedMemoryManager, total: usize) {
    let pool = manager.pool();
    assert_eq!((pool.used, pool.held, pool.floor, pool.children), (0, total, 0, 0));
    assert_eq!(manager.nodes().count(), 1, "a crate was left");
}

/// Charges, grows by merging, splits and drops at random, within a pool that is too small.
fn churn(manager: &UnifiedMemoryManager, ids: &[CrateId], seed: u8, rounds: usize) {
    let mut rng = choices(seed);
    let mut held: Vec<Charge<'_>> = Vec::new();
    for _ in 0..rounds {
        match rng.random_range(0..10) {
            0..5 => {
                let id = ids[rng.random_range(0..ids.len())];
                match manager.charge(id, 0, rng.random_range(0..5000)) {
                    Ok(charge) => held.push(charge),
                    Err(MemoryError::OverLimit { .. } | MemoryError::PoolExhausted { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            5..8 if !held.is_empty() => drop(held.swap_remove(rng.random_range(0..held.len()))),
            8 if !held.is_empty() => {
                let at = rng.random_range(0..held.len());
                let bytes = held[at].bytes() / 2;
                let part = held[at].split(bytes, 0);
                held.extend(part);
            }
            _ if held.len() > 1 => {
                let one = held.swap_remove(rng.random_range(0..held.len()));
                let at = rng.random_range(0..held.len());
                // Another crate's comes back, and is dropped.
                drop(held[at].merge(one));
            }
            _ => {}
        }
    }
}

#[test]
fn charges_from_many_threads_are_conserved_and_stay_within_every_limit() {
    for stock in [0, 1000, 100_000] {
        let total = 200_000;
        let manager = manager(total, stock);
        let parent = manager.register("parent", CrateSettings::new().limit(80_000)).unwrap();
        let crate_of = |name: &str, settings: CrateSettings| manager.register(name, settings).unwrap();
        let ids = [
            crate_of("free", CrateSettings::new()),
            crate_of("limited", CrateSettings::new().limit(30_000)),
            crate_of("guaranteed", CrateSettings::new().limit(60_000).guarantee(20_000)),
            crate_of("child", CrateSettings::new().parent(parent)),
            crate_of("other child", CrateSettings::new().parent(parent).guarantee(5_000)),
        ];
        thread::scope(|scope| {
            for seed in 0..4 {
                let (manager, ids) = (&manager, &ids);
                scope.spawn(move || churn(manager, ids, seed, 20_000));
            }
        });
        for id in ids {
            let node = manager.node(id).unwrap();
            assert_eq!(node.used, 0, "{}", node.name);
            assert!(node.high_water <= node.limit, "{node:?}");
            assert!(node.held >= node.floor, "{node:?}");
            manager.retire(id).unwrap();
        }
        assert!(manager.node(parent).unwrap().high_water <= 80_000);
        manager.retire(parent).unwrap();
        assert_whole(&manager, total);
    }
}

#[test]
fn a_charge_within_the_guarantee_is_never_denied_whatever_others_do() {
    let total = 100_000;
    let manager = manager(total, 2000);
    let parent = manager.register("parent", CrateSettings::new().limit(50_000)).unwrap();
    let promised = [
        manager.register("promised", CrateSettings::new().guarantee(10_000)).unwrap(),
        manager.register("deep", CrateSettings::new().parent(parent).guarantee(10_000)).unwrap(),
    ];
    let greedy: Vec<_> = (0..6)
        .map(|at| {
            let settings = CrateSettings::new();
            let settings = if at % 2 == 0 { settings.parent(parent) } else { settings };
            manager.register("greedy", settings).unwrap()
        })
        .collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 10..12 {
            let (manager, greedy, over) = (&manager, &greedy, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    churn(manager, greedy, seed, 1000);
                }
            });
        }
        // Limits, guarantees and the total change meanwhile, within what was promised.
        scope.spawn(|| {
            let mut rng = choices(20);
            while !over.load(Ordering::Relaxed) {
                let id = greedy[rng.random_range(0..greedy.len())];
                manager.set_limit(id, rng.random_range(4000..90_000)).ok();
                manager.set_guarantee(id, rng.random_range(0..4000)).ok();
                manager.set_guarantee(id, 0).unwrap();
                manager.set_total(rng.random_range(30_000..=total)).ok();
            }
        });
        let keepers: Vec<_> = promised
            .iter()
            .enumerate()
            .map(|(at, &id)| {
                let manager = &manager;
                scope.spawn(move || {
                    let mut rng = choices(30 + at as u8);
                    for _ in 0..20_000 {
                        let first = rng.random_range(0..=10_000);
                        let one = manager.charge(id, 0, first).expect("within the guarantee");
                        let two = manager.charge(id, 0, 10_000 - first).expect("within the guarantee");
                        drop((one, two));
                        // Above it, which may be denied, for a seat and stock that others sweep: down
                        // to the guarantee, and no further.
                        drop(manager.charge(id, 0, 11_000));
                    }
                })
            })
            .collect();
        for keeper in keepers {
            let kept = keeper.join();
            over.store(kept.is_err(), Ordering::Relaxed);
            kept.unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    manager.set_total(total).unwrap();
    for id in promised.into_iter().chain(greedy).chain([parent]) {
        manager.set_limit(id, total).unwrap();
        manager.retire(id).unwrap();
    }
    assert_whole(&manager, total);
}

#[test]
fn crates_that_come_and_go_never_answer_for_one_another() {
    let total = 1_000_000;
    let manager = manager(total, 500);
    thread::scope(|scope| {
        for seed in 40..44 {
            let manager = &manager;
            scope.spawn(move || {
                let mut rng = choices(seed);
                let mut stale: Vec<CrateId> = Vec::new();
                for _ in 0..3000 {
                    let guarantee = rng.random_range(0..100);
                    let parent = manager.register("parent", CrateSettings::new()).unwrap();
                    let settings = CrateSettings::new().parent(parent).limit(3000).guarantee(guarantee);
                    let id = manager.register("child", settings).unwrap();
                    let charge = manager.charge(id, 0, 3000).unwrap();
                    // Nobody else ever charges this crate, least of all by an id of its slot's past.
                    assert_eq!(manager.node(id).unwrap().used, 3000);
                    for &old in stale.iter().rev().take(3) {
                        let refused = manager.charge(old, 0, 1).map(drop);
                        assert!(matches!(refused, Err(MemoryError::StaleCrate { .. })), "{refused:?}");
                        assert!(manager.set_limit(old, 1).is_err());
                        assert!(manager.retire(old).is_err());
                    }
                    assert!(matches!(manager.retire(id), Err(MemoryError::InUse { used: 3000, .. })));
                    assert!(matches!(manager.retire(parent), Err(MemoryError::InUse { children: 1, .. })));
                    drop(charge);
                    manager.retire(id).unwrap();
                    manager.retire(parent).unwrap();
                    stale.extend([id, parent]);
                }
            });
        }
    });
    assert_whole(&manager, total);
}

#[test]
fn a_hundred_thousand_crates_charged_from_two_threads_add_up() {
    const CRATES: usize = 100_000;
    const EACH: usize = 1000;
    let total = CRATES * EACH;
    let manager = manager(total, 4096);
    let ids: Vec<_> = (0..CRATES)
        .map(|at| manager.register("crate", CrateSettings::new().limit(EACH + at % 2)).unwrap())
        .collect();
    let halves: Vec<Vec<Charge<'_>>> = thread::scope(|scope| {
        let charging: Vec<_> = ids
            .chunks(CRATES / 2)
            .map(|ids| {
                let manager = &manager;
                scope.spawn(move || ids.iter().map(|&id| manager.charge(id, EACH, EACH).unwrap()).collect())
            })
            .collect();
        charging.into_iter().map(|half| half.join().unwrap()).collect()
    });
    let snapshot = manager.snapshot();
    assert_eq!((snapshot.used, snapshot.free, snapshot.pool.used), (total, 0, total));
    assert_eq!(snapshot.crates.len(), CRATES);
    // The pool has nothing left, and half of them are at their limit.
    assert!(matches!(manager.charge(ids[0], 1, 1), Err(MemoryError::OverLimit { limit: EACH, .. })));
    assert!(matches!(manager.charge(ids[1], 1, 1), Err(MemoryError::PoolExhausted { free: 0, .. })));
    thread::scope(|scope| {
        for half in halves {
            scope.spawn(move || drop(half));
        }
    });
    for id in ids {
        manager.retire(id).unwrap();
    }
    assert_whole(&manager, total);
}
