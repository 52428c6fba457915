//! What a watch is told.

use crate::budget::{CrateId, CrateName};

/// A level of pressure was reached. All amounts are bytes, as they were when it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PressureEvent {
    /// The crate or parent that is watched; `None` for the pool.
    pub over: Option<CrateId>,
    /// Its name; the pool's is `pool`.
    pub name: CrateName,
    /// The level, in per cent. Where several were passed at once, the highest.
    pub level: u8,
    /// Bytes in use; for a parent or the pool, given out to the crates below, with their idle stock.
    pub used: usize,
    /// The least limit that holds for it.
    pub limit: usize,
    /// Whether it refused a request.
    pub refused: bool,
    /// How often the level was reached since it was last signalled or taken, this time included: more than 1 where some were
    /// left out, because it came and went too often.
    pub crossings: u32,
}
