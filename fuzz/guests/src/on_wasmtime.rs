//! Hostile modules through the wasmtime adapter: nothing panics, no crate has more than its limit, every byte is back,
//! and a guest on what another left, or on an image, does what it does on new memory.

use std::sync::Arc;

use wasmtime::{Config, Engine, Instance, Linker, Module, OptLevel, Store, Val};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_fuzz::Seen;
use wrt_memory_wasmtime::{Budgets, OnDenial, StoreAccount};

use crate::header::{Header, PAGE};

pub(crate) const REACHES: &[&str] = &[
    "not a module",
    "not instantiated",
    "instantiated",
    "has memory",
    "has several memories",
    "has an image",
    "denied",
    "trapped",
    "returned",
    "out of fuel",
];

/// Of memories: more is not compared byte by byte.
const COMPARED: usize = 8 * PAGE;

fn config(budgets: &Budgets) -> Config {
    let mut config = Config::new();
    config
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_threads(true)
        .shared_memory(true)
        .wasm_multi_memory(true)
        .wasm_memory64(true)
        .wasm_custom_page_sizes(true)
        .wasm_wide_arithmetic(false)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::None)
        .consume_fuel(true);
    budgets.configure(&mut config);
    config
}

/// What a host can see of a run.
#[derive(Default, PartialEq)]
struct Observed {
    /// What happened, in order.
    log: Vec<String>,
    memories: Vec<Vec<u8>>,
    denied: bool,
}

impl Observed {
    /// Whether there was not fuel enough to make the instance.
    fn starved(&self) -> bool {
        self.log == ["OutOfFuel"] && self.memories.is_empty()
    }
}

/// Without all the bytes.
impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memories = self.memories.iter().map(|memory| {
            let sum = memory.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
            (memory.len(), sum)
        });
        let memories: Vec<_> = memories.collect();
        f.debug_struct("Observed")
            .field("log", &self.log)
            .field("memories (bytes, checksum)", &memories)
            .field("denied", &self.denied)
            .finish()
    }
}

struct World<'a> {
    manager: &'a UnifiedMemoryManager,
    budgets: &'a Budgets,
    engine: &'a Engine,
    id: CrateId,
    header: &'a Header,
}

impl World<'_> {
    fn check(&self) {
        let node = self.manager.node(self.id).unwrap_or_else(|error| panic!("{error}"));
        assert!(node.used <= node.limit && node.high_water <= self.header.limit, "{node:?}");
        let pool = self.manager.pool();
        assert!(pool.used <= pool.limit, "{pool:?}");
    }

    fn observe(
        &self,
        make: impl FnOnce(&mut Store<StoreAccount>) -> wasmtime::Result<Instance>,
        seen: &mut Seen,
    ) -> Observed {
        let mut observed = Observed::default();
        let account = self.budgets.account(self.id).unwrap_or_else(|error| panic!("{error}"));
        let account = if self.header.traps { account.on_denial(OnDenial::Trap) } else { account };
        let mut store = Store::new(self.engine, account);
        store.limiter(|account| account);
        store.set_fuel(self.header.fuel).unwrap_or_else(|error| panic!("{error}"));
        let denied =
            |manager: &UnifiedMemoryManager| manager.node(self.id).map_or(0, |node| node.denials.total());
        let before = denied(self.manager);
        match make(&mut store) {
            Ok(instance) => {
                seen.note("instantiated");
                self.call_all(&mut store, instance, &mut observed, seen);
            }
            Err(error) => {
                seen.note("not instantiated");
                observed.log.push(text(&error));
            }
        }
        self.check();
        observed.denied = denied(self.manager) > before;
        if observed.denied {
            seen.note("denied");
        }
        observed
    }

    fn call_all(
        &self,
        store: &mut Store<StoreAccount>,
        instance: Instance,
        observed: &mut Observed,
        seen: &mut Seen,
    ) {
        let names: Vec<String> = instance.exports(&mut *store).map(|it| it.name().to_owned()).collect();
        for name in &names {
            let Some(function) = instance.get_func(&mut *store, name) else { continue };
            let ty = function.ty(&*store);
            let value = |ty: wasmtime::ValType| match ty {
                wasmtime::ValType::I32 => Some(Val::I32(self.header.number)),
                other => other.default_value(),
            };
            let Some(params) = ty.params().map(value).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let mut results = vec![Val::I32(0); ty.results().len()];
            let _ = store.set_fuel(self.header.fuel);
            match function.call(&mut *store, &params, &mut results) {
                Ok(()) => {
                    seen.note("returned");
                    let plain = results
                        .iter()
                        .filter(|it| !matches!(it, Val::ExternRef(_) | Val::FuncRef(_) | Val::AnyRef(_)));
                    observed.log.push(format!("{name}: {:?}", plain.collect::<Vec<_>>()));
                }
                Err(error) => {
                    let text = text(&error);
                    seen.note(if text.contains("OutOfFuel") { "out of fuel" } else { "trapped" });
                    observed.log.push(format!("{name}: {text}"));
                }
            }
            self.check();
        }
        let mut bytes = 0;
        for name in &names {
            if let Some(memory) = instance.get_memory(&mut *store, name) {
                seen.note("has memory");
                bytes += memory.data_size(&*store);
                let data = memory.data(&*store);
                observed.memories.push(data[..data.len().min(COMPARED)].to_vec());
            }
        }
        if observed.memories.len() > 1 {
            seen.note("has several memories");
        }
        let used = self.manager.node(self.id).map_or(0, |node| node.used);
        // Each memory may be exported more than once.
        let exports = observed.memories.len().max(1);
        assert!(bytes / exports <= used, "{bytes} bytes of memory, and {used} charged");
    }
}

