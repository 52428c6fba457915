//! `cargo xtask unsafe`: how much `unsafe` there is in what ships, so that none is added unseen.
//!
//! Read from the tokens, so that macros count too. That every block and implementation states the contract it
//! relies on, clippy checks (`undocumented_unsafe_blocks`, denied in the workspace); that every
//! unsafe function and trait states its own, this does.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What ships: the other members are tests, tools and demonstrations.
const CRATES: &[&str] = &["manager", "wasmtime-adapter", "wasmi-adapter", "host"];

/// Where the counts are kept.
const KEPT: &str = "PROOFS.md";

/// Count `unsafe` in what ships, and compare with PROOFS.md
#[derive(clap::Args)]
pub struct Args {
    /// Also list where it is
    #[arg(long)]
    list: bool,
}

/// What `unsafe` stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Implementation,
    /// A function or a trait: whoever calls or implements it has the duty it states.
    Function {
        /// Of a trait that says what the duty is.
        of_trait: bool,
    },
}

#[derive(Default)]
struct Counts {
    blocks: usize,
    implementations: usize,
    functions: usize,
    files: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, implementations, functions, files } = self;
        write!(
            f,
            "{blocks} unsafe blocks, {implementations} unsafe implementations, {functions} unsafe functions \
             and traits, in {files} files of {} crates",
            CRATES.len()
        )
    }
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let mut counts = Counts::default();
    for name in CRATES {
        let folder = crate::root().join(name);
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        ensure!(
            manifest.contains("[lints]\nworkspace = true"),
            "{name} does not have the workspace's lints, which ask for SAFETY comments"
        );
        read(&folder.join("src"), &BTreeSet::new(), args.list, &mut counts)?;
    }
    let kept = crate::root().join(KEPT);
    let kept = fs::read_to_string(&kept).with_context(|| format!("reading {}", kept.display()))?;
    ensure!(
        kept.contains(&counts.to_string()),
        "there are {counts}: look at what is new, then say so in {KEPT}"
    );
    println!("unsafe: {counts}, as {KEPT} says");
    Ok(())
}

/// `only_tested`: modules that folders above declare for tests only.
fn read(folder: &Path, only_tested: &BTreeSet<String>, list: bool, counts: &mut Counts) -> Result<()> {
    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    let is_source = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let mut tests = BTreeSet::new();
    for path in paths.iter().filter(|path| is_source(path)) {
        tests.extend(modules_of_tests(&fs::read_to_string(path)?).map(str::to_owned));
    }
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if tests.contains(&*name) || only_tested.contains(&*name) {
            continue;
        }
        if path.is_dir() {
            read(&path, &tests, list, counts)?;
            continue;
        }
        if !is_source(&path) {
            continue;
        }
        let source = fs::read_to_string(&path)?;
        let found = find(&source).with_context(|| format!("reading {}", path.display()))?;
        counts.files += usize::from(!found.is_empty());
        for (kind, line) in found {
            let place = format!("{}:{line}", path.display());
            if list {
                println!("{place}: {kind:?}");
            }
            match kind {
                Kind::Block => counts.blocks += 1,
                Kind::Implementation => counts.implementations += 1,
                Kind::Function { of_trait } => {
                    counts.functions += 1;
                    ensure!(
                        of_trait || has_contract(&source, line),
                        "{place}: no `# Safety` says what its caller must see to"
                    );
                }
            }
        }
    }
    Ok(())
}

/// The modules in files of their own that a source declares for tests, or for Miri, only.
fn modules_of_tests(source: &str) -> impl Iterator<Item = &str> {
    source.lines().zip(source.lines().skip(1)).filter_map(|(above, line)| {
        let tested = above.trim().strip_prefix("#[cfg(")?.split(|c: char| !c.is_alphanumeric());
        let name = line.trim().strip_prefix("mod ")?.strip_suffix(';')?;
        tested.into_iter().any(|word| word == "test" || word == "miri").then_some(name)
    })
}

/// Each `unsafe` of a source, with its line.
fn find(source: &str) -> Result<Vec<(Kind, usize)>> {
    let tokens: TokenStream = source.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut found = Vec::new();
    walk(tokens, false, &mut found);
    Ok(found)
}

