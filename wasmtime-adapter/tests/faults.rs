//! What the ledger, the system or an allocator may refuse the adapter, refused, one call after another: in every step of every
//! story the first, the second, the third, until a run has no call left to refuse. A step that fails leaves all figures and
//! all bytes as they were and can be taken again; one that does not is whole. In the end every byte is back.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;

use support::{PAGE, TOTAL, World, call, instantiate};
use wasmtime::{Instance, Linker, Memory, MemoryType, Module, SharedMemory, Store};
use wrt_memory::fault::{Call, fail_at, failed};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateId, CrateSettings, Scope};
use wrt_memory_wasmtime::{Budgets, OnDenial, Prepared, PreparedPre, StoreAccount};

/// Bytes of the image that is mapped; the other is copied.
const LARGE: usize = 40_000;

/// The most a memory can have.
const MOST: usize = 9 * PAGE;

/// What a story is about: which providers, and how the engine is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Mapped,
    Throughput,
    Density,
    Stacks,
}

/// A guest that runs, and what its memory must hold.
struct Live {
    store: Store<StoreAccount>,
    instance: Instance,
    bytes: Vec<u8>,
}

impl Live {
    fn memory(&mut self) -> Memory {
        self.instance.get_memory(&mut self.store, "memory").unwrap()
    }

    /// It has just the bytes it should, and then others.
    fn use_all(&mut self) {
        let memory = self.memory();
        let bytes = memory.data_mut(&mut self.store);
        assert!(bytes == self.bytes, "other bytes than it should have");
        bytes.fill(0xA5);
        self.bytes.fill(0xA5);
    }
}

/// What a story has made.
struct Stage<'w> {
    world: &'w World,
    id: CrateId,
    module: Module,
    live: Vec<Live>,
    prepared: Vec<PreparedPre<StoreAccount>>,
    kept: Vec<Prepared>,
    shared: Vec<SharedMemory>,
}

/// Whether it was done. A refusal is the only other end.
type Step = fn(&mut Stage<'_>) -> bool;

struct Story {
    name: &'static str,
    layout: Layout,
    steps: &'static [Step],
}

const GUEST: &str = r#"(module
    (memory (export "memory") 2 9)
    (table (export "table") 4 100 funcref)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "grow_table") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
    (func (export "table_size") (result i32) (table.size)))"#;

/// Objects in a heap of their own.
const OBJECTS: &str = r#"(module
    (type $node (struct (field (ref null $node)) (field i64)))
    (func (export "run") (param $more i32) (local $list (ref null $node))
      (loop $again
        (local.set $list (struct.new $node (local.get $list) (i64.const 7)))
        (br_if $again (local.tee $more (i32.sub (local.get $more) (i32.const 1)))))))"#;

/// Two memories that begin with data, a larger one and a smaller.
fn imaged() -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 2 9) (memory 1 9)
            (data (memory 0) (i32.const 100) "{}") (data (memory 1) (i32.const 5) "small")
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
        "x".repeat(LARGE)
    );
    wrt_memory_guests::assemble(&text)
}

fn fresh() -> Vec<u8> {
    vec![0; 2 * PAGE]
}

fn start(stage: &mut Stage<'_>) -> bool {
    start_of(stage, OnDenial::Refuse)
}

fn start_of(stage: &mut Stage<'_>, on_denial: OnDenial) -> bool {
    let Ok(account) = stage.world.budgets.account(stage.id) else { return false };
    let mut store = stage.world.store_of(account.on_denial(on_denial));
    let Ok(instance) = instantiate(&mut store, &stage.module) else { return false };
    stage.live.push(Live { store, instance, bytes: fresh() });
    stage.live.last_mut().unwrap().use_all();
    true
}

/// Grows by so many pages; also where a refusal is a trap.
fn grow(stage: &mut Stage<'_>, pages: usize) -> bool {
    let live = stage.live.last_mut().unwrap();
    let before = live.bytes.len() / PAGE;
    let grown = call::<_, i32, i32>(&mut live.store, live.instance, "grow", pages as i32);
    let grown = match grown {
        Ok(-1) | Err(_) => false,
        Ok(size) => {
            assert_eq!(size as usize, before);
            live.bytes.resize((before + pages) * PAGE, 0);
            true
        }
    };
    live.use_all();
    grown
}

fn grow_table(stage: &mut Stage<'_>) -> bool {
    let live = stage.live.last_mut().unwrap();
    let size =
        |live: &mut Live| call::<_, (), i32>(&mut live.store, live.instance, "table_size", ()).unwrap();
    let before = size(live);
    let grown = call::<_, i32, i32>(&mut live.store, live.instance, "grow_table", 10);
    let grown = matches!(grown, Ok(size) if size == before);
    assert_eq!(size(live), if grown { before + 10 } else { before });
    live.use_all();
    grown
}

