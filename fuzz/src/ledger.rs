//! Budgets: any operations, against plain numbers.
//!
//! While nothing is lent, and nobody waits, what is granted and what is denied must be just what the model in `plain.rs`
//! says. Always: a charge within what is guaranteed is granted, nobody comes to use more than its limit, and each
//! node's figures are what its children, its loans and the host's own numbers add up to:
//!
//! ```text
//! used(v)  = own use + sum of held(children)
//! floor(v) = own guarantee - lent + borrowed + sum of floor(children) + sum of owed(children)
//! limit(v) = limit set - lent + borrowed + passed down - passed up
//! floor + owed <= held, used <= held, floor <= limit
//! ```

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use wrt_memory::{
    Charge, CrateHandle, CrateId, CrateSettings, LendingRule, Loan, LoanInfo, LoanState, LoanTerms,
    MemoryError, NodeSnapshot, UnifiedMemoryManager, Waiting,
};

use crate::Seen;
use crate::plain::{Model, Node};

pub(crate) const REACHES: &[&str] = &[
    "granted",
    "denied by a limit",
    "denied by the pool",
    "granted within a guarantee, with loans",
    "granted after a wait",
    "queued",
    "a wait ended without",
    "given up",
    "lent",
    "lent by itself",
    "not lent",
    "a debt",
    "repaid",
    "overdue",
    "evicted",
    "retired",
    "not retired",
    "guaranteed",
    "not guaranteed",
    "a limit below use",
    "a smaller total",
    "split",
    "merged",
];

const TOTAL: u64 = 200;
const MOST_OPS: usize = 120;
const MOST_CRATES: usize = 12;
const MOST_WAITS: usize = 6;
const DEADLINE: Duration = Duration::from_secs(1);

/// What a crate without a limit has as one.
const UNLIMITED: u64 = (1 << 31) - 1;

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

#[derive(Clone, Debug)]
enum Op {
    Register { parent: Option<u8>, limit: Option<u8>, guarantee: u8 },
    Charge { who: u8, bytes: u8 },
    Drop { which: u8 },
    DropLast,
    Split { which: u8, bytes: u8 },
    Merge { which: u8, other: u8 },
    SetLimit { who: u8, bytes: u8 },
    SetGuarantee { who: u8, bytes: u8 },
    SetTotal { bytes: u8 },
    Retire { who: u8 },
    Wait { who: u8, bytes: u8 },
    GiveUp { which: u8 },
    Allow { lender: u8, borrower: u8, most: u8, automatic: bool, deadline: bool },
    Forbid { lender: u8, borrower: u8 },
    Lend { lender: u8, borrower: u8, bytes: u8 },
    Recall { which: u8 },
    EndLoan { which: u8 },
    ReturnIdle,
    Late,
    Evict { who: u8 },
}

fn op(u: &mut Unstructured<'_>) -> arbitrary::Result<Op> {
    let kind = u.int_in_range(0..=31u8)?;
    let mut byte = || u8::arbitrary(u);
    // Whom or which, and how much: mostly few bytes, so that there is room for many.
    let who = byte()?;
    Ok(match kind {
        0..=3 => {
            let (parent, limit) = (byte()?, byte()?);
            Op::Register {
                parent: (parent < 160).then_some(parent),
                limit: (limit < 160).then_some(limit),
                guarantee: byte()? % 60,
            }
        }
        4..=9 => Op::Charge { who, bytes: byte()? % 80 },
        10..=12 => Op::Drop { which: who },
        13 => Op::DropLast,
        14 => Op::Split { which: who, bytes: byte()? % 40 },
        15 => Op::Merge { which: who, other: byte()? },
        16 => Op::SetLimit { who, bytes: byte()? },
        17 | 18 => Op::SetGuarantee { who, bytes: byte()? % 100 },
        19 => Op::SetTotal { bytes: byte()? },
        20 => Op::Retire { who },
        21 | 22 => Op::Wait { who, bytes: byte()? % 100 },
        23 => Op::GiveUp { which: who },
        24 => {
            let (borrower, most, flags) = (byte()?, byte()?, byte()?);
            Op::Allow { lender: who, borrower, most, automatic: flags & 1 != 0, deadline: flags & 2 != 0 }
        }
        25 => Op::Forbid { lender: who, borrower: byte()? },
        26 | 27 => Op::Lend { lender: who, borrower: byte()?, bytes: byte()? % 50 },
        28 => Op::Recall { which: who },
        29 => Op::EndLoan { which: who },
        30 => {
            if who < 128 {
                Op::Late
            } else {
                Op::ReturnIdle
            }
        }
        _ => Op::Evict { who },
    })
}

