//! Beside stock wasmi: what growing holds and copies at its peak, how long it takes, what a cycle of load, run and
//! unload takes, and what a long life does to a static region.
//!
//! `cargo bench -p wrt-memory-wasmi` measures times with criterion, after a table of bytes;
//! with `--test` it prints the table and runs everything once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use criterion::{BatchSize, Criterion};
use wasmi::{Config, Engine, Linker, Module, Store};
use wrt_memory::provider::{Block, Provider, ProviderSelector, Request, StaticRegionProvider};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_wasmi::{Budgets, Guest, GuestHeap, GuestSettings};

const PAGE: usize = 65536;

/// Counts bytes held, the most ever, and those that a growing block takes along.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static COPIED: AtomicUsize = AtomicUsize::new(0);

fn hold(bytes: usize) {
    PEAK.fetch_max(HELD.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: all is the system allocator's; `realloc` is that of the trait, which allocates, copies and frees, as
// an allocator of a microcontroller does.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hold(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        COPIED.fetch_add(layout.size().min(new_size), Relaxed);
        // SAFETY: the caller's contract, and that of `copy_nonoverlapping`: a new block is another one.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[global_allocator]
static HEAP: GuestHeap<Counting> = GuestHeap::new(Counting);

/// Runs `code` and says what it held at its peak, above what there was, and copied.
fn bytes(code: impl FnOnce()) -> (usize, usize) {
    let (before, copied) = (HELD.load(Relaxed), COPIED.load(Relaxed));
    PEAK.store(before, Relaxed);
    code();
    (PEAK.load(Relaxed) - before, COPIED.load(Relaxed) - copied)
}

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
        let settings = GuestSettings::new().stack(STACK, DEPTH);
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

fn stock(wasm: &[u8]) -> Stock {
    let mut config = Config::default();
    config.set_min_stack_height(0).set_max_stack_height(STACK).set_max_recursion_depth(DEPTH);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, wasm).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate_and_start(&mut store, &module).unwrap();
    let run = instance.get_typed_func(&store, "run").unwrap();
    Stock { store, run }
}

fn grower(maximum: usize) -> Vec<u8> {
    wat::parse_str(GROWER.replace("257", &maximum.to_string())).unwrap()
}

fn growth_table() {
    println!("growing from one page by one, n times: bytes held at the peak (all of the guest), and copied");
    println!(
        "{:>5} {:>12} {:>12} {:>8} {:>14} {:>14}",
        "n", "stock", "here", "ratio", "stock copied", "here copied"
    );
    for n in [1usize, 4, 16, 64, 127, 128, 255, 256] {
        let wasm = grower(n + 1);
        let (held, copied) = bytes(|| {
            let mut stock = stock(&wasm);
            assert_eq!(stock.run.call(&mut stock.store, n as i32).unwrap(), n as i32);
        });
        let ours = Ours::new(300 * PAGE);
        let (_, copied_here) = bytes(|| {
            assert_eq!(ours.load(&wasm).call::<i32, i32>("run", n as i32).unwrap(), n as i32);
        });
        // What the crate was charged at its peak: the region, and the estimate while it was loaded.
        let here = ours.high_water();
        println!(
            "{n:>5} {held:>12} {here:>12} {:>8.2} {copied:>14} {copied_here:>14}",
            here as f64 / held as f64
        );
    }
}

/// One guest of a trace.
#[derive(Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
    until: usize,
}

/// Loads and unloads, the same for every allocator: small memories that grow by steps of 1 KiB.
fn trace(seed: u64, longest: usize) -> Vec<Life> {
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    (0..20_000)
        .map(|at| {
            let first = 1024 * (1 + random(8));
            Life { first, last: first + 1024 * random(16), until: at + 1 + random(longest) }
        })
        .collect()
}

/// What a trace left behind, in the middle of its life and at the first failure.
#[derive(Default)]
struct Wear {
    /// Means of `1 - largest free / free`, over all loads.
    fragmentation: f64,
    failures: usize,
    /// Bytes free when a load or a growth failed first.
    free_at_failure: Option<usize>,
}

const ROOM: usize = 192 << 10;

