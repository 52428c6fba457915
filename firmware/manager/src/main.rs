//! Budgets on a Cortex-M0, which has no compare-and-swap: the manager with a static region, without
//! `alloc`. Every step asserts what it expects to the byte; a wrong figure is a panic, and a panic
//! is the exit status.
#![no_std]
#![no_main]

mod interrupts;

use core::array;

use cortex_m_rt::entry;
use firmware_board::{Peak, say, stack_peak, succeed};
use wrt_memory::provider::{StaticRegion, StaticRegionProvider};
use wrt_memory::{
    CrateHandle, CrateId, CrateSettings, CrateStorage, MemoryError, RawMemory, UnifiedMemoryManager,
};

/// The global budget in bytes.
const POOL: usize = 5888;

/// Costs are multiples of this; a block loses half of it to its header.
const GRANULE: usize = StaticRegionProvider::GRANULE;

static CRATES: CrateStorage<4> = CrateStorage::new();
static REGION: StaticRegion<POOL> = StaticRegion::new();

/// What a block of so many bytes costs.
const fn cost(size: usize) -> usize {
    (size + GRANULE / 2).next_multiple_of(GRANULE)
}

type Manager = &'static UnifiedMemoryManager;
type Block = RawMemory<'static>;

#[entry]
fn main() -> ! {
    let manager = start();
    let start_up = stack_peak();
    assert_eq!(largest_free(manager), POOL);

    budgets(manager);
    interrupts::charge_beside_main(manager);

    assert_eq!((manager.nodes().count(), manager.pool().used), (1, 0));
    assert_eq!((free(manager), largest_free(manager)), (POOL, POOL));
    say!("every byte is back: {} of {POOL} free in one block", largest_free(manager));
    Peak { bytes: manager.pool().high_water, of: POOL }.report("region");
    start_up.report("stack while the manager is built");
    stack_peak().report("stack");
    succeed()
}

/// Builds the manager into a `static`, in a frame of its own: the moves on the way there need more
/// stack than all that follows.
#[inline(never)]
fn start() -> Manager {
    let region = REGION.claim().expect("main runs once");
    let builder = UnifiedMemoryManager::builder().total(POOL).stock(0).storage(&CRATES).region(region);
    let manager = builder.build().expect("a total and room for crates");
    cortex_m::singleton!(: UnifiedMemoryManager = manager).expect("main runs once")
}

fn budgets(manager: Manager) {
    let settings = CrateSettings::new();
    let motor = register(manager, "motor", settings.limit(3072).guarantee(1536));
    let logger = register(manager, "logger", settings.limit(2304));
    let vendor = register(manager, "vendor", settings);
    let plugin = register(manager, "plugin", settings.parent(vendor));
    impossible_settings(manager, logger, vendor);
    allocate_and_free(manager, motor);

    let mut logs = limit_stops_a_hog(manager, logger);
    let plugins = pool_runs_out(manager, plugin);
    let speed = guarantee_is_kept(manager, motor);
    snapshot(manager);
    figures_are_kept(manager, [motor, logger, vendor, plugin]);

    // What the next crate in these bytes must not see.
    for log in logs.iter_mut().flatten() {
        log.as_mut_slice().fill(0xa5);
    }
    let bytes = logs[0].as_ref().map(Block::as_ptr);
    in_use_is_not_retired(manager, logger, vendor);
    waits_for_bytes(manager, vendor, &mut logs);
    drop(logs);
    retire(manager, logger);

    let successor = register(manager, "successor", settings.limit(2304));
    stale_id_is_refused(manager, logger);
    let block = manager.allocate(successor, 512).expect("the hog's bytes are free");
    assert_eq!(Some(block.as_ptr()), bytes, "the successor is in the hog's bytes");
    assert!(block.as_slice().iter().all(|&byte| byte == 0), "a successor reads what the hog left");
    say!("reuse: successor has the hog's bytes, and they are zero");
    snapshot(manager);

    assert_eq!(manager.deallocate(block), Ok(cost(512)));
    drop((plugins, speed));
    for id in [successor, plugin, vendor, motor] {
        retire(manager, id);
    }
}

