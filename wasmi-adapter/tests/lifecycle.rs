//! Guests come and go: where their bytes are meanwhile, and that they come back.

mod common;

use common::{Host, PAGE, wat};
use proptest::prelude::*;
use wasmi::{AsContext, AsContextMut};
use wrt_memory::{CrateSettings, MemoryError, VerificationLevel};
use wrt_memory_wasmi::{Error, Guest, GuestSettings, for_the_host};

fn settings() -> GuestSettings {
    GuestSettings::new().stack(4096, 64)
}

fn guests(name: &str) -> Vec<u8> {
    wrt_memory_guests::wat(name)
}

const SCRIBBLER: &str = r#"(module (memory (export "memory") 2 2)
    (func (export "fill") (param i32) (memory.fill (i32.const 0) (local.get 0) (i32.const 131072)))
    (func (export "sum") (result i32) (local $at i32) (local $sum i32)
      (loop $more
        (local.set $sum (i32.or (local.get $sum) (i32.load (local.get $at))))
        (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 131072))))
      (local.get $sum)))"#;

#[test]
fn a_successor_in_the_same_bytes_reads_zeros() {
    let host = Host::new(4 * PAGE);
    let mut at = Vec::new();
    for name in ["first", "second", "third"] {
        let id = host.register(name, 4 * PAGE);
        let mut guest = Guest::new(&host.budgets, id, settings(), ()).unwrap();
        let instance = guest.load(&wat(SCRIBBLER)).unwrap();
        let memory = instance.get_memory(guest.context(), "memory").unwrap();
        at.push(memory.data_ptr(guest.context()).addr());
        assert_eq!(guest.call::<(), i32>("sum", ()).unwrap(), 0, "{name}");
        guest.call::<i32, ()>("fill", 0xa5).unwrap();
        assert_ne!(guest.call::<(), i32>("sum", ()).unwrap(), 0);
    }
    at.dedup();
    assert_eq!(at.len(), 1, "nobody would have read what another left");
}

#[test]
fn checks_find_nothing_in_guests_that_do_as_they_may() {
    for level in [VerificationLevel::Basic, VerificationLevel::Standard, VerificationLevel::Full] {
        let host = Host::verified(8 * PAGE, 8 * PAGE, level);
        let id = host.register("crate", usize::MAX);
        for _ in 0..2 {
            let mut guest = Guest::new(&host.budgets, id, settings().renewable(), ()).unwrap();
            guest.load(&wat(SCRIBBLER)).unwrap();
            guest.call::<i32, ()>("fill", 0xa5).unwrap();
            guest.renew(()).unwrap();
            guest.load_again().unwrap();
            assert_eq!(guest.call::<(), i32>("sum", ()).unwrap(), 0);
            guest.call::<i32, ()>("fill", 0xa5).unwrap();
        }
        assert_eq!(host.manager.verification().last_violation(), None, "{level:?}");
        host.manager.verify().unwrap();
        assert_eq!(host.used(id), 0);
    }
}

/// What a room's former tenant wrote, whether in what its memory began with or in what it grew by.
#[test]
fn a_successor_in_the_same_room_reads_zeros() {
    let host = Host::new(8 * PAGE);
    let id = host.register("crate", usize::MAX);
    let reserve = host.budgets.reserve(id, &[2 * PAGE], &[]).unwrap();
    let text =
        SCRIBBLER.replace(" 2 2)", " 1 2) (func (export \"grow\") (drop (memory.grow (i32.const 1))))");
    for _ in 0..3 {
        let mut guest = Guest::new(&host.budgets, id, settings().reserve(&reserve), ()).unwrap();
        guest.load(&wat(&text)).unwrap();
        assert_eq!(reserve.free(), 0);
        guest.call::<(), ()>("grow", ()).unwrap();
        assert_eq!(guest.call::<(), i32>("sum", ()).unwrap(), 0);
        guest.call::<i32, ()>("fill", 0xa5).unwrap();
    }
}

