//! What the next guest sees: nothing of the one before, whatever that one did and whichever way its slot was made
//! as new. Under Miri there are no such system calls.
#![cfg(not(miri))]

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::provider::model::{Probe, absurd, bytes, refuses, run, runs};
use crate::{CrateSettings, MemoryError, UnifiedMemoryManager};

const PAGE: usize = 4096;
const WASM_PAGE: usize = 65_536;

/// A provider whose warm bytes somebody always pays for.
struct Leased(PooledProvider);

// SAFETY: it is the provider inside.
unsafe impl Provider for Leased {
    fn describe(&self) -> ProviderInfo {
        self.0.describe()
    }
    fn cost(&self, request: &Request) -> Result<usize, ProviderError> {
        self.0.cost(request)
    }
    fn allocate(&self, request: &Request) -> Result<Block, ProviderError> {
        self.0.allocate(request)
    }
    fn grown_cost(&self, block: &Block, size: usize) -> Result<usize, ProviderError> {
        self.0.grown_cost(block, size)
    }
    unsafe fn grow(&self, block: &mut Block, size: usize) -> Result<(), ProviderError> {
        // SAFETY: the caller's promise.
        unsafe { self.0.grow(block, size) }
    }
    unsafe fn free(&self, block: Block) {
        // SAFETY: the caller's promise.
        unsafe { self.0.give(block, |_| true) };
    }
}

/// Every way a slot can be made as new: by scan or prefix, keeping much, little, or nothing.
fn every_way() -> Vec<Leased> {
    let mut ways = Vec::new();
    for keep in [PooledProvider::KEEP_RESIDENT, 3 * PAGE, 0] {
        for warm in [PooledProvider::WARM_LIMIT, 0] {
            let provider = || PooledProvider::new().keep_resident(keep).warm_limit(warm);
            assert!(provider().scans_pagemap(), "these tests are for Linux 6.7 and later");
            ways.push(Leased(provider()));
            ways.push(Leased(provider().without_pagemap_scan()));
        }
    }
    ways
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_apart_zero_and_what_was_said(ops in runs(100_000, PAGE)) {
        for provider in every_way() {
            run(&provider, &ops, |_| {});
        }
    }

    #[test]
    fn exactly_the_charged_pages_of_a_guarded_block_can_be_touched(ops in runs(60_000, PAGE)) {
        let (provider, probe) = (Leased(PooledProvider::new()), Probe::new());
        run(&provider, &ops, |live| {
            for it in live.iter().filter(|it| it.block.guard > 0) {
                probe.check(&it.block, PAGE);
            }
        });
    }

    #[test]
    fn absurd_sizes_are_refused(request in absurd()) {
        refuses(&PooledProvider::new(), &request);
    }
}

/// What a guest does in its life, and with what it starts.
#[derive(Clone, Debug)]
struct Life {
    /// Which image, of three; else none.
    image: usize,
    guarded: bool,
    size: usize,
    grown: usize,
    /// Runs of bytes written: where, and how many.
    writes: Vec<(usize, usize)>,
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let write = prop_oneof![
        (0..40 * WASM_PAGE, 1..3usize),
        (0..40 * WASM_PAGE, PAGE..4 * WASM_PAGE),
        Just((0, 40 * WASM_PAGE)),
    ];
    let size = prop_oneof![Just(WASM_PAGE), 1..=3 * WASM_PAGE, Just(20 * WASM_PAGE)];
    let life = (0..4usize, any::<bool>(), size, 0..20 * WASM_PAGE, prop::collection::vec(write, 0..6));
    let life =
        life.prop_map(|(image, guarded, size, grown, writes)| Life { image, guarded, size, grown, writes });
    prop::collection::vec(life, 2..12)
}

/// A small image that is copied, one that is mapped, and one that starts elsewhere in the same pages.
fn images() -> [Arc<Image>; 3] {
    let bytes = |len: usize, salt: u8| (0..len).map(|at| (at / 7) as u8 | salt).collect::<Vec<_>>();
    [
        Image::new(1000, &bytes(3000, 1)).unwrap(),
        Image::new(PAGE, &bytes(15 * PAGE, 2)).unwrap(),
        Image::new(8 * PAGE + 5, &bytes(7 * PAGE, 4)).unwrap(),
    ]
}

