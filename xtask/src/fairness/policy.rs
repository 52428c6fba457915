//! One trace under one policy, on a manager of its own.

use anyhow::{Context, Result, ensure};
use wrt_memory::{
    Charge, CoordinatorCounts, CrateId, CrateSettings, LendingRule, LoanState, MemoryError,
    UnifiedMemoryManager,
};

use super::demand::{CRATES, Demand, POOL};

/// Bytes of a page of linear memory.
pub const PAGE: usize = 65536;

/// A crate's part of the pool if all get the same, in pages.
pub const FAIR: usize = POOL / CRATES;

/// How a pool is divided.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// What the table calls it.
    pub name: &'static str,
    /// Whether it is held to grant nearly what the oracle does.
    pub held_to_it: bool,
    /// Each crate's limit, in pages.
    pub limit: usize,
    /// Each crate's guarantee, in pages.
    pub guarantee: usize,
    /// Whether a crate lets all others borrow what it leaves idle of its guarantee.
    pub lends: fn(usize) -> bool,
}

/// What came of it.
pub struct Outcome {
    /// The pages each crate had, at the end of each step.
    pub granted: Vec<[usize; CRATES]>,
    /// Charges asked for.
    pub asked: u64,
    /// Charges refused.
    pub refused: u64,
    /// Of those, charges within the guarantee of a crate, for each crate.
    pub within_guarantee: [u64; CRATES],
    /// Refusals that broke a guarantee, and how.
    pub broken: Vec<anyhow::Error>,
    /// What the coordinator did.
    pub counts: CoordinatorCounts,
}

impl Outcome {
    /// Pages granted, summed over all steps.
    pub fn sum(&self) -> usize {
        self.granted.iter().flatten().sum()
    }

    /// The share of what it wanted over all steps that the worst-off crate got.
    pub fn worst_off(&self, wants: &[[usize; CRATES]]) -> f64 {
        let sum = |pages: &[[usize; CRATES]], owner| pages.iter().map(|at| at[owner]).sum::<usize>() as f64;
        (0..CRATES).map(|owner| sum(&self.granted, owner) / sum(wants, owner)).fold(1.0, f64::min)
    }
}

/// One instance that runs.
struct Running<'m> {
    /// All its pages; `None` before it could begin.
    charge: Option<Charge<'m>>,
    /// It was refused at this step, and asks again at the next.
    refused: bool,
}

impl Running<'_> {
    fn pages(&self) -> usize {
        self.charge.as_ref().map_or(0, |charge| charge.bytes() / PAGE)
    }
}

impl Policy {
    /// Runs the trace. An instance that is refused lives on with what it has, and asks again at the next step.
    pub fn run(&self, demand: &Demand) -> Result<Outcome> {
        let manager = UnifiedMemoryManager::builder().total(POOL * PAGE).build()?;
        let crates = self.register(&manager)?;
        let mut running: Vec<_> =
            demand.instances.iter().map(|_| Running { charge: None, refused: false }).collect();
        let mut outcome = Outcome {
            granted: Vec::new(),
            asked: 0,
            refused: 0,
            within_guarantee: [0; CRATES],
            broken: Vec::new(),
            counts: CoordinatorCounts::default(),
        };
        for (step, turn) in demand.turns.iter().enumerate() {
            for (instance, running) in demand.instances.iter().zip(&mut running) {
                running.refused = false;
                if instance.wants(step) == 0 {
                    running.charge = None;
                }
            }
            // A page each in turn, until each has what it wants or was refused.
            let mut asking = true;
            while asking {
                asking = false;
                for &at in turn {
                    let (instance, running) = (&demand.instances[at], &mut running[at]);
                    let pages = running.pages();
                    if running.refused || pages >= instance.wants(step) {
                        continue;
                    }
                    asking = true;
                    let more = if pages == 0 { instance.least } else { 1 };
                    self.ask(&manager, &crates, instance.owner, running, more, &mut outcome)?;
                }
            }
            let mut granted = [0; CRATES];
            for (instance, running) in demand.instances.iter().zip(&running) {
                granted[instance.owner] += running.pages();
            }
            for (&id, pages) in crates.iter().zip(granted) {
                let node = manager.node(id)?;
                ensure!(node.used == pages * PAGE, "step {step}: {pages} pages granted, but {node:?}");
            }
            outcome.granted.push(granted);
        }
        running.clear();
        outcome.counts = manager.coordinator().counts();
        Self::close(&manager, &crates)?;
        Ok(outcome)
    }

