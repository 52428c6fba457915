//! Waiting under every schedule that loom tries; `budget/tests_loom.rs` says how to run it, and what bounds it. A
//! look tries two requests here, so that handing over is met as well.

use core::task::Waker;
use loom::thread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use super::{Key, Request, Standing};
use crate::budget::tests_loom::{all_can_be_had, check, model, register, tracker, units};
use crate::budget::{BudgetTracker, CrateId, Credit};

/// Whether it was woken: seen at the end, when nothing runs any more.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One that waits, as its owner sees it.
struct Waits {
    id: CrateId,
    n: u32,
    key: Option<Key>,
    woken: std::sync::Arc<Woken>,
}

impl Waits {
    /// Asks for `n`, and looks once.
    fn begin(tracker: &BudgetTracker, id: CrateId, n: u32) -> Self {
        let mut waits = Self { id, n, key: None, woken: std::sync::Arc::default() };
        match tracker.charge(id.index, id.generation, units(n)) {
            Ok(credit) => credit.absorb(),
            Err(shortage) => {
                let request = Request { id, n: units(n), needs: units(n), asked: n as usize };
                waits.key = Some(tracker.stand_in_line(&request, shortage).unwrap());
                waits.look(tracker);
            }
        }
        waits
    }

    /// What an executor does: looks, and is woken for the next look.
    fn look(&mut self, tracker: &BudgetTracker) -> bool {
        let Some(key) = self.key else { return true };
        self.woken.0.store(false, Ordering::SeqCst);
        match tracker.stands(key, Some(&Waker::from(self.woken.clone()))) {
            Standing::Waits => return false,
            Standing::Granted => self.key = None,
            Standing::Ended(shortage) => panic!("it ended: {shortage:?}"),
        }
        true
    }

    /// Looks as long as it is woken. Whether it got its bytes.
    fn run(&mut self, tracker: &BudgetTracker) -> bool {
        while self.key.is_some() && self.woken.0.load(Ordering::SeqCst) {
            self.look(tracker);
        }
        self.key.is_none()
    }

    /// Gives up, or gives back.
    fn end(self, tracker: &BudgetTracker) {
        match self.key {
            Some(key) => _ = tracker.leave_line(self.id, key),
            None => tracker.uncharge(self.id.index, tracker.slot(self.id.index), units(self.n)),
        }
    }
}

/// Runs all, as executors do, until nobody is woken any more.
fn settle(tracker: &BudgetTracker, all: &mut [&mut Waits]) {
    while all.iter().any(|waits| waits.key.is_some() && waits.woken.0.load(Ordering::SeqCst)) {
        for waits in &mut *all {
            waits.run(tracker);
        }
    }
}

fn clean(tracker: &BudgetTracker) {
    check(tracker, &[]);
    for index in tracker.nodes() {
        let slot = tracker.slot(index);
        let own = slot.waiting.load(Ordering::Relaxed);
        assert!(slot.line.is_empty() && own == 0, "a ticket was left at {index}");
    }
    let counts = tracker.lines().counts();
    assert_eq!((counts.waiting, counts.begun), (0, counts.granted + counts.given_up));
    assert!(!tracker.lines().with(|queue| queue.serving));
}

#[test]
fn loom_bytes_that_come_while_one_begins_to_wait_are_not_missed() {
    model(None, || {
        let tracker = tracker(4, 0);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        tracker.charge(one.index, 0, units(4)).unwrap().absorb();
        let frees = {
            let tracker = tracker.clone();
            thread::spawn(move || tracker.uncharge(one.index, tracker.slot(one.index), units(4)))
        };
        let mut waits = Waits::begin(&tracker, two, 3);
        frees.join().unwrap();
        assert!(waits.run(&tracker), "a wake-up was lost");
        check(&tracker, &[(two, 3)]);
        waits.end(&tracker);
        clean(&tracker);
    });
}

#[test]
fn loom_bytes_that_stay_as_stock_are_not_missed() {
    model(Some(5), || {
        let tracker = tracker(8, 4);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        tracker.charge(one.index, 0, units(4)).unwrap().absorb();
        let frees = {
            let tracker = tracker.clone();
            thread::spawn(move || tracker.uncharge(one.index, tracker.slot(one.index), units(4)))
        };
        let mut waits = Waits::begin(&tracker, two, 8);
        frees.join().unwrap();
        assert!(waits.run(&tracker), "a wake-up was lost");
        waits.end(&tracker);
        clean(&tracker);
    });
}

#[test]
fn loom_a_newcomers_bytes_on_their_way_are_not_missed() {
    model(Some(5), || {
        let tracker = tracker(4, 2);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        let newcomer = {
            let tracker = tracker.clone();
            // With a batch on top, which the one who waits can have.
            thread::spawn(move || tracker.charge(one.index, 0, units(1)).map(Credit::absorb).is_ok())
        };
        let mut waits = Waits::begin(&tracker, two, 3);
        assert!(newcomer.join().unwrap());
        assert!(waits.run(&tracker), "a wake-up was lost");
        check(&tracker, &[(one, 1), (two, 3)]);
        waits.end(&tracker);
        tracker.uncharge(one.index, tracker.slot(one.index), units(1));
        all_can_be_had(&tracker, two, 4);
        tracker.uncharge(two.index, tracker.slot(two.index), units(4));
        clean(&tracker);
    });
}

