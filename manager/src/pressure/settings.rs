//! Over which budget pressure is watched, and at which levels.

use crate::budget::CrateId;
use crate::error::{MemoryError, Result};

/// Levels a watch may have.
pub(super) const MAX_LEVELS: usize = 4;

/// What a [`PressureWatch`](crate::PressureWatch) watches: levels of use, in per cent of a limit.
///
/// A level is over the `used` of a [`NodeSnapshot`](crate::NodeSnapshot) and the least limit that holds for it, its own
/// or one above it. For a crate that is what its guest has. For a parent and the pool it is what is given out to
/// the crates below, *with* what those keep idle as stock: at most 64 crates (8 on 32-bit targets) keep at most a
/// [batch](crate::Builder::stock) each, by which a level may come early, never late.
///
/// The level 100 is also reached when the budget refuses a request for which it has too little left; not by a
/// request for more than it could ever give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureSettings {
    pub(super) over: Option<CrateId>,
    /// Ascending from the first; 0 where there is none.
    pub(super) levels: [u8; MAX_LEVELS],
    pub(super) hysteresis: u8,
    given: usize,
}

impl PressureSettings {
    /// 75, 90 and 100 % of the pool, each signalled again once use is 10 per cent points below it.
    pub const fn new() -> Self {
        Self { over: None, levels: [75, 90, 100, 0], hysteresis: 10, given: 3 }
    }

    /// Watches this crate, or parent, instead of the pool.
    pub const fn over(mut self, id: CrateId) -> Self {
        self.over = Some(id);
        self
    }

    /// The levels, in per cent: 1 to 4 of them, each 1 to 100, ascending.
    pub const fn levels(mut self, percent: &[u8]) -> Self {
        self.levels = [0; MAX_LEVELS];
        let mut at = 0;
        while at < percent.len() && at < MAX_LEVELS {
            self.levels[at] = percent[at];
            at += 1;
        }
        self.given = percent.len();
        self
    }

    /// How far below a level use must fall before the level is signalled again, in per cent points of the limit:
    /// at least 1. A level at or below it is signalled again when nothing is in use.
    pub const fn hysteresis(mut self, percent_points: u8) -> Self {
        self.hysteresis = percent_points;
        self
    }

    /// # Errors
    /// What is wrong, and what would be right.
    pub(super) fn check(&self) -> Result<()> {
        let invalid = |what| Err(MemoryError::InvalidConfig { what });
        let levels = &self.levels[..self.given.min(MAX_LEVELS)];
        if !(1..=MAX_LEVELS).contains(&self.given) {
            return invalid("a watch has 1 to 4 levels");
        }
        if levels.iter().any(|level| !(1..=100).contains(level)) {
            return invalid("a level of pressure is 1 to 100 per cent of a limit");
        }
        if !levels.is_sorted_by(|a, b| a < b) {
            return invalid("levels of pressure ascend, each above the one before");
        }
        if !(1..=100).contains(&self.hysteresis) {
            return invalid(
                "the hysteresis is 1 to 100 per cent points: with 0, a guest at a level would signal it for ever",
            );
        }
        Ok(())
    }
}

impl Default for PressureSettings {
    fn default() -> Self {
        Self::new()
    }
}
