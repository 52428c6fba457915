//! Which crate a thread is working for.
//!
//! A scope is entered per call into a guest, and for a future per *poll*: a future may be polled by
//! another thread next time, and others are polled on this one in between.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use crate::api::{Collection, CrateHandle, Memory};
use crate::budget::CrateId;
use crate::error::{MemoryError, Result};
use crate::handle::ManagerHandle;
use crate::manager::UnifiedMemoryManager;

thread_local! {
    /// Entered scopes, innermost last, each with a number its guard knows.
    static ENTERED: RefCell<Vec<(u64, CrateHandle<'static>)>> = const { RefCell::new(Vec::new()) };
}

/// The manager of whoever is in no scope.
static DEFAULT: OnceLock<Arc<UnifiedMemoryManager>> = OnceLock::new();

/// While it lives, this thread works for a crate. Scopes nest; the innermost counts.
#[must_use = "the scope ends when this is dropped"]
pub struct Scope {
    number: u64,
    /// A scope belongs to the thread that entered it.
    _thread: PhantomData<*const ()>,
}

impl Scope {
    /// Enters the scope of a crate.
    pub fn enter(handle: CrateHandle<'static>) -> Self {
        let number = ENTERED.with_borrow_mut(|entered| {
            let number = entered.last().map_or(0, |(last, _)| last + 1);
            entered.push((number, handle));
            number
        });
        Self { number, _thread: PhantomData }
    }

    /// The crate this thread works for, if any.
    pub fn current() -> Option<CrateHandle<'static>> {
        // `try_with`: memory may be freed or asked for while the thread's locals are destroyed.
        ENTERED
            .try_with(|entered| entered.try_borrow().ok()?.last().map(|(_, handle)| handle.clone()))
            .ok()
            .flatten()
    }

    /// Runs a future in the scope of a crate, entered at every poll.
    pub fn run<F: Future>(handle: CrateHandle<'static>, future: F) -> InScope<F> {
        InScope { handle, future }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // By number, not by popping: guards may be dropped in any order. The handle is dropped
        // after the borrow ends, since it may be the last of its manager.
        let left = ENTERED.try_with(|entered| {
            let mut entered = entered.try_borrow_mut().ok()?;
            let at = entered.iter().rposition(|(number, _)| *number == self.number)?;
            Some(entered.remove(at))
        });
        drop(left);
    }
}

/// A future that works for a crate: see [`Scope::run`].
#[derive(Debug)]
pub struct InScope<F> {
    handle: CrateHandle<'static>,
    future: F,
}

impl<F: Future> Future for InScope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is pinned with `self`: it is never moved out of it, `InScope` has no
        // `Drop` and is `Unpin` only where `F` is. `handle` is never pinned.
        let (handle, future) = unsafe {
            let this = self.get_unchecked_mut();
            (&this.handle, Pin::new_unchecked(&mut this.future))
        };
        let _scope = Scope::enter(handle.clone());
        future.poll(context)
    }
}

/// Makes `manager` the one that [`with_memory`] finds outside of scopes, for the whole process.
///
/// # Errors
/// Gives `manager` back where another one is installed already.
pub fn install_default(
    manager: Arc<UnifiedMemoryManager>,
) -> core::result::Result<(), Arc<UnifiedMemoryManager>> {
    DEFAULT.set(manager)
}

/// Allocates `SIZE` zeroed bytes for the crate in whose scope this thread is.
///
/// # Errors
/// [`NoScope`](MemoryError::NoScope), or as [`UnifiedMemoryManager::allocate`].
pub fn allocate<const SIZE: usize>() -> Result<Memory<'static, SIZE>> {
    Scope::current().ok_or(MemoryError::NoScope)?.memory()
}

/// Makes a collection with room for `capacity` elements for the crate in whose scope this thread
/// is.
///
/// # Errors
/// [`NoScope`](MemoryError::NoScope), or as [`UnifiedMemoryManager::allocate`].
pub fn allocate_collection<C: Collection<'static>>(capacity: usize) -> Result<C> {
    Scope::current().ok_or(MemoryError::NoScope)?.collection(capacity)
}

/// Calls `work` with `SIZE` zeroed bytes of the crate `id`, and frees them when it returns or
/// panics. The crate's manager is that of this thread's scope, or the installed default.
///
/// ```
/// # use wrt_memory::{CrateSettings, Memory, UnifiedMemoryManager, install_default, with_memory};
/// # fn main() -> wrt_memory::Result<()> {
/// let manager = std::sync::Arc::new(UnifiedMemoryManager::builder().total(1 << 20).build()?);
/// let guest = manager.register("guest", CrateSettings::new())?;
/// install_default(manager.clone()).unwrap();
/// let sum = with_memory(guest, |m: &mut Memory<1024>| {
///     m[7] = 3;
///     m.iter().map(|&byte| u32::from(byte)).sum::<u32>()
/// })?;
/// assert_eq!((sum, manager.node(guest)?.used), (3, 0));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`NoScope`](MemoryError::NoScope) where there is neither scope nor default; or as
/// [`UnifiedMemoryManager::allocate`].
pub fn with_memory<const SIZE: usize, T>(
    id: CrateId,
    work: impl FnOnce(&mut Memory<'static, SIZE>) -> T,
) -> Result<T> {
    let scoped = Scope::current().map(|handle| handle.manager().clone());
    let default = DEFAULT.get().map(ManagerHandle::from);
    let ours = |manager: &ManagerHandle<'_>| manager.tracker.made(id);
    let known = [scoped, default].into_iter().flatten();
    let mut known = known.peekable();
    if known.peek().is_none() {
        return Err(MemoryError::NoScope);
    }
    let manager = known.find(ours).ok_or(MemoryError::ForeignCrate { id })?;
    let mut memory = CrateHandle::new(manager, id)?.memory()?;
    Ok(work(&mut memory))
}
