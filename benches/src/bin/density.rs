//! So many live instances of one small guest in one process, with the preset for density: what they take, and how fast
//! they are made. `cargo xtask density` runs it.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Config, Engine, Instance, Linker, Result, Store};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_guests::bench::BENCHES;
use wrt_memory_guests::wat;
use wrt_memory_wasmtime::{Budgets, PreparedPre, StoreAccount};

/// The guest: 4 KiB of data, one page of memory, four host pages written.
const GUEST: usize = 1;

/// The most a memory can have: two pages of WebAssembly.
const LARGEST_MEMORY: usize = 128 << 10;

/// Instances made at a time, and timed together.
const BATCH: usize = 1000;

/// The rate at the end is at most so much slower than at the beginning.
const WANTED: f64 = 1.5;

/// Bytes an instance takes of the machine, and a few more.
const RESIDENT: usize = 12 << 10;

struct Live {
    store: Store<StoreAccount>,
    instance: Instance,
}

fn main() -> Result<()> {
    let count =
        std::env::args().nth(1).map_or(100_000, |count| count.parse().expect("a number of instances"));
    let providers = ProviderSelector::of_platform().with_pooled(PooledProvider::new());
    let total = (count + BATCH) * LARGEST_MEMORY;
    let manager = Arc::new(UnifiedMemoryManager::builder().total(total).providers(providers).build()?);
    let budgets = Budgets::new(manager.clone())?.density(LARGEST_MEMORY);
    let mut config = Config::new();
    budgets.configure(&mut config);
    let engine = Engine::new(&config)?;
    let id = manager.register("guest", CrateSettings::new())?;
    let bench = &BENCHES[GUEST];
    let guest = budgets.prepare(&engine, id, &wat(bench.name))?.instantiate_pre(&Linker::new(&engine))?;
    let image = manager.node(id)?.used;

    // A virtual machine may have its memory only once it was touched, and each such page takes longer than an instance (seen:
    // 34 us instead of 7): that is the machine's, and not measured.
    drop(std::hint::black_box(vec![1u8; count * RESIDENT]));
    let before = Process::now();
    let mut live: Vec<Live> = Vec::with_capacity(count);
    let mut rates = Vec::new();
    println!("{:>9}{:>14}{:>12}{:>14}{:>16}", "live", "addresses", "mappings", "resident", "us an instance");
    while live.len() < count {
        let many = BATCH.min(count - live.len());
        let start = Instant::now();
        for _ in 0..many {
            live.push(make(&budgets, &engine, id, &guest)?);
        }
        rates.push(start.elapsed().as_secs_f64() * 1e6 / many as f64);
        if live.len() == BATCH || live.len().is_multiple_of((count / 5).max(1)) || live.len() == count {
            let now = Process::now();
            println!(
                "{:>9}{:>10} MiB{:>12}{:>10} MiB{:>16.1}",
                live.len(),
                now.addresses >> 20,
                now.mappings,
                now.resident >> 20,
                rates[rates.len() - 1]
            );
        }
    }
    let now = Process::now();
    println!(
        "\n{count} live instances of {}: {} bytes of linear memory charged to each; {} bytes resident and {} of addresses an \
         instance; {} mappings in all",
        bench.name,
        (manager.node(id)?.used - image) / count,
        (now.resident - before.resident) / count,
        (now.addresses - before.addresses) / count,
        now.mappings - before.mappings
    );
    // All of them work, and each has its own memory.
    for (number, Live { store, instance }) in live.iter_mut().enumerate() {
        let memory = instance.get_memory(&mut *store, "memory").expect("it exports its memory");
        memory.data_mut(&mut *store)[40_000..40_008].copy_from_slice(&(number as u64).to_le_bytes());
    }
    for (number, Live { store, instance }) in live.iter_mut().enumerate() {
        let memory = instance.get_memory(&mut *store, "memory").expect("it exports its memory");
        assert_eq!(memory.data(&*store)[40_000..40_008], (number as u64).to_le_bytes());
        let run = instance.get_typed_func::<(), i32>(&mut *store, "run")?;
        assert_eq!(run.call(&mut *store, ())?, bench.checksum(), "instance {number}");
    }
    let (first, last) =
        (median(&rates[..rates.len().min(5)]), median(&rates[rates.len().saturating_sub(5)..]));
    println!(
        "all {count} ran; made in {first:.1} us at first, {last:.1} us at the end: {:.2} x",
        last / first
    );
    drop((live, guest));
    assert_eq!(manager.node(id)?.used, 0);
    if last > first * WANTED {
        println!("falls short: at most {WANTED} x is wanted");
    }
    Ok(())
}

fn make(budgets: &Budgets, engine: &Engine, id: CrateId, guest: &PreparedPre<StoreAccount>) -> Result<Live> {
    let mut store = Store::new(engine, budgets.account(id)?);
    store.limiter(|account| account);
    let instance = guest.instantiate(&mut store, |account| account)?;
    Ok(Live { store, instance })
}

/// Of five batches: one that others disturbed does not count.
fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What this process takes of the machine.
struct Process {
    /// Bytes.
    addresses: usize,
    /// Bytes.
    resident: usize,
    mappings: usize,
}

impl Process {
    fn now() -> Self {
        let statm = fs::read_to_string("/proc/self/statm").expect("Linux says");
        let mut pages =
            statm.split(' ').map(|pages| pages.trim().parse::<usize>().expect("a number of pages"));
        let mut bytes = || pages.next().expect("there are seven") * 4096;
        let (addresses, resident) = (bytes(), bytes());
        let maps = fs::read_to_string("/proc/self/maps").expect("Linux says");
        Self { addresses, resident, mappings: maps.lines().count() }
    }
}
