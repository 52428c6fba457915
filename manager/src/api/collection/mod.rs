//! Collections on a crate's budget. Whatever makes one larger can be refused, and says so.
//!
//! They are hashbrown's and allocator-api2's, over a [`CrateHandle`] as their allocator: in the
//! manager's static region where it has one, else on the heap.

mod allocator;
mod boxed;
mod map;
mod string;
mod vec;

pub use boxed::CrateBox;
pub use map::CrateMap;
pub use string::CrateString;
pub use vec::CrateVec;

use core::fmt;

use crate::api::CrateHandle;
use crate::error::{MemoryError, Result};

/// A collection that [`allocate_collection`](crate::allocate_collection) can make.
pub trait Collection<'m>: Sized {
    /// Makes one with room for `capacity` elements.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::allocate`](crate::UnifiedMemoryManager::allocate).
    fn with_capacity_in(capacity: usize, handle: CrateHandle<'m>) -> Result<Self>;
}

impl<'m> CrateHandle<'m> {
    /// Makes a collection with room for `capacity` elements.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::allocate`](crate::UnifiedMemoryManager::allocate).
    pub fn collection<C: Collection<'m>>(&self, capacity: usize) -> Result<C> {
        C::with_capacity_in(capacity, self.clone())
    }
}

/// What was to go into a collection and did not, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected<T> {
    /// Given back.
    pub value: T,
    /// Why.
    pub error: MemoryError,
}

impl<T> From<Rejected<T>> for MemoryError {
    fn from(rejected: Rejected<T>) -> Self {
        rejected.error
    }
}

impl<T> fmt::Display for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> core::error::Error for Rejected<T> {}

#[cfg(all(test, feature = "std"))]
mod tests;
