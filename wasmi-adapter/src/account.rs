//! What a guest's store has been granted: wasmi's question whether something may grow, and the answers so
//! far.
//!
//! wasmi does not say which memory or table asks. A memory that its region cuts short of its maximum is
//! known by that: it is made with a maximum that no other has. Of those that may use all of theirs, and of
//! tables, two that are alike are interchangeable: what is kept of both stays true.

use alloc::vec::Vec;

use wasmi::errors::{MemoryError as WasmMemoryError, TableError};
use wasmi_core::{LimiterError, RawRef, ResourceLimiter};
use wrt_memory::provider::{ProviderError, Request};
use wrt_memory::{Charge, CrateHandle, MemoryError};

use crate::heap;
use crate::region;
use crate::reserve::Room;

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

/// A table: its elements, and those it has room for. wasmi's tables double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Elements {
    len: usize,
    room: usize,
    /// They are in the guest's room, which is charged; elsewhere they are charged themselves.
    inside: bool,
}

impl Elements {
    const NONE: Self = Self { len: 0, room: 0, inside: true };

    /// Bytes that are charged for them.
    fn charged(&self) -> usize {
        if self.inside { 0 } else { self.room.saturating_mul(ELEMENT) }
    }
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
    /// Where the runtime's blocks are, if that was set aside.
    room: Option<Room>,
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
    pub(crate) fn new(handle: CrateHandle<'static>, on_denial: OnDenial, room: Option<Room>) -> Self {
        Self {
            handle,
            on_denial,
            room,
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

    /// A maximum for a memory whose region is shorter than the `pages` of its type: more than the region, and one that
    /// no memory with another region has.
    pub(crate) fn maximum(&self, pages: u64, page: usize, region: usize) -> u64 {
        let differs = |memory: &&Linear| memory.region != region;
        let taken = |pages: u64| {
            self.memories.iter().filter(differs).any(|memory| memory.maximum == in_bytes(pages, page))
        };
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

    /// Notes that a region ended, and counts it: as a denial by the budget, where that would not have had the
    /// bytes, else as one for want of room.
    fn note_end(&mut self, memory: Linear, desired: usize) {
        let more = desired - memory.region;
        // Only what will be denied is asked for: what was granted would for a moment be missing elsewhere.
        let short = region::budget(self.handle.manager(), self.handle.id()) < more;
        let denied = short.then(|| self.handle.charge(more, more).err()).flatten();
        let source = ProviderError::PastReserve { asked: desired, limit: memory.region };
        self.last_denial = Some(denied.unwrap_or_else(|| self.no_room(desired - memory.size, source)));
    }

    /// A denial for want of room, counted.
    fn no_room(&self, asked: usize, source: ProviderError) -> MemoryError {
        // What no provider serves is denied by the manager, and nothing else happens.
        let denied = self.handle.allocate_for(&Request::new(usize::MAX));
        debug_assert!(denied.is_err());
        let id = self.handle.id();
        match self.handle.manager().node(id) {
            Ok(node) => MemoryError::Provider { id, name: node.name, asked, source },
            Err(unknown) => unknown,
        }
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
        let before = at.map_or(Elements { len: current, ..Elements::NONE }, |at| self.tables[at]);
        let room = if desired <= before.room {
            before.room
        } else {
            desired.max(before.room.saturating_mul(2)).max(if desired == 0 { 0 } else { FEWEST })
        };
        let bytes = room.saturating_mul(ELEMENT);
        let inside = before.inside && (room == before.room || self.is_in_room(bytes));
        let after = Elements { len: desired, room, inside };
        let more = after.charged() - before.charged();
        let more = if more > 0 { Some(self.handle.charge(more, more)?) } else { None };
        // What is kept for errors is not for tables.
        if room > before.room && !inside && !heap::has_room(bytes) {
            drop(more);
            return Err(self.no_room(bytes, ProviderError::Exhausted { asked: bytes, largest: 0 }));
        }
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

impl Account {
    /// Whether a table of so many bytes comes to be in the guest's room.
    fn is_in_room(&self, bytes: usize) -> bool {
        let Some(room) = &self.room else { return false };
        bytes.checked_add(heap::BESIDES).is_some_and(|bytes| bytes <= room.largest_free())
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
            if before == Elements::NONE && at + 1 == self.tables.len() {
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
