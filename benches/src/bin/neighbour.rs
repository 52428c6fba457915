//! What a hog costs its neighbour: short instances on one thread, while on the other a guest loops on growth that is
//! refused. `cargo xtask neighbour` runs it.
//!
//! Each contender has a turn in every round, so that what else the machine does falls on all of them. Of a turn the
//! 50th and the 99th percentile of one instance's life are taken, of a contender the medians over its turns.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wasmtime::{Linker, Module, Result, Store, StoreLimits, StoreLimitsBuilder};
use wrt_memory_benches::engines::{BEST_PEER, BUDGETED, Contender, Guest, contenders};
use wrt_memory_guests::bench::BENCHES;
use wrt_memory_guests::wat;

/// The neighbour: 4 KiB of data, one page of memory, four host pages written.
const NEIGHBOUR: usize = 1;

/// Refusals in one call of the hog.
const REFUSALS: i32 = 1000;

/// Lives in one turn, unless told.
const LIVES: usize = 4000;

/// Turns of each contender, unless told.
const ROUNDS: usize = 15;

/// Our 99th percentile beside the peer's, both with a hog.
const WANTED: f64 = 1.0;

/// What a turn said, in nanoseconds.
#[derive(Clone, Copy)]
struct Percentiles {
    half: f64,
    most: f64,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let (lives, rounds) = (args.next().unwrap_or(LIVES), args.next().unwrap_or(ROUNDS));
    let mut those = contenders()?;
    // Where the kernel has no PAGEMAP_SCAN, the best there is.
    let peer = those.iter().rev().find(|it| !BUDGETED.contains(&it.name)).map_or(BEST_PEER, |it| it.name);
    those.retain(|it| it.name == peer || BUDGETED.contains(&it.name));
    let guests =
        those.iter().map(|it| it.load(&wat(BENCHES[NEIGHBOUR].name))).collect::<Result<Vec<Guest>>>()?;

    let mut turns: Vec<[Vec<Percentiles>; 2]> = those.iter().map(|_| Default::default()).collect();
    let mut refusals = vec![0; those.len()];
    for _ in 0..rounds {
        for (at, contender) in those.iter().enumerate() {
            turns[at][0].push(turn(contender, &guests[at], lives)?);
            let (beside, refused) = beside_hog(contender, &guests[at], lives)?;
            turns[at][1].push(beside);
            refusals[at] += refused;
        }
    }

    let median = |turns: &[Percentiles], of: fn(&Percentiles) -> f64| {
        let mut values: Vec<f64> = turns.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let at_peer = those.iter().position(|it| it.name == peer).expect("the peer is one of them");
    let theirs = median(&turns[at_peer][1], |it| it.most);
    println!("{:<20}{:>24}{:>24}{:>14}", "store + instance +", "alone, us", "beside a hog, us", "p99 beside");
    println!("{:<20}{:>12}{:>12}{:>12}{:>12}{:>14}", "call + drop", "p50", "p99", "p50", "p99", "the peer's");
    let mut short = Vec::new();
    for (at, contender) in those.iter().enumerate() {
        let [alone, beside] = &turns[at];
        let of = |turns| [median(turns, |it| it.half) / 1e3, median(turns, |it| it.most) / 1e3];
        let ([a, b], [c, d]) = (of(alone), of(beside));
        let ratio = d * 1e3 / theirs;
        println!("{:<20}{a:>12.2}{b:>12.2}{c:>12.2}{d:>12.2}{ratio:>14.2}", contender.name);
        if contender.name != peer && contender.name != BUDGETED[0] && ratio > WANTED {
            short.push(format!("{} {ratio:.2}", contender.name));
        }
        assert!(refusals[at] > 0, "{}: its hog was never refused", contender.name);
    }
    match short.as_slice() {
        [] => println!("neighbour: {} lives a contender; none above {WANTED} x of {peer}", lives * rounds),
        short => println!(
            "neighbour: {} lives a contender; falls short of {WANTED} x of {peer}: {}",
            lives * rounds,
            short.join(", ")
        ),
    }
    Ok(())
}

/// So many short lives; how long they took.
fn turn(contender: &Contender, guest: &Guest, lives: usize) -> Result<Percentiles> {
    let mut took = Vec::with_capacity(lives);
    for _ in 0..lives {
        let start = Instant::now();
        let mut store = contender.store(0);
        let instance = contender.instantiate(guest, &mut store, 0)?;
        instance.get_typed_func::<(), i32>(&mut store, "run")?.call(&mut store, ())?;
        drop(store);
        took.push(start.elapsed());
    }
    took.sort_unstable();
    let at = |percent: usize| took[(lives - 1) * percent / 100].as_nanos() as f64;
    Ok(Percentiles { half: at(50), most: at(99) })
}

/// The same while another thread is refused all the time. Also how often it was.
fn beside_hog(contender: &Contender, guest: &Guest, lives: usize) -> Result<(Percentiles, u64)> {
    let (over, refused) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let hog = scope.spawn(|| hog(contender, &over, &refused));
        // Until it is at it.
        while refused.load(Ordering::Relaxed) == 0 && !hog.is_finished() {
            std::thread::sleep(Duration::from_micros(50));
        }
        let turn = turn(contender, guest, lives);
        over.store(true, Ordering::Relaxed);
        hog.join().expect("the hog does not panic")?;
        Ok((turn?, refused.load(Ordering::Relaxed)))
    })
}

/// Asks for what it cannot get, until it is over.
fn hog(contender: &Contender, over: &AtomicBool, refused: &AtomicU64) -> Result<()> {
    let wasm = wat("refused_forever");
    if BUDGETED.contains(&contender.name) {
        let guest = contender.load(&wasm)?;
        let mut store = contender.store(1);
        let instance = contender.instantiate(&guest, &mut store, 1)?;
        let run = instance.get_typed_func::<i32, i32>(&mut store, "run")?;
        while !over.load(Ordering::Relaxed) {
            refused.fetch_add(run.call(&mut store, REFUSALS)? as u64, Ordering::Relaxed);
        }
        return Ok(());
    }
    let limits: StoreLimits = StoreLimitsBuilder::new().memory_size(1 << 20).build();
    let mut store = Store::new(&contender.engine, limits);
    store.limiter(|limits| limits);
    let module = Module::new(&contender.engine, &wasm)?;
    let instance = Linker::new(&contender.engine).instantiate(&mut store, &module)?;
    let run = instance.get_typed_func::<i32, i32>(&mut store, "run")?;
    while !over.load(Ordering::Relaxed) {
        refused.fetch_add(run.call(&mut store, REFUSALS)? as u64, Ordering::Relaxed);
    }
    Ok(())
}
