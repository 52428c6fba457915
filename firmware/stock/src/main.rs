//! The guests of `firmware-wasmi` under stock wasmi: linear memories in `Vec`s from the global
//! allocator, limits per memory by `StoreLimits`. Its peak is what such a firmware needs.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;

use cortex_m_rt::entry;
use firmware_board::{WatchedHeap, say, stack_peak, succeed};
use firmware_workload::{Guest, Load, Runtime};
use wasmi::{Config, Engine, Instance, Linker, Module, Store, StoreLimits, StoreLimitsBuilder, Val};
use wrt_memory::provider::{ProviderSelector, StaticRegion, StaticRegionProvider};
use wrt_memory::{CrateStorage, UnifiedMemoryManager};

/// Enough to see how much is needed.
const REGION_BYTES: usize = 768 << 10;

static CRATES: CrateStorage<1> = CrateStorage::new();
static REGION: StaticRegion<REGION_BYTES> = StaticRegion::new();

#[global_allocator]
static HEAP: WatchedHeap = WatchedHeap::new();

/// As often as it takes to see that refusing works; `firmware-wasmi` does it ten million times.
const REFUSALS: i32 = 1000;

struct Stock;

struct StockGuest {
    store: Store<StoreLimits>,
    instance: Instance,
}

impl Runtime for Stock {
    type Guest = Box<StockGuest>;

    fn load(&self, load: &Load) -> Box<StockGuest> {
        let mut config = Config::default();
        config.wasm_custom_page_sizes(true);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, load.wasm).expect("valid");
        let limits = StoreLimitsBuilder::new().memory_size(load.memory).table_elements(load.elements).build();
        let mut store = Store::new(&engine, limits);
        store.limiter(|limits| limits);
        let instance = Linker::new(&engine).instantiate_and_start(&mut store, &module).expect(load.name);
        Box::new(StockGuest { store, instance })
    }
}

impl StockGuest {
    fn invoke(&mut self, export: &str, arguments: &[i32], results: &mut [Val]) -> Result<(), wasmi::Error> {
        let arguments: Vec<Val> = arguments.iter().map(|&argument| Val::I32(argument)).collect();
        let function = self.instance.get_func(&self.store, export).expect(export);
        function.call(&mut self.store, &arguments, results)
    }
}

impl Guest for Box<StockGuest> {
    fn call(&mut self, export: &str, arguments: &[i32]) -> Option<i32> {
        let mut results = [Val::I32(0)];
        match self.invoke(export, arguments, &mut results) {
            Ok(()) => results[0].i32(),
            Err(error) if error.as_trap_code().is_some() => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn memory(&self) -> *const u8 {
        self.instance.get_memory(&self.store, "memory").expect("exported").data_ptr(&self.store)
    }

    fn command(&mut self, export: &str, arguments: [i32; 2]) {
        self.invoke(export, &arguments, &mut []).expect("no trap");
    }
}

#[entry]
fn main() -> ! {
    let selector =
        REGION.claim().map(|region| ProviderSelector::new().with_region(StaticRegionProvider::new(region)));
    let providers = selector.expect("main runs once");
    let manager =
        UnifiedMemoryManager::builder().total(REGION_BYTES).storage(&CRATES).providers(providers).build();
    let manager = cortex_m::singleton!(: UnifiedMemoryManager = manager.expect("a total and room"));
    HEAP.install(manager.expect("main runs once"));
    firmware_workload::run(&Stock, REFUSALS, |_, when| say!("{when}: heap {} bytes", HEAP.used()));
    assert_eq!(HEAP.used(), 0);
    HEAP.peak().report("heap");
    stack_peak().report("stack");
    succeed()
}
