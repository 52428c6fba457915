//! A guest's code, checked: whatever makes it impossible to run is found here, before anything runs.

use wasi_common::WasiCtx;
use wasmi::{CompilationMode, Config, Engine, ExternType, Linker, Module, Val, ValType};

use crate::code::{self, LoadError};
use crate::invoke::{self, Call, Kind, Number};
use crate::plan::GuestPlan;

/// A guest that can be made any number of times. Each compiles it for itself: wasmi frees code with its engine only.
pub struct Program {
    /// It.
    pub wasm: Vec<u8>,
    /// Called first, where there is one: a reactor's `_initialize`.
    pub initialize: bool,
    /// What is called then.
    pub call: Call<Val>,
}

impl Program {
    /// Loads a guest's code.
    ///
    /// # Errors
    /// Whatever makes it impossible to run.
    pub fn load(plan: &GuestPlan) -> Result<Self, LoadError> {
        let (shown, wasm) = code::read(plan)?;
        Self::core(&wasm, plan).map_err(|why| LoadError::cannot_run(format!("{shown}: {why}")))
    }

    fn core(wasm: &[u8], plan: &GuestPlan) -> Result<Self, String> {
        if code::is_component(wasm) {
            return Err("it is a component, and wasmi runs core modules only; `--runtime wasmtime` runs it"
                .to_owned());
        }
        let mut config = Config::default();
        config
            .compilation_mode(CompilationMode::Lazy)
            .wasm_custom_page_sizes(true)
            .ignore_custom_sections(true);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, wasm).map_err(|error| {
            format!("{error}; wasmi takes no shared memories, no 64-bit ones, no garbage collection and no exceptions")
        })?;
        let exports: Vec<_> = module
            .exports()
            .filter_map(|export| match export.ty() {
                ExternType::Func(ty) => Some((export.name(), ty.clone())),
                _ => None,
            })
            .collect();
        let names: Vec<_> = exports.iter().map(|(name, _)| *name).collect();
        let (entry, initialize) = code::entry(plan, &names)?;
        let Some((_, ty)) = exports.iter().find(|(name, _)| *name == entry) else {
            return Err(format!("`{entry}` is gone"));
        };
        // A command's arguments are strings that it asks for.
        let args = if entry == "_start" { &[][..] } else { &plan.args };
        let params = ty.params().iter().map(|ty| (format!("{ty:?}").to_lowercase(), kind(*ty)));
        let call = invoke::core(entry, params, ty.results().len(), args, value)?;
        let missing = missing(&engine, &module)?;
        if !missing.is_empty() {
            return Err(code::missing(&missing));
        }
        Ok(Self { wasm: wasm.to_vec(), initialize, call })
    }
}

/// The imports that WASI preview 1 has not.
fn missing(engine: &Engine, module: &Module) -> Result<Vec<String>, String> {
    let mut linker = Linker::<WasiCtx>::new(engine);
    wasmi_wasi::add_to_linker(&mut linker, |wasi: &mut WasiCtx| wasi).map_err(|error| error.to_string())?;
    // What is there cannot be defined again.
    let missing = module.imports().filter(|import| match import.ty() {
        ExternType::Func(_) => linker.func_wrap(import.module(), import.name(), || {}).is_ok(),
        _ => true,
    });
    let shown = missing.map(|import| {
        let kind = match import.ty() {
            ExternType::Func(_) => "function",
            ExternType::Global(_) => "global",
            ExternType::Table(_) => "table",
            ExternType::Memory(_) => "memory",
        };
        format!("{kind} `{}` `{}`", import.module(), import.name())
    });
    Ok(shown.collect())
}

/// What a parameter takes, where it is a number.
fn kind(ty: ValType) -> Option<Kind> {
    match ty {
        ValType::I32 => Some(Kind::I32),
        ValType::I64 => Some(Kind::I64),
        ValType::F32 => Some(Kind::F32),
        ValType::F64 => Some(Kind::F64),
        _ => None,
    }
}

fn value(number: Number) -> Val {
    match number {
        Number::I32(value) => Val::I32(value),
        Number::I64(value) => Val::I64(value),
        Number::F32(value) => Val::F32(value.into()),
        Number::F64(value) => Val::F64(value.into()),
    }
}

/// Results as text.
pub fn show(values: &[Val]) -> String {
    let shown = values.iter().map(|value| match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(value) => f32::from(*value).to_string(),
        Val::F64(value) => f64::from(*value).to_string(),
        other => format!("{other:?}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}
