//! Each check finds what it is for: every fault is planted, by a provider that lies, by a budget that does, by somebody
//! who writes where nothing is his. `docs/verification.md` says which test shows what.

use std::sync::atomic::{AtomicUsize, Ordering as Std};
use std::sync::{Arc, Mutex};

use allocator_api2::alloc::Allocator;
use core::alloc::Layout;

use super::*;
use crate::budget::{CrateId, State, Units};
use crate::provider::{
    Block, HeapProvider, MappedProvider, Provider, ProviderError, ProviderInfo, ProviderKind,
    ProviderSelector, Request,
};
use crate::sync::Ordering;
use crate::{CrateHandle, CrateSettings, MemoryError, UnifiedMemoryManager};

mod concurrent;
mod docs;
#[cfg(feature = "formal-verification")]
mod followed;
mod ledger;

use VerificationLevel::{Basic, Full, Off, Standard};

/// A provider in the place of another, that changes what it hands out.
struct Liar<P> {
    honest: P,
    lie: fn(&mut Block),
    kind: ProviderKind,
}

// SAFETY: it keeps to none of the contract that its lie breaks; each test checks that nobody gets the block.
unsafe impl<P: Provider> Provider for Liar<P> {
    fn describe(&self) -> ProviderInfo {
        ProviderInfo { kind: self.kind, ..self.honest.describe() }
    }

    fn cost(&self, request: &Request) -> Result<usize, ProviderError> {
        self.honest.cost(request)
    }

    fn allocate(&self, request: &Request) -> Result<Block, ProviderError> {
        let mut block = self.honest.allocate(request)?;
        (self.lie)(&mut block);
        Ok(block)
    }

    fn grown_cost(&self, block: &Block, size: usize) -> Result<usize, ProviderError> {
        self.honest.grown_cost(block, size)
    }

    unsafe fn grow(&self, block: &mut Block, size: usize) -> Result<(), ProviderError> {
        // SAFETY: the caller's promise.
        unsafe { self.honest.grow(block, size) }?;
        (self.lie)(block);
        Ok(())
    }

    /// What it made of the block is not known: it is lost.
    unsafe fn free(&self, _: Block) {}
}

fn manager(level: VerificationLevel, providers: ProviderSelector) -> (UnifiedMemoryManager, CrateId) {
    let manager = UnifiedMemoryManager::builder()
        .total(1 << 24)
        .stock(0)
        .providers(providers)
        .verification(level)
        .build()
        .unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    (manager, id)
}

fn heap(level: VerificationLevel) -> (UnifiedMemoryManager, CrateId) {
    manager(level, ProviderSelector::new().with_heap(HeapProvider::new()))
}

fn liar(
    level: VerificationLevel,
    kind: ProviderKind,
    lie: fn(&mut Block),
) -> (UnifiedMemoryManager, CrateId) {
    let providers = match kind {
        ProviderKind::Mapped => {
            ProviderSelector::new().with_stand_in(kind, Liar { honest: MappedProvider::new(), lie, kind })
        }
        _ => ProviderSelector::new().with_stand_in(kind, Liar { honest: HeapProvider::new(), lie, kind }),
    };
    manager(level, providers)
}

/// The check that failed, of a manager where just one did; its crate is closed.
#[track_caller]
fn found(manager: &UnifiedMemoryManager, id: CrateId) -> &'static str {
    let last = manager.verification().last_violation().expect("a check failed");
    assert_eq!(manager.verification().violations(), 1, "{last}");
    assert!(manager.node(id).unwrap().closed, "it was not closed");
    assert!(matches!(manager.charge(id, 1, 1), Err(MemoryError::CrateClosed { .. })));
    last.invariant.name()
}

/// That an allocation fails, and which check found it. The check at the level below does not.
#[track_caller]
fn refused(
    level: VerificationLevel,
    below: VerificationLevel,
    kind: ProviderKind,
    lie: fn(&mut Block),
) -> &'static str {
    let (manager, id) = liar(below, kind, lie);
    // It is not touched, and given back to nobody.
    core::mem::forget(manager.allocate(id, 100).expect("nothing is checked that would find it"));
    let (manager, id) = liar(level, kind, lie);
    let refused = manager.allocate(id, 100).map(core::mem::forget).unwrap_err();
    let MemoryError::Violation(violation) = refused else { panic!("{refused}") };
    assert_eq!((violation.id, violation.name.as_str()), (id, "guest"));
    assert_eq!(manager.node(id).unwrap().used, 0, "its bytes came back");
    assert_eq!(found(&manager, id), violation.invariant.name());
    violation.invariant.name()
}

