//! The ledger alone: what a charge costs beside what else could count bytes, and beside how many
//! crates there are. All of it is processor time: see `two_busy_threads`.

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use portable_atomic::AtomicU128;
use wrt_memory::{CrateHandle, CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_benches::ledger::{BYTES, Least, Line, manager, pair, registers};
use wrt_memory_benches::{MEASUREMENT, SAMPLES, WARM_UP, busy, two_busy_threads};

/// The same work on one thread and on two.
fn one_and_two(c: &mut Criterion, name: &str, work: impl Fn(usize) + Send + Copy) {
    let mut group = c.benchmark_group("ledger");
    group.bench_function(format!("{name}/1"), |b| b.iter_custom(|times| busy(times, || work(0))));
    group.bench_function(format!("{name}/2"), |b| b.iter_custom(|times| two_busy_threads(times, work)));
    group.finish();
}

fn charge(c: &mut Criterion) {
    let (manager, two) = manager(16);
    let manager = &manager;
    // By value, as the others: each reference on the way is another wait, after a swap.
    let charge = move |id| drop(black_box(manager.charge(id, BYTES, BYTES).expect("there is room")));
    one_and_two(c, "charge", move |thread| charge(two[thread]));
    c.benchmark_group("ledger").bench_function("charge-one-crate/2", |b| {
        b.iter_custom(|times| two_busy_threads(times, move |_| charge(two[0])));
    });

    let ledgers: [Least; 2] = Default::default();
    let ledgers = &ledgers;
    one_and_two(c, "least", move |thread| {
        let charged = ledgers[thread].charge(black_box(0), BYTES as u32);
        drop(black_box(charged.expect("there is room")));
    });

    let sum = Line(AtomicU64::new(0));
    one_and_two(c, "atomic-add", |_| {
        black_box(sum.0.fetch_add(BYTES as u64, Ordering::AcqRel));
        black_box(sum.0.fetch_sub(BYTES as u64, Ordering::AcqRel));
    });

    let word = &Line(AtomicU128::new(0));
    one_and_two(c, "cas-pair", move |_| pair(&word.0));
    one_and_two(c, "registers", |thread| {
        black_box(registers(black_box(thread as u64)));
    });

    let locked = Line(Mutex::new(0));
    let change = |by: usize, back: bool| {
        let mut used = locked.0.lock().expect("nobody panics with it");
        *used = if back { *used - by } else { *used + by };
    };
    one_and_two(c, "mutex", |_| {
        change(black_box(BYTES), false);
        change(black_box(BYTES), true);
    });

    // What `StoreLimits` amounts to: one number a store, that no other thread sees.
    let stores = [Line(AtomicU64::new(0)), Line(AtomicU64::new(0))];
    one_and_two(c, "store-counter", |thread| {
        let used = &stores[thread].0;
        used.store(black_box(used.load(Ordering::Relaxed) + BYTES as u64), Ordering::Relaxed);
        used.store(black_box(used.load(Ordering::Relaxed) - BYTES as u64), Ordering::Relaxed);
    });
}

fn refused(manager: &UnifiedMemoryManager, id: CrateId, b: &mut Bencher<'_>) {
    b.iter_custom(|times| {
        busy(times, || {
            black_box(manager.charge(id, BYTES, BYTES)).expect_err("there is no room");
        })
    });
}

fn tenants(c: &mut Criterion) {
    for crates in [16, 100_000] {
        let (manager, [hog, other]) = manager(crates);
        let mut group = c.benchmark_group("ledger");
        group.bench_function(format!("charge-among/{crates}"), |b| {
            b.iter_custom(|times| {
                busy(times, || drop(black_box(manager.charge(other, BYTES, BYTES).expect("there is room"))))
            });
        });
        group.bench_function(format!("register-retire/{crates}"), |b| {
            b.iter_custom(|times| {
                busy(times, || {
                    let id = manager.register("new", CrateSettings::new()).expect("a crate");
                    manager.retire(id).expect("it has nothing");
                })
            });
        });

        let all = manager.charge(hog, 1 << 20, 1 << 20).expect("it is within the limit");
        group.bench_function(format!("refused-by-limit/{crates}"), |b| refused(&manager, hog, b));

        // Now the pool is the limit: one crate has all of it.
        manager.set_limit(hog, usize::MAX).expect("any limit will do");
        let mut rest = Vec::new();
        for bytes in [1 << 30, 1 << 20, BYTES] {
            while let Ok(charge) = manager.charge(hog, bytes, bytes) {
                rest.push(charge);
            }
        }
        group.bench_function(format!("refused-by-pool/{crates}"), |b| refused(&manager, other, b));
        drop((all, rest));
        group.finish();
    }
}

/// A whole fixed-size allocation beside the system's: what the ledger is for.
fn allocation(c: &mut Criterion) {
    let (manager, [one, _]) = manager(16);
    let one = CrateHandle::new(&manager, one).expect("it is registered");
    let mut group = c.benchmark_group("ledger");
    group.bench_function("allocate-4096/1", |b| {
        b.iter_custom(|times| busy(times, || drop(black_box(one.memory::<BYTES>().expect("there is room")))));
    });
    group.bench_function("malloc-4096/1", |b| {
        b.iter_custom(|times| busy(times, || drop(black_box(vec![0u8; black_box(BYTES)]))));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASUREMENT).sample_size(SAMPLES);
    targets = charge, tenants, allocation
}
criterion_main!(benches);
