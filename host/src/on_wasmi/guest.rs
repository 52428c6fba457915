//! One instance of a guest, from its making to its end. All of it blocks: it has a thread of its own, and a turn while
//! it computes.

use std::time::Duration;

use tokio::runtime::Handle;
use wasi_common::WasiCtx;
use wasmi::{ResumableCall, TrapCode, Val};
use wrt_memory::{CrateId, MemoryError};
use wrt_memory_wasmi::{Error, GuestSettings, Hosted, OnDenial};

use super::desk::Desk;
use super::program::{self, Program};
use super::{Host, SPARE, wasi};
use crate::outcome::Outcome;
use crate::output::Outlet;
use crate::plan::{GuestPlan, OnDenial as Denied, Output};

/// Fuel until others have their turn, and the clock is looked at: some milliseconds.
const SLICE: u64 = 2_000_000;
/// Fuel that a start function has for a second of the time it may take: it cannot be resumed.
const PER_SECOND: f64 = 1e9;

type Guest = wrt_memory_wasmi::Guest<WasiCtx>;

/// What one instance is run with.
struct Run<'r> {
    host: &'r Host,
    id: CrateId,
    program: &'r Program,
    plan: &'r GuestPlan,
    number: usize,
    outlet: &'r Outlet,
}

/// Runs an instance to its end, as often as planned. `made` is called once, when it is instantiated: it returns when all
/// instances of the guest are. Also says what it was denied last.
pub fn run(
    host: &Host,
    (id, program, plan): (CrateId, &Program, &GuestPlan),
    number: usize,
    outlet: &Outlet,
    made: impl FnOnce(),
) -> (Outcome, Option<MemoryError>) {
    let run = Run { host, id, program, plan, number, outlet };
    let mut made = Some(made);
    let mut left = plan.timeout;
    let mut denied = None;
    // A program is made anew each time it runs; a function is called again.
    let runs = if program.call.name == "_start" { plan.repeat } else { 1 };
    let mut outcome = Outcome::Exited { code: 0 };
    for _ in 0..runs {
        outcome = run.once(made.take(), &mut left, &mut denied);
        if outcome.code() != 0 {
            break;
        }
    }
    (outcome, denied)
}

/// Why there is no outcome.
struct Failure {
    error: Error,
    /// While it was made.
    loading: bool,
}