struct Held<'m> {
    id: CrateId,
    charge: Charge<'m>,
}

struct Waits<'m> {
    id: CrateId,
    n: u64,
    waiting: Waiting<'m>,
}

struct World<'m> {
    manager: &'m UnifiedMemoryManager,
    stock: u64,
    model: Model,
    held: Vec<Held<'m>>,
    waits: Vec<Waits<'m>>,
    loans: Vec<Loan<'m>>,
    /// The coordinator may lend by itself.
    automatic: bool,
}

impl<'m> World<'m> {
    fn pick(&self, who: u8) -> Option<CrateId> {
        let count = self.model.nodes.len();
        (count > 0).then(|| self.model.nodes[usize::from(who) % count].id)
    }

    fn snapshot(&self, id: CrateId) -> NodeSnapshot {
        self.manager.node(id).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Whether the model says exactly what is granted.
    fn is_plain(&self) -> bool {
        !self.automatic && self.manager.sharing().loans().is_empty()
    }

    /// Somebody has more given out than a limit that was lowered since allows.
    fn stretched(&self, id: CrateId) -> bool {
        let over = |node: NodeSnapshot| node.used > node.limit;
        let above = self.model.above(id).into_iter();
        over(self.snapshot(id))
            || above.map(|at| at.map_or_else(|| self.manager.pool(), |id| self.snapshot(id))).any(over)
    }

    fn apply(&mut self, op: &Op, seen: &mut Seen) {
        match *op {
            Op::Register { parent, limit, guarantee } => self.register(parent, limit, guarantee),
            Op::Charge { who, bytes } => {
                if let Some(id) = self.pick(who) {
                    self.charge(id, bytes.into(), seen);
                }
            }
            Op::Drop { .. } | Op::DropLast if !self.held.is_empty() => {
                let last = self.held.len() - 1;
                let which = if let Op::Drop { which } = *op { usize::from(which) % (last + 1) } else { last };
                let Held { id, charge } = self.held.swap_remove(which);
                self.model.node_mut(id).used -= charge.bytes() as u64;
                drop(charge);
            }
            Op::Split { which, bytes } if !self.held.is_empty() => {
                let which = usize::from(which) % self.held.len();
                let Held { id, charge } = &mut self.held[which];
                let (id, had) = (*id, charge.bytes());
                let part = charge.split(bytes.into(), 0);
                assert_eq!(part.is_some(), usize::from(bytes) <= had);
                if let Some(part) = part {
                    assert_eq!(charge.bytes() + part.bytes(), had);
                    self.held.push(Held { id, charge: part });
                    seen.note("split");
                }
            }
            Op::Merge { which, other } if self.held.len() > 1 => {
                let Held { id, charge } = self.held.swap_remove(usize::from(which) % self.held.len());
                let other = usize::from(other) % self.held.len();
                let into = &mut self.held[other];
                let sum = into.charge.bytes() + charge.bytes();
                match into.charge.merge(charge) {
                    Ok(()) => {
                        assert_eq!((into.id, into.charge.bytes()), (id, sum));
                        seen.note("merged");
                    }
                    Err(charge) => {
                        assert_ne!(into.id, id);
                        self.held.push(Held { id, charge });
                    }
                }
            }
            Op::SetLimit { who, bytes } => self.set_limit(who, bytes.into(), seen),
            Op::SetGuarantee { who, bytes } => self.set_guarantee(who, bytes.into(), seen),
            Op::SetTotal { bytes } => {
                let fits = u64::from(bytes) >= self.manager.pool().floor as u64;
                let set = self.manager.set_total(bytes.into());
                assert_eq!(set.is_ok(), fits, "{set:?}");
                if fits {
                    if u64::from(bytes) < self.model.total {
                        seen.note("a smaller total");
                    }
                    self.model.total = bytes.into();
                }
            }
            Op::Retire { who } => self.retire(who, seen),
            Op::Wait { who, bytes } if self.waits.len() < MOST_WAITS => {
                if let Some(id) = self.pick(who) {
                    let handle = CrateHandle::new(self.manager, id).unwrap_or_else(|error| panic!("{error}"));
                    let waiting = handle.charge_or_wait(bytes.into(), bytes.into());
                    self.waits.push(Waits { id, n: bytes.into(), waiting });
                }
            }
            Op::GiveUp { which } if !self.waits.is_empty() => {
                drop(self.waits.remove(usize::from(which) % self.waits.len()));
                seen.note("given up");
            }
            Op::Allow { lender, borrower, most, automatic, deadline } => {
                let (Some(from), Some(to)) = (self.pick(lender), self.pick(borrower)) else { return };
                let rule = LendingRule::new(most.into());
                let rule = if automatic { rule.automatic() } else { rule };
                let terms = LoanTerms::Evictable { deadline: DEADLINE };
                let rule = if deadline { rule.terms(terms) } else { rule };
                let related = from == to
                    || self.model.above(from).contains(&Some(to))
                    || self.model.above(to).contains(&Some(from));
                let allowed = self.manager.sharing().allow(from, to, rule);
                assert_eq!(allowed.is_ok(), !related, "{allowed:?}");
                self.automatic |= automatic && !related;
            }
            Op::Forbid { lender, borrower } => {
                if let (Some(from), Some(to)) = (self.pick(lender), self.pick(borrower)) {
                    self.manager.sharing().forbid(from, to).unwrap_or_else(|error| panic!("{error}"));
                    let left = self.manager.sharing().allowed(from, to).ok().flatten();
                    // What is lent by it still counts.
                    assert!(left.is_none_or(|(rule, lent)| rule.most() == 0 && lent > 0), "{left:?}");
                }
            }
            Op::Lend { lender, borrower, bytes } => self.lend(lender, borrower, bytes.into(), seen),
            Op::Recall { which } if !self.loans.is_empty() => {
                let loan = &self.loans[usize::from(which) % self.loans.len()];
                let (before, came) = (loan.info(), loan.recall());
                let after = loan.info();
                assert!(
                    after.outstanding + came <= before.outstanding || came == 0,
                    "{before:?} {came} {after:?}"
                );
                match after.state {
                    LoanState::Active => panic!("recalled, and {after:?}"),
                    LoanState::Recalling => assert!(after.outstanding > 0),
                    LoanState::Repaid | LoanState::Evicted => assert_eq!(after.outstanding, 0),
                }
            }
            Op::EndLoan { which } if !self.loans.is_empty() => {
                self.loans.remove(usize::from(which) % self.loans.len()).repay();
            }
            Op::ReturnIdle => {
                self.manager.coordinator().return_idle();
            }
            Op::Late => {
                NOW.set(NOW.get() + DEADLINE);
                while let Some(info) = self.manager.coordinator().next_overdue() {
                    assert!(
                        info.overdue && info.state == LoanState::Recalling && info.outstanding > 0,
                        "{info:?}"
                    );
                    seen.note("overdue");
                }
            }
            Op::Evict { who } => {
                if let Some(id) = self.pick(who) {
                    let evicted =
                        self.manager.coordinator().evict(id).unwrap_or_else(|error| panic!("{error}"));
                    if evicted > 0 {
                        seen.note("evicted");
                    }
                }
            }
            _ => {}
        }
    }

    fn register(&mut self, parent: Option<u8>, limit: Option<u8>, guarantee: u8) {
        if self.model.nodes.len() == MOST_CRATES {
            return;
        }
        let parent = parent.and_then(|parent| self.pick(parent));
        let settings = CrateSettings::new().guarantee(guarantee.into());
        let settings = limit.map_or(settings, |limit| settings.limit(limit.into()));
        let settings = parent.map_or(settings, |parent| settings.parent(parent));
        let deep = parent.is_some_and(|parent| self.model.above(parent).len() >= 8);
        let plain = self.is_plain();
        let registered = self.manager.register("crate", settings);
        if deep {
            assert!(matches!(registered, Err(MemoryError::TooDeep { .. })), "{registered:?}");
            return;
        }
        // As the model sees it: there with no guarantee, then given one.
        let absent = self.manager.pool().id;
        let id = registered.as_ref().map_or(absent, |&id| id);
        let limit = limit.map_or(UNLIMITED, u64::from);
        self.model.nodes.push(Node { id, parent, limit, guarantee: 0, used: 0 });
        if plain {
            assert_eq!(registered.is_ok(), self.model.guarantee(id, guarantee.into()), "{registered:?}");
        } else {
            self.model.node_mut(id).guarantee = guarantee.into();
        }
        if registered.is_err() {
            self.model.nodes.pop();
        }
    }

    fn charge(&mut self, id: CrateId, n: u64, seen: &mut Seen) {
        let (before, stretched, plain) = (self.snapshot(id), self.stretched(id), self.is_plain());
        let waiting = self.manager.waits().waiting > 0;
        let guaranteed = before.used as u64 + n <= before.floor as u64;
        let expected = self.model.charge(id, n);
        let granted = self.manager.charge(id, n as usize, n as usize);
        match granted {
            Ok(charge) => {
                assert_eq!((charge.crate_id(), charge.bytes() as u64), (id, n));
                if let Err(at) = expected {
                    let wanted = self.stock > 0 && stretched;
                    assert!(!plain || wanted, "{n} bytes were granted, and {at:?} has not so many");
                    self.model.node_mut(id).used += n;
                }
                if !plain && guaranteed {
                    seen.note("granted within a guarantee, with loans");
                }
                let after = self.snapshot(id);
                // The limit that is shown is at most the total; a crate may use stock it has when that was lowered. What
                // was borrowed for this may be asked back by who waits for it, and made good, within the charge.
                let over = after.used > after.limit && !(self.stock > 0 && stretched);
                assert!(n == 0 || !over || !plain, "over its limit: {after:?}");
                self.held.push(Held { id, charge });
                seen.note("granted");
            }
            Err(error) => {
                assert!(!guaranteed, "within what is guaranteed, and {error}; {before:?}");
                if expected.is_ok() {
                    self.model.node_mut(id).used -= n;
                }
                match error {
                    MemoryError::OverLimit { id: of, .. } => {
                        assert_eq!(of, id);
                        assert!(!plain || waiting || expected == Err(Some(id)), "{error}: {expected:?}");
                        seen.note("denied by a limit");
                    }
                    MemoryError::PoolExhausted { id: of, .. } => {
                        assert_eq!(of, id);
                        let above = expected.is_err_and(|at| at != Some(id));
                        assert!(!plain || waiting || above, "{error}: {expected:?}");
                        seen.note("denied by the pool");
                    }
                    MemoryError::Queued { .. } => {
                        assert!(waiting, "nobody waits, and {error}");
                        seen.note("queued");
                    }
                    error => panic!("{error}"),
                }
            }
        }
    }

    fn set_limit(&mut self, who: u8, limit: u64, seen: &mut Seen) {
        let Some(id) = self.pick(who) else { return };
        let plain = self.is_plain();
        let set = self.manager.set_limit(id, limit as usize);
        if plain {
            assert_eq!(set.is_ok(), limit >= self.model.floor(Some(id)), "{set:?}");
        }
        if set.is_ok() {
            self.model.node_mut(id).limit = limit;
            if self.model.used(Some(id)) > limit {
                seen.note("a limit below use");
            }
        }
    }

    fn set_guarantee(&mut self, who: u8, guarantee: u64, seen: &mut Seen) {
        let Some(id) = self.pick(who) else { return };
        let plain = self.is_plain();
        let set = self.manager.set_guarantee(id, guarantee as usize);
        if plain {
            assert_eq!(set.is_ok(), self.model.guarantee(id, guarantee), "{set:?}");
        } else if set.is_ok() {
            self.model.node_mut(id).guarantee = guarantee;
        }
        seen.note(if set.is_ok() { "guaranteed" } else { "not guaranteed" });
    }

    fn retire(&mut self, who: u8, seen: &mut Seen) {
        let Some(id) = self.pick(who) else { return };
        let idle = self.model.node(id).used == 0 && self.model.below(Some(id)).next().is_none();
        let plain = self.is_plain();
        let retired = self.manager.retire(id);
        assert!(idle || retired.is_err(), "it has bytes in use");
        assert!(!plain || retired.is_ok() == idle, "{retired:?}");
        if retired.is_err() {
            seen.note("not retired");
            return;
        }
        seen.note("retired");
        self.model.nodes.retain(|node| node.id != id);
        self.held.retain(|held| held.id != id);
        assert!(matches!(self.manager.node(id), Err(MemoryError::StaleCrate { .. })));
    }

    fn lend(&mut self, lender: u8, borrower: u8, n: usize, seen: &mut Seen) {
        let (Some(from), Some(to)) = (self.pick(lender), self.pick(borrower)) else { return };
        let rule = self.manager.sharing().allowed(from, to).unwrap_or_else(|error| panic!("{error}"));
        let before = self.snapshot(from);
        let lendable = before
            .floor
            .min(before.held - before.used)
            .min(self.model.node(from).guarantee as usize - before.lent);
        let fits = n > 0
            && before.owed == 0
            && n <= lendable
            && rule.is_some_and(|(rule, lent)| n + lent <= rule.most());
        match self.manager.borrow_from_crate(from, to, n) {
            Ok(loan) => {
                assert!(fits, "{n} bytes of {before:?} by {rule:?}");
                let info = loan.info();
                assert_eq!((info.lender, info.borrower, info.bytes, info.automatic), (from, to, n, false));
                self.loans.push(loan);
                seen.note("lent");
            }
            Err(error) => {
                assert!(!fits, "{error}: {before:?} by {rule:?}");
                seen.note("not lent");
            }
        }
    }

    /// Asks for all who wait until nobody's answer changes.
    fn ask(&mut self, seen: &mut Seen) {
        let (mut changed, mut rounds) = (true, 0);
        // Whoever is asked may serve others, who were asked before.
        while changed || self.manager.waits().waiting as usize != self.waits.len() {
            (changed, rounds) = (false, rounds + 1);
            assert!(rounds < 100, "{} wait, and {:?}", self.waits.len(), self.manager.waits());
            let mut at = 0;
            while at < self.waits.len() {
                let Some(answer) = self.waits[at].waiting.poll_once() else {
                    at += 1;
                    continue;
                };
                changed = true;
                let Waits { id, n, .. } = self.waits.remove(at);
                match answer {
                    Ok(charge) => {
                        assert_eq!((charge.crate_id(), charge.bytes() as u64), (id, n));
                        self.model.node_mut(id).used += n;
                        self.held.push(Held { id, charge });
                        seen.note("granted after a wait");
                    }
                    Err(
                        MemoryError::OverLimit { .. }
                        | MemoryError::PoolExhausted { .. }
                        | MemoryError::StaleCrate { .. },
                    ) => seen.note("a wait ended without"),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let waits = self.manager.waits();
        assert_eq!(waits.waiting as usize, self.waits.len());
        assert_eq!(waits.begun, waits.granted + waits.given_up + u64::from(waits.waiting));
        if let ([only], true) = (&self.waits[..], self.is_plain()) {
            let (id, n) = (only.id, only.n);
            if self.model.charge(id, n).is_ok() {
                panic!("alone in line, there are the {n} bytes it waits for, and nobody gives them to it");
            }
        }
    }

    /// That all figures add up.
    fn audit(&self, seen: &mut Seen) {
        let loans = self.manager.sharing().loans();
        let nodes: HashMap<_, _> =
            self.model.nodes.iter().map(|node| (node.id, self.snapshot(node.id))).collect();
        assert_eq!(self.manager.nodes().count(), nodes.len() + 1);
        let pool = self.manager.pool();
        let at = |id: Option<CrateId>| id.map_or(&pool, |id| &nodes[&id]);
        let sum = |of: &dyn Fn(&LoanInfo) -> bool| -> u64 {
            loans.iter().filter(|loan| of(loan)).map(|loan| loan.outstanding as u64).sum()
        };
        for loan in &loans {
            assert!(loan.outstanding > 0 && loan.outstanding <= loan.bytes, "{loan:?}");
            if loan.automatic {
                seen.note("lent by itself");
            }
            if loan.state == LoanState::Recalling {
                seen.note("a debt");
            }
        }
        if self.loans.iter().any(|loan| loan.info().state == LoanState::Repaid) {
            seen.note("repaid");
        }
        for id in nodes.keys().map(|&id| Some(id)).chain([None]) {
            let node = at(id);
            let what = || format!("{node:?}, {loans:?}");
            let below: Vec<_> = self.model.below(id).map(|node| at(Some(node.id))).collect();
            let own = id.map(|id| self.model.node(id));
            let given: usize = below.iter().map(|child| child.held).sum();
            assert_eq!(node.used as u64, own.map_or(0, |own| own.used) + given as u64, "used {}", what());
            assert!(node.used <= node.held && node.floor + node.owed <= node.held, "held {}", what());
            assert!(node.floor <= node.limit && node.high_water >= node.used, "{}", what());
            let lent = sum(&|loan| Some(loan.lender) == id);
            let borrowed = sum(&|loan| Some(loan.borrower) == id && loan.state == LoanState::Active);
            let owed = sum(&|loan| Some(loan.borrower) == id && loan.state == LoanState::Recalling);
            let figures = [node.lent, node.borrowed, node.owed].map(|bytes| bytes as u64);
            assert_eq!(figures, [lent, borrowed, owed], "{}", what());
            let floors: usize = below.iter().map(|child| child.floor + child.owed).sum();
            let guarantee = own.map_or(0, |own| own.guarantee);
            assert_eq!(node.floor as u64 + lent, guarantee + borrowed + floors as u64, "floor {}", what());
            let Some(own) = own else {
                assert_eq!(node.limit as u64, self.model.total);
                assert_eq!(node.held, node.limit.max(node.used), "{}", what());
                continue;
            };
            let passes = |end: CrateId| self.model.above(end).contains(&id);
            let (up, down) = (
                sum(&|loan| passes(loan.lender) && !passes(loan.borrower)),
                sum(&|loan| !passes(loan.lender) && passes(loan.borrower)),
            );
            let limit = own.limit + borrowed + down - lent - up;
            assert_eq!(node.limit as u64, limit.min(self.model.total), "limit {}", what());
            if self.is_plain() && self.stock == 0 {
                assert_eq!(node.held as u64, self.model.needs(id), "held in vain {}", what());
            }
        }
    }
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut u = Unstructured::new(data);
    let stock = [0, 0, 7, 40][u.choose_index(4).unwrap_or_default()];
    NOW.set(Duration::ZERO);
    let manager = UnifiedMemoryManager::builder()
        .total(TOTAL as usize)
        .stock(stock as usize)
        .clock(|| NOW.get())
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    let mut world = World {
        manager: &manager,
        stock,
        model: Model { total: TOTAL, nodes: Vec::new() },
        held: Vec::new(),
        waits: Vec::new(),
        loans: Vec::new(),
        automatic: false,
    };
    let mut done = Done(Vec::new());
    while !u.is_empty() && done.0.len() < MOST_OPS {
        let Ok(op) = op(&mut u) else { break };
        done.0.push(op.clone());
        world.apply(&op, seen);
        world.ask(seen);
        world.audit(seen);
    }
    // Everybody gives back and goes.
    world.waits.clear();
    for held in std::mem::take(&mut world.held) {
        world.model.node_mut(held.id).used -= held.charge.bytes() as u64;
    }
    world.loans.clear();
    world.audit(seen);
    while let Some(at) =
        world.model.nodes.iter().rposition(|node| world.model.below(Some(node.id)).next().is_none())
    {
        manager.retire(world.model.nodes.remove(at).id).unwrap_or_else(|error| panic!("{error}"));
    }
    let (pool, total) = (manager.pool(), world.model.total as usize);
    assert_eq!((pool.used, pool.held, pool.floor, pool.children), (0, total, 0, 0));
    assert_eq!((manager.sharing().loans(), manager.waits().waiting), (Vec::new(), 0));
}

/// Says what was done, where it ended badly.
struct Done(Vec<Op>);

impl Drop for Done {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for op in &self.0 {
                eprintln!("{op:?}");
            }
        }
    }
}