fn live(provider: &Leased, life: &Life, images: &[Arc<Image>; 3]) {
    let image = images.get(life.image);
    let size = life.size.max(image.map_or(0, |image| image.range().end));
    let guard = if life.guarded { 1 } else { 0 };
    let request = Request { size, align: PAGE, reserve: 64 * WASM_PAGE, guard };
    let mut block = provider.0.allocate_with(&request, image).unwrap();
    let mut fresh = vec![0; size];
    if let Some(image) = image {
        fresh[image.range()].copy_from_slice(image.as_slice());
    }
    assert!(bytes(&block) == fresh, "a new memory has its image and nothing else: {life:?}");
    let write = |block: &Block| {
        for (at, len) in &life.writes {
            let at = at % block.size;
            // SAFETY: within the block, which nobody else has.
            unsafe { block.ptr.add(at).write_bytes(0xA5, (*len).min(block.size - at)) };
        }
    };
    write(&block);
    // SAFETY: the block is live and from this provider.
    unsafe { provider.grow(&mut block, size + life.grown) }.unwrap();
    assert!(bytes(&block)[size..].iter().all(|byte| *byte == 0), "what it grew by is zero: {life:?}");
    write(&block);
    // SAFETY: as above, and nothing refers to it.
    unsafe { provider.free(block) };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_guest_sees_its_image_and_zeros_and_nothing_of_those_before(lives in lives()) {
        let images = images();
        for provider in every_way() {
            for life in &lives {
                live(&provider, life, &images);
            }
        }
    }
}

/// The ways a slot is used up, in turn, by hostile pairs: every page, sparse pages, grown and then every page.
#[test]
fn a_hostile_pair_of_guests_over_every_way_learns_nothing() {
    let images = images();
    let everything = vec![(0, 40 * WASM_PAGE)];
    let sparse: Vec<_> = (0..400).map(|page| (page * 2 * PAGE + 17, 1)).collect();
    for provider in every_way() {
        for (image, next) in [(3, 3), (0, 3), (0, 1), (1, 3), (1, 1), (1, 2), (2, 1), (3, 1)] {
            for guarded in [false, true] {
                for (writes, grown) in [(&everything, 0), (&sparse, 0), (&everything, 8 * WASM_PAGE)] {
                    let writes = writes.clone();
                    let hostile = Life { image, guarded, size: 32 * WASM_PAGE, grown, writes };
                    let curious = Life { image: next, grown: 20 * WASM_PAGE, ..hostile.clone() };
                    live(&provider, &hostile, &images);
                    live(&provider, &curious, &images);
                    live(&provider, &Life { size: WASM_PAGE, grown: 40 * WASM_PAGE, ..hostile }, &images);
                }
            }
        }
    }
}

#[test]
fn locked_memory_which_the_system_does_not_take_back_is_written_over() {
    for guard in [0, 1] {
        for provider in every_way() {
            let request = Request { size: 8 * WASM_PAGE, align: PAGE, reserve: 0, guard };
            let block = provider.allocate(&request).unwrap();
            // SAFETY: the block's bytes are mapped, and nobody else has them.
            unsafe {
                rustix::mm::mlock(block.ptr.as_ptr().cast(), PAGE).unwrap();
                block.ptr.write_bytes(0xA5, block.size);
                provider.free(block);
            }
            provider.0.trim(usize::MAX);
            let block = provider.allocate(&request).unwrap();
            assert!(bytes(&block).iter().all(|byte| *byte == 0));
            // SAFETY: the block is live and from this provider.
            unsafe { provider.free(block) };
        }
    }
}

#[test]
fn the_slot_that_held_the_image_comes_first_and_then_the_latest() {
    let provider = Leased(PooledProvider::new());
    let images = images();
    let take = |image: usize| {
        let request = Request { size: WASM_PAGE, align: PAGE, reserve: 0, guard: 0 };
        provider.0.allocate_with(&request, images.get(image)).unwrap()
    };
    let blocks = [take(0), take(1), take(3), take(3)];
    let starts = [0, 1, 2, 3].map(|at| blocks[at].ptr);
    for block in blocks {
        // SAFETY: it is live and from this provider.
        unsafe { provider.free(block) };
    }
    let again = [take(1), take(3), take(0), take(3)];
    assert_eq!([0, 1, 2, 3].map(|at| again[at].ptr), [1, 3, 0, 2].map(|at| starts[at]));
    for block in again {
        // SAFETY: as above.
        unsafe { provider.free(block) };
    }
}

