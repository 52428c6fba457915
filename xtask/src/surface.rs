//! `cargo xtask surface`: how large the manager's public surface is, as rustdoc shows it to a user.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::tools::{cargo, execute, target_dir};

/// The most public items the manager may have: modules, types, traits, functions, macros, constants.
/// Methods, fields and variants belong to an item.
const MOST: usize = 95;

/// Count the manager's public items: at most 95
#[derive(clap::Args)]
pub struct Args {
    /// Also list them
    #[arg(long)]
    list: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let root = target_dir().join("doc/wrt_memory");
    // The page of an item that is gone would be counted.
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    execute(cargo(crate::root()).args([
        "doc",
        "--quiet",
        "--package",
        "wrt-memory",
        "--no-deps",
        "--all-features",
    ]))?;
    let mut items = Vec::new();
    let mut methods = 0;
    read(&root, &root, &mut items, &mut methods)?;
    items.sort();
    for item in items.iter().filter(|_| args.list) {
        println!("{item}");
    }
    ensure!(!items.is_empty(), "rustdoc wrote no page to {}", root.display());
    ensure!(items.len() <= MOST, "{} public items, over {MOST}: make some `pub(crate)`", items.len());
    println!("surface: {} public items, at most {MOST}; {methods} methods of their own", items.len());
    Ok(())
}

/// Counts the pages rustdoc wrote: `KIND.NAME.html` for an item, `index.html` for a module.
fn read(root: &Path, folder: &Path, items: &mut Vec<String>, methods: &mut usize) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read(root, &path, items, methods)?;
            continue;
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let item = match file.strip_suffix(".html").map(|stem| stem.split_once('.')) {
            Some(Some((kind, name))) => {
                format!("{kind} {}", path.with_file_name(name).strip_prefix(root)?.display())
            }
            None => continue,
            // The crate itself is no item of it.
            Some(None) if file != "index.html" || folder == root => continue,
            Some(None) => format!("mod {}", folder.strip_prefix(root)?.display()),
        };
        let page = fs::read_to_string(&path)?;
        // Private modules have pages that only lead to where their items are public.
        if page.contains("http-equiv=\"refresh\"") {
            continue;
        }
        items.push(item);
        // Methods of traits have another class, and those of what it dereferences to come last.
        let own = page.split("id=\"deref-methods").next().unwrap_or_default();
        *methods += own.matches("class=\"method\"").count();
    }
    Ok(())
}
