//! A vector.

use core::mem::size_of;
use core::ops::{Deref, DerefMut};

use allocator_api2::vec::Vec;

use super::{Collection, Rejected};
use crate::api::CrateHandle;
use crate::error::{MemoryError, Result};

/// A growable array on a crate's budget. Reading and shrinking are a slice's and a vector's; what
/// makes it larger begins with `try_`.
#[derive(Debug)]
pub struct CrateVec<'m, T>(Vec<T, CrateHandle<'m>>);

impl<'m, T> CrateVec<'m, T> {
    /// Elements it has room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Makes room for `additional` more elements: twice the capacity where the budget allows that,
    /// else just as many.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::allocate`](crate::UnifiedMemoryManager::allocate).
    pub fn try_reserve(&mut self, additional: usize) -> Result<()> {
        let needed = self.0.len().saturating_add(additional);
        let missing = needed.saturating_sub(self.0.capacity());
        if missing == 0 {
            return Ok(());
        }
        let doubled = self.0.capacity().saturating_mul(2);
        let handle = self.0.allocator();
        let allowed = handle.manager().tracker.allowance(handle.id());
        let may_double = doubled > needed && doubled.saturating_mul(size_of::<T>()) <= allowed;
        if may_double && self.0.try_reserve_exact(doubled - self.0.len()).is_ok() {
            return Ok(());
        }
        self.0.try_reserve_exact(additional).map_err(|_| self.refusal(needed))
    }

    /// Appends an element.
    ///
    /// # Errors
    /// Gives it back with the reason.
    pub fn try_push(&mut self, value: T) -> core::result::Result<(), Rejected<T>> {
        if let Err(error) = self.try_reserve(1) {
            return Err(Rejected { value, error });
        }
        self.0.push(value);
        Ok(())
    }

    /// Appends a copy of each element of `values`, or none.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve).
    pub fn try_extend_from_slice(&mut self, values: &[T]) -> Result<()>
    where
        T: Clone,
    {
        self.try_reserve(values.len())?;
        self.0.extend_from_slice(values);
        Ok(())
    }

    /// Lengthens it with copies of `value`, or shortens it.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve).
    pub fn try_resize(&mut self, len: usize, value: T) -> Result<()>
    where
        T: Clone,
    {
        self.try_reserve(len.saturating_sub(self.0.len()))?;
        self.0.resize(len, value);
        Ok(())
    }

    /// Removes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Removes the element at `index`, which the last one replaces. `None` past the end.
    pub fn swap_remove(&mut self, index: usize) -> Option<T> {
        (index < self.0.len()).then(|| self.0.swap_remove(index))
    }

    /// Drops all elements from the `len`th on. Keeps the room.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Drops all elements. Keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The crate it belongs to.
    pub fn handle(&self) -> &CrateHandle<'m> {
        self.0.allocator()
    }

    pub(super) fn refusal(&self, elements: usize) -> MemoryError {
        let handle = self.0.allocator();
        handle.manager().tracker.refusal(handle.id(), elements.saturating_mul(size_of::<T>()))
    }
}

impl<'m, T> Collection<'m> for CrateVec<'m, T> {
    fn with_capacity_in(capacity: usize, handle: CrateHandle<'m>) -> Result<Self> {
        let mut vec = Self(Vec::new_in(handle));
        vec.try_reserve(capacity)?;
        Ok(vec)
    }
}

impl<T> Deref for CrateVec<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for CrateVec<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
