//! The tree of budgets, and the ways bytes take through it.
//!
//! Every node is a [`Slot`]. Bytes go down as a [`Credit`]: a parent takes them into use, the
//! child holds them. They come up by [`give_back`](BudgetTracker::give_back). No step changes two
//! words, and no step waits for another.

use super::amount::{Amount, Scale, Units};
use super::credit::Credit;
use super::lending::Clock;
use super::lifecycle::MAX_DEPTH;
use super::reclaim::Reclaim;
use super::registry::Registry;
use super::slot::{Index, ROOT, Slot};
use super::state::State;
use super::stock::Seats;
use super::storage::Slots;
use super::transition::{self, Refusal};
use crate::lock::Lock;
use crate::pressure::Watches;
use crate::sharing::Book;
use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::waiting::{Lines, Turn};

/// Rounds a charge makes while others take what it recovered, before it is denied.
pub(super) const MAX_ROUNDS: usize = 64;

/// Where a charge found no room, and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// The node that refused.
    pub(crate) node: Index,
    /// Why it did.
    pub(crate) refusal: Refusal<Units>,
}

/// How hard to look for bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Take what is there.
    Light {
        /// In which lines it is for the first.
        turn: Turn,
    },
    /// Sweep stock before giving up: that of others than this crate and the nodes above it, which
    /// count on theirs.
    Full {
        /// Whom the bytes are for.
        asker: Index,
        /// In which lines it is for the first.
        turn: Turn,
    },
}

impl Effort {
    fn turn(self) -> Turn {
        match self {
            Self::Light { turn } | Self::Full { turn, .. } => turn,
        }
    }
}

/// The budgets of one manager: one global budget, parents below it, crates below those.
pub(crate) struct BudgetTracker {
    pub(super) root: Slot,
    pub(super) slots: Slots,
    pub(super) registry: Registry,
    pub(super) scale: Scale,
    /// Which manager's ids are ours.
    pub(crate) tag: u32,
    /// Who waits for bytes, and where. Without `alloc` it is in the caller's storage.
    #[cfg(feature = "alloc")]
    lines: Lines,
    pub(super) seats: Seats,
    pub(crate) watches: Watches,
    /// What a crate with a seat keeps idle above its use.
    pub(super) batch: Units,
    /// Bytes of the largest block that a crate keeps on its slab.
    #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
    pub(super) largest_kept: usize,
    /// Who may borrow from whom, and who owes whom. Without `alloc` it is in the caller's storage.
    #[cfg(feature = "alloc")]
    book: Lock<Book>,
    /// Nodes that owe.
    pub(super) debtors: AtomicU32,
    /// Whether somebody in the book is due.
    pub(super) due: AtomicBool,
    /// What deadlines are measured by.
    pub(super) clock: Option<Clock>,
    /// Times that a sweep took stock from a crate.
    pub(crate) swept: AtomicUsize,
    /// What gives idle memory back.
    pub(crate) reclaim: Reclaim,
    /// Who follows.
    #[cfg(feature = "formal-verification")]
    pub(crate) observers: crate::verification::Observers,
}

impl BudgetTracker {
    /// A tracker whose root holds `total`.
    pub(crate) fn new(
        slots: Slots,
        scale: Scale,
        total: Units,
        batch: Units,
        tag: u32,
        clock: Option<Clock>,
        reclaim: Reclaim,
    ) -> Self {
        let root = Slot::new();
        root.budget.reset(&State { held: total, ..State::open(total, 0) });
        Self {
            root,
            slots,
            registry: Registry::new(),
            scale,
            tag,
            #[cfg(feature = "alloc")]
            lines: Lines::new(),
            seats: Seats::new(),
            watches: Watches::new(),
            batch,
            #[cfg(all(feature = "alloc", target_pointer_width = "64"))]
            largest_kept: super::slab::largest_kept(scale.bytes(batch)),
            #[cfg(feature = "alloc")]
            book: Lock::new(Book::new()),
            debtors: AtomicU32::new(0),
            due: AtomicBool::new(false),
            clock,
            swept: AtomicUsize::new(0),
            reclaim,
            #[cfg(feature = "formal-verification")]
            observers: crate::verification::Observers::default(),
        }
    }

