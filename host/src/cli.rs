//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::{self, GuestPlan, OnDenial, Output, Plan, Runtime, Source, Stdin};
use crate::pool::{self, PoolSize, Reserve, parse_pool, parse_reserve};
use crate::sizes::{parse_duration, parse_size};

/// Runs WebAssembly guests, each under a memory budget of its own.
///
/// Without a command, runs the bundled scenario: ten guests at once in a pool that is smaller than what they would
/// like.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Run the guests of this file instead of the bundled ones
    #[arg(long, value_name = "FILE.toml", long_help = SCENARIO)]
    pub scenario: Option<PathBuf>,
    /// What runs guests [default: wasmtime, or what the scenario says]
    #[arg(long, value_enum)]
    pub runtime: Option<Runtime>,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run WASI programs (preview 1 modules, 0.2 components) or any module with a function to call
    #[command(after_help = EXIT_CODES, after_long_help = format!("{EXIT_CODES}\n\n{RUNNER}"))]
    Run(Box<RunArgs>),
}

/// How to report.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Write all budgets and outcomes as JSON: to stdout (what guests write there goes to stderr), or to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// Say nothing about what went well
    #[arg(long, short)]
    pub quiet: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Guests: wasm or its text format. With none here, the first of ARGS is one
    #[arg(value_name = "GUEST", required_unless_present_any = ["args", "scenario"])]
    pub guests: Vec<PathBuf>,
    /// What runs guests [default: wasmtime, or what the scenario says]
    #[arg(long, value_enum)]
    pub runtime: Option<Runtime>,
    /// Most memory of each guest, over all its instances [default: what the pool has]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub limit: Option<usize>,
    /// Memory that each guest can have, whatever others take
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub guarantee: Option<usize>,
    /// Instances of each guest, all at once, sharing its budget
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub instances: usize,
    /// Memory of all guests together, or `auto` for what the machine allows, followed when that changes [default: 512MiB,
    /// or --limit if that is more]
    #[arg(long, visible_alias = "total", value_name = "SIZE|auto", value_parser = parse_pool)]
    pub pool: Option<PoolSize>,
    /// What a pool of `auto` leaves for the host [default: 10%, at least 32MiB]
    #[arg(long, value_name = "SIZE|N%", value_parser = parse_reserve)]
    pub reserve: Option<Reserve>,
    /// A folder the guests may read and write, and as what they see it
    #[arg(long, value_name = "HOST[::GUEST]")]
    pub dir: Vec<String>,
    /// A variable of the guests' environment; without a value, the host's
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// End an instance that runs longer
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// What a denied growth does to a guest
    #[arg(long, value_enum, default_value = "refuse")]
    pub on_denial: Denied,
    /// Before a growth is denied, let it wait so long for memory that others free (wasmtime only)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub wait: Option<Duration>,
    /// Fail if a guest's peak is above this
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub assert_peak: Option<usize>,
    /// Call this export, with ARGS, instead of `_start`, `wasi:cli/run` or `run`
    #[arg(long, value_name = "NAME")]
    pub invoke: Option<String>,
    /// What becomes of the guests' output [default: inherit for one instance, lines for more]
    #[arg(long, value_enum)]
    pub output: Option<Written>,
    /// Threads that run guests
    #[arg(long, value_name = "N", default_value_t = plan::DEFAULT_THREADS)]
    pub threads: usize,
    /// Charge the stacks on which guests run, 2 MiB an instance, to their budgets too (wasmtime only: wasmi's are
    /// always charged)
    #[arg(long)]
    pub charge_stacks: bool,
    /// Run the guests of this file
    #[arg(
        long, value_name = "FILE.toml", long_help = SCENARIO,
        conflicts_with_all = [
            "guests", "limit", "guarantee", "instances", "pool", "reserve", "dir", "env", "timeout", "on_denial", "wait", "assert_peak",
            "invoke", "output", "threads", "charge_stacks", "args",
        ]
    )]
    pub scenario: Option<PathBuf>,
    /// How to report.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Arguments of the guests
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

/// `--on-denial`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Denied {
    /// Growing fails (-1), and the guest goes on
    Refuse,
    /// The guest is ended, and the error names the budget and the figures
    Trap,
}

