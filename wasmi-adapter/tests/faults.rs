//! What the ledger, a provider or an allocator may refuse the adapter, refused, one call after another: in every step of every
//! story the first, the second, the third, until a run has no call left to refuse. A step that fails leaves all figures, and
//! what a guest has, as they were, and can be taken again; one that does not is whole. In the end every byte is back.

use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::Arc;

use wrt_memory::fault::{Call, fail_at, failed};
use wrt_memory::provider::{HeapProvider, ProviderSelector, StaticRegionProvider};
use wrt_memory::{CrateId, CrateSettings, UnifiedMemoryManager};
use wrt_memory_wasmi::{Budgets, Error, Guest, GuestHeap, GuestSettings, OnDenial, Reserve};

#[global_allocator]
static HEAP: GuestHeap<System> = GuestHeap::new(System);

const PAGE: usize = 65536;

/// Bytes of a region.
const ROOM: usize = 64 * PAGE;

/// Two memories and a table, all of which grow.
const GUEST: &str = r#"(module
    (memory $a (export "memory") 1 4) (memory $b (export "second") 1 2) (table 2 1000 funcref)
    (data (memory $a) (i32.const 40) "as it was")
    (func (export "grow") (param i32) (result i32) (memory.grow $a (local.get 0)))
    (func (export "grow_table") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
    (func (export "table_size") (result i32) (table.size)))"#;

/// Where the guests' memories are.
#[derive(Clone, Copy)]
enum Memories {
    Region,
    Heap,
    Platform,
}

/// A guest, and what its first memory must hold.
struct Live {
    guest: Guest<u32>,
    bytes: Vec<u8>,
}

impl Live {
    fn bytes(&self) -> Vec<u8> {
        let memory = self.guest.instance().unwrap().get_memory(self.guest.context(), "memory").unwrap();
        memory.data(self.guest.context()).to_vec()
    }

    /// It has just the bytes it should.
    fn check(&self) {
        if self.guest.instance().is_some() {
            assert!(self.bytes() == self.bytes, "other bytes than it should have");
        }
    }

    /// Then others.
    fn use_all(&mut self) {
        self.check();
        let memory = self.guest.instance().unwrap().get_memory(self.guest.context(), "memory").unwrap();
        let written = self.guest.run(|mut context| memory.data_mut(&mut context).fill(0xA5));
        written.unwrap();
        self.bytes.fill(0xA5);
    }
}

/// What a story has made.
struct Stage<'h> {
    host: &'h Host,
    id: CrateId,
    settings: GuestSettings,
    live: Vec<Live>,
    reserves: Vec<Reserve>,
}

