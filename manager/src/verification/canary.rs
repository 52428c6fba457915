//! Canaries: bytes on either side of a block that its owner has no business with. Whoever wrote past an end wrote there
//! first, and is found when the block grows or is freed.
//!
//! A block with canaries is a larger block of its provider's, of which the owner sees the middle:
//!
//! ```text
//!  | up to align: unused | 16 bytes: canary | size: the owner's | 16 bytes: canary | to reserved: the owner's to grow into
//!  ^ the provider's ptr                     ^ the owner's ptr
//! ```
//!
//! So what the provider is asked for, what it costs, and what the crate is charged are those of the larger block;
//! what was requested stays what the owner asked for. Only blocks of the heap and of static regions have canaries: the
//! end of mapped memory is a page that faults, or is checked by compiled code.

use super::level::VerificationLevel;
use crate::provider::{Block, ProviderKind, Request};

/// Bytes of a canary.
const CANARY: usize = 16;

/// What lies around one block; nothing, without the feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fence {
    /// Bytes before the owner's first; 0 where there are no canaries. No provider serves an alignment that does not fit.
    #[cfg(feature = "verification")]
    front: u32,
}

impl Fence {
    /// For a request to a provider of `kind`. Always the same for the same three.
    #[inline]
    pub(crate) fn of(level: VerificationLevel, kind: ProviderKind, request: &Request) -> Self {
        #[cfg(feature = "verification")]
        {
            let small = matches!(kind, ProviderKind::Heap | ProviderKind::StaticRegion);
            let lays = small && level >= VerificationLevel::Standard;
            // A front of the alignment leaves the owner's bytes aligned.
            let front = u32::try_from(request.align.max(CANARY)).unwrap_or(0);
            Self { front: if lays { front } else { 0 } }
        }
        #[cfg(not(feature = "verification"))]
        {
            let _ = (level, kind, request);
            Self {}
        }
    }

    /// Bytes of the provider's block before the owner's.
    #[inline]
    pub(crate) fn before(self) -> usize {
        #[cfg(feature = "verification")]
        return self.front as usize;
        #[cfg(not(feature = "verification"))]
        0
    }

    /// Whether nothing lies around the block: its owner's and its provider's are the same.
    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.before() == 0
    }

    /// Bytes of the provider's block after the owner's.
    #[inline]
    pub(crate) fn after(self) -> usize {
        if self.before() == 0 { 0 } else { CANARY }
    }

    /// Bytes around `size` of the owner's. Past all addresses no provider serves it.
    #[inline]
    pub(crate) fn around(self, size: usize) -> usize {
        match self.before() {
            0 => size,
            before => size.saturating_add(before).saturating_add(CANARY),
        }
    }

    /// As [`widen`](Self::widen), and nothing is copied where there are no canaries.
    #[inline(always)]
    pub(crate) fn widened<'a>(self, request: &'a Request, place: &'a mut Option<Request>) -> &'a Request {
        if self.before() == 0 { request } else { place.insert(self.widen(request)) }
    }

    /// What the provider is asked for.
    #[inline]
    pub(crate) fn widen(self, request: &Request) -> Request {
        if self.before() == 0 {
            return *request;
        }
        let reserve =
            if request.reserve > request.size { self.around(request.reserve) } else { request.reserve };
        Request { size: self.around(request.size), reserve, ..*request }
    }

    /// Whether a block handed out for a [widened](Self::widen) request has room for all of it.
    pub(crate) fn fits(self, request: &Request, outer: &Block) -> bool {
        self.before() == 0 || outer.size == self.around(request.size) && outer.reserved >= outer.size
    }

    /// A provider's block as its owner sees it.
    #[inline]
    pub(crate) fn inner(self, outer: &Block) -> Block {
        if self.before() == 0 {
            return Block { ..*outer };
        }
        // SAFETY: a block that fits has more bytes than `before`.
        let ptr = unsafe { outer.ptr.add(self.before()) };
        let around = self.around(0);
        Block { ptr, size: outer.size - around, reserved: outer.reserved - around, ..*outer }
    }

    /// The reverse of [`inner`](Self::inner): the block as its provider knows it.
    #[inline]
    pub(crate) fn outer(self, block: &Block) -> Block {
        if self.before() == 0 {
            return Block { ..*block };
        }
        let around = self.around(0);
        // SAFETY: `inner` made the block, `before` bytes into the provider's.
        let ptr = unsafe { block.ptr.sub(self.before()) };
        Block { ptr, size: block.size + around, reserved: block.reserved + around, ..*block }
    }

    /// Where the canaries of a block begin.
    fn places(self, block: &Block) -> [*mut u8; 2] {
        // SAFETY: `before` bytes lie before the owner's first in the provider's block, and `after` behind its last.
        unsafe { [block.ptr.as_ptr().sub(CANARY), block.ptr.as_ptr().add(block.size)] }
    }

    /// Lays the canaries of a block, where there are any.
    ///
    /// # Safety
    /// The block [fits](Self::fits), and is the caller's alone.
    pub(crate) unsafe fn lay(self, block: &Block) {
        if self.before() == 0 {
            return;
        }
        for place in self.places(block) {
            // SAFETY: the canaries are in the provider's block.
            unsafe { place.cast::<[u8; CANARY]>().write_unaligned(pattern(place)) };
        }
    }

    /// Lays the canary behind a block again, which was [opened](Self::open), where it ends now.
    ///
    /// # Safety
    /// The block is the caller's alone.
    pub(crate) unsafe fn close(self, block: &Block) {
        if self.before() > 0 {
            let place = self.places(block)[1];
            // SAFETY: the canary is in the provider's block.
            unsafe { place.cast::<[u8; CANARY]>().write_unaligned(pattern(place)) };
        }
    }

    /// Takes the canary behind the block away, before it grows: bytes that come to it are zero.
    ///
    /// # Safety
    /// The block is the caller's alone.
    pub(crate) unsafe fn open(self, block: &Block) {
        if self.before() > 0 {
            // SAFETY: the canary is in the provider's block.
            unsafe { self.places(block)[1].write_bytes(0, CANARY) };
        }
    }

    /// The first byte before the block that is not as it was laid, and what it was.
    pub(crate) fn broken_before(self, block: &Block) -> Option<(u8, u8)> {
        self.broken(block, 0)
    }

    /// The first byte after the block that is not as it was laid, and what it was.
    pub(crate) fn broken_after(self, block: &Block) -> Option<(u8, u8)> {
        self.broken(block, 1)
    }

    fn broken(self, block: &Block, side: usize) -> Option<(u8, u8)> {
        if self.before() == 0 {
            return None;
        }
        let place = self.places(block)[side];
        // SAFETY: the canaries of a live block are in the provider's block, and initialised.
        let found = unsafe { place.cast::<[u8; CANARY]>().read_unaligned() };
        found.into_iter().zip(pattern(place)).find(|(found, laid)| found != laid)
    }
}

/// No two places have the same, so that a copy of another block's canary is found too.
fn pattern(place: *mut u8) -> [u8; CANARY] {
    let mixed = (place.addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
    (u128::from(mixed) << 64 | u128::from(!mixed)).to_ne_bytes()
}
