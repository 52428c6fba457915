//! Asking guests to give memory back: an import with which a guest asks, an export by which it is told.
//!
//! Both are for guests that want to; a guest that has neither is none the worse. What a guest gives back is what the
//! budgets see come back: what it says about that is told, not believed.

use wasmtime::{Extern, Instance, Linker, Store, TypedFunc};

/// The function a guest exports to be told of pressure: `(param $level i32) (result i32)`, the level in per cent,
/// and the bytes it says it gave back.
const EXPORT: &str = "wrt_memory_pressure";

/// The module and the name of the function a guest imports to ask: `(result i32)`, the level in per cent, 0 where
/// there is none.
const IMPORT: (&str, &str) = ("wrt_memory", "pressure");

/// Why a guest could not be told of pressure. The host and the store are as they were.
#[derive(Debug)]
#[non_exhaustive]
pub enum PressureHookError {
    /// It exports `wrt_memory_pressure` as something else.
    WrongType {
        /// What it is instead.
        found: String,
    },
    /// The hook trapped, used up its fuel, or was interrupted. The guest may be called again, if the host thinks
    /// that it still makes sense.
    Ended(wasmtime::Error),
}

impl std::fmt::Display for PressureHookError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongType { found } => write!(
                f,
                "the export `{EXPORT}` is {found}, and should be a function of one i32 that returns one: \
                 (param $level i32) (result i32)"
            ),
            Self::Ended(error) => write!(f, "the guest's `{EXPORT}` did not return: {error}"),
        }
    }
}

impl std::error::Error for PressureHookError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::WrongType { .. } => None,
            Self::Ended(error) => Some(error.as_ref()),
        }
    }
}

/// Gives guests the import `wrt_memory.pressure`, a function without parameters that returns an `i32`: the level that
/// `level` says, in per cent, or 0 where it says none.
///
/// What a guest learns is the host's choice. The level of its own crate (a
/// [`PressureWatch`](wrt_memory::PressureWatch) [over](wrt_memory::PressureSettings::over) it) is its own affair;
/// that of the pool tells it about its neighbours.
///
/// # Errors
/// Where the linker has the import already.
pub fn link_pressure<T: 'static>(
    linker: &mut Linker<T>,
    level: impl Fn(&T) -> Option<u8> + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let (module, name) = IMPORT;
    linker.func_wrap(module, name, move |caller: wasmtime::Caller<'_, T>| -> i32 {
        level(caller.data()).unwrap_or(0).into()
    })?;
    Ok(())
}

/// Tells a guest of pressure: calls its export `wrt_memory_pressure`, where it has one, with the level in per cent.
/// Returns the bytes the guest says it gave back; `None` where it has no such export. What really came
/// back is in the crate's [`NodeSnapshot`](wrt_memory::NodeSnapshot): linear memory never shrinks, so it is what the
/// host holds for the guest.
///
/// Called between calls: it takes the store, which during a guest's call nobody has. The hook is a call like any
/// other, under whatever bounds the host has set for the store: fuel, an epoch's deadline. Without any, a hook that
/// never returns never does.
///
/// # Errors
/// [`PressureHookError`]; a guest's trap is reported and nothing else.
pub fn call_pressure_hook<T: 'static>(
    store: &mut Store<T>,
    instance: Instance,
    level: u8,
) -> Result<Option<i32>, PressureHookError> {
    let Some(hook) = hook(store, instance)? else { return Ok(None) };
    hook.call(store, level.into()).map(Some).map_err(PressureHookError::Ended)
}

/// As [`call_pressure_hook`], for stores whose guests are called asynchronously. Like every call of theirs, run it
/// [in the crate's scope](crate::StoreAccount::run) where stacks are charged.
///
/// # Errors
/// As [`call_pressure_hook`].
pub async fn call_pressure_hook_async<T: Send + 'static>(
    store: &mut Store<T>,
    instance: Instance,
    level: u8,
) -> Result<Option<i32>, PressureHookError> {
    let Some(hook) = hook(store, instance)? else { return Ok(None) };
    hook.call_async(store, level.into()).await.map(Some).map_err(PressureHookError::Ended)
}

/// The hook of a guest that has one.
fn hook<T: 'static>(
    store: &mut Store<T>,
    instance: Instance,
) -> Result<Option<TypedFunc<i32, i32>>, PressureHookError> {
    match instance.get_export(&mut *store, EXPORT) {
        None => Ok(None),
        Some(Extern::Func(function)) => match function.typed(&*store) {
            Ok(hook) => Ok(Some(hook)),
            Err(_) => Err(PressureHookError::WrongType {
                found: format!("a function of type {}", function.ty(&*store)),
            }),
        },
        Some(Extern::Memory(_) | Extern::SharedMemory(_)) => Err(wrong("a memory")),
        Some(Extern::Global(_)) => Err(wrong("a global")),
        Some(Extern::Table(_)) => Err(wrong("a table")),
        Some(Extern::Tag(_)) => Err(wrong("a tag")),
    }
}

fn wrong(found: &str) -> PressureHookError {
    PressureHookError::WrongType { found: found.to_owned() }
}
