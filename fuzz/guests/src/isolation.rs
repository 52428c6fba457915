//! Hostile guests one after another, and beside each other, on slots that stay warm: each begins with its own image
//! and zeros, and what it grows by is zero, whatever others wrote, wherever they ended.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use wasmtime::{Config, Engine, Instance, Linker, Memory, Module, OptLevel, Store};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_fuzz::Seen;
use wrt_memory_wasmtime::{Budgets, PreparedPre, StoreAccount};

use crate::header::PAGE;

pub(crate) const REACHES: &[&str] = &[
    "begun",
    "begun with an image",
    "grown",
    "not grown",
    "written by the guest",
    "written past the first page",
    "out of bounds",
    "ended by a trap",
    "trimmed",
    "density",
    "throughput",
    "no scan",
    "not prepared",
];

const MOST_STEPS: usize = 40;
const MOST_LIVE: usize = 4;

/// Pages at first and at most, and the data: where, how many bytes, of which.
type Shape = (u32, u32, &'static [(u32, u32, u8)]);

const SHAPES: [Shape; 6] = [
    (0, 3, &[]),
    (1, 1, &[]),
    (1, 6, &[(0, 10, 1), (65_500, 36, 2)]),
    (2, 4, &[(4000, 200, 3)]),
    (3, 8, &[(100, 40_000, 4), (150_000, 30_000, 5)]),
    (5, 9, &[(65_536, 1, 6), (300_000, 20_000, 7)]),
];

fn text(shape: usize) -> String {
    let (min, max, data) = SHAPES[shape];
    let mut text = format!("(module (memory (export \"m\") {min} {max})\n");
    for (at, len, byte) in data {
        text += &format!("(data (i32.const {at}) \"{}\")\n", format!("\\{byte:02x}").repeat(*len as usize));
    }
    text + r#"(func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
        (func (export "store") (param i32 i64) (i64.store (local.get 0) (local.get 1)))
        (func (export "load") (param i32) (result i64) (i64.load (local.get 0)))
        (func (export "trap") unreachable))"#
}

struct Live {
    store: Store<StoreAccount>,
    instance: Instance,
    memory: Memory,
    /// What its bytes must be.
    bytes: Vec<u8>,
}

impl Live {
    fn check(&self) {
        let data = self.memory.data(&self.store);
        if data != self.bytes {
            let differs = data.iter().zip(&self.bytes).position(|(one, other)| one != other);
            panic!("{} bytes for {}, other from {differs:?} on", data.len(), self.bytes.len());
        }
    }

    fn call<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(
        &mut self,
        name: &str,
        params: P,
    ) -> wasmtime::Result<R> {
        self.instance.get_typed_func::<P, R>(&mut self.store, name)?.call(&mut self.store, params)
    }
}

enum Guest {
    Plain(Module),
    Prepared(PreparedPre<StoreAccount>),
}

struct World {
    manager: Arc<UnifiedMemoryManager>,
    budgets: Budgets,
    engine: Engine,
    crates: [CrateId; 2],
    guests: Vec<Option<(Guest, CrateId)>>,
    live: Vec<Live>,
}

impl World {
    fn begin(&mut self, u: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
        let shape = u.choose_index(SHAPES.len())?;
        let prepares = u.ratio(3, 4)?;
        let (budgets, engine, id) = (&self.budgets, &self.engine, self.crates[u.choose_index(2)?]);
        let (guest, id) = self.guests[shape].get_or_insert_with(|| {
            let wasm = wat::parse_str(text(shape)).unwrap_or_else(|error| panic!("{error}"));
            let guest = if prepares {
                let prepared = budgets.prepare(engine, id, &wasm).unwrap_or_else(|error| panic!("{error}"));
                let guest = prepared.instantiate_pre(&Linker::new(engine));
                Guest::Prepared(guest.unwrap_or_else(|error| panic!("{error}")))
            } else {
                Guest::Plain(Module::new(engine, &wasm).unwrap_or_else(|error| panic!("{error}")))
            };
            (guest, id)
        });
        let account = self.budgets.account(*id).unwrap_or_else(|error| panic!("{error}"));
        let mut store = Store::new(&self.engine, account);
        store.limiter(|account| account);
        let made = match guest {
            Guest::Plain(module) => {
                seen.note("not prepared");
                Instance::new(&mut store, module, &[])
            }
            Guest::Prepared(guest) => guest.instantiate(&mut store, |account| account),
        };
        let instance = made.unwrap_or_else(|error| panic!("shape {shape}: {error:?}"));
        let Some(memory) = instance.get_memory(&mut store, "m") else { panic!("no memory") };
        let (min, _, data) = SHAPES[shape];
        let mut bytes = vec![0; min as usize * PAGE];
        for &(at, len, byte) in data {
            bytes[at as usize..(at + len) as usize].fill(byte);
        }
        seen.note(if data.is_empty() { "begun" } else { "begun with an image" });
        self.live.push(Live { store, instance, memory, bytes });
        self.live[self.live.len() - 1].check();
        Ok(())
    }

