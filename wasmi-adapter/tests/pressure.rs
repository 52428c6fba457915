//! Guests that ask for the level of pressure, and guests that are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use wrt_memory_wasmi::{Error, Guest, GuestSettings};

mod common;

use common::{Host, PAGE, wat};

fn guest(host: &Host, settings: GuestSettings, data: Option<u8>) -> Guest<Option<u8>> {
    let id = host.register("guest", 4 * PAGE);
    Guest::new(&host.budgets, id, settings.stack(4096, 64), data).unwrap()
}

fn loaded(host: &Host, text: &str) -> Guest<Option<u8>> {
    let mut guest = guest(host, GuestSettings::new(), None);
    guest.load(&wat(text)).unwrap();
    guest
}

#[test]
fn a_guest_that_asks_gets_the_level_the_host_says_and_0_where_there_is_none() {
    let host = Host::new(8 * PAGE);
    let mut guest = guest(&host, GuestSettings::new(), Some(90));
    let of_all = Arc::new(AtomicU8::new(7));
    let seen = of_all.clone();
    guest.link_pressure(move |own| own.map(|own| own + seen.load(Ordering::Relaxed))).unwrap();
    guest
        .load(&wat(r#"(module (import "wrt_memory" "pressure" (func $level (result i32)))
            (func (export "run") (result i32) (call $level)))"#))
        .unwrap();
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 97);
    of_all.store(8, Ordering::Relaxed);
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 98);
    *guest.data_mut() = None;
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 0);
    assert!(matches!(guest.link_pressure(|_| None), Err(Error::Wasmi(_))), "it is there already");
}

#[test]
fn a_guest_is_told_the_level_and_one_without_a_hook_is_left_alone() {
    let host = Host::new(8 * PAGE);
    let mut told = loaded(
        &host,
        r#"(module (global $last (mut i32) (i32.const 0))
            (func (export "wrt_memory_pressure") (param i32) (result i32)
              (global.set $last (local.get 0)) (i32.const 4096))
            (func (export "last") (result i32) (global.get $last)))"#,
    );
    assert_eq!(told.call_pressure_hook(90).unwrap(), Some(4096));
    assert_eq!(told.call::<(), i32>("last", ()).unwrap(), 90);
    assert_eq!(loaded(&host, "(module)").call_pressure_hook(90).unwrap(), None);
    assert_eq!(guest(&host, GuestSettings::new(), None).call_pressure_hook(90).unwrap(), None);
}

#[test]
fn an_export_that_is_something_else_is_said_to_be_that() {
    let host = Host::new(8 * PAGE);
    for (text, is) in [
        (r#"(module (func (export "wrt_memory_pressure")))"#, "a function of another type"),
        (r#"(module (memory (export "wrt_memory_pressure") 0))"#, "a memory"),
        (r#"(module (table (export "wrt_memory_pressure") 0 funcref))"#, "a table"),
        (r#"(module (global (export "wrt_memory_pressure") i32 (i32.const 0)))"#, "a global"),
    ] {
        let error = loaded(&host, text).call_pressure_hook(90).unwrap_err();
        assert!(matches!(error, Error::PressureHook { found } if found == is), "{error}");
    }
}

#[test]
fn a_hook_that_traps_or_never_returns_ends_and_the_guest_goes_on() {
    let host = Host::new(8 * PAGE);
    let mut guest = guest(&host, GuestSettings::new().fuel(100_000), None);
    guest
        .load(&wat(r#"(module
            (func (export "wrt_memory_pressure") (param i32) (result i32)
              (if (i32.eq (local.get 0) (i32.const 100)) (then (loop (br 0))))
              (unreachable))
            (func (export "run") (result i32) (i32.const 3)))"#))
        .unwrap();
    assert!(guest.call_pressure_hook(90).unwrap_err().trap().is_some());
    assert_eq!(guest.call::<(), i32>("run", ()).unwrap(), 3);
    assert_eq!(guest.call_pressure_hook(100).unwrap_err().trap(), Some(wasmi::TrapCode::OutOfFuel));
}
