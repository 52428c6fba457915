//! `cargo xtask density`: very many live instances in one process. The work is `benches/src/bin/density.rs`.

use anyhow::Result;

use crate::tools::{bench_program, execute};

/// Keep 100,000 instances of one small guest alive in one process: addresses, mappings, resident bytes, rate
#[derive(clap::Args)]
pub struct Args {
    /// How many
    #[arg(default_value_t = 100_000)]
    instances: usize,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let mut command = bench_program("density");
    execute(command.arg(args.instances.to_string()))
}
