//! Conservation: what is held below a budget is part of what it has given out, all the way up, and the book of loans
//! says what the words do.
//!
//! Bytes on their way between two budgets are, at every moment, in the use of the upper one: they are taken into use
//! there before the lower one holds them, and leave its use after that one has let them go. So are floors, and room that
//! is lent. So `used >= sum of held(children)` is true at every moment, whatever other threads are doing, but not of
//! numbers read one after another. A sum that is too large is believed only where [`LOOKS`] looks in a row, at all words
//! that are part of it, see the same; else somebody is at work there, and nothing is said. (A false alarm would take every
//! word that changed between two looks to be back at the very value it had, each time.) What a lost byte leaves, use that
//! nobody holds, cannot be told from bytes on their way: that is found at rest, by
//! [`UnifiedMemoryManager::verify`](crate::UnifiedMemoryManager::verify).
//!
//! The book's sums change with the words under the book's lock, so what they say is exact at any time.

use super::invariant::{Mismatch, Subject};
use crate::budget::{Amount, BudgetTracker, Index, MAX_DEPTH, ROOT};
use crate::sharing::{Side, Stage};
use crate::sync::Ordering;

/// Looks that must agree. Of looks beside a guest that is charged and gives back in a loop, one in five saw just what the
/// one before had, at the worst: eight would be an alarm in hours of it. The first that differs ends it, so more cost nothing.
const LOOKS: usize = 64;

/// A crate and all above it.
const PATH: usize = MAX_DEPTH as usize + 1;

/// A node's word in bytes' units, and the sums over those directly below it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    used: u64,
    floor: u64,
    held_below: u64,
    /// Floors, and what was lent and is owed: that is still part of this node's floor.
    floors_below: u64,
    /// Of all words that were read, each with whose it is.
    words: u64,
}

/// Reads the nodes of `path` and all directly below one of them: where a node is in it, `place` says.
fn look(tracker: &BudgetTracker, sums: &mut [Sums], place: impl Fn(Index) -> Option<usize>) {
    let owed = |index: Index| u64::from(tracker.sums(index).2.get());
    for index in tracker.nodes() {
        let slot = tracker.slot(index);
        let parent = slot.parent.load(Ordering::SeqCst);
        let above = (index != ROOT).then(|| place(parent)).flatten();
        let own = place(index);
        if above.is_none() && own.is_none() {
            continue;
        }
        let state = slot.budget.load();
        #[cfg(all(test, feature = "std"))]
        between(index);
        let [used, held, floor] = [state.used, state.held, state.floor].map(|units| u64::from(units.get()));
        let word = [u64::from(index), used, held, floor].into_iter().fold(0, mix);
        if let Some(at) = own {
            (sums[at].used, sums[at].floor) = (used, floor);
            sums[at].words = mix(sums[at].words, word);
        }
        if let Some(at) = above {
            let floors = floor + if state.owes { owed(index) } else { 0 };
            sums[at].held_below += held;
            sums[at].floors_below += floors;
            sums[at].words = mix(mix(sums[at].words, word), floors);
        }
    }
}

#[cfg(all(test, feature = "std"))]
std::thread_local! {
    /// What others do after a look has seen the word of a node.
    pub(super) static BETWEEN: core::cell::RefCell<Option<Work>> = const { core::cell::RefCell::new(None) };
}

#[cfg(all(test, feature = "std"))]
pub(super) type Work = alloc::boxed::Box<dyn FnMut(Index)>;

#[cfg(all(test, feature = "std"))]
fn between(index: Index) {
    BETWEEN.with_borrow_mut(|work| work.iter_mut().for_each(|work| work(index)));
}