    fn register(&self, manager: &UnifiedMemoryManager) -> Result<Vec<CrateId>> {
        let settings = CrateSettings::new().limit(self.limit * PAGE).guarantee(self.guarantee * PAGE);
        let register = |owner: usize| manager.register(&format!("crate-{owner}"), settings);
        let crates = (0..CRATES).map(register).collect::<Result<Vec<_>, _>>()?;
        let rule = LendingRule::new(self.guarantee * PAGE).automatic();
        for (_, &from) in crates.iter().enumerate().filter(|&(owner, _)| (self.lends)(owner)) {
            for &to in crates.iter().filter(|&&to| to != from) {
                manager.sharing().allow(from, to, rule)?;
            }
        }
        Ok(crates)
    }

    fn ask<'m>(
        &self,
        manager: &'m UnifiedMemoryManager,
        crates: &[CrateId],
        owner: usize,
        running: &mut Running<'m>,
        pages: usize,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let (id, bytes) = (crates[owner], pages * PAGE);
        outcome.asked += 1;
        match manager.charge(id, bytes, bytes) {
            Ok(charge) => match &mut running.charge {
                None => running.charge = Some(charge),
                Some(own) => {
                    let merged = own.merge(charge);
                    ensure!(merged.is_ok(), "two charges of crate-{owner} do not merge");
                }
            },
            Err(MemoryError::OverLimit { .. } | MemoryError::PoolExhausted { .. }) => {
                running.refused = true;
                outcome.refused += 1;
                let wanted = manager.node(id)?.used + bytes;
                if wanted <= self.guarantee * PAGE {
                    outcome.within_guarantee[owner] += 1;
                }
                if let Err(broken) = self.may_be_refused(manager, id, owner, wanted) {
                    outcome.broken.push(broken);
                }
            }
            Err(other) => return Err(other).context("charging a page"),
        }
        Ok(())
    }

    /// An error where a crate that wants so many bytes was refused and should not have been: what it is
    /// guaranteed it gets, but for what it lets others borrow, and of that all that they have idle.
    fn may_be_refused(
        &self,
        manager: &UnifiedMemoryManager,
        id: CrateId,
        owner: usize,
        wanted: usize,
    ) -> Result<()> {
        let node = manager.node(id)?;
        ensure!(wanted > node.floor, "crate-{owner} was refused {wanted} bytes within its floor: {node:?}");
        if wanted > self.guarantee * PAGE {
            return Ok(());
        }
        ensure!((self.lends)(owner), "crate-{owner} lends nothing, and was refused {wanted} bytes: {node:?}");
        let mut recalled = 0;
        for loan in manager.sharing().loans().into_iter().filter(|loan| loan.lender == id) {
            let borrower = manager.node(loan.borrower)?;
            let idle = if loan.state == LoanState::Recalling {
                recalled += loan.outstanding;
                // What it frees goes to its lenders.
                borrower.held - borrower.used.max(borrower.floor)
            } else if borrower.owed > 0 {
                borrower.floor.saturating_sub(borrower.used)
            } else {
                borrower.held - borrower.used
            };
            ensure!(
                idle == 0,
                "crate-{owner} was refused {wanted} bytes of its guarantee, but this loan is idle: {loan:?} of {borrower:?}"
            );
        }
        ensure!(
            wanted <= node.floor + recalled,
            "crate-{owner} was refused {wanted} bytes of its guarantee, and only {recalled} have been recalled: {node:?}"
        );
        Ok(())
    }

    /// When every instance has ended, every byte and every guarantee is where it was.
    fn close(manager: &UnifiedMemoryManager, crates: &[CrateId]) -> Result<()> {
        for &id in crates {
            manager.retire(id)?;
        }
        let (pool, loans) = (manager.pool(), manager.sharing().loans());
        ensure!(pool.used == 0 && pool.floor == 0 && loans.is_empty(), "left behind: {pool:?}, {loans:?}");
        Ok(())
    }
}
