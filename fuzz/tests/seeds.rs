//! The seeds that were kept, on every run of the tests.

use std::path::Path;

use wrt_memory_fuzz::TARGETS;

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    target.replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds"));
}

#[test]
fn ledger() {
    replay("ledger");
}

#[test]
fn region() {
    replay("region");
}

#[test]
fn slots() {
    replay("slots");
}
