//! One instance of a guest, from its making to its end.

use std::time::{Duration, Instant};

use wasmtime::component::Val as ComponentVal;
use wasmtime::{Store, Trap, UpdateDeadline, Val, WasmBacktrace};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder, WasiCtxView, WasiView};
use wrt_memory::{MemoryError, Scope};
use wrt_memory_wasmtime::{OnDenial, StoreAccount};

use super::program::{self, Program};
use crate::invoke;
use crate::outcome::Outcome;
use crate::output::{Outlet, Stream};
use crate::plan::{GuestPlan, Output, Source, Stdin};

/// What a guest's store carries.
pub struct State {
    /// Its account with its crate.
    pub account: StoreAccount,
    /// WASI, both generations of it.
    pub wasi: WasiP1Ctx,
    /// When it is ended.
    deadline: Option<Instant>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// Its deadline passed.
#[derive(Debug, thiserror::Error)]
#[error("the deadline has passed")]
struct DeadlinePassed;

/// What one instance is run with.
pub struct Run<'r> {
    /// Its code.
    pub program: &'r Program,
    /// What it is given.
    pub plan: &'r GuestPlan,
    /// Which of its crate's instances it is, from 1.
    pub number: usize,
    /// Where what it writes goes.
    pub outlet: &'r Outlet,
}

