//! What the ledger is measured beside: one repetition each.

use std::sync::atomic::{AtomicU32, Ordering};

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

/// Some 250 instructions, about as many as a charge and what gives it back have; four of them can always be done at once, and none touches
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

/// The least a ledger can be that says no where it must: a word of used, held and limit, whose it is, and what else may need
/// to be told. No tree, no stock that others can sweep, no way on where it refuses. What a charge takes beyond that is ours.
#[repr(C, align(128))]
pub struct Least {
    /// `used | held | flags` and `floor | limit | version`, as in the ledger's word.
    word: AtomicU128,
    generation: AtomicU32,
    high_water: AtomicU32,
    mark: AtomicU32,
    due: AtomicU32,
}

/// What is charged to a [`Least`].
pub struct LeastCharge<'l> {
    ledger: &'l Least,
    /// Bytes.
    bytes: u32,
}

impl Default for Least {
    fn default() -> Self {
        let fields = |low: u64, high: u64| u128::from(low << 31 | low) | u128::from(high << 31) << 64;
        let word = fields(1 << 20, 1 << 20) - (1 << 20);
        Self {
            word: AtomicU128::new(word),
            generation: AtomicU32::new(0),
            high_water: AtomicU32::new(0),
            mark: AtomicU32::new(u32::MAX),
            due: AtomicU32::new(0),
        }
    }
}

impl Least {
    /// Charges so many bytes for the owner of a generation, within the limit.
    #[inline]
    pub fn charge(&self, generation: u32, bytes: u32) -> Option<LeastCharge<'_>> {
        if self.generation.load(Ordering::SeqCst) != generation {
            return None;
        }
        let used = self.change(|[used, held, limit, flags]| {
            let used = used + bytes;
            (used <= held && used <= limit && flags == 0).then_some((used, u128::from(bytes)))
        })?;
        if self.high_water.load(Ordering::Relaxed) < used {
            self.high_water.fetch_max(used, Ordering::Relaxed);
        }
        let is_ours = self.generation.load(Ordering::SeqCst) == generation;
        (is_ours && used < self.mark.load(Ordering::SeqCst)).then_some(LeastCharge { ledger: self, bytes })
    }

    /// One swap; returns the use afterwards.
    #[inline]
    fn change(&self, next: impl Fn([u32; 4]) -> Option<(u32, u128)>) -> Option<u32> {
        const FIELD: u64 = (1 << 31) - 1;
        let mut found = self.word.load(Ordering::SeqCst);
        loop {
            let (low, high) = (found as u64, (found >> 64) as u64);
            let fields = [low & FIELD, low >> 31 & FIELD, high >> 31 & FIELD, low >> 62];
            let (used, add) = next(fields.map(|field| field as u32))?;
            let word = found.wrapping_add(add);
            match self.word.compare_exchange_weak(found, word, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(used),
                Err(now) => found = now,
            }
        }
    }
}

impl Drop for LeastCharge<'_> {
    #[inline]
    fn drop(&mut self) {
        let Self { ledger, bytes } = *self;
        let back =
            ledger.change(|[used, ..]| Some((used.checked_sub(bytes)?, u128::from(bytes).wrapping_neg())));
        if back.is_none() || ledger.due.load(Ordering::SeqCst) != 0 {
            unreachable!("it gives back what it took, and nobody waits");
        }
    }
}
