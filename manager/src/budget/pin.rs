//! Keeps a slot from being given to another crate while an operation of several steps is on it.
//!
//! A charge pins its crate by being in use. What has no charge yet — a refill on its way, a sweep,
//! a change of limit — takes a pin. A retired slot with pins on it is reused when the last goes.

use crate::sync::{AtomicU32, Ordering, const_fn};

/// No crate is in the slot: pins are refused.
const FREE: u32 = 1 << 31;
/// The last pin to go gives the slot to the free list.
const PENDING: u32 = 1 << 30;

/// A slot's pins, and whether there is a crate in it.
pub(crate) struct Pins(AtomicU32);

impl Pins {
    const_fn! {
        /// Of a slot without a crate.
        pub(crate) const fn free() -> Self {
            Self(AtomicU32::new(FREE))
        }
    }

    /// Forgets the crate of a former manager, of which nothing is left.
    pub(crate) fn reset(&self) {
        self.0.store(FREE, Ordering::SeqCst);
    }

    /// A crate is in the slot from now on.
    pub(crate) fn occupy(&self) {
        self.0.fetch_and(!FREE, Ordering::SeqCst);
    }

    /// Whether no crate is in the slot.
    pub(crate) fn is_free(&self) -> bool {
        self.0.load(Ordering::SeqCst) & FREE != 0
    }

    /// Takes a pin, where there is a crate. Each one [held](Pinned::Held) asks for one [`unpin`](Self::unpin).
    #[must_use]
    pub(crate) fn pin(&self) -> Pinned {
        if self.0.fetch_add(1, Ordering::SeqCst) & FREE == 0 {
            return Pinned::Held;
        }
        if self.unpin() { Pinned::FreedNow } else { Pinned::Refused }
    }

    /// Gives a pin back. `true`: the caller was the last on a retired slot and frees it.
    #[must_use]
    pub(crate) fn unpin(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == (FREE | PENDING) + 1
            && self.0.compare_exchange(FREE | PENDING, FREE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The crate has left. `true`: nobody has a pin and the caller frees the slot.
    #[must_use]
    pub(crate) fn vacate(&self) -> bool {
        self.0.fetch_or(FREE | PENDING, Ordering::SeqCst) == 0
            && self.0.compare_exchange(FREE | PENDING, FREE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// What became of an attempt to pin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pinned {
    /// The slot keeps its crate until `unpin`.
    Held,
    /// There is no crate in it.
    Refused,
    /// There is no crate in it, and the caller frees it: the last pin went meanwhile.
    FreedNow,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// That there is no crate in the slot, and that whoever finds that out does not free it again.
    fn assert_free(pins: &Pins) {
        assert!(pins.is_free());
        assert!(matches!(pins.pin(), Pinned::Refused));
    }

    #[test]
    fn a_slot_is_freed_once_by_the_last_that_goes() {
        let pins = Pins::free();
        assert_free(&pins);
        pins.occupy();
        assert!(!pins.is_free());
        assert!(pins.vacate(), "nobody has a pin");
        assert_free(&pins);

        pins.occupy();
        assert!(matches!(pins.pin(), Pinned::Held) && matches!(pins.pin(), Pinned::Held));
        assert!(!pins.unpin(), "there is a crate in it");
        assert!(matches!(pins.pin(), Pinned::Held));
        assert!(!pins.vacate(), "two have pins");
        assert!(!pins.unpin());
        assert!(pins.is_free() && matches!(pins.pin(), Pinned::Refused), "pinned, and retired");
        assert!(pins.unpin(), "the last one");
        assert_free(&pins);
    }

    #[test]
    fn whoever_is_refused_while_the_last_pin_goes_frees_the_slot() {
        let pins = Pins::free();
        pins.occupy();
        assert!(matches!(pins.pin(), Pinned::Held));
        assert!(!pins.vacate());
        // As another thread is, between its addition and its subtraction.
        pins.0.fetch_add(1, Ordering::SeqCst);
        assert!(!pins.unpin());
        assert!(pins.unpin());
        assert_free(&pins);
    }

    #[test]
    fn the_pins_of_a_former_manager_are_forgotten() {
        let pins = Pins::free();
        pins.occupy();
        assert!(matches!(pins.pin(), Pinned::Held));
        pins.reset();
        assert_free(&pins);
        pins.occupy();
        assert!(pins.vacate());
    }
}
