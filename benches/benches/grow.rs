//! `memory.grow`, page by page, from 1 page to many.

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use wrt_memory_benches::engines::contenders;
use wrt_memory_benches::guests::GROWS;
use wrt_memory_benches::{MEASUREMENT, SAMPLES, WARM_UP};

fn grow(c: &mut Criterion) {
    let contenders = contenders().expect("engines");
    for pages in [64, 1024] {
        let mut group = c.benchmark_group("grow");
        for contender in &contenders {
            let guest = contender.load(GROWS.as_bytes()).expect("the guest compiles");
            // Only the call is timed: how long an instance takes is another bench.
            let grow = || {
                let mut store = contender.store(0);
                let instance = contender.instantiate(&guest, &mut store, 0).expect("there is room");
                let run = instance.get_typed_func::<i32, i32>(&mut store, "run").expect("it exports `run`");
                let start = Instant::now();
                let reached = run.call(&mut store, pages);
                (start.elapsed(), reached.expect("it returns"))
            };
            assert_eq!(grow().1, pages, "{}", contender.name);
            group.bench_function(format!("{}/{pages}", contender.name), |b| {
                b.iter_custom(|times| (0..times).map(|_| grow().0).sum::<Duration>());
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASUREMENT).sample_size(SAMPLES);
    targets = grow
}
criterion_main!(benches);
