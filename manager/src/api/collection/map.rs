//! A hash map.

use core::borrow::Borrow;
use core::hash::Hash;
use core::mem::{self, size_of};

use hashbrown::{DefaultHashBuilder, HashMap};

use super::{Collection, Rejected};
use crate::api::CrateHandle;
use crate::error::{MemoryError, Result};

/// A hash map on a crate's budget. What makes it larger begins with `try_`.
#[derive(Debug)]
pub struct CrateMap<'m, K, V>(HashMap<K, V, DefaultHashBuilder, CrateHandle<'m>>);

impl<K: Eq + Hash, V> CrateMap<'_, K, V> {
    /// Makes room for `additional` more entries.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::allocate`](crate::UnifiedMemoryManager::allocate).
    pub fn try_reserve(&mut self, additional: usize) -> Result<()> {
        self.0.try_reserve(additional).map_err(|_| self.refusal(additional))
    }

    /// Inserts an entry. Returns the value that was there.
    ///
    /// # Errors
    /// Gives key and value back with the reason.
    pub fn try_insert(&mut self, key: K, value: V) -> core::result::Result<Option<V>, Rejected<(K, V)>> {
        // hashbrown's `insert` makes room even where it only replaces.
        if let Some(present) = self.0.get_mut(&key) {
            return Ok(Some(mem::replace(present, value)));
        }
        if self.0.len() == self.0.capacity() && self.0.try_reserve(1).is_err() {
            let error = self.refusal(1);
            return Err(Rejected { value: (key, value), error });
        }
        Ok(self.0.insert(key, value))
    }

    /// The value of a key.
    pub fn get<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// The value of a key.
    pub fn get_mut<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key)
    }

    /// Removes an entry. Keeps the room.
    pub fn remove<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key)
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter()
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What more entries would need at least, as the refusal it met.
    fn refusal(&self, additional: usize) -> MemoryError {
        let handle = self.0.allocator();
        let entries = self.0.len().saturating_add(additional);
        handle.manager().tracker.refusal(handle.id(), entries.saturating_mul(size_of::<(K, V)>() + 1))
    }
}

impl<'m, K: Eq + Hash, V> Collection<'m> for CrateMap<'m, K, V> {
    fn with_capacity_in(capacity: usize, handle: CrateHandle<'m>) -> Result<Self> {
        let mut map = Self(HashMap::with_hasher_in(DefaultHashBuilder::default(), handle));
        map.try_reserve(capacity)?;
        Ok(map)
    }
}
