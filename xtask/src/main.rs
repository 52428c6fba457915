//! Tasks of this repository that are more than one command: `cargo xtask` lists them.
//! Each is a module with its `Args` and a `run`; here they are only dispatched.

mod guests;

use std::path::Path;

use clap::{CommandFactory, Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Tasks of this repository")]
struct Xtask {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    Guests(guests::Args),
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse().task {
        None => Ok(Xtask::command().print_help()?),
        Some(Task::Guests(args)) => guests::run(&args),
    }
}

/// The root of the workspace.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}
