//! The seeds that were kept, on every run of the tests.

use std::path::Path;

use wrt_memory_fuzz_guests::TARGETS;

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    target.replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds"));
}

#[test]
fn wasmtime() {
    replay("wasmtime");
}

#[test]
fn wasmi() {
    replay("wasmi");
}

#[test]
fn isolation() {
    replay("isolation");
}
