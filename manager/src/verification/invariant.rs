//! What must be true: a name, a formula in words, the level from which it is checked, and the check.

use core::fmt;
use core::ops::Range;

use super::canary::Fence;
use super::level::VerificationLevel;
use super::live::Standing;
use crate::budget::CrateId;
use crate::manager::UnifiedMemoryManager;
use crate::provider::{Block, ProviderKind, Request};
use crate::snapshot::NodeSnapshot;

/// One thing that must be true.
pub struct Invariant {
    name: &'static str,
    formula: &'static str,
    level: VerificationLevel,
    check: fn(&Subject<'_>) -> Result<(), Mismatch>,
}

impl Invariant {
    /// An invariant that is checked from `level` on. The check runs with no lock held, on the thread whose operation it
    /// is; it must not allocate from the manager.
    pub const fn new(
        name: &'static str,
        formula: &'static str,
        level: VerificationLevel,
        check: fn(&Subject<'_>) -> Result<(), Mismatch>,
    ) -> Self {
        Self { name, formula, level, check }
    }

    /// What it is called.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What must be true, as a formula or in words.
    pub const fn formula(&self) -> &'static str {
        self.formula
    }

    /// The level from which it is checked.
    pub const fn level(&self) -> VerificationLevel {
        self.level
    }

    /// Checks it.
    ///
    /// # Errors
    /// What was found, and what it should have been.
    pub fn check(&self, subject: &Subject<'_>) -> Result<(), Mismatch> {
        (self.check)(subject)
    }
}

impl PartialEq for Invariant {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.formula, self.level) == (other.name, other.formula, other.level)
    }
}

impl Eq for Invariant {}

impl fmt::Debug for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invariant")
            .field("name", &self.name)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// What was found where something else should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The crate it was found at.
    pub id: CrateId,
    /// The amount found.
    pub found: usize,
    /// What it should have been.
    pub expected: usize,
}

/// What is checked: a crate that was just operated on, and the block it was about.
pub struct Subject<'a> {
    pub(crate) manager: &'a UnifiedMemoryManager,
    pub(crate) id: CrateId,
    pub(crate) block: Option<&'a Handed<'a>>,
    /// No operation is under way on any thread, says who asked for the check.
    pub(crate) at_rest: bool,
}

impl Subject<'_> {
    /// The manager.
    pub fn manager(&self) -> &UnifiedMemoryManager {
        self.manager
    }

    /// The crate that was operated on; the global budget's id where all of a manager is checked.
    pub fn crate_id(&self) -> CrateId {
        self.id
    }

    /// That crate's budget now.
    pub fn node(&self) -> NodeSnapshot {
        self.manager.look_at(self.id.index)
    }

    /// An [`Err`] that names this crate, unless `holds`.
    ///
    /// # Errors
    /// As said.
    pub fn expect(&self, holds: bool, found: usize, expected: usize) -> Result<(), Mismatch> {
        if holds { Ok(()) } else { Err(Mismatch { id: self.id, found, expected }) }
    }
}

/// A block that was just handed out or grown, or is about to be freed.
pub(crate) struct Handed<'a> {
    /// What was asked for, where it was just handed out.
    pub(crate) request: Option<&'a Request>,
    /// The block as its owner sees it: without canaries, but for its cost.
    pub(crate) block: &'a Block,
    pub(crate) kind: ProviderKind,
    pub(crate) fence: Fence,
    /// Bytes its crate is charged for it.
    pub(crate) charged: usize,
    /// Bytes that its owner never had before.
    pub(crate) fresh: Option<Fresh<'a>>,
    /// What the table of live blocks says.
    pub(crate) standing: Standing,
}

/// Bytes of a block that are new to its owner: zero, but where an image is.
#[derive(Clone)]
pub(crate) struct Fresh<'a> {
    pub(crate) range: Range<usize>,
    pub(crate) image: Option<(Range<usize>, &'a [u8])>,
}
