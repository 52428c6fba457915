extern crate std;

use alloc::boxed::Box;
use alloc::vec::Vec;
use std::alloc::System;
use std::sync::Arc;

use super::*;

static HEAP: GuestHeap<System> = GuestHeap::new(System);

struct Sent(*mut u8);

// SAFETY: the block goes to one other thread, which frees it.
unsafe impl Send for Sent {}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

#[test]
fn a_block_is_counted_for_the_scope_it_was_allocated_in_wherever_it_is_freed() {
    let (a, b) = (Meter::new(None).unwrap(), Meter::new(None).unwrap());
    let layout = layout(100, 8);
    let entered = a.enter();
    // SAFETY: the size is not 0.
    let block = unsafe { HEAP.alloc(layout) };
    drop(entered);
    let cost = a.live();
    assert_eq!((cost, b.live()), ((100usize + 8 + 16).next_multiple_of(32), 0));
    let entered = b.enter();
    // SAFETY: allocated above.
    let block = unsafe { HEAP.realloc(block, layout, 1000) };
    assert_eq!((a.live(), b.live()), ((1000usize + 8 + 16).next_multiple_of(32), 0));
    // SAFETY: reallocated above.
    unsafe { HEAP.dealloc(block, self::layout(1000, 8)) };
    drop(entered);
    assert_eq!((a.live(), b.live()), (0, 0));
    assert_eq!(a.take_peak(), cost + (1000usize + 8 + 16).next_multiple_of(32));
    assert_eq!(a.take_peak(), 0);
}

#[test]
fn outside_of_any_scope_nobody_is_counted_for() {
    let meter = Meter::new(None).unwrap();
    let entered = meter.enter();
    let outside = scope::leave();
    // SAFETY: the size is not 0.
    let block = unsafe { HEAP.alloc_zeroed(layout(10, 1)) };
    assert_eq!(meter.live(), 0);
    drop(outside);
    // SAFETY: allocated above.
    unsafe { HEAP.dealloc(block, layout(10, 1)) };
    assert_eq!(meter.live(), 0);
    drop(entered);
}

#[test]
fn blocks_are_aligned_and_whole_for_every_alignment() {
    let meter = Meter::new(None).unwrap();
    let _entered = meter.enter();
    let mut blocks = Vec::new();
    for shift in 0..9 {
        let layout = layout(33, 1 << shift);
        // SAFETY: the size is not 0.
        let block = unsafe { HEAP.alloc(layout) };
        assert_eq!(block.addr() % layout.align(), 0);
        // SAFETY: 33 bytes were allocated.
        unsafe { block.write_bytes(0xff, 33) };
        blocks.push((block, layout));
    }
    for (block, layout) in blocks {
        // SAFETY: allocated above with this layout.
        unsafe { HEAP.dealloc(block, layout) };
    }
    assert_eq!(meter.live(), 0);
}

#[test]
fn a_block_may_outlive_its_guest_on_another_thread() {
    let meter = Meter::new(None).unwrap();
    let layout = layout(64, 64);
    let entered = meter.enter();
    // SAFETY: the size is not 0.
    let block = Sent(unsafe { HEAP.alloc(layout) });
    drop(entered);
    drop(meter);
    std::thread::spawn(move || {
        let Sent(block) = { block };
        // SAFETY: allocated above and freed once. (Whose it was is read from a meter that only this
        // block keeps.)
        unsafe { HEAP.dealloc(block, layout) };
    })
    .join()
    .unwrap();
}

#[test]
fn many_threads_leave_a_sum_of_nothing() {
    let meter = Arc::new(Meter::new(None).unwrap());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let meter = meter.clone();
            std::thread::spawn(move || {
                for size in 1..200 {
                    let _entered = meter.enter();
                    // SAFETY: the size is not 0; freed with the same layout.
                    unsafe { HEAP.dealloc(HEAP.alloc(layout(size, 8)), layout(size, 8)) };
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(meter.live(), 0);
    drop(Box::new(meter));
}

#[test]
fn too_much_is_refused_and_counts_nothing() {
    let meter = Meter::new(None).unwrap();
    let _entered = meter.enter();
    let layout = layout(isize::MAX as usize - 7, 8);
    // SAFETY: the size is not 0.
    assert!(unsafe { HEAP.alloc(layout) }.is_null());
    assert_eq!(meter.live(), 0);
}
