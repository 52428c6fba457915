use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;

use super::{GRANULE, HEADER, StaticRegionProvider};
use crate::provider::model::{absurd, bytes, refuses, run, runs};
use crate::provider::{Provider, ProviderError, Request};

/// Bytes for a region, dirty and at an odd address; given back by `Drop`, so that Miri sees no leak.
struct Dirty {
    lines: *mut [Line],
    len: usize,
}

/// So that every region begins at the same distance from a granule, and loses as much to alignment as any other.
#[derive(Clone)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "read as bytes")] [u8; 64]);

impl Dirty {
    fn new(len: usize) -> Self {
        let lines = std::vec![Line([0xAA; 64]); (len + 1).div_ceil(64)];
        Self { lines: Box::into_raw(lines.into_boxed_slice()), len }
    }

    /// To be called once, and its result to be dropped before `self`.
    fn provider(&self) -> StaticRegionProvider {
        // SAFETY: each test drops its providers before the bytes, and makes one for the bytes, all of them initialised.
        let bytes = unsafe { core::slice::from_raw_parts_mut(self.lines.cast::<u8>().add(1), self.len) };
        assert_eq!(bytes.as_ptr().align_offset(GRANULE), GRANULE - 1);
        StaticRegionProvider::new(bytes)
    }
}

