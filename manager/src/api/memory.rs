//! Memory of a size known at compile time.

use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

#[cfg(all(feature = "alloc", target_pointer_width = "64"))]
use crate::budget::{Class, CrateId};
#[cfg(all(feature = "alloc", target_pointer_width = "64"))]
use crate::handle::ManagerHandle;
use crate::raw::RawMemory;

/// `SIZE` zeroed bytes on a crate's budget: a handle to them, whatever their size. Dropping it frees
/// them.
///
/// On 64-bit targets a crate that has a stock keeps a few blocks of the heap for the next of the same size, where that is
/// a power of two from 64 bytes to 16 KiB and an eighth of the [stock](crate::Builder::stock) at most:
/// [`NodeSnapshot::slab`](crate::NodeSnapshot::slab) bytes, which are idle as its stock is. Where blocks are checked ([`VerificationLevel`](crate::VerificationLevel)) none are kept.
#[derive(Debug)]
pub struct Memory<'m, const SIZE: usize>(ManuallyDrop<RawMemory<'m>>);

impl<'m, const SIZE: usize> Memory<'m, SIZE> {
    /// `raw` must have `SIZE` bytes: both callers ask for just that.
    pub(crate) fn new(raw: RawMemory<'m>) -> Self {
        debug_assert_eq!(raw.len(), SIZE);
        Self(ManuallyDrop::new(raw))
    }

    /// A block that the crate kept, zeroed; `None` where it has none.
    #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
    #[inline]
    pub(crate) fn kept(manager: &ManagerHandle<'m>, id: CrateId) -> Option<Self> {
        let class = const { Class::of(SIZE) }?;
        RawMemory::take_kept(manager, id, class, SIZE).map(Self::new)
    }

    /// The block behind it: whose it is, what it is charged, where it comes from.
    pub fn raw(&self) -> &RawMemory<'m> {
        &self.0
    }
}

impl<const SIZE: usize> Drop for Memory<'_, SIZE> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
        if let Some(class) = const { Class::of(SIZE) }
            // SAFETY: the last use of it.
            && unsafe { self.0.keep(class) }
        {
            return;
        }
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

impl<const SIZE: usize> Deref for Memory<'_, SIZE> {
    type Target = [u8; SIZE];

    fn deref(&self) -> &[u8; SIZE] {
        // SAFETY: the block has `SIZE` initialised bytes, which `&self` keeps from being written or
        // freed; an array of bytes has alignment 1.
        unsafe { self.0.as_ptr().cast().as_ref() }
    }
}

impl<const SIZE: usize> DerefMut for Memory<'_, SIZE> {
    fn deref_mut(&mut self) -> &mut [u8; SIZE] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { self.0.as_ptr().cast().as_mut() }
    }
}
