//! The ledger's quick ways beside what they are compared with, turn by turn: what a host sees, and what it sees while nobody else
//! uses the processor's other half.
//!
//! `quiet_ledger TURNS`. A turn is a fraction of a millisecond; a contender's is between one of its peer and two of a
//! witness: a loop in [registers], which nothing of ours can disturb. Where both of the witness's are within 5 % of its
//! fastest, the turn between counts as undisturbed. Who looks at a virtual machine from within cannot see more of what
//! shares its processors.
//!
//! Each line: nanoseconds on one thread, the median; beside the peer, and two threads beside one, each with what is its own,
//! the median of all turns and that of the undisturbed, with how many there were. It is the witness that says which those are,
//! never the contender.

use std::hint::black_box;
use std::time::{Duration, Instant};

use portable_atomic::AtomicU128;
use wrt_memory::{CrateHandle, CrateSettings, UnifiedMemoryManager};
use wrt_memory_benches::ledger::{BYTES, Least, Line, manager, pair, registers};
use wrt_memory_benches::two_threads;

/// Repetitions of one turn.
const TIMES: u32 = 10_000;

/// How far the witness may be above its fastest, in percent.
const UNDISTURBED: f64 = 5.0;

struct Contender<'a> {
    name: &'static str,
    /// The number of its peer among the contenders, if it has one.
    peer: Option<usize>,
    /// A turn on one thread, and one on two: nanoseconds of one repetition.
    turns: [Box<dyn Fn() -> f64 + 'a>; 2],
}

/// `work` is what is done once, on a thread of that number.
fn contender<'a>(
    name: &'static str,
    peer: Option<usize>,
    work: impl Fn(usize) + Send + Copy + 'a,
) -> Contender<'a> {
    let nanoseconds = |took: Duration| took.as_nanos() as f64 / f64::from(TIMES);
    let alone = move || {
        let start = Instant::now();
        for _ in 0..TIMES {
            work(0);
        }
        nanoseconds(start.elapsed())
    };
    let both = move || nanoseconds(two_threads(TIMES.into(), work));
    Contender { name, peer, turns: [Box::new(alone), Box::new(both)] }
}

/// A figure, and what the witness took before and after it.
struct Turn {
    figure: f64,
    witness: f64,
}

/// Turns of one kind.
#[derive(Default)]
struct Turns(Vec<Turn>);

impl Turns {
    /// `figure` between two turns of the witness.
    fn take(&mut self, witness: &dyn Fn() -> f64, figure: impl FnOnce() -> f64) {
        let before = witness();
        let figure = figure();
        self.0.push(Turn { figure, witness: before.max(witness()) });
    }

    /// The median of all, that of the undisturbed, and how many percent those are.
    fn print(&self, fastest: f64) -> String {
        let most = fastest * (1.0 + UNDISTURBED / 100.0);
        let all: Vec<_> = self.0.iter().map(|turn| turn.figure).collect();
        let quiet: Vec<_> =
            self.0.iter().filter(|turn| turn.witness <= most).map(|turn| turn.figure).collect();
        let share = 100 * quiet.len() / all.len().max(1);
        format!("{:>10.2}{:>13.2}{:>9}", nth(&all, 50), nth(&quiet, 50), format!("{share}%"))
    }
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
    let least: [Least; 2] = Default::default();
    let charge = |manager: &UnifiedMemoryManager, id| {
        drop(black_box(manager.charge(id, BYTES, BYTES).expect("there is room")));
    };
    // By value where they can be: each reference on the way is another wait, after a swap.
    let (one, words, least, handles, apart) = (&one, &words, &least, &handles, &apart);
    let contenders = [
        contender("registers", None, move |thread| {
            black_box(registers(black_box(thread as u64)));
        }),
        contender("pair", None, move |thread| pair(&words[thread].0)),
        contender("least", Some(1), move |thread| {
            drop(black_box(least[thread].charge(black_box(0), BYTES as u32).expect("there is room")));
        }),
        contender("charge", Some(1), move |thread| charge(one, ids[thread])),
        contender("charge-apart", Some(1), move |thread| charge(&apart[thread].0.0, apart[thread].0.1)),
        contender("calloc-4096", None, |_| drop(black_box(vec![0u8; black_box(BYTES)]))),
        contender("memory-4096", Some(5), move |thread| {
            drop(black_box(handles[thread].memory::<BYTES>().expect("there is room")));
        }),
    ];
    let [witness, witnesses] = &contenders[0].turns;
    let mut alone: Vec<Vec<f64>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut beside: Vec<Turns> = contenders.iter().map(|_| Turns::default()).collect();
    let mut both: Vec<Turns> = contenders.iter().map(|_| Turns::default()).collect();
    for _ in 0..turns {
        for (at, contender) in contenders.iter().enumerate() {
            let [one, two] = &contender.turns;
            beside[at].take(witness, || {
                let peer = contender.peer.map_or(f64::NAN, |peer| contenders[peer].turns[0]());
                let took = one();
                alone[at].push(took);
                took / peer
            });
            both[at].take(witnesses, || 2.0 * one() / two());
        }
    }
    let fastest = |turns: &[Turns]| {
        let witness: Vec<_> = turns.iter().flat_map(|it| &it.0).map(|turn| turn.witness).collect();
        nth(&witness, 2)
    };
    let (quiet, quiet_both) = (fastest(&beside), fastest(&both));
    println!("{:<24}{:>32}{:>32}", "medians", "beside the peer", "throughput of two threads");
    println!(
        "{:<14}{:>10}{}",
        "",
        "ns",
        format!("{:>10}{:>13}{:>9}", "all", "undisturbed", "of all").repeat(2)
    );
    for (at, contender) in contenders.iter().enumerate() {
        let peer = match contender.peer {
            Some(_) => beside[at].print(quiet),
            None => format!("{:>10}{:>13}{:>9}", "-", "-", "-"),
        };
        println!("{:<14}{:>10.2}{peer}{}", contender.name, nth(&alone[at], 50), both[at].print(quiet_both));
    }
}

fn nth(figures: &[f64], percent: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(f64::NAN)
}
