//! Waiting: a charge that finds no bytes stands in line for them.
//!
//! # The protocol
//! A request is charged plainly first. Refused, it gets a *ticket* and stands in the *line* of the node that
//! refused, and in those of all nodes from its crate up to that one: bytes that come to any of them may help it.
//! It holds no bytes. What limits and guarantees can never allow is refused at once, and so is a request for which
//! that becomes true while it waits.
//!
//! **A grant is a reservation.** Whoever gives bytes back, raises a limit or lowers a guarantee charges on behalf
//! of the first in line ([`BudgetTracker::stir`]). The charge belongs to the ticket; whoever waited takes it, or
//! gives it back by being dropped.
//!
//! **First come, first served, by line.** While a ticket *holds* a line, a charge that needs the node's bytes is
//! refused ([`Refusal::Queued`]) unless it is for the first there: a [`Turn`] says in which lines a charge is that.
//! What stays within a crate's guarantee is never refused, and what another crate has already in stock is its own until
//! a sweep for the first in line takes it: one is made whenever bytes come back.
//! So what is free at the node only grows until the first in line fits.
//!
//! **Who gives up holds nothing up.** A crate whose request ended by its owner's will has forfeited its hold: its
//! next requests stand in line and are served in turn, but newcomers and those who hold the line may pass
//! them, until requests of it that waited were granted as many bytes as the largest it gave up. So a guest that
//! waits and gives up in a loop bars others for one wait, not for each, and not by waiting for little in between.
//!
//! # One server
//! At most one thread serves at a time; others put the lines to be looked at on a list and go their ways. No lock
//! is held while it charges. It tries at most [`TRIES`] requests for one look, so that no thread that frees is
//! kept; if lines are left then, the first of one of them is woken to go on, and does so when it is polled or dropped. Nobody
//! spins, and an interrupt handler that frees meanwhile only adds to the list.
//!
//! # No wake-up is lost
//! Bytes that come are in a node's word before [`Lines::waiting`] is read; a ticket is counted there, in line and its
//! line on the list, before the words are read on its behalf. All of that is sequentially consistent, so the one
//! who frees sees the ticket, or the try sees the bytes. What is on the list is tried: by the server, who takes
//! lines from it until it is empty, or by who is woken at the end of its share. A try that is refused elsewhere than
//! the last one puts the ticket in the lines it lacks, and them on the list: a try after that is
//! again one after standing there. A charge that fails, or takes more than it uses, had bytes on their way that a try
//! may have missed: it stirs the lines as one who gives back does. Leaving a line puts it on the list
//! where that changes who is first.
//!
//! # Why no `event-listener`
//! A ticket has one owner, and the order is the lines': what is left to keep is one waker, for which `core` has the
//! type. So waiting works without `std`, without `alloc` and under loom, and nothing is allocated by a wait
//! but tickets, in buckets.

mod line;
mod queue;
mod ticket;

use core::task::Waker;

use crate::budget::{Amount, BudgetTracker, CrateId, Index, MAX_DEPTH, ROOT, Refusal, Shortage, Slot, Units};
use crate::error::{MemoryError, Result};
use crate::lock::Lock;
use crate::snapshot::Waits;
use crate::sync::{AtomicU32, Ordering, change_then_look, const_fn};

pub(crate) use line::Line;
pub(crate) use queue::Request;
use queue::{Attempt, MOST_OF_ONE, NoTicket, Outcome, Queue};
pub(crate) use ticket::Key;
use ticket::{Room, Tickets};

/// Requests that one thread tries to serve, for bytes it gave back.
const TRIES: usize = if cfg!(loom) { 2 } else { 8 };

/// In which lines nobody goes before a charge: one bit for each depth of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u16);

impl Turn {
    /// A newcomer's.
    pub(crate) const NONE: Self = Self(0);
    /// Of what is guaranteed: it goes before all.
    pub(crate) const FIRST: Self = Self(u16::MAX);

    /// This one, and the line of the node at `depth`.
    fn and_at(self, depth: usize) -> Self {
        Self(self.0 | 1 << depth)
    }

    /// Whether others go first at a node.
    #[inline]
    pub(crate) fn is_barred_at(self, slot: &Slot) -> bool {
        slot.line.is_held() && self.0 >> slot.depth.load(Ordering::Relaxed) & 1 == 0
    }
}

/// All lines of a manager.
pub(crate) struct Lines {
    /// Tickets that wait: what is looked at where bytes come back.
    waiting: AtomicU32,
    queue: Lock<Queue>,
}

