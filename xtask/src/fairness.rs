//! `cargo xtask fairness`: how much of what could be granted at all is granted, with static limits and with
//! rebalancing: table and figure of `docs/sharing.md`, which says what is simulated.

mod demand;
mod oracle;
mod plot;
mod policy;

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use plotters::style::RGBColor;

use demand::{CRATES, Demand, POOL, STEPS};
use plot::Line;
use policy::{FAIR, Outcome, PAGE, Policy};

/// The traces. The figure shows the first one.
const SEEDS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// What rebalancing must grant of what the oracle does, on every trace.
const TARGET: f64 = 0.90;

/// By how much more than static limits, likewise.
const LEAD: f64 = 0.10;

const STATIC: Policy =
    Policy { name: "static limits", held_to_it: false, limit: FAIR, guarantee: 0, lends: |_| false };

const REBALANCING: Policy =
    Policy { name: "rebalancing", held_to_it: true, limit: POOL, guarantee: FAIR, lends: |_| true };

/// Crates that lend nothing where not all do.
const KEEP: usize = 2;

const POLICIES: [Policy; 5] = [
    STATIC,
    REBALANCING,
    Policy { name: "rebalancing, half guaranteed", guarantee: FAIR / 2, ..REBALANCING },
    Policy {
        name: "rebalancing, two lend nothing",
        held_to_it: false,
        lends: |owner| owner >= KEEP,
        ..REBALANCING
    },
    Policy { name: "one pool", guarantee: 0, limit: POOL, ..STATIC },
];

const DOCUMENT: &str = "docs/sharing.md";
const FIGURE: &str = "docs/fairness.svg";

/// Between these lines of the document is what this writes.
const MARKS: [&str; 2] = ["<!-- from `cargo xtask fairness` -->\n", "<!-- to here -->\n"];

/// Measure what static limits, rebalancing and an oracle grant, and draw it
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail where the table or the figure is not what a run gives
    #[arg(long)]
    check: bool,
}

/// One trace under every policy.
struct Trial {
    seed: u64,
    wants: Vec<[usize; CRATES]>,
    oracle: Vec<usize>,
    outcomes: Vec<Outcome>,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let trials = SEEDS.into_iter().map(Trial::run).collect::<Result<Vec<_>>>()?;
    let table = table(&trials);
    print!("{table}");

    let first = trials.first().context("no trace")?;
    let document = fs::read_to_string(crate::root().join(DOCUMENT)).context(DOCUMENT)?;
    for (path, text) in [(DOCUMENT, put_between(&document, &table)?), (FIGURE, first.figure()?)] {
        let file = crate::root().join(path);
        if args.check {
            let there = fs::read_to_string(&file).context(path)?;
            ensure!(there == text, "{path} is not what a run gives: `cargo xtask fairness` writes it");
        } else {
            fs::write(&file, text).context(path)?;
        }
    }
    for trial in &trials {
        trial.judge()?;
    }
    let worst = |policy| trials.iter().map(|trial| trial.ratio(policy)).fold(1.0, f64::min);
    println!(
        "fairness: on the worst of {} traces static limits grant {:.1} %, rebalancing {:.1} % of what the oracle \
         does; no guarantee was broken",
        SEEDS.len(),
        100.0 * worst(0),
        100.0 * worst(1)
    );
    Ok(())
}

impl Trial {
    fn run(seed: u64) -> Result<Self> {
        let demand = Demand::new(seed);
        let wants = demand.by_crate();
        let oracle = oracle::granted(&wants, POOL);
        let run = |policy: &Policy| {
            let outcome = policy.run(&demand)?;
            for (step, (granted, most)) in outcome.granted.iter().zip(&oracle).enumerate() {
                let granted: usize = granted.iter().sum();
                ensure!(granted <= *most, "step {step}: {granted} pages granted, over the oracle's {most}");
            }
            Ok(outcome)
        };
        let run = |policy| run(policy).with_context(|| format!("seed {seed}, {}", policy.name));
        let outcomes = POLICIES.iter().map(run).collect::<Result<_>>()?;
        Ok(Self { seed, wants, oracle, outcomes })
    }

    /// What a policy granted, of what the oracle does.
    fn ratio(&self, policy: usize) -> f64 {
        self.outcomes[policy].sum() as f64 / self.oracle.iter().sum::<usize>() as f64
    }

    fn judge(&self) -> Result<()> {
        for (policy, outcome) in POLICIES.iter().zip(&self.outcomes) {
            if let Some(broken) = outcome.broken.first() {
                let (count, name, seed) = (outcome.broken.len(), policy.name, self.seed);
                bail!("seed {seed}, {name}: guarantees were broken {count} times, first so: {broken}");
            }
        }
        let fixed = self.ratio(0);
        for (at, policy) in POLICIES.iter().enumerate().filter(|(_, policy)| policy.held_to_it) {
            let ratio = self.ratio(at);
            let (name, seed) = (policy.name, self.seed);
            ensure!(ratio >= TARGET, "seed {seed}: {name} grants {ratio:.3} of the oracle, under {TARGET}");
            ensure!(
                ratio >= fixed + LEAD,
                "seed {seed}: {name} grants {ratio:.3} of the oracle, static limits {fixed:.3}: not {LEAD} more"
            );
        }
        Ok(())
    }

