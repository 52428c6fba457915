//! Turns the memories a module defines into memories it imports, so that the host can make them.
//!
//! Only sections are moved as bytes: the memory types are appended to the import section and the
//! memory section is left out. Imports come before definitions in every index space, and these are
//! all the definitions, in their order: no index changes, and no other section has to be read.
//! A rewritten module is valid if and only if the module is: sections out of their order, or there
//! twice, are refused here, since leaving one out could put that right; whatever else is wrong with them is as wrong
//! where they have been moved to. So it is enough to validate what was rewritten.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use wasmi::MemoryType;
use wasmparser::{BinaryReaderError, Parser, Payload, SectionLimited, TypeRef};

use crate::error::Error;

/// The module that rewritten memories are imported from. No module of a guest may import from it.
pub(crate) const MODULE: &str = "\u{1}wrt-memory";

const IMPORT_SECTION: u8 = 2;
const MEMORY_IMPORT: u8 = 2;
/// Magic number and version.
const HEADER: usize = 8;

/// A module that defines no memory.
pub(crate) struct Rewritten {
    /// The module; `None` where it defined none, and so is as it was.
    pub(crate) wasm: Option<Vec<u8>>,
    /// What it defined, in order; memory `n` is imported from [`MODULE`] by [`name`]`(first + n)`.
    pub(crate) memories: Vec<Declared>,
}

/// The type of a memory, as its module declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    /// Pages.
    pub(crate) minimum: u64,
    /// Pages.
    pub(crate) maximum: Option<u64>,
    /// The size of a page in bytes is 2 to the power of this.
    pub(crate) page_log2: u8,
}

impl Declared {
    /// The type with another maximum, as wasmi has it.
    pub(crate) fn with_maximum(&self, pages: Option<u64>) -> Result<MemoryType, wasmi::errors::MemoryError> {
        let mut builder = MemoryType::builder();
        builder.min(self.minimum).max(pages).page_size_log2(self.page_log2);
        builder.build()
    }
}

/// By what name a memory is imported.
pub(crate) fn name(number: u32) -> String {
    format!("{number}")
}

/// What is to know of a module before it is compiled.
#[derive(Debug, Default)]
struct Layout {
    /// What an import section's contents are, and what the whole section is.
    imports: Option<(Range<usize>, u32)>,
    import_section: Option<Range<usize>>,
    /// Where an import section may be put: after types, or at the start.
    imports_at: usize,
    memory_section: Option<Range<usize>>,
    memories: Vec<Declared>,
}

/// Makes room for so many elements more.
fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<(), Error> {
    let no_room = Error::NoRoom { bytes: more.saturating_mul(size_of::<T>()) };
    #[cfg(feature = "faults")]
    if wrt_memory::fault::fails(wrt_memory::fault::Call::Runtime) {
        return Err(no_room);
    }
    list.try_reserve_exact(more).map_err(|_| no_room)
}

/// Rewrites a module. Its first memory gets the name of number `first`.
pub(crate) fn rewrite(wasm: &[u8], first: u32) -> Result<Rewritten, Error> {
    let layout = read(wasm)?;
    if layout.memories.is_empty() && layout.memory_section.is_none() {
        return Ok(Rewritten { wasm: None, memories: layout.memories });
    }
    let mut out = Vec::new();
    let types: usize = layout.memories.len() * (MODULE.len() + 32);
    reserve(&mut out, wasm.len() + types + 16)?;

    let mut imports = Vec::new();
    let (contents, count) = layout.imports.unwrap_or((0..0, 0));
    let added = u32::try_from(layout.memories.len()).ok().and_then(|added| count.checked_add(added));
    let total = added.ok_or(Error::Unsupported { what: "more imports than a module can have" })?;
    leb128(&mut imports, u64::from(total));
    imports.extend_from_slice(&wasm[contents]);
    for (number, ty) in (first..).zip(&layout.memories) {
        import(&mut imports, number, ty);
    }

    let (before, after) = match &layout.import_section {
        Some(section) => (section.start, section.end),
        None => (layout.imports_at, layout.imports_at),
    };
    let memories = layout.memory_section.unwrap_or(after..after);
    out.extend_from_slice(&wasm[..before]);
    out.push(IMPORT_SECTION);
    leb128(&mut out, imports.len() as u64);
    out.extend_from_slice(&imports);
    out.extend_from_slice(&wasm[after..memories.start]);
    out.extend_from_slice(&wasm[memories.end..]);
    Ok(Rewritten { wasm: Some(out), memories: layout.memories })
}

