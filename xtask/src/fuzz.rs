//! `cargo xtask fuzz`: the targets in `fuzz/` under libFuzzer, on stable Rust.
//!
//! Without `--seconds` each makes so many executions from one seed of libFuzzer's generator: the same in every clone, as
//! far as a target does the same for the same input, so that a change is not refused for what was there before it. With
//! `--seconds` it is a hunt: another seed each time, from what former hunts came to.
//!
//! Coverage is counted in our crates only, those of the targets too, so that seeds are kept for all that a target can
//! come to: this program is the compiler's wrapper as well, and adds the passes for
//! these. What others wrote is built as always, with all assertions.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::tools::{cargo, execute, target_dir};

/// A target, and how many executions CI has of it.
struct Target {
    name: &'static str,
    program: &'static str,
    executions: u64,
    /// Whether its inputs are modules, with a header.
    modules: bool,
    /// Bytes of the longest input that is made up.
    longest: u32,
}

const TARGETS: &[Target] = &[
    Target { name: "ledger", program: "manager", executions: 8000, modules: false, longest: 500 },
    Target { name: "region", program: "manager", executions: 4000, modules: false, longest: 300 },
    Target { name: "slots", program: "manager", executions: 8000, modules: false, longest: 500 },
    Target { name: "wasmtime", program: "guests", executions: 10000, modules: true, longest: 2000 },
    Target { name: "wasmi", program: "guests", executions: 30000, modules: true, longest: 2000 },
    Target { name: "isolation", program: "guests", executions: 4000, modules: false, longest: 500 },
];

/// Fuzz the manager and both adapters, with coverage as the guide
#[derive(clap::Args)]
pub struct Args {
    /// Only these targets
    targets: Vec<String>,
    /// Hunt for so many seconds in each target, instead of the executions that CI has
    #[arg(long)]
    seconds: Option<u64>,
    /// Keep the fewest inputs that cover what all found inputs do as the seeds that the tests replay
    #[arg(long)]
    seeds: bool,
}

/// Set where this program runs as the compiler's wrapper.
const AS_WRAPPER: &str = "WRT_FUZZ_WRAPPER";

/// What is counted.
const COUNTED: &[&str] =
    &["wrt_memory", "wrt_memory_wasmtime", "wrt_memory_wasmi", "wrt_memory_fuzz", "wrt_memory_fuzz_guests"];

