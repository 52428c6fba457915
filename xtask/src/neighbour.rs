//! `cargo xtask neighbour`: what a guest that loops on refused growth costs the guest beside it. The work is
//! `benches/src/bin/neighbour.rs`.

use anyhow::Result;

use crate::tools::{bench_program, execute};

/// Measure short instances beside a guest that loops on refused growth, and beside wasmtime's best
#[derive(clap::Args)]
pub struct Args {
    /// Lives in one turn
    #[arg(long, default_value_t = 4000)]
    lives: usize,

    /// Turns of each contender
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let mut command = bench_program("neighbour");
    execute(command.args([args.lives.to_string(), args.rounds.to_string()]))
}