#[test]
fn a_shelf_is_found_by_threads_that_free_what_others_made() {
    let provider = Leased(PooledProvider::new().keep_resident(2 * PAGE));
    let table = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (provider, table) = (&provider, &table);
            scope.spawn(move || {
                for round in 0..300usize {
                    let size = (1 + round % 5) * WASM_PAGE;
                    let guard = round % 2;
                    let block = provider.allocate(&Request { size, align: PAGE, reserve: 0, guard }).unwrap();
                    assert!(bytes(&block).iter().all(|byte| *byte == 0));
                    // SAFETY: nobody else has the block.
                    unsafe { block.ptr.write_bytes(thread | 1, size / (1 + round % 3)) };
                    table.lock().unwrap().push(block);
                    let other = {
                        let mut table = table.lock().unwrap();
                        let at = (round * 7) % table.len();
                        table.swap_remove(at)
                    };
                    // SAFETY: it is live, from this provider, and only this thread has it.
                    unsafe { provider.free(other) };
                }
            });
        }
    });
    assert!(table.into_inner().unwrap().is_empty());
}

#[test]
fn what_stays_of_a_block_is_whole_pages_however_much_may() {
    for keep in [100_000, 70_001] {
        for scan in [true, false] {
            let provider = PooledProvider::new().keep_resident(keep);
            let provider = Leased(if scan { provider } else { provider.without_pagemap_scan() });
            let request = Request { size: 4 * WASM_PAGE, align: PAGE, reserve: 0, guard: 0 };
            let block = provider.allocate(&request).unwrap();
            // SAFETY: within the block, which nobody else has.
            unsafe { block.ptr.write_bytes(1, block.size) };
            // SAFETY: it is live and from this provider.
            unsafe { provider.free(block) };
            assert_eq!(provider.0.warm(), keep / PAGE * PAGE, "scan {scan}");
        }
    }
}

#[test]
fn what_is_warm_is_leased_however_many_give_and_trim_at_once() {
    const ROUNDS: usize = 10_000;
    let provider = PooledProvider::new().warm_limit(WASM_PAGE);
    // One lease for all of them.
    let leased = std::sync::atomic::AtomicBool::new(false);
    let lease = |_| !leased.swap(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let request = Request { size: WASM_PAGE, align: PAGE, reserve: 0, guard: 0 };
                    let block = provider.allocate(&request).unwrap();
                    // SAFETY: it is live, from this provider, and only this thread has it.
                    unsafe { provider.give(block, lease) };
                    for stand in &provider.stands {
                        stand.with(|shelf| assert!(shelf.warm <= shelf.lease, "round {round}"));
                    }
                    if round % 3 == 0 && provider.trim(WASM_PAGE) > 0 {
                        leased.store(false, Ordering::SeqCst);
                    }
                }
            });
        }
    });
}

/// A manager of so many bytes with a pooled provider, and a crate.
fn pooled(total: usize, provider: PooledProvider) -> (UnifiedMemoryManager, crate::CrateId) {
    let providers = crate::provider::ProviderSelector::of_platform().with_pooled(provider);
    let manager = UnifiedMemoryManager::builder().total(total).stock(0).providers(providers).build().unwrap();
    let id = manager.register("guest", CrateSettings::new()).unwrap();
    (manager, id)
}

fn warm_slots(manager: &UnifiedMemoryManager) -> crate::NodeSnapshot {
    manager.nodes().find(|node| node.name.as_str() == "warm slots").unwrap()
}

