//! The lines and their tickets, as one value under a lock: who is behind whom, and who is to be tried next.
//!
//! Every step takes time bounded by the depth of a tree, whatever the number of those who wait. Nothing
//! here charges, gives back or wakes: what is to be woken or given back is returned.

use core::task::Waker;

use super::Turn;
use super::line::{Line, NOWHERE, Rank};
use super::ticket::{Key, LEVELS, Links, NOBODY, Room, Stage, Tickets};
use crate::budget::{BudgetTracker, CrateId, Index, ROOT, Refusal, Shortage, Units};
use crate::sync::Ordering;

/// Requests of one crate that may wait at one time.
pub(super) const MOST_OF_ONE: u8 = if cfg!(feature = "alloc") { 250 } else { 2 };

/// What is asked of the lines.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) id: CrateId,
    pub(crate) n: Units,
    /// `n` and what its owner has already and will not give back meanwhile.
    pub(crate) needs: Units,
    /// Bytes that were asked, for errors.
    pub(crate) asked: usize,
}

/// A request to be charged for, by the thread that serves.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    pub(super) key: Key,
    pub(super) index: Index,
    pub(super) generation: u32,
    pub(super) n: Units,
    pub(super) needs: Units,
    pub(super) turn: Turn,
    /// In whose line it stands first.
    node: Index,
    rank: Rank,
}

/// Why a request got no ticket.
pub(super) enum NoTicket {
    /// Its crate has as many as one may.
    OfCrate,
    /// All are taken.
    AtAll,
    /// There may be more: a bucket of this number is missing.
    Missing(usize),
}

/// How a request stands, told to its owner.
pub(super) enum Outcome {
    /// It waits; `serve` where it is the owner that is to go on serving.
    Waits { serve: bool },
    /// Its bytes are charged, and the ticket is gone.
    Granted,
    /// It gets none, and the ticket is gone.
    Ended(Shortage),
}

/// What was counted since the manager was made.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) begun: u64,
    pub(super) granted: u64,
    pub(super) given_up: u64,
}

