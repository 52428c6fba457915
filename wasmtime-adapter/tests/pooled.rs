//! Both presets on slots that stay warm: nothing of one guest is seen by the next, what is out of bounds traps, and
//! every byte is in somebody's budget.

mod support;

use support::{PAGE, World, call, figures, instantiate};
use wasmtime::{Engine, Instance, Module, Store, Trap};
use wrt_memory::provider::{PooledProvider, ProviderKind};
use wrt_memory::{CrateId, MemoryError};
use wrt_memory_wasmtime::{Budgets, StoreAccount};

/// The most a memory has with the preset for density.
const LARGEST: usize = 64 * PAGE;

/// A kind of pool, and a preset, by name.
type Pool = (&'static str, fn() -> PooledProvider);
type Chosen = (&'static str, fn(Budgets) -> Budgets);

/// Both presets; slots made as new by scan and by prefix, keeping much, little, and nothing.
fn worlds() -> Vec<(String, World)> {
    let pools: [Pool; 5] = [
        ("scan", PooledProvider::new),
        ("prefix", || PooledProvider::new().without_pagemap_scan()),
        ("scan, little kept", || PooledProvider::new().keep_resident(3 * 4096)),
        ("prefix, little kept", || PooledProvider::new().keep_resident(3 * 4096).without_pagemap_scan()),
        ("nothing kept", || PooledProvider::new().warm_limit(0)),
    ];
    let presets: [Chosen; 2] =
        [("throughput", Budgets::throughput), ("density", |budgets| budgets.density(LARGEST))];
    let mut worlds = Vec::new();
    for (pool, provider) in pools {
        for (preset, choose) in presets {
            worlds.push((format!("{preset}, {pool}"), World::pooled(provider(), choose)));
        }
    }
    worlds
}

/// Its image: small, large, none. Of the same memory type, so that only the image tells them apart.
fn guest(image: usize, salt: char) -> String {
    let bytes = [0, 100, 20 * 4096][image];
    let data: String = std::iter::repeat_n(salt, bytes).collect();
    format!(
        r#"(module (memory (export "memory") 8 64) (data (i32.const 5000) "{data}")
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#
    )
}

/// What such a guest has when it is new.
fn fresh(image: usize, salt: char) -> Vec<u8> {
    let bytes = [0, 100, 20 * 4096][image];
    let mut fresh = vec![0; 8 * PAGE];
    fresh[5000..5000 + bytes].fill(salt as u8);
    fresh
}

#[test]
fn a_hostile_pair_of_guests_over_every_way_a_slot_is_made_as_new() {
    for (name, world) in worlds() {
        let ids = [world.crate_of("hostile", 64 * PAGE), world.crate_of("curious", 64 * PAGE)];
        let guests: Vec<_> = ids
            .iter()
            .zip(['h', 'c'])
            .map(|(id, salt)| [0, 1, 2].map(|image| world.prepare(*id, &guest(image, salt))))
            .collect();
        // Who runs after whom: other crates, other images, and the same again.
        let turns = (0..2usize).flat_map(|by| (0..3usize).map(move |image| (by, image)));
        let pairs: Vec<_> =
            turns.clone().flat_map(|one| turns.clone().map(move |next| [one, next])).collect();
        for (round, (by, image)) in pairs.into_iter().flatten().enumerate() {
            let mut store = world.store(ids[by]);
            let instance = guests[by][image].instantiate(&mut store, |account| account).unwrap();
            let memory = instance.get_memory(&mut store, "memory").unwrap();
            let salt = ['h', 'c'][by];
            assert!(memory.data(&store) == fresh(image, salt), "{name}, round {round}");
            match round % 5 {
                // Every page.
                0 => memory.data_mut(&mut store).fill(0xA5),
                // Sparse ones, more than one scan returns.
                1 => memory.data_mut(&mut store).iter_mut().step_by(2 * 4096).for_each(|byte| *byte = 0xA5),
                // It grows, and then every page.
                2 => {
                    assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow", 20).unwrap(), 8);
                    let bytes = memory.data_mut(&mut store);
                    assert!(bytes[8 * PAGE..].iter().all(|byte| *byte == 0), "{name}, round {round}");
                    bytes.fill(0xA5);
                }
                // Those of the image.
                3 => memory.data_mut(&mut store)[5000..5000 + 20 * 4096].fill(0xA5),
                // It only looks.
                _ => {}
            }
        }
        drop(guests);
        world.all_back(ids);
    }
}

/// Loads and stores at any address, near and far.
const PEEK: &str = r#"
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "poke") (param i32) (i32.store8 (local.get 0) (i32.const 1)))
    (func (export "peek8") (param i32) (result i64) (i64.load (local.get 0)))
    (func (export "far") (param i32) (result i32) (i32.load8_u offset=0xffff0000 (local.get 0)))"#;