impl Drop for Dirty {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw`, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(self.lines) });
    }
}

/// The largest request that costs `cost` bytes, a multiple of the granule.
fn of_cost(cost: usize) -> Request {
    Request { align: HEADER, ..Request::new(cost - HEADER) }
}

/// What is free, found by filling it with the smallest blocks there are, one granule each: any
/// hole serves those, so this knows nothing of costs and headers.
fn truly_free(provider: &StaticRegionProvider) -> usize {
    let mut taken = Vec::new();
    let smallest = Request { size: 1, align: 1, reserve: 0, guard: 0 };
    while let Ok(block) = provider.allocate(&smallest) {
        taken.push(block);
    }
    let free = taken.len() * GRANULE;
    for block in taken {
        // SAFETY: each is live and from this provider.
        unsafe { provider.free(block) };
    }
    free
}

/// Bytes of a region that many operations are done on.
const ROOM: usize = if cfg!(miri) { 1_000 } else { 20_000 };

fn cases(natively: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { natively };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn blocks_are_apart_zeroed_and_cost_exactly_what_the_region_loses(
        // The whole region is filled after every operation: minutes in Miri, unless it is small.
        len in 0..if cfg!(miri) { 800 } else { 20_000usize },
        ops in runs(6_000, 4096),
    ) {
        let dirty = Dirty::new(len);
        let provider = dirty.provider();
        let (free, largest) = (provider.free_bytes(), provider.largest_free());
        prop_assert!(free <= len && free + 2 * GRANULE > len);
        run(&provider, &ops, |live| {
            let charged: usize = live.iter().map(|it| it.block.cost).sum();
            assert_eq!(provider.free_bytes() + charged, free);
            assert_eq!(truly_free(&provider), provider.free_bytes());
        });
        prop_assert_eq!((provider.free_bytes(), provider.largest_free()), (free, largest));
    }

    #[test]
    fn the_largest_free_block_can_be_had_and_nothing_larger(ops in runs(3_000, 256)) {
        let dirty = Dirty::new(ROOM);
        let provider = dirty.provider();
        run(&provider, &ops, |_| {
            let (free, largest) = (provider.free_bytes(), provider.largest_free());
            assert!(largest <= free);
            if largest > 0 {
                let block = provider.allocate(&of_cost(largest)).unwrap();
                assert_eq!(block.cost, largest);
                // SAFETY: it is live and from this provider.
                unsafe { provider.free(block) };
            }
            let asked = largest + GRANULE;
            let refusal = provider.allocate(&of_cost(asked)).unwrap_err();
            assert!(
                refusal == ProviderError::Exhausted { asked, largest }
                    || matches!(refusal, ProviderError::Unsupported { limit, .. } if limit == largest - HEADER)
                    || largest == 0
            );
            assert_eq!((provider.free_bytes(), provider.largest_free()), (free, largest));
        });
    }

    #[test]
    fn neither_probes_nor_refusals_change_where_later_blocks_lie(ops in runs(3_000, 8)) {
        let dirty = [Dirty::new(ROOM), Dirty::new(ROOM)];
        let place = |dirty: &Dirty, disturb: bool| {
            let provider = dirty.provider();
            let origin = provider.allocate(&Request::new(0)).unwrap();
            let mut placed = Vec::new();
            run(&provider, &ops, |live| {
                placed.extend(live.iter().map(|it| it.block.ptr.addr().get() - origin.ptr.addr().get()));
                if disturb {
                    let asked = provider.largest_free() + GRANULE;
                    let _ = provider.allocate(&Request::new(asked)).unwrap_err();
                }
            });
            // SAFETY: it is live and from this provider.
            unsafe { provider.free(origin) };
            placed
        };
        prop_assert_eq!(place(&dirty[0], false), place(&dirty[1], true));
    }

    #[test]
    #[cfg_attr(miri, ignore = "all is refused before any `unsafe`")]
    fn absurd_sizes_are_refused_without_a_trace(request in absurd()) {
        let dirty = Dirty::new(4_096);
        let provider = dirty.provider();
        let before = (provider.free_bytes(), provider.largest_free());
        refuses(&provider, &request);
        prop_assert_eq!((provider.free_bytes(), provider.largest_free()), before);
    }
}

#[test]
#[cfg_attr(miri, ignore = "costs are counted without `unsafe`")]
fn the_documented_costs_hold() {
    let dirty = Dirty::new(1 << 20);
    let provider = dirty.provider();
    let cost = |size, align, reserve| provider.cost(&Request { size, align, reserve, guard: 0 });
    for size in (0..200).chain([4096, 65536]) {
        for align in [1, 8, HEADER] {
            assert_eq!(cost(size, align, 0), Ok((size + HEADER).next_multiple_of(GRANULE)));
        }
        for align in [GRANULE, 64, 4096, 65536] {
            assert_eq!(cost(size, align, 0), Ok((size + align).next_multiple_of(GRANULE)));
        }
        assert_eq!(cost(size, 8, 70_000), cost(70_000, 8, 0), "a reservation takes its bytes");
    }
}

#[test]
fn the_named_limit_is_the_exact_limit_of_an_empty_region() {
    let dirty = Dirty::new(50_000);
    let provider = dirty.provider();
    for align in (0..15).step_by(if cfg!(miri) { 4 } else { 1 }).map(|log| 1 << log) {
        let request = Request { align, ..Request::new(usize::MAX) };
        let Err(ProviderError::Unsupported { what: "size", limit, .. }) = provider.cost(&request) else {
            panic!("nobody has so much");
        };
        let block = provider.allocate(&Request { size: limit, ..request }).unwrap();
        // SAFETY: it is live and from this provider.
        unsafe { provider.free(block) };
        let (asked, above) = (limit + 1, Request { size: limit + 1, ..request });
        assert_eq!(provider.cost(&above), Err(ProviderError::Unsupported { what: "size", asked, limit }));
        let (what, above) = ("reserve", Request { reserve: asked, ..Request { size: 1, ..request } });
        assert_eq!(provider.cost(&above), Err(ProviderError::Unsupported { what, asked, limit }));
    }
}

#[test]
fn a_reused_block_shows_nothing_of_its_last_holder() {
    let dirty = Dirty::new(4_096);
    let provider = dirty.provider();
    for _ in 0..3 {
        let block = provider.allocate(&Request { reserve: 2_000, ..Request::new(100) }).unwrap();
        assert!(bytes(&block).iter().all(|byte| *byte == 0));
        // SAFETY: the block's reserved bytes are its own; its holder may grow into them.
        unsafe { block.ptr.write_bytes(0xFF, block.reserved) };
        let mut block = block;
        // SAFETY: it is live and from this provider.
        unsafe { provider.grow(&mut block, 2_000).unwrap() };
        assert!(bytes(&block)[100..].iter().all(|byte| *byte == 0), "even if written too early");
        // SAFETY: as above.
        unsafe { provider.free(block) };
    }
}

#[test]
fn a_denied_growth_leaves_the_block_as_it_was() {
    let dirty = Dirty::new(4_096);
    let provider = dirty.provider();
    let mut block = provider.allocate(&Request { reserve: 64, ..Request::new(32) }).unwrap();
    let free = provider.free_bytes();
    for size in [65, usize::MAX] {
        let refusal = ProviderError::PastReserve { asked: size, limit: 64 };
        assert_eq!(provider.grown_cost(&block, size), Err(refusal));
        // SAFETY: it is live and from this provider.
        assert_eq!(unsafe { provider.grow(&mut block, size) }, Err(refusal));
    }
    assert_eq!((block.size, block.reserved, provider.free_bytes()), (32, 64, free));
    // SAFETY: as above.
    unsafe { provider.free(block) };
}

#[test]
fn a_region_too_small_for_a_block_serves_nothing_and_says_so() {
    for len in [0, 1, GRANULE - 1] {
        let dirty = Dirty::new(len);
        let provider = dirty.provider();
        assert_eq!((provider.free_bytes(), provider.largest_free()), (0, 0));
        let refusal = ProviderError::Unsupported { what: "size", asked: 0, limit: 0 };
        assert_eq!(provider.allocate(&Request::new(0)).unwrap_err(), refusal);
    }
}

#[test]
#[cfg_attr(miri, ignore = "all is refused before any `unsafe`")]
fn guards_and_large_alignments_are_refused() {
    let dirty = Dirty::new(1 << 20);
    let provider = dirty.provider();
    let guarded = Request { guard: 1, ..Request::new(16) };
    let refusal = ProviderError::Unsupported { what: "guard", asked: 1, limit: 0 };
    assert_eq!(provider.cost(&guarded), Err(refusal));
    let aligned = Request { align: 131_072, ..Request::new(16) };
    let refusal = ProviderError::Unsupported { what: "alignment", asked: 131_072, limit: 65_536 };
    assert_eq!(provider.cost(&aligned), Err(refusal));
}

#[test]
#[cfg_attr(target_family = "wasm", ignore = "no threads there")]
fn threads_never_share_a_byte() {
    let dirty = Dirty::new(if cfg!(miri) { 4 << 10 } else { 64 << 10 });
    let provider = dirty.provider();
    let before = (provider.free_bytes(), provider.largest_free());
    std::thread::scope(|scope| {
        for pattern in 1..=3 {
            let provider = &provider;
            scope.spawn(move || {
                for round in 0..if cfg!(miri) { 4 } else { 300 } {
                    let request = Request { align: 1 << (round % 8), ..Request::new(round * 37 % 900) };
                    let Ok(block) = provider.allocate(&request) else {
                        continue;
                    };
                    assert!(bytes(&block).iter().all(|byte| *byte == 0));
                    // SAFETY: the block is this thread's.
                    unsafe { block.ptr.write_bytes(pattern, block.size) };
                    std::thread::yield_now();
                    assert!(bytes(&block).iter().all(|byte| *byte == pattern));
                    // SAFETY: it is live, and its only reference has ended.
                    unsafe { provider.free(block) };
                }
            });
        }
    });
    assert_eq!((provider.free_bytes(), provider.largest_free()), before);
}
