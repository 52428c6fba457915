//! The table at the end: one row a crate.

use std::fmt::Write as _;

use crate::report::{GuestReport, Report};
use crate::sizes::show;

/// Columns of a bar.
const BAR: usize = 16;
/// Characters of an outcome; what is longer is cut.
const OUTCOME: usize = 48;

/// The table, and what became of the pool.
pub fn table(report: &Report) -> String {
    let mut rows =
        vec![["crate", "instances", "used", "limit", "high water", "denials", "outcome"].map(str::to_owned)];
    for guest in &report.guests {
        let Some(node) = report.node(guest) else { continue };
        rows.push([
            guest.name.clone(),
            guest.instances.to_string(),
            show(node.used),
            show(node.limit),
            format!("{} {}", bar(node.high_water, node.limit), show(node.high_water)),
            node.denials.total().to_string(),
            outcome(guest, node.denials.total() > 0),
        ]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                1 | 2 | 3 | 5 => write!(line, "{cell:>width$}  "),
                _ => write!(line, "{cell:width$}  "),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
        if number == 0 {
            let _ = writeln!(text, "{}", "─".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
        }
    }
    let pool = &report.snapshot.pool;
    let _ = writeln!(
        text,
        "pool: {}, at most {} of it given out at once; {}; {:.1} s",
        show(pool.limit),
        show(pool.high_water),
        denials(report.snapshot.crates.iter().map(|node| node.denials.total()).sum()),
        report.elapsed_ms as f64 / 1000.0
    );
    text.push_str(&back(report));
    text
}

/// So many denials, in words.
pub fn denials(count: u64) -> String {
    match count {
        0 => "no denials".to_owned(),
        1 => "1 denial".to_owned(),
        many => format!("{many} denials"),
    }
}

/// What became of the bytes, in a line.
pub fn back(report: &Report) -> String {
    match report.left.as_slice() {
        [] => "every byte is back in the pool\n".to_owned(),
        left => left.iter().map(|what| format!("NOT BACK: {what}\n")).collect(),
    }
}

/// So much of that, in eighths of a column.
fn bar(part: usize, whole: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let steps =
        (part as u128 * (BAR * 8) as u128).div_ceil(whole.max(1) as u128).min((BAR * 8) as u128) as usize;
    let mut bar = "█".repeat(steps / 8);
    if let part @ 1.. = steps % 8 {
        bar.push(EIGHTHS[part]);
    }
    let blank = BAR - bar.chars().count();
    bar.extend(std::iter::repeat_n('·', blank));
    bar
}

/// How a guest's instances ended: one kind of end with the number of those that met it, then the next.
fn outcome(guest: &GuestReport, denied: bool) -> String {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for run in &guest.runs {
        let short = run.outcome.in_short();
        match kinds.iter_mut().find(|(kind, _)| *kind == short) {
            Some((_, count)) => *count += 1,
            None => kinds.push((short, 1)),
        }
    }
    let told: Vec<_> = match kinds.as_slice() {
        [(kind, count)] if *count == guest.instances => vec![kind.clone()],
        kinds => kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect(),
    };
    let mut told = told.join(", ");
    if denied && guest.runs.iter().all(|run| run.outcome.code() == 0) {
        told = told.replacen("done", "denied, lived on", 1);
    }
    if guest.above_peak {
        told.push_str(", above the asserted peak");
    }
    if told.chars().count() > OUTCOME {
        told = told.chars().take(OUTCOME - 1).collect();
        told.push('…');
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_only_at_the_limit_and_empty_only_at_nothing() {
        assert_eq!(bar(0, 100), "·".repeat(BAR));
        assert_eq!(bar(100, 100), "█".repeat(BAR));
        assert_eq!(bar(1, 1 << 40).chars().next(), Some('▏'));
        assert_eq!(bar(50, 100).chars().filter(|&c| c == '█').count(), BAR / 2);
        for part in 0..=200 {
            assert_eq!(bar(part, 200).chars().count(), BAR, "{part}");
        }
        assert_eq!(bar(0, 0), "·".repeat(BAR));
    }
}
