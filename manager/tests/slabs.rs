//! Blocks that crates keep: that they are taken again, and that nobody is ever denied bytes, told of use or made to wait
//! because of them.
#![cfg(all(feature = "std", target_pointer_width = "64", not(loom)))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rand::RngExt;
use wrt_memory::provider::ProviderKind;
use wrt_memory::{
    Charge, CrateHandle, CrateId, CrateSettings, LendingRule, Memory, MemoryError, PressureSettings,
    PressureWatch, UnifiedMemoryManager, VerificationLevel,
};

/// A manager whose crates keep blocks of all sizes.
const STOCK: usize = 128 << 10;

fn manager(total: usize) -> UnifiedMemoryManager {
    UnifiedMemoryManager::builder().total(total).stock(STOCK).build().unwrap()
}

fn register(manager: &UnifiedMemoryManager, settings: CrateSettings) -> CrateId {
    manager.register("guest", settings).unwrap()
}

fn memory<const SIZE: usize>(manager: &UnifiedMemoryManager, id: CrateId) -> Memory<'_, SIZE> {
    CrateHandle::new(manager, id).unwrap().memory().unwrap()
}

/// Has a crate keep so many blocks of 4 KiB, at most four.
fn keep(manager: &UnifiedMemoryManager, id: CrateId, blocks: usize) {
    let kept: Vec<_> = (0..blocks).map(|_| memory::<4096>(manager, id)).collect();
    drop(kept);
    assert_eq!(manager.node(id).unwrap().slab, blocks * 4096);
}

fn kept(manager: &UnifiedMemoryManager, id: CrateId) -> usize {
    manager.node(id).unwrap().slab
}

#[test]
fn a_block_is_taken_again_zeroed_and_charged_as_before() {
    let manager = manager(1 << 20);
    let id = register(&manager, CrateSettings::new());
    let mut first = memory::<4096>(&manager, id);
    first.fill(0xA5);
    let place = first.as_ptr();
    let in_use = manager.node(id).unwrap();
    assert_eq!((in_use.used, in_use.requested, in_use.slab), (4096, 4096, 0));
    drop(first);
    let idle = manager.node(id).unwrap();
    assert_eq!((idle.used, idle.requested, idle.slab, idle.held), (0, 0, 4096, in_use.held));
    assert_eq!((manager.snapshot().used, manager.snapshot().free), (0, 1 << 20));

    // Which provider served last is known of that one too.
    let mapped = manager.allocate(id, 1 << 17).unwrap();
    assert_ne!(manager.node(id).unwrap().provider.unwrap().kind, ProviderKind::Heap);
    drop((memory::<4096>(&manager, id), mapped));
    assert_eq!(manager.node(id).unwrap().provider.unwrap().kind, ProviderKind::Heap);

    // Not for another size, nor for a request that is no `Memory`.
    let (smaller, plain) = (memory::<2048>(&manager, id), manager.allocate(id, 4096).unwrap());
    assert_eq!(kept(&manager, id), 4096);
    drop((smaller, plain));
    assert_eq!(kept(&manager, id), 4096 + 2048);

    let again = memory::<4096>(&manager, id);
    assert_eq!(again.as_ptr(), place);
    assert!(again.iter().all(|&byte| byte == 0), "what was there before");
    let raw = again.raw();
    assert_eq!(
        (raw.len(), raw.reserved(), raw.charge().bytes(), raw.charge().requested()),
        (4096, 4096, 4096, 4096)
    );
    assert_eq!((raw.provider(), raw.crate_id()), (ProviderKind::Heap, id));
    assert_eq!(manager.node(id).unwrap().used, 4096);
}

#[test]
fn another_crate_does_not_get_what_one_kept() {
    let manager = manager(1 << 20);
    let (one, two) = (register(&manager, CrateSettings::new()), register(&manager, CrateSettings::new()));
    keep(&manager, one, 3);
    let other = memory::<4096>(&manager, two);
    assert_eq!((kept(&manager, one), manager.node(two).unwrap().used), (3 * 4096, 4096));
    drop(other);
}

