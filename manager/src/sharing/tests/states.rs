//! Every state the ledger and the book can come to, with few bytes: breadth first, by the operations
//! themselves on a manager of their own, which is made again for each state and brought there.
//!
//! Single operations, one after another: what is between the steps of one is loom's.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::{Host, NOW, audit};
use crate::budget::{BudgetTracker, CrateId, Index, ROOT, Scale, Slots, Units};
use crate::error::MemoryError;
use crate::sharing::{Key, LendingRule, LoanTerms, Side};

const DEADLINE: Duration = Duration::from_secs(1);

/// A family of crates, and what is tried on them.
pub(super) struct Setting {
    pub(super) total: u32,
    /// Of each crate: its parent's place in this list, its limit, its guarantee.
    pub(super) crates: &'static [(Option<usize>, u32, u32)],
    /// Lender, borrower, most, by the coordinator itself, with a deadline.
    pub(super) rules: &'static [(usize, usize, u32, bool, bool)],
    /// Amounts that are charged, and lent.
    pub(super) amounts: &'static [u32],
    /// Limits that are set.
    pub(super) limits: &'static [(usize, u32)],
    pub(super) guarantees: &'static [(usize, u32)],
    /// Loans with a handle at one time.
    pub(super) handles: usize,
    /// Crates that are retired and registered again.
    pub(super) retires: &'static [usize],
    pub(super) batch: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Charge(usize, u32),
    Give(usize),
    Lend(usize, u32),
    Recall(usize),
    Drop(usize),
    SetLimit(usize, u32),
    SetGuarantee(usize, u32),
    ReturnIdle,
    Retire(usize),
    Register(usize),
    /// The deadline of everything recalled passes, and the host evicts.
    Late,
    Evict(usize),
}

/// A manager brought to one state, with what the host knows of it.
pub(super) struct World<'s> {
    setting: &'s Setting,
    pub(super) tracker: BudgetTracker,
    /// `None`: retired.
    crates: Vec<Option<Host>>,
    /// Of the loans that have one.
    handles: Vec<Key>,
}

fn units(raw: u32) -> Units {
    Units::new(raw).unwrap()
}

impl<'s> World<'s> {
    pub(super) fn new(setting: &'s Setting) -> Self {
        NOW.set(Duration::ZERO);
        let scale = Scale::for_total(setting.total as usize);
        let (total, batch) = (units(setting.total), units(setting.batch));
        let clock: fn() -> Duration = || NOW.get();
        let tracker = BudgetTracker::new(
            Slots::new(None),
            scale,
            total,
            batch,
            1,
            Some(clock),
            crate::budget::Reclaim::default(),
        );
        let crates = vec![None; setting.crates.len()];
        let mut world = Self { setting, tracker, crates, handles: Vec::new() };
        for at in 0..setting.crates.len() {
            world.register(at).unwrap();
        }
        world
    }

    fn register(&mut self, at: usize) -> Result<(), MemoryError> {
        let (parent, limit, guarantee) = self.setting.crates[at];
        let parent = match parent.map(|parent| self.crates[parent]) {
            Some(None) => return Err(MemoryError::NoScope),
            Some(Some(parent)) => Some(parent.id),
            None => None,
        };
        let id = self.tracker.register("crate", parent, units(limit), units(guarantee))?;
        self.crates[at] = Some(Host { id, own: 0, limit: limit.into() });
        for &(lender, borrower, most, automatic, evictable) in self.setting.rules {
            if let (true, Some(from), Some(to)) =
                (lender == at || borrower == at, self.crates[lender], self.crates[borrower])
            {
                let rule = LendingRule::new(most as usize);
                let rule = if automatic { rule.automatic() } else { rule };
                let terms = LoanTerms::Evictable { deadline: DEADLINE };
                let rule = if evictable { rule.terms(terms) } else { rule };
                self.tracker.allow(from.id, to.id, &rule).unwrap();
            }
        }
        Ok(())
    }

