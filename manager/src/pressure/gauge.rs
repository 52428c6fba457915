//! Levels, hysteresis and the bound on signals: the arithmetic of one watch.

use super::settings::MAX_LEVELS;
use crate::budget::{Amount, Units};

/// A level that comes and goes is signalled at its 1st, 3rd, 7th, 15th… crossing, and after that at every so
/// many: a guest that makes it come and go causes at most one signal for that many of its own requests.
pub(super) const SPARSEST: u16 = 1024;

/// Where one level stands.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// Per cent; 0 where there is no level.
    percent: u8,
    /// It was reached and is not over.
    reached: bool,
    /// Crossings since it was signalled or acknowledged.
    crossings: u16,
    /// Crossings that the next signal needs.
    every: u16,
}

/// Of what levels are per cents, and what they fall by.
#[derive(Clone, Copy, Debug)]
struct Terms {
    limit: Units,
    hysteresis: u8,
    /// The use at which a refusal reached the level of 100 %: that is over when use falls below this by the hysteresis,
    /// too.
    refused_at: Option<Units>,
}

/// A level was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    /// The level, in per cent.
    pub(super) percent: u8,
    /// Times since it was last signalled or acknowledged.
    pub(super) crossings: u32,
}

/// The levels of one watch. Small: without `alloc` they are in every manager.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauge {
    levels: [Level; MAX_LEVELS],
    terms: Terms,
}

/// The least use that is so many per cent of a limit.
fn at_least(limit: Units, percent: u8) -> Units {
    to_units((u64::from(limit.get()) * u64::from(percent)).div_ceil(100))
}

/// The least use that is more than so many per cent of a limit.
fn above(limit: Units, percent: u8) -> Units {
    to_units(u64::from(limit.get()) * u64::from(percent) / 100 + 1)
}

fn to_units(amount: u64) -> Units {
    u32::try_from(amount).ok().and_then(Units::new).unwrap_or(Units::MAX)
}

impl Terms {
    /// The least use that reaches a level. At a use of 0 nothing is pressed, even where nothing is allowed.
    fn mark(&self, percent: u8) -> Units {
        at_least(self.limit, percent).most(&Units::ONE)
    }

    /// The use below which a level is over.
    fn over_below(&self, percent: u8) -> Units {
        // Of a small limit it may be the mark: then there is just a step between.
        let over = above(self.limit, percent.saturating_sub(self.hysteresis)).least(&self.mark(percent));
        match self.refused_at {
            // A refusal is over when bytes came back, not because there never were enough in use.
            Some(used) if percent == 100 => {
                let back = used.above(&at_least(self.limit, self.hysteresis));
                over.least(&back.plus_saturating(&Units::ONE))
            }
            _ => over,
        }
    }
}

impl Gauge {
    /// Of levels that were checked.
    pub(super) fn new(percent: &[u8; MAX_LEVELS], hysteresis: u8) -> Self {
        Self {
            levels: percent.map(|percent| Level { percent, every: 1, ..Level::default() }),
            terms: Terms { limit: Units::ZERO, hysteresis, refused_at: None },
        }
    }

    /// The levels are of this limit from now on.
    pub(super) fn set_limit(&mut self, limit: Units) {
        if self.terms.limit < limit {
            // Who was refused may be granted as much now.
            self.terms.refused_at = None;
        }
        self.terms.limit = limit;
    }

    /// Use is this now. Which levels are to be signalled, each at its place.
    pub(super) fn see(&mut self, used: Units) -> [Option<Crossing>; MAX_LEVELS] {
        let terms = &mut self.terms;
        self.levels.each_mut().map(|level| {
            if level.percent == 0 {
                return None;
            }
            if level.reached && used < terms.over_below(level.percent) {
                level.reached = false;
                if level.percent == 100 {
                    terms.refused_at = None;
                }
            }
            if level.reached || used < terms.mark(level.percent) {
                return None;
            }
            level.cross()
        })
    }

    /// A request was refused, at this use: the level of 100 % is reached, if there is one.
    pub(super) fn refuse(&mut self, used: Units) -> [Option<Crossing>; MAX_LEVELS] {
        let terms = &mut self.terms;
        self.levels.each_mut().map(|level| {
            if level.percent != 100 || level.reached {
                return None;
            }
            terms.refused_at = Some(used);
            level.cross()
        })
    }

    /// The least use that would reach a level, and the use below which one is over.
    pub(super) fn marks(&self) -> (Option<Units>, Option<Units>) {
        let levels = || self.levels.iter().filter(|level| level.percent != 0);
        let up = levels().filter(|level| !level.reached).map(|level| self.terms.mark(level.percent)).min();
        let down =
            levels().filter(|level| level.reached).map(|level| self.terms.over_below(level.percent)).max();
        (up, down)
    }

    /// Whether this use would change anything.
    pub(super) fn is_news(&self, used: Units) -> bool {
        let (up, down) = self.marks();
        up.is_some_and(|up| up <= used) || down.is_some_and(|down| used < down)
    }

    /// The highest level that is reached, in per cent.
    pub(super) fn level(&self) -> Option<u8> {
        self.levels.iter().filter(|level| level.reached).map(|level| level.percent).max()
    }

    /// The host has seen what there was: the next crossings are signalled at once again. Returns the crossings of
    /// each level that were not signalled.
    pub(super) fn acknowledge(&mut self) -> [u32; MAX_LEVELS] {
        self.levels.each_mut().map(|level| {
            level.every = 1;
            core::mem::take(&mut level.crossings).into()
        })
    }
}

impl Level {
    fn cross(&mut self) -> Option<Crossing> {
        self.reached = true;
        self.crossings = self.crossings.saturating_add(1);
        if self.crossings < self.every {
            return None;
        }
        self.every = self.every.saturating_mul(2).min(SPARSEST);
        let crossings = core::mem::take(&mut self.crossings).into();
        Some(Crossing { percent: self.percent, crossings })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
