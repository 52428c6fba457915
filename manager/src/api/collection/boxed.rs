//! A slice that never changes its length.

use core::ops::{Deref, DerefMut};

use super::{Collection, CrateVec};
use crate::api::CrateHandle;
use crate::error::Result;

/// A slice on a crate's budget: no capacity beyond its length, which stays as it is.
#[derive(Debug)]
pub struct CrateBox<'m, T>(CrateVec<'m, T>);

impl<'m, T: Default> Collection<'m> for CrateBox<'m, T> {
    /// A slice of `capacity` default values.
    fn with_capacity_in(capacity: usize, handle: CrateHandle<'m>) -> Result<Self> {
        let mut elements = CrateVec::with_capacity_in(capacity, handle)?;
        for _ in 0..capacity {
            elements.try_push(T::default())?;
        }
        Ok(Self(elements))
    }
}

impl<T> Deref for CrateBox<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for CrateBox<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
