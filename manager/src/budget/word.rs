//! A budget packed into one word: `used | held | closed | owes` in its lower half, `floor | limit | version` in its
//! upper half.
//!
//! Four fields of 31 bits in a `u128` on 64-bit hosts, four of 15 in a `u64` on microcontrollers
//! and under loom; one bit for closed, one for owes, and two for the version. No field is in both halves, which are what
//! a machine has registers for: a transition that changes the use alone leaves the upper half as it was found, and the
//! compiler sees that.

use super::amount::Units;
use super::state::State;
use crate::sync::Bits;

/// An integer four equal fields, a flag and a version are packed into.
pub(crate) trait Word: Copy + Eq {
    /// Bits in each of the four amounts.
    const FIELD_BITS: u32;

    /// Packs four fields (each within `FIELD_BITS`), the two flags and the version.
    fn pack(fields: [u32; 4], flags: [bool; 2], version: u8) -> Self;

    /// The reverse of `pack`.
    fn unpack(self) -> ([u32; 4], [bool; 2], u8);

    /// This word, of the first of two states, with what the second has instead. Where the compiler sees that a half stays
    /// as it is, or that nothing but the use changes in it, that is no step, or one addition.
    fn change(self, from: &State<Units>, to: &State<Units>) -> Self;
}

/// Versions are counted modulo this.
const VERSIONS: u32 = 4;

/// The low bits of a slot's generation.
pub(crate) const fn version_of(generation: u32) -> u8 {
    (generation % VERSIONS) as u8
}

macro_rules! word {
    ($int:ty, $half:ty, $bits:literal) => {
        impl Word for $int {
            const FIELD_BITS: u32 = $bits;

            #[inline]
            fn pack(fields: [u32; 4], [closed, owes]: [bool; 2], version: u8) -> Self {
                let [used, held, floor, limit] = fields.map(<$half>::from);
                let flags = <$half>::from(closed) | <$half>::from(owes) << 1;
                let lower = used | held << $bits | flags << (2 * $bits);
                let upper = floor | limit << $bits | <$half>::from(version) << (2 * $bits);
                <$int>::from(lower) | <$int>::from(upper) << <$half>::BITS
            }

            #[inline]
            fn unpack(self) -> ([u32; 4], [bool; 2], u8) {
                let mask: $half = (1 << $bits) - 1;
                let (lower, upper) = (self as $half, (self >> <$half>::BITS) as $half);
                let fields = [lower & mask, lower >> $bits & mask, upper & mask, upper >> $bits & mask];
                let flags = lower >> (2 * $bits);
                (
                    fields.map(|field| field as u32),
                    [flags & 1 != 0, flags & 2 != 0],
                    (upper >> (2 * $bits)) as u8,
                )
            }

            #[inline(always)]
            fn change(self, from: &State<Units>, to: &State<Units>) -> Self {
                let packed: Self = pack(to);
                let lower = if (from.held, from.closed, from.owes) == (to.held, to.closed, to.owes) {
                    let by = to.used.get().wrapping_sub(from.used.get()).cast_signed();
                    (self as $half).wrapping_add_signed(by.into())
                } else {
                    packed as $half
                };
                let same = (from.floor, from.limit, from.version) == (to.floor, to.limit, to.version);
                let upper = if same { self } else { packed } >> <$half>::BITS;
                <$int>::from(lower) | upper << <$half>::BITS
            }
        }
    };
}

word!(u128, u64, 31);
word!(u64, u32, 15);

/// The largest amount a field holds, in units.
pub(crate) const FIELD_MAX: u32 = (1 << Bits::FIELD_BITS) - 1;

/// Whether an amount fits a field.
pub(crate) const fn field_fits(raw: u32) -> bool {
    raw <= FIELD_MAX
}

/// Packs a budget's state.
#[inline]
pub(crate) fn pack<W: Word>(state: &State<Units>) -> W {
    let fields = [state.used, state.held, state.floor, state.limit].map(Units::get);
    W::pack(fields, [state.closed, state.owes], state.version)
}

/// The state packed in a word.
#[inline]
pub(crate) fn unpack(word: Bits) -> State<Units> {
    let (fields, [closed, owes], version) = word.unpack();
    let [used, held, floor, limit] = fields.map(Units::from_field);
    State { used, held, floor, limit, closed, owes, version }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<W: Word>(fields: [u32; 4], flags: [bool; 2], version: u8) -> ([u32; 4], [bool; 2], u8) {
        W::pack(fields, flags, version).unpack()
    }

    /// States of fields that fit so many bits, of which the second is the first in some of its parts: all but the use,
    /// all but the lower half, or nothing.
    fn pairs(bits: u32) -> impl Strategy<Value = [State<Units>; 2]> {
        let state = move || {
            (prop::array::uniform4(0..1u32 << bits), any::<[bool; 2]>(), 0..4u8).prop_map(
                |(fields, [closed, owes], version)| {
                    let [used, held, floor, limit] = fields.map(Units::from_field);
                    State { used, held, floor, limit, closed, owes, version }
                },
            )
        };
        (state(), state(), 0..4).prop_map(|(from, other, keep)| {
            let to = match keep {
                0 => State { used: other.used, ..from },
                1 => State { floor: from.floor, limit: from.limit, version: from.version, ..other },
                2 => State { used: other.used, floor: other.floor, ..from },
                _ => other,
            };
            [from, to]
        })
    }

    fn changed<W: Word + core::fmt::Debug>([from, to]: [State<Units>; 2]) -> [W; 2] {
        [pack::<W>(&from).change(&from, &to), pack(&to)]
    }

    proptest! {
        #[test]
        fn a_wide_word_gives_back_what_was_packed(
            fields in prop::array::uniform4(0..1u32 << 31), flags: [bool; 2], version in 0..4u8,
        ) {
            prop_assert_eq!(round_trip::<u128>(fields, flags, version), (fields, flags, version));
        }

        #[test]
        fn a_narrow_word_gives_back_what_was_packed(
            fields in prop::array::uniform4(0..1u32 << 15), flags: [bool; 2], version in 0..4u8,
        ) {
            prop_assert_eq!(round_trip::<u64>(fields, flags, version), (fields, flags, version));
        }

        #[test]
        fn a_word_that_is_changed_is_the_next_state_packed(wide in pairs(31), narrow in pairs(15)) {
            let [changed_to, packed] = changed::<u128>(wide);
            prop_assert_eq!(changed_to, packed);
            let [changed_to, packed] = changed::<u64>(narrow);
            prop_assert_eq!(changed_to, packed);
        }
    }
}