fn out_of_bounds(store: &mut Store<StoreAccount>, instance: Instance, name: &str, at: i32) {
    let error = match name {
        "poke" => call::<_, i32, ()>(store, instance, name, at).unwrap_err(),
        "peek8" => call::<_, i32, i64>(store, instance, name, at).unwrap_err(),
        _ => call::<_, i32, i32>(store, instance, name, at).unwrap_err(),
    };
    assert_eq!(error.downcast_ref(), Some(&Trap::MemoryOutOfBounds), "{name} {at:#x}");
}

#[test]
fn past_the_end_traps_at_every_size_also_in_a_slot_that_was_larger() {
    for (_, world) in worlds() {
        let id = world.crate_of("guest", 40 * PAGE);
        // With a maximum, with none, one that cannot grow, and one that never moves.
        for memory in ["(memory 1 9)", "(memory 1)", "(memory 1 1)", "(memory 1 9 shared)"] {
            let module = world.module(&format!("(module {memory} {PEEK})"));
            for round in 0..3 {
                let mut store = world.store(id);
                // A neighbour on either side, were there nothing between them.
                let instances: Vec<_> = (0..3).map(|_| instantiate(&mut store, &module).unwrap()).collect();
                for pages in 1..=4 {
                    for &instance in &instances {
                        let end = (pages * PAGE) as i32;
                        for name in ["peek", "poke"] {
                            for at in [end, end + 1, end + 4096, end + PAGE as i32, i32::MAX, -1, -65536] {
                                out_of_bounds(&mut store, instance, name, at);
                            }
                        }
                        for at in end - 7..=end {
                            out_of_bounds(&mut store, instance, "peek8", at);
                        }
                        for at in [0, PAGE as i32, i32::MAX, -1] {
                            out_of_bounds(&mut store, instance, "far", at);
                        }
                        assert_eq!(call::<_, i32, i32>(&mut store, instance, "peek", end - 1).unwrap(), 0);
                        call::<_, i32, ()>(&mut store, instance, "poke", end - 1).unwrap();
                    }
                    if memory == "(memory 1 1)" {
                        break;
                    }
                    for &instance in &instances {
                        let was = call::<_, i32, i32>(&mut store, instance, "grow", 1).unwrap();
                        assert_eq!(was, pages as i32, "round {round}");
                    }
                }
            }
        }
        world.all_back([id]);
    }
}

#[test]
fn memory_is_from_warm_slots_and_the_next_of_the_crate_gets_the_same() {
    for choose in [Budgets::throughput, |budgets: Budgets| budgets.density(LARGEST)] {
        let world = World::pooled(PooledProvider::new(), choose);
        let id = world.crate_of("guest", 64 * PAGE);
        let guest = world.prepare(id, &guest(2, 'g'));
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let mut store = world.store(id);
            let instance = guest.instantiate(&mut store, |account| account).unwrap();
            let memory = instance.get_memory(&mut store, "memory").unwrap();
            memory.data_mut(&mut store)[6000] = 1;
            places.insert(memory.data_ptr(&store).addr());
            assert_eq!(world.manager.node(id).unwrap().provider.unwrap().kind, ProviderKind::Pooled);
        }
        assert_eq!(places.len(), 1);
        drop(guest);
        world.all_back([id]);
    }
}

