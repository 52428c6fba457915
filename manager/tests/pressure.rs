//! Pressure on the pool and on crates: when a host is told, how often, of what figure, and whom it would help to
//! evict.
#![cfg(all(feature = "std", not(loom)))]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use proptest::prelude::*;
use wrt_memory::{
    Candidate, Charge, CrateId, CrateSettings, LendingRule, MemoryError, PressureEvent, PressureSettings,
    PressureWatch, SmallestThatHelps, UnifiedMemoryManager, VictimPolicy,
};

const TOTAL: usize = 1_000_000;

fn manager(stock: usize) -> Arc<UnifiedMemoryManager> {
    Arc::new(UnifiedMemoryManager::builder().total(TOTAL).stock(stock).build().unwrap())
}

fn plain(manager: &UnifiedMemoryManager) -> CrateId {
    manager.register("guest", CrateSettings::new()).unwrap()
}

/// Levels and uses of the events that nobody took.
fn taken(watch: &PressureWatch<'_>) -> Vec<(u8, usize)> {
    watch.take_events().map(|event| (event.level, event.used)).collect()
}

fn charge<'m>(manager: &'m UnifiedMemoryManager, id: CrateId, bytes: usize) -> Charge<'m> {
    manager.charge(id, bytes, bytes).unwrap()
}

#[test]
fn the_pools_levels_are_signalled_as_it_fills_and_again_after_it_emptied() {
    let manager = manager(0);
    let id = plain(&manager);
    let told = Arc::new(Mutex::new(Vec::<PressureEvent>::new()));
    let to = told.clone();
    let watch = PressureWatch::with_callback(&manager, PressureSettings::new(), move |event| {
        to.lock().unwrap().push(*event)
    })
    .unwrap();
    for _ in 0..2 {
        let mut held = Vec::new();
        for (bytes, level) in
            [(749_999, None), (1, Some(75)), (149_999, Some(75)), (1, Some(90)), (100_000, Some(100))]
        {
            held.push(charge(&manager, id, bytes));
            assert_eq!(watch.level(), level);
        }
        let events = std::mem::take(&mut *told.lock().unwrap());
        let figures: Vec<_> = events.iter().map(|event| (event.level, event.used, event.refused)).collect();
        assert_eq!(figures, [(75, 750_000, false), (90, 900_000, false), (100, TOTAL, false)]);
        assert!(events.iter().all(|event| event.limit == TOTAL && event.over.is_none()));
        assert_eq!((events[0].name.as_str(), events[0].crossings), ("pool", 1));
        assert_eq!(taken(&watch), [(75, 750_000), (90, 900_000), (100, TOTAL)]);
        assert_eq!(taken(&watch), []);
        drop(held);
        assert_eq!((watch.level(), told.lock().unwrap().len()), (None, 0));
    }
    // Several at once: told of the highest, and all can be taken.
    let held = charge(&manager, id, 950_000);
    assert_eq!(told.lock().unwrap().iter().map(|event| event.level).collect::<Vec<_>>(), [90]);
    assert_eq!(taken(&watch), [(75, 950_000), (90, 950_000)]);
    drop(watch);
    drop(held);
    drop(charge(&manager, id, TOTAL));
    assert_eq!(told.lock().unwrap().len(), 1, "a watch that was dropped tells nothing");
}

#[test]
fn a_crate_is_watched_by_what_its_guest_has_and_not_by_its_stock() {
    let manager = manager(100_000);
    let id = manager.register("guest", CrateSettings::new().limit(400_000)).unwrap();
    let watch = PressureWatch::new(&manager, PressureSettings::new().over(id).levels(&[50])).unwrap();
    let first = charge(&manager, id, 150_000);
    // It holds a batch more than it uses, and that is no pressure of its own.
    assert_eq!(manager.node(id).unwrap().held, 250_000);
    assert_eq!(watch.level(), None);
    let second = charge(&manager, id, 50_000);
    assert_eq!(taken(&watch), [(50, 200_000)]);
    drop((first, second));
    assert_eq!(watch.level(), None);
}

