//! All mutants in one program. Each becomes an arm beside the original, switched on by a number in the environment:
//!
//! ```text
//! if a && b                  if match crate::mutant::on() { 7 => { a || b } _ => { a && b } }
//! ```
//!
//! So hundreds of builds are one. What cannot be put so, as in a `const fn`, is left for a build of its own.

use std::ops::Range;

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Genre, Mutant};

/// What the program reads its mutant's number from.
pub const VARIABLE: &str = "WRT_MUTANT";

/// The end of the crate's root: which mutant is on. None is 0.
pub const WHICH: &str = r#"
mod mutant {
    pub(crate) fn on() -> usize {
        static ON: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        *ON.get_or_init(|| std::env::var("WRT_MUTANT").ok().and_then(|it| it.parse().ok()).unwrap_or(0))
    }
}
"#;

/// A source with some of its mutants in it.
pub struct Switched {
    pub text: String,
    /// The numbers of those that are not.
    pub left_out: Vec<usize>,
}

/// Puts mutants into the source they are of, each with its number.
pub fn switch(source: &str, mutants: &[(usize, &Mutant)]) -> Result<Switched> {
    let file = syn::parse_file(source).context("parsing")?;
    let starts = mutants.iter().map(|(_, mutant)| mutant.range(source).start).collect();
    let mut sites = Sites { source, mutants, starts, found: Vec::new() };
    for (number, mutant) in mutants.iter().filter(|(_, mutant)| mutant.genre == Genre::FnValue) {
        let at = mutant.range(source).start;
        let text = format!("if crate::mutant::on() == {number} {{ return {}; }}", mutant.replacement);
        sites.found.push(Site { range: at..at, arms: vec![(*number, text)] });
    }
    sites.visit_file(&file);
    let mut found = sites.found;
    // What is around comes before what is in it, and what is put before an expression before that.
    found.sort_by_key(|site| (site.range.start, !site.range.is_empty(), usize::MAX - site.range.end));
    let is_in = |number: &usize| found.iter().any(|site| site.arms.iter().any(|(arm, _)| arm == number));
    let left_out = mutants.iter().map(|(number, _)| *number).filter(|number| !is_in(number)).collect();
    Ok(Switched { text: render(source, &found, 0..source.len()), left_out })
}

/// The source with one mutant in place of what it replaces.
pub fn replaced(source: &str, mutant: &Mutant) -> String {
    let range = mutant.range(source);
    format!("{}{}{}", &source[..range.start], mutant.replacement, &source[range.end..])
}

/// The mutants whose text a place in a switched source is in, of the innermost that is there.
pub fn mutants_at(switched: &str, place: usize) -> Vec<usize> {
    let mut open = Vec::new();
    for (at, mark) in switched[..place.min(switched.len())].match_indices("/*") {
        let text = &switched[at + mark.len()..];
        if let Some(numbers) = text.strip_prefix(OPENS) {
            open.push(numbers);
        } else if text.starts_with(CLOSES) {
            open.pop();
        }
    }
    let numbers = open.pop().and_then(|text| text.split_once('*')).unwrap_or_default().0;
    numbers.split(',').filter_map(|number| number.parse().ok()).collect()
}

/// How comments begin that are around the text of mutants.
const OPENS: char = '<';
const CLOSES: char = '>';

/// A place that mutants change.
struct Site {
    /// What they replace; empty where they are put before something.
    range: Range<usize>,
    arms: Vec<(usize, String)>,
}

/// Marks text as that of some mutants.
fn marked(numbers: &[usize], text: &str) -> String {
    let numbers = numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    format!("/*{OPENS}{numbers}*/{text}/*{CLOSES}*/")
}