fn wear_of_regions(trace: &[Life]) -> Wear {
    let region = StaticRegionProvider::new(vec![0; ROOM].leak());
    let mut live: Vec<(usize, Block)> = Vec::new();
    let mut wear = Wear::default();
    for (at, life) in trace.iter().enumerate() {
        for gone in live.extract_if(.., |(until, _)| *until <= at) {
            // SAFETY: from this region, and nobody else has it.
            unsafe { region.free(gone.1) };
        }
        match region.allocate(&Request::new(life.last)) {
            Ok(block) => live.push((life.until, block)),
            Err(_) => {
                wear.failures += 1;
                wear.free_at_failure.get_or_insert(region.free_bytes());
            }
        }
        wear.fragmentation += 1.0 - region.largest_free() as f64 / region.free_bytes().max(1) as f64;
    }
    wear.fragmentation /= trace.len() as f64;
    wear
}

/// A `Vec` that doubles on a first-fit heap, as stock wasmi's memory on a common embedded allocator.
fn wear_of_vectors(trace: &[Life]) -> Wear {
    let room: &'static mut [u8] = vec![0; ROOM].leak();
    let mut heap = linked_list_allocator::Heap::empty();
    // SAFETY: leaked: nobody else's, for good.
    unsafe { heap.init(room.as_mut_ptr(), ROOM) };
    let layout = |size: usize| Layout::from_size_align(size, 8).unwrap();
    let mut live: Vec<(usize, NonNull<u8>, usize)> = Vec::new();
    let mut wear = Wear::default();
    for (at, life) in trace.iter().enumerate() {
        for (_, block, size) in live.extract_if(.., |(until, ..)| *until <= at) {
            // SAFETY: from this heap with this layout, and nobody else has it.
            unsafe { heap.deallocate(block, layout(size)) };
        }
        let mut grow = || {
            let (mut room, mut size) = (life.first, life.first);
            let mut block = heap.allocate_first_fit(layout(room)).ok()?;
            while size < life.last {
                size += 1024;
                if size > room {
                    let larger = size.max(2 * room);
                    let Ok(new) = heap.allocate_first_fit(layout(larger)) else {
                        // The guest gets -1, and stays as large as it is.
                        return Some((block, room, false));
                    };
                    // SAFETY: as above.
                    unsafe { heap.deallocate(block, layout(room)) };
                    (block, room) = (new, larger);
                }
            }
            Some((block, room, true))
        };
        let grown = grow();
        if !grown.is_some_and(|(.., whole)| whole) {
            wear.failures += 1;
            wear.free_at_failure.get_or_insert(heap.free());
        }
        if let Some((block, size, _)) = grown {
            live.push((life.until, block, size));
        }
        wear.fragmentation += 1.0 - largest_hole(&mut heap) as f64 / heap.free().max(1) as f64;
    }
    wear.fragmentation /= trace.len() as f64;
    wear
}

fn largest_hole(heap: &mut linked_list_allocator::Heap) -> usize {
    let (mut fits, mut bound) = (0, heap.free() / 64);
    while fits < bound {
        let middle = fits + (bound - fits).div_ceil(2);
        let layout = Layout::from_size_align(middle * 64, 8).unwrap();
        match heap.allocate_first_fit(layout) {
            Ok(block) => {
                // SAFETY: allocated just now with this layout.
                unsafe { heap.deallocate(block, layout) };
                fits = middle;
            }
            Err(()) => bound = middle - 1,
        }
    }
    fits * 64
}

fn wear_table() {
    println!("\n20,000 guests of 1 to 24 KiB that come and go in {} KiB (mean of three traces)", ROOM >> 10);
    println!(
        "{:>28} {:>7} {:>14} {:>9} {:>22}",
        "", "guests", "fragmentation", "failures", "free at first failure"
    );
    for longest in [8, 16, 24] {
        for (name, wear) in [
            ("regions here", wear_of_regions as fn(&[Life]) -> Wear),
            ("linked_list_allocator + Vec", wear_of_vectors),
        ] {
            let wears = [1, 2, 3].map(|seed| wear(&trace(seed, longest)));
            let fragmentation = wears.iter().map(|wear| wear.fragmentation).sum::<f64>() / 3.0;
            let failures: usize = wears.iter().map(|wear| wear.failures).sum();
            let free = wears.iter().filter_map(|wear| wear.free_at_failure).max();
            let free = free.map_or("-".into(), |free| free.to_string());
            println!("{name:>28} {:>7} {fragmentation:>14.3} {failures:>9} {free:>22}", longest / 2 + 1);
        }
    }
    println!();
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

fn main() {
    growth_table();
    wear_table();
    let mut criterion = Criterion::default().configure_from_args();
    times(&mut criterion);
    criterion.final_summary();
}