#[test]
fn a_parent_and_the_pool_are_watched_by_what_they_gave_out_with_stock() {
    let manager = manager(100_000);
    let parent = manager.register("customer", CrateSettings::new().limit(400_000)).unwrap();
    let id = manager.register("guest", CrateSettings::new().parent(parent)).unwrap();
    let over = |over: PressureSettings| PressureWatch::new(&manager, over).unwrap();
    let customer = over(PressureSettings::new().over(parent).levels(&[30]));
    let pool = over(PressureSettings::new().levels(&[15]));
    let held = charge(&manager, id, 50_000);
    // 50,000 in use, and a batch that the guest keeps.
    let (above, top) = (manager.node(parent).unwrap().used, manager.pool().used);
    assert_eq!(above, 150_000);
    assert_eq!(taken(&customer), [(30, above)]);
    assert_eq!((top, taken(&pool)), (150_000, vec![(15, 150_000)]));
    // The figure is the snapshot's, by whatever it came: early by the stock, and never late.
    assert!(50_000 < above && above <= top && manager.snapshot().used == 50_000);
    drop(held);
    assert_eq!(manager.node(parent).unwrap().used, 100_000);
    // At 25 % of its limit: left by 5 points only.
    assert_eq!(customer.level(), Some(30));
}

#[test]
fn a_refusal_is_the_level_of_100_of_who_refused() {
    let manager = manager(0);
    let limited = manager.register("limited", CrateSettings::new().limit(100_000)).unwrap();
    let other = plain(&manager);
    let watch = |settings| PressureWatch::new(&manager, settings).unwrap();
    let own = watch(PressureSettings::new().over(limited));
    let pool = watch(PressureSettings::new());
    let low = watch(PressureSettings::new().levels(&[75, 90]));
    let _half = charge(&manager, limited, 50_000);
    assert!(matches!(manager.charge(limited, 0, 60_000), Err(MemoryError::OverLimit { .. })));
    let events: Vec<_> = own.take_events().collect();
    assert_eq!((events.len(), events[0].level, events[0].used, events[0].refused), (1, 100, 50_000, true));
    assert_eq!(taken(&pool), [], "the pool refused nobody");
    let rest = charge(&manager, other, 600_000);
    assert!(matches!(manager.charge(other, 0, 400_000), Err(MemoryError::PoolExhausted { .. })));
    let events: Vec<_> = pool.take_events().collect();
    assert_eq!((events.len(), events[0].level, events[0].used, events[0].refused), (1, 100, 650_000, true));
    assert_eq!(taken(&low), []);
    // Refused again, and again: one signal, until something came back.
    for _ in 0..100 {
        manager.charge(other, 0, 400_000).unwrap_err();
    }
    assert_eq!(taken(&pool), []);
    // More than there could ever be is no pressure.
    drop(rest);
    manager.charge(other, 0, TOTAL + 1).unwrap_err();
    manager.charge(other, 0, usize::MAX).unwrap_err();
    manager.charge(limited, 0, 100_001).unwrap_err();
    assert_eq!((taken(&pool), taken(&own)), (vec![], vec![]));
    assert_eq!((pool.level(), own.level()), (None, Some(100)));
}