#[test]
fn neighbours_in_one_region_do_not_see_or_starve_each_other() {
    let host = Host::new(64 * PAGE);
    let keeper = host.manager.register("keeper", CrateSettings::new().guarantee(8 * PAGE)).unwrap();
    let hog = host.register("hog", usize::MAX);
    let mut hog = Guest::new(&host.budgets, hog, settings(), ()).unwrap();
    hog.load(&guests("hog")).unwrap();
    hog.call::<(), i32>("run", ()).unwrap();
    assert!(hog.bytes().linear > 50 * PAGE);
    let mut keeper = Guest::new(&host.budgets, keeper, settings(), ()).unwrap();
    keeper.load(&wat(SCRIBBLER)).unwrap();
    keeper.call::<i32, ()>("fill", 1).unwrap();
    let memory = hog.instance().unwrap().get_memory(hog.context(), "memory").unwrap();
    let others = memory.data(hog.context()).chunks(PAGE).all(|page| page[1..].iter().all(|&byte| byte == 0));
    assert!(others, "the hog wrote the first byte of each page; nobody wrote another");
}

#[test]
fn growth_moves_nothing_and_costs_nothing_more() {
    let host = Host::new(64 * PAGE);
    let id = host.register("guest", 40 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings(), ()).unwrap();
    let instance = guest.load(&guests("hog")).unwrap();
    let memory = instance.get_memory(guest.context(), "memory").unwrap();
    let (at, used) = (memory.data_ptr(guest.context()), host.used(id));
    let live = guest.bytes().live;
    while guest.call::<i32, i32>("grow", 1).unwrap() != -1 {
        assert_eq!((memory.data_ptr(guest.context()), host.used(id)), (at, used));
    }
    assert!(guest.bytes().linear > 30 * PAGE);
    assert_eq!(guest.bytes().live, live);
}

#[test]
fn a_hog_at_its_limit_is_a_denial_in_the_snapshot() {
    let host = Host::new(64 * PAGE);
    let id = host.register("hog", 8 * PAGE);
    let mut hog = Guest::new(&host.budgets, id, settings(), ()).unwrap();
    hog.load(&guests("hog")).unwrap();
    hog.call::<(), i32>("run", ()).unwrap();
    let node = host.manager.node(id).unwrap();
    assert_eq!(node.denials.limit, 1);
    assert!(matches!(hog.last_denial(), Some(MemoryError::OverLimit { .. })));
    // Where the host cut the region short, the budget is not to blame.
    let id = host.register("short", 8 * PAGE);
    let mut short = Guest::new(&host.budgets, id, settings().region(2 * PAGE), ()).unwrap();
    short.load(&guests("hog")).unwrap();
    short.call::<(), i32>("run", ()).unwrap();
    let denials = host.manager.node(id).unwrap().denials;
    assert_eq!((denials.limit, denials.provider, denials.total()), (0, 1, 1));
    assert!(matches!(short.last_denial(), Some(MemoryError::Provider { .. })));
}

/// The room in the region is in pieces, as many as there are guests left; the crate with room set aside does
/// not care.
#[test]
fn a_crate_with_room_set_aside_loads_when_nothing_that_large_is_free() {
    let host = Host::with_room(256 * PAGE, 64 * PAGE);
    let id = host.manager.register("keeper", CrateSettings::new().guarantee(12 * PAGE)).unwrap();
    let reserve = host.budgets.reserve(id, &[2 * PAGE, 8 * PAGE], &[]).unwrap();
    let tenant = |at: usize| {
        let id = host.register(&format!("tenant{at}"), usize::MAX);
        let mut guest = Guest::new(&host.budgets, id, settings().region(PAGE), ()).ok()?;
        guest.load(&guests("hog")).ok()?;
        Some(guest)
    };
    let mut tenants: Vec<_> = (0..).map_while(tenant).collect();
    // Every other one in the region, whichever way it is filled.
    tenants.sort_by_key(|guest: &Guest<()>| {
        let memory = guest.instance().unwrap().get_memory(guest.context(), "memory").unwrap();
        memory.data_ptr(guest.context()).addr()
    });
    let mut at = 0;
    tenants.retain(|_| {
        at += 1;
        at % 2 == 0
    });
    assert!(host.room().1 < 8 * PAGE, "there is a piece that large: {:?}", host.room());
    let wasm = wat("(module (memory 8 8))");
    let load = |settings: GuestSettings| -> Result<Guest<()>, Error> {
        let mut guest = Guest::new(&host.budgets, id, settings, ())?;
        guest.load(&wasm)?;
        Ok(guest)
    };
    let plain = load(settings()).unwrap_err();
    assert!(matches!(plain, Error::Memory { .. }), "{plain}");
    let used = host.used(id);
    for _ in 0..10 {
        let guest = load(settings().reserve(&reserve)).unwrap();
        assert_eq!(guest.bytes().regions, 8 * PAGE);
        assert_eq!(host.used(id), used + guest.bytes().overhead, "room set aside is charged once");
        drop(guest);
    }
    let guest = load(settings().reserve(&reserve)).unwrap();
    drop(reserve);
    assert!(host.used(id) > 8 * PAGE, "the guest keeps the room");
    drop(guest);
    assert_eq!(host.used(id), 0);
}

