//! wasmtime with budgets, and what it is measured beside.

use std::sync::Arc;

use wasmtime::{
    Config, Enabled, Engine, Instance, InstanceAllocationStrategy, InstancePre, Linker, Module,
    PoolingAllocationConfig, Result, Store,
};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_wasmtime::{Budgets, PreparedPre, StoreAccount};

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

/// The contenders with budgets: no pool, and the presets with one.
pub const BUDGETED: [&str; 3] = ["budgeted", "throughput", "density"];

/// What a crate keeps idle with the presets, in bytes: twice the largest of the guests that are made again and again, so
/// that one which ends pays for the next. The peers, too, are told how much to keep.
const STOCK: usize = 4 << 20;

/// The most one memory can have with the preset for density, in bytes: what the bench of growth grows to.
const LARGEST_MEMORY: usize = 64 << 20;

/// The peer to beat.
pub const BEST_PEER: &str = "pooling-keep-scan";

/// The contenders with budgets, then their peers. Where the kernel has no `PAGEMAP_SCAN` (Linux before
/// 6.7), the best of them is missing, and this says so.
pub fn contenders() -> Result<Vec<Contender>> {
    contenders_of(|_| true)
}

/// Those of [`contenders`] that are wanted; the others' engines are not made.
pub fn contenders_of(wanted: impl Fn(&str) -> bool) -> Result<Vec<Contender>> {
    let keeping = || {
        let mut pool = PoolingAllocationConfig::new();
        pool.linear_memory_keep_resident(KEEP_RESIDENT);
        pool
    };
    let scanning = || {
        let mut pool = keeping();
        pool.pagemap_scan(Enabled::Yes);
        pool
    };
    type Make<'a> = &'a dyn Fn(&'static str) -> Result<Contender>;
    let all: [(&'static str, Make<'_>); 7] = [
        (BUDGETED[0], &|name| budgeted(name, ProviderSelector::of_platform(), None, |budgets| budgets)),
        (BUDGETED[1], &|name| budgeted(name, pooled(), Some(STOCK), Budgets::throughput)),
        (BUDGETED[2], &|name| {
            budgeted(name, pooled(), Some(STOCK), |budgets| budgets.density(LARGEST_MEMORY))
        }),
        ("on-demand", &|name| peer(name, InstanceAllocationStrategy::OnDemand)),
        ("pooling", &|name| peer(name, PoolingAllocationConfig::new().into())),
        ("pooling-keep", &|name| peer(name, keeping().into())),
        (BEST_PEER, &|name| peer(name, scanning().into())),
    ];
    let mut contenders = Vec::new();
    for (name, make) in all.into_iter().filter(|(name, _)| wanted(name)) {
        if name == BEST_PEER && !PoolingAllocationConfig::is_pagemap_scan_available() {
            eprintln!("{BEST_PEER} is left out: this kernel has no PAGEMAP_SCAN (Linux 6.7)");
            continue;
        }
        contenders.push(make(name)?);
    }
    Ok(contenders)
}

fn peer(name: &'static str, strategy: InstanceAllocationStrategy) -> Result<Contender> {
    let mut config = Config::new();
    config.allocation_strategy(strategy);
    Ok(Contender { name, engine: Engine::new(&config)?, budgeted: None })
}

fn pooled() -> ProviderSelector {
    ProviderSelector::of_platform().with_pooled(PooledProvider::new())
}

fn budgeted(
    name: &'static str,
    providers: ProviderSelector,
    stock: Option<usize>,
    choose: impl FnOnce(Budgets) -> Budgets,
) -> Result<Contender> {
    let builder = UnifiedMemoryManager::builder().total(4 << 30).providers(providers);
    let builder = match stock {
        Some(bytes) => builder.stock(bytes),
        None => builder,
    };
    let manager = Arc::new(builder.build()?);
    let budgets = choose(Budgets::new(manager.clone())?);
    let mut config = Config::new();
    budgets.configure(&mut config);
    let guests = [
        manager.register("one", CrateSettings::new().limit(1 << 30))?,
        manager.register("two", CrateSettings::new().limit(1 << 30))?,
    ];
    Ok(Contender { name, engine: Engine::new(&config)?, budgeted: Some((budgets, guests)) })
}

/// A module, ready to be made instances of.
pub enum Guest {
    /// By wasmtime alone.
    Plain(InstancePre<Option<StoreAccount>>),
    /// With images, for each of two threads.
    Prepared([PreparedPre<Option<StoreAccount>>; 2]),
}

impl Contender {
    /// Compiles a module that imports nothing. With budgets it is prepared.
    pub fn load(&self, wasm: &[u8]) -> Result<Guest> {
        let linker = Linker::new(&self.engine);
        let Some((budgets, guests)) = &self.budgeted else {
            return Ok(Guest::Plain(linker.instantiate_pre(&Module::new(&self.engine, wasm)?)?));
        };
        let prepare = |id| budgets.prepare(&self.engine, id, wasm)?.instantiate_pre(&linker);
        Ok(Guest::Prepared([prepare(guests[0])?, prepare(guests[1])?]))
    }

    /// Makes an instance in a store of this thread.
    pub fn instantiate(
        &self,
        guest: &Guest,
        store: &mut Store<Option<StoreAccount>>,
        thread: usize,
    ) -> Result<Instance> {
        match guest {
            Guest::Plain(guest) => guest.instantiate(store),
            Guest::Prepared(guests) => guests[thread]
                .instantiate(store, |account| account.as_mut().expect("with budgets there is an account")),
        }
    }

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
