//! `cargo xtask miri`: what uses `unsafe` and needs no operating system, in Miri, which finds undefined
//! behaviour on the paths the tests take, under both models of what a pointer may be used for.
//!
//! Miri is some hundred times slower than the machine. What has no `unsafe` of its own and takes long, or asks the system, is
//! left out here by name, or where it stands with `cfg_attr(miri, ignore)`; what has, says with `cfg!(miri)` how much less of it
//! is run. Nothing in it is by chance: no clock, no file and nothing random comes in from outside.

use std::num::NonZero;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::tools::{execute, execute_and_read, need_nightly, passed_in, target_dir};

/// The models: Stacked Borrows, which is Miri's own choice, and Tree Borrows.
const MODELS: [(&str, &str); 2] = [("stacked", ""), ("tree", "-Zmiri-tree-borrows")];

/// Fewer tests than this under a model, and something was left out that had been run.
const FLOOR: usize = 61;

/// Cases of each property test that does not choose for itself.
const CASES: &str = "4";

/// What the tests may see of the environment: Miri shows them nothing else, so that each run is as the one before.
const SHOWN: &[(&str, &str)] = &[("PROPTEST_CASES", CASES), ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")];

/// Tests of a package, by which it is to run and which not.
struct Tests {
    package: &'static str,
    /// `--lib`, or `--test` and its name.
    target: &'static [&'static str],
    /// Tests whose name contains one of these; without any, all.
    run: &'static [&'static str],
    /// Not those whose name contains one of these, each with the reason.
    skip: &'static [(&'static str, &'static str)],
    /// What of Miri's own checks is switched off, each with the reason.
    without: &'static [(&'static str, &'static str)],
}

const TESTS: &[Tests] = &[
    Tests {
        package: "wrt-memory",
        target: &["--lib"],
        // Where the `unsafe` of the manager is that Miri can run; the ledger itself has none.
        run: &["api::", "budget::charge::", "budget::storage::", "lock::"],
        skip: &[("the_next_manager_of_a_storage", "many crates")],
        without: &[],
    },
    Tests {
        package: "wrt-memory",
        target: &["--lib"],
        run: &["provider::"],
        skip: &[
            ("pooled::", "calls of Linux that Miri does not have"),
            ("linux::", "calls of Linux that Miri does not have"),
            ("selector::", "no `unsafe`"),
        ],
        without: &[],
    },
    // Canaries, what is handed out, and what is freed twice.
    Tests {
        package: "wrt-memory",
        target: &["--lib"],
        run: &[
            "tests::a_write_past",
            "tests::canaries_follow",
            "tests::memory_that",
            "freed_twice",
            "overlaps_a_live",
        ],
        skip: &[],
        without: &[("-Zmiri-ignore-leaks", "what a provider that lies has handed out is lost, on purpose")],
    },
    Tests {
        package: "wrt-memory-wasmi",
        target: &["--lib"],
        run: &["region::", "heap::"],
        skip: &[],
        without: &[],
    },
    Tests {
        package: "wrt-memory-wasmi",
        target: &["--test", "lent"],
        run: &[],
        skip: &[],
        without: &[
            ("-Zmiri-ignore-leaks", "a static region is for good"),
            ("-Zmiri-permissive-provenance", "wasmi makes pointers of integers"),
        ],
    },
];

/// Run the tests of what uses `unsafe` in Miri, under both borrow models
#[derive(clap::Args)]
pub struct Args {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// So many at a time; else as many as there are CPUs
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    need_nightly(&["miri", "rust-src"])?;
    // Compiled once, for both models.
    for tests in TESTS {
        execute(cargo_miri(tests, "").arg("--no-run"))?;
    }
    let runs: Vec<_> =
        (0..MODELS.len()).flat_map(|model| TESTS.iter().map(move |tests| (model, tests))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut passed = [0; MODELS.len()];
        while let Some((model, tests)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            passed[*model] += run_under(MODELS[*model].1, tests, args.filter.as_deref())?;
        }
        anyhow::Ok(passed)
    };
    let jobs = args.jobs.map_or_else(thread::available_parallelism, Ok)?;
    let passed = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.get()).map(|_| scope.spawn(work)).collect();
        let mut passed = [0; MODELS.len()];
        for worker in workers {
            let some = worker.join().expect("no panic there")?;
            passed.iter_mut().zip(some).for_each(|(all, some)| *all += some);
        }
        anyhow::Ok(passed)
    })?;
    let [first, ..] = passed;
    ensure!(passed.iter().all(|tests| *tests == first), "not the same tests under each model: {passed:?}");
    ensure!(
        first >= FLOOR || args.filter.is_some(),
        "{first} tests were run, where {FLOOR} were when this was written: what is left out now?"
    );
    ensure!(first > 0, "no test has such a name");
    println!(
        "miri: {first} tests passed under each of {} borrow models; {} s",
        MODELS.len(),
        started.elapsed().as_secs()
    );
    Ok(())
}

/// Runs tests under a model: how many passed.
fn run_under(model: &str, tests: &Tests, filter: Option<&str>) -> Result<usize> {
    let mut command = cargo_miri(tests, model);
    command.args(["--", "--test-threads=1"]);
    for (name, _) in tests.skip {
        command.args(["--skip", name]);
    }
    match filter {
        Some(filter) => command.arg(filter),
        None => command.args(tests.run),
    };
    let mut passed = 0;
    for line in execute_and_read(&mut command)? {
        passed += passed_in(&line)?.unwrap_or_default();
    }
    Ok(passed)
}

/// The tests, in Miri.
fn cargo_miri(tests: &Tests, model: &str) -> Command {
    let mut flags: Vec<_> = tests.without.iter().map(|(flag, _)| (*flag).to_string()).collect();
    flags.extend(SHOWN.iter().map(|(name, _)| format!("-Zmiri-env-forward={name}")));
    flags.push(model.to_string());
    let mut command = Command::new("rustup");
    command
        .current_dir(crate::root())
        .args(["run", "nightly", "cargo", "miri", "test", "--locked"])
        .args(["--package", tests.package])
        .args(tests.target)
        // Another compiler: in a folder of its own, so that nothing else is built again.
        .arg("--target-dir")
        .arg(target_dir().join("miri"))
        .env("MIRIFLAGS", flags.join(" "))
        .env("RUSTFLAGS", "")
        .envs(SHOWN.iter().copied())
        // These are of the toolchain that runs this.
        .env_remove("CARGO")
        .env_remove("RUSTC");
    command
}
