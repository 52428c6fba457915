//! Two ways to lay linear memories out, each for one kind of host.

use wasmtime::Config;

use crate::budgets::Budgets;

/// Addresses that 32 bits can index, in bytes.
const INDEXED_BY_32_BITS: u64 = 1 << 32;

/// Bytes that fault behind a memory: static offsets up to here need no check.
const GUARD: u64 = 32 << 20;

/// How memories lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preset {
    /// As the engine's configuration says.
    Asked,
    /// Reservations so large that no access is checked.
    Throughput,
    /// Slots as large as a memory can be, side by side; every access is checked.
    Density {
        /// Bytes that a memory can have.
        largest_memory: usize,
    },
}

impl Preset {
    pub(crate) fn largest_memory(self) -> Option<usize> {
        match self {
            Self::Density { largest_memory } => Some(largest_memory),
            Self::Asked | Self::Throughput => None,
        }
    }

    pub(crate) fn configure(self, config: &mut Config) {
        match self {
            Self::Asked => {}
            Self::Throughput => {
                config.memory_reservation(INDEXED_BY_32_BITS).memory_guard_size(GUARD);
            }
            Self::Density { .. } => {
                // Nothing reserved: else wasmtime checks against the reservation and leaves the rest to faults.
                config.memory_reservation(0).memory_guard_size(0).memory_may_move(false);
                // As wasmtime's own memories, too, show: compiled code reports corruption of a GC heap for which nothing is
                // reserved and which it is told not to move. Ours stays where it is whatever it is told. One of these
                // set, none of them follows the `memory_*` ones any more.
                config.gc_heap_reservation(0).gc_heap_guard_size(0).gc_heap_may_move(true);
                config.gc_heap_reservation_for_growth(0);
            }
        }
    }
}

impl Budgets {
    /// For guests that compute: each memory has 4 GiB of addresses of its own, and accesses are not checked, since what is
    /// out of bounds faults: compiled code is that of plain wasmtime. Memories that are made again and again come from warm slots, where the manager has a
    /// [`PooledProvider`](wrt_memory::provider::PooledProvider).
    ///
    /// Pick it for thousands of live memories, not for tens of thousands: each takes two mappings of the 65,530 that
    /// Linux allows a process, and its growth is a call to the system. A server that answers each request with a new
    /// instance wants this, and a manager whose [`stock`](wrt_memory::Builder::stock) is what an instance takes: one that ends
    /// then pays for the next.
    #[must_use]
    pub fn throughput(mut self) -> Self {
        self.preset = Preset::Throughput;
        self
    }

    /// For as many live guests as there is memory for: slots of at most `largest_memory` bytes lie side by side in slabs
    /// all of which can be read and written, and compiled code checks every access. Neither making a memory nor growing
    /// it is a call to the system, and memories share their mappings. Wants a manager with a
    /// [`PooledProvider`](wrt_memory::provider::PooledProvider); without it each memory is mapped on its own.
    ///
    /// Pick it for tens of thousands of live instances that mostly wait, or that grow a lot. The checks cost compute
    /// time: a loop that does nothing but read words in turn took 1.64 times as long, one that multiplies matrices 1.49 times,
    /// one that waits for words here and there 1.01 times (`benches/README.md`). Memory does not grow past `largest_memory`, whatever the crate's limit is: the
    /// guest gets -1, and the host a `MemoryError::Provider` that says so. One whose minimum is larger is made, and does
    /// not grow. A slot takes as many addresses as the lesser of `largest_memory` and the type's maximum, rounded up to a
    /// power of two.
    #[must_use]
    pub fn density(mut self, largest_memory: usize) -> Self {
        self.preset = Preset::Density { largest_memory };
        self
    }
}
