//! Which blocks are live: so that one that is freed twice, or handed out twice, is found before it does harm.
//!
//! Kept from level `Basic` on, with `alloc`: without it there is nowhere to keep it. Every block is entered, also
//! where only some operations are looked at: what is not in the table was freed before.

#[cfg(feature = "alloc")]
use alloc::collections::BTreeMap;

#[cfg(feature = "alloc")]
use crate::budget::CrateId;
#[cfg(feature = "alloc")]
use crate::lock::Lock;
#[cfg(feature = "alloc")]
use crate::provider::Block;

/// What the table says of a block.
#[cfg_attr(
    not(all(feature = "verification", feature = "alloc")),
    allow(dead_code, reason = "without a table all is sound")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As it should be, or there is no table.
    Sound,
    /// It was to be freed, and is not live, or is another crate's.
    NotLive,
    /// It was handed out, and overlaps a live block, which starts here.
    Overlaps { start: usize },
}

/// The live blocks, by address.
#[cfg(feature = "alloc")]
#[cfg_attr(not(feature = "verification"), allow(dead_code, reason = "made with the feature only"))]
pub(crate) struct Live(Lock<BTreeMap<usize, Extent>>);

#[cfg(feature = "alloc")]
struct Extent {
    end: usize,
    id: CrateId,
}

#[cfg(feature = "alloc")]
#[cfg_attr(not(feature = "verification"), allow(dead_code, reason = "made with the feature only"))]
impl Live {
    pub(crate) fn new() -> Self {
        Self(Lock::new(BTreeMap::new()))
    }

    /// Enters a block as its provider knows it, unless it overlaps one.
    pub(crate) fn enter(&self, block: &Block, id: CrateId) -> Standing {
        let Some((start, end)) = extent(block) else { return Standing::Sound };
        self.0.with(|live| {
            let before = live.range(..end).next_back();
            if let Some((&other, extent)) = before
                && extent.end > start
            {
                return Standing::Overlaps { start: other };
            }
            live.insert(start, Extent { end, id });
            Standing::Sound
        })
    }

    /// Takes a block off the table, if it is there.
    pub(crate) fn leave(&self, block: &Block, id: CrateId) -> Standing {
        let Some((start, _)) = extent(block) else { return Standing::Sound };
        self.0.with(|live| match live.get(&start) {
            Some(extent) if extent.id == id => {
                live.remove(&start);
                Standing::Sound
            }
            _ => Standing::NotLive,
        })
    }
}

/// Where a block lies; one that takes nothing lies nowhere.
#[cfg(feature = "alloc")]
fn extent(block: &Block) -> Option<(usize, usize)> {
    let start = block.ptr.addr().get();
    (block.reserved > 0).then(|| (start, start.saturating_add(block.reserved)))
}
