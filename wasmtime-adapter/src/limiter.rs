//! wasmtime's question whether something may grow.

use wasmtime::{ResourceLimiter, ResourceLimiterAsync, Result};
use wrt_memory::MemoryError;

use crate::account::{OnDenial, StoreAccount};
use crate::handover;

/// What wasmtime 48 says where it gives a growth up after the limiter said yes and before the memory
/// was asked (`vm/memory.rs`, `LocalMemory::grow`).
const GIVEN_UP: &str = "Memory maximum size exceeded";

impl StoreAccount {
    /// May a linear memory grow from `current` to `desired` bytes? A yes is charged.
    fn memory(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // Whatever was granted before and not taken over: by a memory that is not ours.
        let has_empty = self.shared.settle();
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The type forbids it: wasmtime would ask, get a yes, and then fail. That is no matter
            // of budget, and nothing to give back.
            return Ok(false);
        }
        let creating = current == 0 && !has_empty;
        match self.charge_memory(current, desired) {
            Ok(()) => {
                if current == 0 {
                    handover::offer(&self.shared, desired, maximum);
                }
                Ok(true)
            }
            Err(error) => self.deny(error, creating),
        }
    }

    fn charge_memory(&self, current: usize, desired: usize) -> Result<(), MemoryError> {
        // Whole host pages, as every provider of pages charges.
        let committed = |size: usize| size.checked_next_multiple_of(self.page);
        let cost = match (committed(current), committed(desired)) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            // A size whose pages cannot be counted is above every limit.
            _ => usize::MAX,
        };
        self.shared.grant(current, desired, cost)
    }

    /// May a table grow from `current` to `desired` elements? A yes is charged until the store ends:
    /// nobody tells when a table goes.
    fn table(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let creating = current == 0 && !self.empty_table;
        self.empty_table |= desired == 0;
        let bytes = desired.saturating_sub(current).saturating_mul(self.table_element);
        match self.shared.keep(bytes, bytes) {
            Ok(()) => Ok(true),
            Err(error) => self.deny(error, creating),
        }
    }

    /// A growth is denied as the host chose. What cannot be created is an error in any case: this
    /// one has the figures, wasmtime's own has none.
    fn deny(&self, error: MemoryError, creating: bool) -> Result<bool> {
        if creating || self.on_denial == OnDenial::Trap { Err(error.into()) } else { Ok(false) }
    }

    /// A growth came to nothing, or was never asked for.
    fn memory_failed(&mut self, error: &wasmtime::Error) {
        // This comes also for growth of which no limiter was asked (past what a type with one-byte
        // pages can have). What is pending then stands for a memory that is there: giving it back
        // would let a guest have it twice. A memory of ours that fails to grow has given its Charge
        // back itself; what is left is the one case that is sure.
        if error.to_string() == GIVEN_UP {
            self.shared.refund();
        }
    }
}

impl ResourceLimiter for StoreAccount {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.memory(current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.memory_failed(&error);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.table(current, desired, maximum)
    }

    // Tables: what wasmtime reports here it never asked us for (an overflow), or was refused above
    // (past the maximum).
    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        Ok(())
    }
}

#[async_trait::async_trait]
impl ResourceLimiterAsync for StoreAccount {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        self.memory(current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.memory_failed(&error);
        Ok(())
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        self.table(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        Ok(())
    }
}
