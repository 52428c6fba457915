//! A static region: traces of blocks, against what each byte must be.

use arbitrary::{Arbitrary, Unstructured};

use crate::Seen;
use crate::provider::{Provider, ProviderError, Request, StaticRegionProvider};
use crate::trace::{self, Op};

pub(crate) const REACHES: &[&str] =
    &["exhausted", "has room to grow", "aligned to a page", "full", "too small for a block"];

/// Longer traces find nothing that short ones do not, and each step looks at every byte.
const MOST_OPS: usize = 64;

/// Bytes of the longest region.
const LONGEST: usize = 1 << 17;

fn request(u: &mut Unstructured<'_>) -> arbitrary::Result<Request> {
    // Sizes of all magnitudes, near powers of two.
    let size = |u: &mut Unstructured<'_>| -> arbitrary::Result<usize> {
        let log = u.int_in_range(0..=17)?;
        let less = usize::from(u8::arbitrary(u)?);
        Ok((1usize << log).saturating_sub(less))
    };
    let reserve = if u.ratio(1, 3)? { size(u)? } else { 0 };
    let align = 1 << if u.ratio(1, 2)? { u.int_in_range(0..=16)? } else { 3 };
    let guard = usize::from(u.ratio(1, 32)?);
    Ok(Request { size: size(u)?, align, reserve, guard })
}

fn op(u: &mut Unstructured<'_>) -> arbitrary::Result<Op> {
    Ok(match u.int_in_range(0..=8)? {
        0..=3 => Op::Allocate(request(u)?),
        4 | 5 => Op::Grow(u8::arbitrary(u)?.into(), u16::arbitrary(u)?.into()),
        _ => Op::Free(u8::arbitrary(u)?.into()),
    })
}

/// A region that is not zero, lent for `'static` to whoever has given it up when `code` returns.
fn with_region(bytes: usize, code: impl FnOnce(&'static mut [u8])) {
    struct Held(*mut [u8]);
    impl Drop for Held {
        fn drop(&mut self) {
            // SAFETY: it came from a box, and the provider that had it is gone: also where `code` panicked.
            drop(unsafe { Box::from_raw(self.0) });
        }
    }
    let held = Held(Box::into_raw(vec![0xEE; bytes].into_boxed_slice()));
    // SAFETY: the box is nobody else's until `held` is dropped, which is after `code`.
    code(unsafe { &mut *held.0 });
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut u = Unstructured::new(data);
    let (Ok(short), Ok(log)) = (u8::arbitrary(&mut u), u.int_in_range(0..=17u32)) else { return };
    let bytes = (1usize << log).saturating_sub(short.into()).min(LONGEST);
    let mut ops = Vec::new();
    while !u.is_empty() && ops.len() < MOST_OPS {
        ops.extend(op(&mut u).ok());
    }
    with_region(bytes, |region| {
        let provider = StaticRegionProvider::new(region);
        let (free, largest) = (provider.free_bytes(), provider.largest_free());
        assert!(largest <= free && free <= bytes, "{largest} of {free} of {bytes}");
        if free == 0 {
            seen.note("too small for a block");
        }
        for op in &ops {
            if let Op::Allocate(request) = op
                && request.align == 65536
                && provider.cost(request).is_ok()
            {
                seen.note("aligned to a page");
            }
        }
        // With nothing handed out, what is ever served is served now.
        if let Some(Op::Allocate(request)) = ops.iter().find(|op| matches!(op, Op::Allocate(_)))
            && provider.cost(request).is_ok()
        {
            let block = provider.allocate(request).unwrap_or_else(|error| panic!("{request:?}: {error}"));
            // SAFETY: from here, unchanged, and nothing refers to it.
            unsafe { provider.free(block) };
        }
        trace::run(&provider, &ops, |live| {
            let taken: usize = live.iter().map(|it| it.block.cost).sum();
            assert_eq!(provider.free_bytes() + taken, free, "every byte is free or in a block");
            let fits = provider.largest_free();
            assert!(fits <= provider.free_bytes());
            if fits == 0 && free > 0 {
                seen.note("full");
            }
            if live.iter().any(|it| it.block.size > 0 && it.block.reserved > it.block.size) {
                seen.note("has room to grow");
            }
            // What it says would fit does, and what is larger does not.
            let probe = Request {
                align: 1,
                ..Request::new(fits.saturating_sub(provider.cost(&Request::new(0)).unwrap_or(0)))
            };
            if fits > 0 {
                let block =
                    provider.allocate(&probe).unwrap_or_else(|error| panic!("{fits} are free: {error}"));
                // SAFETY: from here, unchanged, and nothing refers to it.
                unsafe { provider.free(block) };
            }
            let more = Request { align: 1, ..Request::new(fits + 1) };
            if let Err(ProviderError::Exhausted { .. }) =
                provider.allocate(&more).map(|block| panic!("{block:?} of {fits}"))
            {
                seen.note("exhausted");
            }
        });
        assert_eq!(
            (provider.free_bytes(), provider.largest_free()),
            (free, largest),
            "all is back, in one piece"
        );
    });
}
