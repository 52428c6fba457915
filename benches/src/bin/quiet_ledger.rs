//! What the ledger's quick ways take when nothing else runs: contender beside contender, in turns of a fraction of a
//! millisecond, and of the turns the one in fifty that is fastest, where `quiet` has the fastest fifth. What a host sees is the median.
//!
//! `quiet_ledger TURNS`. Each line: nanoseconds on one thread; beside the peer, by those, and the median of the ratios
//! of turns that follow each other; the throughput of two threads, each with what is its own, beside one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use portable_atomic::AtomicU128;
use wrt_memory::{CrateHandle, CrateSettings, UnifiedMemoryManager};
use wrt_memory_benches::ledger::{BYTES, Line, manager, pair, registers};
use wrt_memory_benches::two_threads;

/// Repetitions of one turn.
const TIMES: u32 = 10_000;

/// Which of the turns is shown, from the fastest on.
const PERCENT: usize = 2;

struct Contender<'a> {
    name: &'static str,
    /// Its number among the contenders, if it has one.
    peer: Option<usize>,
    /// A turn on one thread, and one on two.
    turns: [Box<dyn Fn() -> Duration + 'a>; 2],
}

/// `work` is what is done once, on a thread of that number.
fn contender<'a>(
    name: &'static str,
    peer: Option<usize>,
    work: impl Fn(usize) + Sync + Copy + 'a,
) -> Contender<'a> {
    let alone = move || {
        let start = Instant::now();
        for _ in 0..TIMES {
            work(0);
        }
        start.elapsed()
    };
    let both = move || two_threads(TIMES.into(), work);
    Contender { name, peer, turns: [Box::new(alone), Box::new(both)] }
}

fn main() {
    let turns: usize = std::env::args().nth(1).map_or(1000, |it| it.parse().expect("a number of turns"));
    let (one, ids) = manager(16);
    let handles = ids.map(|id| CrateHandle::new(&one, id).expect("it is registered"));
    // Two that have nothing in common.
    let apart: [UnifiedMemoryManager; 2] = [manager(16).0, manager(16).0];
    let apart = apart.map(|manager| {
        let id = manager.register("alone", CrateSettings::new().limit(1 << 20)).expect("a crate");
        Line((manager, id))
    });
    let words: [Line<AtomicU128>; 2] = Default::default();
    let charge = |manager: &UnifiedMemoryManager, id| {
        drop(black_box(manager.charge(id, BYTES, BYTES).expect("there is room")));
    };
    let (words, handles, apart) = (&words, &handles, &apart);
    let contenders = [
        contender("registers", None, |thread| {
            black_box(registers(black_box(thread as u64)));
        }),
        contender("pair", None, |thread| pair(&words[thread].0)),
        contender("charge", Some(1), |thread| charge(&one, ids[thread])),
        contender("charge-apart", Some(1), |thread| charge(&apart[thread].0.0, apart[thread].0.1)),
        contender("calloc-4096", None, |_| drop(black_box(vec![0u8; black_box(BYTES)]))),
        contender("memory-4096", Some(4), |thread| {
            drop(black_box(handles[thread].memory::<BYTES>().expect("there is room")));
        }),
    ];
    let mut took: Vec<[Vec<f64>; 2]> = contenders.iter().map(|_| Default::default()).collect();
    for _ in 0..turns {
        for (contender, took) in contenders.iter().zip(&mut took) {
            for (turn, took) in contender.turns.iter().zip(took) {
                took.push(turn().as_nanos() as f64 / f64::from(TIMES));
            }
        }
    }
    println!(
        "{:<14}{:>10}{:>18}{:>18}{:>22}",
        "ns", "1 thread", "of the peer", "median", "2 threads, throughput"
    );
    for (contender, [alone, both]) in contenders.iter().zip(&took) {
        let ns = quiet(alone);
        let beside = contender.peer.map(|peer| {
            let ratios: Vec<f64> =
                alone.iter().zip(&took[peer][0]).map(|(ours, theirs)| ours / theirs).collect();
            (ns / quiet(&took[peer][0]), nth(&ratios, 50))
        });
        let beside = beside.map_or(format!("{:>18}{:>18}", "-", "-"), |(quiet, median)| {
            format!("{quiet:>18.2}{median:>18.2}")
        });
        println!("{:<14}{ns:>10.2}{beside}{:>22.2}", contender.name, 2.0 * ns / quiet(both));
    }
}

fn quiet(took: &[f64]) -> f64 {
    nth(took, PERCENT)
}

fn nth(figures: &[f64], percent: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() * percent / 100]
}