#[test]
fn a_limit_or_a_total_that_shrinks_is_pressure_too() {
    let manager = manager(0);
    let parent = manager.register("customer", CrateSettings::new()).unwrap();
    let id = manager.register("guest", CrateSettings::new().parent(parent)).unwrap();
    let watch = |settings| PressureWatch::new(&manager, settings).unwrap();
    let (pool, guest) = (watch(PressureSettings::new()), watch(PressureSettings::new().over(id)));
    let _held = charge(&manager, id, 400_000);
    assert_eq!((taken(&pool), taken(&guest)), (vec![], vec![]));
    // A limit above the guest's holds for it as well.
    manager.set_limit(parent, 500_000).unwrap();
    assert_eq!((taken(&pool), taken(&guest)), (vec![], vec![(75, 400_000)]));
    manager.set_limit(id, 410_000).unwrap();
    assert_eq!(taken(&guest), [(90, 400_000)]);
    manager.set_total(400_000).unwrap();
    assert_eq!(pool.take_events().map(|event| (event.level, event.limit)).last(), Some((100, 400_000)));
    manager.set_total(TOTAL).unwrap();
    manager.set_limit(parent, TOTAL).unwrap();
    manager.set_limit(id, TOTAL).unwrap();
    assert_eq!((pool.level(), guest.level()), (None, None));
    // And it follows the new limits upwards.
    let _more = charge(&manager, id, 400_000);
    assert_eq!((taken(&pool).last(), taken(&guest).last()), (Some(&(75, 800_000)), Some(&(100, 400_000))));
}

#[test]
fn a_guarantee_takes_from_the_pool_and_is_pressure_on_it() {
    let manager = manager(0);
    let watch = PressureWatch::new(&manager, PressureSettings::new()).unwrap();
    let id = manager.register("sure", CrateSettings::new().guarantee(750_000)).unwrap();
    assert_eq!(taken(&watch), [(75, 750_000)]);
    manager.set_guarantee(id, 900_000).unwrap();
    assert_eq!(taken(&watch), [(90, 900_000)]);
    manager.set_guarantee(id, 0).unwrap();
    assert_eq!(watch.level(), None);
}

