//! What a guest can make its host do by asking for what it does not get.

use crate::budget::{BudgetTracker, visits};
use crate::{Charge, CrateId, CrateSettings, LendingRule, UnifiedMemoryManager};

/// A pool that is used up, with a lender and its borrowers among `others` crates that lend to one another.
struct Crowd {
    manager: UnifiedMemoryManager,
    asks: CrateId,
    lender: CrateId,
}

fn crowd(others: usize) -> Crowd {
    const EACH: usize = 100;
    let total = others * EACH + 1_000;
    let manager = UnifiedMemoryManager::builder().total(total).stock(0).build().unwrap();
    let make = |guarantee| {
        manager.register("crate", CrateSettings::new().guarantee(guarantee).limit(guarantee)).unwrap()
    };
    let others: Vec<_> = (0..others).map(|_| make(EACH)).collect();
    for pair in others.windows(2) {
        manager.sharing().allow(pair[0], pair[1], LendingRule::new(50).automatic()).unwrap();
    }
    others.iter().for_each(|&id| manager.charge(id, 0, EACH).map(hold).unwrap());
    let (asks, lender) = (make(0), make(1_000));
    // As many who lend to it, and to whom its lender lends, as the book takes.
    for &other in others.iter().chain(&others).take(20) {
        manager.sharing().allow(other, asks, LendingRule::new(50).automatic()).unwrap();
        manager.sharing().allow(lender, other, LendingRule::new(10).automatic()).unwrap();
    }
    manager.sharing().allow(lender, asks, LendingRule::new(300).automatic()).unwrap();
    Crowd { manager, asks, lender }
}

/// In use for as long as the manager is.
fn hold(charge: Charge<'_>) {
    core::mem::forget(charge);
}

fn tracker(crowd: &Crowd) -> &BudgetTracker {
    &crowd.manager.tracker
}

/// Places looked at by each of some refused tries of its own, the most of them.
fn worst(crowd: &Crowd, mut attempt: impl FnMut()) -> usize {
    let mut worst = 0;
    for _ in 0..20 {
        let before = visits();
        attempt();
        worst = worst.max(visits() - before);
        tracker(crowd).book().with(|book| book.audit());
    }
    worst
}

fn figures(crowd: &Crowd) -> [usize; 4] {
    let Crowd { manager, asks, lender } = crowd;
    let state = || {
        let counts = manager.coordinator().counts();
        let [asks, lender] = [asks, lender].map(|&id| manager.node(id).unwrap());
        (counts.loans, counts.transfers, asks.held, asks.limit, lender.held, lender.lent)
    };
    // Far too much, and just too much.
    let before = state();
    let refused = [isize::MAX as usize, 1_000_000, 301]
        .map(|n| worst(crowd, || assert!(manager.charge(*asks, 0, n).is_err(), "{n} bytes")));
    assert_eq!(state(), before, "a denial moved room");
    // Borrowed and recalled, over and over.
    let recalled = worst(crowd, || {
        drop(manager.charge(*asks, 0, 300).unwrap());
        drop(manager.charge(*lender, 0, 1_000).unwrap());
    });
    assert_eq!(manager.node(*asks).unwrap().borrowed, 0);
    [refused[0], refused[1], refused[2], recalled]
}

#[test]
fn a_hostile_guest_costs_as_much_beside_10_000_crates_that_share_as_beside_ten() {
    let (few, many) = (figures(&crowd(10)), figures(&crowd(10_000)));
    println!("places looked at: beside 10 crates {few:?}, beside 10,000 {many:?}");
    for (few, many) in few.into_iter().zip(many) {
        // Its own lists are longer there, by at most the ten rules more that it has.
        assert!(many <= few + 400, "{few} places beside 10 crates, {many} beside 10,000");
        assert!(many <= 2_000, "{many} places for one try");
    }
}
