//! The moment between a provider and an owner.

use core::ops::Range;

use super::canary::Fence;
use super::engine::On;
use super::invariant::{Fresh, Handed};
use super::live::Standing;
use crate::budget::CrateId;
use crate::error::{MemoryError, Result};
use crate::manager::UnifiedMemoryManager;
use crate::provider::{Block, ProviderKind, Request};

/// A block on its way to its owner.
pub(crate) struct Offer<'a> {
    pub(crate) id: CrateId,
    pub(crate) kind: ProviderKind,
    pub(crate) fence: Fence,
    /// What the owner asked for.
    pub(crate) request: &'a Request,
    /// Bytes the crate is charged for it.
    pub(crate) charged: usize,
    /// What it holds, elsewhere than zeros, and where.
    pub(crate) image: Option<(Range<usize>, &'a [u8])>,
}

impl UnifiedMemoryManager {
    /// Hands `outer`, as its provider made it, to its owner: lays what lies around it, and checks it. Where a check fails
    /// the block goes back, unless others use it.
    #[inline]
    pub(crate) fn hand_out(&self, outer: Block, offer: Offer<'_>) -> Result<Block> {
        match self.verification.on() {
            None => Ok(outer),
            Some(on) => self.hand_out_checked(on, outer, offer),
        }
    }

    #[cold]
    fn hand_out_checked(&self, on: &On, outer: Block, offer: Offer<'_>) -> Result<Block> {
        let Offer { id, kind, fence, request, charged, image } = offer;
        let fits = fence.fits(request, &outer);
        // What is too small for its canaries is shown to the checks as it is.
        let (fence, request) =
            if fits { (fence, *request) } else { (Fence::default(), fence.widen(request)) };
        let block = fence.inner(&outer);
        // SAFETY: the block fits, and nobody has it yet.
        unsafe { fence.lay(&block) };
        let handed = Handed {
            request: Some(&request),
            block: &block,
            kind,
            fence,
            charged,
            fresh: Some(Fresh { range: 0..block.size, image }),
            standing: Standing::Sound,
        };
        match on.handed_out(self, id, &outer, handed, !fits) {
            Ok(()) => Ok(block),
            Err((violation, may_go_back)) => {
                if may_go_back {
                    // SAFETY: the block is from there, and its owner never saw it.
                    unsafe { self.free(kind, outer) };
                }
                Err(MemoryError::Violation(violation))
            }
        }
    }
}