fn end(stage: &mut Stage<'_>) -> bool {
    stage.live.pop();
    true
}

/// Compiled before, so that what is compiled is not compiled again for each refusal.
fn prepare(stage: &mut Stage<'_>) -> bool {
    let prepared = stage.world.budgets.prepare(&stage.world.engine, stage.id, &imaged());
    let Ok(prepared) = prepared else { return false };
    // Without room to lay an image out, wasmtime writes the data.
    assert!(prepared.image_bytes() > LARGE || failed() == Some(Call::Runtime));
    stage.prepared.push(prepared.instantiate_pre(&Linker::new(&stage.world.engine)).unwrap());
    stage.kept.push(prepared);
    true
}

/// The module as bytes, and loaded again.
fn load(stage: &mut Stage<'_>) -> bool {
    let bytes = stage.kept[0].serialize().unwrap();
    // SAFETY: it was written in the line above.
    let loaded = unsafe { stage.world.budgets.deserialize(&stage.world.engine, stage.id, &bytes) };
    let Ok(loaded) = loaded else { return false };
    assert_eq!(loaded.image_bytes(), stage.kept[0].image_bytes());
    stage.prepared.push(loaded.instantiate_pre(&Linker::new(&stage.world.engine)).unwrap());
    true
}

/// An instance of what was prepared last: each sees its data and zeros.
fn start_prepared(stage: &mut Stage<'_>) -> bool {
    let Ok(account) = stage.world.budgets.account(stage.id) else { return false };
    let mut store = stage.world.store_of(account);
    let pre = stage.prepared.last().unwrap();
    let Ok(instance) = pre.instantiate(&mut store, |account| account) else { return false };
    let mut bytes = fresh();
    bytes[100..][..LARGE].fill(b'x');
    stage.live.push(Live { store, instance, bytes });
    stage.live.last_mut().unwrap().use_all();
    true
}

fn forget(stage: &mut Stage<'_>) -> bool {
    stage.prepared.clear();
    stage.kept.clear();
    true
}

fn share(stage: &mut Stage<'_>) -> bool {
    let ty = MemoryType::shared(2, 9);
    let made = stage.world.budgets.shared_memory(&stage.world.engine, stage.id, ty);
    made.map(|memory| stage.shared.push(memory)).is_ok()
}

fn grow_shared(stage: &mut Stage<'_>) -> bool {
    let memory = stage.shared.last().unwrap();
    let before = memory.size();
    let grown = memory.grow(2).is_ok();
    assert_eq!(memory.size(), if grown { before + 2 } else { before });
    grown
}

fn end_shared(stage: &mut Stage<'_>) -> bool {
    stage.shared.clear();
    true
}

/// A memory that the host makes and grows in a guest's store.
fn host_memory(stage: &mut Stage<'_>) -> bool {
    let Ok(account) = stage.world.budgets.account(stage.id) else { return false };
    let mut store = stage.world.store_of(account);
    let made = stage.world.budgets.memory(&mut store, MemoryType::new(1, Some(9)));
    let Ok(memory) = made else { return false };
    let grown = memory.grow(&mut store, 3).is_ok();
    assert_eq!(memory.size(&store), if grown { 4 } else { 1 });
    assert!(memory.data(&store).iter().all(|&byte| byte == 0));
    grown
}

/// A guest that fills a garbage-collected heap: it ends with an error, or is done.
fn objects(stage: &mut Stage<'_>) -> bool {
    let Ok(account) = stage.world.budgets.account(stage.id) else { return false };
    let mut store = stage.world.store_of(account);
    let module = stage.world.module(OBJECTS);
    let Ok(instance) = instantiate(&mut store, &module) else { return false };
    call::<_, i32, ()>(&mut store, instance, "run", 10_000).is_ok()
}

