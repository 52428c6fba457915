//! The two marks of a node: what a charge and a release compare with.

use crate::budget::Units;
use crate::sync::{AtomicU32, Ordering, const_fn};

/// Uses of a node at which its watches are asked. Out of reach where there is none.
pub(crate) struct Marks {
    /// At or above this, a level is reached.
    up: AtomicU32,
    /// Below this, a level can be signalled again.
    down: AtomicU32,
}

/// No use is that large: amounts have at most 31 bits.
const NEVER_UP: u32 = u32::MAX;
/// No use is below that.
const NEVER_DOWN: u32 = 0;

impl Marks {
    const_fn! {
        /// Out of reach.
        pub(crate) const fn new() -> Self {
            Self { up: AtomicU32::new(NEVER_UP), down: AtomicU32::new(NEVER_DOWN) }
        }
    }

    /// Whether a use that has just been raised to `used` is a watch's business. On x86 a plain load.
    #[inline]
    pub(crate) fn is_met(&self, used: Units) -> bool {
        used.get() >= self.up.load(Ordering::SeqCst)
    }

    /// Whether one that has just fallen to `used` is.
    #[inline]
    pub(crate) fn is_left(&self, used: Units) -> bool {
        used.get() < self.down.load(Ordering::SeqCst)
    }

    /// Whether there is any mark in reach.
    pub(crate) fn is_watched(&self) -> bool {
        self.up.load(Ordering::SeqCst) != NEVER_UP || self.down.load(Ordering::SeqCst) != NEVER_DOWN
    }

    /// Sets the marks: the least use that reaches a level, and the use below which one is left.
    pub(super) fn set(&self, up: Option<Units>, down: Option<Units>) {
        self.up.store(up.map_or(NEVER_UP, Units::get), Ordering::SeqCst);
        self.down.store(down.map_or(NEVER_DOWN, Units::get), Ordering::SeqCst);
    }

    /// Has every rise of use asked for, until the marks are set again.
    pub(super) fn ask_always(&self) {
        self.up.store(0, Ordering::SeqCst);
    }

    /// Out of reach again, for the next crate in the slot.
    pub(crate) fn reset(&self) {
        self.set(None, None);
    }
}
