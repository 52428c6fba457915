//! One of the ledger's hot operations, so many times: `wrt-memory-instructions OPERATION TIMES`.
//!
//! `cargo xtask instructions` runs it under callgrind with two numbers of times; the difference is
//! what the operation itself takes, whatever comes before and after.

use std::hint::black_box;
use std::process::ExitCode;

use wrt_memory::VerificationLevel::{Basic, Full, Off, Standard};
use wrt_memory::provider::{HeapProvider, ProviderSelector};
use wrt_memory::{CrateHandle, CrateId, CrateSettings, UnifiedMemoryManager, VerificationLevel};

/// Bytes of each charge.
const BYTES: usize = 4096;

/// Charges that are made, however many of them are looked at.
const MOST: usize = 4096;

type Operation = fn(&UnifiedMemoryManager, CrateId, usize) -> wrt_memory::Result<()>;

/// Each with what the crate keeps in stock, at which level, and beside how many other crates.
const OPERATIONS: &[(&str, usize, VerificationLevel, usize, Operation)] = &[
    ("charge", MOST * BYTES, Off, 0, charge),
    ("uncharge", MOST * BYTES, Off, 0, uncharge),
    ("refused-by-limit", 0, Off, 0, refused_by_limit),
    ("refused-by-pool", 0, Off, 0, refused_by_pool),
    ("refill", 0, Off, 0, refill),
    ("give-back-to-pool", 0, Off, 0, uncharge),
    ("allocate-and-free-4096", MOST * BYTES, Off, 0, allocate_and_free),
    ("take-and-keep-4096", MOST * BYTES, Off, 0, take_and_keep),
    ("register-and-retire", 0, Off, 0, register_and_retire),
    // What the levels cost.
    ("charge-and-uncharge-at-off", MOST * BYTES, Off, 0, charge_and_uncharge),
    ("charge-and-uncharge-at-full", MOST * BYTES, Full, 0, charge_and_uncharge),
    ("allocate-and-free-4096-at-basic", MOST * BYTES, Basic, 0, allocate_and_free),
    ("allocate-and-free-4096-at-standard", MOST * BYTES, Standard, 0, allocate_and_free),
    ("allocate-and-free-4096-at-full", MOST * BYTES, Full, 0, allocate_and_free),
    ("allocate-and-free-4096-at-full-among-100", MOST * BYTES, Full, 99, allocate_and_free),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (name, times) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok()));
    let (Some(name), Some(times)) = (name, times) else {
        for (name, ..) in OPERATIONS {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let Some((_, stock, level, others, operation)) = OPERATIONS.iter().find(|operation| operation.0 == name)
    else {
        eprintln!("no operation `{name}`");
        return ExitCode::FAILURE;
    };
    match run(*stock, *level, *others, *operation, times) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    stock: usize,
    level: VerificationLevel,
    others: usize,
    operation: Operation,
    times: usize,
) -> wrt_memory::Result<()> {
    assert!(times <= MOST, "at most {MOST} times");
    // From a region of its own: what the C library's heap takes is not ours to count. And from nothing else: valgrind
    // does not let the mapped pages' library look at the machine.
    let region = Vec::leak(vec![0; 1 << 20]);
    let manager = UnifiedMemoryManager::builder()
        .total(1 << 28)
        .stock(stock)
        .providers(ProviderSelector::new())
        .region(region)
        .verification(level)
        .build()?;
    for _ in 0..others {
        manager.register("other", CrateSettings::new())?;
    }
    let id = manager.register("counted", CrateSettings::new().limit(1 << 27))?;
    // Everything is there that the first of its kind makes.
    drop(manager.charge(id, MOST * BYTES, MOST * BYTES)?);
    operation(&manager, id, times)
}

fn charge(manager: &UnifiedMemoryManager, id: CrateId, times: usize) -> wrt_memory::Result<()> {
    for _ in 0..times {
        std::mem::forget(black_box(manager.charge(id, BYTES, BYTES)?));
    }
    Ok(())
}

fn charge_and_uncharge(manager: &UnifiedMemoryManager, id: CrateId, times: usize) -> wrt_memory::Result<()> {
    for _ in 0..times {
        drop(black_box(manager.charge(id, BYTES, BYTES)?));
    }
    Ok(())
}

fn refill(manager: &UnifiedMemoryManager, id: CrateId, times: usize) -> wrt_memory::Result<()> {
    charge(manager, id, times)
}

fn uncharge(manager: &UnifiedMemoryManager, id: CrateId, times: usize) -> wrt_memory::Result<()> {
    let mut charges = Vec::with_capacity(MOST);
    for _ in 0..MOST {
        charges.push(manager.charge(id, BYTES, BYTES)?);
    }
    for _ in 0..times {
        drop(black_box(charges.pop()));
    }
    std::mem::forget(charges);
    Ok(())
}

fn refused_by_limit(manager: &UnifiedMemoryManager, id: CrateId, times: usize) -> wrt_memory::Result<()> {
    for _ in 0..times {
        assert!(black_box(manager.charge(id, 1 << 28, 1 << 28)).is_err(), "it is above the limit");
    }
    Ok(())
}

fn refused_by_pool(manager: &UnifiedMemoryManager, id: CrateId, times: usize) -> wrt_memory::Result<()> {
    let hog = manager.register("hog", CrateSettings::new())?;
    let all = manager.charge(hog, 1 << 28, 1 << 28)?;
    for _ in 0..times {
        assert!(black_box(manager.charge(id, BYTES, BYTES)).is_err(), "the pool is empty");
    }
    drop(all);
    Ok(())
}

fn allocate_and_free(manager: &UnifiedMemoryManager, id: CrateId, times: usize) -> wrt_memory::Result<()> {
    let handle = CrateHandle::new(manager, id)?;
    for _ in 0..times {
        drop(black_box(handle.memory::<4096>()?));
    }
    Ok(())
}

/// Of another manager, whose blocks are the heap's: of those the first is allocated, which is the same for any number of
/// times, and the others are the first again.
fn take_and_keep(_: &UnifiedMemoryManager, _: CrateId, times: usize) -> wrt_memory::Result<()> {
    let heap = ProviderSelector::new().with_heap(HeapProvider::new());
    let manager = UnifiedMemoryManager::builder().total(1 << 28).providers(heap).build()?;
    let id = manager.register("counted", CrateSettings::new())?;
    allocate_and_free(&manager, id, times)
}

fn register_and_retire(manager: &UnifiedMemoryManager, _: CrateId, times: usize) -> wrt_memory::Result<()> {
    for _ in 0..times {
        let id = manager.register("one more", CrateSettings::new().limit(1 << 20))?;
        manager.retire(black_box(id))?;
    }
    Ok(())
}