#[test]
fn a_guest_that_oscillates_around_a_level_causes_few_callbacks() {
    const ROUNDS: usize = 20_000;
    for hysteresis in [1, 10] {
        let manager = manager(0);
        let id = plain(&manager);
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let settings = PressureSettings::new().hysteresis(hysteresis);
        let watch = PressureWatch::with_callback(&manager, settings, move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        let _base = charge(&manager, id, 600_000);
        // Within the hysteresis: once.
        let _upper = charge(&manager, id, 145_000);
        for _ in 0..ROUNDS {
            drop(charge(&manager, id, 5_000));
        }
        assert_eq!(calls.swap(0, Ordering::Relaxed), 1);
        drop(_upper);
        // Across it: 75 and 90 at once each time, and refusals on top.
        let mut crossings = 0;
        for _ in 0..ROUNDS {
            let most = charge(&manager, id, 350_000);
            manager.charge(id, 0, 100_000).unwrap_err();
            drop(most);
            crossings += 1;
        }
        // Every level at every 1024th round, each on its own at worst.
        let most = 3 * (11 + ROUNDS / 1024 + 1);
        let seen = calls.load(Ordering::Relaxed);
        assert!(seen > 20 && seen <= most, "{seen} callbacks for {crossings} crossings, at most {most}");
        // None is forgotten, and the next is told at once when those were taken.
        let counted: u32 = watch.take_events().map(|event| event.crossings).sum();
        assert!(counted as usize >= 3 * ROUNDS, "{counted}");
        calls.store(0, Ordering::Relaxed);
        drop(charge(&manager, id, 350_000));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_callback_holds_no_lock_and_may_ask_change_and_drop() {
    let manager = manager(0);
    let id = plain(&manager);
    let told = Arc::new(AtomicUsize::new(0));
    let counter = told.clone();
    let of = Arc::downgrade(&manager);
    let own = Arc::new(Mutex::new(None::<PressureWatch<'static>>));
    let mine = Arc::downgrade(&own);
    let watch = PressureWatch::with_callback(&manager, PressureSettings::new(), move |event| {
        let manager = of.upgrade().unwrap();
        assert_eq!(manager.rank(None).unwrap()[0].returns, event.used);
        assert!(manager.snapshot().used == event.used);
        let other = PressureWatch::new(&*manager, PressureSettings::new()).unwrap();
        assert_eq!(other.level(), Some(event.level));
        // Charges, and so comes here again.
        let deeper = manager.charge(id, 0, 200_000);
        counter.fetch_add(1, Ordering::Relaxed);
        drop(deeper);
        manager.set_total(TOTAL + 100_000).unwrap();
        drop(mine.upgrade().and_then(|own| own.try_lock().ok()?.take()));
    })
    .unwrap();
    *own.lock().unwrap() = Some(watch);
    drop(charge(&manager, id, 800_000));
    // 75, and within it 90 and 100.
    assert!(told.load(Ordering::Relaxed) >= 2);
    assert!(own.lock().unwrap().is_none());
    assert_eq!(manager.pool().used, 0);
}

#[test]
fn a_callback_that_panics_costs_no_bytes() {
    let manager = manager(0);
    let id = plain(&manager);
    let watch = PressureWatch::with_callback(&manager, PressureSettings::new(), |_| {
        std::panic::resume_unwind(Box::new("a host's mistake"))
    })
    .unwrap();
    let parent = manager.register("parent", CrateSettings::new()).unwrap();
    let child = manager.register("child", CrateSettings::new().parent(parent)).unwrap();
    for id in [id, child] {
        assert!(watch.take_events().count() <= 1);
        let manager = &manager;
        let charged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| charge(manager, id, 800_000)));
        assert!(charged.is_err());
        assert_eq!(manager.pool().used, 0);
        assert_eq!(manager.node(id).unwrap().used, 0);
    }
    // The watch still works, and so does the manager.
    drop(charge(&manager, id, 700_000));
}

#[test]
fn a_callback_that_panics_while_a_lender_is_made_good_costs_no_bytes() {
    let manager = manager(0);
    let limits = CrateSettings::new().guarantee(400_000).limit(400_000);
    let lender = manager.register("lender", limits).unwrap();
    let borrower = manager.register("borrower", CrateSettings::new().limit(0)).unwrap();
    manager.sharing().allow(lender, borrower, LendingRule::new(400_000)).unwrap();
    let loan = manager.borrow_from_crate(lender, borrower, 400_000).unwrap();
    let used = charge(&manager, borrower, 400_000);
    let watch = PressureWatch::with_callback(&manager, PressureSettings::new().levels(&[50]), |_| {
        std::panic::resume_unwind(Box::new("a host's mistake"))
    });
    let watch = watch.unwrap();
    // What is lent is in use: the pool makes good for it, and reaches the level.
    let charged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(charge(&manager, lender, 200_000));
    }));
    assert!(charged.is_err());
    let held = [lender, borrower].map(|id| manager.node(id).unwrap().held);
    assert_eq!(manager.pool().used, held[0] + held[1]);
    drop((watch, used, loan));
    drop(charge(&manager, lender, 400_000));
    assert_eq!((manager.pool().used, manager.node(lender).unwrap().held), (400_000, 400_000));
}

#[test]
fn settings_that_cannot_be_are_explained_and_a_manager_has_so_many_watches() {
    let manager = manager(0);
    let why = |settings| match PressureWatch::new(&manager, settings) {
        Err(MemoryError::InvalidConfig { what }) => what,
        other => panic!("{other:?}"),
    };
    let new = PressureSettings::new;
    assert!(why(new().levels(&[])).contains("1 to 4 levels"));
    assert!(why(new().levels(&[1, 2, 3, 4, 5])).contains("1 to 4 levels"));
    assert!(why(new().levels(&[0, 50])).contains("1 to 100"));
    assert!(why(new().levels(&[50, 101])).contains("1 to 100"));
    assert!(why(new().levels(&[50, 50])).contains("ascend"));
    assert!(why(new().levels(&[90, 75])).contains("ascend"));
    assert!(why(new().hysteresis(0)).contains("hysteresis"));
    let id = plain(&manager);
    manager.retire(id).unwrap();
    assert!(matches!(PressureWatch::new(&manager, new().over(id)), Err(MemoryError::StaleCrate { .. })));
    let watches: Vec<_> = (0..64).map(|_| PressureWatch::new(&manager, new()).unwrap()).collect();
    assert!(why(new()).contains("as many pressure watches"));
    // All of them are told.
    let id = plain(&manager);
    let _held = charge(&manager, id, 800_000);
    assert!(watches.iter().all(|watch| watch.level() == Some(75)));
    drop(watches);
    drop(PressureWatch::new(&manager, new()).unwrap());
}

