//! What a module's memories hold when they are made, taken out of the module.
//!
//! wasmtime maps such images itself, but only into memories of its own. So the active data segments of a module are
//! laid out here, under wasmtime's own rule (`try_static_init` of wasmtime 48), and replaced in the module by passive ones
//! without bytes: these have the same numbers, and to the guest an active segment is, once the instance is made, just
//! that. The rule is all or nothing for a module: what traps, depends on a global, or writes to an imported memory
//! is left to wasmtime, so that segments which overlap, or end out of bounds, do as the specification says. So is what is
//! too sparse, of one memory or of all together: what is laid out is bounded by the module's own bytes.

use std::sync::Arc;

use crate::saved::{SavedImage, SavedMemory};
use wasm_encoder::{DataSection, RawSection};
use wasmparser_of_wasmtime::{
    Data, DataKind, Encoding, MemoryType as ParsedType, Operator, Parser, Payload, TypeRef,
};
use wasmtime::MemoryType;
use wrt_memory::provider::{Image, Request};
use wrt_memory::{Charge, CrateHandle, MemoryError, RawMemory};

/// Images up to here are made however few of their bytes come from segments; wasmtime's default.
const DENSE_OR_NOT: u64 = 16 << 20;

/// The section of data segments.
const DATA_SECTION: u8 = 11;

/// The least page of a host. A memory with smaller pages need not end with one.
const LEAST_PAGE: u64 = 4096;

/// One of a module's own memories that is not empty when it is made.
#[derive(Debug)]
pub(crate) struct PreparedMemory {
    ty: ParsedType,
    image: Option<Arc<HeldImage>>,
}

impl PreparedMemory {
    /// What it starts with, if not with zeros.
    pub(crate) fn image(&self) -> Option<&Arc<HeldImage>> {
        self.image.as_ref()
    }

    /// It, to be written down.
    pub(crate) fn save(&self) -> SavedMemory {
        let ty = &self.ty;
        let image = self.image.as_ref().map(|held| {
            let bytes = held.image.as_slice();
            // As it was laid out: from the first byte that is not 0 to the last.
            let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let at = (held.image.range().start + first) as u64;
            SavedImage { at, bytes: bytes[first..end].to_vec() }
        });
        SavedMemory {
            minimum: ty.initial,
            maximum: ty.maximum,
            is_64: ty.memory64,
            is_shared: ty.shared,
            page_size_log2: ty.page_size_log2,
            image,
        }
    }

    /// Whether a memory that is made is of this one's type.
    pub(crate) fn is_for(&self, ty: &MemoryType) -> bool {
        let log = self.ty.page_size_log2.unwrap_or(16);
        (self.ty.initial, self.ty.memory64, self.ty.shared, log)
            == (ty.minimum(), ty.is_64(), ty.is_shared(), u32::from(ty.page_size_log2()))
            && self.ty.maximum == ty.maximum()
    }
}

/// An image, and the Charge for it, for as long as anything may be mapped from it.
#[derive(Debug)]
pub(crate) struct HeldImage {
    image: Arc<Image>,
    charge: Charge<'static>,
    handle: CrateHandle<'static>,
}

impl HeldImage {
    /// Charged before it is made.
    fn new(handle: &CrateHandle<'static>, at: usize, bytes: &[u8]) -> Result<Self, MemoryError> {
        let charge = handle.charge(bytes.len(), Image::cost(at, bytes.len()))?;
        let name = handle.manager().node(handle.id())?.name;
        let image = Image::new(at, bytes).map_err(|source| MemoryError::Provider {
            id: handle.id(),
            name,
            asked: bytes.len(),
            source,
        })?;
        Ok(Self { image, charge, handle: handle.clone() })
    }

    /// A memory that starts with it.
    pub(crate) fn allocate(
        &self,
        request: &Request,
        charge: Charge<'static>,
    ) -> Result<RawMemory<'static>, MemoryError> {
        RawMemory::allocate_charged_with(request, charge, &self.image)
    }

    /// Bytes charged for it.
    pub(crate) fn bytes(&self) -> usize {
        self.charge.bytes()
    }
}

impl Drop for HeldImage {
    fn drop(&mut self) {
        // Idle slots would keep it, and nobody would pay.
        self.handle.manager().forget(&self.image);
    }
}

