//! `cargo xtask mutants`: small faults put into the ledger, one at a time, by `cargo-mutants`; the manager's own
//! tests must fail for each.
//!
//! First the tests that take a moment, which catch nearly all; what survives them meets every test there is.
//! What survives those too needs a reason in `manager/mutants.toml`: that nothing can tell it from the
//! original, or what would. A reason whose mutant is gone, or is caught by the first tests, is a failure as well.
//!
//! The transitions have mutants of their own in `cargo xtask prove`, which the theorems must refute; here the tests must.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::tools::{cargo, execute, target_dir};

/// What is mutated where nothing else is asked for: files of which every mutant is caught, or has a reason. The
/// others of the ledger and of sharing can be asked for, and have survivors that nobody has looked at yet.
const FILES: &[&str] = &[
    "manager/src/budget/credit.rs",
    "manager/src/budget/id.rs",
    "manager/src/budget/pin.rs",
    "manager/src/budget/registry.rs",
];

/// Survivors with their reasons.
const REASONS: &str = "manager/mutants.toml";

const VERSION: &str = "27.1.0";

/// Seconds of CPU a test program may take before it counts as one that never ends, in each round.
const CPU: [u32; 2] = [15, 600];

/// A test program that waits for ever uses no CPU: seconds until it is ended.
const WAITING: [u32; 2] = [300, 1800];

/// Cases of each property test in the first round.
const CASES: &str = "32";

/// Left out of the first round: tests whose name contains one of these, with the reason.
const SLOW: &[(&str, &str)] = &[
    ("every_state_of_few_bytes", "a minute"),
    ("a_million_operations", "a minute"),
    ("more_crates_than_seats", "hundreds of crates, with threads"),
    ("10_000", "so many crates"),
    ("100_000", "so many crates"),
    ("so_many_of_all", "thousands of requests"),
    ("provider::", "has nothing of the ledger"),
    ("machine::", "has nothing of the ledger, and waits for clocks"),
    ("lock::", "has nothing of the ledger"),
];

/// Mutate the ledger, and run the manager's tests for each mutant
#[derive(clap::Args)]
pub struct Args {
    /// One part of so many, as `0/10`
    #[arg(long, value_parser = shard)]
    shard: Option<String>,
    /// Only these files or folders
    files: Vec<PathBuf>,
}

/// As `cargo-mutants` lists it.
#[derive(Clone, Debug, Deserialize)]
struct Mutant {
    /// `file:line:column: replace … in function`
    name: String,
    file: String,
    span: Span,
}

#[derive(Clone, Debug, Deserialize)]
struct Span {
    start: Place,
}

#[derive(Clone, Debug, Deserialize)]
struct Place {
    line: usize,
}

#[derive(Deserialize)]
struct Outcomes {
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    scenario: Scenario,
    summary: Summary,
}

