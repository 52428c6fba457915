//! A guest that is renewed is as one that was made anew: nothing of the former is seen, and nothing is left behind.

use wrt_memory::CrateSettings;
use wrt_memory_wasmi::{Error, Guest, GuestSettings};

mod common;

use common::{Host, PAGE, wat};

/// A memory, a table, a global and data, each of which a call changes.
const COUNTER: &str = r#"(module
    (memory (export "memory") 1 3) (data (i32.const 8) "as it was")
    (table 2 8 funcref) (global $calls (mut i32) (i32.const 0))
    (func (export "run") (result i32)
      (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536))
      (drop (memory.grow (i32.const 1)))
      (drop (table.grow (ref.null func) (i32.const 1)))
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (i32.add (i32.mul (i32.const 100) (memory.size))
        (i32.add (i32.mul (i32.const 10) (table.size)) (global.get $calls)))))"#;

fn settings() -> GuestSettings {
    GuestSettings::new().stack(4096, 64).renewable()
}

fn bytes(guest: &Guest<u32>) -> Vec<u8> {
    let memory = guest.instance().unwrap().get_memory(guest.context(), "memory").unwrap();
    memory.data(guest.context()).to_vec()
}

#[test]
fn nothing_of_the_former_is_seen_and_a_thousand_leave_what_the_first_left() {
    let host = Host::new(8 * PAGE);
    let id = host.register("guest", 8 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings(), 0).unwrap();
    guest.load(&wat(COUNTER)).unwrap();
    let mut first = vec![0; PAGE];
    first[8..17].copy_from_slice(b"as it was");
    let mut renewed = None;
    for life in 1..=1000 {
        assert_eq!(bytes(&guest), first);
        assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 231);
        assert_eq!(bytes(&guest).len(), 2 * PAGE);
        assert_eq!(guest.renew(life).unwrap(), life - 1);
        let here = (guest.bytes(), host.used(id), host.room());
        assert_eq!((here.0.linear, here.0.regions, here.0.tables), (0, 0, 0));
        assert!(here.0.overhead - here.0.live.unwrap() < 64, "what is charged is what was counted: {here:?}");
        assert_eq!(*renewed.get_or_insert(here), here);
        guest.load_again().unwrap();
    }
    drop(guest);
    assert_eq!(host.used(id), 0);
}

#[test]
fn what_was_linked_is_to_be_linked_again() {
    let host = Host::new(8 * PAGE);
    let id = host.register("guest", 8 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings(), 0).unwrap();
    let link = |guest: &mut Guest<u32>| {
        guest.link(|linker, _| linker.func_wrap("host", "one", || 1i32).map(drop).map_err(Into::into))
    };
    let module = r#"(module (import "host" "one" (func (result i32))) (memory 1) (export "run" (func 0)))"#;
    link(&mut guest).unwrap();
    guest.load(&wat(module)).unwrap();
    guest.renew(1).unwrap();
    assert!(matches!(guest.load_again(), Err(Error::Wasmi(_))));
    guest.renew(2).unwrap();
    link(&mut guest).unwrap();
    guest.load_again().unwrap();
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 1);
}

#[test]
fn a_module_is_loaded_again_only_after_renewing_and_only_if_it_was_kept() {
    let host = Host::new(16 * PAGE);
    let id = host.register("guest", 16 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings().region(2 * PAGE), 0).unwrap();
    assert!(matches!(guest.load_again(), Err(Error::NothingKept)));
    guest.load(&wat(COUNTER)).unwrap();
    assert!(matches!(guest.load_again(), Err(Error::NothingKept)));
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 231, "and the guest is as it was");
    guest.renew(1).unwrap();
    assert!(matches!(guest.call::<(), i32>("run", ()), Err(Error::NoSuchFunction { .. })));
    guest.load_again().unwrap();

    let plain = GuestSettings::new().stack(4096, 64).region(2 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, plain, 0).unwrap();
    guest.load(&wat(COUNTER)).unwrap();
    guest.renew(1).unwrap();
    assert!(matches!(guest.load_again(), Err(Error::NothingKept)));
    guest.load(&wat(COUNTER)).unwrap();
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 231);
}

/// A module that came second has memories of higher numbers; it is loaded again without the first.
#[test]
fn the_module_that_was_loaded_last_is_loaded_again_even_where_it_was_not_the_first() {
    let host = Host::new(16 * PAGE);
    let id = host.register("guest", 16 * PAGE);
    let mut guest = Guest::new(&host.budgets, id, settings().region(2 * PAGE), 0).unwrap();
    guest.load(&wat("(module (memory 1) (memory 1))")).unwrap();
    guest.load(&wat(COUNTER)).unwrap();
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 231);
    guest.renew(1).unwrap();
    guest.load_again().unwrap();
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 231);
    assert_eq!(guest.bytes().linear, 2 * PAGE);
}

#[test]
fn without_the_bytes_the_former_stays_or_the_module_is_kept_for_later() {
    let host = Host::new(16 * PAGE);
    let id = host.manager.register("guest", CrateSettings::new().limit(8 * PAGE)).unwrap();
    let mut guest = Guest::new(&host.budgets, id, settings(), 0).unwrap();
    guest.load(&wat(COUNTER)).unwrap();
    let charge = host.budgets.handle(id).unwrap();
    let free = || 8 * PAGE - host.used(id);
    let all = charge.charge(free(), free()).unwrap();
    assert!(matches!(guest.renew(1), Err(Error::Memory { .. })));
    assert_eq!((guest.call::<(), i32>("run", ()).unwrap(), *guest.data()), (231, 0), "it is as it was");
    drop(all);
    guest.renew(2).unwrap();
    let most = charge.charge(free() - 256, free() - 256).unwrap();
    assert!(matches!(guest.load_again(), Err(Error::Memory { .. })));
    drop(most);
    guest.load_again().unwrap();
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 231);
}

#[test]
fn a_guest_whose_host_overdrew_its_budget_runs_again_once_it_is_renewed() {
    let host = Host::new(64 * PAGE);
    let id = host.register("guest", 2 * PAGE);
    let settings = settings().region(0);
    let mut guest = Guest::new(&host.budgets, id, settings, Vec::<u8>::new()).unwrap();
    guest.load(&wat("(module (func (export \"run\")))")).unwrap();
    let overdrawn = guest.run(|mut context| context.data_mut().resize(8 * PAGE, 1));
    assert!(matches!(overdrawn, Err(Error::Overdrawn { .. })));
    assert!(matches!(guest.load_again(), Err(Error::Overdrawn { .. })));
    // The bytes are there until the data is dropped.
    match guest.renew(Vec::new()) {
        Err(Error::Overdrawn { .. }) => drop(guest.renew(Vec::new()).unwrap()),
        other => drop(other.unwrap()),
    }
    guest.load_again().unwrap();
    guest.call::<(), ()>("run", ()).unwrap();
}
