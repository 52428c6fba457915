//! What a guest's store has been granted: wasmi's question whether something may grow, and the answers so
//! far.
//!
//! wasmi does not say which memory or table asks. A memory that its region cuts short of its maximum is
//! known by that: it is made with a maximum that no other has. Of those that may use all of theirs, and of
//! tables, two that are alike are interchangeable: what is kept of both stays true.

use alloc::vec::Vec;

use wasmi::errors::{MemoryError as WasmMemoryError, TableError};
use wasmi_core::{LimiterError, RawRef, ResourceLimiter};
use wrt_memory::provider::ProviderError;
use wrt_memory::{Charge, CrateHandle, MemoryError};

use crate::region;

/// What a refused growth does to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDenial {
    /// `memory.grow` and `table.grow` return -1 and the guest goes on.
    #[default]
    Refuse,
    /// The guest traps with [`GrowthOperationLimited`](wasmi::TrapCode::GrowthOperationLimited).
    Trap,
}

/// Bytes of a table's element.
const ELEMENT: usize = size_of::<RawRef>();

/// The least elements a table is made with: what a `Vec` of such elements has.
const FEWEST: usize = 4;

/// A linear memory on a region. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Linear {
    pub(crate) size: usize,
    /// What it can grow to.
    pub(crate) region: usize,
    /// What its type says, as wasmi says it to a limiter: on 32-bit targets 4 GiB is 0.
    pub(crate) maximum: usize,
}

/// A table: its elements, and those it has room for, which are charged. wasmi's tables double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Elements {
    len: usize,
    room: usize,
}

/// Growth that was granted and may yet come to nothing: for want of fuel, or of memory.
#[derive(Debug)]
enum Pending {
    Memory { at: usize, before: usize },
    Table { at: Option<usize>, before: Elements, more: Option<Charge<'static>> },
}

/// A store's account with its crate.
#[derive(Debug)]
pub(crate) struct Account {
    handle: CrateHandle<'static>,
    on_denial: OnDenial,
    memories: Vec<Linear>,
    tables: Vec<Elements>,
    /// For the tables.
    charged: Option<Charge<'static>>,
    pending: Option<Pending>,
    /// A memory is being made on a region.
    placing: Option<Linear>,
    last_denial: Option<MemoryError>,
}

impl Account {
    pub(crate) fn new(handle: CrateHandle<'static>, on_denial: OnDenial) -> Self {
        Self {
            handle,
            on_denial,
            memories: Vec::new(),
            tables: Vec::new(),
            charged: None,
            pending: None,
            placing: None,
            last_denial: None,
        }
    }

    pub(crate) fn handle(&self) -> &CrateHandle<'static> {
        &self.handle
    }

    /// The next memory that is made is this one, on a region that is charged.
    pub(crate) fn place(&mut self, memory: Option<Linear>) {
        self.placing = memory;
    }

    /// A maximum for a memory whose region is shorter than the `pages` of its type: one that no other memory
    /// of the store has, and is more than the region.
    pub(crate) fn maximum(&self, pages: u64, page: usize, region: usize) -> u64 {
        let taken = |pages: u64| self.memories.iter().any(|memory| memory.maximum == in_bytes(pages, page));
        let least = (region / page) as u64;
        // Where all are taken it gets what its region has, which wasmi sees to by itself.
        (least + 1..=pages).rev().find(|&pages| !taken(pages)).unwrap_or(least)
    }

    /// Bytes the guest's linear memories have, of those in their regions.
    pub(crate) fn linear(&self) -> usize {
        self.memories.iter().map(|memory| memory.size).sum()
    }

    /// Bytes charged for tables.
    pub(crate) fn tables(&self) -> usize {
        let pending = match &self.pending {
            Some(Pending::Table { more: Some(more), .. }) => more.bytes(),
            _ => 0,
        };
        pending + self.charged.as_ref().map_or(0, Charge::bytes)
    }

    pub(crate) fn last_denial(&self) -> Option<&MemoryError> {
        self.last_denial.as_ref()
    }

    /// What was granted last has happened.
    fn settle(&mut self) {
        if let Some(Pending::Table { more: Some(more), .. }) = self.pending.take() {
            match &mut self.charged {
                // One crate, one manager: merging cannot fail.
                Some(charged) => drop(charged.merge(more)),
                none => *none = Some(more),
            }
        }
    }

