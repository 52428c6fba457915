//! How slots lie in a slab: pure arithmetic, apart from the pages.
//!
//! ```text
//! guarded  | guard | slot: size to a page, rest faults | guard | slot ... | guard |
//! open     | slot: all read-write | slot: all read-write | ...
//! ```
//!
//! Guarded slots share the guards between them. Open slots are for who asked for no guard: there is nothing to fault
//! on, and so nothing to map or protect for a slot or its growth.

use super::super::{ProviderError, Request, check_align, unsupported};

/// The smallest slot: a page of WebAssembly.
const SMALLEST: usize = 1 << 16;

/// The largest slot: what 32 bits can index; where addresses have no more than those, what a slab of the fewest
/// slots, with their guards, has room for. What is larger is rare, and mapped on its own.
const LARGEST: usize = 1 << if usize::BITS > 32 { 32 } else { 26 };

/// Addresses a slab takes, where its slots are not too few or too many then.
const SLAB: usize = 1 << 30;
const FEWEST_SLOTS: usize = 8;
const MOST_SLOTS: usize = 1 << 12;

/// Slots of one size and kind. Bytes, multiples of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Bytes that a slot can use at most: a power of two.
    pub(super) len: usize,
    /// Bytes between slots; 0 for open ones.
    pub(super) guard: usize,
}

impl Class {
    /// The class that serves a request.
    pub(super) fn of(request: &Request, page: usize) -> Result<Self, ProviderError> {
        check_align(request.align, page)?;
        let largest = LARGEST.max(page);
        for (what, asked) in [("size", request.size), ("reserve", request.reserve), ("guard", request.guard)]
        {
            if asked > largest {
                return Err(unsupported(what, asked, largest));
            }
        }
        // Powers of two, so that there are few classes whatever guests ask for.
        let len = request.size.max(request.reserve).max(SMALLEST).max(page).next_power_of_two();
        let guard = if request.guard == 0 { 0 } else { request.guard.max(page).next_power_of_two() };
        Ok(Self { len, guard })
    }

    /// Whether all of a slot can be touched at any time.
    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.guard == 0
    }

    /// Bytes from one slot to the next.
    pub(super) fn stride(self) -> usize {
        self.len + self.guard
    }

    /// Slots of a slab.
    pub(super) fn slots(self) -> usize {
        (SLAB / self.stride()).clamp(FEWEST_SLOTS, MOST_SLOTS)
    }

    /// Bytes of a slab.
    pub(super) fn slab(self) -> usize {
        self.guard + self.slots() * self.stride()
    }

    /// Where in its slab a slot starts.
    pub(super) fn offset(self, slot: usize) -> usize {
        self.guard + slot * self.stride()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slots_hold_what_was_asked_and_keep_their_guards_apart(
            size in 0..=LARGEST, reserve in 0..=LARGEST, guard in 0..=LARGEST, log in 12..17u32,
        ) {
            let page = 1usize << log;
            let class = Class::of(&Request { size, align: 1, reserve, guard }, page).unwrap();
            prop_assert!(class.len >= size.max(reserve) && class.guard >= guard);
            prop_assert_eq!(class.is_open(), guard == 0);
            prop_assert_eq!((class.len % page, class.guard % page), (0, 0));
            let mut free_from = 0;
            for slot in 0..class.slots() {
                let start = class.offset(slot);
                prop_assert!(start >= free_from + class.guard, "a guard before each slot");
                free_from = start + class.len;
            }
            prop_assert_eq!(class.slab(), free_from + class.guard, "and behind the last");
            prop_assert!((FEWEST_SLOTS..=MOST_SLOTS).contains(&class.slots()));
        }

        #[test]
        fn what_is_larger_than_any_slot_is_refused_by_name(more in 1..=LARGEST, which in 0..3usize) {
            let asked = [0, 1, 2].map(|it| if it == which { LARGEST + more } else { 0 });
            let request = Request { size: asked[0], align: 1, reserve: asked[1], guard: asked[2] };
            let what = ["size", "reserve", "guard"][which];
            prop_assert_eq!(Class::of(&request, 4096), Err(unsupported(what, LARGEST + more, LARGEST)));
        }
    }

    #[test]
    fn whatever_guests_ask_for_there_are_few_classes() {
        let classes: std::collections::BTreeSet<usize> = (0..=32)
            .flat_map(|log| [(1usize << log) - 1, 1 << log])
            .map(|reserve| Class::of(&Request { size: 0, align: 1, reserve, guard: 0 }, 4096).unwrap().len)
            .collect();
        assert_eq!(classes.len(), 17);
    }
}
