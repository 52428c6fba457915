//! A guest: engine, store, modules and the regions of its memories, and the order in which they go.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use wasmi::{
    Engine, Instance, Linker, Memory, Module, Store, StoreContext, StoreContextMut, WasmParams, WasmResults,
};
use wrt_memory::{Charge, CrateHandle, CrateId, MemoryError};

use crate::account::{Account, Linear, in_bytes};
use crate::budgets::Budgets;
use crate::error::Error;
use crate::heap::{self, Meter};
use crate::overhead;
use crate::region::{self, Region, Wanted};
use crate::reserve::Room;
use crate::rewrite::{self, Declared};
use crate::settings::GuestSettings;

mod renew;
mod start;

use renew::Kept;
use start::{Start, make_store};

/// What a guest's store holds: the host's data, and the account with its crate. Dereferences to the data.
#[derive(Debug)]
pub struct Hosted<T> {
    account: Account,
    data: T,
}

impl<T> Deref for Hosted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Hosted<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

/// One guest: a module, or several that share a store, on the budget of one crate.
///
/// It has an engine of its own, since wasmi frees code only with its engine. Dropping the guest drops the
/// store first, then gives back the regions of its memories, then what was charged: the `'static` bytes
/// that wasmi was given for a memory are never used when they are somebody else's. For that reason nobody
/// gets at the [`Store`] itself, only at [contexts](Self::run) that borrow the guest.
pub struct Guest<T> {
    linker: ManuallyDrop<Linker<Hosted<T>>>,
    store: ManuallyDrop<Store<Hosted<T>>>,
    engine: ManuallyDrop<Engine>,
    /// Not before the store is gone.
    regions: Vec<Region>,
    /// For what the runtime allocates.
    overhead: ManuallyDrop<Charge<'static>>,
    meter: Meter,
    measured: bool,
    settings: GuestSettings,
    /// Module-defined memories so far.
    memories: u32,
    instance: Option<Instance>,
    /// What [`load_again`](Self::load_again) loads.
    kept: Option<Kept>,
    overdrawn: Option<MemoryError>,
}

/// At most what a region costs beyond its bytes: a header, a canary at either end, and what is lost to a granule.
const HEADER: usize = 48 + 4 * size_of::<usize>();

/// What is charged is a multiple of this.
const STEP: usize = 64;

/// The largest unit that a manager counts in, where it has less than a gibibyte or fields of 31 bits.
const LARGEST_UNIT: usize = 1 << 16;

