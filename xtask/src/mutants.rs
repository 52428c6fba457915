//! `cargo xtask mutants`: small faults put into the ledger, one at a time; the manager's own tests must fail for each.
//!
//! `cargo-mutants` says which faults there are. They are built [all into one program](switch), which is then run
//! with each of them switched on: first the tests that take a moment, which catch nearly all; what survives them meets every
//! test there is. What survives those too needs a reason in `manager/mutants.toml`: that nothing can tell it from
//! the original, or what would. A reason whose mutant is gone, or is caught by the first tests, is a failure as well.
//!
//! The transitions have mutants of their own in `cargo xtask prove`, which the theorems must refute; here the tests must.

mod run;
mod switch;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::tools::{cargo, execute};
use run::{Outcome, Workshop};

/// What is mutated where nothing else is asked for.
const ALL: &[&str] = &["manager/src/budget", "manager/src/sharing"];

/// What CI has the time for.
const FEW: &[&str] = &[
    "manager/src/budget/credit.rs",
    "manager/src/budget/id.rs",
    "manager/src/budget/pin.rs",
    "manager/src/budget/reclaim.rs",
    "manager/src/budget/registry.rs",
    "manager/src/budget/stock.rs",
    "manager/src/budget/terms.rs",
    "manager/src/sharing/coordinator.rs",
    "manager/src/sharing/loan.rs",
    "manager/src/sharing/matrix.rs",
    "manager/src/sharing/rule.rs",
];

/// Survivors with their reasons.
const REASONS: &str = "manager/mutants.toml";

const VERSION: &str = "27.1.0";

/// Mutate the ledger, and run the manager's tests for each mutant
#[derive(clap::Args)]
pub struct Args {
    /// One part of so many, as `0/10`
    #[arg(long, value_parser = shard)]
    shard: Option<Shard>,
    /// Mutants run at a time; as many as there are processors where it is not said
    #[arg(long)]
    jobs: Option<std::num::NonZeroUsize>,
    /// Only the files that CI has the time for
    #[arg(long, conflicts_with = "files")]
    few: bool,
    /// Only these files or folders
    files: Vec<PathBuf>,
}

/// Each `of`th mutant, from `part` on.
#[derive(Clone, Copy)]
struct Shard {
    part: usize,
    of: usize,
}

/// As `cargo-mutants` lists it.
#[derive(Clone, Debug, Deserialize)]
struct Mutant {
    /// `file:line:column: replace … in function`
    name: String,
    file: String,
    genre: Genre,
    span: Span,
    function: Option<Function>,
    /// What comes into the span's place.
    replacement: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

#[derive(Clone, Debug, Deserialize)]
struct Function {
    /// With the modules of its file that it is in.
    function_name: String,
    span: Span,
}

#[derive(Clone, Debug, Deserialize)]
struct Span {
    start: Place,
    end: Place,
}

/// Counted from 1, a column in letters.
#[derive(Clone, Debug, Deserialize)]
struct Place {
    line: usize,
    column: usize,
}

impl Place {
    /// In bytes.
    fn offset(&self, source: &str) -> usize {
        let lines = source.split_inclusive('\n');
        let before: usize = lines.clone().take(self.line - 1).map(str::len).sum();
        let line = source.split_inclusive('\n').nth(self.line - 1).unwrap_or_default();
        before + line.chars().take(self.column - 1).map(char::len_utf8).sum::<usize>()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reasons {
    survivor: Vec<Reason>,
}

/// Why a mutant may survive. Found by the text of its line, as line numbers move.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    file: String,
    /// The line it is in, without the space around it.
    line: String,
    /// As `cargo-mutants` names it, without the place.
    mutation: String,
    why: String,
    /// That it takes another thread between two steps: so a test may catch it now and then.
    #[serde(default)]
    threads: bool,
}

impl Reason {
    fn is_for(&self, mutant: &Mutant, line: &str) -> bool {
        self.file == mutant.file && self.mutation == mutant.mutation() && self.line == line
    }
}

impl Mutant {
    /// The name without the place.
    fn mutation(&self) -> &str {
        self.name.splitn(4, ':').nth(3).unwrap_or(&self.name).trim()
    }

    /// `cargo-mutants` takes a module for one of tests only where `test` is its whole condition.
    fn is_in_tests(&self) -> bool {
        self.function.as_ref().is_some_and(|function| function.function_name.starts_with("tests::"))
    }

    /// What it replaces.
    fn range(&self, source: &str) -> Range<usize> {
        self.span.start.offset(source)..self.span.end.offset(source)
    }

    /// Whether it is in a function that has this line.
    fn shares_function(&self, file: &str, line: usize) -> bool {
        let function = self.function.as_ref().map(|function| &function.span);
        self.file == file && function.is_some_and(|span| (span.start.line..=span.end.line).contains(&line))
    }
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    find_or_install()?;
    let places = match (args.files.as_slice(), args.few) {
        ([], true) => FEW.iter().map(PathBuf::from).collect(),
        ([], false) => ALL.iter().map(PathBuf::from).collect(),
        (asked, _) => asked.to_vec(),
    };
    let files = arguments(&places)?;
    let text =
        fs::read_to_string(crate::root().join(REASONS)).with_context(|| format!("reading {REASONS}"))?;
    let reasons = toml::from_str::<Reasons>(&text).with_context(|| format!("reading {REASONS}"))?.survivor;

