//! What the tests here share: a manager over a static region, and a heap that counts.
#![allow(dead_code, reason = "each test file uses part of it")]

use std::alloc::System;
use std::sync::Arc;

use wrt_memory::provider::{ProviderSelector, StaticRegionProvider};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager, VerificationLevel};
use wrt_memory_wasmi::{Budgets, GuestHeap};

/// Not under Miri: Stacked Borrows has a `Box` forget what is before it, where this has its word.
#[cfg_attr(not(miri), global_allocator)]
static HEAP: GuestHeap<System> = GuestHeap::new(System);

pub const PAGE: usize = 65536;

/// A manager that has a region of so many bytes, all of them to be given out, and nothing else.
pub struct Host {
    pub manager: Arc<UnifiedMemoryManager>,
    pub budgets: Budgets,
}

impl Host {
    pub fn new(bytes: usize) -> Self {
        Self::with_room(bytes, bytes)
    }

    /// A budget of `total` bytes; the region may have less.
    pub fn with_room(total: usize, room: usize) -> Self {
        Self::verified(total, room, VerificationLevel::Off)
    }

    /// As [`with_room`](Self::with_room), and so much is checked.
    pub fn verified(total: usize, room: usize, level: VerificationLevel) -> Self {
        // Leaked: a region is for good.
        let region = vec![0; room + 4 * StaticRegionProvider::GRANULE].leak();
        let providers = ProviderSelector::new().with_region(StaticRegionProvider::new(region));
        let builder = UnifiedMemoryManager::builder().total(total).stock(0).providers(providers);
        let manager = Arc::new(builder.verification(level).build().unwrap());
        let budgets = Budgets::new(&manager).unwrap();
        assert!(budgets.is_measured() || cfg!(miri), "tests measure");
        Self { manager, budgets }
    }

    pub fn register(&self, name: &str, limit: usize) -> CrateId {
        self.manager.register(name, CrateSettings::new().limit(limit)).unwrap()
    }

    pub fn region(&self) -> &StaticRegionProvider {
        self.manager.providers().region().unwrap()
    }

    /// Bytes free in the region, and the largest block.
    pub fn room(&self) -> (usize, usize) {
        (self.region().free_bytes(), self.region().largest_free())
    }

    pub fn used(&self, id: CrateId) -> usize {
        self.manager.node(id).unwrap().used
    }
}

pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}
