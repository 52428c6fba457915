//! Slots of address space that are used again while they are warm: mapped, protected and in memory as the memory before
//! left them, but for what it wrote.
//!
//! A memory gets the slot that was freed last on its thread, one that held its own image where there is one. When it ends,
//! only what it wrote is restored: the kernel is asked which pages those are (`PAGEMAP_SCAN`), or, without that, a prefix
//! is gone through and the rest given back. Small memories are gone through whole, which is less work than asking.
//! A slot is as new *before* anybody can take it, so what a guest left is gone when its memory is.
//!
//! Who may touch what: `class.rs` is arithmetic; a [`Slot`] owns its addresses and does all that is done to them, as the
//! [`Cleaner`] says, by `renew.rs`; a [`Shelf`] only keeps slots, on the [`Stand`] of a thread; this file decides which
//! slot goes where. Memory that idle slots keep is *warm*. It is never more than was leased: see
//! [`give`](PooledProvider::give).

mod class;
mod image;
mod place;
mod renew;
mod shelf;
mod slot;
#[cfg(test)]
mod tests;

use core::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use self::class::Class;
pub use self::image::Image;
use self::shelf::{Shelf, Stand};
use self::slot::{Cleaner, Slot};
use super::{Block, Provider, ProviderError, ProviderInfo, ProviderKind, Request, os, unsupported};
use crate::budget::CrateId;
use crate::lock::Lock;

/// Shelves at most: one a core up to here.
const MOST_SHELVES: usize = 64;

/// Leases are multiples of this many bytes: a page of WebAssembly, which every manager counts exactly.
const GRANULE: usize = 1 << 16;

/// Bytes leased at a time, so that the account of the warm slots is rarely touched.
const LEASE: usize = 2 << 20;

/// Serves blocks of whole pages from slots that stay warm between two blocks. Linux only.
///
/// A block requested with a guard faults outside of its size, as a mapped one does. One requested without a guard lies in a
/// slab of which everything can be touched at any time: no call to the system for a block or its growth, and nothing
/// that faults. Blocks, reserves and guards are at most 4 GiB.
///
/// Memory that it keeps in slots nobody has is charged to the crate `warm slots`, which its manager registers for it, and given
/// back by [`UnifiedMemoryManager::trim`](crate::UnifiedMemoryManager::trim), or when a crate is denied otherwise.
///
/// Each has one open file for each core, their number rounded up to a power of two and 64 at most: threads that shared one would
/// wait for each other in the kernel.
pub struct PooledProvider {
    cleaner: Cleaner,
    warm_limit: usize,
    /// On whose budget warm bytes are.
    account: OnceLock<CrateId>,
    stands: Box<[Stand]>,
    slabs: Lock<Slabs>,
}

/// All addresses there are, and those that no slot has yet.
#[derive(Default)]
struct Slabs {
    all: Vec<(NonNull<u8>, usize)>,
    /// The latest slab of each class, and how many of its slots were handed out.
    latest: Vec<(Class, NonNull<u8>, usize)>,
}

// SAFETY: the pointers are names of addresses; nothing of them is bound to a thread.
unsafe impl Send for Slabs {}

impl PooledProvider {
    /// Bytes of a freed block that stay in memory at most, unless told otherwise: 1 MiB.
    pub const KEEP_RESIDENT: usize = 1 << 20;

    /// Bytes that all idle slots keep in memory at most, unless told otherwise: 64 MiB.
    pub const WARM_LIMIT: usize = 64 << 20;