#[test]
fn levels_are_totally_ordered() {
    assert!(Off < Basic && Basic < Standard && Standard < Full);
    assert_eq!(VerificationLevel::default(), Off);
}

#[test]
fn a_block_of_another_size_than_asked_is_found() {
    assert_eq!(refused(Basic, Off, ProviderKind::Mapped, |block| block.size -= 1), "block-size");
}

#[test]
fn a_block_that_costs_less_than_its_size_is_found() {
    assert_eq!(refused(Basic, Off, ProviderKind::Mapped, |block| block.cost = block.size - 1), "block-cost");
}

#[test]
fn a_block_that_reserves_less_than_its_size_is_found() {
    assert_eq!(
        refused(Basic, Off, ProviderKind::Mapped, |block| block.reserved = block.size - 1),
        "block-reserve"
    );
}

#[test]
fn a_misaligned_block_is_found() {
    let lie: fn(&mut Block) = |block| {
        // SAFETY: within the page.
        block.ptr = unsafe { block.ptr.add(8) };
    };
    assert_eq!(refused(Basic, Off, ProviderKind::Mapped, lie), "block-alignment");
}

#[test]
fn a_block_nobody_is_charged_for_is_found() {
    assert_eq!(refused(Basic, Off, ProviderKind::Mapped, |block| block.cost = 8192), "block-charge");
}

#[test]
fn a_block_that_ends_past_all_addresses_is_found() {
    let lie: fn(&mut Block) = |block| block.reserved = usize::MAX;
    assert_eq!(refused(Basic, Off, ProviderKind::Mapped, lie), "block-bounds");
}

#[test]
fn a_block_outside_of_its_region_is_found() {
    let region = || crate::provider::StaticRegionProvider::new(vec![0; 4096].leak());
    let kind = ProviderKind::StaticRegion;
    let elsewhere = Liar { honest: HeapProvider::new(), lie: |_| {}, kind };
    let (manager, id) =
        manager(Basic, ProviderSelector::new().with_region(region()).with_stand_in(kind, elsewhere));
    assert!(matches!(manager.allocate(id, 100), Err(MemoryError::Violation(_))));
    assert_eq!(found(&manager, id), "block-bounds");
    // And those within it are not.
    for level in [Basic, Full] {
        let (manager, id) = super::tests::manager(level, ProviderSelector::new().with_region(region()));
        for align in [1, 16, 64, 256] {
            let request = Request { align, ..Request::new(100) };
            drop(manager.allocate_for(id, &request).unwrap());
        }
        assert_eq!(manager.verification().violations(), 0);
    }
}

#[test]
fn a_block_that_is_freed_twice_is_found_and_not_freed_twice() {
    let (manager, id) = heap(Basic);
    let handle = CrateHandle::new(&manager, id).unwrap();
    let layout = Layout::from_size_align(100, 8).unwrap();
    let block = Allocator::allocate(&handle, layout).unwrap().cast::<u8>();
    let other = Allocator::allocate(&handle, layout).unwrap().cast::<u8>();
    // SAFETY: from this handle, with this layout; the second time is what is tested, and frees nothing.
    unsafe {
        Allocator::deallocate(&handle, block, layout);
        assert_eq!(manager.node(id).unwrap().used, 112);
        Allocator::deallocate(&handle, block, layout);
    }
    assert_eq!(found(&manager, id), "double-free");
    assert_eq!(manager.node(id).unwrap().used, 112, "the other's bytes were given back");
    // SAFETY: as above.
    unsafe { Allocator::deallocate(&handle, other, layout) };
    assert_eq!(manager.verification().violations(), 1);
    manager.retire(id).unwrap();
}