    let mut command = cargo(crate::root());
    command.args(["mutants", "--package", "wrt-memory", "--list", "--json"]).args(&files);
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut listed: Vec<Mutant> =
        serde_json::from_slice(&output.stdout).context("reading the list of mutants")?;
    listed.retain(|mutant| !mutant.is_in_tests());
    let lines = Lines::default();
    let asked_for = |reason: &&Reason| listed.iter().any(|mutant| mutant.file == reason.file);
    for reason in reasons.iter().filter(asked_for) {
        let mut is_there = false;
        for mutant in &listed {
            is_there |= reason.is_for(mutant, &lines.of(mutant)?);
        }
        ensure!(!reason.why.trim().is_empty(), "{REASONS} has no reason for {reason:?}");
        ensure!(is_there, "{REASONS} has a reason for a mutant that is gone: {reason:?}");
    }
    let Shard { part, of } = args.shard.unwrap_or(Shard { part: 0, of: 1 });
    let mutants: Vec<_> = listed.iter().skip(part).step_by(of).cloned().collect();

    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let workshop = Workshop::open(&mutants, args.jobs.map_or_else(processors, usize::from))?;
    let first = workshop.first_round()?;
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    let (mut explained, mut caught) = (vec![false; reasons.len()], Vec::new());
    let (mut with_reason, mut open) = (0, Vec::new());
    for (mutant, outcome) in mutants.iter().zip(first) {
        let line = lines.of(mutant)?;
        let reason = reasons.iter().position(|reason| reason.is_for(mutant, &line));
        match (outcome, reason) {
            (Outcome::Survived, Some(reason)) => {
                explained[reason] = true;
                with_reason += 1;
            }
            (Outcome::Survived, None) => open.push(mutant),
            (_, reason) => {
                caught.extend(reason);
                *counts.entry(outcome).or_default() += 1;
            }
        }
    }
    // One line may have two such mutants, of which this part has one.
    let is_all_here = |reason: &Reason| -> Result<bool> {
        let count = |mutants: &[Mutant]| -> Result<usize> {
            mutants
                .iter()
                .try_fold(0, |sum, mutant| Ok(sum + usize::from(reason.is_for(mutant, &lines.of(mutant)?))))
        };
        Ok(count(&listed)? == count(&mutants)?)
    };
    let mut for_nothing = 0;
    for reason in caught.into_iter().filter(|&reason| !explained[reason] && !reasons[reason].threads) {
        if is_all_here(&reasons[reason])? {
            println!("{REASONS} has a reason for a mutant that is caught: {:?}", reasons[reason]);
            for_nothing += 1;
        }
    }

    let mut unexplained = 0;
    if !open.is_empty() {
        println!("{} survived the first tests; now all of them", open.len());
        for (mutant, outcome) in open.iter().zip(workshop.second_round(&open)?) {
            if outcome == Outcome::Survived {
                println!("survived: {}\n    {}", mutant.name, lines.of(mutant)?);
                unexplained += 1;
            } else {
                println!("caught by the slow tests: {}", mutant.name);
                *counts.entry(outcome).or_default() += 1;
            }
        }
    }

    let count = |outcome| counts.get(&outcome).copied().unwrap_or_default();
    println!(
        "mutants: {} in {} files or folders{}; {} caught, {} timed out, {} did not compile, {} survived with a reason, {} without; {} s",
        mutants.len(),
        places.len(),
        args.shard.iter().map(|shard| format!(", part {}/{}", shard.part, shard.of)).collect::<String>(),
        count(Outcome::Caught),
        count(Outcome::TimedOut),
        count(Outcome::Unviable),
        with_reason,
        unexplained,
        started.elapsed().as_secs()
    );
    ensure!(for_nothing == 0, "take the reasons for what is caught out of {REASONS}");
    ensure!(unexplained == 0, "write a test that catches what survived, or the reason into {REASONS}");
    Ok(())
}

/// Arguments for files and folders, each of which is there.
fn arguments(places: &[PathBuf]) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    for path in places {
        let place = crate::root().join(path);
        ensure!(place.exists(), "{} is not there; paths are from the root of the tree", path.display());
        let path = path.to_str().context("a path that is not text")?;
        arguments.push("--file".to_owned());
        arguments.push(if place.is_dir() { format!("{path}/**") } else { path.to_owned() });
    }
    Ok(arguments)
}

/// Part `k` of `n`, as `k/n` from 0.
fn shard(text: &str) -> Result<Shard> {
    let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    let (part, of): (usize, usize) = parts.with_context(|| format!("{text}: not `k/n`"))?;
    ensure!(part < of, "{text}: parts are counted from 0, so the last is {}", of.saturating_sub(1));
    Ok(Shard { part, of })
}

/// Sources by their lines, each read once.
#[derive(Default)]
struct Lines(std::cell::RefCell<BTreeMap<String, Vec<String>>>);

impl Lines {
    /// The line a mutant is in, without the space around it.
    fn of(&self, mutant: &Mutant) -> Result<String> {
        let mut sources = self.0.borrow_mut();
        if !sources.contains_key(&mutant.file) {
            let text = fs::read_to_string(crate::root().join(Path::new(&mutant.file)))?;
            sources.insert(mutant.file.clone(), text.lines().map(|line| line.trim().to_owned()).collect());
        }
        let line = sources[&mutant.file].get(mutant.span.start.line.wrapping_sub(1));
        line.cloned().with_context(|| format!("{}: the source has no such line", mutant.name))
    }
}

/// Installs `cargo-mutants`, unless it is there.
fn find_or_install() -> Result<()> {
    let there = cargo(crate::root()).args(["mutants", "--version"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("installing cargo-mutants {VERSION}");
    execute(cargo(crate::root()).args([
        "install",
        "cargo-mutants",
        "--version",
        VERSION,
        "--locked",
        "--quiet",
    ]))
}

#[cfg(test)]
mod tests;
