//! What a long life does to a static region, beside vectors that double on a first-fit heap.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ptr::NonNull;

use wrt_memory::provider::{Block, Provider, Request, StaticRegionProvider};

/// One guest of a trace.
#[derive(Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
    until: usize,
}

/// Loads and unloads, the same for every allocator: small memories that grow by steps of 1 KiB.
fn trace(seed: u64, longest: usize) -> Vec<Life> {
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    (0..20_000)
        .map(|at| {
            let first = 1024 * (1 + random(8));
            Life { first, last: first + 1024 * random(16), until: at + 1 + random(longest) }
        })
        .collect()
}

/// Where the guests of a trace are.
trait Space {
    /// Whether there is room for all of a guest; it then has it.
    fn load(&mut self, guest: usize, life: &Life) -> bool;
    fn unload(&mut self, guest: usize);
    /// Bytes free, and in the largest piece.
    fn free(&mut self) -> (usize, usize);
}

/// What a trace left behind, in the middle of its life and at the first failure.
#[derive(Clone, Default)]
struct Wear {
    /// Means of `1 - largest free / free`, over all loads.
    fragmentation: f64,
    failures: usize,
    /// Bytes free when a load or a growth failed first.
    free_at_failure: Option<usize>,
}

const ROOM: usize = 192 << 10;

struct Regions {
    region: StaticRegionProvider,
    live: BTreeMap<usize, Block>,
}

impl Regions {
    fn new(room: usize) -> Self {
        Self { region: StaticRegionProvider::new(vec![0; room].leak()), live: BTreeMap::new() }
    }
}

impl Space for Regions {
    fn load(&mut self, guest: usize, life: &Life) -> bool {
        let Ok(block) = self.region.allocate(&Request::new(life.last)) else { return false };
        self.live.insert(guest, block);
        true
    }

    fn unload(&mut self, guest: usize) {
        if let Some(block) = self.live.remove(&guest) {
            // SAFETY: from this region, and nobody else has it.
            unsafe { self.region.free(block) };
        }
    }

    fn free(&mut self) -> (usize, usize) {
        (self.region.free_bytes(), self.region.largest_free())
    }
}

/// `Vec`s that double on a first-fit heap, as stock wasmi's memories on a common embedded allocator.
struct Vectors {
    heap: linked_list_allocator::Heap,
    live: BTreeMap<usize, (NonNull<u8>, usize)>,
}

impl Vectors {
    fn new(room: usize) -> Self {
        let mut heap = linked_list_allocator::Heap::empty();
        // SAFETY: leaked: nobody else's, for good.
        unsafe { heap.init(vec![0u8; room].leak().as_mut_ptr(), room) };
        Self { heap, live: BTreeMap::new() }
    }
}