#[test]
fn a_block_that_is_freed_for_another_crate_is_found() {
    let (manager, id) = heap(Basic);
    let other = manager.register("other", CrateSettings::new()).unwrap();
    let [handle, wrong] = [id, other].map(|id| CrateHandle::new(&manager, id).unwrap());
    let layout = Layout::from_size_align(100, 8).unwrap();
    let block = Allocator::allocate(&handle, layout).unwrap().cast::<u8>();
    // SAFETY: it frees nothing.
    unsafe { Allocator::deallocate(&wrong, block, layout) };
    assert_eq!(found(&manager, other), "double-free");
    assert_eq!(manager.node(id).unwrap().used, 112);
    // SAFETY: from this handle, with this layout.
    unsafe { Allocator::deallocate(&handle, block, layout) };
    assert_eq!(manager.node(id).unwrap().used, 0);
}

#[test]
fn a_budget_that_breaks_an_invariant_is_found() {
    let sound = State { used: units(112), held: units(112), ..State::open(units(1 << 20), 0) };
    let broken = [
        ("use-covers-charge", State { used: units(111), ..sound }),
        ("use-is-backed", State { held: units(111), ..sound }),
        ("floor-is-backed", State { floor: units(113), ..sound }),
        ("floor-is-backed", State { floor: units(50), limit: units(49), ..sound }),
    ];
    for (invariant, state) in broken {
        let (manager, id) = heap(Basic);
        let memory = manager.allocate(id, 100).unwrap();
        let budget = &manager.tracker.slot(id.index).budget;
        let before = budget.load();
        assert_eq!(before.used, units(112));
        manager.verification.growing(&manager, id, || memory.handed()).unwrap();
        budget.reset(&State { version: before.version, ..state });
        let violation = manager.verification.growing(&manager, id, || memory.handed()).unwrap_err();
        assert_eq!(violation.invariant.name(), invariant);
        assert_eq!(found(&manager, id), invariant);
        budget.reset(&before);
    }
}

pub(super) fn units(raw: u32) -> Units {
    Units::new(raw).unwrap()
}

/// Writes one byte at an offset from a memory's first byte, where a canary is.
fn scratch(memory: &crate::RawMemory<'_>, at: isize) {
    // SAFETY: from level `Standard` on there are 16 bytes of the provider's block on either side.
    unsafe {
        let byte = memory.as_ptr().as_ptr().offset(at);
        byte.write(!byte.read());
    }
}

#[test]
fn a_write_past_either_end_of_a_block_is_found() {
    let region = || crate::provider::StaticRegionProvider::new(vec![0; 4096].leak());
    for of_region in [false, true] {
        for (at, invariant) in
            [(-1, "canary-before"), (-16, "canary-before"), (100, "canary-after"), (115, "canary-after")]
        {
            let providers = ProviderSelector::new();
            let providers = if of_region {
                providers.with_region(region())
            } else {
                providers.with_heap(HeapProvider::new())
            };
            let (manager, id) = manager(Standard, providers);
            let (kept, memory) = (manager.allocate(id, 100).unwrap(), manager.allocate(id, 100).unwrap());
            scratch(&memory, at);
            let refused = manager.deallocate(memory).unwrap_err();
            let MemoryError::Violation(violation) = refused else { panic!("{refused}") };
            assert_eq!(violation.invariant.name(), invariant);
            assert_eq!(found(&manager, id), invariant);
            // It was freed all the same; so can the rest be.
            drop(kept);
            assert_eq!(manager.node(id).unwrap().used, 0);
            manager.retire(id).unwrap();
        }
    }
}

#[test]
fn a_write_past_a_block_is_found_when_it_is_only_dropped_or_grows() {
    let (manager, id) = heap(Standard);
    let memory = manager.allocate(id, 100).unwrap();
    scratch(&memory, 100);
    drop(memory);
    assert_eq!(found(&manager, id), "canary-after");

    let region = crate::provider::StaticRegionProvider::new(vec![0; 4096].leak());
    let (manager, id) = super::tests::manager(Standard, ProviderSelector::new().with_region(region));
    let request = Request { reserve: 400, ..Request::new(100) };
    let mut memory = manager.allocate_for(id, &request).unwrap();
    scratch(&memory, -3);
    assert!(matches!(memory.grow(200), Err(MemoryError::Violation(_))));
    assert_eq!(found(&manager, id), "canary-before");
}

