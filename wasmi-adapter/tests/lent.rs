//! The bytes that wasmi is lent: used by wasmi, by the host and by the next guest in turn, and never by one when they are
//! another's. Few enough that Miri can watch each: memories have pages of one byte.

mod common;

use common::{Host, wat};
use wasmi::{AsContext, AsContextMut};
use wrt_memory_wasmi::{Guest, GuestSettings};

/// Two memories that grow, one of which has data.
const GUEST: &str = r#"(module
    (import "host" "look" (func $look))
    (memory $a (export "a") 48 96 (pagesize 1)) (memory $b (export "b") 8 24 (pagesize 1))
    (data (memory $a) (i32.const 40) "as it wa")
    (func (export "run") (param $with i32) (result i32)
      (memory.fill $b (i32.const 0) (local.get $with) (memory.size $b))
      (drop (memory.grow $a (i32.const 16)))
      (drop (memory.grow $b (i32.const 16)))
      (call $look)
      (i32.store8 $a (i32.sub (memory.size $a) (i32.const 1)) (local.get $with))
      (i32.add (i32.mul (i32.const 1000) (memory.size $a)) (memory.size $b))))"#;

fn settings() -> GuestSettings {
    GuestSettings::new().stack(1000, 8)
}

fn guest(host: &Host, id: wrt_memory::CrateId, settings: GuestSettings) -> Guest<Vec<u8>> {
    let mut guest = Guest::new(&host.budgets, id, settings, Vec::new()).unwrap();
    link(&mut guest);
    guest
}

/// A host function that reads and writes what the guest has, as it has it at that moment.
fn link(guest: &mut Guest<Vec<u8>>) {
    let look = |mut caller: wasmi::Caller<'_, wrt_memory_wasmi::Hosted<Vec<u8>>>| {
        let memory = caller.get_export("b").and_then(wasmi::Extern::into_memory).expect("it exports `b`");
        let seen = memory.data(caller.as_context()).to_vec();
        memory.data_mut(caller.as_context_mut()).reverse();
        caller.data_mut().extend(seen);
    };
    let defined =
        guest.link(|linker, _| linker.func_wrap("host", "look", look).map(drop).map_err(Into::into));
    defined.unwrap();
}

/// Runs a fresh guest: it sees its data and zeros, whatever was where its memories are.
fn live(guest: &mut Guest<Vec<u8>>, with: i32) {
    let bytes = |guest: &Guest<Vec<u8>>, name: &str| {
        let memory = guest.instance().unwrap().get_memory(guest.context(), name).unwrap();
        memory.data(guest.context()).to_vec()
    };
    let mut fresh = vec![0; 48];
    fresh[40..].copy_from_slice(b"as it wa");
    assert_eq!((bytes(guest, "a"), bytes(guest, "b")), (fresh.clone(), vec![0; 8]));
    assert_eq!(guest.call::<i32, i32>("run", with).unwrap(), 64_024);
    let mut seen = vec![with as u8; 8];
    seen.resize(24, 0);
    assert_eq!(guest.data(), &seen);
    seen.reverse();
    assert_eq!(bytes(guest, "b"), seen);
    fresh.resize(64, 0);
    fresh[63] = with as u8;
    assert_eq!(bytes(guest, "a"), fresh);
}

#[test]
fn guests_after_and_beside_each_other_have_bytes_of_their_own() {
    let host = Host::new(1 << 20);
    let wasm = wat(GUEST);
    let id = host.register("guest", 1 << 20);
    let mut beside = guest(&host, id, settings().region(256));
    beside.load(&wasm).unwrap();
    for with in [1, 2] {
        let mut guest = guest(&host, id, settings().region(256));
        guest.load(&wasm).unwrap();
        live(&mut guest, with);
    }
    live(&mut beside, 3);
    drop(beside);
    assert_eq!(host.used(id), 0);
}

#[test]
fn a_renewed_guest_has_nothing_of_the_former_and_the_former_nothing_of_it() {
    let host = Host::new(1 << 20);
    let wasm = wat(GUEST);
    let id = host.register("guest", 1 << 20);
    let mut guest = guest(&host, id, settings().region(256).renewable());
    guest.load(&wasm).unwrap();
    for with in [1, 2] {
        live(&mut guest, with);
        assert_eq!(guest.renew(Vec::new()).unwrap().len(), 24);
        link(&mut guest);
        guest.load_again().unwrap();
    }
    drop(guest);
    assert_eq!(host.used(id), 0);
}

#[test]
fn memories_in_room_set_aside_are_the_guests_until_it_goes() {
    let host = Host::new(1 << 20);
    let wasm = wat(GUEST);
    let id = host.register("guest", 1 << 20);
    let reserve = host.budgets.reserve(id, &[96, 24], &[]).unwrap();
    for with in [1, 2] {
        let mut guest = guest(&host, id, settings().reserve(&reserve));
        guest.load(&wasm).unwrap();
        assert_eq!(reserve.free(), 0);
        live(&mut guest, with);
        drop(guest);
        assert_eq!(reserve.free(), 2);
    }
    drop(reserve);
    assert_eq!(host.used(id), 0);
}
