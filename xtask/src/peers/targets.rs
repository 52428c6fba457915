//! The targets, one row each: what was measured beside whom, and what falls short.

use anyhow::{Context, Result, anyhow, ensure};

/// What was measured of one row: each figure with what it is of. Ratios, below 1 is faster, unless the row says otherwise.
pub struct Row {
    /// What is done.
    pub work: &'static str,
    /// Beside whom.
    pub beside: &'static str,
    /// What is wanted of the figures.
    pub wanted: Wanted,
    /// The figures; none where it was not measured.
    pub figures: Vec<(String, f64)>,
    /// Said without a target.
    pub aside: Vec<(String, f64)>,
}

/// What is wanted.
#[derive(Clone, Copy)]
pub enum Wanted {
    /// Each figure is at most this.
    AtMost(f64),
    /// Each figure is at least this.
    AtLeast(f64),
    /// Each figure is at most its own.
    Each(&'static [f64]),
}

impl Wanted {
    fn is_met(self, at: usize, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
            Self::Each(most) => most.get(at).is_some_and(|most| figure <= *most),
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
            Self::Each(most) => {
                let all: Vec<_> = most.iter().map(|most| format!("<= {most}")).collect();
                all.join(", ")
            }
        }
    }
}

/// How a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All figures are as wanted.
    Met,
    /// Some are not.
    Short,
    /// There are none.
    NotMeasured,
}

impl Row {
    /// How it ended.
    pub fn verdict(&self) -> Verdict {
        let met = |(at, figure): (usize, &(String, f64))| self.wanted.is_met(at, figure.1);
        match self.figures.as_slice() {
            [] => Verdict::NotMeasured,
            figures if figures.iter().enumerate().all(met) => Verdict::Met,
            _ => Verdict::Short,
        }
    }

    /// The row of the table. A figure that is not as wanted has a mark.
    fn text(&self) -> String {
        let figure = |(at, (of, figure)): (usize, &(String, f64))| {
            let mark = if self.wanted.is_met(at, *figure) { "" } else { "!" };
            format!("{of} {figure:.2}{mark}")
        };
        let figures = self.figures.iter().enumerate().map(figure);
        let aside = self.aside.iter().map(|(of, figure)| format!("({of} {figure:.2})"));
        let figures: Vec<_> = figures.chain(aside).collect();
        let verdict = match self.verdict() {
            Verdict::Met => "met",
            Verdict::Short => "SHORT",
            Verdict::NotMeasured => "not measured",
        };
        format!(
            "{} | {} | {} | {} | {verdict}",
            self.work,
            self.beside,
            self.wanted.text(),
            if figures.is_empty() { "-".to_owned() } else { figures.join(", ") }
        )
    }
}

/// The whole table, and how many rows are met.
pub fn table(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict() == verdict).count();
    let mut text = "work | beside | wanted | measured | \n--- | --- | --- | --- | ---\n".to_owned();
    for row in rows {
        text += &row.text();
        text.push('\n');
    }
    text + &format!(
        "{} of {} targets met, {} fall short, {} not measured",
        count(Verdict::Met),
        rows.len(),
        count(Verdict::Short),
        count(Verdict::NotMeasured)
    )
}

/// What `density` says in its last line: how much longer an instance takes to make at the end than at the beginning.
pub fn of_density(said: &str) -> Result<(usize, f64)> {
    let line = said.lines().find(|line| line.contains(" ran; made in ")).context("no line says what ran")?;
    let count = line.split(' ').nth(1).and_then(|count| count.parse().ok());
    let ratio = line.strip_suffix(" x").and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.zip(ratio).with_context(|| format!("reading {line:?}"))
}

/// What `neighbour` says in the last column, of each of our contenders.
pub fn of_neighbour(said: &str, ours: &[&str]) -> Result<Vec<(String, f64)>> {
    let mut figures = Vec::new();
    for name in ours {
        let line = said.lines().find(|line| line.split_whitespace().next() == Some(name));
        let line = line.with_context(|| format!("no line of {name}"))?;
        let figure = line.split_whitespace().last().and_then(|figure| figure.parse().ok());
        figures.push(((*name).to_owned(), figure.with_context(|| format!("reading {line:?}"))?));
    }
    ensure!(!figures.is_empty(), "no contender was asked for");
    Ok(figures)
}

