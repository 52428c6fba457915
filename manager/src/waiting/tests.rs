//! The lines on one thread, where every step is seen.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::TRIES;
use super::queue::MOST_OF_ONE;
use crate::budget::{ROOT, Refusal, Shortage, Units};
use crate::{Charge, CrateHandle, CrateId, CrateSettings, MemoryError, UnifiedMemoryManager, Waiting};

std::thread_local! {
    /// Charges made on behalf of those who wait, by this thread.
    pub(super) static TRIED: Cell<usize> = const { Cell::new(0) };
}

fn manager(total: usize) -> UnifiedMemoryManager {
    UnifiedMemoryManager::builder().total(total).stock(0).build().unwrap()
}

fn stocked(total: usize, stock: usize) -> UnifiedMemoryManager {
    UnifiedMemoryManager::builder().total(total).stock(stock).build().unwrap()
}

fn register(manager: &UnifiedMemoryManager, settings: CrateSettings) -> CrateHandle<'_> {
    CrateHandle::new(manager, manager.register("crate", settings).unwrap()).unwrap()
}

fn plain(manager: &UnifiedMemoryManager) -> CrateHandle<'_> {
    register(manager, CrateSettings::new())
}

/// One that waits.
fn wait<'m>(handle: &CrateHandle<'m>, n: usize) -> Waiting<'m> {
    let mut waiting = handle.charge_or_wait(n, n);
    assert!(waiting.poll_once().is_none(), "{n} bytes were there");
    waiting
}

fn take<'m>(waiting: &mut Waiting<'m>) -> Charge<'m> {
    waiting.poll_once().expect("granted").unwrap()
}

fn waits(manager: &UnifiedMemoryManager) -> (u64, u64, u64, u32) {
    let waits = manager.waits();
    assert_eq!(waits.begun, waits.granted + waits.given_up + u64::from(waits.waiting));
    (waits.begun, waits.granted, waits.given_up, waits.waiting)
}

/// Nobody waits, holds or is charged.
fn assert_clean(manager: &UnifiedMemoryManager) {
    assert_eq!((waits(manager).3, manager.snapshot().used), (0, 0));
    for node in manager.nodes() {
        assert_eq!(node.waiting, 0, "{}", node.name);
        let line = &manager.tracker.slot(node.id.index).line;
        assert!(!line.is_held() && line.is_empty(), "a ticket was left in the line of {}", node.name);
    }
}

fn queued(result: crate::Result<Charge<'_>>) -> String {
    match result {
        Err(MemoryError::Queued { holder, .. }) => holder.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<'m>(waiting: &mut Waiting<'m>, wakes: &Arc<Wakes>) -> Poll<crate::Result<Charge<'m>>> {
    std::pin::Pin::new(waiting).poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
}

use std::future::Future;

#[test]
fn what_is_there_is_charged_without_a_ticket() {
    let manager = manager(100);
    let one = plain(&manager);
    let charge = one.charge_or_wait(40, 50).poll_once().unwrap().unwrap();
    assert_eq!((charge.bytes(), charge.requested(), waits(&manager)), (50, 40, (0, 0, 0, 0)));
    drop(charge);
    assert_clean(&manager);
}

#[test]
fn a_grant_is_a_reservation_that_nobody_takes_before_it_is_taken() {
    let manager = manager(100);
    let (one, two, three) = (plain(&manager), plain(&manager), plain(&manager));
    let all = one.charge(100, 100).unwrap();
    let mut waiting = wait(&two, 60);
    assert_eq!((manager.node(two.id()).unwrap().used, manager.node(two.id()).unwrap().waiting), (0, 1));
    drop(all);
    // Before whoever waited looks again.
    assert_eq!(manager.node(two.id()).unwrap().used, 60);
    assert!(matches!(three.charge(41, 41), Err(MemoryError::PoolExhausted { free: 40, .. })));
    drop(three.charge(40, 40).unwrap());
    assert_eq!(waits(&manager), (1, 1, 0, 0));
    assert_eq!(take(&mut waiting).bytes(), 60);
    assert_eq!(manager.node(two.id()).unwrap().denials.total(), 0, "a wait that was granted is no denial");
    assert_clean(&manager);
}

