//! `cargo xtask faults`: what the ledger, the system or an allocator may refuse, refused at each point in turn. The stories,
//! and what must hold after each refusal, are in `manager/src/fault/tests.rs` and in `tests/faults.rs` of both adapters.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use crate::tools::{cargo, execute_and_read};

/// Who has stories.
const STORIES: usize = 3;

/// Refuse every charge, mapping, protection change, commit and fallible allocation of the manager and of both adapters in turn
#[derive(clap::Args)]
pub struct Args {}

/// Runs the task.
pub fn run(Args {}: &Args) -> Result<()> {
    let mut command = cargo(crate::root());
    command.args(["test", "--package", "wrt-memory", "--lib", "--locked"]).args([
        "--",
        "--nocapture",
        "fault::tests::every_call_can_be_refused_and_nothing_is_lost",
    ]);
    let mut lines = execute_and_read(&mut command)?;
    // The whole workspace: wasmtime is built already, with these features.
    let mut command = cargo(crate::root());
    command.args(["test", "--workspace", "--test", "faults", "--locked"]).args([
        "--features",
        "wrt-memory-wasmtime/faults,wrt-memory-wasmi/faults",
        "--",
        "--nocapture",
    ]);
    lines.extend(execute_and_read(&mut command)?);
    let stories: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("faults: ")).collect();
    ensure!(stories.len() == STORIES, "{} of {STORIES} tests told what they refused", stories.len());
    let (mut calls, mut steps, mut kinds) = (0, 0, BTreeSet::new());
    for line in stories {
        let told = Told::read(line).with_context(|| format!("reading {line:?}"))?;
        ensure!(told.calls > 0, "no call was refused: {line}");
        calls += told.calls;
        steps += told.steps;
        kinds.extend(told.kinds);
    }
    println!(
        "faults: {calls} calls of {} kinds refused, one after another, in {steps} steps; nothing lost",
        kinds.len()
    );
    Ok(())
}

/// What a test says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Told<'a> {
    calls: usize,
    steps: usize,
    kinds: Vec<&'a str>,
}

impl<'a> Told<'a> {
    /// Reads `50 in 44 steps: {Reserve: 3, Commit: 47}`.
    fn read(line: &'a str) -> Option<Self> {
        let (calls, rest) = line.split_once(" in ")?;
        let (steps, kinds) = rest.split_once(" steps: ")?;
        let kinds = kinds.strip_prefix('{')?.strip_suffix('}')?.split(", ");
        let kinds = kinds.map(|kind| kind.split_once(": ").map(|(name, _)| name)).collect::<Option<_>>()?;
        Some(Self { calls: calls.parse().ok()?, steps: steps.parse().ok()?, kinds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_read() {
        let told = Told { calls: 50, steps: 44, kinds: vec!["Reserve", "Commit"] };
        assert_eq!(Told::read("50 in 44 steps: {Reserve: 3, Commit: 47}"), Some(told));
        assert_eq!(Told::read("50 in some steps: {Reserve: 3}"), None);
    }
}