/// A guest in an async store, on a stack of its crate's.
fn on_a_stack(stage: &mut Stage<'_>) -> bool {
    let Ok(account) = stage.world.budgets.account(stage.id) else { return false };
    let handle = account.handle().clone();
    let mut store = Store::new(&stage.world.engine, account);
    store.limiter_async(|account| account);
    let module = &stage.module;
    let run = Scope::run(handle, async {
        let instance = Instance::new_async(&mut store, module, &[]).await?;
        let grow = instance.get_typed_func::<i32, i32>(&mut store, "grow")?;
        grow.call_async(&mut store, 2).await
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    matches!(runtime.block_on(run), Ok(2))
}

const STORIES: &[Story] = &[
    Story {
        name: "mapped",
        layout: Layout::Mapped,
        steps: &[
            start,
            |stage| grow(stage, 3),
            grow_table,
            start,
            |stage| grow(stage, 1),
            end,
            end,
            host_memory,
            share,
            grow_shared,
            end_shared,
            objects,
        ],
    },
    Story {
        name: "refusals trap",
        layout: Layout::Mapped,
        steps: &[
            |stage| start_of(stage, OnDenial::Trap),
            |stage| grow(stage, 3),
            grow_table,
            |stage| grow(stage, 4),
            end,
        ],
    },
    Story {
        name: "throughput",
        layout: Layout::Throughput,
        steps: &[start, |stage| grow(stage, 3), start, end, end, start, |stage| grow(stage, 7), end, start],
    },
    Story {
        name: "density",
        layout: Layout::Density,
        steps: &[start, |stage| grow(stage, 3), start, end, end, start, |stage| grow(stage, 7), end, start],
    },
    Story {
        name: "images on mapped pages",
        layout: Layout::Mapped,
        steps: &[prepare, start_prepared, |stage| grow(stage, 2), load, start_prepared, end, end, forget],
    },
    Story {
        name: "images on warm slots",
        layout: Layout::Throughput,
        steps: &[
            prepare,
            start_prepared,
            |stage| grow(stage, 2),
            end,
            start_prepared,
            load,
            start_prepared,
            end,
            end,
            forget,
            start,
        ],
    },
    Story {
        name: "images in dense slots",
        layout: Layout::Density,
        steps: &[prepare, start_prepared, |stage| grow(stage, 2), end, start_prepared, end, forget, start],
    },
    Story { name: "async stacks", layout: Layout::Stacks, steps: &[on_a_stack, on_a_stack] },
];

fn world(layout: Layout) -> World {
    let mapped = ProviderSelector::of_platform();
    let warm = || ProviderSelector::of_platform().with_pooled(PooledProvider::new());
    match layout {
        Layout::Mapped => World::on(mapped, TOTAL, |_| {}, |budgets| budgets),
        Layout::Throughput => World::on(warm(), TOTAL, |_| {}, Budgets::throughput),
        Layout::Density => World::on(warm(), TOTAL, |_| {}, |budgets| budgets.density(MOST)),
        Layout::Stacks => World::on(mapped, TOTAL, |_| {}, |budgets| budgets.charge_stacks(true)),
    }
}

/// What no refusal may change. What warm slots keep is left out: that comes and goes by itself.
fn figures(world: &World, id: CrateId) -> [usize; 5] {
    let node = world.manager.node(id).unwrap();
    [node.used, node.requested, node.floor, node.limit, node.waiting.into()]
}

/// Runs a story; in its step `at` the `k`th call fails. Returns which that was, if there are as many.
fn run(story: &Story, at: usize, k: usize) -> Option<Call> {
    let world = world(story.layout);
    let id = world.manager.register("guest", CrateSettings::new()).unwrap();
    let mut stage = Stage {
        world: &world,
        id,
        module: world.module(GUEST),
        live: Vec::new(),
        prepared: Vec::new(),
        kept: Vec::new(),
        shared: Vec::new(),
    };
    let mut refused = None;
    for (number, step) in story.steps.iter().enumerate() {
        let before = figures(&world, id);
        fail_at(if number == at { k } else { 0 });
        let done = step(&mut stage);
        if number == at {
            refused = failed();
        }
        fail_at(0);
        if done {
            continue;
        }
        let (name, here) = (story.name, number == at);
        assert!(here && refused.is_some(), "{name} {number}: failed of itself");
        assert_eq!(figures(&world, id), before, "{name} {number}: {refused:?}, and something changed");
        stage.live.iter_mut().for_each(Live::use_all);
        assert!(step(&mut stage), "{name} {number}: after {refused:?} it cannot be done again");
    }
    drop((stage.live, stage.prepared, stage.kept, stage.shared));
    world.all_back([id]);
    refused
}

#[test]
fn every_call_can_be_refused_and_nothing_is_lost() {
    let mut seen: BTreeMap<Call, usize> = BTreeMap::new();
    let mut steps = 0;
    for story in STORIES {
        for at in 0..story.steps.len() {
            steps += 1;
            let mut k = 1;
            while let Some(call) = run(story, at, k) {
                *seen.entry(call).or_default() += 1;
                k += 1;
            }
        }
    }
    // `cargo xtask faults` reads this.
    println!("faults: {} in {steps} steps: {seen:?}", seen.values().sum::<usize>());
    let calls = [
        Call::Charge,
        Call::Reserve,
        Call::Commit,
        Call::Image,
        Call::Fresh,
        Call::Open,
        Call::Close,
        Call::Empty,
        Call::File,
        Call::View,
        Call::Runtime,
    ];
    let missed: Vec<_> = calls.iter().filter(|call| !seen.contains_key(call)).collect();
    assert!(missed.is_empty(), "never refused: {missed:?}");
}