#[test]
fn no_two_guests_are_in_one_room() {
    let host = Host::new(64 * PAGE);
    let id = host.register("crate", usize::MAX);
    let other = host.register("other", usize::MAX);
    let reserve = host.budgets.reserve(id, &[2 * PAGE, 3 * PAGE, PAGE], &[]).unwrap();
    let load = |id, text: &str| {
        let settings = settings().region(4 * PAGE).reserve(&reserve);
        let mut guest = Guest::new(&host.budgets, id, settings, ()).unwrap();
        let instance = guest.load(&wat(text)).unwrap();
        let at = instance.get_memory(guest.context(), "m").unwrap().data_ptr(guest.context()).addr();
        (at, guest)
    };
    let one = r#"(module (memory (export "m") 1 9))"#;
    let (a, first) = load(id, one);
    assert_eq!((reserve.free(), first.bytes().regions), (2, PAGE), "the smallest that is large enough");
    let (b, second) = load(id, one);
    assert_eq!((reserve.free(), second.bytes().regions), (1, 2 * PAGE));
    let (c, third) = load(id, r#"(module (memory (export "m") 1 2))"#);
    assert_eq!((reserve.free(), third.bytes().regions), (0, 2 * PAGE), "no more than it may have");
    let (d, fourth) = load(id, one);
    assert_eq!((reserve.free(), fourth.bytes().regions), (0, 4 * PAGE), "and then from the budget");
    let (e, _other) = load(other, one);
    let mut all = [a, b, c, d, e];
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] + PAGE <= pair[1]), "{all:?}");
    drop(second);
    assert_eq!(reserve.free(), 1);
    assert_eq!(load(id, one).0, b, "who goes leaves the room to the next");
    assert_ne!(load(other, one).0, b, "but only of its crate");
}

#[test]
fn after_loading_the_charge_is_what_was_counted() {
    let host = Host::new(64 * PAGE);
    let id = host.register("guest", usize::MAX);
    for name in ["hog", "table_grow", "recursion", "compute"] {
        let mut guest = Guest::new(&host.budgets, id, settings().region(PAGE), ()).unwrap();
        let counted = |guest: &Guest<()>| {
            let bytes = guest.bytes();
            assert!(bytes.overhead - (bytes.live.unwrap() - bytes.tables) < 64, "{name}: {bytes:?}");
        };
        counted(&guest);
        guest.load(&guests(name)).unwrap();
        counted(&guest);
        let bytes = guest.bytes();
        assert!(host.used(id) - bytes.overhead - bytes.regions - bytes.tables <= 32, "a header and no more");
    }
}

#[test]
fn a_guest_leaves_what_it_was_told_to_spare() {
    let host = Host::new(64 * PAGE);
    let id = host.register("guest", 20 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings().spare(3 * PAGE), ()).unwrap();
    guest.load(&guests("hog")).unwrap();
    assert!(host.used(id) <= 17 * PAGE, "{:?}", guest.bytes());
    assert!(host.used(id) > 15 * PAGE);
}

#[test]
fn a_host_that_keeps_an_engine_or_an_error_keeps_its_bytes_and_breaks_nothing() {
    let host = Host::new(8 * PAGE);
    let id = host.register("guest", 8 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings(), ()).unwrap();
    guest.load(&guests("hog")).unwrap();
    let engine = guest.run(|context| context.engine().clone()).unwrap();
    let error = guest.load(&wat("(module (func (export \"\") unreachable) (start 0))")).unwrap_err();
    drop(guest);
    assert_eq!(host.used(id), 0);
    assert!(error.trap().is_some());
    drop((engine, error));
}

