//! A guest's code: read, compiled, linked with WASI, and its entry point found. Everything that makes it impossible
//! to run is found here, before anything runs.

use std::borrow::Cow;
use std::path::Path;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex};
use wasmtime::{Engine, ExternType, Module, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{WasiCtxBuilder, p2};

use crate::guest::State;
use crate::invoke::{self, Call};
use crate::outcome;
use crate::plan::{GuestPlan, Source};

/// A guest that can be instantiated any number of times.
pub enum Program {
    /// A core module.
    Core {
        /// It, with its imports.
        pre: wasmtime::InstancePre<State>,
        /// Called first, where there is one: a reactor's `_initialize`.
        initialize: bool,
        /// What is called then.
        call: Call<wasmtime::Val>,
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

/// Why a guest cannot be run.
#[derive(Debug)]
pub struct LoadError {
    /// The host's exit code for it.
    pub code: u8,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl LoadError {
    fn cannot_run(message: impl Into<String>) -> Self {
        Self { code: outcome::CANNOT_RUN, message: message.into() }
    }
}

impl From<String> for LoadError {
    fn from(message: String) -> Self {
        Self::cannot_run(message)
    }
}

impl Program {
    /// Loads a guest's code.
    ///
    /// # Errors
    /// Whatever makes it impossible to run.
    pub fn load(engine: &Engine, plan: &GuestPlan) -> Result<Self, LoadError> {
        let (shown, bytes) = match &plan.source {
            Source::File(path) => (path.display().to_string(), Cow::Owned(read(path)?)),
            Source::Bytes(bytes) => (plan.name.clone(), bytes.clone()),
        };
        let wasm = binary(&bytes).map_err(|why| LoadError::cannot_run(format!("{shown}: {why}")))?;
        let program = if is_component(&wasm) {
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
        let has = |name: &str| functions.iter().any(|(known, _)| *known == name);
        let entry = match &plan.invoke {
            Some(name) => name.as_str(),
            None if has("_start") => "_start",
            None => "run",
        };
        let Some((_, ty)) = functions.iter().find(|(name, _)| *name == entry) else {
            let names: Vec<_> = functions.iter().map(|(name, _)| *name).collect();
            return Err(no_entry(plan, "no `_start` (so it is no WASI command)", &names));
        };
        // A command's arguments are strings that it asks for.
        let args = if entry == "_start" { &[][..] } else { &plan.args };
        let call = invoke::core(entry, ty, args)?;
        let initialize =
            plan.invoke.as_deref() != Some("_initialize") && has("_initialize") && entry != "_start";

        let pre = linker.instantiate_pre(module).map_err(|error| {
            let missing = missing(engine, module);
            if missing.is_empty() {
                return format!("its imports cannot be satisfied: {error:#}");
            }
            format!(
                "it imports what this host has not: {}; WASI preview 1 is all there is for core modules",
                missing.join(", ")
            )
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
                Err(no_entry(plan, "no `wasi:cli/run` (so it is no WASI command)", &names))
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => outcome::NOT_FOUND,
            _ => outcome::CANNOT_RUN,
        };
        let hint = match path.extension() {
            None => "; what follows `run` are guests, their arguments come after `--`",
            Some(_) => "",
        };
        LoadError { code, message: format!("{}: {error}{hint}", path.display()) }
    })
}

/// Wasm as it is, or assembled from its text format.
fn binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if bytes.starts_with(b"\0asm") {
        return Ok(Cow::Borrowed(bytes));
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.trim_start().starts_with(['(', ';']));
    let Some(text) = text else {
        return Err("this is not WebAssembly: it begins neither with `\\0asm` nor as the text format does (a guest's \
                    arguments come after `--`)"
            .to_owned());
    };
    wat::parse_str(text).map(Cow::Owned).map_err(|error| error.to_string())
}

/// Whether the preamble is a component's.
fn is_component(wasm: &[u8]) -> bool {
    // Version (two bytes), then layer: 0 for modules, 1 for components.
    wasm.get(6..8) == Some(&[1, 0])
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

fn no_entry(plan: &GuestPlan, no_command: &str, functions: &[&str]) -> String {
    let names = functions.join(", ");
    match &plan.invoke {
        _ if functions.is_empty() => "it exports no function: there is nothing to call".to_owned(),
        Some(name) => format!("it exports no function `{name}`; there are: {names}"),
        None => format!(
            "it exports {no_command} and no function `run`; there are: {names}; choose one with `--invoke NAME`"
        ),
    }
}
