//! A shadow of the ledger: what every crate was charged, allowed and promised, and who owes whom, in plain sums of what was
//! told. It knows no stock, no seats, no credit on its way, and none of the ledger's arithmetic. At rest every word must be
//! what follows from it:
//!
//! ```text
//! used(v)  = own(v) + sum of held(children)
//! floor(v) = guarantee(v) - lent(v) + borrowed(v) + sum of floor(children) + sum of owed(children)
//! limit(v) = limit set - lent(v) + borrowed(v) + passed down through v - passed up through v
//! held(pool) = the larger of its limit and its use
//! ```
//!
//! and the book's sums those of the loans that were told. Whoever drops a manager has it looked at once more: a test that
//! uses one checks this at its end, whatever else it is about.

use alloc::collections::BTreeMap;

use super::backend::VerificationBackend;
use super::invariant::{Invariant, Mismatch, Subject};
use super::level::VerificationLevel::Full;
use super::operation::Operation;
use crate::budget::{BudgetTracker, CrateId, Index, ROOT, Units};
use crate::lock::Lock;
use crate::sync::Ordering;

/// See the head of this file.
pub(crate) struct Ghost(Lock<Shadow>);

impl Default for Ghost {
    fn default() -> Self {
        Self(Lock::new(Shadow::default()))
    }
}

#[derive(Default)]
struct Shadow {
    nodes: BTreeMap<Index, Node>,
    /// By lender and borrower.
    loans: BTreeMap<(Index, Index), Lent>,
    /// The first thing told that cannot be: what was found, and what it should have been.
    impossible: Option<Mismatch>,
}

struct Node {
    id: CrateId,
    parent: Index,
    /// Crates directly below it.
    children: usize,
    /// Charged to itself.
    own: usize,
    limit: usize,
    guarantee: usize,
}

#[derive(Default)]
struct Lent {
    active: usize,
    owed: usize,
}

/// What the words are compared with, in the order of the checks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    History,
    Use,
    Floor,
    Limit,
    Loans,
}

static INVARIANTS: &[Invariant] = &[
    Invariant::new(
        "ghost-history",
        "nothing is given back that was not taken, and nobody is there twice",
        Full,
        |it| only(it, Part::History),
    ),
    Invariant::new(
        "ghost-use",
        "used = what was charged and not given back + sum of held(children)",
        Full,
        |it| only(it, Part::Use),
    ),
    Invariant::new(
        "ghost-floor",
        "floor = guarantee - lent + borrowed + sum of floor and owed(children)",
        Full,
        |it| only(it, Part::Floor),
    ),
    Invariant::new(
        "ghost-limit",
        "limit = what was set - lent + borrowed + passed down - passed up",
        Full,
        |it| only(it, Part::Limit),
    ),
    Invariant::new(
        "ghost-loans",
        "the book's sums are those of what was lent, recalled and came back",
        Full,
        |it| only(it, Part::Loans),
    ),
];

fn only(subject: &Subject<'_>, part: Part) -> Result<(), Mismatch> {
    if !subject.at_rest {
        return Ok(());
    }
    let tracker = &subject.manager.tracker;
    match tracker.observers.ghost.agrees(tracker) {
        Err((other, mismatch)) if other == part => Err(mismatch),
        _ => Ok(()),
    }
}

impl VerificationBackend for Ghost {
    fn invariants(&self) -> &'static [Invariant] {
        INVARIANTS
    }

    fn operation(&self, operation: &Operation) {
        self.0.with(|shadow| shadow.follow(operation));
    }
}

impl Shadow {
    fn follow(&mut self, operation: &Operation) {
        match *operation {
            Operation::Registered { id, parent, limit, guarantee } => {
                let parent = parent.map_or(ROOT, |parent| parent.index);
                if let Some(above) = self.nodes.get_mut(&parent) {
                    above.children += 1;
                }
                let node = Node { id, parent, children: 0, own: 0, limit, guarantee };
                if let Some(former) = self.nodes.insert(id.index, node) {
                    self.cannot_be(id, former.id.generation as usize, id.generation as usize);
                }
            }
            Operation::Retired { id } => {
                let loans = self.sums(id.index).into_iter().sum::<usize>();
                let left = self.nodes.remove(&id.index);
                let above = left.as_ref().and_then(|node| self.nodes.get_mut(&node.parent));
                if let Some(above) = above {
                    above.children = above.children.saturating_sub(1);
                }
                let left = left.map_or(usize::MAX, |node| node.own + node.children + loans);
                if left != 0 {
                    self.cannot_be(id, left, 0);
                }
            }
            Operation::Charged { id, bytes } => self.change(id, |node| {
                node.own += bytes;
                true
            }),
            Operation::Uncharged { id, bytes } => self.change(id, |node| {
                let enough = node.own >= bytes;
                node.own = node.own.saturating_sub(bytes);
                enough
            }),
            Operation::Limited { id, bytes } => self.change(id, |node| {
                node.limit = bytes;
                true
            }),
            Operation::Guaranteed { id, bytes } => self.change(id, |node| {
                node.guarantee = bytes;
                true
            }),
            Operation::Lent { lender, borrower, bytes, .. } => {
                self.loans.entry((lender.index, borrower.index)).or_default().active += bytes;
            }
            Operation::Owed { lender, borrower, bytes } => {
                let lent = self.loans.entry((lender.index, borrower.index)).or_default();
                let enough = lent.active >= bytes;
                lent.active = lent.active.saturating_sub(bytes);
                lent.owed += bytes;
                if !enough {
                    self.cannot_be(borrower, 0, bytes);
                }
            }
            Operation::CameBack { lender, borrower, bytes, owed } => {
                let lent = self.loans.entry((lender.index, borrower.index)).or_default();
                let sum = if owed { &mut lent.owed } else { &mut lent.active };
                let enough = *sum >= bytes;
                *sum = sum.saturating_sub(bytes);
                if !enough {
                    self.cannot_be(borrower, 0, bytes);
                }
            }
            // The pool's limit is its own; the rest moves no bytes itself.
            Operation::Started { .. }
            | Operation::Refused { .. }
            | Operation::TotalSet { .. }
            | Operation::Allowed { .. }
            | Operation::Forbidden { .. }
            | Operation::Recalling { .. }
            | Operation::LetGo { .. } => {}
        }
    }