    /// Nodes that owe.
    #[cfg(all(test, feature = "std", not(loom)))]
    pub(crate) fn debtors(&self) -> u32 {
        self.debtors.load(Ordering::SeqCst)
    }

    #[inline]
    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    /// Who waits for bytes, and where.
    #[inline]
    pub(crate) fn lines(&self) -> &Lines {
        #[cfg(feature = "alloc")]
        return &self.lines;
        #[cfg(not(feature = "alloc"))]
        return self.slots.lines();
    }

    /// Who may borrow from whom, and who owes whom.
    #[inline]
    pub(crate) fn book(&self) -> &Lock<Book> {
        #[cfg(feature = "alloc")]
        return &self.book;
        #[cfg(not(feature = "alloc"))]
        return self.slots.book();
    }

    /// The slot at an index that was handed out.
    #[inline]
    pub(crate) fn slot(&self, index: Index) -> &Slot {
        if index == ROOT { &self.root } else { self.slots.get(index).unwrap_or(&self.root) }
    }

    pub(super) fn parent(&self, index: Index) -> Option<Index> {
        (index != ROOT).then(|| self.slot(index).parent.load(Ordering::Relaxed))
    }

    /// The crate has not enough: its own limit says no, or its parent is asked for more.
    pub(super) fn charge_slowly(
        &self,
        index: Index,
        generation: u32,
        n: Units,
        refusal: Refusal<Units>,
        turn: Turn,
    ) -> Result<Credit<'_>, Shortage> {
        // Stock below a crate with crates of its own counts against its limit, and can be swept; what a
        // crate has lent is missing from its limit, and what it can borrow comes on top.
        let helps = match refusal {
            Refusal::Short(_) => true,
            Refusal::OverLimit(_) => self.slot(index).children() != 0 || Self::shares(self.slot(index)),
            _ => false,
        };
        if !helps {
            return Err(Shortage { node: index, refusal });
        }
        // What comes from the parent must reach this crate, not the next one in its slot.
        let pinned = self.pin(index);
        let Some(slot) = pinned.filter(|slot| slot.generation.load(Ordering::SeqCst) == generation) else {
            return Err(Shortage { node: index, refusal: Refusal::Closed });
        };
        if !self.batch.is_zero() && !Seats::has_seat(&slot) {
            let (former, kept) = self.seats.seek(index, &slot);
            if let Some(former) = former {
                Seats::unseat(self.slot(former));
                self.empty(former, self.slot(former));
                self.settle(former);
            }
            if !kept {
                self.empty(index, &slot);
                self.settle(index);
            }
        }
        let charged = self.climb(index, &slot, n, turn);
        // Refused, too: what others took meanwhile, or was left on the way as stock, is use further up.
        self.pressure_rose_above(index);
        charged
    }

    /// The ladder of a charge that finds neither credit nor anything at its parent (see
    /// [`CrossCrateCoordinator`](crate::CrossCrateCoordinator)).
    fn climb(&self, index: Index, slot: &Slot, n: Units, turn: Turn) -> Result<Credit<'_>, Shortage> {
        let dealings = Self::shares(slot).then(|| self.dealings(index));
        if let Some(dealings) = dealings.as_ref().filter(|dealings| !dealings.lent.is_zero())
            && let Some(credit) = self.charge_with_what_comes_back(index, slot, n, dealings)
        {
            return Ok(credit);
        }
        let take = || self.take(index, n, Units::ZERO, Effort::Full { asker: index, turn });
        let taken = match take() {
            Err(shortage) if shortage.node != index && self.reclaim_for(shortage) => take(),
            taken => taken,
        };
        taken.or_else(|shortage| {
            let Some(dealings) = dealings else { return Err(shortage) };
            let may_borrow = dealings.may_borrow;
            let lent = if may_borrow { self.charge_with_loans(index, slot, n, shortage, turn) } else { None };
            // What was tried may have brought home what this crate lent, or made it idle where it is.
            let came = || self.charge_once(index, slot, n);
            let late = || match dealings.lent.is_zero() {
                true => None,
                false => self.charge_with_what_comes_back(index, slot, n, &dealings),
            };
            lent.or_else(came).or_else(late).ok_or(shortage)
        })
    }

    /// Takes `n` into use at `node`, with room for `floor` more of guarantee below it, going to the
    /// parent for what is missing. The Credit belongs to `node`.
    pub(super) fn take(
        &self,
        node: Index,
        n: Units,
        floor: Units,
        effort: Effort,
    ) -> Result<Credit<'_>, Shortage> {
        let slot = self.slot(node);
        for _ in 0..MAX_ROUNDS {
            let (shortage, needed) = match self.take_once(node, slot, n, floor, effort) {
                // It took all that sweeps brought here: they bring no more than is short.
                Ok(credit) => return Ok(credit),
                Err(Retry::Again) => {
                    // What is idle and owed may be in the way of what was fetched.
                    self.collect_idle(node, slot);
                    continue;
                }
                Err(Retry::Denied(shortage, needed)) => (shortage, needed),
            };
            let Effort::Full { asker, turn } = effort else {
                return Err(shortage);
            };
            // What it keeps itself is idle.
            if !self.empty(node, slot).is_zero() {
                continue;
            }
            // Stock below a node counts as its use: what a sweep brings back there helps with its
            // limit as well as with its credit. A crate has nothing below it.
            let has_children = slot.children() != 0;
            if has_children && !needed.is_zero() && !self.sweep(node, needed, asker).is_zero() {
                continue;
            }
            // What a sweep for a node further up found below this one may have stopped here, to
            // back this node's guarantee.
            let late = if has_children && shortage.node != node {
                match self.take_once(node, slot, n, floor, Effort::Light { turn }) {
                    Err(Retry::Again) => continue,
                    late => late.ok(),
                }
            } else {
                None
            };
            self.keep_findable(node, slot, &slot.budget.load());
            return late.ok_or(shortage);
        }
        self.keep_findable(node, slot, &slot.budget.load());
        let node = self.parent(node).unwrap_or(node);
        Err(Shortage { node, refusal: Refusal::Short(n) })
    }

    /// One round of [`take`](Self::take): says, where it is denied, how much a sweep below `node`
    /// would have to bring.
    fn take_once(
        &self,
        node: Index,
        slot: &Slot,
        n: Units,
        floor: Units,
        effort: Effort,
    ) -> Result<Credit<'_>, Retry> {
        let denied = |refusal, needed| Err(Retry::Denied(Shortage { node, refusal }, needed));
        // Guarantees come first: only what is asked beyond them stands in line.
        if floor.is_zero() && effort.turn().is_barred_at(slot) {
            return denied(Refusal::Queued, Units::ZERO);
        }
        let parent = self.parent(node);
        let tried = match parent {
            // A guarantee below a node is one of every node above it.
            Some(_) if !floor.is_zero() => {
                let state = slot.budget.load();
                transition::delegate(state, &n, &floor).map(|_| Units::ZERO).or_else(
                    |refusal| match refusal {
                        Refusal::Short(by) => Ok(by),
                        other => Err(other),
                    },
                )
            }
            _ => match slot.budget.apply(|state| transition::delegate(state, &n, &floor)) {
                Ok((state, ())) => {
                    slot.raise_high_water(state.used);
                    return Ok(Credit::taken(self, node, n, floor));
                }
                Err(Refusal::Short(by)) => Ok(by),
                Err(other) => Err(other),
            },
        };
        let short = match tried {
            Ok(short) => short,
            Err(Refusal::OverLimit(by)) => return denied(Refusal::OverLimit(by), by),
            Err(other) => return denied(other, Units::ZERO),
        };
        let Some(parent) = parent else {
            return denied(Refusal::Short(short), short);
        };
        let credit = match self.fetch(parent, slot, short, floor, effort) {
            Ok(credit) => credit,
            Err(shortage) => return Err(Retry::Denied(shortage, short)),
        };
        let carried = (credit.amount(), credit.floor());
        let swapped =
            slot.budget.apply(|state| transition::refill_and_delegate(state, &carried.0, &n, &carried.1));
        match swapped {
            Ok((state, ())) => {
                credit.absorb();
                slot.raise_high_water(state.used);
                self.keep_findable(node, slot, &state);
                Ok(Credit::taken(self, node, n, floor))
            }
            // Somebody used what was missing less a moment ago, or the limit fell: dropping the
            // credit returns it, and the next round sees what is there now.
            Err(Refusal::Closed) => denied(Refusal::Closed, Units::ZERO),
            Err(_) => Err(Retry::Again),
        }
    }

    /// Gets `short` from `parent` for `slot`, with a batch on top where that is cheap and allowed.
    fn fetch(
        &self,
        parent: Index,
        slot: &Slot,
        short: Units,
        floor: Units,
        effort: Effort,
    ) -> Result<Credit<'_>, Shortage> {
        let state = slot.budget.load();
        // What one that owes has idle is not its own.
        if floor.is_zero() && !state.owes && Seats::has_seat(slot) {
            let room = state.limit.above(&state.held);
            let wish = short.plus_saturating(&self.batch).least(&room);
            if wish > short
                // Nobody's turn: while others are in line, also who is first takes what was asked and no more.
                && let Ok(credit) = self.take(parent, wish, Units::ZERO, Effort::Light { turn: Turn::NONE })
            {
                return Ok(credit);
            }
        }
        self.take(parent, short, floor, effort)
    }

    /// Gives `n` units of use back at `node`, with the guarantee they carried; what the node does
    /// not keep goes on to its parent, and so up.
    #[cold]
    #[inline(never)]
    pub(crate) fn give_back(&self, node: Index, n: Units, floor: Units) {
        self.give_back_until(node, n, floor, None);
        // A debt that was paid may have made another crate due.
        self.tend();
        self.stir(node);
    }

    /// As [`give_back`](Self::give_back), up to `last`, which keeps what reaches it. Returns how much did.
    pub(super) fn give_back_until(&self, node: Index, n: Units, floor: Units, last: Option<Index>) -> Units {
        let mut left = false;
        let came = self.pass_up(node, n, floor, last, &mut left);
        // Once all bytes are where they belong: somebody may be told.
        if left {
            self.pressure_fell(node);
        }
        came
    }

    /// As [`give_back_until`](Self::give_back_until). Says in `left` whether use fell below a mark of a watch.
    fn pass_up(&self, node: Index, n: Units, floor: Units, last: Option<Index>, left: &mut bool) -> Units {
        let (mut node, mut n) = (node, n);
        // Where nothing is given back, nothing keeps the node in its slot.
        while !n.is_zero() || !floor.is_zero() {
            let slot = self.slot(node);
            // Read while what is given back still keeps the node in its slot.
            let parent = slot.parent.load(Ordering::Relaxed);
            let ends = node == ROOT || last == Some(node);
            let keep = if ends || last.is_some() { Units::MAX } else { self.keeps(slot) };
            let given = slot.budget.apply(|state| -> Result<_, Refusal<Units>> {
                let (state, spilled) = transition::undelegate(state, &n, &floor, &keep)?;
                if ends || last.is_none() {
                    return Ok((state, spilled));
                }
                // On its way to `last`: the node passes on as much, and keeps the stock it had.
                let (state, passed) = transition::release(state, &n.above(&spilled))?;
                Ok((state, spilled.plus_saturating(&passed)))
            });
            let Ok((state, spilled)) = given else {
                // Only more than was taken can be refused here, and a Credit is what was taken.
                debug_assert!(false, "node {node} was given back more than it gave");
                return Units::ZERO;
            };
            *left |= slot.marks.is_left(state.used);
            if node == ROOT {
                return n;
            }
            if state.owes {
                self.collect(node);
            }
            if ends {
                // What `last` holds above a limit set lower is not its to keep.
                self.give_back_until(parent, spilled, Units::ZERO, None);
                return n;
            }
            self.keep_findable(node, slot, &state);
            n = spilled;
            node = parent;
        }
        Units::ZERO
    }

    /// After a swap that left stock: a crate that has lost its seat meanwhile gives it all back, and
    /// one to which a sweep brought more than a batch gives the rest.
    #[inline]
    pub(super) fn keep_findable(&self, node: Index, slot: &Slot, state: &State<Units>) {
        let stock = state.stock();
        if state.owes && !stock.is_zero() {
            self.collect(node);
        }
        if node != ROOT && !stock.is_zero() && !self.spare(slot, state).is_zero() {
            self.settle(node);
        }
    }

    /// What a node keeps idle above its use, where that is more than its floor: a batch with a seat, and what
    /// it has borrowed, which is its own to use and nobody else's. Below a node that owes nothing is kept
    /// as stock: what is freed there is what it pays with.
    #[inline]
    pub(super) fn keeps(&self, slot: &Slot) -> Units {
        let stocked = Seats::has_seat(slot) && !self.is_debtor_above(slot);
        let stock = if stocked { self.batch } else { Units::ZERO };
        stock.plus_saturating(&Self::borrowed(slot))
    }

    /// What a node has idle and does not keep.
    pub(super) fn spare(&self, slot: &Slot, state: &State<Units>) -> Units {
        beyond(state, self.keeps(slot))
    }

    #[inline]
    fn is_debtor_above(&self, slot: &Slot) -> bool {
        self.debtors.load(Ordering::SeqCst) != 0 && self.finds_debtor_above(slot)
    }

    #[cold]
    fn finds_debtor_above(&self, slot: &Slot) -> bool {
        let mut at = slot.parent.load(Ordering::Relaxed);
        for _ in 0..MAX_DEPTH {
            match self.parent(at) {
                Some(parent) if !self.slot(at).budget.load().owes => at = parent,
                Some(_) => return true,
                None => return false,
            }
        }
        false
    }

    #[inline]
    pub(super) fn borrowed(slot: &Slot) -> Units {
        Units::new(slot.borrowed.load(Ordering::SeqCst)).unwrap_or(Units::MAX)
    }

    /// Gives what `node` has idle above its floor back, but for the batch it may keep with a seat.
    pub(super) fn settle(&self, node: Index) {
        if node == ROOT {
            return;
        }
        let slot = self.slot(node);
        let spare =
            if self.keeps(slot).is_zero() { Units::MAX } else { self.spare(slot, &slot.budget.load()) };
        if !spare.is_zero() {
            self.sweep_one(node, spare, ROOT);
        }
    }
}

/// What is held beyond the floor, and beyond the use with what is kept above that.
#[inline]
pub(super) fn beyond(state: &State<Units>, kept: Units) -> Units {
    state.held.above(&state.floor.most(&state.used.plus_saturating(&kept)))
}

/// Counts a place looked at on behalf of a charge, in tests.
#[inline]
pub(crate) fn visited() {
    #[cfg(all(test, feature = "std", not(loom)))]
    tests::VISITS.with(|visits| visits.set(visits.get() + 1));
}

/// Why a round of [`BudgetTracker::take`] gave nothing.
enum Retry {
    /// Another thread was quicker; look again.
    Again,
    /// Denied, and so much from below the node would change that.
    Denied(Shortage, Units),
}

#[cfg(all(test, feature = "std", not(loom)))]
pub(crate) mod tests;
