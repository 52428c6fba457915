//! Any sequence of what hosts and guests do to stores of several crates, beside a model that just adds
//! up: after each step every figure is what the model says.

mod support;

use support::{PAGE, World, call, grow, instantiate};
use wasmtime::{Instance, Memory, MemoryType, SharedMemory, Store};
use wrt_memory::CrateId;
use wrt_memory_wasmtime::StoreAccount;

/// xorshift: the same sequence for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}

/// A thing in a store whose pages are counted.
enum Thing {
    /// A module's memory; pages.
    Module(Instance, usize),
    /// A host-made one: kept by the account; pages.
    Host(Memory, usize),
    /// A module's shared memory; the index among the shared ones.
    Shared(usize),
}

struct Run {
    owner: usize,
    store: Store<StoreAccount>,
    things: Vec<Thing>,
    /// Bytes the account keeps.
    kept: usize,
    /// Bytes of module memories.
    bytes: usize,
}

#[derive(Default)]
struct Model {
    used: [usize; 3],
    most: [usize; 3],
    denied: [u64; 3],
}

impl Model {
    /// Whether a crate can have so many bytes more; it then has them.
    fn take(&mut self, owner: usize, bytes: usize) -> bool {
        let granted =
            self.used[owner] + bytes <= LIMITS[owner] && self.used.iter().sum::<usize>() + bytes <= POOL;
        if granted {
            self.used[owner] += bytes;
            self.most[owner] = self.most[owner].max(self.used[owner]);
        } else {
            self.denied[owner] += 1;
        }
        granted
    }
}

const LIMITS: [usize; 3] = [12 * PAGE, 20 * PAGE, 64 * PAGE];
const POOL: usize = 40 * PAGE;

