//! Asking guests to give memory back: an import with which a guest asks, an export by which it is told. The same two
//! as under wasmtime, for guests that want to; a guest that has neither is none the worse.

use wasmi::{Caller, Extern};

use crate::error::Error;
use crate::guest::{Guest, Hosted};

/// The function a guest exports to be told of pressure: `(param $level i32) (result i32)`, the level in per cent,
/// and the bytes it says it gave back.
const EXPORT: &str = "wrt_memory_pressure";

/// The module and the name of the function a guest imports to ask: `(result i32)`, the level in per cent, 0 where
/// there is none.
const IMPORT: (&str, &str) = ("wrt_memory", "pressure");

impl<T: 'static> Guest<T> {
    /// Gives modules loaded later the import `wrt_memory.pressure`, a function without parameters that returns an `i32`:
    /// the level that `level` says, in per cent, or 0 where it says none.
    ///
    /// What a guest learns is the host's choice. The level of its own crate (a [`PressureWatch`](wrt_memory::PressureWatch)
    /// over it) is its own affair; that of the pool tells it about its neighbours.
    ///
    /// # Errors
    /// Where the linker has the import already; [`Overdrawn`](Error::Overdrawn).
    pub fn link_pressure(
        &mut self,
        level: impl Fn(&T) -> Option<u8> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let (module, name) = IMPORT;
        self.link(|linker, _| {
            linker.func_wrap(module, name, move |caller: Caller<'_, Hosted<T>>| -> i32 {
                level(caller.data()).unwrap_or(0).into()
            })?;
            Ok(())
        })
    }

    /// Tells the guest of pressure: calls `wrt_memory_pressure` of the module loaded last, where that exports it, with
    /// the level in per cent. Returns the bytes the guest says it gave back, which is told and not believed; `None`
    /// where it has no such export. A guest's regions are its own until it goes, so what can come back is what
    /// the host holds for it.
    ///
    /// A call like any other: with fuel it ends when that is used up, without any a hook that never returns never does.
    ///
    /// # Errors
    /// [`PressureHook`](Error::PressureHook) where the export is something else; a trap, after which the guest may be called
    /// again; [`Overdrawn`](Error::Overdrawn).
    pub fn call_pressure_hook(&mut self, level: u8) -> Result<Option<i32>, Error> {
        let export = self.instance().and_then(|instance| instance.get_export(self.context(), EXPORT));
        let function = match export {
            None => return Ok(None),
            Some(Extern::Func(function)) => function,
            Some(Extern::Memory(_)) => return Err(Error::PressureHook { found: "a memory" }),
            Some(Extern::Global(_)) => return Err(Error::PressureHook { found: "a global" }),
            Some(Extern::Table(_)) => return Err(Error::PressureHook { found: "a table" }),
        };
        let told = self.run(|context| {
            let hook = function.typed::<i32, i32>(&context).ok()?;
            Some(hook.call(context, level.into()))
        })?;
        let told = told.ok_or(Error::PressureHook { found: "a function of another type" })?;
        Ok(Some(told?))
    }
}
