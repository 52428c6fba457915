//! A budget packed into one word: `used | held | floor | limit | closed | owes | version`.
//!
//! Four fields of 31 bits in a `u128` on 64-bit hosts, four of 15 in a `u64` on microcontrollers
//! and under loom; then one bit for closed, one for owes, and two for the version.

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
}

/// Versions are counted modulo this.
const VERSIONS: u32 = 4;

/// The low bits of a slot's generation.
pub(crate) const fn version_of(generation: u32) -> u8 {
    (generation % VERSIONS) as u8
}

macro_rules! word {
    ($int:ty, $bits:literal) => {
        impl Word for $int {
            const FIELD_BITS: u32 = $bits;

            fn pack(fields: [u32; 4], [closed, owes]: [bool; 2], version: u8) -> Self {
                let mut word = 0;
                for (at, field) in fields.into_iter().enumerate() {
                    word |= <$int>::from(field) << (at as u32 * $bits);
                }
                let tail = u8::from(closed) | u8::from(owes) << 1 | version << 2;
                word | <$int>::from(tail) << (4 * $bits)
            }

            fn unpack(self) -> ([u32; 4], [bool; 2], u8) {
                let mask: $int = (1 << $bits) - 1;
                let field = |at: u32| ((self >> (at * $bits)) & mask) as u32;
                let tail = (self >> (4 * $bits)) as u8;
                ([field(0), field(1), field(2), field(3)], [tail & 1 == 1, tail & 2 == 2], tail >> 2)
            }
        }
    };
}

word!(u128, 31);
word!(u64, 15);

/// The largest amount a field holds, in units.
pub(crate) const FIELD_MAX: u32 = (1 << Bits::FIELD_BITS) - 1;

/// Whether an amount fits a field.
pub(crate) const fn field_fits(raw: u32) -> bool {
    raw <= FIELD_MAX
}

/// Packs a budget's state.
pub(crate) fn pack(state: &State<Units>) -> Bits {
    let fields = [state.used, state.held, state.floor, state.limit].map(Units::get);
    Bits::pack(fields, [state.closed, state.owes], state.version)
}

/// The state packed in a word.
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
    }
}