/// A module without its data.
pub(crate) struct Emptied {
    wasm: Vec<u8>,
    /// Its own memories that are not empty, in their order.
    memories: Vec<(ParsedType, Option<Layout>)>,
}

/// Bytes of a memory, from its first that is not 0 to its last.
struct Layout {
    at: usize,
    bytes: Vec<u8>,
}

impl Emptied {
    /// Takes the data out of a module. `None` where it has none, or wasmtime has to write it: the module is then to be
    /// compiled as it is. Also where it is no valid module, which wasmtime will say better.
    pub(crate) fn of(wasm: &[u8]) -> Option<Self> {
        let module = Read::of(wasm)?;
        let mut segments: Vec<Vec<(u64, &[u8])>> = module.memories.iter().map(|_| Vec::new()).collect();
        for data in &module.data {
            let DataKind::Active { memory_index, offset_expr } = &data.kind else { continue };
            let own = memory_index.checked_sub(module.imported)? as usize;
            let ty = module.memories.get(own)?;
            let mut operators = offset_expr.get_operators_reader();
            let start = match (operators.read().ok()?, ty.memory64) {
                (Operator::I32Const { value }, false) => u64::from(value.cast_unsigned()),
                (Operator::I64Const { value }, true) => value.cast_unsigned(),
                _ => return None,
            };
            // Nothing may follow the constant.
            if !matches!(operators.read().ok()?, Operator::End) || !operators.eof() {
                return None;
            }
            let end = start.checked_add(data.data.len() as u64)?;
            if end > bytes_of(ty)? {
                return None;
            }
            segments[own].push((start, data.data));
        }
        if too_sparse_together(&segments) {
            return None;
        }
        let mut memories = Vec::new();
        let mut any = false;
        for (ty, segments) in module.memories.iter().zip(&segments) {
            let layout = lay_out(ty, segments)?;
            any |= layout.is_some();
            if ty.initial > 0 {
                memories.push((*ty, layout));
            }
        }
        let empty_segments = module.data.iter().any(|data| matches!(data.kind, DataKind::Active { .. }));
        (any && empty_segments).then(|| Self { wasm: module.without_data(wasm), memories })
    }

    /// The module, as it is to be compiled.
    pub(crate) fn wasm(&self) -> &[u8] {
        &self.wasm
    }

    /// The memories with their images, charged to a crate.
    pub(crate) fn hold(self, handle: &CrateHandle<'static>) -> Result<Arc<[PreparedMemory]>, MemoryError> {
        hold(self.memories, handle)
    }
}

/// Memories with their images, charged to a crate.
fn hold(
    memories: Vec<(ParsedType, Option<Layout>)>,
    handle: &CrateHandle<'static>,
) -> Result<Arc<[PreparedMemory]>, MemoryError> {
    let held = memories.into_iter().map(|(ty, layout)| {
        let image = layout.map(|layout| HeldImage::new(handle, layout.at, &layout.bytes)).transpose()?;
        Ok(PreparedMemory { ty, image: image.map(Arc::new) })
    });
    held.collect()
}

/// What was written down, charged to a crate.
pub(crate) fn hold_saved(
    saved: Vec<SavedMemory>,
    handle: &CrateHandle<'static>,
) -> Result<Arc<[PreparedMemory]>, MemoryError> {
    let memories = saved.into_iter().map(|saved| {
        let ty = ParsedType {
            initial: saved.minimum,
            maximum: saved.maximum,
            memory64: saved.is_64,
            shared: saved.is_shared,
            page_size_log2: saved.page_size_log2,
        };
        let layout = saved.image.map(|image| {
            let at = usize::try_from(image.at).map_err(|_| PAST_ADDRESSES)?;
            Ok::<_, MemoryError>(Layout { at, bytes: image.bytes })
        });
        Ok((ty, layout.transpose()?))
    });
    hold(memories.collect::<Result<_, MemoryError>>()?, handle)
}

const PAST_ADDRESSES: MemoryError = MemoryError::InvalidConfig {
    what: "an image that starts past what this host can address: it was prepared on a host with more",
};

/// What is looked at of a module.
struct Read<'a> {
    /// Memories it imports: its own are numbered after them.
    imported: u32,
    memories: Vec<ParsedType>,
    data: Vec<Data<'a>>,
    sections: Vec<(u8, std::ops::Range<usize>)>,
}

