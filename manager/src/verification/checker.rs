//! The manager's own checks, as a table.

use super::backend::VerificationBackend;
use super::conservation;
use super::invariant::{Handed, Invariant, Mismatch, Subject};
use super::level::VerificationLevel::{Basic, Full, Standard};
use super::live::Standing;
use super::zero;
use crate::budget::State;
use crate::budget::Units;

/// What the manager checks itself.
pub(crate) struct Checker;

impl VerificationBackend for Checker {
    fn invariants(&self) -> &'static [Invariant] {
        INVARIANTS
    }
}

/// In the order in which they are checked: what later ones rely on comes first.
static INVARIANTS: &[Invariant] = &[
    Invariant::new("double-free", "a block that is freed is live, and this crate's", Basic, block_is_live),
    Invariant::new("block-size", "block.size = request.size", Basic, size_is_as_asked),
    Invariant::new("block-cost", "block.cost >= block.size", Basic, cost_covers_size),
    Invariant::new("block-reserve", "block.reserved >= block.size", Basic, reserve_covers_size),
    Invariant::new("block-alignment", "block.ptr mod block.align = 0", Basic, is_aligned),
    Invariant::new("block-bounds", "ptr .. ptr + reserved is within the block's region", Basic, is_in_bounds),
    Invariant::new("block-charge", "charge >= block.cost", Basic, charge_covers_cost),
    Invariant::new("use-covers-charge", "used >= charge of a live block", Basic, use_covers_charge),
    Invariant::new("use-is-backed", "used <= held", Basic, use_is_backed),
    Invariant::new("floor-is-backed", "floor <= held and floor <= limit", Basic, floor_is_backed),
    Invariant::new("overlap", "no block overlaps a live one", Standard, overlaps_nothing),
    Invariant::new("canary-before", "what lies before a block is as it was laid", Standard, front_is_whole),
    Invariant::new("canary-after", "what lies after a block is as it was laid", Standard, back_is_whole),
    Invariant::new(
        "zero",
        "memory handed out is zero where no image is, as far as it is resident",
        Standard,
        is_zero,
    ),
    Invariant::new("conservation", "used >= sum of held(children)", Full, conservation::use_covers_children),
    Invariant::new(
        "conservation-of-floors",
        "floor >= own guarantee - lent + borrowed + sum of floor(children) + sum of owed(children)",
        Full,
        conservation::floor_covers_children,
    ),
    Invariant::new(
        "loans",
        "the book's sums are those of its loans, and the words say what the book does",
        Full,
        conservation::book_agrees,
    ),
    Invariant::new(
        "conservation-at-rest",
        "used(pool) = sum of held(children), and floors add up, while no operation is under way",
        Full,
        conservation::all_adds_up,
    ),
];

type Checked = Result<(), Mismatch>;

fn with_block(subject: &Subject<'_>, check: impl FnOnce(&Handed<'_>) -> Checked) -> Checked {
    subject.block.map_or(Ok(()), check)
}

fn block_is_live(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| subject.expect(it.standing != Standing::NotLive, it.block.ptr.addr().get(), 0))
}

fn size_is_as_asked(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| {
        let asked = it.request.map_or(it.block.size, |request| request.size);
        subject.expect(it.block.size == asked, it.block.size, asked)
    })
}

fn cost_covers_size(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| {
        let size = it.fence.around(it.block.size);
        subject.expect(it.block.cost >= size, it.block.cost, size)
    })
}

fn reserve_covers_size(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| {
        subject.expect(it.block.reserved >= it.block.size, it.block.reserved, it.block.size)
    })
}

fn is_aligned(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| {
        let align = it.request.map_or(it.block.align, |request| request.align);
        let misaligned = it.block.ptr.addr().get().checked_rem(align).unwrap_or(usize::MAX);
        subject.expect(misaligned == 0, misaligned, 0)
    })
}

fn is_in_bounds(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| {
        let start = it.block.ptr.addr().get() - it.fence.before();
        let end = it.block.ptr.addr().get().checked_add(it.block.reserved);
        let end = end.and_then(|end| end.checked_add(it.fence.after()));
        let Some(end) = end else { return subject.expect(false, start, usize::MAX - it.block.reserved) };
        let region = subject.manager.providers.region();
        let bounds = region.filter(|_| it.kind == crate::provider::ProviderKind::StaticRegion);
        let Some(bounds) = bounds.and_then(|region| region.bounds()) else { return Ok(()) };
        // A block that takes nothing lies nowhere.
        if start == end {
            return Ok(());
        }
        subject.expect(bounds.start <= start, start, bounds.start)?;
        subject.expect(end <= bounds.end, end, bounds.end)
    })
}

fn charge_covers_cost(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| subject.expect(it.charged >= it.block.cost, it.charged, it.block.cost))
}

fn state(subject: &Subject<'_>) -> State<Units> {
    subject.manager.tracker.slot(subject.id.index).budget.load()
}

fn bytes(subject: &Subject<'_>, units: Units) -> usize {
    subject.manager.tracker.scale().bytes(units)
}

fn use_covers_charge(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| {
        let used = bytes(subject, state(subject).used);
        subject.expect(used >= it.charged, used, it.charged)
    })
}

fn use_is_backed(subject: &Subject<'_>) -> Checked {
    let state = state(subject);
    subject.expect(state.use_is_backed(), bytes(subject, state.used), bytes(subject, state.held))
}

fn floor_is_backed(subject: &Subject<'_>) -> Checked {
    let state = state(subject);
    let backed = bytes(subject, state.held).min(bytes(subject, state.limit));
    subject.expect(state.floor_is_backed(), bytes(subject, state.floor), backed)
}

fn overlaps_nothing(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| match it.standing {
        Standing::Overlaps { start } => subject.expect(false, it.block.ptr.addr().get(), start),
        _ => Ok(()),
    })
}

fn front_is_whole(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| match it.fence.broken_before(it.block) {
        Some((found, expected)) => subject.expect(false, found.into(), expected.into()),
        None => Ok(()),
    })
}

fn back_is_whole(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| match it.fence.broken_after(it.block) {
        Some((found, expected)) => subject.expect(false, found.into(), expected.into()),
        None => Ok(()),
    })
}

fn is_zero(subject: &Subject<'_>) -> Checked {
    with_block(subject, |it| {
        let Some(fresh) = &it.fresh else { return Ok(()) };
        match zero::find_other(it.block, it.kind, fresh) {
            Some((found, expected)) => subject.expect(false, found.into(), expected.into()),
            None => Ok(()),
        }
    })
}