#[test]
fn the_next_crate_in_a_slot_has_nothing_of_the_one_before() {
    let manager = manager(1 << 20);
    let id = register(&manager, CrateSettings::new());
    let handle = CrateHandle::new(&manager, id).unwrap();
    keep(&manager, id, 2);
    manager.retire(id).unwrap();
    assert_eq!(manager.pool().used, 0);
    let next = register(&manager, CrateSettings::new());
    assert_eq!(kept(&manager, next), 0);
    keep(&manager, next, 1);
    assert_eq!(handle.memory::<4096>().err(), Some(MemoryError::StaleCrate { id }));
    assert_eq!(kept(&manager, next), 4096);
}

#[test]
fn what_a_crate_keeps_is_never_in_the_way_of_its_own_limit() {
    let manager = manager(1 << 20);
    let id = register(&manager, CrateSettings::new().limit(40_000));
    keep(&manager, id, 4);
    let all = manager.charge(id, 40_000, 40_000).unwrap();
    assert_eq!((manager.node(id).unwrap().used, kept(&manager, id)), (40_000, 0));
    assert!(manager.charge(id, 1, 1).is_err());
    drop(all);
    // And of its size, where it holds no more.
    keep(&manager, id, 2);
    let all: Vec<_> = (0..9).map(|_| memory::<4096>(&manager, id)).collect();
    assert!(CrateHandle::new(&manager, id).unwrap().memory::<4096>().is_err());
    drop(all);
}

#[test]
fn what_a_crate_keeps_is_never_in_the_way_of_another() {
    let manager = manager(1 << 20);
    let (one, two) = (register(&manager, CrateSettings::new()), register(&manager, CrateSettings::new()));
    keep(&manager, one, 4);
    let all = manager.charge(two, 1 << 20, 1 << 20).unwrap();
    assert_eq!((kept(&manager, one), manager.node(one).unwrap().held), (0, 0));
    drop(all);
    // Nor of one that asks for a few bytes only: the rest is stock.
    keep(&manager, one, 4);
    let rest = manager.charge(two, 1, (1 << 20) - 4096).unwrap();
    assert_eq!((kept(&manager, one), manager.node(one).unwrap().used), (0, 0));
    let last = manager.charge(one, 4096, 4096).unwrap();
    drop((rest, last));
}

#[test]
fn what_is_kept_below_a_parent_is_not_in_the_way_of_its_limit() {
    let manager = manager(1 << 20);
    let parent = register(&manager, CrateSettings::new().limit(100_000));
    let children = [0; 2].map(|_| register(&manager, CrateSettings::new().parent(parent)));
    keep(&manager, children[0], 4);
    drop(manager.charge(children[1], 1, 100_000).unwrap());
    // Nor what the parent itself keeps, in the way of a child or of a guarantee.
    keep(&manager, parent, 4);
    drop(manager.charge(children[1], 1, 100_000).unwrap());
    assert_eq!(kept(&manager, parent), 0);
    keep(&manager, parent, 4);
    keep(&manager, children[0], 4);
    manager.set_guarantee(children[1], 100_000).unwrap();
}

#[test]
fn what_a_crate_keeps_is_not_in_the_way_of_its_guarantee_below_a_limit_that_was_lowered() {
    let manager = manager(1 << 20);
    let parent = register(&manager, CrateSettings::new());
    let children = [0; 2].map(|_| register(&manager, CrateSettings::new().parent(parent)));
    let charge = manager.charge(children[1], 1, 50_000).unwrap();
    keep(&manager, children[0], 4);
    manager.trim(0);
    manager.set_limit(parent, 60_000).unwrap();
    assert_eq!(kept(&manager, children[0]), 4 * 4096);
    manager.set_guarantee(children[0], 10_000).unwrap();
    drop(charge);
}

#[test]
fn what_is_kept_is_not_in_the_way_of_a_guarantee() {
    let manager = manager(1 << 20);
    let (one, two) = (register(&manager, CrateSettings::new()), register(&manager, CrateSettings::new()));
    keep(&manager, one, 4);
    keep(&manager, two, 4);
    manager.set_guarantee(two, 1 << 20).unwrap();
    let all = manager.charge(two, 1 << 20, 1 << 20).unwrap();
    drop(all);
}

