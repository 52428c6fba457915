//! Beside stock wasmi: what growing holds and copies at its peak, how long it takes, what a cycle of load, run and
//! unload takes, and what a long life does to a static region.
//!
//! `cargo bench -p wrt-memory-wasmi` measures times with criterion, after a table of bytes;
//! with `--test` it prints the table and runs everything once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
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

/// Bytes held at the peak while a guest grows `n` times, by stock and here, and bytes copied by each.
fn growth(n: usize) -> [usize; 4] {
    let wasm = grower(n + 1);
    let (held, copied) = bytes(|| {
        let mut stock = stock(&wasm);
        assert_eq!(stock.run.call(&mut stock.store, n as i32).unwrap(), n as i32);
    });
    let ours = Ours::new((n + n / 8 + 4) * PAGE);
    let (_, copied_here) = bytes(|| {
        assert_eq!(ours.load(&wasm).call::<i32, i32>("run", n as i32).unwrap(), n as i32);
    });
    // What the crate was charged at its peak: the region, and the estimate while it was loaded.
    [held, ours.high_water(), copied, copied_here]
}

/// Both sides have the guest's pages at the end. The least that anybody can hold, then, is those: the last column.
fn growth_table() {
    println!("growing from one page by one, n times: bytes held at the peak (all of the guest), and copied");
    println!(
        "{:>5} {:>12} {:>12} {:>8} {:>14} {:>14} {:>16}",
        "n", "stock", "here", "ratio", "stock copied", "here copied", "pages / stock"
    );
    let ratios = |n: usize, [held, here, ..]: [usize; 4]| {
        (here as f64 / held as f64, ((n + 1) * PAGE) as f64 / held as f64)
    };
    for n in [1usize, 3, 4, 16, 64, 127, 128, 255, 256] {
        let growth = growth(n);
        let (ratio, least) = ratios(n, growth);
        let [held, here, copied, copied_here] = growth;
        println!("{n:>5} {held:>12} {here:>12} {ratio:>8.2} {copied:>14} {copied_here:>14} {least:>16.2}");
    }
    let all = (1..=256).map(|n| ratios(n, growth(n)));
    let (sum, least) = all.fold((0.0, 0.0), |(sum, least), (a, b)| (sum + a, least + b));
    println!("mean of n from 1 to 256: ratio {:.2}, pages / stock {:.2}", sum / 256.0, least / 256.0);
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

/// Where the guests of a trace are.
trait Space {
    /// Whether there is room for all of a guest; it then has it.
    fn load(&mut self, guest: usize, life: &Life) -> bool;
    fn unload(&mut self, guest: usize);
    /// Bytes free, and in the largest piece.
    fn free(&mut self) -> (usize, usize);
}

/// What a trace left behind, in the middle of its life and at the first failure.
#[derive(Clone, Default)]
struct Wear {
    /// Means of `1 - largest free / free`, over all loads.
    fragmentation: f64,
    failures: usize,
    /// Bytes free when a load or a growth failed first.
    free_at_failure: Option<usize>,
}

const ROOM: usize = 192 << 10;

struct Regions {
    region: StaticRegionProvider,
    live: BTreeMap<usize, Block>,
}

impl Regions {
    fn new(room: usize) -> Self {
        Self { region: StaticRegionProvider::new(vec![0; room].leak()), live: BTreeMap::new() }
    }
}

impl Space for Regions {
    fn load(&mut self, guest: usize, life: &Life) -> bool {
        let Ok(block) = self.region.allocate(&Request::new(life.last)) else { return false };
        self.live.insert(guest, block);
        true
    }

    fn unload(&mut self, guest: usize) {
        if let Some(block) = self.live.remove(&guest) {
            // SAFETY: from this region, and nobody else has it.
            unsafe { self.region.free(block) };
        }
    }

    fn free(&mut self) -> (usize, usize) {
        (self.region.free_bytes(), self.region.largest_free())
    }
}

/// `Vec`s that double on a first-fit heap, as stock wasmi's memories on a common embedded allocator.
struct Vectors {
    heap: linked_list_allocator::Heap,
    live: BTreeMap<usize, (NonNull<u8>, usize)>,
}

impl Vectors {
    fn new(room: usize) -> Self {
        let mut heap = linked_list_allocator::Heap::empty();
        // SAFETY: leaked: nobody else's, for good.
        unsafe { heap.init(vec![0u8; room].leak().as_mut_ptr(), room) };
        Self { heap, live: BTreeMap::new() }
    }
}

fn words(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

impl Space for Vectors {
    fn load(&mut self, guest: usize, life: &Life) -> bool {
        let (mut room, mut size) = (life.first, life.first);
        let Ok(mut block) = self.heap.allocate_first_fit(words(room)) else { return false };
        let mut whole = true;
        while whole && size < life.last {
            size += 1024;
            if size > room {
                let larger = size.max(2 * room);
                match self.heap.allocate_first_fit(words(larger)) {
                    Ok(new) => {
                        // SAFETY: from this heap with this layout, and nobody else has it.
                        unsafe { self.heap.deallocate(block, words(room)) };
                        (block, room) = (new, larger);
                    }
                    // The guest gets -1, and stays as large as it is.
                    Err(()) => whole = false,
                }
            }
        }
        self.live.insert(guest, (block, room));
        whole
    }

    fn unload(&mut self, guest: usize) {
        if let Some((block, size)) = self.live.remove(&guest) {
            // SAFETY: as above.
            unsafe { self.heap.deallocate(block, words(size)) };
        }
    }

    fn free(&mut self) -> (usize, usize) {
        (self.heap.free(), largest_hole(&mut self.heap))
    }
}

/// Runs a trace in one space, or the same guests in several: `together`, a guest that one of them has no room for is in
/// none.
fn wear(trace: &[Life], together: bool, spaces: &mut [&mut dyn Space]) -> Vec<Wear> {
    let mut wears = vec![Wear::default(); spaces.len()];
    let mut live: Vec<(usize, usize)> = Vec::new();
    for (guest, life) in trace.iter().enumerate() {
        for (_, gone) in live.extract_if(.., |(until, _)| *until <= guest) {
            spaces.iter_mut().for_each(|space| space.unload(gone));
        }
        live.push((life.until, guest));
        let mut all = true;
        for (space, wear) in spaces.iter_mut().zip(&mut wears) {
            if !space.load(guest, life) {
                all = false;
                wear.failures += 1;
                let free = space.free().0;
                wear.free_at_failure.get_or_insert(free);
            }
        }
        if together && !all {
            spaces.iter_mut().for_each(|space| space.unload(guest));
        }
        for (space, wear) in spaces.iter_mut().zip(&mut wears) {
            let (free, largest) = space.free();
            wear.fragmentation += (1.0 - largest as f64 / free.max(1) as f64) / trace.len() as f64;
        }
    }
    wears
}

/// The least room, in KiB, in which no guest of a trace fails.
fn least_room(trace: &[Life], space: impl Fn(usize) -> Box<dyn Space>) -> usize {
    let fits = |room: usize| {
        let mut space = space(room << 10);
        let mut live: Vec<(usize, usize)> = Vec::new();
        trace.iter().enumerate().all(|(guest, life)| {
            live.extract_if(.., |(until, _)| *until <= guest).for_each(|(_, gone)| space.unload(gone));
            live.push((life.until, guest));
            space.load(guest, life)
        })
    };
    (8..).map(|eights| eights * 8).find(|&room| fits(room)).unwrap_or_default()
}

fn largest_hole(heap: &mut linked_list_allocator::Heap) -> usize {
    let (mut fits, mut bound) = (0, heap.free() / 64);
    while fits < bound {
        let middle = fits + (bound - fits).div_ceil(2);
        let layout = words(middle * 64);
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
    println!("each by itself: a space that fails more guests has fewer of them in it");
    println!(
        "together: a guest that one of them has no room for is in neither, so both have the same at any time"
    );
    println!(
        "{:>7} {:>28} {:>14} {:>9} {:>22} {:>14} {:>16}",
        "guests", "", "fragmentation", "failures", "free at first failure", "together", "room for all"
    );
    for longest in [8, 16, 24] {
        let traces = [1, 2, 3].map(|seed| trace(seed, longest));
        let mut rows = [Wear::default(), Wear::default()];
        let (mut together, mut rooms) = ([0.0; 2], [0; 2]);
        for trace in &traces {
            let alone = [
                wear(trace, false, &mut [&mut Regions::new(ROOM)]),
                wear(trace, false, &mut [&mut Vectors::new(ROOM)]),
            ];
            for (row, alone) in rows.iter_mut().zip(alone.iter().flatten()) {
                row.fragmentation += alone.fragmentation / 3.0;
                row.failures += alone.failures;
                row.free_at_failure = row.free_at_failure.max(alone.free_at_failure);
            }
            let both = wear(trace, true, &mut [&mut Regions::new(ROOM), &mut Vectors::new(ROOM)]);
            for (sum, wear) in together.iter_mut().zip(both) {
                *sum += wear.fragmentation / 3.0;
            }
            let needed: [usize; 2] = [
                least_room(trace, |room| Box::new(Regions::new(room))),
                least_room(trace, |room| Box::new(Vectors::new(room))),
            ];
            rooms = [rooms[0].max(needed[0]), rooms[1].max(needed[1])];
        }
        let names = ["regions here", "linked_list_allocator + Vec"];
        for (at, (name, row)) in names.into_iter().zip(&rows).enumerate() {
            let free = row.free_at_failure.map_or("-".into(), |free| free.to_string());
            println!(
                "{:>7} {name:>28} {:>14.3} {:>9} {free:>22} {:>14.3} {:>12} KiB",
                longest / 2 + 1,
                row.fragmentation,
                row.failures,
                together[at],
                rooms[at],
            );
        }
        println!(
            "{:>7} {:>28} {:>14.2} {:>9.2} {:>22} {:>14.2} {:>16.2}",
            "",
            "ratio",
            rows[0].fragmentation / rows[1].fragmentation,
            rows[0].failures as f64 / rows[1].failures as f64,
            "",
            together[0] / together[1],
            rooms[0] as f64 / rooms[1] as f64,
        );
        assert!(
            together[0] <= together[1] / 2.0,
            "with the same guests, fragmentation is above half of theirs"
        );
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
