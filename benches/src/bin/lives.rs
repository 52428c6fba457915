//! The lives of short instances, contender beside contender in turns of a fraction of a millisecond. Of the turns one near
//! the fastest is shown: what a life takes when nothing else runs, whatever the machine does otherwise. Two runs
//! under compilers differ by 2 %, where the medians of the bench `instantiate` differ by half.
//!
//! `lives TURNS CONTENDERS GUESTS`: the latter two are names with commas in between, or `all`. The ratios are to the last
//! contender.

use std::time::Instant;

use wasmtime::Result;
use wrt_memory_benches::engines::{BEST_PEER, BUDGETED, Contender, Guest, contenders_of};
use wrt_memory_guests::bench::BENCHES;
use wrt_memory_guests::wat;

/// Lives of one turn.
const LIVES: usize = 100;

/// Which of the turns is shown, from the fastest on.
const PERCENT: usize = 20;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let turns: usize = args.next().map_or(400, |it| it.parse().expect("a number of turns"));
    let named = args.next().unwrap_or_else(|| format!("{},{},{BEST_PEER}", BUDGETED[1], BUDGETED[2]));
    let those = args.next().unwrap_or_else(|| "all".to_owned());
    let contenders = contenders_of(|it| named == "all" || named.split(',').any(|name| name == it))?;
    let heads: String = contenders.iter().map(|it| format!("{:>22}", it.name)).collect();
    println!("{:<14}{heads}", "us");
    let mut logs = vec![0.0; contenders.len()];
    let mut guests = 0;
    for bench in BENCHES.iter().filter(|it| those == "all" || those.split(',').any(|name| name == it.name)) {
        guests += 1;
        let loaded = contenders.iter().map(|it| it.load(&wat(bench.name))).collect::<Result<Vec<_>>>()?;
        let mut took = vec![Vec::new(); contenders.len()];
        let checksum = bench.checksum();
        for _ in 0..turns {
            for (at, contender) in contenders.iter().enumerate() {
                let start = Instant::now();
                for _ in 0..LIVES {
                    let sum = live(contender, &loaded[at])?;
                    assert_eq!(sum, checksum);
                }
                took[at].push(start.elapsed().as_nanos() as f64 / LIVES as f64 / 1e3);
            }
        }
        let took: Vec<f64> = took
            .into_iter()
            .map(|mut took| {
                took.sort_by(f64::total_cmp);
                took[took.len() * PERCENT / 100]
            })
            .collect();
        let peer = took[took.len() - 1];
        for (log, took) in logs.iter_mut().zip(&took) {
            *log += (took / peer).ln();
        }
        let row: String = took.iter().map(|it| format!("{it:>12.3} ({:>7.3})", it / peer)).collect();
        println!("{:<14}{row}", bench.name);
    }
    let row: String =
        logs.iter().map(|it| format!("{:>12} ({:>7.3})", "", (it / guests as f64).exp())).collect();
    println!("{:<14}{row}", "mean");
    Ok(())
}

// One symbol for a profiler.
#[inline(never)]
fn live(contender: &Contender, guest: &Guest) -> Result<i32> {
    let mut store = contender.store(0);
    let instance = contender.instantiate(guest, &mut store, 0)?;
    instance.get_typed_func::<(), i32>(&mut store, "run")?.call(&mut store, ())
}