#[test]
fn a_limit_that_is_lowered_grants_nothing_of_what_is_kept() {
    let manager = manager(1 << 20);
    let id = register(&manager, CrateSettings::new().limit(100_000));
    let rest = manager.charge(id, 1, 50_000).unwrap();
    keep(&manager, id, 4);
    manager.set_limit(id, 45_000).unwrap();
    assert_eq!((kept(&manager, id), manager.node(id).unwrap().held), (0, 50_000));
    manager.set_limit(id, 60_000).unwrap();
    let two = [memory::<4096>(&manager, id), memory::<4096>(&manager, id)];
    manager.set_limit(id, 50_000).unwrap();
    let [first, second] = two;
    drop(first);
    // 54,096 are in use.
    let handle = CrateHandle::new(&manager, id).unwrap();
    assert!(handle.memory::<4096>().is_err(), "granted above the limit");
    drop(second);
    drop(rest);
    drop(handle.memory::<4096>().unwrap());
}

#[test]
fn what_is_kept_above_a_limit_that_was_lowered_is_found() {
    let manager = manager(1 << 20);
    let (one, two) = (register(&manager, CrateSettings::new()), register(&manager, CrateSettings::new()));
    let charge = manager.charge(one, 1, 50_000).unwrap();
    let blocks = [(); 4].map(|()| memory::<4096>(&manager, one));
    manager.set_limit(one, 50_000).unwrap();
    drop(blocks);
    assert_eq!(kept(&manager, one), 4 * 4096);
    drop(manager.charge(two, 1, (1 << 20) - 50_000).unwrap());
    drop(charge);
}

#[test]
fn what_a_sweep_leaves_of_what_was_kept_is_at_most_a_stock() {
    let manager = manager(1 << 20);
    let (one, two) = (register(&manager, CrateSettings::new()), register(&manager, CrateSettings::new()));
    // As much in stock as there may be, and blocks above that.
    let blocks = [(); 4].map(|()| memory::<16384>(&manager, one));
    drop(manager.charge(one, 1, STOCK).unwrap());
    drop(blocks);
    let before = manager.node(one).unwrap();
    assert_eq!((before.slab, before.held), (4 * 16384, STOCK + 4 * 16384));
    let rest = manager.charge(two, 1, (1 << 20) - before.held + 1).unwrap();
    let after = manager.node(one).unwrap();
    assert!(after.slab == 0 && after.held <= STOCK, "{} are held, and none used", after.held);
    drop(rest);
}

#[test]
fn who_waits_gets_what_is_freed_or_kept() {
    let manager = manager(1 << 20);
    let (one, two) = (register(&manager, CrateSettings::new()), register(&manager, CrateSettings::new()));
    let block = memory::<4096>(&manager, one);
    let rest = manager.charge(two, 1, (1 << 20) - 4096).unwrap();
    let handle = CrateHandle::new(&manager, two).unwrap();
    let mut waiting = handle.charge_or_wait(4096, 4096);
    assert!(waiting.poll_once().is_none(), "all is in use");
    drop(block);
    let granted = waiting.poll_once().expect("it was freed").unwrap();
    assert_eq!((granted.bytes(), kept(&manager, one)), (4096, 0));
    drop((granted, rest));
    // Nobody waits for what is there already.
    keep(&manager, one, 4);
    let granted = handle.charge_or_wait(1, 1 << 20).poll_once().expect("all of it is idle").unwrap();
    assert_eq!(granted.bytes(), 1 << 20);
}

#[test]
fn a_watch_hears_of_what_is_in_use_alone() {
    let manager = manager(1 << 20);
    let id = register(&manager, CrateSettings::new().limit(100_000));
    let charge = manager.charge(id, 1, 45_000).unwrap();
    keep(&manager, id, 4);
    // With what is kept it would be 61 per cent.
    let watch = PressureWatch::new(&manager, PressureSettings::new().over(id).levels(&[50])).unwrap();
    assert_eq!((watch.level(), kept(&manager, id)), (None, 0));
    let blocks = [(); 2].map(|()| memory::<4096>(&manager, id));
    assert_eq!(watch.level(), Some(50));
    drop(blocks);
    assert_eq!(kept(&manager, id), 0);
    drop(charge);
    assert_eq!(watch.level(), None);
    drop(watch);
    keep(&manager, id, 4);
}

