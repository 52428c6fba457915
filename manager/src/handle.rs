//! How what belongs to a manager refers to it: borrowed, or shared.

use core::ops::Deref;

use crate::budget::BudgetTracker;
use crate::manager::UnifiedMemoryManager;
#[cfg(feature = "alloc")]
use crate::sync::Arc;

/// A reference to a manager that keeps it alive: a borrow, or, with `alloc`, a share of it.
///
/// Firmware has its manager in a `static` and borrows it; a server shares an `Arc`.
#[derive(Clone)]
pub struct ManagerHandle<'m>(Hold<'m>);

#[derive(Clone)]
enum Hold<'m> {
    Borrowed(&'m UnifiedMemoryManager),
    #[cfg(feature = "alloc")]
    Shared(Arc<UnifiedMemoryManager>),
}

impl ManagerHandle<'_> {
    #[inline]
    pub(crate) fn tracker(&self) -> &BudgetTracker {
        &self.tracker
    }
}

impl Deref for ManagerHandle<'_> {
    type Target = UnifiedMemoryManager;

    #[inline]
    fn deref(&self) -> &UnifiedMemoryManager {
        match &self.0 {
            Hold::Borrowed(manager) => manager,
            #[cfg(feature = "alloc")]
            Hold::Shared(manager) => manager,
        }
    }
}

impl<'m> From<&'m UnifiedMemoryManager> for ManagerHandle<'m> {
    #[inline]
    fn from(manager: &'m UnifiedMemoryManager) -> Self {
        Self(Hold::Borrowed(manager))
    }
}

#[cfg(feature = "alloc")]
impl From<Arc<UnifiedMemoryManager>> for ManagerHandle<'_> {
    #[inline]
    fn from(manager: Arc<UnifiedMemoryManager>) -> Self {
        Self(Hold::Shared(manager))
    }
}

#[cfg(feature = "alloc")]
impl From<&Arc<UnifiedMemoryManager>> for ManagerHandle<'_> {
    #[inline]
    fn from(manager: &Arc<UnifiedMemoryManager>) -> Self {
        Self(Hold::Shared(manager.clone()))
    }
}

impl core::fmt::Debug for ManagerHandle<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ManagerHandle")
    }
}
