//! How what belongs to a manager refers to it: borrowed, or shared.

use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use crate::budget::BudgetTracker;
use crate::manager::UnifiedMemoryManager;
#[cfg(feature = "alloc")]
use crate::sync::Arc;

/// A reference to a manager that keeps it alive: a borrow, or, with `alloc`, a share of it.
///
/// Firmware has its manager in a `static` and borrows it; a server shares an `Arc`.
#[derive(Clone)]
pub struct ManagerHandle<'m> {
    /// The manager itself, be it borrowed or shared: who charges looks at nothing else.
    manager: NonNull<UnifiedMemoryManager>,
    /// What keeps `manager`, where it is shared.
    #[cfg(feature = "alloc")]
    _share: Option<Arc<UnifiedMemoryManager>>,
    borrowed: PhantomData<&'m UnifiedMemoryManager>,
}

// SAFETY: it is a `&UnifiedMemoryManager`, or an `Arc` of one, and a manager is shared between threads as it is.
unsafe impl Send for ManagerHandle<'_> where UnifiedMemoryManager: Send + Sync {}
// SAFETY: the same.
unsafe impl Sync for ManagerHandle<'_> where UnifiedMemoryManager: Send + Sync {}

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
        // SAFETY: borrowed for as long as this can be, or kept by the share, and by nobody borrowed as mutable.
        unsafe { self.manager.as_ref() }
    }
}

impl<'m> From<&'m UnifiedMemoryManager> for ManagerHandle<'m> {
    #[inline]
    fn from(manager: &'m UnifiedMemoryManager) -> Self {
        Self {
            manager: NonNull::from(manager),
            #[cfg(feature = "alloc")]
            _share: None,
            borrowed: PhantomData,
        }
    }
}

#[cfg(feature = "alloc")]
impl From<Arc<UnifiedMemoryManager>> for ManagerHandle<'_> {
    #[inline]
    fn from(manager: Arc<UnifiedMemoryManager>) -> Self {
        Self { manager: NonNull::from(&*manager), _share: Some(manager), borrowed: PhantomData }
    }
}

#[cfg(feature = "alloc")]
impl From<&Arc<UnifiedMemoryManager>> for ManagerHandle<'_> {
    #[inline]
    fn from(manager: &Arc<UnifiedMemoryManager>) -> Self {
        manager.clone().into()
    }
}

impl core::fmt::Debug for ManagerHandle<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ManagerHandle")
    }
}
