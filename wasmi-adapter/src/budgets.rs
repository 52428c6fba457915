//! What ties a manager to wasmi.

use wrt_memory::{CrateHandle, CrateId, ManagerHandle, MemoryError};

use crate::dispatch;
use crate::error::Error;
use crate::heap;
use crate::reserve::Reserve;

/// A manager's budgets, for guests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budgets {
    manager: ManagerHandle<'static>,
    measured: bool,
}

impl Budgets {
    /// Budgets of this manager. The first call in a program runs a small guest, to see that this build of
    /// wasmi does not use up the host's stack.
    ///
    /// # Errors
    /// [`Dispatch`](Error::Dispatch) where it does.
    pub fn new(manager: impl Into<ManagerHandle<'static>>) -> Result<Self, Error> {
        dispatch::check()?;
        Ok(Self { manager: manager.into(), measured: heap::is_installed() })
    }

    /// The manager.
    pub fn manager(&self) -> &ManagerHandle<'static> {
        &self.manager
    }

    /// Whether what the runtime allocates is measured: whether a [`GuestHeap`](crate::GuestHeap) is the program's
    /// global allocator. If not, guests are charged an estimate.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// A crate of the manager.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn handle(&self, id: CrateId) -> Result<CrateHandle<'static>, MemoryError> {
        CrateHandle::new(self.manager.clone(), id)
    }

    /// Sets room aside for a crate, of these sizes in bytes: for its linear memories, one each, and for what the runtime
    /// allocates for its guests, one each. See [`Reserve`]. Room for the runtime costs a few words more than is asked for;
    /// what keeps account of what is where in it, some hundred bytes, is on the program's heap and nobody's budget.
    ///
    /// # Errors
    /// Where the crate, the manager's providers or the program's heap have not so much; [`NotMeasured`](Error::NotMeasured) for room for
    /// the runtime where no [`GuestHeap`](crate::GuestHeap) could use it.
    pub fn reserve(&self, id: CrateId, memories: &[usize], runtimes: &[usize]) -> Result<Reserve, Error> {
        const WHAT: &str = "room set aside";
        if !self.measured && !runtimes.is_empty() {
            return Err(Error::NotMeasured);
        }
        let handle = self.handle(id).map_err(Error::memory(WHAT))?;
        let besides = Reserve::besides(memories.len(), runtimes.len());
        if !heap::has_room(besides) {
            return Err(Error::NoRoom { bytes: besides });
        }
        Reserve::new(&handle, memories, runtimes).map_err(Error::memory(WHAT))
    }
}
