//! `cargo xtask model`: every state that the ledger and the book of loans can come to, with few bytes and
//! few crates, by the shipped code. What is explored, `manager/src/sharing/tests/states.rs` says.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::tools::{cargo, execute_and_read};

/// Explore every state of a few crates and bytes, with all loans and deadlines
#[derive(clap::Args)]
pub struct Args {
    /// Fail where there are more states than this
    #[arg(long, default_value_t = 20_000_000)]
    most: usize,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let mut command = cargo(crate::root());
    command
        .args(["test", "--release", "--package", "wrt-memory", "--lib"])
        .env("WRT_STATES", args.most.to_string())
        .args(["--", "--nocapture", "sharing::tests::states::"]);
    let (mut settings, mut states, mut steps) = (0, 0, 0);
    for line in execute_and_read(&mut command)? {
        // `NAME: N states, M steps`
        let Some((text, rest)) = line.split_once(" states, ") else { continue };
        let number = |text: &str| text.parse::<usize>().with_context(|| format!("reading {line:?}"));
        settings += 1;
        states += number(text.rsplit(' ').next().unwrap_or_default())?;
        steps += number(rest.split(' ').next().unwrap_or_default())?;
    }
    ensure!(settings > 0, "nothing was explored");
    println!(
        "model: {settings} settings, {states} states, all that can be reached, over {steps} steps; {} s",
        started.elapsed().as_secs()
    );
    Ok(())
}
