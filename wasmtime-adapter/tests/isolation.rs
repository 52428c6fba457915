//! What is between one memory and the next: pages that fault, and zeros where another guest was before.

mod support;

use support::{PAGE, World, call, instantiate};
use wasmtime::{Instance, Module, Store, Trap};
use wrt_memory_wasmtime::StoreAccount;

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

fn peeking(world: &World, memory: &str) -> Module {
    world.module(&format!("(module {memory} {PEEK})"))
}

#[test]
fn past_the_end_faults_at_every_size_and_offset() {
    // With guard pages, with explicit bounds checks, and with a reservation but no guard.
    for (reservation, guard) in [(None, None), (Some(0), Some(0)), (Some(1 << 32), Some(0)), (Some(0), None)]
    {
        let world = World::with(
            support::TOTAL,
            |config| {
                reservation.map(|bytes| config.memory_reservation(bytes));
                guard.map(|bytes| config.memory_guard_size(bytes));
            },
            |budgets| budgets,
        );
        let id = world.crate_of("guest", 9 * PAGE);
        let mut store = world.store(id);
        // A neighbour on either side, were there nothing between them.
        let module = peeking(&world, "(memory 0 8)");
        let instances: Vec<_> = (0..3).map(|_| instantiate(&mut store, &module).unwrap()).collect();
        for pages in 0..3 {
            for &instance in &instances {
                let end = (pages * PAGE) as i32;
                for name in ["peek", "poke"] {
                    for at in [end, end + 1, end + 4095, end + 4096, end + PAGE as i32, i32::MAX, -1, -65536]
                    {
                        out_of_bounds(&mut store, instance, name, at);
                    }
                }
                for at in end - 7..=end {
                    out_of_bounds(&mut store, instance, "peek8", at);
                }
                for at in [0, PAGE as i32, i32::MAX, -1] {
                    out_of_bounds(&mut store, instance, "far", at);
                }
                if pages > 0 {
                    call::<_, i32, ()>(&mut store, instance, "poke", end - 1).unwrap();
                    assert_eq!(call::<_, i32, i64>(&mut store, instance, "peek8", end - 8).unwrap(), 1 << 56);
                }
                let grown = call::<_, i32, i32>(&mut store, instance, "grow", 1).unwrap();
                assert_eq!(grown, pages as i32);
            }
        }
        drop(store);
        world.all_back([id]);
    }
}

#[test]
fn one_byte_pages_end_within_a_host_page() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &peeking(&world, "(memory 10 9000 (pagesize 1))")).unwrap();
    for (size, grow) in [(10, 1), (11, 4085), (4096, 1), (4097, 4903)] {
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "peek", size - 1).unwrap(), 0);
        for at in [size, size + 1, 8999, 65535, -1] {
            out_of_bounds(&mut store, instance, "peek", at);
            out_of_bounds(&mut store, instance, "poke", at);
        }
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "grow", grow).unwrap(), size);
    }
    drop(store);
    world.all_back([id]);
}

#[test]
fn wide_indices_past_4_gib_trap() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    let module = world.module(
        r#"(module (memory i64 1)
             (func (export "peek") (param i64) (result i32) (i32.load8_u (local.get 0))))"#,
    );
    let instance = instantiate(&mut store, &module).unwrap();
    assert_eq!(call::<_, i64, i32>(&mut store, instance, "peek", 65535).unwrap(), 0);
    for at in [1 << 16, 1 << 32, (1 << 32) + 65535, 1 << 33, 1 << 40, 1 << 47, i64::MAX, i64::MIN, -1, -65536]
    {
        let error = call::<_, i64, i32>(&mut store, instance, "peek", at).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Trap::MemoryOutOfBounds), "{at:#x}");
    }
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_shared_memory_faults_past_its_end_too() {
    let world = World::new();
    let id = world.crate_of("guest", 8 * PAGE);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &peeking(&world, "(memory 1 4 shared)")).unwrap();
    for pages in 1..=4 {
        let end = (pages * PAGE) as i32;
        assert_eq!(call::<_, i32, i32>(&mut store, instance, "peek", end - 1).unwrap(), 0);
        for at in [end, end + 4096, -1] {
            out_of_bounds(&mut store, instance, "peek", at);
            out_of_bounds(&mut store, instance, "poke", at);
        }
        call::<_, i32, i32>(&mut store, instance, "grow", 1).unwrap();
    }
    drop(store);
    world.all_back([id]);
}

#[test]
fn a_former_tenants_bytes_are_gone() {
    let world = World::new();
    let (first, second) = (world.crate_of("first", 8 * PAGE), world.crate_of("second", 8 * PAGE));
    let module = world.module(
        r#"(module (memory (export "memory") 1 8)
             (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    for turn in 0..50 {
        let id = if turn % 2 == 0 { first } else { second };
        let mut store = world.store(id);
        let instance = instantiate(&mut store, &module).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        for pages in 1..=8 {
            let bytes = memory.data_mut(&mut store);
            assert_eq!(bytes.len(), pages * PAGE);
            let fresh = if pages == 1 { 0 } else { (pages - 1) * PAGE };
            assert!(bytes[fresh..].iter().all(|&byte| byte == 0), "turn {turn}, page {pages}");
            bytes.fill(0xa5);
            call::<_, i32, i32>(&mut store, instance, "grow", 1).unwrap();
        }
        assert_eq!(world.used(id), 8 * PAGE);
    }
    world.all_back([first, second]);
}