#[test]
fn canaries_follow_a_block_that_grows_and_its_bytes_are_zero_and_aligned() {
    let region = crate::provider::StaticRegionProvider::new(vec![0; 16384].leak());
    let (manager, id) = manager(Full, ProviderSelector::new().with_region(region));
    for align in [1, 16, 64, 512] {
        let mut memory =
            manager.allocate_for(id, &Request { size: 33, align, reserve: 700, guard: 0 }).unwrap();
        assert!(memory.reserved() >= 700);
        let mut size = 33;
        for next in [34, 47, 48, 64, 321, 700] {
            assert_eq!(memory.as_ptr().addr().get() % align, 0);
            memory.as_mut_slice().fill(0xff);
            memory.grow(next).unwrap();
            assert_eq!(memory.len(), next);
            assert!(memory.as_slice()[..size].iter().all(|&byte| byte == 0xff));
            assert!(memory.as_slice()[size..].iter().all(|&byte| byte == 0));
            size = next;
        }
        let most = memory.reserved();
        assert!(matches!(
            memory.grow(most + 1),
            Err(MemoryError::Provider { source: ProviderError::PastReserve { limit, .. }, .. }) if limit == most
        ));
        assert_eq!((memory.len(), memory.charge().requested()), (700, 700));
        scratch(&memory, 700);
        assert!(matches!(memory.grow(700), Ok(())), "nothing grew, nothing was looked at");
        scratch(&memory, 700);
        manager.deallocate(memory).unwrap();
    }
    assert_eq!(manager.verification().violations(), 0);
    assert_eq!(manager.node(id).unwrap().used, 0);
}

#[test]
fn canaries_are_overhead_of_the_block_and_are_charged() {
    for (level, cost) in [(Off, 112), (Basic, 112), (Standard, 144), (Full, 144)] {
        let (manager, id) = heap(level);
        assert_eq!(manager.cost(&Request::new(100)).unwrap(), cost, "{level:?}");
        let memory = manager.allocate(id, 100).unwrap();
        assert_eq!((memory.len(), memory.charge().bytes(), memory.charge().requested()), (100, cost, 100));
        let node = manager.node(id).unwrap();
        assert_eq!((node.used, node.requested), (cost, 100));
        // One that is aligned more has a front as long as its alignment.
        let aligned = Request { align: 64, ..Request::new(100) };
        let more = if level < Standard { 0 } else { 64 + 16 };
        assert_eq!(manager.cost(&aligned).unwrap(), (100 + more as usize).next_multiple_of(16));
        // A collection's blocks, and those of which the cost was asked before.
        let charge = manager.charge(id, 100, cost).unwrap();
        let charged = crate::RawMemory::allocate_charged(&Request::new(100), charge).unwrap();
        assert_eq!((charged.len(), charged.charge().bytes()), (100, cost));
        let mut list =
            CrateHandle::new(&manager, id).unwrap().collection::<crate::CrateVec<u8>>(100).unwrap();
        list.try_push(1).unwrap();
        assert_eq!(manager.node(id).unwrap().used, 3 * cost);
        drop((memory, charged, list));
        assert_eq!(manager.node(id).unwrap().used, 0);
        assert_eq!(manager.verification().violations(), 0);
    }
}

#[test]
fn mapped_memory_costs_the_same_at_every_level() {
    for level in [Off, Basic, Standard, Full] {
        let (manager, id) = manager(level, ProviderSelector::new().with_mapped(MappedProvider::new()));
        let memory = manager.allocate(id, 65536).unwrap();
        assert_eq!((memory.len(), memory.charge().bytes()), (65536, 65536));
    }
}

#[test]
fn a_block_that_overlaps_a_live_one_is_found_and_never_handed_out() {
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    let lie: fn(&mut Block) = |block| {
        let former = FIRST.swap(block.ptr.addr().get(), Std::SeqCst);
        if former != 0 {
            // The second half of the block before.
            block.ptr = block.ptr.map_addr(|_| core::num::NonZero::new(former + 2048).unwrap());
        }
    };
    for level in [Basic, Standard] {
        FIRST.store(0, Std::SeqCst);
        let (manager, id) = liar(level, ProviderKind::Mapped, lie);
        let first = manager.allocate(id, 4096).unwrap();
        let second = manager.allocate(id, 4096);
        if level == Basic {
            core::mem::forget(second.expect("not looked for"));
            continue;
        }
        assert!(matches!(second, Err(MemoryError::Violation(_))));
        assert_eq!(found(&manager, id), "overlap");
        assert_eq!(manager.node(id).unwrap().used, 4096);
        manager.deallocate(first).unwrap();
    }
}

