//! `wrt-host`: runs WebAssembly guests, each under a memory budget of its own, and shows where the bytes are.

mod bundled;
mod cli;
mod code;
mod invoke;
mod on_wasmi;
mod on_wasmtime;
mod outcome;
mod output;
mod plan;
mod pool;
mod progress;
mod report;
mod run;
mod scenario;
mod sharing;
mod sizes;
mod table;

use std::alloc::System;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::exit;

use clap::Parser;
use wrt_memory_wasmi::GuestHeap;

use crate::cli::{Cli, Command, ReportArgs};
use crate::plan::Plan;
use crate::progress::Mode;
use crate::report::Report;
use crate::run::Show;
use crate::sizes::{show, show_exact};

/// What wasmi allocates for a guest is charged to the guest, so it has to be known.
#[global_allocator]
static HEAP: GuestHeap<System> = GuestHeap::new(System);

/// What kind of run it is: that decides what is said about it, and where.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bundled,
    Scenario,
    Run,
}

fn main() {
    let cli = Cli::parse();
    let (kind, plan, report) = match cli.command {
        Some(Command::Run(run)) => {
            let report = run.report.clone();
            let kind = if run.scenario.is_some() { Kind::Scenario } else { Kind::Run };
            (kind, run.plan(), report)
        }
        None => match &cli.scenario {
            Some(file) => (Kind::Scenario, scenario::read(file, cli.runtime), cli.report),
            None => {
                let runtime = cli.runtime.unwrap_or_default();
                if let Some(left_out) = bundled::left_out(runtime) {
                    complain(left_out);
                }
                (Kind::Bundled, bundled::plan(runtime), cli.report)
            }
        },
    };
    // Not a return: threads that wait for stdin, or for who reads stdout, would be waited for.
    exit(match plan {
        Ok(plan) => carry_out(kind, plan, &report).into(),
        Err(message) => {
            complain(&message);
            outcome::USAGE.into()
        }
    })
}

/// Runs a plan and reports. The exit code.
fn carry_out(kind: Kind, plan: Plan, args: &ReportArgs) -> u8 {
    let alone = kind == Kind::Run && plan.guests.iter().map(|guest| guest.instances).sum::<usize>() == 1;
    let json_on_stdout = args.json.as_deref() == Some(Path::new("-"));
    let progress = match args.quiet || alone {
        true => Mode::Silent,
        false if io::stderr().is_terminal() => Mode::Live,
        false => Mode::Plain,
    };
    let mut report = match run::run(plan, Show { progress, stdout_to_stderr: json_on_stdout }) {
        Ok(report) => report,
        Err(error) => {
            complain(&error.message);
            return error.code;
        }
    };
    for message in complaints(kind, &mut report) {
        complain(&message);
    }
    if !args.quiet {
        let said = if alone { summary(&report) } else { table::table(&report) };
        // stdout is the guests' own, or the JSON's.
        let written = if kind == Kind::Run || json_on_stdout {
            io::stderr().write_all(said.as_bytes())
        } else {
            io::stdout().write_all(said.as_bytes())
        };
        // Nobody may be reading any more.
        drop(written);
    }
    if let Some(path) = &args.json
        && let Err(error) = write_json(&report, path)
    {
        complain(&format!("the JSON to {}: {error}", path.display()));
        return outcome::HOST_FAILED;
    }
    report.exit_code
}

/// What went wrong, a message each; the bundled scenario also knows what should have happened.
fn complaints(kind: Kind, report: &mut Report) -> Vec<String> {
    let mut messages = Vec::new();
    for guest in &report.guests {
        // What several instances have in common is said once.
        let mut common: Vec<(String, Vec<usize>)> = Vec::new();
        for (at, run) in guest.runs.iter().enumerate() {
            let Some(why) = run.outcome.complaint() else { continue };
            match common.iter_mut().find(|(said, _)| *said == why) {
                Some((_, instances)) => instances.push(at + 1),
                None => common.push((why, vec![at + 1])),
            }
        }
        for (why, instances) in common {
            let which = match instances.as_slice() {
                _ if guest.instances == 1 => String::new(),
                [one] => format!("#{one}"),
                many => format!(", {} of {} instances", many.len(), guest.instances),
            };
            messages.push(format!("{}{which}: {why}", guest.name));
        }
        if let Some(most) = guest.assert_peak.filter(|_| guest.above_peak) {
            messages.push(format!(
                "{}: the peak, {}, is above the asserted {}",
                guest.name,
                show_exact(guest.peak),
                show_exact(most)
            ));
        }
    }
    if !report.all_bytes_back {
        messages.push(table::back(report).trim_end().to_owned());
    }
    if kind == Kind::Bundled {
        let wrong = bundled::check(report);
        if report.exit_code == 0 && !wrong.is_empty() {
            report.exit_code = 1;
        }
        messages.extend(wrong);
    }
    messages
}

/// One instance of one guest, in a line.
fn summary(report: &Report) -> String {
    let Some((guest, node)) = report.guests.first().and_then(|guest| Some((guest, report.node(guest)?)))
    else {
        return String::new();
    };
    let denials = table::denials(node.denials.total());
    let back = table::back(report);
    let machine = report.machine.as_ref().map(|read| format!(" (the pool: {})", pool::told(read)));
    format!(
        "wrt-host: {}: peak {} of {}{}, {denials}; {back}",
        guest.name,
        show_exact(guest.peak),
        show(node.limit),
        machine.unwrap_or_default()
    )
}

fn write_json(report: &Report, path: &Path) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    if path == Path::new("-") { io::stdout().write_all(&json) } else { std::fs::write(path, json) }
}

fn complain(message: &str) {
    eprintln!("wrt-host: {message}");
}
