//! Linear memory on a crate's budget.

use std::sync::Arc;

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};
use wrt_memory::provider::Request;
use wrt_memory::{Charge, CrateHandle, MemoryError, RawMemory};

use crate::account::{Account, Growth};
use crate::budgets::Budgets;
use crate::handover;
use crate::image::HeldImage;

/// Pages, and as many bytes as can be committed one after another without moving.
pub(crate) fn request(size: usize, reserve: usize, guard: usize) -> Request {
    // wasmtime asks for page alignment; no host's pages are smaller than this.
    Request { size, align: 4096, reserve, guard }
}

/// Bytes that a 32-bit memory can have.
const INDEXED_BY_32_BITS: usize = 1 << 32;

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
    ///
    /// Addresses are everybody's, and not charged: past what 32 bits can index a crate reserves no more
    /// than its limit is now, or a hundred empty 64-bit memories would take them all.
    fn reserve(
        &self,
        handle: &CrateHandle<'_>,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
    ) -> usize {
        let mut grantable = maximum.unwrap_or(usize::MAX).min(self.budgets.manager.largest_total());
        if let Some(largest) = self.budgets.preset.largest_memory() {
            grantable = grantable.min(largest);
        }
        if grantable > INDEXED_BY_32_BITS {
            let limit = handle.manager().node(handle.id()).map_or(0, |node| node.limit);
            grantable = grantable.min(limit.max(INDEXED_BY_32_BITS));
        }
        reserved.unwrap_or(0).max(minimum).max(grantable)
    }

    fn create(
        &self,
        ty: &MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<BudgetedMemory, MemoryError> {
        let offered =
            handover::accept(minimum, maximum).filter(|account| self.budgets.made(account.handle()));
        // Without a grant it is an old offer: of a memory that grew from nothing, and took its grant.
        let taken = offered.map(|account| (account.take_for(ty, minimum), account));
        let (granted, image) = match taken {
            Some((Some((charge, image)), account)) => (Some((charge, account)), image?),
            _ => (None, None),
        };
        let (charge, account) = granted.unzip();
        let fallback;
        let handle = match &account {
            Some(account) => account.handle(),
            None => {
                fallback = self.budgets.fallback().ok_or(NO_ACCOUNT)?;
                &fallback
            }
        };
        // With a guard, however small, it is mapped pages or nothing: no other provider has memory that
        // faults beyond its size. Where nothing is reserved and nothing guarded, compiled code checks every access
        // against the size, and needs no faults (wasmtime 48, `bounds_checks.rs`: each check that is left out, or made
        // against something else, wants one of the two).
        let guard = if reserved == Some(0) && guard == 0 { 0 } else { guard.max(1) };
        let request = request(minimum, self.reserve(handle, minimum, maximum, reserved), guard);
        let memory = match charge {
            Some(charge) => match &image {
                Some(image) => image.allocate(&request, charge),
                None => RawMemory::allocate_charged(&request, charge),
            },
            None => handle.allocate_for(&request),
        };
        if let (Err(error), Some(account)) = (&memory, &account) {
            account.note_denial(error.clone());
        }
        let memory = memory?;
        // The limiter is not asked when a shared memory grows. What its account has pending then is for
        // another memory, however well the sizes match.
        let limited_by = account.filter(|_| !ty.is_shared());
        if let Some(account) = limited_by.as_ref().filter(|_| memory.is_empty()) {
            account.empty_came();
        }
        Ok(BudgetedMemory { memory, more: None, limited_by, _image: image })
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
        ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let made = self.create(&ty, minimum, maximum, reserved_size_in_bytes, guard_size_in_bytes);
        made.map(|memory| Box::new(memory) as Box<dyn LinearMemory>).map_err(|error| error.to_string())
    }
}

/// A linear memory and its Charge. Dropping it is the only word wasmtime gives that it is gone.
struct BudgetedMemory {
    memory: RawMemory<'static>,
    /// What it grows by, on the way from its account; of no bytes in between.
    more: Option<Charge<'static>>,
    /// Whose limiter grants its growth; none for a shared memory, and in a store without an account.
    limited_by: Option<Arc<Account>>,
    /// What it started with: charged for as long as it may be mapped, so dropped after `memory`.
    _image: Option<Arc<HeldImage>>,
}

// SAFETY: the mapped provider's contract is what wasmtime asks for: `byte_size` bytes at `as_ptr` are
// readable, writable and zero when new; the rest of the reservation and the guards fault, but for memories of which
// wasmtime reserves and guards nothing; the base never moves; new bytes are committed before `byte_size` says so.
unsafe impl LinearMemory for BudgetedMemory {
    fn byte_size(&self) -> usize {
        self.memory.len()
    }

    fn byte_capacity(&self) -> usize {
        self.memory.reserved()
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        let was_empty = self.memory.is_empty();
        let growth = Growth { current: self.memory.len(), desired: new_size };
        let granted = self.limited_by.as_ref().is_some_and(|account| account.take(growth, &mut self.more));
        let grown = match self.more.as_mut().filter(|_| granted) {
            Some(more) => self.memory.grow_charged(new_size, more),
            // No limiter was asked: a shared memory, or a store without an account.
            None => self.memory.grow(new_size),
        };
        if grown.is_err() {
            self.more = None;
        }
        if let Some(account) = &self.limited_by {
            match &grown {
                Err(error) => account.note_denial(error.clone()),
                Ok(()) if was_empty && !self.memory.is_empty() => account.empty_went(),
                Ok(()) => {}
            }
        }
        Ok(grown?)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ptr().as_ptr()
    }
}

impl Drop for BudgetedMemory {
    fn drop(&mut self) {
        if let Some(account) = self.limited_by.as_ref().filter(|_| self.memory.is_empty()) {
            account.empty_went();
        }
    }
}

impl std::fmt::Debug for BudgetedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BudgetedMemory").field("crate", &self.memory.crate_id()).finish_non_exhaustive()
    }
}