fn dirty(block: &mut Block, at: usize) {
    // SAFETY: each test asks for more bytes than that, and nobody has the block yet.
    unsafe { block.ptr.add(at).write(5) };
}

#[test]
fn memory_that_is_not_zero_is_found() {
    for (kind, at) in [(ProviderKind::Heap, 16 + 79), (ProviderKind::Mapped, 99), (ProviderKind::Pooled, 0)] {
        // Which pages are there to be looked at, Miri's system does not say.
        if cfg!(miri) && kind != ProviderKind::Heap {
            continue;
        }
        let lie: fn(&mut Block) = match at {
            0 => |block| dirty(block, 0),
            99 => |block| dirty(block, 99),
            // Behind the canary that lies before the owner's bytes.
            _ => |block| dirty(block, 16 + 79),
        };
        assert_eq!(refused(Standard, Basic, kind, lie), "zero", "{kind}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "its system does not say which pages are there")]
fn memory_that_grew_and_is_not_zero_is_found() {
    let lie: fn(&mut Block) = |block| {
        if block.size > 4096 {
            dirty(block, block.size - 1);
        }
    };
    let (manager, id) = liar(Standard, ProviderKind::Mapped, lie);
    let mut memory = manager.allocate_for(id, &Request { reserve: 65536, ..Request::new(4096) }).unwrap();
    assert!(matches!(memory.grow(16384), Err(MemoryError::Violation(_))));
    assert_eq!(found(&manager, id), "zero");
}

#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "its system does not say which pages are there")]
fn looking_for_zeros_makes_no_page_resident() {
    let (manager, id) = manager(Full, ProviderSelector::new().with_mapped(MappedProvider::new()));
    manager.set_total(1 << 24).unwrap();
    let memory = manager.allocate(id, 8 << 20).unwrap();
    let start = memory.as_ptr().addr().get();
    let mut resident = 0;
    crate::provider::resident(start..start + memory.len(), &mut |pages| {
        resident += pages.len();
        true
    });
    assert_eq!(resident, 0);
    assert_eq!(manager.verification().violations(), 0);
}

#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "no memory files there")]
fn an_image_is_no_dirt_and_dirt_beside_it_is() {
    use crate::provider::{Image, PooledProvider};
    let image = Image::new(4096, &[5; 4096]).unwrap();
    let request = Request { guard: 4096, ..Request::new(65536) };
    for level in [Standard, Full] {
        let providers = ProviderSelector::new().with_pooled(PooledProvider::new());
        let (manager, id) = manager(level, providers);
        for _ in 0..3 {
            let charge = manager.charge(id, 65536, 65536).unwrap();
            let memory = crate::RawMemory::allocate_charged_with(&request, charge, &image).unwrap();
            assert_eq!(memory.as_slice()[4096], 5);
            drop(memory);
            drop(manager.allocate_for(id, &request).unwrap());
        }
        assert_eq!(manager.verification().violations(), 0);
    }
    // Without the image, what is where it would be is dirt.
    let lie: fn(&mut Block) = |block| dirty(block, 4096);
    let (manager, id) = liar(Standard, ProviderKind::Mapped, lie);
    assert!(manager.allocate(id, 65536).is_err());
    assert_eq!(found(&manager, id), "zero");
}

#[test]
#[cfg_attr(miri, ignore = "many operations, as those of the other tests")]
fn one_operation_in_so_many_is_looked_at() {
    let lie: fn(&mut Block) = |block| block.size -= 1;
    let kind = ProviderKind::Mapped;
    let providers =
        ProviderSelector::new().with_stand_in(kind, Liar { honest: MappedProvider::new(), lie, kind });
    let builder = UnifiedMemoryManager::builder().total(1 << 24).providers(providers).verification(Basic);
    let manager = builder.verification_sampling(4).build().unwrap();
    assert_eq!(manager.verification().sampling(), 4);
    let mut found = 0;
    for _ in 0..400 {
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        found += u32::from(manager.allocate(id, 100).map(core::mem::forget).is_err());
    }
    assert!((99..=101).contains(&found), "{found} of 400");
    assert_eq!(manager.verification().violations(), found);
}

/// Counts how often each step of a block's life is looked at.
struct Steps;

static SEEN: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

impl VerificationBackend for Steps {
    fn invariants(&self) -> &'static [Invariant] {
        static COUNT: &[Invariant] = &[Invariant::new("counted", "it is counted", Basic, |subject| {
            let step = match subject.block {
                Some(block) if block.request.is_some() => 0,
                Some(_) => 1,
                None => 2,
            };
            SEEN[step].fetch_add(1, Std::Relaxed);
            Ok(())
        })];
        COUNT
    }
}

#[test]
#[cfg_attr(miri, ignore = "many operations, as those of the other tests")]
fn no_step_of_a_program_that_repeats_itself_is_never_looked_at() {
    for one_in in [2, 3, 6, 10, 999] {
        let builder = UnifiedMemoryManager::builder().total(1 << 24).verification(Basic);
        let builder = builder.verification_sampling(one_in).verification_backend(Arc::new(Steps));
        let manager = builder.build().unwrap();
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        for _ in 0..100 * one_in {
            manager.deallocate(manager.allocate(id, 100).unwrap()).unwrap();
        }
        let seen = SEEN.each_ref().map(|seen| seen.swap(0, Std::Relaxed));
        assert!(seen.iter().all(|seen| (95..=105).contains(seen)), "one in {one_in}: {seen:?}");
    }
}

#[test]
fn what_is_freed_twice_is_found_however_few_operations_are_looked_at() {
    let builder = UnifiedMemoryManager::builder().total(1 << 24).verification(Basic);
    let manager = builder.verification_sampling(u32::MAX).build().unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    // This one is the first, which is looked at.
    drop(manager.allocate(id, 100).unwrap());
    let handle = CrateHandle::new(&manager, id).unwrap();
    let layout = Layout::from_size_align(100, 8).unwrap();
    let block = Allocator::allocate(&handle, layout).unwrap().cast::<u8>();
    // SAFETY: the second time is what is tested, and frees nothing.
    unsafe {
        Allocator::deallocate(&handle, block, layout);
        Allocator::deallocate(&handle, block, layout);
    }
    assert_eq!(found(&manager, id), "double-free");
}

#[test]
fn a_sampling_of_none_is_refused() {
    let builder = UnifiedMemoryManager::builder().total(1 << 24).verification(Basic).verification_sampling(0);
    let refused = builder.build().unwrap_err();
    assert!(refused.to_string().contains("1 or more"), "{refused}");
}

#[test]
fn off_checks_nothing() {
    let (manager, id) = liar(Off, ProviderKind::Mapped, |block| block.size -= 1);
    core::mem::forget(manager.allocate(id, 100).unwrap());
    manager.verify().unwrap();
    let engine = manager.verification();
    assert_eq!((engine.level(), engine.violations(), engine.last_violation()), (Off, 0, None));
}

/// Checks one thing of its own, and notes what it is told.
#[derive(Default)]
struct Plugged(Mutex<Vec<Violation>>);

static OF_ITS_OWN: &[Invariant] =
    &[Invariant::new("at-most-1000", "no crate uses more than 1000 bytes", Basic, |subject| {
        let used = subject.node().used;
        subject.expect(used <= 1000, used, 1000)
    })];

impl VerificationBackend for Plugged {
    fn invariants(&self) -> &'static [Invariant] {
        OF_ITS_OWN
    }

    fn violated(&self, violation: &Violation) {
        self.0.lock().unwrap().push(*violation);
    }
}

#[test]
fn a_backend_checks_what_it_holds_true_and_hears_of_each_violation_once() {
    let plugged = Arc::new(Plugged::default());
    let builder = UnifiedMemoryManager::builder().total(1 << 24).verification(Standard);
    let manager = builder.verification_backend(plugged.clone()).build().unwrap();
    let [id, other] = ["guest", "other"].map(|name| manager.register(name, CrateSettings::new()).unwrap());
    let kept = manager.allocate(id, 900).unwrap();
    assert!(matches!(manager.allocate(id, 101), Err(MemoryError::Violation(_))));
    let memory = manager.allocate(other, 100).unwrap();
    scratch(&memory, 100);
    drop(memory);
    drop(kept);
    let told = plugged.0.lock().unwrap();
    let told: Vec<_> = told.iter().map(|it| (it.id, it.invariant.name(), it.found)).collect();
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].0, told[0].1), (id, "at-most-1000"));
    assert_eq!((told[1].0, told[1].1), (other, "canary-after"));
    assert_eq!(manager.verification().violations(), 2);
    let message = manager.verification().last_violation().unwrap().to_string();
    assert!(
        message.starts_with("crate `other`: canary-after does not hold: what lies after a block"),
        "{message}"
    );
}