/// The trap, and not where it was: that is other code.
fn text(error: &wasmtime::Error) -> String {
    error.downcast_ref::<wasmtime::Trap>().map_or_else(|| "error".to_owned(), |trap| format!("{trap:?}"))
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let Some((header, wasm)) = Header::of(data) else { return };
    let platform = ProviderSelector::of_platform();
    let pool = PooledProvider::new();
    let providers = match header.how >> 2 & 3 {
        0 => platform,
        1 => platform.with_pooled(pool.without_pagemap_scan().keep_resident(PAGE)),
        2 => platform.with_pooled(pool.warm_limit(PAGE)),
        _ => platform.with_pooled(pool),
    };
    let manager = UnifiedMemoryManager::builder().total(256 * PAGE).stock(0).providers(providers).build();
    let manager = Arc::new(manager.unwrap_or_else(|error| panic!("{error}")));
    let budgets = Budgets::new(manager.clone()).unwrap_or_else(|error| panic!("{error}"));
    let budgets = match header.how & 3 {
        0 => budgets,
        1 | 2 => budgets.throughput(),
        _ => budgets.density(16 * PAGE),
    };
    let engine = Engine::new(&config(&budgets)).unwrap_or_else(|error| panic!("{error}"));
    let register = |name: &str| {
        let settings = CrateSettings::new().limit(header.limit);
        manager.register(name, settings).unwrap_or_else(|error| panic!("{error}"))
    };
    let id = register("guest");
    let world = World { manager: &manager, budgets: &budgets, engine: &engine, id, header: &header };
    let Ok(module) = Module::new(&engine, wasm) else {
        seen.note("not a module");
        let prepared = budgets.prepare(&engine, id, wasm);
        assert!(prepared.is_err(), "not a module, and prepared");
        assert_eq!(manager.snapshot().used, 0);
        return;
    };
    let linker = Linker::new(&engine);
    let plain = |store: &mut Store<StoreAccount>| linker.instantiate(store, &module);
    let first = world.observe(plain, seen);
    // On what it left itself: charged the same, so denied the same.
    assert_eq!(first, world.observe(plain, seen), "on memory that was used before");
    assert_eq!(manager.node(id).map_or(1, |node| node.used), 0, "a store is gone, and not its bytes");
    // Images are on the crate's budget: where something was denied, it is denied otherwise. And wasmtime takes fuel for the
    // data that it writes, where it has no images of its own; for ours it takes none, as for its own.
    if let Ok(prepared) = budgets.prepare(&engine, id, wasm) {
        if prepared.image_bytes() > 0 {
            seen.note("has an image");
        }
        if let Ok(guest) = prepared.instantiate_pre(&linker) {
            for _ in 0..2 {
                let again = world.observe(|store| guest.instantiate(store, |account| account), seen);
                let otherwise = first.denied || again.denied || first.starved();
                assert!(otherwise || first == again, "prepared: {first:?} {again:?}");
            }
        }
    }
    assert_eq!(manager.node(id).map_or(1, |node| node.used), 0, "the module is gone, and not its images");
    manager.retire(id).unwrap_or_else(|error| panic!("{error}"));
    manager.trim(usize::MAX);
    assert_eq!(manager.snapshot().used, 0, "bytes of nobody's");
}
