//! Modules whose initial data is mapped instead of copied.

use std::sync::Arc;

use wasmtime::{AsContextMut, Engine, Instance, InstancePre, Linker, Module};
use wrt_memory::{CrateHandle, CrateId};

use crate::account::{Account, StoreAccount};
use crate::budgets::Budgets;
use crate::image::{Emptied, PreparedMemory};

/// A compiled module of a crate, whose memories start from images that all its instances share.
///
/// The images are charged to the crate, once, until this and every instance of it are gone. What an instance writes is its
/// own, and part of its linear memory.
///
/// Compiling takes long: [`serialize`](Self::serialize) writes it down for [`Budgets::deserialize`].
///
/// The module itself is not shown: without its images it would start with zeros where its data is.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) module: Module,
    pub(crate) id: CrateId,
    pub(crate) memories: Arc<[PreparedMemory]>,
}

/// A prepared module with its imports: what instances are made from.
pub struct PreparedPre<T: 'static> {
    instance: InstancePre<T>,
    id: CrateId,
    memories: Arc<[PreparedMemory]>,
}

impl Budgets {
    /// Compiles a binary module for a crate, and makes images of its initial data.
    ///
    /// Under wasmtime's own rule for that: each active data segment has a constant offset, in bounds, in a memory that the
    /// module defines, and the whole is not too sparse. Where one has not, all are written by wasmtime, instance by
    /// instance, and [`image_bytes`](Prepared::image_bytes) is 0; so also with shared memories, text, and where wasm's
    /// bulk memory operations are off, and anywhere but on Linux.
    ///
    /// Data that an image has takes no fuel when an instance is made, as with wasmtime's own images; what wasmtime writes itself
    /// does.
    ///
    /// Components cannot be prepared, and say so: make them with `Component::new`. wasmtime then writes the data of the modules
    /// in them, instance by instance, as it does without this.
    ///
    /// # Errors
    /// As `Module::new`; what the crate is denied; an id that is unknown, stale or foreign.
    pub fn prepare(&self, engine: &Engine, id: CrateId, wasm: &[u8]) -> wasmtime::Result<Prepared> {
        let handle = CrateHandle::new(&self.manager, id)?;
        if wasmparser_of_wasmtime::Parser::is_component(wasm) {
            return Err(wasmtime::Error::msg(
                "this is a component, and only core modules can be prepared: make it with `Component::new`, and wasmtime \
                 writes the data of the modules in it, instance by instance",
            ));
        }
        let emptied = Emptied::of(wasm);
        let compiled = emptied.as_ref().and_then(|emptied| Module::new(engine, emptied.wasm()).ok());
        let Some((module, emptied)) = compiled.zip(emptied) else {
            // As it is: where it is wrong, the error is about what the caller gave.
            return Ok(Prepared { module: Module::new(engine, wasm)?, id, memories: Arc::new([]) });
        };
        Ok(Prepared { module, id, memories: emptied.hold(&handle)? })
    }
}

impl Prepared {
    /// Bytes of its images, as charged to its crate; 0 where wasmtime writes its data.
    pub fn image_bytes(&self) -> usize {
        self.memories.iter().filter_map(PreparedMemory::image).map(|image| image.bytes()).sum()
    }

    /// Looks its imports up.
    ///
    /// # Errors
    /// As `Linker::instantiate_pre`.
    pub fn instantiate_pre<T: 'static>(&self, linker: &Linker<T>) -> wasmtime::Result<PreparedPre<T>> {
        let instance = linker.instantiate_pre(&self.module)?;
        Ok(PreparedPre { instance, id: self.id, memories: self.memories.clone() })
    }
}

impl<T: 'static> PreparedPre<T> {
    /// Makes an instance in a store whose limiter is the account that `account` finds in its data.
    ///
    /// # Errors
    /// As `InstancePre::instantiate`; where the account is another crate's than the module was prepared for; where the
    /// store has another limiter than that account.
    pub fn instantiate(
        &self,
        mut store: impl AsContextMut<Data = T>,
        account: impl FnOnce(&mut T) -> &mut StoreAccount,
    ) -> wasmtime::Result<Instance> {
        let under_way = self.begin(account(store.as_context_mut().data_mut()))?;
        let instance = self.instance.instantiate(&mut store)?;
        under_way.finish()?;
        Ok(instance)
    }

    /// As [`instantiate`](Self::instantiate), in an async store.
    ///
    /// # Errors
    /// As `instantiate`.
    pub async fn instantiate_async(
        &self,
        mut store: impl AsContextMut<Data = T>,
        account: impl FnOnce(&mut T) -> &mut StoreAccount,
    ) -> wasmtime::Result<Instance>
    where
        T: Send,
    {
        let under_way = self.begin(account(store.as_context_mut().data_mut()))?;
        let instance = self.instance.instantiate_async(&mut store).await?;
        under_way.finish()?;
        Ok(instance)
    }

    fn begin(&self, account: &StoreAccount) -> wasmtime::Result<UnderWay> {
        if account.crate_id() != self.id {
            return Err(wasmtime::Error::msg(format!(
                "this module was prepared for crate {}, and the store's account is crate {}'s: prepare it for that one",
                self.id,
                account.crate_id()
            )));
        }
        // The common case of small modules: nothing to match, nothing to forget.
        let account = (!self.memories.is_empty()).then(|| account.shared.clone());
        if let Some(account) = &account {
            account.begin(self.memories.clone());
        }
        Ok(UnderWay { account })
    }
}

impl<T: 'static> Clone for PreparedPre<T> {
    fn clone(&self) -> Self {
        Self { instance: self.instance.clone(), id: self.id, memories: self.memories.clone() }
    }
}

impl<T: 'static> std::fmt::Debug for PreparedPre<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedPre").field("crate", &self.id).finish_non_exhaustive()
    }
}

/// The account matches the memories that are made now, until this is dropped: also where the instantiation
/// fails, or its future is.
struct UnderWay {
    account: Option<Arc<Account>>,
}

impl UnderWay {
    fn finish(mut self) -> wasmtime::Result<()> {
        if self.account.take().is_none_or(|account| account.finish()) {
            return Ok(());
        }
        Err(wasmtime::Error::msg(
            "the prepared module's memories were made without its data: the store's limiter has to be the account named \
             to `instantiate`, and the engine has to use the budgets",
        ))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(account) = self.account.take() {
            account.finish();
        }
    }
}
