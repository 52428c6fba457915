//! Guests on a Cortex-M4 with 192 KiB of RAM for everything: stack, statics, and one region for the
//! heap and the guests' memories. Each guest is a crate with a limit of its own, for its memories, its
//! tables and what the runtime needs for it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use cortex_m_rt::entry;
use firmware_board::{WatchedHeap, say, stack_peak, succeed};
use firmware_workload::{Guest as _, Load, PAGE, Runtime};
use wrt_memory::provider::{ProviderSelector, StaticRegion, StaticRegionProvider};
use wrt_memory::{CrateId, CrateSettings, CrateStorage, UnifiedMemoryManager};
use wrt_memory_wasmi::{Budgets, Error, Guest, GuestHeap, GuestSettings};

/// Heap and guests' memories.
const REGION_BYTES: usize = 172 << 10;

/// What is left of it to the host, outside of all budgets.
const HOST: usize = 4 << 10;

/// What a guest may have besides memory and tables: engine, module, instance and stacks, and, while it is
/// loaded, room for compiling it.
const RUNTIME: usize = 24 << 10;

/// Bytes of a guest's value stack, and how deep its calls may be.
const STACK: usize = 1024;
const CALLS: usize = 32;

/// Ten million: the dispatch that leaks 120 bytes of stack for each is through with this stack after 137.
const REFUSALS: i32 = 10_000_000;

/// Loads and unloads.
const CYCLES: u32 = 1000;

static CRATES: CrateStorage<4> = CrateStorage::new();
static REGION: StaticRegion<REGION_BYTES> = StaticRegion::new();

#[global_allocator]
static HEAP: GuestHeap<WatchedHeap> = GuestHeap::new(WatchedHeap::new());

type Manager = &'static UnifiedMemoryManager;

#[entry]
fn main() -> ! {
    let manager = start();
    let free = (free(manager), largest_free(manager));
    let budgets = Budgets::new(manager).expect("a dispatch that leaves nothing on the stack");
    assert!(budgets.is_measured(), "the heap does not count for guests");
    let wrt = Wrt { manager, budgets };
    firmware_workload::run(&wrt, REFUSALS, |wrt, when| snapshot(wrt.manager, when));
    largest_maximum(&wrt);
    refused_at_load(&wrt);
    cycles(&wrt);
    estimates(&wrt);
    // What guests need: what comes next takes all there is.
    HEAP.below().peak().report("heap");
    HEAP.below().region_peak().report("region");
    trap_without_heap(&wrt);
    room_set_aside(&wrt);

    assert_eq!((manager.nodes().count(), manager.pool().used), (1, 0));
    assert_eq!((crate::free(manager), largest_free(manager)), free);
    say!("every byte is back: {} free, {} of them in one block, as at the start", free.0, free.1);
    stack_peak().report("stack");
    succeed()
}

/// Builds the manager into a `static`, in a frame of its own, and the heap on it.
#[inline(never)]
fn start() -> Manager {
    let region = StaticRegionProvider::new(REGION.claim().expect("main runs once"));
    let providers = ProviderSelector::new().with_region(region);
    let builder = UnifiedMemoryManager::builder().total(REGION_BYTES - HOST).stock(0);
    let manager = builder.storage(&CRATES).providers(providers).build().expect("a total");
    let manager: Manager = cortex_m::singleton!(: UnifiedMemoryManager = manager).expect("main runs once");
    HEAP.below().install(manager);
    manager
}

fn settings() -> GuestSettings {
    GuestSettings::new().stack(STACK, CALLS)
}

struct Wrt {
    manager: Manager,
    budgets: Budgets,
}

impl Wrt {
    /// Loads a guest as a crate of its own, which is retired where that fails.
    fn try_load(&self, load: &Load, limit: usize) -> Result<WrtGuest, Box<Error>> {
        let registered = self.register(load.name, limit);
        let mut guest = self.make(registered.id, settings())?;
        guest.load(load.wasm)?;
        Ok(WrtGuest { guest, _registered: registered })
    }

    fn register(&self, name: &str, limit: usize) -> Registered {
        let id = self.manager.register(name, CrateSettings::new().limit(limit)).expect("a free slot");
        Registered { manager: self.manager, id }
    }