impl<T: 'static> Guest<T> {
    /// A guest without a module: its stacks and its engine, on the budget of the crate `id`.
    ///
    /// # Errors
    /// [`Memory`](Error::Memory), [`NoRoom`](Error::NoRoom), where there is not enough for that.
    pub fn new(budgets: &Budgets, id: CrateId, settings: GuestSettings, data: T) -> Result<Self, Error> {
        let start = Start::new(budgets, id, &settings)?;
        Self::assemble(start, settings, data)
    }

    /// In a frame of its own: it is some kilobytes, and what runs deep is over.
    #[inline(never)]
    fn assemble(start: Start, settings: GuestSettings, data: T) -> Result<Self, Error> {
        let Start { meter, overhead, measured, engine, handle } = start;
        let account = Account::new(handle, settings.on_denial, meter.room().cloned());
        let entered = meter.enter();
        let store = make_store(&engine, &settings, Hosted { account, data })?;
        let linker = Linker::new(&engine);
        drop(entered);
        let mut guest = Self {
            linker: ManuallyDrop::new(linker),
            store: ManuallyDrop::new(store),
            engine: ManuallyDrop::new(engine),
            regions: Vec::new(),
            overhead: ManuallyDrop::new(overhead),
            meter,
            measured,
            settings,
            memories: 0,
            instance: None,
            kept: None,
            overdrawn: None,
        };
        guest.settle()?;
        guest.shrink(0);
        Ok(guest)
    }

    /// Defines what modules loaded later can import.
    ///
    /// # Errors
    /// What `define` returns; [`Overdrawn`](Error::Overdrawn).
    pub fn link<R>(
        &mut self,
        define: impl FnOnce(&mut Linker<Hosted<T>>, StoreContextMut<'_, Hosted<T>>) -> Result<R, wasmi::Error>,
    ) -> Result<R, Error> {
        self.within(|linker, store| define(linker, wasmi::AsContextMut::as_context_mut(store)))?
            .map_err(Error::Wasmi)
    }

    /// Compiles and instantiates a module: its memories on regions, its imports from the
    /// [linker](Self::link), and its start function run.
    ///
    /// # Errors
    /// All there are. Memories and instances of a module that failed stay until the guest goes, as functions
    /// of it may be in tables that were there before.
    pub fn load(&mut self, wasm: &[u8]) -> Result<Instance, Error> {
        self.usable()?;
        let entered = self.meter.enter();
        let need = overhead::module(wasm)?;
        drop(entered);
        let more = provide(self.handle(), self.meter.room(), need.load, "compiling the module")?;
        // One crate, one manager: merging cannot fail.
        drop(self.overhead.merge(more));
        let first = self.memories;
        let compiled = self.compile(wasm);
        // What compiling took at its peak is not charged beside the memories.
        self.shrink(need.instance);
        let loaded = compiled.and_then(|(module, memories)| {
            let loaded = self.instantiate(&module, &memories);
            let need = need.instance;
            self.kept = self.settings.renewable.then_some(Kept { module, memories, first, need });
            loaded
        });
        self.loaded(loaded)
    }

    fn loaded(&mut self, loaded: Result<Instance, Error>) -> Result<Instance, Error> {
        self.settle()?;
        self.shrink(0);
        let instance = loaded?;
        self.instance = Some(instance);
        Ok(instance)
    }

    fn compile(&mut self, wasm: &[u8]) -> Result<(Module, Vec<Declared>), Error> {
        let _entered = self.meter.enter();
        let made = rewrite::rewrite(wasm, self.memories).and_then(|rewritten| {
            let module = Module::new(&self.engine, rewritten.wasm.as_deref().unwrap_or(wasm))?;
            Ok((module, rewritten.memories))
        });
        // A module that is wrong is told so by the runtime, in its words, and where it really is.
        made.map_err(|error| Module::validate(&self.engine, wasm).err().map_or(error, Error::Wasmi))
    }

    fn instantiate(&mut self, module: &Module, memories: &[Declared]) -> Result<Instance, Error> {
        self.place(memories)?;
        let _entered = self.meter.enter();
        Ok(self.linker.instantiate_and_start(&mut *self.store, module)?)
    }

    /// Makes a module's memories, each on a region, and defines them for it to import.
    fn place(&mut self, types: &[Declared]) -> Result<(), Error> {
        if types.is_empty() {
            return Ok(());
        }
        const WHAT: &str = "linear memory";
        let entered = self.meter.enter();
        let wanted = types.iter().map(|ty| wanted(ty, self.settings.region)).collect::<Option<Vec<_>>>();
        let wanted = wanted.ok_or(Error::NoRoom { bytes: usize::MAX })?;
        let handle = self.handle().clone();
        let reserve = self.settings.reserve.as_ref();
        let reserved = |wanted: &Wanted| Region::take_reserved(reserve?, handle.id(), wanted);
        let mut regions: Vec<Option<Region>> = wanted.iter().map(reserved).collect();
        let open: Vec<Wanted> = wanted
            .iter()
            .zip(&regions)
            .filter(|(_, region)| region.is_none())
            .map(|(wanted, _)| *wanted)
            .collect();
        let spare = open.len() * HEADER + self.settings.spare;
        let sizes = region::divide(region::available(&handle).saturating_sub(spare), &open);
        // Where the minima do not fit, let the manager say so: with its figures, and counting the denial.
        let sizes = sizes.unwrap_or_else(|| open.iter().map(|memory| memory.minimum).collect());
        drop(entered);
        let mut sizes = open.iter().zip(sizes);
        for (ty, region) in types.iter().zip(&mut regions) {
            let region = match region.take() {
                Some(region) => region,
                None => match sizes.next() {
                    Some((wanted, size)) => {
                        take_region(&handle, wanted, size).map_err(Error::memory(WHAT))?
                    }
                    None => break,
                },
            };
            self.place_one(ty, region)?;
        }
        Ok(())
    }

    fn place_one(&mut self, ty: &Declared, region: Region) -> Result<(), Error> {
        let page = 1usize << ty.page_log2;
        let size = region.len();
        let declared = ty.maximum.unwrap_or((1 << 32) >> ty.page_log2);
        let pages = if (size / page) as u64 >= declared {
            declared
        } else {
            self.store.data().account.maximum(declared, page, size)
        };
        let _entered = self.meter.enter();
        let ty = ty.with_maximum(Some(pages)).map_err(wasmi::Error::from)?;
        // Kept from here on, whatever comes: wasmi has its bytes until the store goes.
        self.regions.push(region);
        let Some(region) = self.regions.last_mut() else { return Err(Error::NoRoom { bytes: size }) };
        // SAFETY: once for this region. It is dropped with `self.regions`, after the store, and nobody else
        // can get at the memory but through the store.
        let bytes = unsafe { region.bytes() };
        let memory = Linear { size: 0, region: size, maximum: in_bytes(pages, page) };
        self.store.data_mut().account.place(Some(memory));
        let memory = Memory::new_static(&mut *self.store, ty, bytes);
        self.store.data_mut().account.place(None);
        self.linker
            .define(rewrite::MODULE, &rewrite::name(self.memories), memory?)
            .map_err(wasmi::Error::from)?;
        self.memories += 1;
        Ok(())
    }

    /// Runs host code with the guest's store: calls, and looks at memory. What it allocates is the guest's.
    ///
    /// # Errors
    /// [`Overdrawn`](Error::Overdrawn) before, and after.
    pub fn run<R>(&mut self, code: impl FnOnce(StoreContextMut<'_, Hosted<T>>) -> R) -> Result<R, Error> {
        self.within(|_, store| code(wasmi::AsContextMut::as_context_mut(store)))
    }

    /// Calls an exported function of the module loaded last.
    ///
    /// # Errors
    /// [`NoSuchFunction`](Error::NoSuchFunction), a trap, [`Overdrawn`](Error::Overdrawn).
    pub fn call<P: WasmParams, R: WasmResults>(&mut self, name: &str, params: P) -> Result<R, Error> {
        let Some(instance) = self.instance else {
            return Err(Error::NoSuchFunction { name: name.to_string() });
        };
        let called = self.run(|mut context| {
            let function = instance.get_typed_func::<P, R>(&context, name).ok()?;
            Some(function.call(&mut context, params))
        })?;
        Ok(called.ok_or_else(|| Error::NoSuchFunction { name: name.to_string() })??)
    }

    fn within<R>(
        &mut self,
        code: impl FnOnce(&mut Linker<Hosted<T>>, &mut Store<Hosted<T>>) -> R,
    ) -> Result<R, Error> {
        self.usable()?;
        let entered = self.meter.enter();
        let result = code(&mut self.linker, &mut self.store);
        drop(entered);
        self.settle()?;
        Ok(result)
    }

    /// The store, to read from.
    pub fn context(&self) -> StoreContext<'_, Hosted<T>> {
        wasmi::AsContext::as_context(&*self.store)
    }

    /// The instance of the module loaded last.
    pub fn instance(&self) -> Option<Instance> {
        self.instance
    }

    /// The host's data.
    pub fn data(&self) -> &T {
        &self.store.data().data
    }

    /// The host's data.
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.store.data_mut().data
    }

    /// The crate.
    pub fn crate_id(&self) -> CrateId {
        self.handle().id()
    }

    fn handle(&self) -> &CrateHandle<'static> {
        self.store.data().account.handle()
    }

    /// Where the guest's bytes are.
    pub fn bytes(&self) -> GuestBytes {
        let account = &self.store.data().account;
        GuestBytes {
            linear: account.linear(),
            regions: self.regions.iter().map(Region::len).sum(),
            tables: account.tables(),
            overhead: self.overhead.bytes(),
            live: self.measured.then(|| self.live()),
        }
    }

    /// The most bytes the runtime held for the guest since this was asked last, where that is measured.
    pub fn take_peak(&mut self) -> Option<usize> {
        self.measured.then(|| self.meter.take_peak() + Meter::COST)
    }

    /// What was denied last, with the figures; a guest that got -1 does not see them.
    pub fn last_denial(&self) -> Option<&MemoryError> {
        self.store.data().account.last_denial()
    }

    fn usable(&self) -> Result<(), Error> {
        match &self.overdrawn {
            None => Ok(()),
            Some(source) => Err(self.overdraft(source.clone())),
        }
    }

    fn overdraft(&self, source: MemoryError) -> Error {
        Error::Overdrawn { live: self.live(), charged: self.overhead.bytes(), source }
    }

    /// What the runtime holds and neither its room nor the tables' charges cover.
    fn owed(&self) -> usize {
        let elsewhere = self.meter.room().map_or(0, Room::used) + self.store.data().account.tables();
        self.live().saturating_sub(elsewhere).next_multiple_of(STEP)
    }

    /// Bytes the runtime holds, and those kept for its errors.
    fn live(&self) -> usize {
        self.meter.live() + Meter::COST
    }

    /// Charges what the runtime holds beyond what is charged. A guest whose crate cannot pay is not run again.
    fn settle(&mut self) -> Result<(), Error> {
        let more = self.owed().saturating_sub(self.overhead.bytes());
        if !self.measured || more == 0 {
            return Ok(());
        }
        match self.handle().charge(more, more) {
            Ok(more) => {
                // One crate, one manager: merging cannot fail.
                drop(self.overhead.merge(more));
                Ok(())
            }
            Err(error) => {
                self.overdrawn = Some(error.clone());
                Err(self.overdraft(error))
            }
        }
    }

    /// Gives back what was charged to begin with and is not needed, but for `keep` bytes that will be.
    fn shrink(&mut self, keep: usize) {
        let keep = keep.saturating_add(STEP - 1) & !(STEP - 1);
        let spare = self.overhead.bytes().saturating_sub(self.owed()).saturating_sub(keep);
        if !self.measured {
            return;
        }
        // Only whole units of the manager can be split off, and it does not say how large those are.
        for log in STEP.ilog2()..=LARGEST_UNIT.ilog2() {
            let part = spare >> log << log;
            let requested = part.min(self.overhead.requested());
            if part == 0 || self.overhead.split(part, requested).is_some() {
                return;
            }
        }
    }
}