fn words(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

impl Space for Vectors {
    fn load(&mut self, guest: usize, life: &Life) -> bool {
        let (mut room, mut size) = (life.first, life.first);
        let Ok(mut block) = self.heap.allocate_first_fit(words(room)) else { return false };
        let mut whole = true;
        while whole && size < life.last {
            size += 1024;
            if size > room {
                let larger = size.max(2 * room);
                match self.heap.allocate_first_fit(words(larger)) {
                    Ok(new) => {
                        // SAFETY: from this heap with this layout, and nobody else has it.
                        unsafe { self.heap.deallocate(block, words(room)) };
                        (block, room) = (new, larger);
                    }
                    // The guest gets -1, and stays as large as it is.
                    Err(()) => whole = false,
                }
            }
        }
        self.live.insert(guest, (block, room));
        whole
    }

    fn unload(&mut self, guest: usize) {
        if let Some((block, size)) = self.live.remove(&guest) {
            // SAFETY: as above.
            unsafe { self.heap.deallocate(block, words(size)) };
        }
    }

    fn free(&mut self) -> (usize, usize) {
        (self.heap.free(), largest_hole(&mut self.heap))
    }
}

/// Runs a trace in one space, or the same guests in several: `together`, a guest that one of them has no room for is in
/// none.
fn wear(trace: &[Life], together: bool, spaces: &mut [&mut dyn Space]) -> Vec<Wear> {
    let mut wears = vec![Wear::default(); spaces.len()];
    let mut live: Vec<(usize, usize)> = Vec::new();
    for (guest, life) in trace.iter().enumerate() {
        for (_, gone) in live.extract_if(.., |(until, _)| *until <= guest) {
            spaces.iter_mut().for_each(|space| space.unload(gone));
        }
        live.push((life.until, guest));
        let mut all = true;
        for (space, wear) in spaces.iter_mut().zip(&mut wears) {
            if !space.load(guest, life) {
                all = false;
                wear.failures += 1;
                let free = space.free().0;
                wear.free_at_failure.get_or_insert(free);
            }
        }
        if together && !all {
            spaces.iter_mut().for_each(|space| space.unload(guest));
        }
        for (space, wear) in spaces.iter_mut().zip(&mut wears) {
            let (free, largest) = space.free();
            wear.fragmentation += (1.0 - largest as f64 / free.max(1) as f64) / trace.len() as f64;
        }
    }
    wears
}

/// The least room, in KiB, in which no guest of a trace fails.
fn least_room(trace: &[Life], space: impl Fn(usize) -> Box<dyn Space>) -> usize {
    let fits = |room: usize| {
        let mut space = space(room << 10);
        let mut live: Vec<(usize, usize)> = Vec::new();
        trace.iter().enumerate().all(|(guest, life)| {
            live.extract_if(.., |(until, _)| *until <= guest).for_each(|(_, gone)| space.unload(gone));
            live.push((life.until, guest));
            space.load(guest, life)
        })
    };
    (8..).map(|eights| eights * 8).find(|&room| fits(room)).unwrap_or_default()
}

fn largest_hole(heap: &mut linked_list_allocator::Heap) -> usize {
    let (mut fits, mut bound) = (0, heap.free() / 64);
    while fits < bound {
        let middle = fits + (bound - fits).div_ceil(2);
        let layout = words(middle * 64);
        match heap.allocate_first_fit(layout) {
            Ok(block) => {
                // SAFETY: allocated just now with this layout.
                unsafe { heap.deallocate(block, layout) };
                fits = middle;
            }
            Err(()) => bound = middle - 1,
        }
    }
    fits * 64
}

pub fn table() {
    println!("\n20,000 guests of 1 to 24 KiB that come and go in {} KiB (mean of three traces)", ROOM >> 10);
    println!("each by itself: a space that fails more guests has fewer of them in it");
    println!(
        "together: a guest that one of them has no room for is in neither, so both have the same at any time"
    );
    println!(
        "{:>7} {:>28} {:>14} {:>9} {:>22} {:>14} {:>16}",
        "guests", "", "fragmentation", "failures", "free at first failure", "together", "room for all"
    );
    for longest in [8, 16, 24] {
        let traces = [1, 2, 3].map(|seed| trace(seed, longest));
        let mut rows = [Wear::default(), Wear::default()];
        let (mut together, mut rooms) = ([0.0; 2], [0; 2]);
        for trace in &traces {
            let alone = [
                wear(trace, false, &mut [&mut Regions::new(ROOM)]),
                wear(trace, false, &mut [&mut Vectors::new(ROOM)]),
            ];
            for (row, alone) in rows.iter_mut().zip(alone.iter().flatten()) {
                row.fragmentation += alone.fragmentation / 3.0;
                row.failures += alone.failures;
                row.free_at_failure = row.free_at_failure.max(alone.free_at_failure);
            }
            let both = wear(trace, true, &mut [&mut Regions::new(ROOM), &mut Vectors::new(ROOM)]);
            for (sum, wear) in together.iter_mut().zip(both) {
                *sum += wear.fragmentation / 3.0;
            }
            let needed: [usize; 2] = [
                least_room(trace, |room| Box::new(Regions::new(room))),
                least_room(trace, |room| Box::new(Vectors::new(room))),
            ];
            rooms = [rooms[0].max(needed[0]), rooms[1].max(needed[1])];
        }
        let names = ["regions here", "linked_list_allocator + Vec"];
        for (at, (name, row)) in names.into_iter().zip(&rows).enumerate() {
            let free = row.free_at_failure.map_or("-".into(), |free| free.to_string());
            println!(
                "{:>7} {name:>28} {:>14.3} {:>9} {free:>22} {:>14.3} {:>12} KiB",
                longest / 2 + 1,
                row.fragmentation,
                row.failures,
                together[at],
                rooms[at],
            );
        }
        println!(
            "{:>7} {:>28} {:>14.2} {:>9.2} {:>22} {:>14.2} {:>16.2}",
            "",
            "ratio",
            rows[0].fragmentation / rows[1].fragmentation,
            rows[0].failures as f64 / rows[1].failures as f64,
            "",
            together[0] / together[1],
            rooms[0] as f64 / rooms[1] as f64,
        );
        assert!(
            together[0] <= together[1] / 2.0,
            "with the same guests, fragmentation is above half of theirs"
        );
    }
    println!();
}
