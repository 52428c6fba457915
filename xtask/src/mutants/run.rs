//! Builds the mutants and runs the tests with each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Mutant;
use super::switch::{self, Switched, VARIABLE, WHICH};
use crate::tools::{cargo, target_dir};

/// Left out of the first round: tests whose name contains one of these, with the reason.
const SLOW: &[(&str, &str)] = &[
    ("every_state_of_few_bytes", "a minute"),
    ("a_million_operations", "a minute"),
    ("more_crates_than_seats", "hundreds of crates"),
    ("10_000", "so many crates"),
    ("100_000", "so many crates"),
    ("so_many_of_all", "thousands of requests"),
    ("every_call_can_be_refused", "has nothing of the ledger, and takes seconds"),
    ("beside_other_threads", "takes seconds"),
    ("provider::", "has nothing of the ledger"),
    ("machine::", "has nothing of the ledger, and waits for clocks"),
    ("lock::", "has nothing of the ledger"),
];

/// Of the first round, what takes longest: seconds all the same.
const LAST: &[&str] = &["transition::tests", "sequences::"];

/// What a program of tests runs.
enum Tests {
    All,
    /// All but these and the slow ones.
    Without(&'static [&'static str]),
    /// Those whose names have one of these, the slow ones among them.
    Only(&'static [&'static str]),
}

/// The first round, the quickest first.
const FIRST: &[(&str, Tests)] = &[
    ("sharing", Tests::All),
    ("slabs", Tests::All),
    ("slabs_freed", Tests::All),
    ("api", Tests::All),
    ("default_manager", Tests::All),
    (MANAGER, Tests::Without(LAST)),
    // What idles in slots is given back for the ledger.
    (MANAGER, Tests::Only(&["what_is_warm_denies", "without_a_pool_there"])),
    (MANAGER, Tests::Only(LAST)),
    ("pressure", Tests::All),
];

/// The unit tests.
const MANAGER: &str = "wrt_memory";

/// Cases of each property test in the first round.
const CASES: &str = "32";

/// So that a property test tries the same each time.
const SEED: &str = "1";

/// What a test program may use and wait before it counts as one that never ends. What it uses is measured, so that a busy
/// machine ends nothing early.
#[derive(Clone, Copy)]
struct Patience {
    /// Seconds of CPU.
    cpu: u32,
    /// Seconds until one that waits for ever is ended.
    waiting: u32,
}

const IN_FIRST: Patience = Patience { cpu: 15, waiting: 300 };
const IN_SECOND: Patience = Patience { cpu: 600, waiting: 1800 };

/// What the compiler says of a type that does not fit. What it says else of a mutant beside the original may be
/// because of that original.
const OF_TYPES: &[&str] = &["E0277", "E0282", "E0283", "E0308", "E0369", "E0599", "E0600", "E0614"];

/// Times that mutants which do not compile are taken out.
const BUILDS: usize = 12;

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Caught,
    TimedOut,
    /// The compiler would not have it.
    Unviable,
    Survived,
}

/// A program of tests by its name.
type Programs = BTreeMap<String, PathBuf>;

/// A copy of the tree, with all mutants in it that can be.
pub struct Workshop<'a> {
    mutants: &'a [Mutant],
    programs: Programs,
    unviable: BTreeSet<usize>,
    /// Built by themselves.
    alone: BTreeSet<usize>,
    /// How many are run at a time.
    jobs: usize,
}

impl<'a> Workshop<'a> {
    /// Makes the copy and builds it.
    pub fn open(mutants: &'a [Mutant], jobs: usize) -> Result<Self> {
        copy_tree()?;
        let mut unviable = BTreeSet::new();
        let mut alone = BTreeSet::new();
        for _ in 0..BUILDS {
            let left: Vec<_> = numbered(mutants)
                .filter(|(number, _)| !unviable.contains(number) && !alone.contains(number))
                .collect();
            // One may have none left.
            for file in files(mutants) {
                restore(file)?;
            }
            let switched = write_switched(&left, &mut alone)?;
            let errors = match build(&["--lib", "--tests"])? {
                Built::Programs(programs) => {
                    unviable.retain(|number| !alone.contains(number));
                    return Ok(Self { mutants, programs: kept(programs)?, unviable, alone, jobs });
                }
                Built::Errors(errors) => errors,
            };
            let before = unviable.len() + alone.len();
            for error in &errors {
                error.blame(&switched, &left, &mut unviable, &mut alone);
            }
            if unviable.len() + alone.len() == before {
                bail!("the mutants do not compile: {}", errors.first().map_or("", |it| &it.message));
            }
        }
        bail!("there are mutants that do not compile still");
    }