impl Run<'_> {
    fn once(
        &self,
        made: Option<impl FnOnce()>,
        left: &mut Option<Duration>,
        denied: &mut Option<MemoryError>,
    ) -> Outcome {
        let desk = Desk::new(Handle::current(), self.host.turns.clone());
        let written = wasi::Written::default();
        let wasi = match wasi::context(self.plan, self.number, self.outlet, &desk, &written) {
            Ok(wasi) => wasi,
            Err(why) => return Outcome::HostFailed { why },
        };
        let mut guest = None;
        let result = self.drive(&mut guest, wasi, &desk, made, left);
        *denied = guest.as_ref().and_then(|guest| guest.last_denial().cloned()).or(denied.take());
        let mut outcome = match result {
            Ok(outcome) => outcome,
            Err(_) if desk.is_over() => Outcome::timed_out(self.plan.timeout.unwrap_or_default()),
            Err(failure) => self.explain(failure, denied.as_ref()),
        };
        // Its memory goes here, before anybody is told.
        drop(guest);
        if let (Output::Expect(expected), 0) = (self.plan.output, outcome.code()) {
            let written = written.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            outcome = outcome.compare(expected, &written);
        }
        outcome
    }

    /// Makes it, waits for the others, runs it.
    fn drive(
        &self,
        place: &mut Option<Guest>,
        wasi: WasiCtx,
        desk: &Desk,
        made: Option<impl FnOnce()>,
        left: &mut Option<Duration>,
    ) -> Result<Outcome, Failure> {
        let loading = |error| Failure { error, loading: true };
        let fuel = left.map_or(u64::MAX, |left| (left.as_secs_f64() * PER_SECOND) as u64);
        let result = desk.within(left, || {
            let guest = Guest::new(&self.host.budgets, self.id, self.settings(fuel), wasi)?;
            let guest = place.insert(guest);
            guest.link(|linker, _| {
                wasmi_wasi::add_to_linker(linker, |hosted: &mut Hosted<WasiCtx>| &mut **hosted)
                    .map_err(|error| wasmi::Error::new(error.to_string()))
            })?;
            guest.load(&self.program.wasm)
        });
        if let Err(error) = &result
            && error.trap() == Some(TrapCode::OutOfFuel)
        {
            desk.end();
        }
        result.map_err(loading)?;
        if let Some(made) = made {
            made();
        }
        let Some(guest) = place else {
            return Ok(Outcome::HostFailed { why: "the guest is gone".to_owned() });
        };
        let call = &self.program.call;
        let is_program = call.name == "_start";
        let result = desk.within(left, || {
            if self.program.initialize {
                self.call(guest, desk, "_initialize", &[], &mut [])?;
            }
            let mut results = vec![Val::I32(0); call.results];
            for _ in 0..if is_program { 1 } else { self.plan.repeat } {
                self.call(guest, desk, &call.name, &call.args, &mut results)?;
                if self.plan.pause > Duration::ZERO {
                    desk.wait(async { tokio::time::sleep(self.plan.pause).await });
                }
            }
            Ok(results)
        });
        match result {
            Ok(_) if is_program => Ok(Outcome::Exited { code: 0 }),
            Ok(results) => Ok(Outcome::Returned { value: program::show(&results) }),
            Err(error) => Err(Failure { error, loading: false }),
        }
    }

    fn settings(&self, fuel: u64) -> GuestSettings {
        let settings = GuestSettings::new().fuel(fuel).spare(SPARE).on_denial(match self.plan.on_denial {
            Denied::Refuse => OnDenial::Refuse,
            Denied::Trap => OnDenial::Trap,
        });
        let region = self.host.region(self.plan, settings.overhead(&self.program.wasm));
        settings.region(region)
    }

    /// Calls a function, a slice at a time.
    fn call(
        &self,
        guest: &mut Guest,
        desk: &Desk,
        name: &str,
        args: &[Val],
        results: &mut [Val],
    ) -> Result<(), Error> {
        let function = guest.instance().and_then(|instance| instance.get_func(guest.context(), name));
        let function = function.ok_or_else(|| Error::NoSuchFunction { name: name.to_owned() })?;
        let mut slice = guest.run(|mut context| {
            context.set_fuel(SLICE)?;
            function.call_resumable(context, args, results)
        })??;
        loop {
            let call = match slice {
                ResumableCall::Finished => return Ok(()),
                ResumableCall::HostTrap(call) => return Err(call.into_host_error().into()),
                ResumableCall::OutOfFuel(call) => call,
            };
            if desk.is_over() {
                return Err(Error::Wasmi(TrapCode::OutOfFuel.into()));
            }
            desk.next_turn();
            slice = guest.run(|mut context| {
                // What is left belongs to the instruction that it was not enough for.
                context.set_fuel(SLICE.max(call.required_fuel()))?;
                call.resume(context, results)
            })??;
        }
    }

    fn explain(&self, failure: Failure, denied: Option<&MemoryError>) -> Outcome {
        let Failure { error, loading } = failure;
        let memory = |why| match loading {
            true => Outcome::RefusedAtLoad { why },
            false => Outcome::EndedByDenial { why },
        };
        let why = error.to_string();
        let Error::Wasmi(failed) = error else {
            return match error {
                Error::Memory { .. } | Error::NoRoom { .. } | Error::Overdrawn { .. } => memory(why),
                _ => Outcome::CannotRun { why },
            };
        };
        if let Some(code) = failed.i32_exit_status() {
            return Outcome::exited(code);
        }
        let trap = failed.as_trap_code();
        if let Some(denial) = denied
            && (trap == Some(TrapCode::GrowthOperationLimited) || (loading && trap.is_none()))
        {
            return memory(denial.to_string());
        }
        if loading && trap.is_none() {
            return Outcome::CannotRun { why };
        }
        let denied = denied.filter(|_| self.plan.on_denial == Denied::Refuse);
        Outcome::trapped(why.clone(), why, denied)
    }
}