/// Tells two lists of words from one another.
fn mix(seen: u64, word: u64) -> u64 {
    (seen.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The touched crate and those above it, the root last.
fn path_of(tracker: &BudgetTracker, index: Index) -> ([Index; PATH], usize) {
    let (mut path, mut len, mut at) = ([index; PATH], 1, index);
    while at != ROOT && len < PATH {
        at = tracker.slot(at).parent.load(Ordering::SeqCst);
        path[len] = at;
        len += 1;
    }
    (path, len)
}

/// Checks every node from the touched crate up by `excess`, which says how much of what is below it does not have.
fn checked(
    subject: &Subject<'_>,
    excess: impl Fn(&BudgetTracker, Index, &Sums) -> Option<(u64, u64)>,
) -> Result<(), Mismatch> {
    let tracker = &subject.manager.tracker;
    let (path, len) = path_of(tracker, subject.id.index);
    let read = || {
        let mut sums = [Sums::default(); PATH];
        look(tracker, &mut sums[..len], |index| path[..len].iter().position(|&at| at == index));
        sums
    };
    let first = read();
    let wrong = path[..len].iter().zip(&first).find_map(|(&at, sums)| Some((at, excess(tracker, at, sums)?)));
    let Some((at, (has, below))) = wrong else { return Ok(()) };
    for _ in 1..LOOKS {
        if read() != first {
            return Ok(());
        }
    }
    Err(mismatch(tracker, at, has, below))
}

fn mismatch(tracker: &BudgetTracker, at: Index, found: u64, expected: u64) -> Mismatch {
    let bytes =
        |units: u64| usize::try_from(units).unwrap_or(usize::MAX).saturating_mul(tracker.scale().unit());
    Mismatch { id: tracker.id_at(at), found: bytes(found), expected: bytes(expected) }
}

/// See the table.
pub(super) fn use_covers_children(subject: &Subject<'_>) -> Result<(), Mismatch> {
    checked(subject, |_, _, sums| (sums.used < sums.held_below).then_some((sums.used, sums.held_below)))
}

/// See the table.
pub(super) fn floor_covers_children(subject: &Subject<'_>) -> Result<(), Mismatch> {
    checked(subject, |_, _, sums| (sums.floor < sums.floors_below).then_some((sums.floor, sums.floors_below)))
}

/// See the table.
pub(super) fn book_agrees(subject: &Subject<'_>) -> Result<(), Mismatch> {
    book_agrees_with(&subject.manager.tracker, subject.id.index)
}

fn book_agrees_with(tracker: &BudgetTracker, index: Index) -> Result<(), Mismatch> {
    let slot = tracker.slot(index);
    tracker.book().with(|book| {
        let number = slot.sharing.load(Ordering::SeqCst);
        let standing = book.standing(number);
        let (mut lent, mut borrowed, mut owed) = (0, 0, 0);
        for side in [Side::Lender, Side::Borrower] {
            for record in book.loans_of(number, side).filter_map(|loan| book.loan(book.key(loan)?)) {
                let sum = match (side, record.stage) {
                    (Side::Lender, _) => &mut lent,
                    (Side::Borrower, Stage::Active) => &mut borrowed,
                    (Side::Borrower, _) => &mut owed,
                };
                *sum += u64::from(record.outstanding.get());
            }
        }
        let state = slot.budget.load();
        let kept = u64::from(slot.borrowed.load(Ordering::SeqCst));
        let known = [standing.lent, standing.borrowed, standing.owed].map(|units| u64::from(units.get()));
        let backed = u64::from(state.floor.plus_saturating(&standing.owed).get());
        let pairs = [
            (known[0], lent),
            (known[1], borrowed),
            (known[2], owed),
            (kept, borrowed),
            (u64::from(state.owes), u64::from(owed > 0)),
        ];
        let wrong = pairs.into_iter().find(|(found, expected)| found != expected);
        match wrong {
            Some((found, expected)) => Err(mismatch(tracker, index, found, expected)),
            None if backed > u64::from(state.held.get()) => {
                Err(mismatch(tracker, index, u64::from(state.held.get()), backed))
            }
            None => Ok(()),
        }
    })
}

/// All nodes, and exactly: only where no operation is under way.
pub(super) fn all_adds_up(subject: &Subject<'_>) -> Result<(), Mismatch> {
    if !subject.at_rest {
        return Ok(());
    }
    let tracker = &subject.manager.tracker;
    for_all(tracker, |index, sums| {
        let slot = tracker.slot(index);
        let (lent, borrowed, _) = tracker.sums(index);
        let units = |units: crate::budget::Units| u64::from(units.get());
        // The pool is charged for nothing itself. What another has more in use than is held below it, it uses itself.
        if sums.used < sums.held_below || index == ROOT && sums.used != sums.held_below {
            return Err(mismatch(tracker, index, sums.used, sums.held_below));
        }
        let own = u64::from(slot.own_guarantee.load(Ordering::SeqCst));
        let (floor, expected) = (sums.floor + units(lent), own + units(borrowed) + sums.floors_below);
        if floor != expected {
            return Err(mismatch(tracker, index, floor, expected));
        }
        book_agrees_with(tracker, index)
    })
}

#[cfg(feature = "alloc")]
fn for_all(
    tracker: &BudgetTracker,
    mut check: impl FnMut(Index, &Sums) -> Result<(), Mismatch>,
) -> Result<(), Mismatch> {
    let count = tracker.nodes().last().map_or(1, |last| last as usize + 1);
    let mut sums = alloc::vec![Sums::default(); count];
    look(tracker, &mut sums, |index| (index as usize).lt(&count).then_some(index as usize));
    tracker.nodes().try_for_each(|index| sums.get(index as usize).map_or(Ok(()), |sums| check(index, sums)))
}

/// Without memory for all sums: a walk over all nodes for each.
#[cfg(not(feature = "alloc"))]
fn for_all(
    tracker: &BudgetTracker,
    mut check: impl FnMut(Index, &Sums) -> Result<(), Mismatch>,
) -> Result<(), Mismatch> {
    tracker.nodes().try_for_each(|index| {
        let mut sums = [Sums::default()];
        look(tracker, &mut sums, |at| (at == index).then_some(0));
        check(index, &sums[0])
    })
}
