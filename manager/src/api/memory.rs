//! Memory of a size known at compile time.

use core::ops::{Deref, DerefMut};

use crate::raw::RawMemory;

/// `SIZE` zeroed bytes on a crate's budget: a handle to them, whatever their size. Dropping it frees
/// them.
#[derive(Debug)]
pub struct Memory<'m, const SIZE: usize>(RawMemory<'m>);

impl<'m, const SIZE: usize> Memory<'m, SIZE> {
    /// `raw` must have `SIZE` bytes: both callers ask for just that.
    pub(crate) fn new(raw: RawMemory<'m>) -> Self {
        debug_assert_eq!(raw.len(), SIZE);
        Self(raw)
    }

    /// The block behind it: whose it is, what it is charged, where it comes from.
    pub fn raw(&self) -> &RawMemory<'m> {
        &self.0
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