#[test]
fn first_come_first_served_and_no_newcomer_overtakes() {
    let manager = manager(100);
    let handles: Vec<_> = (0..5).map(|_| plain(&manager)).collect();
    let mut parts: Vec<_> = (0..10).map(|_| handles[0].charge(10, 10).unwrap()).collect();
    let mut first = wait(&handles[1], 30);
    let mut second = wait(&handles[2], 10);
    let mut third = wait(&handles[3], 10);
    parts.truncate(8);
    // 20 are free: enough for the second, the third, and a newcomer; but the first came first.
    assert!(first.poll_once().is_none() && second.poll_once().is_none() && third.poll_once().is_none());
    assert_eq!(queued(handles[4].charge(10, 10)), "pool");
    assert_eq!(manager.node(handles[4].id()).unwrap().denials.pool, 1);
    parts.truncate(7);
    let first = take(&mut first);
    assert!(second.poll_once().is_none());
    parts.truncate(5);
    let (second, third) = (take(&mut second), take(&mut third));
    assert!(handles[4].charge(1, 1).is_err());
    drop((first, second, third, parts));
    assert_eq!(waits(&manager), (3, 3, 0, 0));
    assert_clean(&manager);
}

#[test]
fn what_a_crate_keeps_beyond_its_guarantee_is_for_the_first_in_its_line() {
    let manager = stocked(1000, 100);
    let handle = register(&manager, CrateSettings::new().limit(100).guarantee(50));
    let used = handle.charge(40, 40).unwrap();
    let more = handle.charge(20, 20).unwrap();
    assert_eq!(manager.node(handle.id()).unwrap().held, 100, "with its stock");
    let mut waiting = wait(&handle, 50);
    assert!(queued(handle.charge(10, 10)).starts_with("crate"));
    drop(used);
    assert_eq!(take(&mut waiting).bytes(), 50);
    drop(more);
}

#[test]
fn the_first_in_line_is_not_starved_by_small_charges_that_come_and_go() {
    for stock in [0, 16] {
        let manager = stocked(100, stock);
        let (big, small) = (plain(&manager), plain(&manager));
        let mut held: Vec<_> = (0..10).map(|_| small.charge(10, 10).unwrap()).collect();
        let mut waiting = wait(&big, 95);
        for _ in 0..10 {
            held.pop();
            // As soon as it gives back, it wants it back.
            if let Ok(again) = small.charge(10, 10) {
                held.push(again);
            }
        }
        assert!(held.is_empty(), "stock {stock}: newcomers overtook");
        assert_eq!(take(&mut waiting).bytes(), 95);
        drop(waiting);
        assert_clean(&manager);
    }
}

#[test]
fn bytes_that_come_to_anybodys_stock_are_found() {
    let manager = stocked(1000, 100);
    let (one, two, three) = (plain(&manager), plain(&manager), plain(&manager));
    let part = one.charge(50, 50).unwrap();
    let rest = two.charge(850, 850).unwrap();
    let mut waiting = wait(&three, 120);
    // It stays with the crate, as stock.
    drop(part);
    assert_eq!(take(&mut waiting).bytes(), 120);
    drop(rest);
    assert_clean(&manager);
}

#[test]
fn what_is_enough_for_two_serves_both_though_one_may_keep_stock() {
    let manager = stocked(200, 100);
    let (one, two, three) = (plain(&manager), plain(&manager), plain(&manager));
    // With a seat.
    drop(two.charge(1, 1).unwrap());
    let all = one.charge(200, 200).unwrap();
    let (mut first, mut second) = (wait(&two, 50), wait(&three, 150));
    drop(all);
    assert_eq!((take(&mut first).bytes(), take(&mut second).bytes()), (50, 150));
    assert_clean(&manager);
}

#[test]
fn what_is_guaranteed_neither_waits_nor_is_refused() {
    let manager = manager(100);
    let guaranteed = register(&manager, CrateSettings::new().guarantee(30));
    let (one, two) = (plain(&manager), plain(&manager));
    let all = one.charge(70, 70).unwrap();
    let waiting = wait(&two, 50);
    // Its own instances wait as well, for more than is guaranteed.
    let more = wait(&guaranteed, 40);
    let within = guaranteed.charge(30, 30).unwrap();
    assert!(guaranteed.charge(1, 1).is_err());
    assert_eq!(guaranteed.charge_or_wait(0, 0).poll_once().unwrap().unwrap().bytes(), 0);
    drop((within, waiting, more, all));
    assert_clean(&manager);
}

