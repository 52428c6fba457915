//! Operations on any provider, against what each live block's bytes must be. Also for `fuzz/`, which includes this file.

use std::vec::Vec;

use crate::provider::{Block, Provider, ProviderError, Request};

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Allocate(Request),
    /// Grows some live block by so many bytes.
    Grow(usize, usize),
    /// Frees some live block.
    Free(usize),
}

pub(crate) struct Live {
    pub(crate) block: Block,
    pattern: u8,
}

/// Does `ops`, then frees everything; `check` sees the live blocks after every operation.
pub(crate) fn run(provider: &dyn Provider, ops: &[Op], mut check: impl FnMut(&[Live])) {
    let mut live: Vec<Live> = Vec::new();
    for (step, op) in ops.iter().enumerate() {
        match op {
            Op::Allocate(request) => allocate(provider, request, step as u8 | 1, &mut live),
            Op::Grow(which, by) if !live.is_empty() => {
                let which = which % live.len();
                grow(provider, &mut live[which], *by);
            }
            Op::Free(which) if !live.is_empty() => {
                let it = live.swap_remove(which % live.len());
                assert_pattern(&it);
                // SAFETY: it is live, from this provider and unchanged; it leaves the list.
                unsafe { provider.free(it.block) };
            }
            _ => {}
        }
        live.iter().for_each(assert_pattern);
        assert_apart(&live);
        check(&live);
    }
    for it in live.drain(..) {
        assert_pattern(&it);
        // SAFETY: as above.
        unsafe { provider.free(it.block) };
    }
    check(&live);
}

fn allocate(provider: &dyn Provider, request: &Request, pattern: u8, live: &mut Vec<Live>) {
    let cost = provider.cost(request);
    match provider.allocate(request) {
        Ok(block) => {
            assert_eq!(Ok(block.cost), cost, "a block costs what was said");
            assert_eq!((block.size, block.align), (request.size, request.align));
            assert!(block.reserved >= request.size.max(request.reserve) && block.guard >= request.guard);
            assert_eq!(block.ptr.align_offset(request.align), 0);
            assert_eq!(block.cost % provider.describe().granule, 0);
            assert!(block.cost >= block.size);
            assert!(bytes(&block).iter().all(|byte| *byte == 0), "a new block is zero");
            let it = Live { block, pattern };
            fill(&it, 0);
            live.push(it);
        }
        Err(ProviderError::Exhausted { asked, largest }) => {
            assert_eq!(Ok(asked), cost);
            assert!(largest < asked);
        }
        Err(error) => assert_eq!(cost, Err(error), "what is not exhausted was refused before"),
    }
}

fn grow(provider: &dyn Provider, it: &mut Live, by: usize) {
    let was = std::format!("{:?}", it.block);
    for less in [0, it.block.size / 2, it.block.size] {
        assert_eq!(provider.grown_cost(&it.block, less), Ok(it.block.cost));
        // SAFETY: the block is live, from this provider and unchanged.
        assert_eq!(unsafe { provider.grow(&mut it.block, less) }, Ok(()));
        assert_eq!(std::format!("{:?}", it.block), was, "to grow to less changes nothing");
    }
    let (ptr, old, size) = (it.block.ptr, it.block.size, it.block.size + by);
    let cost = provider.grown_cost(&it.block, size);
    // SAFETY: the block is live, from this provider and unchanged.
    match unsafe { provider.grow(&mut it.block, size) } {
        Ok(()) => {
            assert_eq!(Ok(it.block.cost), cost, "growing costs what was said");
            assert_eq!((it.block.ptr, it.block.size), (ptr, size), "a block grows where it is");
            assert!(size <= it.block.reserved && it.block.cost >= size);
            assert!(bytes(&it.block)[old..].iter().all(|byte| *byte == 0), "new bytes are zero");
            fill(it, old);
        }
        Err(error) => {
            assert_eq!(cost, Err(error));
            assert!(size > it.block.reserved);
            assert_eq!(std::format!("{:?}", it.block), was, "a refusal changes nothing");
        }
    }
}

pub(crate) fn bytes(block: &Block) -> &[u8] {
    // SAFETY: a live block is `size` readable bytes, which only this thread writes.
    unsafe { core::slice::from_raw_parts(block.ptr.as_ptr(), block.size) }
}

/// Writes the pattern over the block's bytes from `from`.
fn fill(it: &Live, from: usize) {
    // SAFETY: a live block is `size` writable bytes, and `from` is at most that.
    unsafe { it.block.ptr.add(from).write_bytes(it.pattern, it.block.size - from) };
}

fn assert_pattern(it: &Live) {
    assert!(bytes(&it.block).iter().all(|byte| *byte == it.pattern), "only its holder writes to a block");
}

/// No block reaches into what another has reserved.
fn assert_apart(live: &[Live]) {
    let mut spans: Vec<_> = live
        .iter()
        .map(|it| (it.block.ptr.addr().get(), it.block.reserved))
        .filter(|span| span.1 > 0)
        .collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?} overlap");
    }
}