#[test]
fn who_lends_or_borrows_keeps_nothing() {
    let manager = manager(1 << 20);
    let (one, two) = (
        register(&manager, CrateSettings::new().guarantee(1 << 19)),
        register(&manager, CrateSettings::new()),
    );
    // So that it holds more than it is guaranteed, and has a seat.
    let more = manager.charge(one, 1, 1 << 19).unwrap();
    keep(&manager, one, 4);
    drop(more);
    keep(&manager, two, 4);
    manager.sharing().allow(one, two, LendingRule::new(1 << 19)).unwrap();
    assert_eq!((kept(&manager, one), kept(&manager, two)), (0, 0));
    for id in [one, two] {
        drop(memory::<4096>(&manager, id));
        assert_eq!(kept(&manager, id), 0);
    }
    let loan = manager.borrow_from_crate(one, two, 1 << 19).unwrap();
    drop(loan);
}

#[test]
fn what_is_freed_below_a_debtor_pays_its_debt() {
    let manager = manager(1 << 20);
    let lender = register(&manager, CrateSettings::new().guarantee(100_000));
    let debtor = register(&manager, CrateSettings::new().limit(50_000));
    let child = register(&manager, CrateSettings::new().parent(debtor));
    manager.sharing().allow(lender, debtor, LendingRule::new(100_000)).unwrap();
    let loan = manager.borrow_from_crate(lender, debtor, 16_384).unwrap();
    let charge = manager.charge(child, 1, 50_000).unwrap();
    let blocks = [(); 4].map(|()| memory::<4096>(&manager, child));
    drop(loan);
    assert_eq!(manager.node(debtor).unwrap().owed, 16_384);
    drop(blocks);
    assert_eq!((manager.node(debtor).unwrap().owed, kept(&manager, child)), (0, 0));
    drop(charge);
}

#[test]
fn only_common_sizes_are_kept_and_no_more_than_a_stock() {
    fn churn<const SIZE: usize>(manager: &UnifiedMemoryManager, id: CrateId) -> usize {
        manager.trim(usize::MAX);
        let many: Vec<_> = (0..9).map(|_| memory::<SIZE>(manager, id)).collect();
        drop(many);
        kept(manager, id)
    }
    for (stock, largest) in [(0, 0), (1024, 128), (STOCK - 1, 8192), (STOCK, 16384), (1 << 20, 16384)] {
        let manager = UnifiedMemoryManager::builder().total(1 << 26).stock(stock).build().unwrap();
        let id = register(&manager, CrateSettings::new());
        let sizes = [
            (64, churn::<64>(&manager, id)),
            (128, churn::<128>(&manager, id)),
            (256, churn::<256>(&manager, id)),
            (512, churn::<512>(&manager, id)),
            (1024, churn::<1024>(&manager, id)),
            (2048, churn::<2048>(&manager, id)),
            (4096, churn::<4096>(&manager, id)),
            (8192, churn::<8192>(&manager, id)),
            (16384, churn::<16384>(&manager, id)),
        ];
        for (size, kept) in sizes {
            assert_eq!(kept, if size <= largest { 4 * size } else { 0 }, "{size} with a stock of {stock}");
        }
        fn four<const SIZE: usize>(manager: &UnifiedMemoryManager, id: CrateId) -> [Memory<'_, SIZE>; 4] {
            core::array::from_fn(|_| memory(manager, id))
        }
        let all = (
            (four::<64>(&manager, id), four::<128>(&manager, id), four::<256>(&manager, id)),
            (four::<512>(&manager, id), four::<1024>(&manager, id), four::<2048>(&manager, id)),
            (four::<4096>(&manager, id), four::<8192>(&manager, id), four::<16384>(&manager, id)),
        );
        drop(all);
        assert_eq!(kept(&manager, id), if largest == 0 { 0 } else { 4 * (2 * largest - 64) });
        assert!(kept(&manager, id) <= stock);
        let others = [
            churn::<0>(&manager, id),
            churn::<32>(&manager, id),
            churn::<65>(&manager, id),
            churn::<4095>(&manager, id),
            churn::<4112>(&manager, id),
            churn::<32768>(&manager, id),
        ];
        assert_eq!(others, [0; 6]);
        drop(manager.charge(id, 1, 1 << 26).unwrap());
    }
}