    /// Changes a crate that is there, by a change that can be.
    fn change(&mut self, id: CrateId, change: impl FnOnce(&mut Node) -> bool) {
        let possible = self.nodes.get_mut(&id.index).filter(|node| node.id == id).is_some_and(change);
        if !possible {
            self.cannot_be(id, 0, 1);
        }
    }

    fn cannot_be(&mut self, id: CrateId, found: usize, expected: usize) {
        self.impossible.get_or_insert(Mismatch { id, found, expected });
    }

    fn above(&self, index: Index) -> impl Iterator<Item = Index> + '_ {
        let parent = move |at: &Index| self.nodes.get(at).map(|node| node.parent);
        core::iter::successors(parent(&index), parent)
    }

    /// Lent by a crate, lent to it and not owed, owed by it.
    fn sums(&self, index: Index) -> [usize; 3] {
        let mut sums = [0; 3];
        for (&(lender, borrower), lent) in &self.loans {
            if lender == index {
                sums[0] += lent.active + lent.owed;
            }
            if borrower == index {
                sums[1] += lent.active;
                sums[2] += lent.owed;
            }
        }
        sums
    }

    /// Passed down through a node, and up.
    fn passed(&self, index: Index) -> (usize, usize) {
        let (mut down, mut up) = (0, 0);
        for (&(lender, borrower), lent) in &self.loans {
            let amount = lent.active + lent.owed;
            match (self.above(lender).any(|at| at == index), self.above(borrower).any(|at| at == index)) {
                (true, false) => up += amount,
                (false, true) => down += amount,
                _ => {}
            }
        }
        (down, up)
    }
}

impl Ghost {
    /// Whether every word is what follows from what was told. To be asked while no operation is under way.
    fn agrees(&self, tracker: &BudgetTracker) -> Result<(), (Part, Mismatch)> {
        self.0.with(|shadow| {
            if let Some(impossible) = shadow.impossible {
                return Err((Part::History, impossible));
            }
            let bytes = |units: Units| tracker.scale().bytes(units);
            let state = |index: Index| tracker.slot(index).budget.load();
            // How many are below a node, what they hold, and their floors with what they owe.
            let mut below = BTreeMap::<Index, [usize; 3]>::new();
            for (&at, node) in &shadow.nodes {
                let (sums, now) = (below.entry(node.parent).or_default(), state(at));
                sums[0] += 1;
                sums[1] += bytes(now.held);
                sums[2] += bytes(now.floor) + shadow.sums(at)[2];
            }
            for index in shadow.nodes.keys().copied().chain([ROOT]) {
                let (node, now) = (shadow.nodes.get(&index), state(index));
                let id = node.map_or_else(|| tracker.id_at(ROOT), |node| node.id);
                let differ = |part, found, expected| match found == expected {
                    true => Ok(()),
                    false => Err((part, Mismatch { id, found, expected })),
                };
                differ(Part::History, tracker.id_at(index).generation as usize, id.generation as usize)?;
                let [children, held, floors] = below.get(&index).copied().unwrap_or_default();
                differ(Part::History, tracker.slot(index).children() as usize, children)?;
                differ(Part::Use, bytes(now.used), node.map_or(0, |node| node.own) + held)?;

                let [lent, borrowed, owed] = shadow.sums(index);
                let floor = node.map_or(0, |node| node.guarantee) + borrowed + floors;
                differ(Part::Floor, bytes(now.floor) + lent, floor)?;

                let (down, up) = shadow.passed(index);
                match node {
                    Some(node) => {
                        differ(Part::Limit, bytes(now.limit) + lent + up, node.limit + borrowed + down)?
                    }
                    None => differ(Part::Limit, bytes(now.held), bytes(now.limit.max(now.used)))?,
                }

                let (of_lent, of_borrowed, of_owed) = tracker.sums(index);
                for (found, expected) in [(of_lent, lent), (of_borrowed, borrowed), (of_owed, owed)] {
                    differ(Part::Loans, bytes(found), expected)?;
                }
                let noted = tracker.slot(index).borrowed.load(Ordering::SeqCst);
                differ(Part::Loans, bytes(Units::new(noted).unwrap_or(Units::MAX)), borrowed)?;
                differ(Part::Loans, usize::from(now.owes), usize::from(owed > 0))?;
            }
            Ok(())
        })
    }
}

impl BudgetTracker {
    /// Panics where the shadow does not agree: for tests, while no operation is under way.
    #[track_caller]
    pub(crate) fn assert_followed(&self) {
        if let Err((part, Mismatch { id, found, expected })) = self.observers.ghost.agrees(self) {
            let invariant = &INVARIANTS[part as usize];
            panic!(
                "crate {id} `{}`: {} does not hold: {} (found {found}, should be {expected})",
                self.name_of(id.index),
                invariant.name(),
                invariant.formula()
            );
        }
    }
}

/// Nothing is under way any more: the last look.
impl Drop for BudgetTracker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_followed();
        }
    }
}