#[test]
fn warm_bytes_are_never_more_than_their_account_is_charged_and_are_given_back() {
    let (manager, id) = pooled(1 << 30, PooledProvider::new().warm_limit(8 << 20));
    let pool = || manager.providers().pooled().unwrap();
    assert_eq!((warm_slots(&manager).used, warm_slots(&manager).limit), (0, 8 << 20));
    for round in 0..40 {
        let blocks: Vec<_> = (0..20)
            .map(|_| {
                let mut memory = manager.allocate(id, 20 * WASM_PAGE).unwrap();
                assert_eq!(memory.provider(), ProviderKind::Pooled);
                memory.as_mut_slice()[..(1 + round % 16) * WASM_PAGE].fill(1);
                memory
            })
            .collect();
        assert_eq!(manager.node(id).unwrap().used, 20 * 20 * WASM_PAGE);
        drop(blocks);
        assert_eq!(manager.node(id).unwrap().used, 0);
        let paid = warm_slots(&manager).used;
        assert!(pool().warm() > 0 && pool().warm() <= paid && paid <= 8 << 20, "{} {paid}", pool().warm());
        assert_eq!(manager.pool().used, paid);
    }
    let paid = warm_slots(&manager).used;
    let some = manager.trim(WASM_PAGE);
    assert!((WASM_PAGE..2 << 20).contains(&some), "{some}");
    assert_eq!(warm_slots(&manager).used, paid - some);
    assert!(pool().warm() <= paid - some);
    assert_eq!(manager.trim(usize::MAX), paid - some);
    assert_eq!((warm_slots(&manager).used, pool().warm(), manager.pool().used), (0, 0, 0));
    assert_eq!(warm_slots(&manager).denials.total(), 0, "nobody asked for anything");
    assert_eq!(manager.trim(usize::MAX), 0);
}

#[test]
fn what_is_warm_denies_nobody_anything() {
    let (manager, id) = pooled(16 << 20, PooledProvider::new());
    let warm_up = || {
        let mut memories: Vec<_> = (0..8).map(|_| manager.allocate(id, 16 * WASM_PAGE).unwrap()).collect();
        memories.iter_mut().for_each(|memory| memory.as_mut_slice().fill(1));
        drop(memories);
        let warm = warm_slots(&manager).used;
        assert!(warm >= 2 << 20, "{warm}");
    };
    warm_up();
    // All of it: not a byte is left for warm slots.
    let all = manager.allocate(id, 16 << 20).unwrap();
    assert_eq!((manager.node(id).unwrap().used, warm_slots(&manager).used), (16 << 20, 0));
    assert_eq!(manager.node(id).unwrap().denials.total(), 0);
    assert!(matches!(manager.allocate(id, 1), Err(MemoryError::PoolExhausted { .. })));
    assert_eq!(manager.coordinator().counts().trims, 1, "once for all, and not for nothing");
    drop(all);
    // By growth, too.
    warm_up();
    let request = Request { size: WASM_PAGE, align: PAGE, reserve: 16 << 20, guard: PAGE };
    let mut grows = manager.allocate_for(id, &request).unwrap();
    grows.grow(16 << 20).unwrap();
    assert_eq!((warm_slots(&manager).used, manager.coordinator().counts().trims), (0, 2));
    drop(grows);
    assert_eq!(manager.node(id).unwrap().denials.total(), 1);
    // And where a crate's own limit denies it, nothing is given up.
    warm_up();
    let warm = warm_slots(&manager).used;
    let limited = manager.register("limited", CrateSettings::new().limit(WASM_PAGE)).unwrap();
    assert!(matches!(manager.allocate(limited, 2 * WASM_PAGE), Err(MemoryError::OverLimit { .. })));
    assert_eq!(warm_slots(&manager).used, warm);
}

#[test]
fn without_a_pool_there_is_nothing_to_trim() {
    let manager = UnifiedMemoryManager::builder().total(1 << 20).build().unwrap();
    assert_eq!((manager.trim(usize::MAX), manager.nodes().count()), (0, 1));
}

#[test]
fn an_image_is_forgotten_with_what_holds_it() {
    let provider = Leased(PooledProvider::new());
    let image = Image::new(0, &[7; 10 * WASM_PAGE]).unwrap();
    let request = Request { size: 12 * WASM_PAGE, align: PAGE, reserve: 0, guard: 0 };
    for _ in 0..3 {
        let blocks: Vec<_> =
            (0..5).map(|_| provider.0.allocate_with(&request, Some(&image)).unwrap()).collect();
        for block in blocks {
            // SAFETY: it is live and from this provider.
            unsafe { provider.free(block) };
        }
        assert_eq!(Arc::strong_count(&image), 6);
        provider.0.forget(&image);
        assert_eq!(Arc::strong_count(&image), 1);
        let block = provider.allocate(&request).unwrap();
        assert!(bytes(&block).iter().all(|byte| *byte == 0));
        // SAFETY: as above.
        unsafe { provider.free(block) };
    }
}