    /// What becomes of each mutant where the quick tests meet it.
    pub fn first_round(&self) -> Result<Vec<Outcome>> {
        ensure!(self.quick(&self.programs, 0)? == Outcome::Survived, "the tests fail without a mutant");
        let switched = (1..=self.mutants.len())
            .filter(|number| !self.unviable.contains(number) && !self.alone.contains(number))
            .collect::<Vec<_>>();
        println!(
            "{} mutants: {} in one program, {} built by themselves, {} of wrong types",
            self.mutants.len(),
            switched.len(),
            self.alone.len(),
            self.unviable.len()
        );
        let mut outcomes = vec![Outcome::Unviable; self.mutants.len()];
        for (number, outcome) in
            side_by_side(self.jobs, &switched, |number| self.quick(&self.programs, number))?
        {
            outcomes[number - 1] = outcome;
        }
        let of_first = FIRST.iter().filter(|(name, _)| *name != MANAGER);
        let of_first: Vec<_> =
            ["--lib"].into_iter().chain(of_first.flat_map(|(name, _)| ["--test", name])).collect();
        for (done, &number) in self.alone.iter().enumerate() {
            outcomes[number - 1] = self.by_itself(number, &of_first, |programs| self.quick(programs, 0))?;
            if outcomes[number - 1] == Outcome::Survived {
                println!("survived the first tests: {}", self.mutants[number - 1].name);
            }
            if (done + 1).is_multiple_of(20) {
                println!("{} of {} by themselves", done + 1, self.alone.len());
            }
        }
        Ok(outcomes)
    }

    /// What becomes of those where every test meets them.
    pub fn second_round(&self, survivors: &[&Mutant]) -> Result<Vec<Outcome>> {
        let number_of =
            |mutant: &&Mutant| 1 + self.mutants.iter().position(|it| it.name == mutant.name).unwrap_or(0);
        let numbers: Vec<_> = survivors.iter().map(number_of).collect();
        let switched: Vec<_> =
            numbers.iter().copied().filter(|number| !self.alone.contains(number)).collect();
        let mut outcomes: BTreeMap<_, _> =
            side_by_side(self.jobs, &switched, |number| every(&self.programs, number))?.into_iter().collect();
        for number in numbers.iter().filter(|number| self.alone.contains(number)) {
            let outcome = self.by_itself(*number, &["--lib", "--tests"], |programs| every(programs, 0))?;
            outcomes.insert(*number, outcome);
        }
        numbers.iter().map(|number| outcomes.get(number).copied().context("a mutant was not run")).collect()
    }

    fn quick(&self, programs: &Programs, number: usize) -> Result<Outcome> {
        for (name, tests) in FIRST {
            let program = programs.get(*name).with_context(|| format!("there are no tests {name}"))?;
            let mut command = command(program, IN_FIRST);
            command.env("PROPTEST_CASES", CASES);
            let slow = SLOW.iter().map(|(name, _)| name);
            match tests {
                Tests::All => {}
                Tests::Without(others) => {
                    command.args(slow.chain(others.iter()).flat_map(|name| ["--skip", name]));
                }
                Tests::Only(names) => {
                    command.args(*names);
                }
            }
            match outcome(&mut command, number)? {
                Outcome::Survived => {}
                ended => return Ok(ended),
            }
        }
        if let Some(mutant) = number.checked_sub(1).map(|at| &self.mutants[at]) {
            println!("survived the first tests: {}", mutant.name);
        }
        Ok(Outcome::Survived)
    }

