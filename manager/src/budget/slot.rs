//! One node of the ledger in memory: its budget, and what is remembered about it.

use super::amount::Units;
use super::atomic::AtomicBudget;
use super::name::{AtomicName, CrateName};
use super::pin::Pins;
use super::slab::SlabOf;
use crate::pressure::Marks;
use crate::sync::{AtomicU8, AtomicU32, AtomicUsize, Ordering, const_fn, under_lock};
use crate::waiting::Line;

/// Where a node stands in the tracker: 0 is the root.
pub(crate) type Index = u32;

/// The root's index.
pub(crate) const ROOT: Index = 0;

/// Why a charge was denied, as counted per node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DenialReason {
    /// The node's own limit.
    Limit,
    /// Nothing left at a parent or in the pool.
    Pool,
    /// The provider had no room.
    Provider,
}

/// The counters of [`DenialReason`].
pub(crate) const DENIAL_REASONS: usize = 3;

/// In a generation: the crate is charged for nothing any more, because a check of it failed. Here and not in the word, as
/// its bytes and loans go their ways as before; and a charge looks here in any case.
const CLOSED: u32 = 1 << 31;

/// A node that is being retired: it takes no children.
const BARRED: u32 = u32::MAX;

/// A node. On a host, two nodes never share a pair of cache lines (the adjacent-line prefetcher
/// of x86 fetches pairs), so crates on different threads do not slow one another. In the order in which
/// it is written, so that all a charge looks at is in the first pair: the name comes last.
#[cfg_attr(target_pointer_width = "64", repr(C, align(128)))]
pub(crate) struct Slot {
    pub(crate) budget: AtomicBudget,
    /// How often the slot was retired: the generation of the crate in it, and [`CLOSED`] where a check of it failed.
    /// A charge takes only the plain one for its crate's.
    pub(crate) generation: AtomicU32,
    /// The node's parent; the root's is itself.
    pub(crate) parent: AtomicU32,
    /// Steps from the root.
    pub(crate) depth: AtomicU8,
    /// Seat in the stock table plus one; 0 where it has none (see `stock.rs`).
    pub(crate) seat: AtomicU8,
    /// The provider of the latest block and the reason it was picked, as codes.
    pub(crate) provider: AtomicU8,
    /// Most units ever in use, a little late: see [`Self::raise_high_water`].
    high_water: AtomicU32,
    /// Nodes registered below this one, or [`BARRED`].
    children: AtomicU32,
    /// Keeps the slot its crate's while an operation is on it.
    pub(crate) pins: Pins,
    /// Number of the node's standing in the book of loans; 0 where it has none. Written under the book's
    /// lock.
    pub(crate) sharing: AtomicU32,
    /// Units lent to the node and not recalled: what the book says, for those who have not its lock.
    pub(crate) borrowed: AtomicU32,
    /// The guarantee set for the node itself, without those of its children, in units.
    pub(crate) own_guarantee: AtomicU32,
    /// Bytes charged above what was requested: rounding and headers.
    pub(crate) overhead: AtomicUsize,
    /// Blocks that it freed and keeps.
    pub(crate) slab: SlabOf,
    denials: [AtomicU32; DENIAL_REASONS],
    /// Who waits for bytes of this node.
    pub(crate) line: Line,
    /// Its own requests that wait, for its bytes or further up.
    pub(crate) waiting: under_lock::AtomicU8,
    /// Link of the free list.
    pub(crate) next_free: AtomicU32,
    /// Uses at which its watches are asked.
    pub(crate) marks: Marks,
    name: AtomicName,
}

