//! Levels, hysteresis and the bound on signals: the arithmetic of one watch.

use super::settings::MAX_LEVELS;
use crate::budget::{Amount, Units};

/// A level that comes and goes is signalled at its 1st, 2nd, 4th, 8th… crossing, and from here on at every so
/// many: a guest that makes it come and go causes at most one signal for that many of its own requests.
pub(super) const SPARSEST: u32 = 1024;

/// Where one level stands.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// Per cent; 0 where there is no level.
    percent: u8,
    /// The least use that reaches it.
    mark: Units,
    /// The level is over when use is below this.
    over_below: Units,
    /// It was reached and is not over.
    reached: bool,
    /// It was reached by a refusal, at this use: it is over when use falls below that by the hysteresis, too.
    refused_at: Option<Units>,
    /// Crossings since it was signalled or acknowledged.
    crossings: u32,
    /// Crossings that the next signal needs.
    every: u32,
}

/// A level was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    /// The level, in per cent.
    pub(super) percent: u8,
    /// Times since it was last signalled or acknowledged.
    pub(super) crossings: u32,
}

/// The levels of one watch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauge {
    levels: [Level; MAX_LEVELS],
    hysteresis: u8,
    limit: Units,
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

impl Gauge {
    /// Of levels that were checked.
    pub(super) fn new(percent: &[u8; MAX_LEVELS], hysteresis: u8) -> Self {
        Self {
            levels: percent.map(|percent| Level { percent, every: 1, ..Level::default() }),
            hysteresis,
            limit: Units::ZERO,
        }
    }

    /// The levels are of this limit from now on.
    pub(super) fn set_limit(&mut self, limit: Units) {
        // Who was refused may be granted as much now.
        let raised = self.limit < limit;
        self.limit = limit;
        for level in self.levels.iter_mut().filter(|level| level.percent != 0) {
            level.refused_at = level.refused_at.filter(|_| !raised);
            // At a use of 0 nothing is pressed, even where nothing is allowed.
            level.mark = at_least(limit, level.percent).most(&Units::ONE);
            level.set_over(limit, self.hysteresis);
        }
    }

    /// Use is this now. Which levels are to be signalled, each at its place.
    pub(super) fn see(&mut self, used: Units) -> [Option<Crossing>; MAX_LEVELS] {
        let (limit, hysteresis) = (self.limit, self.hysteresis);
        self.levels.each_mut().map(|level| {
            if level.percent == 0 {
                return None;
            }
            if level.reached && !level.over_below.at_most(&used) {
                level.reached = false;
                level.refused_at = None;
                level.set_over(limit, hysteresis);
            }
            if level.reached || !level.mark.at_most(&used) {
                return None;
            }
            level.cross()
        })
    }

    /// A request was refused, at this use: the level of 100 % is reached, if there is one.
    pub(super) fn refuse(&mut self, used: Units) -> [Option<Crossing>; MAX_LEVELS] {
        let (limit, hysteresis) = (self.limit, self.hysteresis);
        self.levels.each_mut().map(|level| {
            if level.percent != 100 || level.reached {
                return None;
            }
            level.refused_at = Some(used);
            level.set_over(limit, hysteresis);
            level.cross()
        })
    }

    /// The least use that would reach a level, and the use below which one is over.
    pub(super) fn marks(&self) -> (Option<Units>, Option<Units>) {
        let levels = || self.levels.iter().filter(|level| level.percent != 0);
        let up = levels().filter(|level| !level.reached).map(|level| level.mark).min();
        let down = levels().filter(|level| level.reached).map(|level| level.over_below).max();
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
            core::mem::take(&mut level.crossings)
        })
    }
}

impl Level {
    /// Sets the use below which it is over.
    fn set_over(&mut self, limit: Units, hysteresis: u8) {
        let over = above(limit, self.percent.saturating_sub(hysteresis));
        // Of a small limit the two may be one: then there is just a step between.
        self.over_below = over.least(&self.mark);
        // A refusal is over when bytes came back, not because there never were enough in use.
        if let Some(used) = self.refused_at {
            let over = used.above(&at_least(limit, hysteresis)).plus_saturating(&Units::ONE);
            self.over_below = self.over_below.least(&over);
        }
    }

    fn cross(&mut self) -> Option<Crossing> {
        self.reached = true;
        self.crossings = self.crossings.saturating_add(1);
        if self.crossings < self.every {
            return None;
        }
        self.every = self.every.saturating_mul(2).min(SPARSEST);
        let crossings = core::mem::take(&mut self.crossings);
        Some(Crossing { percent: self.percent, crossings })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
