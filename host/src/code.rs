//! A guest's code before any runtime has it: where it is, what it is, and why it cannot be run.

use std::borrow::Cow;
use std::path::Path;

use crate::outcome;
use crate::plan::{GuestPlan, Source};

/// Why a guest cannot be run.
#[derive(Debug)]
pub struct LoadError {
    /// The host's exit code for it.
    pub code: u8,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl LoadError {
    /// Of a guest that is there, and cannot be run.
    pub fn cannot_run(message: impl Into<String>) -> Self {
        Self { code: outcome::CANNOT_RUN, message: message.into() }
    }
}

/// A guest's wasm, and how messages name it.
///
/// # Errors
/// A file that cannot be read, or is no WebAssembly.
pub fn read(plan: &GuestPlan) -> Result<(String, Cow<'_, [u8]>), LoadError> {
    let (shown, bytes) = match &plan.source {
        Source::File(path) => (path.display().to_string(), Cow::Owned(read_file(path)?)),
        Source::Bytes(bytes) => (plan.name.clone(), Cow::Borrowed(bytes.as_ref())),
    };
    match binary(bytes) {
        Ok(wasm) => Ok((shown, wasm)),
        Err(why) => Err(LoadError::cannot_run(format!("{shown}: {why}"))),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => outcome::NOT_FOUND,
            _ => outcome::CANNOT_RUN,
        };
        let hint = match path.extension() {
            None => "; what follows `run` are guests, their arguments come after `--`",
            Some(_) => "",
        };
        LoadError { code, message: format!("{}: {error}{hint}", path.display()) }
    })
}

/// Wasm as it is, or assembled from its text format.
fn binary(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, String> {
    if bytes.starts_with(b"\0asm") {
        return Ok(bytes);
    }
    let text = std::str::from_utf8(&bytes).ok().filter(|text| text.trim_start().starts_with(['(', ';']));
    let Some(text) = text else {
        return Err("this is not WebAssembly: it begins neither with `\\0asm` nor as the text format does (a guest's \
                    arguments come after `--`)"
            .to_owned());
    };
    wat::parse_str(text).map(Cow::Owned).map_err(|error| error.to_string())
}

/// Whether the preamble is a component's.
pub fn is_component(wasm: &[u8]) -> bool {
    // Version (two bytes), then layer: 0 for modules, 1 for components.
    wasm.get(6..8) == Some(&[1, 0])
}

/// What is called in a core module, and whether `_initialize` is called before.
///
/// # Errors
/// There is no such function.
pub fn entry<'p>(plan: &'p GuestPlan, functions: &[&str]) -> Result<(&'p str, bool), String> {
    let has = |name: &str| functions.contains(&name);
    let entry = match &plan.invoke {
        Some(name) => name.as_str(),
        None if has("_start") => "_start",
        None => "run",
    };
    if !has(entry) {
        return Err(no_entry(plan, "no `_start` (so it is no WASI command)", functions));
    }
    let initialize = plan.invoke.as_deref() != Some("_initialize") && has("_initialize") && entry != "_start";
    Ok((entry, initialize))
}

/// That there is nothing to call, and what else there is.
pub fn no_entry(plan: &GuestPlan, no_command: &str, functions: &[&str]) -> String {
    let names = functions.join(", ");
    match &plan.invoke {
        _ if functions.is_empty() => "it exports no function: there is nothing to call".to_owned(),
        Some(name) => format!("it exports no function `{name}`; there are: {names}"),
        None => format!(
            "it exports {no_command} and no function `run`; there are: {names}; choose one with `--invoke NAME`"
        ),
    }
}

/// That imports are missing.
pub fn missing(imports: &[String]) -> String {
    format!(
        "it imports what this host has not: {}; WASI preview 1 is all there is for core modules",
        imports.join(", ")
    )
}
