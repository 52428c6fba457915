use proptest::prelude::*;

use super::HeapProvider;
use crate::provider::model::{absurd, refuses, run, runs};
use crate::provider::{Provider, ProviderError, Request};

fn cases(natively: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { natively };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn blocks_are_apart_and_zeroed_and_cost_what_was_said(ops in runs(6_000, 4096)) {
        run(&HeapProvider, &ops, |live| {
            for it in live {
                assert_eq!(it.block.cost, it.block.size.next_multiple_of(16));
                assert_eq!(it.block.reserved, it.block.size);
            }
        });
    }

    #[test]
    #[cfg_attr(miri, ignore = "all is refused before any `unsafe`")]
    fn absurd_sizes_are_refused(request in absurd()) {
        refuses(&HeapProvider, &request);
    }

    #[test]
    #[cfg_attr(miri, ignore = "costs are counted without `unsafe`")]
    fn the_named_limit_is_the_exact_limit(log in 0..=12u32) {
        let request = Request { align: 1 << log, ..Request::new(usize::MAX) };
        let Err(ProviderError::Unsupported { limit, .. }) = HeapProvider.cost(&request) else {
            panic!("nobody has so much");
        };
        let cost = |size| HeapProvider.cost(&Request { size, ..request });
        prop_assert!(cost(limit).is_ok());
        prop_assert!(cost(limit + 1).is_err());
    }
}

#[test]
fn no_bytes_cost_nothing_and_are_freed_cleanly() {
    let block = HeapProvider.allocate(&Request { align: 4096, ..Request::new(0) }).unwrap();
    assert_eq!((block.cost, block.reserved, block.ptr.align_offset(4096)), (0, 0, 0));
    // SAFETY: it is live and from this provider.
    unsafe { HeapProvider.free(block) };
}

#[test]
fn what_it_cannot_do_it_refuses_by_name() {
    let refusal = |request| match HeapProvider.cost(&request) {
        Err(ProviderError::Unsupported { what, asked, limit }) => (what, asked, limit),
        other => panic!("{other:?}"),
    };
    let plain = Request::new(100);
    assert_eq!(refusal(Request { reserve: 101, ..plain }), ("reserve", 101, 100));
    assert_eq!(refusal(Request { guard: 1, ..plain }), ("guard", 1, 0));
    assert_eq!(refusal(Request { align: 8192, ..plain }), ("alignment", 8192, 4096));
}

#[test]
#[cfg(target_pointer_width = "64")]
#[cfg_attr(miri, ignore = "asks the machine for more than it has")]
fn what_the_machine_does_not_have_is_exhausted() {
    let size = isize::MAX as usize - 65_535;
    let refusal = HeapProvider.allocate(&Request::new(size)).unwrap_err();
    assert_eq!(refusal, ProviderError::Exhausted { asked: size.next_multiple_of(16), largest: 0 });
}
