//! What the tests of every provider check alike: a random run of operations against a model that
//! keeps, for each live block, what its bytes must be.

#[cfg(all(feature = "std", unix))]
use core::ffi::c_void;
#[cfg(all(feature = "std", unix))]
use std::os::fd::AsRawFd;
use std::vec::Vec;

use proptest::prelude::*;

use super::{Block, Provider, ProviderError, Request};

#[derive(Clone, Debug)]
pub(super) enum Op {
    Allocate(Request),
    /// Grows some live block by so many bytes.
    Grow(usize, usize),
    /// Frees some live block.
    Free(usize),
}

/// Runs of operations on blocks of up to `largest` bytes, aligned to up to `max_align`.
pub(super) fn runs(largest: usize, max_align: usize) -> impl Strategy<Value = Vec<Op>> {
    // Every byte is looked at after every operation: minutes in Miri, unless there are few of both.
    let (largest, most) = if cfg!(miri) { (largest.min(300), 15) } else { (largest, 60) };
    let guards = prop_oneof![3 => Just(0), 1 => 1..10_000usize];
    let reserves = prop_oneof![Just(0), 0..largest];
    let request = (0..largest, 0..=max_align.ilog2(), reserves, guards)
        .prop_map(|(size, log, reserve, guard)| Request { size, align: 1 << log, reserve, guard });
    let op = prop_oneof![
        4 => request.prop_map(Op::Allocate),
        2 => (any::<usize>(), 0..largest).prop_map(|(which, by)| Op::Grow(which, by)),
        3 => any::<usize>().prop_map(Op::Free),
    ];
    prop::collection::vec(op, 1..most)
}

pub(super) struct Live {
    pub(super) block: Block,
    pattern: u8,
}

/// Does `ops`, then frees everything; `check` sees the live blocks after every operation.
pub(super) fn run(provider: &dyn Provider, ops: &[Op], mut check: impl FnMut(&[Live])) {
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

pub(super) fn bytes(block: &Block) -> &[u8] {
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

/// Requests no provider may choke on, all of them refused for their size, reserve or guard.
pub(super) fn absurd() -> impl Strategy<Value = Request> {
    let near_max = (0..70_000usize).prop_map(|less| usize::MAX - less);
    let near_half = (0..70_000usize).prop_map(|less| isize::MAX as usize + 1 + less);
    let huge = prop_oneof![near_max, near_half];
    (huge, 0..3, 0..13u32, 0..5000usize).prop_map(|(huge, which, log, other)| Request {
        size: if which == 0 { huge } else { other },
        align: 1 << log,
        reserve: if which == 1 { huge } else { 0 },
        guard: if which == 2 { huge } else { 0 },
    })
}

/// `absurd` requests and bad alignments are refused by `cost` and `allocate` alike.
pub(super) fn refuses(provider: &dyn Provider, request: &Request) {
    let refusal = provider.cost(request).expect_err("nobody has so much");
    assert!(matches!(refusal, ProviderError::Unsupported { asked, limit, .. } if asked > limit), "{refusal}");
    assert_eq!(provider.allocate(request).map(|block| block.cost), Err(refusal));
    for align in [0, 3, 48] {
        let crooked = Request { align, ..Request::new(16) };
        assert!(matches!(provider.cost(&crooked), Err(ProviderError::Unsupported { .. })));
    }
}

#[cfg(all(feature = "std", unix))]
unsafe extern "C" {
    fn write(fd: i32, bytes: *const c_void, len: usize) -> isize;
    fn read(fd: i32, bytes: *mut c_void, len: usize) -> isize;
}

/// Finds out what touching a byte would do without being killed by it: the kernel touches it, and
/// says EFAULT where a load or store would fault.
#[cfg(all(feature = "std", unix))]
pub(super) struct Probe {
    reader: std::io::PipeReader,
    writer: std::io::PipeWriter,
}

#[cfg(all(feature = "std", unix))]
impl Probe {
    pub(super) fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self { reader, writer }
    }

    /// Whether the byte at `ptr` can be read and written. It keeps its value.
    pub(super) fn usable(&self, ptr: *mut u8) -> bool {
        // SAFETY: the kernel checks the address itself; a byte that is there is read, and if it
        // was read the pipe holds it, and it is put back where it came from.
        unsafe {
            let readable = write(self.writer.as_raw_fd(), ptr.cast(), 1) == 1;
            let writable = readable && read(self.reader.as_raw_fd(), ptr.cast(), 1) == 1;
            assert_eq!(readable, writable, "nothing is read-only here");
            writable
        }
    }

    /// Panics unless exactly the pages of `size` are usable, of all the block's addresses.
    pub(super) fn check(&self, block: &Block, page: usize) {
        let start = block.ptr.as_ptr().wrapping_sub(block.guard);
        let total = block.guard + block.reserved + block.guard;
        let usable = block.guard..block.guard + block.size.next_multiple_of(page);
        assert_eq!(usable.len(), block.cost, "what is charged is what is usable");
        for offset in (0..total).step_by(page).flat_map(|at| [at, at + page - 1]) {
            let expected = usable.contains(&offset);
            assert_eq!(self.usable(start.wrapping_add(offset)), expected, "at {offset} of {block:?}");
        }
    }
}
