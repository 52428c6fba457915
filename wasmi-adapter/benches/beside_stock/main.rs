//! Beside stock wasmi: what growing holds and copies at its peak, how long it takes, what a cycle of load, run and
//! unload takes, and what a long life does to a static region.
//!
//! `cargo bench -p wrt-memory-wasmi` measures times with criterion, after a table of bytes;
//! with `--test` it prints the table and runs everything once. With `cycles SIDE N` it does nothing but `N` cycles of one
//! side, for valgrind to count.

mod counting;
mod growth;
mod wear;

use std::hint::black_box;
use std::sync::Arc;

use counting::Counting;

use criterion::{BatchSize, Criterion};
use wasmi::{Config, Engine, Linker, Module, Store};
use wrt_memory::provider::{ProviderSelector, StaticRegionProvider};
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
        let region = vec![0; room].leak();
        let providers = ProviderSelector::new().with_region(StaticRegionProvider::new(region));
        let manager = UnifiedMemoryManager::builder().total(1 << 30).providers(providers).build().unwrap();
        let manager = Arc::new(manager);
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        Self { budgets: Budgets::new(&manager).unwrap(), id }
    }

    fn load(&self, wasm: &[u8]) -> Guest<()> {
        self.load_with(GuestSettings::new().stack(STACK, DEPTH), wasm)
    }

    /// To be renewed.
    fn load_renewable(&self, wasm: &[u8]) -> Guest<()> {
        self.load_with(GuestSettings::new().stack(STACK, DEPTH).renewable(), wasm)
    }

    fn load_with(&self, settings: GuestSettings, wasm: &[u8]) -> Guest<()> {
        let mut guest = Guest::new(&self.budgets, self.id, settings, ()).unwrap();
        guest.load(wasm).unwrap();
        guest
    }

    fn high_water(&self) -> usize {
        self.budgets.manager().node(self.id).unwrap().high_water
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

fn times(criterion: &mut Criterion) {
    let wasm = grower(257);
    let ours = Ours::new(300 * PAGE);
    let mut group = criterion.benchmark_group("grow a page 256 times");
    group.bench_function("stock", |bench| {
        bench.iter_batched_ref(
            || stock(&wasm),
            |stock| stock.run.call(&mut stock.store, 256),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("here", |bench| {
        bench.iter_batched_ref(
            || ours.load(&wasm),
            |guest| guest.call::<i32, i32>("run", 256),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let wasm = grower(4);
    let mut group = criterion.benchmark_group("load, run, unload");
    group.bench_function("stock", |bench| {
        bench.iter(|| {
            let mut stock = stock(&wasm);
            black_box(stock.run.call(&mut stock.store, 3)).unwrap()
        });
    });
    group.bench_function("here", |bench| {
        bench.iter(|| black_box(ours.load(&wasm).call::<i32, i32>("run", 3)).unwrap());
    });
    group.finish();
}

/// Loads, runs and unloads the same guest again and again.
fn cycles(side: &str, times: usize) {
    let wasm = grower(4);
    let ours = Ours::new(300 * PAGE);
    // From here on the C library keeps what is freed, up to twice this, instead of unmapping it: else stock would
    // fault every page of every memory in, each time.
    drop(black_box(vec![0u8; 30 << 20]));
    let mut renewed = ours.load_renewable(&wasm);
    let kept = compiled(&wasm);
    for _ in 0..times {
        let got: i32 = match side {
            "stock" => {
                let mut stock = stock(&wasm);
                stock.run.call(&mut stock.store, 3).unwrap()
            }
            "here" => ours.load(&wasm).call("run", 3).unwrap(),
            "stock, compiled once" => {
                let mut stock = instantiated(&kept);
                stock.run.call(&mut stock.store, 3).unwrap()
            }
            "here, compiled once" => {
                renewed.renew(()).unwrap();
                renewed.load_again().unwrap();
                renewed.call("run", 3).unwrap()
            }
            other => panic!("no side is called {other}"),
        };
        assert_eq!(got, 3);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, side, times] = &arguments[..]
        && mode == "cycles"
    {
        return cycles(side, times.parse().expect("a number"));
    }
    growth::table();
    wear::table();
    let mut criterion = Criterion::default().configure_from_args();
    times(&mut criterion);
    criterion.final_summary();
}