    pub(super) fn ops(&self) -> Vec<Op> {
        let mut ops = vec![Op::ReturnIdle, Op::Late];
        for at in 0..self.crates.len() {
            let Some(host) = self.crates[at] else {
                ops.push(Op::Register(at));
                continue;
            };
            ops.extend(self.setting.amounts.iter().map(|&n| Op::Charge(at, n)));
            if host.own > 0 {
                ops.push(Op::Give(at));
            }
            ops.push(Op::Evict(at));
            if self.setting.retires.contains(&at) {
                ops.push(Op::Retire(at));
            }
        }
        if self.handles.len() < self.setting.handles {
            for rule in 0..self.setting.rules.len() {
                ops.extend(self.setting.amounts.iter().map(|&n| Op::Lend(rule, n)));
            }
        }
        for handle in 0..self.handles.len() {
            ops.extend([Op::Recall(handle), Op::Drop(handle)]);
        }
        ops.extend(self.setting.limits.iter().map(|&(at, limit)| Op::SetLimit(at, limit)));
        ops.extend(self.setting.guarantees.iter().map(|&(at, limit)| Op::SetGuarantee(at, limit)));
        ops
    }

    /// Whether the operation was granted. What must hold of a refusal is looked at here.
    pub(super) fn apply(&mut self, op: Op) -> bool {
        let tracker = &self.tracker;
        match op {
            Op::Charge(at, n) => {
                let Some(host) = &mut self.crates[at] else { return false };
                let before = tracker.slot(host.id.index).budget.load();
                match tracker.charge_crate(host.id, units(n), n as usize) {
                    Ok(credit) => {
                        credit.absorb();
                        host.own += u64::from(n);
                        true
                    }
                    Err(error) => {
                        let within = before.used.get() + n <= before.floor.get();
                        assert!(!within, "within the floor, and denied: {error}; {before:?}");
                        false
                    }
                }
            }
            Op::Give(at) => {
                let Some(host) = &mut self.crates[at] else { return false };
                tracker.uncharge(host.id.index, tracker.slot(host.id.index), units(1));
                host.own -= 1;
                true
            }
            Op::Lend(rule, n) => {
                let (lender, borrower, ..) = self.setting.rules[rule];
                let (Some(from), Some(to)) = (self.crates[lender], self.crates[borrower]) else {
                    return false;
                };
                let (rule, out) = tracker.allowed(from.id, to.id).unwrap().unwrap();
                let slot = tracker.slot(from.id.index);
                let own = slot.own_guarantee.load(crate::sync::Ordering::SeqCst);
                let (lent, _, owed) = tracker.sums(from.id.index);
                let s = slot.budget.load();
                let idle = (s.held.get() - s.used.get()).min(s.floor.get()).min(own - lent.get());
                let fits = n as usize + out <= rule.most() && n <= idle && owed.is_zero();
                let key = tracker.lend(from.id, to.id, units(n), None);
                assert_eq!(key.is_ok(), fits, "{key:?}, of {s:?}");
                self.handles.extend(key.as_ref().ok());
                key.is_ok()
            }
            Op::Recall(handle) => {
                let key = self.handles[handle];
                let owed = tracker.book().with(|book| book.loan(key).map(|record| record.outstanding));
                let came = tracker.recall(key);
                let left = tracker.book().with(|book| book.loan(key).map(|record| record.outstanding));
                let sum = left.unwrap().get() + came.get();
                // More than what was idle may be back: what it came to may have been owed to the borrower.
                assert!(sum <= owed.unwrap().get() || came == Units::ZERO, "recalled");
                true
            }
            Op::Drop(handle) => {
                tracker.end_loan(self.handles.remove(handle));
                true
            }
            Op::SetLimit(at, limit) => {
                let Some(host) = &mut self.crates[at] else { return false };
                let set = tracker.set_limit(host.id, units(limit)).is_ok();
                if set {
                    host.limit = limit.into();
                }
                set
            }
            Op::SetGuarantee(at, guarantee) => {
                self.crates[at].is_some_and(|host| tracker.set_guarantee(host.id, units(guarantee)).is_ok())
            }
            Op::ReturnIdle => !tracker.return_idle().is_zero(),
            Op::Retire(at) => {
                let Some(host) = self.crates[at] else { return false };
                let retired = tracker.retire(host.id);
                assert!(retired.is_err() || host.own == 0);
                if retired.is_ok() {
                    self.crates[at] = None;
                }
                retired.is_ok()
            }
            Op::Register(at) => self.register(at).is_ok(),
            Op::Late => {
                NOW.set(NOW.get() + DEADLINE);
                while tracker.next_overdue().is_some() {}
                true
            }
            Op::Evict(at) => self.crates[at].is_some_and(|host| tracker.evict(host.id).unwrap() > 0),
        }
    }

