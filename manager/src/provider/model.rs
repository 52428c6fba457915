//! What the tests of every provider check alike: a random run of operations against a model that
//! keeps, for each live block, what its bytes must be.
//! `trace.rs` has the operations, here is what proposes them.

#[cfg(all(feature = "std", unix))]
use core::ffi::c_void;
#[cfg(all(feature = "std", unix))]
use std::os::fd::AsRawFd;
use std::vec::Vec;

use proptest::prelude::*;

#[cfg(all(feature = "std", unix))]
use super::Block;
use super::{Provider, ProviderError, Request};

mod trace;

use trace::Op;
pub(super) use trace::{bytes, run};

/// Runs of operations on blocks of up to `largest` bytes, aligned to up to `max_align`.
pub(super) fn runs(largest: usize, max_align: usize) -> impl Strategy<Value = Vec<Op>> {
    // Every byte is looked at after every operation: minutes in Miri, unless there are few of both.
    let (largest, most) = if cfg!(miri) { (largest.min(120), 9) } else { (largest, 60) };
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
        if cfg!(miri) {
            // SAFETY: only pages of a live block are asked for there.
            unsafe { ptr.write_volatile(ptr.read_volatile()) };
            return true;
        }
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
            // There, what could not be touched is uninitialised: only what is usable may be read.
            if cfg!(miri) && !expected {
                continue;
            }
            assert_eq!(self.usable(start.wrapping_add(offset)), expected, "at {offset} of {block:?}");
        }
    }
}