impl<'a> Read<'a> {
    fn of(wasm: &'a [u8]) -> Option<Self> {
        let mut read = Self { imported: 0, memories: Vec::new(), data: Vec::new(), sections: Vec::new() };
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.ok()?;
            read.sections.extend(payload.as_section());
            match payload {
                Payload::Version { encoding: Encoding::Component, .. } => return None,
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        if let TypeRef::Memory(_) = import.ok()?.ty {
                            read.imported += 1;
                        }
                    }
                }
                Payload::MemorySection(memories) => {
                    read.memories = memories.into_iter().collect::<Result<_, _>>().ok()?;
                }
                Payload::DataSection(data) => read.data = data.into_iter().collect::<Result<_, _>>().ok()?,
                _ => {}
            }
        }
        Some(read)
    }

    /// The module with passive segments of no bytes for its active ones.
    fn without_data(&self, wasm: &[u8]) -> Vec<u8> {
        let mut emptied = DataSection::new();
        for data in &self.data {
            let kept = if matches!(data.kind, DataKind::Passive) { data.data } else { &[] };
            emptied.passive(kept.iter().copied());
        }
        let mut module = wasm_encoder::Module::new();
        for (id, range) in &self.sections {
            if *id == DATA_SECTION {
                module.section(&emptied);
            } else {
                module.section(&RawSection { id: *id, data: &wasm[range.clone()] });
            }
        }
        module.finish()
    }
}

/// Bytes a memory has when it is made.
fn bytes_of(ty: &ParsedType) -> Option<u64> {
    ty.initial.checked_mul(1u64.checked_shl(ty.page_size_log2.unwrap_or(16))?)
}

/// Bytes from the first to the last that segments write, and bytes of the segments.
fn span(segments: &[(u64, &[u8])]) -> Option<(u64, u64, u64)> {
    let filled = || segments.iter().filter(|(_, data)| !data.is_empty());
    let from = filled().map(|(start, _)| *start).min()?;
    let to = filled().map(|(start, data)| start + data.len() as u64).max()?;
    Some((from, to, filled().map(|(_, data)| data.len() as u64).sum()))
}

fn too_sparse(span: u64, bytes: u64) -> bool {
    span >= bytes.saturating_mul(2) && span >= DENSE_OR_NOT
}

/// Whether the memories of a module are too sparse together: each may be as large as it likes for a few bytes of the module,
/// and nobody has said yet that there are not too many.
fn too_sparse_together(segments: &[Vec<(u64, &[u8])>]) -> bool {
    let (mut spans, mut bytes) = (0u64, 0u64);
    for (from, to, of_segments) in segments.iter().filter_map(|segments| span(segments)) {
        spans = spans.saturating_add(to - from);
        bytes = bytes.saturating_add(of_segments);
    }
    too_sparse(spans, bytes)
}

/// What segments, in bounds, make of a memory, where that is not too sparse. The outer `None`: wasmtime has to write it.
fn lay_out(ty: &ParsedType, segments: &[(u64, &[u8])]) -> Option<Option<Layout>> {
    let Some((from, to, bytes)) = span(segments) else { return Some(None) };
    let small_pages = 1u64.checked_shl(ty.page_size_log2.unwrap_or(16))? < LEAST_PAGE;
    if small_pages || too_sparse(to - from, bytes) || ty.shared {
        return None;
    }
    let mut whole = zeros(usize::try_from(to - from).ok()?)?;
    // In their order: later ones write over earlier ones.
    for (start, data) in segments.iter().filter(|(_, data)| !data.is_empty()) {
        let at = usize::try_from(start - from).ok()?;
        whole[at..at + data.len()].copy_from_slice(data);
    }
    let Some(first) = whole.iter().position(|byte| *byte != 0) else { return Some(None) };
    let last = whole.iter().rposition(|byte| *byte != 0)?;
    let at = usize::try_from(from).ok()? + first;
    whole.truncate(last + 1);
    whole.drain(..first);
    Some(Some(Layout { at, bytes: whole }))
}

/// So many zeros: a module says how many, so a machine that has no room for them is none of the host's ends.
fn zeros(len: usize) -> Option<Vec<u8>> {
    #[cfg(feature = "faults")]
    if wrt_memory::fault::fails(wrt_memory::fault::Call::Runtime) {
        return None;
    }
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(len).ok()?;
    zeros.resize(len, 0);
    Some(zeros)
}
