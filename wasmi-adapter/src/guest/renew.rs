//! A guest that is made anew without compiling its module again.

use alloc::vec::Vec;
use core::mem;

use wasmi::{Instance, Linker, Module};

use super::start::make_store;
use super::{Guest, Hosted, provide};
use crate::account::Account;
use crate::error::Error;
use crate::overhead;
use crate::rewrite::Declared;

/// A module that stays compiled when the guest is renewed.
pub(super) struct Kept {
    pub(super) module: Module,
    pub(super) memories: Vec<Declared>,
    /// The number of its first memory.
    pub(super) first: u32,
    /// What instantiating it was estimated to need.
    pub(super) need: usize,
}

impl<T: 'static> Guest<T> {
    /// Ends what runs in the guest, as dropping it would, and makes it anew, with `data`, and as it was before anything
    /// was linked or loaded: instances, memories and tables are gone, and their bytes are back. The engine, its
    /// stacks and, where [`GuestSettings::renewable`](crate::GuestSettings::renewable) says so, the module loaded last stay,
    /// and stay charged: [`load_again`](Self::load_again) compiles nothing.
    ///
    /// Returns the data there was. Handles of the former store do not fit the new one.
    ///
    /// # Errors
    /// [`Memory`](Error::Memory), [`NoRoom`](Error::NoRoom) where there is not enough for another store beside the former: that
    /// stays as it was. [`Overdrawn`](Error::Overdrawn) where the guest is so even now.
    pub fn renew(&mut self, data: T) -> Result<T, Error> {
        let more = provide(self.handle(), self.meter.room(), overhead::STORE, "the guest's store")?;
        // One crate, one manager: merging cannot fail.
        drop(self.overhead.merge(more));
        let account =
            Account::new(self.handle().clone(), self.settings.on_denial, self.meter.room().cloned());
        let entered = self.meter.enter();
        let store = make_store(&self.engine, &self.settings, Hosted { account, data })?;
        let linker = Linker::new(&self.engine);
        drop(entered);
        self.instance = None;
        *self.linker = linker;
        let Hosted { account, data } = mem::replace(&mut *self.store, store).into_data();
        drop(account);
        // The former store is gone, and only now what it was lent.
        self.regions.clear();
        self.memories = 0;
        self.overdrawn = None;
        self.settle()?;
        self.shrink(0);
        Ok(data)
    }

    /// Instantiates the module that was loaded last before the guest was [renewed](Self::renew), as
    /// [`load`](Self::load) did, without compiling it.
    ///
    /// # Errors
    /// [`NothingKept`](Error::NothingKept); else as `load`.
    pub fn load_again(&mut self) -> Result<Instance, Error> {
        self.usable()?;
        // Its memories are imported by their numbers.
        let kept = self.kept.take_if(|kept| self.memories <= kept.first).ok_or(Error::NothingKept)?;
        let loaded = self.instantiate_again(&kept);
        self.kept = Some(kept);
        self.loaded(loaded)
    }

    fn instantiate_again(&mut self, kept: &Kept) -> Result<Instance, Error> {
        let more = provide(self.handle(), self.meter.room(), kept.need, "instantiating the module")?;
        // One crate, one manager: merging cannot fail.
        drop(self.overhead.merge(more));
        self.memories = kept.first;
        self.instantiate(&kept.module, &kept.memories)
    }
}