#[test]
fn a_closed_crate_is_charged_for_nothing_and_gives_all_back() {
    let (manager, id) = heap(Standard);
    let child = manager.register("child", CrateSettings::new().parent(id)).unwrap();
    let sibling = manager.register("sibling", CrateSettings::new()).unwrap();
    let mut charge = manager.charge(id, 100, 100).unwrap();
    let (kept, bad) = (manager.allocate(id, 100).unwrap(), manager.allocate(id, 100).unwrap());
    scratch(&bad, -1);
    drop(bad);
    assert_eq!(found(&manager, id), "canary-before");
    // Every way to be charged.
    let closed = |error: MemoryError| assert!(matches!(error, MemoryError::CrateClosed { .. }), "{error}");
    closed(manager.allocate(id, 1).unwrap_err());
    let handle = CrateHandle::new(&manager, id).unwrap();
    closed(handle.charge_or_wait(1, 1).poll_once().unwrap().unwrap_err());
    assert!(handle.collection::<crate::CrateVec<u8>>(10).is_err());
    assert!(charge.split(10, 10).is_some(), "what it has it may divide");
    // Others are not touched, be they below it.
    for other in [child, sibling] {
        drop(manager.allocate(other, 100).unwrap());
    }
    // What a host does with it goes on.
    manager.set_limit(id, 1 << 20).unwrap();
    manager.set_guarantee(id, 1000).unwrap();
    manager.set_guarantee(id, 0).unwrap();
    assert!(matches!(manager.retire(id), Err(MemoryError::InUse { .. })));
    drop((kept, charge));
    assert_eq!(manager.node(id).unwrap().used, 0);
    manager.retire(child).unwrap();
    manager.retire(id).unwrap();
    assert!(matches!(manager.charge(id, 1, 1), Err(MemoryError::StaleCrate { .. })));
    // The next in its slot is another crate.
    let next = manager.register("next", CrateSettings::new()).unwrap();
    assert!(!manager.node(next).unwrap().closed);
    drop(manager.allocate(next, 100).unwrap());
    assert_eq!(manager.pool().used, 0);
}

