//! Room set aside for a crate: for its linear memories, and for what the runtime allocates for its guests.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

use wrt_memory::provider::{Block, Provider, Request, StaticRegionProvider};
use wrt_memory::{CrateHandle, CrateId, MemoryError, RawMemory};

/// Room set aside for one crate: on its budget from the start, so that whatever others allocate and free in
/// between, its guests find it in one piece. Cheap to clone; the room goes back when the last clone and the last
/// guest with anything in it are gone.
///
/// A guarantee of the ledger is for bytes. On a static region that can fragment, a crate that has to be
/// loadable at any time needs this too: guarantee it what it may use, then set its room aside.
///
/// - A linear memory whose minimum fits takes the smallest room for memories that is free and large enough, and
///   grows as far as that goes.
/// - A guest takes the smallest room for the runtime that is free and large enough for a guest without a module. All
///   that the runtime allocates for it is in there: engine, modules, code, instances, stacks, and tables as
///   far as they fit. How large that has to be, says [`GuestSettings::overhead`](crate::GuestSettings::overhead). What
///   does not fit is taken and charged as without a reserve.
///
/// So a guest whose rooms are free and large enough is loaded whatever else is in the region, and charges
/// nothing that could be refused.
#[derive(Clone)]
pub struct Reserve(Arc<Reserved>);

struct Reserved {
    id: CrateId,
    memories: Vec<Set>,
    runtimes: Vec<Set>,
}

/// Bytes set aside.
struct Set {
    /// Over the bytes of `memory`, where they are for the runtime. Goes before them.
    heap: Option<Box<StaticRegionProvider>>,
    memory: RawMemory<'static>,
    taken: AtomicBool,
}

/// What is lost to alignment at either end of a heap. Bytes.
const HEAP: usize = 2 * StaticRegionProvider::GRANULE;

impl Set {
    fn new(handle: &CrateHandle<'static>, bytes: usize) -> Result<Self, MemoryError> {
        let memory = handle.allocate_for(&Request::new(bytes))?;
        Ok(Self { heap: None, memory, taken: AtomicBool::new(false) })
    }

    /// So many bytes in one piece, for the heap to hand out.
    fn with_heap(handle: &CrateHandle<'static>, bytes: usize) -> Result<Self, MemoryError> {
        let room = Self::new(handle, bytes.saturating_add(HEAP))?;
        let (start, len) = (room.memory.as_ptr().as_ptr(), room.memory.len());
        // SAFETY: a live block's bytes are initialised and its owner's alone, and nobody else is shown these. They
        // are not really 'static: the heap is dropped before them, and has no blocks then, as each keeps its room.
        let bytes = unsafe { slice::from_raw_parts_mut(start, len) };
        Ok(Self { heap: Some(heap_over(bytes)), ..room })
    }

    /// Takes it, unless somebody else was faster.
    fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::Acquire)
    }

    fn is_free(&self) -> bool {
        !self.taken.load(Ordering::Relaxed)
    }

    /// Bytes it is good for.
    fn size(&self) -> usize {
        self.heap.as_ref().map_or(self.memory.len(), |heap| heap.largest_free())
    }
}

/// In a frame of its own: it is some kilobytes, and is moved on its way.
#[inline(never)]
fn heap_over(bytes: &'static mut [u8]) -> Box<StaticRegionProvider> {
    Box::new(StaticRegionProvider::new(bytes))
}

impl Reserve {
    /// Bytes that so many rooms take besides, of the program's heap.
    pub(crate) fn besides(memories: usize, runtimes: usize) -> usize {
        (memories + runtimes) * size_of::<Set>() + runtimes * size_of::<StaticRegionProvider>() + 256
    }