    /// A guest without a module yet, in a frame of its own: a guest is a kilobyte, and is moved on its way
    /// to the heap.
    #[inline(never)]
    fn make(&self, id: CrateId, settings: GuestSettings) -> Result<Box<Guest<()>>, Box<Error>> {
        Ok(Box::new(Guest::new(&self.budgets, id, settings, ())?))
    }

    /// The same without a heap, in a box that is there already.
    #[inline(never)]
    fn make_in(
        &self,
        place: Box<MaybeUninit<Guest<()>>>,
        id: CrateId,
        settings: GuestSettings,
    ) -> Box<Guest<()>> {
        Box::write(place, Guest::new(&self.budgets, id, settings, ()).expect("room for a guest"))
    }
}

impl Runtime for Wrt {
    type Guest = WrtGuest;

    fn load(&self, load: &Load) -> WrtGuest {
        let limit = load.memory + load.elements * size_of::<usize>() + RUNTIME;
        self.try_load(load, limit).unwrap_or_else(|error| panic!("{}: {error}", load.name))
    }
}

/// A crate that is retired when this is dropped: after its guest.
struct Registered {
    manager: Manager,
    id: CrateId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.manager.retire(self.id).expect("its guest is gone, and every byte of it");
    }
}

/// A guest, and then its crate.
struct WrtGuest {
    guest: Box<Guest<()>>,
    _registered: Registered,
}

