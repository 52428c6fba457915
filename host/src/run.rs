//! Carries out a plan: one manager, one runtime, a crate for each guest, a task for each instance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use wrt_memory::{CrateId, CrateSettings, MemoryError, UnifiedMemoryManager};

use crate::code::LoadError;
use crate::outcome::{self, Outcome};
use crate::output::Outlet;
use crate::plan::{GuestPlan, Plan, Runtime};
use crate::pool;
use crate::progress::{Mode, Progress};
use crate::report::{GuestReport, Report, RunReport};
use crate::{on_wasmi, on_wasmtime, sharing};

/// Time between two looks at the budgets.
const LOOK: Duration = Duration::from_millis(50);
/// How long output may still take after a guest was ended because its time was up.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// Else: as long as who reads it needs.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How a run is shown.
#[derive(Clone, Copy, Debug)]
pub struct Show {
    /// Its progress.
    pub progress: Mode,
    /// What guests write to stdout goes to stderr.
    pub stdout_to_stderr: bool,
}

/// Why there is no report.
#[derive(Debug)]
pub struct RunError {
    /// The exit code for it.
    pub code: u8,
    /// What is wrong.
    pub message: String,
}

impl From<LoadError> for RunError {
    fn from(error: LoadError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl From<anyhow::Error> for RunError {
    fn from(error: anyhow::Error) -> Self {
        Self { code: outcome::HOST_FAILED, message: format!("{error:#}") }
    }
}

/// A runtime.
enum Host {
    Wasmtime(on_wasmtime::Host),
    Wasmi(on_wasmi::Host),
}

/// A guest's code, and the runtime that has it.
enum Program {
    Wasmtime(on_wasmtime::Host, on_wasmtime::Program),
    Wasmi(on_wasmi::Host, Arc<on_wasmi::Program>),
}

impl Host {
    fn load(&self, plan: &GuestPlan) -> Result<Program, LoadError> {
        Ok(match self {
            Self::Wasmtime(host) => {
                Program::Wasmtime(host.clone(), on_wasmtime::Program::load(&host.engine, plan)?)
            }
            Self::Wasmi(host) => Program::Wasmi(host.clone(), Arc::new(on_wasmi::Program::load(plan)?)),
        })
    }
}

/// A guest that is loaded and registered.
struct Loaded {
    id: CrateId,
    plan: GuestPlan,
    kind: &'static str,
    program: Program,
    gate: Arc<Gate>,
}

/// Runs all guests to their ends.
///
/// # Errors
/// A guest that cannot be run, before any is; a host that fails.
pub fn run(plan: Plan, show: Show) -> Result<Report, RunError> {
    let builder = UnifiedMemoryManager::builder();
    let builder = match &plan.machine {
        Some(machine) => builder.total_from_machine(&machine.read),
        None => builder.total(plan.pool),
    };
    let manager = Arc::new(builder.build().context("the pool")?);
    let host = match plan.runtime {
        Runtime::Wasmtime => Host::Wasmtime(on_wasmtime::Host::new(&manager, &plan)?),
        Runtime::Wasmi => Host::Wasmi(on_wasmi::Host::new(&manager, &plan)?),
    };
    let instances = plan.guests.iter().map(|guest| guest.instances).sum::<usize>();
    let refused = |message| RunError { code: outcome::USAGE, message };
    let mut ids = sharing::register(&manager, &plan.groups).map_err(refused)?;
    let mut guests = Vec::new();
    for guest in plan.guests {
        let program = host.load(&guest)?;
        let kind = match &program {
            Program::Wasmtime(_, program) => program.kind(),
            Program::Wasmi(..) => "core",
        };
        let settings =
            CrateSettings::new().limit(guest.limit.unwrap_or(usize::MAX)).guarantee(guest.guarantee);
        let settings = sharing::within(settings, &ids, guest.group.as_ref());
        let id = manager
            .register(&guest.name, settings)
            .map_err(|error| refused(format!("{}: {error}", guest.name)))?;
        ids.insert(guest.name.clone(), id);
        let gate = Gate::new(guest.instances);
        guests.push(Arc::new(Loaded { id, plan: guest, kind, program, gate }));
    }

    sharing::allow(&manager, &ids, &plan.lending).map_err(refused)?;

    let crates: Vec<_> = guests.iter().map(|guest| (guest.id, guest.plan.name.clone())).collect();
    let mut progress = Progress::new(show.progress, &manager, &crates);
    let outlet = Outlet::new(show.stdout_to_stderr, progress.around()).context("the output")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(plan.threads)
        .enable_all()
        // Instances that wait for each other each have one.
        .max_blocking_threads(instances.saturating_add(16))
        // Timers are looked at between the polls of busy guests, each as long as a tick.
        .event_interval(3)
        .build()
        .context("the threads")?;

    let machine = plan.machine.as_ref().map(|machine| machine.read.clone());
    let (tell, mut news) = mpsc::unbounded_channel();
    // Until all guests have ended.
    let follower = plan.machine.map(|machine| {
        machine.limit.follow(&manager, pool::FOLLOW, move |change| {
            let _ = tell.send(change.map_or_else(|error| error.to_string(), |change| change.to_string()));
        })
    });
    let follower = follower.transpose().context("the pool")?;
    let began = Instant::now();
    let runs = runtime.block_on(all(&guests, &manager, &outlet, &mut progress, &mut news));
    drop(follower);
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    // What is blocked in a read of stdin stays blocked: nobody waits for it.
    runtime.shutdown_background();
    let timed_out = runs.iter().flatten().any(|run| matches!(run.outcome, Outcome::TimedOut { .. }));
    outlet.drain(if timed_out { LAST_OUTPUT } else { FOREVER });
    progress.look(&manager);
    progress.end();

    let snapshot = manager.snapshot();
    let guests: Vec<_> =
        guests.iter().zip(runs).map(|(guest, runs)| guest_report(&manager, guest, runs)).collect();
    let counts = manager.coordinator().counts();
    let left = give_back(&manager, &ids, &guests);
    let mut report = Report {
        runtime: plan.runtime,
        machine,
        snapshot,
        sharing: counts,
        guests,
        all_bytes_back: left.is_empty(),
        left,
        elapsed_ms,
        exit_code: 0,
    };
    report.exit_code = report.judge();
    Ok(report)
}

/// Runs all instances of all guests; how each ended, by guest.
async fn all(
    guests: &[Arc<Loaded>],
    manager: &UnifiedMemoryManager,
    outlet: &Outlet,
    progress: &mut Progress,
    news: &mut mpsc::UnboundedReceiver<String>,
) -> Vec<Vec<RunReport>> {
    let (ended, mut ends) = mpsc::unbounded_channel();
    for (at, guest) in guests.iter().enumerate() {
        for number in 1..=guest.plan.instances {
            let task = tokio::spawn(instance(guest.clone(), number, outlet.clone()));
            let ended = ended.clone();
            // A panic of the host ends one instance, and is told as what it is.
            tokio::spawn(async move {
                let run = task.await.unwrap_or_else(|error| RunReport {
                    outcome: Outcome::HostFailed { why: error.to_string() },
                    last_denial: None,
                });
                let _ = ended.send((at, number, run));
            });
        }
    }
    drop(ended);

    let mut runs: Vec<Vec<(usize, RunReport)>> = guests.iter().map(|_| Vec::new()).collect();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => progress.look(manager),
            Some(change) = news.recv() => progress.say(&change),
            end = ends.recv() => {
                let Some((at, number, run)) = end else { break };
                // Nobody asks for what one that has ended left idle of what it borrowed.
                manager.coordinator().return_idle();
                let plan = &guests[at].plan;
                let short = run.outcome.in_short();
                let last = runs[at].len() + 1 == plan.instances;
                progress.look(manager);
                if plan.instances == 1 {
                    progress.say(&format!("{}: {short}", plan.name));
                } else if run.outcome.code() != 0 {
                    progress.say(&format!("{}#{number}: {short}", plan.name));
                } else if last {
                    progress.say(&format!("{}: the last of {} is done", plan.name, plan.instances));
                }
                runs[at].push((number, run));
            }
        }
    }
    runs.into_iter()
        .map(|mut runs| {
            runs.sort_by_key(|(number, _)| *number);
            runs.into_iter().map(|(_, run)| run).collect()
        })
        .collect()
}