#[test]
fn what_can_never_be_is_refused_at_once() {
    let manager = manager(100);
    let parent = manager.register("parent", CrateSettings::new().limit(60).guarantee(10)).unwrap();
    let sibling = register(&manager, CrateSettings::new().parent(parent).guarantee(20));
    let child = register(&manager, CrateSettings::new().parent(parent).limit(50).guarantee(5));
    let outside = plain(&manager);
    let refused = |handle: &CrateHandle<'_>, n: usize| match handle.charge_or_wait(n, n).poll_once() {
        Some(Err(error)) => error,
        other => panic!("{n}: {other:?}"),
    };
    assert!(matches!(refused(&child, 51), MemoryError::OverLimit { asked: 51, limit: 50, .. }));
    // 60 of the parent less 20 of the sibling: its own 5 and the parent's 10 are not in the way.
    assert!(matches!(refused(&child, 41), MemoryError::PoolExhausted { asked: 41, .. }));
    // 100 less the 35 below the parent.
    assert!(matches!(refused(&outside, 66), MemoryError::PoolExhausted { asked: 66, .. }));
    assert!(matches!(refused(&outside, usize::MAX), MemoryError::OverLimit { .. }));
    assert_eq!(waits(&manager), (0, 0, 0, 0));
    assert_eq!(manager.node(child.id()).unwrap().denials.total(), 2);
    // At the edge it waits.
    let (inside, other) = (sibling.charge(40, 40).unwrap(), outside.charge(40, 40).unwrap());
    let (edge, free) = (wait(&child, 40), wait(&outside, 65));
    drop((edge, free, inside));
    // What whoever waits has besides counts.
    let full = plain(&manager).charge(25, 25).unwrap();
    let mut possible = outside.charge_or_wait(25, 25).besides(40);
    assert!(possible.poll_once().is_none());
    drop(possible);
    let more = outside.charge_or_wait(26, 26).besides(40).poll_once();
    assert!(matches!(more, Some(Err(MemoryError::PoolExhausted { .. }))), "{more:?}");
    drop((other, full));
    assert_clean(&manager);
}

#[test]
fn what_can_never_be_is_not_for_want_of_a_place_in_line() {
    let manager = manager(100);
    let parent = register(&manager, CrateSettings::new().limit(60));
    let child = register(&manager, CrateSettings::new().parent(parent.id()));
    let promised = register(&manager, CrateSettings::new().parent(parent.id()).guarantee(10));
    let (held, mut first) = (child.charge(50, 50).unwrap(), wait(&child, 40));
    // Others wait for bytes of the parent; but these 51 it will never have for one child.
    let refused = child.charge_or_wait(51, 51).poll_once().unwrap().unwrap_err();
    let MemoryError::PoolExhausted { holder, asked: 51, .. } = refused else { panic!("{refused}") };
    assert_eq!(holder, manager.node(parent.id()).unwrap().name);
    drop(held);
    assert_eq!(take(&mut first).bytes(), 40);
    drop((first, promised));
    assert_clean(&manager);
}

#[test]
fn what_becomes_impossible_ends() {
    let manager = manager(100);
    let (one, two) = (plain(&manager), plain(&manager));
    let all = one.charge(100, 100).unwrap();
    let wakes = Arc::new(Wakes::default());
    let mut waiting = two.charge_or_wait(80, 80);
    assert!(poll(&mut waiting, &wakes).is_pending());
    manager.set_limit(two.id(), 79).unwrap();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    let error = waiting.poll_once().unwrap().unwrap_err();
    assert!(
        matches!(error, MemoryError::OverLimit { limit: 79, .. } | MemoryError::PoolExhausted { .. }),
        "{error}"
    );
    assert_eq!((waits(&manager), manager.node(two.id()).unwrap().denials.total()), ((1, 0, 1, 0), 1));
    drop(all);
    assert_clean(&manager);
}

#[test]
fn a_limit_or_total_that_rises_and_a_guarantee_that_falls_serve() {
    let manager = manager(100);
    let limited = register(&manager, CrateSettings::new().limit(20));
    let held = limited.charge(20, 20).unwrap();
    let mut own = wait(&limited, 10);
    // It waits at its own limit: others are not in its way, nor it in theirs.
    drop(plain(&manager).charge(80, 80).unwrap());
    manager.set_limit(limited.id(), 30).unwrap();
    let own = take(&mut own);

    let promised = register(&manager, CrateSettings::new().guarantee(40));
    let other = plain(&manager);
    let some = other.charge(20, 20).unwrap();
    let mut waiting = wait(&other, 20);
    manager.set_guarantee(promised.id(), 10).unwrap();
    let got = take(&mut waiting);

    let mut waiting = wait(&other, 40);
    manager.set_total(120).unwrap();
    let more = take(&mut waiting);

    let mut waiting = wait(&other, 10);
    manager.retire(promised.id()).unwrap();
    let last = take(&mut waiting);
    drop((held, own, some, got, more, last));
    assert_clean(&manager);
}

