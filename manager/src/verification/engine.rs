//! The checks and how many of them are made.

use crate::budget::{BudgetTracker, CrateId, CrateName};
use crate::provider::{Block, Request};

#[cfg(feature = "verification")]
use crate::sync::{AtomicU32, Ordering};

/// How much is checked. Ordered: each level checks all that the ones below it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum VerificationLevel {
    /// Nothing.
    #[default]
    Off,
    /// Before and after every allocation and deallocation: the invariants of the touched crate's
    /// budget, that it is charged for the block, the block's size and alignment.
    Basic,
}

/// A check that failed: a defect of this crate, of a provider, or of an adapter; never of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("crate `{name}`: {invariant} does not hold ({found}, should be {expected})")]
pub struct Violation {
    /// The crate.
    pub id: CrateId,
    /// Its name.
    pub name: CrateName,
    /// What must be true, as a formula or in words.
    pub invariant: &'static str,
    /// The amount found.
    pub found: usize,
    /// What it is measured against.
    pub expected: usize,
}

/// Checks the crate an operation touches. Without the feature `verification` the level is always
/// `Off` and nothing is compiled in.
#[derive(Debug)]
pub struct VerificationEngine {
    #[cfg(feature = "verification")]
    level: VerificationLevel,
    #[cfg(feature = "verification")]
    violations: AtomicU32,
}

impl VerificationEngine {
    pub(crate) fn new(level: VerificationLevel) -> Self {
        #[cfg(not(feature = "verification"))]
        let _ = level;
        Self {
            #[cfg(feature = "verification")]
            level,
            #[cfg(feature = "verification")]
            violations: AtomicU32::new(0),
        }
    }

    /// The level in force.
    #[inline]
    pub fn level(&self) -> VerificationLevel {
        #[cfg(feature = "verification")]
        return self.level;
        #[cfg(not(feature = "verification"))]
        VerificationLevel::Off
    }

    /// Checks that failed so far, those in a drop, which can return no error, included.
    pub fn violations(&self) -> u32 {
        #[cfg(feature = "verification")]
        return self.violations.load(Ordering::Relaxed);
        #[cfg(not(feature = "verification"))]
        0
    }

    /// Before a crate is charged for a request.
    #[inline]
    pub(crate) fn before_allocation(&self, tracker: &BudgetTracker, id: CrateId) -> Result<(), Violation> {
        self.checked(|| budget(tracker, id, 0))
    }

    /// After a block was handed out, while its crate is charged for it.
    #[inline]
    pub(crate) fn after_allocation(
        &self,
        tracker: &BudgetTracker,
        id: CrateId,
        request: &Request,
        block: &Block,
    ) -> Result<(), Violation> {
        self.checked(|| {
            let misaligned = block.ptr.addr().get() % request.align;
            let checks = [
                ("block.size = request.size", block.size, request.size, block.size == request.size),
                ("block.cost >= block.size", block.cost, block.size, block.cost >= block.size),
                ("block.reserved >= block.size", block.reserved, block.size, block.reserved >= block.size),
                ("block.ptr mod request.align = 0", misaligned, 0, misaligned == 0),
            ];
            check(tracker, id, checks)?;
            budget(tracker, id, block.cost)
        })
    }

    /// Before a block is given back, while its crate is still charged `bytes` for it.
    #[inline]
    pub(crate) fn before_deallocation(
        &self,
        tracker: &BudgetTracker,
        id: CrateId,
        bytes: usize,
        block: &Block,
    ) -> Result<(), Violation> {
        self.checked(|| {
            let charged = ("charge >= block.cost", bytes, block.cost, bytes >= block.cost);
            check(tracker, id, [charged])?;
            budget(tracker, id, bytes)
        })
    }

    /// After a block and its charge were given back.
    #[inline]
    pub(crate) fn after_deallocation(&self, tracker: &BudgetTracker, id: CrateId) -> Result<(), Violation> {
        self.checked(|| budget(tracker, id, 0))
    }

    /// Makes a check where the level asks for one, and counts it where it fails.
    #[inline]
    fn checked(&self, check: impl FnOnce() -> Result<(), Violation>) -> Result<(), Violation> {
        if self.level() == VerificationLevel::Off {
            return Ok(());
        }
        let checked = check();
        #[cfg(feature = "verification")]
        if checked.is_err() {
            self.violations.fetch_add(1, Ordering::Relaxed);
        }
        checked
    }
}

/// The invariants of a crate's budget, of which `charged` bytes are known to be in use.
fn budget(tracker: &BudgetTracker, id: CrateId, charged: usize) -> Result<(), Violation> {
    let state = tracker.slot(id.index).budget.load();
    let bytes = |units| tracker.scale().bytes(units);
    let (used, held) = (bytes(state.used), bytes(state.held));
    let (floor, limit) = (bytes(state.floor), bytes(state.limit));
    check(
        tracker,
        id,
        [
            ("used >= charge of a live block", used, charged, used >= charged),
            ("used <= held", used, held, state.use_is_backed()),
            ("floor <= held and floor <= limit", floor, held.min(limit), state.floor_is_backed()),
        ],
    )
}

fn check<const N: usize>(
    tracker: &BudgetTracker,
    id: CrateId,
    checks: [(&'static str, usize, usize, bool); N],
) -> Result<(), Violation> {
    for (invariant, found, expected, holds) in checks {
        if !holds {
            return Err(Violation { id, name: tracker.name_of(id.index), invariant, found, expected });
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "std", feature = "verification", not(loom)))]
mod tests;