fn run(seed: u64, steps: usize) {
    let world = World::with(POOL, |_| {}, |budgets| budgets);
    let ids: [CrateId; 3] = std::array::from_fn(|at| world.crate_of(&format!("crate {at}"), LIMITS[at]));
    let hog = world.guest("hog");
    let (empty, failing, two) =
        (world.guest("zero_memory"), world.guest("failed_start"), world.guest("two_memories"));
    let (shared, table) = (world.guest("shared_memory"), world.guest("table_grow"));
    let mut random = Random(seed * 2 + 1);
    let mut model = Model::default();
    let mut runs: Vec<Run> = Vec::new();
    // Shared memories live on their own: owner, memory, pages.
    let mut loose: Vec<(usize, SharedMemory, usize)> = Vec::new();
    for step in 0..steps {
        match random.below(12) {
            0 => {
                let owner = random.below(3);
                let store = world.store(ids[owner]);
                runs.push(Run { owner, store, things: Vec::new(), kept: 0, bytes: 0 });
            }
            1 if !runs.is_empty() => {
                let run = runs.swap_remove(random.below(runs.len()));
                model.used[run.owner] -= run.kept + run.bytes;
                if random.below(2) == 0 {
                    drop(run.store);
                } else {
                    drop(run.store.into_data());
                }
            }
            2 if !loose.is_empty() => {
                let at = random.below(loose.len());
                let (owner, memory, pages) = &mut loose[at];
                let fits = *pages < 16 && model.take(*owner, PAGE);
                assert_eq!(memory.grow(1).is_ok(), fits);
                *pages += usize::from(fits);
            }
            what if !runs.is_empty() => {
                let at = random.below(runs.len());
                let Run { owner, store, things, kept, bytes } = &mut runs[at];
                let owner = *owner;
                match what {
                    3 => {
                        let fits = model.take(owner, PAGE);
                        let made = instantiate(&mut *store, &hog);
                        assert_eq!(made.is_ok(), fits, "{seed}/{step}");
                        if let Ok(instance) = made {
                            things.push(Thing::Module(instance, 1));
                            *bytes += PAGE;
                        }
                    }
                    4 => things.push(Thing::Module(instantiate(&mut *store, &empty).unwrap(), 0)),
                    5 => {
                        // Fails, and stays.
                        if model.take(owner, 4 * PAGE) {
                            *bytes += 4 * PAGE;
                        }
                        instantiate(&mut *store, &failing).unwrap_err();
                    }
                    6 => {
                        // All or nothing: the first goes when the second is refused.
                        let first = model.take(owner, PAGE);
                        let both = first && model.take(owner, PAGE);
                        if first && !both {
                            model.used[owner] -= PAGE;
                        }
                        assert_eq!(instantiate(&mut *store, &two).is_ok(), both);
                        *bytes += if both { 2 * PAGE } else { 0 };
                    }
                    7 => {
                        let pages = random.below(3);
                        let fits = model.take(owner, pages * PAGE);
                        let made = Memory::new(&mut *store, MemoryType::new(pages as u32, None));
                        assert_eq!(made.is_ok(), fits);
                        if let Ok(memory) = made {
                            things.push(Thing::Host(memory, pages));
                            *kept += pages * PAGE;
                        }
                    }
                    8 => {
                        let fits = model.take(owner, PAGE);
                        let made = instantiate(&mut *store, &shared);
                        assert_eq!(made.is_ok(), fits);
                        if let Ok(instance) = made {
                            let memory = instance.get_shared_memory(&mut *store, "memory").unwrap();
                            things.push(Thing::Shared(loose.len()));
                            loose.push((owner, memory, 1));
                        }
                    }
                    9 => {
                        let fits = model.take(owner, 80);
                        assert_eq!(instantiate(&mut *store, &table).is_ok(), fits);
                        *kept += if fits { 80 } else { 0 };
                    }
                    _ if !things.is_empty() => {
                        let more = random.below(4);
                        let at = random.below(things.len());
                        match &mut things[at] {
                            Thing::Module(instance, pages) => {
                                let fits = more == 0 || model.take(owner, more * PAGE);
                                let was = grow(&mut *store, *instance, more as i32);
                                assert_eq!(was, if fits { *pages as i32 } else { -1 });
                                *pages += if fits { more } else { 0 };
                                *bytes += if fits { more * PAGE } else { 0 };
                            }
                            Thing::Host(memory, pages) => {
                                let fits = more == 0 || model.take(owner, more * PAGE);
                                assert_eq!(memory.grow(&mut *store, more as u64).is_ok(), fits);
                                *pages += if fits { more } else { 0 };
                                *kept += if fits { more * PAGE } else { 0 };
                                assert_eq!(memory.data_size(&mut *store), *pages * PAGE);
                            }
                            Thing::Shared(index) => {
                                let (_, memory, pages) = &mut loose[*index];
                                let fits =
                                    more == 0 || (*pages + more <= 16 && model.take(owner, more * PAGE));
                                assert_eq!(memory.grow(more as u64).is_ok(), fits);
                                *pages += if fits { more } else { 0 };
                            }
                        }
                    }
                    _ => {}
                }
                assert_eq!(runs[at].store.data().kept(), runs[at].kept, "{seed}/{step}");
            }
            _ => {}
        }
        for (at, id) in ids.iter().enumerate() {
            let seen = world.figures(*id);
            let told = (model.used[at], model.used[at], model.most[at], model.denied[at]);
            assert_eq!((seen.used, seen.requested, seen.high_water, seen.denied), told, "{seed}/{step}/{at}");
        }
    }
    drop(runs);
    drop(loose);
    world.all_back(ids);
}

#[test]
fn any_sequence_is_what_a_model_that_adds_up_says() {
    for seed in 1..=60 {
        run(seed, 200);
    }
}

#[test]
fn a_guest_reads_its_size_as_the_model_has_it() {
    let world = World::new();
    let id = world.crate_of("guest", 20 * PAGE);
    let mut store = world.store(id);
    let instance = instantiate(&mut store, &world.guest("hog")).unwrap();
    let (mut random, mut pages) = (Random(7), 1);
    for _ in 0..1000 {
        let more = random.below(5);
        let fits = pages + more <= 20;
        assert_eq!(grow(&mut store, instance, more as i32), if fits { pages as i32 } else { -1 });
        pages += if fits { more } else { 0 };
        assert_eq!(call::<_, (), i32>(&mut store, instance, "size", ()).unwrap(), pages as i32);
        assert_eq!(world.used(id), pages * PAGE);
    }
    drop(store);
    world.all_back([id]);
}