#[test]
fn whoever_waits_for_a_parents_bytes_gets_them_though_another_waits_for_the_pools() {
    let manager = manager(100);
    let parent = manager.register("parent", CrateSettings::new().guarantee(40)).unwrap();
    let (one, two) = (
        register(&manager, CrateSettings::new().parent(parent)),
        register(&manager, CrateSettings::new().parent(parent)),
    );
    let (outside, other) = (plain(&manager), plain(&manager));
    let inner = one.charge(40, 40).unwrap();
    let outer = outside.charge(60, 60).unwrap();
    let mut first = wait(&other, 50);
    // Refused by the pool, behind the other; but what comes back below its parent is for it.
    let mut second = wait(&two, 30);
    drop(inner);
    assert_eq!(take(&mut second).bytes(), 30);
    assert!(first.poll_once().is_none());
    drop(outer);
    assert_eq!(take(&mut first).bytes(), 50);
    assert_clean(&manager);
}

#[test]
fn a_request_that_is_dropped_leaves_queue_and_bytes_clean() {
    let manager = manager(100);
    let (one, two, three) = (plain(&manager), plain(&manager), plain(&manager));
    // In line: the next is served.
    let held = one.charge(60, 60).unwrap();
    let first = wait(&two, 50);
    let mut second = wait(&three, 40);
    drop(first);
    drop(take(&mut second));
    assert_eq!(waits(&manager), (2, 1, 1, 0));
    drop(held);
    assert_clean(&manager);
    // Granted and not taken: the bytes go to the next.
    let held = one.charge(100, 100).unwrap();
    let first = wait(&one, 70);
    let mut second = wait(&three, 80);
    drop(held);
    assert_eq!(manager.node(one.id()).unwrap().used, 70);
    assert!(second.poll_once().is_none());
    drop(first);
    assert_eq!(take(&mut second).bytes(), 80);
    assert_eq!(waits(&manager), (4, 3, 1, 0));
    assert_clean(&manager);
}

#[test]
fn who_gave_up_stands_in_line_but_does_not_hold_it_until_as_much_was_granted() {
    let manager = manager(100);
    let (hostile, other, third) = (plain(&manager), plain(&manager), plain(&manager));
    let held = other.charge(50, 50).unwrap();
    let first = wait(&hostile, 80);
    assert_eq!(queued(other.charge(10, 10)), "pool");
    drop(first);
    for _ in 0..3 {
        let again = wait(&hostile, 80);
        drop(other.charge(50, 50).unwrap());
        drop(again);
    }
    // Neither are those who hold the line kept by it; and it is served when its turn is there.
    let mut again = wait(&hostile, 80);
    let mut holds = wait(&third, 60);
    drop(held);
    assert!(again.poll_once().is_some_and(|granted| granted.is_ok()));
    let rest = take(&mut holds);
    drop(again);
    drop(rest);
    // It was granted what it gave up, after a wait.
    let held = other.charge(50, 50).unwrap();
    let first = wait(&hostile, 80);
    assert_eq!(queued(other.charge(10, 10)), "pool");
    drop(first);
    // A little is not enough for that.
    let full = other.charge(50, 50).unwrap();
    let mut little = wait(&hostile, 1);
    drop(full);
    let little = take(&mut little);
    let big = wait(&hostile, 80);
    drop(other.charge(10, 10).unwrap());
    drop((held, little, big));
    assert_clean(&manager);
}

#[test]
fn one_who_does_not_fit_and_may_be_passed_keeps_no_holder_behind_it() {
    let manager = manager(100);
    let (hostile, other, third) = (plain(&manager), plain(&manager), plain(&manager));
    let part = other.charge(20, 20).unwrap();
    let rest = other.charge(60, 60).unwrap();
    drop(wait(&hostile, 90));
    let again = wait(&hostile, 90);
    let mut holds = wait(&third, 30);
    drop(part);
    assert_eq!(take(&mut holds).bytes(), 30);
    drop((rest, again));
    assert_clean(&manager);
}