#[test]
fn a_watch_of_a_retired_crate_is_not_that_of_the_next_in_its_slot() {
    let manager = manager(0);
    let first = plain(&manager);
    let old = PressureWatch::new(&manager, PressureSettings::new().over(first)).unwrap();
    let held = charge(&manager, first, 800_000);
    assert_eq!(taken(&old).len(), 1);
    drop(held);
    manager.retire(first).unwrap();
    let second = plain(&manager);
    let new = PressureWatch::new(&manager, PressureSettings::new().over(second).levels(&[10])).unwrap();
    let _held = charge(&manager, second, 800_000);
    assert_eq!((taken(&old), taken(&new)), (vec![], vec![(10, 800_000)]));
    assert!(matches!(old.rank(), Err(MemoryError::StaleCrate { .. })));
    drop(old);
    // Its end did not end the other's.
    drop(_held);
    let _held = charge(&manager, second, 100_000);
    assert_eq!(taken(&new), [(10, 100_000)]);
}

#[test]
fn no_crossing_is_lost_between_threads() {
    // Watches come and go, and the crate's use steps over the level and back, on two threads. Whenever both
    // rest, what a watch says must be what is.
    let manager = manager(0);
    let id = plain(&manager);
    for round in 0..3000 {
        let level = thread::scope(|scope| {
            let placing = scope.spawn(|| {
                let watch =
                    PressureWatch::new(&*manager, PressureSettings::new().levels(&[50]).over(id)).unwrap();
                if round % 2 == 0 {
                    drop(PressureWatch::new(&*manager, PressureSettings::new().over(id)).unwrap());
                }
                watch
            });
            let _first = charge(&manager, id, 600_000);
            if round % 3 == 0 {
                drop(_first);
                let watch = placing.join().unwrap();
                assert_eq!(watch.level(), None, "round {round}");
                return watch.level();
            }
            let watch = placing.join().unwrap();
            watch.level()
        });
        assert_eq!(level, (round % 3 != 0).then_some(50), "round {round}");
    }
    // Many at once, up and down; at rest the level is that of the use.
    let watch =
        PressureWatch::new(&manager, PressureSettings::new().levels(&[30, 60, 90]).hysteresis(1)).unwrap();
    for round in 0..300usize {
        let kept: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|at| {
                    let manager = &manager;
                    scope.spawn(move || {
                        for _ in 0..20 {
                            drop(manager.charge(id, 0, 250_000));
                        }
                        ((round + at) % 2 == 0).then(|| charge(manager, id, 320_000))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let level = match manager.pool().used {
            0..=290_000 => None,
            300_000..=590_000 => Some(30),
            600_000..=890_000 => Some(60),
            _ => Some(90),
        };
        assert_eq!(watch.level(), level, "{}", manager.pool().used);
        drop(kept);
        assert_eq!(watch.level(), None);
    }
}

/// Names and figures of who is ranked.
fn figures(ranked: &[Candidate]) -> Vec<(&str, usize, usize)> {
    ranked.iter().map(|one| (one.name.as_str(), one.returns, one.used)).collect()
}

#[test]
fn crates_are_ranked_by_what_evicting_them_gives_back() {
    let manager = manager(0);
    let crate_of = |name: &str, settings| manager.register(name, settings).unwrap();
    let new = CrateSettings::new;
    let large = crate_of("large", new());
    let sure = crate_of("sure", new().guarantee(200_000));
    let half = crate_of("half", new().guarantee(100_000));
    let idle = crate_of("idle", new().guarantee(50_000));
    let _none = crate_of("none", new());
    // 60,000 for itself and 40,000 of its child's.
    let customer = crate_of("customer", new().guarantee(60_000));
    let child = crate_of("child", new().parent(customer).guarantee(40_000));
    let other = crate_of("other", new().parent(customer));
    let _held: Vec<_> = [
        (large, 150_000),
        (sure, 200_000),
        (half, 160_000),
        (child, 50_000),
        (other, 70_000),
        (customer, 5_000),
    ]
    .into_iter()
    .map(|(id, bytes)| charge(&manager, id, bytes))
    .collect();
    // customer: 125,000 in use of 100,000 guaranteed, so no more than 25,000 can ever come from below it.
    assert_eq!(
        figures(&manager.rank(None).unwrap()),
        [
            ("large", 150_000, 150_000),
            ("half", 60_000, 160_000),
            ("other", 25_000, 70_000),
            ("child", 10_000, 50_000),
            ("customer", 5_000, 5_000),
            ("sure", 0, 200_000),
        ]
    );
    // Among its own the customer's guarantee is shared: what a sibling gives back the other can have.
    assert_eq!(
        figures(&manager.rank(Some(customer)).unwrap()),
        [("other", 70_000, 70_000), ("child", 10_000, 50_000), ("customer", 5_000, 5_000)]
    );
    manager.retire(idle).unwrap();
    assert!(matches!(manager.rank(Some(idle)), Err(MemoryError::StaleCrate { .. })));
}

#[test]
fn of_equals_who_loses_less_is_first_and_stock_comes_back_too() {
    let manager = manager(100_000);
    let one = manager.register("with guarantee", CrateSettings::new().guarantee(100_000)).unwrap();
    let two = manager.register("without", CrateSettings::new()).unwrap();
    let three = manager.register("stocked", CrateSettings::new()).unwrap();
    let _held = [charge(&manager, one, 300_000), charge(&manager, two, 200_000)];
    manager.charge(three, 0, 10_000).map(drop).unwrap();
    // Stock is what a sweep takes: it is the crate's to give, in use or not.
    let stock = |id: CrateId| {
        let node = manager.node(id).unwrap();
        node.held - node.used.max(node.floor)
    };
    assert!(stock(three) > 0);
    let ranked = manager.rank(None).unwrap();
    let by = |name: &str| ranked.iter().find(|other| other.name.as_str() == name).unwrap();
    assert_eq!(by("with guarantee").returns, 200_000 + stock(one));
    assert_eq!(by("without").returns, 200_000 + stock(two));
    assert_eq!((by("stocked").returns, by("stocked").used), (stock(three), 0));
    if stock(one) == stock(two) {
        assert_eq!(ranked[0].name.as_str(), "without");
    }
}

#[test]
fn the_default_victim_is_the_smallest_that_helps_and_a_host_may_choose_otherwise() {
    let manager = manager(0);
    let held: Vec<_> = [("a", 300_000, 0), ("b", 200_000, 0), ("c", 100_000, 0), ("sure", 150_000, 150_000)]
        .into_iter()
        .map(|(name, bytes, sure)| {
            let id = manager.register(name, CrateSettings::new().guarantee(sure)).unwrap();
            charge(&manager, id, bytes)
        })
        .collect();
    let victim =
        |policy: &dyn Fn(usize) -> Option<Candidate>, needed| policy(needed).map(|one| one.name.to_string());
    let default = |needed| manager.victim(&SmallestThatHelps, None, needed).unwrap();
    for (needed, who) in
        [(1, "c"), (100_000, "c"), (100_001, "b"), (300_000, "a"), (300_001, "a"), (usize::MAX, "a")]
    {
        assert_eq!(victim(&default, needed).as_deref(), Some(who), "{needed}");
    }
    fn never_b(_: usize, ranked: &[Candidate]) -> Option<&Candidate> {
        ranked.iter().find(|one| one.name.as_str() != "a")
    }
    assert_eq!(victim(&|needed| manager.victim(&never_b, None, needed).unwrap(), 1).as_deref(), Some("b"));
    let nobody: fn(usize, &[Candidate]) -> Option<&Candidate> = |_, _| None;
    assert!(manager.victim(&nobody, None, 1).unwrap().is_none());
    // Only guarantees are left: evicting gives nobody anything.
    let mut held = held;
    held.drain(..3);
    assert_eq!(figures(&manager.rank(None).unwrap()), [("sure", 0, 150_000)]);
    assert!(default(1).is_none());
    assert!(SmallestThatHelps.choose(0, &manager.rank(None).unwrap()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// What the ranking says is what happens: evicting each crate in turn, in any tree, gives back exactly its figure,
    /// to the pool and to every parent above it.
    #[test]
    fn evicting_gives_back_what_the_ranking_says(
        crates in prop::collection::vec((0..6usize, 0..60_000usize, 0..60_000usize), 1..14),
        stock in prop::sample::select(vec![0, 3000]), seed in 0..100usize,
    ) {
        let manager = manager(stock);
        let mut ids: Vec<CrateId> = Vec::new();
        let mut held = Vec::new();
        for (parent, guarantee, bytes) in crates {
            // The first are all below the pool.
            let parent = parent.checked_sub(2).and_then(|at| ids.get(at)).copied();
            let settings = CrateSettings::new().guarantee(guarantee);
            let settings = match parent { Some(parent) => settings.parent(parent), None => settings };
            let Ok(id) = manager.register("crate", settings) else { continue };
            ids.push(id);
            held.push((id, manager.charge(id, 0, bytes).unwrap()));
        }
        while !held.is_empty() {
            let at = seed % held.len();
            let id = held[at].0;
            // What others could have: the stock on the way is theirs already, so it is swept first.
            sweep(&manager);
            let tops = [None].into_iter().chain(ids.iter().map(|&id| Some(id)));
            let mut expected = Vec::new();
            for top in tops.filter(|top| *top != Some(id)) {
                let ranked = manager.rank(top).unwrap();
                let figure = ranked.iter().find(|one| one.id == id).map_or(0, |one| one.returns);
                let used = |manager: &UnifiedMemoryManager| top.map_or_else(|| manager.pool(), |id| manager.node(id).unwrap()).used;
                expected.push((top, figure, used(&manager)));
            }
            drop(held.swap_remove(at));
            sweep(&manager);
            for (top, figure, before) in expected {
                let now = top.map_or_else(|| manager.pool(), |id| manager.node(id).unwrap()).used;
                prop_assert_eq!(before - now, figure, "for {:?} of {:?}", top, id);
            }
        }
    }
}

/// Takes all stock back, by a crate that asks for all there is and gives it up again.
fn sweep(manager: &UnifiedMemoryManager) {
    let id = manager.register("sweeper", CrateSettings::new()).unwrap();
    let before = manager.pool().limit;
    for _ in 0..3 {
        drop(manager.charge(id, 0, TOTAL));
    }
    assert_eq!(manager.pool().limit, before);
    manager.retire(id).unwrap();
}

/// Raises a flag when it goes.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn watching_while_crates_come_and_go_and_charge_breaks_nothing() {
    let manager = manager(2000);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let id = plain(&manager);
                    let settings = PressureSettings::new().over(id).levels(&[10, 50]);
                    let watch = PressureWatch::new(&*manager, settings).unwrap();
                    drop(manager.charge(id, 0, 450_000));
                    manager.set_limit(id, 500_000).unwrap();
                    drop(watch);
                    manager.retire(id).unwrap();
                }
            });
        }
        // However this ends: the threads end too.
        let _ended = Raise(&over);
        for _ in 0..2000 {
            for one in manager.rank(None).unwrap() {
                assert!(one.returns <= TOTAL && one.used <= TOTAL);
            }
            manager.set_total(TOTAL - 1000).unwrap();
            manager.set_total(TOTAL).unwrap();
        }
    });
    let pool = manager.pool();
    assert_eq!((pool.used, pool.children), (0, 0));
}
