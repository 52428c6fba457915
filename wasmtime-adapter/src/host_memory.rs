//! Memories that a host makes.
//!
//! wasmtime's own constructors go round the creator: `Memory::new` asks the limiter only, so its bytes stay
//! charged until the store ends, and `SharedMemory::new` asks nobody. These here go through a module of
//! one line, so growth is charged and the Charge ends with the memory.

use wasm_encoder::{ExportKind, ExportSection, MemorySection};
use wasmtime::{AsContextMut, Engine, Extern, Instance, Memory, MemoryType, Module, SharedMemory, Store};
use wrt_memory::CrateId;

use crate::budgets::Budgets;

impl Budgets {
    /// Makes a memory in a store, on the account of that store.
    ///
    /// `Memory::new` is charged too, until the store ends. But where stores without an account are on
    /// the same engine, use this one: after a `Memory::new`, the next memory of that type that such a
    /// store makes on the thread would pass for it, and take its Charge.
    ///
    /// # Errors
    /// As instantiating a module with such a memory; in a store of an async engine, where that asks for
    /// `async`.
    pub fn memory(&self, mut store: impl AsContextMut, ty: MemoryType) -> wasmtime::Result<Memory> {
        let module = module_with(store.as_context().engine(), &ty)?;
        match export(Instance::new(&mut store, &module, &[])?, &mut store) {
            Some(Extern::Memory(memory)) => Ok(memory),
            _ => {
                Err(wasmtime::Error::msg("a shared memory belongs to no store: use `Budgets::shared_memory`"))
            }
        }
    }

    /// Makes a shared memory on a crate's budget. It is charged, with what it grows by, until its last
    /// clone is dropped.
    ///
    /// # Errors
    /// An id that is unknown, stale or foreign; as `SharedMemory::new`; what the crate is denied.
    pub fn shared_memory(
        &self,
        engine: &Engine,
        id: CrateId,
        ty: MemoryType,
    ) -> wasmtime::Result<SharedMemory> {
        let module = module_with(engine, &ty)?;
        let mut store = Store::new(engine, self.account(id)?);
        store.limiter(|account| account);
        match export(Instance::new(&mut store, &module, &[])?, &mut store) {
            Some(Extern::SharedMemory(memory)) => Ok(memory),
            _ => Err(wasmtime::Error::msg("the memory's type is not shared: use `Budgets::memory`")),
        }
    }
}

fn export(instance: Instance, store: impl AsContextMut) -> Option<Extern> {
    instance.get_export(store, "memory")
}

/// A module that has one memory of this type and exports it.
fn module_with(engine: &Engine, ty: &MemoryType) -> wasmtime::Result<Module> {
    let mut memories = MemorySection::new();
    memories.memory(wasm_encoder::MemoryType {
        minimum: ty.minimum(),
        maximum: ty.maximum(),
        memory64: ty.is_64(),
        shared: ty.is_shared(),
        page_size_log2: (ty.page_size_log2() != 16).then(|| ty.page_size_log2().into()),
    });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    let mut module = wasm_encoder::Module::new();
    module.section(&memories).section(&exports);
    Module::new(engine, module.finish())
}