pub(super) struct Queue {
    tickets: Tickets,
    /// Lines to be looked at, first and last of a list through them.
    stirred: Index,
    stirred_last: Index,
    /// Whose turn is next in a line where the first, who does not hold it, was refused.
    follow: Option<Index>,
    /// A thread serves: others only say what is to be looked at.
    pub(super) serving: bool,
    next_number: u64,
    /// Tickets that wait.
    pub(super) waiting: u32,
    pub(super) counts: Counts,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            tickets: Tickets::new(),
            stirred: NOWHERE,
            stirred_last: NOWHERE,
            follow: None,
            serving: false,
            next_number: 0,
            waiting: 0,
            counts: Counts { begun: 0, granted: 0, given_up: 0 },
        }
    }

    /// As new, in place: it is too large for a small stack.
    #[cfg(not(feature = "alloc"))]
    pub(super) fn reset(&mut self) {
        self.tickets.reset();
        (self.stirred, self.stirred_last, self.follow) = (NOWHERE, NOWHERE, None);
        (self.serving, self.waiting, self.counts) = (false, 0, Counts::default());
    }

    /// Notes that bytes came to `node`: its line and those above it are to be looked at.
    pub(super) fn stir(&mut self, nodes: &BudgetTracker, node: Index) {
        let mut at = node;
        for _ in 0..LEVELS {
            self.stir_one(nodes, at);
            if at == ROOT {
                return;
            }
            at = nodes.slot(at).parent.load(Ordering::Relaxed);
        }
    }

    fn stir_one(&mut self, nodes: &BudgetTracker, node: Index) {
        let line = &nodes.slot(node).line;
        if line.is_empty() || !line.stir() {
            return;
        }
        if self.stirred == NOWHERE {
            self.stirred = node;
        } else {
            nodes.slot(self.stirred_last).line.set_next_stirred(node);
        }
        self.stirred_last = node;
    }

    /// The next request to be charged for. None where there is no more to be done.
    pub(super) fn next(&mut self, nodes: &BudgetTracker) -> Option<Attempt> {
        if let Some(node) = self.follow.take()
            && let Some(attempt) = self.attempt(nodes, node, Rank::Holding)
        {
            return Some(attempt);
        }
        while self.stirred != NOWHERE {
            let node = self.stirred;
            let line = &nodes.slot(node).line;
            self.stirred = line.settle();
            // Who came first goes first; who holds the line does not wait for one who does not.
            let rank = if self.passable_goes_first(line) { Rank::Passable } else { Rank::Holding };
            if let Some(attempt) = self.attempt(nodes, node, rank) {
                return Some(attempt);
            }
        }
        None
    }

    fn passable_goes_first(&mut self, line: &Line) -> bool {
        let (holding, passable) = (line.first(Rank::Holding), line.first(Rank::Passable));
        passable != NOBODY
            && (holding == NOBODY || self.tickets.get(passable).number < self.tickets.get(holding).number)
    }

    fn attempt(&mut self, nodes: &BudgetTracker, node: Index, rank: Rank) -> Option<Attempt> {
        let key = nodes.slot(node).line.first(rank);
        if key == NOBODY {
            return None;
        }
        let turn = self.turn_of(nodes, key);
        let ticket = self.tickets.get(key);
        ticket.stage = Stage::Trying { abandoned: false };
        let (index, generation, n, needs) = (ticket.index, ticket.generation, ticket.n, ticket.needs);
        Some(Attempt { key, index, generation, n, needs, turn, node, rank })
    }

    /// In which of its lines nobody goes before a ticket.
    fn turn_of(&mut self, nodes: &BudgetTracker, key: Key) -> Turn {
        let mut turn = Turn::NONE;
        let (top, bottom, path, rank) = self.place(key);
        for (depth, node) in path.into_iter().enumerate().take(bottom + 1).skip(top) {
            let line = &nodes.slot(node).line;
            if line.first(rank) == key && (rank == Rank::Holding || self.passable_goes_first(line)) {
                turn = turn.and_at(depth);
            }
        }
        turn
    }

    fn place(&mut self, key: Key) -> (usize, usize, [Index; LEVELS], Rank) {
        let ticket = self.tickets.get(key);
        (ticket.top.into(), ticket.bottom.into(), ticket.path, ticket.rank)
    }

    /// A request was charged for. `false` where whoever waited is gone, and the bytes are to go back.
    pub(super) fn granted(&mut self, nodes: &BudgetTracker, attempt: &Attempt) -> (bool, Option<Waker>) {
        if self.is_abandoned(attempt.key) {
            self.discard(attempt.key);
            return (false, None);
        }
        self.leave_lines(nodes, attempt.key);
        nodes.slot(attempt.index).line.was_granted(attempt.n);
        self.counts.granted += 1;
        let ticket = self.tickets.get(attempt.key);
        ticket.stage = Stage::Granted;
        (true, ticket.waker.take())
    }

    /// A request was refused again. `hopeless`: it will be for ever.
    pub(super) fn refused(
        &mut self,
        nodes: &BudgetTracker,
        attempt: &Attempt,
        shortage: Shortage,
        hopeless: bool,
    ) -> Option<Waker> {
        let key = attempt.key;
        if self.is_abandoned(key) {
            self.discard(key);
            return None;
        }
        // In no line any more: its crate was retired meanwhile, maybe after the try.
        let ticket = self.tickets.get(key);
        let evicted = ticket.top > ticket.bottom;
        ticket.last =
            if evicted { Shortage { node: ticket.index, refusal: Refusal::Closed } } else { shortage };
        if evicted || hopeless {
            self.leave_lines(nodes, key);
            self.counts.given_up += 1;
            let ticket = self.tickets.get(key);
            ticket.stage = Stage::Ended;
            return ticket.waker.take();
        }
        self.tickets.get(key).stage = Stage::Waiting;
        self.move_to(nodes, key, shortage.node);
        if attempt.rank == Rank::Passable {
            self.follow = Some(attempt.node);
        }
        None
    }

    fn is_abandoned(&mut self, key: Key) -> bool {
        self.tickets.get(key).stage == (Stage::Trying { abandoned: true })
    }

    /// A ticket that stands in no line is nobody's.
    fn discard(&mut self, key: Key) {
        let ticket = self.tickets.get(key);
        debug_assert!(ticket.waker.is_none(), "a waker is dropped under the lock");
        self.tickets.put(key);
    }

    /// The thread that served has done its share: another is to go on. Returns whom to wake, if the request
    /// that stands first somewhere is to do it; it does when it is looked at or given up.
    pub(super) fn hand_over(&mut self, nodes: &BudgetTracker) -> Option<Waker> {
        self.serving = false;
        let first = |node| {
            let line: &Line = &nodes.slot(node).line;
            Rank::BOTH.into_iter().map(|rank| line.first(rank)).find(|&key| key != NOBODY)
        };
        if let Some(key) = self.follow.and_then(first) {
            return self.nudge(key);
        }
        while self.stirred != NOWHERE {
            if let Some(key) = first(self.stirred) {
                return self.nudge(key);
            }
            self.stirred = nodes.slot(self.stirred).line.settle();
        }
        None
    }

    fn nudge(&mut self, key: Key) -> Option<Waker> {
        let ticket = self.tickets.get(key);
        ticket.nudged = true;
        ticket.waker.take()
    }

    /// Puts a request that was refused in line, behind all that are there.
    pub(super) fn join(
        &mut self,
        nodes: &BudgetTracker,
        request: &Request,
        shortage: Shortage,
    ) -> Result<Key, NoTicket> {
        let slot = nodes.slot(request.id.index);
        let waiting = slot.waiting.load(Ordering::Relaxed);
        if waiting >= MOST_OF_ONE {
            return Err(NoTicket::OfCrate);
        }
        let key = self.tickets.take().map_err(|bucket| bucket.map_or(NoTicket::AtAll, NoTicket::Missing))?;
        let number = self.next_number;
        self.next_number += 1;
        let ticket = self.tickets.at(key);
        (ticket.stage, ticket.rank, ticket.number) = (Stage::Waiting, slot.line.rank(), number);
        (ticket.index, ticket.generation) = (request.id.index, request.id.generation);
        (ticket.n, ticket.needs, ticket.last) = (request.n, request.needs, shortage);
        ticket.bottom = fill_path(nodes, request.id.index, &mut ticket.path) as u8;
        ticket.top = ticket.bottom + 1;
        slot.waiting.store(waiting + 1, Ordering::Relaxed);
        self.waiting += 1;
        self.counts.begun += 1;
        self.move_to(nodes, key, shortage.node);
        Ok(key)
    }

    /// Lets a ticket stand in the lines of all nodes from its crate up to `node`. Where that is new and it is the
    /// first, it is to be tried once more: what came before it stood there was not offered to it.
    fn move_to(&mut self, nodes: &BudgetTracker, key: Key, node: Index) {
        let (top, bottom, path, _) = self.place(key);
        let Some(wanted) = path[..=bottom].iter().position(|&at| at == node) else {
            return;
        };
        for depth in top..wanted {
            self.leave_line(nodes, key, depth);
        }
        for depth in (wanted..top).rev() {
            self.join_line(nodes, key, depth);
        }
        self.tickets.get(key).top = wanted as u8;
    }

    fn join_line(&mut self, nodes: &BudgetTracker, key: Key, depth: usize) {
        let (_, _, path, rank) = self.place(key);
        let line = &nodes.slot(path[depth]).line;
        // A ring: before the first is the last.
        let first = line.first(rank);
        if first == NOBODY {
            self.tickets.get(key).links[depth] = Links { before: key, after: key };
            line.set_first(rank, key);
            self.stir_one(nodes, path[depth]);
        } else {
            let last = core::mem::replace(&mut self.tickets.get(first).links[depth].before, key);
            self.tickets.get(last).links[depth].after = key;
            self.tickets.get(key).links[depth] = Links { before: last, after: first };
        }
    }

    fn leave_line(&mut self, nodes: &BudgetTracker, key: Key, depth: usize) {
        let (_, _, path, rank) = self.place(key);
        let line = &nodes.slot(path[depth]).line;
        let Links { before, after } = self.tickets.get(key).links[depth];
        self.tickets.get(before).links[depth].after = after;
        self.tickets.get(after).links[depth].before = before;
        if line.first(rank) == key {
            line.set_first(rank, if after == key { NOBODY } else { after });
            // Who was behind it may fit.
            self.stir_one(nodes, path[depth]);
        }
    }

    /// It waits no longer.
    fn leave_lines(&mut self, nodes: &BudgetTracker, key: Key) {
        let (top, bottom, path, _) = self.place(key);
        if top > bottom {
            return;
        }
        for depth in top..=bottom {
            self.leave_line(nodes, key, depth);
        }
        self.tickets.get(key).top = bottom as u8 + 1;
        let waiting = &nodes.slot(path[bottom]).waiting;
        waiting.store(waiting.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        self.waiting -= 1;
    }

    /// How a request stands; where it waits, `waker` is what to wake when that changes, and the former one
    /// comes back. Where it is to go on serving and may, it is expected to.
    pub(super) fn look(
        &mut self,
        key: Key,
        waker: Option<Waker>,
        may_serve: bool,
    ) -> (Outcome, Option<Waker>) {
        let ticket = self.tickets.get(key);
        match ticket.stage {
            Stage::Granted | Stage::Ended => {
                let outcome = match ticket.stage {
                    Stage::Granted => Outcome::Granted,
                    _ => Outcome::Ended(ticket.last),
                };
                let former = ticket.waker.take();
                self.tickets.put(key);
                (outcome, former.or(waker))
            }
            _ => {
                let former = core::mem::replace(&mut ticket.waker, waker);
                let serve = ticket.nudged;
                ticket.nudged &= !may_serve;
                (Outcome::Waits { serve }, former)
            }
        }
    }

    /// Whoever waited is gone. Returns why it was refused last, and the bytes it was granted, which are the
    /// caller's.
    pub(super) fn leave(
        &mut self,
        nodes: &BudgetTracker,
        key: Key,
        same_crate: bool,
    ) -> (Shortage, Units, Option<Waker>) {
        let ticket = self.tickets.get(key);
        let (stage, n, index, last) = (ticket.stage, ticket.n, ticket.index, ticket.last);
        let waker = ticket.waker.take();
        if matches!(stage, Stage::Waiting | Stage::Trying { .. }) {
            self.leave_lines(nodes, key);
            self.counts.given_up += 1;
            if same_crate {
                nodes.slot(index).line.gave_up(n);
            }
        }
        if matches!(stage, Stage::Trying { .. }) {
            self.tickets.get(key).stage = Stage::Trying { abandoned: true };
        } else {
            self.tickets.put(key);
        }
        (last, if stage == Stage::Granted { n } else { Units::ZERO }, waker)
    }

    /// The crate in a slot was retired: one of its requests ends. `false` where there is none left.
    pub(super) fn evict_one(&mut self, nodes: &BudgetTracker, index: Index) -> (bool, Option<Waker>) {
        let line = &nodes.slot(index).line;
        let Some(key) = Rank::BOTH.into_iter().map(|rank| line.first(rank)).find(|&key| key != NOBODY) else {
            return (false, None);
        };
        self.leave_lines(nodes, key);
        let ticket = self.tickets.get(key);
        // Where a thread is charging for it, that is refused, and it is ended there.
        if ticket.stage != Stage::Waiting {
            return (true, None);
        }
        self.counts.given_up += 1;
        let ticket = self.tickets.get(key);
        ticket.last = Shortage { node: index, refusal: Refusal::Closed };
        ticket.stage = Stage::Ended;
        (true, ticket.waker.take())
    }

    pub(super) fn extend(&mut self, bucket: usize, room: Room) -> Option<Room> {
        self.tickets.extend(bucket, room)
    }
}

/// Writes the nodes above a crate, by depth, and itself. Returns how deep it is.
fn fill_path(nodes: &BudgetTracker, index: Index, path: &mut [Index; LEVELS]) -> usize {
    let bottom = usize::from(nodes.slot(index).depth.load(Ordering::Relaxed)).min(LEVELS - 1);
    let mut at = index;
    for depth in (0..=bottom).rev() {
        path[depth] = if depth == 0 { ROOT } else { at };
        at = nodes.slot(at).parent.load(Ordering::Relaxed);
    }
    bottom
}
