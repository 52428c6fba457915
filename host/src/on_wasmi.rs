//! wasmi: core modules only, each instance on a thread of its own. Their memories are regions that are charged whole.

mod desk;
mod guest;
mod program;
mod wasi;

use std::sync::Arc;

use tokio::sync::Semaphore;
use wrt_memory::UnifiedMemoryManager;
use wrt_memory_wasmi::Budgets;

pub use guest::run;
pub use program::Program;

use crate::plan::{GuestPlan, Plan};

/// Bytes of every budget that regions leave: for files that are opened and tables that grow.
const SPARE: usize = 16 << 10;
/// Bytes that WASI takes of every budget, once it is linked.
const WASI: usize = 64 << 10;
const PAGE: usize = 64 << 10;

/// What all guests share.
#[derive(Clone)]
pub struct Host {
    budgets: Budgets,
    /// As many as may run at once.
    turns: Arc<Semaphore>,
    /// Bytes that each guest without a limit may count on.
    share: usize,
}

impl Host {
    /// The runtime for a plan.
    ///
    /// # Errors
    /// A wasmi that uses up the host's stack.
    pub fn new(manager: &Arc<UnifiedMemoryManager>, plan: &Plan) -> Result<Self, anyhow::Error> {
        let budgets = Budgets::new(manager.clone())?;
        let turns = Arc::new(Semaphore::new(plan.threads));
        // Who has no limit gets a part of what the others' limits leave.
        let open = plan.guests.iter().filter(|guest| guest.limit.is_none()).count();
        let limits = plan.guests.iter().filter_map(|guest| guest.limit);
        let rest = limits.fold(plan.pool, usize::saturating_sub);
        Ok(Self { budgets, turns, share: rest / open.max(1) })
    }

    /// The most bytes the region of a memory may have.
    fn region(&self, plan: &GuestPlan, overhead: usize) -> usize {
        match plan.limit {
            // All there is.
            Some(_) if plan.instances == 1 => usize::MAX,
            limit => {
                let share = limit.unwrap_or_else(|| self.share.max(plan.guarantee)) / plan.instances;
                share.saturating_sub(overhead + WASI + SPARE) / PAGE * PAGE
            }
        }
    }
}
