//! Stacks of async calls on a crate's budget.

use std::ops::Range;

use wasmtime::{StackCreator, StackMemory};
use wrt_memory::{MemoryError, RawMemory, Scope};

use crate::budgets::Budgets;
use crate::memory::request;

/// Makes the stacks on which async calls run.
pub(crate) struct Stacks {
    budgets: Budgets,
}

/// Bytes below a stack that fault: one page of any host. The mapped provider has at least a page.
const GUARD: usize = 4096;

impl Stacks {
    pub(crate) fn new(budgets: Budgets) -> Self {
        Self { budgets }
    }
}

// SAFETY: `BudgetedStack` upholds what wasmtime asks of the stack made here.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let handle = Scope::current().or_else(|| self.budgets.fallback()).ok_or(NO_SCOPE)?;
        // Fresh mapped pages are zero, asked for or not.
        let memory = handle.allocate_for(&request(size, size, GUARD))?;
        Ok(Box::new(BudgetedStack(memory)))
    }
}

const NO_SCOPE: MemoryError = MemoryError::InvalidConfig {
    what: "the stack of an async call of no crate: poll the call within `StoreAccount::run`, or give the budgets a \
           `default_crate`",
};

/// A stack and its Charge.
struct BudgetedStack(RawMemory<'static>);

// SAFETY: the range is committed, aligned to a page at both ends since its size is whole pages, and
// has a page that faults below it by the mapped provider's contract.
unsafe impl StackMemory for BudgetedStack {
    fn top(&self) -> *mut u8 {
        // In bounds: one past the last byte.
        self.0.as_ptr().as_ptr().wrapping_add(self.0.len())
    }

    fn range(&self) -> Range<usize> {
        let bottom = self.0.as_ptr().as_ptr().addr();
        bottom..bottom + self.0.len()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let bottom = self.0.as_ptr().as_ptr();
        bottom.wrapping_sub(GUARD)..bottom
    }
}
