//! wasmtime's question whether something may grow.

use wasmtime::{ResourceLimiter, ResourceLimiterAsync, Result};
use wrt_memory::{Charge, MemoryError};

use crate::account::{Growth, OnDenial, StoreAccount};
use crate::handover;

/// What wasmtime 48 says where it gives a growth up after the limiter said yes and before the memory
/// was asked (`vm/memory.rs`, `LocalMemory::grow`).
const GIVEN_UP: &str = "Memory maximum size exceeded";

/// A growth that a guest, or its making, asks for.
pub(crate) struct Asked {
    /// Bytes asked for.
    pub(crate) requested: usize,
    /// Bytes to be charged.
    pub(crate) cost: usize,
    /// Bytes charged for what is to grow.
    pub(crate) besides: usize,
}

impl StoreAccount {
    /// What it would cost that a linear memory grows from `current` to `desired` bytes. None where it may
    /// not, whatever the budget.
    #[inline(always)]
    fn ask_memory(&self, current: usize, desired: usize, maximum: Option<usize>) -> Option<Asked> {
        let forbidden = maximum.is_some_and(|maximum| desired > maximum);
        // Whatever was granted before and not taken over: by a memory that is not ours. The answer settles it, too: where
        // there is no wait in between, that is soon enough.
        if forbidden || self.timer.is_some() {
            self.shared.settle();
        }
        if forbidden {
            // The type forbids it: wasmtime would ask, get a yes, and then fail. That is no matter
            // of budget, and nothing to give back.
            return None;
        }
        // Whole host pages, as every provider of pages charges. A size whose pages cannot be counted is above
        // every limit.
        let committed = |size: usize| Some(size.checked_add(self.page - 1)? & !(self.page - 1));
        let (before, after) = match (committed(current), committed(desired)) {
            (Some(before), Some(after)) => (before, after),
            _ => (0, usize::MAX),
        };
        let requested = desired.saturating_sub(current);
        Some(Asked { requested, cost: after.saturating_sub(before), besides: before })
    }

    /// The answer to it. What was granted comes as a charge, or is in `ready`. On the thread on which wasmtime goes on: the
    /// offer is left there.
    #[inline(always)]
    fn answer_memory(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
        granted: Result<Option<Charge<'static>>, MemoryError>,
    ) -> Result<bool> {
        let growth = Growth { current, desired };
        match granted {
            Ok(None) => self.shared.grant(growth, &mut self.ready),
            Ok(mut charge) => {
                self.shared.grant(growth, &mut charge);
                // Where there was one to add to, this one is of no bytes now.
                self.ready = charge;
            }
            Err(error) => {
                let has_empty = self.shared.denied(error.clone());
                return self.deny(error, current == 0 && !has_empty);
            }
        }
        if current == 0 {
            handover::offer(&self.shared, desired, maximum);
        }
        Ok(true)
    }

    /// What it would cost that a table grows from `current` to `desired` elements, and whether that is to make it. None where
    /// it may not.
    fn ask_table(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Option<(Asked, bool)> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return None;
        }
        let creating = current == 0 && !self.empty_table;
        self.empty_table |= desired == 0;
        let bytes = desired.saturating_sub(current).saturating_mul(self.table_element);
        let besides = current.saturating_mul(self.table_element);
        Some((Asked { requested: bytes, cost: bytes, besides }, creating))
    }

    /// The answer to it. A yes is charged until the store ends: nobody tells when a table goes.
    fn answer_table(&self, creating: bool, granted: Result<Charge<'static>, MemoryError>) -> Result<bool> {
        match self.shared.keep(granted) {
            Ok(()) => Ok(true),
            Err(error) => self.deny(error, creating),
        }
    }

    fn charge(&self, asked: &Asked) -> Result<Charge<'static>, MemoryError> {
        self.handle().charge(asked.requested, asked.cost)
    }

    /// Charges what memory is asked for: on `ready` where that is there, else on a charge of its own.
    #[inline(always)]
    fn charge_memory(&mut self, asked: &Asked) -> Result<Option<Charge<'static>>, MemoryError> {
        match &mut self.ready {
            Some(ready) => ready.extend(asked.requested, asked.cost).map(|()| None),
            None => self.shared.handle().charge(asked.requested, asked.cost).map(Some),
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
        let Some(asked) = self.ask_memory(current, desired, maximum) else {
            return Ok(false);
        };
        let granted = self.charge_memory(&asked);
        self.answer_memory(current, desired, maximum, granted)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.memory_failed(&error);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let Some((asked, creating)) = self.ask_table(current, desired, maximum) else {
            return Ok(false);
        };
        self.answer_table(creating, self.charge(&asked))
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
        let Some(asked) = self.ask_memory(current, desired, maximum) else {
            return Ok(false);
        };
        let granted = self.charge_or_wait(&asked).await;
        // Only now: while it waited, other stores were asked on this thread, and this one may go on another.
        self.answer_memory(current, desired, maximum, granted.map(Some))
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
        let Some((asked, creating)) = self.ask_table(current, desired, maximum) else {
            return Ok(false);
        };
        let granted = self.charge_or_wait(&asked).await;
        self.answer_table(creating, granted)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        Ok(())
    }
}