impl Run<'_> {
    /// Runs it to its end, as often as planned. `made` is awaited once, when it is instantiated: all
    /// instances of a guest are there before any of them runs. Also says what it was denied last.
    pub async fn run(
        &self,
        account: impl Fn() -> Result<StoreAccount, String>,
        made: impl AsyncFnOnce(),
    ) -> (Outcome, Option<MemoryError>) {
        let mut made = Some(made);
        let mut left = self.plan.timeout;
        let mut denied = None;
        let runs = if self.is_program() { self.plan.repeat } else { 1 };
        let mut outcome = Outcome::Exited { code: 0 };
        for _ in 0..runs {
            let account = match account() {
                Ok(account) => match self.plan.wait {
                    Some(wait) => account.wait(move || tokio::time::sleep(wait)),
                    None => account,
                }
                .on_denial(self.plan.on_denial),
                Err(why) => return (Outcome::HostFailed { why }, denied),
            };
            let handle = account.handle().clone();
            let once = self.once(account, made.take(), &mut left, &mut denied);
            outcome = Scope::run(handle, once).await;
            if outcome.code() != 0 {
                break;
            }
        }
        (outcome, denied)
    }

    /// A program is made anew each time it runs; a function is called again.
    fn is_program(&self) -> bool {
        match self.program {
            Program::Core { call, .. } => call.name == "_start",
            Program::Component { .. } => false,
            Program::Command(_) => true,
        }
    }

    async fn once(
        &self,
        account: StoreAccount,
        made: Option<impl AsyncFnOnce()>,
        left: &mut Option<Duration>,
        denied: &mut Option<MemoryError>,
    ) -> Outcome {
        let stdout = match self.plan.output {
            Output::Expect(bytes) => Some(MemoryOutputPipe::new(bytes.len() + 1)),
            _ => None,
        };
        let wasi = match self.wasi(stdout.as_ref()) {
            Ok(wasi) => wasi,
            Err(why) => return Outcome::HostFailed { why },
        };
        let engine = match self.program {
            Program::Core { pre, .. } => pre.module().engine(),
            Program::Component { pre, .. } => pre.engine(),
            Program::Command(pre) => pre.engine(),
        };
        let mut store = Store::new(engine, State { account, wasi, deadline: None });
        store.limiter_async(|state| &mut state.account);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| match context.data().deadline {
            Some(deadline) if Instant::now() >= deadline => Err(DeadlinePassed.into()),
            _ => Ok(UpdateDeadline::Yield(1)),
        });

        let result = self.drive(&mut store, made, left).await;
        *denied = store.data().account.last_denial().or(denied.take());
        let mut outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => self.explain(failure, denied.as_ref()),
        };
        // Its memory goes here, before anybody is told.
        drop(store);
        if let (Output::Expect(expected), Some(stdout), 0) = (self.plan.output, stdout, outcome.code()) {
            outcome = outcome.compare(expected, &stdout.contents());
        }
        outcome
    }

    /// Instantiates, waits for the others, runs.
    async fn drive(
        &self,
        store: &mut Store<State>,
        made: Option<impl AsyncFnOnce()>,
        left: &mut Option<Duration>,
    ) -> Result<Outcome, Failure> {
        /// What was made.
        enum Made {
            Core(wasmtime::Instance),
            Component(wasmtime::component::Instance),
            Command(wasmtime_wasi::p2::bindings::Command),
        }
        let instance = within(left, store, async |store| {
            Ok(match self.program {
                Program::Core { pre, .. } => Made::Core(pre.instantiate_async(store).await?),
                Program::Component { pre, .. } => Made::Component(pre.instantiate_async(store).await?),
                Program::Command(pre) => Made::Command(pre.instantiate_async(store).await?),
            })
        })
        .await
        .map_err(|error| Failure { error, loading: true })?;
        if let Some(made) = made {
            made().await;
        }
        within(left, store, async |store| match (&instance, self.program) {
            (Made::Core(instance), Program::Core { initialize, call, .. }) => {
                if *initialize {
                    let initialize = instance.get_typed_func::<(), ()>(&mut *store, "_initialize")?;
                    initialize.call_async(&mut *store, ()).await?;
                }
                let function = instance
                    .get_func(&mut *store, &call.name)
                    .ok_or_else(|| wasmtime::Error::msg(format!("`{}` is gone", call.name)))?;
                let mut results = vec![Val::I32(0); call.results];
                if call.name == "_start" {
                    function.call_async(&mut *store, &call.args, &mut results).await?;
                    self.pause().await;
                    return Ok(Outcome::Exited { code: 0 });
                }
                for _ in 0..self.plan.repeat {
                    function.call_async(&mut *store, &call.args, &mut results).await?;
                    self.pause().await;
                }
                Ok(Outcome::Returned { value: program::show(&results) })
            }
            (Made::Component(instance), Program::Component { export, call, .. }) => {
                let function = instance
                    .get_func(&mut *store, export)
                    .ok_or_else(|| wasmtime::Error::msg(format!("`{}` is gone", call.name)))?;
                let mut results = vec![ComponentVal::Bool(false); call.results];
                for _ in 0..self.plan.repeat {
                    function.call_async(&mut *store, &call.args, &mut results).await?;
                    self.pause().await;
                }
                Ok(Outcome::Returned { value: invoke::show_component(&results) })
            }
            (Made::Command(command), _) => {
                let result = command.wasi_cli_run().call_run(store).await?;
                self.pause().await;
                Ok(Outcome::Exited { code: u8::from(result.is_err()) })
            }
            _ => Err(wasmtime::Error::msg("a program changed its kind")),
        })
        .await
        .map_err(|error| Failure { error, loading: false })
    }

    /// After a run: others get their turn.
    async fn pause(&self) {
        if self.plan.pause > Duration::ZERO {
            tokio::time::sleep(self.plan.pause).await;
        }
    }

    fn wasi(&self, stdout: Option<&MemoryOutputPipe>) -> Result<WasiP1Ctx, String> {
        let plan = self.plan;
        let mut wasi = WasiCtxBuilder::new();
        match &plan.source {
            Source::File(path) => wasi.arg(path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()),
            Source::Bytes(_) => wasi.arg(&plan.name),
        };
        wasi.args(&plan.args).envs(&plan.env);
        for (host, guest) in &plan.dirs {
            wasi.preopened_dir(host, guest, FsPerms::ReadWrite)
                .map_err(|error| format!("the folder {}: {error}", host.display()))?;
        }
        match &plan.stdin {
            Stdin::Inherit => wasi.inherit_stdin(),
            Stdin::Empty => &mut wasi,
            Stdin::Bytes(bytes) => wasi.stdin(MemoryInputPipe::new(*bytes)),
            Stdin::File(path) => {
                let file = std::fs::File::open(path)
                    .map_err(|error| format!("stdin {}: {error}", path.display()))?;
                wasi.stdin(wasmtime_wasi::cli::InputFile::new(file))
            }
        };
        match (plan.output, stdout) {
            (Output::Inherit, _) => {
                wasi.stdout(self.outlet.plain(Stream::Stdout)).stderr(self.outlet.plain(Stream::Stderr));
            }
            (Output::Lines, _) => {
                let who = plan.instance(self.number);
                wasi.stdout(self.outlet.lines(Stream::Stdout, &who));
                wasi.stderr(self.outlet.lines(Stream::Stderr, &who));
            }
            (Output::Expect(_), Some(stdout)) => {
                wasi.stdout(stdout.clone());
            }
            (Output::Discard | Output::Expect(_), _) => {}
        }
        Ok(wasi.build_p1())
    }

    fn explain(&self, failure: Failure, denied: Option<&MemoryError>) -> Outcome {
        let Failure { error, loading } = failure;
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Outcome::exited(exit.0);
        }
        if error.is::<DeadlinePassed>() {
            return Outcome::timed_out(self.plan.timeout.unwrap_or_default());
        }
        if let Some(denial) = error.downcast_ref::<MemoryError>() {
            let why = denial.to_string();
            return if loading { Outcome::RefusedAtLoad { why } } else { Outcome::EndedByDenial { why } };
        }
        let why = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        if loading && !error.is::<Trap>() && !error.is::<WasmBacktrace>() {
            // Nothing of it ran.
            return Outcome::CannotRun { why };
        }
        let denied = denied.filter(|_| self.plan.on_denial == OnDenial::Refuse);
        Outcome::trapped(why, format!("{error:?}"), denied)
    }
}

/// Why there is no outcome.
struct Failure {
    error: wasmtime::Error,
    /// While it was instantiated.
    loading: bool,
}

/// Does something within the time that is left, and takes off what it took. Wasm that runs is ended by its epoch
/// deadline; a call of the host that waits is dropped.
async fn within<T>(
    left: &mut Option<Duration>,
    store: &mut Store<State>,
    work: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T>,
) -> wasmtime::Result<T> {
    let Some(time) = *left else {
        return work(store).await;
    };
    let began = Instant::now();
    // A deadline beyond what a clock can say is none.
    store.data_mut().deadline = began.checked_add(time);
    let result = tokio::time::timeout(time, work(store)).await;
    *left = Some(time.saturating_sub(began.elapsed()));
    result.unwrap_or_else(|_| Err(DeadlinePassed.into()))
}