    pub(super) fn hosts(&self) -> Vec<Host> {
        self.crates.iter().flatten().copied().collect()
    }

    /// All there is to tell one state from another, by places in the setting. Not the time, nor
    /// generations, nor counts: none of these decides anything but what is told here.
    fn key(&self) -> Vec<u32> {
        let mut key = vec![];
        let place = |id: CrateId| {
            let found = |host: &Option<Host>| host.is_some_and(|host| host.id == id);
            self.crates.iter().position(found).map_or(u32::MAX, |at| at as u32)
        };
        let word = |index: Index, key: &mut Vec<u32>| {
            let s = self.tracker.slot(index).budget.load();
            key.extend([s.used, s.held, s.floor, s.limit].map(Units::get));
            let own = self.tracker.slot(index).own_guarantee.load(crate::sync::Ordering::SeqCst);
            key.extend([s.owes.into(), own]);
        };
        word(ROOT, &mut key);
        for host in &self.crates {
            match host {
                None => key.push(u32::MAX),
                Some(host) => {
                    word(host.id.index, &mut key);
                    key.push(host.own as u32);
                    key.push(
                        self.tracker.slot(host.id.index).seat.load(crate::sync::Ordering::SeqCst).into(),
                    );
                }
            }
        }
        self.tracker.book().with(|book| {
            let record_key = |number: u32, key: &mut Vec<u32>| {
                let record = book.loan(book.key(number).unwrap()).unwrap();
                key.extend(record.ids.map(place));
                key.extend([record.outstanding.get(), record.stage as u32, record.automatic.into()]);
                key.extend([record.overdue, record.deadline.is_some()].map(u32::from));
                key.push(record.deadline.is_some_and(|at| at <= NOW.get()).into());
                let handle = self.handles.iter().position(|handle| handle.number == number);
                key.push(handle.map_or(u32::MAX, |at| at as u32));
            };
            // In the order in which they are looked for.
            for host in self.crates.iter().flatten() {
                let standing = self.tracker.slot(host.id.index).sharing.load(crate::sync::Ordering::SeqCst);
                for side in [Side::Lender, Side::Borrower] {
                    for number in book.loans_of(standing, side) {
                        record_key(number, &mut key);
                    }
                    key.push(u32::MAX);
                }
            }
            // Those that ended and have a handle.
            for handle in &self.handles {
                record_key(handle.number, &mut key);
            }
        });
        key
    }

    /// From here, whoever uses what it has gives it back, and every handle goes: then nothing is owed, no
    /// loan is left but idle ones of the coordinator, and all can be retired.
    pub(super) fn ends_well(mut self) {
        for at in 0..self.crates.len() {
            while self.crates[at].is_some_and(|host| host.own > 0) {
                self.apply(Op::Give(at));
            }
        }
        while !self.handles.is_empty() {
            self.apply(Op::Drop(0));
        }
        audit(&self.tracker, &self.hosts(), self.setting.batch.into());
        for host in self.hosts() {
            let (_, _, owed) = self.tracker.sums(host.id.index);
            assert!(owed.is_zero(), "nothing is in use, and {host:?} owes {owed:?}");
        }
        for at in (0..self.crates.len()).rev() {
            if let Some(host) = self.crates[at] {
                self.tracker.retire(host.id).unwrap();
            }
        }
        let root = self.tracker.slot(ROOT).budget.load();
        assert_eq!((root.used, root.floor), (Units::ZERO, Units::ZERO));
        self.tracker.book().with(|book| assert_eq!(book.places(), [0; 3]));
    }
}

/// A way to a state: the last step, and what was before.
struct Way {
    before: Option<Rc<Way>>,
    op: Op,
}

