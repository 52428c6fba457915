//! What the benches share: how long to measure, and two threads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;

/// How long each bench warms up. The command line can say otherwise.
pub const WARM_UP: Duration = Duration::from_millis(200);

/// How long each bench is measured.
pub const MEASUREMENT: Duration = Duration::from_millis(900);

/// Samples of each bench.
pub const SAMPLES: usize = 30;

/// How often each of two threads works before it is measured.
const FIRST: u32 = 20;

/// Runs `work` `times` times on each of two threads at once; the thread's number is its argument.
/// Returns how long the slower of the two took, without what starting them takes.
///
/// Per repetition, two threads that do not hinder each other take as long as one thread alone.
pub fn two_threads(times: u64, work: impl Fn(usize) + Send + Copy) -> Duration {
    let time = || {
        let start = Instant::now();
        move || start.elapsed()
    };
    both(times, work, time)
}

/// As [`two_threads`], by the processor time of the thread that took more of it: of work that never sleeps, and that
/// takes nanoseconds. What else the machine does is then not counted, which on a machine that others use is most of
/// what a clock shows.
pub fn two_busy_threads(times: u64, work: impl Fn(usize) + Send + Copy) -> Duration {
    both(times, work, || {
        let start = ThreadTime::now();
        move || start.elapsed()
    })
}

/// The processor time of doing `work` so many times on this thread.
pub fn busy(times: u64, mut work: impl FnMut()) -> Duration {
    let start = ThreadTime::now();
    for _ in 0..times {
        work();
    }
    start.elapsed()
}

fn both<T: FnOnce() -> Duration>(
    times: u64,
    work: impl Fn(usize) + Send + Copy,
    clock: impl Fn() -> T + Send + Copy,
) -> Duration {
    let (started, ready) = (&Barrier::new(2), &AtomicUsize::new(0));
    // With all it needs on its own stack: what is on another's takes one more step to reach, and shares lines with what is
    // written there.
    let run = move |thread| {
        // What a thread has only once it has worked (an arena of the allocator, a stack for signals) is not measured.
        for _ in 0..FIRST {
            work(thread);
        }
        started.wait();
        // Waking from a barrier takes longer than what is measured: meet again, awake.
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < 2 {
            std::hint::spin_loop();
        }
        let elapsed = clock();
        for _ in 0..times {
            work(thread);
        }
        elapsed()
    };
    std::thread::scope(|scope| {
        let [one, two] = [0, 1].map(|thread| scope.spawn(move || run(thread)));
        let [one, two] = [one, two].map(|thread| thread.join().expect("a benched thread does not panic"));
        one.max(two)
    })
}

pub mod engines;
pub mod guests;
pub mod ledger;
