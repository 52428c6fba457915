//! A string.

use core::fmt;
use core::ops::Deref;

use super::{Collection, CrateVec};
use crate::api::CrateHandle;
use crate::error::Result;

/// Growable UTF-8 text on a crate's budget.
///
/// `write!` to it works too; it reports a refusal as `fmt::Error`, without the figures.
#[derive(Debug)]
pub struct CrateString<'m>(CrateVec<'m, u8>);

impl CrateString<'_> {
    /// Appends `text`, all of it or nothing.
    ///
    /// # Errors
    /// As [`UnifiedMemoryManager::allocate`](crate::UnifiedMemoryManager::allocate).
    pub fn try_push_str(&mut self, text: &str) -> Result<()> {
        self.0.try_extend_from_slice(text.as_bytes())
    }

    /// Removes all text. Keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Bytes it has room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<'m> Collection<'m> for CrateString<'m> {
    /// Room for `capacity` bytes.
    fn with_capacity_in(capacity: usize, handle: CrateHandle<'m>) -> Result<Self> {
        CrateVec::with_capacity_in(capacity, handle).map(Self)
    }
}

impl Deref for CrateString<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        // SAFETY: only whole `str`s are ever appended, and nothing is removed but all of it.
        unsafe { core::str::from_utf8_unchecked(&self.0) }
    }
}

impl fmt::Display for CrateString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Write for CrateString<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.try_push_str(text).map_err(|_| fmt::Error)
    }
}