    /// A provider with no slots yet.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let page = os::page_size();
        let stand = |_| Stand::new(os::linux::Scanner::new(page));
        let stands: Box<[_]> = (0..cores.next_power_of_two().min(MOST_SHELVES)).map(stand).collect();
        Self {
            cleaner: Cleaner { page, keep: Self::KEEP_RESIDENT },
            warm_limit: Self::WARM_LIMIT,
            account: OnceLock::new(),
            stands,
            slabs: Lock::new(Slabs::default()),
        }
    }

    /// Keeps at most so many bytes of a freed block in memory, in whole pages; 64 KiB and a little more are kept in any case.
    #[must_use]
    pub fn keep_resident(mut self, bytes: usize) -> Self {
        // What is given back is whole pages.
        self.cleaner.keep = bytes / self.cleaner.page * self.cleaner.page;
        self
    }

    /// Lets all idle slots together keep at most so many bytes in memory. With 0 every block starts cold.
    #[must_use]
    pub fn warm_limit(mut self, bytes: usize) -> Self {
        self.warm_limit = bytes;
        self
    }

    /// Never asks the kernel which pages were written, as if it had no `PAGEMAP_SCAN`.
    #[must_use]
    pub fn without_pagemap_scan(mut self) -> Self {
        for stand in &mut self.stands {
            stand.scanner = None;
        }
        self
    }

    /// Whether the kernel is asked which pages were written (Linux 6.7), on whatever thread: not where there were too few file
    /// descriptors for that.
    pub fn scans_pagemap(&self) -> bool {
        self.stands.iter().all(|stand| stand.scanner.is_some())
    }

    /// Bytes that idle slots have in memory now.
    pub fn warm(&self) -> usize {
        self.stands.iter().map(|stand| stand.with(|shelf| shelf.warm)).sum()
    }

    /// The most bytes that may be leased.
    pub(crate) fn most_warm(&self) -> usize {
        self.warm_limit
    }

    /// The crate that pays for warm bytes.
    pub(crate) fn account(&self) -> Option<CrateId> {
        self.account.get().copied()
    }

    pub(crate) fn set_account(&self, id: CrateId) {
        // A provider goes into one manager, once.
        let _ = self.account.set(id);
    }

    /// The number of the calling thread's stand.
    fn own(&self) -> usize {
        place::own(self.stands.len())
    }

    /// As [`allocate`](Provider::allocate), of a block that holds `image` where it is, and zeros elsewhere.
    ///
    /// # Errors
    /// As `allocate`; [`ProviderError::Unsupported`] where the image does not end within the request's size.
    pub(crate) fn allocate_with(
        &self,
        request: &Request,
        image: Option<&Arc<Image>>,
    ) -> Result<Block, ProviderError> {
        let class = Class::of(request, self.cleaner.page)?;
        if let Some(end) = image.map(|image| image.range().end).filter(|end| *end > request.size) {
            return Err(unsupported("image", end, request.size));
        }
        let cost = request.size.next_multiple_of(self.cleaner.page);
        let exhausted = ProviderError::Exhausted { asked: cost, largest: 0 };
        let mut slot = self.find(class, image.map(|image| &**image)).ok_or(exhausted)?;
        // Refused, the slot is dropped and its addresses lost: what is behind them is not known.
        slot.prepare(request.size, image, self.cleaner.page).map_err(|os::Refused| exhausted)?;
        Ok(Block {
            ptr: slot.start(),
            size: request.size,
            reserved: class.len,
            cost,
            align: request.align,
            guard: class.guard,
            mark: Box::into_raw(slot).cast(),
        })
    }

    /// Of all slots the one that takes the least to prepare.
    fn find(&self, class: Class, image: Option<&Image>) -> Option<Box<Slot>> {
        let (own, count) = (self.own(), self.stands.len());
        let stands = || (0..count).map(|it| &self.stands[(own + it) & (count - 1)]);
        stands()
            .find_map(|stand| stand.with(|shelf| shelf.take(class, image)))
            .or_else(|| self.fresh(class))
            .or_else(|| stands().find_map(|stand| stand.with(|shelf| shelf.take_any(class))))
    }

    /// A slot nobody had before.
    fn fresh(&self, class: Class) -> Option<Box<Slot>> {
        let start = self.slabs.with(|slabs| {
            let at = slabs.latest.iter().position(|(of, ..)| *of == class);
            let at = match at.filter(|&at| slabs.latest[at].2 < class.slots()) {
                Some(at) => at,
                None => {
                    let len = class.slab();
                    let start =
                        if class.is_open() { os::linux::reserve_open(len) } else { os::reserve(len) }.ok()?;
                    slabs.all.push((start, len));
                    let slab = (class, start, 0);
                    match at {
                        Some(at) => {
                            slabs.latest[at] = slab;
                            at
                        }
                        None => {
                            slabs.latest.push(slab);
                            slabs.latest.len() - 1
                        }
                    }
                }
            };
            let (_, slab, next) = &mut slabs.latest[at];
            // SAFETY: the offset of a slot is within its slab.
            let start = unsafe { slab.add(class.offset(*next)) };
            *next += 1;
            Some(start)
        })?;
        // SAFETY: each number of a slab's slot is used once, and the slab is fresh.
        Some(Box::new(unsafe { Slot::new(start, class) }))
    }

    /// Takes a block back, as [`free`](Provider::free). Its slot stays warm where that is within what is leased, if need
    /// be after leasing more: `lease` is asked for so many bytes, and says whether they were charged.
    ///
    /// # Safety
    /// As `free`.
    pub(crate) unsafe fn give(&self, block: Block, lease: impl Fn(usize) -> bool) {
        let stand = &self.stands[self.own()];
        // SAFETY: `allocate_with` made the mark of a box; the caller says that it is not used again.
        let mut slot = unsafe { Box::from_raw(block.mark.cast::<Slot>()) };
        let most = self.cleaner.most_warm(block.size);
        let mut room = stand.may_have_room(most);
        if !room {
            let more = most.next_multiple_of(GRANULE).max(LEASE.min(self.warm_limit / GRANULE * GRANULE));
            // Charged before it is kept.
            if more <= self.warm_limit && lease(more) {
                stand.with(|shelf| shelf.lease += more);
                room = true;
            } else {
                room = self.move_lease(stand, most);
            }
        }
        if room {
            slot.reset(block.size, &self.cleaner, stand.scanner.as_ref());
        }
        // Others may have used the room meanwhile.
        let left = if room { stand.with(|shelf| shelf.put_leased(slot)) } else { Some(slot) };
        if let Some(slot) = left {
            self.cool(slot, stand);
        }
    }

    /// Puts a slot away without its memory. Returns whether the system took that.
    fn cool(&self, mut slot: Box<Slot>, stand: &Stand) -> bool {
        if slot.discard().is_err() {
            // Its addresses are lost: what is behind them is not known.
            return false;
        }
        let cold = slot.warm == 0;
        stand.with(|shelf| shelf.put(slot));
        cold
    }

    /// Gets room for so many warm bytes from shelves that have leased it and do not use it.
    fn move_lease(&self, stand: &Stand, bytes: usize) -> bool {
        let bytes = bytes.next_multiple_of(GRANULE);
        let others = self.stands.iter().filter(|other| !ptr::eq(*other, stand));
        for other in others {
            let moved = other.with(|other| {
                let has = other.room() >= bytes;
                other.lease -= if has { bytes } else { 0 };
                has
            });
            if moved {
                stand.with(|shelf| shelf.lease += bytes);
                return true;
            }
        }
        false
    }

    /// Gives warm memory back to the system, that of slots not used for longest first, until `bytes` of the lease can be
    /// given back. Returns how many can: the caller uncharges them.
    pub(crate) fn trim(&self, bytes: usize) -> usize {
        let mut freed = 0;
        for stand in &self.stands {
            while freed < bytes {
                // What is leased and not used goes first.
                let missing = (bytes - freed).checked_next_multiple_of(GRANULE).unwrap_or(usize::MAX);
                let idle = stand.with(|shelf| {
                    let idle = (shelf.room() / GRANULE * GRANULE).min(missing);
                    shelf.lease -= idle;
                    idle
                });
                freed += idle;
                if freed >= bytes {
                    break;
                }
                // Locked memory the system does not take: the next would fare the same.
                if !stand.with(Shelf::take_warm).is_some_and(|slot| self.cool(slot, stand)) {
                    break;
                }
            }
        }
        freed
    }

    /// Has no idle slot keep an image: its memory goes when its last owner does.
    pub(crate) fn forget(&self, image: &Image) {
        for stand in &self.stands {
            while let Some(slot) = stand.with(|shelf| shelf.take_filled(image)) {
                self.cool(slot, stand);
            }
        }
    }

    #[inline]
    fn slot(block: &mut Block) -> &mut Slot {
        // SAFETY: `allocate_with` made the mark of a box that lives until the block is freed; whoever has the block alone
        // has the slot alone.
        unsafe { &mut *block.mark.cast::<Slot>() }
    }
}

