//! Guests on a Cortex-M4 with 192 KiB of RAM for everything: stack, statics, and one region for the
//! heap and the guests' memories. Each guest is a crate with a limit of its own, for its memories, its
//! tables and what the runtime needs for it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;

use cortex_m_rt::entry;
use firmware_board::{WatchedHeap, say, stack_peak, succeed};
use firmware_workload::{Guest as _, Load, PAGE, Runtime};
use wrt_memory::provider::{ProviderSelector, StaticRegion, StaticRegionProvider};
use wrt_memory::{CrateId, CrateSettings, CrateStorage, UnifiedMemoryManager};
use wrt_memory_wasmi::{Budgets, Error, Guest, GuestHeap, GuestSettings};

/// Heap and guests' memories.
const REGION_BYTES: usize = 173 << 10;

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

    assert_eq!((manager.nodes().count(), manager.pool().used), (1, 0));
    assert_eq!((crate::free(manager), largest_free(manager)), free);
    say!("every byte is back: {} free, {} of them in one block, as at the start", free.0, free.1);
    HEAP.below().peak().report("heap");
    HEAP.below().region_peak().report("region");
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

struct Wrt {
    manager: Manager,
    budgets: Budgets,
}

impl Wrt {
    /// Loads a guest as a crate of its own, which is retired where that fails.
    fn try_load(&self, load: &Load, limit: usize) -> Result<WrtGuest, Box<Error>> {
        let id = self.manager.register(load.name, CrateSettings::new().limit(limit)).expect("a free slot");
        let registered = Registered { manager: self.manager, id };
        let mut guest = self.make(id)?;
        guest.load(load.wasm)?;
        Ok(WrtGuest { guest, _registered: registered })
    }

    /// A guest without a module yet, in a frame of its own: a guest is a kilobyte, and is moved on its way
    /// to the heap.
    #[inline(never)]
    fn make(&self, id: CrateId) -> Result<Box<Guest<()>>, Box<Error>> {
        let settings = GuestSettings::new().stack(STACK, CALLS);
        Ok(Box::new(Guest::new(&self.budgets, id, settings, ())?))
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