/// How a request that has a ticket stands.
pub(crate) enum Standing {
    /// It waits.
    Waits,
    /// Its bytes are charged; the ticket is gone.
    Granted,
    /// It gets none; the ticket is gone.
    Ended(Shortage),
}

impl Lines {
    const_fn! {
        pub(crate) const fn new() -> Self {
            Self { waiting: AtomicU32::new(0), queue: Lock::new(Queue::new()) }
        }
    }

    /// Forgets the tickets of those who were leaked while a former manager had the storage.
    #[cfg(not(feature = "alloc"))]
    pub(crate) fn forget_manager(&self) {
        self.with(Queue::reset);
    }

    /// A step on the lines. Afterwards `waiting` is what the queue says.
    fn with<R>(&self, step: impl FnOnce(&mut Queue) -> R) -> R {
        self.queue.with(|queue| {
            let before = queue.waiting;
            let result = step(queue);
            if queue.waiting != before {
                self.waiting.store(queue.waiting, Ordering::SeqCst);
            }
            result
        })
    }

    pub(crate) fn counts(&self) -> Waits {
        self.with(|queue| Waits {
            begun: queue.counts.begun,
            granted: queue.counts.granted,
            given_up: queue.counts.given_up,
            waiting: queue.waiting,
        })
    }
}

impl BudgetTracker {
    /// Bytes may have come to `node`: serves those who wait for them.
    #[inline]
    pub(crate) fn stir(&self, node: Index) {
        if self.anyone_waits() {
            self.stir_lines(node);
        }
    }

    /// Whether there is anybody to be served with bytes that came a moment ago.
    #[inline]
    pub(crate) fn anyone_waits(&self) -> bool {
        change_then_look();
        self.lines().waiting.load(Ordering::SeqCst) != 0
    }

    #[cold]
    fn stir_lines(&self, node: Index) {
        self.lines().with(|queue| queue.stir(self, node));
        self.serve();
    }

