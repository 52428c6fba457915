//! `cargo xtask peers`: the benches in one run, and what they say beside each other.
//!
//! Criterion leaves its estimates in `target/criterion`; the table has the medians of this run, and
//! the ratio of ours to each peer's: below 1 is faster. What is above its target is marked.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::runtime::Runtime;
use crate::tools::{cargo, execute, target_dir};

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
    let mut command = cargo(crate::root());
    // The whole workspace, so that wasmi is built as the other release builds have it.
    command.args(["bench", "--workspace", "--bench", "beside_stock", "--"]);
    execute(command.args(args.quick.then_some("--quick")))
}

fn beside_wasmtime(args: &Args) -> Result<()> {
    let criterion = target_dir().join("criterion");
    if !args.again {
        // What an earlier run left would pass for this one's.
        for group in ["ledger", "instantiate", "grow"].map(|group| criterion.join(group)) {
            if group.exists() {
                fs::remove_dir_all(group)?;
            }
        }
        let mut command = cargo(crate::root());
        command.args(["bench", "--package", "wrt-memory-benches", "--", "--noplot", "--quiet"]);
        execute(command.args(if args.quick { QUICK } else { &[] }))?;
    }
    let mut results = Results { folder: criterion, read: 0 };
    results.ledger()?;
    results.instantiate()?;
    results.grow()?;
    let peers = if results.has_best_peer() {
        "all peers"
    } else {
        "no PAGEMAP_SCAN here, so the best peer is missing"
    };
    println!("\npeers: medians of {} benches; {peers}", results.read);
    Ok(())
}

struct Results {
    folder: PathBuf,
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
        for name in ["charge", "cas-pair", "atomic-add", "mutex", "store-counter"] {
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
