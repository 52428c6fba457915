//! wasmtime with budgets, and what it is measured beside.

use std::sync::Arc;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_wasmtime::{Budgets, StoreAccount};

/// What a peer keeps resident of a memory that is returned, in bytes.
const KEEP_RESIDENT: usize = 1 << 20;

/// An engine, and how its stores are made.
pub struct Contender {
    /// Its name in the results.
    pub name: &'static str,
    /// The engine.
    pub engine: Engine,
    /// For each of two threads, whose stores it makes; none where nothing is budgeted.
    budgeted: Option<(Budgets, [CrateId; 2])>,
}

/// The contender with budgets.
pub const BUDGETED: &str = "budgeted";

/// The peer to beat.
pub const BEST_PEER: &str = "pooling-keep-scan";

/// The contender with budgets, then its peers. Where the kernel has no `PAGEMAP_SCAN` (Linux before
/// 6.7), the best of them is missing, and this says so.
pub fn contenders() -> Result<Vec<Contender>> {
    let mut contenders = vec![budgeted()?, peer("on-demand", InstanceAllocationStrategy::OnDemand)?];
    let keeping = || {
        let mut pool = PoolingAllocationConfig::new();
        pool.linear_memory_keep_resident(KEEP_RESIDENT);
        pool
    };
    contenders.push(peer("pooling", PoolingAllocationConfig::new().into())?);
    contenders.push(peer("pooling-keep", keeping().into())?);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        let mut pool = keeping();
        pool.pagemap_scan(Enabled::Yes);
        contenders.push(peer(BEST_PEER, pool.into())?);
    } else {
        eprintln!("{BEST_PEER} is left out: this kernel has no PAGEMAP_SCAN (Linux 6.7)");
    }
    Ok(contenders)
}

fn peer(name: &'static str, strategy: InstanceAllocationStrategy) -> Result<Contender> {
    let mut config = Config::new();
    config.allocation_strategy(strategy);
    Ok(Contender { name, engine: Engine::new(&config)?, budgeted: None })
}

fn budgeted() -> Result<Contender> {
    let manager = Arc::new(UnifiedMemoryManager::builder().total(4 << 30).build()?);
    let budgets = Budgets::new(manager.clone())?;
    let mut config = Config::new();
    budgets.configure(&mut config);
    let guests = [
        manager.register("one", CrateSettings::new().limit(1 << 30))?,
        manager.register("two", CrateSettings::new().limit(1 << 30))?,
    ];
    Ok(Contender { name: BUDGETED, engine: Engine::new(&config)?, budgeted: Some((budgets, guests)) })
}

impl Contender {
    /// A new store; each of the two threads has a crate of its own.
    pub fn store(&self, thread: usize) -> Store<Option<StoreAccount>> {
        let account = self
            .budgeted
            .as_ref()
            .map(|(budgets, guests)| budgets.account(guests[thread]).expect("the crate is registered"));
        let limited = account.is_some();
        let mut store = Store::new(&self.engine, account);
        if limited {
            store.limiter(|account| account.as_mut().expect("only stores with an account are limited"));
        }
        store
    }
}
