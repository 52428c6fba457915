//! Where there are no memory files: nothing has an image, and wasmtime writes all data.

use std::sync::Arc;

use crate::saved::SavedMemory;
use wasmtime::MemoryType;
use wrt_memory::provider::Request;
use wrt_memory::{Charge, CrateHandle, MemoryError, RawMemory};

/// There is none.
#[derive(Debug)]
pub(crate) enum PreparedMemory {}

/// There is none.
#[derive(Debug)]
pub(crate) enum HeldImage {}

/// There is none.
pub(crate) enum Emptied {}

impl PreparedMemory {
    pub(crate) fn is_for(&self, _ty: &MemoryType) -> bool {
        match *self {}
    }

    pub(crate) fn save(&self) -> SavedMemory {
        match *self {}
    }

    pub(crate) fn image(&self) -> Option<&Arc<HeldImage>> {
        match *self {}
    }
}

impl HeldImage {
    pub(crate) fn allocate(
        &self,
        _request: &Request,
        _charge: Charge<'static>,
    ) -> Result<RawMemory<'static>, MemoryError> {
        match *self {}
    }

    pub(crate) fn bytes(&self) -> usize {
        match *self {}
    }
}

impl Emptied {
    pub(crate) fn of(_wasm: &[u8]) -> Option<Self> {
        None
    }

    pub(crate) fn wasm(&self) -> &[u8] {
        match *self {}
    }

    pub(crate) fn hold(self, _handle: &CrateHandle<'static>) -> Result<Arc<[PreparedMemory]>, MemoryError> {
        match self {}
    }
}

/// None can be held here.
pub(crate) fn hold_saved(
    saved: Vec<SavedMemory>,
    _handle: &CrateHandle<'static>,
) -> Result<Arc<[PreparedMemory]>, MemoryError> {
    if saved.is_empty() {
        return Ok(Arc::new([]));
    }
    Err(MemoryError::InvalidConfig {
        what: "a module prepared with images, which only Linux has: prepare it here",
    })
}
