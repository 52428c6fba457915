//! The manager's targets under libFuzzer: `cargo xtask fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    wrt_memory_fuzz::chosen(wrt_memory_fuzz::TARGETS).run(data);
});