    /// Tries those who are first in lines on the list, unless another thread does.
    fn serve(&self) {
        let mut woken: [Option<Waker>; TRIES + 1] = [const { None }; TRIES + 1];
        let mut next = self.lines().with(|queue| {
            let next = if queue.serving { None } else { queue.next(self) };
            queue.serving |= next.is_some();
            next
        });
        let mut tries = 0;
        while let Some(attempt) = next {
            woken[tries] = self.attempt(&attempt);
            tries += 1;
            next = if tries < TRIES {
                self.lines().with(|queue| {
                    let next = queue.next(self);
                    queue.serving = next.is_some();
                    next
                })
            } else {
                woken[tries] = self.lines().with(|queue| queue.hand_over(self));
                None
            };
        }
        // Woken last, when another thread may serve: a waker is a stranger's code.
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// Charges on behalf of one who waits. Returns whom to wake.
    fn attempt(&self, attempt: &Attempt) -> Option<Waker> {
        #[cfg(all(test, feature = "std", not(loom)))]
        tests::TRIED.with(|tried| tried.set(tried.get() + 1));
        // What came before the ticket was counted is there to be seen.
        change_then_look();
        match self.charge_in_turn(attempt.index, attempt.generation, attempt.n, attempt.turn) {
            Ok(credit) => {
                let (taken, waker) = self.lines().with(|queue| queue.granted(self, attempt));
                if taken {
                    credit.absorb();
                }
                // Else it is dropped here, and the lines it is of use to are on the list again.
                waker
            }
            Err(shortage) => {
                let (shortage, hopeless) =
                    self.forever(attempt.index, attempt.generation, attempt.needs, shortage);
                self.lines().with(|queue| queue.refused(self, attempt, shortage, hopeless))
            }
        }
    }

    /// Why a request was refused, and whether it always will be. Then it is not for those who wait before it, who
    /// will have theirs one day.
    fn forever(&self, index: Index, generation: u32, needs: Units, shortage: Shortage) -> (Shortage, bool) {
        if shortage.refusal == Refusal::Closed {
            return (shortage, true);
        }
        let never = self.never(index, needs);
        let slot = self.slot(index);
        match never {
            None => (shortage, false),
            // The limit that was looked at was not that of the crate any more.
            Some(_) if slot.budget.load().closed || slot.generation.load(Ordering::SeqCst) != generation => {
                (Shortage { node: index, refusal: Refusal::Closed }, true)
            }
            Some(node) if shortage.refusal == Refusal::Queued => {
                (Shortage { node, refusal: Refusal::OverLimit(Units::MAX) }, true)
            }
            Some(_) => (shortage, true),
        }
    }

    /// The node whose limit, with the guarantees below it, could never allow a crate `n` units at one time.
    fn never(&self, index: Index, n: Units) -> Option<Index> {
        let (mut at, mut below) = (index, Units::ZERO);
        for _ in 0..=MAX_DEPTH {
            let slot = self.slot(at);
            let state = slot.budget.load();
            let own = Units::new(slot.own_guarantee.load(Ordering::Relaxed)).unwrap_or(Units::MAX);
            // What other nodes below this one are guaranteed.
            let others = state.floor.above(&own).above(&below);
            // What it has lent comes back.
            let away = self.room_away(at);
            if !n.at_most(&state.limit.plus_saturating(&away).above(&others)) {
                return Some(at);
            }
            if at == ROOT {
                break;
            }
            below = state.floor.plus_saturating(&away);
            at = slot.parent.load(Ordering::Relaxed);
        }
        None
    }

    /// Lets a request that was refused stand in line.
    pub(crate) fn stand_in_line(&self, request: &Request, shortage: Shortage) -> Result<Key> {
        let id = request.id;
        let (shortage, hopeless) = self.forever(id.index, id.generation, request.needs, shortage);
        if hopeless {
            return Err(self.denied(id, request.asked, shortage));
        }
        let full = |waiting, most, whole| {
            // Counted as what it would have been without waiting.
            let _ = self.denied(id, request.asked, shortage);
            MemoryError::TooManyWaiting { id, name: self.name_of(id.index), waiting, most, whole }
        };
        let key = loop {
            let missing = match self.lines().with(|queue| queue.join(self, request, shortage)) {
                Ok(key) => break key,
                Err(NoTicket::OfCrate) => {
                    return Err(full(MOST_OF_ONE.into(), MOST_OF_ONE.into(), "one crate"));
                }
                Err(NoTicket::AtAll) => {
                    return Err(full(Tickets::MOST, Tickets::MOST, "all crates together"));
                }
                Err(NoTicket::Missing(bucket)) => bucket,
            };
            let Some(room) = Room::make(missing) else {
                let waiting = self.lines().counts().waiting as usize;
                return Err(full(waiting, waiting, "all crates together"));
            };
            // Where another thread was quicker, this is what is too much, dropped after the lock.
            let _spare = self.lines().with(|queue| queue.extend(missing, room));
        };
        // A crate that is retired ends the requests it finds in line. After that, no other may stand there.
        if self.admit(id).is_err() || self.slot(id.index).budget.load().closed {
            self.leave_line(id, key);
            return Err(self.gone(id));
        }
        self.serve();
        Ok(key)
    }

    /// How a request stands. Where it waits, `waker` is woken when that changes.
    pub(crate) fn stands(&self, key: Key, waker: Option<&Waker>) -> Standing {
        for served in [false, true] {
            // Wakers are cloned and dropped outside of the lock: that is a stranger's code.
            let ours = waker.cloned();
            let (outcome, former) = self.lines().with(|queue| queue.look(key, ours, !served));
            drop(former);
            match outcome {
                Outcome::Granted => return Standing::Granted,
                Outcome::Ended(shortage) => return Standing::Ended(shortage),
                Outcome::Waits { serve: false } => return Standing::Waits,
                // It goes on serving; then it may have been granted what it waits for.
                Outcome::Waits { serve: true } if !served => self.serve(),
                // Once for each look: the rest when it is looked at again.
                Outcome::Waits { serve: true } => waker.into_iter().for_each(Waker::wake_by_ref),
            }
        }
        Standing::Waits
    }

    /// Whoever waited is gone: takes its ticket out, and gives back what it was granted. Returns why it was
    /// refused last.
    pub(crate) fn leave_line(&self, id: CrateId, key: Key) -> Shortage {
        let same_crate = self.resolve(id).is_ok();
        let (last, bytes, waker) = self.lines().with(|queue| queue.leave(self, key, same_crate));
        drop(waker);
        if bytes.is_zero() {
            self.serve();
        } else {
            self.uncharge(id.index, self.slot(id.index), bytes);
        }
        last
    }

    /// Ends the requests of a crate that has been closed.
    pub(crate) fn end_waits(&self, index: Index) {
        loop {
            let (found, waker) = self.lines().with(|queue| queue.evict_one(self, index));
            if let Some(waker) = waker {
                waker.wake();
            }
            if !found {
                break;
            }
        }
        self.serve();
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests;
#[cfg(all(test, loom))]
mod tests_loom;
