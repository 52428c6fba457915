//! A prepared module is, to its guest and to its host, the module that it was made from.

mod support;

use std::fmt::Write;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use support::{PAGE, World, call, instantiate};
use wasmtime::{Caller, Engine, Extern, Instance, Linker, Memory, MemoryType, Module, Store, Trap};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateId, CrateSettings, MemoryError, UnifiedMemoryManager};
use wrt_memory_wasmtime::{Budgets, Prepared, StoreAccount};

fn world() -> World {
    World::pooled(PooledProvider::new(), Budgets::throughput)
}

fn prepare(world: &World, id: CrateId, text: &str) -> Prepared {
    world.budgets.prepare(&world.engine, id, &wrt_memory_guests::assemble(text)).unwrap()
}

#[derive(Clone, Debug)]
enum Kind {
    Passive,
    /// Which memory, and where.
    Active(usize, u32),
    /// Where the first global says.
    AtGlobal(usize),
}

#[derive(Clone, Debug)]
struct Segment {
    kind: Kind,
    byte: u8,
    len: usize,
}

/// A module with two memories of its own, at times a third imported before them, and any segments; it exports, for each
/// segment, `initN` and `dropN`.
#[derive(Clone, Debug)]
struct Sample {
    imports: bool,
    segments: Vec<Segment>,
    bad_table: bool,
}

fn samples() -> impl Strategy<Value = Sample> {
    let at = prop_oneof![
        // So near each other that they overlap.
        12 => 0..200u32,
        6 => 0..3 * PAGE as u32,
        // The ends of the first and of the second memory.
        2 => (2 * PAGE as u32 - 40)..(2 * PAGE as u32 + 2),
        2 => (3 * PAGE as u32 - 40)..(3 * PAGE as u32 + 2),
        1 => any::<u32>(),
    ];
    let kind = prop_oneof![
        2 => Just(Kind::Passive),
        12 => (0..2usize, at).prop_map(|(memory, at)| Kind::Active(memory, at)),
        1 => (0..2usize).prop_map(Kind::AtGlobal),
    ];
    let len = prop_oneof![Just(0), 1..30usize, Just(5000usize), Just(40_000)];
    let segment =
        (kind, prop_oneof![Just(0), 0..127u8], len).prop_map(|(kind, byte, len)| Segment { kind, byte, len });
    (prop::bool::weighted(0.2), prop::collection::vec(segment, 0..6), prop::bool::weighted(0.1))
        .prop_map(|(imports, segments, bad_table)| Sample { imports, segments, bad_table })
}