    pub(crate) fn new(
        handle: &CrateHandle<'static>,
        memories: &[usize],
        runtimes: &[usize],
    ) -> Result<Self, MemoryError> {
        let memories = memories.iter().map(|&bytes| Set::new(handle, bytes)).collect::<Result<_, _>>()?;
        let runtimes =
            runtimes.iter().map(|&bytes| Set::with_heap(handle, bytes)).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Reserved { id: handle.id(), memories, runtimes })))
    }

    /// Whose it is.
    pub fn crate_id(&self) -> CrateId {
        self.0.id
    }

    /// Rooms for memories that no memory is in.
    pub fn free(&self) -> usize {
        self.0.memories.iter().filter(|room| room.is_free()).count()
    }

    /// Rooms for the runtime that nothing is in. A host that keeps an error or an engine of a guest keeps its room.
    pub fn free_runtimes(&self) -> usize {
        self.0.runtimes.iter().filter(|room| room.is_free()).count()
    }

    /// A room for a memory of at least so many bytes.
    pub(crate) fn take_memory(&self, id: CrateId, bytes: usize) -> Option<Room> {
        self.take(id, Kind::Memory, bytes)
    }

    /// A room for a guest for which the runtime allocates at least so many bytes.
    pub(crate) fn take_runtime(&self, id: CrateId, bytes: usize) -> Option<Room> {
        self.take(id, Kind::Runtime, bytes)
    }

    fn take(&self, id: CrateId, kind: Kind, bytes: usize) -> Option<Room> {
        if id != self.0.id {
            return None;
        }
        loop {
            let rooms = self.0.rooms(kind).iter().enumerate();
            let free = rooms.filter(|(_, room)| room.is_free()).map(|(at, room)| (at, room, room.size()));
            let (at, room, _) = free.filter(|&(.., size)| size >= bytes).min_by_key(|&(.., size)| size)?;
            // Where another thread was faster there is one room less to look at.
            if room.take() {
                return Some(Room { reserve: self.0.clone(), kind, at });
            }
        }
    }
}

impl Reserved {
    fn rooms(&self, kind: Kind) -> &[Set] {
        match kind {
            Kind::Memory => &self.memories,
            Kind::Runtime => &self.runtimes,
        }
    }
}

impl core::fmt::Debug for Reserve {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reserve")
            .field("crate_id", &self.crate_id())
            .field("free", &self.free())
            .field("free_runtimes", &self.free_runtimes())
            .finish()
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Memory,
    Runtime,
}

/// A room that was taken. Who took it says when it is [left](Self::leave).
#[derive(Clone)]
pub(crate) struct Room {
    reserve: Arc<Reserved>,
    kind: Kind,
    at: usize,
}

impl Room {
    fn set(&self) -> &Set {
        &self.reserve.rooms(self.kind)[self.at]
    }

    /// Its bytes.
    pub(crate) fn memory(&self) -> &RawMemory<'static> {
        &self.set().memory
    }

    /// Nothing is in it any more.
    pub(crate) fn leave(&self) {
        self.set().taken.store(false, Ordering::Release);
    }

    /// Bytes of the largest block that its heap has.
    pub(crate) fn largest_free(&self) -> usize {
        self.set().heap.as_ref().map_or(0, |heap| heap.largest_free())
    }

    /// Bytes of its heap that are in blocks.
    pub(crate) fn used(&self) -> usize {
        let set = self.set();
        let Some(heap) = &set.heap else { return 0 };
        heap.describe().capacity.unwrap_or(0).saturating_sub(heap.free_bytes())
    }

    /// A block in its heap.
    pub(crate) fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        let heap = self.set().heap.as_ref()?;
        heap.allocate(&request(layout)).ok().map(|block| block.ptr)
    }

    /// Whether a block is in it.
    pub(crate) fn has(&self, block: *const u8) -> bool {
        let memory = self.memory();
        let start = memory.as_ptr().addr().get();
        (start..start + memory.len()).contains(&block.addr())
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// It came from [`allocate`](Self::allocate) here, with this layout, and is live.
    pub(crate) unsafe fn free(&self, ptr: NonNull<u8>, layout: Layout) {
        let Some(heap) = &self.set().heap else { return };
        let Ok(cost) = heap.cost(&request(layout)) else { return };
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: the caller's contract; these are the fields that `allocate` gave it.
        unsafe {
            heap.free(Block { ptr, size, reserved: size, cost, align, guard: 0, mark: core::ptr::null_mut() })
        };
    }
}

impl core::fmt::Debug for Room {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Room").field("kind", &self.kind).field("at", &self.at).finish()
    }
}

/// What a provider is asked for on behalf of an allocator.
pub(crate) fn request(layout: Layout) -> Request {
    Request { align: layout.align(), ..Request::new(layout.size()) }
}
