//! What every firmware here stands on, and what its figures come from: printing and the exit
//! status over semihosting, the end of the program where an assertion fails or the core faults,
//! the deepest the stack ever was, and the most that heap and region ever had in use.
//!
//! The linker scripts put the stack at the bottom of RAM: a stack that overflows runs into
//! addresses where nothing is and faults, instead of writing over the statics.
#![no_std]

#[cfg(feature = "heap")]
mod heap;

use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, STACK_PAINT_VALUE, exception};
use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
pub use cortex_m_semihosting::hprintln as say;

#[cfg(feature = "heap")]
pub use heap::WatchedHeap;

/// Most bytes in use ever, and bytes there are.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// Most bytes in use so far.
    pub bytes: usize,
    /// Bytes there are.
    pub of: usize,
}

impl Peak {
    /// Prints it as the line that `cargo xtask firmware` reads.
    pub fn report(&self, what: &str) {
        say!("peak {what}: {} of {} bytes", self.bytes, self.of);
    }
}

/// The deepest the stack has been since reset: the words from its end that still have the paint
/// which the start-up code put there were never used.
#[must_use]
pub fn stack_peak() -> Peak {
    unsafe extern "C" {
        /// The lowest word of the stack; `memory.x` defines it.
        static _stack_end: u32;
        /// One past its highest word.
        static _stack_start: u32;
    }
    let (mut word, start) = (&raw const _stack_end, &raw const _stack_start);
    let of = start.addr() - word.addr();
    // SAFETY: every word from `_stack_end` up to `_stack_start` is RAM, aligned and initialised by
    // the paint; the loop stays below `start`. Volatile, since the words near the top are in use.
    while word < start && unsafe { word.read_volatile() } == STACK_PAINT_VALUE {
        word = word.wrapping_add(1);
    }
    Peak { bytes: start.addr() - word.addr(), of }
}

/// Ends the program with exit status 0.
pub fn succeed() -> ! {
    exit(EXIT_SUCCESS);
    halt()
}

fn fail() -> ! {
    exit(EXIT_FAILURE);
    halt()
}

/// Where the debugger lets the program go on after its end.
fn halt() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("{info}");
    fail()
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    say!("hard fault at {:#010x}", frame.pc());
    fail()
}
