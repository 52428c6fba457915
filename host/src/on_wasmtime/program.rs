//! A guest's code: read, compiled, linked with WASI, and its entry point found. Everything that makes it impossible
//! to run is found here, before anything runs.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex};
use wasmtime::{Engine, ExternType, Module, Store, Val, ValType};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{WasiCtxBuilder, p2};

use super::guest::State;
use crate::code::{self, LoadError};
use crate::invoke::{self, Call, Number};
use crate::plan::GuestPlan;

/// A guest that can be instantiated any number of times.
pub enum Program {
    /// A core module.
    Core {
        /// It, with its imports.
        pre: wasmtime::InstancePre<State>,
        /// Called first, where there is one: a reactor's `_initialize`.
        initialize: bool,
        /// What is called then.
        call: Call<Val>,
    },
    /// A component with a function to call.
    Component {
        /// It, with its imports.
        pre: wasmtime::component::InstancePre<State>,
        /// The function.
        export: ComponentExportIndex,
        /// How it is called.
        call: Call<wasmtime::component::Val>,
    },
    /// A component that is a WASI command.
    Command(p2::bindings::CommandPre<State>),
}

impl Program {
    /// Loads a guest's code.
    ///
    /// # Errors
    /// Whatever makes it impossible to run.
    pub fn load(engine: &Engine, plan: &GuestPlan) -> Result<Self, LoadError> {
        let (shown, wasm) = code::read(plan)?;
        let program = if code::is_component(&wasm) {
            let component = Component::new(engine, &wasm).map_err(|error| invalid(&shown, &error))?;
            Self::component(engine, &component, plan)
        } else {
            let module = Module::new(engine, &wasm).map_err(|error| invalid(&shown, &error))?;
            Self::core(engine, &module, plan)
        };
        program.map_err(|why| LoadError::cannot_run(format!("{shown}: {why}")))
    }

    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Core { .. } => "core",
            Self::Component { .. } | Self::Command(_) => "component",
        }
    }

    fn core(engine: &Engine, module: &Module, plan: &GuestPlan) -> Result<Self, String> {
        let mut linker = wasmtime::Linker::new(engine);
        p1::add_to_linker_async(&mut linker, |state: &mut State| &mut state.wasi)
            .map_err(|e| e.to_string())?;
        let functions: Vec<_> = module
            .exports()
            .filter_map(|export| match export.ty() {
                ExternType::Func(ty) => Some((export.name(), ty)),
                _ => None,
            })
            .collect();
        let names: Vec<_> = functions.iter().map(|(name, _)| *name).collect();
        let (entry, initialize) = code::entry(plan, &names)?;
        let Some((_, ty)) = functions.iter().find(|(name, _)| *name == entry) else {
            return Err(format!("`{entry}` is gone"));
        };
        // A command's arguments are strings that it asks for.
        let args = if entry == "_start" { &[][..] } else { &plan.args };
        let call = invoke::core(
            entry,
            ty.params().map(|ty| (ty.to_string(), kind(&ty))),
            ty.results().len(),
            args,
            value,
        )?;
        let pre = linker.instantiate_pre(module).map_err(|error| {
            let missing = missing(engine, module);
            if missing.is_empty() {
                return format!("its imports cannot be satisfied: {error:#}");
            }
            code::missing(&missing)
        })?;
        Ok(Self::Core { pre, initialize, call })
    }

    fn component(engine: &Engine, component: &Component, plan: &GuestPlan) -> Result<Self, String> {
        let mut linker = wasmtime::component::Linker::new(engine);
        p2::add_to_linker_async(&mut linker).map_err(|error| error.to_string())?;
        let pre = linker.instantiate_pre(component).map_err(|error| {
            format!("its imports cannot be satisfied: {error:#}; WASI 0.2 is all there is for components")
        })?;
        let ty = component.component_type();
        let runs = |name: &str| name.starts_with("wasi:cli/run@");
        if plan.invoke.is_none() && ty.exports(engine).any(|(name, _)| runs(name)) {
            return p2::bindings::CommandPre::new(pre)
                .map(Self::Command)
                .map_err(|error| format!("no command of WASI 0.2: {error:#}"));
        }
        let entry = plan.invoke.as_deref().unwrap_or("run");
        match component.get_export(None, entry) {
            Some((ComponentItem::ComponentFunc(ty), export)) => {
                let call = invoke::component(entry, &ty, &plan.args)?;
                Ok(Self::Component { pre, export, call })
            }
            _ => {
                let names: Vec<_> = ty
                    .exports(engine)
                    .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                    .map(|(name, _)| name)
                    .collect();
                Err(code::no_entry(plan, "no `wasi:cli/run` (so it is no WASI command)", &names))
            }
        }
    }
}

fn invalid(shown: &str, error: &wasmtime::Error) -> LoadError {
    LoadError::cannot_run(format!("{shown}: {error:#}"))
}

/// The imports that WASI preview 1 has not.
fn missing(engine: &Engine, module: &Module) -> Vec<String> {
    let mut linker = wasmtime::Linker::<WasiP1Ctx>::new(engine);
    if p1::add_to_linker_async(&mut linker, |wasi| wasi).is_err() {
        return Vec::new();
    }
    let mut store = Store::new(engine, WasiCtxBuilder::new().build_p1());
    module
        .imports()
        .filter(|import| linker.get_by_import(&mut store, import).is_none())
        .map(|import| {
            let kind = match import.ty() {
                ExternType::Func(_) => "function",
                ExternType::Global(_) => "global",
                ExternType::Table(_) => "table",
                ExternType::Memory(_) => "memory",
                ExternType::Tag(_) => "tag",
            };
            format!("{kind} `{}` `{}`", import.module(), import.name())
        })
        .collect()
}

/// What a parameter takes, where it is a number.
fn kind(ty: &ValType) -> Option<invoke::Kind> {
    match ty {
        ValType::I32 => Some(invoke::Kind::I32),
        ValType::I64 => Some(invoke::Kind::I64),
        ValType::F32 => Some(invoke::Kind::F32),
        ValType::F64 => Some(invoke::Kind::F64),
        _ => None,
    }
}

fn value(number: Number) -> Val {
    match number {
        Number::I32(value) => Val::I32(value),
        Number::I64(value) => Val::I64(value),
        Number::F32(value) => Val::F32(value.to_bits()),
        Number::F64(value) => Val::F64(value.to_bits()),
    }
}

/// Results as text.
pub fn show(values: &[Val]) -> String {
    let shown = values.iter().map(|value| match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        other => format!("{other:?}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}
