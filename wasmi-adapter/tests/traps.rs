//! The traps of `notes/wasmi.md`, by number: what wasmi's hooks really do, and that it does no harm here.

mod common;

use common::{Host, PAGE, wat};
use wasmi::{AsContext, AsContextMut, ExternType, Memory, MemoryType, TrapCode};
use wrt_memory::MemoryError;
use wrt_memory_wasmi::{Error, Guest, GuestSettings, OnDenial};

fn settings() -> GuestSettings {
    GuestSettings::new().stack(4096, 64)
}

fn guest(host: &Host, limit: usize, settings: GuestSettings) -> Guest<()> {
    Guest::new(&host.budgets, host.register("guest", limit), settings, ()).unwrap()
}

fn guests(name: &str) -> Vec<u8> {
    wrt_memory_guests::wat(name)
}

#[test]
fn trap_1a_growth_past_the_region_is_minus_one_and_no_panic() {
    let host = Host::new(1 << 20);
    let mut hog = guest(&host, 1 << 20, settings());
    hog.load(&guests("hog")).unwrap();
    let regions = hog.bytes().regions;
    assert!(regions < 1 << 20, "the region is shorter than what the type may have");
    let gained: i32 = hog.call("run", ()).unwrap();
    assert_eq!((gained as usize + 1) * PAGE, regions);
    assert_eq!(hog.bytes().linear, regions);
    for pages in [1, 2, 1000, 65535, -1] {
        assert_eq!(hog.call::<i32, i32>("grow", pages).unwrap(), -1, "{pages} pages");
    }
    assert!(hog.last_denial().is_some());
}

#[test]
fn trap_1a_of_two_memories_of_one_size_each_ends_at_its_own_region() {
    let host = Host::new(16 * PAGE);
    let text = r#"(module (memory 1 3) (memory 1)
        (func (export "grow0") (param i32) (result i32) (memory.grow 0 (local.get 0)))
        (func (export "grow1") (param i32) (result i32) (memory.grow 1 (local.get 0))))"#;
    for region in [2, 3, 4, 5, 6] {
        let mut guest = guest(&host, 16 * PAGE, settings().region(region * PAGE));
        guest.load(&wat(text)).unwrap();
        for (name, pages) in [("grow0", region.min(3)), ("grow1", region)] {
            let mut size = 1;
            while guest.call::<i32, i32>(name, 1).unwrap() != -1 {
                size += 1;
            }
            assert_eq!(size, pages, "{name} with regions of {region} pages");
        }
    }
}

#[test]
fn trap_1b_a_64_bit_memory_is_refused_before_wasmi_sees_it() {
    let host = Host::new(1 << 20);
    for text in [
        "(module (memory i64 0 0x1000000000000))",
        "(module (memory i64 0))",
        r#"(module (import "a" "b" (memory i64 0 0x1000000000000)))"#,
    ] {
        let mut guest = guest(&host, 1 << 20, settings());
        let error = guest.load(&wat(text)).unwrap_err();
        // Where wasmi was built without 64-bit memories, it says so itself.
        let told = matches!(error, Error::Unsupported { .. }) || error.to_string().contains("memory64");
        assert!(told, "{error}");
    }
}

#[test]
fn trap_2_a_maximum_of_4_gib_does_not_keep_a_memory_from_growing() {
    let host = Host::new(8 * PAGE);
    let mut guest = guest(&host, 8 * PAGE, settings());
    guest.load(&guests("big_max")).unwrap();
    assert_eq!(guest.call::<i32, i32>("grow", 2).unwrap(), 1);
    assert_eq!(guest.call::<i32, i32>("grow", 65535).unwrap(), -1);
    assert_eq!(guest.call::<(), i32>("size", ()).unwrap(), 3);
}

#[test]
fn trap_3_two_stores_of_one_crate_share_its_budget_and_keep_their_own_accounts() {
    let host = Host::new(32 * PAGE);
    let id = host.register("crate", 12 * PAGE);
    let new = || Guest::new(&host.budgets, id, settings().region(4 * PAGE), ()).unwrap();
    let (mut a, mut b) = (new(), new());
    a.load(&guests("hog")).unwrap();
    b.load(&guests("hog")).unwrap();
    let used = host.used(id);
    assert_eq!(a.call::<(), i32>("run", ()).unwrap(), 3);
    assert_eq!((a.bytes().linear, b.bytes().linear), (4 * PAGE, PAGE));
    assert_eq!(host.used(id), used, "growth in a region is charged already");
    let Err(Error::Memory { source: MemoryError::OverLimit { .. }, .. }) =
        new().load(&wat("(module (memory 4))"))
    else {
        panic!("a third store got past the crate's limit")
    };
    drop((a, b));
    assert_eq!(host.used(id), 0);
}

