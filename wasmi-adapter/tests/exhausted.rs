//! The program's allocator has nothing left, and the guests go on: what they may need was set aside.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use wasmi::TrapCode;
use wrt_memory::provider::{ProviderSelector, StaticRegionProvider};
use wrt_memory::{CrateId, CrateSettings, MemoryError, UnifiedMemoryManager};
use wrt_memory_wasmi::{Budgets, Error, Guest, GuestHeap, GuestSettings, Hosted};

const PAGE: usize = 65536;

thread_local! {
    static EMPTY: Cell<bool> = const { Cell::new(false) };
}

/// Has nothing for a thread that says so. What is there already may grow in place only.
struct Failing;

// SAFETY: all is the system allocator's, or null.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if EMPTY.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static HEAP: GuestHeap<Failing> = GuestHeap::new(Failing);

/// With an allocator that has nothing. Whoever allocates in there all the same ends the process.
fn without_heap<R>(code: impl FnOnce() -> R) -> R {
    EMPTY.set(true);
    let result = code();
    EMPTY.set(false);
    result
}

struct Host {
    manager: Arc<UnifiedMemoryManager>,
    budgets: Budgets,
}

impl Host {
    fn new(bytes: usize) -> Self {
        let region = vec![0; bytes + 4 * StaticRegionProvider::GRANULE].leak();
        let providers = ProviderSelector::new().with_region(StaticRegionProvider::new(region));
        let builder = UnifiedMemoryManager::builder().total(bytes).stock(0).providers(providers);
        let manager = Arc::new(builder.build().unwrap());
        let budgets = Budgets::new(&manager).unwrap();
        assert!(budgets.is_measured());
        Self { manager, budgets }
    }

    fn used(&self, id: CrateId) -> usize {
        self.manager.node(id).unwrap().used
    }
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn settings() -> GuestSettings {
    GuestSettings::new().stack(4096, 64)
}

/// Ends in as many ways as there are.
const TRAPS: &str = r#"(module (import "host" "fail" (func $fail)) (memory 1 2) (table 1 1 funcref)
    (type $none (func)) (type $one (func (param i32))) (elem (i32.const 0) $nothing) (func $nothing)
    (func (export "unreachable") unreachable)
    (func (export "memory") (drop (i32.load (i32.const 0x7fffffff))))
    (func (export "table") (call_indirect (type $none) (i32.const 7)))
    (func (export "signature") (call_indirect (type $one) (i32.const 1) (i32.const 0)))
    (func (export "division") (drop (i32.div_s (i32.const 1) (i32.const 0))))
    (func (export "overflow") (drop (i32.div_s (i32.const 0x80000000) (i32.const -1))))
    (func (export "conversion") (drop (i32.trunc_f32_s (f32.const nan))))
    (func $again (export "recursion") (call $again))
    (func (export "fuel") (loop (br 0)))
    (func (export "host") (call $fail)))"#;

#[test]
fn a_guest_that_traps_when_the_heap_is_empty_has_trapped_and_the_host_is_there() {
    let host = Host::new(8 * PAGE);
    let id = host.manager.register("trapping", CrateSettings::new()).unwrap();
    let mut guest = Guest::new(&host.budgets, id, settings().fuel(1_000_000), ()).unwrap();
    let defined = guest.link(|linker, _| {
        linker.func_wrap("host", "fail", |_: wasmi::Caller<'_, Hosted<()>>| -> Result<(), wasmi::Error> {
            Err(TrapCode::UnreachableCodeReached.into())
        })?;
        Ok(())
    });
    defined.unwrap();
    guest.load(&wat(TRAPS)).unwrap();
    for (name, expected) in [
        ("unreachable", TrapCode::UnreachableCodeReached),
        ("memory", TrapCode::MemoryOutOfBounds),
        ("table", TrapCode::TableOutOfBounds),
        ("signature", TrapCode::BadSignature),
        ("division", TrapCode::IntegerDivisionByZero),
        ("overflow", TrapCode::IntegerOverflow),
        ("conversion", TrapCode::BadConversionToInteger),
        ("recursion", TrapCode::StackOverflow),
        ("host", TrapCode::UnreachableCodeReached),
        ("fuel", TrapCode::OutOfFuel),
    ] {
        let traps = without_heap(|| {
            (0..1000)
                .filter(|_| {
                    let refuelled =
                        guest.run(|mut context| context.set_fuel(10_000).is_ok()).unwrap_or(false);
                    refuelled
                        && guest.call::<(), ()>(name, ()).is_err_and(|error| error.trap() == Some(expected))
                })
                .count()
        });
        assert_eq!(traps, 1000, "{name}");
    }
}

