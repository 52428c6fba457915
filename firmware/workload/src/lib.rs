//! The guests of the firmwares, and what they are asked to do: the same for every runtime, so that
//! what two firmwares use can be compared. Every answer is asserted.
//!
//! At any time the guests have at most two WebAssembly pages, 4 KiB in pages of one byte, and 20
//! table elements.
#![no_std]

use firmware_board::say;

/// Bytes in a WebAssembly page.
pub const PAGE: usize = 65536;

/// The bytes of a guest of `wrt-memory-guests`.
macro_rules! wasm {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm"))
    };
}

/// A module, and what it may have.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The guest's name.
    pub name: &'static str,
    /// Its module.
    pub wasm: &'static [u8],
    /// Bytes of linear memory it may have.
    pub memory: usize,
    /// Elements of tables it may have.
    pub elements: usize,
}

/// Runs guests.
pub trait Runtime {
    /// A loaded guest. Dropping it unloads it.
    type Guest: Guest;

    /// Loads a guest, with the limits it is to run in.
    fn load(&self, load: &Load) -> Self::Guest;
}

/// A loaded guest.
pub trait Guest {
    /// Calls an export with at most one argument and one result: `None` where the guest traps.
    fn call(&mut self, export: &str, arguments: &[i32]) -> Option<i32>;

    /// Where its memory is.
    fn memory(&self) -> *const u8;

    /// Calls an export with two arguments and no result, which does not trap.
    fn command(&mut self, export: &str, arguments: [i32; 2]);
}

const TINY_PAGES: Load = Load { name: "tiny_pages", wasm: wasm!("tiny_pages"), memory: 4096, elements: 0 };
const TABLE_GROW: Load = Load { name: "table_grow", wasm: wasm!("table_grow"), memory: 0, elements: 20 };
/// Two pages; for more than this workload.
pub const HOG: Load = Load { name: "hog", wasm: wasm!("hog"), memory: 2 * PAGE, elements: 0 };
/// As the hog, with leave to have 4 GiB: not part of this workload, since `StoreLimits` refuses it
/// everything on 32 bits.
pub const BIG_MAX: Load = Load { name: "big_max", wasm: wasm!("big_max"), memory: 2 * PAGE, elements: 0 };
/// A memory with 64-bit addresses, which must be refused.
pub const MEMORY64: Load = Load { name: "memory64", wasm: wasm!("memory64"), memory: PAGE, elements: 0 };
const DATA_SEGMENT: Load =
    Load { name: "data_segment", wasm: wasm!("data_segment"), memory: PAGE, elements: 0 };
const REFUSED_FOREVER: Load =
    Load { name: "refused_forever", wasm: wasm!("refused_forever"), memory: PAGE, elements: 0 };
/// Calls itself for ever.
pub const RECURSION: Load = Load { name: "recursion", wasm: wasm!("recursion"), memory: PAGE, elements: 0 };

/// Those that can be loaded.
pub const ALL: [&Load; 7] =
    [&HOG, &BIG_MAX, &TINY_PAGES, &TABLE_GROW, &DATA_SEGMENT, &REFUSED_FOREVER, &RECURSION];

/// Runs all of it, the refused `memory.grow` so many times. `watch` sees what is loaded where a look at
/// the budgets is worth it.
pub fn run<R: Runtime>(runtime: &R, refusals: i32, watch: impl Fn(&R, &str)) {
    // The large one first, while free memory is in one piece.
    let mut hog = runtime.load(&HOG);
    let mut tiny = runtime.load(&TINY_PAGES);
    let mut table = runtime.load(&TABLE_GROW);
    take_all(&mut hog);
    small_pages(&mut tiny);
    tables(&mut table);
    watch(runtime, "three guests");
    drop(hog);

    next_in_the_same_bytes(runtime);
    watch(runtime, "without the hog");
    refused(runtime, refusals);
    endless_recursion(runtime);

    // The others are as they were left.
    assert_eq!((tiny.call("size", &[]), table.call("size", &[])), (Some(4096), Some(20)));
}

fn take_all(hog: &mut impl Guest) {
    assert_eq!(hog.call("run", &[]), Some(1), "the hog gets its second page");
    assert_eq!(hog.call("grow", &[1]), Some(-1));
    assert_eq!(hog.call("size", &[]), Some(2));
    say!("hog: got 1 page, then -1");
}

/// What a guest wrote is not there for the next one in its bytes.
fn next_in_the_same_bytes<R: Runtime>(runtime: &R) {
    let mut former = runtime.load(&DATA_SEGMENT);
    let at = former.memory();
    for at in 0..PAGE as i32 {
        former.command("write", [at, 0xa5]);
    }
    drop(former);
    let mut next = runtime.load(&DATA_SEGMENT);
    assert_eq!(next.memory(), at, "the next guest is in the same bytes");
    for at in 0..PAGE as i32 {
        let byte = b"hello".get((at as usize).wrapping_sub(16)).copied().unwrap_or(0);
        assert_eq!(
            next.call("read", &[at]),
            Some(byte.into()),
            "the next guest reads the former one's bytes"
        );
    }
    say!("reuse: the next guest, at {at:p} as the former, reads zeroes and its own data");
}

fn refused<R: Runtime>(runtime: &R, times: i32) {
    let mut guest = runtime.load(&REFUSED_FOREVER);
    assert_eq!(guest.call("run", &[times]), Some(times));
    say!("refused: {times} times memory.grow gave -1, and the guest ended normally");
}

fn endless_recursion<R: Runtime>(runtime: &R) {
    let mut guest = runtime.load(&RECURSION);
    for _ in 0..2 {
        assert_eq!(guest.call("run", &[0]), None, "endless recursion must trap");
    }
    say!("recursion: trapped twice, and the firmware is there");
}

/// 2 KiB in pages of one byte, of which there may be 4 Ki.
fn small_pages(guest: &mut impl Guest) {
    assert_eq!(guest.call("size", &[]), Some(2048));
    assert_eq!(guest.call("grow", &[1000]), Some(2048));
    assert_eq!(guest.call("grow", &[1049]), Some(-1));
    assert_eq!(guest.call("grow", &[1048]), Some(3048));
    assert_eq!(guest.call("size", &[]), Some(4096));
    say!("small pages: grew from 2048 bytes to 4096, and no byte further");
}

fn tables(guest: &mut impl Guest) {
    assert_eq!(guest.call("grow", &[10]), Some(10));
    assert_eq!(guest.call("grow", &[900_000]), Some(-1));
    assert_eq!(guest.call("size", &[]), Some(20));
    say!("table: grew from 10 elements to 20, then -1");
}
