//! Under Miri there is no `mprotect`: `os/miri.rs` stands in for the system, and what asks the system itself is not run there.

use proptest::prelude::*;

use super::{MappedProvider, Span};
use crate::provider::model::{Probe, absurd, bytes, refuses, run, runs};
use crate::provider::os::fault::{Call, fail_next};
use crate::provider::{Provider, ProviderError, Request};

const CASES: u32 = if cfg!(miri) { 2 } else { 60 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_the_charged_pages_can_be_touched(ops in runs(60_000, 4096)) {
        let (provider, probe) = (MappedProvider::new(), Probe::new());
        run(&provider, &ops, |live| {
            for it in live {
                probe.check(&it.block, provider.page);
            }
        });
    }

    #[test]
    #[cfg_attr(miri, ignore = "all is refused before any `unsafe`")]
    fn absurd_sizes_are_refused(request in absurd()) {
        refuses(&MappedProvider::new(), &request);
    }

    #[test]
    #[cfg_attr(miri, ignore = "lengths are counted without `unsafe`")]
    fn a_span_holds_what_was_asked_in_whole_pages_and_wastes_less_than_one_each(
        size: usize, reserve: usize, guard: usize, log in 12..17u32,
    ) {
        let page = 1usize << log;
        let request = Request { size, align: 1, reserve, guard };
        match Span::of(&request, page) {
            Ok(span) => {
                prop_assert!(span.committed >= size && span.committed - size < page);
                let extent = size.max(reserve);
                prop_assert!(span.reserved >= extent && span.reserved - extent < page);
                prop_assert!(span.guard >= guard && span.guard - guard < page);
                prop_assert!(span.committed <= span.reserved);
                prop_assert_eq!(span.guard.checked_mul(2).and_then(|it| it.checked_add(span.reserved)), Some(span.total));
                for part in [span.committed, span.reserved, span.guard, span.total] {
                    prop_assert_eq!(part % page, 0);
                }
                prop_assert!(span.total <= isize::MAX as usize);
            }
            Err(ProviderError::Unsupported { what, asked, limit }) => {
                prop_assert!(asked > limit);
                let less = match what {
                    "size" => Request { size: limit, reserve: 0, ..request },
                    "reserve" => Request { reserve: limit, ..request },
                    _ => Request { size: 0, reserve: 0, guard: limit, ..request },
                };
                prop_assert!(Span::of(&less, page).is_ok(), "the named limit is served");
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "asks the system which of 4 GiB of addresses can be touched")]
fn a_wasm_memory_grows_in_place_and_faults_beyond_its_size_all_the_way() {
    let (provider, probe) = (MappedProvider::new(), Probe::new());
    let (reserve, guard) = (1usize << 32, 1usize << 25);
    let mut block = provider.allocate(&Request { size: 65_536, align: 1, reserve, guard }).unwrap();
    let start = block.ptr;
    assert_eq!((block.cost, block.reserved, block.guard), (65_536, reserve, guard));
    for pages in [1, 2, 3, 50] {
        let size = pages * 65_536;
        let cost = provider.grown_cost(&block, size);
        // SAFETY: it is live and from this provider.
        unsafe { provider.grow(&mut block, size).unwrap() };
        assert_eq!((cost, block.cost, block.size, block.ptr), (Ok(size), size, size, start));
        assert!(bytes(&block)[size - 65_536..].iter().all(|byte| *byte == 0));
        // SAFETY: the block is `size` bytes, its last ones included.
        unsafe { block.ptr.add(size - 65_536).write_bytes(0x5A, 65_536) };
        for (offset, expected) in [
            (0, true),
            (size - 1, true),
            (size, false),
            (size + provider.page, false),
            (reserve / 2, false),
            (reserve - 1, false),
            (reserve, false),
            (reserve + guard - 1, false),
        ] {
            assert_eq!(probe.usable(start.as_ptr().wrapping_add(offset)), expected, "at {offset:#x}");
        }
        assert!(!probe.usable(start.as_ptr().wrapping_sub(1)));
        assert!(!probe.usable(start.as_ptr().wrapping_sub(guard)));
    }
    // SAFETY: as above.
    unsafe { provider.free(block) };
}

#[test]
fn a_block_that_starts_empty_is_not_null_and_grows() {
    let (provider, probe) = (MappedProvider::new(), Probe::new());
    for (reserve, guard) in [(0, 0), (0, 4096), (65_536, 0), (65_536, 4096)] {
        let mut block = provider.allocate(&Request { size: 0, align: 4096, reserve, guard }).unwrap();
        assert_eq!((block.cost, block.ptr.align_offset(4096)), (0, 0));
        probe.check(&block, provider.page);
        // SAFETY: it is live and from this provider.
        let grown = unsafe { provider.grow(&mut block, 100) };
        assert_eq!(grown.is_ok(), reserve > 0);
        assert_eq!(block.cost, if reserve > 0 { provider.page } else { 0 });
        // SAFETY: as above.
        unsafe { provider.free(block) };
    }
}

#[test]
fn what_the_system_refuses_is_exhausted_and_leaves_no_trace() {
    let (provider, probe) = (MappedProvider::new(), Probe::new());
    let request = Request { reserve: 1 << 20, ..Request::new(65_536) };
    let exhausted = ProviderError::Exhausted { asked: 65_536, largest: 0 };
    for call in [Call::Reserve, Call::Commit] {
        fail_next(call);
        assert_eq!(provider.allocate(&request).unwrap_err(), exhausted);
    }
    let mut block = provider.allocate(&request).unwrap();
    fail_next(Call::Commit);
    // SAFETY: it is live and from this provider.
    assert_eq!(unsafe { provider.grow(&mut block, 131_072) }, Err(exhausted));
    assert_eq!((block.size, block.cost), (65_536, 65_536));
    probe.check(&block, provider.page);
    // SAFETY: as above.
    unsafe { provider.grow(&mut block, 131_072).unwrap() };
    probe.check(&block, provider.page);
    // SAFETY: as above.
    unsafe { provider.free(block) };
}

/// Pages of address space this process has.
#[cfg(target_os = "linux")]
fn mapped_pages() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').next().unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "asks the system for its addresses")]
fn what_is_freed_or_refused_half_way_gives_all_its_addresses_back() {
    let provider = MappedProvider::new();
    // Large beside whatever other tests map meanwhile, guards and reserve each.
    let tib = 1 << 40;
    let request = Request { reserve: tib, guard: tib, ..Request::new(65_536) };
    let before = mapped_pages();
    let block = provider.allocate(&request).unwrap();
    assert!(mapped_pages() - before >= 3 * tib / provider.page);
    // SAFETY: it is live and from this provider.
    unsafe { provider.free(block) };
    fail_next(Call::Commit);
    let _ = provider.allocate(&request).unwrap_err();
    assert!(mapped_pages().saturating_sub(before) < tib / provider.page);
}

#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "loses addresses, which are bytes there")]
fn pages_that_cannot_be_unmapped_are_emptied_since_they_are_uncharged() {
    let provider = MappedProvider::new();
    let block = provider.allocate(&Request::new(65_536)).unwrap();
    let (start, size) = (block.ptr, block.size);
    // SAFETY: the block is `size` writable bytes.
    unsafe { start.write_bytes(0xFF, size) };
    fail_next(Call::Release);
    // SAFETY: it is live and from this provider.
    unsafe { provider.free(block) };
    // SAFETY: the failure was ours, so the addresses are still mapped, and nobody else's.
    let left = unsafe { core::slice::from_raw_parts(start.as_ptr(), size) };
    assert!(left.iter().all(|byte| *byte == 0));
}
