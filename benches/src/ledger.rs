//! What the ledger is measured beside: one repetition each.

use std::sync::atomic::Ordering;

use portable_atomic::AtomicU128;
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};

/// Bytes of each charge.
pub const BYTES: usize = 4096;

/// On a line of its own.
#[repr(align(128))]
#[derive(Default)]
pub struct Line<T>(pub T);

/// A manager with so many crates registered, and two of them.
pub fn manager(crates: usize) -> (UnifiedMemoryManager, [CrateId; 2]) {
    let manager = UnifiedMemoryManager::builder().total(64 << 30).build().expect("a manager");
    for number in 2..crates {
        let name = format!("crate-{number}");
        manager.register(&name, CrateSettings::new().limit(1 << 20)).expect("a crate");
    }
    let two = ["one", "two"]
        .map(|name| manager.register(name, CrateSettings::new().limit(1 << 20)).expect("a crate"));
    (manager, two)
}

/// A bare compare-and-swap pair of the width of the ledger's word.
#[inline]
pub fn pair(word: &AtomicU128) {
    compare_and_swap(word, |old| old + BYTES as u128);
    compare_and_swap(word, |old| old - BYTES as u128);
}

fn compare_and_swap(word: &AtomicU128, change: impl Fn(u128) -> u128) {
    let mut old = word.load(Ordering::Relaxed);
    while let Err(now) = word.compare_exchange_weak(old, change(old), Ordering::AcqRel, Ordering::Relaxed) {
        old = now;
    }
}

/// Some 250 instructions, where a charge and what gives it back are some 310; four of them can always be done at once, and none touches
/// memory: it shows what processors share besides memory.
#[inline]
pub fn registers(seed: u64) -> u64 {
    let [mut a, mut b, mut c, mut d] = [seed, !seed, seed ^ 5, seed ^ 9];
    for round in 0..24 {
        a = a.rotate_left(7).wrapping_add(round);
        b = (b ^ b >> 3).wrapping_sub(round);
        c = c.wrapping_add(c << 2) ^ round;
        d = !d.rotate_right(11) ^ seed;
    }
    a ^ b ^ c ^ d
}
