//! Loans in every order of things: what must be true of words and book together.

use std::cell::Cell;
use std::time::Duration;

use crate::UnifiedMemoryManager;
use crate::budget::{BudgetTracker, CrateId, Index, ROOT};
use crate::sync::Ordering;

mod costs;
mod ladder;
mod sequences;
mod states;
mod stress;

thread_local! {
    /// The clock of single-threaded tests.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A crate as the host made it: what it uses itself, and the limit that was set.
#[derive(Clone, Copy, Debug)]
struct Host {
    id: CrateId,
    own: u64,
    limit: u64,
}

/// All that must be true when nothing is in transit, by walking every node and the whole book:
///
/// ```text
/// used(v)  = own use + sum of held(children)                                                    I1
/// floor(v) = own guarantee - lent + borrowed + sum of floor(children) + sum of owed(children)
/// limit(v) = limit set - lent + borrowed + passed down - passed up
/// floor + owed <= held, used <= held, floor <= limit                                            I3, I4
/// ```
fn audit(tracker: &BudgetTracker, hosts: &[Host], batch: u64) {
    #[cfg(feature = "formal-verification")]
    tracker.assert_followed();
    let loans = tracker.book().with(|book| {
        book.audit();
        let open = (1..book.loans_up_to()).filter(|&number| book.is_open(number));
        let loans = open.map(|number| {
            let record = book.loan(book.key(number).unwrap()).unwrap();
            (record.ids.map(|id| id.index), u64::from(record.outstanding.get()))
        });
        loans.collect::<Vec<_>>()
    });
    let parent = |index: Index| tracker.slot(index).parent.load(Ordering::SeqCst);
    let state = |index: Index| tracker.slot(index).budget.load();
    let standing = |index: Index| {
        let number = tracker.slot(index).sharing.load(Ordering::SeqCst);
        tracker.book().with(|book| book.standing(number))
    };
    let above = |index: Index| {
        let mut nodes = vec![];
        let mut at = index;
        while at != ROOT {
            at = parent(at);
            nodes.push(at);
        }
        nodes
    };
    let mut debtors = 0;
    for index in hosts.iter().map(|host| host.id.index).chain([ROOT]) {
        let host = hosts.iter().find(|host| host.id.index == index);
        let (s, book) = (state(index), standing(index));
        let [used, held, floor, limit] =
            [s.used, s.held, s.floor, s.limit].map(|units| u64::from(units.get()));
        let [lent, borrowed, owed] =
            [book.lent, book.borrowed, book.owed].map(|units| u64::from(units.get()));
        let what = format!("{index}: {s:?}, lent {lent}, borrowed {borrowed}, owed {owed}; {loans:?}");
        let below: Vec<Index> =
            hosts.iter().map(|host| host.id.index).filter(|&child| parent(child) == index).collect();
        let sum = |of: &dyn Fn(Index) -> u64| below.iter().map(|&child| of(child)).sum::<u64>();
        assert!(!s.closed, "{what}");
        assert_eq!(
            used,
            host.map_or(0, |host| host.own) + sum(&|at| state(at).held.get().into()),
            "I1 {what}"
        );
        let own = u64::from(tracker.slot(index).own_guarantee.load(Ordering::SeqCst));
        let below_floor = sum(&|at| u64::from(state(at).floor.get()) + u64::from(standing(at).owed.get()));
        assert_eq!(floor + lent, own + borrowed + below_floor, "floors {what}");
        assert!(floor + owed <= held && used <= held && floor <= limit, "I3, I4 {what}");
        assert_eq!(s.owes, owed > 0, "owes {what}");
        debtors += u32::from(s.owes);
        if let Some(host) = host {
            let passed: i64 = loans
                .iter()
                .map(|&([lender, borrower], outstanding)| {
                    let (up, down) = (above(lender), above(borrower));
                    let n = outstanding as i64;
                    match (up.contains(&index), down.contains(&index)) {
                        (true, false) => -n,
                        (false, true) => n,
                        _ => 0,
                    }
                })
                .sum();
            assert_eq!(i64::from(book.passed), passed, "passed {what}");
            assert_eq!(
                limit as i64,
                host.limit as i64 + borrowed as i64 - lent as i64 + passed,
                "limit {what}"
            );
            let stock = u64::from(s.stock().get());
            let seated = tracker.slot(index).seat.load(Ordering::SeqCst) != 0;
            let keeps = borrowed + if seated { batch } else { 0 };
            let most = floor.max(used + keeps);
            assert!(s.owes || stock == 0 || held <= most, "stock is where nobody finds it {what}");
            let noted = tracker.slot(index).borrowed.load(Ordering::SeqCst);
            assert_eq!(u64::from(noted), borrowed, "{what}");
        }
    }
    assert_eq!(tracker.debtors(), debtors, "nodes that owe");
}

/// That nothing is left of anything, once all is dropped and retired.
fn assert_whole(manager: &UnifiedMemoryManager, total: usize) {
    let pool = manager.pool();
    assert_eq!((pool.used, pool.held, pool.floor, pool.children), (0, total, 0, 0));
    assert_eq!(manager.nodes().count(), 1, "a crate was left");
    manager.tracker.book().with(|book| {
        book.audit();
        assert_eq!(book.places(), [0, 0, 0], "standings, rules, loans");
    });
}
