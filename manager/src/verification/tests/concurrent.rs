//! Threads that get in one another's way, at the highest level: no alarm is false.

use std::thread;

use super::super::conservation::BETWEEN;
use super::*;
use crate::budget::ROOT;
use crate::{LendingRule, Result};

/// Rounds of each thread.
const ROUNDS: usize = if cfg!(miri) { 3 } else { 400 };

fn round(manager: &UnifiedMemoryManager, id: CrateId, parent: CrateId, at: usize) -> Result<()> {
    let size = 1 + at * 37 % 3000;
    let memory = manager.allocate(id, size)?;
    let charge = manager.charge(parent, size, size);
    let large = manager.allocate_for(id, &Request { reserve: 1 << 16, ..Request::new(4096) });
    let _ = large.and_then(|mut large| large.grow(4096 * (1 + at % 8)));
    if at.is_multiple_of(5) {
        let _ = manager.set_guarantee(id, at % 7 * 1000);
        let _ = manager.set_limit(id, (1 << 18) + at % 3 * 4096);
    }
    if at.is_multiple_of(11)
        && let Ok(passing) = manager.register("passing", CrateSettings::new().parent(parent).guarantee(500))
    {
        drop(manager.allocate(passing, 700));
        manager.retire(passing).unwrap();
    }
    drop(charge);
    manager.deallocate(memory).map(drop)
}

#[test]
fn beside_other_threads_nothing_is_found_where_nothing_is_wrong() {
    for stock in [0, 8192] {
        let builder = UnifiedMemoryManager::builder().total(1 << 19).stock(stock).verification(Full);
        let manager = builder.build().unwrap();
        let parent = manager.register("parent", CrateSettings::new()).unwrap();
        let below = CrateSettings::new().parent(parent).guarantee(3000);
        let ids: [CrateId; 4] =
            core::array::from_fn(|at| manager.register(&format!("guest {at}"), below).unwrap());
        for (lender, borrower) in [(0, 1), (2, 3), (1, 2)] {
            let rule = LendingRule::new(2000).automatic();
            manager.sharing().allow(ids[lender], ids[borrower], rule).unwrap();
        }
        thread::scope(|scope| {
            for id in ids {
                let manager = &manager;
                scope.spawn(move || {
                    for at in 0..ROUNDS {
                        // Denials there are many: the budgets are small, so that bytes are on their way all the time.
                        if let Err(error @ (MemoryError::Violation(_) | MemoryError::CrateClosed { .. })) =
                            round(manager, id, parent, at)
                        {
                            panic!("{error}")
                        }
                    }
                });
            }
        });
        assert_eq!(manager.verification().last_violation(), None);
        manager.verify().unwrap();
    }
}

#[test]
fn who_keeps_step_with_the_looks_is_no_fault() {
    let builder = UnifiedMemoryManager::builder().total(1 << 20).stock(0).verification(Full);
    let manager = Arc::new(builder.build().unwrap());
    let honest = manager.register("honest", CrateSettings::new()).unwrap();
    let hostile = manager.register("hostile", CrateSettings::new()).unwrap();
    // Charged when the pool's word was read, and given back when its own was: at each of so many looks.
    let (handle, mut held, mut looks) = (CrateHandle::new(&manager, hostile).unwrap(), Vec::new(), 0);
    let seen = Arc::new(AtomicUsize::new(0));
    let to = seen.clone();
    BETWEEN.set(Some(Box::new(move |index| {
        if index == ROOT && looks < 40 {
            looks += 1;
            held.push(handle.charge(1000, 1000).unwrap());
        } else if index == hostile.index {
            held.clear();
        }
        to.store(looks, Std::Relaxed);
    })));
    let found = manager.allocate(honest, 100).and_then(|memory| manager.deallocate(memory));
    drop(BETWEEN.take());
    assert_eq!(found.map(|_| seen.load(Std::Relaxed)), Ok(40));
    manager.verify().unwrap();
}