#[test]
fn a_retired_crates_requests_end_and_do_not_keep_it() {
    let manager = manager(100);
    let (one, two, three) = (plain(&manager), plain(&manager), plain(&manager));
    let all = one.charge(100, 100).unwrap();
    // First in line: those of the retired crate are not tried for what it gives back.
    let mut ahead = wait(&three, 100);
    let wakes = Arc::new(Wakes::default());
    let mut stale: Vec<_> = (0..3).map(|_| two.charge_or_wait(50, 50)).collect();
    assert!(stale.iter_mut().all(|waiting| poll(waiting, &wakes).is_pending()));
    manager.retire(two.id()).unwrap();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 3);
    for waiting in &mut stale {
        assert!(matches!(waiting.poll_once(), Some(Err(MemoryError::StaleCrate { .. }))));
        assert!(matches!(waiting.poll_once(), Some(Err(MemoryError::StaleCrate { .. }))), "it begins anew");
    }
    let next = plain(&manager);
    assert_eq!((next.id().index, manager.node(next.id()).unwrap().waiting), (two.id().index, 0));
    drop(all);
    assert_eq!(take(&mut ahead).bytes(), 100);
    // A grant that nobody took is in use: that does keep it.
    let all = one.charge(100, 100).unwrap();
    let granted = wait(&next, 10);
    drop(all);
    assert!(matches!(manager.retire(next.id()), Err(MemoryError::InUse { used: 10, .. })));
    drop(granted);
    manager.retire(next.id()).unwrap();
    assert_clean(&manager);
}