fn path(way: &Option<Rc<Way>>) -> Vec<Op> {
    let mut ops = vec![];
    let mut at = way.as_ref();
    while let Some(way) = at {
        ops.push(way.op);
        at = way.before.as_ref();
    }
    ops.reverse();
    ops
}

/// All states from the first one, at most `most`. Returns how many there are, how many steps lead from one
/// to another, and whether these are all.
fn explore(setting: &Setting, most: usize) -> (usize, usize, bool) {
    struct OnPanic<'w>(&'w [Op], Op);
    impl Drop for OnPanic<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("after {:?}, at {:?}", self.0, self.1);
            }
        }
    }
    let mut seen: HashMap<Vec<u32>, ()> = HashMap::new();
    let mut level: Vec<Option<Rc<Way>>> = vec![None];
    seen.insert(World::new(setting).key(), ());
    let (mut steps, mut all) = (0, true);
    while !level.is_empty() {
        let mut next = vec![];
        for way in level {
            let ops = path(&way);
            let bring = || {
                let mut world = World::new(setting);
                for &op in &ops {
                    world.apply(op);
                }
                world
            };
            let mut world = bring();
            let tried = world.ops();
            for op in tried {
                let shown = OnPanic(&ops, op);
                let before = world.key();
                world.apply(op);
                steps += 1;
                let key = world.key();
                audit(&world.tracker, &world.hosts(), setting.batch.into());
                if key == before {
                    // Here still, to the last bit that tells: the next operation starts from here.
                    drop(shown);
                    continue;
                }
                if seen.len() < most {
                    if seen.insert(key, ()).is_none() {
                        let way = Way { before: way.clone(), op };
                        next.push(Some(Rc::new(way)));
                        std::mem::replace(&mut world, bring()).ends_well();
                    } else {
                        world = bring();
                    }
                } else {
                    all &= seen.contains_key(&key);
                    world = bring();
                }
                drop(shown);
            }
        }
        level = next;
    }
    (seen.len(), steps, all)
}

fn report(name: &str, setting: &Setting, most: usize) {
    let (states, steps, all) = explore(setting, most);
    println!("{name}: {states} states, {steps} steps{}", if all { "" } else { ", and there are more" });
    assert!(all, "{name}: more than {most} states");
}

/// A crate that lends to a child of another, and back to one beside it: a parent on the way, loans on demand,
/// with deadlines and by the coordinator itself, all limits and guarantees set, crates that go and come back.
const SMALL: Setting = Setting {
    total: 4,
    crates: &[(None, 3, 0), (Some(0), 2, 0), (None, 2, 2)],
    rules: &[(2, 1, 2, false, true)],
    amounts: &[1],
    limits: &[(0, 2), (0, 3), (1, 1), (1, 2)],
    guarantees: &[(1, 1), (1, 0)],
    handles: 2,
    retires: &[1],
    batch: 0,
};

/// Three who lend in a ring, one of them below a parent: debts that pay debts.
const RING: Setting = Setting {
    total: 5,
    crates: &[(None, 5, 0), (Some(0), 2, 1), (None, 2, 1), (None, 2, 1)],
    rules: &[(2, 1, 1, false, true), (1, 3, 1, false, false), (3, 2, 1, false, false)],
    amounts: &[1],
    limits: &[],
    guarantees: &[],
    handles: 3,
    retires: &[],
    batch: 0,
};

/// Two who may borrow of one by themselves, beside each other and across.
const AUTOMATIC: Setting = Setting {
    total: 5,
    crates: &[(None, 5, 0), (Some(0), 1, 0), (None, 3, 3), (None, 1, 1)],
    rules: &[(2, 1, 2, true, true), (2, 3, 2, true, false)],
    amounts: &[1, 2],
    limits: &[(1, 1), (1, 2)],
    guarantees: &[],
    handles: 1,
    retires: &[3],
    batch: 0,
};

#[test]
fn every_state_of_few_bytes_satisfies_every_invariant() {
    // `cargo xtask model` explores more.
    let most = std::env::var("WRT_STATES").ok().and_then(|most| most.parse().ok());
    report("small", &SMALL, most.unwrap_or(100_000));
    if let Some(most) = most {
        report("ring", &RING, most);
        report("automatic", &AUTOMATIC, most);
    }
}
