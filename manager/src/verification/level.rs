//! How much is checked.

/// How much is checked. Ordered: each level checks all that the ones below it do. How often is another setting:
/// [`Builder::verification_sampling`](crate::Builder::verification_sampling).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum VerificationLevel {
    /// Nothing.
    #[default]
    Off,
    /// With every allocation, growth and deallocation: the invariants of the touched crate's budget, that the block is
    /// of this crate and was not freed before, that it lies in its region, its size and alignment.
    Basic,
    /// Also canaries around blocks of the heap and of static regions (32 bytes a block and its alignment more, charged
    /// as overhead), that memory handed out is zero as far as it is resident, and that it overlaps no live block.
    Standard,
    /// Also conservation over all crates and loans. Takes time in proportion to the number of crates.
    Full,
}