/// `--output`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Written {
    /// As it comes, byte for byte
    Inherit,
    /// Line by line, each with the guest's name before it
    Lines,
    /// Not at all
    Discard,
}

const EXIT_CODES: &str = "\
Exit codes: a guest's own (of several, the first that is not 0), or
    2  the command line or the scenario makes no sense
  121  a peak is above --assert-peak
  122  bytes did not come back to the pool
  123  a guest was refused memory when it was loaded, or ended by --on-denial trap
  124  a guest was ended by --timeout
  125  the host itself failed
  126  a guest cannot be run: not WebAssembly, no program, or with imports that WASI has not
  127  a guest's file was not found
  134  a guest trapped

Sizes are written 64MiB (powers of 1024), 64KB (powers of 1000) or 65536; times 10s, 500ms or 2m.";

const RUNNER: &str = "\
cargo can use this as a runner, so that a guest's tests run under a budget (WASIP2 for components):

    CARGO_TARGET_WASM32_WASIP1_RUNNER='wrt-host run --limit 32MiB --assert-peak 8MiB --' \\
        cargo test --target wasm32-wasip1";

const SCENARIO: &str = r#"Run the guests of this file

    runtime = "wasmtime"         # or "wasmi"
    pool = "24MiB"               # default: 512MiB, or as much as limits and guarantees need; "auto": what the machine
                                 # allows (its control groups, its memory), followed when that changes
    reserve = "10%"              # what "auto" leaves for the host: a share, or a size
    threads = 2
    charge-stacks = false

    [[group]]                    # a budget that guests share, if any; may be in a group above it itself
    name = "customer"
    limit = "16MiB"              # of all in it together
    guarantee = "1MiB"           # above what each of them is guaranteed

    [[lend]]                     # what one may use of what another is guaranteed and leaves idle, if any
    from = "guest"
    to = "other"
    most = "4MiB"
    deadline = "5s"              # how long it has to repay before it may be ended; default: as long as it takes

    [[guest]]                    # one for each guest
    wasm = "guest.wasm"          # wasm or its text format; this and all paths relative to the file
    name = "guest"               # default: the name of the file
    group = "customer"
    limit = "8MiB"               # default: what the pool has
    guarantee = "1MiB"
    instances = 1                # at once
    repeat = 1                   # runs of each, one after the other
    delay = "1s"                 # before it begins
    pause = "5ms"                # after each of those, with the memory still held
    args = ["one", "two"]
    env = { NAME = "value" }
    dirs = ["data::/data"]       # HOST[::GUEST]
    stdin = "input.txt"          # default: nothing
    output = "lines"             # or "inherit", "discard"
    invoke = "step"              # an export to call instead of the entry point
    timeout = "10s"
    on-denial = "refuse"         # or "trap"
    wait = "2s"                  # how long growth waits for memory before it is denied; default: not at all
    assert-peak = "4MiB""#;