#[test]
fn what_is_smaller_than_a_unit_is_not_kept() {
    let manager =
        UnifiedMemoryManager::builder().total(1 << 20).largest_total(1 << 38).stock(STOCK).build().unwrap();
    let id = register(&manager, CrateSettings::new());
    drop(memory::<128>(&manager, id));
    assert_eq!(kept(&manager, id), 0);
    drop(memory::<512>(&manager, id));
    assert_eq!(kept(&manager, id), 512);
    assert_eq!(manager.node(id).unwrap().used, 0);
}

#[test]
fn where_blocks_are_checked_none_is_kept() {
    for level in [VerificationLevel::Basic, VerificationLevel::Full] {
        let builder = UnifiedMemoryManager::builder().total(1 << 20).stock(STOCK).verification(level);
        let manager = builder.build().unwrap();
        let id = register(&manager, CrateSettings::new());
        drop(memory::<4096>(&manager, id));
        assert_eq!((kept(&manager, id), manager.verification().violations()), (0, 0));
    }
}

#[test]
fn of_more_crates_than_seats_none_keeps_what_is_not_found() {
    let manager = manager(8 << 20);
    let ids: Vec<_> = (0..300).map(|_| register(&manager, CrateSettings::new())).collect();
    for _ in 0..3 {
        for &id in &ids {
            drop(memory::<4096>(&manager, id));
        }
        let keep: usize = ids.iter().filter(|&&id| kept(&manager, id) > 0).count();
        assert!((1..=64).contains(&keep), "{keep} crates keep blocks, of which 64 are found");
        let all = manager.charge(ids[7], 1, 8 << 20).unwrap();
        assert!(ids.iter().all(|&id| kept(&manager, id) == 0));
        drop(all);
    }
}

#[test]
fn trimming_gives_back_what_is_kept() {
    let manager = manager(1 << 20);
    let ids = [0; 3].map(|_| register(&manager, CrateSettings::new()));
    for id in ids {
        keep(&manager, id, 4);
    }
    let given = manager.trim(1);
    assert_eq!(given, 4 * 4096);
    assert_eq!(manager.trim(usize::MAX), 2 * 4 * 4096);
    assert_eq!(manager.trim(usize::MAX), 0);
    for id in ids {
        manager.retire(id).unwrap();
    }
}