#[test]
fn trap_4_a_thousand_loads_and_unloads_end_where_they_began() {
    let host = Host::new(16 * PAGE);
    let id = host.register("reloaded", 16 * PAGE);
    let wasm = guests("hog");
    let cycle = || {
        let mut guest = Guest::new(&host.budgets, id, settings().region(3 * PAGE), ()).unwrap();
        guest.load(&wasm).unwrap();
        guest.call::<(), i32>("run", ()).unwrap();
        let bytes = guest.bytes();
        drop(guest);
        assert_eq!(host.used(id), 0);
        bytes
    };
    let (first, room) = (cycle(), host.room());
    for _ in 0..1000 {
        assert_eq!(cycle(), first, "a cycle takes what the first one took");
    }
    assert_eq!(host.room(), room);
}

#[test]
fn trap_5_what_cannot_be_created_is_an_error_that_says_why_and_growth_by_nothing_is_granted() {
    let host = Host::new(8 * PAGE);
    let mut small = guest(&host, 2 * PAGE, settings());
    let error = small.load(&wat("(module (memory 3))")).unwrap_err();
    assert!(matches!(error, Error::Memory { source: MemoryError::OverLimit { .. }, .. }), "{error}");
    let mut small = guest(&host, 2 * PAGE, settings());
    let error = small.load(&wat("(module (table 1000000 funcref))")).unwrap_err();
    assert!(matches!(error, Error::Wasmi(_)), "{error}");
    assert!(matches!(small.last_denial(), Some(MemoryError::OverLimit { .. })));
    let mut full = guest(&host, 2 * PAGE, settings());
    full.load(&guests("hog")).unwrap();
    full.call::<(), i32>("run", ()).unwrap();
    let size: i32 = full.call("size", ()).unwrap();
    assert_eq!(full.call::<i32, i32>("grow", 0).unwrap(), size);
}

#[test]
fn trap_5_a_denial_is_minus_one_or_a_trap_as_the_host_chose() {
    let host = Host::new(8 * PAGE);
    let mut trapping = guest(&host, 4 * PAGE, settings().on_denial(OnDenial::Trap));
    trapping.load(&guests("hog")).unwrap();
    let trap = trapping.call::<(), i32>("run", ()).unwrap_err().trap();
    assert_eq!(trap, Some(TrapCode::GrowthOperationLimited));
    let mut table = guest(&host, PAGE, settings().on_denial(OnDenial::Trap));
    table.load(&guests("table_grow")).unwrap();
    let trap = table.call::<i32, i32>("grow", 900_000).unwrap_err().trap();
    assert_eq!(trap, Some(TrapCode::GrowthOperationLimited));
    let mut refused = guest(&host, PAGE, settings());
    refused.load(&guests("table_grow")).unwrap();
    assert_eq!(refused.call::<i32, i32>("grow", 900_000).unwrap(), -1);
}

#[test]
fn trap_6_growth_without_fuel_is_taken_back_and_may_be_tried_again() {
    let host = Host::new(32 * PAGE);
    let mut guest = guest(&host, 32 * PAGE, settings().fuel(1_000_000).spare(PAGE));
    guest.load(&guests("hog")).unwrap();
    let before = guest.bytes();
    for _ in 0..10 {
        guest.run(|mut context| context.as_context_mut().set_fuel(100).unwrap()).unwrap();
        let trap = guest.call::<i32, i32>("grow", 2).unwrap_err().trap();
        assert_eq!(trap, Some(TrapCode::OutOfFuel));
        let after = guest.bytes();
        assert_eq!(
            (after.linear, after.live),
            (before.linear, before.live),
            "what did not grow is not counted"
        );
    }
    guest.run(|mut context| context.as_context_mut().set_fuel(1_000_000).unwrap()).unwrap();
    assert_eq!(guest.call::<i32, i32>("grow", 2).unwrap(), 1);
    assert_eq!(guest.bytes().linear, 3 * PAGE);
}

#[test]
fn trap_6_a_table_that_found_no_fuel_gives_its_charge_back_and_resumes() {
    let host = Host::new(32 * PAGE);
    let mut guest = guest(&host, 32 * PAGE, settings().fuel(1_000_000));
    let instance = guest.load(&guests("table_grow")).unwrap();
    let used = host.used(guest.crate_id());
    let (before, stopped, grown) = guest
        .run(|mut context| {
            context.set_fuel(50).unwrap();
            let grow = instance.get_func(&context, "grow").unwrap();
            let mut results = [wasmi::Val::I32(0)];
            let called =
                grow.call_resumable(&mut context, &[wasmi::Val::I32(100_000)], &mut results).unwrap();
            let table = instance.get_table(&context, "table").unwrap();
            let stopped = table.size(&context);
            let wasmi::ResumableCall::OutOfFuel(called) = called else { panic!("there was fuel enough") };
            context.set_fuel(1_000_000_000).unwrap();
            called.resume(&mut context, &mut results).unwrap();
            (results[0].i32().unwrap(), stopped, table.size(&context))
        })
        .unwrap();
    assert_eq!((before, stopped, grown), (10, 10, 100_010));
    let tables = guest.bytes().tables;
    assert_eq!(tables, 100_010 * 4, "the growth that was tried twice is charged once");
    assert!(host.used(guest.crate_id()) >= used + tables - 40);
}