/// Settings that cannot be are refused with the figure that stands in the way.
fn impossible_settings(manager: Manager, logger: CrateId, vendor: CrateId) {
    let fifth = manager.register("fifth", CrateSettings::new());
    assert_eq!(fifth, Err(MemoryError::TooManyCrates { capacity: 4 }));
    let Err(MemoryError::GuaranteeAboveLimit { limit: 2304, .. }) = manager.set_guarantee(logger, 3000)
    else {
        panic!("a guarantee above the crate's limit")
    };
    let Err(MemoryError::GuaranteeUnavailable { free, .. }) = manager.set_guarantee(vendor, 5000) else {
        panic!("a guarantee of more than is left")
    };
    assert_eq!(free, POOL - 1536);
}

fn allocate_and_free(manager: Manager, id: CrateId) {
    let mut block = manager.allocate(id, 1000).expect("within its guarantee");
    assert!(block.as_slice().iter().all(|&byte| byte == 0));
    block.as_mut_slice().fill(0x5a);
    let node = manager.node(id).expect("registered");
    assert_eq!((node.requested, node.used, cost(1000)), (1000, 1008, 1008));
    assert_eq!(manager.deallocate(block), Ok(1008));
    assert_eq!(used(manager, id), 0);
    say!("allocate: 1000 bytes cost 1008, and 1008 come back");
}

/// A hog gets its limit and no byte more, and is told so with the figures.
fn limit_stops_a_hog(manager: Manager, hog: CrateId) -> [Option<Block>; 6] {
    let (logs, denied) = take(manager, hog, 512);
    say!("denied: {denied}");
    let MemoryError::OverLimit { asked, used, limit, free, .. } = denied else { panic!("{denied}") };
    assert_eq!((asked, used, limit, free), (528, 4 * 528, 2304, 2304 - 4 * 528));
    assert_eq!((held(&logs), manager.node(hog).map(|node| node.used)), (4, Ok(4 * 528)));
    logs
}

/// A crate without a limit gets what is neither used nor guaranteed to another.
fn pool_runs_out(manager: Manager, plugin: CrateId) -> [Option<Block>; 6] {
    let (plugins, denied) = take(manager, plugin, 1000);
    say!("denied: {denied}");
    let MemoryError::PoolExhausted { holder, asked, free, .. } = denied else { panic!("{denied}") };
    let left = POOL - 1536 - 4 * 528 - 2 * 1008;
    assert_eq!((holder.as_str(), asked, free, held(&plugins)), ("pool", 1008, left, 2));
    plugins
}

/// What is guaranteed is there when the pool has nothing left, and past it is not.
fn guarantee_is_kept(manager: Manager, motor: CrateId) -> Block {
    let block = manager.allocate(motor, 1536 - GRANULE / 2).expect("guaranteed");
    assert_eq!(used(manager, motor), 1536);
    let Err(MemoryError::PoolExhausted { .. }) = manager.allocate(motor, 1000) else {
        panic!("past its guarantee the pool decides, and it has nothing")
    };
    say!("guarantee: motor has its 1536 bytes while the pool is empty");
    block
}

fn figures_are_kept(manager: Manager, [motor, logger, vendor, plugin]: [CrateId; 4]) {
    let figures = |id| {
        let node = manager.node(id).expect("registered");
        (node.used, node.high_water, node.denials.limit, node.denials.pool)
    };
    assert_eq!(figures(motor), (1536, 1536, 0, 1));
    assert_eq!(figures(logger), (2112, 2112, 1, 0));
    assert_eq!(figures(vendor), (2016, 2016, 0, 0));
    assert_eq!(figures(plugin), (2016, 2016, 0, 1));
    let pool = manager.pool();
    assert_eq!((pool.used, pool.high_water, pool.floor), (1536 + 2112 + 2016, 5664, 1536));
}