/// `of_trait`: in an implementation of a trait.
fn walk(tokens: TokenStream, of_trait: bool, found: &mut Vec<(Kind, usize)>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    // Since the last `impl` at this level, and whether a `for` came after it.
    let (mut in_impl, mut for_trait) = (false, false);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let brace = group.delimiter() == Delimiter::Brace;
                if !(brace && is_tests(&tokens[..at])) {
                    walk(group.stream(), if brace && in_impl { for_trait } else { of_trait }, found);
                }
                if brace {
                    in_impl = false;
                }
            }
            TokenTree::Ident(word) if word == "impl" => (in_impl, for_trait) = (true, false),
            TokenTree::Ident(word) if word == "for" => for_trait = true,
            TokenTree::Ident(word) if word == "unsafe" => {
                let line = word.span().start().line;
                found.extend(kind(&tokens[at + 1..], of_trait).map(|kind| (kind, line)));
            }
            _ => {}
        }
    }
}

/// What stands after `unsafe`. A type of function pointers, or an attribute, is nothing to prove.
fn kind(after: &[TokenTree], of_trait: bool) -> Option<Kind> {
    match after {
        [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Brace => Some(Kind::Block),
        [TokenTree::Ident(word), ..] if word == "impl" => Some(Kind::Implementation),
        [TokenTree::Ident(word), TokenTree::Ident(_), ..] if word == "fn" || word == "trait" => {
            Some(Kind::Function { of_trait })
        }
        // `unsafe extern "C" fn name`, or a block of foreign functions.
        [TokenTree::Ident(word), TokenTree::Literal(_), rest @ ..] if word == "extern" => match rest {
            [TokenTree::Ident(word), TokenTree::Ident(_), ..] if word == "fn" => {
                Some(Kind::Function { of_trait })
            }
            [TokenTree::Group(_), ..] => Some(Kind::Block),
            _ => None,
        },
        _ => None,
    }
}

/// Whether what came last is `mod tests`.
fn is_tests(before: &[TokenTree]) -> bool {
    matches!(before, [.., TokenTree::Ident(word), TokenTree::Ident(name)]
        if word == "mod" && name.to_string().starts_with("tests"))
}

/// Whether the documentation right above a line has a section on safety.
fn has_contract(source: &str, line: usize) -> bool {
    let above: Vec<_> = source.lines().take(line.saturating_sub(1)).collect();
    let above = above.iter().rev().map(|text| text.trim());
    above
        .take_while(|text| text.starts_with("//") || text.starts_with("#["))
        .any(|text| text.starts_with("/// # Safety") || text.starts_with("// SAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_where_it_is_and_no_other() {
        let source = "
            #[unsafe(no_mangle)]
            unsafe impl Send for X {}
            impl P for X { unsafe fn free(&self) { unsafe { f() } } }
            impl X { unsafe fn take(&self) {} }
            unsafe trait T { }
            type F = unsafe fn(usize);
            make! { const fn g() { unsafe { f() } } }
            mod tests { fn t() { unsafe { f() } } }
        ";
        let function = |of_trait| Kind::Function { of_trait };
        let expected = [
            (Kind::Implementation, 3),
            (function(true), 4),
            (Kind::Block, 4),
            (function(false), 5),
            (function(false), 6),
            (Kind::Block, 8),
        ];
        assert_eq!(find(source).unwrap(), expected);
    }

    #[test]
    fn a_module_for_tests_only_is_known_by_its_attribute() {
        let source = "#[cfg(all(test, loom))]\nmod tests_loom;\n#[cfg(feature = \"x\")]\nmod x;\n#[cfg(miri)]\nmod pages;\n\
                      mod model;";
        assert_eq!(modules_of_tests(source).collect::<Vec<_>>(), ["tests_loom", "pages"]);
    }

    #[test]
    fn a_contract_is_right_above() {
        let with = "/// Frees.\n///\n/// # Safety\n/// Once.\n#[inline]\nunsafe fn free() {}";
        assert!(has_contract(with, 6));
        assert!(!has_contract("/// # Safety\n/// Once.\nfn other() {}\n\nunsafe fn free() {}", 5));
    }
}