/// What a crate has.
enum Held<'m> {
    Tiny(Memory<'m, 64>),
    Odd(Memory<'m, 100>),
    Page(Memory<'m, 4096>),
    Large(Memory<'m, 16384>),
    Charge(Charge<'m>),
}

const SIZES: [usize; 4] = [64, 100, 4096, 16384];

impl<'m> Held<'m> {
    /// A memory of one of the sizes, which is looked at and written over; else a charge of as many bytes.
    fn take(manager: &'m UnifiedMemoryManager, id: CrateId, what: usize) -> Result<Self, MemoryError> {
        fn fresh<const SIZE: usize>(mut memory: Memory<'_, SIZE>) -> Memory<'_, SIZE> {
            assert!(memory.iter().all(|&byte| byte == 0), "what another left");
            memory.fill(0xA5);
            memory
        }
        let handle = CrateHandle::new(manager, id)?;
        Ok(match what {
            64 => Self::Tiny(fresh(handle.memory()?)),
            100 => Self::Odd(fresh(handle.memory()?)),
            4096 => Self::Page(fresh(handle.memory()?)),
            16384 => Self::Large(fresh(handle.memory()?)),
            bytes => Self::Charge(manager.charge(id, bytes, bytes)?),
        })
    }

    fn cost(&self) -> usize {
        match self {
            Self::Tiny(memory) => memory.raw().charge().bytes(),
            Self::Odd(memory) => memory.raw().charge().bytes(),
            Self::Page(memory) => memory.raw().charge().bytes(),
            Self::Large(memory) => memory.raw().charge().bytes(),
            Self::Charge(charge) => charge.bytes(),
        }
    }

    /// Whether nobody else wrote to it.
    fn is_whole(&self) -> bool {
        match self {
            Self::Tiny(memory) => memory.iter().all(|&byte| byte == 0xA5),
            Self::Odd(memory) => memory.iter().all(|&byte| byte == 0xA5),
            Self::Page(memory) => memory.iter().all(|&byte| byte == 0xA5),
            Self::Large(memory) => memory.iter().all(|&byte| byte == 0xA5),
            Self::Charge(_) => true,
        }
    }
}

/// A node as plain numbers: the pool is the first, and no parent comes after its child.
#[derive(Clone, Copy, Default)]
struct Plain {
    parent: usize,
    limit: usize,
    guarantee: usize,
    used: usize,
}

/// Bytes that each node needs of its parent: what it and those below it use, or are guaranteed.
fn needs(nodes: &[Plain]) -> Vec<usize> {
    let mut needs = vec![0; nodes.len()];
    for at in (0..nodes.len()).rev() {
        needs[at] += nodes[at].used;
        needs[at] = needs[at].max(nodes[at].guarantee + below(nodes, at));
        if at > 0 {
            needs[nodes[at].parent] += needs[at];
        }
    }
    needs
}

/// What those below a node are guaranteed.
fn below(nodes: &[Plain], at: usize) -> usize {
    (at + 1..nodes.len())
        .filter(|&child| nodes[child].parent == at)
        .map(|child| nodes[child].guarantee + below(nodes, child))
        .sum()
}

#[derive(Clone, Debug)]
enum Step {
    Take { node: usize, what: usize },
    Drop(usize),
    Limit { node: usize, bytes: usize },
    Renew { node: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..5usize, 0..4usize).prop_map(|(node, size)| Step::Take { node, what: SIZES[size] }),
        3 => (1..5usize, 1..60_000usize).prop_map(|(node, what)| Step::Take { node, what }),
        8 => any::<usize>().prop_map(Step::Drop),
        1 => (2..5usize, 30_000..90_000usize).prop_map(|(node, bytes)| Step::Limit { node, bytes }),
        1 => (3..5usize).prop_map(|node| Step::Renew { node }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two crates below the pool, of which the first has one below it, and is guaranteed some; and one of its own.
    #[test]
    fn what_is_granted_is_what_plain_numbers_say(steps in steps()) {
        const TOTAL: usize = 150_000;
        let manager = manager(TOTAL);
        let settings = |plain: Plain, parent: Option<CrateId>| {
            let settings = CrateSettings::new().limit(plain.limit).guarantee(plain.guarantee);
            parent.map_or(settings, |parent| settings.parent(parent))
        };
        let plain = |parent, limit, guarantee| Plain { parent, limit, guarantee, used: 0 };
        let mut nodes = [
            plain(0, TOTAL, 0), plain(0, 90_000, 20_000), plain(0, usize::MAX, 0),
            plain(1, usize::MAX, 0), plain(0, 60_000, 0),
        ];
        let mut ids: [Option<CrateId>; 5] = [None; 5];
        for at in 1..nodes.len() {
            ids[at] = Some(register(&manager, settings(nodes[at], ids[nodes[at].parent])));
        }
        let mut held: Vec<(usize, Held<'_>)> = Vec::new();
        for step in steps {
            match step {
                Step::Take { node, what } => {
                    let cost = what.next_multiple_of(if SIZES.contains(&what) { 16 } else { 1 });
                    let mut then = nodes;
                    then[node].used += cost;
                    let (now, needed) = (needs(&nodes), needs(&then));
                    let mut expected = true;
                    let mut at = node;
                    loop {
                        // A node that needs no more of its parent asks no further up.
                        let used = needed[at].max(nodes[at].guarantee);
                        let own: usize = if at == node { then[at].used + children(&needed, &then, at) } else { used };
                        expected &= own <= nodes[at].limit;
                        if at == 0 || needed[at] == now[at] {
                            break;
                        }
                        at = nodes[at].parent;
                    }
                    let taken = Held::take(&manager, ids[node].unwrap(), what);
                    prop_assert_eq!(taken.is_ok(), expected, "{:?} {:?}", step, taken.err());
                    if let Ok(taken) = taken {
                        prop_assert_eq!(taken.cost(), cost);
                        nodes = then;
                        held.push((node, taken));
                    }
                }
                Step::Drop(at) if !held.is_empty() => {
                    let (node, taken) = held.swap_remove(at % held.len());
                    prop_assert!(taken.is_whole());
                    nodes[node].used -= taken.cost();
                }
                Step::Drop(_) => {}
                Step::Limit { node, bytes } => {
                    if manager.set_limit(ids[node].unwrap(), bytes).is_ok() {
                        nodes[node].limit = bytes;
                    }
                }
                Step::Renew { node } => {
                    let retired = manager.retire(ids[node].unwrap()).is_ok();
                    prop_assert_eq!(retired, nodes[node].used == 0);
                    if retired {
                        ids[node] = Some(register(&manager, settings(nodes[node], ids[nodes[node].parent])));
                    }
                }
            }
            for at in 1..nodes.len() {
                let node = manager.node(ids[at].unwrap()).unwrap();
                let held: usize = (1..nodes.len())
                    .filter(|&child| nodes[child].parent == at)
                    .map(|child| manager.node(ids[child].unwrap()).unwrap().held)
                    .sum();
                prop_assert_eq!(node.used - held, nodes[at].used);
                prop_assert!(node.used + node.slab <= node.held && node.slab <= STOCK);
            }
        }
        drop(held);
        for id in ids.iter().rev().flatten() {
            manager.retire(*id).unwrap();
        }
        prop_assert_eq!((manager.pool().used, manager.pool().held), (0, TOTAL));
    }
}

fn children(needs: &[usize], nodes: &[Plain], at: usize) -> usize {
    (at + 1..nodes.len()).filter(|&child| nodes[child].parent == at).map(|child| needs[child]).sum()
}

#[test]
fn beside_sweeps_limits_and_ends_no_block_is_two_owners_and_all_come_back() {
    const TOTAL: usize = 200_000;
    let manager = manager(TOTAL);
    let ids = [(); 3].map(|()| register(&manager, CrateSettings::new().limit(100_000)));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3u8)
            .map(|seed| {
                let manager = &manager;
                scope.spawn(move || {
                    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
                    let mut held: Vec<Held<'_>> = Vec::new();
                    for _ in 0..6000 {
                        if rng.random_range(0..2) == 0 && !held.is_empty() {
                            let one = held.swap_remove(rng.random_range(0..held.len()));
                            assert!(one.is_whole(), "another wrote to it");
                        } else {
                            let id = ids[rng.random_range(0..ids.len())];
                            let what = match rng.random_range(0..8) {
                                0 => rng.random_range(1..60_000),
                                other => SIZES[other % SIZES.len()],
                            };
                            match Held::take(manager, id, what) {
                                Ok(one) => held.push(one),
                                Err(MemoryError::OverLimit { .. } | MemoryError::PoolExhausted { .. }) => {}
                                Err(other) => panic!("{other}"),
                            }
                        }
                    }
                })
            })
            .collect();
        // One that comes and goes in a slot of its own, and changes limits meanwhile.
        scope.spawn(|| {
            let mut turn = 0usize;
            while !done.load(Ordering::Relaxed) {
                turn += 1;
                let id = register(&manager, CrateSettings::new());
                for _ in 0..20 {
                    drop(CrateHandle::new(&manager, id).unwrap().memory::<4096>());
                }
                manager.set_limit(ids[turn % 3], 20_000 + 80_000 * (turn % 2)).unwrap();
                manager.trim(turn % 10_000);
                manager.retire(id).unwrap();
            }
        });
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    for id in ids {
        manager.set_limit(id, usize::MAX).unwrap();
        assert_eq!(manager.node(id).unwrap().used, 0);
        drop(manager.charge(id, TOTAL, TOTAL).expect("all of it is idle"));
    }
    for id in ids {
        manager.retire(id).unwrap();
    }
    assert_eq!((manager.pool().used, manager.pool().held), (0, TOTAL));
}
