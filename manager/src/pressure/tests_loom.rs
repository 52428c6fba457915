//! No crossing is lost, under every schedule that loom tries: at rest a watch says what is, and its marks are where
//! the next crossing is.

use loom::thread;

use super::PressureSettings;
use crate::budget::tests_loom::{PREEMPTIONS, charge, model, register, tracker};

/// Half of 4 units; over at 1.
fn half() -> PressureSettings {
    PressureSettings::new().levels(&[50])
}

#[test]
fn loom_a_charge_that_meets_a_new_watch_is_seen() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let id = register(&tracker, None, 4);
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || charge(&tracker, id, 3).unwrap().absorb())
        };
        let watch = tracker.place_watch(half().over(id), None).unwrap();
        other.join().unwrap();
        assert_eq!(tracker.watched_level(watch), Some(50));
        assert_eq!(tracker.take_events(watch).into_iter().flatten().count(), 1);
    });
}

#[test]
fn loom_a_charge_that_goes_up_to_a_node_with_a_new_watch_is_seen() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let id = register(&tracker, None, 0);
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || charge(&tracker, id, 3).unwrap().absorb())
        };
        let watch = tracker.place_watch(half(), None).unwrap();
        other.join().unwrap();
        assert_eq!(tracker.watched_level(watch), Some(50));
    });
}

#[test]
fn loom_a_release_and_a_charge_around_a_level_leave_it_as_it_is() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        let id = register(&tracker, None, 4);
        let watch = tracker.place_watch(half().over(id), None).unwrap();
        charge(&tracker, id, 3).unwrap().absorb();
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || {
                tracker.uncharge(id.index, tracker.slot(id.index), crate::budget::Units::new(3).unwrap())
            })
        };
        let kept = charge(&tracker, id, 1).unwrap();
        other.join().unwrap();
        // 3, or 4, then 1.
        assert_eq!(tracker.watched_level(watch), None);
        let more = charge(&tracker, id, 1).unwrap();
        assert_eq!(tracker.watched_level(watch), Some(50));
        drop((kept, more));
        assert_eq!(tracker.watched_level(watch), None);
    });
}

#[test]
fn loom_two_charges_that_only_together_reach_a_level_reach_it() {
    model(Some(PREEMPTIONS), || {
        let tracker = tracker(4, 0);
        // The pool's word, by way of two crates.
        let (one, two) = (register(&tracker, None, 0), register(&tracker, None, 0));
        let watch = tracker.place_watch(half(), None).unwrap();
        let other = {
            let tracker = tracker.clone();
            thread::spawn(move || charge(&tracker, one, 1).unwrap().absorb())
        };
        let kept = charge(&tracker, two, 1).unwrap();
        other.join().unwrap();
        assert_eq!(tracker.watched_level(watch), Some(50));
        drop(kept);
        assert_eq!(tracker.watched_level(watch), None);
    });
}