/// A crate that finds no bytes waits for them, polled as a firmware's loop does, and gets them before anybody who
/// comes later.
fn waits_for_bytes(manager: Manager, id: CrateId, logs: &mut [Option<Block>; 6]) {
    let (free, before) = (free(manager), used(manager, id));
    let vendor = CrateHandle::new(manager, id).expect("registered");
    let mut waiting = vendor.charge_or_wait(free + 1, free + 1);
    assert!(waiting.poll_once().is_none());
    assert!(matches!(vendor.charge(1, 1), Err(MemoryError::Queued { .. })));
    assert!(vendor.charge_or_wait(POOL, POOL).poll_once().is_some_and(|never| never.is_err()));
    logs[0] = None;
    // Granted by who gave back, before it looks again.
    assert_eq!(used(manager, id), before + free + 1);
    let Some(Ok(charge)) = waiting.poll_once() else { panic!("it was lost") };
    say!("waiting: vendor waited for {} bytes and got them", charge.bytes());
    assert_eq!((manager.waits().granted, manager.waits().waiting), (1, 0));
}

fn in_use_is_not_retired(manager: Manager, logger: CrateId, vendor: CrateId) {
    let Err(MemoryError::InUse { used: 2112, children: 0, .. }) = manager.retire(logger) else {
        panic!("a crate with bytes in use was retired")
    };
    let Err(MemoryError::InUse { children: 1, .. }) = manager.retire(vendor) else {
        panic!("a crate with a crate below it was retired")
    };
}

/// An id of a retired crate is an error, never the budget of the crate that has its slot now.
fn stale_id_is_refused(manager: Manager, stale: CrateId) {
    let refused = Err(MemoryError::StaleCrate { id: stale });
    assert_eq!(manager.allocate(stale, 1).map(drop), refused);
    assert_eq!(manager.set_limit(stale, 4096), refused);
    assert_eq!(manager.retire(stale), refused);
    say!("stale: {}", MemoryError::StaleCrate { id: stale });
}

/// Prints where the bytes are, a line for each budget.
fn snapshot(manager: Manager) {
    say!("name       requested  used  held floor limit  high denied limit/pool");
    for node in manager.nodes() {
        say!(
            "{:indent$}{:width$} {:9} {:5} {:5} {:5} {:5} {:5} {:12}/{}",
            "",
            node.name,
            node.requested,
            node.used,
            node.held,
            node.floor,
            node.limit,
            node.high_water,
            node.denials.limit,
            node.denials.pool,
            indent = usize::from(node.depth),
            width = 10 - usize::from(node.depth),
        );
    }
}

/// Takes blocks for a crate until one is refused: the blocks, and the refusal.
fn take(manager: Manager, id: CrateId, size: usize) -> ([Option<Block>; 6], MemoryError) {
    let mut denied = None;
    let blocks = array::from_fn(|_| match denied {
        None => manager.allocate(id, size).map_err(|error| denied = Some(error)).ok(),
        Some(_) => None,
    });
    (blocks, denied.expect("nobody gets six"))
}

fn held(blocks: &[Option<Block>]) -> usize {
    blocks.iter().flatten().count()
}

fn register(manager: Manager, name: &str, settings: CrateSettings) -> CrateId {
    manager.register(name, settings).expect("there is room for the crate and its guarantee")
}

fn retire(manager: Manager, id: CrateId) {
    manager.retire(id).expect("nothing of it is in use");
}

fn used(manager: Manager, id: CrateId) -> usize {
    manager.node(id).expect("registered").used
}

fn free(manager: Manager) -> usize {
    manager.providers().region().map_or(0, StaticRegionProvider::free_bytes)
}

fn largest_free(manager: Manager) -> usize {
    manager.providers().region().map_or(0, StaticRegionProvider::largest_free)
}