/// What libFuzzer looks at: edges, and what comparisons compare.
const PASSES: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Where cargo has this program run the compiler, does that; else `None`.
pub fn as_wrapper() -> Option<ExitCode> {
    std::env::var_os(AS_WRAPPER)?;
    let mut arguments = std::env::args_os().skip(1);
    let mut command = Command::new(arguments.next()?);
    let arguments: Vec<_> = arguments.collect();
    let mut names = arguments.iter().skip_while(|it| *it != "--crate-name").skip(1);
    if names.next().is_some_and(|name| COUNTED.iter().any(|it| name == it)) {
        command.args(PASSES);
    }
    let status = command.args(&arguments).status();
    Some(if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a run came to.
#[derive(Default)]
struct Figures {
    executions: u64,
    edges: u64,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|target| args.targets.is_empty() || args.targets.iter().any(|name| name == target.name))
        .collect();
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>();
    ensure!(!chosen.is_empty(), "no such target; there are {:?}", names());
    let folder = target_dir().join("fuzz");
    let mut all = Vec::new();
    for program in ["manager", "guests"] {
        let of_program = || chosen.iter().filter(|target| target.program == program);
        if of_program().next().is_none() {
            continue;
        }
        build(program, &folder)?;
        for target in of_program() {
            let figures = fuzz(target, args.seconds, &folder)?;
            if args.seeds {
                keep_seeds(target, &folder)?;
            }
            all.push((target.name, figures));
        }
    }
    let executions: u64 = all.iter().map(|(_, figures)| figures.executions).sum();
    let each: Vec<_> = all
        .iter()
        .map(|(name, Figures { executions, edges })| format!("{name} {executions} ({edges} edges)"))
        .collect();
    println!("fuzz: {} targets, {executions} executions, nothing found: {}", all.len(), each.join(", "));
    Ok(())
}

fn build(program: &str, folder: &Path) -> Result<()> {
    ensure!(
        Command::new("c++").arg("--version").output().is_ok_and(|output| output.status.success()),
        "libFuzzer needs a compiler of C++: install one, `apt-get install g++`"
    );
    let mut command = cargo(&crate::root().join("fuzz/engine"));
    command
        .args(["build", "--locked", "--bin", program])
        .args(if program == "guests" { &["--features", "guests"][..] } else { &[] })
        .env("CARGO_TARGET_DIR", folder)
        .env("RUSTC_WRAPPER", std::env::current_exe()?)
        .env(AS_WRAPPER, "1");
    execute(&mut command)
}

/// A run of a target's program, whose arguments come next.
fn program(target: &Target, folder: &Path) -> Command {
    let mut command = Command::new(folder.join("debug").join(target.program));
    command.env("WRT_FUZZ_TARGET", target.name);
    command
}

fn seeds(target: &Target) -> PathBuf {
    let of = if target.program == "guests" { "fuzz/guests/seeds" } else { "fuzz/seeds" };
    crate::root().join(of).join(target.name)
}

fn made_anew(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    Ok(folder.to_path_buf())
}

fn corpus(target: &Target, folder: &Path) -> Result<PathBuf> {
    let corpus = folder.join("corpus").join(target.name);
    std::fs::create_dir_all(&corpus)?;
    Ok(corpus)
}

/// Of libFuzzer's generator, in CI: any but 0, which is another each time.
const SEED: u32 = 20_261_123;
/// That a target has for its executions, at most.
const SECONDS: u64 = 240;

fn fuzz(target: &Target, hunt: Option<u64>, folder: &Path) -> Result<Figures> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = program(target, folder);
    match hunt {
        Some(seconds) => command.arg(format!("-max_total_time={seconds}")).arg(corpus(target, folder)?),
        None => command
            .args([format!("-seed={SEED}"), format!("-runs={}", target.executions)])
            .arg(format!("-max_total_time={SECONDS}"))
            .arg(made_anew(&folder.join("ci").join(target.name))?),
    };
    command
        .arg(format!("-max_len={}", target.longest))
        .arg(format!("-artifact_prefix={}/{}-", folder.display(), target.name))
        .args(["-print_final_stats=1", "-timeout=20", "-rss_limit_mb=4096"])
        .arg(seeds(target))
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn().with_context(|| format!("running {command:?}"))?;
    // Its ends of the pipe.
    drop(command);
    let (mut figures, mut lines) = (Figures::default(), Vec::new());
    for line in BufReader::new(reader).lines() {
        let line = line?;
        let number = |text: &str| {
            let digits = text.trim().split(' ').next().unwrap_or_default();
            digits.parse().with_context(|| format!("reading {line:?}"))
        };
        if let Some(executions) = line.strip_prefix("stat::number_of_executed_units:") {
            figures.executions = number(executions)?;
        } else if let Some((_, edges)) = line.split_once("\tDONE   cov: ") {
            figures.edges = number(edges)?;
        }
        lines.push(line);
    }
    if !child.wait()?.success() {
        let shown =
            lines.iter().skip_while(|line| !line.contains("panicked") && !line.contains("ERROR: libFuzzer"));
        shown.for_each(|line| println!("{line}"));
        bail!("{}: found something, as above; the input is in {}", target.name, folder.display());
    }
    let Figures { executions, edges } = figures;
    println!("{}: {executions} executions, {edges} edges", target.name);
    let least = if hunt.is_some() { 1 } else { target.executions };
    ensure!(executions >= least, "{}: {executions} executions in {SECONDS} s, of {least}", target.name);
    ensure!(edges > 0, "{}: no coverage was counted", target.name);
    Ok(figures)
}

/// Seeds of a target, at most.
const MOST_SEEDS: usize = 120;

/// Of all that was found, and of the seeds there are, the fewest that take every edge; and of those that take one more
/// or less often, as many as there is place for.
fn keep_seeds(target: &Target, folder: &Path) -> Result<()> {
    let seeds = seeds(target);
    let mut kept: Vec<PathBuf> = Vec::new();
    for (name, counters) in [("edges", "-use_counters=0"), ("counts", "-use_counters=1")] {
        let fewest = made_anew(&folder.join(name).join(target.name))?;
        let mut merge = program(target, folder);
        merge.args(["-set_cover_merge=1", counters, "-timeout=20", "-rss_limit_mb=4096"]);
        execute(merge.args([&fewest, &seeds, &corpus(target, folder)?]).stderr(Stdio::null()))?;
        let files = std::fs::read_dir(&fewest)?.map(|file| Ok(file?.path()));
        let mut files = files.collect::<Result<Vec<_>>>()?;
        files.sort();
        for file in files {
            if kept.len() < MOST_SEEDS && kept.iter().all(|it| it.file_name() != file.file_name()) {
                kept.push(file);
            }
        }
    }
    for file in std::fs::read_dir(&seeds)? {
        let file = file?;
        // These were put there by hand.
        if !file.file_name().to_string_lossy().starts_with("kept-") {
            std::fs::remove_file(file.path())?;
        }
    }
    for file in kept {
        let seed = seeds.join(file.file_name().unwrap_or_default());
        std::fs::copy(&file, &seed)?;
        if target.modules {
            // A module instead of what wasm-smith made it of.
            execute(program(target, folder).env("WRT_FUZZ_KEEP", &seed).arg(&file).stderr(Stdio::null()))?;
        }
    }
    Ok(())
}
