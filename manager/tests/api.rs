//! The user-facing API: typed memory, scopes, errors, snapshot.
#![cfg(all(feature = "std", not(loom)))]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use wrt_memory::provider::{ProviderKind, Request};
use wrt_memory::{
    CrateHandle, CrateId, CrateSettings, CrateStorage, CrateVec, Memory, MemoryError, Scope,
    UnifiedMemoryManager, VerificationLevel, allocate, allocate_collection, with_memory,
};

fn manager(total: usize) -> Arc<UnifiedMemoryManager> {
    let level = VerificationLevel::Basic;
    Arc::new(UnifiedMemoryManager::builder().total(total).stock(0).verification(level).build().unwrap())
}

fn with_crate(total: usize, limit: usize) -> (Arc<UnifiedMemoryManager>, CrateId) {
    let manager = manager(total);
    let id = manager.register("guest", CrateSettings::new().limit(limit)).unwrap();
    (manager, id)
}

fn handle(manager: &Arc<UnifiedMemoryManager>, id: CrateId) -> CrateHandle<'static> {
    CrateHandle::new(manager, id).unwrap()
}

#[test]
fn memory_is_zero_whatever_the_crate_before_wrote() {
    let (manager, id) = with_crate(1 << 20, 1 << 20);
    let other = manager.register("other", CrateSettings::new()).unwrap();
    // Small enough for the heap, and large enough for pages.
    for size in [64, 4096, 65536] {
        for _ in 0..20 {
            let mut first = manager.allocate(id, size).unwrap();
            first.as_mut_slice().fill(0xa5);
            drop(first);
            assert!(manager.allocate(other, size).unwrap().as_slice().iter().all(|&byte| byte == 0));
        }
    }
    assert_eq!(manager.verification().violations(), 0);
}

#[test]
fn typed_memory_is_an_array_and_goes_back_when_dropped() {
    let (manager, id) = with_crate(1 << 20, 4096);
    let mut memory: Memory<4096> = handle(&manager, id).memory().unwrap();
    memory[4095] = 1;
    assert_eq!((memory.len(), memory.iter().map(|&byte| usize::from(byte)).sum::<usize>()), (4096, 1));
    assert_eq!(manager.node(id).unwrap().used, 4096);
    assert_eq!(memory.raw().crate_id(), id);
    assert!(handle(&manager, id).memory::<1>().is_err());
    drop(memory);
    assert_eq!(manager.node(id).unwrap().used, 0);
}

#[test]
fn with_memory_frees_what_a_panic_leaves() {
    let (manager, id) = with_crate(1 << 20, 1 << 20);
    let _scope = Scope::enter(handle(&manager, id));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        with_memory(id, |memory: &mut Memory<1024>| {
            assert_eq!(manager.node(id).unwrap().used, 1024);
            memory[0] = 1;
            panic!("a host function's");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(manager.node(id).unwrap().used, 0);
}

#[test]
fn with_memory_finds_the_manager_of_the_id_and_no_other() {
    let (manager, id) = with_crate(1 << 20, 1 << 20);
    let (_other, foreign) = with_crate(1 << 20, 1 << 20);
    assert_eq!(with_memory(id, |_: &mut Memory<1>| ()), Err(MemoryError::NoScope));
    let _scope = Scope::enter(handle(&manager, id));
    assert_eq!(with_memory(id, |memory: &mut Memory<8>| memory.len()), Ok(8));
    assert_eq!(with_memory(foreign, |_: &mut Memory<1>| ()), Err(MemoryError::ForeignCrate { id: foreign }));
}

#[test]
fn allocation_goes_to_the_innermost_scope_of_the_thread() {
    let (manager, outer) = with_crate(1 << 20, 1 << 20);
    let inner = manager.register("inner", CrateSettings::new()).unwrap();
    assert!(matches!(allocate::<16>(), Err(MemoryError::NoScope)));
    assert!(matches!(allocate_collection::<CrateVec<u8>>(16), Err(MemoryError::NoScope)));
    let first = Scope::enter(handle(&manager, outer));
    let second = Scope::enter(handle(&manager, inner));
    assert_eq!(allocate::<16>().unwrap().raw().crate_id(), inner);
    let vec: CrateVec<u8> = allocate_collection(16).unwrap();
    assert_eq!((vec.handle().id(), manager.node(inner).unwrap().used), (inner, 16));
    // Another thread is in no scope.
    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(allocate::<16>(), Err(MemoryError::NoScope))));
    });
    // Dropped in the wrong order, each still ends just its own.
    drop(first);
    assert_eq!(Scope::current().unwrap().id(), inner);
    drop(second);
    assert!(Scope::current().is_none());
}