#[test]
fn tables_do_not_get_what_is_kept_for_errors_and_their_refusal_is_a_denial() {
    let host = Host::new(8 * PAGE);
    let id = host.manager.register("tables", CrateSettings::new()).unwrap();
    let mut guest = Guest::new(&host.budgets, id, settings(), ()).unwrap();
    let tables = "(table 0 99 funcref)".repeat(20);
    let grow = |at| format!("(drop (table.grow {at} (ref.null func) (i32.const 1)))");
    let grows: String = (0..20).map(grow).collect();
    let text = format!(r#"(module {tables} (func (export "run") {grows} unreachable))"#);
    guest.load(&wat(&text)).unwrap();
    let used = host.used(id);
    let trap = without_heap(|| guest.call::<(), ()>("run", ()).map_err(|error| error.trap()));
    assert_eq!(trap, Err(Some(TrapCode::UnreachableCodeReached)));
    let denied = guest.last_denial();
    assert!(matches!(denied, Some(MemoryError::Provider { asked: 16, .. })), "{denied:?}");
    assert_eq!((guest.bytes().tables, host.manager.node(id).unwrap().denials.provider), (0, 20));
    // The error was there when it was looked at last.
    assert!(host.used(id) <= used + 256);
}

const RELOADED: &str = r#"(module (memory (export "memory") 1 2) (table 0 100 funcref)
    (func (export "run") (result i32)
      (drop (memory.grow (i32.const 1)))
      (i32.store (i32.const 0x1fff0) (i32.const 7))
      (drop (table.grow 0 (ref.null func) (i32.const 50)))
      (i32.add (table.size 0) (i32.load (i32.const 0x1fff0)))))"#;

#[test]
fn a_guest_with_room_set_aside_lives_when_neither_heap_nor_region_have_anything_left() {
    let host = Host::new(16 * PAGE);
    let wasm = wat(RELOADED);
    let need = settings().overhead(&wasm);
    let id = host.manager.register("keeper", CrateSettings::new()).unwrap();
    let reserve = host.budgets.reserve(id, &[2 * PAGE], &[need]).unwrap();
    host.manager.set_guarantee(id, host.used(id)).unwrap();
    let hog = host.manager.register("hog", CrateSettings::new()).unwrap();
    let mut taken = Vec::new();
    for shift in (5..20).rev() {
        while let Ok(memory) = host.manager.allocate(hog, 1 << shift) {
            taken.push(memory);
        }
    }
    assert!(host.manager.providers().region().unwrap().largest_free() < 4096);
    let used = host.used(id);
    for _ in 0..100 {
        let ran = without_heap(|| {
            let mut guest = Guest::new(&host.budgets, id, settings().reserve(&reserve), ())?;
            guest.load(&wasm)?;
            Ok::<_, Error>((guest.call::<(), i32>("run", ())?, guest.bytes()))
        });
        let (result, bytes) = ran.unwrap();
        assert_eq!(result, 57);
        assert_eq!(
            (bytes.regions, bytes.tables, bytes.overhead),
            (2 * PAGE, 0, 0),
            "all of it is in the rooms"
        );
        assert_eq!((reserve.free(), reserve.free_runtimes(), host.used(id)), (1, 1, used));
    }
    let without = Guest::new(&host.budgets, id, settings(), ()).and_then(|mut guest| guest.load(&wasm));
    assert!(matches!(without, Err(Error::Memory { .. })), "and without it, it does not: {without:?}");
}