/// What `quiet_ledger` says of a contender that has a peer: the medians of all turns and of the undisturbed, of its time beside
/// the peer's and of the throughput of two threads.
pub fn of_quiet_ledger(said: &str, name: &str) -> Result<[Vec<(String, f64)>; 2]> {
    let line = said.lines().find(|line| line.split_whitespace().next() == Some(name));
    let line = line.with_context(|| format!("no line of {name}"))?;
    let cells: Vec<Option<f64>> = line.split_whitespace().skip(1).map(|cell| cell.parse().ok()).collect();
    let named = |all, quiet| vec![("turn by turn".to_owned(), all), ("undisturbed".to_owned(), quiet)];
    match cells[..] {
        [_, Some(all), Some(quiet), _, Some(all_two), Some(quiet_two), _] => {
            Ok([named(all, quiet), named(all_two, quiet_two)])
        }
        _ => Err(anyhow!("reading {line:?}")),
    }
}

/// What the bench beside stock wasmi says of a guest's whole life: compiled each time, and once.
pub fn of_wasmi(said: &str) -> Result<Vec<(String, f64)>> {
    let mut figures = Vec::new();
    for (of, name) in [("compiled each time", "load, run, unload"), ("once", "the same, compiled once")] {
        let numbers = said.lines().find_map(|line| line.trim().strip_prefix(name));
        let numbers = numbers.with_context(|| format!("no line says {name:?}"))?;
        let figure = numbers.split_whitespace().nth(2).and_then(|figure| figure.parse().ok());
        figures.push((of.to_owned(), figure.with_context(|| format!("reading {numbers:?}"))?));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(wanted: Wanted, figures: &[f64]) -> Row {
        let figures = figures.iter().map(|figure| ("it".to_owned(), *figure)).collect();
        Row { work: "work", beside: "peer", wanted, figures, aside: Vec::new() }
    }

    #[test]
    fn a_row_is_met_where_each_figure_is() {
        assert_eq!(row(Wanted::AtMost(1.0), &[0.9, 1.0]).verdict(), Verdict::Met);
        assert_eq!(row(Wanted::AtMost(1.0), &[0.9, 1.01]).verdict(), Verdict::Short);
        assert_eq!(row(Wanted::AtLeast(1.9), &[1.9]).verdict(), Verdict::Met);
        assert_eq!(row(Wanted::AtLeast(1.9), &[1.89]).verdict(), Verdict::Short);
        assert_eq!(row(Wanted::Each(&[1.0, 0.3]), &[0.9, 0.2]).verdict(), Verdict::Met);
        assert_eq!(row(Wanted::Each(&[1.0, 0.3]), &[0.9, 0.31]).verdict(), Verdict::Short);
        assert_eq!(row(Wanted::AtMost(1.0), &[]).verdict(), Verdict::NotMeasured);
    }

    #[test]
    fn what_falls_short_is_marked() {
        let said = table(&[row(Wanted::AtMost(1.0), &[0.5, 1.5]), row(Wanted::AtMost(1.0), &[])]);
        assert!(said.contains("it 0.50, it 1.50! | SHORT"), "{said}");
        assert!(said.ends_with("0 of 2 targets met, 1 fall short, 1 not measured"), "{said}");
    }

    #[test]
    fn what_the_programs_say_is_read() {
        let density = "some line\nall 100000 ran; made in 4.1 us at first, 5.3 us at the end: 1.29 x\n";
        assert_eq!(of_density(density).unwrap(), (100_000, 1.29));
        assert!(of_density("killed").is_err());
        let neighbour = "density   1.0 2.0 3.0 4.0   0.75\nthroughput   1.0 2.0 3.0 4.0   0.80\n";
        let read = of_neighbour(neighbour, &["throughput", "density"]).unwrap();
        assert_eq!(read, [("throughput".to_owned(), 0.8), ("density".to_owned(), 0.75)]);
        assert!(of_neighbour(neighbour, &["slow"]).is_err());
        let ledger = "pair  12.9  -  -  -  1.9  2.0  34%\ncharge  15.8  1.46  1.23  71%  1.77  2.01  34%\n";
        let named = |all, quiet| vec![("turn by turn".to_owned(), all), ("undisturbed".to_owned(), quiet)];
        assert_eq!(of_quiet_ledger(ledger, "charge").unwrap(), [named(1.46, 1.23), named(1.77, 2.01)]);
        assert!(of_quiet_ledger(ledger, "pair").is_err() && of_quiet_ledger(ledger, "ns").is_err());
        let wasmi = "   load, run, unload   9.00   8.10   0.90\n  the same, compiled once  2.0  2.2  1.10  above 1.00\n";
        let read = of_wasmi(wasmi).unwrap();
        assert_eq!(read, [("compiled each time".to_owned(), 0.9), ("once".to_owned(), 1.1)]);
        assert!(of_wasmi("load, run, unload").is_err());
    }
}
