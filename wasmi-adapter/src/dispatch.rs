//! Whether this build of wasmi can run guests without their using up the host's stack.
//!
//! wasmi's tail-call dispatch leaves a native frame behind for every instruction that the compiler
//! could not turn into a sibling call, `memory.grow` and `table.grow` among them, granted or refused. A
//! guest that loops on a refused growth then ends the process. `portable-dispatch` returns from every
//! instruction. Which one is built is decided by Cargo features of the whole program, and by nothing a
//! crate can see; so it is measured, by how much deeper the stack is after some refused growths.

use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

use wasmi::{Config, Engine, Instance, Linker, Module, Store};

use crate::error::Error;

/// `(module (import "" "" (func)) (table 0 0 funcref) (func (export "") (local i32) call 0
/// (loop (drop (table.grow 0 (ref.null func) (i32.const 1))) (br_if 0 (i32.ne (i32.const 64)
/// (local.tee 0 (i32.add (local.get 0) (i32.const 1)))))) call 0))`
#[rustfmt::skip]
const PROBE: &[u8] = &[
    0, b'a', b's', b'm', 1, 0, 0, 0,
    1, 4, 1, 0x60, 0, 0,
    2, 5, 1, 0, 0, 0, 0,
    3, 2, 1, 0,
    4, 5, 1, 0x70, 1, 0, 0,
    7, 4, 1, 0, 0, 1,
    10, 34, 1, 32, 1, 1, 0x7f,
        0x10, 0,
        0x03, 0x40,
            0xd0, 0x70, 0x41, 1, 0xfc, 15, 0, 0x1a,
            0x41, 0xc0, 0, 0x20, 0, 0x41, 1, 0x6a, 0x22, 0, 0x47, 0x0d, 0,
        0x0b,
        0x10, 0,
    0x0b,
];

/// Growths the probe asks for, in vain.
const CALLS: u32 = 64;

/// What a stack may be deeper by: a growth leaves at least a word where it leaves anything.
const TOLERATED: usize = CALLS as usize * size_of::<usize>() / 2;

/// 0: not tried yet; 1: safe; else bytes used plus 1.
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Tries once for the program.
pub(crate) fn check() -> Result<(), Error> {
    // Under Miri there is no stack: every local has an address of its own.
    if cfg!(miri) {
        return Ok(());
    }
    let mut seen = SEEN.load(Ordering::Relaxed);
    if seen == 0 {
        let used = stack_used()?;
        seen = if used > TOLERATED { used + 1 } else { 1 };
        SEEN.store(seen, Ordering::Relaxed);
    }
    verdict(seen - 1)
}

fn verdict(used: usize) -> Result<(), Error> {
    if used > TOLERATED { Err(Error::Dispatch { bytes: used, calls: CALLS }) } else { Ok(()) }
}

/// How much deeper the stack is after the growths than before.
fn stack_used() -> Result<usize, Error> {
    let mut config = Config::default();
    config.set_min_stack_height(0);
    let engine = Engine::new(&config);
    let mut store = Store::new(&engine, [0usize; 2]);
    let mut linker = <Linker<[usize; 2]>>::new(&engine);
    let defined = linker.func_wrap("", "", |mut caller: wasmi::Caller<'_, [usize; 2]>| {
        let here = 0u8;
        let depth = black_box(&raw const here).addr();
        let depths = caller.data_mut();
        *depths = [depths[1], depth];
    });
    defined.map_err(wasmi::Error::from)?;
    let module = Module::new(&engine, PROBE)?;
    let instance: Instance = linker.instantiate_and_start(&mut store, &module)?;
    instance.get_typed_func::<(), ()>(&store, "")?.call(&mut store, ())?;
    let [before, after] = *store.data();
    Ok(before.abs_diff(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_9_this_build_leaves_nothing_on_the_stack() {
        assert_eq!(stack_used().unwrap(), 0);
        check().unwrap();
    }

    #[test]
    fn trap_9_a_build_that_leaves_a_word_a_growth_is_refused() {
        let left = CALLS as usize * size_of::<usize>();
        assert!(matches!(verdict(left), Err(Error::Dispatch { calls: CALLS, bytes }) if bytes == left));
        verdict(0).unwrap();
    }

    #[test]
    fn the_probe_is_the_module_it_says_it_is() {
        let text = r#"(module (import "" "" (func)) (table 0 0 funcref)
            (func (export "") (local i32) call 0
              (loop (drop (table.grow 0 (ref.null func) (i32.const 1)))
                (br_if 0 (i32.ne (i32.const 64)
                  (local.tee 0 (i32.add (local.get 0) (i32.const 1))))))
              call 0))"#;
        assert_eq!(PROBE, wat::parse_str(text).unwrap());
    }
}
