//! What ties an engine to a manager.

use std::sync::Arc;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, Module};
use wrt_memory::provider::ProviderKind;
use wrt_memory::{CrateHandle, CrateId, MemoryError, UnifiedMemoryManager};

use crate::account::StoreAccount;
use crate::memory::Creator;
use crate::preset::Preset;
use crate::stack::Stacks;

/// A manager's budgets, for the engines and stores of wasmtime. Cheap to clone.
#[derive(Clone)]
pub struct Budgets {
    pub(crate) manager: Arc<UnifiedMemoryManager>,
    default_crate: Option<CrateId>,
    charge_stacks: bool,
    table_element: usize,
    /// Bytes of a host page.
    page: usize,
    pub(crate) preset: Preset,
}

/// Bytes of a table's element, at most: a function reference is a pointer, a GC reference half of
/// that.
const POINTER_ELEMENT: usize = size_of::<usize>();

/// Bytes of a table's element where continuations can be in it: a pointer and a revision.
const CONTINUATION_ELEMENT: usize = 2 * size_of::<usize>();

impl Budgets {
    /// Budgets of this manager.
    ///
    /// # Errors
    /// [`InvalidConfig`](MemoryError::InvalidConfig) where the manager has no mapped provider: compiled
    /// code relies on guard pages.
    pub fn new(manager: Arc<UnifiedMemoryManager>) -> Result<Self, MemoryError> {
        let Some(mapped) = manager.providers().provider(ProviderKind::Mapped) else {
            return Err(MemoryError::InvalidConfig {
                what: "linear memory needs guard pages: give the manager a mapped provider",
            });
        };
        let page = mapped.describe().granule;
        Ok(Self {
            page,
            manager,
            default_crate: None,
            charge_stacks: false,
            table_element: POINTER_ELEMENT,
            preset: Preset::Asked,
        })
    }

    /// Names the crate for memories, and stacks, of which nobody knows whose they are: those of stores without an
    /// account. Without it they are refused.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn default_crate(mut self, id: CrateId) -> Result<Self, MemoryError> {
        CrateHandle::new(&*self.manager, id)?;
        self.default_crate = Some(id);
        Ok(self)
    }

    /// Charges the stacks of async calls, whole, to the crate in whose scope the future is polled: see
    /// [`StoreAccount::run`]. Off unless asked for, because a call outside of any scope is then
    /// refused.
    pub fn charge_stacks(mut self, charge: bool) -> Self {
        self.charge_stacks = charge;
        self
    }

    /// Says that the engine has the stack-switching proposal on: the elements of tables are then as
    /// large as a continuation.
    pub fn with_stack_switching(mut self) -> Self {
        self.table_element = CONTINUATION_ELEMENT;
        self
    }

    /// Makes an engine's configuration use these budgets.
    ///
    /// Sets the memory creator, the on-demand allocation strategy (the pooling one ignores creators)
    /// and `memory_init_cow(false)` (an image needs wasmtime's own memories; without this a data
    /// segment makes wasmtime panic); with [`charge_stacks`](Self::charge_stacks) the stack creator. A precompiled module must be compiled with such a configuration too. Reservation and guard sizes are
    /// left as they are, unless [`throughput`](Self::throughput) or [`density`](Self::density) was asked for.
    pub fn configure(&self, config: &mut Config) {
        config.with_host_memory(Arc::new(Creator::new(self.clone())));
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        config.memory_init_cow(false);
        self.preset.configure(config);
        if self.charge_stacks {
            config.with_host_stack(Arc::new(Stacks::new(self.clone())));
        }
    }

    /// Checks that an engine uses budgets: that nothing was set after
    /// [`configure`](Self::configure) that takes them out again, such as the pooling strategy, or that
    /// makes wasmtime panic, such as copy-on-write images.
    ///
    /// # Errors
    /// Says what to do where it does not; also where the engine cannot compile.
    pub fn check(&self, engine: &Engine) -> wasmtime::Result<()> {
        if engine.get_memory_init_cow() {
            return Err(wasmtime::Error::msg(
                "this engine makes copy-on-write images, and wasmtime panics when it finds a memory of the budgets \
                 under one: call `Budgets::configure` last, after any `memory_init_cow`",
            ));
        }
        let mut store = wasmtime::Store::new(engine, ());
        let mut probe = wasm_encoder::Module::new();
        let mut memories = wasm_encoder::MemorySection::new();
        memories.memory(wasm_encoder::MemoryType {
            minimum: 0,
            maximum: Some(0),
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        probe.section(&memories);
        let module = Module::new(engine, probe.finish())?;
        let asked = crate::handover::count_creations(|| {
            // With no account in the store this is refused, or goes to the default crate. Only
            // whether the creator was asked matters.
            let _ = wasmtime::Instance::new(&mut store, &module, &[]);
        });
        if asked == 0 {
            return Err(wasmtime::Error::msg(
                "this engine makes its memories without the budgets: call `Budgets::configure` last, after any \
                 allocation strategy or memory creator was set, and use the default on-demand strategy",
            ));
        }
        Ok(())
    }

    /// The account of a store: put it into the store's data and name it as the store's limiter. A
    /// crate may have any number of stores; their sum is what its budget bounds.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign.
    pub fn account(&self, id: CrateId) -> Result<StoreAccount, MemoryError> {
        Ok(StoreAccount::new(CrateHandle::new(&self.manager, id)?, self.table_element, self.page))
    }

    /// For whom nobody is named.
    pub(crate) fn fallback(&self) -> Option<CrateHandle<'static>> {
        CrateHandle::new(&self.manager, self.default_crate?).ok()
    }

    /// Whether a crate is of these budgets' manager.
    pub(crate) fn made(&self, handle: &CrateHandle<'_>) -> bool {
        std::ptr::eq(&raw const **handle.manager(), Arc::as_ptr(&self.manager))
    }
}

impl std::fmt::Debug for Budgets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budgets")
            .field("default_crate", &self.default_crate)
            .field("charge_stacks", &self.charge_stacks)
            .finish_non_exhaustive()
    }
}