#[test]
fn an_image_that_does_not_fit_is_refused() {
    let provider = PooledProvider::new();
    let image = Image::new(WASM_PAGE, &[7; 10]).unwrap();
    let request = Request { size: WASM_PAGE, align: PAGE, reserve: 1 << 20, guard: 0 };
    let refusal = provider.allocate_with(&request, Some(&image)).map(|block| block.cost);
    assert_eq!(refusal, Err(unsupported("image", WASM_PAGE + PAGE, WASM_PAGE)));
}

#[test]
fn a_slot_that_the_system_refuses_to_open_is_not_used_again() {
    use crate::provider::os::fault::{Call, fail_next};

    let provider = Leased(PooledProvider::new());
    let request = Request { size: WASM_PAGE, align: PAGE, reserve: 1 << 20, guard: 1 };
    let exhausted = ProviderError::Exhausted { asked: WASM_PAGE, largest: 0 };
    for call in [Call::Reserve, Call::Commit] {
        fail_next(call);
        assert_eq!(provider.allocate(&request).map(|block| block.cost), Err(exhausted));
    }
    let mut block = provider.allocate(&request).unwrap();
    fail_next(Call::Commit);
    // SAFETY: it is live and from this provider.
    assert_eq!(unsafe { provider.grow(&mut block, 2 * WASM_PAGE) }, Err(exhausted));
    assert_eq!((block.size, block.cost), (WASM_PAGE, WASM_PAGE));
    Probe::new().check(&block, PAGE);
    // SAFETY: as above.
    unsafe { provider.free(block) };
}

#[test]
fn after_a_scan_that_failed_half_way_nothing_is_left() {
    use crate::provider::os::fault::{Call, fail_next};

    let images = images();
    // In the slot's first life all that was not written leaves the page table in any case.
    for lives_before in 0..3 {
        let provider = Leased(PooledProvider::new());
        for image in 0..4 {
            for guarded in [false, true] {
                let writes = vec![(0, 40 * WASM_PAGE)];
                let life = Life { image, guarded, size: 8 * WASM_PAGE, grown: 8 * WASM_PAGE, writes };
                for _ in 0..lives_before {
                    live(&provider, &life, &images);
                }
                fail_next(Call::Scan);
                live(&provider, &life, &images);
                live(&provider, &life, &images);
            }
        }
    }
}

#[test]
fn an_image_that_the_system_refuses_to_map_is_no_memory_and_spoils_none() {
    use crate::provider::os::fault::{Call, fail_next};

    let provider = Leased(PooledProvider::new());
    let images = images();
    let request = Request { size: 8 * WASM_PAGE, align: PAGE, reserve: 0, guard: 1 };
    for _ in 0..3 {
        fail_next(Call::Image);
        let refused = provider.0.allocate_with(&request, Some(&images[1])).map(|block| block.cost);
        assert_eq!(refused, Err(ProviderError::Exhausted { asked: 8 * WASM_PAGE, largest: 0 }));
        let life =
            Life { image: 1, guarded: true, size: 8 * WASM_PAGE, grown: 0, writes: vec![(0, WASM_PAGE)] };
        live(&provider, &life, &images);
    }
}

