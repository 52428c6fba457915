//! How slots are made as new, and which way takes less on this machine.

use core::ops::ControlFlow;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::super::os;
use super::renew;
use super::slot::COPIED;

/// Memories larger than this are never gone through whole.
const MOST_WHOLE: usize = 64 << 10;

/// How often each way is tried, and how often in a row: it counts what the quickest of the rows took.
const ROWS: u32 = 8;
const ROW: u32 = 4;

/// How slots are made as new.
#[derive(Debug)]
pub(super) struct Cleaner {
    pub(super) page: usize,
    /// Bytes of a slot that may stay in memory, and so are gone through; the rest goes back to the system.
    pub(super) keep: usize,
    /// Memories up to so many bytes are gone through whole: that takes no longer than to ask which pages were written, or
    /// nobody can be asked.
    pub(super) whole: usize,
}

impl Cleaner {
    /// One that keeps so many bytes of a slot, for who has such a scanner.
    pub(super) fn new(keep: usize, scanner: Option<&os::linux::Scanner>) -> Self {
        let page = os::page_size();
        Self { page, keep, whole: scanner.map_or(MOST_WHOLE, |scanner| whole(scanner, page)) }
    }

    /// The most bytes of a memory of `size` bytes that a [reset](super::Slot::reset) leaves in memory.
    pub(super) fn most_warm(&self, size: usize) -> usize {
        size.next_multiple_of(self.page).min(self.keep.max(MOST_WHOLE) + COPIED).max(self.page)
    }
}

/// [`Cleaner::whole`], measured once in a process: machines differ by more than two. A system call took 0.08 us on one and
/// 0.21 on another, the scan of sixteen pages 0.4 and 0.9; to go through them, 0.5 on either.
fn whole(scanner: &os::linux::Scanner, page: usize) -> usize {
    static WHOLE: OnceLock<usize> = OnceLock::new();
    *WHOLE.get_or_init(|| measure(scanner, page).unwrap_or(MOST_WHOLE))
}

fn measure(scanner: &os::linux::Scanner, page: usize) -> Result<usize, os::Refused> {
    let start = os::linux::reserve_open(MOST_WHOLE)?;
    // SAFETY: mapped above to be written, and nobody else's.
    let memory = unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), MOST_WHOLE) };
    // As a guest leaves it that wrote a word to every page.
    let write = |memory: &mut [u8]| memory.iter_mut().step_by(page).for_each(|byte| *byte = 1);
    write(memory);
    let base = start.addr().get();
    let mut sizes =
        core::iter::successors(Some(MOST_WHOLE), |size| Some(size / 2)).take_while(|size| *size >= page);
    let whole = sizes.find(|&size| {
        let asked = quickest(|| {
            let _ = scanner.written(base..base + size, false, &mut |_| ControlFlow::Continue(()));
        });
        let gone_through = quickest(|| {
            write(&mut memory[..size]);
            renew::zeros(&mut memory[..size]);
        });
        gone_through <= asked
    });
    // SAFETY: mapped above, and not referred to any more. Refused, some addresses are lost.
    let _ = unsafe { os::release(start, MOST_WHOLE) };
    Ok(whole.unwrap_or(0))
}

fn quickest(mut work: impl FnMut()) -> Duration {
    let row = |_| {
        let start = Instant::now();
        (0..ROW).for_each(|_| work());
        start.elapsed()
    };
    (0..ROWS).map(row).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "no scan there")]
    fn what_is_gone_through_whole_is_measured_once_and_is_whole_pages() {
        let scanner = os::linux::Scanner::new(os::page_size());
        let [one, other] = [1 << 20, 0].map(|keep| Cleaner::new(keep, scanner.as_ref()));
        assert_eq!(one.whole, other.whole);
        assert!(one.whole <= MOST_WHOLE && one.whole % one.page == 0);
        assert_eq!(Cleaner::new(0, None).whole, MOST_WHOLE);
    }
}