    fn figure(&self) -> Result<String> {
        let mib = |pages: usize| (pages * PAGE) as f64 / f64::from(1 << 20);
        let of = |policy: usize| {
            let granted = &self.outcomes[policy].granted;
            granted.iter().map(|at| mib(at.iter().sum())).collect::<Vec<_>>()
        };
        let line = |name: &str, colour, width, values| Line { name: name.to_owned(), colour, width, values };
        plot::draw(
            &[
                line(
                    "oracle",
                    RGBColor(150, 150, 150),
                    4,
                    self.oracle.iter().map(|&pages| mib(pages)).collect(),
                ),
                line(POLICIES[1].name, RGBColor(45, 125, 230), 2, of(1)),
                line(POLICIES[0].name, RGBColor(214, 104, 24), 2, of(0)),
            ],
            mib(POOL),
        )
    }
}

/// One row a policy: the worst trace, and sums or means over all.
fn table(trials: &[Trial]) -> String {
    let mut table = String::from(
        "| policy | granted, of the oracle: worst trace | mean | worst-off crate | refused within a guarantee | loans | transfers |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
    );
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let count = trials.len().max(1);
    for (at, policy) in POLICIES.iter().enumerate() {
        let ratios: Vec<_> = trials.iter().map(|trial| trial.ratio(at)).collect();
        let outcomes = || trials.iter().map(|trial| &trial.outcomes[at]);
        let worst_off: Vec<_> =
            trials.iter().map(|trial| trial.outcomes[at].worst_off(&trial.wants)).collect();
        let refused: u64 = outcomes().flat_map(|outcome| outcome.within_guarantee).sum();
        let asked: u64 = outcomes().map(|outcome| outcome.asked).sum();
        let within = match policy.guarantee {
            0 => "–".to_owned(),
            _ => format!("{refused} of {asked}"),
        };
        let loans: u64 = outcomes().map(|outcome| outcome.counts.loans).sum();
        let transfers: u64 = outcomes().map(|outcome| outcome.counts.transfers).sum();
        _ = writeln!(
            table,
            "| {} | {} | {} | {} | {within} | {} | {} |",
            policy.name,
            percent(least(&ratios)),
            percent(ratios.iter().sum::<f64>() / count as f64),
            percent(least(&worst_off)),
            loans / count as u64,
            transfers / count as u64,
        );
    }
    let worst_off: Vec<_> = trials.iter().map(|trial| oracle::worst_off(&trial.wants, POOL)).collect();
    _ = writeln!(table, "| oracle | 100.0 % | 100.0 % | {} | – | – | – |", percent(least(&worst_off)));

    let scarce = |trial: &Trial| trial.wants.iter().filter(|at| at.iter().sum::<usize>() > POOL).count();
    let scarce: usize = trials.iter().map(scarce).sum();
    let wanted: usize = trials.iter().flat_map(|trial| trial.wants.iter().flatten()).sum();
    let steps = STEPS * count;
    _ = writeln!(
        table,
        "\nOver all traces, {} of the pool are wanted on average, and more than the pool at {} of the steps.",
        percent(wanted as f64 / (steps * POOL) as f64),
        percent(scarce as f64 / steps as f64),
    );
    table
}

/// The document with `text` between its marks.
fn put_between(document: &str, text: &str) -> Result<String> {
    let [begin, end] = MARKS;
    let missing = || format!("{DOCUMENT} lacks the lines {begin:?} and {end:?}");
    let (before, rest) = document.split_once(begin).with_context(missing)?;
    let (_, after) = rest.split_once(end).with_context(missing)?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_the_marks_is_replaced_and_nothing_else() {
        let [begin, end] = MARKS;
        let once = put_between(&format!("a\n{begin}old\n{end}b\n"), "new\n").unwrap();
        assert_eq!(once, format!("a\n{begin}\nnew\n\n{end}b\n"));
        assert_eq!(put_between(&once, "new\n").unwrap(), once);
        assert!(put_between("a\nb\n", "new\n").is_err());
    }

    #[test]
    fn static_limits_and_one_pool_grant_what_they_must() {
        let trial = Trial::run(1).unwrap();
        // Without loans and guarantees each crate has what it wants up to its limit, or all share the pool.
        for (step, wants) in trial.wants.iter().enumerate() {
            for (owner, &wanted) in wants.iter().enumerate() {
                assert!(trial.outcomes[0].granted[step][owner] <= wanted.min(FAIR));
            }
        }
        let one_pool = trial.ratio(POLICIES.len() - 1);
        assert!(one_pool > 0.999, "the oracle is out of reach: {one_pool}");
    }

    #[test]
    fn the_same_trace_gives_the_same_outcome() {
        let demand = Demand::new(3);
        let [one, other] = [(), ()].map(|()| REBALANCING.run(&demand).unwrap());
        assert_eq!((one.granted, one.counts), (other.granted, other.counts));
        assert_eq!((one.asked, one.refused), (other.asked, other.refused));
    }
}
