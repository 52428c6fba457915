//! `cargo xtask peers`: the benches in one run, what they say beside each other, and the table of targets.
//!
//! Criterion leaves its estimates in `target/criterion`; the tables have the medians of this run, and
//! the ratio of ours to each peer's: below 1 is faster. What `quiet_ledger`, `density`, `neighbour` and the bench beside
//! wasmi say is taken from the same run. What falls short of its target is marked.

mod targets;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::runtime::Runtime;
use crate::tools::{bench_program, cargo, execute, execute_and_read, target_dir};
use targets::{Row, Verdict, Wanted};

/// Run the benches beside their peers and print the table of ratios
#[derive(clap::Args)]
pub struct Args {
    /// Which runtime
    #[arg(long, default_value = "wasmtime")]
    runtime: Runtime,

    /// Measure each bench for a moment only: whether all of it runs, not how fast
    #[arg(long)]
    quick: bool,

    /// Print the table of the latest run again
    #[arg(long, conflicts_with = "quick")]
    again: bool,
}

/// Names of the guests of `guests::bench`, in their order.
const GUESTS: &[&str] = &["bench_none", "bench_4k_1", "bench_4k_16", "bench_64k_17", "bench_1m_32"];

/// Whom instantiation and growth are measured beside; the last is the one to beat.
const PEERS: &[&str] = &["on-demand", "pooling", "pooling-keep", "pooling-keep-scan"];

/// Groups of criterion's that the tables are read from.
const GROUPS: &[&str] = &["ledger", "instantiate", "grow", "compute"];

/// What the guests of the bench `compute` do.
const WORKS: &[&str] = &["sum", "scatter", "matrix"];

/// The presets that are measured beside the best peer.
const PRESETS: &[&str] = &["throughput", "density"];

/// Programs of the benches that are not criterion's: name, arguments of a whole run, and of a quick one.
const PROGRAMS: &[(&str, &[&str], &[&str])] =
    &[("quiet_ledger", &["1000"], &["3"]), ("density", &[], &["2000"]), ("neighbour", &[], &["200", "3"])];

/// What is aimed at, as ratios.
struct Targets {
    /// Geometric means of instantiation, by peer.
    instantiate: &'static [(&'static str, f64)],
    /// Growth, beside the pooling allocator as it comes.
    grow: Option<f64>,
}

/// The targets of both presets.
const INSTANTIATE: &[(&str, f64)] = &[("on-demand", 0.25), ("pooling-keep-scan", 0.75)];

/// Ours: memories mapped one by one, of which nothing is asked, and the presets on warm slots.
const OURS: &[(&str, Targets)] = &[
    ("budgeted", Targets { instantiate: &[], grow: None }),
    ("throughput", Targets { instantiate: INSTANTIATE, grow: Some(1.05) }),
    ("density", Targets { instantiate: INSTANTIATE, grow: Some(0.3) }),
];

/// What makes criterion measure for a moment only.
const QUICK: &[&str] = &["--warm-up-time", "0.05", "--measurement-time", "0.1", "--sample-size", "10"];

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    match args.runtime {
        Runtime::Wasmtime => beside_wasmtime(args),
        Runtime::Wasmi => beside_wasmi(args),
    }
}

/// That bench prints its tables itself: of bytes and of fragmentation, which it checks, and of times.
fn beside_wasmi(args: &Args) -> Result<()> {
    ensure!(!args.again, "the table beside wasmi is measured anew each time");
    execute(&mut bench_beside_wasmi(args))
}

fn bench_beside_wasmi(args: &Args) -> Command {
    let mut command = cargo(crate::root());
    // The whole workspace, so that wasmi is built as the other release builds have it.
    command.args(["bench", "--workspace", "--bench", "beside_stock", "--"]);
    command.args(args.quick.then_some("--quick"));
    command
}