    fn act(&mut self, u: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
        let at = u.choose_index(self.live.len())?;
        let live = &mut self.live[at];
        let size = live.bytes.len();
        match u.int_in_range(0..=9)? {
            0..=2 => {
                let pages = u.int_in_range(0..=4)?;
                let was = live.call::<i32, i32>("grow", pages).unwrap_or_else(|error| panic!("{error}"));
                if was < 0 {
                    seen.note("not grown");
                } else {
                    assert_eq!(was as usize * PAGE, size);
                    live.bytes.resize(size + pages as usize * PAGE, 0);
                    seen.note("grown");
                }
                live.check();
            }
            3..=5 => {
                let (from, len) = (u.int_in_range(0..=size)?, u.int_in_range(0..=2 * PAGE)?);
                // Mostly within.
                let len = if u.ratio(1, 8)? { len } else { len.min(size - from) };
                let byte: u8 = u.arbitrary()?;
                let done = live.call::<(i32, i32, i32), ()>("fill", (from as i32, byte.into(), len as i32));
                assert_eq!(done.is_ok(), from + len <= size, "{done:?}: {from} and {len} of {size}");
                if done.is_ok() {
                    live.bytes[from..from + len].fill(byte);
                    seen.note(if from + len > PAGE {
                        "written past the first page"
                    } else {
                        "written by the guest"
                    });
                }
            }
            6 => {
                let (at, value) = (u.int_in_range(0..=9 * PAGE)?, u64::from_le_bytes([u.arbitrary()?; 8]));
                let done = live.call::<(i32, i64), ()>("store", (at as i32, value as i64));
                assert_eq!(done.is_ok(), at + 8 <= size, "{done:?}: {at} of {size}");
                if done.is_ok() {
                    live.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
                }
            }
            7 => {
                // Past the end, near and far: a fault or a check, and never a neighbour's bytes.
                let past = u32::arbitrary(u)?;
                let at = (size as u64 + u64::from(past)).min(u64::from(u32::MAX)) as u32;
                let done = live.call::<i32, i64>("load", at as i32);
                assert!(done.is_err(), "{done:?} at {at} of {size}");
                seen.note("out of bounds");
            }
            8 => {
                // The host writes too.
                let from = u.int_in_range(0..=size)?;
                let to = (from + u.int_in_range(0..=PAGE)?).min(size);
                live.memory.data_mut(&mut live.store)[from..to].fill(0xA5);
                live.bytes[from..to].fill(0xA5);
            }
            _ => {
                let trapped = live.call::<(), ()>("trap", ());
                assert!(trapped.is_err());
                self.end(at);
                seen.note("ended by a trap");
            }
        }
        Ok(())
    }

    fn end(&mut self, at: usize) {
        let live = self.live.swap_remove(at);
        live.check();
        drop(live.store);
    }

    fn step(&mut self, u: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
        match u.int_in_range(0..=15)? {
            0..=4 if self.live.len() < MOST_LIVE => self.begin(u, seen)?,
            13 | 14 if !self.live.is_empty() => {
                let at = u.choose_index(self.live.len())?;
                self.end(at);
            }
            15 => {
                if u.ratio(1, 2)? {
                    if self.manager.trim(u.int_in_range(0..=16 * PAGE)?) > 0 {
                        seen.note("trimmed");
                    }
                } else {
                    // The module goes, and its images with the last instance.
                    self.guests[u.choose_index(SHAPES.len())?] = None;
                }
            }
            _ if !self.live.is_empty() => self.act(u, seen)?,
            _ => {}
        }
        Ok(())
    }
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut u = Unstructured::new(data);
    let mut choose = |most: usize| u.int_in_range(0..=most).unwrap_or_default();
    let mut pool = PooledProvider::new()
        .keep_resident([0, 4096, 100_000, PooledProvider::KEEP_RESIDENT][choose(3)])
        .warm_limit([0, PAGE, 20 * PAGE, PooledProvider::WARM_LIMIT][choose(3)]);
    if choose(2) == 0 {
        pool = pool.without_pagemap_scan();
        seen.note("no scan");
    }
    let providers = ProviderSelector::of_platform().with_pooled(pool);
    let manager = UnifiedMemoryManager::builder().total(512 * PAGE).providers(providers).build();
    let manager = Arc::new(manager.unwrap_or_else(|error| panic!("{error}")));
    let budgets = Budgets::new(manager.clone()).unwrap_or_else(|error| panic!("{error}"));
    let budgets = if choose(1) == 0 {
        seen.note("throughput");
        budgets.throughput()
    } else {
        seen.note("density");
        budgets.density(9 * PAGE)
    };
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::None);
    budgets.configure(&mut config);
    let engine = Engine::new(&config).unwrap_or_else(|error| panic!("{error}"));
    let crates = ["one", "other"].map(|name| {
        let settings = CrateSettings::new().limit(100 * PAGE);
        manager.register(name, settings).unwrap_or_else(|error| panic!("{error}"))
    });
    let guests = SHAPES.iter().map(|_| None).collect();
    let mut world = World { manager: manager.clone(), budgets, engine, crates, guests, live: Vec::new() };
    for _ in 0..MOST_STEPS {
        if u.is_empty() || world.step(&mut u, seen).is_err() {
            break;
        }
    }
    while !world.live.is_empty() {
        world.end(0);
    }
    drop(world);
    for id in crates {
        manager.retire(id).unwrap_or_else(|error| panic!("{error}"));
    }
    manager.trim(usize::MAX);
    assert_eq!(manager.snapshot().used, 0, "bytes of nobody's");
    assert_eq!(manager.providers().pooled().map_or(0, PooledProvider::warm), 0);
}