fn render(source: &str, sites: &[Site], range: Range<usize>) -> String {
    let mut text = String::new();
    let (mut at, mut next) = (range.start, 0);
    while let Some(site) = sites.get(next) {
        text += &source[at..site.range.start];
        next += 1;
        if site.range.is_empty() {
            for (number, arm) in &site.arms {
                text += &marked(&[*number], arm);
            }
        } else {
            let within = sites[next..].iter().take_while(|inner| inner.range.start < site.range.end).count();
            let original = render(source, &sites[next..next + within], site.range.clone());
            next += within;
            let arms = site.arms.iter();
            let arms = arms.map(|(number, arm)| format!("{number} => {{ {} }} ", marked(&[*number], arm)));
            let arms = arms.collect::<String>();
            let numbers: Vec<_> = site.arms.iter().map(|(number, _)| *number).collect();
            text +=
                &marked(&numbers, &format!("(match crate::mutant::on() {{ {arms}_ => {{ {original} }} }})"));
        }
        at = site.range.end;
    }
    text + &source[at..range.end]
}

/// Finds the expressions that mutants change.
struct Sites<'a> {
    source: &'a str,
    mutants: &'a [(usize, &'a Mutant)],
    /// Where each begins.
    starts: Vec<usize>,
    found: Vec<Site>,
}

impl<'a> Sites<'a> {
    /// The mutants of a kind that begin at a place.
    fn at(&self, start: usize, genre: Genre) -> Vec<(usize, &'a Mutant)> {
        let with_starts = self.mutants.iter().zip(&self.starts);
        let here = with_starts.filter(|((_, mutant), at)| mutant.genre == genre && **at == start);
        here.map(|(mutant, _)| *mutant).collect()
    }

    /// `range` is what each of `mutants` makes of it.
    fn replace(
        &mut self,
        range: Range<usize>,
        mutants: &[(usize, &Mutant)],
        made: impl Fn(&Mutant) -> String,
    ) {
        if !mutants.is_empty() {
            let arms = mutants.iter().map(|(number, mutant)| (*number, made(mutant))).collect();
            self.found.push(Site { range, arms });
        }
    }
}

/// Whether an expression binds names, and so is no value of its own.
fn binds(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(it) => binds(&it.left) || binds(&it.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Sites<'_> {
    fn visit_expr_binary(&mut self, it: &'ast syn::ExprBinary) {
        let (operator, range) = (it.op.span().byte_range(), it.span().byte_range());
        if !binds(&it.left) && !binds(&it.right) {
            let mutants = self.at(operator.start, Genre::BinaryOperator);
            let (left, right) =
                (&self.source[range.start..operator.start], &self.source[operator.end..range.end]);
            self.replace(range.clone(), &mutants, |mutant| format!("{left}{}{right}", mutant.replacement));
        }
        visit::visit_expr_binary(self, it);
    }

    fn visit_expr_unary(&mut self, it: &'ast syn::ExprUnary) {
        let (operator, range) = (it.op.span().byte_range(), it.span().byte_range());
        let mutants = self.at(operator.start, Genre::UnaryOperator);
        let operand = &self.source[operator.end..range.end];
        self.replace(range, &mutants, |mutant| format!("{}{operand}", mutant.replacement));
        visit::visit_expr_unary(self, it);
    }

    fn visit_arm(&mut self, it: &'ast syn::Arm) {
        let deleted = self.at(it.span().byte_range().start, Genre::MatchArm);
        if let Some((_, guard)) = &it.guard {
            let range = guard.span().byte_range();
            if !binds(guard) {
                let mutants = self.at(range.start, Genre::MatchArmGuard);
                self.replace(range.clone(), &mutants, |mutant| mutant.replacement.clone());
            }
            // Where all of the guard is what `&&` takes.
            if !matches!(**guard, syn::Expr::Binary(syn::ExprBinary { op: syn::BinOp::Or(_), .. })) {
                let arms = deleted.iter();
                let arms = arms.map(|(number, _)| (*number, format!("crate::mutant::on() != {number} && ")));
                self.found.push(Site { range: range.start..range.start, arms: arms.collect() });
            }
        } else {
            let end = it.pat.span().byte_range().end;
            // One condition for them all.
            let arms = deleted.iter().take(1);
            let arms = arms.map(|(number, _)| (*number, format!(" if crate::mutant::on() != {number} ")));
            self.found.push(Site { range: end..end, arms: arms.collect() });
        }
        visit::visit_arm(self, it);
    }
}