impl Sample {
    fn text(&self) -> String {
        let mut text = String::from("(module\n");
        if self.imports {
            text += "(import \"host\" \"memory\" (memory $imported 1))\n";
        }
        text += r#"(global $at i32 (i32.const 77))
            (memory $m0 (export "m0") 2 4) (memory $m1 (export "m1") 3 4)
            (table 2 funcref)
        "#;
        if self.bad_table {
            text += "(elem (i32.const 2) $init)\n";
        }
        text += "(func $init)\n";
        for (number, segment) in self.segments.iter().enumerate() {
            let at = match segment.kind {
                Kind::Passive => String::new(),
                Kind::Active(memory, at) => format!("(memory $m{memory}) (i32.const {})", at as i32),
                Kind::AtGlobal(memory) => format!("(memory $m{memory}) (global.get $at)"),
            };
            let data = format!("\\{:02x}", segment.byte).repeat(segment.len);
            let _ = writeln!(
                text,
                "(data $d{number} {at} \"{data}\")
                 (func (export \"init{number}\") (param i32 i32 i32)
                   (memory.init $m0 $d{number} (local.get 0) (local.get 1) (local.get 2)))
                 (func (export \"drop{number}\") (data.drop $d{number}))"
            );
        }
        text + ")"
    }
}

/// What a host can find out of a module: what instantiation says, all bytes, and what its segments do afterwards.
fn observe<T: 'static>(
    store: &mut Store<T>,
    instance: wasmtime::Result<Instance>,
    segments: usize,
) -> Vec<String> {
    let instance = match instance {
        Ok(instance) => instance,
        Err(error) => return vec![format!("{:?}", error.downcast_ref::<Trap>())],
    };
    let mut seen = Vec::new();
    for round in 0..2 {
        for number in 0..segments {
            for (to, from, len) in [(0, 0, 0), (10, 0, 1), (20, 3, 4), (0, 1, 0), (30, 5000, 0), (4, 0, 5000)]
            {
                let done = call::<_, (i32, i32, i32), ()>(
                    store,
                    instance,
                    &format!("init{number}"),
                    (to, from, len),
                );
                let trap = done.map_err(|error| error.downcast::<Trap>().unwrap());
                seen.push(format!("{round} {number} {trap:?}"));
            }
            call::<_, (), ()>(store, instance, &format!("drop{number}"), ()).unwrap();
        }
        for name in ["m0", "m1"] {
            let memory = instance.get_memory(&mut *store, name).unwrap();
            let bytes = memory.data(&*store);
            let runs =
                bytes.chunk_by(|one, next| one == next).map(|run| format!("{}x{:02x} ", run.len(), run[0]));
            seen.push(runs.collect());
        }
    }
    seen
}

fn imports<T: 'static>(sample: &Sample, store: &mut Store<T>, linker: &mut Linker<T>) {
    if sample.imports {
        let memory = Memory::new(&mut *store, MemoryType::new(1, None)).unwrap();
        linker.define(&*store, "host", "memory", memory).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_its_segments_do_it_is_the_same_as_on_plain_wasmtime(sample in samples()) {
        let text = sample.text();
        let plain = {
            let engine = Engine::new(&support::config()).unwrap();
            let mut store = Store::new(&engine, ());
            let mut linker = Linker::new(&engine);
            imports(&sample, &mut store, &mut linker);
            let module = Module::new(&engine, &text).unwrap();
            let instance = linker.instantiate(&mut store, &module);
            observe(&mut store, instance, sample.segments.len())
        };
        let worlds = [
            world(),
            World::pooled(PooledProvider::new(), |budgets| budgets.density(8 * PAGE)),
            // No warm slots: images are copied.
            World::on(ProviderSelector::of_platform(), support::TOTAL, |_| {}, Budgets::throughput),
        ];
        for world in worlds {
            let id = world.crate_of("guest", 64 * PAGE);
            let prepared = prepare(&world, id, &text);
            // Twice: in a new slot, and in the one that the first left.
            for _ in 0..2 {
                let mut store = world.store(id);
                let mut linker = Linker::new(&world.engine);
                imports(&sample, &mut store, &mut linker);
                let guest = prepared.instantiate_pre(&linker).unwrap();
                let instance = guest.instantiate(&mut store, |account| account);
                let seen = observe(&mut store, instance, sample.segments.len());
                prop_assert_eq!(&seen, &plain, "{}", &text);
            }
            drop(prepared);
            world.all_back([id]);
        }
    }
}

#[test]
fn segments_that_wasmtime_would_not_map_either_are_left_to_it() {
    let world = world();
    let id = world.crate_of("guest", 64 * PAGE);
    for (text, image) in [
        (r#"(memory 1) (data (i32.const 0) "a")"#, 4096),
        (r#"(memory 1) (data (i32.const 4095) "ab")"#, 8192),
        // Of those two, the first alone would be in bounds.
        (r#"(memory 1) (data (i32.const 0) "a") (data (i32.const 65535) "ab")"#, 0),
        (r#"(memory 1) (data (i32.const 0) "a") (data (i32.const 65537) "")"#, 0),
        (r#"(memory 1) (data (i32.const 0) "a") (data (i32.const 65536) "")"#, 4096),
        (r#"(import "host" "at" (global i32)) (memory 1) (data (global.get 0) "a")"#, 0),
        (r#"(import "host" "memory" (memory 1)) (data (i32.const 0) "a")"#, 0),
        (r#"(import "host" "memory" (memory 1)) (memory 1) (data (memory 1) (i32.const 0) "a")"#, 4096),
        (r#"(import "host" "memory" (memory 1)) (memory 1) (data (memory 0) (i32.const 0) "a")"#, 0),
        (r#"(memory 1) (data (i32.const 0) "\00\00")"#, 0),
        (r#"(memory 1) (data "passive")"#, 0),
        (r#"(memory 70000 (pagesize 1)) (data (i32.const 0) "a")"#, 0),
        (r#"(memory 1 1 shared) (data (i32.const 0) "a")"#, 0),
        (r#"(memory i64 1) (data (i64.const 8) "a")"#, 4096),
        // Sparse over more than 16 MiB.
        (r#"(memory 300) (data (i32.const 0) "a") (data (i32.const 19000000) "a")"#, 0),
        // Sparse together.
        (
            r#"(memory 200) (data (i32.const 0) "a") (data (i32.const 9000000) "a")
               (memory 200) (data (memory 1) (i32.const 0) "a") (data (memory 1) (i32.const 9000000) "a")"#,
            0,
        ),
        ("", 0),
    ] {
        let prepared = prepare(&world, id, &format!("(module {text})"));
        assert_eq!((prepared.image_bytes(), world.used(id)), (image, image), "{text}");
    }
    world.all_back([id]);
}

/// Two memories of one type, with an image each.
const TWO: &str = r#"(module
    (memory (export "a") 1 2) (memory (export "none") 1 2) (memory (export "b") 1 2)
    (data (memory 0) (i32.const 0) "first") (data (memory 2) (i32.const 0) "other"))"#;

fn starts_with(store: &mut Store<StoreAccount>, instance: Instance, memory: &str, bytes: &[u8]) {
    let memory = instance.get_memory(&mut *store, memory).unwrap();
    assert_eq!(&memory.data(&*store)[..5], bytes);
}

#[test]
fn each_memory_gets_its_own_image_in_any_slot() {
    let world = world();
    let id = world.crate_of("guest", 64 * PAGE);
    let guest = world.prepare(id, TWO);
    for _ in 0..4 {
        let mut store = world.store(id);
        for _ in 0..2 {
            let instance = guest.instantiate(&mut store, |account| account).unwrap();
            starts_with(&mut store, instance, "a", b"first");
            starts_with(&mut store, instance, "none", &[0; 5]);
            starts_with(&mut store, instance, "b", b"other");
        }
        // A module of the same type that was not prepared has its own data.
        let plain = world.module(r#"(module (memory (export "a") 1 2) (data (i32.const 0) "plain"))"#);
        let instance = instantiate(&mut store, &plain).unwrap();
        starts_with(&mut store, instance, "a", b"plain");
    }
    drop(guest);
    world.all_back([id]);
}

#[test]
fn a_module_prepared_for_another_crate_is_refused() {
    let world = world();
    let (owner, other) = (world.crate_of("owner", 8 * PAGE), world.crate_of("other", 8 * PAGE));
    let guest = world.prepare(owner, TWO);
    let mut store = world.store(other);
    let error = guest.instantiate(&mut store, |account| account).unwrap_err();
    assert!(error.to_string().contains("prepared for crate"), "{error}");
    assert_eq!(world.used(other), 0);
    // And has spoiled nothing for what comes next.
    let instance = instantiate(&mut store, &world.module(r#"(module (memory (export "a") 1 2))"#)).unwrap();
    starts_with(&mut store, instance, "a", &[0; 5]);
    drop((store, guest));
    world.all_back([owner, other]);
}

#[test]
fn a_store_whose_limiter_is_not_the_account_gets_no_instance() {
    let manager = Arc::new(UnifiedMemoryManager::builder().total(support::TOTAL).build().unwrap());
    let id = manager.register("default", CrateSettings::new()).unwrap();
    let budgets = Budgets::new(manager.clone()).unwrap().default_crate(id).unwrap();
    let mut config = support::config();
    budgets.configure(&mut config);
    let engine = Engine::new(&config).unwrap();
    let prepared = budgets.prepare(&engine, id, &wrt_memory_guests::assemble(TWO)).unwrap();
    let guest = prepared.instantiate_pre(&Linker::new(&engine)).unwrap();
    // An account in the data, but no limiter: the memories are made for the default crate, without data.
    let mut store = Store::new(&engine, budgets.account(id).unwrap());
    let error = guest.instantiate(&mut store, |account| account).unwrap_err();
    assert!(error.to_string().contains("limiter"), "{error}");
    // Another account than the limiter is.
    let mut store = Store::new(&engine, (budgets.account(id).unwrap(), budgets.account(id).unwrap()));
    store.limiter(|accounts| &mut accounts.0);
    let guest = prepared.instantiate_pre(&Linker::new(&engine)).unwrap();
    let error = guest.instantiate(&mut store, |accounts| &mut accounts.1).unwrap_err();
    assert!(error.to_string().contains("limiter"), "{error}");
    guest.instantiate(&mut store, |accounts| &mut accounts.0).unwrap();
}

#[test]
fn what_is_made_while_a_prepared_module_starts_is_not_its_own() {
    let world = world();
    let id = world.crate_of("guest", 64 * PAGE);
    let prepared = prepare(
        &world,
        id,
        r#"(module (import "host" "call" (func $call)) (memory (export "a") 1 2)
             (data (i32.const 0) "first") (start $call))"#,
    );
    let plain = world.module(r#"(module (memory (export "a") 1 2))"#);
    let inner = world.prepare(id, r#"(module (memory (export "a") 1 2) (data (i32.const 0) "inner"))"#);
    let mut linker = Linker::new(&world.engine);
    linker
        .func_wrap("host", "call", move |mut caller: Caller<'_, StoreAccount>| {
            let start = |caller: &mut Caller<'_, StoreAccount>, instance: Instance| {
                let Some(Extern::Memory(memory)) = instance.get_export(&mut *caller, "a") else { panic!() };
                memory.data(&*caller)[..5].to_vec()
            };
            let instance = Instance::new(&mut caller, &plain, &[]).unwrap();
            assert_eq!(start(&mut caller, instance), [0; 5]);
            let instance = inner.instantiate(&mut caller, |account| account).unwrap();
            assert_eq!(start(&mut caller, instance), b"inner");
            let instance = Instance::new(&mut caller, &plain, &[]).unwrap();
            assert_eq!(start(&mut caller, instance), [0; 5]);
        })
        .unwrap();
    let guest = prepared.instantiate_pre(&linker).unwrap();
    let mut store = world.store(id);
    let instance = guest.instantiate(&mut store, |account| account).unwrap();
    starts_with(&mut store, instance, "a", b"first");
}

#[test]
fn the_gc_heap_is_not_taken_for_the_modules_memory() {
    let world = world();
    let id = world.crate_of("guest", 64 * PAGE);
    let guest = world.prepare(
        id,
        r#"(module (type $box (struct (field i32)))
             (memory (export "empty") 0 1) (memory (export "a") 1 2) (data (memory 1) (i32.const 0) "first")
             (global (export "boxed") (ref $box) (struct.new $box (i32.const 7))))"#,
    );
    for _ in 0..3 {
        let mut store = world.store(id);
        for _ in 0..2 {
            let instance = guest.instantiate(&mut store, |account| account).unwrap();
            starts_with(&mut store, instance, "a", b"first");
            assert_eq!(instance.get_memory(&mut store, "empty").unwrap().data_size(&store), 0);
        }
        assert!(store.gc_heap_capacity() > 0);
    }
    drop(guest);
    world.all_back([id]);
}

#[test]
fn an_instantiation_that_fails_leaves_no_image_for_the_next_memory() {
    let world = world();
    // Room for the images and two of the three memories.
    let id = world.crate_of("guest", 2 * 4096 + 3 * PAGE - 1);
    let guest = world.prepare(id, TWO);
    let mut store = world.store(id);
    guest.instantiate(&mut store, |account| account).unwrap_err();
    let instance = instantiate(&mut store, &world.module(r#"(module (memory (export "a") 1 2))"#)).unwrap();
    starts_with(&mut store, instance, "a", &[0; 5]);
    drop((store, guest));
    world.all_back([id]);
}

#[test]
fn an_async_instantiation_gets_its_images_and_a_cancelled_one_leaves_none() {
    let world = world();
    let id = world.crate_of("guest", 64 * PAGE);
    let prepared = prepare(
        &world,
        id,
        r#"(module (import "host" "wait" (func $wait)) (memory (export "a") 1 2)
             (data (i32.const 0) "first") (start $wait))"#,
    );
    let mut linker = Linker::new(&world.engine);
    linker
        .func_wrap_async("host", "wait", |_: Caller<'_, StoreAccount>, (): ()| {
            Box::new(async {
                let mut polled = false;
                std::future::poll_fn(|_| {
                    if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            })
        })
        .unwrap();
    let guest = prepared.instantiate_pre(&linker).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut store = Store::new(&world.engine, world.account(id));
    store.limiter_async(|account| account);
    {
        let mut making = pin!(guest.instantiate_async(&mut store, |account| account));
        assert!(making.as_mut().poll(&mut context).is_pending());
    }
    let instance = {
        let mut making = pin!(guest.instantiate_async(&mut store, |account| account));
        assert!(making.as_mut().poll(&mut context).is_pending());
        let Poll::Ready(instance) = making.as_mut().poll(&mut context) else { panic!("it waits once") };
        instance.unwrap()
    };
    starts_with(&mut store, instance, "a", b"first");
    let plain = world.module(r#"(module (memory (export "a") 1 2))"#);
    let instance = {
        let mut making = pin!(Instance::new_async(&mut store, &plain, &[]));
        let Poll::Ready(instance) = making.as_mut().poll(&mut context) else {
            panic!("it waits for nothing")
        };
        instance.unwrap()
    };
    starts_with(&mut store, instance, "a", &[0; 5]);
    drop((store, guest, prepared));
    world.all_back([id]);
}

#[test]
fn an_image_that_the_crate_cannot_pay_for_is_refused_and_leaves_nothing() {
    let world = world();
    let id = world.crate_of("guest", 8191);
    let text = r#"(module (memory 1) (data (i32.const 4000) "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"))"#;
    let error = world.budgets.prepare(&world.engine, id, &wrt_memory_guests::assemble(text)).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(MemoryError::OverLimit { .. })), "{error:?}");
    assert_eq!(world.used(id), 0);
    world.manager.set_limit(id, 8192).unwrap();
    assert_eq!(prepare(&world, id, text).image_bytes(), 8192);
    world.all_back([id]);
}

#[test]
fn what_is_no_module_is_refused_in_wasmtimes_words() {
    let world = world();
    let id = world.crate_of("guest", PAGE);
    for bytes in [&b"\0asm"[..], b"", b"\0asm\x01\0\0\0\x0b\xff"] {
        let ours = world.budgets.prepare(&world.engine, id, bytes).unwrap_err();
        let theirs = Module::new(&world.engine, bytes).unwrap_err();
        assert_eq!(format!("{ours:#}"), format!("{theirs:#}"));
    }
    let component = wrt_memory_guests::wat("component_hog");
    assert!(world.budgets.prepare(&world.engine, id, &component).is_err());
    world.all_back([id]);
}

/// wasmtime writes data by code, which takes fuel, where it has no image of it: as of its own, none is taken for ours.
#[test]
fn data_of_an_image_takes_no_fuel() {
    const DATA: &str = r#"(module (memory (export "memory") 1) (data (i32.const 8) "here"))"#;
    let wasm = wrt_memory_guests::assemble(DATA);
    let starved = |made: wasmtime::Result<Instance>| match made {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.downcast_ref(), Some(&Trap::OutOfFuel), "{error:?}");
            true
        }
    };
    let fuelled = |config: &mut wasmtime::Config| _ = config.consume_fuel(true);
    let world = World::with(support::TOTAL, fuelled, Budgets::throughput);
    let id = world.crate_of("guest", 8 * PAGE);
    // Stores have no fuel to begin with.
    let mut store = world.store(id);
    let prepared = prepare(&world, id, DATA).instantiate_pre(&Linker::new(&world.engine)).unwrap();
    assert!(!starved(prepared.instantiate(&mut store, |account| account)));
    assert!(starved(Instance::new(&mut store, &Module::new(&world.engine, &wasm).unwrap(), &[])));
    let mut config = wasmtime::Config::new();
    fuelled(&mut config);
    for has_images in [true, false] {
        let engine = Engine::new(config.memory_init_cow(has_images)).unwrap();
        let mut store = Store::new(&engine, ());
        assert_eq!(
            starved(Instance::new(&mut store, &Module::new(&engine, &wasm).unwrap(), &[])),
            !has_images
        );
    }
}
