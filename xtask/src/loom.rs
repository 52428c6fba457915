//! `cargo xtask loom`: the manager's concurrent protocols under loom, which runs each test once for
//! every way its threads could interleave.

use anyhow::{Context, Result, ensure};

use crate::tools::{cargo, execute_and_read, target_dir};

/// How often loom preempts a thread at most, unless `LOOM_MAX_PREEMPTIONS` says otherwise: without a
/// bound, three threads take days.
const PREEMPTIONS: &str = "3";

/// Run the manager's loom tests: every interleaving within a bound on preemptions
#[derive(clap::Args)]
pub struct Args {
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let preemptions = std::env::var("LOOM_MAX_PREEMPTIONS").unwrap_or_else(|_| PREEMPTIONS.into());
    let mut command = cargo(crate::root());
    command
        .args(["test", "--release", "--package", "wrt-memory", "--lib", "--tests"])
        // Flags of its own: in a folder of its own, so that nothing else is built again.
        .arg("--target-dir")
        .arg(target_dir().join("loom"))
        .env("RUSTFLAGS", "--cfg loom")
        .env("LOOM_MAX_PREEMPTIONS", &preemptions);
    command.arg("--").args(&args.filter);
    let mut passed = 0;
    for line in execute_and_read(&mut command)? {
        if let Some(result) = line.strip_prefix("test result: ok. ") {
            let count = result.split(' ').next().unwrap_or_default();
            passed += count.parse::<usize>().with_context(|| format!("reading {line:?}"))?;
        }
    }
    ensure!(passed > 0, "no loom test was run");
    println!(
        "loom: {passed} tests passed, each over every interleaving with up to {preemptions} preemptions"
    );
    Ok(())
}