#[test]
fn so_many_of_one_crate_wait_and_no_more() {
    let manager = manager(100);
    let (one, two) = (plain(&manager), plain(&manager));
    let all = one.charge(100, 100).unwrap();
    let most = usize::from(MOST_OF_ONE);
    let waiting: Vec<_> = (0..most).map(|_| wait(&two, 1)).collect();
    match two.charge_or_wait(1, 1).poll_once() {
        Some(Err(MemoryError::TooManyWaiting { waiting, most: allowed, .. })) => {
            assert_eq!((waiting, allowed), (most, most));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(manager.node(two.id()).unwrap().denials.pool, 1);
    // Others may.
    drop(wait(&plain(&manager), 1));
    drop((waiting, all));
    assert_clean(&manager);
}

#[test]
fn so_many_of_all_crates_wait_and_no_more() {
    let manager = manager(100);
    let one = plain(&manager);
    let all = one.charge(100, 100).unwrap();
    let most = super::Tickets::MOST;
    let mut waiting = Vec::new();
    let mut handle = plain(&manager);
    for at in 0..most {
        if at.is_multiple_of(usize::from(MOST_OF_ONE)) {
            handle = plain(&manager);
        }
        waiting.push(wait(&handle, 1));
    }
    let refused = plain(&manager).charge_or_wait(1, 1).poll_once();
    assert!(matches!(refused, Some(Err(MemoryError::TooManyWaiting { .. }))), "{refused:?}");
    waiting.pop();
    drop(wait(&plain(&manager), 1));
    drop((waiting, all));
    assert_clean(&manager);
}

#[test]
fn one_look_tries_so_many_and_the_next_in_line_goes_on() {
    let manager = manager(100);
    let (one, two) = (plain(&manager), plain(&manager));
    let all = one.charge(100, 100).unwrap();
    let wakes = Arc::new(Wakes::default());
    let mut waiting: Vec<_> = (0..3 * TRIES).map(|_| two.charge_or_wait(1, 1)).collect();
    assert!(waiting.iter_mut().all(|waiting| poll(waiting, &wakes).is_pending()));
    TRIED.set(0);
    drop(all);
    assert_eq!(TRIED.get(), TRIES, "what one thread does for others is bounded");
    // Those granted, and one to go on.
    assert_eq!(wakes.0.load(Ordering::SeqCst), TRIES + 1);
    assert_eq!(waits(&manager).1, TRIES as u64);
    // It may also leave instead.
    let next = waiting.remove(TRIES);
    drop(next);
    assert_eq!(waits(&manager).1, 2 * TRIES as u64);
    for waiting in waiting {
        let mut waiting = waiting;
        assert!(waiting.poll_once().is_some(), "a wake-up was lost");
    }
    assert_clean(&manager);
}

#[test]
fn a_try_costs_the_same_beside_many_crates_and_many_who_wait() {
    let tries = |crates: usize, each: usize| {
        let manager = manager(100_000);
        let full = plain(&manager).charge(100_000, 100_000).unwrap();
        let handles: Vec<_> = (0..crates).map(|_| plain(&manager)).collect();
        let waiting: Vec<_> = handles.iter().flat_map(|handle| (0..each).map(|_| wait(handle, 1))).collect();
        let hostile = plain(&manager);
        let most = |work: &mut dyn FnMut()| {
            (0..20)
                .map(|_| {
                    TRIED.set(0);
                    work();
                    TRIED.get()
                })
                .max()
        };
        let costs = [most(&mut || drop(wait(&hostile, 50))), most(&mut || drop(hostile.charge(50, 50)))];
        drop((waiting, full));
        assert_clean(&manager);
        costs
    };
    let (few, many) = (tries(2, 1), tries(500, 8));
    assert_eq!(few, many);
    assert!(few.iter().all(|&most| most <= Some(4)), "{few:?}");
}

#[test]
fn those_who_block_wake_and_time_out() {
    let manager = manager(100);
    let (one, two) = (plain(&manager), plain(&manager));
    let all = one.charge(100, 100).unwrap();
    let timeout = std::time::Duration::from_millis(20);
    let error = two.charge_or_wait(50, 50).block(timeout).unwrap_err();
    assert!(matches!(error, MemoryError::PoolExhausted { asked: 50, .. }), "{error}");
    std::thread::scope(|scope| {
        let blocked =
            scope.spawn(|| two.charge_or_wait(50, 50).block(std::time::Duration::from_secs(30)).unwrap());
        while manager.waits().waiting == 0 {
            std::thread::yield_now();
        }
        drop(all);
        assert_eq!(blocked.join().unwrap().bytes(), 50);
    });
    // Longer than a clock counts.
    drop(two.charge_or_wait(50, 50).block(std::time::Duration::MAX).unwrap());
    assert_clean(&manager);
}

#[test]
fn a_timer_ends_a_wait() {
    let manager = manager(100);
    let (one, two) = (plain(&manager), plain(&manager));
    let all = one.charge(100, 100).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut over = std::pin::pin!(two.charge_or_wait(50, 50).until(std::future::ready(())));
    match over.as_mut().poll(&mut context) {
        Poll::Ready(Err(MemoryError::PoolExhausted { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(manager.node(two.id()).unwrap().denials.pool, 1);
    let mut never = Box::pin(two.charge_or_wait(50, 50).until(std::future::pending::<()>()));
    assert!(never.as_mut().poll(&mut context).is_pending());
    drop(all);
    assert!(never.as_mut().poll(&mut context).is_ready());
    assert_eq!(waits(&manager), (2, 1, 1, 0));
    assert_clean(&manager);
}

#[test]
fn deep_trees_have_a_line_at_every_level() {
    let manager = manager(1000);
    let mut parent: Option<CrateId> = None;
    let mut levels = Vec::new();
    for level in 0..8 {
        let mut settings = CrateSettings::new().limit(800 - level * 10);
        if let Some(parent) = parent {
            settings = settings.parent(parent);
        }
        let handle = register(&manager, settings);
        parent = Some(handle.id());
        levels.push(handle);
    }
    let leaf = levels.pop().unwrap();
    let above = levels.pop().unwrap();
    let other = above.charge(700, 700).unwrap();
    // Refused by the limit just above.
    let mut waiting = wait(&leaf, 100);
    drop(plain(&manager).charge(300, 300).unwrap());
    // And then by the pool, when that limit has room.
    let full = plain(&manager).charge(300, 300).unwrap();
    drop(other);
    drop(full);
    assert_eq!(take(&mut waiting).bytes(), 100);
    assert_clean(&manager);
}

#[test]
fn who_is_refused_while_its_crate_is_retired_hears_of_that_and_not_of_the_limit() {
    let manager = stocked(1000, 0);
    let id = manager.register("crate", CrateSettings::new()).unwrap();
    let refused = || {
        let shortage = Shortage { node: ROOT, refusal: Refusal::Short(Units::ONE) };
        let (shortage, hopeless) =
            manager.tracker.forever(id.index, id.generation, Units::new(10).unwrap(), shortage);
        (shortage.refusal == Refusal::Closed, hopeless)
    };
    assert_eq!(refused(), (false, false));
    manager.retire(id).unwrap();
    assert_eq!(refused(), (true, true));
    let next = manager.register("next", CrateSettings::new().limit(5)).unwrap();
    assert_eq!((next.index, refused()), (id.index, (true, true)));
}