async fn instance(guest: Arc<Loaded>, number: usize, outlet: Outlet) -> RunReport {
    let place = guest.gate.place();
    if guest.plan.delay > Duration::ZERO {
        tokio::time::sleep(guest.plan.delay).await;
    }
    let (outcome, denied) = match &guest.program {
        Program::Wasmtime(host, program) => {
            let run = on_wasmtime::Run { program, plan: &guest.plan, number, outlet: &outlet };
            let account = || host.budgets.account(guest.id).map_err(|error| error.to_string());
            run.run(account, async move || place.wait().await).await
        }
        Program::Wasmi(host, program) => {
            let (host, program, guest) = (host.clone(), program.clone(), guest.clone());
            let run = move || {
                let made = || Handle::current().block_on(place.wait());
                on_wasmi::run(&host, (guest.id, &program, &guest.plan), number, &outlet, made)
            };
            let ended = tokio::task::spawn_blocking(run).await;
            ended.unwrap_or_else(|error| (Outcome::HostFailed { why: error.to_string() }, None))
        }
    };
    RunReport { outcome, last_denial: denied.map(|error: MemoryError| error.to_string()) }
}

/// Opens when every instance of a guest has come, or has ended before.
struct Gate {
    missing: AtomicUsize,
    open: Semaphore,
}

