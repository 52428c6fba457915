//! What the tests share: an engine under budgets, and the figures of a crate.
#![allow(dead_code, reason = "each test uses its part of this")]

use std::sync::Arc;

use wasmtime::{Config, Engine, Instance, Linker, Module, Store, TypedFunc, WasmParams, WasmResults};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateId, CrateSettings, MemoryError, UnifiedMemoryManager};
use wrt_memory_wasmtime::{Budgets, PreparedPre, StoreAccount};

/// A wasm page, in bytes.
pub const PAGE: usize = 65536;

/// Bytes the pool of [`World::new`] has.
pub const TOTAL: usize = 1 << 30;

/// A manager, its budgets, and an engine that uses them.
pub struct World {
    pub manager: Arc<UnifiedMemoryManager>,
    pub budgets: Budgets,
    pub engine: Engine,
}

/// What is looked at of a crate. Bytes, and requests denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    pub used: usize,
    pub requested: usize,
    pub high_water: usize,
    pub denied: u64,
}

/// Figures of a crate of which every byte used was asked for.
pub fn figures(used: usize, high_water: usize, denied: u64) -> Figures {
    Figures { used, requested: used, high_water, denied }
}

/// Every proposal the tests use.
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_threads(true)
        .shared_memory(true)
        .wasm_multi_memory(true)
        .wasm_memory64(true)
        .wasm_custom_page_sizes(true);
    config
}

impl World {
    pub fn new() -> Self {
        Self::with(TOTAL, |_| {}, |budgets| budgets)
    }

    pub fn with(
        total: usize,
        set: impl FnOnce(&mut Config),
        choose: impl FnOnce(Budgets) -> Budgets,
    ) -> Self {
        Self::on(ProviderSelector::of_platform(), total, set, choose)
    }

    /// With slots that stay warm.
    pub fn pooled(pool: PooledProvider, choose: impl FnOnce(Budgets) -> Budgets) -> Self {
        Self::on(ProviderSelector::of_platform().with_pooled(pool), TOTAL, |_| {}, choose)
    }

    pub fn on(
        providers: ProviderSelector,
        total: usize,
        set: impl FnOnce(&mut Config),
        choose: impl FnOnce(Budgets) -> Budgets,
    ) -> Self {
        let builder = UnifiedMemoryManager::builder().total(total).providers(providers);
        Self::of(Arc::new(builder.build().unwrap()), set, choose)
    }

    /// Crates keep at most so many bytes idle above their guarantees.
    pub fn with_stock(total: usize, stock: usize) -> Self {
        let manager = Arc::new(UnifiedMemoryManager::builder().total(total).stock(stock).build().unwrap());
        Self::of(manager, |_| {}, |budgets| budgets)
    }

    fn of(
        manager: Arc<UnifiedMemoryManager>,
        set: impl FnOnce(&mut Config),
        choose: impl FnOnce(Budgets) -> Budgets,
    ) -> Self {
        let budgets = choose(Budgets::new(manager.clone()).unwrap());
        let mut config = config();
        set(&mut config);
        budgets.configure(&mut config);
        let engine = Engine::new(&config).unwrap();
        Self { manager, budgets, engine }
    }

    pub fn crate_of(&self, name: &str, limit: usize) -> CrateId {
        self.manager.register(name, CrateSettings::new().limit(limit)).unwrap()
    }

    pub fn account(&self, id: CrateId) -> StoreAccount {
        self.budgets.account(id).unwrap()
    }

    pub fn store(&self, id: CrateId) -> Store<StoreAccount> {
        self.store_of(self.account(id))
    }

    pub fn store_of(&self, account: StoreAccount) -> Store<StoreAccount> {
        let mut store = Store::new(&self.engine, account);
        store.limiter(|account| account);
        store
    }

    /// A guest of `guests/wat`.
    pub fn guest(&self, name: &str) -> Module {
        Module::new(&self.engine, wrt_memory_guests::wat(name)).unwrap()
    }

    /// A module with images, and no imports.
    pub fn prepare(&self, id: CrateId, text: &str) -> PreparedPre<StoreAccount> {
        let prepared = self.budgets.prepare(&self.engine, id, &wrt_memory_guests::assemble(text)).unwrap();
        prepared.instantiate_pre(&Linker::new(&self.engine)).unwrap()
    }

    pub fn module(&self, text: &str) -> Module {
        Module::new(&self.engine, text).unwrap()
    }

    pub fn figures(&self, id: CrateId) -> Figures {
        let node = self.manager.node(id).unwrap();
        Figures {
            used: node.used,
            requested: node.requested,
            high_water: node.high_water,
            denied: node.denials.total(),
        }
    }

    pub fn used(&self, id: CrateId) -> usize {
        self.manager.node(id).unwrap().used
    }

    /// Every byte is back: the crates can be retired, and the pool has all it ever had.
    pub fn all_back(&self, crates: impl IntoIterator<Item = CrateId>) {
        for id in crates {
            let node = self.manager.node(id).unwrap();
            assert_eq!((node.used, node.requested), (0, 0), "{} still has bytes", node.name);
            self.manager.retire(id).unwrap();
        }
        let pool = self.manager.pool();
        if self.manager.providers().pooled().is_none() {
            assert_eq!((pool.used, pool.children), (0, 0));
            return;
        }
        // What is warm comes back when it is asked for; its account stays, with some stock.
        self.manager.trim(usize::MAX);
        assert_eq!((self.manager.snapshot().used, pool.children), (0, 1));
        assert_eq!(self.manager.providers().pooled().unwrap().warm(), 0);
    }
}

/// Instantiates a module that imports nothing.
pub fn instantiate<T: 'static>(store: &mut Store<T>, module: &Module) -> wasmtime::Result<Instance> {
    Instance::new(store, module, &[])
}

/// Calls an export.
pub fn call<T: 'static, P: WasmParams, R: WasmResults>(
    store: &mut Store<T>,
    instance: Instance,
    name: &str,
    params: P,
) -> wasmtime::Result<R> {
    let function: TypedFunc<P, R> = instance.get_typed_func(&mut *store, name)?;
    function.call(store, params)
}

/// Grows the memory of one of the guests; -1 where it is refused.
pub fn grow<T: 'static>(store: &mut Store<T>, instance: Instance, pages: i32) -> i32 {
    call(store, instance, "grow", pages).unwrap()
}

/// The error of a limit, or a panic that says what came instead.
pub fn over_limit(error: &MemoryError) -> (usize, usize, usize, usize) {
    match error {
        MemoryError::OverLimit { asked, used, limit, free, .. } => (*asked, *used, *limit, *free),
        other => panic!("not over a limit: {other}"),
    }
}