#[derive(Deserialize)]
enum Scenario {
    Baseline,
    Mutant(Mutant),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Summary {
    Success,
    CaughtMutant,
    MissedMutant,
    Timeout,
    /// The compiler would not have it.
    Unviable,
    Failure,
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
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    find_or_install()?;
    let files = files(&args.files)?;
    let text =
        fs::read_to_string(crate::root().join(REASONS)).with_context(|| format!("reading {REASONS}"))?;
    let reasons = toml::from_str::<Reasons>(&text).with_context(|| format!("reading {REASONS}"))?.survivor;

    let mut command = mutants();
    command.args(["--list", "--json"]).args(&files);
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let all: Vec<Mutant> = serde_json::from_slice(&output.stdout).context("reading the list of mutants")?;
    let lines = Lines::default();
    let asked_for = |reason: &&Reason| all.iter().any(|mutant| mutant.file == reason.file);
    for reason in reasons.iter().filter(asked_for) {
        let mut is_there = false;
        for mutant in &all {
            is_there |= reason.is_for(mutant, &lines.of(mutant)?);
        }
        ensure!(!reason.why.trim().is_empty(), "{REASONS} has no reason for {reason:?}");
        ensure!(is_there, "{REASONS} has a reason for a mutant that is gone: {reason:?}");
    }

    let shard = args.shard.iter().flat_map(|shard| ["--shard", shard.as_str()]);
    let first = round(0, files.iter().map(String::as_str).chain(shard))?;
    let mut counts: BTreeMap<Summary, usize> = BTreeMap::new();
    let (mut explained, mut open) = (vec![false; reasons.len()], Vec::new());
    let mut caught = Vec::new();
    for (mutant, summary) in first {
        let line = lines.of(&mutant)?;
        let reason = reasons.iter().position(|reason| reason.is_for(&mutant, &line));
        match (summary, reason) {
            (Summary::MissedMutant, Some(reason)) => {
                explained[reason] = true;
                *counts.entry(summary).or_default() += 1;
            }
            (Summary::MissedMutant, None) => open.push(mutant),
            (_, reason) => {
                caught.extend(reason);
                *counts.entry(summary).or_default() += 1;
            }
        }
    }
    if let Some(reason) = caught.into_iter().find(|&reason| !explained[reason]) {
        bail!("{REASONS} has a reason for a mutant that is caught: {:?}", reasons[reason]);
    }

    let mut unexplained = 0;
    let mut caught_by_all = 0;
    if !open.is_empty() {
        println!("{} survived the first tests; now all of them", open.len());
        let names: Vec<_> =
            open.iter().flat_map(|mutant| ["--re".to_owned(), exactly(&mutant.name)]).collect();
        for (mutant, summary) in
            round(1, files.iter().map(String::as_str).chain(names.iter().map(String::as_str)))?
        {
            if summary == Summary::MissedMutant {
                println!("survived: {}\n    {}", mutant.name, lines.of(&mutant)?);
                unexplained += 1;
            } else {
                println!("caught by the slow tests: {}", mutant.name);
                *counts.entry(summary).or_default() += 1;
                caught_by_all += 1;
            }
        }
        ensure!(unexplained + caught_by_all == open.len(), "not every survivor met all tests");
    }

    let count = |summary| counts.get(&summary).copied().unwrap_or_default();
    println!(
        "mutants: {} in {} files or folders{}; {} caught, {} timed out, {} did not compile, {} survived with a reason, {} without; {} s",
        counts.values().sum::<usize>() + unexplained,
        if args.files.is_empty() { FILES.len() } else { args.files.len() },
        args.shard.iter().map(|shard| format!(", part {shard}")).collect::<String>(),
        count(Summary::CaughtMutant),
        count(Summary::Timeout),
        count(Summary::Unviable),
        count(Summary::MissedMutant),
        unexplained,
        started.elapsed().as_secs()
    );
    ensure!(count(Summary::Failure) == 0, "some mutants could not be run");
    ensure!(unexplained == 0, "write a test that catches what survived, or the reason into {REASONS}");
    Ok(())
}

/// Runs mutants, and tells what became of each.
fn round<'a>(number: usize, which: impl Iterator<Item = &'a str>) -> Result<Vec<(Mutant, Summary)>> {
    let folder = target_dir().join("mutants");
    let output = folder.join(["first", "all"][number]);
    fs::create_dir_all(&output)?;
    let mut command = mutants();
    command
        // A copy of the tree has other paths: in a folder of its own, kept, so that only the manager is built for
        // each mutant, and of that what changed.
        .env("CARGO_TARGET_DIR", folder.join("build"))
        .env("CARGO_INCREMENTAL", "1")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .args(["--no-shuffle", "--colors", "never", "--output"])
        .arg(&output)
        .args(["--timeout", &WAITING[number].to_string()])
        // Measured by what it uses, so that a busy machine ends nothing early.
        .arg(format!("--cargo-arg=--config=target.'cfg(unix)'.runner=['prlimit','--cpu={}']", CPU[number]))
        .args(which);
    if number == 0 {
        command.env("PROPTEST_CASES", CASES).args(["--", "--locked", "--lib", "--"]);
        command.args(SLOW.iter().flat_map(|(name, _)| ["--skip", name]));
    } else {
        // The first round saw them pass.
        command.args(["--baseline", "skip", "--", "--locked"]);
    }
    let status = command.status()?;
    // 0: all caught; 2: some survived; 3: some timed out.
    ensure!(matches!(status.code(), Some(0 | 2 | 3)), "{command:?}: {status}");
    let outcomes = output.join("mutants.out/outcomes.json");
    let outcomes = fs::read(&outcomes).with_context(|| format!("reading {}", outcomes.display()))?;
    let outcomes: Outcomes =
        serde_json::from_slice(&outcomes).context("reading what became of the mutants")?;
    let of_mutants = outcomes.outcomes.into_iter().filter_map(|outcome| match outcome.scenario {
        Scenario::Baseline => None,
        Scenario::Mutant(mutant) => Some((mutant, outcome.summary)),
    });
    Ok(of_mutants.collect())
}