impl<T> Drop for Guest<T> {
    fn drop(&mut self) {
        self.kept = None;
        // SAFETY: each is dropped once, here, and not used after. The store goes before the regions, which
        // are dropped when this returns; the charge for the runtime's bytes after those are free.
        unsafe {
            ManuallyDrop::drop(&mut self.store);
            ManuallyDrop::drop(&mut self.linker);
            ManuallyDrop::drop(&mut self.engine);
            ManuallyDrop::drop(&mut self.overhead);
        }
    }
}

impl<T> core::fmt::Debug for Guest<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Guest").field("regions", &self.regions.len()).finish_non_exhaustive()
    }
}

/// Where a guest's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestBytes {
    /// Bytes of linear memory the guest has: within the regions.
    pub linear: usize,
    /// Bytes of the regions its memories can grow in. Charged, with a header each.
    pub regions: usize,
    /// Bytes charged for tables.
    pub tables: usize,
    /// Bytes charged for what the runtime holds besides: engine, module, instances, stacks.
    pub overhead: usize,
    /// Bytes the runtime holds, tables and what is kept for its errors included, where that is measured.
    pub live: Option<usize>,
}

/// Makes sure that there is room for what the runtime needs: in one piece, to be nearly sure of the many small
/// ones. In the guest's room, which is charged; else in the machine, and then it is charged here.
fn provide(
    handle: &CrateHandle<'static>,
    room: Option<&Room>,
    bytes: usize,
    what: &'static str,
) -> Result<Charge<'static>, Error> {
    let bytes = bytes.checked_next_multiple_of(STEP).ok_or(Error::NoRoom { bytes })?;
    if room.is_some_and(|room| room.largest_free() >= bytes) {
        return handle.charge(0, 0).map_err(Error::memory(what));
    }
    let charge = handle.charge(bytes, bytes).map_err(Error::memory(what))?;
    if heap::has_room(bytes) { Ok(charge) } else { Err(Error::NoRoom { bytes }) }
}

/// `None` where the minimum is more than there can be.
fn wanted(ty: &Declared, region: usize) -> Option<Wanted> {
    let page = 1usize << ty.page_log2;
    let bytes = |pages: u64| usize::try_from(pages).ok()?.checked_mul(page);
    let minimum = bytes(ty.minimum)?;
    // Without a maximum, what 32 bits can address.
    let declared = ty.maximum.map_or(u32::MAX as usize, |pages| bytes(pages).unwrap_or(usize::MAX));
    let declared = declared.min(u32::MAX as usize);
    let maximum = declared.min(region).max(minimum);
    Some(Wanted { minimum, maximum: maximum - (maximum - minimum) % page, page })
}

/// Takes a region of `size` bytes, or of less where the machine has not so much in one piece, down to the
/// minimum.
fn take_region(
    handle: &CrateHandle<'static>,
    wanted: &Wanted,
    mut size: usize,
) -> Result<Region, MemoryError> {
    loop {
        match Region::take(handle, size) {
            Ok(region) => return Ok(region),
            Err(error) if size <= wanted.minimum => return Err(error),
            Err(_) => {
                let more = (size - wanted.minimum) / 2;
                size = wanted.minimum + more - more % wanted.page;
            }
        }
    }
}