#[test]
fn trap_7_a_failed_instantiation_leaves_nothing_when_the_guest_goes() {
    let host = Host::new(32 * PAGE);
    for name in ["failed_start", "start_out_of_bounds_data"] {
        let room = host.room();
        let mut guest = guest(&host, 32 * PAGE, settings());
        assert!(guest.load(&guests(name)).unwrap_err().trap().is_some(), "{name}");
        assert!(guest.bytes().regions > 0, "wasmi keeps the memory, so it stays charged");
        let id = guest.crate_id();
        assert!(host.used(id) >= guest.bytes().regions);
        drop(guest);
        assert_eq!((host.used(id), host.room()), (0, room));
    }
}

#[test]
fn trap_8_pages_of_one_byte_are_counted_in_bytes() {
    let host = Host::new(PAGE);
    let mut guest = guest(&host, PAGE, settings());
    guest.load(&guests("tiny_pages")).unwrap();
    assert_eq!((guest.bytes().linear, guest.bytes().regions), (2048, 4096));
    assert_eq!(guest.call::<i32, i32>("grow", 1001).unwrap(), 2048);
    assert_eq!(guest.bytes().linear, 3049);
    assert_eq!(guest.call::<i32, i32>("grow", 1048).unwrap(), -1);
    assert_eq!(guest.call::<i32, i32>("grow", 1047).unwrap(), 3049);
}

/// On a thread with less stack than ten million growths would leave behind, were it a word each.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(1 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn trap_9_ten_million_refused_growths_end_normally() {
    on_a_small_stack(|| {
        let host = Host::new(8 * PAGE);
        let mut guest = guest(&host, 8 * PAGE, settings());
        guest.load(&guests("refused_forever")).unwrap();
        let before = (host.used(guest.crate_id()), guest.bytes());
        assert_eq!(guest.call::<i32, i32>("run", 10_000_000).unwrap(), 10_000_000);
        assert_eq!((host.used(guest.crate_id()), guest.bytes()), before, "a refusal costs nothing");
    });
}