/// `cargo mutants` for the manager.
fn mutants() -> Command {
    let mut command = cargo(crate::root());
    command.args(["mutants", "--package", "wrt-memory"]);
    command
}

/// Arguments for the files that are asked for, each of which is there.
fn files(asked: &[PathBuf]) -> Result<Vec<String>> {
    let all: Vec<_> = FILES.iter().map(PathBuf::from).collect();
    let mut arguments = Vec::new();
    for path in if asked.is_empty() { &all } else { asked } {
        let place = crate::root().join(path);
        ensure!(place.exists(), "{} is not there; paths are from the root of the tree", path.display());
        let path = path.to_str().context("a path that is not text")?;
        arguments.push("--file".to_owned());
        arguments.push(if place.is_dir() { format!("{path}/**") } else { path.to_owned() });
    }
    Ok(arguments)
}

/// A regular expression for just this text.
fn exactly(text: &str) -> String {
    let mut pattern = String::from("^");
    for letter in text.chars() {
        // `\<` and `\>` are the ends of words.
        if letter.is_ascii_punctuation() && !matches!(letter, '<' | '>') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('$');
    pattern
}

/// Part `k` of `n`, as `k/n` from 0.
fn shard(text: &str) -> Result<String> {
    let parts =
        text.split_once('/').and_then(|(k, n)| Some((k.parse::<u32>().ok()?, n.parse::<u32>().ok()?)));
    let (part, parts) = parts.with_context(|| format!("{text}: not `k/n`"))?;
    ensure!(part < parts, "{text}: parts are counted from 0, so the last is {}", parts.saturating_sub(1));
    Ok(text.to_owned())
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
mod tests {
    use super::*;

    fn mutant() -> Mutant {
        Mutant {
            name: "a/b.rs:3:9: replace X::f -> bool with true".to_owned(),
            file: "a/b.rs".to_owned(),
            span: Span { start: Place { line: 3 } },
        }
    }

    #[test]
    fn a_reason_is_for_one_mutation_of_one_line_wherever_that_is() {
        let text = |text: &str| text.to_owned();
        let reason = Reason {
            file: text("a/b.rs"),
            line: text("self.0 > 1"),
            mutation: text("replace X::f -> bool with true"),
            why: text("because"),
        };
        assert!(reason.is_for(&mutant(), "self.0 > 1"));
        assert!(!reason.is_for(&mutant(), "self.0 > 2"));
        let other = Mutant { name: text("a/b.rs:3:9: replace X::f -> bool with false"), ..mutant() };
        assert!(!reason.is_for(&other, "self.0 > 1"));
    }

    #[test]
    fn a_part_is_one_of_all() {
        assert_eq!(shard("3/4").unwrap(), "3/4");
        for text in ["4/4", "0/0", "1", "a/b", "-1/3"] {
            assert!(shard(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_matched_to_the_letter() {
        assert_eq!(exactly("a.b -> X<A>"), r"^a\.b \-> X<A>$");
    }
}
