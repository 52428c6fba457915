//! An interrupt handler that allocates and frees while main does: on a core without
//! compare-and-swap it is critical sections that keep the ledger and the region whole.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;
use critical_section::Mutex;
use firmware_board::say;
use wrt_memory::{CrateId, CrateSettings};

use crate::Manager;

/// How often the handler must have run before main stops.
const INTERRUPTS: u32 = 2000;

/// Bytes that the handler takes, and main.
const HANDLER_BYTES: usize = 100;
const MAIN_BYTES: usize = 400;

/// What the handler works with.
static HANDLER: Mutex<Cell<Option<(Manager, CrateId)>>> = Mutex::new(Cell::new(None));
/// How often it has run. Only the handler writes it.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// The first timer of the nRF51822: reference manual, chapters "Memory map" and "Timer/counter".
#[derive(Clone, Copy)]
struct Timer0;

// SAFETY: the interrupt's number is that of the peripheral, by the reference manual.
unsafe impl InterruptNumber for Timer0 {
    fn number(self) -> u16 {
        8
    }
}

/// A register of it, by its offset.
#[derive(Clone, Copy)]
enum Register {
    TasksStart = 0x000,
    TasksStop = 0x004,
    EventsCompare0 = 0x140,
    Shorts = 0x200,
    IntEnSet = 0x304,
    Prescaler = 0x510,
    Compare0 = 0x540,
}

impl Timer0 {
    const BASE: usize = 0x4000_8000;

    fn write(self, register: Register, value: u32) {
        let register = (Self::BASE + register as usize) as *mut u32;
        // SAFETY: a register of the peripheral at this address: writing to it changes no memory.
        unsafe { register.write_volatile(value) };
    }

    /// An interrupt every 50 microseconds.
    fn start(self) {
        self.write(Register::Prescaler, 4); // 16 MHz / 2^4
        self.write(Register::Compare0, 50);
        self.write(Register::Shorts, 1); // cleared by its compare 0
        self.write(Register::IntEnSet, 1 << 16); // at compare 0
        // SAFETY: no critical section is open that this could break, and the handler is ready.
        unsafe { NVIC::unmask(self) };
        self.write(Register::TasksStart, 1);
    }

    fn stop(self) {
        self.write(Register::TasksStop, 1);
        NVIC::mask(self);
    }
}

/// Runs at any point of main's allocations and frees.
#[exception]
unsafe fn DefaultHandler(interrupt: i16) {
    assert_eq!(interrupt, 8, "an interrupt that nobody asked for");
    Timer0.write(Register::EventsCompare0, 0);
    let (manager, id) =
        critical_section::with(|section| HANDLER.borrow(section).get()).expect("set before the timer");
    let mut block = manager.allocate(id, HANDLER_BYTES).expect("guaranteed");
    assert!(block.as_slice().iter().all(|&byte| byte == 0));
    block.as_mut_slice().fill(0x77);
    drop(block);
    RUNS.store(RUNS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Main and the handler allocate and free beside each other; at the end each has used what one block
/// costs, and nothing is missing.
pub fn charge_beside_main(manager: Manager) {
    let exactly = |bytes| CrateSettings::new().limit(crate::cost(bytes)).guarantee(crate::cost(bytes));
    let handler = crate::register(manager, "handler", exactly(HANDLER_BYTES));
    let main = crate::register(manager, "main", exactly(MAIN_BYTES));
    critical_section::with(|section| HANDLER.borrow(section).set(Some((manager, handler))));
    let mut rounds = 0;
    Timer0.start();
    while RUNS.load(Ordering::Relaxed) < INTERRUPTS {
        let mut block = manager.allocate(main, MAIN_BYTES).expect("guaranteed");
        assert!(block.as_slice().iter().all(|&byte| byte == 0));
        block.as_mut_slice().fill(0x33);
        assert_eq!(manager.deallocate(block), Ok(crate::cost(MAIN_BYTES)));
        rounds += 1;
    }
    Timer0.stop();
    say!("interrupts: {INTERRUPTS} allocated in the midst of {rounds} of main's");
    for (id, bytes) in [(handler, HANDLER_BYTES), (main, MAIN_BYTES)] {
        let node = manager.node(id).expect("registered");
        assert_eq!((node.used, node.high_water, node.denials.total()), (0, crate::cost(bytes), 0));
        crate::retire(manager, id);
    }
}
