//! One crate's memory, as a value to pass along.

use crate::api::Memory;
use crate::budget::{Charge, CrateId};
use crate::error::Result;
use crate::handle::ManagerHandle;
use crate::provider::Request;
use crate::raw::RawMemory;

/// A crate and its manager: whoever has it allocates for that crate.
///
/// Cheap to clone. On targets without threads it is the scope that is passed along.
#[derive(Clone, Debug)]
pub struct CrateHandle<'m> {
    manager: ManagerHandle<'m>,
    id: CrateId,
}

impl<'m> CrateHandle<'m> {
    /// For the crate `id` of `manager`.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn new(manager: impl Into<ManagerHandle<'m>>, id: CrateId) -> Result<Self> {
        let manager = manager.into();
        manager.tracker.resolve(id)?;
        Ok(Self { manager, id })
    }

    /// The crate.
    pub fn id(&self) -> CrateId {
        self.id
    }

    /// The manager.
    pub fn manager(&self) -> &ManagerHandle<'m> {
        &self.manager
    }

    /// Allocates `size` bytes, zeroed.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::allocate`](crate::UnifiedMemoryManager::allocate).
    pub fn allocate(&self, size: usize) -> Result<RawMemory<'m>> {
        self.allocate_for(&Request::new(size))
    }

    /// Allocates with an alignment, room to grow in place, or guards.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::allocate`](crate::UnifiedMemoryManager::allocate).
    pub fn allocate_for(&self, request: &Request) -> Result<RawMemory<'m>> {
        RawMemory::allocate(self.manager.clone(), self.id, request)
    }

    /// Allocates `SIZE` bytes, zeroed, of a size known at compile time.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::allocate`](crate::UnifiedMemoryManager::allocate).
    #[inline]
    pub fn memory<const SIZE: usize>(&self) -> Result<Memory<'m, SIZE>> {
        #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
        if let Some(memory) = Memory::kept(&self.manager, self.id) {
            return Ok(memory);
        }
        self.allocate(SIZE).map(Memory::new)
    }

    /// Charges for bytes that somebody else provides.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::charge`](crate::UnifiedMemoryManager::charge).
    #[inline(always)]
    pub fn charge(&self, requested: usize, cost: usize) -> Result<Charge<'m>> {
        let taken = self.manager.take(self.id, cost)?;
        Ok(Charge::taken(self.manager.clone(), taken, requested))
    }
}
