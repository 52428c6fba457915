//! The bundled scenario: what this project is for, at one look.
//!
//! Eight guests run at once on two threads, in a pool that is smaller than what they would like. Five do real work; what they
//! need is guaranteed, so a hog, a leaker and one that never stops asking cannot take it from them.

use std::borrow::Cow;
use std::time::Duration;

use wrt_memory_guests::{real, wat};

use crate::plan::{GuestPlan, Output, Plan, Runtime, Source, Stdin};
use crate::report::Report;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The pool. What is guaranteed below is 18 MiB of it; the hog and the leaker would like 31 MiB of the rest.
const POOL: usize = 32 * MIB;

/// What is run.
///
/// # Errors
/// None: the settings agree with each other.
pub fn plan(runtime: Runtime) -> Result<Plan, String> {
    let guests = match runtime {
        Runtime::Wasmtime => compiled(),
        Runtime::Wasmi => interpreted(),
    };
    Plan::new(Some(POOL), guests)?.by(runtime)
}

/// What this runtime cannot run of it.
pub fn left_out(runtime: Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::Wasmtime => None,
        Runtime::Wasmi => Some("markdown is left out: it is a component, and wasmi runs core modules only"),
    }
}

fn compiled() -> Vec<GuestPlan> {
    vec![
        GuestPlan { limit: Some(3 * MIB), guarantee: 2 * MIB, repeat: 120, ..program("compress") },
        GuestPlan { limit: Some(3 * MIB), guarantee: 2 * MIB, repeat: 120, ..program("image-resize") },
        GuestPlan { limit: Some(3 * MIB), guarantee: 2 * MIB, repeat: 120, ..program("json-transform") },
        GuestPlan { limit: Some(3 * MIB), guarantee: 2 * MIB, repeat: 120, ..program("markdown") },
        // Eight instances, one budget.
        GuestPlan {
            limit: Some(12 * MIB),
            guarantee: 10 * MIB,
            instances: 8,
            repeat: 100,
            ..program("text-index")
        },
        GuestPlan { limit: Some(6 * MIB), repeat: 150, ..function("hog", "run") },
        GuestPlan { repeat: 400, pause: Duration::from_millis(2), ..function("leaker", "step") },
        GuestPlan {
            limit: Some(512 * KIB),
            repeat: 200,
            args: vec!["1000".to_owned()],
            ..function("refused_forever", "run")
        },
    ]
}

/// The same without the component, shorter. A memory's region is charged whole, and the code is the guest's
/// too: so each has what it may use for itself.
fn interpreted() -> Vec<GuestPlan> {
    vec![
        GuestPlan { limit: Some(4 * MIB), guarantee: 4 * MIB, repeat: 5, ..program("compress") },
        GuestPlan { limit: Some(5 * MIB), guarantee: 5 * MIB, repeat: 5, ..program("image-resize") },
        GuestPlan { limit: Some(4 * MIB), guarantee: 4 * MIB, repeat: 5, ..program("json-transform") },
        // Three instances, one budget.
        GuestPlan {
            limit: Some(9 * MIB),
            guarantee: 9 * MIB,
            instances: 3,
            repeat: 5,
            ..program("text-index")
        },
        GuestPlan { limit: Some(4 * MIB), repeat: 50, ..function("hog", "run") },
        GuestPlan { repeat: 400, pause: Duration::from_millis(2), ..function("leaker", "step") },
        GuestPlan {
            limit: Some(512 * KIB),
            repeat: 100,
            args: vec!["1000".to_owned()],
            ..function("refused_forever", "run")
        },
    ]
}

/// A real program on its sample: what it writes is compared with what it should.
fn program(name: &str) -> GuestPlan {
    let guest = real(name);
    GuestPlan {
        args: guest.args.iter().map(|&arg| arg.to_owned()).collect(),
        stdin: Stdin::Bytes(guest.sample_input),
        output: Output::Expect(guest.expected_output),
        pause: PAUSE,
        ..GuestPlan::new(name, Source::Bytes(Cow::Borrowed(guest.wasm)))
    }
}

/// A function of a small guest.
fn function(name: &str, function: &str) -> GuestPlan {
    GuestPlan {
        invoke: Some(function.to_owned()),
        output: Output::Discard,
        pause: PAUSE,
        ..GuestPlan::new(name, Source::Bytes(Cow::Owned(wat(name))))
    }
}

/// Between two runs of a guest: the scenario is there to be watched.
const PAUSE: Duration = Duration::from_millis(8);

/// What did not go as it should.
pub fn check(report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    for guest in &report.guests {
        let Some(node) = report.node(guest) else {
            wrong.push(format!("{}: its budget is not in the snapshot", guest.name));
            continue;
        };
        if node.high_water > node.limit {
            wrong.push(format!("{}: used {} bytes of {}", guest.name, node.high_water, node.limit));
        }
        if !guest.runs.iter().all(|run| run.outcome.code() == 0) {
            wrong.push(format!("{}: not all instances finished", guest.name));
        }
        let greedy = ["hog", "leaker", "refused_forever"].contains(&guest.name.as_str());
        if greedy != (node.denials.total() > 0) {
            wrong.push(format!("{}: {} denials", guest.name, node.denials.total()));
        }
    }
    if report.snapshot.pool.high_water > POOL {
        wrong.push(format!("{} bytes were given out of {POOL}", report.snapshot.pool.high_water));
    }
    wrong
}