impl Slot {
    const_fn! {
        /// A free slot.
        pub(crate) const fn new() -> Self {
            Self {
                budget: AtomicBudget::closed(),
                generation: AtomicU32::new(0),
                parent: AtomicU32::new(ROOT),
                depth: AtomicU8::new(0),
                seat: AtomicU8::new(0),
                provider: AtomicU8::new(0),
                high_water: AtomicU32::new(0),
                children: AtomicU32::new(0),
                pins: Pins::free(),
                sharing: AtomicU32::new(0),
                borrowed: AtomicU32::new(0),
                own_guarantee: AtomicU32::new(0),
                overhead: AtomicUsize::new(0),
                slab: SlabOf::new(),
                denials: [AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)],
                line: Line::new(),
                waiting: under_lock::AtomicU8::new(0),
                next_free: AtomicU32::new(0),
                marks: Marks::new(),
                name: AtomicName::new(),
            }
        }
    }

    /// Forgets a crate that a former manager never retired: its seat was in that one's table.
    pub(crate) fn forget_manager(&self) {
        self.pins.reset();
        self.sharing.store(0, Ordering::SeqCst);
        self.borrowed.store(0, Ordering::SeqCst);
        self.seat.store(0, Ordering::SeqCst);
        self.line.reset();
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// Frees what is kept, when the manager goes.
    #[cfg(feature = "alloc")]
    pub(crate) fn end_slab(&self) {
        self.slab.end();
    }

    /// Forgets what a former crate left, and takes a place in the tree.
    pub(crate) fn prepare(&self, name: &CrateName, parent: Index, depth: u8) {
        // Where the former crate was closed and never retired, or closed while it was.
        self.generation.store(self.generation(), Ordering::SeqCst);
        self.parent.store(parent, Ordering::Relaxed);
        self.depth.store(depth, Ordering::Relaxed);
        self.provider.store(0, Ordering::Relaxed);
        self.high_water.store(0, Ordering::Relaxed);
        self.children.store(0, Ordering::Relaxed);
        self.own_guarantee.store(0, Ordering::Relaxed);
        self.overhead.store(0, Ordering::Relaxed);
        self.marks.reset();
        for count in &self.denials {
            count.store(0, Ordering::Relaxed);
        }
        self.line.forgive();
        self.name.store(name);
    }

    /// The generation of the crate in the slot, be it closed or not.
    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::SeqCst) & !CLOSED
    }

    /// Closes the crate: from now on no charge of it succeeds. To be called while it keeps its slot.
    pub(crate) fn close(&self) {
        self.generation.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Whether the crate was [closed](Self::close).
    pub(crate) fn is_closed(&self) -> bool {
        self.generation.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// The crate in the slot is none any more. Who has the slot is the only one to change this.
    pub(crate) fn end_generation(&self) {
        self.generation.store((self.generation() + 1) & !CLOSED, Ordering::SeqCst);
    }

    /// Nodes registered below this one.
    pub(crate) fn children(&self) -> u32 {
        match self.children.load(Ordering::SeqCst) {
            BARRED => 0,
            count => count,
        }
    }

    /// Counts a child. `false` where the node is being retired.
    #[must_use]
    pub(crate) fn add_child(&self) -> bool {
        let mut count = self.children.load(Ordering::SeqCst);
        while count != BARRED {
            match self.children.compare_exchange_weak(count, count + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// Takes a child off the count.
    pub(crate) fn remove_child(&self) {
        self.children.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes no children from now on. `false` where there are some, or another thread did it.
    #[must_use]
    pub(crate) fn bar_children(&self) -> bool {
        self.children.compare_exchange(0, BARRED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Undoes [`bar_children`](Self::bar_children).
    pub(crate) fn admit_children(&self) {
        self.children.store(0, Ordering::SeqCst);
    }

    pub(crate) fn name(&self) -> CrateName {
        self.name.load()
    }

    /// Notes that `used` was reached. Called after the swap that reached it, so a reader must take
    /// the larger of the mark and what is used.
    #[inline]
    pub(crate) fn raise_high_water(&self, used: Units) {
        if self.high_water.load(Ordering::Relaxed) < used.get() {
            self.high_water.fetch_max(used.get(), Ordering::Relaxed);
        }
    }

    /// The mark, not below `used`.
    pub(crate) fn high_water(&self, used: Units) -> Units {
        Units::new(self.high_water.load(Ordering::Relaxed).max(used.get())).unwrap_or(Units::MAX)
    }

    /// Counts a denial. Wraps after 2^32 of one reason.
    pub(crate) fn count_denial(&self, reason: DenialReason) {
        self.denials[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Denials so far, in the order of [`DenialReason`].
    pub(crate) fn denials(&self) -> [u32; DENIAL_REASONS] {
        core::array::from_fn(|at| self.denials[at].load(Ordering::Relaxed))
    }
}

// Everything but the name in one pair of cache lines, the whole in two.
#[cfg(all(not(loom), target_pointer_width = "64"))]
const _: () = assert!(core::mem::offset_of!(Slot, name) <= 128 && size_of::<Slot>() == 256);
