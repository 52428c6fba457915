//! The life of a short instance: store, instance, one call, the end of it.

use criterion::{Criterion, criterion_group, criterion_main};
use wrt_memory_benches::engines::{BEST_PEER, BUDGETED, Contender, Guest, contenders};
use wrt_memory_benches::{MEASUREMENT, SAMPLES, WARM_UP, two_threads};
use wrt_memory_guests::bench::BENCHES;
use wrt_memory_guests::wat;

/// All of a short life; returns the checksum.
fn live(contender: &Contender, guest: &Guest, thread: usize) -> i32 {
    let mut store = contender.store(thread);
    let instance = contender.instantiate(guest, &mut store, thread).expect("there is room");
    let run = instance.get_typed_func::<(), i32>(&mut store, "run").expect("it exports `run`");
    run.call(&mut store, ()).expect("it returns")
}

fn instantiate(c: &mut Criterion) {
    let contenders = contenders().expect("engines");
    for bench in BENCHES {
        let mut group = c.benchmark_group("instantiate");
        for contender in &contenders {
            let guest = contender.load(&wat(bench.name)).expect("the guest compiles");
            // Not the first instance alone: what the one before wrote must be gone.
            for round in 0..100 {
                let sum = live(contender, &guest, 0);
                assert_eq!(sum, bench.checksum(), "{} under {}, round {round}", bench.name, contender.name);
            }
            group.bench_function(format!("{}/{}/1", contender.name, bench.name), |b| {
                b.iter(|| live(contender, &guest, 0));
            });
            if BUDGETED.contains(&contender.name) || contender.name == BEST_PEER {
                group.bench_function(format!("{}/{}/2", contender.name, bench.name), |b| {
                    b.iter_custom(|times| {
                        two_threads(times, |thread| {
                            live(contender, &guest, thread);
                        })
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASUREMENT).sample_size(SAMPLES);
    targets = instantiate
}
criterion_main!(benches);
