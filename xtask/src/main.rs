//! Tasks of this repository that are more than one command: `cargo xtask` lists them.
//! Each is a module with its `Args` and a `run`; here they are only dispatched.

mod conformance;
mod density;
mod fairness;
mod faults;
mod features;
mod firmware;
mod fuzz;
mod guests;
mod instructions;
mod loom;
mod metal;
mod miri;
mod model;
mod mutants;
mod narrow;
mod neighbour;
mod packages;
mod peers;
mod platforms;
mod prove;
mod runtime;
mod surface;
mod tools;
mod tsan;
mod unsafe_blocks;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Tasks of this repository")]
struct Xtask {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    Conformance(conformance::Args),
    Density(density::Args),
    Fairness(fairness::Args),
    Faults(faults::Args),
    Features(features::Args),
    Firmware(firmware::Args),
    Fuzz(fuzz::Args),
    Guests(guests::Args),
    Instructions(instructions::Args),
    Loom(loom::Args),
    Metal(metal::Args),
    Miri(miri::Args),
    Model(model::Args),
    Mutants(mutants::Args),
    Narrow(narrow::Args),
    Neighbour(neighbour::Args),
    Peers(peers::Args),
    Platforms(platforms::Args),
    Prove(prove::Args),
    Surface(surface::Args),
    Tsan(tsan::Args),
    Unsafe(unsafe_blocks::Args),
}

fn main() -> ExitCode {
    if let Some(code) = fuzz::as_wrapper() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match Xtask::parse().task {
        None => Ok(Xtask::command().print_help()?),
        Some(Task::Conformance(args)) => conformance::run(&args),
        Some(Task::Density(args)) => density::run(&args),
        Some(Task::Fairness(args)) => fairness::run(&args),
        Some(Task::Faults(args)) => faults::run(&args),
        Some(Task::Features(args)) => features::run(&args),
        Some(Task::Firmware(args)) => firmware::run(&args),
        Some(Task::Fuzz(args)) => fuzz::run(&args),
        Some(Task::Guests(args)) => guests::run(&args),
        Some(Task::Instructions(args)) => instructions::run(&args),
        Some(Task::Loom(args)) => loom::run(&args),
        Some(Task::Metal(args)) => metal::run(&args),
        Some(Task::Miri(args)) => miri::run(&args),
        Some(Task::Model(args)) => model::run(&args),
        Some(Task::Mutants(args)) => mutants::run(&args),
        Some(Task::Narrow(args)) => narrow::run(&args),
        Some(Task::Neighbour(args)) => neighbour::run(&args),
        Some(Task::Peers(args)) => peers::run(&args),
        Some(Task::Platforms(args)) => platforms::run(&args),
        Some(Task::Prove(args)) => prove::run(&args),
        Some(Task::Surface(args)) => surface::run(&args),
        Some(Task::Tsan(args)) => tsan::run(&args),
        Some(Task::Unsafe(args)) => unsafe_blocks::run(&args),
    }
}

/// The root of the workspace.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}