#[test]
fn a_slot_that_was_left_closed_is_open_for_the_next_crate_in_it() {
    static CRATES: crate::CrateStorage<1> = crate::CrateStorage::new();
    // Of another manager, with the same storage.
    for _ in 0..2 {
        let builder = UnifiedMemoryManager::builder().total(1 << 16).storage(&CRATES).verification(Standard);
        let manager = builder.build().unwrap();
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        let bad = manager.allocate(id, 100).unwrap();
        scratch(&bad, -1);
        drop(bad);
        assert_eq!(found(&manager, id), "canary-before");
    }
    // By who found a fault of the former crate's just before that was retired.
    let (manager, id) = heap(Standard);
    manager.retire(id).unwrap();
    manager.tracker.slot(id.index).close();
    let next = manager.register("next", CrateSettings::new()).unwrap();
    assert_eq!(next.index, id.index);
    drop(manager.charge(next, 1, 1).unwrap());
}

#[test]
fn who_waits_for_bytes_of_a_crate_that_is_closed_hears_of_it() {
    let (manager, id) = heap(Standard);
    let hog = manager.register("hog", CrateSettings::new()).unwrap();
    let bad = manager.allocate(id, 100).unwrap();
    let all = manager.charge(hog, 0, (1 << 24) - manager.pool().used).unwrap();
    let handle = CrateHandle::new(&manager, id).unwrap();
    let mut waiting = handle.charge_or_wait(1000, 1000);
    assert!(waiting.poll_once().is_none());
    scratch(&bad, -1);
    // No bytes come back that would have it tried.
    assert!(manager.verification.growing(&manager, id, || bad.handed()).is_err());
    assert_eq!(manager.waits().waiting, 0, "it still stands in line");
    scratch(&bad, -1);
    drop(bad);
    assert!(matches!(waiting.poll_once(), Some(Err(MemoryError::CrateClosed { .. }))));
    drop(all);
    assert_eq!((manager.pool().used, manager.waits().waiting), (0, 0));
}