#[test]
fn trap_9_a_million_growths_of_tables_and_indirect_calls_end_normally() {
    on_a_small_stack(|| {
        let host = Host::new(8 * PAGE);
        let mut guest = guest(&host, 8 * PAGE, settings());
        let text = r#"(module (table 1 1 funcref) (elem (i32.const 0) $nothing) (func $nothing) (memory 0)
            (func (export "run") (param $n i32)
              (loop $again
                (drop (table.grow 0 (ref.null func) (i32.const 1)))
                (drop (memory.grow (i32.const 0)))
                (call_indirect (i32.const 0))
                (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#;
        guest.load(&wat(text)).unwrap();
        guest.call::<i32, ()>("run", 1_000_000).unwrap();
    });
}

#[test]
fn trap_9_a_guest_that_recurses_for_ever_traps() {
    on_a_small_stack(|| {
        let host = Host::new(8 * PAGE);
        let mut guest = guest(&host, 8 * PAGE, settings());
        guest.load(&wat(r#"(module (func (export "run") (call 0)))"#)).unwrap();
        let before = guest.bytes();
        for _ in 0..1000 {
            assert_eq!(guest.call::<(), ()>("run", ()).unwrap_err().trap(), Some(TrapCode::StackOverflow));
        }
        let after = guest.bytes();
        assert_eq!(after.live, before.live, "the stacks were there from the start");
        // The error was there when it was looked at last.
        assert!(after.overhead <= before.overhead + 256);
    });
}

#[test]
fn trap_10_many_memories_in_one_store_are_a_matter_of_bytes() {
    let host = Host::new(64 * PAGE);
    let mut guest = guest(&host, 64 * PAGE, settings().region(PAGE));
    for _ in 0..4 {
        guest.load(&guests("two_memories")).unwrap();
    }
    assert_eq!((guest.bytes().linear, guest.bytes().regions), (8 * PAGE, 8 * PAGE));
}

#[test]
fn trap_11_an_invalid_module_is_refused_even_where_the_rewrite_would_make_it_valid() {
    let host = Host::new(8 * PAGE);
    // The memory section after the exports: out of order, and gone from the rewritten module.
    let wasm = [&[0, b'a', b's', b'm', 1, 0, 0, 0][..], &[7, 1, 0], &[5, 3, 1, 0, 1]].concat();
    let mut guest = guest(&host, 8 * PAGE, settings());
    assert!(matches!(guest.load(&wasm), Err(Error::Wasmi(_))));
    // Twice, of which one would be gone; and after the code, where it would not be looked for.
    let memory = [5, 3, 1, 0, 1];
    let function = [&[1, 4, 1, 0x60, 0, 0][..], &[3, 2, 1, 0]].concat();
    let code = [10, 4, 1, 2, 0, 0x0b];
    for sections in [[&memory[..], &memory, &[]], [&[2, 1, 0], &memory, &memory], [&function, &code, &memory]]
    {
        let wasm = [&[0, b'a', b's', b'm', 1, 0, 0, 0][..], &sections.concat()].concat();
        assert!(matches!(guest.load(&wasm), Err(Error::Wasmi(_))), "{sections:?}");
        assert_eq!(guest.bytes().regions, 0);
    }
    for wasm in [&b""[..], b"(module)", b"\0asm", &[0, b'a', b's', b'm', 13, 0, 1, 0]] {
        assert!(guest.load(wasm).is_err());
    }
}

/// Hand-made, as no tool makes such modules: one function of no parameters and results, whose body this is.
fn of_body(body: &[u8]) -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
    wasm.extend([body.len() as u8 + 3, 1, body.len() as u8 + 1, 0]);
    wasm.extend(body);
    wasm
}

#[test]
fn operators_after_the_end_of_a_function_never_reach_wasmis_translator() {
    const END: u8 = 0x0b;
    const LOOP: [u8; 2] = [0x03, 0x40];
    let host = Host::new(1 << 20);
    // In a dev build wasmi's translator panics on this: `assertion failed: !self.is_empty()`.
    for after in [&[LOOP[0], LOOP[1], END][..], &[0x00], &[0x01], &[END], &[0x0d, 0x00], &[LOOP[0], LOOP[1]]]
    {
        let body = [&[0x00, END], after].concat();
        let error = guest(&host, 1 << 20, settings()).load(&of_body(&body)).unwrap_err();
        assert!(
            matches!(error, Error::Unsupported { what } if what.contains("after its last `end`")),
            "{after:?}: {error}"
        );
    }
    for whole in
        [&[END][..], &[0x00, END], &[LOOP[0], LOOP[1], END, END], &[LOOP[0], LOOP[1], 0x00, END, END]]
    {
        guest(&host, 1 << 20, settings()).load(&of_body(whole)).unwrap();
    }
}

#[test]
fn trap_12_what_the_runtime_needs_is_charged_before_it_starts_and_refused_at_load() {
    let host = Host::new(32 * PAGE);
    let functions = "(func (export \"f\") (local i32) (local.set 0 (i32.add (local.get 0) (i32.const 7))))";
    let many: String = (0..500).map(|at| functions.replace("\"f\"", &format!("\"f{at}\""))).collect();
    let wasm = wat(&format!("(module {many})"));
    let id = host.register("small", 128 << 10);
    let mut small = Guest::new(&host.budgets, id, settings(), ()).unwrap();
    let used = host.used(id);
    let error = small.load(&wasm).unwrap_err();
    assert!(matches!(error, Error::Memory { source: MemoryError::OverLimit { .. }, .. }), "{error}");
    assert_eq!(host.used(id), used, "a refusal leaves no trace");
    small.load(&wat("(module)")).unwrap();
    drop(small);
    assert_eq!(host.used(id), 0);
    let id = host.register("tiny", 4096);
    assert!(matches!(Guest::new(&host.budgets, id, settings(), ()), Err(Error::Memory { .. })));
    assert_eq!(host.used(id), 0);
}

#[test]
fn what_the_host_makes_in_a_guest_without_a_region_is_refused() {
    let host = Host::new(32 * PAGE);
    let mut guest = guest(&host, 32 * PAGE, settings().region(PAGE));
    guest.load(&guests("hog")).unwrap();
    let made = guest.run(|mut context| Memory::new(&mut context, MemoryType::new(1, None)).is_ok()).unwrap();
    assert!(!made);
}

#[test]
fn the_type_a_host_sees_is_still_one_the_module_declared() {
    let host = Host::new(32 * PAGE);
    let mut guest = guest(&host, 32 * PAGE, settings());
    let instance = guest.load(&guests("big_max")).unwrap();
    let memory = instance.get_memory(guest.context(), "memory").unwrap();
    let ty = memory.ty(guest.context());
    assert_eq!(ty.minimum(), 1);
    assert!(ty.maximum().unwrap() <= 65536);
    let exported = instance.get_export(guest.context(), "memory").unwrap().ty(guest.context().as_context());
    assert!(matches!(exported, ExternType::Memory(_)));
}
