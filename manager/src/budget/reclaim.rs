//! The rung after sweeps: memory that idles on somebody's budget, and is given back when another is short.

#[cfg(all(feature = "std", target_os = "linux"))]
use std::sync::Arc;

use super::amount::Units;
use super::tracker::{BudgetTracker, Shortage};
use super::transition::Refusal;
#[cfg(all(feature = "std", target_os = "linux"))]
use crate::provider::PooledProvider;
use crate::sync::{AtomicUsize, Ordering};

/// What can be asked to give idle memory back: the pooled provider, where there is one.
#[derive(Default)]
pub(crate) struct Reclaim {
    #[cfg(all(feature = "std", target_os = "linux"))]
    pooled: Option<Arc<PooledProvider>>,
    /// Times that something was given back.
    trims: AtomicUsize,
}

impl Reclaim {
    /// Of slots that stay warm.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub(crate) fn of(pooled: Option<Arc<PooledProvider>>) -> Self {
        Self { pooled, ..Self::default() }
    }

    pub(crate) fn trims(&self) -> usize {
        self.trims.load(Ordering::Relaxed)
    }
}

impl BudgetTracker {
    /// Has memory that idles given back, for a charge that is short above its crate. `true` where that is worth
    /// another try.
    pub(super) fn reclaim_for(&self, shortage: Shortage) -> bool {
        match shortage.refusal {
            Refusal::Short(by) | Refusal::OverLimit(by) => !self.trim(by).is_zero(),
            _ => false,
        }
    }

    /// Has up to `most`, and what a slot has more, of idle memory given back. Returns how much was.
    pub(crate) fn trim(&self, most: Units) -> Units {
        #[cfg(all(feature = "std", target_os = "linux"))]
        if let Some((pooled, id)) = self.reclaim.pooled.as_ref().and_then(|it| Some((it, it.account()?))) {
            let freed = self.scale.down(pooled.trim(self.scale.bytes(most)));
            if !freed.is_zero() {
                self.reclaim.trims.fetch_add(1, Ordering::Relaxed);
                self.uncharge(id.index, self.slot(id.index), freed);
            }
            return freed;
        }
        let _ = most;
        Units::ZERO
    }
}
