//! A check that failed.

use super::invariant::Invariant;
use crate::budget::{CrateId, CrateName};

/// A check that failed: a defect of this crate, of a provider, or of an adapter, or somebody who wrote past the end of a
/// block; never what a guest may do in its memory. The crate whose operation it was is closed: it is charged for nothing
/// more, and gives back what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "crate `{name}`: {} does not hold: {} (found {found}, should be {expected})",
    invariant.name(), invariant.formula()
)]
#[non_exhaustive]
pub struct Violation {
    /// The crate it was found at; the global budget's is good for nothing else.
    pub id: CrateId,
    /// Its name.
    pub name: CrateName,
    /// What must be true.
    pub invariant: &'static Invariant,
    /// The amount found.
    pub found: usize,
    /// What it is measured against.
    pub expected: usize,
}