#[test]
fn what_is_charged_is_linear_memory_and_the_image_and_warm_bytes_are_another_account() {
    for (name, world) in worlds() {
        let id = world.crate_of("guest", 64 * PAGE);
        let prepared =
            world.budgets.prepare(&world.engine, id, &wrt_memory_guests::assemble(&guest(2, 'g'))).unwrap();
        // 20 pages of data, which start within a page.
        let image = 21 * 4096;
        assert_eq!(prepared.image_bytes(), image);
        assert_eq!(world.used(id), image);
        let guest = prepared.instantiate_pre(&wasmtime::Linker::new(&world.engine)).unwrap();
        for _ in 0..3 {
            let mut stores = [world.store(id), world.store(id)];
            for store in &mut stores {
                guest.instantiate(&mut *store, |account| account).unwrap();
            }
            assert_eq!(world.used(id), image + 16 * PAGE, "once, whoever maps it");
            drop(stores);
            assert_eq!(world.used(id), image);
        }
        // An instance keeps it, when the module is gone.
        let mut store = world.store(id);
        guest.instantiate(&mut store, |account| account).unwrap();
        drop((prepared, guest));
        assert_eq!(world.used(id), image + 8 * PAGE);
        drop(store);
        assert_eq!(world.used(id), 0, "{name}: no idle slot keeps it");
        let warm = world.manager.providers().pooled().unwrap().warm();
        assert!(world.manager.pool().used >= warm);
        world.all_back([id]);
    }
}

/// Mappings of images of so many bytes that this process has.
fn mapped_images(bytes: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let of_images = maps.lines().filter(|line| line.contains("wrt-memory image"));
    let lengths = of_images.map(|line| {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        usize::from_str_radix(to, 16).unwrap() - usize::from_str_radix(from, 16).unwrap()
    });
    lengths.filter(|length| *length == bytes).count()
}

