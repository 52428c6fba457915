//! Amounts of memory as the ledger counts them.
//!
//! The transitions are generic over [`Amount`], so that the very functions that ship can be run on
//! a symbolic integer: every comparison is a `bool`, and every sum says whether it stays in
//! range. [`Units`] is the amount that ships.

use super::word::{FIELD_MAX, field_fits};

/// A non-negative integer with a range. Comparisons answer with a `bool`, never with a value, so
/// that a proof can take both ways through each.
pub(crate) trait Amount: Clone {
    /// Nothing.
    fn zero() -> Self;
    /// Whether `self <= other`.
    fn at_most(&self, other: &Self) -> bool;
    /// The sum, or `None` where it passes what a field can hold.
    fn plus(&self, other: &Self) -> Option<Self>;
    /// The difference, or `None` where it would be negative.
    fn minus(&self, other: &Self) -> Option<Self>;
    /// The sum, or the largest amount where it passes what a field can hold.
    fn plus_saturating(&self, other: &Self) -> Self;

    /// The smaller of the two.
    fn least(&self, other: &Self) -> Self {
        if self.at_most(other) { self.clone() } else { other.clone() }
    }

    /// The larger of the two.
    fn most(&self, other: &Self) -> Self {
        if self.at_most(other) { other.clone() } else { self.clone() }
    }

    /// What `self` has above `other`, nothing where it has less.
    fn above(&self, other: &Self) -> Self {
        self.minus(other).unwrap_or_else(Self::zero)
    }
}

/// A number of the manager's units (see [`Scale`]); always fits a field of the budget word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Units(u32);

impl Units {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const ONE: Self = Self(1);
    pub(crate) const MAX: Self = Self(FIELD_MAX);
    /// The largest total, and limit, there can be: half a field, so that a limit has room for all that
    /// could ever be lent on top of it.
    pub(crate) const LARGEST: Self = Self(FIELD_MAX / 2);

    /// `raw` units, or `None` past a field's range.
    pub(crate) const fn new(raw: u32) -> Option<Self> {
        if field_fits(raw) { Some(Self(raw)) } else { None }
    }

    /// A field read back from a word, which cannot be out of range.
    pub(super) const fn from_field(raw: u32) -> Self {
        Self(raw & FIELD_MAX)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// An eighth of it, rounded down.
    pub(crate) const fn eighth(self) -> Self {
        Self(self.0 / 8)
    }

    /// Half of it, rounded down.
    pub(crate) const fn half(self) -> Self {
        Self(self.0 / 2)
    }
}

impl Amount for Units {
    fn zero() -> Self {
        Self::ZERO
    }

    fn at_most(&self, other: &Self) -> bool {
        self.0 <= other.0
    }

    fn plus(&self, other: &Self) -> Option<Self> {
        // Two fields are below 2^31 each: the sum cannot wrap a u32.
        Self::new(self.0 + other.0)
    }

    fn minus(&self, other: &Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    fn plus_saturating(&self, other: &Self) -> Self {
        self.plus(other).unwrap_or(Self::MAX)
    }
}

/// Bytes in a unit: one power of two per manager, the smallest with which its total is at most
/// [`Units::LARGEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    shift: u32,
}

impl Scale {
    /// The scale of a manager that may come to hold `total` bytes.
    pub(crate) fn for_total(total: usize) -> Self {
        let mut shift = 0;
        while (total >> shift) > Units::LARGEST.get() as usize {
            shift += 1;
        }
        Self { shift }
    }

    /// Bytes in one unit.
    pub(crate) const fn unit(self) -> usize {
        1 << self.shift
    }

    /// What `bytes` are charged: rounded up to units. `None` above [`Units::LARGEST`].
    #[inline]
    pub(crate) fn up(self, bytes: usize) -> Option<Units> {
        // What does not fit even before it is rounded up is too much anyway.
        let units = bytes.checked_add(self.unit() - 1)? >> self.shift;
        u32::try_from(units).ok().and_then(Units::new).filter(|units| *units <= Units::LARGEST)
    }

    /// What `bytes` of a limit allow: rounded down to units, and to [`Units::LARGEST`], so that "no limit"
    /// can be said with `usize::MAX`.
    pub(crate) fn down(self, bytes: usize) -> Units {
        u32::try_from(bytes >> self.shift).ok().and_then(Units::new).unwrap_or(Units::MAX).min(Units::LARGEST)
    }

    /// An amount in bytes.
    pub(crate) const fn bytes(self, units: Units) -> usize {
        (units.get() as usize) << self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_leave_the_range_as_none() {
        assert_eq!(Units::MAX.plus(&Units(1)), None);
        assert_eq!(Units(3).minus(&Units(4)), None);
        assert_eq!(Units(3).above(&Units(4)), Units::ZERO);
        assert_eq!(Units::MAX.plus_saturating(&Units(1)), Units::MAX);
    }

    #[test]
    fn parts_are_rounded_down() {
        assert_eq!([15, 16, 17].map(|raw| Units(raw).eighth()), [1, 2, 2].map(Units));
        assert_eq!([3, 4, 5].map(|raw| Units(raw).half()), [1, 2, 2].map(Units));
    }

    #[cfg(all(not(loom), target_pointer_width = "64"))]
    #[test]
    fn the_unit_is_the_smallest_that_fits_the_total() {
        assert_eq!(Scale::for_total((1 << 30) - 1).unit(), 1);
        assert_eq!(Scale::for_total(1 << 30).unit(), 2);
        assert_eq!(Scale::for_total((64 << 30) - 1).unit(), 64);
        assert_eq!(Scale::for_total(usize::MAX).unit(), 1 << 34);
    }

    #[test]
    fn charges_round_up_and_limits_round_down() {
        let scale = Scale { shift: 3 };
        assert_eq!(scale.up(0), Some(Units(0)));
        assert_eq!(scale.up(1), Some(Units(1)));
        assert_eq!(scale.up(8), Some(Units(1)));
        assert_eq!(scale.up(9), Some(Units(2)));
        assert_eq!(scale.up(usize::MAX), None);
        assert_eq!(scale.down(7), Units(0));
        assert_eq!(scale.down(15), Units(1));
        assert_eq!(scale.down(usize::MAX), Units::LARGEST);
        assert_eq!(scale.bytes(Units(3)), 24);
    }
}
