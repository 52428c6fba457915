//! Guests that compute over their memory: what the way it is laid out costs each access.

use criterion::{Criterion, criterion_group, criterion_main};
use wasmtime::{Store, TypedFunc};
use wrt_memory_benches::engines::contenders_of;
use wrt_memory_benches::guests::{COMPUTES, WORKS};
use wrt_memory_benches::{MEASUREMENT, SAMPLES, WARM_UP};

/// Under test, by the names that the results have: wasmtime as it comes, and the presets.
const UNDER_TEST: [(&str, &str); 3] =
    [("plain", "on-demand"), ("throughput", "throughput"), ("density", "density")];

fn compute(c: &mut Criterion) {
    let those = contenders_of(|name| UNDER_TEST.iter().any(|(_, of)| *of == name)).expect("engines");
    let mut group = c.benchmark_group("compute");
    for work in WORKS {
        let mut checksum = None;
        for (name, of) in UNDER_TEST {
            let contender = those.iter().find(|it| it.name == of).expect("it was asked for");
            let guest = contender.load(COMPUTES.as_bytes()).expect("the guest compiles");
            let mut store = contender.store(0);
            let instance = contender.instantiate(&guest, &mut store, 0).expect("there is room");
            let fill = instance.get_typed_func::<(), ()>(&mut store, "fill").expect("it exports `fill`");
            fill.call(&mut store, ()).expect("it returns");
            let run = instance.get_typed_func::<(), i32>(&mut store, work).expect("it exports its works");
            let first = call(&mut store, &run);
            assert_eq!(*checksum.get_or_insert(first), first, "{work} under {name}");
            group.bench_function(format!("{name}/{work}"), |b| b.iter(|| call(&mut store, &run)));
        }
        assert_ne!(checksum, Some(0), "{work} computes nothing");
    }
    group.finish();
}

fn call<T: 'static>(store: &mut Store<T>, run: &TypedFunc<(), i32>) -> i32 {
    run.call(store, ()).expect("it returns")
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASUREMENT).sample_size(SAMPLES);
    targets = compute
}
criterion_main!(benches);
