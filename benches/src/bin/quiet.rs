//! What things take when nothing else runs, whatever the machine does otherwise: contender beside contender, in turns of a
//! fraction of a millisecond, and of the turns one near the fastest. Two runs under compilers differ by 2 %, where the
//! medians of the other benches differ by half.
//!
//! `quiet TURNS CONTENDERS WORKS THREADS`: names with commas in between, or `all`. Works are the guests of
//! `guests::bench` (store, instance, call, drop), `grow-64` and `grow-1024` (pages, the call alone), and `sum`, `scatter`
//! and `matrix` (compute). Ratios are to the last contender. With 2 threads, lives are lived on both at once, each for a
//! crate of its own; what is shown is the time of the slower thread for one of its own.

use std::time::{Duration, Instant};

use wasmtime::Result;
use wrt_memory_benches::engines::{BEST_PEER, BUDGETED, Contender, Guest, contenders_of};
use wrt_memory_benches::guests::{COMPUTES, GROWS, WORKS};
use wrt_memory_benches::two_threads;
use wrt_memory_guests::bench::BENCHES;
use wrt_memory_guests::wat;

/// Lives of one turn.
const LIVES: u32 = 100;

/// Which of the turns is shown, from the fastest on.
const PERCENT: usize = 20;

/// What is done in one turn; how long one repetition took.
type Turn<'a> = Box<dyn FnMut() -> Result<Duration> + 'a>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let turns: usize = args.next().map_or(400, |it| it.parse().expect("a number of turns"));
    let named = args.next().unwrap_or_else(|| format!("{},{},{BEST_PEER}", BUDGETED[1], BUDGETED[2]));
    let works = args.next().unwrap_or_else(|| "all".to_owned());
    let listed = |list: &str, name: &str| list == "all" || list.split(',').any(|it| it == name);
    let threads: usize = args.next().map_or(1, |it| it.parse().expect("1 or 2 threads"));
    let contenders = contenders_of(|it| listed(&named, it))?;
    let heads: String = contenders.iter().map(|it| format!("{:>24}", it.name)).collect();
    println!("{:<14}{heads}", "us");
    let mut logs = vec![0.0; contenders.len()];
    let guests: Vec<_> = BENCHES.iter().map(|it| it.name).filter(|it| listed(&works, it)).collect();
    for name in &guests {
        let took = measure(turns, contenders.iter().map(|it| lives(it, name, threads)))?;
        let last = took[took.len() - 1];
        for (log, took) in logs.iter_mut().zip(&took) {
            *log += (took / last).ln();
        }
        print(name, &took);
    }
    if !guests.is_empty() {
        let means = logs.iter().map(|it| format!("{:>14} ({:>7.3})", "", (it / guests.len() as f64).exp()));
        println!("{:<14}{}", "mean", means.collect::<String>());
    }
    for (name, pages) in [("grow-64", 64), ("grow-1024", 1024)] {
        if listed(&works, name) {
            print(name, &measure(turns, contenders.iter().map(|it| growth(it, pages)))?);
        }
    }
    for name in WORKS.into_iter().filter(|it| listed(&works, it)) {
        print(name, &measure(turns, contenders.iter().map(|it| computation(it, name)))?);
    }
    Ok(())
}

fn print(name: &str, took: &[f64]) {
    let last = took[took.len() - 1];
    let row: String = took.iter().map(|it| format!("{it:>14.3} ({:>7.3})", it / last)).collect();
    println!("{name:<14}{row}");
}

/// Microseconds of each, in turns.
fn measure<'a>(turns: usize, those: impl Iterator<Item = Result<Turn<'a>>>) -> Result<Vec<f64>> {
    let mut those = those.collect::<Result<Vec<_>>>()?;
    let mut took = vec![Vec::with_capacity(turns); those.len()];
    for _ in 0..turns {
        for (turn, took) in those.iter_mut().zip(&mut took) {
            took.push(turn()?);
        }
    }
    let quiet = |mut took: Vec<Duration>| {
        took.sort_unstable();
        took[took.len() * PERCENT / 100].as_nanos() as f64 / 1e3
    };
    Ok(took.into_iter().map(quiet).collect())
}

fn lives<'a>(contender: &'a Contender, name: &str, threads: usize) -> Result<Turn<'a>> {
    let guest = contender.load(&wat(name))?;
    let checksum = BENCHES.iter().find(|it| it.name == name).map(|it| it.checksum());
    Ok(Box::new(move || {
        if threads > 1 {
            let both = two_threads(LIVES.into(), |thread| {
                assert_eq!(live(contender, &guest, thread).ok(), checksum);
            });
            return Ok(both / LIVES);
        }
        let start = Instant::now();
        for _ in 0..LIVES {
            assert_eq!(Some(live(contender, &guest, 0)?), checksum);
        }
        // Of hundredths of a nanosecond nothing is left, and nothing was known.
        Ok(start.elapsed() / LIVES)
    }))
}

// One symbol for a profiler.
#[inline(never)]
fn live(contender: &Contender, guest: &Guest, thread: usize) -> Result<i32> {
    let mut store = contender.store(thread);
    let instance = contender.instantiate(guest, &mut store, thread)?;
    instance.get_typed_func::<(), i32>(&mut store, "run")?.call(&mut store, ())
}

fn growth<'a>(contender: &'a Contender, pages: i32) -> Result<Turn<'a>> {
    let guest = contender.load(GROWS.as_bytes())?;
    Ok(Box::new(move || {
        let mut store = contender.store(0);
        let instance = contender.instantiate(&guest, &mut store, 0)?;
        let run = instance.get_typed_func::<i32, i32>(&mut store, "run")?;
        let start = Instant::now();
        assert_eq!(run.call(&mut store, pages)?, pages);
        Ok(start.elapsed())
    }))
}

fn computation<'a>(contender: &'a Contender, work: &'static str) -> Result<Turn<'a>> {
    let guest = contender.load(COMPUTES.as_bytes())?;
    let mut store = contender.store(0);
    let instance = contender.instantiate(&guest, &mut store, 0)?;
    instance.get_typed_func::<(), ()>(&mut store, "fill")?.call(&mut store, ())?;
    let run = instance.get_typed_func::<(), i32>(&mut store, work)?;
    Ok(Box::new(move || {
        let start = Instant::now();
        run.call(&mut store, ())?;
        Ok(start.elapsed())
    }))
}
