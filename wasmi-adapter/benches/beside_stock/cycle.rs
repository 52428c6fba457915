//! How long things take, side by side: the sides take turns, round by round, and what is told is the median of the
//! rounds' ratios. So what else the machine does meanwhile meets both.

use std::hint::black_box;
use std::time::Instant;

use wasmi::{Engine, Module};
use wrt_memory_wasmi::Guest;

use crate::{Ours, PAGE, compiled, grower, instantiated, stock};

/// One that loads, runs and unloads the same guest of a page, which grows by three.
struct Cycles {
    wasm: Vec<u8>,
    ours: Ours,
    /// What is compiled once, there and here.
    kept: (Engine, Module),
    renewed: Guest<()>,
}

const STOCK: &str = "stock";
const HERE: &str = "here";
const STOCK_KEPT: &str = "stock-kept";
const HERE_KEPT: &str = "here-kept";

impl Cycles {
    fn new() -> Self {
        let (wasm, ours) = (grower(4), Ours::new(300 * PAGE));
        let (kept, renewed) = (compiled(&wasm), ours.load_renewable(&wasm));
        Self { wasm, ours, kept, renewed }
    }

    fn run(&mut self, side: &str) {
        let got: i32 = match side {
            STOCK => {
                let mut stock = stock(&self.wasm);
                stock.run.call(&mut stock.store, 3).unwrap()
            }
            HERE => self.ours.load(&self.wasm).call("run", 3).unwrap(),
            STOCK_KEPT => {
                let mut stock = instantiated(&self.kept);
                stock.run.call(&mut stock.store, 3).unwrap()
            }
            HERE_KEPT => {
                self.renewed.renew(()).unwrap();
                self.renewed.load_again().unwrap();
                self.renewed.call("run", 3).unwrap()
            }
            other => panic!("no side is called {other}"),
        };
        assert_eq!(black_box(got), 3);
    }
}

/// Nothing but cycles of one side.
pub fn only(side: &str, times: usize) {
    let mut cycles = Cycles::new();
    (0..times).for_each(|_| cycles.run(side));
}

/// Microseconds that each of two sides takes in a round, as medians, and the median of the second's to the first's.
fn beside(rounds: usize, mut sides: [&mut dyn FnMut() -> f64; 2]) -> [f64; 3] {
    let mut columns = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let [first, second] = sides.each_mut().map(|side| side());
        for (column, value) in columns.iter_mut().zip([first, second, second / first]) {
            column.push(value);
        }
    }
    columns.map(|mut column| {
        column.sort_unstable_by(f64::total_cmp);
        column[column.len() / 2]
    })
}

fn row(name: &str, [stock, here, ratio]: [f64; 3], target: Option<f64>) {
    let missed = target.filter(|target| ratio > *target);
    let missed = missed.map_or(String::new(), |target| format!("  above {target:.2}"));
    println!("{name:>36} {stock:>12.2} {here:>12.2} {ratio:>8.2}{missed}");
}

pub fn table(rounds: usize) {
    const TIMES: usize = 50;
    println!("microseconds, medians of {rounds} rounds in turns");
    println!("{:>36} {:>12} {:>12} {:>8}", "", "stock", "here", "ratio");
    let cycles = std::cell::RefCell::new(Cycles::new());
    let of = |side: &'static str| {
        let cycles = &cycles;
        move || {
            let mut cycles = cycles.borrow_mut();
            let start = Instant::now();
            (0..TIMES).for_each(|_| cycles.run(side));
            start.elapsed().as_secs_f64() * 1e6 / TIMES as f64
        }
    };
    // The target is of cycles that compile, on both sides; and with what is compiled kept, on both sides.
    row("load, run, unload", beside(rounds, [&mut of(STOCK), &mut of(HERE)]), Some(1.0));
    row("the same, compiled once", beside(rounds, [&mut of(STOCK_KEPT), &mut of(HERE_KEPT)]), Some(1.0));
    let (wasm, ours) = (grower(257), Ours::new(300 * PAGE));
    let timed = |run: &mut dyn FnMut() -> i32| {
        let start = Instant::now();
        assert_eq!(run(), 256);
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut there = || {
        let mut stock = stock(&wasm);
        timed(&mut || stock.run.call(&mut stock.store, 256).unwrap())
    };
    let mut here = || {
        let mut guest = ours.load(&wasm);
        timed(&mut || guest.call("run", 256).unwrap())
    };
    row("grow by a page, 256 times", beside(rounds.min(20), [&mut there, &mut here]), None);
}