#[test]
fn what_does_not_fit_the_room_is_charged() {
    let host = Host::new(64 * PAGE);
    let id = host.manager.register("large", CrateSettings::new()).unwrap();
    let functions: String =
        (0..500).map(|_| "(func (result i32) (i32.add (i32.const 1) (i32.const 2)))").collect();
    let wasm = wat(&format!("(module {functions})"));
    let small = settings().overhead(&wat("(module)"));
    let reserve = host.budgets.reserve(id, &[], &[small]).unwrap();
    let set_aside = host.used(id);
    let mut guest = Guest::new(&host.budgets, id, settings().reserve(&reserve), ()).unwrap();
    assert_eq!((guest.bytes().overhead, host.used(id), reserve.free_runtimes()), (0, set_aside, 0));
    guest.load(&wasm).unwrap();
    let bytes = guest.bytes();
    assert!(bytes.overhead > 0 && bytes.overhead < bytes.live.unwrap(), "{bytes:?}");
    assert!(bytes.overhead + set_aside >= bytes.live.unwrap());
    assert_eq!(host.used(id), set_aside + bytes.overhead);
    // Another one finds the room taken.
    let second = Guest::new(&host.budgets, id, settings().reserve(&reserve), ()).unwrap();
    assert!(second.bytes().overhead > 0);
    drop((guest, second));
    assert_eq!((host.used(id), reserve.free_runtimes()), (set_aside, 1));
    drop(reserve);
    assert_eq!(host.used(id), 0);
}

#[test]
fn a_table_that_outgrows_the_room_is_charged_whole() {
    let host = Host::new(64 * PAGE);
    let id = host.manager.register("table", CrateSettings::new()).unwrap();
    let text = r#"(module (table 10 funcref) (func (export "grow") (param i32) (result i32)
        (table.grow 0 (ref.null func) (local.get 0))))"#;
    let wasm = wat(text);
    let reserve = host.budgets.reserve(id, &[], &[settings().overhead(&wasm)]).unwrap();
    let set_aside = host.used(id);
    let mut guest = Guest::new(&host.budgets, id, settings().reserve(&reserve), ()).unwrap();
    guest.load(&wasm).unwrap();
    assert_eq!((guest.bytes().tables, host.used(id)), (0, set_aside));
    assert_eq!(guest.call::<i32, i32>("grow", 99_990).unwrap(), 10);
    let bytes = guest.bytes();
    assert_eq!(bytes.tables, 100_000 * 4, "{bytes:?}");
    assert!(host.used(id) - set_aside <= bytes.tables + 64, "charged once: {bytes:?}");
    drop(guest);
    assert_eq!(host.used(id), set_aside);
}

#[test]
fn a_host_that_keeps_an_error_keeps_the_room_and_nobody_is_put_into_it() {
    let host = Host::new(64 * PAGE);
    let id = host.manager.register("failing", CrateSettings::new()).unwrap();
    let wasm = wat(r#"(module (func (export "fail") unreachable))"#);
    let reserve = host.budgets.reserve(id, &[], &[settings().overhead(&wasm)]).unwrap();
    let mut guest = Guest::new(&host.budgets, id, settings().reserve(&reserve), ()).unwrap();
    guest.load(&wasm).unwrap();
    let error = guest.call::<(), ()>("fail", ()).unwrap_err();
    drop(guest);
    assert_eq!(reserve.free_runtimes(), 0);
    let other = Guest::new(&host.budgets, id, settings().reserve(&reserve), ()).unwrap();
    assert!(other.bytes().overhead > 0, "it is elsewhere");
    drop(reserve);
    drop(other);
    assert!(host.used(id) > 0, "the room is there as long as anything in it");
    assert_eq!(error.trap(), Some(TrapCode::UnreachableCodeReached));
    drop(error);
    assert_eq!(host.used(id), 0);
}