    /// Notes that a region ended: where the budget would not have had the bytes, as its denial.
    fn note_end(&mut self, memory: Linear, desired: usize) {
        let more = desired - memory.region;
        let id = self.handle.id();
        let manager = self.handle.manager();
        // Only what will be denied is asked for: what was granted would for a moment be missing elsewhere.
        let denied = (region::budget(manager, id) < more).then(|| self.handle.charge(more, more).err());
        let name = manager.node(id).map(|node| node.name);
        self.last_denial = denied.flatten().or_else(|| {
            let source = ProviderError::PastReserve { asked: desired, limit: memory.region };
            Some(MemoryError::Provider { id, name: name.ok()?, asked: desired - memory.size, source })
        });
    }

    fn refuse(&self) -> Result<bool, LimiterError> {
        match self.on_denial {
            OnDenial::Refuse => Ok(false),
            OnDenial::Trap => Err(LimiterError::ResourceLimiterDeniedAllocation),
        }
    }

    fn grow_table(&mut self, current: usize, desired: usize) -> Result<(), MemoryError> {
        // Of those of this length the one with most room: its growth is the largest there can be.
        let alike = self.tables.iter().enumerate().filter(|(_, table)| current > 0 && table.len == current);
        let at = alike.max_by_key(|(_, table)| table.room).map(|(at, _)| at);
        let before = at.map_or(Elements { len: current, room: 0 }, |at| self.tables[at]);
        let room = if desired <= before.room {
            before.room
        } else {
            desired.max(before.room.saturating_mul(2)).max(if desired == 0 { 0 } else { FEWEST })
        };
        let bytes = (room - before.room).saturating_mul(ELEMENT);
        let more = if bytes > 0 { Some(self.handle.charge(bytes, bytes)?) } else { None };
        let after = Elements { len: desired, room };
        let at = match at {
            Some(at) => {
                self.tables[at] = after;
                Some(at)
            }
            None => {
                self.tables.push(after);
                Some(self.tables.len() - 1)
            }
        };
        self.pending = Some(Pending::Table { at, before, more });
        Ok(())
    }
}

impl ResourceLimiter for Account {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        self.settle();
        if let Some(memory) = self.placing.take() {
            if desired > memory.region {
                return Ok(false);
            }
            self.memories.push(Linear { size: desired, ..memory });
            self.pending = Some(Pending::Memory { at: self.memories.len() - 1, before: 0 });
            return Ok(true);
        }
        let alike = |memory: &Linear| memory.size == current && Some(memory.maximum) == maximum;
        let alike = self.memories.iter().enumerate().filter(|(_, memory)| alike(memory));
        // Were there two that differ in their regions, the shorter would have to do: wasmi ends the program
        // where a memory grows past its region.
        match alike.min_by_key(|(_, memory)| memory.region) {
            Some((at, memory)) if desired <= memory.region => {
                self.memories[at].size = desired;
                self.pending = Some(Pending::Memory { at, before: current });
                Ok(true)
            }
            Some((_, &memory)) => {
                self.note_end(memory, desired);
                self.refuse()
            }
            // A memory that is on no region of ours.
            None => self.refuse(),
        }
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        self.settle();
        if maximum.is_some_and(|maximum| maximum >= current && desired > maximum) {
            return Ok(false);
        }
        match self.grow_table(current, desired) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.last_denial = Some(error);
                self.refuse()
            }
        }
    }

    fn memory_grow_failed(&mut self, _: &WasmMemoryError) -> Result<(), LimiterError> {
        if let Some(Pending::Memory { at, before }) = self.pending.take() {
            self.memories[at].size = before;
        }
        Ok(())
    }

    fn table_grow_failed(&mut self, _: &TableError) -> Result<(), LimiterError> {
        if let Some(Pending::Table { at: Some(at), before, more }) = self.pending.take() {
            if before == (Elements { len: 0, room: 0 }) && at + 1 == self.tables.len() {
                self.tables.pop();
            } else {
                self.tables[at] = before;
            }
            drop(more);
        }
        Ok(())
    }

    // How many there may be is a matter of bytes, and wasmi counts imported memories twice.
    fn instances(&self) -> usize {
        usize::MAX
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        usize::MAX
    }
}

/// As wasmi has a maximum in bytes when something grows: what does not fit is cut off.
pub(crate) fn in_bytes(pages: u64, page: usize) -> usize {
    pages.wrapping_mul(page as u64) as usize
}

#[cfg(test)]
mod tests;
