//! Beside stock wasmi: what growing holds and copies at its peak, how long it takes, what a cycle of load, run and
//! unload takes, and what a long life does to a static region.
//!
//! `cargo bench -p wrt-memory-wasmi` prints three tables: of bytes, of fragmentation, of times; with `-- --quick` the
//! times are of few rounds. With `-- cycles SIDE N` the program does nothing but `N` cycles of one side, for valgrind to
//! count.

mod counting;
mod cycle;
mod growth;
mod wear;

use std::hint::black_box;
use std::sync::Arc;

use counting::Counting;

use wasmi::{Config, Engine, Linker, Module, Store};
use wrt_memory::provider::{HeapProvider, ProviderSelector, StaticRegionProvider};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_wasmi::{Budgets, Guest, GuestHeap, GuestSettings};

const PAGE: usize = 65536;

#[global_allocator]
static HEAP: GuestHeap<Counting> = GuestHeap::new(Counting);

const GROWER: &str = r#"(module (memory (export "memory") 1 257)
    (func (export "run") (param $n i32) (result i32) (local $got i32)
      (block $done
        (loop $more
          (br_if $done (i32.eqz (local.get $n)))
          (br_if $done (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
          (local.set $got (i32.add (local.get $got) (i32.const 1)))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br $more)))
      (local.get $got)))"#;

const STACK: usize = 4096;
const DEPTH: usize = 64;

struct Ours {
    budgets: Budgets,
    id: CrateId,
}

impl Ours {
    fn new(room: usize) -> Self {
        let region = StaticRegionProvider::new(vec![0; room].leak());
        Self::with(ProviderSelector::new().with_region(region))
    }

    fn on_the_heap() -> Self {
        Self::with(ProviderSelector::new().with_heap(HeapProvider))
    }

    fn with(providers: ProviderSelector) -> Self {
        let manager = UnifiedMemoryManager::builder().total(1 << 30).providers(providers).build().unwrap();
        let manager = Arc::new(manager);
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        Self { budgets: Budgets::new(&manager).unwrap(), id }
    }

    fn load(&self, wasm: &[u8]) -> Guest<()> {
        self.load_for(self.id, wasm)
    }

    fn load_for(&self, id: CrateId, wasm: &[u8]) -> Guest<()> {
        self.load_with(id, GuestSettings::new(), wasm)
    }

    /// To be renewed.
    fn load_renewable(&self, wasm: &[u8]) -> Guest<()> {
        self.load_with(self.id, GuestSettings::new().renewable(), wasm)
    }

    fn load_with(&self, id: CrateId, settings: GuestSettings, wasm: &[u8]) -> Guest<()> {
        let mut guest = Guest::new(&self.budgets, id, settings.stack(STACK, DEPTH), ()).unwrap();
        guest.load(wasm).unwrap();
        guest
    }

    fn register(&self) -> CrateId {
        self.budgets.manager().register("one more", CrateSettings::new()).unwrap()
    }

    fn retire(&self, id: CrateId) {
        self.budgets.manager().retire(id).unwrap();
    }

    fn high_water(&self, id: CrateId) -> usize {
        self.budgets.manager().node(id).unwrap().high_water
    }
}

struct Stock {
    store: Store<()>,
    run: wasmi::TypedFunc<i32, i32>,
}

fn compiled(wasm: &[u8]) -> (Engine, Module) {
    let mut config = Config::default();
    config.set_min_stack_height(0).set_max_stack_height(STACK).set_max_recursion_depth(DEPTH);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, wasm).unwrap();
    (engine, module)
}

fn instantiated((engine, module): &(Engine, Module)) -> Stock {
    let mut store = Store::new(engine, ());
    let instance = Linker::new(engine).instantiate_and_start(&mut store, module).unwrap();
    let run = instance.get_typed_func(&store, "run").unwrap();
    Stock { store, run }
}

fn stock(wasm: &[u8]) -> Stock {
    instantiated(&compiled(wasm))
}

fn grower(maximum: usize) -> Vec<u8> {
    wat::parse_str(GROWER.replace("257", &maximum.to_string())).unwrap()
}

fn main() {
    // From here on the C library keeps what is freed, up to twice this, instead of unmapping it: else stock would
    // fault every page of every memory in, each time.
    drop(black_box(vec![0u8; 30 << 20]));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cycles", side, times] => cycle::only(side, times.parse().expect("a number of cycles")),
        // What cargo passes.
        ["--bench"] | [] => tables(200),
        ["--quick", "--bench"] | ["--quick"] => tables(10),
        _ => panic!("nothing, --quick, or: cycles SIDE TIMES"),
    }
}

fn tables(rounds: usize) {
    growth::table();
    wear::table();
    cycle::table(rounds);
}
