use super::{ProviderSelector, Selection, SelectionReason};
use crate::provider::{ProviderError, ProviderKind, Request, StaticRegion, StaticRegionProvider};

/// A region of so many bytes, to be evaluated once in each place.
macro_rules! region {
    ($len:expr) => {{
        static REGION: StaticRegion<{ $len }> = StaticRegion::new();
        StaticRegionProvider::new(REGION.claim().expect("evaluated once"))
    }};
}

fn choice(selector: &ProviderSelector, request: Request) -> (ProviderKind, SelectionReason) {
    let Selection { kind, reason, .. } = selector.select(&request).unwrap();
    (kind, reason)
}

#[test]
fn every_reason_has_a_code_of_its_own_and_comes_back_from_it() {
    for code in 0..=u8::MAX {
        if let Some(reason) = SelectionReason::from_code(code) {
            assert_eq!(reason.to_code(), code);
        }
    }
    for reason in SelectionReason::ALL {
        assert_eq!(SelectionReason::from_code(reason.to_code()), Some(reason));
    }
    assert_eq!(SelectionReason::from_code(0), None);
}

#[test]
fn without_a_provider_nothing_is_served_and_the_error_says_so() {
    let refusal = ProviderSelector::new().select(&Request::new(10)).unwrap_err();
    assert_eq!(refusal, ProviderError::Unsupported { what: "size", asked: 10, limit: 0 });
}

#[test]
fn a_region_alone_serves_what_it_can_and_says_that_it_is_second_choice() {
    let selector = ProviderSelector::new().with_region(region!(1 << 18));
    let plain = Request::new(100);
    let of_region = |reason| (ProviderKind::StaticRegion, reason);
    assert_eq!(choice(&selector, plain), of_region(SelectionReason::Small));
    assert_eq!(choice(&selector, Request { reserve: 200, ..plain }), of_region(SelectionReason::SmallGrows));
    assert_eq!(choice(&selector, Request::new(65_536)), of_region(SelectionReason::PreferredAbsent));
    let refusal = selector.select(&Request { guard: 4096, ..plain }).unwrap_err();
    assert_eq!(refusal, ProviderError::Unsupported { what: "guard", asked: 4096, limit: 0 });
}

#[cfg(feature = "alloc")]
#[test]
fn the_heap_takes_what_is_small_where_no_region_is_or_can() {
    use crate::provider::HeapProvider;
    let heap = ProviderSelector::new().with_heap(HeapProvider::new());
    assert_eq!(choice(&heap, Request::new(100)), (ProviderKind::Heap, SelectionReason::Small));
    assert_eq!(choice(&heap, Request::new(1 << 20)), (ProviderKind::Heap, SelectionReason::PreferredAbsent));
    let refusal = heap.select(&Request { reserve: 200, ..Request::new(100) }).unwrap_err();
    assert_eq!(refusal, ProviderError::Unsupported { what: "reserve", asked: 200, limit: 100 });

    let both = heap.with_region(region!(1024));
    assert_eq!(choice(&both, Request::new(100)), (ProviderKind::StaticRegion, SelectionReason::Small));
    assert_eq!(choice(&both, Request::new(2000)), (ProviderKind::Heap, SelectionReason::PreferredCannot));
    let refusal = both.select(&Request::new(usize::MAX)).unwrap_err();
    assert!(
        matches!(refusal, ProviderError::Unsupported { what: "size", limit, .. } if limit > 1 << 30),
        "the limit named is that of the provider which serves most: {refusal}",
    );
}

#[cfg(all(feature = "std", unix))]
mod with_every_provider {
    use std::string::ToString;
    use std::sync::LazyLock;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    static EVERY: LazyLock<ProviderSelector> =
        LazyLock::new(|| ProviderSelector::of_platform().with_region(region!(8192)));

    #[test]
    fn size_growth_alignment_and_guards_decide() {
        use ProviderKind::{Heap, Mapped, StaticRegion};
        use SelectionReason::*;
        let plain = Request::new(100);
        for (request, expected) in [
            (plain, (StaticRegion, Small)),
            (Request { reserve: 200, ..plain }, (StaticRegion, SmallGrows)),
            (Request::new(65_535), (Heap, PreferredCannot)),
            (Request { reserve: 60_000, ..plain }, (Mapped, PreferredCannot)),
            (Request::new(65_536), (Mapped, Large)),
            (Request { reserve: 65_536, ..plain }, (Mapped, LargeGrows)),
            (Request { align: 4096, ..plain }, (Mapped, PageAligned)),
            (Request { guard: 1, ..plain }, (Mapped, Guarded)),
        ] {
            assert_eq!(choice(&EVERY, request), expected, "{request:?}");
        }
    }

    #[test]
    fn the_threshold_can_be_moved() {
        let selector = ProviderSelector::of_platform().mapped_from(101);
        assert_eq!(choice(&selector, Request::new(100)).0, ProviderKind::Heap);
        assert_eq!(choice(&selector, Request::new(101)).0, ProviderKind::Mapped);
    }

    #[test]
    fn a_selection_reads_as_one_line() {
        let selector = ProviderSelector::of_platform();
        let text = |request| selector.select(&request).unwrap().to_string();
        let plain = Request::new(1 << 20);
        assert_eq!(text(plain), "mapped: 1048576 bytes are at least 65536");
        assert_eq!(
            text(Request { size: 1, reserve: 1 << 20, ..plain }),
            "mapped: 1048576 bytes are at least 65536 and must grow in place"
        );
        assert_eq!(text(Request::new(9)), "heap: 9 bytes are below 65536");
        assert_eq!(text(Request { guard: 9, ..plain }), "mapped: needs guards (1048576 bytes)");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn candidates_are_each_who_can_serve_once_and_the_first_is_the_choice(
            size in 0..200_000usize, log in 0..20u32, reserve in 0..200_000usize, guard in 0..2usize,
        ) {
            let selector = &*EVERY;
            let request = Request { size, align: 1 << log, reserve, guard };
            let found: Vec<_> = selector.candidates(&request).collect();
            prop_assert_eq!(selector.select(&request).ok(), found.first().copied());
            for kind in [ProviderKind::StaticRegion, ProviderKind::Heap, ProviderKind::Mapped] {
                let can = selector.provider(kind).unwrap().cost(&request).is_ok();
                prop_assert_eq!(found.iter().filter(|it| it.kind == kind).count(), usize::from(can));
            }
            for later in found.iter().skip(1) {
                prop_assert_eq!(later.reason, SelectionReason::Overflow);
            }
        }
    }
}
