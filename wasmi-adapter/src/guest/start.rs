//! What a guest begins with: an engine whose stacks are there, and a store.

use wasmi::{CompilationMode, Config, Engine, Instance, Module, Store};
use wrt_memory::{Charge, CrateHandle, CrateId};

use super::{Hosted, provide};
use crate::budgets::Budgets;
use crate::error::Error;
use crate::heap::Meter;
use crate::overhead;
use crate::settings::GuestSettings;

/// A guest that has its stacks, and no store yet. The engine goes before what its bytes are charged to and counted by.
pub(super) struct Start {
    pub(super) handle: CrateHandle<'static>,
    pub(super) engine: Engine,
    pub(super) overhead: Charge<'static>,
    pub(super) meter: Meter,
    pub(super) measured: bool,
}

impl Start {
    #[inline(never)]
    pub(super) fn new(budgets: &Budgets, id: CrateId, settings: &GuestSettings) -> Result<Self, Error> {
        let handle = budgets.handle(id).map_err(Error::memory("a guest"))?;
        let need = overhead::guest(settings);
        let measured = budgets.is_measured();
        let reserve = settings.reserve.as_ref().filter(|_| measured);
        let room = reserve.and_then(|reserve| reserve.take_runtime(id, need));
        let meter = Meter::new(room).ok_or(Error::NoRoom { bytes: Meter::COST })?;
        let overhead = provide(&handle, meter.room(), need, "the guest's stacks and engine")?;
        let entered = meter.enter();
        let engine = Engine::new(&config(settings));
        let made = warm_stacks(&engine);
        drop(entered);
        let start = Self { handle, engine, overhead, meter, measured };
        made.map(|()| start)
    }
}

/// A store with its limiter and its fuel.
pub(super) fn make_store<T: 'static>(
    engine: &Engine,
    settings: &GuestSettings,
    hosted: Hosted<T>,
) -> Result<Store<Hosted<T>>, Error> {
    let mut store = Store::new(engine, hosted);
    store.limiter(|hosted| &mut hosted.account);
    if let Some(fuel) = settings.fuel {
        store.set_fuel(fuel)?;
    }
    Ok(store)
}

fn config(settings: &GuestSettings) -> Config {
    let mut config = Config::default();
    config
        // Nothing is left to allocate at the first call.
        .compilation_mode(CompilationMode::Eager)
        .ignore_custom_sections(true)
        .wasm_custom_page_sizes(true)
        .consume_fuel(settings.fuel.is_some())
        .set_max_stack_height(settings.stack.max(1000))
        .set_min_stack_height(settings.stack)
        .set_max_stack_height(settings.stack)
        .set_max_recursion_depth(settings.depth)
        .set_max_cached_stacks(1);
    config
}

/// `(module (func (export "") (call 0)))`
#[rustfmt::skip]
const RECURSION: &[u8] = &[
    0, b'a', b's', b'm', 1, 0, 0, 0,
    1, 4, 1, 0x60, 0, 0,
    3, 2, 1, 0,
    7, 4, 1, 0, 0, 0,
    10, 6, 1, 4, 0, 0x10, 0, 0x0b,
];

/// Has the engine allocate its stacks, whole, by a function that calls itself until it may not. They are
/// kept and used for every call: wasmi would otherwise allocate them while the guest runs, and ends the
/// program where it cannot.
fn warm_stacks(engine: &Engine) -> Result<(), Error> {
    let mut store = Store::new(engine, ());
    if engine_has_fuel(&store) {
        store.set_fuel(u64::MAX)?;
    }
    // SAFETY: it is valid; a test sees to that.
    let module = unsafe { Module::new_unchecked(engine, RECURSION) }?;
    let instance = Instance::new(&mut store, &module, &[])?;
    match instance.get_typed_func::<(), ()>(&store, "")?.call(&mut store, ()) {
        Err(error) if error.as_trap_code() == Some(wasmi::TrapCode::StackOverflow) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

fn engine_has_fuel(store: &Store<()>) -> bool {
    store.get_fuel().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_warms_the_stacks_is_valid_and_the_module_it_says_it_is() {
        Module::validate(&Engine::default(), RECURSION).unwrap();
        assert_eq!(RECURSION, wat::parse_str(r#"(module (func (export "") (call 0)))"#).unwrap());
    }
}
