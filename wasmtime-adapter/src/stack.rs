//! Stacks of async calls on a crate's budget.

use std::ops::Range;

use wasmtime::{StackCreator, StackMemory};
use wrt_memory::provider::ProviderKind;
use wrt_memory::{MemoryError, RawMemory, Scope};

use crate::budgets::Budgets;
use crate::memory::request;

/// Makes the stacks on which async calls run.
pub(crate) struct Stacks {
    budgets: Budgets,
}

impl Stacks {
    pub(crate) fn new(budgets: Budgets) -> Self {
        Self { budgets }
    }
}

// SAFETY: `BudgetedStack` upholds what wasmtime asks of the stack made here.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, _zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        // A scope of another manager says nothing about this engine's guests.
        let scope = Scope::current().filter(|handle| self.budgets.made(handle));
        let handle = scope.or_else(|| self.budgets.fallback()).ok_or(NO_SCOPE)?;
        let mapped = self.budgets.manager.providers().provider(ProviderKind::Mapped).ok_or(NO_PAGES)?;
        let page = mapped.describe().granule;
        // wasmtime asserts that both ends are aligned to a page, whatever size it asks for.
        let whole = size.max(1).checked_next_multiple_of(page).unwrap_or(usize::MAX);
        // Fresh mapped pages are zero, asked for or not.
        let memory = handle.allocate_for(&request(whole, whole, page))?;
        Ok(Box::new(BudgetedStack { memory, guard: page }))
    }
}

const NO_SCOPE: MemoryError = MemoryError::InvalidConfig {
    what: "the stack of an async call of no crate: poll the call within `StoreAccount::run`, or give the budgets a \
           `default_crate`",
};

const NO_PAGES: MemoryError =
    MemoryError::InvalidConfig { what: "a stack needs guard pages: give the manager a mapped provider" };

/// A stack and its Charge.
struct BudgetedStack {
    memory: RawMemory<'static>,
    /// Bytes below it that fault: a page.
    guard: usize,
}

// SAFETY: the range is committed, aligned to a page at both ends since its size is whole pages, and
// has a page that faults below it: a request with a guard is served by the mapped provider only, by
// whose contract it has one.
unsafe impl StackMemory for BudgetedStack {
    fn top(&self) -> *mut u8 {
        // In bounds: one past the last byte.
        self.memory.as_ptr().as_ptr().wrapping_add(self.memory.len())
    }

    fn range(&self) -> Range<usize> {
        let bottom = self.memory.as_ptr().as_ptr().addr();
        bottom..bottom + self.memory.len()
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let bottom = self.memory.as_ptr().as_ptr();
        bottom.wrapping_sub(self.guard)..bottom
    }
}