impl firmware_workload::Guest for WrtGuest {
    fn call(&mut self, export: &str, arguments: &[i32]) -> Option<i32> {
        let called = match *arguments {
            [] => self.guest.call(export, ()),
            [one] => self.guest.call(export, one),
            _ => panic!("no guest has such a function"),
        };
        match called {
            Ok(-1) => {
                if let Some(denied) = self.guest.last_denial() {
                    say!("denied: {denied}");
                }
                Some(-1)
            }
            Ok(result) => Some(result),
            Err(error) if error.trap().is_some() => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn memory(&self) -> *const u8 {
        let context = self.guest.context();
        let memory = self.guest.instance().and_then(|instance| instance.get_memory(context, "memory"));
        memory.expect("exported").data_ptr(context)
    }

    fn command(&mut self, export: &str, [first, second]: [i32; 2]) {
        self.guest.call(export, (first, second)).expect("no trap")
    }
}

/// A maximum of 4 GiB, which 32 bits cannot hold, is no reason to refuse what there is, nor to grant
/// more.
fn largest_maximum(wrt: &Wrt) {
    let mut guest = wrt.load(&firmware_workload::BIG_MAX);
    assert_eq!(guest.call("grow", &[1]), Some(1));
    assert_eq!(guest.call("grow", &[1]), Some(-1));
    assert_eq!(guest.call("grow", &[65534]), Some(-1));
    say!("largest maximum: grew to its 2 pages, then -1");
}

/// A crate that cannot pay for what the runtime needs is refused, as is a module that is not for us, and
/// nothing of them is left.
fn refused_at_load(wrt: &Wrt) {
    let before = free(wrt.manager);
    for (load, limit) in [(firmware_workload::HOG, 4096), (firmware_workload::MEMORY64, PAGE + RUNTIME)] {
        // Out of its box, which is in the region, too.
        match wrt.try_load(&load, limit).map(drop).map_err(|error| *error) {
            Ok(()) => panic!("{} was loaded", load.name),
            Err(error) => say!("refused at load: {}: {error}", load.name),
        }
        assert_eq!(free(wrt.manager), before);
    }
}

/// What loading and unloading leaves behind: nothing, and nothing in pieces.
fn cycles(wrt: &Wrt) {
    let before = (free(wrt.manager), largest_free(wrt.manager));
    for _ in 0..CYCLES {
        let mut guest = wrt.load(&firmware_workload::HOG);
        assert_eq!(guest.call("run", &[]), Some(1));
    }
    assert_eq!((free(wrt.manager), largest_free(wrt.manager)), before);
    say!("cycles: {CYCLES} times a hog loaded, run and unloaded: free and largest free as before");
}

/// What the runtime takes on a machine of 32 bits is not more than what is charged before it starts.
#[inline(never)]
fn estimates(wrt: &Wrt) {
    for load in firmware_workload::ALL {
        let registered = wrt.register(load.name, usize::MAX);
        let settings = settings().region(0);
        let estimate = settings.overhead(load.wasm);
        let mut guest = wrt.make(registered.id, settings).expect(load.name);
        // A guest that begins with memory, and finds the room for that, takes as much as one that has none.
        guest.load(load.wasm).expect(load.name);
        let took = guest.take_peak().expect("it is measured");
        assert!(took <= estimate, "{} took {took} bytes, and {estimate} were made sure of", load.name);
        say!("estimate: {}: {} bytes, {} taken", load.name, estimate, took);
    }
}

/// All there is, but for the room that somebody set aside.
struct Nothing {
    _heap: [Option<Vec<u8>>; 48],
}

impl Nothing {
    /// Takes all of the heap, which is the region too, until there is not a word left.
    fn new() -> Self {
        let mut size = REGION_BYTES;
        let heap = core::array::from_fn(|_| {
            loop {
                let mut block = Vec::new();
                if block.try_reserve_exact(size).is_ok() {
                    return Some(block);
                }
                if size == 1 {
                    return None;
                }
                size /= 2;
            }
        });
        assert!(Vec::<u8>::new().try_reserve_exact(1).is_err(), "something is left");
        Self { _heap: heap }
    }
}

/// wasmi allocates a box for a trap, and there is no memory for it but what each guest has for that.
#[inline(never)]
fn trap_without_heap(wrt: &Wrt) {
    let mut guest = wrt.load(&firmware_workload::RECURSION);
    let nothing = Nothing::new();
    for _ in 0..100 {
        assert_eq!(guest.call("run", &[0]), None, "endless recursion must trap");
    }
    drop(nothing);
    say!("empty heap: a guest trapped 100 times, and the firmware is there");
}

/// Room that was set aside is there for a guest when nothing else is.
#[inline(never)]
fn room_set_aside(wrt: &Wrt) {
    let load = &firmware_workload::RECURSION;
    let registered = wrt.register("keeper", usize::MAX);
    let runtime = settings().overhead(load.wasm);
    let reserve = wrt.budgets.reserve(registered.id, &[PAGE], &[runtime]).expect("room");
    let used = wrt.manager.node(registered.id).expect("registered").used;
    wrt.manager.set_guarantee(registered.id, used).expect("it has them");
    let mut place = Box::new_uninit();
    let nothing = Nothing::new();
    for _ in 0..10 {
        let mut guest = wrt.make_in(place, registered.id, settings().reserve(&reserve));
        guest.load(load.wasm).expect("room for its module and its memory");
        let trap = guest.call::<i32, i32>("run", 0).expect_err("endless recursion must trap").trap();
        assert!(trap.is_some());
        let bytes = guest.bytes();
        assert_eq!((bytes.regions, bytes.overhead), (PAGE, 0));
        place = vacate(guest);
        assert_eq!((reserve.free(), reserve.free_runtimes()), (1, 1));
    }
    drop((place, nothing));
    say!("set aside: with nothing free, a guest was loaded, run and unloaded 10 times in its room");
}

/// Drops what is in a box, and keeps the box.
fn vacate<T>(full: Box<T>) -> Box<MaybeUninit<T>> {
    let place = Box::into_raw(full);
    // SAFETY: from a box, and dropped once; what may be uninitialised need not be dropped.
    unsafe {
        place.drop_in_place();
        Box::from_raw(place.cast())
    }
}

/// Prints where the bytes are, a line for each budget.
fn snapshot(manager: Manager, when: &str) {
    if let Some(hog) = manager.nodes().find(|node| node.name.as_str() == "hog") {
        assert_eq!(hog.denials.limit, 2, "`run` ends with a refusal, and `grow` is one");
    }
    say!("{when}:");
    say!("name         requested   used  limit   high  denied limit/pool/provider");
    for node in manager.nodes() {
        say!(
            "{:indent$}{:width$} {:10} {:6} {:6} {:6} {:13}/{}/{}",
            "",
            node.name,
            node.requested,
            node.used,
            node.limit,
            node.high_water,
            node.denials.limit,
            node.denials.pool,
            node.denials.provider,
            indent = usize::from(node.depth),
            width = 12 - usize::from(node.depth),
        );
    }
    say!(
        "region: {} free, {} in one block; heap {}",
        free(manager),
        largest_free(manager),
        HEAP.below().used()
    );
}

fn free(manager: Manager) -> usize {
    manager.providers().region().map_or(0, StaticRegionProvider::free_bytes)
}

fn largest_free(manager: Manager) -> usize {
    manager.providers().region().map_or(0, StaticRegionProvider::largest_free)
}