#[test]
fn a_host_function_sees_its_data_and_the_guests_memory() {
    let host = Host::new(8 * PAGE);
    let id = host.register("guest", 8 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings(), Vec::<u8>::new()).unwrap();
    guest
        .link(|linker, _| {
            linker.func_wrap(
                "host",
                "log",
                |mut caller: wasmi::Caller<'_, wrt_memory_wasmi::Hosted<Vec<u8>>>, byte: i32| {
                    caller.data_mut().push(byte as u8);
                },
            )?;
            Ok(())
        })
        .unwrap();
    guest
        .load(&wat(r#"(module (import "host" "log" (func (param i32))) (memory (export "memory") 1)
        (func (export "run") (call 0 (i32.const 7)) (i32.store8 (i32.const 3) (i32.const 9))))"#))
        .unwrap();
    guest.call::<(), ()>("run", ()).unwrap();
    assert_eq!(guest.data(), &[7]);
    let memory = guest.instance().unwrap().get_memory(guest.context(), "memory").unwrap();
    assert_eq!(memory.data(guest.context().as_context())[..5], [0, 0, 0, 9, 0]);
    let written = guest.run(|mut context| memory.write(context.as_context_mut(), 0, b"hi").is_ok()).unwrap();
    assert!(written);
    assert!(matches!(guest.call::<(), ()>("walk", ()), Err(Error::NoSuchFunction { .. })));
}

#[test]
fn a_host_that_allocates_past_the_guests_budget_ends_the_guest_and_nothing_else() {
    let host = Host::new(64 * PAGE);
    let id = host.register("guest", 2 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings().region(0), Vec::<u8>::new()).unwrap();
    guest.load(&wat("(module (func (export \"run\")))")).unwrap();
    let overdrawn = guest.run(|mut context| context.data_mut().resize(8 * PAGE, 1));
    assert!(matches!(overdrawn, Err(Error::Overdrawn { .. })), "{overdrawn:?}");
    let mut ran = false;
    let again = guest.run(|_| ran = true);
    assert!(!ran && matches!(again, Err(Error::Overdrawn { .. })), "{again:?}");
    assert!(matches!(guest.load(&guests("no_memory")), Err(Error::Overdrawn { .. })));
    assert!(host.used(id) <= 2 * PAGE);
    drop(guest);
    assert_eq!(host.used(id), 0);
}

/// What a host keeps for itself while a guest runs is not the guest's, and what it keeps for the guest is.
#[test]
fn what_is_allocated_for_the_host_is_no_guests_and_what_comes_after_it_is() {
    let host = Host::new(64 * PAGE);
    let id = host.register("guest", 4 * PAGE);
    let mut guest =
        Guest::new(&host.budgets, id, settings().region(0), Vec::<Vec<u8>>::with_capacity(4)).unwrap();
    guest.load(&wat("(module)")).unwrap();
    let before = (guest.bytes(), host.used(id));
    let queue = guest.run(|_| for_the_host(|| vec![1u8; 32 * PAGE])).unwrap();
    assert_eq!((guest.bytes(), host.used(id)), before, "the crate could not even have paid for it");
    let mut outside = false;
    guest
        .run(|mut context| {
            for_the_host(|| outside = queue.len() == 32 * PAGE);
            context.data_mut().push(vec![1; PAGE]);
        })
        .unwrap();
    assert!(outside);
    let live = guest.bytes().live.unwrap() - before.0.live.unwrap();
    assert!((PAGE..PAGE + 64).contains(&live), "{live}");
    // Charges are in steps of 64 bytes.
    assert!(host.used(id) + 64 > before.1 + live);
    // A block stays whose it was, wherever it is freed.
    guest.run(|mut context| for_the_host(|| context.data_mut().clear())).unwrap();
    assert_eq!(guest.bytes().live, before.0.live);
    drop(queue);
    assert_eq!(guest.bytes().live, before.0.live);
}

