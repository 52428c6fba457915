//! `cargo xtask faults`: what the system or an allocator may refuse the manager, refused at each point in turn. The
//! stories, and what must hold after each refusal, are in `manager/src/fault/tests.rs`.

use anyhow::{Context, Result, ensure};

use crate::tools::{cargo, execute_and_read};

/// Refuse every mapping, protection change, commit and fallible allocation of the manager in turn
#[derive(clap::Args)]
pub struct Args {}

/// Runs the task.
pub fn run(Args {}: &Args) -> Result<()> {
    let mut command = cargo(crate::root());
    command.args(["test", "--package", "wrt-memory", "--lib"]).args([
        "--",
        "--nocapture",
        "fault::tests::every_call_can_be_refused_and_nothing_is_lost",
    ]);
    let lines = execute_and_read(&mut command)?;
    let line = lines.iter().find_map(|line| line.strip_prefix("faults: ")).context("no fault was made")?;
    let (refusals, rest) = line.split_once(" in ").with_context(|| format!("reading {line:?}"))?;
    let (steps, kinds) = rest.split_once(" steps: ").with_context(|| format!("reading {line:?}"))?;
    let refusals: usize = refusals.parse().with_context(|| format!("reading {line:?}"))?;
    ensure!(refusals > 0, "no call was refused");
    let kinds = kinds.matches(':').count();
    println!(
        "faults: {refusals} calls of {kinds} kinds refused, one after another, in {steps} steps; nothing lost"
    );
    Ok(())
}