#[test]
fn loom_who_is_woken_to_go_on_serves_the_rest() {
    model(Some(4), || {
        let tracker = tracker(3, 0);
        let [one, two, three] = [(); 3].map(|()| register(&tracker, None, 0));
        tracker.charge(one.index, 0, units(3)).unwrap().absorb();
        let mut first = [(); 2].map(|()| Waits::begin(&tracker, two, 1));
        let last = Waits::begin(&tracker, three, 1);
        let frees = {
            let tracker = tracker.clone();
            thread::spawn(move || tracker.uncharge(one.index, tracker.slot(one.index), units(3)))
        };
        // One more than one thread serves: whoever is woken for that may be leaving.
        last.end(&tracker);
        let mut last = Waits::begin(&tracker, three, 1);
        frees.join().unwrap();
        let [a, b] = &mut first;
        settle(&tracker, &mut [a, b, &mut last]);
        for waits in first.into_iter().chain([last]) {
            assert!(waits.key.is_none(), "a wake-up was lost");
            waits.end(&tracker);
        }
        clean(&tracker);
    });
}

#[test]
fn loom_two_who_free_serve_two_in_order() {
    model(Some(4), || {
        let tracker = tracker(4, 0);
        let [one, two, three] = [(); 3].map(|()| register(&tracker, None, 0));
        tracker.charge(one.index, 0, units(4)).unwrap().absorb();
        let mut first = Waits::begin(&tracker, two, 3);
        let mut second = Waits::begin(&tracker, three, 1);
        let frees = {
            let tracker = tracker.clone();
            thread::spawn(move || tracker.uncharge(one.index, tracker.slot(one.index), units(2)))
        };
        tracker.uncharge(one.index, tracker.slot(one.index), units(2));
        frees.join().unwrap();
        settle(&tracker, &mut [&mut first, &mut second]);
        assert!(first.key.is_none() && second.key.is_none(), "a wake-up was lost");
        first.end(&tracker);
        second.end(&tracker);
        clean(&tracker);
    });
}

#[test]
fn loom_the_first_in_line_is_not_overtaken() {
    model(Some(5), || {
        let tracker = tracker(4, 0);
        let [one, two, three] = [(); 3].map(|()| register(&tracker, None, 0));
        tracker.charge(one.index, 0, units(4)).unwrap().absorb();
        let mut first = Waits::begin(&tracker, two, 4);
        let greedy = {
            let tracker = tracker.clone();
            // Comes and takes what it finds; gives nothing back.
            thread::spawn(move || tracker.charge(three.index, 0, units(1)).map(Credit::absorb).is_ok())
        };
        tracker.uncharge(one.index, tracker.slot(one.index), units(2));
        tracker.uncharge(one.index, tracker.slot(one.index), units(2));
        assert!(!greedy.join().unwrap(), "a newcomer overtook");
        assert!(first.run(&tracker), "the first in line is starved");
        first.end(&tracker);
        clean(&tracker);
    });
}

#[test]
fn loom_who_leaves_while_being_served_gives_it_to_the_next() {
    model(Some(5), || {
        let tracker = tracker(4, 0);
        let [one, two, three] = [(); 3].map(|()| register(&tracker, None, 0));
        tracker.charge(one.index, 0, units(4)).unwrap().absorb();
        let first = Waits::begin(&tracker, two, 3);
        let mut second = Waits::begin(&tracker, three, 4);
        let frees = {
            let tracker = tracker.clone();
            thread::spawn(move || tracker.uncharge(one.index, tracker.slot(one.index), units(4)))
        };
        let key = first.key.unwrap();
        // Dropped without a look: in line, being tried, or granted.
        tracker.leave_line(two, key);
        frees.join().unwrap();
        assert!(second.run(&tracker), "a wake-up was lost");
        check(&tracker, &[(three, 4)]);
        second.end(&tracker);
        clean(&tracker);
    });
}

#[test]
fn loom_a_crate_retired_while_one_of_it_begins_to_wait_leaves_no_ticket() {
    model(Some(4), || {
        let tracker = tracker(4, 0);
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        tracker.charge(one.index, 0, units(4)).unwrap().absorb();
        let retires = {
            let tracker = tracker.clone();
            thread::spawn(move || tracker.retire(two).unwrap())
        };
        let key = match tracker.charge(two.index, two.generation, units(2)) {
            Ok(_) => panic!("there is nothing"),
            Err(shortage) => {
                let request = Request { id: two, n: units(2), needs: units(2), asked: 2 };
                tracker.stand_in_line(&request, shortage)
            }
        };
        retires.join().unwrap();
        if let Ok(key) = key {
            assert!(matches!(tracker.stands(key, None), Standing::Ended(_)), "its crate is gone");
        }
        tracker.uncharge(one.index, tracker.slot(one.index), units(4));
        clean(&tracker);
    });
}

#[test]
fn loom_three_crates_that_wait_for_one_another_all_get_theirs() {
    model(Some(4), || {
        let tracker = tracker(4, 0);
        let [one, two, three] = [(); 3].map(|()| register(&tracker, None, 0));
        tracker.charge(one.index, 0, units(3)).unwrap().absorb();
        // Each waits, uses what it got, and gives it back; the main one frees.
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || {
                let mut waits = Waits::begin(&tracker, two, 3);
                if waits.run(&tracker) {
                    waits.end(&tracker);
                    return None;
                }
                Some(waits)
            })
        };
        let third = Waits::begin(&tracker, three, 4);
        tracker.uncharge(one.index, tracker.slot(one.index), units(3));
        let second = other.join().unwrap();
        let mut left = [second, Some(third)].into_iter().flatten().collect::<Vec<_>>();
        // Whoever got his gives it back: then the other gets his.
        for _ in 0..2 {
            left = left
                .into_iter()
                .filter_map(|mut waits| {
                    if waits.run(&tracker) {
                        waits.end(&tracker);
                        None
                    } else {
                        Some(waits)
                    }
                })
                .collect();
        }
        assert!(left.is_empty(), "deadlock");
        clean(&tracker);
    });
}