    /// Builds a mutant in place of the original, and runs tests.
    fn by_itself(
        &self,
        number: usize,
        what: &[&str],
        tests: impl Fn(&Programs) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let mutant = &self.mutants[number - 1];
        // The others out of the way.
        for file in files(self.mutants) {
            restore(file)?;
        }
        let path = tree().join(&mutant.file);
        let original = fs::read_to_string(&path)?;
        fs::write(&path, switch::replaced(&original, mutant))?;
        let outcome = match build(what)? {
            Built::Programs(programs) => tests(&programs),
            Built::Errors(_) => Ok(Outcome::Unviable),
        };
        fs::write(&path, original)?;
        outcome
    }
}

/// The programs where the next build does not replace them.
fn kept(programs: Programs) -> Result<Programs> {
    let folder = target_dir().join("mutants/switched");
    fs::create_dir_all(&folder)?;
    let keep = |(name, program): (String, PathBuf)| {
        let place = folder.join(&name);
        fs::copy(&program, &place).with_context(|| format!("copying {}", program.display()))?;
        Ok((name, place))
    };
    programs.into_iter().map(keep).collect()
}

/// The files that mutants are of.
fn files(mutants: &[Mutant]) -> BTreeSet<&str> {
    mutants.iter().map(|mutant| mutant.file.as_str()).collect()
}

/// The numbers mutants are switched on by.
fn numbered(mutants: &[Mutant]) -> impl Iterator<Item = (usize, &Mutant)> {
    mutants.iter().enumerate().map(|(at, mutant)| (at + 1, mutant))
}

/// Every test there is.
fn every(programs: &Programs, number: usize) -> Result<Outcome> {
    for program in programs.values() {
        match outcome(&mut command(program, IN_SECOND), number)? {
            Outcome::Survived => {}
            ended => return Ok(ended),
        }
    }
    Ok(Outcome::Survived)
}

/// A program of tests, that is ended when it does not end.
fn command(program: &Path, patience: Patience) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("--signal=KILL")
        .arg(patience.waiting.to_string())
        .arg("prlimit")
        .arg(format!("--cpu={}", patience.cpu))
        .arg(program)
        .arg("--quiet")
        .current_dir(tree().join("manager"))
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("PROPTEST_RNG_SEED", SEED);
    command
}

fn outcome(command: &mut Command, number: usize) -> Result<Outcome> {
    use std::os::unix::process::ExitStatusExt;
    const KILLED: i32 = 9;
    const USED_ITS_CPU: i32 = 24;
    command.env(VARIABLE, number.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    Ok(match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Survived,
        // 125 to 127 are what `timeout` and `prlimit` say of themselves.
        (Some(125..=127), _) => bail!("{command:?}: {status}"),
        (Some(code), _) if code == 128 + KILLED || code == 128 + USED_ITS_CPU => Outcome::TimedOut,
        (_, Some(KILLED | USED_ITS_CPU)) => Outcome::TimedOut,
        _ => Outcome::Caught,
    })
}

/// Runs so many at a time.
fn side_by_side(
    jobs: usize,
    numbers: &[usize],
    run: impl Fn(usize) -> Result<Outcome> + Sync,
) -> Result<Vec<(usize, Outcome)>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = run(number).map(|outcome| (number, outcome));
            let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            done.push(outcome);
            if done.len().is_multiple_of(100) {
                println!("{} of {}", done.len(), numbers.len());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_iter().collect()
}

/// Where the copy is.
fn tree() -> PathBuf {
    target_dir().join("mutants/tree")
}

/// Copies what git knows, and what is new and not ignored.
fn copy_tree() -> Result<()> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(crate::root());
    let output = list.output().context("running git")?;
    ensure!(output.status.success(), "{list:?}: {}", String::from_utf8_lossy(&output.stderr));
    if tree().exists() {
        fs::remove_dir_all(tree())?;
    }
    for file in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let (from, to) = (crate::root().join(file), tree().join(file));
        // One that was deleted and not committed.
        if !from.is_file() {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::copy(&from, &to).with_context(|| format!("copying {file}"))?;
    }
    let root = tree().join("manager/src/lib.rs");
    let text = fs::read_to_string(&root)?;
    fs::write(root, text + WHICH)?;
    Ok(())
}

