//! What managers and crates are made with.

use core::time::Duration;

use crate::budget::{BudgetTracker, Claimed, Clock, CrateId, CrateStorage, Reclaim, Scale, Slots};
use crate::error::{MemoryError, Result};
use crate::manager::UnifiedMemoryManager;
use crate::provider::{ProviderSelector, StaticRegionProvider};
#[cfg(feature = "alloc")]
use crate::sync::Arc;
#[cfg(not(loom))]
use crate::sync::{AtomicU32, Ordering};
#[cfg(feature = "alloc")]
use crate::verification::VerificationBackend;
use crate::verification::{EngineSettings, Operation, VerificationEngine, VerificationLevel};

/// What a crate is registered with. All amounts are bytes.
#[derive(Clone, Copy, Debug)]
pub struct CrateSettings {
    pub(crate) limit: usize,
    pub(crate) guarantee: usize,
    pub(crate) parent: Option<CrateId>,
}

impl CrateSettings {
    /// No limit of its own, no guarantee, directly below the global budget.
    pub const fn new() -> Self {
        Self { limit: usize::MAX, guarantee: 0, parent: None }
    }

    /// The most bytes the crate may use, over all its memories, tables, instances and stores. Rounded
    /// down to the manager's unit.
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Bytes the crate can always have, whatever others do. Rounded up to the manager's unit.
    pub const fn guarantee(mut self, bytes: usize) -> Self {
        self.guarantee = bytes;
        self
    }

    /// The crate whose budget this one's comes out of.
    pub const fn parent(mut self, parent: CrateId) -> Self {
        self.parent = Some(parent);
        self
    }
}

impl Default for CrateSettings {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a [`UnifiedMemoryManager`].
#[derive(Default)]
pub struct Builder {
    total: Option<usize>,
    largest: usize,
    stock: Option<usize>,
    claimed: Option<Option<Claimed>>,
    region: Option<&'static mut [u8]>,
    providers: Option<ProviderSelector>,
    verification: EngineSettings,
    clock: Option<Clock>,
}

/// What a busy crate keeps idle at most, in bytes, unless the builder says otherwise.
const DEFAULT_STOCK: usize = 256 << 10;

/// The crate that pays for what the pooled provider keeps warm.
#[cfg(all(feature = "std", target_os = "linux"))]
const WARM_SLOTS: &str = "warm slots";

/// By default, stock is at most this part of the total for each crate.
const STOCK_PART: usize = 256;

impl Builder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The global budget in bytes. Must be set.
    pub fn total(mut self, bytes: usize) -> Self {
        self.total = Some(bytes);
        self
    }

