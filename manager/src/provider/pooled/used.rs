//! Slots whose memory is gone and that were not made as new yet: what it wrote is still in them.
//!
//! Nobody can take one: a [`Used`] is not a [`Slot`] before it was reset or emptied. Several are
//! gathered and reset together, since one call of the scan tells of all that lie side by side, and the call itself is
//! what most of a scan takes.

use core::ops::{ControlFlow, Range};

use super::super::os;
use super::slot::{Cleaner, Slot};

/// Slots of a class that are gathered before they are reset, at most.
pub(super) const GATHERED: usize = 8;

/// Bytes of memories, written or not, that the gathered slots of a class had at most.
const GATHERED_BYTES: usize = 8 << 20;

/// A slot that holds what its last memory left.
#[derive(Debug)]
pub(super) struct Used {
    slot: Box<Slot>,
    /// Bytes its memory had: whole pages.
    len: usize,
    /// Bytes written over so far, and so in memory.
    kept: usize,
    /// From where on it is given back to the system.
    rest: usize,
}

impl Used {
    /// What a memory of `size` bytes leaves.
    pub(super) fn new(mut slot: Box<Slot>, size: usize, page: usize) -> Self {
        let len = size.next_multiple_of(page);
        // All of it may be in memory.
        slot.warm = len.max(page);
        Self { slot, len, kept: 0, rest: len }
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    fn span(&self) -> Range<usize> {
        let start = self.slot.start().addr().get();
        start..start + self.len
    }

    /// Whether `next` is the slot behind it.
    fn is_before(&self, next: &Self) -> bool {
        let (class, next_class) = (self.slot.class, next.slot.class);
        class == next_class && self.span().start + class.stride() == next.span().start
    }

    /// Writes over what lies in it of a run of pages that were written, within what is kept.
    fn restore(&mut self, run: &Range<usize>, keep: usize) {
        let span = self.span();
        let (from, to) = (run.start.max(span.start) - span.start, run.end.min(span.end) - span.start);
        if self.rest < self.len {
            return;
        }
        let fits = (to - from).min(keep - self.kept);
        self.slot.write_over(from..from + fits);
        self.kept += fits;
        if fits < to - from {
            self.rest = from + fits;
        }
    }

    /// Has it hold zeros and nothing in memory; what the system does not take is in `warm`. Refused, it is of no
    /// use any more.
    pub(super) fn discard(mut self) -> Result<Box<Slot>, os::Refused> {
        self.slot.discard()?;
        Ok(self.slot)
    }
}

impl From<Box<Slot>> for Used {
    /// A slot that is as new, all the same.
    fn from(slot: Box<Slot>) -> Self {
        Self { slot, len: 0, kept: 0, rest: 0 }
    }
}

/// Used slots of a class.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    slots: Vec<Used>,
    len: usize,
}

impl Gathered {
    /// Whether a memory of `size` bytes leaves little enough for its slot to wait for others.
    pub(super) fn takes(size: usize) -> bool {
        size <= GATHERED_BYTES / 2
    }

    /// Adds one, and says whether they are to be reset now.
    pub(super) fn add(&mut self, used: Used) -> bool {
        self.len += used.len;
        self.slots.push(used);
        self.slots.len() >= GATHERED || self.len > GATHERED_BYTES / 4 * 3
    }

    pub(super) fn take_all(&mut self) -> Vec<Used> {
        self.len = 0;
        core::mem::take(&mut self.slots)
    }

    /// The first of which that holds.
    pub(super) fn take_first(&mut self, holds: impl Fn(&Slot) -> bool) -> Option<Used> {
        let at = self.slots.iter().position(|used| holds(&used.slot))?;
        let used = self.slots.remove(at);
        self.len -= used.len;
        Some(used)
    }
}

/// Makes slots as new: each holds its image, else zeros. What they then have in memory is in `warm`.
pub(super) fn reset(mut used: Vec<Used>, cleaner: &Cleaner) -> impl Iterator<Item = Box<Slot>> {
    used.sort_unstable_by_key(|used| used.slot.start());
    for run in used.chunk_by_mut(Used::is_before) {
        reset_run(run, cleaner);
    }
    used.into_iter().map(|used| used.slot)
}

/// The same for slots that lie side by side.
fn reset_run(run: &mut [Used], cleaner: &Cleaner) {
    let scanned = match (&cleaner.scanner, &mut *run) {
        // To ask would take longer.
        (_, [one]) if cleaner.is_small(one.len) && !one.slot.is_mapped() => None,
        (scanner, run) => scanner.as_ref().map(|scanner| reset_written(run, cleaner, scanner)),
    };
    for used in run {
        let kept = match scanned {
            Some(Ok(())) => used.kept + used.slot.empty(used.rest..used.len),
            // Anything may have been missed.
            Some(Err(os::Refused)) => used.slot.empty(0..used.len),
            None => {
                // Writing over a mapped image would make each of its pages the slot's own.
                let kept = if used.slot.is_mapped() { 0 } else { used.len.min(cleaner.keep(used.len)) };
                used.slot.write_over(0..kept);
                kept + used.slot.empty(kept..used.len)
            }
        };
        used.slot.warm = kept.max(cleaner.page);
    }
}

/// Writes over the pages that were written, of each slot as many as are kept.
fn reset_written(
    run: &mut [Used],
    cleaner: &Cleaner,
    scanner: &os::linux::Scanner,
) -> Result<(), os::Refused> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
    let range = first.span().start..last.span().end;
    let mut at = 0;
    scanner.written(range, &mut |pages| {
        at += run[at..].iter().take_while(|used| used.span().end <= pages.start).count();
        let hit = run[at..].iter_mut().take_while(|used| used.span().start < pages.end);
        hit.for_each(|used| used.restore(&pages, cleaner.keep(used.len)));
        // What is left of the last one is given back whatever it is.
        let over = matches!(&run[at..], [last] if last.rest < last.len);
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}