/// Has the copy of a file as it was.
fn restore(file: &str) -> Result<()> {
    let text = fs::read_to_string(crate::root().join(file)).with_context(|| format!("reading {file}"))?;
    let place = tree().join(file);
    if fs::read_to_string(&place).ok().as_ref() != Some(&text) {
        fs::write(place, &text)?;
    }
    Ok(())
}

/// Puts mutants into the sources of the copy. Those that cannot be so are to be built alone.
fn write_switched(
    mutants: &[(usize, &Mutant)],
    alone: &mut BTreeSet<usize>,
) -> Result<BTreeMap<String, String>> {
    let mut by_file: BTreeMap<&str, Vec<(usize, &Mutant)>> = BTreeMap::new();
    for &(number, mutant) in mutants {
        by_file.entry(&mutant.file).or_default().push((number, mutant));
    }
    let mut texts = BTreeMap::new();
    for (file, mutants) in by_file {
        let source = fs::read_to_string(crate::root().join(file))?;
        let Switched { text, left_out } =
            switch::switch(&source, &mutants).with_context(|| format!("mutating {file}"))?;
        alone.extend(left_out);
        fs::write(tree().join(file), &text)?;
        texts.insert(file.to_owned(), text);
    }
    Ok(texts)
}

enum Built {
    Programs(Programs),
    Errors(Vec<CompileError>),
}

/// What the compiler has against a source.
#[derive(Debug, Deserialize)]
struct CompileError {
    message: String,
    code: Option<Code>,
    spans: Vec<ErrorSpan>,
    level: String,
}

#[derive(Debug, Deserialize)]
struct Code {
    code: String,
}

#[derive(Debug, Deserialize)]
struct ErrorSpan {
    file_name: String,
    byte_start: usize,
    line_start: usize,
    is_primary: bool,
}

/// A line of cargo's.
#[derive(Deserialize)]
struct Message {
    message: Option<CompileError>,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

impl CompileError {
    /// Takes out the mutants it is about: of no type that fits, or to be built alone.
    fn blame(
        &self,
        sources: &BTreeMap<String, String>,
        mutants: &[(usize, &Mutant)],
        unviable: &mut BTreeSet<usize>,
        alone: &mut BTreeSet<usize>,
    ) {
        let mut spans: Vec<_> = self.spans.iter().collect();
        spans.sort_by_key(|span| !span.is_primary);
        let of_types = self.code.as_ref().is_some_and(|code| OF_TYPES.contains(&code.code.as_str()));
        for span in &spans {
            let Some(source) = sources.get(&span.file_name) else { continue };
            let here = switch::mutants_at(source, span.byte_start);
            if let ([one], true, true) = (here.as_slice(), of_types, span.is_primary) {
                unviable.insert(*one);
                return;
            }
            if !here.is_empty() {
                alone.extend(here);
                return;
            }
        }
        // What a function returns before its body may keep the body's type from being known.
        for span in spans {
            let of_the_function = mutants.iter().filter(|(_, mutant)| {
                mutant.genre == super::Genre::FnValue
                    && mutant.shares_function(&span.file_name, span.line_start)
            });
            alone.extend(of_the_function.map(|(number, _)| number));
        }
    }
}

/// Builds the manager's tests in the copy.
fn build(what: &[&str]) -> Result<Built> {
    let mut command = cargo(&tree());
    command
        .env("CARGO_TARGET_DIR", target_dir().join("mutants/build"))
        .env("CARGO_INCREMENTAL", "1")
        .env("RUSTFLAGS", "--cap-lints=allow")
        .args(["test", "--package", "wrt-memory", "--locked", "--no-run", "--message-format", "json"])
        .args(what)
        .stderr(Stdio::null());
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let (mut programs, mut errors) = (Programs::new(), Vec::new());
    for line in String::from_utf8(output.stdout)?.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).context("reading cargo's messages")?;
        if let (Some(target), Some(program)) = (message.target, message.executable) {
            programs.insert(target.name, program);
        }
        errors.extend(message.message.filter(|it| it.level == "error" && !it.spans.is_empty()));
    }
    if output.status.success() {
        return Ok(Built::Programs(programs));
    }
    ensure!(!errors.is_empty(), "{command:?}: {}", output.status);
    Ok(Built::Errors(errors))
}
