//! Where bytes come from: one trait, four kinds of provider, and the selector that picks.
//!
//! A provider knows nothing of budgets. The manager asks it what a request will
//! [cost](Provider::cost), charges that, and only then lets it touch memory, so a denial
//! leaves no trace. A provider hands out zeroed bytes and nothing that another block uses.

use core::fmt;
use core::ptr::NonNull;

#[cfg(test)]
mod model;
mod selector;
mod static_region;

#[cfg(feature = "alloc")]
mod heap;
#[cfg(all(feature = "std", unix))]
mod mapped;
#[cfg(all(feature = "std", unix))]
mod os;
#[cfg(all(feature = "std", target_os = "linux"))]
mod pooled;

#[cfg(feature = "alloc")]
pub use heap::HeapProvider;
#[cfg(all(feature = "std", unix))]
pub use mapped::MappedProvider;
#[cfg(all(feature = "std", target_os = "linux"))]
pub(crate) use os::linux::resident;
#[cfg(all(feature = "std", target_os = "linux"))]
pub use pooled::{Image, PooledProvider};
pub(crate) use selector::Candidates;
pub use selector::{ProviderSelector, Selection, SelectionReason};
pub use static_region::{StaticRegion, StaticRegionProvider};

/// What somebody wants of a provider. All sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes usable at once.
    pub size: usize,
    /// Alignment of the first byte: a power of two.
    pub align: usize,
    /// Bytes the block must be able to reach by growing in place; at most `size` means it never grows.
    pub reserve: usize,
    /// Bytes on either side of the reservation that must fault when touched.
    pub guard: usize,
}

impl Request {
    /// A block of `size` bytes that neither grows nor needs guards, aligned to two words, as `malloc`'s are.
    pub const fn new(size: usize) -> Self {
        Self { size, align: 2 * size_of::<usize>(), reserve: 0, guard: 0 }
    }
}

/// A block a provider handed out. Whoever holds it owns its bytes until [`Provider::free`].
///
/// It names bytes but does not free them: dropping it loses them for as long as the provider lives.
#[derive(Debug)]
#[must_use = "a block that is dropped is lost: give it back with `Provider::free`"]
pub struct Block {
    /// First byte; never null, and dangling only where `size` and `reserved` are both 0.
    pub ptr: NonNull<u8>,
    /// Usable bytes, as requested.
    pub size: usize,
    /// Bytes the block can reach in place without moving, at least `size` and at least the
    /// `reserve` it was requested with.
    pub reserved: usize,
    /// Bytes it takes from the machine: what its crate is charged.
    pub cost: usize,
    /// The alignment it was requested with.
    pub align: usize,
    /// Guard bytes on either side, at least as many as requested.
    pub guard: usize,
    /// What its provider finds it by again; null where it needs nothing.
    pub mark: *mut (),
}

// SAFETY: a block is a name for bytes, not access to them: nothing safe dereferences `ptr` or `mark`, and
// every provider is `Sync`, so it may be freed from another thread than it was allocated on.
unsafe impl Send for Block {}
// SAFETY: as above; a shared block lends nothing but its numbers.
unsafe impl Sync for Block {}

/// Which kind of memory a provider hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum ProviderKind {
    /// A caller's `'static` bytes, cut by best fit.
    StaticRegion,
    /// The program's global allocator.
    Heap,
    /// Pages reserved from and committed by the operating system.
    Mapped,
    /// Slots of such pages that are used again while they are warm.
    Pooled,
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StaticRegion => "static region",
            Self::Heap => "heap",
            Self::Mapped => "mapped",
            Self::Pooled => "pooled",
        })
    }
}

/// What a provider says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderInfo {
    /// Its kind.
    pub kind: ProviderKind,
    /// Bytes it could hand out in all, overhead of the blocks included, where that is known.
    pub capacity: Option<usize>,
    /// Sizes are charged in multiples of this many bytes.
    pub granule: usize,
    /// The largest alignment it serves, in bytes.
    pub max_align: usize,
    /// Whether a block can reach its `reserve` without moving.
    pub grows_in_place: bool,
    /// Whether it serves `Request::guard`.
    pub guards: bool,
}

/// Why a provider did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// It has no room, or the machine gave it none.
    #[error("no room for {asked} bytes; the largest that would fit now has {largest}")]
    Exhausted {
        /// Bytes asked, with overhead.
        asked: usize,
        /// Bytes, with overhead, of the largest block it would have handed out instead; 0 where
        /// that is not known.
        largest: usize,
    },
    /// It never serves such a request, whatever is free.
    #[error("{what} {asked} is not served (limit {limit})")]
    Unsupported {
        /// Which property of the request.
        what: &'static str,
        /// Its value.
        asked: usize,
        /// The largest value that would be served.
        limit: usize,
    },
    /// A block cannot grow to this size where it is.
    #[error("cannot grow to {asked} bytes in place: {limit} were reserved")]
    PastReserve {
        /// Bytes asked.
        asked: usize,
        /// Bytes reserved.
        limit: usize,
    },
}

/// A source of zeroed memory.
///
/// # Safety
/// A block from [`allocate`](Self::allocate) or [`grow`](Self::grow) is `size` readable and writable bytes at
/// `ptr`, aligned as requested, that overlap no other live block of any provider, stay
/// where they are until [`free`](Self::free), and read as zero when first handed out.
/// With `guards` in [`ProviderInfo`], and a block that was requested with a guard, touching `reserved..` up to `reserved +
/// guard` of the block faults, as do the `guard` bytes before `ptr` and the bytes from `size`, rounded up to a host page,
/// to `reserved`.
pub unsafe trait Provider: Send + Sync {
    /// What it is and can do.
    fn describe(&self) -> ProviderInfo;

    /// The bytes that [`allocate`](Self::allocate) would take for this request: what a crate is charged.
    ///
    /// # Errors
    /// [`ProviderError::Unsupported`] for what it never serves.
    fn cost(&self, request: &Request) -> Result<usize, ProviderError>;

    /// Hands out a block that costs exactly what [`cost`](Self::cost) said.
    ///
    /// # Errors
    /// As `cost`, and [`ProviderError::Exhausted`].
    fn allocate(&self, request: &Request) -> Result<Block, ProviderError>;

    /// What `block` would cost at `size` bytes, if [`grow`](Self::grow) can take it there.
    ///
    /// # Errors
    /// [`ProviderError::PastReserve`], [`ProviderError::Unsupported`].
    fn grown_cost(&self, block: &Block, size: usize) -> Result<usize, ProviderError>;

    /// Grows `block` in place to `size` bytes; new bytes are zero. A smaller or equal size changes nothing.
    ///
    /// # Safety
    /// `block` came from this provider, is live, and nobody wrote to its fields.
    ///
    /// # Errors
    /// As [`grown_cost`](Self::grown_cost), and [`ProviderError::Exhausted`]; the block is then as it was.
    unsafe fn grow(&self, block: &mut Block, size: usize) -> Result<(), ProviderError>;

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` came from this provider, is live, nobody wrote to its fields, and nothing refers to
    /// its bytes any more.
    unsafe fn free(&self, block: Block);
}

const fn unsupported(what: &'static str, asked: usize, limit: usize) -> ProviderError {
    ProviderError::Unsupported { what, asked, limit }
}

/// Refuses what no provider serves, and alignments above `limit` bytes.
const fn check_align(align: usize, limit: usize) -> Result<(), ProviderError> {
    if !align.is_power_of_two() {
        return Err(unsupported("non-power-of-two alignment", align, limit));
    }
    if align > limit {
        return Err(unsupported("alignment", align, limit));
    }
    Ok(())
}
