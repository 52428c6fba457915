//! The tree single-threaded: what it grants and refuses, and where the bytes are afterwards.

use super::*;
use crate::budget::amount::Scale;
use crate::budget::id::CrateId;
use crate::error::MemoryError;

mod model;
mod plain;

thread_local! {
    /// Places a sweep has looked at on this thread.
    pub(super) static VISITS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Places looked at so far on this thread.
#[cfg(feature = "std")]
pub(crate) fn visits() -> usize {
    VISITS.get()
}

/// A tracker with a note of what each crate itself has in use, so that every sum can be checked.
pub(super) struct Tree {
    pub(super) tracker: BudgetTracker,
    own: Vec<(CrateId, u32)>,
}

pub(super) fn units(raw: u32) -> Units {
    Units::new(raw).unwrap()
}

impl Tree {
    pub(super) fn new(total: u32, batch: u32) -> Self {
        let scale = Scale::for_total(total as usize);
        Self {
            tracker: BudgetTracker::new(
                Slots::new(None),
                scale,
                units(total),
                units(batch),
                1,
                None,
                Reclaim::default(),
            ),
            own: Vec::new(),
        }
    }

    pub(super) fn register(
        &mut self,
        parent: Option<CrateId>,
        limit: u32,
        guarantee: u32,
    ) -> Result<CrateId, MemoryError> {
        let id = self.tracker.register("crate", parent, units(limit), units(guarantee))?;
        self.own.push((id, 0));
        self.check();
        Ok(id)
    }

    /// A crate with no limit and no guarantee.
    fn plain(&mut self, parent: Option<CrateId>) -> CrateId {
        self.register(parent, Units::MAX.get(), 0).unwrap()
    }

    fn own_of(&mut self, id: CrateId) -> &mut u32 {
        &mut self.own.iter_mut().find(|(other, _)| *other == id).unwrap().1
    }

    pub(super) fn charge(&mut self, id: CrateId, n: u32) -> Result<(), MemoryError> {
        let charged = self.tracker.charge_crate(id, units(n), n as usize).map(Credit::absorb);
        if charged.is_ok() {
            *self.own_of(id) += n;
        }
        self.check();
        charged
    }

    pub(super) fn give(&mut self, id: CrateId, n: u32) {
        self.tracker.uncharge(id.index, self.tracker.slot(id.index), units(n));
        *self.own_of(id) -= n;
        self.check();
    }

    pub(super) fn retire(&mut self, id: CrateId) -> Result<(), MemoryError> {
        let retired = self.tracker.retire(id);
        if retired.is_ok() {
            self.own.retain(|(other, _)| *other != id);
        }
        self.check();
        retired
    }

    fn set_limit(&mut self, id: CrateId, limit: u32) {
        self.tracker.set_limit(id, units(limit)).unwrap();
        self.check();
    }

    pub(super) fn state(&self, id: CrateId) -> State<Units> {
        self.tracker.resolve(id).unwrap().budget.load()
    }

    pub(super) fn root(&self) -> State<Units> {
        self.tracker.root.budget.load()
    }

    /// I1, I3, I4 and the sums of floors, over all nodes, with nothing in transit. And that nothing
    /// is idle where no sweep finds it.
    pub(super) fn check(&self) {
        // Of many, at the end: it looks at all.
        #[cfg(feature = "formal-verification")]
        if self.own.len() < 20 {
            self.tracker.assert_followed();
        }
        let at = |index: Index| self.tracker.slot(index);
        for (id, own) in self.own.iter().copied().chain([(self.tracker.id_at(ROOT), 0)]) {
            let index = id.index;
            let state = at(index).budget.load();
            assert!(state.use_is_backed(), "I4 at {index}: {state:?}");
            assert!(state.floor_is_backed(), "I3 at {index}: {state:?}");
            let below = self.own.iter().map(|(child, _)| child.index);
            let below: Vec<_> =
                below.filter(|&child| at(child).parent.load(Ordering::SeqCst) == index).collect();
            let held: u32 = below.iter().map(|&child| at(child).budget.load().held.get()).sum();
            assert_eq!(state.used.get(), own + held, "I1 at {index}: {state:?}");
            let floors: u32 = below.iter().map(|&child| at(child).budget.load().floor.get()).sum();
            let own_floor = at(index).own_guarantee.load(Ordering::SeqCst);
            assert_eq!(state.floor.get(), own_floor + floors, "floors at {index}: {state:?}");
            assert_eq!(at(index).children() as usize, below.len(), "children of {index}");
            if index != ROOT && !state.stock().is_zero() {
                assert!(
                    self.tracker.seats.seated().any(|seated| seated == index),
                    "stock at {index} is lost"
                );
                let most = self.tracker.batch.get();
                assert!(state.stock().get() <= most, "more than a batch at {index}: {state:?}");
            }
        }
    }
}

#[test]
fn what_is_swept_to_a_parent_above_its_limit_goes_on_to_the_pool() {
    let mut tree = Tree::new(1000, 100);
    let parent = tree.plain(None);
    let (busy, other) = (tree.plain(Some(parent)), tree.plain(Some(parent)));
    tree.charge(busy, 200).unwrap();
    tree.give(busy, 150);
    assert_eq!(tree.state(busy).stock(), units(100));
    tree.set_limit(parent, 60);
    assert!(tree.charge(other, 20).is_err());
    tree.charge(other, 10).unwrap();
    tree.give(other, 10);
    tree.give(busy, 50);
    for id in [busy, other, parent] {
        tree.retire(id).unwrap();
    }
    assert_eq!(tree.root().used, Units::ZERO);
}

#[test]
fn a_parents_guarantee_serves_its_children_though_a_sweep_for_it_stops_half_way() {
    let mut tree = Tree::new(200, 20);
    let parent = tree.register(None, Units::MAX.get(), 100).unwrap();
    let (idle, asks) = (tree.plain(Some(parent)), tree.plain(Some(parent)));
    let other = tree.plain(None);
    tree.charge(idle, 30).unwrap();
    tree.give(idle, 30);
    assert_eq!(tree.state(idle).stock(), units(20));
    tree.charge(other, 100).unwrap();
    tree.charge(asks, 100).unwrap();
    assert!(tree.charge(asks, 1).is_err());
}

#[test]
fn a_sweep_does_not_take_from_the_crate_it_is_for() {
    let mut tree = Tree::new(1000, 500);
    let (asks, idle, fills) = (tree.plain(None), tree.plain(None), tree.plain(None));
    tree.charge(asks, 400).unwrap();
    tree.give(asks, 400);
    tree.charge(idle, 400).unwrap();
    tree.give(idle, 400);
    tree.charge(fills, 100).unwrap();
    assert_eq!(tree.root().credit(), Units::ZERO);
    assert_eq!(tree.state(asks).stock(), units(500));
    tree.charge(asks, 501).unwrap();
    tree.charge(asks, 399).unwrap();
    assert!(tree.charge(asks, 1).is_err());
}

#[test]
fn a_guarantee_is_raised_from_the_crates_own_stock_and_that_of_others() {
    let mut tree = Tree::new(1000, 500);
    let (asks, idle, fills) = (tree.plain(None), tree.plain(None), tree.plain(None));
    tree.charge(asks, 400).unwrap();
    tree.give(asks, 400);
    tree.charge(idle, 400).unwrap();
    tree.give(idle, 400);
    tree.charge(fills, 100).unwrap();
    tree.tracker.set_guarantee(asks, units(501)).unwrap();
    tree.check();
    tree.tracker.set_guarantee(asks, units(900)).unwrap();
    tree.check();
    assert!(tree.tracker.set_guarantee(asks, units(901)).is_err());
    tree.check();
}

#[test]
fn a_sweep_passes_through_a_parent_that_may_keep_stock_itself() {
    let mut tree = Tree::new(1000, 100);
    let parent = tree.plain(None);
    let child = tree.plain(Some(parent));
    let other = tree.plain(None);
    tree.charge(parent, 10).unwrap();
    tree.charge(child, 50).unwrap();
    tree.give(child, 50);
    let credit = tree.state(parent).credit().get();
    tree.charge(parent, credit).unwrap();
    assert_eq!((tree.state(parent).stock(), tree.state(child).stock()), (Units::ZERO, units(100)));
    tree.charge(other, 1000 - 10 - credit).unwrap();
    assert_eq!(tree.root().credit(), Units::ZERO);
}

#[test]
fn a_parent_that_uses_bytes_itself_may_have_its_whole_limit() {
    let mut tree = Tree::new(1000, 100);
    let parent = tree.register(None, 200, 0).unwrap();
    let child = tree.plain(Some(parent));
    tree.charge(child, 50).unwrap();
    tree.give(child, 50);
    assert!(!tree.state(child).stock().is_zero());
    tree.charge(parent, 200).unwrap();
    assert!(tree.charge(parent, 1).is_err());
}

#[test]
fn stock_is_found_where_the_sum_would_leave_its_field() {
    let mut tree = Tree::new(Units::MAX.get(), 100);
    let (idle, asks) = (tree.plain(None), tree.plain(None));
    tree.charge(idle, 10).unwrap();
    tree.give(idle, 10);
    tree.charge(asks, Units::MAX.get()).unwrap();
    assert!(tree.charge(asks, 1).is_err());
    assert!(tree.charge(idle, Units::MAX.get()).is_err());
}

#[test]
fn a_charge_meant_for_a_retired_crate_never_touches_the_next_one_in_its_slot() {
    let mut tree = Tree::new(1000, 100);
    let stale = tree.plain(None);
    tree.retire(stale).unwrap();
    let next = tree.register(None, 500, 300).unwrap();
    assert_eq!((next.index, next.generation), (stale.index, stale.generation + 1));
    // As if it had been resolved before the crate was retired.
    for n in [1, 300, 301, 600] {
        let refused = tree.tracker.charge(stale.index, stale.generation, units(n));
        assert_eq!(refused.err().map(|shortage| shortage.refusal), Some(Refusal::Closed));
        assert_eq!(tree.tracker.slot(next.index).high_water(Units::ZERO), Units::ZERO, "{n} were charged");
    }
    tree.check();
}

#[test]
fn nothing_given_back_changes_nothing() {
    let mut tree = Tree::new(1000, 100);
    let id = tree.plain(None);
    tree.charge(id, 10).unwrap();
    let before = (tree.state(id), tree.root());
    tree.give(id, 0);
    assert_eq!((tree.state(id), tree.root()), before);
}

#[test]
fn a_charge_by_an_id_whose_version_has_come_round_is_given_back_to_whom_it_reached() {
    let mut tree = Tree::new(1000, 100);
    let stale = tree.plain(None);
    tree.retire(stale).unwrap();
    for _ in 0..7 {
        let next = tree.plain(None);
        tree.retire(next).unwrap();
    }
    let next = tree.register(None, 500, 300).unwrap();
    assert_eq!((next.index, next.generation), (stale.index, stale.generation + 8));
    for n in [1, 300, 301, 600] {
        let refused = tree.tracker.charge(stale.index, stale.generation, units(n));
        assert_eq!(
            refused.err().map(|shortage| shortage.refusal),
            if n == 600 { Some(Refusal::OverLimit(units(100))) } else { Some(Refusal::Closed) }
        );
        assert_eq!(tree.state(next).used, Units::ZERO, "{n} stayed");
    }
    tree.check();
}

#[test]
fn more_crates_than_seats_leave_no_stock_that_is_not_found() {
    let mut tree = Tree::new(100_000, 10);
    let ids: Vec<_> = (0..200).map(|_| tree.plain(None)).collect();
    for round in 1..8 {
        for &id in &ids {
            tree.charge(id, round).unwrap();
        }
        for &id in ids.iter().rev() {
            tree.give(id, round);
        }
    }
    assert!(!tree.root().used.is_zero(), "there is stock");
    tree.charge(ids[150], 100_000).unwrap();
    tree.give(ids[150], 100_000);
    for id in ids {
        tree.retire(id).unwrap();
    }
    assert_eq!(tree.root().used, Units::ZERO);
}

#[test]
fn without_a_batch_nobody_takes_a_seat() {
    let mut tree = Tree::new(1000, 0);
    let id = tree.plain(None);
    tree.charge(id, 10).unwrap();
    assert_eq!(tree.tracker.seats.seated().next(), None);
}

#[test]
fn a_crate_below_a_debtor_keeps_no_stock_and_others_do() {
    let mut tree = Tree::new(1000, 20);
    let [debtor, other] = [(); 2].map(|()| tree.plain(None));
    let [below, beside] = [debtor, other].map(|parent| tree.plain(Some(parent)));
    let deep = tree.plain(Some(below));
    let crates = [below, deep, beside];
    for id in crates {
        tree.charge(id, 10).unwrap();
    }
    let keeps = |tree: &Tree| crates.map(|id| tree.tracker.keeps(tree.tracker.slot(id.index)).get());
    assert_eq!(keeps(&tree), [20; 3]);
    // As if a loan of its had been recalled.
    let set_owes = |tree: &Tree, owes| {
        let word = &tree.tracker.slot(debtor.index).budget;
        word.apply(|state| Ok::<_, ()>((State { owes, ..state }, ()))).unwrap();
        tree.tracker.debtors.store(u32::from(owes), Ordering::SeqCst);
    };
    set_owes(&tree, true);
    assert_eq!(keeps(&tree), [0, 0, 20]);
    // The shadow knows of no loan.
    set_owes(&tree, false);
    assert_eq!(keeps(&tree), [20; 3]);
}

#[test]
fn what_counts_as_use_above_a_limit_is_given_up_for_a_guarantee() {
    let mut tree = Tree::new(1000, 100);
    let parent = tree.plain(None);
    let child = tree.plain(Some(parent));
    tree.charge(child, 500).unwrap();
    tree.give(child, 100);
    assert_eq!((tree.state(child).held, tree.state(parent).used), (units(500), units(500)));
    tree.set_limit(parent, 400);
    // 400 are in use, and 100 stock.
    tree.tracker.set_guarantee(child, units(50)).unwrap();
    tree.check();
    assert_eq!((tree.state(child).held, tree.state(parent).used), (units(400), units(400)));
    // Nothing is left to give up: it is refused at once.
    tree.set_limit(parent, 300);
    VISITS.set(0);
    assert!(tree.tracker.set_guarantee(child, units(60)).is_err());
    assert!(VISITS.get() <= 2, "{} places", VISITS.get());
    tree.check();
}

#[test]
fn nothing_swept_is_no_sweep() {
    let mut tree = Tree::new(1000, 100);
    let parent = tree.plain(None);
    let child = tree.plain(Some(parent));
    tree.charge(child, 500).unwrap();
    tree.set_limit(parent, 400);
    assert!(tree.tracker.set_guarantee(child, units(450)).is_err());
    let taken = tree.tracker.swept.load(Ordering::Relaxed);
    assert!(tree.tracker.set_guarantee(child, units(450)).is_err());
    assert_eq!(tree.tracker.swept.load(Ordering::Relaxed), taken);
}

/// Places looked at by a charge that is refused at the pool, beside `crates` others.
#[cfg(feature = "std")]
fn visits_of_a_refusal(crates: usize, depth: usize) -> usize {
    let tracker = Tree::new(1_000_000_000, 1000).tracker;
    let register = |parent| tracker.register("crate", parent, Units::MAX, Units::ZERO).unwrap();
    for _ in 0..crates {
        let id = register(None);
        drop(tracker.charge_crate(id, units(10), 10).unwrap());
    }
    let mut asks = register(None);
    for _ in 1..depth {
        asks = register(Some(asks));
    }
    // All that is idle goes to one crate first, so that the refusal has nothing to find.
    let rest = register(None);
    tracker.charge_crate(rest, units(1_000_000_000), 0).unwrap().absorb();
    VISITS.set(0);
    assert!(tracker.charge_crate(asks, units(1), 1).is_err());
    VISITS.get()
}

#[cfg(feature = "std")]
#[test]
fn a_refused_charge_looks_at_as_many_places_beside_100_000_crates_as_beside_100() {
    use crate::budget::stock::SEATS;

    let few = visits_of_a_refusal(100, 1);
    assert!(few > 0 && few <= SEATS, "{few} places");
    assert_eq!(visits_of_a_refusal(100_000, 1), few);
    // Each level may sweep once, and no more.
    let deep = visits_of_a_refusal(1000, 8);
    assert!(deep <= 8 * SEATS, "{deep} places");
}

#[cfg(feature = "std")]
#[test]
fn a_refused_charge_looks_at_each_seat_once() {
    use crate::budget::stock::SEATS;

    let places = visits_of_a_refusal(100, 1);
    assert!(places > 1 && places <= SEATS, "{places} places");
}

#[cfg(feature = "std")]
#[test]
fn a_charge_above_its_own_limit_looks_nowhere() {
    let mut tree = Tree::new(1000, 100);
    let idle = tree.plain(None);
    tree.charge(idle, 10).unwrap();
    tree.give(idle, 10);
    let id = tree.register(None, 50, 0).unwrap();
    VISITS.set(0);
    let before = tree.root();
    assert!(matches!(tree.charge(id, 51), Err(MemoryError::OverLimit { free: 50, .. })));
    assert_eq!((VISITS.get(), tree.root()), (0, before));
}
