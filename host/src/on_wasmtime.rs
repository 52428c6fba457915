//! wasmtime: core modules and components, on the threads of the asynchronous runtime.

mod guest;
mod program;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use wasmtime::{Config, Engine};
use wrt_memory::UnifiedMemoryManager;
use wrt_memory_wasmtime::Budgets;

pub use guest::Run;
pub use program::Program;

use crate::plan::Plan;

/// Time between two ticks of the epoch: how long a guest runs before others get their turn, and how late a deadline may be
/// noticed.
const TICK: Duration = Duration::from_millis(5);
/// Stack of a guest, and of a guest with the host functions it calls: wasmtime's own defaults. The difference is ample
/// for WASI, whose overflow would end the host.
const GUEST_STACK: usize = 512 << 10;
const STACK: usize = 2 << 20;

/// What all guests share.
#[derive(Clone)]
pub struct Host {
    /// Their budgets.
    pub budgets: Budgets,
    /// Their engine.
    pub engine: Engine,
}

impl Host {
    /// The runtime for a plan.
    ///
    /// # Errors
    /// An engine that cannot be had.
    pub fn new(manager: &Arc<UnifiedMemoryManager>, plan: &Plan) -> Result<Self, anyhow::Error> {
        let budgets = Budgets::new(manager.clone()).context("the budgets")?.charge_stacks(plan.charge_stacks);
        let engine = engine(&budgets).map_err(anyhow::Error::from).context("the engine")?;
        tick(&engine).context("the clock")?;
        Ok(Self { budgets, engine })
    }
}

fn engine(budgets: &Budgets) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true).max_wasm_stack(GUEST_STACK).async_stack_size(STACK);
    budgets.configure(&mut config);
    let engine = Engine::new(&config)?;
    budgets.check(&engine)?;
    Ok(engine)
}

/// Ticks for as long as there is an engine.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let ticks = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("epoch".to_owned()).spawn(ticks).map(drop)
}