fn beside_wasmtime(args: &Args) -> Result<()> {
    let criterion = target_dir().join("criterion");
    let said = target_dir().join("peers");
    if !args.again {
        // What an earlier run left would pass for this one's.
        for folder in GROUPS.iter().map(|group| criterion.join(group)).chain([said.clone()]) {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        fs::create_dir_all(&said)?;
        let mut command = cargo(crate::root());
        command.args(["bench", "--package", "wrt-memory-benches", "--", "--noplot", "--quiet"]);
        execute(command.args(if args.quick { QUICK } else { &[] }))?;
        fs::write(said.join("wasmi"), execute_and_read(&mut bench_beside_wasmi(args))?.join("\n"))?;
        for (name, whole, quick) in PROGRAMS {
            let lines = execute_and_read(bench_program(name).args(if args.quick { *quick } else { *whole }))?;
            fs::write(said.join(name), lines.join("\n"))?;
        }
    }
    let mut results = Results { folder: criterion, said, read: 0 };
    results.ledger()?;
    results.instantiate()?;
    results.grow()?;
    let rows = results.rows()?;
    let peers = if results.has_best_peer() {
        "all peers"
    } else {
        "no PAGEMAP_SCAN here, so the best peer is missing"
    };
    println!("\npeers: medians of {} benches; {peers}", results.read);
    if args.quick {
        println!("each was measured for a moment only: the figures mean little");
    }
    println!("\n{}", targets::table(&rows));
    ensure!(
        rows.iter().all(|row| row.verdict() != Verdict::NotMeasured) || !results.has_best_peer(),
        "a row was not measured"
    );
    Ok(())
}

struct Results {
    folder: PathBuf,
    /// What the programs printed.
    said: PathBuf,
    read: usize,
}

impl Results {
    /// The median of a bench in nanoseconds.
    fn median(&mut self, group: &str, bench: &str) -> Result<f64> {
        let path = self.path(group, bench).join("new/estimates.json");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let estimates: serde_json::Value = serde_json::from_str(&text)?;
        let median = estimates["median"]["point_estimate"].as_f64();
        let median = median.with_context(|| format!("no median in {}", path.display()))?;
        ensure!(median > 0.0, "{group}/{bench} took no time");
        self.read += 1;
        Ok(median)
    }

    /// Where criterion leaves a bench: a folder a group, and one a bench, without slashes.
    fn path(&self, group: &str, bench: &str) -> PathBuf {
        self.folder.join(group).join(bench.replace('/', "_"))
    }

    fn has_best_peer(&self) -> bool {
        let best = format!("{}/{}/1", PEERS[PEERS.len() - 1], GUESTS[0]);
        self.path("instantiate", &best).is_dir()
    }

    fn peers(&self) -> &'static [&'static str] {
        if self.has_best_peer() { PEERS } else { &PEERS[..PEERS.len() - 1] }
    }

    fn ledger(&mut self) -> Result<()> {
        println!("\ncharge and uncharge, ns     1 thread   2 threads   2-thread throughput   charge / this");
        let ours = self.median("ledger", "charge/1")?;
        for name in ["charge", "cas-pair", "registers", "atomic-add", "mutex", "store-counter"] {
            let one = self.median("ledger", &format!("{name}/1"))?;
            let two = self.median("ledger", &format!("{name}/2"))?;
            println!("{name:<25}{one:>11.1}{two:>12.1}{:>21.2}x{:>16.2}", 2.0 * one / two, ours / one);
        }
        let shared = self.median("ledger", "charge-one-crate/2")?;
        println!("{:<25}{:>11}{shared:>12.1}{:>21.2}x", "both on one crate", "", 2.0 * ours / shared);

        println!("\ncrates registered, ns             16     100,000   ratio");
        for name in ["charge-among", "refused-by-limit", "refused-by-pool", "register-retire"] {
            let few = self.median("ledger", &format!("{name}/16"))?;
            let many = self.median("ledger", &format!("{name}/100000"))?;
            println!("{name:<25}{few:>11.1}{many:>12.1}{:>8.2}", many / few);
        }
        let (ours, system) =
            (self.median("ledger", "allocate-4096/1")?, self.median("ledger", "malloc-4096/1")?);
        println!(
            "\n4096 zeroed bytes, ns: allocated {ours:.1}, calloc {system:.1}, ratio {:.2}",
            ours / system
        );
        Ok(())
    }

    fn instantiate(&mut self) -> Result<()> {
        let peers = self.peers();
        let heads: String = peers.iter().map(|peer| format!("{peer:>25}")).collect();
        for (name, targets) in OURS {
            println!("\nstore + instance + call + drop, us; (ratio)\n{:<16}{name:>12}{heads}", "1 thread");
            let mut logs = vec![0.0; peers.len()];
            for guest in GUESTS {
                let ours = self.median("instantiate", &format!("{name}/{guest}/1"))?;
                let mut row = format!("{guest:<16}{:>12.2}", ours / 1e3);
                for (peer, log) in peers.iter().zip(&mut logs) {
                    let theirs = self.median("instantiate", &format!("{peer}/{guest}/1"))?;
                    *log += (ours / theirs).ln();
                    row += &beside(ours, theirs);
                }
                println!("{row}");
            }
            println!("{:<28}{}", "geometric mean", means(&logs));
            judge(peers, &logs, targets.instantiate);
            if !self.has_best_peer() {
                continue;
            }
            println!("{:<28}{:>25}", "2 threads, 2 crates", PEERS[PEERS.len() - 1]);
            let mut log = 0.0;
            for guest in GUESTS {
                let ours = self.median("instantiate", &format!("{name}/{guest}/2"))?;
                let theirs = self.median("instantiate", &format!("{}/{guest}/2", PEERS[PEERS.len() - 1]))?;
                log += (ours / theirs).ln();
                println!("{guest:<16}{:>12.2}{}", ours / 1e3, beside(ours, theirs));
            }
            println!("{:<28}{}", "geometric mean", means(&[log]));
        }
        Ok(())
    }

    fn grow(&mut self) -> Result<()> {
        let peers = self.peers();
        let heads: String = peers.iter().map(|peer| format!("{peer:>25}")).collect();
        for (name, targets) in OURS {
            println!("\nmemory.grow page by page, us; (ratio)\n{:<16}{name:>12}{heads}", "");
            for pages in [64, 1024] {
                let ours = self.median("grow", &format!("{name}/{pages}"))?;
                let mut row = format!("1 to {pages:<11}{:>12.2}", ours / 1e3);
                for peer in peers {
                    let theirs = self.median("grow", &format!("{peer}/{pages}"))?;
                    row += &beside(ours, theirs);
                    if *peer == "pooling" && targets.grow.is_some_and(|target| ours / theirs > target) {
                        row += &format!(" > {}!", targets.grow.unwrap_or_default());
                    }
                }
                println!("{row}");
            }
        }
        Ok(())
    }

    /// The median of ours beside that of a peer.
    fn ratio(&mut self, group: &str, ours: &str, theirs: &str) -> Result<f64> {
        Ok(self.median(group, ours)? / self.median(group, theirs)?)
    }

    /// The geometric mean over the guests, of ours beside a peer's, and the largest.
    fn lives(&mut self, ours: &str, peer: &str, threads: usize) -> Result<(f64, f64)> {
        let (mut log, mut most) = (0.0, 0.0_f64);
        for guest in GUESTS {
            let name = |contender: &str| format!("{contender}/{guest}/{threads}");
            let ratio = self.ratio("instantiate", &name(ours), &name(peer))?;
            log += ratio.ln();
            most = most.max(ratio);
        }
        Ok(((log / GUESTS.len() as f64).exp(), most))
    }

    /// The rows of the table of targets.
    fn rows(&mut self) -> Result<Vec<Row>> {
        let best = PEERS[PEERS.len() - 1];
        let has_best = self.has_best_peer();
        let mut rows = Vec::new();
        let mut lives = Row {
            work: "store + instantiate + call + drop, five guests, 1 and 2 threads: means, then the worst guests",
            beside: best,
            wanted: Wanted::Each(&[0.75, 0.75, 0.75, 0.75, 1.0, 1.0, 1.0, 1.0]),
            figures: Vec::new(),
            aside: Vec::new(),
        };
        let mut worst = Vec::new();
        for preset in PRESETS.iter().filter(|_| has_best) {
            for threads in [1, 2] {
                let (mean, most) = self.lives(preset, best, threads)?;
                lives.figures.push((format!("{preset} x{threads}"), mean));
                worst.push((format!("{preset} x{threads} worst"), most));
            }
        }
        lives.figures.append(&mut worst);
        rows.push(lives);

        let mut demand = Vec::new();
        for preset in PRESETS {
            demand.push(((*preset).to_owned(), self.lives(preset, "on-demand", 1)?.0));
        }
        let row = |work, beside, wanted, figures| Row { work, beside, wanted, figures, aside: Vec::new() };
        rows.push(row("the same, means", "on-demand", Wanted::AtMost(0.25), demand));

        let mut grow = Vec::new();
        for preset in PRESETS.iter().filter(|_| has_best) {
            grow.push((
                (*preset).to_owned(),
                self.ratio("grow", &format!("{preset}/1024"), &format!("{best}/1024"))?,
            ));
        }
        rows.push(row("memory.grow page by page, 1 to 1024", best, Wanted::Each(&[1.05, 0.3]), grow));

        let (mut compute, mut aside) = (Vec::new(), Vec::new());
        for work in WORKS {
            let mut beside_plain = |preset: &str| -> Result<(String, f64)> {
                let ratio = self.ratio("compute", &format!("{preset}/{work}"), &format!("plain/{work}"))?;
                Ok((format!("{preset} {work}"), ratio))
            };
            compute.push(beside_plain("throughput")?);
            aside.push(beside_plain("density")?);
        }
        let wanted = Wanted::AtMost(1.01);
        rows.push(Row {
            work: "guest compute loop over its memory",
            beside: "plain wasmtime",
            wanted,
            figures: compute,
            aside,
        });

        let pair = self.ratio("ledger", "charge/1", "cas-pair/1")?;
        let said = fs::read_to_string(self.said.join("quiet_ledger"))?;
        let [turns_pair, turns_throughput] = targets::of_quiet_ledger(&said, "charge")?;
        let [turns_memory, _] = targets::of_quiet_ledger(&said, "memory-4096")?;
        let least = ("the least ledger".to_owned(), self.ratio("ledger", "least/1", "cas-pair/1")?);
        rows.push(Row {
            work: "charge + uncharge, one thread",
            beside: "a compare-and-swap pair",
            wanted: Wanted::AtMost(1.5),
            figures: vec![("time".to_owned(), pair)],
            aside: [turns_pair, vec![least]].concat(),
        });
        let mut throughput = |name: &str| -> Result<(String, f64)> {
            Ok((name.to_owned(), 2.0 * self.ratio("ledger", &format!("{name}/1"), &format!("{name}/2"))?))
        };
        rows.push(Row {
            work: "charge + uncharge, two threads, two crates: throughput",
            beside: "one thread",
            wanted: Wanted::AtLeast(1.9),
            figures: vec![throughput("charge")?],
            aside: [turns_throughput, vec![throughput("store-counter")?, throughput("registers")?]].concat(),
        });
        let figures = vec![("time".to_owned(), self.ratio("ledger", "allocate-4096/1", "malloc-4096/1")?)];
        rows.push(Row {
            work: "Memory<4096> allocate + free",
            beside: "the system's calloc + free",
            wanted: Wanted::AtMost(1.0),
            figures,
            aside: turns_memory,
        });

        let (count, ratio) = targets::of_density(&fs::read_to_string(self.said.join("density"))?)?;
        let figures = vec![(format!("rate at {count}"), ratio)];
        rows.push(row(
            "100,000 live instances, density preset",
            "the first ones",
            Wanted::AtMost(1.5),
            figures,
        ));

        let mut crates = Vec::new();
        for name in ["charge-among", "refused-by-limit", "refused-by-pool", "register-retire"] {
            let ratio = self.ratio("ledger", &format!("{name}/100000"), &format!("{name}/16"))?;
            crates.push((name.to_owned(), ratio));
        }
        rows.push(row("100,000 crates registered", "16 registered", Wanted::AtMost(1.3), crates));

        let said = fs::read_to_string(self.said.join("neighbour"))?;
        let figures = targets::of_neighbour(&said, PRESETS)?;
        rows.push(row(
            "a neighbour's p99 beside a hog",
            "the best peer and StoreLimits",
            Wanted::AtMost(1.0),
            figures,
        ));

        let figures = targets::of_wasmi(&fs::read_to_string(self.said.join("wasmi"))?)?;
        rows.push(row(
            "wasmi: load + instantiate + run + unload",
            "stock wasmi",
            Wanted::AtMost(1.0),
            figures,
        ));
        Ok(rows)
    }
}

/// Says where a mean is above its target.
fn judge(peers: &[&str], logs: &[f64], targets: &[(&str, f64)]) {
    for (peer, target) in targets {
        let Some(at) = peers.iter().position(|it| it == peer) else { continue };
        let mean = (logs[at] / GUESTS.len() as f64).exp();
        if mean > *target {
            println!("  falls short: {mean:.2} of {peer}, where {target} is wanted");
        }
    }
}

fn beside(ours: f64, theirs: f64) -> String {
    format!("{:>16.2} ({:>6.2})", theirs / 1e3, ours / theirs)
}

fn means(logs: &[f64]) -> String {
    logs.iter().map(|log| format!("{:>17}({:>6.2})", "", (log / GUESTS.len() as f64).exp())).collect()
}
