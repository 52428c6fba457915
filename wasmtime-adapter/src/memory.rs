//! Linear memory on a crate's budget.

use std::sync::Arc;

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};
use wrt_memory::provider::Request;
use wrt_memory::{CrateHandle, MemoryError, RawMemory};

use crate::account::Account;
use crate::budgets::Budgets;
use crate::handover;

/// Pages, and as many bytes as can be committed one after another without moving.
pub(crate) fn request(size: usize, reserve: usize, guard: usize) -> Request {
    // wasmtime asks for page alignment; no host's pages are smaller than this.
    Request { size, align: 4096, reserve, guard }
}

/// Makes the linear memories of an engine.
pub(crate) struct Creator {
    budgets: Budgets,
}

impl Creator {
    pub(crate) fn new(budgets: Budgets) -> Self {
        Self { budgets }
    }

    /// Bytes to reserve: what wasmtime asks for, and all that a memory of this type could ever be
    /// granted, so that growth never has to move it.
    fn reserve(&self, minimum: usize, maximum: Option<usize>, reserved: Option<usize>) -> usize {
        let grantable = maximum.unwrap_or(usize::MAX).min(self.budgets.manager.largest_total());
        reserved.unwrap_or(0).max(minimum).max(grantable)
    }

    fn create(
        &self,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<BudgetedMemory, MemoryError> {
        let request = request(minimum, self.reserve(minimum, maximum, reserved), guard);
        let account = handover::accept(minimum, maximum);
        let (handle, charge) = match &account {
            Some(account) => (account.handle().clone(), account.take(0, minimum)),
            None => (self.budgets.fallback().ok_or(NO_ACCOUNT)?, None),
        };
        let memory = match charge {
            Some(charge) => RawMemory::allocate_charged(handle.manager().clone(), &request, charge),
            None => handle.allocate_for(&request),
        };
        Ok(BudgetedMemory { memory: memory?, handle, account })
    }
}

/// What a memory gets of which nobody knows whose it is.
const NO_ACCOUNT: MemoryError = MemoryError::InvalidConfig {
    what: "a linear memory of no crate: its store has no account. Put `Budgets::account` into the store's data and \
           name it with `Store::limiter` (or `limiter_async`), or give the budgets a `default_crate`",
};

// SAFETY: `BudgetedMemory` upholds what wasmtime asks of the memory made here.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let made = self.create(minimum, maximum, reserved_size_in_bytes, guard_size_in_bytes);
        made.map(|memory| Box::new(memory) as Box<dyn LinearMemory>).map_err(|error| error.to_string())
    }
}

/// A linear memory and its Charge. Dropping it is the only word wasmtime gives that it is gone.
struct BudgetedMemory {
    memory: RawMemory<'static>,
    handle: CrateHandle<'static>,
    /// Whose limiter grants its growth; none in a store without an account.
    account: Option<Arc<Account>>,
}

// SAFETY: the mapped provider's contract is what wasmtime asks for: `byte_size` bytes at `as_ptr` are
// readable, writable and zero when new; the rest of the reservation and the guards fault; the base
// never moves; new bytes are committed before `byte_size` says so.
unsafe impl LinearMemory for BudgetedMemory {
    fn byte_size(&self) -> usize {
        self.memory.len()
    }

    fn byte_capacity(&self) -> usize {
        self.memory.reserved()
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        let granted = self.account.as_ref().and_then(|account| account.take(self.memory.len(), new_size));
        let grown = match granted {
            Some(charge) => self.memory.grow_charged(new_size, charge),
            // No limiter was asked: a shared memory, or a store without an account.
            None => self.memory.grow(new_size),
        };
        if let (Err(error), Some(account)) = (&grown, &self.account) {
            account.note_denial(error.clone());
        }
        Ok(grown?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ptr().as_ptr()
    }
}

impl std::fmt::Debug for BudgetedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BudgetedMemory").field("crate", &self.handle.id()).finish_non_exhaustive()
    }
}