fn read(wasm: &[u8]) -> Result<Layout, Error> {
    let mut layout = Layout { imports_at: HEADER, ..Layout::default() };
    // A section's payload says where its contents are; it begins where the last one ended.
    let (mut end, mut before) = (HEADER, 0);
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(malformed)?;
        if let Some(place) = place(&payload) {
            if place <= before {
                return Err(Error::Unsupported { what: "sections out of their order" });
            }
            before = place;
        }
        let Some((_, contents)) = payload.as_section() else { continue };
        let section = end..contents.end;
        end = contents.end;
        match payload {
            Payload::TypeSection(_) => layout.imports_at = section.end,
            Payload::ImportSection(imports) => {
                layout.imports = Some((entries(&imports), imports.count()));
                layout.import_section = Some(section);
                for import in imports {
                    let import = import.map_err(malformed)?;
                    if import.module == MODULE {
                        return Err(Error::Unsupported {
                            what: "an import from a module whose name is reserved",
                        });
                    }
                    if let TypeRef::Memory(ty) = import.ty {
                        memory_type(&ty)?;
                    }
                }
            }
            Payload::MemorySection(memories) => {
                layout.memory_section = Some(section);
                reserve(&mut layout.memories, memories.count() as usize)?;
                for ty in memories {
                    layout.memories.push(memory_type(&ty.map_err(malformed)?)?);
                }
            }
            // Nothing that comes later matters.
            Payload::CodeSectionStart { .. } => break,
            _ => {}
        }
    }
    Ok(layout)
}

/// Which place a section has among those that may come once, up to the code.
fn place(payload: &Payload<'_>) -> Option<u8> {
    Some(match payload {
        Payload::TypeSection(_) => 1,
        Payload::ImportSection(_) => 2,
        Payload::FunctionSection(_) => 3,
        Payload::TableSection(_) => 4,
        Payload::MemorySection(_) => 5,
        Payload::TagSection(_) => 6,
        Payload::GlobalSection(_) => 7,
        Payload::ExportSection(_) => 8,
        Payload::StartSection { .. } => 9,
        Payload::ElementSection(_) => 10,
        Payload::DataCountSection { .. } => 11,
        Payload::CodeSectionStart { .. } => 12,
        _ => return None,
    })
}

/// Where a section's entries are, behind their count.
fn entries<T>(section: &SectionLimited<'_, T>) -> Range<usize> {
    section.original_position()..section.range().end
}

fn memory_type(ty: &wasmparser::MemoryType) -> Result<Declared, Error> {
    if ty.memory64 {
        return Err(Error::Unsupported { what: "a 64-bit memory; build the guest for wasm32" });
    }
    if ty.shared {
        return Err(Error::Unsupported { what: "a shared memory; build the guest without threads" });
    }
    let page_log2 = u8::try_from(ty.page_size_log2.unwrap_or(16)).unwrap_or(u8::MAX);
    let declared = Declared { minimum: ty.initial, maximum: ty.maximum, page_log2 };
    match declared.with_maximum(ty.maximum) {
        Ok(_) => Ok(declared),
        Err(_) => Err(Error::Unsupported { what: "a memory type that wasmi does not have" }),
    }
}

fn malformed(_: BinaryReaderError) -> Error {
    Error::Unsupported { what: "no WebAssembly module in binary form" }
}

fn import(out: &mut Vec<u8>, number: u32, ty: &Declared) {
    const HAS_MAXIMUM: u8 = 1;
    const HAS_PAGE_SIZE: u8 = 8;
    for text in [MODULE, &name(number)] {
        leb128(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
    out.push(MEMORY_IMPORT);
    let page_size = Some(ty.page_log2).filter(|&log2| log2 != 16);
    let maximum = if ty.maximum.is_some() { HAS_MAXIMUM } else { 0 };
    out.push(maximum | if page_size.is_some() { HAS_PAGE_SIZE } else { 0 });
    leb128(out, ty.minimum);
    if let Some(maximum) = ty.maximum {
        leb128(out, maximum);
    }
    if let Some(log2) = page_size {
        leb128(out, u64::from(log2));
    }
}

fn leb128(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests;
