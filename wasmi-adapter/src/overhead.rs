//! What wasmi itself needs for a guest: how much at most, before it starts.
//!
//! wasmi's boxes and vectors end the program where there is no memory for them, so the room is made sure
//! of first. These are estimates from above: measured on the modules of the specification's test suite, on
//! real guests and on modules made to need much (`tests/overhead.rs`), with a margin. What a guest is
//! charged in the end is not this but what was measured.

use wasmparser::{CompositeInnerType, FunctionBody, Operator, Parser, Payload};

use crate::error::Error;
use crate::heap::{self, Meter};
use crate::settings::GuestSettings;

const WORD: usize = size_of::<usize>();

/// An engine, a store, a linker and their first function, without stacks.
const GUEST: usize = 1536 * WORD;
/// A store and a linker, beside an engine that is there.
pub(crate) const STORE: usize = 512 * WORD;
/// Whatever the module is.
const MODULE: usize = 1280 * WORD;
/// Whatever the instance is: of all that a store has, the first.
const INSTANCE: usize = 1024 * WORD;

/// What a guest needs before it has a module, and always after: its stacks and the engine.
pub(crate) fn guest(settings: &GuestSettings) -> usize {
    let frames = settings.depth.next_power_of_two().max(4).saturating_mul(3 * WORD);
    // While the frames move to the last, largest block, the one before is still there.
    sum([(settings.stack, 1), (frames, 1), (frames / 2, 1), (GUEST, 1), (Meter::COST, 1)])
}

/// What a valid module needs at most. Bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    /// Compiling and instantiating it, at one time.
    pub(crate) load: usize,
    /// Instantiating it once it is compiled.
    pub(crate) instance: usize,
}

/// What a module needs.
///
/// # Errors
/// There is no room even to look through it: the reader's vectors would end the program. Or a function has operators
/// after its last `end`: wasmi checks that when it has translated all of them, and its translator is not made for it.
pub(crate) fn module(wasm: &[u8]) -> Result<Estimate, Error> {
    let mut need = Need::default();
    let mut looked = 0;
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        // One entry at a time is in memory.
        let read = match &payload {
            Payload::TypeSection(section) => section.range().len(),
            Payload::CodeSectionEntry(body) => body.range().len(),
            _ => 0,
        };
        if read > looked && !heap::has_room(read.saturating_mul(READ)) {
            return Err(Error::NoRoom { bytes: wasm.len() });
        }
        looked = looked.max(read);
        need.payload(&payload)?;
    }
    Ok(Estimate { load: need.load(wasm.len()), instance: need.instance() })
}

/// Bytes that reading takes for each byte that is read, at most: vectors of small things, that double.
const READ: usize = 16;

#[derive(Debug, Default)]
struct Need {
    /// Bytes of code and of data segments.
    code: usize,
    data: usize,
    /// Bytes of element segments.
    elements: usize,
    /// Functions, types and so on, imported or not.
    entries: usize,
    /// The most values a type has, as parameters or as results.
    values: usize,
    /// Of the function that needs most.
    function: usize,
}

impl Need {
    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::TypeSection(section) => {
                self.add(section.count());
                for group in section.clone().into_iter().map_while(Result::ok) {
                    for ty in group.types() {
                        if let CompositeInnerType::Func(ty) = &ty.composite_type.inner {
                            self.values = self.values.max(ty.params().len()).max(ty.results().len());
                        }
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                self.code = self.code.saturating_add(body.range().len());
                self.function = self.function.max(function(body, self.values)?);
            }
            Payload::DataSection(section) => {
                self.add(section.count());
                self.data = section.range().len();
            }
            Payload::ElementSection(section) => {
                self.add(section.count());
                self.elements = section.range().len();
            }
            Payload::ImportSection(section) => self.add(section.count()),
            Payload::FunctionSection(section) => self.add(section.count()),
            Payload::GlobalSection(section) => self.add(section.count()),
            Payload::ExportSection(section) => self.add(section.count()),
            Payload::TableSection(section) => self.add(section.count()),
            Payload::MemorySection(section) => self.add(section.count()),
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, entries: u32) {
        self.entries = self.entries.saturating_add(entries as usize);
    }

    fn load(&self, len: usize) -> usize {
        let parts = [
            (MODULE, 1),
            (self.function, 1),
            // The rewritten module, and what of it is kept.
            (len, 2),
            (self.code, 8),
            (self.data, 2),
            (self.elements, 40),
            (self.entries, 40 * WORD + 32),
        ];
        sum(parts)
    }

    fn instance(&self) -> usize {
        sum([(INSTANCE, 1), (self.elements, 40), (self.entries, 40 * WORD)])
    }
}

fn sum<const N: usize>(parts: [(usize, usize); N]) -> usize {
    parts.into_iter().fold(0, |sum: usize, (count, each)| sum.saturating_add(count.saturating_mul(each)))
}

/// What translating a function needs, to be had again when it is done.
fn function(body: &FunctionBody<'_>, values: usize) -> Result<usize, Error> {
    let locals = body.get_locals_reader().into_iter().flatten().map_while(Result::ok);
    let locals = locals.fold(0usize, |sum, (count, _)| sum.saturating_add(count as usize));
    let (mut depth, mut deepest, mut targets, mut calls) = (0usize, 0usize, 0usize, 0usize);
    let mut ended = false;
    if let Ok(operators) = body.get_operators_reader() {
        for operator in operators.into_iter().map_while(Result::ok) {
            if ended {
                return Err(Error::Unsupported {
                    what: "a function with operators after its last `end`, and that has to be the last",
                });
            }
            match operator {
                Operator::Block { .. }
                | Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::Try { .. }
                | Operator::TryTable { .. } => {
                    depth += 1;
                    deepest = deepest.max(depth);
                    calls += 1;
                }
                Operator::End | Operator::Delegate { .. } => {
                    ended = depth == 0;
                    depth = depth.saturating_sub(1);
                }
                Operator::BrTable { targets: table } => {
                    targets = targets.saturating_add(table.len() as usize)
                }
                Operator::Call { .. } | Operator::CallIndirect { .. } => calls += 1,
                _ => {}
            }
        }
    }
    Ok(sum([
        (body.range().len(), 16),
        (locals, 24),
        (deepest, 40 * WORD),
        (targets, 64),
        // An operator takes a byte and leaves one value at most, but for these.
        (calls.saturating_mul(values.saturating_sub(1)), 64),
    ]))
}

#[cfg(test)]
mod tests;
