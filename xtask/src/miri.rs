//! `cargo xtask miri`: what uses `unsafe` and needs no operating system, in Miri, which finds undefined
//! behaviour on the paths the tests take, under both models of what a pointer may be used for.
//!
//! Miri is some hundred times slower than the machine. What has no `unsafe` of its own and takes long is
//! left out here by name; what has, says with `cfg!(miri)` how much less of it is run.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::tools::{execute, execute_and_read, target_dir};

/// The models: Stacked Borrows, which is Miri's own choice, and Tree Borrows.
const MODELS: &[(&str, &str)] = &[("stacked", ""), ("tree", "-Zmiri-tree-borrows")];

/// Cases of each property test that does not choose for itself.
const CASES: &str = "4";

/// A package's unit tests, by which it is to run and which not.
struct Tests {
    package: &'static str,
    /// Tests whose name contains one of these; without any, all.
    run: &'static [&'static str],
    /// Not those whose name contains one of these, each with the reason.
    skip: &'static [(&'static str, &'static str)],
}

const TESTS: &[Tests] = &[
    Tests {
        package: "wrt-memory",
        // Where the `unsafe` of the manager is that Miri can run; the ledger itself has none.
        run: &["api::", "budget::charge::", "budget::storage::", "lock::", "provider::", "raw::"],
        skip: &[
            ("pooled::", "mapped pages"),
            ("mapped::", "mapped pages"),
            ("linux::", "mapped pages"),
            ("selector::", "no `unsafe`"),
            ("absurd", "no `unsafe` is come to: all is refused"),
            ("gauge", "threads and clocks, without `unsafe`"),
            ("the_next_manager_of_a_storage", "many crates"),
        ],
    },
    // Guests are run by the interpreter, which is not ours to check: of the adapter what hands bytes out.
    Tests { package: "wrt-memory-wasmi", run: &["region::", "heap::"], skip: &[] },
];

/// Run the tests of what uses `unsafe` in Miri, under both borrow models
#[derive(clap::Args)]
pub struct Args {
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    add_miri()?;
    let mut passed = Vec::new();
    for (model, flags) in MODELS {
        let mut tests = 0;
        for Tests { package, run, skip } in TESTS {
            println!("{package}, {model} borrows");
            let mut command = Command::new("rustup");
            command
                .current_dir(crate::root())
                .args(["run", "nightly", "cargo", "miri", "test", "--package", package, "--lib"])
                // Another compiler: in a folder of its own, so that nothing else is built again.
                .arg("--target-dir")
                .arg(target_dir().join("miri"))
                .env("MIRIFLAGS", format!("-Zmiri-disable-isolation {flags}"))
                .env("PROPTEST_CASES", CASES)
                .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
                .env("RUSTFLAGS", "")
                // These are of the toolchain that runs this.
                .env_remove("CARGO")
                .env_remove("RUSTC")
                .args(["--", "--test-threads=1", "-Zunstable-options", "--report-time"]);
            for (name, _) in *skip {
                command.args(["--skip", name]);
            }
            match &args.filter {
                Some(filter) => command.arg(filter),
                None => command.args(*run),
            };
            for line in execute_and_read(&mut command)? {
                tests += passed_in(&line)?.unwrap_or_default();
            }
        }
        ensure!(tests > 0, "no test was run under {model} borrows");
        passed.push(tests);
    }
    ensure!(
        passed.iter().all(|tests| *tests == passed[0]),
        "not the same tests under each model: {passed:?}"
    );
    println!(
        "miri: {} tests passed under each of {} borrow models; {} s",
        passed[0],
        MODELS.len(),
        started.elapsed().as_secs()
    );
    Ok(())
}

/// Adds nightly and its Miri, unless they are there.
fn add_miri() -> Result<()> {
    let there = Command::new("rustup").args(["run", "nightly", "cargo", "miri", "--version"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("adding nightly with miri and rust-src");
    let install = ["toolchain", "install", "nightly", "--profile", "minimal"];
    execute(Command::new("rustup").args(install).args(["--component", "miri", "--component", "rust-src"]))
}

/// Reads `test result: ok. 12 passed; 0 failed; ...`.
fn passed_in(line: &str) -> Result<Option<usize>> {
    let Some((_, rest)) = line.split_once("test result: ok. ") else { return Ok(None) };
    let (number, _) = rest.split_once(" passed;").with_context(|| format!("reading {line:?}"))?;
    Ok(Some(number.parse().with_context(|| format!("reading {line:?}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_tests_is_read() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out";
        assert_eq!(passed_in(line).unwrap(), Some(12));
        assert_eq!(passed_in("running 12 tests").unwrap(), None);
        assert!(passed_in("test result: ok. some passed; 0 failed").is_err());
    }
}