#[test]
#[cfg(target_pointer_width = "64")]
fn where_addresses_run_out_a_slot_gives_its_image_up() {
    use crate::provider::os::fault::{Call, fail_next};

    let images = images();
    // Zeros, and each of the images, after each.
    let pairs = (0..3).flat_map(|had| (0..4).map(move |next| (had, next)));
    for (had, next) in pairs.filter(|(had, next)| had != next) {
        let provider = Leased(PooledProvider::new());
        let request = Request { size: 8 * WASM_PAGE, align: PAGE, reserve: 1 << 32, guard: 1 };
        // All slots there are.
        let slots = Class::of(&request, PAGE).unwrap().slots();
        let blocks: Vec<_> =
            (0..slots).map(|_| provider.0.allocate_with(&request, images.get(had)).unwrap()).collect();
        for block in blocks {
            // SAFETY: it is live, from this provider, and only this test writes to it.
            unsafe {
                block.ptr.write_bytes(0xA5, PAGE);
                provider.free(block);
            }
        }
        fail_next(Call::Reserve);
        let block = provider.0.allocate_with(&request, images.get(next)).unwrap();
        let mut fresh = vec![0; request.size];
        if let Some(image) = images.get(next) {
            fresh[image.range()].copy_from_slice(image.as_slice());
        }
        assert!(bytes(&block) == fresh, "image {next} after {had}");
        // SAFETY: as above.
        unsafe { provider.free(block) };
    }
}

/// The pages of a range, by number, that are in the page table.
fn present(start: NonNull<u8>, pages: usize) -> Vec<usize> {
    use std::os::unix::fs::FileExt;

    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut entries = vec![0; pages * 8];
    pagemap.read_exact_at(&mut entries, (start.addr().get() / PAGE * 8) as u64).unwrap();
    let present = |entry: &[u8]| entry[7] & 0x80 != 0;
    (0..pages).filter(|page| present(&entries[page * 8..][..8])).collect()
}

#[test]
fn pages_that_were_only_read_leave_the_page_table_and_no_slot_owns_them() {
    let provider = Leased(PooledProvider::new());
    let images = images();
    let pages = 128;
    // Zeros, a copy, and an image that is mapped; of each page 2 and 90 are written.
    for (image, own) in [(3, vec![2, 90]), (0, vec![0, 2, 90]), (1, vec![2, 90])] {
        let request = Request { size: pages * PAGE, align: PAGE, reserve: 0, guard: 1 };
        for life in 0..=256 {
            let block = provider.0.allocate_with(&request, images.get(image)).unwrap();
            let start = block.ptr;
            assert_eq!(
                bytes(&block).chunks(PAGE).filter(|page| std::hint::black_box(page[0]) < 255).count(),
                pages
            );
            assert_eq!(present(start, pages), (0..pages).collect::<Vec<_>>(), "all of it was read");
            for page in [2, 90] {
                // SAFETY: within the block, which nobody else has.
                unsafe { start.add(page * PAGE + 1).write_bytes(1, 1) };
            }
            // SAFETY: it is live and from this provider.
            unsafe { provider.free(block) };
            assert_eq!(
                provider.0.warm(),
                own.len() * PAGE,
                "image {image}: what was only read is not its own"
            );
            if life % 256 == 0 {
                assert_eq!(present(start, pages), own, "image {image}, life {life}");
            }
        }
        provider.0.trim(usize::MAX);
    }
}

#[test]
fn what_is_warm_is_all_that_idle_slots_have_in_memory() {
    for keep in [PooledProvider::KEEP_RESIDENT, 3 * PAGE] {
        let provider = Leased(PooledProvider::new().keep_resident(keep));
        let scanner = os::linux::Scanner::new(PAGE).unwrap();
        let images = images();
        for (image, pages) in [(3, 100), (0, 100), (1, 100), (3, 10), (0, 3), (1, 9)] {
            let size = 8 * WASM_PAGE;
            let request = Request { size, align: PAGE, reserve: 64 * WASM_PAGE, guard: 0 };
            let block = provider.0.allocate_with(&request, images.get(image)).unwrap();
            let base = block.ptr.addr().get();
            for page in 0..pages {
                // SAFETY: within the block, which nobody else has.
                unsafe { block.ptr.add(page * PAGE + 77).write_bytes(1, 1) };
            }
            let others = provider.0.warm();
            // SAFETY: it is live and from this provider.
            unsafe { provider.free(block) };
            let mut resident = 0;
            let count = &mut |run: core::ops::Range<usize>| {
                resident += run.len();
                core::ops::ControlFlow::Continue(())
            };
            scanner.written(base..base + size, true, count).unwrap();
            let counted = provider.0.warm() - others;
            assert!(counted >= resident, "image {image}, {pages} pages: {counted} of {resident}");
            assert!(counted <= resident.max(PAGE), "image {image}, {pages} pages: {counted} of {resident}");
        }
    }
}