impl RunArgs {
    /// The plan that the options make.
    ///
    /// # Errors
    /// What makes no sense about them, and what would.
    pub fn plan(self) -> Result<Plan, String> {
        if let Some(file) = &self.scenario {
            return crate::scenario::read(file, self.runtime);
        }
        if self.threads == 0 {
            return Err("--threads must be at least 1".to_owned());
        }
        let (mut guests, mut args) = (self.guests, self.args);
        if guests.is_empty() {
            // As a runner of cargo: `-- GUEST ARGS…`.
            guests.push(args.remove(0).into());
        }
        let env = self.env.iter().map(|text| variable(text)).collect::<Result<Vec<_>, _>>()?;
        let dirs: Vec<_> = self.dir.iter().map(|text| plan::parse_dir(text)).collect();
        if let Some((host, _)) = dirs.iter().find(|(host, _)| !host.is_dir()) {
            return Err(format!("--dir {}: there is no such folder", host.display()));
        }
        let alone = guests.len() == 1 && self.instances == 1;
        let guests = guests.into_iter().map(|path| GuestPlan {
            limit: self.limit,
            guarantee: self.guarantee.unwrap_or(0),
            instances: self.instances,
            args: args.clone(),
            env: env.clone(),
            dirs: dirs.clone(),
            // Of several, who would get which part of it?
            stdin: if alone { Stdin::Inherit } else { Stdin::Empty },
            output: match self.output {
                Some(Written::Inherit) => Output::Inherit,
                Some(Written::Lines) => Output::Lines,
                Some(Written::Discard) => Output::Discard,
                None if alone => Output::Inherit,
                None => Output::Lines,
            },
            invoke: self.invoke.clone(),
            timeout: self.timeout,
            wait: self.wait,
            on_denial: match self.on_denial {
                Denied::Refuse => OnDenial::Refuse,
                Denied::Trap => OnDenial::Trap,
            },
            assert_peak: self.assert_peak,
            ..GuestPlan::new(plan::name_of(&path), Source::File(path))
        });
        let (pool, machine) = pool::resolve(self.pool, self.reserve)?;
        let mut plan = Plan::new(pool, guests.collect())?;
        plan.machine = machine;
        plan.threads = self.threads;
        plan.charge_stacks = self.charge_stacks;
        plan.by(self.runtime.unwrap_or_default())
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("--env {text}: a variable needs a name; write NAME=VALUE")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err(format!(
                "--env {text}: the host has no such variable; write {text}=VALUE to give it a value"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn plan(args: &[&str]) -> Result<Plan, String> {
        let cli =
            Cli::try_parse_from(["wrt-host", "run"].iter().chain(args)).map_err(|error| error.to_string())?;
        let Some(Command::Run(run)) = cli.command else { panic!("{args:?}") };
        run.plan()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_guest_may_come_before_its_arguments_or_first_among_them() {
        let before = plan(&["a.wasm", "--limit", "1MiB", "--", "x", "--limit"]).unwrap();
        let after = plan(&["--limit", "1MiB", "--", "a.wasm", "x", "--limit"]).unwrap();
        for plan in [before, after] {
            let [guest] = plan.guests.as_slice() else { panic!("{plan:?}") };
            assert_eq!((guest.name.as_str(), guest.limit), ("a", Some(1 << 20)));
            assert_eq!(guest.args, ["x", "--limit"]);
        }
    }

    #[test]
    fn one_instance_has_the_terminal_for_itself_and_several_share_it() {
        let alone = plan(&["a.wasm"]).unwrap();
        assert!(matches!(
            (&alone.guests[0].stdin, alone.guests[0].output),
            (Stdin::Inherit, Output::Inherit)
        ));
        for several in [&["a.wasm", "b.wasm"][..], &["a.wasm", "--instances", "2"]] {
            let several = plan(several).unwrap();
            let guest = several.guests.last().unwrap();
            assert!(matches!((&guest.stdin, guest.output), (Stdin::Empty, Output::Lines)));
        }
    }

    #[test]
    fn json_takes_a_file_only_after_an_equals_sign() {
        let json = |args: &[&str]| {
            let cli = Cli::try_parse_from(["wrt-host", "run"].iter().chain(args)).unwrap();
            let Some(Command::Run(run)) = cli.command else { panic!("{args:?}") };
            (run.report.json, run.guests)
        };
        assert_eq!(json(&["--json", "a.wasm"]), (Some("-".into()), vec!["a.wasm".into()]));
        assert_eq!(json(&["--json=out", "a.wasm"]), (Some("out".into()), vec!["a.wasm".into()]));
    }

    #[test]
    fn what_makes_no_sense_is_explained() {
        for (args, why) in [
            (&[][..], "<GUEST"),
            (&["a.wasm", "--limit", "much"], "write a number and a unit"),
            (&["a.wasm", "--limit", "1MiB", "--guarantee", "2MiB"], "below the guarantee"),
            (&["a.wasm", "--env", "=x"], "needs a name"),
            (&["a.wasm", "--env", "WRT_NO_SUCH"], "no such variable"),
            (&["a.wasm", "--dir", "/no/such"], "no such folder"),
            (&["a.wasm", "--threads", "0"], "at least 1"),
            (&["a.wasm", "--reserve", "10%"], "needs a pool of `auto`"),
            (&["a.wasm", "--total", "most"], "or auto"),
            (&["a.wasm", "--scenario", "b.toml"], "cannot be used with"),
            (&["a.wasm", "--timeout", "soon"], "not a duration"),
            (&["a.wasm", "--runtime", "wasmi", "--charge-stacks"], "under wasmi they are always charged"),
        ] {
            let message = plan(args).unwrap_err();
            assert!(message.contains(why), "{args:?}: {message}");
        }
    }
}