    /// The largest global budget [`set_total`](UnifiedMemoryManager::set_total) may ever set, in bytes. It
    /// decides the unit in which this manager counts: one byte up to 1 GiB (16 KiB on 32-bit
    /// targets), twice as much for each doubling.
    pub fn largest_total(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// The most bytes a busy crate keeps idle above its guarantee, so that it rarely has to ask its
    /// parent, and as many again in freed blocks ([`NodeSnapshot::slab`](crate::NodeSnapshot::slab)); 0 turns both off. By
    /// default 256 KiB, or 1/256 of the total where that is less.
    pub fn stock(mut self, bytes: usize) -> Self {
        self.stock = Some(bytes);
        self
    }

    /// What deadlines of loans are measured by: the time since any moment that stays the same. With `std`
    /// the system's monotonic clock unless this is set; without, there are no deadlines unless it is. It is
    /// asked under a lock: it must not call the manager.
    pub fn clock(mut self, clock: fn() -> Duration) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Room for the crates. With `alloc`, more is allocated when it is full; without, it is all
    /// there is.
    pub fn storage<const N: usize>(mut self, storage: &'static CrateStorage<N>) -> Self {
        self.claimed = Some(Claimed::new(storage));
        self
    }

    /// Bytes to allocate from: served by a static region provider.
    pub fn region(mut self, bytes: &'static mut [u8]) -> Self {
        self.region = Some(bytes);
        self
    }

    /// The providers to use, instead of those the platform has.
    pub fn providers(mut self, providers: ProviderSelector) -> Self {
        self.providers = Some(providers);
        self
    }

    /// How much is checked; `Off` by default.
    pub fn verification(mut self, level: VerificationLevel) -> Self {
        self.verification.level = level;
        self
    }

    /// Looks at one operation in `one_in`, by default at each; must be at least 1. Canaries are laid around every block all
    /// the same, and that a block is freed twice is always found.
    pub fn verification_sampling(mut self, one_in: u32) -> Self {
        self.verification.one_in = one_in;
        self
    }

    /// Has one more backend check, and be told of violations. It is asked nothing at level `Off`.
    #[cfg(feature = "alloc")]
    pub fn verification_backend(mut self, backend: Arc<dyn VerificationBackend>) -> Self {
        self.verification.backends.push(backend);
        self
    }

    /// Makes the manager.
    ///
    /// # Errors
    /// [`InvalidConfig`](MemoryError::InvalidConfig): with a sampling of 0, without a total, or without storage where there
    /// is no `alloc`, or with storage that another manager has. [`TooManyCrates`](MemoryError::TooManyCrates)
    /// where storage has no room for the account of a pooled provider.
    pub fn build(self) -> Result<UnifiedMemoryManager> {
        let invalid = |what| Err(MemoryError::InvalidConfig { what });
        if self.verification.one_in == 0 {
            return invalid(
                "one operation in 0 cannot be looked at: `verification_sampling` takes 1 or more",
            );
        }
        let Some(total) = self.total else {
            return invalid("a manager needs a global budget: say how many bytes with `total`");
        };
        let given = match self.claimed {
            Some(None) => {
                return invalid("this `CrateStorage` is another manager's; give each manager its own");
            }
            Some(claimed) => claimed,
            None if cfg!(feature = "alloc") => None,
            None => {
                return invalid("without `alloc` a manager needs a `CrateStorage`: give one with `storage`");
            }
        };
        let scale = Scale::for_total(total.max(self.largest));
        let units = scale.down(total);
        let stock = self.stock.unwrap_or((total / STOCK_PART).min(DEFAULT_STOCK));
        let batch = scale.down(stock).min(units);
        let mut providers = self.providers.unwrap_or_default();
        if let Some(region) = self.region {
            providers = providers.with_region(StaticRegionProvider::new(region));
        }
        #[cfg(all(feature = "std", target_os = "linux"))]
        let reclaim = Reclaim::of(providers.shared_pooled());
        #[cfg(not(all(feature = "std", target_os = "linux")))]
        let reclaim = Reclaim::default();
        #[cfg_attr(not(feature = "formal-verification"), allow(unused_mut, reason = "nobody follows"))]
        let mut tracker = BudgetTracker::new(
            Slots::new(given),
            scale,
            units,
            batch,
            next_tag(),
            self.clock.or(SYSTEM_CLOCK),
            reclaim,
        );
        #[cfg(feature = "formal-verification")]
        tracker.observers.backends.clone_from(&self.verification.backends);
        tracker.observe(|| Operation::Started { total, largest: self.largest, stock });
        #[cfg(all(feature = "std", target_os = "linux"))]
        if let Some(pooled) = providers.pooled() {
            let limit = scale.down(pooled.most_warm());
            pooled.set_account(tracker.register(WARM_SLOTS, None, limit, crate::budget::Units::ZERO)?);
        }
        Ok(UnifiedMemoryManager::assemble(tracker, providers, VerificationEngine::new(self.verification)))
    }
}

impl core::fmt::Debug for Builder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Builder").field("total", &self.total).finish_non_exhaustive()
    }
}

/// The clock of managers that are given none.
#[cfg(feature = "std")]
const SYSTEM_CLOCK: Option<Clock> = Some(since_first_asked);
#[cfg(not(feature = "std"))]
const SYSTEM_CLOCK: Option<Clock> = None;

#[cfg(feature = "std")]
fn since_first_asked() -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(std::time::Instant::now).elapsed()
}

/// Tells the ids of one manager from those of another. The only state that managers share.
fn next_tag() -> u32 {
    #[cfg(not(loom))]
    static TAG: AtomicU32 = AtomicU32::new(1);
    #[cfg(not(loom))]
    return TAG.fetch_add(1, Ordering::Relaxed);
    #[cfg(loom)]
    {
        // loom's atomics cannot be static, and its tests have one manager.
        1
    }
}