#[test]
fn a_scope_keeps_its_manager_alive() {
    let (manager, id) = with_crate(1 << 20, 1 << 20);
    let scope = Scope::enter(handle(&manager, id));
    drop(manager);
    let memory = allocate::<64>().unwrap();
    drop(scope);
    assert_eq!(memory[63], 0);
}

/// Allocates, gives way, and allocates again.
struct Twice {
    held: Vec<Memory<'static, 128>>,
}

impl Future for Twice {
    type Output = Vec<CrateId>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Vec<CrateId>> {
        self.held.push(allocate().unwrap());
        if self.held.len() < 2 {
            return Poll::Pending;
        }
        Poll::Ready(self.held.iter().map(|memory| memory.raw().crate_id()).collect())
    }
}

#[test]
fn a_future_has_its_scope_at_every_poll_on_whatever_thread_and_nobody_else_has_it() {
    let (manager, a) = with_crate(1 << 20, 1 << 20);
    let b = manager.register("b", CrateSettings::new()).unwrap();
    let context = &mut Context::from_waker(Waker::noop());
    let twice = || Twice { held: Vec::new() };
    let mut one = Box::pin(Scope::run(handle(&manager, a), twice()));
    let mut two = pin!(Scope::run(handle(&manager, b), twice()));
    assert!(one.as_mut().poll(context).is_pending());
    assert!(Scope::current().is_none());
    assert!(two.as_mut().poll(context).is_pending());
    let moved = thread::spawn(move || one.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    assert_eq!(moved.join().unwrap(), Poll::Ready(vec![a, a]));
    assert_eq!(two.as_mut().poll(context), Poll::Ready(vec![b, b]));
}

#[test]
fn stale_foreign_and_unknown_ids_are_refused_by_every_call() {
    let (manager, id) = with_crate(1 << 20, 1 << 20);
    let (other, foreign) = with_crate(1 << 20, 1 << 20);
    // More crates than the other manager has slots handed out.
    let unknown = (0..200)
        .map(|_| other.register("many", CrateSettings::new()).unwrap())
        .collect::<Vec<_>>()
        .pop()
        .unwrap();
    manager.retire(id).unwrap();
    for (bad, stale) in [(id, true), (foreign, false), (unknown, false)] {
        let check = |error: MemoryError| {
            let expected = if stale {
                MemoryError::StaleCrate { id: bad }
            } else {
                MemoryError::ForeignCrate { id: bad }
            };
            assert_eq!(error, expected);
        };
        check(manager.allocate(bad, 1).unwrap_err());
        check(manager.allocate_for(bad, &Request::new(usize::MAX)).unwrap_err());
        check(manager.charge(bad, 1, 1).unwrap_err());
        check(manager.charge(bad, usize::MAX, usize::MAX).unwrap_err());
        check(manager.set_limit(bad, 1).unwrap_err());
        check(manager.set_guarantee(bad, 1).unwrap_err());
        check(manager.retire(bad).unwrap_err());
        check(manager.node(bad).unwrap_err());
        check(manager.register("child", CrateSettings::new().parent(bad)).unwrap_err());
        check(CrateHandle::new(&*manager, bad).unwrap_err());
    }
    assert_eq!(manager.nodes().count(), 1);
}

#[test]
fn a_denial_says_who_asked_what_of_how_much_and_what_would_do() {
    let (manager, id) = with_crate(10_000, 1000);
    let held = manager.charge(id, 900, 900).unwrap();
    let error = manager.charge(id, 200, 200).unwrap_err();
    let MemoryError::OverLimit { asked: 200, used: 900, limit: 1000, free: 100, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        error.to_string(),
        "crate `guest` asked for 200 bytes: 900 of its limit of 1000 are in use, 100 are free; \
         a limit of 1100 would do"
    );
    let greedy = manager.register("greedy", CrateSettings::new()).unwrap();
    let most = manager.charge(greedy, 9000, 9000).unwrap();
    let error = manager.charge(greedy, 200, 200).unwrap_err();
    let text = error.to_string();
    for part in ["`greedy`", "200 bytes", "`pool`", "9900 of 10000", "100 free", "100 more"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let denials = |id| manager.node(id).unwrap().denials;
    assert_eq!((denials(id).limit, denials(id).total()), (1, 1));
    assert_eq!((denials(greedy).pool, denials(greedy).total()), (1, 1));
    drop((held, most));
}

#[test]
fn a_crate_in_use_is_not_retired_and_says_how_much_it_uses() {
    let (manager, id) = with_crate(1 << 20, 1 << 20);
    let child = manager.register("child", CrateSettings::new().parent(id)).unwrap();
    let memory = manager.allocate(child, 500).unwrap();
    let refused = manager.retire(id).unwrap_err();
    assert!(matches!(refused, MemoryError::InUse { used: 512, children: 1, .. }), "{refused:?}");
    let refused = manager.retire(child).unwrap_err();
    assert!(matches!(refused, MemoryError::InUse { used: 512, children: 0, .. }), "{refused:?}");
    assert_eq!(manager.deallocate(memory), Ok(512));
    manager.retire(child).unwrap();
    manager.retire(id).unwrap();
}

#[test]
fn a_limit_below_a_guarantee_and_a_guarantee_that_does_not_fit_are_refused() {
    let (manager, id) = with_crate(10_000, 5000);
    manager.set_guarantee(id, 4000).unwrap();
    let refused = manager.set_limit(id, 3999).unwrap_err();
    assert!(matches!(refused, MemoryError::LimitBelowGuarantee { asked: 3999, guaranteed: 4000, .. }));
    let refused = manager.set_guarantee(id, 5001).unwrap_err();
    assert!(
        matches!(refused, MemoryError::GuaranteeAboveLimit { asked: 5001, limit: 5000, .. }),
        "{refused:?}"
    );
    let refused = manager.set_total(3999).unwrap_err();
    assert!(matches!(refused, MemoryError::LimitBelowGuarantee { guaranteed: 4000, .. }));
    let refused = manager.register("other", CrateSettings::new().guarantee(6001)).unwrap_err();
    assert!(
        matches!(refused, MemoryError::GuaranteeUnavailable { asked: 6001, free: 6000, .. }),
        "{refused:?}"
    );
    assert_eq!(
        (manager.node(id).unwrap().floor, manager.pool().floor, manager.nodes().count()),
        (4000, 4000, 2)
    );
}

#[test]
fn a_total_above_what_the_manager_counts_is_refused_unless_it_was_announced() {
    let small = manager(1000);
    let error = small.set_total(usize::MAX).unwrap_err();
    assert!(matches!(error, MemoryError::TooLarge { .. }), "{error:?}");
    let large = UnifiedMemoryManager::builder().total(1000).largest_total(64 << 30).build().unwrap();
    large.set_total(64 << 30).unwrap();
    assert_eq!(large.pool().limit, 64 << 30);
}

#[test]
fn names_are_checked_and_every_setting_explains_itself() {
    let manager = manager(1000);
    for bad in ["", "with\0nul", &"n".repeat(49)] {
        let error = manager.register(bad, CrateSettings::new()).unwrap_err();
        assert_eq!(error, MemoryError::InvalidName { len: bad.len() });
    }
    let error = UnifiedMemoryManager::builder().build().unwrap_err().to_string();
    assert!(error.contains("`total`"), "{error}");
}

#[test]
fn storage_serves_one_manager_at_a_time_and_the_next_after_it() {
    static CRATES: CrateStorage<2> = CrateStorage::new();
    let build = || UnifiedMemoryManager::builder().total(1000).storage(&CRATES).build();
    let first = build().unwrap();
    let old = first.register("left behind", CrateSettings::new()).unwrap();
    assert!(matches!(build(), Err(MemoryError::InvalidConfig { .. })));
    drop(first);
    let second = build().unwrap();
    assert_eq!(second.nodes().count(), 1, "a crate of the former manager is left");
    assert!(matches!(second.node(old), Err(MemoryError::ForeignCrate { .. })));
    second.register("new", CrateSettings::new()).unwrap();
}

#[test]
fn too_deep_a_tree_is_refused() {
    let manager = manager(1000);
    let mut parent = manager.register("level", CrateSettings::new()).unwrap();
    let refused = loop {
        match manager.register("level", CrateSettings::new().parent(parent)) {
            Ok(child) => parent = child,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, MemoryError::TooDeep { depth: 8, deepest: 8, .. }), "{refused:?}");
    assert_eq!(manager.node(parent).unwrap().depth, 8);
}

#[test]
fn the_snapshot_is_a_tree_with_its_sums() {
    let manager = manager(100_000);
    let settings = CrateSettings::new;
    let b = manager.register("b", settings()).unwrap();
    let a = manager.register("a", settings()).unwrap();
    let b1 = manager.register("b1", settings().parent(b).limit(50_000)).unwrap();
    let a1 = manager.register("a1", settings().parent(a).guarantee(8192)).unwrap();
    let small = manager.allocate(b1, 100).unwrap();
    let pages =
        manager.allocate_for(a1, &Request { size: 5000, align: 4096, reserve: 1 << 20, guard: 1 }).unwrap();
    let snapshot = manager.snapshot();
    let names: Vec<_> = snapshot.crates.iter().map(|node| node.name.as_str().to_owned()).collect();
    assert_eq!(names, ["b", "b1", "a", "a1"]);
    let node = |id| manager.node(id).unwrap();
    assert_eq!((node(b1).parent, node(b).parent, node(b1).depth), (Some(b), None, 2));
    // Requested and charged, side by side.
    assert_eq!((node(b1).requested, node(b1).used), (100, 112));
    assert_eq!((node(a1).requested, node(a1).used, node(a1).floor), (5000, 8192, 8192));
    assert_eq!((node(b).used, node(a).used, manager.pool().used), (112, 8192, 8304));
    assert_eq!((snapshot.used, snapshot.free), (8304, 100_000 - 8304));
    assert_eq!(node(b1).provider.unwrap().kind, ProviderKind::Heap);
    assert_eq!(node(a1).provider.unwrap().kind, ProviderKind::Mapped);
    drop((small, pages));
    assert_eq!((node(b1).high_water, node(b1).requested, node(b1).used), (112, 0, 0));
    // What is kept for a guarantee nobody else can have.
    assert_eq!(manager.snapshot().free, 100_000 - 8192);
}

#[test]
fn memory_grows_in_place_within_its_reserve_and_its_budget() {
    let (manager, id) = with_crate(1 << 20, 65536);
    let request = Request { size: 4096, align: 4096, reserve: 1 << 20, guard: 4096 };
    let mut memory = manager.allocate_for(id, &request).unwrap();
    let base = memory.as_ptr();
    memory.as_mut_slice().fill(1);
    memory.grow(65536).unwrap();
    assert_eq!((memory.as_ptr(), memory.len(), manager.node(id).unwrap().used), (base, 65536, 65536));
    assert!(memory.as_slice()[4096..].iter().all(|&byte| byte == 0));
    assert!(matches!(memory.grow(65537), Err(MemoryError::OverLimit { .. })));
    assert!(matches!(memory.grow((1 << 20) + 1), Err(MemoryError::Provider { .. })));
    assert_eq!((memory.len(), manager.node(id).unwrap().used), (65536, 65536));
    let other = manager.register("other", CrateSettings::new()).unwrap();
    manager.set_limit(id, 1 << 20).unwrap();
    let mut theirs = CrateHandle::new(&*manager, other).unwrap().charge(4096, 4096).unwrap();
    assert!(memory.grow_charged(69632, &mut theirs).is_err());
    assert_eq!((theirs.bytes(), memory.len(), memory.charge().bytes()), (4096, 65536, 65536));
    drop(theirs);
    assert_eq!(manager.node(other).unwrap().used, 0);
    drop(memory);
    assert_eq!(manager.verification().violations(), 0);
    assert_eq!(manager.node(id).unwrap().used, 0);
}

#[test]
fn the_snapshot_counts_what_parents_use_and_what_of_their_guarantee_their_children_use_once() {
    let manager = manager(1000);
    let parent = manager.register("parent", CrateSettings::new().guarantee(100)).unwrap();
    let child = manager.register("child", CrateSettings::new().parent(parent)).unwrap();
    let figures = || {
        let snapshot = manager.snapshot();
        (snapshot.used, snapshot.free)
    };
    assert_eq!(figures(), (0, 900));
    // Within the parent's guarantee: no less is left for others.
    let one = manager.charge(child, 40, 40).unwrap();
    assert_eq!(figures(), (40, 900));
    let two = manager.charge(parent, 70, 70).unwrap();
    assert_eq!(figures(), (110, 890));
    let other = manager.register("other", CrateSettings::new()).unwrap();
    assert!(manager.charge(other, 891, 891).is_err());
    assert!(manager.charge(other, 890, 890).is_ok());
    drop((one, two));
    assert_eq!(figures(), (0, 900));
}