#[test]
fn an_image_goes_with_its_last_instance_and_no_idle_slot_keeps_it() {
    // Of a length that no other test has.
    let bytes = 37 * 4096;
    let text = format!(r#"(module (memory 8 64) (data (i32.const 0) "{}"))"#, "g".repeat(bytes));
    for (name, world) in worlds() {
        let id = world.crate_of("guest", 64 * PAGE);
        let guest = world.prepare(id, &text);
        for _ in 0..3 {
            let mut stores = [world.store(id), world.store(id)];
            for store in &mut stores {
                guest.instantiate(&mut *store, |account| account).unwrap();
            }
            assert!(mapped_images(bytes) >= 2, "{name}");
        }
        drop(guest);
        assert_eq!((mapped_images(bytes), world.used(id)), (0, 0), "{name}");
        world.all_back([id]);
    }
}

#[test]
fn density_grows_to_its_largest_memory_and_says_why_no_further() {
    let world = World::pooled(PooledProvider::new(), |budgets| budgets.density(4 * PAGE));
    let id = world.crate_of("guest", 64 * PAGE);
    let mut store = world.store(id);
    let hog = instantiate(&mut store, &world.guest("hog")).unwrap();
    assert_eq!(support::grow(&mut store, hog, 3), 1);
    assert_eq!(support::grow(&mut store, hog, 1), -1);
    assert!(matches!(store.data().last_denial(), Some(MemoryError::Provider { .. })));
    assert_eq!(world.used(id), 4 * PAGE);
    // One that starts larger is made, and stays as it is.
    let large = instantiate(&mut store, &world.module(&format!("(module (memory 6 20) {PEEK})"))).unwrap();
    assert_eq!(call::<_, i32, i32>(&mut store, large, "peek", (6 * PAGE - 1) as i32).unwrap(), 0);
    assert_eq!(world.used(id), 10 * PAGE);
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_guest_that_is_denied_touches_no_slot() {
    for (_, world) in worlds() {
        let id = world.crate_of("guest", 8 * PAGE);
        let guest = world.prepare(id, &guest(0, 'g'));
        let mut store = world.store(id);
        guest.instantiate(&mut store, |account| account).unwrap();
        let before = world.figures(id);
        assert_eq!(before, figures(8 * PAGE, 8 * PAGE, 0));
        let warm = world.manager.providers().pooled().unwrap().warm();
        let error = guest.instantiate(&mut store, |account| account).unwrap_err();
        assert!(format!("{error:?}").contains("crate `guest` asked for"), "{error:?}");
        assert_eq!(world.figures(id), figures(8 * PAGE, 8 * PAGE, 1));
        assert_eq!(world.manager.providers().pooled().unwrap().warm(), warm);
        drop((store, guest));
        world.all_back([id]);
    }
}

#[test]
fn warm_slots_give_way_to_a_guest_that_needs_the_last_byte() {
    let providers = wrt_memory::provider::ProviderSelector::of_platform().with_pooled(PooledProvider::new());
    let world = World::on(providers, 256 * PAGE, |_| {}, Budgets::throughput);
    let id = world.crate_of("guest", 256 * PAGE);
    let hog = world.guest("hog");
    let fill = |store: &mut Store<StoreAccount>| -> Vec<Instance> {
        let hogs: Vec<_> = (0..16).map(|_| instantiate(store, &hog).unwrap()).collect();
        for &hog in &hogs {
            assert_eq!(support::grow(store, hog, 15), 1);
            hog.get_memory(&mut *store, "memory").unwrap().data_mut(&mut *store).fill(1);
        }
        hogs
    };
    for _ in 0..3 {
        let mut store = world.store(id);
        fill(&mut store);
        assert_eq!(world.used(id), 256 * PAGE);
        drop(store);
        assert!(world.manager.pool().used > 0, "some stay warm");
    }
    assert_eq!(world.figures(id).denied, 0);
    world.all_back([id]);
}

#[test]
fn stores_on_two_threads_see_their_own_memory_alone() {
    for choose in [Budgets::throughput, |budgets: Budgets| budgets.density(LARGEST)] {
        let world = World::pooled(PooledProvider::new(), choose);
        let ids: [CrateId; 3] = ["one", "two", "three"].map(|name| world.crate_of(name, 64 * PAGE));
        std::thread::scope(|scope| {
            for (thread, id) in ids.into_iter().enumerate() {
                let world = &world;
                scope.spawn(move || {
                    let salt = ['a', 'b', 'c'][thread];
                    let guests = [0, 1, 2].map(|image| world.prepare(id, &guest(image, salt)));
                    for round in 0..60 {
                        let mut store = world.store(id);
                        let image = round % 3;
                        let instance = guests[image].instantiate(&mut store, |account| account).unwrap();
                        let memory = instance.get_memory(&mut store, "memory").unwrap();
                        assert!(memory.data(&store) == fresh(image, salt), "thread {thread}, round {round}");
                        memory.data_mut(&mut store).iter_mut().step_by(977).for_each(|byte| *byte = 0xA5);
                    }
                });
            }
        });
        world.all_back(ids);
    }
}

#[test]
fn with_the_preset_for_throughput_guests_run_the_code_of_plain_wasmtime() {
    let wasm = wrt_memory_guests::assemble(
        r#"(module (memory 1 9)
            (func (export "copy") (param i32 i32) (result i32)
              (i64.store offset=100000 (local.get 0) (i64.load offset=8 (local.get 1)))
              (i32.load8_u (i32.add (local.get 0) (memory.size)))))"#,
    );
    let code = |engine: &Engine| Module::new(engine, &wasm).unwrap().text().to_vec();
    let plain = code(&Engine::new(&support::config()).unwrap());
    assert!(code(&World::pooled(PooledProvider::new(), Budgets::throughput).engine) == plain);
    // It could be told: checks are code.
    let density = World::pooled(PooledProvider::new(), |budgets| budgets.density(8 << 20));
    assert!(code(&density.engine) != plain);
}