/// Whether it was done. A refusal is the only other end.
type Step = fn(&mut Stage<'_>) -> bool;

struct Story {
    name: &'static str,
    memories: Memories,
    on_denial: OnDenial,
    steps: &'static [Step],
}

fn fresh() -> Vec<u8> {
    let mut bytes = vec![0; PAGE];
    bytes[40..49].copy_from_slice(b"as it was");
    bytes
}

/// A guest without a module.
fn make(stage: &mut Stage<'_>) -> bool {
    let settings = match stage.reserves.last() {
        Some(reserve) => stage.settings.clone().reserve(reserve),
        None => stage.settings.clone(),
    };
    let free = stage.reserves.last().map_or(0, Reserve::free_runtimes);
    let Ok(guest) = Guest::new(&stage.host.budgets, stage.id, settings, 0) else { return false };
    let left = stage.reserves.last().map_or(0, Reserve::free_runtimes);
    assert_eq!(left, free.saturating_sub(1), "a guest takes the room that is there for it");
    stage.live.push(Live { guest, bytes: Vec::new() });
    true
}

/// A guest that runs. One that could not be loaded goes with what it has.
fn start(stage: &mut Stage<'_>) -> bool {
    if !make(stage) {
        return false;
    }
    let live = stage.live.last_mut().unwrap();
    if live.guest.load(&wat::parse_str(GUEST).unwrap()).is_err() {
        stage.live.pop();
        return false;
    }
    live.bytes = fresh();
    live.use_all();
    true
}

fn grow(stage: &mut Stage<'_>) -> bool {
    let live = stage.live.last_mut().unwrap();
    let before = live.bytes.len() / PAGE;
    let grown = matches!(live.guest.call::<i32, i32>("grow", 1), Ok(size) if size as usize == before);
    if grown {
        live.bytes.resize((before + 1) * PAGE, 0);
    }
    live.use_all();
    grown
}

fn grow_table(stage: &mut Stage<'_>) -> bool {
    let live = stage.live.last_mut().unwrap();
    let before: i32 = live.guest.call("table_size", ()).unwrap();
    let grown = live.guest.call::<i32, i32>("grow_table", 100);
    let grown = matches!(grown, Ok(size) if size == before);
    let size: i32 = live.guest.call("table_size", ()).unwrap();
    assert_eq!(size, if grown { before + 100 } else { before });
    live.use_all();
    grown
}

/// What is refused leaves the guest as it was: it still runs.
fn renew(stage: &mut Stage<'_>) -> bool {
    let live = stage.live.last_mut().unwrap();
    let was = *live.guest.data();
    if live.guest.renew(was + 1).is_err() {
        assert_eq!(*live.guest.data(), was);
        let _: i32 = live.guest.call("table_size", ()).unwrap();
        live.use_all();
        return false;
    }
    assert!(matches!(live.guest.call::<(), i32>("table_size", ()), Err(Error::NoSuchFunction { .. })));
    true
}

/// The module that is still compiled. What was made of it before a refusal stays until the guest is renewed.
fn load_again(stage: &mut Stage<'_>) -> bool {
    let live = stage.live.last_mut().unwrap();
    if live.guest.load_again().is_err() {
        let data = *live.guest.data();
        live.guest.renew(data).unwrap();
        return false;
    }
    live.bytes = fresh();
    live.use_all();
    true
}

fn end(stage: &mut Stage<'_>) -> bool {
    stage.live.pop();
    true
}

/// Room for memories and for the runtime.
fn reserve(stage: &mut Stage<'_>) -> bool {
    let reserve = stage.host.budgets.reserve(stage.id, &[4 * PAGE, 2 * PAGE], &[4 * PAGE]);
    reserve.map(|reserve| stage.reserves.push(reserve)).is_ok()
}

fn unreserve(stage: &mut Stage<'_>) -> bool {
    stage.reserves.clear();
    true
}

const LIFE: &[Step] =
    &[make, end, start, grow, grow_table, start, end, grow_table, renew, load_again, grow, renew, end];

const STORIES: &[Story] = &[
    Story { name: "region", memories: Memories::Region, on_denial: OnDenial::Refuse, steps: LIFE },
    Story { name: "heap", memories: Memories::Heap, on_denial: OnDenial::Refuse, steps: LIFE },
    Story { name: "platform", memories: Memories::Platform, on_denial: OnDenial::Refuse, steps: LIFE },
    Story { name: "refusals trap", memories: Memories::Region, on_denial: OnDenial::Trap, steps: LIFE },
    Story {
        name: "reserves",
        memories: Memories::Region,
        on_denial: OnDenial::Refuse,
        steps: &[reserve, start, grow, grow_table, renew, load_again, grow_table, start, end, end, unreserve],
    },
];

struct Host {
    manager: Arc<UnifiedMemoryManager>,
    budgets: Budgets,
}

impl Host {
    fn new(memories: Memories) -> Self {
        let providers = match memories {
            // Leaked: a region is for good.
            Memories::Region => {
                let region = StaticRegionProvider::new(vec![0xAA; ROOM].leak());
                ProviderSelector::new().with_region(region)
            }
            Memories::Heap => ProviderSelector::new().with_heap(HeapProvider::new()),
            Memories::Platform => ProviderSelector::of_platform(),
        };
        let builder = UnifiedMemoryManager::builder().total(ROOM).stock(0).providers(providers);
        let manager = Arc::new(builder.build().unwrap());
        let budgets = Budgets::new(&manager).unwrap();
        assert!(budgets.is_measured());
        Self { manager, budgets }
    }

    /// What no refusal may change. What the runtime holds for itself is counted, and is left out: it may keep an error.
    fn figures(&self, id: CrateId, live: &[Live], reserves: &[Reserve]) -> [usize; 7] {
        let node = self.manager.node(id).unwrap();
        let free = self.manager.providers().region().map_or(0, StaticRegionProvider::free_bytes);
        let rooms = reserves.iter().map(|reserve| reserve.free() + reserve.free_runtimes()).sum();
        let runtime = runtime(live);
        [
            node.used - runtime,
            node.requested - runtime,
            node.held - runtime,
            node.floor,
            node.limit,
            free,
            rooms,
        ]
    }
}

/// Bytes charged for what the runtime holds.
fn runtime(live: &[Live]) -> usize {
    live.iter().map(|live| live.guest.bytes().overhead).sum()
}

/// Most bytes by which that is more after a refusal.
const ERRORS: usize = 512;

/// Runs a story; in its step `at` the `k`th call fails. Returns which that was, if there are as many.
fn run(story: &Story, at: usize, k: usize) -> Option<Call> {
    let host = Host::new(story.memories);
    let id = host.manager.register("guest", CrateSettings::new()).unwrap();
    let empty = host.figures(id, &[], &[]);
    let settings =
        GuestSettings::new().stack(4096, 64).region(4 * PAGE).renewable().on_denial(story.on_denial);
    let mut stage = Stage { host: &host, id, settings, live: Vec::new(), reserves: Vec::new() };
    let mut refused = None;
    for (number, step) in story.steps.iter().enumerate() {
        let (before, held) = (host.figures(id, &stage.live, &stage.reserves), runtime(&stage.live));
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
        let after = host.figures(id, &stage.live, &stage.reserves);
        assert_eq!(after, before, "{name} {number}: {refused:?}, and something changed");
        let more = runtime(&stage.live).saturating_sub(held);
        assert!(more <= ERRORS, "{name} {number}: after {refused:?} the runtime holds {more} bytes more");
        stage.live.iter().for_each(Live::check);
        assert!(step(&mut stage), "{name} {number}: after {refused:?} it cannot be done again");
    }
    drop((stage.live, stage.reserves));
    assert_eq!(host.figures(id, &[], &[]), empty, "{}: bytes are left after {refused:?}", story.name);
    host.manager.retire(id).unwrap();
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
    let calls = [Call::Charge, Call::Region, Call::Runtime, Call::Heap, Call::Reserve, Call::Commit];
    let missed: Vec<_> = calls.iter().filter(|call| !seen.contains_key(call)).collect();
    assert!(missed.is_empty(), "never refused: {missed:?}");
}