impl Default for PooledProvider {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: a slot is in one block or on one shelf, and slots of a slab do not overlap. It is put on a shelf only after
// all that its block could write was made what it is in a new one. A guarded slot faults past its size, since exactly the
// block's pages are opened, and so do the guards that its class leaves on either side.
unsafe impl Provider for PooledProvider {
    fn describe(&self) -> ProviderInfo {
        ProviderInfo {
            kind: ProviderKind::Pooled,
            capacity: None,
            granule: self.cleaner.page,
            max_align: self.cleaner.page,
            grows_in_place: true,
            guards: true,
        }
    }

    fn cost(&self, request: &Request) -> Result<usize, ProviderError> {
        Class::of(request, self.cleaner.page)?;
        Ok(request.size.next_multiple_of(self.cleaner.page))
    }

    fn allocate(&self, request: &Request) -> Result<Block, ProviderError> {
        self.allocate_with(request, None)
    }

    #[inline(always)]
    fn grown_cost(&self, block: &Block, size: usize) -> Result<usize, ProviderError> {
        if size > block.reserved {
            return Err(ProviderError::PastReserve { asked: size, limit: block.reserved });
        }
        // `size` is at most the slot's, a multiple of the page, which is a power of two: no division.
        Ok(((size + self.cleaner.page - 1) & !(self.cleaner.page - 1)).max(block.cost))
    }

    #[inline(always)]
    unsafe fn grow(&self, block: &mut Block, size: usize) -> Result<(), ProviderError> {
        let cost = self.grown_cost(block, size)?;
        if cost > block.cost {
            let exhausted = ProviderError::Exhausted { asked: cost - block.cost, largest: 0 };
            Self::slot(block).open(cost).map_err(|os::Refused| exhausted)?;
        }
        block.cost = cost;
        block.size = block.size.max(size);
        Ok(())
    }

    unsafe fn free(&self, block: Block) {
        // Nobody pays for warm bytes here.
        // SAFETY: the caller's promise.
        unsafe { self.give(block, |_| false) };
    }
}

impl Drop for PooledProvider {
    fn drop(&mut self) {
        let slabs = self.slabs.with(core::mem::take);
        for (start, len) in slabs.all {
            // SAFETY: reserved by `fresh`; every block was given back, and idle slots are not used any more.
            let _ = unsafe { os::release(start, len) };
        }
    }
}

impl core::fmt::Debug for PooledProvider {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PooledProvider").field("scans_pagemap", &self.scans_pagemap()).finish_non_exhaustive()
    }
}