#[test]
fn a_budget_of_what_is_said_beforehand_is_enough_to_make_a_guest_and_a_part_of_it_is_not() {
    let host = Host::new(64 * PAGE);
    for name in ["hog", "table_grow", "recursion", "compute", "no_memory"] {
        let wasm = guests(name);
        let settings = settings().region(0);
        let need = settings.overhead(&wasm).next_multiple_of(64) + 64;
        let load = |limit: usize| {
            let id = host.register(name, limit);
            let mut guest = Guest::new(&host.budgets, id, settings.clone(), ())?;
            guest.load(&wasm)?;
            Ok::<_, Error>((guest.bytes(), host.manager.node(id).unwrap().high_water))
        };
        // Its memories and tables, with their headers, come on top.
        let (bytes, high_water) = load(usize::MAX).unwrap();
        let memory = bytes.regions + bytes.tables + if bytes.regions > 0 { 64 } else { 0 };
        load(need + memory).unwrap();
        assert!(high_water <= need + memory, "{name}: {high_water} of {need}");
        let refused = load(need / 2).map(drop);
        assert!(matches!(refused, Err(Error::Memory { .. })), "{name}: {refused:?}");
        assert_eq!(host.manager.pool().used, 0);
    }
}

/// One step of a host with several crates.
#[derive(Clone, Debug)]
enum Step {
    Load { slot: usize, guest: usize },
    Unload { slot: usize },
    Grow { slot: usize, pages: i32 },
    Fail { slot: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4usize, 0..4usize).prop_map(|(slot, guest)| Step::Load { slot, guest }),
        2 => (0..4usize).prop_map(|slot| Step::Unload { slot }),
        4 => (0..4usize, 0..6i32).prop_map(|(slot, pages)| Step::Grow { slot, pages }),
        1 => (0..4usize).prop_map(|slot| Step::Fail { slot }),
    ]
}

const MODELLED: [&str; 4] = ["hog", "two_memories", "big_max", "zero_memory"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Beside a model that knows sizes in pages and regions, and nothing of how they come about.
    #[test]
    fn any_sequence_leaves_the_budget_with_what_the_guests_have(steps in proptest::collection::vec(step(), 1..40)) {
        let host = Host::new(24 * PAGE);
        let (all, ids) = (host.room(), [0, 1, 2, 3].map(|at| host.register(&format!("crate{at}"), (at + 2) * 4 * PAGE)));
        let mut slots: [Option<(Guest<()>, usize, usize)>; 4] = [const { None }; 4];
        for step in steps {
            match step {
                Step::Load { slot, guest } => {
                    let wasm = guests(MODELLED[guest]);
                    slots[slot] = None;
                    let made = Guest::new(&host.budgets, ids[slot], settings().region(3 * PAGE), ());
                    slots[slot] = made.ok().and_then(|mut made| {
                        made.load(&wasm).ok()?;
                        let bytes = made.bytes();
                        Some((made, bytes.linear, bytes.regions))
                    });
                }
                Step::Unload { slot } => slots[slot] = None,
                Step::Grow { slot, pages } => {
                    if let Some((guest, linear, regions)) = &mut slots[slot] {
                        let name = if guest.instance().unwrap().get_func(guest.context(), "grow").is_some() { "grow" } else { "grow1" };
                        if let Ok(before) = guest.call::<i32, i32>(name, pages)
                            && before != -1
                        {
                            *linear += pages as usize * PAGE;
                            prop_assert!(*linear <= *regions);
                        }
                    }
                }
                Step::Fail { slot } => {
                    if let Some((guest, linear, regions)) = &mut slots[slot] {
                        let failed = guest.load(&guests("failed_start"));
                        prop_assert!(failed.is_err());
                        // Its memory of four pages stays until the guest goes, if it came that far.
                        if failed.unwrap_err().trap().is_some() {
                            *linear += 4 * PAGE;
                            *regions = guest.bytes().regions;
                        }
                    }
                }
            }
            for (at, slot) in slots.iter().enumerate() {
                let used = host.used(ids[at]);
                let Some((guest, linear, regions)) = slot else {
                    prop_assert_eq!(used, 0);
                    continue;
                };
                let bytes = guest.bytes();
                prop_assert_eq!((bytes.linear, bytes.regions), (*linear, *regions));
                let headers = used - bytes.regions - bytes.overhead - bytes.tables;
                prop_assert!(headers <= 32 * 8, "{} bytes that nothing accounts for", headers);
                prop_assert!(bytes.live.unwrap() <= bytes.overhead + bytes.tables);
                prop_assert!(used <= host.manager.node(ids[at]).unwrap().limit);
            }
        }
        drop(slots);
        prop_assert_eq!(host.room(), all);
        prop_assert_eq!(host.manager.pool().used, 0);
    }
}