/// An instance's place at the gate. Dropped, it is not waited for.
struct Place(Arc<Gate>);

impl Gate {
    fn new(instances: usize) -> Arc<Self> {
        Arc::new(Self { missing: AtomicUsize::new(instances), open: Semaphore::new(0) })
    }

    fn place(self: &Arc<Self>) -> Place {
        Place(self.clone())
    }
}

impl Place {
    async fn wait(self) {
        let gate = self.0.clone();
        drop(self);
        // There are no permits: this ends when the semaphore is closed.
        let _ = gate.open.acquire().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.open.close();
        }
    }
}

fn guest_report(manager: &UnifiedMemoryManager, guest: &Loaded, runs: Vec<RunReport>) -> GuestReport {
    let peak = manager.node(guest.id).map_or(0, |node| node.high_water);
    GuestReport {
        id: guest.id,
        name: guest.plan.name.clone(),
        kind: guest.kind,
        instances: guest.plan.instances,
        peak,
        assert_peak: guest.plan.assert_peak,
        above_peak: guest.plan.assert_peak.is_some_and(|most| peak > most),
        runs,
    }
}

/// Retires every crate, and looks whether the pool has everything back. What is not back, and where it is.
fn give_back(
    manager: &UnifiedMemoryManager,
    ids: &BTreeMap<String, CrateId>,
    guests: &[GuestReport],
) -> Vec<String> {
    let mut left: Vec<_> = guests
        .iter()
        .filter_map(|guest| manager.retire(guest.id).err())
        .map(|error| error.to_string())
        .collect();
    // Groups, the innermost first.
    let mut groups: Vec<_> = ids.values().filter_map(|&id| manager.node(id).ok()).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.depth));
    left.extend(
        groups.iter().filter_map(|group| manager.retire(group.id).err()).map(|error| error.to_string()),
    );
    let pool = manager.pool();
    if pool.used > 0 {
        left.push(format!("{} bytes of the pool are still given out", pool.used));
    }
    left
}
