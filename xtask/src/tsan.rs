//! `cargo xtask tsan`: the manager's tests of many threads under ThreadSanitizer, which finds two accesses to the same bytes that
//! nothing orders, where the threads that ran came to both.
//!
//! Everything is compiled with it, the standard library too, so that no order is missed that a lock or a channel makes. The
//! words of 128 bits, which are inline assembly elsewhere and would not be seen, are the compiler's own
//! there: `portable-atomic` sees to that under this sanitizer, where the CPU's instruction for them may be taken for granted.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::tools::{execute_and_read, host, need_nightly, passed_in, target_dir};

/// Fewer tests than this, and something was left out that had been run.
const FLOOR: usize = 31;

/// Tests in files of their own, all of each.
const FILES: &[&str] = &["pressure", "stress", "waiting"];

/// Of the unit tests those whose name contains one of these: all that have threads, but for the clock's.
const UNIT_TESTS: &[&str] =
    &["a_shelf_is_found_by_threads", "concurrent::", "of_many_claimants", "threads_never", "two_threads"];

/// Run the manager's tests of many threads under ThreadSanitizer
#[derive(clap::Args)]
pub struct Args {}

/// Runs the task.
pub fn run(Args {}: &Args) -> Result<()> {
    let started = Instant::now();
    need_nightly(&["rust-src"])?;
    let host = host()?;
    let mut flags = String::from("-Zsanitizer=thread");
    if host.starts_with("x86_64") {
        flags.push_str(" -Ctarget-feature=+cmpxchg16b");
    }
    let mut passed = 0;
    let files = FILES.iter().flat_map(|file| ["--test", file]).collect();
    for (targets, names) in [(files, &[][..]), (vec!["--lib"], UNIT_TESTS)] {
        let mut command = Command::new("rustup");
        command
            .current_dir(crate::root())
            .args(["run", "nightly", "cargo", "test", "-Zbuild-std", "--target", &host, "--locked"])
            .args(["--package", "wrt-memory"])
            .args::<Vec<_>, _>(targets)
            // Another compiler: in a folder of its own, so that nothing else is built again.
            .arg("--target-dir")
            .arg(target_dir().join("tsan"))
            .env("RUSTFLAGS", &flags)
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .env_remove("TSAN_OPTIONS")
            // These are of the toolchain that runs this.
            .env_remove("CARGO")
            .env_remove("RUSTC")
            .args(["--", "--test-threads=1"])
            .args(names);
        for line in execute_and_read(&mut command)? {
            passed += passed_in(&line)?.unwrap_or_default();
        }
    }
    ensure!(
        passed >= FLOOR,
        "{passed} tests were run, where {FLOOR} were when this was written: what is left out now?"
    );
    println!("tsan: {passed} tests passed, no race found; {} s", started.elapsed().as_secs());
    Ok(())
}
